//! Events for a terminal: what names and messages hold of control characters is written out.

use std::borrow::Cow;

use super::{Event, EventKind, EventSink, RowTally, UsageSnapshot};
use crate::model::visible_event;

/// Hands events on with all their texts made visible. The displays paint afterwards, so that their own colours stay.
pub(super) struct VisibleEvents<S>(pub S);

impl<S: EventSink> EventSink for VisibleEvents<S> {
    fn event(&mut self, event: &Event) {
        self.0.event(&visible(event));
    }

    fn tick(&mut self, usage: UsageSnapshot, rows: RowTally) {
        self.0.tick(usage, rows);
    }
}

fn visible(event: &Event) -> Cow<'_, Event> {
    let json = serde_json::to_value(&event.kind).expect("plain data becomes JSON");
    let shown = visible_event(json.clone());
    if shown == json {
        return Cow::Borrowed(event);
    }
    // A number that JSON does not have (NaN) cannot be parsed back: such an event is shown as it is.
    let message = shown.to_string();
    let kind = serde_json::from_value(shown).unwrap_or(EventKind::Warning { message });
    Cow::Owned(Event { kind, ..event.clone() })
}
