//! Samples of the work at endpoints, at intervals, as events.
//!
//! Less often the longer a run takes: after ten minutes, two a minute.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{event::EventKind, events::Events};
use crate::net::{EndpointKey, EndpointRegistry, EndpointSample, without_secrets};

/// Rates are those of this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Requests and tokens that an endpoint was sent, over time.
type Sent = VecDeque<(Instant, u64, f64)>;

/// Emits samples of all endpoints of the process to which this run sends requests, until the result is dropped.
pub(super) fn start(events: Events) -> AbortOnDropHandle<()> {
    let registry = EndpointRegistry::process();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let begin = Instant::now();
        let mut sent: HashMap<EndpointKey, Sent> = HashMap::new();
        for (key, sample) in registry.samples() {
            sent.insert(key, VecDeque::from([(begin, sample.requests, sample.tokens)]));
        }
        loop {
            tokio::time::sleep(interval(begin.elapsed())).await;
            for (key, sample) in registry.samples() {
                let before = sent.entry(key.clone()).or_insert_with(|| VecDeque::from([(begin, 0, 0.0)]));
                if let Some(kind) = take(&key, &sample, before, Instant::now()) {
                    events.send(kind);
                }
            }
        }
    }))
}

/// The time to the next sample: a second in the first minute, then longer.
fn interval(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        ..1 => Duration::from_millis(500),
        1..60 => Duration::from_secs(1),
        60..600 => Duration::from_secs(5),
        _ => Duration::from_secs(30),
    }
}

/// The sample as an event; `None` where nothing was sent in the window.
fn take(key: &EndpointKey, sample: &EndpointSample, sent: &mut Sent, now: Instant) -> Option<EventKind> {
    sent.push_back((now, sample.requests, sample.tokens));
    while sent.len() > 2 && now.duration_since(sent[1].0) >= WINDOW {
        sent.pop_front();
    }
    let (since, requests, tokens) = *sent.front()?;
    let per_minute = 60.0 / now.duration_since(since).as_secs_f64().max(0.001);
    let requests = sample.requests.saturating_sub(requests);
    if requests == 0 && sample.in_flight == 0 {
        return None;
    }
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    Some(EventKind::EndpointSample {
        endpoint: Url::parse(&key.endpoint).map(|url| without_secrets(&url)).unwrap_or_default(),
        model: key.model.clone(),
        in_flight: sample.in_flight,
        concurrency: sample.concurrency,
        requests_per_minute: rounded(requests as f64 * per_minute),
        requests_limit: sample.requests_limit.map(rounded),
        tokens_per_minute: rounded((sample.tokens - tokens).max(0.0) * per_minute),
        tokens_limit: sample.tokens_limit.map(rounded),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let key = EndpointKey { endpoint: "http://u:p@h/v1?key=k".to_owned(), key: None, model: "m".to_owned() };
        let begin = Instant::now();
        let mut sent = VecDeque::from([(begin, 0, 0.0)]);
        let mut at = |seconds, requests, tokens: f64| {
            let sample = EndpointSample {
                in_flight: 0,
                concurrency: 4,
                requests,
                tokens,
                requests_limit: Some(90.0),
                tokens_limit: None,
            };
            match take(&key, &sample, &mut sent, begin + Duration::from_secs(seconds)) {
                Some(EventKind::EndpointSample { endpoint, requests_per_minute, tokens_per_minute, .. }) => {
                    assert_eq!(endpoint, "http://h/v1");
                    Some((requests_per_minute, tokens_per_minute))
                }
                other => {
                    assert_eq!(other, None);
                    None
                }
            }
        };
        assert_eq!(at(30, 30, 300.0), Some((60.0, 600.0)));
        assert_eq!(at(60, 60, 600.0), Some((60.0, 600.0)));
        assert_eq!(at(90, 60, 600.0), Some((30.0, 300.0)));
        assert_eq!(at(120, 60, 600.0), None, "nothing was sent in the last minute");
    }

    #[test]
    fn an_hour_has_few_samples() {
        let (mut at, mut samples) = (Duration::ZERO, 0);
        while at < Duration::from_secs(3600) {
            at += interval(at);
            samples += 1;
        }
        assert!(samples < 300, "{samples}");
    }
}
