//! Sends a request to one of its endpoints, and to another one where that is safe.
//!
//! An endpoint that took no byte of the request is followed by another one, outside of any budget. A request that has left is
//! sent again only if the server never began with it by its own word, if it is idempotent and met a connection that was just
//! ending, or if a policy asks for it and the budget pays. Invariant: what is not idempotent is never delivered twice unless
//! its policy says that it may be.

use std::time::Instant;

use http::Method;
use tokio::time::{sleep, timeout};
use weft_proto::names::NamespacedName;

use crate::balance::{Outstanding, Terms};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::grpc_status;
use crate::http::engine::{Line, Unsent};
use crate::http::pool::{LineKey, OpenLine};
use crate::http::retry::{self, Outcome};
use crate::http::{Request, Response, Version};
use crate::limits;
use crate::model::{Endpoint, RetryPolicy, Snapshot, Traffic};
use crate::telemetry::Account;

use super::attempt::{self, Next};
use super::conversation::{Conversation, Seed};
use super::line;
use super::route::Target;

/// Where a request may go, and how often.
pub struct Plan<'a> {
    pub snapshot: &'a Snapshot,
    pub target: Target,
    pub endpoints: &'a [Endpoint],
    pub version: Version,
    pub traffic: &'a Traffic,
    pub retry: Option<&'a RetryPolicy>,
    pub attempt_timeout: Option<std::time::Duration>,
}

impl Plan<'_> {
    fn terms(&self) -> Terms<'_> {
        Terms { endpoints: self.endpoints, balancing: self.traffic.balancing, ejection: self.traffic.ejection }
    }

    /// Whose retry budget pays.
    fn port(&self) -> Option<(&NamespacedName, u16)> {
        self.target.service.as_ref().map(|service| (service, self.target.port))
    }
}

/// An answer, and what has to live until its body has ended.
pub struct Answered {
    pub response: Response,
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

pub async fn send(
    conversation: &Conversation,
    plan: &Plan<'_>,
    mut request: Request,
    account: &mut Account,
) -> Result<Answered, ConnectionError> {
    let mut tried = Vec::new();
    let mut retries = 0;
    let mut resent = false;
    if plan.retry.is_some() {
        conversation.worker.budgets.borrow_mut().earned(plan.port(), plan.traffic.retry_budget, Instant::now());
    }
    for _ in 0..limits::REQUEST_ATTEMPTS {
        let mut reached = reach(conversation, plan, &mut tried, account).await?;
        let reused = reached.line.reused;
        // A connection that rested may just be ending: once, that is no sign that the request is to blame.
        let just_ending = reused && !resent && retry::is_idempotent(request.method());
        let spare = if plan.retry.is_some() || just_ending { again(&request) } else { None };
        let method = request.method().clone();
        let begun = Instant::now();
        account.note(|record| record.attempts += 1);
        let failed = match attempt(plan, &mut reached.line.line, request).await {
            Ok(response) => {
                let outcome = Outcome::Answered(response.status(), grpc_status(response.headers()));
                {
                    let mut balancer = conversation.worker.balancer.borrow_mut();
                    balancer.answered(&reached.endpoint, begun.elapsed());
                    balancer.judged(plan.terms(), &reached.endpoint, !outcome.is_failure());
                }
                let Some(another) = paid(conversation, plan, &method, outcome, &mut retries, spare, account) else {
                    let Reached { outstanding, key, line, .. } = reached;
                    return Ok(Answered { response, rest: Rest { outstanding, key, line } });
                };
                drop(response);
                tried.push(reached.endpoint);
                pause(plan, retries).await;
                request = another;
                continue;
            }
            Err(failed) => failed,
        };
        let (error, next) = judge(failed, spare, just_ending);
        resent |= just_ending;
        match next {
            After::Unsent(unsent) => {
                // A line that rested too long says nothing about its endpoint.
                if !reused {
                    tried.push(reached.endpoint);
                }
                request = unsent;
            }
            After::Left(spare) => {
                failed_at(conversation, plan, &reached.endpoint);
                tried.push(reached.endpoint);
                let outcome = Outcome::Failed(error.reason);
                match paid(conversation, plan, &method, outcome, &mut retries, spare, account) {
                    Some(another) => request = another,
                    None => return Err(error),
                }
                pause(plan, retries).await;
            }
        }
    }
    Err(ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
        .with_detail(format!("{} attempts have failed", limits::REQUEST_ATTEMPTS)))
}

fn failed_at(conversation: &Conversation, plan: &Plan<'_>, endpoint: &Endpoint) {
    let mut balancer = conversation.worker.balancer.borrow_mut();
    balancer.failed(endpoint);
    balancer.judged(plan.terms(), endpoint, false);
}

/// What may follow an attempt without an answer.
enum After {
    /// Nothing of it was worked on: it goes again, outside of the budget.
    Unsent(Request),
    /// It has left. The copy is there where one was kept.
    Left(Option<Request>),
}

enum Failed {
    Unsent(Box<Unsent>),
    TimedOut,
}

async fn attempt(plan: &Plan<'_>, line: &mut Line, request: Request) -> Result<Response, Failed> {
    let sending = async { line.send(request).await.map_err(|unsent| Failed::Unsent(Box::new(unsent))) };
    match plan.attempt_timeout {
        Some(limit) => timeout(limit, sending).await.unwrap_or(Err(Failed::TimedOut)),
        None => sending.await,
    }
}

fn judge(failed: Failed, spare: Option<Request>, just_ending: bool) -> (ConnectionError, After) {
    match failed {
        Failed::TimedOut => {
            let error = ConnectionError::new(Side::Upstream, Reason::RequestTimeout)
                .with_detail("the backend did not answer within the time of one attempt");
            (error, After::Left(spare))
        }
        Failed::Unsent(mut unsent) => {
            let error = ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
                .with_detail(format!("the backend's connection ended before an answer: {}", unsent.error));
            let refused = unsent.is_refused_stream();
            match (unsent.request.take(), spare) {
                (Some(request), _) => (error, After::Unsent(request)),
                (None, Some(spare)) if refused || just_ending => (error, After::Unsent(spare)),
                (None, spare) => (error, After::Left(spare)),
            }
        }
    }
}

/// A copy to send again, if the policy asks for that and the budget pays.
fn paid(
    conversation: &Conversation,
    plan: &Plan<'_>,
    method: &Method,
    outcome: Outcome,
    retries: &mut u32,
    spare: Option<Request>,
    account: &mut Account,
) -> Option<Request> {
    let policy = plan.retry?;
    let spare = spare?;
    if *retries >= policy.attempts || !retry::may_retry(policy, method, outcome) {
        return None;
    }
    let paid = conversation.worker.budgets.borrow_mut().pays(plan.port(), plan.traffic.retry_budget, Instant::now());
    if !paid {
        account.note(|record| record.detail = Some("the budget for retries was spent".to_owned()));
        return None;
    }
    *retries += 1;
    account.note(|record| record.retries += 1);
    Some(spare)
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
    tried: &mut Vec<Endpoint>,
    account: &mut Account,
) -> Result<Reached, ConnectionError> {
    // What was dialled for the connection may be no endpoint of this request.
    let seed = conversation.seed.take();
    let fits = |seed: &Seed| {
        let workload = plan.snapshot.workload_of(&seed.endpoint);
        let intended = attempt::intended(&conversation.pod, &plan.target, &seed.endpoint, workload);
        seed.key.version == plan.version
            && plan.endpoints.contains(&seed.endpoint)
            && intended.is_ok_and(|security| security == seed.key.security)
    };
    if let Some(seed) = seed.filter(fits) {
        note(account, plan, &seed.endpoint, &seed.line);
        return Ok(Reached { endpoint: seed.endpoint, outstanding: seed.outstanding, key: seed.key, line: seed.line });
    }
    let worker = &conversation.worker;
    let mut last = None;
    for _ in 0..limits::REQUEST_PICKS {
        let mut picked = worker.balancer.borrow_mut().pick(plan.terms(), tried, &mut rand::rng());
        if picked.is_none() && last.is_none() && !tried.is_empty() {
            // Every one was tried once: a retry may go where it was before.
            tried.clear();
            picked = worker.balancer.borrow_mut().pick(plan.terms(), tried, &mut rand::rng());
        }
        let Some((endpoint, outstanding)) = picked else { break };
        match line::to(conversation, plan.snapshot, &plan.target, &endpoint, plan.version).await {
            Ok((key, line)) => {
                note(account, plan, &endpoint, &line);
                return Ok(Reached { endpoint, outstanding, key, line });
            }
            Err(failure) => {
                account.note(|record| {
                    record.destination.address = Some(endpoint.address);
                    record.destination.workload = plan.snapshot.workload_of(&endpoint).cloned();
                });
                if failure.error.side == Side::Upstream {
                    failed_at(conversation, plan, &endpoint);
                }
                tried.push(endpoint);
                let stop = failure.next == Next::Stop;
                last = Some(failure.error);
                if stop {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| ConnectionError::new(Side::Local, Reason::NoEndpoint)))
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
