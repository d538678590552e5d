//! Sends a request to one of its endpoints, and to another one where that is safe.
//!
//! An endpoint that took no byte of the request is followed by another one, outside of any budget. A request that has left is
//! sent again only if the server never began with it by its own word, once if it is idempotent and its connection broke off, or
//! if a policy asks for it and the budget pays. Invariant: what is not idempotent is never delivered twice unless
//! its policy says that it may be.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use weft_proto::names::NamespacedName;

use crate::balance::{Affinity, Outstanding, Terms};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::{REASON, grpc_status};
use crate::http::engine::Unsent;
use crate::http::pool::{LineKey, OpenLine};
use crate::http::retry::{self, Asked, Outcome};
use crate::http::{Request, Response, Version};
use crate::limits;
use crate::model::{Endpoint, RetryBudget, RetryPolicy, Snapshot, Traffic};
use crate::telemetry::{Account, Ejected, FailedAttempt, Security};

use super::conversation::{Conversation, Seed};
use super::destination::Target;
use super::dial::{self, Next};
use super::{line, unread};

/// Where a request may go, and how often.
pub struct Plan<'a> {
    pub snapshot: &'a Snapshot,
    pub target: Target,
    pub endpoints: &'a [Endpoint],
    /// The place among `endpoints` of the one that the request's session has.
    pub session: Option<usize>,
    pub affinity: Option<Affinity<'a>>,
    pub version: Version,
    pub traffic: &'a Traffic,
    pub retry: Option<&'a RetryPolicy>,
    pub retry_budget: RetryBudget,
    /// When the whole request must be answered.
    pub deadline: Option<Instant>,
    pub attempt_timeout: Option<Duration>,
}

impl Plan<'_> {
    fn terms(&self) -> Terms<'_> {
        Terms {
            endpoints: self.endpoints,
            balancing: self.traffic.balancing,
            ejection: self.traffic.ejection,
            session: self.session,
            affinity: self.affinity,
        }
    }

    /// How long an attempt that begins now may take. Its end is then this file's to judge, not only its caller's.
    fn time_left(&self) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        [left, self.attempt_timeout].into_iter().flatten().min()
    }

    /// Whose retry budget pays.
    fn port(&self) -> Option<(&NamespacedName, u16)> {
        self.target.service.as_ref().map(|service| (service, self.target.port))
    }
}

/// An answer, and what has to live until its body has ended.
pub struct Answered {
    pub response: Response,
    pub by: Endpoint,
    pub rest: Rest,
}

/// What an answer still needs of its way.
pub struct Rest {
    pub outstanding: Outstanding,
    pub key: LineKey,
    pub line: OpenLine,
}

/// A connection on which the request may leave.
struct Reached {
    endpoint: Endpoint,
    outstanding: Outstanding,
    key: LineKey,
    line: OpenLine,
}

impl Reached {
    fn split(self) -> (Endpoint, Rest) {
        let Self { endpoint, outstanding, key, line } = self;
        (endpoint, Rest { outstanding, key, line })
    }
}

/// What the attempts of one request have come to so far.
struct Progress {
    asked: Asked,
    /// It may have to be sent again after bytes of it have left.
    repeats: bool,
    tried: Vec<Endpoint>,
    /// Endpoints beyond the first of which none worked on it.
    picked_again: u32,
    /// Attempts beyond the first that the policy asked for and the budget paid.
    retries: u32,
    /// A connection that broke off has been excused once.
    excused: bool,
    /// The policy asked for one more, and the budget did not pay.
    unpaid: bool,
}

/// How one attempt ended, and what may be sent again after it.
struct Attempt {
    result: Result<Response, ConnectionError>,
    outcome: Outcome,
    /// The connection had ended while it rested.
    stale: bool,
    /// The application's connection broke off without an answer, and not this request alone.
    broke_off: bool,
    /// It says nothing of the endpoint.
    innocent: bool,
    again: Option<Request>,
}

pub async fn send(
    conversation: &Conversation,
    plan: &Plan<'_>,
    mut request: Request,
    account: &mut Account,
) -> Result<Answered, ConnectionError> {
    if plan.retry.is_some() || plan.retry_budget.refuses {
        conversation.worker.budgets.borrow_mut().earned(plan.port(), plan.retry_budget, Instant::now());
    }
    let mut progress = Progress::of(plan, Asked::of(&request));
    if progress.repeats {
        request = request.map(|body| body.replayed(limits::RETRY_BODY_MAXIMUM));
    }
    loop {
        let mut reached = match reach(conversation, plan, &mut progress, account).await {
            Ok(reached) => reached,
            Err(error) => {
                if progress.retry(conversation, plan, Outcome::Unsent(error.reason), account).is_none() {
                    return Err(progress.unpaid_or(error));
                }
                progress.tried.clear();
                pause(plan, progress.retries).await;
                continue;
            }
        };
        let begun = Instant::now();
        let Attempt { result, outcome, stale, broke_off, innocent, again } =
            progress.attempt(plan, &mut reached.line, request).await;
        if account.is_broken()
            && let Err(error) = result
        {
            // Says nothing about the endpoint, and there is nothing to send again.
            return Err(account.blame(error));
        }
        // A line that rested too long says nothing about its endpoint, nor does a time that the client has used up.
        let innocent = innocent || outcome == Outcome::Failed(Reason::RequestTimeout) && account.is_sending();
        if !stale && !innocent {
            tell(conversation, plan, &reached.endpoint, (outcome, begun.elapsed()), account);
        }
        if !stale {
            progress.tried.push(reached.endpoint.clone());
        }
        let again = again.filter(|request| request.body().is_intact());
        let Some((another, next)) = again.and_then(|request| {
            let next = progress.next(conversation, plan, (outcome, stale, broke_off), account)?;
            request.body().claim();
            Some((request, next))
        }) else {
            return progress.end(conversation, plan, (result, reached), account);
        };
        if let Ok(response) = result {
            let (_, rest) = reached.split();
            unread::leave(&conversation.worker, response, rest);
        }
        request = another;
        if next == After::Retry {
            pause(plan, progress.retries).await;
        }
    }
}

fn unpaid(what: impl Display) -> ConnectionError {
    ConnectionError::new(Side::Local, Reason::RetryBudgetSpent)
        .with_detail(format!("the budget for retries was spent after the last attempt: {what}"))
}

/// The balancer learns from every attempt, and people from those that came to nothing.
fn tell(
    conversation: &Conversation,
    plan: &Plan<'_>,
    endpoint: &Endpoint,
    (outcome, took): (Outcome, Duration),
    account: &mut Account,
) {
    let mut balancer = conversation.worker.balancer.borrow_mut();
    match outcome {
        Outcome::Answered(..) => balancer.answered(endpoint, took),
        Outcome::Failed(_) | Outcome::Unsent(_) => balancer.failed(endpoint),
    }
    let ejected = balancer.judged(plan.terms(), endpoint, !outcome.is_failure());
    if !outcome.is_failure() {
        return;
    }
    let workload = plan.snapshot.workload_of(endpoint).cloned();
    let attempt = FailedAttempt { endpoint: endpoint.address, workload, outcome, took, ejected };
    account.note(|record| {
        if let Some(away) = ejected {
            let told = Ejected::by(record, &attempt, plan.port(), away);
            conversation.worker.shared.telemetry.ejected(told);
        }
        record.failed_attempt(attempt);
    });
}

/// Why a request goes once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nobody worked on it.
    PickAgain,
    Retry,
}

impl Progress {
    fn of(plan: &Plan<'_>, asked: Asked) -> Self {
        // A server of HTTP/2 may say that it never began.
        let repeats = plan.retry.is_some() || plan.version == Version::Http2 || asked.is_idempotent();
        Self { asked, repeats, tried: Vec::new(), picked_again: 0, retries: 0, excused: false, unpaid: false }
    }

    async fn attempt(&mut self, plan: &Plan<'_>, open: &mut OpenLine, request: Request) -> Attempt {
        let spare = if self.repeats { retry::again(&request) } else { None };
        let sending = open.line.send(request);
        let sent = match plan.time_left() {
            Some(limit) => timeout(limit, sending).await.map_err(|_| limit),
            None => Ok(sending.await),
        };
        match sent {
            Ok(Ok(mut response)) => {
                let outcome = told_by_peer(open, &mut response)
                    .unwrap_or_else(|| Outcome::Answered(response.status(), grpc_status(response.headers())));
                // Whoever says it: the worst that a lie brings about is one more request of those that may be repeated.
                let broke_off = reason(&response) == Some(Reason::UpstreamReset);
                // Its application works as it is: it takes no such request.
                let innocent = told(open, &response) == Some(Reason::TunnelRefused);
                Attempt { result: Ok(response), outcome, stale: false, broke_off, innocent, again: spare }
            }
            Ok(Err(unsent)) => self.judge(open.reused, unsent, spare),
            Err(limit) => {
                let error = ConnectionError::new(Side::Upstream, Reason::RequestTimeout)
                    .with_detail(format!("the backend did not answer within {limit:?}, the time of this attempt"));
                let outcome = Outcome::Failed(error.reason);
                Attempt { outcome, result: Err(error), stale: false, broke_off: false, innocent: false, again: spare }
            }
        }
    }

    fn judge(&mut self, reused: bool, mut unsent: Unsent, spare: Option<Request>) -> Attempt {
        if unsent.impossible {
            let error = ConnectionError::new(Side::Upstream, Reason::TunnelRefused).with_detail(unsent.why);
            let outcome = Outcome::Failed(error.reason);
            return Attempt {
                result: Err(error),
                outcome,
                stale: false,
                broke_off: false,
                innocent: true,
                again: None,
            };
        }
        let error = ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
            .with_detail(format!("the backend's connection ended before an answer: {}", unsent.why));
        let untouched = unsent.request.take();
        let never_begun = unsent.refused;
        // Once, a connection that was just ending is no sign that the request is to blame.
        let just_ending = reused && !unsent.of_stream && !self.excused && self.asked.is_idempotent();
        let excused = untouched.is_none() && !never_begun && just_ending;
        self.excused |= excused;
        let stale = excused || (reused && untouched.is_some());
        let is_unsent = stale || untouched.is_some() || never_begun;
        let outcome = if is_unsent { Outcome::Unsent(error.reason) } else { Outcome::Failed(error.reason) };
        let broke_off = !unsent.of_stream && !is_unsent;
        Attempt { result: Err(error), outcome, stale, broke_off, innocent: false, again: untouched.or(spare) }
    }

    /// Whether the request goes once more. What nobody worked on goes for nothing, but not for ever, and not to those who
    /// have just said no.
    fn next(
        &mut self,
        conversation: &Conversation,
        plan: &Plan<'_>,
        (outcome, stale, broke_off): (Outcome, bool, bool),
        account: &mut Account,
    ) -> Option<After> {
        let left = plan.endpoints.iter().any(|endpoint| !self.tried.contains(endpoint));
        let unsent = matches!(outcome, Outcome::Unsent(_)) && (stale || left);
        // An application that ends resets what it was just asked, also on a connection that it has hardly accepted.
        let excused = broke_off && left && !self.excused && self.asked.is_idempotent();
        if (unsent || excused) && self.pick_again() {
            self.excused |= excused;
            return Some(After::PickAgain);
        }
        self.retry(conversation, plan, outcome, account)?;
        if !left {
            // Every one was tried: a retry may go where it was before.
            self.tried.clear();
        }
        Some(After::Retry)
    }

    fn end(
        &self,
        conversation: &Conversation,
        plan: &Plan<'_>,
        (result, reached): (Result<Response, ConnectionError>, Reached),
        account: &mut Account,
    ) -> Result<Answered, ConnectionError> {
        let response = result.map_err(|error| self.unpaid_or(error))?;
        account.note(|record| record.told = told(&reached.line, &response));
        let (by, rest) = reached.split();
        if self.unpaid && plan.retry_budget.refuses {
            let error = unpaid(format!("it was answered {}", response.status()));
            unread::leave(&conversation.worker, response, rest);
            return Err(error);
        }
        if self.unpaid {
            account.note(|record| record.fail(&unpaid("its answer asked for a retry")));
        }
        Ok(Answered { response, by, rest })
    }

    fn unpaid_or(&self, error: ConnectionError) -> ConnectionError {
        if self.unpaid { unpaid(error) } else { error }
    }

    fn pick_again(&mut self) -> bool {
        let may = self.picked_again < limits::REQUEST_PICKS_AGAIN;
        self.picked_again += u32::from(may);
        may
    }

    /// Counts another attempt, if the policy asks for it and the budget pays.
    fn retry(
        &mut self,
        conversation: &Conversation,
        plan: &Plan<'_>,
        outcome: Outcome,
        account: &mut Account,
    ) -> Option<()> {
        let policy = plan.retry?;
        let attempts = policy.attempts.min(limits::REQUEST_RETRIES);
        if self.retries >= attempts || !retry::may_retry(policy, &self.asked, outcome) {
            return None;
        }
        if !conversation.worker.budgets.borrow_mut().pays(plan.port(), plan.retry_budget, Instant::now()) {
            self.unpaid = true;
            return None;
        }
        self.retries += 1;
        account.note(|record| record.retries += 1);
        Some(())
    }
}

/// What the destination's agent says where it answers in the place of its application. Nobody else's word on it counts.
fn told_by_peer(open: &OpenLine, response: &mut Response) -> Option<Outcome> {
    if open.made.security != Security::Mtls {
        response.headers_mut().remove(REASON);
        return None;
    }
    told(open, response).and_then(Outcome::told)
}

/// Where the peer did not know what comes, it may have passed on what its application says.
fn told(open: &OpenLine, response: &Response) -> Option<Reason> {
    let believed = open.declared && open.made.security == Security::Mtls;
    reason(response).filter(|_| believed)
}

fn reason(response: &Response) -> Option<Reason> {
    Reason::from_code(response.headers().get(REASON)?.to_str().ok()?)
}

async fn pause(plan: &Plan<'_>, retries: u32) {
    if let Some(policy) = plan.retry {
        sleep(retry::backoff(policy, retries, &mut rand::rng())).await;
    }
}

/// Dials until an endpoint can take the request. The error is the last one's.
async fn reach(
    conversation: &Conversation,
    plan: &Plan<'_>,
    progress: &mut Progress,
    account: &mut Account,
) -> Result<Reached, ConnectionError> {
    if let Some(seed) = seed(conversation, plan) {
        account.note(|record| record.attempts += 1);
        note(account, plan, &seed.endpoint, &seed.line);
        return Ok(Reached { endpoint: seed.endpoint, outstanding: seed.outstanding, key: seed.key, line: seed.line });
    }
    let worker = &conversation.worker;
    let mut last: Option<ConnectionError> = None;
    loop {
        let picked = worker.balancer.borrow_mut().pick(plan.terms(), &progress.tried, &mut rand::rng());
        if plan.traffic.ejection.is_some() {
            account.note(|record| record.ejected = worker.balancer.borrow().ejected(plan.terms()));
        }
        let Some((endpoint, outstanding)) = picked else {
            return Err(last.unwrap_or_else(|| ConnectionError::new(Side::Local, Reason::NoEndpoint)));
        };
        account.note(|record| record.attempts += 1);
        let begun = Instant::now();
        let failure = match line::to(conversation, plan.snapshot, &plan.target, &endpoint, plan.version).await {
            Ok((key, line)) => {
                note(account, plan, &endpoint, &line);
                return Ok(Reached { endpoint, outstanding, key, line });
            }
            Err(failure) => failure,
        };
        account.note(|record| {
            record.destination.address = Some(endpoint.address);
            record.destination.workload = plan.snapshot.workload_of(&endpoint).cloned();
        });
        // Where every endpoint would say the same, it is no word on this one.
        if failure.error.side == Side::Upstream && failure.next == Next::AnotherEndpoint {
            tell(conversation, plan, &endpoint, (Outcome::Unsent(failure.error.reason), begun.elapsed()), account);
        }
        progress.tried.push(endpoint);
        if failure.next == Next::Stop || !progress.pick_again() {
            return Err(failure.error);
        }
        last = Some(failure.error);
    }
}

/// What was dialled for the connection, if it is an endpoint of this request.
fn seed(conversation: &Conversation, plan: &Plan<'_>) -> Option<Seed> {
    conversation.seed.take().filter(|seed| {
        let workload = plan.snapshot.workload_of(&seed.endpoint);
        let (worker, pod) = (&conversation.worker, &conversation.pod);
        let intended = dial::intended(worker, pod, &plan.target, &seed.endpoint, workload);
        seed.key.version == plan.version
            && match plan.session {
                Some(place) => plan.endpoints.get(place) == Some(&seed.endpoint),
                None => plan.endpoints.contains(&seed.endpoint),
            }
            && intended.is_ok_and(|security| security == seed.key.security)
    })
}

fn note(account: &mut Account, plan: &Plan<'_>, endpoint: &Endpoint, line: &OpenLine) {
    account.note(|record| {
        record.security = line.made.security;
        record.source.identity.clone_from(&line.made.source.identity);
        record.destination.identity.clone_from(&line.made.destination.identity);
        record.destination.address = Some(endpoint.address);
        record.destination.workload = plan.snapshot.workload_of(endpoint).cloned();
    });
}
