//! The journey of one request of a pod of this node.
//!
//! canonical (what does it say, in one form?) → route (which rule, which backend?) → cors (a preflight ends here) → filter →
//! mirror (copies, beside it) → send (to one endpoint, its session's if it has one, again where that is safe) → the answer's
//! filters and token, or a tunnel (`http/upgrade`). It is decided on one snapshot; the next request of the connection may be
//! decided on another one. However it ends, the client gets an answer with a reason and one record is written.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::{self, Asker, REQUEST_ID};
use crate::http::canonical::{self, Canonical};
use crate::http::cors::Sharing;
use crate::http::engine::{self, Finished};
use crate::http::session::{Session, Stay};
use crate::http::upgrade::Upgrade;
use crate::http::{Body, Request, Response, filter};
use crate::limits;
use crate::model::{Alias, Endpoint, Snapshot};
use crate::telemetry::Account;

use super::conversation::Conversation;
use super::route::{self, Route};
use super::send::{self, Plan};
use super::{line, mirror};

/// What is done when an answer's body has ended.
type Then = Box<dyn FnOnce(&Finished)>;

pub async fn carry(conversation: Rc<Conversation>, request: Request) -> Response {
    let snapshot = conversation.worker.shared.snapshots.current();
    let mut account = open(&conversation, &snapshot, &request);
    let asker = Asker::of(&request);
    let name = account.name();
    let mut sharing = None;
    let carried = Box::pin(journey(&conversation, &snapshot, request, (&mut account, &mut sharing))).await;
    let (mut response, then) = carried.unwrap_or_else(|error| {
        account.note(|record| record.fail(&error));
        (answer::refusal(asker, &error), None)
    });
    response.headers_mut().insert(REQUEST_ID, name);
    if let Some(sharing) = sharing {
        sharing.write(response.status(), response.headers_mut());
    }
    account.answered(response, |finished| {
        if let Some(then) = then {
            then(finished);
        }
    })
}

fn open(conversation: &Conversation, snapshot: &Snapshot, request: &Request) -> Account {
    let mut record = conversation.record(snapshot, request);
    record.service = snapshot.destination(conversation.asked).service().cloned();
    record.original_destination = Some(conversation.asked);
    Account::open(&conversation.worker.shared.telemetry, record)
}

/// `sharing`: what the answer says of other origins, once its rule is known, whatever becomes of the request.
async fn journey<'a>(
    conversation: &Rc<Conversation>,
    snapshot: &'a Arc<Snapshot>,
    request: Request,
    (account, sharing): (&mut Account, &mut Option<Sharing<'a>>),
) -> Result<(Response, Option<Then>), ConnectionError> {
    let (mut head, body) = request.into_parts();
    canonical::refuse_tunnel(&head)?;
    let routes = route::routes(conversation, snapshot);
    let read = if routes.is_some() { canonical::canonical(&head) } else { canonical::as_received(&head) };
    let mut canonical = read.map_err(|refused| {
        ConnectionError::new(Side::Downstream, Reason::BadRequest).with_detail(refused.to_string())
    })?;
    account.note(|record| record.judged(&canonical));
    let mut upgrade = Upgrade::begin(&mut head);
    let mut route = route::choose(conversation, snapshot, routes, &canonical, &head)?;
    *sharing = route.sharing(&canonical, &head);
    if let Some(preflight) = sharing.as_ref().filter(|sharing| sharing.is_preflight()) {
        account.note(|record| {
            route.describe(record);
            record.reason = Reason::Preflight;
            record.detail = preflight.refusal();
        });
        return Ok((answer::preflight(), None));
    }
    let led = route.lead(snapshot, conversation.namespace.as_ref());
    account.note(|record| route.describe(record));
    led?;
    let session = route.session(&head.headers, Timestamp::now);
    if let Some(redirect) = filter_request(&route, conversation, &mut canonical, &mut head)? {
        account.note(|record| record.reason = Reason::Redirected);
        return Ok((filter_answer(&route, redirect), None));
    }
    head.headers.insert(REQUEST_ID, account.name());
    upgrade.ask(&mut head, &body, route.version);
    canonical
        .write(&mut head, route.version.into())
        .map_err(|refused| ConnectionError::new(Side::Local, Reason::BadRequest).with_detail(refused.to_string()))?;
    // Nobody would hold a copy's connection after it has changed its protocol.
    let mirrors = if upgrade.is_asked() { Vec::new() } else { mirror::wanted(&route) };
    let body = if mirrors.is_empty() { account.counted(body) } else { in_time(&route, kept(body, account)).await? };
    let mut request = Request::from_parts(head, body);
    let tunnel = upgrade.hold(&mut request);
    mirror::begin(conversation, snapshot, mirrors, (&canonical, &request), account);
    let plan = Plan {
        session: session.as_ref().and_then(|session| route.place_of(session)),
        ..route.plan(snapshot, account.started())
    };
    if plan.session.is_some() {
        account.note(|record| record.session = Some(Stay::Kept));
    }
    let mut answered = in_time(&route, Box::pin(send::send(conversation, &plan, request, account))).await?;
    let session = session.map(|session| (session, answered.by));
    if let Some(ends) = upgrade.finish(&mut answered.response, tunnel)? {
        tell_session(session, answered.response.headers_mut(), account);
        ends.spawn(&conversation.worker, &conversation.pod, (Rc::clone(conversation), answered.rest));
        return Ok((answered.response, None));
    }
    let mut response = filter_answer(&route, answered.response);
    tell_session(session, response.headers_mut(), account);
    Ok((response, Some(and_then(conversation, answered.rest))))
}

/// Applies the rule's filters and then the backend's. An answer: the request is redirected and goes no further.
fn filter_request(
    route: &Route<'_>,
    conversation: &Conversation,
    canonical: &mut Canonical,
    head: &mut Parts,
) -> Result<Option<Response>, ConnectionError> {
    for filters in route.filters() {
        let dialled = conversation.asked.port();
        match filter::apply_request(filters, route.chosen.as_ref(), dialled, canonical, &mut head.headers) {
            Ok(filter::Next::Forward) => {}
            Ok(filter::Next::Redirect(redirect)) => return Ok(Some(answer::redirect(&redirect))),
            Err(why) => {
                return Err(ConnectionError::new(Side::Local, Reason::BrokenRoute).with_detail(why.to_string()));
            }
        }
    }
    Ok(None)
}

/// Also a redirect is an answer of its rule; an error that the agent had to give is not.
fn filter_answer(route: &Route<'_>, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    for filters in route.filters() {
        filter::apply_response(filters, &mut head);
    }
    Response::from_parts(head, body)
}

/// The client learns who has its session now. After the filters: they speak of what the application says.
fn tell_session(session: Option<(Session<'_>, Endpoint)>, headers: &mut HeaderMap, account: &mut Account) {
    let Some((session, by)) = session else { return };
    let by = Alias::of(&by);
    account.note(|record| {
        record.session = Some(session.stay(by));
        // An agent that answers for its application has no session to keep.
        if record.told.is_none() {
            session.tell(by, headers);
        }
    });
}

/// A body that mirrors need too, in memory where it is short. A longer one is sent once.
async fn kept(body: Body, account: &Account) -> Result<Body, ConnectionError> {
    let short = body.length().is_some_and(|length| length <= limits::RETRY_BODY_MAXIMUM as u64);
    if !short {
        return Ok(account.counted(body));
    }
    let bytes = account.counted(body).collected(limits::RETRY_BODY_MAXIMUM).await.map_err(|error| {
        account.blame(ConnectionError::new(Side::Downstream, Reason::DownstreamReset).with_detail(error.to_string()))
    })?;
    Ok(Body::whole(bytes))
}

/// A route's time for a request. Where none is said, an upload or an answer that is long in coming takes as long as it
/// does; silence is bounded by the connections' own ends.
async fn in_time<T>(
    route: &Route<'_>,
    step: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    let Some(limit) = route.request_timeout() else { return step.await };
    timeout(limit, step).await.unwrap_or_else(|_| {
        Err(ConnectionError::new(Side::Upstream, Reason::RequestTimeout)
            .with_detail(format!("no answer came within {limit:?}, retries included")))
    })
}

/// Once the answer has ended, its line serves the next request, and its endpoint has one less to do.
fn and_then(conversation: &Rc<Conversation>, rest: send::Rest) -> Then {
    let worker = Rc::clone(&conversation.worker);
    Box::new(move |finished| {
        let send::Rest { outstanding, key, line } = rest;
        drop(outstanding);
        if finished.how == engine::BodyEnd::Whole {
            line::keep(&worker, key, line);
        }
    })
}
