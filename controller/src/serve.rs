//! The gRPC server: TLS 1.3 by our own root, `Discovery`, `Report`, `Identity`.
//!
//! A client without a certificate may only join. Every service asks `authenticate` itself; no interceptor is trusted
//! to have done so. Absent: what is served (`mesh`, `publish`, `ca`).

pub mod admin;
mod discovery;
mod hello;
mod identity;
mod listen;
mod report;

pub use hello::Hellos;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use weft_proto::names::TrustDomain;
use weft_proto::v1::discovery_server::DiscoveryServer;
use weft_proto::v1::identity_server::IdentityServer;
use weft_proto::v1::report_server::ReportServer;

use crate::authenticate::{self, FirstProof, ProvenNode, Unproven};
use crate::ca::Authority;
use crate::leader::Standing;
use crate::limits;
use crate::mesh::Mesh;
use crate::review;
use crate::sparing::Sparing;
use crate::trouble::Troubles;

use listen::Caller;
pub use report::judge;

/// What every service needs.
#[derive(Debug, Clone)]
pub struct Services {
    pub mesh: Mesh,
    pub authority: Arc<Authority>,
    pub first_proof: FirstProof,
    pub standing: watch::Receiver<Standing>,
    pub troubles: Troubles,
    /// Nodes that were not let in, of which anybody may cause any number.
    pub refusals: Sparing,
    /// Agents that say at this moment what they hold.
    pub hellos: Hellos,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Services {
    /// The node that this very connection has proven.
    fn proven<T>(&self, request: &Request<T>) -> Result<ProvenNode, Status> {
        let certificates = request.extensions().get::<Caller>().and_then(Caller::certificates);
        let certificates = certificates.as_deref().map(Vec::as_slice);
        authenticate::by_certificate(self.trust_domain(), certificates, OffsetDateTime::now_utc()).map_err(refused)
    }

    /// Agents are told by one controller and tell it: two would each know half of them.
    fn leads(&self) -> Result<(), Status> {
        let Standing { leads, serves } = *self.standing.borrow();
        match (leads, serves) {
            (true, _) => Ok(()),
            (false, false) => Err(Status::unavailable("another controller leads; try again, and you may be led to it")),
            (false, true) => {
                Err(Status::unavailable("another controller may lead by now; try again, and you may be led to it"))
            }
        }
    }

    /// Whoever asks for a stream in vain has its connection ended soon, so that its next one may lead to whoever leads.
    fn lead_away(&self, request: &Request<()>) {
        if let (Err(_), Some(caller)) = (self.leads(), request.extensions().get::<Caller>()) {
            caller.send_off();
        }
    }

    fn trust_domain(&self) -> &TrustDomain {
        self.authority.trust_domain()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the last thing that happens to the error")]
fn refused(reason: Unproven) -> Status {
    if reason == Unproven::NotReviewed(review::Refused::NoAnswer) {
        return Status::unavailable(reason.to_string());
    }
    Status::unauthenticated(reason.to_string())
}

/// Serves until `services.stop`, and returns when all connections are closed.
pub async fn serve(listener: TcpListener, names: Vec<rcgen::SanType>, services: Services) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener has no address")?;
    let acceptor = listen::Acceptor::new(&services.authority, names)?;
    let connections = listen::accept(listener, acceptor, &services);
    tracing::info!(%address, trust_domain = %services.trust_domain(), "serving agents");
    let bounded = limits::AGENT_MESSAGE_BYTES;
    let stop = services.stop.clone();
    let leading_away = services.clone();
    let streams = move |request: Request<()>| {
        leading_away.lead_away(&request);
        Ok(request)
    };
    let discovery = DiscoveryServer::new(services.clone()).max_decoding_message_size(bounded);
    let report = ReportServer::new(services.clone()).max_decoding_message_size(bounded);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .concurrency_limit_per_connection(limits::REQUESTS_PER_CONNECTION)
        .add_service(InterceptedService::new(discovery, streams.clone()))
        .add_service(InterceptedService::new(report, streams))
        .add_service(IdentityServer::new(services).max_decoding_message_size(limits::REQUEST_BYTES))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned());
    Box::pin(serving).await.context("the server failed")
}

/// Names that our certificate carries: a fixed one that agents verify, and those that a person may dial.
pub fn server_names(listen: SocketAddr, more: &[String]) -> anyhow::Result<Vec<rcgen::SanType>> {
    let mut names = vec![];
    for name in ["weft-controller", "weft-controller.weft-system.svc", "localhost"]
        .into_iter()
        .chain(more.iter().map(String::as_str))
    {
        names.push(match name.parse() {
            Ok(address) => rcgen::SanType::IpAddress(address),
            Err(_) => {
                rcgen::SanType::DnsName(name.try_into().with_context(|| format!("{name:?} is not a server name"))?)
            }
        });
    }
    if !listen.ip().is_unspecified() {
        names.push(rcgen::SanType::IpAddress(listen.ip()));
    }
    for address in [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()] {
        names.push(rcgen::SanType::IpAddress(address));
    }
    Ok(names)
}
