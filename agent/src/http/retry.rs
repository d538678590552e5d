//! Whether a request is sent again, when, and who pays for it.
//!
//! A [`Budget`] keeps retries a bounded share of a port's requests, so that a failing service does not meet a storm.
//! Clock and randomness are given. Absent: what is always safe, a request of which the server took nothing.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri};
use rand::{Rng, RngExt as _};

use super::Request;
use super::answer::{self, is_grpc};
use crate::error::Reason;
use crate::limits;
use crate::model::{RetryBudget, RetryPolicy, RetryWindows};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With this status, and gRPC's own where the answer consists of headers alone.
    Answered(StatusCode, Option<u32>),
    /// Without an answer, after the request may have reached the application.
    Failed(Reason),
    /// No byte of it has left.
    Unsent(Reason),
}

impl Outcome {
    /// What the destination's agent says of its application in its place; None where it is no word on the application.
    #[must_use]
    pub const fn told(reason: Reason) -> Option<Self> {
        match reason {
            Reason::UpstreamRefused
            | Reason::UpstreamUnreachable
            | Reason::UpstreamTimeout
            | Reason::Draining
            | Reason::Overloaded
            | Reason::ResourceExhausted => Some(Self::Unsent(reason)),
            Reason::UpstreamReset | Reason::RequestTimeout => Some(Self::Failed(reason)),
            Reason::Completed
            | Reason::NoOriginalDestination
            | Reason::UnknownWorkload
            | Reason::NoEndpoint
            | Reason::DownstreamReset
            | Reason::PeerAgentDown
            | Reason::HandshakeFailed
            | Reason::HandshakeTimeout
            | Reason::IdentityMismatch
            | Reason::CertificateExpired
            | Reason::CertificateUntrusted
            | Reason::CertificateMalformed
            | Reason::CertificateMissing
            | Reason::NoCertificate
            | Reason::PlaintextRefused
            | Reason::MeshTlsRequired
            | Reason::DeniedByRule
            | Reason::NoAllowMatched
            | Reason::BadPreamble
            | Reason::Unsupported
            | Reason::WorkloadGone
            | Reason::NoClientRecord
            | Reason::IdleTimeout
            | Reason::TooSlow
            | Reason::Flooded
            | Reason::TunnelRefused
            | Reason::HeadTooLong
            | Reason::BadRequest
            | Reason::ProtocolRefused
            | Reason::NoRoute
            | Reason::BrokenRoute
            | Reason::Redirected
            | Reason::Preflight
            | Reason::RetryBudgetSpent => None,
        }
    }

    /// Whether it says that the endpoint is broken: nothing, a server's error, or gRPC's INTERNAL, UNAVAILABLE or `DATA_LOSS`.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Answered(status, grpc) => status.is_server_error() || matches!(grpc, Some(13..=15)),
            Self::Failed(_) | Self::Unsent(_) => true,
        }
    }
}

/// Doing it twice is doing it once (RFC 9110, section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// What a request asks for, as far as its retry depends on it.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    /// Of a gRPC call.
    call: Option<Uri>,
}

impl Asked {
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let call = is_grpc(request.headers()).then(|| request.uri().clone());
        Self { method: request.method().clone(), call }
    }

    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        is_idempotent(&self.method)
    }
}

/// Whether a policy asks for another attempt. A status that it names is tried again whatever the method: the server has
/// said what it did. Without an answer nobody knows, so only what is idempotent is, and a gRPC call whose client would have
/// been told a status that the policy names (gRFC A6). What has not left is safe to send.
#[must_use]
pub fn may_retry(policy: &RetryPolicy, asked: &Asked, outcome: Outcome) -> bool {
    let covered = asked.call.as_ref().is_none_or(|call| {
        policy.grpc_calls.as_ref().is_none_or(|calls| calls.iter().any(|pattern| pattern.matches(call.path())))
    });
    let lists = |grpc: u32| policy.grpc_statuses.contains(&grpc);
    covered
        && match outcome {
            Outcome::Answered(status, grpc) => policy.statuses.contains(&status) || grpc.is_some_and(lists),
            Outcome::Unsent(reason) => is_passing(reason),
            Outcome::Failed(reason) => {
                let named = asked.call.is_some() && lists(answer::status(reason).1.into());
                is_passing(reason) && (is_idempotent(&asked.method) || named)
            }
        }
}

/// Another attempt may end better.
const fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UpstreamRefused
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable
            | Reason::UpstreamReset
            | Reason::RequestTimeout
            | Reason::PeerAgentDown
            | Reason::Draining
    )
}

/// A copy, where the whole body is in memory.
pub fn again(request: &Request) -> Option<Request> {
    let body = request.body().again()?;
    let mut copy = Request::new(body);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    *copy.version_mut() = request.version();
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

/// The pause before the retry of this number, from 1: at least the policy's, doubled each time up to a bound, and up to half
/// of it longer, so that clients that failed together do not come back together.
#[must_use]
pub fn backoff(policy: &RetryPolicy, number: u32, random: &mut impl Rng) -> Duration {
    let least = policy.backoff.unwrap_or(limits::RETRY_BACKOFF);
    let doubled = least.saturating_mul(1 << number.saturating_sub(1).min(16));
    let pause = doubled.min(limits::RETRY_BACKOFF_MAXIMUM).max(least);
    pause.saturating_add(pause.mul_f64(random.random_range(0.0..0.5)))
}

/// What the requests to one Service port pay for. Its windows are the same in all terms that it is given.
#[derive(Debug, Default)]
pub struct Budget {
    /// When it was first used.
    begun: Option<Instant>,
    /// Of the window of the share, each in the place of its number modulo their count.
    parts: [Part; PARTS],
    /// The window of the least number that was counted last.
    least: Part,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    number: u64,
    /// In hundredths of a retry.
    earned: u64,
    retries: u64,
}

impl Part {
    const fn is_used(self) -> bool {
        self.earned > 0 || self.retries > 0
    }
}

/// A window goes on by so many parts: what counts, counts for its whole length or a tenth less.
const PARTS_OF_A_WINDOW: u32 = 10;
const PARTS: usize = PARTS_OF_A_WINDOW as usize;

impl Budget {
    /// A request (not a retry) begins: it earns its share of one.
    pub fn earned(&mut self, terms: RetryBudget, now: Instant) {
        let part = self.part(terms, now);
        part.earned = part.earned.saturating_add(terms.percent.into());
    }

    /// Whether one more retry is within the budget; it is counted if so. The least number is counted by whole windows.
    pub fn pays(&mut self, terms: RetryBudget, now: Instant) -> bool {
        let current = self.part(terms, now).number;
        let lately = self.parts.iter().filter(|part| part.number + PARTS as u64 > current);
        let (earned, retries) = lately.fold((0_u64, 0_u64), |sums, part| {
            (sums.0.saturating_add(part.earned), sums.1.saturating_add(part.retries))
        });
        let number = self.count(terms.windows.minimum, now);
        let least = current_of(&mut self.least, number);
        let paid = least.retries < u64::from(terms.minimum) || retries < earned / 100;
        if paid {
            least.retries += 1;
            self.part(terms, now).retries += 1;
        }
        paid
    }

    /// Whether anything of it is within its windows.
    pub fn still_counts(&mut self, windows: RetryWindows, now: Instant) -> bool {
        let current = self.count(windows.share / PARTS_OF_A_WINDOW, now);
        self.parts.iter().any(|part| part.is_used() && part.number + PARTS as u64 > current)
            || self.least.is_used() && self.least.number == self.count(windows.minimum, now)
    }

    /// Whether it has paid for a retry lately.
    #[must_use]
    pub fn has_paid(&self) -> bool {
        self.parts.iter().any(|part| part.retries > 0)
    }

    fn part(&mut self, terms: RetryBudget, now: Instant) -> &mut Part {
        let number = self.count(terms.windows.share / PARTS_OF_A_WINDOW, now);
        let place = usize::try_from(number % PARTS as u64).unwrap_or_default();
        current_of(&mut self.parts[place], number)
    }

    /// How many whole times of this length have passed.
    fn count(&mut self, length: Duration, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(*self.begun.get_or_insert(now));
        u64::try_from(passed.as_nanos() / length.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

/// What was counted in an earlier turn of the same place is over.
fn current_of(part: &mut Part, number: u64) -> &mut Part {
    if part.number != number {
        *part = Part { number, ..Part::default() };
    }
    part
}
