//! How the server decides on a request: the fault that is due, or a good response.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Fault, Seen, Shared, State, When,
    http::{Incoming, Reply},
    vectors::{one_too_few, render, reversed, tokens, vector},
};

#[derive(serde::Deserialize)]
struct Body {
    model: String,
    input: Input,
    dimensions: Option<u64>,
    encoding_format: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Input {
    Many(Vec<String>),
    One(String),
}

fn error(status: u16, code: &str, message: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let kind = if status == 429 { "tokens" } else { "invalid_request_error" };
    let body = serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    (status, Vec::new(), body.to_string().into_bytes())
}

impl Shared {
    /// A prepared response that does not depend on the texts.
    pub(super) fn canned(&self, request: &Incoming) -> Option<Arc<Vec<u8>>> {
        let mut state = self.lock();
        if !state.behaviour.canned {
            return None;
        }
        let start = request.body.windows(9).position(|nine| nine == b"\"input\":[")?;
        // The list ends at the first bracket after a quote that is not escaped.
        let texts = &request.body[start..];
        let end = texts.windows(3).position(|three| three[1..] == *b"\"]" && three[0] != b'\\').unwrap_or(texts.len());
        let mut rows = 1;
        let mut rest = &texts[..end];
        while let Some(comma) = rest.iter().position(|byte| *byte == b',') {
            rows += usize::from(rest.get(comma + 1) == Some(&b'"') && comma > 0 && rest[comma - 1] == b'"');
            rest = &rest[comma + 1..];
        }
        // Clients name the encoding before or after their texts.
        let behind = &request.body[request.body.len().saturating_sub(256).max(start)..];
        let base64 =
            [&request.body[..start], behind].iter().any(|part| part.windows(8).any(|name| name == b"\"base64\""));
        state.number += 1;
        let dimensions = state.behaviour.dimensions;
        let known = state.canned.entry((rows, base64)).or_insert_with(|| {
            let vectors: Vec<Vec<f32>> = (0..rows).map(|row| vector(&row.to_string(), dimensions)).collect();
            Arc::new(render(&vectors, base64, false, "canned", rows as u64 * 25))
        });
        Some(Arc::clone(known))
    }

    /// Decides on a request and writes it into the journal, under a number.
    pub(super) fn respond(&self, request: Incoming) -> (u64, Reply) {
        let now = Instant::now();
        let parsed = serde_json::from_slice::<Body>(&request.body);
        let (texts, requested, encoding, model) = match parsed {
            Ok(body) => (
                match body.input {
                    Input::Many(texts) => texts,
                    Input::One(text) => vec![text],
                },
                body.dimensions,
                body.encoding_format.unwrap_or_else(|| "float".into()),
                body.model,
            ),
            Err(_) => (Vec::new(), None, String::new(), String::new()),
        };
        let count: u64 = texts.iter().map(|text| tokens(text)).sum();
        let mut state = self.lock();
        let state = &mut *state;
        state.number += 1;
        let number = state.number;
        let mut latency = state.latency();
        let fault = state.fault_for(number, &texts);
        let admitted = if fault.is_none() || matches!(fault, Some(Fault::Delay(_))) {
            state.admit(count as f64, now)
        } else {
            Ok(Vec::new())
        };
        let key = request
            .headers
            .get("authorization")
            .cloned()
            .or_else(|| request.headers.get("api-key").map(|key| format!("Bearer {key}")));
        let behaviour = &state.behaviour;
        let dimensions = requested.map_or(behaviour.dimensions, |requested| requested as usize);
        let wrong_key =
            behaviour.key.as_ref().is_some_and(|wanted| key.as_deref() != Some(&format!("Bearer {wanted}")));
        let (status, headers, body) = match (&fault, admitted) {
            (Some(Fault::Status(status, headers, body)), _) => (*status, headers.clone(), body.clone().into_bytes()),
            _ if wrong_key => error(401, "invalid_api_key", "Incorrect API key provided: sk-abc***def. Check it."),
            _ if state.behaviour.refuse_each.is_some_and(|each| number.is_multiple_of(each)) => {
                let (status, mut headers, body) = error(429, "rate_limit_exceeded", "Rate limit exceeded.");
                headers.push(("retry-after-ms".into(), "20".into()));
                (status, headers, body)
            }
            _ if behaviour.at_once.is_some_and(|most| state.at_once >= most) => {
                let most = behaviour.at_once.unwrap_or_default();
                let message = format!(
                    "Rate limit exceeded for api_key: abc. Limit type: max_parallel_requests. Current limit: {most}, Remaining: 0. Limit resets at: later"
                );
                let (status, mut headers, body) = error(429, "429", &message);
                headers.push(("retry-after".into(), "60".into()));
                (status, headers, body)
            }
            _ if texts.is_empty() || texts.iter().any(String::is_empty) => {
                error(400, "", "'$.input' is invalid. Please check the API reference.")
            }
            _ if texts.len() > behaviour.max_inputs => error(
                413,
                "",
                &format!("batch size {} > maximum allowed batch size {}", texts.len(), behaviour.max_inputs),
            ),
            _ if request.body.len() > behaviour.max_bytes => error(413, "", "length limit exceeded"),
            _ if encoding == "base64" && !behaviour.base64 => {
                error(400, "", "encoding_format: only `float` is supported")
            }
            (_, Err((wait, limit, used))) => {
                let message = format!(
                    "Rate limit reached for {model} on tokens per min (TPM): Limit {limit:.0}, Used {used:.0}, Requested {count}. Please try again in {}ms.",
                    wait.as_millis()
                );
                if behaviour.headers {
                    let (status, mut headers, body) = error(429, "rate_limit_exceeded", &message);
                    headers.push(("retry-after-ms".into(), wait.as_millis().max(1).to_string()));
                    headers.push(("retry-after".into(), wait.as_secs_f64().ceil().max(1.0).to_string()));
                    headers.extend(state.limit_headers(now));
                    (status, headers, body)
                } else {
                    (429, Vec::new(), b"{\"error\":{\"message\":\"Too many requests\"}}".to_vec())
                }
            }
            (fault, Ok(headers)) => {
                let mut headers = headers;
                if let Some(Fault::Headers(more)) = fault {
                    headers.extend(more.iter().cloned());
                }
                let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, dimensions)).collect();
                if let Some(Fault::Vectors(change)) = fault {
                    change(&mut vectors);
                }
                let base64 = (encoding == "base64") != matches!(fault, Some(Fault::OtherEncoding));
                let body = render(&vectors, base64, matches!(fault, Some(Fault::Doubles)), &model, count);
                let body = match fault {
                    Some(Fault::Edit(edit)) => {
                        edit(String::from_utf8(body).expect("the server writes UTF-8")).into_bytes()
                    }
                    _ => body,
                };
                (200, headers, body)
            }
        };
        let mut status = status;
        if status == 200 {
            latency += state.compute(texts.len(), now);
            if let Some(cut) = state.behaviour.gateway.filter(|cut| latency > *cut) {
                (status, latency) = (504, cut);
            }
        }
        let counted = status == 200 && state.behaviour.at_once.is_some();
        state.at_once += usize::from(counted);
        let responds = !matches!(fault, Some(Fault::Raw(_) | Fault::Stall | Fault::Reset | Fault::Close));
        state.note(
            Seen {
                number,
                at: now.duration_since(self.started),
                line: request.line,
                headers: without_key(request.headers),
                had_key: key.is_some(),
                rows: texts.len(),
                texts: if state.keep_texts { texts } else { Vec::new() },
                tokens: count,
                encoding,
                dimensions: requested,
                status: if responds { status } else { 0 },
                responded: None,
            },
            self.started,
        );
        (number, Reply { status, headers, body, latency, counted, fault })
    }
}

fn without_key(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers.remove("authorization");
    headers.remove("api-key");
    headers
}

impl State {
    fn random(&mut self) -> f64 {
        // Xorshift: any generator will do, as long as it repeats its numbers in every run.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn latency(&mut self) -> Duration {
        let (low, high) = self.behaviour.latency;
        if high.is_zero() { Duration::ZERO } else { low + (high - low).mul_f64(self.random()) }
    }

    /// How long it takes until a worker has computed so many texts.
    fn compute(&mut self, texts: usize, now: Instant) -> Duration {
        let Some((workers, per_text)) = self.behaviour.workers else { return Duration::ZERO };
        self.busy.resize(workers, now);
        self.computed += texts as u64;
        let worker = self.busy.iter_mut().min().expect("a worker");
        *worker = (*worker).max(now) + per_text * u32::try_from(texts).unwrap_or(u32::MAX);
        worker.duration_since(now)
    }

    /// Whether the next response of a language model is a fault, and which.
    pub(super) fn is_faulty(&mut self) -> Option<usize> {
        (self.behaviour.faults > 0.0 && self.random() < self.behaviour.faults)
            .then(|| (self.random() * 1000.0) as usize)
    }

    fn fault_for(&mut self, number: u64, texts: &[String]) -> Option<Fault> {
        let fits = |when: &When| match when {
            When::Nth(n) => *n == number,
            When::Always => true,
            When::First(n) => number <= *n,
            When::Text(marker) => texts.iter().any(|text| text.contains(marker.as_str())),
            When::MoreThan(rows) => texts.len() > *rows,
            When::Longer(bytes) => texts.iter().any(|text| text.len() > *bytes),
        };
        if let Some((_, fault)) = self.script.iter().find(|(when, _)| fits(when)) {
            return Some(fault.clone());
        }
        if self.behaviour.faults > 0.0 && self.random() < self.behaviour.faults {
            let status =
                |status: u16| Fault::Status(status, Vec::new(), "<html><title>Bad gateway</title></html>".into());
            let mut kinds = vec![
                status(500),
                status(502),
                status(503),
                Fault::Cut(0.5),
                Fault::Reset,
                Fault::Truncated(0.7),
                Fault::Edit(one_too_few),
                Fault::Edit(reversed),
                status(200),
            ];
            if self.behaviour.hangs {
                kinds.push(Fault::Stall);
            }
            let pick = (self.random() * kinds.len() as f64) as usize;
            return kinds.into_iter().nth(pick);
        }
        None
    }

    fn note(&mut self, seen: Seen, started: Instant) {
        self.totals.requests += 1;
        *self.totals.by_status.entry(seen.status).or_default() += 1;
        if seen.status == 200 {
            self.totals.rows += seen.rows as u64;
            self.totals.tokens += seen.tokens;
            let now = started.elapsed().as_secs_f64();
            let (first, _) = self.totals.span.unwrap_or((now, now));
            self.totals.span = Some((first, now));
        }
        if self.most_kept > 0 {
            if self.journal.len() >= self.most_kept {
                self.journal.pop_front();
            }
            self.journal.push_back(seen);
        }
    }
}
