//! A declared HTTP API as the request loop sees it: values become a request, a response becomes answers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rand::Rng as _;
use reqwest::{Url, header::HeaderMap};
use serde_json::Value as Json;

use super::{
    actions::Action,
    answer::Answer,
    auth::Auth,
    paginator::{NextPage, same_server},
    settings::ApiSettings,
};
use crate::{
    cache::{CacheMode, DiskReservation, JsonCache},
    function::answer_client::KeptProtocol,
    model::{Fingerprint, Secret, ServiceError},
    net::{
        CpuPermits, Hints, Request, Response,
        client::{
            Answers, Cause, ErrorBody, Items, LARGE_RESPONSE, Part, Probe, Protocol, ResponseVerdict, ServiceTerms,
            StatusRules, scrub, shorten, strip_bom,
        },
        parse_go_duration,
        prices::Tokens,
    },
};

/// The limit on the size of a response.
const MAX_RESPONSE: usize = 256 << 20;
/// Bytes of an answer that are reserved on the disk before it is there.
const ANSWER_BYTES: usize = 2048;

const RULES: StatusRules = StatusRules {
    redirected: "set `url` to the final address",
    not_found: "check `url`",
    method: "check `method` and `url`",
    about_the_settings: |error, message| {
        (error.code == "invalid_api_key" || message.contains("api key")).then_some("check `auth` and `headers`")
    },
    about_the_items: |_, _| false,
};

/// The distinct values of one call.
#[derive(Debug)]
pub struct Keys {
    values: Vec<Vec<Json>>,
    bytes: Vec<usize>,
    digests: Vec<Fingerprint>,
}

impl Keys {
    /// No values yet.
    pub fn new() -> Self {
        Self { values: Vec::new(), bytes: Vec::new(), digests: Vec::new() }
    }

    /// Adds a value, whose JSON text is `text`.
    pub fn push(&mut self, value: Vec<Json>, text: &str, digest: Fingerprint) {
        self.values.push(value);
        self.bytes.push(text.len());
        self.digests.push(digest);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    fn of<'k>(&'k self, part: &'k Part<Self>) -> Vec<&'k [Json]> {
        part.units.iter().map(|unit| &self.values[*unit as usize][..]).collect()
    }
}

impl Items for Keys {
    fn len(&self, unit: u32) -> usize {
        self.bytes[unit as usize]
    }
}

/// What all clients of one API know.
#[derive(Debug)]
pub struct Known {
    /// The answers.
    pub cache: JsonCache,
    /// A value that had an answer, for probes.
    good: Mutex<Option<Vec<Json>>>,
    /// Whether a response ever had the declared shape.
    proven: AtomicBool,
}

impl Known {
    /// Nothing is known but what the cache has.
    pub fn new(cache: JsonCache) -> Self {
        Self { cache, good: Mutex::default(), proven: AtomicBool::new(false) }
    }
}

/// The answers of a response, in the order of the request's values.
#[derive(Debug)]
pub struct ApiAnswers {
    answers: Vec<Answer>,
    bytes: usize,
    /// The next page of the only answer.
    next: NextPage,
}

impl Answers for ApiAnswers {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A request between its attempts.
#[derive(Debug, Default)]
pub struct Draft {
    request: Option<Request>,
    /// The pages of the only answer so far.
    pages: Vec<Json>,
    read: u64,
}

/// A declared HTTP API.
#[derive(Debug)]
pub struct RestApi {
    settings: Arc<ApiSettings>,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    known: Arc<Known>,
}

impl RestApi {
    /// The API of these settings.
    pub fn new(settings: Arc<ApiSettings>, headers: HeaderMap, known: Arc<Known>) -> Self {
        let secrets = settings.secrets();
        Self { settings, headers, secrets, known }
    }

    fn address(&self, values: &[&[Json]], more: &[(String, String)]) -> Url {
        let settings = &self.settings;
        let mut url = Url::parse(&settings.url.address(&settings.key, values))
            .expect("the address was checked, and values are percent-encoded");
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, template) in &settings.params {
            match template.json(&settings.key, values) {
                Json::Array(list) => {
                    parameters.extend(list.iter().map(|item| (name.clone(), super::template::text_of_json(item))));
                }
                Json::Null => {}
                value => parameters.push((name.clone(), super::template::text_of_json(&value))),
            }
        }
        parameters.extend_from_slice(more);
        if let Some(Auth::Query { name, value }) = &settings.auth {
            parameters.push((name.clone(), value.expose().to_owned()));
        }
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        url
    }

    /// An address at the same server with the key, if that is sent in the query: a link to the next page is without it.
    fn with_key(&self, mut url: Url) -> Url {
        if let Some(Auth::Query { name, value }) = &self.settings.auth
            && url.query_pairs().all(|(there, _)| there != *name)
        {
            url.query_pairs_mut().append_pair(name, value.expose());
        }
        url
    }

    fn judge_body(&self, part: &Part<Keys>, response: &Response, page: u64) -> Result<ApiAnswers, String> {
        let body = strip_bom(&response.body);
        let values = part.items.of(part);
        let matching = &self.settings.matching;
        if self.settings.paginator.is_none()
            && let Some(answers) = matching.texts(body, &self.settings.data, &values)
        {
            return Ok(ApiAnswers { answers, bytes: response.body.len(), next: NextPage::None });
        }
        let json: Json = match body.iter().all(u8::is_ascii_whitespace) {
            true if response.status == 204 => Json::Null,
            _ => serde_json::from_slice(body).map_err(|error| format!("the response is not JSON: {error}"))?,
        };
        let answers = matching.answers(&json, &self.settings.data, &values)?;
        let next = self.settings.paginator.as_ref().map_or(NextPage::None, |paginator| {
            let items = answers.first().and_then(Json::as_array).map_or(0, Vec::len);
            paginator.next(page, items, &json, &response.headers)
        });
        let answers = answers.into_iter().map(|answer| Answer::Value(Arc::new(answer))).collect();
        Ok(ApiAnswers { answers, bytes: response.body.len(), next })
    }
}

impl Protocol for RestApi {
    type Items = Keys;
    type Answers = ApiAnswers;
    type Known = Known;
    type Draft = Draft;
    /// The number of the page, from 0.
    type Sent = u64;
    type Disk = Option<DiskReservation>;

    const TERMS: ServiceTerms = ServiceTerms { address: "url", invalid: "invalid_answer" };

    fn reserve(&self, part: &Part<Keys>) -> Result<Self::Disk, ServiceError> {
        self.known.cache.reserve(part.units.len(), ANSWER_BYTES).map_err(|error| ServiceError::Stopped(format!(
            "{error}: nothing is requested that could not be stored; finished work is kept, free some disk space and run again"
        )))
    }

    fn released(known: &Known, keys: &[Fingerprint]) {
        known.cache.release(keys);
    }

    fn request(&self, part: &Part<Keys>, draft: &mut Draft) -> (Request, u64) {
        let page = draft.read;
        if let Some(request) = &draft.request {
            return (request.clone(), page);
        }
        let settings = &self.settings;
        let values = part.items.of(part);
        let first = settings.paginator.as_ref().map(|paginator| paginator.first()).unwrap_or_default();
        let body = settings.json.as_ref().map(|json| json.json(&settings.key, &values));
        let body = body.map_or_else(Bytes::new, |body| serde_json::to_vec(&body).expect("plain JSON").into());
        let request = Request {
            method: settings.method.clone(),
            url: self.address(&values, &first),
            headers: self.headers.clone(),
            body,
            timeout: settings.client.timeout,
            max_body: MAX_RESPONSE,
        };
        (draft.request.insert(request).clone(), page)
    }

    fn hints(&self, response: &Response) -> Hints {
        let mut hints = Hints::read(&response.headers, std::time::SystemTime::now());
        let header = |name: &Option<String>| response.headers.get(name.as_ref()?)?.to_str().ok();
        if let Some(reset) = header(&self.settings.reset_header).and_then(wait_until) {
            let left = header(&self.settings.remaining_header).and_then(|left| left.trim().parse::<f64>().ok());
            if left.is_some_and(|left| left < 1.0) {
                hints.used_up = Some(reset);
            }
            if response.status == 429 {
                hints.retry_after = hints.retry_after.or(Some(reset));
            }
        }
        hints
    }

    fn judge(&self, part: &Part<Keys>, response: &Response, hints: &Hints, page: &u64) -> ResponseVerdict<ApiAnswers> {
        let without_key = |text: &str| scrub(&self.secrets, text);
        let said = || {
            let error = ErrorBody::read(&response.body).scrubbed(without_key);
            format!("{}: {}", response.status, error.short_message())
        };
        match self.settings.actions.find(response.status, &response.body) {
            Some(Action::Ignore) => {
                let answers = std::iter::repeat_n(Answer::Value(Arc::default()), part.units.len()).collect();
                return ResponseVerdict::Answers(ApiAnswers { answers, bytes: 0, next: NextPage::None });
            }
            Some(Action::Retry) => return ResponseVerdict::retry(said(), false),
            Some(Action::Split) => return ResponseVerdict::Divide { why: said(), cause: Cause::Row(None) },
            Some(Action::Fail) => return ResponseVerdict::Refused(said()),
            Some(Action::Stop) => return ResponseVerdict::Stop(said()),
            None => {}
        }
        match response.status {
            200..=299 => match self.judge_body(part, response, *page) {
                Ok(answers) => {
                    self.known.proven.store(true, Ordering::Relaxed);
                    ResponseVerdict::Answers(answers)
                }
                Err(why) => {
                    let why = shorten(&without_key(&why));
                    match self.known.proven.load(Ordering::Relaxed) || why.contains("not JSON") {
                        true => ResponseVerdict::retry_suspect(why, true),
                        // No response ever had this shape: the settings are wrong, not this response.
                        false => ResponseVerdict::Refused(format!("{why}; check `match` and `data_selector`")),
                    }
                }
            },
            status => {
                let error = ErrorBody::read(&response.body).scrubbed(without_key);
                match RULES.judge(status, &error, hints, part.units.len()) {
                    // A value may be unknown to the service.
                    ResponseVerdict::Refused(why) if status == 404 => {
                        ResponseVerdict::Divide { why, cause: Cause::Unclear }
                    }
                    verdict => verdict,
                }
            }
        }
    }

    fn continues(&self, part: &Part<Keys>, answers: &mut ApiAnswers, draft: &mut Draft) -> Result<bool, String> {
        let Some(paginator) = &self.settings.paginator else { return Ok(false) };
        let next = std::mem::replace(&mut answers.next, NextPage::None);
        let Some(page) = answers.answers.pop() else { return Ok(false) };
        match page.json()?.into_owned() {
            Json::Array(items) => draft.pages.extend(items),
            Json::Null => {}
            _ => {
                return Err(
                    "invalid_answer: a page is no list; let `data_selector` select the items of a page".to_owned()
                );
            }
        }
        draft.read += 1;
        let request = draft.request.as_mut();
        let url = match (next, request.as_ref()) {
            (NextPage::Address(next), Some(request)) => {
                Some(self.with_key(same_server(&request.url, &next).ok_or_else(|| {
                    format!("rejected: the next page is at another server: {}", shorten(&scrub(&self.secrets, &next)))
                })?))
            }
            (NextPage::Parameters(more), Some(_)) => Some(self.address(&part.items.of(part), &more)),
            _ => None,
        };
        match (url, request) {
            (Some(_), _) if draft.read >= paginator.max_pages as u64 => {
                Err(format!("rejected: more than {} pages", paginator.max_pages))
            }
            (Some(url), Some(request)) => {
                request.url = url;
                Ok(true)
            }
            _ => {
                let pages = Json::Array(std::mem::take(&mut draft.pages));
                answers.answers.push(Answer::Value(Arc::new(pages)));
                Ok(false)
            }
        }
    }

    async fn store(
        &self,
        part: &Part<Keys>,
        answers: ApiAnswers,
        _: &Draft,
        permits: &CpuPermits,
    ) -> Result<ApiAnswers, ServiceError> {
        if let Some(at) = answers.answers.iter().position(|answer| !answer.is_null()) {
            let good = part.items.values[part.units[at] as usize].clone();
            *self.known.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(good);
        }
        if self.known.cache.mode() != CacheMode::ReadWrite {
            return Ok(answers);
        }
        if answers.bytes < LARGE_RESPONSE {
            return store(&self.known, part, answers);
        }
        let (known, part) = (Arc::clone(&self.known), part.clone());
        permits.run(move || store(&known, &part, answers)).await
    }

    /// A value that had an answer; otherwise any other one than the single value that failed.
    fn probe(&self, part: Option<&Part<Keys>>) -> Option<Probe<Keys>> {
        let good = self.known.good.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let value = good.or_else(|| {
            let part = part?;
            let all = &part.items.values;
            let at = rand::rng().random_range(0..all.len());
            match part.units[..] {
                [only] if only as usize == at => all.get((at + 1) % all.len()).filter(|_| all.len() > 1).cloned(),
                _ => all.get(at).cloned(),
            }
        })?;
        let text = serde_json::to_string(&value).expect("plain JSON");
        let mut keys = Keys::new();
        keys.push(value, &text, Fingerprint::of(&text));
        Some(Probe { part: Part::new(&Arc::new(keys), vec![0]), reserved: 0, most: Tokens::default() })
    }
}

impl KeptProtocol for RestApi {
    type Answer = Answer;

    fn cache(known: &Known) -> &JsonCache {
        &known.cache
    }

    fn digests(items: &Keys) -> &[Fingerprint] {
        &items.digests
    }

    fn kept(&self, _: &Keys, _: u32, value: Json) -> Option<Answer> {
        Some(Answer::Value(Arc::new(value)))
    }

    fn answer(answers: &ApiAnswers, position: usize) -> Answer {
        answers.answers[position].clone()
    }
}

/// Writes answers to the cache, before they are returned; unknown is an answer.
fn store(known: &Known, part: &Part<Keys>, answers: ApiAnswers) -> Result<ApiAnswers, ServiceError> {
    let digests = part.units.iter().map(|unit| part.items.digests[*unit as usize]);
    known.cache.put_many(digests.zip(answers.answers.iter().map(Answer::text)))?;
    Ok(answers)
}

/// The time until a moment in a header: seconds, a duration as Go prints it, a time since 1970, or an HTTP date.
fn wait_until(text: &str) -> Option<std::time::Duration> {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    /// Larger numbers are times since 1970.
    const YEAR: f64 = 366.0 * 86_400.0;
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        let milliseconds = number > 1e11;
        let seconds = if milliseconds { number / 1000.0 } else { number };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        let wait = if seconds > YEAR { seconds - now } else { seconds };
        return (wait > 0.0 && wait < YEAR).then(|| Duration::from_secs_f64(wait));
    }
    if let Ok(until) = httpdate::parse_http_date(text) {
        return until.duration_since(SystemTime::now()).ok();
    }
    parse_go_duration(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_way_to_write_a_reset_is_understood() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        assert_eq!(wait_until("30"), Some(Duration::from_secs(30)));
        assert_eq!(wait_until("1m30s"), Some(Duration::from_secs(90)));
        for text in [(now + 100).to_string(), ((now + 100) * 1000).to_string()] {
            let wait = wait_until(&text).expect("a time since 1970").as_secs_f64();
            assert!((98.0..101.0).contains(&wait), "{text}: {wait}");
        }
        assert_eq!(wait_until("soon"), None);
        assert_eq!(wait_until(&(now - 5).to_string()), None);
    }
}
