//! The spans of the log (`run`, `node`, `partition`, `request`) as spans of a trace.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::otlp::{FinishedSpan, Value};

/// Hands on spans that end, once they are taken. Clones are the same.
#[derive(Clone, Default)]
pub struct Spans(Arc<OnceLock<Taker>>);

struct Taker {
    /// The trace, and the span around the first one.
    parent: Option<(u128, u64)>,
    take: Box<dyn Fn(FinishedSpan) + Send + Sync>,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spans")
    }
}

impl Spans {
    /// The layer of the log that sees the spans.
    pub fn layer<S: Subscriber + for<'l> LookupSpan<'l>>(&self) -> impl Layer<S> + use<S> {
        let ours = tracing_subscriber::filter::filter_fn(|metadata| {
            metadata.is_span() && (metadata.target() == "flow" || metadata.target().starts_with("flow::"))
        });
        SpanLayer(self.clone()).with_filter(ours)
    }

    /// From now on spans that end are handed to `take`. `parent` is a `traceparent` header as W3C's trace context has it.
    pub(super) fn take(&self, parent: Option<&str>, take: impl Fn(FinishedSpan) + Send + Sync + 'static) {
        let _ = self.0.set(Taker { parent: parent.and_then(parsed), take: Box::new(take) });
    }
}

/// The trace and the span of a `traceparent` header.
fn parsed(header: &str) -> Option<(u128, u64)> {
    let mut parts = header.trim().split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, span))
}

struct SpanLayer(Spans);

/// A span that goes on.
struct Open {
    trace: u128,
    id: u64,
    parent: Option<u64>,
    begin: SystemTime,
    fields: Fields,
}

#[derive(Default)]
struct Fields {
    attributes: Vec<(String, Value)>,
    error: Option<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "error" => {
                if let Value::Text(text) = value {
                    self.error = Some(text);
                }
                return;
            }
            "run" => "flow.run.id".to_owned(),
            name if name.contains('.') => name.to_owned(),
            name => format!("flow.{name}"),
        };
        self.attributes.push((name, value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Number(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Truth(value));
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(taker), Some(span)) = (self.0.0.get(), context.span(id)) else { return };
        let around = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace, open.id))
        });
        let around = around.or(taker.parent);
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let open = Open {
            trace: around.map_or_else(rand::random, |(trace, _)| trace),
            id: rand::random(),
            parent: around.map(|(_, id)| id),
            begin: SystemTime::now(),
            fields,
        };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let (Some(taker), Some(span)) = (self.0.0.get(), context.span(&id)) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let nanoseconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        let begin = nanoseconds(open.begin);
        (taker.take)(FinishedSpan {
            trace: open.trace,
            id: open.id,
            parent: open.parent,
            name: span.name(),
            time: (begin, nanoseconds(SystemTime::now()).max(begin)),
            attributes: open.fields.attributes,
            error: open.fields.error,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn spans_are_nested_and_carry_what_was_recorded() {
        let spans = Spans::default();
        let ended = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&ended);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        spans.take(Some(parent), move |span| into.lock().expect("no panic").push(span));
        let subscriber = tracing_subscriber::registry().with(spans.layer());
        tracing::subscriber::with_default(subscriber, || {
            let run = tracing::info_span!("run", run = "r1", error = tracing::field::Empty).entered();
            let node = tracing::info_span!("node", node = %"embed").entered();
            drop(node);
            run.record("error", "a node failed");
        });
        let ended = ended.lock().expect("no panic");
        let (node, run) = (&ended[0], &ended[1]);
        assert_eq!((node.name, node.parent, node.trace), ("node", Some(run.id), run.trace));
        assert_eq!((run.trace, run.parent), (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, Some(0xb7ad_6b71_6920_3331)));
        assert_eq!(node.attributes, [("flow.node".to_owned(), Value::Text("embed".to_owned()))]);
        assert_eq!(run.attributes[0], ("flow.run.id".to_owned(), Value::Text("r1".to_owned())));
        assert_eq!(run.error.as_deref(), Some("a node failed"));
        assert!(run.time.0 <= node.time.0 && node.time.1 <= run.time.1);
    }

    #[test]
    fn a_wrong_parent_is_none() {
        for header in ["", "00", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!(parsed(header), None, "{header}");
        }
    }
}
