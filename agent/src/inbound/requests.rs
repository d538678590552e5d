//! Requests to a port that rules about requests speak of: each one is judged on its canonical form, and that form is what
//! the application gets.
//!
//! One connection to the application belongs to one mesh connection, so the application sees the client it has accepted.
//! Absent: routing, balancing and retries, which are the source's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_policy::Asked;
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::{self, Asker as Speaker, REQUEST_ID};
use crate::http::canonical::{self, Canonical};
use crate::http::engine::{self, Line, Served, Unsent};
use crate::http::upgrade::Upgrade;
use crate::http::{Request, Response, Version};
use crate::model::{Enrolment, Snapshot};
use crate::node::pod::{Place, Pod};
use crate::telemetry::{Account, ConnectionId, ConnectionRecord, Direction, Party, RequestRecord, Security};
use crate::worker::Worker;

use super::accept::Arrival;
use super::authorize::{self, Asker};
use super::{connect, open};

/// What all requests of one connection have in common.
struct Gate {
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    arrival: Arrival,
    connection: ConnectionId,
    source: Party,
    destination: Party,
    identity: Option<Identity>,
    security: Security,
    version: Version,
    application: RefCell<Option<Line>>,
    /// The application has ended its connection: then this one takes no further request, so that the source's agent finds
    /// out before it sends one.
    ended: CancellationToken,
    /// Of the pod's budget: an upgraded connection keeps it.
    place: Rc<Place>,
}

/// Judges and forwards until the client has ended or the agent drains.
pub async fn hold<S>(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    arrival: Arrival,
    version: Version,
    (downstream, application): (S, Option<TcpStream>),
    (record, place): (&ConnectionRecord, Place),
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gate = Rc::new(Gate {
        worker: Rc::clone(worker),
        pod: Arc::clone(pod),
        connection: record.id,
        source: record.source.clone(),
        destination: Party { address: Some(arrival.destination), ..record.destination.clone() },
        identity: record.source.identity.clone(),
        security: record.security,
        arrival,
        version,
        application: RefCell::new(None),
        ended: CancellationToken::new(),
        place: Rc::new(place),
    });
    if let Some(application) = application {
        let line = gate.open(application).await?;
        gate.application.replace(Some(line));
    }
    let answer = |request: Request| -> std::pin::Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(judged(Rc::clone(&gate), request))
    };
    let drain = async {
        tokio::select! {
            () = worker.shared.stopping.cancelled() => {}
            () = gate.ended.cancelled() => {}
        }
    };
    let serving = engine::serve(version, downstream, &worker.lines, drain, answer);
    tokio::select! {
        served = serving => match served {
            Served::Ended => Ok(()),
            Served::Failed(why) => {
                Err(ConnectionError::new(Side::Downstream, Reason::DownstreamReset).with_detail(why))
            }
        },
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    }
}

/// The journey of one request.
async fn judged(gate: Rc<Gate>, request: Request) -> Response {
    let snapshot = gate.worker.shared.snapshots.current();
    let mut account = gate.account(&snapshot, &request);
    let (speaker, name) = (Speaker::of(&request), account.name());
    let (mut response, line) = match gate.carry(snapshot, request, &mut account).await {
        Ok(answered) => answered,
        Err(error) => {
            account.note(|record| record.fail(&error));
            (answer::refusal(speaker, &error), None)
        }
    };
    response.headers_mut().insert(REQUEST_ID, name);
    let keeper = Rc::clone(&gate);
    account.answered(response, move |_| {
        if line.is_some() {
            keeper.application.replace(line);
        }
    })
}

fn refused(why: canonical::Refused) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::BadRequest).with_detail(why.to_string())
}

impl Gate {
    fn account(&self, snapshot: &Snapshot, request: &Request) -> Account {
        let mut record = RequestRecord::begin(self.connection, Direction::Inbound, snapshot.version.clone());
        record.source = self.source.clone();
        record.destination = self.destination.clone();
        record.original_destination = Some(self.arrival.destination);
        record.security = self.security;
        record.read(request);
        // The peer's agent has named it. Whoever has no identity may write what it likes, and names nothing.
        let named = request.headers().get(REQUEST_ID).filter(|_| self.identity.is_some());
        if let Some(id) = named.and_then(|name| name.to_str().ok()?.parse().ok()) {
            record.id = id;
        }
        Account::open(&self.worker.shared.telemetry, record)
    }

    async fn carry(
        &self,
        snapshot: Arc<Snapshot>,
        request: Request,
        account: &mut Account,
    ) -> Result<(Response, Option<Line>), ConnectionError> {
        let (mut head, body) = request.into_parts();
        let enrolment = self.pod.enrolment(&snapshot);
        if self.identity.is_none() && !open::accepts_plaintext(&self.arrival, &enrolment) {
            return Err(open::plaintext_refused(&self.arrival, &enrolment));
        }
        let canonical = self.read(&head, &enrolment).map_err(refused)?;
        let upgrade = Upgrade::begin(&mut head);
        self.authorize(&enrolment, &canonical, &head.headers, account)?;
        drop(snapshot);
        head.headers.insert(REQUEST_ID, account.name());
        upgrade.ask(&mut head);
        canonical.write(&mut head, self.version.into()).map_err(refused)?;
        let mut taken = Request::from_parts(head, account.counted(body));
        let tunnel = upgrade.tunnel(&mut taken);
        let mut line = self.line().await?;
        let mut answered = line.send(taken).await;
        if let Err(Unsent { request: Some(untouched), .. }) = answered {
            // The connection was just ending, and the application has seen nothing of it.
            line = self.dial().await?;
            answered = line.send(untouched).await;
        }
        let mut response = answered.map_err(|unsent| {
            ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
                .with_detail(format!("the application ended the connection before an answer: {}", unsent.error))
        })?;
        account.note(|record| record.attempts = 1);
        // The source's agent believes it, and only this agent may say it.
        response.headers_mut().remove(answer::REASON);
        upgrade.finish((&self.worker, &self.pod), &mut response, tunnel, Rc::clone(&self.place))?;
        Ok((response, Some(line)))
    }

    /// What is judged. Where rules only note what passes, nothing is refused for its path.
    fn read(&self, head: &Parts, enrolment: &Enrolment) -> Result<Canonical, canonical::Refused> {
        let canonical = canonical::canonical(head);
        if !authorize::refuses_opaque(enrolment, self.arrival.destination.port()) {
            return canonical.or_else(|_| canonical::as_received(head));
        }
        canonical.and_then(|read| read.check_for_rules().map(|()| read))
    }

    fn authorize(
        &self,
        enrolment: &Enrolment,
        canonical: &Canonical,
        headers: &http::HeaderMap,
        account: &mut Account,
    ) -> Result<(), ConnectionError> {
        let peer = Asker {
            identity: self.identity.as_ref(),
            address: self.arrival.client.ip(),
            port: self.arrival.destination.port(),
        };
        let asked = weft_policy::Request {
            method: canonical.method().as_str(),
            host: canonical.host(),
            path: canonical.path(),
            headers,
        };
        let judgement = authorize::decide(enrolment, peer, Asked::Request(&asked));
        account.note(|record| record.noted = judgement.noted);
        let rule = judgement.granted?;
        account.note(|record| record.rule = rule);
        Ok(())
    }

    /// The application's connection, made anew when it has closed the last one.
    async fn line(&self) -> Result<Line, ConnectionError> {
        let resting = self.application.borrow().as_ref().and_then(Line::share);
        let resting = resting.or_else(|| self.application.take());
        if let Some(mut line) = resting
            && line.is_usable().await
        {
            return Ok(line);
        }
        self.dial().await
    }

    async fn dial(&self) -> Result<Line, ConnectionError> {
        let line = self.open(connect::application(&self.worker, &self.pod, &self.arrival).await?).await?;
        self.application.replace(line.share());
        Ok(line)
    }

    async fn open(&self, application: TcpStream) -> Result<Line, ConnectionError> {
        engine::open(self.version, application, &self.worker.lines, self.ended.clone())
            .await
            .map_err(|error| ConnectionError::upstream_reset(&error))
    }
}
