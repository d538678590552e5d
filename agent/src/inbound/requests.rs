//! Requests, judged one by one. Where rules about requests speak of the port it is the canonical form that is judged, and
//! that the application gets; elsewhere it gets what was sent.
//!
//! One connection to the application belongs to one mesh connection, so the application sees the client it has accepted.
//! Absent: routing, balancing and retries, which are the source's.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_policy::Asked;
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::{self, Asker as Speaker, REQUEST_ID};
use crate::http::canonical::{self, Canonical};
use crate::http::engine::{self, Leave, Line, Peer, Transport, Unsent};
use crate::http::retry;
use crate::http::upgrade::Upgrade;
use crate::http::{Request, Response, Version};
use crate::limits;
use crate::model::{Beginning, Enrolment, Snapshot};
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::quiet::quietly;
use crate::telemetry::{Account, ConnectionId, ConnectionRecord, Direction, Party, RequestRecord, Security};
use crate::worker::Worker;

use super::accept::Arrival;
use super::authorize::{self, Asker};
use super::{application, sniff};

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
    /// One dials at a time, so that streams that begin together share a connection.
    dialling: tokio::sync::Mutex<()>,
    /// The application has ended its connection of HTTP/2: then this one takes no further request, so that the source's agent finds
    /// out before it sends one.
    ended: CancellationToken,
    /// Of the pod's budget: an upgraded connection keeps it.
    place: Rc<Place>,
}

/// What a request says of itself.
struct Read {
    /// Where it is another form than the one that is forwarded.
    judged: Option<Canonical>,
    forwarded: Canonical,
}

impl Read {
    fn judged(&self) -> &Canonical {
        self.judged.as_ref().unwrap_or(&self.forwarded)
    }
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
    S: Transport,
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
        dialling: tokio::sync::Mutex::new(()),
        ended: CancellationToken::new(),
        place: Rc::new(place),
    });
    if let Some(application) = application {
        // Until now every end was a failure.
        socket::end_in_order(&application);
        let line = gate.open(application).await?;
        gate.application.replace(Some(line));
    }
    let answer =
        |request: Request| -> Pin<Box<dyn Future<Output = Response>>> { Box::pin(judged(Rc::clone(&gate), request)) };
    let mut over = quietly(async {
        tokio::select! {
            () = worker.shared.stopping.cancelled() => Leave::WithNextAnswer,
            () = gate.ended.cancelled() => Leave::AtOnce,
        }
    });
    let drain = poll_fn(|task| {
        // Each time anew: whoever has answered a request puts its line back.
        let resting = gate.application.borrow().as_ref().map_or(Poll::Pending, |line| line.poll_closed(task));
        if resting.is_ready() { Poll::Ready(Leave::AtOnce) } else { Pin::new(&mut over).poll(task) }
    });
    let peer = if gate.identity.is_some() { Peer::Agent } else { Peer::Stranger };
    let serving = engine::serve(version, peer, downstream, &worker.lines, drain, answer);
    tokio::select! {
        biased;
        served = serving => served.into_result(),
        reason = quietly(worker.cut(pod)) => Err(ConnectionError::new(Side::Local, reason)),
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
        if self.identity.is_none() && !sniff::accepts(&self.arrival, &enrolment, Beginning::Anything) {
            return Err(sniff::plaintext_refused(&self.arrival, &enrolment));
        }
        canonical::refuse_tunnel(&head)?;
        let read = self.read(&head, &enrolment).map_err(refused)?;
        account.note(|record| record.judged(read.judged()));
        let mut upgrade = Upgrade::begin(&mut head);
        self.authorize(&enrolment, read.judged(), &head.headers, account)?;
        drop(snapshot);
        head.headers.insert(REQUEST_ID, account.name());
        upgrade.ask(&mut head, &body, self.version);
        read.forwarded.write(&mut head, self.version.into()).map_err(refused)?;
        let mut taken = Request::from_parts(head, account.counted(body));
        let tunnel = upgrade.hold(&mut taken);
        let (mut response, line) = Box::pin(self.ask(taken, account)).await?;
        // The source's agent believes it, and only this agent may say it.
        response.headers_mut().remove(answer::REASON);
        if let Some(ends) = upgrade.finish(&mut response, tunnel)? {
            ends.spawn(&self.worker, &self.pod, Rc::clone(&self.place));
        }
        if self.version == Version::Http1 && !line.lasts() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The source's agent knows at once that it sends no further request here.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok((response, Some(line)))
    }

    /// Sends a request to the application: again if it has not begun with it by its own word, or once if it met a connection
    /// that had rested and was just ending, and doing it twice is doing it once.
    async fn ask(&self, request: Request, account: &mut Account) -> Result<(Response, Line), ConnectionError> {
        let idempotent = retry::Asked::of(&request).is_idempotent();
        let repeats = idempotent || self.version == Version::Http2;
        let mut request = if repeats { request.map(|body| body.replayed(limits::RETRY_BODY_MAXIMUM)) } else { request };
        let mut last = String::new();
        for attempt in 1..=limits::REQUEST_PICKS_AGAIN {
            let (mut line, rested) = self.line().await?;
            let just_ending = rested && attempt == 1 && idempotent;
            let spare = if just_ending || self.version == Version::Http2 { retry::again(&request) } else { None };
            account.note(|record| record.attempts = attempt);
            let Unsent { request: untouched, why, refused, of_stream, impossible } = match line.send(request).await {
                Ok(response) => return Ok((response, line)),
                Err(unsent) => unsent,
            };
            if impossible {
                let error = ConnectionError::new(Side::Upstream, Reason::TunnelRefused).with_detail(why);
                return Err(account.blame(error));
            }
            let spare = spare.filter(|spare| (refused || (just_ending && !of_stream)) && spare.body().is_intact());
            last = why;
            match untouched.or(spare) {
                Some(another) => request = another,
                None => break,
            }
        }
        let error = ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
            .with_detail(format!("the application ended the connection before an answer: {last}"));
        Err(account.blame(error))
    }

    /// One form is judged and forwarded where rules with an effect speak of the port. Where none does, a request goes on as
    /// it came, also if rules note what passes.
    fn read(&self, head: &Parts, enrolment: &Enrolment) -> Result<Read, canonical::Refused> {
        let port = self.arrival.destination.port();
        if authorize::refuses_opaque(enrolment, port) {
            let forwarded = canonical::canonical(head)?;
            forwarded.check_for_rules()?;
            return Ok(Read { judged: None, forwarded });
        }
        let forwarded = canonical::as_received(head)?;
        let judged = if authorize::notes_requests(enrolment, port) { canonical::canonical(head).ok() } else { None };
        Ok(Read { judged, forwarded })
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

    /// The application's connection, made anew when it has closed the last one, and whether it has rested.
    async fn line(&self) -> Result<(Line, bool), ConnectionError> {
        let _turn = self.dialling.lock().await;
        let resting = self.application.borrow().as_ref().and_then(Line::share);
        let resting = resting.or_else(|| self.application.take());
        if let Some(mut line) = resting
            && line.is_usable().await
        {
            return Ok((line, true));
        }
        Ok((self.dial().await?, false))
    }

    async fn dial(&self) -> Result<Line, ConnectionError> {
        let line = self.open(application::dial(&self.worker, &self.pod, &self.arrival).await?).await?;
        self.application.replace(line.share());
        Ok(line)
    }

    async fn open(&self, application: TcpStream) -> Result<Line, ConnectionError> {
        engine::open(self.version, application, &self.worker.lines, self.ended.clone())
            .await
            .map_err(|error| ConnectionError::upstream_reset(&error))
    }
}
