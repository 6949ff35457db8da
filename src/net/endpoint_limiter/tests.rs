//! A limiter against simulated servers, in simulated time: no sockets, no sleeping, the same result in every run.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt,
};

use super::*;
use crate::net::{EndpointRegistry, Quota, RateLimited, Scope, TokenScale};

const MINUTE: Duration = Duration::from_secs(60);

/// A simulated server's limits.
#[derive(Debug, Clone, Copy)]
struct Server {
    rpm: f64,
    tpm: f64,
    /// The capacity of its buckets, in seconds of the rate; 0 for windows of a minute.
    bucket: f64,
    headers: bool,
    /// From this fraction of the time on, both limits are multiplied by this.
    change: Option<(f64, f64)>,
    /// Shortest and longest response, in milliseconds.
    latency: (u64, u64),
    tokens: u64,
    /// Tokens by the client's count per token by the server's.
    counted: f64,
    minutes: u32,
    /// Each request with a number divisible by this is refused, at any pace.
    refuse_each: Option<u64>,
    /// This share is refused, at random.
    refuse_share: f64,
    /// Whether headers say when the limit is full again.
    reset: bool,
    /// The wait that refusals name.
    retry_after: Option<Duration>,
    /// Refusals name the rest of the window.
    until_window_ends: bool,
    /// How many seconds of a window have passed at the start.
    into_window: f64,
}

const TYPICAL: Server = Server {
    rpm: 600.0,
    tpm: 300_000.0,
    bucket: 60.0,
    headers: true,
    change: None,
    latency: (200, 800),
    tokens: 500,
    counted: 1.0,
    minutes: 10,
    refuse_each: None,
    refuse_share: 0.0,
    reset: true,
    retry_after: None,
    until_window_ends: false,
    into_window: 0.0,
};

/// The result of a simulation.
#[derive(Clone, Copy)]
struct Report {
    /// Granted tokens or requests, whichever limit is tighter, as a fraction of what the limit allows in the time.
    used: f64,
    refused: f64,
    requests: u64,
    /// The same for the second half of the time.
    used_late: f64,
    /// The same, as a fraction of what the limit allows and the bucket contains at the start.
    used_with_initial: f64,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        write!(
            f,
            "used {}, with the initial bucket {}, late {}, refused {} of {}",
            percent(self.used),
            percent(self.used_with_initial),
            percent(self.used_late),
            percent(self.refused),
            self.requests
        )
    }
}

struct Buckets {
    requests: f64,
    tokens: f64,
    at: Instant,
    window: u128,
}

fn simulate(server: Server) -> Report {
    simulate_with(server, EndpointLimits::default())
}

fn simulate_with(server: Server, limits: EndpointLimits) -> Report {
    let limiter = EndpointLimiter::new(limits, Arc::default(), Jitter::seeded(1));
    let random = Jitter::seeded(2);
    let scale = TokenScale::default();
    let counted = (server.tokens as f64 * server.counted) as u64;
    let start = Instant::now();
    let whole = MINUTE * server.minutes;
    let mut now = start;
    let mut buckets = Buckets { requests: f64::INFINITY, tokens: f64::INFINITY, at: start, window: 0 };
    let mut responses: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut in_flight: HashMap<u64, (Permit, Outcome, Hints)> = HashMap::new();
    let (mut number, mut granted, mut granted_late, mut refused) = (0u64, 0u64, 0u64, 0u64);
    let limits_at = |now: Instant| {
        let share = (now - start).as_secs_f64() / whole.as_secs_f64();
        let factor = server.change.filter(|(from, _)| share >= *from).map_or(1.0, |(_, factor)| factor);
        (server.rpm * factor, server.tpm * factor)
    };
    while now < start + whole {
        let decision = limiter.lock().decide(RequestKind::Work, scale.of_counted(counted), now);
        let wait = match decision {
            Decision::Send(requests, tokens) => {
                number += 1;
                let (rpm, tpm) = limits_at(now);
                let passed = (now - buckets.at).as_secs_f64();
                buckets.at = now;
                if server.bucket > 0.0 {
                    buckets.requests =
                        (buckets.requests + rpm / 60.0 * passed).min((rpm / 60.0 * server.bucket).max(1.0));
                    buckets.tokens = (buckets.tokens + tpm / 60.0 * passed)
                        .min((tpm / 60.0 * server.bucket).max(server.tokens as f64));
                } else {
                    let window = ((now - start).as_millis() + (server.into_window * 1000.0) as u128) / 60_000;
                    if window != buckets.window || number == 1 {
                        (buckets.requests, buckets.tokens, buckets.window) = (rpm, tpm, window);
                    }
                }
                let fits = buckets.requests >= 1.0
                    && buckets.tokens >= server.tokens as f64
                    && !server.refuse_each.is_some_and(|each| number.is_multiple_of(each))
                    && (server.refuse_share == 0.0 || random.share() >= server.refuse_share);
                if fits {
                    buckets.requests -= 1.0;
                    buckets.tokens -= server.tokens as f64;
                    granted += 1;
                    granted_late += u64::from(now - start >= whole / 2);
                } else {
                    refused += 1;
                }
                let window = 60.0 - ((now - start).as_secs_f64() + server.into_window) % 60.0;
                let quota = |limit: f64, left: f64| {
                    let full = (limit / 60.0 * server.bucket - left).max(0.0) / (limit / 60.0);
                    let reset = if server.bucket > 0.0 { full } else { window };
                    Quota {
                        limit,
                        remaining: left.clamp(0.0, limit).floor(),
                        reset: server.reset.then(|| Duration::from_secs_f64(reset)),
                    }
                };
                let hints = if server.headers {
                    Hints {
                        requests: Some(quota(rpm, buckets.requests)),
                        tokens: Some(quota(tpm, buckets.tokens)),
                        ..Hints::default()
                    }
                } else {
                    Hints::default()
                };
                let hints = if fits {
                    hints
                } else {
                    let rest = server.until_window_ends.then(|| Duration::from_secs_f64(window));
                    Hints { retry_after: rest.or(server.retry_after), ..hints }
                };
                let outcome = if fits {
                    Outcome::Success { tokens: Some(server.tokens) }
                } else {
                    Outcome::RateLimited(RateLimited::default())
                };
                let (low, high) = server.latency;
                let latency = Duration::from_millis(low) + Duration::from_millis(high - low).mul_f64(random.share());
                responses.push(Reverse((now + latency, number)));
                let permit = Permit {
                    limiter: Arc::clone(&limiter),
                    requests,
                    tokens,
                    sent: now,
                    held: Duration::ZERO,
                    load: None,
                    done: true,
                };
                in_flight.insert(number, (permit, outcome, hints));
                continue;
            }
            Decision::Paused(until) | Decision::Limited(until) => Some(until),
            Decision::Open { until, .. } => until,
            Decision::Full | Decision::Down => None,
        };
        let response = responses.peek().map(|Reverse((at, _))| *at);
        now = match (wait, response) {
            (Some(wait), Some(response)) => wait.min(response),
            (one, other) => one.or(other).expect("a wait or a response is pending"),
        };
        if response == Some(now)
            && let Some(Reverse((_, number))) = responses.pop()
        {
            let (permit, outcome, hints) = in_flight.remove(&number).expect("it was sent");
            if let Outcome::Success { tokens: Some(billed) } = outcome {
                scale.learn(billed * 4, Some(counted), billed);
            }
            limiter.lock().finish(&permit, outcome, &hints, now, limiter.jitter());
        }
    }
    // What both limits allow: the average over the time, the tighter of the two.
    let allowed = |from: f64| {
        let change = server.change.map_or(1.0, |(at, factor)| {
            let at = at.max(from);
            ((at - from) + (1.0 - at) * factor) / (1.0 - from)
        });
        let seconds = whole.as_secs_f64() * (1.0 - from);
        change * seconds * (server.rpm / 60.0).min(server.tpm / 60.0 / server.tokens as f64)
    };
    let initial = server.bucket * (server.rpm / 60.0).min(server.tpm / 60.0 / server.tokens as f64);
    Report {
        used: granted as f64 / allowed(0.0),
        used_with_initial: granted as f64 / (allowed(0.0) + initial),
        used_late: granted_late as f64 / allowed(0.5),
        refused: refused as f64 / number as f64,
        requests: number,
    }
}

#[track_caller]
fn assert_used(server: Server, used: f64, refused: f64) {
    let report = simulate(server);
    assert!(report.used >= used && report.refused < refused, "{report:?} with {server:?}");
}

const HALVED: Option<(f64, f64)> = Some((0.5, 0.5));

#[test]
fn headers_are_followed_from_a_cold_start() {
    for change in [None, HALVED] {
        for (tokens, tpm) in [(500, 300_000.0), (50, 300_000.0), (12_500, 300_000.0), (25_000, 10_000_000.0)] {
            for minutes in [2, 10] {
                assert_used(Server { tokens, tpm, change, minutes, ..TYPICAL }, 0.97, 0.002);
            }
        }
    }
}

/// With thirty requests in flight, comparing each with a ratio that has changed since it was sent would let the ratio
/// diverge, and leave two thirds of the limit unused.
#[test]
fn the_limit_is_used_up_when_the_server_counts_tokens_differently() {
    for counted in [0.6, 0.93, 1.08, 1.7] {
        for (headers, refused) in [(true, 0.002), (false, 0.01)] {
            for latency in [(200, 800), (1500, 2500)] {
                assert_used(Server { counted, headers, latency, ..TYPICAL }, 0.97, refused);
            }
        }
    }
}

#[test]
fn the_initial_content_of_the_bucket_is_used_up_in_five_minutes() {
    for headers in [true, false] {
        let report = simulate(Server { headers, minutes: 5, ..TYPICAL });
        assert!(report.used_with_initial >= 0.97, "{report:?} with headers {headers}");
    }
}

#[test]
fn headers_of_small_buckets_are_followed() {
    for change in [None, HALVED] {
        for bucket in [10.0, 1.0] {
            assert_used(Server { bucket, change, ..TYPICAL }, 0.97, 0.005);
        }
    }
}

#[test]
fn headers_of_windows_are_followed() {
    assert_used(Server { bucket: 0.0, ..TYPICAL }, 0.90, 0.02);
}

/// LiteLLM's: what remains is known, not until when; a refusal names the whole window, so one costs a minute.
#[test]
fn windows_without_a_reset_are_used_up_and_hardly_ever_refused() {
    for (rpm, latency) in [(60.0, (300, 300)), (60.0, (200, 800)), (600.0, (200, 800))] {
        let retry_after = Some(MINUTE);
        let server = Server { bucket: 0.0, reset: false, rpm, tpm: rpm * 1e6, latency, retry_after, ..TYPICAL };
        // A gateway that is busy itself: much is sent before it is known what remains.
        let busy = simulate(Server { latency: (2500, 9000), minutes: 5, ..server });
        assert!(busy.used >= 0.90 && busy.refused < 0.02, "{busy:?} with {rpm}");
        for minutes in [3, 10] {
            assert_used(Server { minutes, ..server }, 0.90, 0.02);
        }
    }
}

#[test]
fn a_rising_limit_is_used_up() {
    assert_used(Server { change: Some((0.5, 2.0)), ..TYPICAL }, 0.97, 0.002);
}

#[test]
fn without_headers_the_limit_is_learned_from_few_refusals() {
    for change in [None, HALVED] {
        assert_used(Server { headers: false, change, ..TYPICAL }, 0.97, 0.01);
        assert_used(Server { headers: false, change, bucket: 10.0, ..TYPICAL }, 0.97, 0.01);
        assert_used(Server { headers: false, change, bucket: 1.0, ..TYPICAL }, 0.97, 0.01);
    }
    let short = simulate(Server { headers: false, minutes: 3, ..TYPICAL });
    assert!(short.used >= 0.97 && short.used_late >= 0.97 && short.refused < 0.01, "{short:?}");
}

#[test]
fn without_headers_windows_cost_few_refusals() {
    for (rpm, refused) in [(600.0, 0.03), (60.0, 0.10), (3000.0, 0.03)] {
        let report = simulate(Server { headers: false, bucket: 0.0, rpm, tpm: rpm * 500.0, ..TYPICAL });
        assert!(report.used >= 0.9 && report.refused < refused, "{report:?} with {rpm}");
    }
}

/// Wherever in a window it begins, and whether or not a refusal says how much of it is left.
#[test]
fn windows_without_headers_are_used_up() {
    for until_window_ends in [true, false] {
        for rpm in [20.0, 60.0, 300.0, 600.0, 1200.0] {
            for into_window in [0.0, 20.0, 40.0, 58.0] {
                let server = Server { rpm, tpm: rpm * 1e6, bucket: 0.0, headers: false, ..TYPICAL };
                assert_used(Server { into_window, until_window_ends, ..server }, 0.90, 0.11);
            }
        }
    }
}

/// Each refusal costs a minute, even at the end of a window.
#[test]
fn windows_whose_refusals_name_the_whole_window_are_used_up() {
    let whole = Server { bucket: 0.0, headers: false, retry_after: Some(MINUTE), ..TYPICAL };
    for rpm in [20.0, 60.0, 300.0] {
        for into_window in [0.0, 20.0, 40.0, 58.0] {
            for minutes in [10, 30] {
                assert_used(Server { rpm, tpm: rpm * 1e6, into_window, minutes, ..whole }, 0.90, 0.06);
            }
        }
    }
    for rpm in [600.0, 1200.0] {
        assert_used(Server { rpm, tpm: rpm * 1e6, minutes: 30, ..whole }, 0.90, 0.01);
    }
}

#[test]
fn a_limit_that_refills_without_saying_when_it_is_full_is_used_up_with_its_first_bucket() {
    for rpm in [60.0, 600.0] {
        let report = simulate(Server { reset: false, rpm, tpm: rpm * 500.0, ..TYPICAL });
        assert!(report.used_with_initial >= 0.97 && report.refused < 0.002, "{report:?} with {rpm}");
    }
}

#[test]
fn refusals_at_random_are_not_caused_by_the_rate_and_do_not_lower_it() {
    let server = Server { headers: false, rpm: 1e9, tpm: 1e12, latency: (100, 100), ..TYPICAL };
    for retry_after in [Some(Duration::from_secs(1)), None] {
        for (refuse_each, refuse_share) in [(Some(2), 0.0), (Some(3), 0.0), (None, 0.3), (None, 0.5), (None, 0.6)] {
            // It does not collapse later, either.
            let minutes = if refuse_share == 0.5 { 3 } else { 1 };
            let report = simulate(Server { retry_after, refuse_each, refuse_share, minutes, ..server });
            let per_second = report.requests as f64 * (1.0 - report.refused) / 60.0 / f64::from(minutes);
            assert!(per_second > 8.0, "{per_second} granted a second; {report:?} of {refuse_each:?}, {refuse_share}");
        }
    }
}

/// Sixty requests and more are granted between two refusals, as they are under a limit.
#[test]
fn rare_refusals_at_random_do_not_lower_the_rate_for_ever() {
    let server = Server { headers: false, rpm: 1e9, tpm: 1e12, refuse_share: 0.017, ..TYPICAL };
    for retry_after in [Some(Duration::from_millis(5)), Some(Duration::from_secs(1)), None] {
        for (latency, minutes, least) in [((20, 30), 1, 60.0), ((100, 100), 2, 20.0)] {
            let report = simulate(Server { retry_after, latency, minutes, ..server });
            let per_second = report.requests as f64 * (1.0 - report.refused) / 60.0 / f64::from(minutes);
            assert!(per_second > least, "{per_second} granted a second; {report:?}, {latency:?}, {retry_after:?}");
        }
    }
}

/// Another client has begun to use most of it.
#[test]
fn a_limit_that_falls_to_a_tenth_is_not_taken_for_refusals_at_random() {
    for retry_after in [Some(Duration::from_secs(1)), None] {
        let server =
            Server { headers: false, bucket: 10.0, change: Some((0.3, 0.1)), minutes: 20, retry_after, ..TYPICAL };
        let report = simulate(server);
        assert!(
            report.used >= 0.9 && report.used_late >= 0.9 && report.refused < 0.05,
            "{report:?} with {retry_after:?}"
        );
    }
}

#[test]
fn refusals_that_keep_coming_while_the_rate_falls_do_not_lower_it_for_ever() {
    // A tenth is refused whatever the pace, each with a wait of a second.
    let server = Server {
        headers: false,
        rpm: 1e9,
        tpm: 1e12,
        refuse_each: Some(10),
        retry_after: Some(Duration::from_secs(1)),
        latency: (100, 100),
        ..TYPICAL
    };
    for minutes in [1, 3] {
        let report = simulate(Server { minutes, ..server });
        let per_second = report.requests as f64 * 0.9 / 60.0 / f64::from(minutes);
        assert!(per_second > 5.0, "{per_second} granted a second; {report:?}");
    }
}

#[test]
fn without_headers_the_limit_is_learned_with_large_requests_and_slow_servers() {
    for server in [
        Server { headers: false, bucket: 10.0, tokens: 12_500, ..TYPICAL },
        Server { headers: false, tokens: 12_500, change: HALVED, ..TYPICAL },
        Server { headers: false, latency: (1500, 2500), ..TYPICAL },
    ] {
        let report = simulate(server);
        assert!(report.used >= 0.9, "{report:?} with {server:?}");
    }
}

#[test]
fn a_configured_ceiling_needs_no_refusal_and_no_header() {
    for bucket in [60.0, 2.0] {
        let limits = EndpointLimits {
            requests_per_minute: Some(600.0),
            tokens_per_minute: Some(300_000.0),
            ..EndpointLimits::default()
        };
        let report = simulate_with(Server { headers: false, bucket, ..TYPICAL }, limits);
        assert!(report.used >= 0.97 && report.refused == 0.0, "{report:?}");
    }
}

#[test]
fn a_server_that_enforces_limits_per_second_refuses_almost_nothing() {
    let limits = EndpointLimits { burst: Duration::from_millis(250), may_exceed: false, ..EndpointLimits::default() };
    let report = simulate_with(Server { bucket: 1.0, ..TYPICAL }, limits);
    assert!(report.used >= 0.97 && report.refused < 0.001, "{report:?}");
}

#[tokio::test]
async fn waiters_are_served_in_fifo_order() {
    let limits = EndpointLimits { concurrency: Some(1), ..EndpointLimits::default() };
    let limiter = EndpointLimiter::new(limits, Arc::default(), Jitter::seeded(1));
    let first = limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE).await.expect("free");
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for n in 0..5 {
        let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let permit = limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE).await.expect("in turn");
            order.lock().expect("no panic").push(n);
            permit.finish(Outcome::Success { tokens: None }, &Hints::default());
        }));
        tokio::task::yield_now().await;
    }
    first.finish(Outcome::Success { tokens: None }, &Hints::default());
    for task in waiting {
        task.await.expect("no panic");
    }
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_cancelled_waiter_blocks_no_other() {
    let limits = EndpointLimits { concurrency: Some(1), ..EndpointLimits::default() };
    let limiter = EndpointLimiter::new(limits, Arc::default(), Jitter::seeded(1));
    let first = limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE).await.expect("free");
    let cancelled = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    cancelled.abort();
    drop(first);
    let next =
        tokio::time::timeout(Duration::from_secs(5), limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE)).await;
    assert!(next.expect("at once").is_ok());
    assert_eq!(limiter.in_flight(), 0, "a dropped permit frees its slot");
}

#[tokio::test]
async fn a_pause_longer_than_the_patience_is_an_error() {
    let limiter = EndpointLimiter::new(EndpointLimits::default(), Arc::default(), Jitter::seeded(1));
    let permit = limiter.acquire(RequestKind::Work, 1, MINUTE, MINUTE).await.expect("free");
    let hints = Hints { retry_after: Some(MINUTE), ..Hints::default() };
    permit.finish(Outcome::RateLimited(RateLimited::default()), &hints);
    let refused = limiter.acquire(RequestKind::Work, 1, Duration::from_secs(10), MINUTE).await;
    assert!(matches!(refused, Err(AcquireError::Paused(wait)) if wait > Duration::from_secs(55)), "{refused:?}");
}

#[test]
fn limiters_are_shared_by_key_and_the_lower_ceiling_applies() {
    let limiters = EndpointRegistry::default();
    let key = |model: &str| EndpointKey { endpoint: "http://a/v1".into(), key: None, model: model.into() };
    let wide = EndpointLimits { concurrency: Some(9), ..EndpointLimits::default() };
    let one = limiters.limiter(key("m"), wide);
    let same = limiters.limiter(key("m"), EndpointLimits { concurrency: Some(3), ..EndpointLimits::default() });
    assert!(Arc::ptr_eq(&one, &same));
    assert_eq!(one.ceiling(), 3);
    assert!(!Arc::ptr_eq(&one, &limiters.limiter(key("other"), wide)));
}

#[test]
fn requests_keep_the_shortest_interval_and_wait_when_a_response_says_that_none_is_left() {
    let limits = EndpointLimits { min_interval: Some(Duration::from_secs(5)), ..EndpointLimits::default() };
    let limiter = EndpointLimiter::new(limits, Arc::default(), Jitter::seeded(1));
    let start = Instant::now();
    let decide = |seconds: u64| limiter.lock().decide(RequestKind::Work, 1, start + Duration::from_secs(seconds));
    assert!(matches!(decide(0), Decision::Send(..)));
    assert!(matches!(decide(1), Decision::Limited(until) if until == start + Duration::from_secs(5)));
    let Decision::Send(requests, tokens) = decide(5) else { panic!("five seconds have passed") };
    let sent = start + Duration::from_secs(5);
    let permit =
        Permit { limiter: Arc::clone(&limiter), requests, tokens, sent, held: Duration::ZERO, load: None, done: true };
    let hints = Hints { used_up: Some(MINUTE), ..Hints::default() };
    limiter.lock().finish(&permit, Outcome::Success { tokens: None }, &hints, sent, &limiter.jitter);
    assert!(matches!(decide(30), Decision::Paused(until) if until == sent + MINUTE));
    assert!(matches!(decide(66), Decision::Send(..)));
}

#[tokio::test]
async fn a_share_of_a_limit_is_a_share_of_what_is_configured_and_of_what_the_server_says() {
    let limits = EndpointLimits { tokens_per_minute: Some(8000.0), ..EndpointLimits::default() };
    let limiter = EndpointLimiter::new(limits.shared(0.25), Arc::default(), Jitter::new());
    let send = async || {
        let patience = Duration::from_secs(3600);
        limiter.acquire(RequestKind::Work, 10, patience, patience).await.expect("sent")
    };
    let quota = |limit, remaining| Some(Quota { limit, remaining, reset: None });
    let hints = Hints { requests: quota(600.0, 599.0), tokens: quota(4000.0, 3990.0), ..Hints::default() };
    send().await.finish(Outcome::Success { tokens: Some(10) }, &hints);
    assert_eq!(limiter.tokens_per_minute(), Some(1000.0));
    let rate = limiter.lock().requests.rate(Instant::now()).expect("known");
    assert!((2.0..=3.0).contains(&rate), "a quarter of ten a second, and no more for a full bucket: {rate}");
    // A refusal that names the server's limit.
    let refused = EndpointLimiter::new(EndpointLimits::default().shared(0.25), Arc::default(), Jitter::new());
    let permit = refused.acquire(RequestKind::Work, 10, MINUTE, MINUTE).await.expect("sent");
    let named = RateLimited { scope: Some(Scope::Requests), wait: Some(Duration::ZERO), limit: Some(600.0) };
    permit.finish(Outcome::RateLimited(named), &Hints::default());
    let rate = refused.lock().requests.rate(Instant::now()).expect("learned");
    assert!(rate <= 2.5, "{rate}");
}
