//! A controller for tests: signs what it is told to sign.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::CertificateSigningRequestParams;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate as Pem, Identity as PemIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use weft_proto::v1::identity_server::{Identity, IdentityServer};
use weft_proto::v1::{Certificate, IssueRequest, JoinRequest};

use crate::tls::fixtures::{Authority, HOUR, Shape, dns_name};

pub(super) const TOKEN: &str = "let-me-in";

/// What the controller does, changed while it runs.
pub(super) struct Rules {
    pub(super) authority: Authority,
    /// The identity that it signs for any workload.
    pub(super) identity: Mutex<String>,
    /// Not before and not after, from now.
    pub(super) before: Mutex<Duration>,
    pub(super) after: Mutex<Duration>,
    pub(super) refuses: AtomicBool,
    pub(super) is_silent: AtomicBool,
    pub(super) joins: AtomicU32,
    pub(super) renewals: AtomicU32,
    pub(super) issues: AtomicU32,
}

impl Rules {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            authority: Authority::new(),
            identity: Mutex::new(crate::tls::fixtures::WEB.to_owned()),
            before: Mutex::new(Duration::from_mins(1)),
            after: Mutex::new(24 * HOUR),
            refuses: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            joins: AtomicU32::new(0),
            renewals: AtomicU32::new(0),
            issues: AtomicU32::new(0),
        })
    }

    async fn sign(&self, uri: &str, csr: Vec<u8>) -> Result<Response<Certificate>, Status> {
        if self.is_silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Status::permission_denied("not today"));
        }
        let request = CertificateSigningRequestParams::from_der(&csr.into())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = SystemTime::now();
        let shape = Shape::uri(uri).valid(now - *self.before.lock().unwrap(), now + *self.after.lock().unwrap());
        let leaf = self.authority.sign(&shape, &request.public_key);
        Ok(Response::new(Certificate {
            chain_der: vec![leaf.to_vec()],
            not_before_unix_seconds: 0,
            not_after_unix_seconds: 0,
            roots_der: vec![self.authority.root()],
        }))
    }
}

struct Service(Arc<Rules>);

#[tonic::async_trait]
impl Identity for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Certificate>, Status> {
        let shows_certificate = request.peer_certs().is_some_and(|certificates| !certificates.is_empty());
        let JoinRequest { node, token, csr_der } = request.into_inner();
        match token.as_str() {
            "" if shows_certificate => self.0.renewals.fetch_add(1, Ordering::Relaxed),
            TOKEN => self.0.joins.fetch_add(1, Ordering::Relaxed),
            _ => return Err(Status::unauthenticated("neither a token nor a certificate")),
        };
        self.0.sign(&format!("spiffe://cluster.local/weft/node/{node}"), csr_der).await
    }

    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<Certificate>, Status> {
        if request.peer_certs().is_none_or(|certificates| certificates.is_empty()) {
            return Err(Status::unauthenticated("nothing is signed without a proof of the node"));
        }
        self.0.issues.fetch_add(1, Ordering::Relaxed);
        let identity = self.0.identity.lock().unwrap().clone();
        self.0.sign(&identity, request.into_inner().csr_der).await
    }
}

/// A running controller; it ends with `stop`.
pub(super) struct Controller {
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Controller {
    /// Serves at `address` under the name `name`.
    pub(super) async fn start(rules: &Arc<Rules>, address: SocketAddr, name: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let material = rules.authority.material(&Shape { names: vec![dns_name(name)], ..Shape::uri("x:y") });
        let chain: String =
            material.chain.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))).collect();
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", material.key.secret_pkcs8_der()));
        let tls = ServerTlsConfig::new()
            .identity(PemIdentity::from_pem(chain, key))
            .client_ca_root(Pem::from_pem(rules.authority.root_pem()))
            .client_auth_optional(true);
        let stop = CancellationToken::new();
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(IdentityServer::new(Service(Arc::clone(rules))))
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        let mut serving = JoinSet::new();
        serving.spawn(async move { server.await.unwrap() });
        Self { stop, serving }
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        // Open streams would keep it alive: a controller that is gone is gone at once.
        self.serving.shutdown().await;
    }
}
