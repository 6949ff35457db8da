//! The first requests to a server of which nothing is known: small ones, each twice as large as the one before, so that their
//! times show how much of them is due to size.

use std::time::Duration;

use tokio::time::Instant;

use super::line::{Line, Point, TARGET};

/// The load of a short text, and how much of it a server is assumed to compute in a second. Ten short texts a second are what
/// small models need on old machines.
const SHORT_TEXT: f64 = 100.0;
const ASSUMED_PER_SECOND: f64 = 10.0 * SHORT_TEXT;
/// The share of the time limit that all of them together may take by that assumption: some servers compute one after another.
const SHARE: f64 = 0.8;
/// How many there are.
pub(super) const SIZES: usize = 4;
/// Times of sizes that differ this much show whether size matters.
const SIGNIFICANT: f64 = 3.0;
/// The response times of a server to which size does not matter differ at most by this factor. Where requests wait for each
/// other, the last one takes almost twice as long as the first one.
const ALIKE: f64 = 1.3;
/// After the first response, the others are waited for so much longer before more is sent.
const HOLD: f64 = 0.1;

/// The first requests.
#[derive(Debug, Clone)]
pub(super) struct FirstRound {
    /// The load of the smallest one.
    smallest: f64,
    sent: usize,
    ended: usize,
    points: Vec<Point>,
    held_until: Option<Instant>,
}

impl FirstRound {
    /// Nothing is sent yet.
    pub(super) fn new(timeout: Duration) -> Self {
        let all = timeout.as_secs_f64() * ASSUMED_PER_SECOND * SHARE;
        let smallest = all / f64::from(1 << SIZES);
        Self { smallest, sent: 0, ended: 0, points: Vec::new(), held_until: None }
    }

    /// The load of the largest one.
    pub(super) fn largest(&self) -> f64 {
        self.smallest * f64::from(1 << (SIZES - 1))
    }

    /// The load of each if all were equal.
    pub(super) fn equal(&self) -> f64 {
        self.smallest * f64::from(1 << SIZES) / SIZES as f64
    }

    /// The load of the next one. After the first response it is one that comes in time behind all others.
    pub(super) fn next(&self, timeout: Duration) -> f64 {
        if self.points.is_empty() {
            return self.smallest * f64::from(1 << self.sent.min(SIZES - 1));
        }
        self.fits(timeout.as_secs_f64()).max(self.smallest)
    }

    /// The load whose response comes in the aimed-at time, if size alone counts and all requests are computed one after another.
    pub(super) fn fits(&self, bound: f64) -> f64 {
        let ahead = |at: usize| (SIZES - at.min(SIZES - 1)) as f64;
        let fits = |(at, point): (usize, &Point)| point.amount * bound * TARGET / point.seconds / ahead(at);
        self.points.iter().enumerate().map(fits).fold(f64::INFINITY, f64::min)
    }

    /// One was sent.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// See [`HOLD`].
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// One ended without a response that tells anything; true if it was the last one.
    pub(super) fn ended(&mut self) -> bool {
        self.ended += 1;
        self.ended >= self.sent.min(SIZES)
    }

    /// One had a good response: what all of them show, if they show that size does not matter, and whether it was the last one.
    pub(super) fn responded(&mut self, point: Point, now: Instant) -> (Option<Line>, bool) {
        let over = self.ended();
        self.points.push(point);
        // Later ones are no part of it.
        self.points.truncate(SIZES);
        self.held_until.get_or_insert_with(|| now + Duration::from_secs_f64(point.seconds * HOLD));
        let line = (over || self.points.len() + 1 >= SIZES).then(|| self.line()).flatten();
        (line, over || line.is_some())
    }

    fn line(&self) -> Option<Line> {
        let by = |one: &&Point, other: &&Point| one.amount.total_cmp(&other.amount);
        let (small, large) = (self.points.iter().min_by(by)?, self.points.iter().max_by(by)?);
        let seconds = || self.points.iter().map(|point| point.seconds);
        let (first, last) = (seconds().fold(f64::INFINITY, f64::min), seconds().fold(0.0, f64::max));
        let alike = last <= first * ALIKE && large.amount >= small.amount * SIGNIFICANT;
        alike.then(|| Line::through(*small, *large)).flatten()
    }
}
