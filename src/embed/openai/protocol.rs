//! OpenAI's embeddings protocol as the request loop sees it: texts become a request, a response becomes vectors.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use arrow::array::StringArray;
use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::{
    dtype::Dtype,
    judge::{Sent, judge, judge_native},
    native,
    plan::{EmbedPlan, Rules},
    settings::OpenAiSettings,
    wire::{RequestBody, Vectors, encode, max_response_bytes},
};
use crate::{
    cache::{CacheMode, DiskReservation},
    embed::{DEFAULT_DIMENSIONS, EmbeddingCache, OnTooLong},
    model::{Fingerprint, Secret, ServiceError},
    net::{
        CpuPermits, Hints, Request, Response, TokenScale,
        client::{
            Answers, Items, LARGE_RESPONSE, Measured, Part, Probe, Protocol, ResponseVerdict, ServiceTerms, TooLong,
        },
        prices::Tokens,
        tokens::Counter,
    },
};

/// A text that any working endpoint can embed.
const PROBE_TEXT: &str = "flow";
/// How often a text is shortened to the server's limit before its row fails.
const MAX_CUTS: u32 = 4;

/// OpenAI's embeddings protocol.
#[derive(Debug)]
pub(super) struct Embeddings {
    settings: OpenAiSettings,
    url: url::Url,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    counter: Counter,
    known: Arc<Known>,
    /// The plan with the text of a probe.
    probe: Arc<EmbedPlan>,
}

/// What all clients of one server, key and model know.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) cache: EmbeddingCache,
    /// The length of the vectors; set by the first response if it is not known before.
    pub(super) dimensions: OnceLock<usize>,
    /// Whether a response had vectors of that length.
    proven: AtomicBool,
    /// Whether base64 is requested; turned off permanently if the server does not support it.
    pub(super) base64: AtomicBool,
}

impl Known {
    pub(super) fn new(cache: EmbeddingCache, dimensions: Option<usize>, base64: bool) -> Self {
        Self {
            cache,
            dimensions: dimensions.map_or_else(OnceLock::new, OnceLock::from),
            proven: AtomicBool::new(false),
            base64: AtomicBool::new(base64),
        }
    }
}

/// A request between its attempts.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The encoded body, and whether it asks for base64.
    body: Option<(bool, Bytes)>,
    /// What is sent instead of the single text, which is too long.
    shortened: Option<String>,
    limit: Option<TooLong>,
    cuts: u32,
}

impl Items for EmbedPlan {
    fn len(&self, unit: u32) -> usize {
        self.unit(unit).len()
    }
}

impl Answers for Vectors {
    fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    fn faulty(&self) -> Vec<usize> {
        self.faulty_rows().collect()
    }

    fn fault(&self, position: usize) -> Option<String> {
        self.row(position).err().map(|fault| fault.to_string())
    }

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

fn texts(part: &Part<EmbedPlan>) -> impl Iterator<Item = &str> {
    part.units.iter().map(|unit| part.items.unit(*unit))
}

fn count(counter: Counter, part: &Part<EmbedPlan>) -> u64 {
    texts(part).map(|text| counter.count(text)).sum()
}

impl Embeddings {
    pub(super) fn new(
        settings: OpenAiSettings,
        url: url::Url,
        headers: HeaderMap,
        secrets: Vec<Secret>,
        known: Arc<Known>,
    ) -> Self {
        let counter = Counter::of(&settings.model);
        let rules = Rules { max_input_tokens: None, on_too_long: OnTooLong::Error, counter };
        let probe = Arc::new(EmbedPlan::new(&StringArray::from(vec![PROBE_TEXT]), rules, |text| Fingerprint::of(text)));
        Self { settings, url, headers, secrets, counter, known, probe }
    }

    /// The body of a request with `bytes` bytes of texts.
    fn body<'t>(&self, texts: impl Iterator<Item = &'t str>, bytes: usize, base64: bool) -> Bytes {
        let settings = &self.settings;
        if let Some(dialect) = settings.dialect {
            return native::encode(dialect, settings, texts);
        }
        let (dimensions, dtype) = (settings.requested_dimensions(), settings.dtype.word());
        let request = RequestBody { model: &settings.model, dimensions, base64, dtype, fields: &settings.request };
        encode(&request, texts, bytes + bytes / 8 + 4 * 2048)
    }

    /// Checks the length of a response's vectors. Of two concurrent first responses, the earlier one determines it.
    fn check_dimensions(&self, vectors: Vectors, rows: usize) -> ResponseVerdict<Vectors> {
        let got = vectors.dimensions();
        if vectors.faulty_rows().len() == rows {
            return ResponseVerdict::Answers(vectors);
        }
        if *self.known.dimensions.get_or_init(|| got) == got {
            self.known.proven.store(true, Ordering::Relaxed);
            return ResponseVerdict::Answers(vectors);
        }
        ResponseVerdict::Inconsistent(format!("vectors with {got} dimensions contradict earlier ones"))
    }

    /// The tokens of a part by our own count. Large parts are counted on a thread for blocking work.
    async fn count(&self, part: &Part<EmbedPlan>) -> u64 {
        if part.bytes < 16 << 10 {
            return count(self.counter, part);
        }
        let (counter, part) = (self.counter, part.clone());
        let bytes = part.bytes as u64;
        tokio::task::spawn_blocking(move || count(counter, &part)).await.unwrap_or(bytes)
    }
}

impl Protocol for Embeddings {
    type Items = EmbedPlan;
    type Answers = Vectors;
    type Known = Known;
    type Draft = Draft;
    type Sent = Sent;
    type Disk = Option<DiskReservation>;

    const TERMS: ServiceTerms = ServiceTerms { address: "base_url", invalid: crate::embed::INVALID_VECTOR };

    fn reserve(&self, part: &Part<EmbedPlan>) -> Result<Self::Disk, ServiceError> {
        let dimensions = self.known.dimensions.get().copied().unwrap_or(DEFAULT_DIMENSIONS);
        self.known.cache.reserve(part.units.len(), dimensions).map_err(|error| ServiceError::Stopped(format!(
            "{error}: nothing is requested that could not be stored; finished work is kept, free some disk space and run again"
        )))
    }

    fn released(known: &Known, keys: &[Fingerprint]) {
        known.cache.release(keys);
    }

    fn request(&self, part: &Part<EmbedPlan>, draft: &mut Draft) -> (Request, Sent) {
        let base64 = self.known.base64.load(Ordering::Relaxed);
        let body = match &draft.body {
            Some((for_base64, body)) if *for_base64 == base64 => body.clone(),
            _ => {
                let body = match &draft.shortened {
                    Some(text) => self.body(std::iter::once(text.as_str()), text.len(), base64),
                    None => self.body(texts(part), part.bytes, base64),
                };
                draft.body.insert((base64, body)).1.clone()
            }
        };
        let rows = part.units.len();
        let dimensions = self.known.dimensions.get().copied();
        let sent = Sent { rows, dimensions, proven: self.known.proven.load(Ordering::Relaxed), base64 };
        let request = Request {
            method: reqwest::Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            timeout: self.settings.client.timeout,
            max_body: max_response_bytes(rows, dimensions),
        };
        (request, sent)
    }

    fn judge(&self, _: &Part<EmbedPlan>, response: &Response, hints: &Hints, sent: &Sent) -> ResponseVerdict<Vectors> {
        let settings = &self.settings;
        let verdict = match settings.dialect {
            None => judge(response, hints, *sent, &self.secrets),
            Some(dialect) => judge_native(response, hints, *sent, &self.secrets, |body| {
                native::decode(dialect, settings, body, sent.rows, sent.dimensions)
            }),
        };
        match verdict {
            ResponseVerdict::Answers(mut vectors) => {
                if settings.normalize {
                    vectors.normalize();
                }
                if settings.dtype != Dtype::Float32 {
                    vectors.check_numbers(sent.rows, |number| settings.dtype.holds(number));
                }
                self.check_dimensions(vectors, sent.rows)
            }
            ResponseVerdict::Resend => {
                self.known.base64.store(false, Ordering::Relaxed);
                ResponseVerdict::Resend
            }
            verdict => verdict,
        }
    }

    async fn measure(&self, part: &Part<EmbedPlan>, draft: &Draft, exact: bool, scale: &TokenScale) -> Measured {
        let (bytes, counted) = match &draft.shortened {
            Some(text) => (text.len() as u64, self.counter.count(text)),
            None => {
                let bytes = part.bytes as u64;
                if !(self.counter.is_exact() && exact) {
                    let reserved = scale.of_bytes(bytes);
                    return Measured { reserved, most: (bytes + part.units.len() as u64 * 2).into(), counted: None };
                }
                (bytes, self.count(part).await)
            }
        };
        let reserved = scale.of_counted(counted);
        let most = counted.max(reserved).max(if draft.shortened.is_some() { bytes } else { 0 });
        Measured { reserved, most: most.into(), counted: self.counter.is_exact().then_some(counted) }
    }

    /// If the server does not say, or says an impossible number, our own count.
    async fn settle(
        &self,
        vectors: &Vectors,
        part: &Part<EmbedPlan>,
        draft: &Draft,
        measured: &Measured,
        scale: &TokenScale,
    ) -> Tokens {
        let bytes = draft.shortened.as_ref().map_or(part.bytes, String::len) as u64;
        // No tokenizer makes more than one token per byte, except for a few special ones around each text.
        let most = bytes + 8 * part.units.len() as u64;
        let billed = match vectors.tokens {
            Some(tokens) if tokens > 0 && tokens <= most => {
                scale.learn(bytes, measured.counted, tokens);
                tokens
            }
            _ => match &draft.shortened {
                Some(text) => self.counter.count(text),
                None => self.count(part).await,
            },
        };
        billed.into()
    }

    async fn store(
        &self,
        part: &Part<EmbedPlan>,
        vectors: Vectors,
        draft: &Draft,
        permits: &CpuPermits,
    ) -> Result<Vectors, ServiceError> {
        // The vector of a shortened text is not that of the text.
        if draft.shortened.is_some() || self.known.cache.mode() != CacheMode::ReadWrite {
            return Ok(vectors);
        }
        if vectors.bytes() < LARGE_RESPONSE {
            return store(&self.known, part, vectors);
        }
        let (known, part) = (Arc::clone(&self.known), part.clone());
        permits.run(move || store(&known, &part, vectors)).await
    }

    fn shorten(&self, part: &Part<EmbedPlan>, draft: &mut Draft, too_long: TooLong) -> bool {
        if self.settings.on_too_long != OnTooLong::Truncate {
            return false;
        }
        // A limit that the server named once is remembered.
        let too_long = match draft.limit {
            Some(limit) if too_long.allowed.is_none() => TooLong { found: None, ..limit },
            _ => too_long,
        };
        draft.limit = Some(too_long);
        let text = draft.shortened.as_deref().unwrap_or(part.items.unit(part.units[0]));
        let cut = if draft.cuts < MAX_CUTS { too_long.cut(text, self.counter, draft.cuts) } else { None };
        let Some(cut) = cut.map(str::to_owned) else { return false };
        draft.shortened = Some(cut);
        draft.cuts += 1;
        draft.body = None;
        true
    }

    fn probe(&self, _: Option<&Part<EmbedPlan>>) -> Option<Probe<EmbedPlan>> {
        Some(Probe { part: Part::new(&self.probe, vec![0]), reserved: 2, most: 8.into() })
    }
}

/// Writes vectors to the cache, before they are returned.
fn store(known: &Known, part: &Part<EmbedPlan>, vectors: Vectors) -> Result<Vectors, ServiceError> {
    let rows = part.units.iter().enumerate();
    let sound = rows.filter_map(|(row, unit)| Some((part.items.key(*unit), vectors.row(row).ok()?)));
    known.cache.put_many(&sound.collect::<Vec<_>>())?;
    Ok(vectors)
}
