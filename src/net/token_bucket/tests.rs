//! A rate limit by itself, in simulated time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Sends `amount` repeatedly for `seconds`; returns the time of each.
fn drive(bucket: &mut TokenBucket, now: &mut Instant, seconds: u64, amount: f64) -> Vec<f64> {
    let start = *now;
    let end = start + SECOND * u32::try_from(seconds).expect("a short test");
    let mut sent = Vec::new();
    loop {
        let ready = bucket.ready_at(amount, *now);
        if ready > end {
            return sent;
        }
        if ready > *now {
            *now = ready;
            continue;
        }
        bucket.take(amount, sent.len() as u64, *now);
        sent.push((*now - start).as_secs_f64());
    }
}

#[test]
fn a_ceiling_is_obeyed_and_used_up() {
    let mut now = Instant::now();
    let mut bucket = TokenBucket::new(Some(600.0), SECOND, true, now);
    let sent = drive(&mut bucket, &mut now, 60, 1.0);
    assert!((590..=604).contains(&sent.len()), "{}", sent.len());
    for window in sent.windows(21) {
        assert!(window[20] - window[0] >= 0.95, "20 in a second is a burst of more than a second's worth");
    }
}

#[test]
fn an_amount_larger_than_the_burst_is_sent_and_paid_off() {
    let mut now = Instant::now();
    let mut bucket = TokenBucket::new(Some(300_000.0), SECOND, true, now);
    let sent = drive(&mut bucket, &mut now, 600, 50_000.0);
    assert!((58..=61).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn unused_reservations_are_returned() {
    let now = Instant::now();
    let mut bucket = TokenBucket::new(Some(60_000.0), SECOND, true, now);
    let debit = bucket.take(5000.0, 1, now);
    let before = bucket.ready_at(1000.0, now);
    bucket.grant(debit, Some(1000.0), now);
    let after = bucket.ready_at(1000.0, now);
    assert!(before - after >= Duration::from_millis(3900), "{:?}", before - after);
}

#[test]
fn an_empty_server_bucket_means_waiting_for_its_refill() {
    let now = Instant::now();
    let mut bucket = TokenBucket::new(None, SECOND, true, now);
    let debit = bucket.take(1.0, 1, now);
    bucket.observe(&debit, Quota { limit: 600.0, remaining: 0.0, reset: Some(SECOND * 60) }, true, now);
    let ready = bucket.ready_at(1.0, now);
    assert!(ready - now >= Duration::from_millis(100), "{:?}", ready - now);
    // With a window instead of a refill, nothing before its end.
    bucket.observe(&debit, Quota { limit: 600.0, remaining: 0.0, reset: Some(SECOND * 110) }, true, now);
    assert_eq!(bucket.ready_at(1.0, now), now + SECOND * 110);
    assert!(bucket.ready_at(1.0, now + SECOND * 110) <= now + SECOND * 110);
}

#[test]
fn a_server_that_counts_a_request_late_refills_later() {
    let sent = Instant::now();
    for (answered, refilled) in [(0, 500), (10, 510), (2000, 550)].map(|(a, r)| (sent + MS * a, sent + MS * r)) {
        // Two a second, one at once.
        let mut bucket = TokenBucket::new(None, SECOND, true, sent);
        let debit = bucket.take(1.0, 1, sent);
        bucket.observe(&debit, Quota { limit: 120.0, remaining: 0.0, reset: Some(MS * 500) }, true, answered);
        let ready = bucket.ready_at(1.0, answered);
        assert!(ready >= refilled.max(answered), "{:?} after it was sent", ready - sent);
        assert!(bucket.ready_at(1.0, ready) <= ready);
    }
}

#[test]
fn responses_to_older_requests_are_ignored() {
    let now = Instant::now();
    let mut bucket = TokenBucket::new(None, SECOND, true, now);
    let older = bucket.take(1.0, 1, now);
    let newer = bucket.take(1.0, 2, now);
    bucket.observe(&newer, Quota { limit: 300.0, remaining: 100.0, reset: None }, true, now);
    bucket.observe(&older, Quota { limit: 600.0, remaining: 599.0, reset: None }, true, now);
    assert_eq!(bucket.limit(), Some(300.0));
}

#[test]
fn a_full_bucket_is_used_up_and_an_empty_one_left_to_refill() {
    let now = Instant::now();
    let rate = |remaining: f64| {
        let mut bucket = TokenBucket::new(None, SECOND, true, now);
        let debit = bucket.take(0.0, 1, now);
        let reset = Some(SECOND.mul_f64((600.0 - remaining) / 10.0));
        bucket.observe(&debit, Quota { limit: 600.0, remaining, reset }, true, now);
        bucket.rate(now).expect("known")
    };
    assert!(rate(600.0) > 10.4);
    assert!((rate(60.0) - 10.0).abs() < 0.01);
    assert!(rate(30.0) < 5.1);
    assert!(rate(0.0) > 0.0, "never zero");
}

#[test]
fn a_daily_quota_is_not_spread_over_the_day() {
    let now = Instant::now();
    let mut bucket = TokenBucket::new(None, SECOND, true, now);
    let debit = bucket.take(1.0, 1, now);
    bucket.observe(
        &debit,
        Quota { limit: 14_400.0, remaining: 14_370.0, reset: Some(Duration::from_millis(179_560)) },
        true,
        now,
    );
    assert_eq!(bucket.rate(now), None);
    assert!(bucket.ready_at(1.0, now) <= now);
}
