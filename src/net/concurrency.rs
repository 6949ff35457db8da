//! How many requests may be in flight at once: additive increase, multiplicative decrease.
//!
//! It learns from attempts, not from sequences of retries, and from the endpoint alone: time spent waiting for a rate limit
//! is not latency. Each latency is divided by the baseline of its size class, so that a series of long texts is not taken
//! for congestion.

use std::time::Duration;

use tokio::time::Instant;

/// What an attempt indicates about the endpoint's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The response was good.
    Success,
    /// Overload: a time-out, a broken connection, 503, a refusal that no known limit explains.
    Congested,
    /// Nothing: a refusal with a known cause, or a cancelled attempt.
    Neutral,
}

/// Factors by which the limit decreases on congestion, and on increased latency.
const DECREASE: f64 = 0.7;
const DECREASE_BY_LATENCY: f64 = 0.9;
/// A window whose latencies exceed their baselines by this factor is a sign of congestion.
const SLOW: f64 = 1.75;
/// Weight of a new latency in the baseline of its size class.
const BASELINE_WEIGHT: f64 = 0.05;
/// Size classes: one per power of two.
const CLASSES: usize = 32;

/// The controller. Sizes may be in any unit that latency grows with.
#[derive(Debug, Clone)]
pub struct ConcurrencyController {
    limit: f64,
    ceiling: f64,
    /// Below it the limit doubles per round trip, above it grows by one.
    threshold: f64,
    in_flight: usize,
    /// When the limit last delayed a request.
    reached: Option<Instant>,
    /// More at once were refused. Raised by one after a while without such a refusal.
    refused: Option<AtOnce>,
    /// When the limit last decreased: outcomes of attempts sent before it do not count again.
    decreased: Option<Instant>,
    baselines: [LatencyBaseline; CLASSES],
    window: Window,
}

/// How many may be in flight at once, as refusals say.
#[derive(Debug, Clone, Copy)]
struct AtOnce {
    limit: usize,
    /// True if the server named the limit: then no more is tried.
    named: bool,
    /// True after one more was tried.
    tried: bool,
    /// When one more is tried.
    until: Instant,
    /// The wait before one more is tried; it doubles with each refusal of one more.
    wait: Duration,
}

/// The first and the longest wait before one more than the server accepted is tried.
const FIRST_TRIAL: Duration = Duration::from_secs(30);
const LAST_TRIAL: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone, Copy, Default)]
struct LatencyBaseline {
    seconds: f64,
    samples: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    ratios: f64,
    samples: u32,
}

impl ConcurrencyController {
    /// Starts at `initial`, stays between one and `ceiling`.
    pub fn new(initial: usize, ceiling: usize) -> Self {
        let ceiling = ceiling.max(1) as f64;
        Self {
            limit: (initial.max(1) as f64).min(ceiling),
            ceiling,
            threshold: ceiling,
            in_flight: 0,
            reached: None,
            refused: None,
            decreased: None,
            baselines: [LatencyBaseline::default(); CLASSES],
            window: Window::default(),
        }
    }

    /// Whether one more may start, if no more than `cap` are wanted for other reasons.
    pub fn may_start(&mut self, cap: usize, now: Instant) -> bool {
        if let Some(at_once) = &mut self.refused {
            if !at_once.named && now >= at_once.until {
                at_once.limit += 1;
                at_once.tried = true;
                at_once.until = now + at_once.wait;
            }
            if self.in_flight >= at_once.limit {
                return false;
            }
        }
        if self.in_flight >= self.allowed() {
            self.reached = Some(now);
            return false;
        }
        self.in_flight < cap.max(1)
    }

    /// One more is in flight.
    pub fn start(&mut self) {
        self.in_flight += 1;
    }

    /// How many may be in flight now.
    pub fn allowed(&self) -> usize {
        (self.limit as usize).max(1)
    }

    /// The upper bound of the limit.
    pub fn ceiling(&self) -> usize {
        self.ceiling as usize
    }

    /// One was refused because too many were in flight, more than `limit` if the server says. The refused one is still counted
    /// as in flight.
    pub fn refused_at_once(&mut self, limit: Option<f64>, now: Instant) {
        let others = self.in_flight.saturating_sub(1).max(1);
        let named = limit.filter(|limit| (1.0..1e6).contains(limit)).map(|limit| limit as usize);
        // With fewer in flight than the limit, other clients use the rest of it.
        let (accepted, named) = match named {
            Some(named) if named <= others => (named, true),
            _ => (others, false),
        };
        let before = self.refused;
        let wait = match before {
            Some(at_once) if at_once.tried => (at_once.wait * 2).min(LAST_TRIAL),
            Some(at_once) => at_once.wait,
            None => FIRST_TRIAL,
        };
        let limit = before.map_or(accepted, |at_once| at_once.limit.min(accepted));
        self.refused = Some(AtOnce { limit, named, tried: false, until: now + wait, wait });
    }

    /// Refusals that lowered the limit had another reason: it is at least `least` again.
    pub fn restore(&mut self, least: usize) {
        self.limit = self.limit.max(least as f64).min(self.ceiling);
        self.threshold = self.ceiling;
    }

    /// How many may be in flight according to refusals, if there were any.
    pub fn learned_ceiling(&self) -> Option<usize> {
        self.refused.map(|at_once| at_once.limit)
    }

    /// One that was counted was not sent.
    pub fn release(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Lowers the ceiling, never raises it.
    pub fn tighten(&mut self, ceiling: usize) {
        self.ceiling = self.ceiling.min(ceiling.max(1) as f64);
        self.limit = self.limit.min(self.ceiling);
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// One has ended.
    pub fn finish(&mut self, sent: Instant, now: Instant, size: u64, effect: Effect) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match effect {
            Effect::Neutral => {}
            Effect::Congested => self.decrease(sent, now, DECREASE),
            Effect::Success => {
                let slow = self.learn(now.duration_since(sent), size);
                if slow {
                    self.decrease(sent, now, DECREASE_BY_LATENCY);
                } else if self.reached.is_some_and(|reached| reached >= sent) {
                    let step = if self.limit < self.threshold { 1.0 } else { 1.0 / self.limit };
                    self.limit = (self.limit + step).min(self.ceiling);
                }
            }
        }
    }

    /// Decreases the limit at most once per round trip.
    fn decrease(&mut self, sent: Instant, now: Instant, factor: f64) {
        if self.decreased.is_some_and(|at| sent < at) {
            return;
        }
        // Time-outs of a few slow requests must not decrease a limit that was never reached.
        let used = self.limit.min((self.in_flight + 1) as f64 * 2.0);
        self.threshold = if factor == DECREASE_BY_LATENCY { self.limit } else { used * factor };
        self.limit = (used * factor).max(1.0);
        self.decreased = Some(now);
        self.reached = None;
        self.window = Window::default();
    }

    /// Records a latency; true when it completes a window of slow ones.
    fn learn(&mut self, latency: Duration, size: u64) -> bool {
        let class = (size.max(1).ilog2() as usize).min(CLASSES - 1);
        let baseline = &mut self.baselines[class];
        let seconds = latency.as_secs_f64().max(1e-6);
        baseline.samples += 1;
        // The first few latencies have equal weight; then old ones decay.
        let weight = (1.0 / f64::from(baseline.samples)).max(BASELINE_WEIGHT);
        let ratio = if baseline.samples > 4 { seconds / baseline.seconds } else { 1.0 };
        baseline.seconds += (seconds - baseline.seconds) * weight;
        self.window.ratios += ratio;
        self.window.samples += 1;
        // A window is about one round trip of all requests in flight, and enough samples to average out noise.
        if f64::from(self.window.samples) < self.limit.max(8.0) {
            return false;
        }
        let mean = self.window.ratios / f64::from(self.window.samples);
        self.window = Window::default();
        mean > SLOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `rounds` full round trips at the present limit; `response` gives latency and effect for a size and a number
    /// of requests in flight.
    fn drive(
        controller: &mut ConcurrencyController,
        now: &mut Instant,
        rounds: usize,
        response: impl Fn(u64, usize) -> (Duration, Effect),
    ) {
        for round in 0..rounds {
            let sent = *now;
            let mut started = Vec::new();
            while controller.may_start(usize::MAX, sent) {
                controller.start();
                started.push(if (round + started.len()) % 2 == 0 { 100 } else { 50_000 });
            }
            let mut responses: Vec<_> = started.iter().map(|size| (response(*size, started.len()), *size)).collect();
            responses.sort_by_key(|((latency, _), _)| *latency);
            for ((latency, effect), size) in responses {
                *now = sent + latency;
                controller.finish(sent, *now, size, effect);
            }
        }
    }

    fn by_size(size: u64) -> Duration {
        Duration::from_millis(if size > 1000 { 4000 } else { 200 })
    }

    #[test]
    fn grows_to_the_ceiling_while_all_succeed() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(4, 60);
        drive(&mut controller, &mut now, 12, |size, _| (by_size(size), Effect::Success));
        assert_eq!(controller.allowed(), 60);
        assert_eq!(controller.in_flight(), 0);
    }

    #[test]
    fn does_not_grow_while_the_limit_is_not_reached() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(8, 60);
        for _ in 0..200 {
            assert!(controller.may_start(usize::MAX, now));
            controller.start();
            let sent = now;
            now += Duration::from_millis(100);
            controller.finish(sent, now, 10, Effect::Success);
        }
        assert_eq!(controller.allowed(), 8);
    }

    #[test]
    fn long_texts_are_not_taken_for_congestion() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(8, 32);
        // Both sizes first, then long ones alone: each takes twenty times as long as the short ones did.
        drive(&mut controller, &mut now, 10, |size, _| (by_size(size), Effect::Success));
        let before = controller.allowed();
        for _ in 0..100 {
            let sent = now;
            controller.start();
            now += by_size(50_000);
            controller.finish(sent, now, 50_000, Effect::Success);
        }
        assert_eq!(controller.allowed(), before);
    }

    #[test]
    fn one_congested_round_trip_is_one_decrease() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(40, 40);
        drive(&mut controller, &mut now, 1, |_, _| (Duration::from_millis(100), Effect::Congested));
        assert_eq!(controller.allowed(), 28);
        drive(&mut controller, &mut now, 1, |_, _| (Duration::from_millis(100), Effect::Congested));
        assert_eq!(controller.allowed(), 19);
    }

    #[test]
    fn never_below_one() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(3, 40);
        drive(&mut controller, &mut now, 30, |_, _| (Duration::from_millis(100), Effect::Congested));
        assert_eq!(controller.allowed(), 1);
    }

    #[test]
    fn tenfold_latency_decreases_the_limit_and_it_recovers() {
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(8, 40);
        drive(&mut controller, &mut now, 10, |size, _| (by_size(size), Effect::Success));
        let before = controller.allowed();
        let mut lowest = before;
        for _ in 0..4 {
            drive(&mut controller, &mut now, 1, |size, _| (by_size(size) * 10, Effect::Success));
            lowest = lowest.min(controller.allowed());
        }
        assert!(lowest < before, "{lowest} of {before}");
        drive(&mut controller, &mut now, 40, |size, _| (by_size(size), Effect::Success));
        assert!(controller.allowed() >= before, "{} of {before}", controller.allowed());
    }

    #[test]
    fn settles_near_the_capacity_of_a_server_with_few_slots() {
        // A server that works on 10 at once, and responds with 503 to more than 20.
        let mut now = Instant::now();
        let mut controller = ConcurrencyController::new(8, 200);
        let server = |_: u64, in_flight: usize| {
            if in_flight > 20 {
                (Duration::from_millis(20), Effect::Congested)
            } else {
                (Duration::from_millis(100) * in_flight.div_ceil(10) as u32, Effect::Success)
            }
        };
        drive(&mut controller, &mut now, 200, server);
        assert!((6..=22).contains(&controller.allowed()), "{}", controller.allowed());
    }
}
