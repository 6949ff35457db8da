//! A limiter against simulated slow servers, in simulated time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// Bytes of each text.
const BYTES: usize = 36;

/// A server that computes texts one after another on each of its workers, and goes on when the client has left.
#[derive(Debug, Clone)]
struct Server {
    per_text: Duration,
    latency: Duration,
    /// A gateway in front of it responds with 504 after this time.
    cut: Option<Duration>,
    workers: Vec<Instant>,
    computed: usize,
    requests: usize,
    time_outs: usize,
    largest: usize,
}

impl Server {
    fn new(workers: usize, per_text: Duration) -> Self {
        Self {
            per_text,
            latency: MS * 5,
            cut: None,
            workers: vec![Instant::now(); workers],
            computed: 0,
            requests: 0,
            time_outs: 0,
            largest: 0,
        }
    }

    /// The outcome of a request, and when the client knows it.
    fn respond(&mut self, texts: usize, timeout: Duration, now: Instant) -> (Instant, Outcome) {
        self.requests += 1;
        self.computed += texts;
        self.largest = self.largest.max(texts);
        let worker = self.workers.iter_mut().min().expect("a worker");
        *worker = (*worker).max(now) + self.per_text * texts as u32;
        let takes = *worker - now + self.latency;
        let (wait, outcome) = match self.cut {
            Some(cut) if takes > cut && cut < timeout => (cut, Outcome::TimedOut { own: false }),
            _ if takes > timeout => (timeout, Outcome::TimedOut { own: true }),
            _ => (takes, Outcome::Success { tokens: None }),
        };
        self.time_outs += usize::from(matches!(outcome, Outcome::TimedOut { .. }));
        (now + wait, outcome)
    }
}

/// The client's side: sends as the provider does, until every text has a vector.
struct Client {
    limiter: Arc<EndpointLimiter>,
    server: Server,
    timeout: Duration,
    careful: bool,
    now: Instant,
}

impl Client {
    fn new(server: Server, timeout: Duration) -> Self {
        Self {
            limiter: EndpointLimiter::new(EndpointLimits::default(), Arc::default(), Jitter::seeded(1)),
            server,
            timeout,
            careful: true,
            now: Instant::now(),
        }
    }

    /// How many of these texts are sent in one request.
    fn fitting(&self, texts: usize) -> usize {
        let amount = Load::amount(texts, texts * BYTES);
        let largest = self.limiter.largest_load(amount, self.timeout, self.careful);
        let fits = usize::try_from(largest / Load::amount(1, BYTES)).unwrap_or(usize::MAX).clamp(1, texts);
        texts.div_ceil(texts.div_ceil(fits))
    }

    /// Embeds partitions of these sizes at once; how many seconds it takes.
    fn embed(&mut self, partitions: &[usize]) -> f64 {
        let begin = self.now;
        let mut queue: VecDeque<usize> = partitions.iter().copied().collect();
        let mut events = BinaryHeap::new();
        let mut in_flight: BTreeMap<usize, (Permit, Outcome, usize)> = BTreeMap::new();
        // Texts without a response in time wait until a harmless text has one.
        let (mut lost, mut probing): (Vec<usize>, bool) = (Vec::new(), false);
        let mut number = 0;
        while !(queue.is_empty() && in_flight.is_empty() && lost.is_empty()) {
            let probe = !lost.is_empty() || self.limiter.is_down();
            let wanted = !queue.is_empty() || probe;
            let kind = if probe && !probing { RequestKind::Probe } else { RequestKind::Work };
            let may = wanted && (kind == RequestKind::Probe || (!queue.is_empty() && !self.limiter.is_down()));
            let decision = if may { self.limiter.lock().decide(kind, 1, self.now) } else { Decision::Full };
            let wait = match decision {
                Decision::Send(requests, tokens) => {
                    let texts = if kind == RequestKind::Probe {
                        probing = true;
                        0
                    } else {
                        let rest = queue.pop_front().expect("it is not empty");
                        let texts = self.fitting(rest);
                        if rest > texts {
                            queue.push_back(rest - texts);
                        }
                        texts
                    };
                    let (at, outcome) = self.server.respond(texts.max(1), self.timeout, self.now);
                    let load = (texts > 0).then(|| Load::new(texts, texts * BYTES, self.timeout));
                    if texts > 0 {
                        self.limiter.lock().size.sent();
                    }
                    number += 1;
                    events.push(Reverse((at, number)));
                    let permit = Permit {
                        limiter: Arc::clone(&self.limiter),
                        requests,
                        tokens,
                        sent: self.now,
                        held: Duration::ZERO,
                        load,
                        done: true,
                    };
                    in_flight.insert(number, (permit, outcome, texts));
                    continue;
                }
                Decision::Paused(until) | Decision::Limited(until) => Some(until),
                Decision::Open { until, .. } => until,
                Decision::Full | Decision::Down => None,
            };
            let response = events.peek().map(|Reverse((at, _))| *at);
            self.now = match (wait, response) {
                (Some(wait), Some(response)) => wait.min(response),
                (one, other) => one.or(other).expect("a wait or a response is pending"),
            };
            if response == Some(self.now)
                && let Some(Reverse((_, number))) = events.pop()
            {
                let (permit, outcome, texts) = in_flight.remove(&number).expect("it was sent");
                self.limiter.lock().finish(&permit, outcome, &Hints::default(), self.now, self.limiter.jitter());
                let good = matches!(outcome, Outcome::Success { .. });
                if texts == 0 {
                    probing = false;
                }
                if good {
                    queue.extend(lost.drain(..));
                } else if texts > 0 {
                    lost.push(texts);
                }
            }
        }
        (self.now - begin).as_secs_f64()
    }

    #[track_caller]
    fn assert(&self, took: f64, at_most: f64, computed: usize) {
        let all = self.server.computed;
        assert!(
            took <= at_most && all <= computed,
            "{took:.1} s of {at_most} s, {all} texts of {computed}; {:?}",
            self.server
        );
    }
}

/// The shipped table.
const SHIPPED: &[usize] = &[500, 500, 500, 266];

#[test]
fn one_slow_worker_finishes_and_computes_each_text_once() {
    for (ms, timeout) in [(15, 60), (30, 60), (45, 60), (90, 60), (15, 10), (30, 10), (90, 10), (90, 300)] {
        let mut client = Client::new(Server::new(1, MS * ms), SECOND * timeout);
        let took = client.embed(SHIPPED);
        client.assert(took, 1766.0 * f64::from(ms) / 1000.0 * 1.1 + 1.0, 1766 * 11 / 10);
        assert_eq!(client.server.time_outs, 0, "{ms} ms, {timeout} s: {:?}", client.server);
    }
}

#[test]
fn sixteen_workers_are_used_without_a_time_out_although_the_time_limit_is_short() {
    let mut client = Client::new(Server::new(16, MS * 30), SECOND * 10);
    let took = client.embed(SHIPPED);
    client.assert(took, 25.0, 2500);
    assert_eq!(client.server.time_outs, 0, "{:?}", client.server);
    // With more to do, most of the workers are found.
    let took = client.embed(&[500; 40]);
    client.assert(took, 20_000.0 * 0.03 / 16.0 * 2.0, 22_500);
}

#[test]
fn a_gateway_that_gives_up_after_ten_seconds_limits_the_size_of_requests() {
    let server = Server { cut: Some(SECOND * 10), ..Server::new(64, MS * 30) };
    let mut client = Client::new(server, SECOND * 60);
    let took = client.embed(SHIPPED);
    client.assert(took, 45.0, 1766 + 4 * 500);
    let before = client.server.time_outs;
    client.embed(&[500; 20]);
    assert_eq!(client.server.time_outs, before, "it is remembered: {:?}", client.server);
}

#[test]
fn a_server_that_takes_25_seconds_for_anything_is_waited_for() {
    let server = Server { latency: SECOND * 25, ..Server::new(64, Duration::ZERO) };
    let mut client = Client::new(server, SECOND * 300);
    let took = client.embed(SHIPPED);
    client.assert(took, 26.0, 1766);
    assert_eq!(client.server.requests, 4);
}

#[test]
fn a_long_time_for_anything_does_not_shrink_requests_to_nothing() {
    for (seconds, timeout) in [(25, 30), (20, 60), (35, 60), (50, 60)] {
        let server = Server { latency: SECOND * seconds, ..Server::new(256, Duration::ZERO) };
        let mut client = Client::new(server, SECOND * timeout);
        let took = client.embed(SHIPPED);
        let requests = client.server.requests;
        assert!(took <= 6.5 * f64::from(seconds) && requests < 40, "{seconds} s: {requests} requests, {took} s");
    }
}

/// With the shipped settings: all of it after two or three responses of each partition, although each takes most of the time
/// limit.
#[test]
fn a_constant_latency_near_the_time_limit_does_not_shrink_requests() {
    for seconds in [3, 8, 12, 15, 20, 25] {
        for per_text in [0, 5] {
            let server = Server { latency: SECOND * seconds, ..Server::new(256, MS * per_text) };
            let mut client = Client::new(server, SECOND * 30);
            let took = client.embed(SHIPPED);
            let requests = client.server.requests;
            assert!(
                took <= 3.6 * f64::from(seconds) + 3.0 && requests <= 20,
                "{seconds} s, {per_text} ms: {requests} requests, {took} s"
            );
            // Later partitions begin with what was learned.
            let took = client.embed(&[500; 4]);
            assert!(took <= 2.2 * f64::from(seconds) + 5.0, "{seconds} s, {per_text} ms: {took} s");
        }
    }
}

/// The number of requests at once that is reported was not worse than half as many.
#[test]
fn one_worker_is_reported_as_one_or_two_at_a_time_and_with_sizes_that_it_passed() {
    for ms in [30, 90] {
        let mut client = Client::new(Server::new(1, MS * ms), SECOND * 30);
        client.embed(&[500; 40]);
        let (texts, at_once) = client.limiter.shape();
        assert!(at_once.is_some_and(|at_once| at_once <= 2), "{ms} ms: {texts:?} {at_once:?}");
        let least = 30.0 * 0.2 / 2.0 / f64::from(ms) * 1000.0;
        assert!(texts.is_some_and(|texts| texts as f64 >= least), "{ms} ms: {texts:?} of {least}");
    }
}

#[test]
fn a_fast_server_gets_full_requests_after_one_round() {
    for timeout in [10, 60] {
        let server = Server { latency: MS * 200, ..Server::new(64, Duration::from_micros(500)) };
        let mut client = Client::new(server, SECOND * timeout);
        client.embed(&[500; 100]);
        let requests = client.server.requests;
        assert!(requests <= 130, "{requests} requests for 100 partitions with {timeout} s");
        assert_eq!(client.limiter.shape(), (None, None));
    }
}

/// Sizes that one request at a time passes and many at once do not: the first time-out leads to one at a time.
#[test]
fn after_a_time_out_requests_go_one_at_a_time_before_they_are_halved() {
    let mut client = Client::new(Server::new(1, MS * 14), SECOND * 10);
    client.careful = false;
    client.embed(SHIPPED);
    assert_eq!(client.server.largest, 500);
    let all = client.server.computed;
    assert!(all <= 1766 + 4 * 500, "{all} texts; {:?}", client.server);
}

#[test]
fn a_server_that_becomes_slow_gets_smaller_requests_and_larger_ones_when_it_recovers() {
    let mut client = Client::new(Server::new(1, MS), SECOND * 10);
    client.embed(&[500; 8]);
    assert_eq!(client.limiter.shape().0, None);
    client.server.per_text = MS * 90;
    client.embed(SHIPPED);
    let (size, at_once) = client.limiter.shape();
    assert!(size.is_some_and(|size| size <= 60) && at_once.is_some(), "{size:?}, {at_once:?}");
    client.server.per_text = MS;
    client.embed(&[500; 100]);
    let (size, _) = client.limiter.shape();
    assert!(size.is_none_or(|size| size > 200), "{size:?} of 500");
}
