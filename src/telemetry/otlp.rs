//! OTLP: spans and metrics as the JSON form of OpenTelemetry's protocol.
//!
//! Ids are hexadecimal, and 64-bit integers are strings, as that form has it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Truth(bool),
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub(super) struct FinishedSpan {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) name: &'static str,
    /// Begin and end, in nanoseconds since 1970.
    pub(super) time: (u64, u64),
    pub(super) attributes: Vec<(String, Value)>,
    /// Why what it stands for failed.
    pub(super) error: Option<String>,
}

/// The name of the span of a request.
pub(super) const REQUEST: &str = "request";

/// Attributes of what the telemetry is about: the service.
pub(super) type Resource = Vec<(String, String)>;

/// An export request for spans.
pub(super) fn traces(resource: &Resource, spans: &[FinishedSpan]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{"resource": {"attributes": texts(resource)}, "scopeSpans": [{"scope": scope(), "spans": spans}]}]})
}

fn span(span: &FinishedSpan) -> Json {
    // A request is named by its method, as conventions for HTTP say.
    let method = span.attributes.iter().find(|(name, _)| name == "http.request.method");
    let (name, kind) = match method {
        Some((_, Value::Text(method))) if span.name == REQUEST => (method.clone(), 3),
        _ => (format!("flow.{}", span.name), 1),
    };
    let attributes: Vec<Json> =
        span.attributes.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
    let mut json = json!({
        "traceId": format!("{:032x}", span.trace), "spanId": format!("{:016x}", span.id), "name": name, "kind": kind,
        "startTimeUnixNano": span.time.0.to_string(), "endTimeUnixNano": span.time.1.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if let Some(error) = &span.error {
        json["status"] = json!({"code": 2, "message": error});
    }
    json
}

fn any(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({"stringValue": text}),
        Value::Integer(integer) => json!({"intValue": integer.to_string()}),
        Value::Number(number) => json!({"doubleValue": number}),
        Value::Truth(truth) => json!({"boolValue": truth}),
    }
}

fn texts(attributes: &[(String, String)]) -> Vec<Json> {
    attributes.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

fn scope() -> Json {
    json!({"name": "flow", "version": env!("CARGO_PKG_VERSION")})
}

/// A count that only grows, since the begin of the run.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
    /// Values by their attributes.
    pub(super) points: Vec<(Vec<(String, String)>, f64)>,
}

/// The bounds of durations of requests, as the conventions for HTTP advise.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Durations of requests by their attributes.
#[derive(Debug, Default)]
pub(super) struct Durations(BTreeMap<Vec<(String, String)>, Histogram>);

#[derive(Debug, Default)]
struct Histogram {
    count: u64,
    sum: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

impl Durations {
    /// Counts a request.
    pub(super) fn add(&mut self, span: &FinishedSpan) {
        let kept = ["http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"];
        let of = |key: &&str| {
            let (name, value) = span.attributes.iter().find(|(name, _)| name == key)?;
            let text = match value {
                Value::Text(text) => text.clone(),
                Value::Integer(integer) => integer.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Truth(truth) => truth.to_string(),
            };
            Some((name.clone(), text))
        };
        let seconds = span.time.1.saturating_sub(span.time.0) as f64 / 1e9;
        let histogram = self.0.entry(kept.iter().filter_map(of).collect()).or_default();
        histogram.count += 1;
        histogram.sum += seconds;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        histogram.buckets[bucket] += 1;
    }
}

/// An export request for metrics. `time` is when they began to be counted, and now, in nanoseconds since 1970.
pub(super) fn metrics(resource: &Resource, sums: &[Sum], durations: &Durations, time: (u64, u64)) -> Json {
    let (start, now) = (time.0.to_string(), time.1.to_string());
    let mut metrics: Vec<Json> = Vec::new();
    for sum in sums {
        let points: Vec<Json> = sum
            .points
            .iter()
            .map(|(attributes, value)| {
                json!({"attributes": texts(attributes), "startTimeUnixNano": start, "timeUnixNano": now, "asDouble": value})
            })
            .collect();
        metrics.push(json!({
            "name": sum.name, "unit": sum.unit, "description": sum.description,
            "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points},
        }));
    }
    if !durations.0.is_empty() {
        let points: Vec<Json> = durations
            .0
            .iter()
            .map(|(attributes, histogram)| {
                let buckets: Vec<String> = histogram.buckets.iter().map(u64::to_string).collect();
                json!({
                    "attributes": texts(attributes), "startTimeUnixNano": start, "timeUnixNano": now,
                    "count": histogram.count.to_string(), "sum": histogram.sum,
                    "bucketCounts": buckets, "explicitBounds": BOUNDS,
                })
            })
            .collect();
        metrics.push(json!({
            "name": "http.client.request.duration", "unit": "s", "description": "Duration of requests to services",
            "histogram": {"aggregationTemporality": 2, "dataPoints": points},
        }));
    }
    json!({"resourceMetrics": [{"resource": {"attributes": texts(resource)}, "scopeMetrics": [{"scope": scope(), "metrics": metrics}]}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(milliseconds: u64, status: i64) -> FinishedSpan {
        FinishedSpan {
            trace: 0xabc,
            id: 0x1,
            parent: Some(0x2),
            name: REQUEST,
            time: (1_000_000_000, 1_000_000_000 + milliseconds * 1_000_000),
            attributes: vec![
                ("http.request.method".to_owned(), Value::Text("POST".to_owned())),
                ("http.response.status_code".to_owned(), Value::Integer(status)),
            ],
            error: (status >= 400).then(|| "busy".to_owned()),
        }
    }

    #[test]
    fn ids_are_hexadecimal_and_long_integers_are_strings() {
        let json = traces(&vec![("service.name".to_owned(), "flow".to_owned())], &[request(5, 503)]);
        let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!((&span["name"], &span["kind"]), (&json!("POST"), &json!(3)));
        assert_eq!(span["traceId"], "00000000000000000000000000000abc");
        assert_eq!(
            (&span["parentSpanId"], &span["endTimeUnixNano"]),
            (&json!("0000000000000002"), &json!("1005000000"))
        );
        assert_eq!(span["attributes"][1]["value"], json!({"intValue": "503"}));
        assert_eq!(span["status"], json!({"code": 2, "message": "busy"}));
    }

    #[test]
    fn durations_are_counted_by_status() {
        let mut durations = Durations::default();
        for (milliseconds, status) in [(4, 200), (5, 200), (60_000, 200), (30, 503)] {
            durations.add(&request(milliseconds, status));
        }
        let json = metrics(&Vec::new(), &[], &durations, (1, 2));
        let points = json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["histogram"]["dataPoints"].clone();
        assert_eq!(
            (&points[0]["count"], &points[0]["bucketCounts"][0], &points[0]["bucketCounts"][14]),
            (&json!("3"), &json!("2"), &json!("1"))
        );
        assert_eq!(points[1]["bucketCounts"][3], "1");
    }
}
