//! The `openai` provider against a scripted server: every fault that an API, a network or a key can have.

mod bodies;
mod connections;
mod limits;
mod money;
mod rows;
mod servers;
mod slow;
mod statuses;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::array::{Array, AsArray, StringArray};
use flow::{
    cache::{CacheMode, CacheOptions},
    embed::{
        Embedded, Provider,
        openai::{OpenAiProvider, OpenAiSettings, Profile},
    },
    model::{Estimate, Secret, ServiceError, Usage, UsageSnapshot},
    net::{EndpointRegistry, Notice, Notices, RetryPolicy, ServiceContext, ServiceEnvironment, client::ClientSettings},
};

use crate::support::api_server::{ApiServer, Behaviour, Fault, When, vectors::vector};

/// A key that must never appear in any output.
const CANARY_KEY: &str = "canary-key-0123456789abcdef";

/// A client of one server, with pauses short enough for tests.
struct Client {
    provider: Arc<OpenAiProvider>,
    usage: Arc<Usage>,
}

/// What a test may set besides the defaults.
struct Setup {
    settings: OpenAiSettings,
    max_cost_nano_usd: Option<u64>,
    max_requests: Option<u64>,
    limiters: Arc<EndpointRegistry>,
    environment: ServiceEnvironment,
    notices: Notices,
    stopping: tokio_util::sync::CancellationToken,
    root: std::path::PathBuf,
}

fn setup(server: &ApiServer) -> Setup {
    let settings = OpenAiSettings {
        base_url: Some(server.base_url()),
        // Tests count requests; the small first requests to an unknown server have tests of their own.
        profile: Profile::named("compatible").map(|profile| Profile { careful_start: false, ..profile }),
        api_key: Some(Secret::new(CANARY_KEY)),
        dimensions: Some(8),
        client: ClientSettings {
            timeout: Duration::from_secs(5),
            retry: RetryPolicy {
                max_attempts: 6,
                deadline: Duration::from_secs(20),
                first_pause: Duration::from_millis(4),
            },
            max_outage: Duration::from_secs(20),
            ..ClientSettings::default()
        },
        cache: CacheOptions { path: "cache".into(), mode: CacheMode::Off },
        ..OpenAiSettings::default()
    };
    Setup {
        settings,
        max_cost_nano_usd: None,
        max_requests: None,
        limiters: Arc::default(),
        environment: ServiceEnvironment::default(),
        notices: Notices::default(),
        stopping: Default::default(),
        root: std::env::temp_dir(),
    }
}

impl Setup {
    fn set(mut self, change: impl FnOnce(&mut OpenAiSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    fn cached_in(mut self, root: &Path) -> Self {
        self.settings.cache.mode = CacheMode::ReadWrite;
        self.root = root.to_path_buf();
        self
    }

    fn open(self) -> Client {
        self.try_open().expect("the settings work")
    }

    fn try_open(self) -> Result<Client, ServiceError> {
        let usage = Arc::new(Usage::default());
        let context = ServiceContext {
            root: self.root,
            usage: Arc::clone(&usage),
            max_cost_nano_usd: self.max_cost_nano_usd,
            max_requests: self.max_requests,
            environment: self.environment,
            notices: self.notices,
            stopping: self.stopping,
            clients: Default::default(),
        };
        let provider = OpenAiProvider::open(self.settings, &context, &self.limiters)?;
        Ok(Client { provider: Arc::new(provider), usage })
    }
}

impl Client {
    async fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embedded, ServiceError> {
        self.provider.embed(&StringArray::from_iter_values(texts)).await
    }

    fn estimate(&self, texts: &[&str]) -> Estimate {
        let mut estimate = Estimate::default();
        self.provider.estimate(&StringArray::from(texts.to_vec()), &mut estimate).expect("an estimate");
        estimate
    }

    fn usage(&self) -> UsageSnapshot {
        self.usage.snapshot()
    }
}

/// So many different texts.
fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text number {n}")).collect()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// The vector of a row; `None` where it is null.
fn row(embedded: &Embedded, row: usize) -> Option<Vec<f32>> {
    let vectors = &embedded.vectors;
    vectors.is_valid(row).then(|| {
        let value = vectors.value(row);
        value.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec()
    })
}

/// The error of a row; `None` where all is well.
fn error(embedded: &Embedded, row: usize) -> Option<&str> {
    embedded.errors.is_valid(row).then(|| embedded.errors.value(row))
}

/// Asserts that every row has the vector of its own text.
#[track_caller]
fn assert_all_right(embedded: &Embedded, texts: &[&str]) {
    assert_right_but(embedded, texts, &[]);
}

/// Asserts that every row has the vector of its own text, save for these, which have an error and no vector.
#[track_caller]
fn assert_right_but(embedded: &Embedded, texts: &[&str], failed: &[usize]) {
    assert_eq!((embedded.vectors.len(), embedded.errors.len()), (texts.len(), texts.len()));
    for (n, text) in texts.iter().enumerate() {
        if failed.contains(&n) {
            assert_eq!(row(embedded, n), None, "row {n}");
            assert!(error(embedded, n).is_some(), "row {n} says why it has no vector");
        } else {
            assert_eq!(error(embedded, n), None, "row {n}");
            assert_eq!(row(embedded, n), Some(vector(text, 8)), "row {n} has the vector of its text");
        }
    }
    assert_eq!(embedded.tally.error as usize, failed.len());
}

/// Asserts that everything comes out right after some faults, and how many requests that took.
async fn survives(faults: &[(When, Fault)], requests: u64) {
    let server = ApiServer::start(Behaviour::default()).await;
    for (when, fault) in faults {
        server.fault(when.clone(), fault.clone());
    }
    let client = setup(&server).open();
    let texts = texts(9);
    let embedded = client.embed(&refs(&texts)).await.expect("it recovers");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.requests(), requests, "{:#?}", server.journal());
    assert_eq!(client.usage().requests, requests);
}

fn status(status: u16, body: &str) -> Fault {
    Fault::Status(status, Vec::new(), body.to_owned())
}

fn status_with(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status(status, headers, body.to_owned())
}

/// How long something took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = work.await;
    (output, start.elapsed())
}

/// No error, however it is shown, holds the key.
#[track_caller]
fn assert_no_key(error: &ServiceError) {
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(!shown.contains(CANARY_KEY) && !shown.contains(&CANARY_KEY[..12]), "{shown}");
}
