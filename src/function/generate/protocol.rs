//! The API of a language model as the request loop sees it: a prompt becomes a request, a response becomes an answer.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use reqwest::{Url, header::HeaderMap};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value as Json, value::RawValue};

use super::{
    answer::{Answer, End, Generated},
    api::Ask,
    counting::Counting,
    prompts::Prompts,
    settings::{GenerateSettings, OnInvalid},
};
use crate::{
    cache::{CacheMode, DiskReservation, JsonCache},
    function::answer_client::KeptProtocol,
    model::{Fingerprint, Secret, ServiceError},
    net::{
        CpuPermits, Hints, Request, Response, TokenScale,
        client::{
            Answers, ErrorBody, Measured, Part, Probe, Protocol, ResponseVerdict, ServiceTerms, StatusRules, scrub,
            shorten, strip_bom,
        },
        prices::Tokens,
    },
};

/// The limit on the size of a response.
const MAX_RESPONSE: usize = 64 << 20;
/// Bytes of an answer that are reserved on the disk before it is there.
const ANSWER_BYTES: usize = 4096;
/// A prompt that any working model answers, and the most tokens of that answer.
const PROBE_PROMPT: &str = "Answer with OK.";
const PROBE_TOKENS: u64 = 16;
/// Tokens of an answer that are assumed for the rate limit if nothing limits them.
const USUAL_ANSWER: u64 = 256;
/// More tokens than this are no count.
const IMPLAUSIBLE: u64 = 1 << 32;

const RULES: StatusRules = StatusRules {
    redirected: "set `base_url` to the final address",
    not_found: "check `model`, `base_url` and `api`",
    method: "check `base_url`",
    about_the_settings: |error, message| {
        const PARAMETERS: &[&str] = &[
            "model",
            "temperature",
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "seed",
            "tools",
            "tool_choice",
            "instructions",
            "system",
        ];
        const CODES: &[&str] = &["invalid_api_key", "model_not_found", "unsupported_parameter", "unsupported_value"];
        let of_format = error.param.starts_with("response_format") || error.param.starts_with("text.format");
        if of_format {
            return Some("check `response_format`");
        }
        let ours = CODES.contains(&error.code.as_str()) || PARAMETERS.contains(&error.param.as_str());
        (ours || message.contains("api key")).then_some("")
    },
    about_the_items: |error, message| {
        ["context_length_exceeded", "string_above_max_length", "invalid_image_url", "invalid_image"]
            .contains(&error.code.as_str())
            || message.contains("prompt is too long")
    },
};

/// What all clients of one server, key and model know.
#[derive(Debug)]
pub struct Known {
    /// The answers.
    pub cache: JsonCache,
}

/// The answer of a response.
#[derive(Debug)]
pub struct ModelAnswer {
    answer: Arc<Answer>,
    /// Whether it is to be asked for again.
    again: bool,
}

impl Answers for ModelAnswer {
    fn tokens(&self) -> Option<u64> {
        let Generated { input_tokens, output_tokens, .. } = &self.answer.generated;
        Some((*input_tokens)?.saturating_add((*output_tokens)?)).filter(|tokens| *tokens < IMPLAUSIBLE)
    }

    fn faulty(&self) -> Vec<usize> {
        if self.again { vec![0] } else { Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.answer.generated.text.len()
    }
}

/// The API of a language model.
#[derive(Debug)]
pub struct LanguageModel {
    settings: Arc<GenerateSettings>,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    counting: Counting,
    at_openai: bool,
    /// The fields that all requests have: the format of answers, and what the settings add.
    fixed: IndexMap<String, Box<RawValue>>,
    known: Arc<Known>,
    probe: Arc<Prompts>,
}

/// A request: what is asked, and what all requests have, which replaces it. The latter is text already, since a schema may be long.
struct Body<'b> {
    asked: Map<String, Json>,
    fixed: &'b IndexMap<String, Box<RawValue>>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.asked.iter().filter(|(name, _)| !self.fixed.contains_key(*name)) {
            map.serialize_entry(name, value)?;
        }
        for (name, value) in self.fixed {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl LanguageModel {
    /// The API of these settings.
    pub fn new(
        settings: Arc<GenerateSettings>,
        url: Url,
        headers: HeaderMap,
        secrets: Vec<Secret>,
        known: Arc<Known>,
    ) -> Self {
        let at_openai = url.host_str().is_some_and(|host| {
            ["openai.com", "openai.azure.com"].iter().any(|domain| super::settings::is_at(host, domain))
        });
        let counting = Counting::of(&settings);
        let mut fixed = settings.format.schema().map(|schema| settings.api.format(schema)).unwrap_or_default();
        fixed.extend(settings.extra_body.clone());
        let raw = |(name, value)| (name, serde_json::value::to_raw_value::<Json>(&value).expect("plain JSON"));
        let fixed = fixed.into_iter().map(raw).collect();
        Self {
            settings,
            url,
            headers,
            secrets,
            counting,
            at_openai,
            fixed,
            known,
            probe: Arc::new(Prompts::probe(PROBE_PROMPT)),
        }
    }

    /// How tokens are counted.
    pub fn counting(&self) -> Counting {
        self.counting
    }

    fn max_tokens(&self, items: &Prompts) -> Option<u64> {
        let most = self.settings.max_tokens;
        if items.is_probe { Some(most.map_or(PROBE_TOKENS, |most| most.min(PROBE_TOKENS))) } else { most }
    }

    fn body(&self, part: &Part<Prompts>) -> Bytes {
        let settings = &*self.settings;
        let prompt = part.items.at(part.units[0]);
        let detail = settings.image.as_ref().and_then(|image| image.detail.as_deref());
        let ask = Ask {
            model: &settings.model,
            system: settings.system.as_deref(),
            prompt: &prompt.text,
            image: prompt.image.as_ref().map(|image| (image, detail)),
            temperature: settings.temperature,
            max_tokens: self.max_tokens(&part.items),
            seed: settings.seed_of(prompt.repetition),
            at_openai: self.at_openai,
        };
        let body = Body { asked: settings.api.body(&ask), fixed: &self.fixed };
        serde_json::to_vec(&body).expect("plain JSON").into()
    }

    fn answer_of(&self, generated: Generated) -> Answer {
        Answer::new(generated, |text| self.settings.format.values(text))
    }
}

impl Protocol for LanguageModel {
    type Items = Prompts;
    type Answers = ModelAnswer;
    type Known = Known;
    /// The body.
    type Draft = Option<Bytes>;
    type Sent = ();
    type Disk = Option<DiskReservation>;

    const TERMS: ServiceTerms = ServiceTerms { address: "base_url", invalid: "invalid_answer" };
    // A request is for a single row, and nothing smaller than it can be tried.
    const SUSPECT_ATTEMPTS: u32 = 6;

    fn reserve(&self, part: &Part<Prompts>) -> Result<Self::Disk, ServiceError> {
        self.known.cache.reserve(part.units.len(), ANSWER_BYTES).map_err(|error| ServiceError::Stopped(format!(
            "{error}: nothing is requested that could not be stored; finished work is kept, free some disk space and run again"
        )))
    }

    fn released(known: &Known, keys: &[Fingerprint]) {
        known.cache.release(keys);
    }

    fn request(&self, part: &Part<Prompts>, draft: &mut Option<Bytes>) -> (Request, ()) {
        let request = Request {
            method: reqwest::Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: draft.get_or_insert_with(|| self.body(part)).clone(),
            timeout: self.settings.client.timeout,
            max_body: MAX_RESPONSE,
        };
        (request, ())
    }

    fn judge(&self, part: &Part<Prompts>, response: &Response, hints: &Hints, (): &()) -> ResponseVerdict<ModelAnswer> {
        let without_key = |text: &str| scrub(&self.secrets, text);
        let error = || ErrorBody::read(&response.body).scrubbed(without_key);
        if response.status != 200 {
            let error = error();
            if response.status == 400 && (error.code == "content_filter" || error.code == "content_policy_violation") {
                let end = End::Filtered(error.short_message());
                let answer = Arc::new(self.answer_of(Generated {
                    end,
                    input_tokens: Some(0),
                    output_tokens: Some(0),
                    ..Generated::default()
                }));
                return ResponseVerdict::Answers(ModelAnswer { answer, again: false });
            }
            return RULES.judge(response.status, &error, hints, part.units.len());
        }
        let json: Json = match serde_json::from_slice(strip_bom(&response.body)) {
            Ok(json) => json,
            Err(error) => {
                return ResponseVerdict::retry_suspect(shorten(&format!("the response is not JSON: {error}")), true);
            }
        };
        if json.get("error").is_some_and(|error| !error.is_null()) {
            return RULES.judge_in_a_200(&error(), part.units.len());
        }
        match self.settings.api.read(&json) {
            Ok(generated) => {
                let answer = Arc::new(self.answer_of(generated));
                let again = answer.is_invalid() && self.settings.on_invalid == OnInvalid::Retry && !part.items.is_probe;
                ResponseVerdict::Answers(ModelAnswer { answer, again })
            }
            Err(why) => ResponseVerdict::retry_suspect(shorten(&without_key(&why)), true),
        }
    }

    async fn measure(&self, part: &Part<Prompts>, _: &Option<Bytes>, exact: bool, scale: &TokenScale) -> Measured {
        let prompt = part.items.at(part.units[0]);
        let max_tokens = self.max_tokens(&part.items);
        let counted = (exact && self.counting.counter().is_exact()).then(|| self.counting.count(prompt));
        let input = match counted {
            Some(counted) => scale.of_counted(counted),
            None => scale.of_bytes(self.counting.bytes(prompt)),
        };
        let most = Tokens { input: self.counting.most(prompt), output: max_tokens.unwrap_or(0) };
        Measured { reserved: input + max_tokens.unwrap_or(USUAL_ANSWER), most, counted }
    }

    /// If the server does not say, our own count.
    async fn settle(
        &self,
        answer: &ModelAnswer,
        part: &Part<Prompts>,
        _: &Option<Bytes>,
        measured: &Measured,
        scale: &TokenScale,
    ) -> Tokens {
        let prompt = part.items.at(part.units[0]);
        let generated = &answer.answer.generated;
        let plausible = |tokens: Option<u64>| tokens.filter(|tokens| *tokens < IMPLAUSIBLE);
        let input = match plausible(generated.input_tokens) {
            Some(0) if matches!(generated.end, End::Filtered(_)) => 0,
            Some(tokens) if tokens > 0 => {
                scale.learn(self.counting.bytes(prompt), measured.counted, tokens);
                tokens
            }
            _ => self.counting.count(prompt),
        };
        let own = || self.counting.counter().count(&generated.text);
        Tokens { input, output: plausible(generated.output_tokens).unwrap_or_else(own) }
    }

    fn settle_probe(&self, answer: &ModelAnswer, probe: &Probe<Prompts>) -> Tokens {
        let Generated { input_tokens, output_tokens, .. } = answer.answer.generated.clone();
        Tokens {
            input: input_tokens.unwrap_or(probe.most.input).min(probe.most.input),
            output: output_tokens.unwrap_or(probe.most.output).min(probe.most.output),
        }
    }

    async fn store(
        &self,
        part: &Part<Prompts>,
        answer: ModelAnswer,
        _: &Option<Bytes>,
        _: &CpuPermits,
    ) -> Result<ModelAnswer, ServiceError> {
        let kept = &answer.answer;
        if kept.is_invalid() {
            match self.settings.on_invalid {
                OnInvalid::Retry => return Ok(answer),
                OnInvalid::Null => {}
                OnInvalid::Stop => {
                    let why = kept.values.as_ref().err().map_or("", |why| why);
                    return Err(ServiceError::Refused(format!("{why}; the run ends because of `on_invalid: stop`")));
                }
            }
        }
        if self.known.cache.mode() == CacheMode::ReadWrite {
            let digest = part.items.digests()[part.units[0] as usize];
            self.known.cache.put_many(std::iter::once((digest, kept.generated.to_json().to_string())))?;
        }
        Ok(answer)
    }

    fn probe(&self, _: Option<&Part<Prompts>>) -> Option<Probe<Prompts>> {
        let prompt = self.probe.at(0);
        let most = Tokens { input: self.counting.most(prompt), output: PROBE_TOKENS };
        let reserved = self.counting.count(prompt) + PROBE_TOKENS;
        Some(Probe { part: Part::new(&self.probe, vec![0]), reserved, most })
    }
}

impl KeptProtocol for LanguageModel {
    type Answer = Arc<Answer>;

    fn cache(known: &Known) -> &JsonCache {
        &known.cache
    }

    fn digests(items: &Prompts) -> &[Fingerprint] {
        items.digests()
    }

    fn judges_kept(&self) -> bool {
        true
    }

    fn kept(&self, _: &Prompts, _: u32, value: Json) -> Option<Arc<Answer>> {
        let answer = self.answer_of(Generated::from_json(&value)?);
        // Kept when an answer that does not fit was good enough.
        (!answer.is_invalid() || self.settings.on_invalid == OnInvalid::Null).then(|| Arc::new(answer))
    }

    fn answer(answers: &ModelAnswer, _: usize) -> Arc<Answer> {
        Arc::clone(&answers.answer)
    }
}
