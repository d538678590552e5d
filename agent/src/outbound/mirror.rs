//! Copies of requests for backends that are watched, not asked.
//!
//! Whatever becomes of a copy never touches the request: it goes at the same time, its answer is thrown away, and there are
//! never more than a bounded number under way. Absent: bodies that are not short (their records say so), and upgrades.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::timeout;
use weft_proto::names::NamespacedName;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::REQUEST_ID;
use crate::http::canonical::Canonical;
use crate::http::engine::{BodyError, Interim};
use crate::http::retry::again;
use crate::http::{Request, filter};
use crate::limits;
use crate::model::{Mirror, Snapshot};
use crate::telemetry::Account;

use super::conversation::Conversation;
use super::line;
use super::route::{self, Route};
use super::send;

/// The mirrors of this request, by their share.
pub fn wanted(route: &Route<'_>) -> Vec<Mirror> {
    route.filters().flat_map(|filters| filter::mirrors(filters, &mut rand::rng())).cloned().collect()
}

/// Sends a copy to each of them, beside the request.
pub fn begin(
    conversation: &Rc<Conversation>,
    snapshot: &Arc<Snapshot>,
    mirrors: Vec<Mirror>,
    (canonical, request): (&Canonical, &Request),
    account: &mut Account,
) {
    for mirror in mirrors {
        let permit = Arc::clone(&conversation.worker.mirrors).try_acquire_owned().ok();
        let (Some(copy), Some(permit)) = (again(request), permit) else {
            account.note(|record| {
                record.detail = Some("not mirrored: its body is long, or too many copies are under way".to_owned());
            });
            continue;
        };
        let (own, snapshot, canonical) = (Rc::clone(conversation), Arc::clone(snapshot), canonical.clone());
        let mut beside = open(conversation, &snapshot, request, account);
        conversation.worker.spawn(async move {
            let carried = Box::pin(carry(&own, &snapshot, &mirror, (&canonical, copy), &mut beside));
            let carried = timeout(limits::MIRROR_TIMEOUT, carried).await.unwrap_or_else(|_| {
                Err(ConnectionError::new(Side::Upstream, Reason::RequestTimeout).with_detail("a mirror's copy"))
            });
            if let Err(error) = carried {
                beside.note(|record| record.fail(&error));
            }
            beside.ended();
            drop(permit);
        });
    }
}

fn open(conversation: &Conversation, snapshot: &Snapshot, request: &Request, account: &Account) -> Account {
    let mut record = conversation.record(snapshot, request);
    record.detail = Some(format!("a mirror's copy of {}", account.id()));
    Account::open(&conversation.worker.shared.telemetry, record)
}

async fn carry(
    conversation: &Conversation,
    snapshot: &Snapshot,
    mirror: &Mirror,
    (canonical, copy): (&Canonical, Request),
    account: &mut Account,
) -> Result<(), ConnectionError> {
    let route = route::to_mirror(conversation, snapshot, &mirror.backend.target, copy.headers())?;
    let (mut head, body) = copy.into_parts();
    Interim::forget(&mut head.extensions);
    // The other side's record is of the copy, not of the request.
    head.headers.insert(REQUEST_ID, account.name());
    canonical
        .write(&mut head, route.version.into())
        .map_err(|refused| ConnectionError::new(Side::Local, Reason::BadRequest).with_detail(refused.to_string()))?;
    let copy = Request::from_parts(head, body);
    let backend: Option<(NamespacedName, u16)> = route.backend_port();
    account.note(|record| record.backend = backend);
    let plan = route.plan(snapshot, account.started());
    let answered = Box::pin(send::send(conversation, &plan, copy, account)).await?;
    account.note(|record| record.status = Some(answered.response.status().as_u16()));
    let send::Rest { key, line, outstanding } = answered.rest;
    match answered.response.into_body().discarded(limits::MIRROR_ANSWER_MAXIMUM).await {
        Ok(()) => line::keep(&conversation.worker, key, line),
        Err(BodyError::TooLong(_)) => {}
        Err(error @ (BodyError::Stream(_) | BodyError::Broken(_) | BodyError::Superseded)) => {
            return Err(ConnectionError::upstream_reset(&error));
        }
    }
    drop(outstanding);
    Ok(())
}
