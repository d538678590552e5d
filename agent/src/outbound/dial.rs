//! One attempt to reach one endpoint: in mesh TLS or in plaintext, to the destination's word that it may speak.
//!
//! A workload that its own agent has reported as serving is spoken to in mesh TLS, whatever happens: a
//! failed handshake never falls back by itself, for that would be an attacker's choice. There are two ways to
//! plaintext. The controller's word that the node's agent is gone for a whole lease, used only after
//! this attempt's own TLS met a reset or an answer that is not TLS. And the end of the own certificate, where the
//! namespace fails open and the workload takes plaintext on every port: then no TLS is attempted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::identity::Credential;
use crate::limits;
use crate::model::{Endpoint, MtlsMode, Workload};
use crate::node::pod::Pod;
use crate::node::socket;
use crate::relay::FirstByte;
use crate::telemetry::{ConnectionRecord, Security};
use crate::wire::client::ClientTls;
use crate::wire::{self, ConnectionName, Outcome, Preamble, Prefixed, Protocol, Status};
use crate::worker::Worker;

use super::destination::Target;

/// A connection to the endpoint's application, with what was already read of it.
pub enum Upstream {
    /// To an application, or to a host that is in no mesh.
    Plaintext(Prefixed<TcpStream>),
    /// To the destination's agent, which has dialled its application. Boxed: the state of TLS is large.
    Mesh(Prefixed<Box<ClientTls>>, FirstByte),
}

impl Upstream {
    pub fn plaintext(stream: TcpStream) -> Self {
        Self::Plaintext(Prefixed::new(Vec::new(), stream))
    }

    pub fn mesh(stream: Box<ClientTls>, first: FirstByte) -> Self {
        Self::Mesh(Prefixed::new(Vec::new(), stream), first)
    }

    /// Bytes that were read from it, and are read again.
    #[must_use]
    pub fn preceded_by(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return self;
        }
        match self {
            Self::Plaintext(stream) => Self::Plaintext(Prefixed::new(bytes, stream.into_parts().1)),
            Self::Mesh(stream, first) => Self::Mesh(Prefixed::new(bytes, stream.into_parts().1), first),
        }
    }
}

pub struct Failure {
    pub error: ConnectionError,
    pub next: Next,
    cause: Cause,
}

/// What a failed attempt says of the other side, where plaintext may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// No mesh agent answered: the dial was refused or reset, or what answered does not speak TLS.
    Unanswered,
    /// Its certificate has ended, and it has proven that it holds the key.
    Ended,
    Other,
}

/// What may follow a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    AnotherEndpoint,
    /// Every endpoint would say the same.
    Stop,
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self { error, next: Next::AnotherEndpoint, cause: Cause::Other }
    }
}

/// How an endpoint is spoken to. Pure.
#[derive(Debug)]
enum Way<'a> {
    Mesh { workload: &'a Arc<Workload>, identity: &'a Identity },
    Plaintext,
}

pub async fn reach(
    worker: &Worker,
    pod: &Pod,
    target: &Target,
    endpoint: &Endpoint,
    record: &mut ConnectionRecord,
) -> Result<Upstream, Failure> {
    let workload = record.destination.workload.clone();
    if is_itself(pod, workload.as_ref()) {
        return plaintext(pod, endpoint.address, record).await;
    }
    let proven = || can_prove_itself(worker, pod);
    match way(target, endpoint, workload.as_ref(), proven)? {
        Way::Plaintext => plaintext(pod, endpoint.address, record).await,
        Way::Mesh { workload, identity } => {
            match mesh(worker, pod, target, endpoint, (workload, identity), record).await {
                Err(failure) if may_follow(failure.cause, target, workload, proven) => {
                    plaintext(pod, endpoint.address, record).await
                }
                result => result,
            }
        }
    }
}

/// What an endpoint would be spoken to in, before anybody has tried.
pub fn intended(
    worker: &Worker,
    pod: &Pod,
    target: &Target,
    endpoint: &Endpoint,
    workload: Option<&Arc<Workload>>,
) -> Result<Security, Failure> {
    if is_itself(pod, workload) {
        return Ok(Security::Plaintext);
    }
    way(target, endpoint, workload, || can_prove_itself(worker, pod)).map(|way| match way {
        Way::Mesh { .. } => Security::Mtls,
        Way::Plaintext => Security::Plaintext,
    })
}

/// `proven`: whether the source pod has a certificate.
fn way<'a>(
    target: &Target,
    endpoint: &Endpoint,
    workload: Option<&'a Arc<Workload>>,
    proven: impl FnOnce() -> bool,
) -> Result<Way<'a>, Failure> {
    let port = endpoint.address.port();
    if let (Some(uid), None) = (&endpoint.workload, workload) {
        // A workload whose row could not be read is no foreign host: it may be strict.
        let error = ConnectionError::new(Side::Local, Reason::UnknownWorkload)
            .with_detail(format!("{} belongs to the workload {uid}, of which nothing is known", endpoint.address));
        return Err(error.into());
    }
    if let Some(workload) = workload.filter(|workload| !workload.excluded_inbound_ports.contains(&port))
        && (workload.mesh_capable || workload.mtls == MtlsMode::Strict)
        && let Some(identity) = &workload.identity
    {
        if goes_on(target, workload) && !proven() {
            return Ok(Way::Plaintext);
        }
        return Ok(Way::Mesh { workload, identity });
    }
    if target.require_mesh_tls {
        let error = ConnectionError::new(Side::Local, Reason::MeshTlsRequired)
            .with_detail(format!("{} does not speak mesh TLS", endpoint.address));
        return Err(error.into());
    }
    Ok(Way::Plaintext)
}

fn can_prove_itself(worker: &Worker, pod: &Pod) -> bool {
    let credential = worker.shared.credentials.of(&pod.uid);
    credential.is_some_and(|credential| credential.check_time(SystemTime::now()).is_ok())
}

impl Cause {
    fn of(failure: &wire::client::Failure) -> Self {
        if failure.peer_has_ended {
            Self::Ended
        } else if matches!(failure.error.reason, Reason::PeerAgentDown | Reason::UpstreamRefused) {
            Self::Unanswered
        } else {
            Self::Other
        }
    }
}

/// Whether plaintext may follow. `proven`: whether the source pod has a certificate, which may have ended meanwhile.
fn may_follow(cause: Cause, target: &Target, workload: &Workload, proven: impl FnOnce() -> bool) -> bool {
    match cause {
        Cause::Ended => goes_on(target, workload),
        Cause::Unanswered if may_fall_back(target, workload) => true,
        Cause::Unanswered | Cause::Other => goes_on(target, workload) && !proven(),
    }
}

/// Whether the two do without certificates that have ended.
fn goes_on(target: &Target, workload: &Workload) -> bool {
    target.outlives_certificate && workload.takes_plaintext
}

/// The lease rule (ARCHITECTURE.md, Who counts as mesh-capable).
fn may_fall_back(target: &Target, workload: &Workload) -> bool {
    workload.plaintext_permitted && workload.mtls == MtlsMode::Permissive && !target.require_mesh_tls
}

/// A pod that reaches itself through its own Service: the connection never leaves the pod.
fn is_itself(pod: &Pod, workload: Option<&Arc<Workload>>) -> bool {
    workload.is_some_and(|workload| workload.uid == pod.uid)
}

async fn plaintext(pod: &Pod, address: SocketAddr, record: &mut ConnectionRecord) -> Result<Upstream, Failure> {
    record.security = Security::Plaintext;
    Ok(Upstream::plaintext(dial(pod, address).await?))
}

async fn dial(pod: &Pod, address: SocketAddr) -> Result<TcpStream, ConnectionError> {
    let dialling = async {
        let created = socket::stream_socket(&pod.netns, address.ip())?;
        socket::connect(created, address, limits::CONNECT_TIMEOUT).await
    };
    dialling.await.map_err(|error| socket::dial_error(address, &error))
}

async fn mesh(
    worker: &Worker,
    pod: &Pod,
    target: &Target,
    endpoint: &Endpoint,
    (workload, identity): (&Arc<Workload>, &Identity),
    record: &mut ConnectionRecord,
) -> Result<Upstream, Failure> {
    let credential = worker.shared.credentials.of(&pod.uid).ok_or_else(|| Failure {
        error: ConnectionError::new(Side::Local, Reason::NoCertificate)
            .with_detail("the controller has not signed this pod's certificate yet"),
        next: Next::Stop,
        cause: Cause::Other,
    })?;
    let handshake = async {
        let stream = dial(pod, endpoint.address).await?;
        secure(stream, &credential, identity, workload).await
    };
    // Silence is no answer that would permit plaintext: an attacker can drop packets.
    let mut tls = timeout(limits::PEER_ATTEMPT, handshake)
        .await
        .map_err(|_| too_slow(endpoint))?
        .map_err(|failure| Failure { cause: Cause::of(&failure), error: failure.error, next: Next::AnotherEndpoint })?;
    record.security = Security::Mtls;
    record.resumed = wire::client::resumed(&tls);
    record.source.identity = Some(credential.identity.clone());
    record.destination.identity = Some(identity.clone());
    let preamble = preamble(pod, target, record);
    let status =
        timeout(limits::STATUS_TIMEOUT, wire::client::ask(&mut tls, &preamble)).await.unwrap_or_else(|_| {
            Err(ConnectionError::new(Side::Upstream, Reason::PeerAgentDown)
                .with_detail("no status followed the preamble"))
        })?;
    judge(status)?;
    let first = if target.protocol == Protocol::Undeclared { FirstByte::AddTag } else { FirstByte::AsIs };
    Ok(Upstream::mesh(tls, first))
}

fn too_slow(endpoint: &Endpoint) -> ConnectionError {
    ConnectionError::new(Side::Upstream, Reason::PeerAgentDown).with_detail(format!(
        "{} did not answer within {:?}",
        endpoint.address,
        limits::PEER_ATTEMPT
    ))
}

async fn secure(
    stream: TcpStream,
    credential: &Credential,
    identity: &Identity,
    workload: &Workload,
) -> Result<Box<wire::client::ClientTls>, wire::client::Failure> {
    Ok(Box::new(wire::client::handshake(stream, credential, identity, &workload.uid).await?))
}

fn preamble(pod: &Pod, target: &Target, record: &ConnectionRecord) -> Preamble {
    Preamble {
        source: Some(pod.uid.clone()),
        service: target.service.clone(),
        port: target.port,
        protocol: target.protocol,
        connection: ConnectionName::new(&record.id.to_string()),
        requires: Vec::new(),
    }
}

/// Whether the destination's agent lets the connection through; its refusal says whether another endpoint may do better.
fn judge(status: Status) -> Result<(), Failure> {
    let next = match status.outcome {
        Outcome::Denied => Next::Stop,
        Outcome::Ok | Outcome::AppRefused | Outcome::Draining | Outcome::Overloaded | Outcome::Unsupported => {
            Next::AnotherEndpoint
        }
    };
    status.into_error().map_or(Ok(()), |error| Err(Failure { error, next, cause: Cause::Other }))
}
