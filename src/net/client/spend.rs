//! Spending: counts money and requests, and enforces their caps.

use std::sync::Arc;

use crate::{
    model::{Caps, ServiceError, Usage, money},
    net::prices::{Price, Tokens},
};

/// Counts the cost of requests, and refuses those that could exceed a cap.
#[derive(Debug)]
pub struct Spending {
    usage: Arc<Usage>,
    caps: Caps,
    price: Option<Price>,
}

/// Money reserved for one request in flight.
#[derive(Debug)]
#[must_use]
pub struct SpendReservation<'s> {
    spending: &'s Spending,
    nano_usd: u64,
}

impl Spending {
    /// Spending by one client, counted in `usage`.
    ///
    /// # Errors
    /// When money is capped and the price is unknown.
    pub fn new(usage: Arc<Usage>, caps: Caps, price: Option<Price>, model: &str) -> Result<Self, ServiceError> {
        if caps.cost_nano_usd.is_some() && price.is_none() {
            return Err(ServiceError::Refused(format!(
                "spending is capped, but the price of `{model}` is unknown; set `price_per_million_tokens` (0 for your own server)"
            )));
        }
        Ok(Self { usage, caps, price })
    }

    /// True when the cost of a request must be known before it is sent.
    pub fn is_capped(&self) -> bool {
        self.caps.cost_nano_usd.is_some()
    }

    /// The price of a token.
    pub fn price(&self) -> Option<Price> {
        self.price
    }

    /// The counters.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Counts one request and reserves its money; waits while requests in flight may leave enough for it. `tokens` is the
    /// most that can be billed.
    ///
    /// # Errors
    /// When a cap would be exceeded, whatever the requests in flight cost.
    pub async fn reserve(&self, tokens: impl Into<Tokens>, retry: bool) -> Result<SpendReservation<'_>, ServiceError> {
        let tokens = tokens.into();
        let nano_usd = self.price.map_or(0, |price| price.nano_usd(tokens));
        loop {
            // Registered before the check, so that no release in between is missed.
            let released = self.usage.released();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.usage.reserve(nano_usd, retry, self.caps) {
                return Ok(SpendReservation { spending: self, nano_usd });
            }
            if let Some(stop) = self.exceeded(nano_usd) {
                return Err(stop);
            }
            released.await;
        }
    }

    /// The cap that would be exceeded; `None` if requests in flight may cost less than reserved.
    fn exceeded(&self, nano_usd: u64) -> Option<ServiceError> {
        let now = self.usage.whole().snapshot();
        if let Some(cap) = self.caps.requests
            && now.requests >= cap
        {
            return Some(ServiceError::Stopped(format!(
                "the cap of {cap} requests is reached; finished work is kept, run again with a higher --max-requests"
            )));
        }
        let cap = self.caps.cost_nano_usd?;
        let spent = ((now.cost_usd + now.unconfirmed_usd) * 1e9).round() as u64;
        let unconfirmed = if now.unconfirmed_usd > 0.0 {
            format!(", and possibly {} for requests without a response", money(now.unconfirmed_usd))
        } else {
            String::new()
        };
        (spent + nano_usd > cap || self.usage.reserved_nano_usd() == 0).then(|| {
            ServiceError::Stopped(format!(
                "the next request would exceed the spending cap of {} (spent: {}{unconfirmed}); finished work is kept, run again with a higher --max-cost",
                money(cap as f64 / 1e9),
                money(now.cost_usd)
            ))
        })
    }

    /// Counts what the cache saved.
    pub fn saved(&self, tokens: impl Into<Tokens>) {
        if let Some(price) = self.price {
            self.usage.saved(price.nano_usd(tokens));
        }
    }
}

impl SpendReservation<'_> {
    /// The request was billed.
    pub fn spent(self, tokens: impl Into<Tokens>) {
        let tokens = tokens.into();
        let nano_usd = self.spending.price.map_or(0, |price| price.nano_usd(tokens));
        self.spending.usage.spent(tokens.sum(), nano_usd);
    }

    /// The request had no answers: nothing was billed, or that is unknown.
    pub fn end(self, may_be_billed: bool) {
        if may_be_billed {
            self.unconfirmed();
        }
    }

    /// It is unknown whether the request was billed: its reservation counts against the cap from now on.
    fn unconfirmed(self) {
        self.spending.usage.unconfirmed(self.nano_usd);
    }
}

impl Drop for SpendReservation<'_> {
    fn drop(&mut self) {
        self.spending.usage.release(self.nano_usd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending(caps: Caps) -> Spending {
        Spending::new(Arc::default(), caps, Some(Price::per_million(1000.0)), "m").expect("a price is given")
    }

    #[tokio::test]
    async fn reserved_money_counts_against_the_cap() {
        // A token costs a million nano-dollars.
        let spending = spending(Caps { cost_nano_usd: Some(10_000_000), requests: None });
        let six = spending.reserve(6, false).await.expect("six of ten");
        let waiting = spending.reserve(7, false);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending(), "seven more may fit, if the six cost less");
        six.spent(3);
        let seven = waiting.await.expect("three and seven are ten");
        seven.spent(7);
        assert!(matches!(spending.reserve(1, false).await, Err(ServiceError::Stopped(_))));
        assert_eq!(spending.usage().snapshot().tokens, 10);
    }

    #[tokio::test]
    async fn possibly_billed_money_counts_against_the_cap() {
        let spending = spending(Caps { cost_nano_usd: Some(10_000_000), requests: None });
        spending.reserve(6, false).await.expect("six of ten").unconfirmed();
        let Err(ServiceError::Stopped(why)) = spending.reserve(5, true).await else {
            panic!("six and five are eleven")
        };
        assert!(why.contains("possibly $0.0060 for requests without a response"), "{why}");
        let four = spending.reserve(4, true).await.expect("six and four are ten");
        four.spent(4);
        let usage = spending.usage().snapshot();
        assert_eq!((usage.cost_usd, usage.unconfirmed_usd), (0.004, 0.006));
    }

    #[tokio::test]
    async fn requests_are_capped_including_retries() {
        let spending = spending(Caps { cost_nano_usd: None, requests: Some(2) });
        drop(spending.reserve(1, false).await.expect("the first"));
        drop(spending.reserve(1, true).await.expect("the second"));
        assert!(matches!(spending.reserve(1, false).await, Err(ServiceError::Stopped(_))));
        assert_eq!(spending.usage().snapshot().requests, 2);
    }

    #[test]
    fn a_cap_without_a_price_is_refused() {
        let caps = Caps { cost_nano_usd: Some(1), requests: None };
        assert!(matches!(Spending::new(Arc::default(), caps, None, "m"), Err(ServiceError::Refused(_))));
    }
}
