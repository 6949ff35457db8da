//! What a protocol tells the request loop: how items become a request, and what its response means.

use crate::{
    model::{Fingerprint, ServiceError},
    net::{Hints, Request, Response, TokenScale, prices::Tokens},
};

use super::{
    part::{Items, Part},
    too_long::TooLong,
    verdict::ResponseVerdict,
};
use crate::net::cpu_permits::CpuPermits;

/// A protocol of a service that is sent items, and responds with an answer for each.
///
/// The loop decides when a request is sent, how often, how large it is, and what it may cost; a protocol knows neither.
pub trait Protocol: Send + Sync + Sized + 'static {
    /// The items of one call, shared by its requests.
    type Items: Items;
    /// What a response has for the items of a request, in their order.
    type Answers: Answers;
    /// What all clients of one endpoint, key and model know: a cache, what was learned about the server.
    type Known: Send + Sync + 'static;
    /// What is kept between the attempts of one request, such as its encoded body.
    type Draft: Default + Send + Sync;
    /// What has to be known of a request as it was sent to judge its response.
    type Sent: Clone + Send + Sync + 'static;
    /// Disk space for a response in flight.
    type Disk: Send;

    /// What differs in its messages.
    const TERMS: ServiceTerms;

    /// Attempts of a request whose items may be the cause of its failure, before it is divided or its item fails.
    const SUSPECT_ATTEMPTS: u32 = 3;

    /// Reserves disk space for the answers of a request, before they are paid for.
    ///
    /// # Errors
    /// When there is none: nothing more is sent.
    fn reserve(&self, part: &Part<Self::Items>) -> Result<Self::Disk, ServiceError>;

    /// The request with these items.
    fn request(&self, part: &Part<Self::Items>, draft: &mut Self::Draft) -> (Request, Self::Sent);

    /// What a response says about later requests.
    fn hints(&self, response: &Response) -> Hints {
        Hints::read(&response.headers, std::time::SystemTime::now())
    }

    /// What a response means. May change what later requests look like; then the request is sent again.
    fn judge(
        &self,
        part: &Part<Self::Items>,
        response: &Response,
        hints: &Hints,
        sent: &Self::Sent,
    ) -> ResponseVerdict<Self::Answers>;

    /// The tokens of a request before it is sent. `exact` is true if a count decides whether it may be sent.
    fn measure(
        &self,
        _: &Part<Self::Items>,
        _: &Self::Draft,
        _exact: bool,
        _: &TokenScale,
    ) -> impl Future<Output = Measured> + Send {
        std::future::ready(Measured::default())
    }

    /// The billed tokens of a response.
    fn settle(
        &self,
        _: &Self::Answers,
        _: &Part<Self::Items>,
        _: &Self::Draft,
        _: &Measured,
        _: &TokenScale,
    ) -> impl Future<Output = Tokens> + Send {
        std::future::ready(Tokens::default())
    }

    /// The billed tokens of the response to a probe.
    fn settle_probe(&self, answers: &Self::Answers, probe: &Probe<Self::Items>) -> Tokens {
        answers.tokens().filter(|tokens| *tokens > 0).unwrap_or(1).min(probe.most.input).into()
    }

    /// Whether the answers are a part of what the request asks for: then they are kept in `draft`, and the rest is requested.
    ///
    /// # Errors
    /// With why the items have no answers after all.
    fn continues(&self, _: &Part<Self::Items>, _: &mut Self::Answers, _: &mut Self::Draft) -> Result<bool, String> {
        Ok(false)
    }

    /// Stores the answers, before they are returned.
    ///
    /// # Errors
    /// When they cannot be stored.
    fn store(
        &self,
        part: &Part<Self::Items>,
        answers: Self::Answers,
        draft: &Self::Draft,
        permits: &CpuPermits,
    ) -> impl Future<Output = Result<Self::Answers, ServiceError>> + Send;

    /// Shortens the only item of a request to what the server accepts. False if that is not possible or not wanted: then it
    /// has an error.
    fn shorten(&self, _: &Part<Self::Items>, _: &mut Self::Draft, _: TooLong) -> bool {
        false
    }

    /// The answers to items are stored, or the items are not requested any more: other processes may request them.
    fn released(_: &Self::Known, _: &[Fingerprint]) {}

    /// A request whose failure can only be the endpoint's, or that tells as much as possible; `part` is one that failed.
    fn probe(&self, part: Option<&Part<Self::Items>>) -> Option<Probe<Self::Items>>;
}

/// What a response has for the items of a request.
pub trait Answers: Send + Sync + 'static {
    /// The tokens that the server counted.
    fn tokens(&self) -> Option<u64> {
        None
    }

    /// The positions of items without a valid answer, in order. They are requested again a few times.
    fn faulty(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Why the item at a position has no valid answer.
    fn fault(&self, _position: usize) -> Option<String> {
        None
    }

    /// Bytes of all answers, about.
    fn bytes(&self) -> usize;
}

/// What differs in messages of one protocol and another.
#[derive(Debug, Clone, Copy)]
pub struct ServiceTerms {
    /// The key of the address: `base_url`.
    pub address: &'static str,
    /// The reason of an item whose answer is not valid: `invalid_vector`.
    pub invalid: &'static str,
}

/// The tokens of a request before it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// The predicted count of the server, reserved from the limiter.
    pub reserved: u64,
    /// The most tokens that can be billed.
    pub most: Tokens,
    /// Our own exact count, if there is one.
    pub counted: Option<u64>,
}

/// A request that tells whether an endpoint works.
#[derive(Debug)]
pub struct Probe<I> {
    /// Its items.
    pub part: Part<I>,
    /// The tokens that are reserved for it.
    pub reserved: u64,
    /// The most tokens that can be billed for it.
    pub most: Tokens,
}
