//! How the time of a response depends on the size of its request: a part that does not, and one in proportion.

/// The aimed-at response time, as a fraction of the time limit.
pub(super) const TARGET: f64 = 0.25;
/// The longest response time that is aimed at where a part of it does not depend on size, as a fraction of the time limit.
pub(super) const LONGEST: f64 = 0.85;
/// The share of what is left of the time limit that larger requests may use at least.
const LEAST_SHARE: f64 = 0.25;
/// Sizes that differ by less show nothing.
const SIGNIFICANT: f64 = 1.4;
/// The least part of a response time that is worth knowing.
const LEAST_FIXED: f64 = 0.25;
/// A response that takes longer than expected by this factor shows that the server has changed.
const UNEXPECTED: f64 = 1.6;

/// A size, and the time of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) amount: f64,
    pub(super) seconds: f64,
}

impl Point {
    /// Whether the sizes differ enough to be compared.
    pub(super) fn differs(self, other: Self) -> bool {
        self.amount > other.amount * SIGNIFICANT || other.amount > self.amount * SIGNIFICANT
    }
}

/// The time of a response, by size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    small: Point,
    fixed: f64,
    per_load: f64,
}

impl Line {
    /// Through two points; `None` if the time is about in proportion to the size.
    pub(super) fn through(one: Point, other: Point) -> Option<Self> {
        let (small, large) = if one.amount < other.amount { (one, other) } else { (other, one) };
        let per_load = ((large.seconds - small.seconds) / (large.amount - small.amount).max(1.0)).max(0.0);
        let fixed = small.seconds.min(large.seconds) - per_load * small.amount;
        (fixed >= large.seconds * LEAST_FIXED).then_some(Self { small, fixed, per_load })
    }

    /// Learns from a larger request.
    pub(super) fn update(&mut self, point: Point) {
        if point.amount > self.small.amount * SIGNIFICANT
            && let Some(line) = Self::through(self.small, point)
        {
            *self = line;
        }
    }

    /// True for a response that took much longer than expected, and longer than is aimed at.
    pub(super) fn contradicts(&self, point: Point, aim: f64) -> bool {
        let expected = self.fixed + self.per_load * point.amount;
        point.seconds > aim && point.seconds > expected * UNEXPECTED
    }

    /// The size whose response takes as long as is aimed at: not much longer than that of a small one.
    pub(super) fn fits(&self, bound: f64) -> f64 {
        let aim = (self.fixed * 2.0).max(bound * TARGET).min(bound * LONGEST);
        let aim = aim.max(self.fixed + (bound - self.fixed).max(0.0) * LEAST_SHARE);
        if self.per_load > 0.0 { (aim - self.fixed) / self.per_load } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(amount: f64, seconds: f64) -> Point {
        Point { amount, seconds }
    }

    #[test]
    fn what_does_not_depend_on_size_is_told_apart_from_what_does() {
        let line = Line::through(point(100.0, 8.1), point(1000.0, 9.0)).expect("most of it is fixed");
        // Eight seconds and one for each thousand: as long again for the size.
        assert!((line.fits(30.0) - 8000.0).abs() < 1.0, "{}", line.fits(30.0));
        assert!(Line::through(point(100.0, 1.0), point(1000.0, 10.0)).is_none(), "in proportion");
        let constant = Line::through(point(100.0, 25.0), point(800.0, 25.0)).expect("all of it is fixed");
        assert_eq!(constant.fits(30.0), f64::INFINITY);
        assert!(constant.contradicts(point(100.0, 45.0), 7.5) && !constant.contradicts(point(800.0, 27.0), 7.5));
    }
}
