//! Delivering documents to another system, beside a run: in their order, on a thread of their own. A run never waits for them
//! while it works, and only for a bounded time when it ends.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use url::Url;

use crate::{model::Secret, net::without_secrets};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a document is sent at most while the receiver works.
const ATTEMPTS: u32 = 3;
/// The first pause before a further attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// After failures in a row, documents are dropped for this time before the next attempt.
const BROKEN: Duration = Duration::from_secs(10);
/// The failures after which that is so.
const FAILURES: u32 = 3;

/// Where documents go.
#[derive(Debug, Clone)]
pub enum Target {
    /// They are posted, each as a request.
    Http {
        /// The address.
        url: Url,
        /// Headers of each request, such as a key.
        headers: Vec<(String, Secret)>,
    },
    /// They are appended to a file, each as a line.
    File(PathBuf),
}

/// Prints one warning, the first.
pub struct WarnOnce {
    warned: AtomicBool,
    print: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for WarnOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WarnOnce").field("warned", &self.warned).finish_non_exhaustive()
    }
}

impl WarnOnce {
    /// Warnings go to `print`.
    pub fn new(print: impl Fn(&str) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { warned: AtomicBool::new(false), print: Box::new(print) })
    }

    pub(super) fn warn(&self, text: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.print)(text);
        }
    }
}

/// A queue of documents and the thread that delivers them.
#[derive(Debug)]
pub(super) struct Delivery {
    /// What the documents are, for warnings.
    what: &'static str,
    sender: Option<Sender<String>>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    ended: Receiver<()>,
    warn: Arc<WarnOnce>,
}

impl Delivery {
    /// Starts the thread. At most `most` documents wait.
    pub(super) fn start(what: &'static str, target: Target, most: usize, warn: &Arc<WarnOnce>) -> Self {
        let (sender, receiver) = channel::<String>();
        let (ending, ended) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (counter, warning) = (Arc::clone(&waiting), Arc::clone(warn));
        let started = thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(deliver(what, &target, &receiver, &counter, &warning)),
                Err(error) => warning.warn(&format!("cannot send {what}: {error}")),
            }
            // Nobody waits for it any more.
            let _ = ending.send(());
        });
        if let Err(error) = started {
            warn.warn(&format!("cannot send {what}: {error}"));
        }
        Self { what, sender: Some(sender), waiting, most, ended, warn: Arc::clone(warn) }
    }

    /// Queues a document. It is dropped, with a warning, if too many wait.
    pub(super) fn send(&self, document: String) {
        let Some(sender) = &self.sender else { return };
        if self.waiting.load(Ordering::Relaxed) >= self.most {
            self.warn
                .warn(&format!("some {} were not sent, as their receiver is too slow; the run goes on", self.what));
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread is gone only if it could not be started, which was said.
        let _ = sender.send(document);
    }

    /// Waits until everything is delivered or given up, at most for `patience`.
    pub(super) fn finish(&mut self, patience: Duration) {
        if self.sender.take().is_some() && self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let seconds = patience.as_secs();
            self.warn.warn(&format!("some {} were not taken within {seconds} s after the run", self.what));
        }
    }
}

async fn deliver(what: &str, target: &Target, documents: &Receiver<String>, waiting: &AtomicUsize, warn: &WarnOnce) {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .user_agent(concat!("flow/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let mut failures = 0;
    let mut last_failure: Option<Instant> = None;
    // The thread does nothing else: it may block.
    while let Ok(document) = documents.recv() {
        waiting.fetch_sub(1, Ordering::Relaxed);
        if failures >= FAILURES && last_failure.is_some_and(|last| last.elapsed() < BROKEN) {
            continue;
        }
        let attempts = if failures == 0 { ATTEMPTS } else { 1 };
        let result = match (target, &client) {
            (Target::File(path), _) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let written = file.and_then(|mut file| file.write_all(format!("{document}\n").as_bytes()));
                written.map_err(|error| format!("cannot write {what} to {}: {error}", path.display()))
            }
            (Target::Http { url, headers }, Ok(client)) => post(client, url, headers, document, attempts)
                .await
                .map_err(|error| format!("cannot send {what} to {}: {error}", without_secrets(url))),
            (Target::Http { url, .. }, Err(error)) => {
                Err(format!("cannot send {what} to {}: {error}", without_secrets(url)))
            }
        };
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                last_failure = Some(Instant::now());
                warn.warn(&format!("{error}; the run is not affected"));
            }
        }
    }
}

async fn post(
    client: &reqwest::Client,
    url: &Url,
    headers: &[(String, Secret)],
    document: String,
    attempts: u32,
) -> Result<(), String> {
    let mut attempt = 1;
    loop {
        let mut request = client.post(url.clone()).header("Content-Type", "application/json").body(document.clone());
        for (name, value) in headers {
            request = request.header(name, value.expose());
        }
        let (why, transient) = match request.send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                let status = response.status();
                (
                    format!("it responded with {status}"),
                    status.is_server_error() || matches!(status.as_u16(), 408 | 429),
                )
            }
            // Its own text has the address, which may hold a key.
            Err(error) => (root_cause(&error.without_url()), true),
        };
        if !transient || attempt >= attempts {
            return Err(why);
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        attempt += 1;
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn warnings() -> (Arc<WarnOnce>, Arc<Mutex<Vec<String>>>) {
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&all);
        (WarnOnce::new(move |text| into.lock().expect("no panic").push(text.to_owned())), all)
    }

    #[test]
    fn documents_are_lines_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let (warn, said) = warnings();
        let mut delivery = Delivery::start("events", Target::File(path.clone()), 10, &warn);
        delivery.send("{\"a\":1}".to_owned());
        delivery.send("{\"b\":2}".to_owned());
        delivery.finish(Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(path).expect("written"), "{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(*said.lock().expect("no panic"), [""; 0]);
    }

    #[test]
    fn a_receiver_that_is_not_there_is_one_warning() {
        let (warn, said) = warnings();
        let missing = Target::File("/nowhere/at/all/events".into());
        let url = Url::parse("http://user:hidden@127.0.0.1:1/v1?key=hidden").expect("an address");
        for target in [missing, Target::Http { url, headers: Vec::new() }] {
            let mut delivery = Delivery::start("events", target, 10, &warn);
            (0..5).for_each(|i| delivery.send(i.to_string()));
            delivery.finish(Duration::from_secs(30));
        }
        let said = said.lock().expect("no panic");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("/nowhere/at/all/events") && !said[0].contains("hidden"), "{said:?}");
    }
}
