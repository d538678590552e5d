//! The node's own membership: a join token becomes a certificate, the certificate a channel to the controller.
//!
//! Invariants: what was kept serves at once, whether or not the controller is there; a failed renewal leaves the old
//! certificate serving to its end; the controller is believed only with a certificate for `weft-controller` from a root
//! of the CA file as it is now, of the snapshot, or of those that came with the node's certificate. Absent: the streams
//! that use the channel.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::{self, Channel, ClientTlsConfig, Endpoint};
use weft_proto::names::NodeName;

use super::CertificateFacts;
use super::credentials::{Credentials, Wanted};
use super::dial::dialer;
use super::issue::{self, IssueError};
use super::keys::{Kept, KeyFolder, KeyName, certificate_pem};
use super::retry::{self, BackOff};
use crate::limits;
use crate::tls::Leaf;

/// The name in the controller's certificate.
const CONTROLLER_NAME: &str = "weft-controller";

#[derive(Debug, Clone)]
pub struct JoinSettings {
    pub node: NodeName,
    /// `HOST:PORT`.
    pub controller: String,
    /// Root certificates, PEM.
    pub ca_file: PathBuf,
    pub join_token_file: Option<PathBuf>,
    pub keys: KeyFolder,
}

/// This node as the controller knows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Membership {
    channel: watch::Receiver<Option<Channel>>,
    facts: Arc<ArcSwap<CertificateFacts>>,
}

impl Membership {
    /// The channel that shows the newest certificate; it connects when it is used, and again after a loss. To be asked
    /// anew for every stream. Waits until the node is a member; nothing when `Join` has ended.
    pub async fn channel(&self) -> Option<Channel> {
        let mut receiver = self.channel.clone();
        receiver.wait_for(Option::is_some).await.ok().and_then(|channel| channel.clone())
    }

    /// As `channel`, without waiting.
    #[must_use]
    pub fn current(&self) -> Option<Channel> {
        self.channel.borrow().clone()
    }

    /// The node's certificate for status.
    #[must_use]
    pub fn facts(&self) -> Arc<CertificateFacts> {
        self.facts.load_full()
    }

    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.clone()
    }
}

/// The task that makes this node a member and keeps it one.
#[derive(Debug)]
pub struct Join {
    settings: JoinSettings,
    channel: watch::Sender<Option<Channel>>,
    facts: Arc<ArcSwap<CertificateFacts>>,
    certificate: Option<Kept>,
    generation: u64,
    /// What the snapshot says about whom to believe.
    wanted: watch::Receiver<Option<Wanted>>,
    /// Whom `channel` believes.
    believed: Believed,
}

/// Whom the controller may be signed by, beside the roots that came with the node's certificate.
#[derive(Debug, PartialEq, Eq)]
struct Believed {
    /// PEM, or why it cannot be read.
    file: Result<Vec<u8>, String>,
    /// DER; of the snapshot.
    roots: Arc<[Vec<u8>]>,
}

impl Believed {
    /// Also true where the file says nothing.
    fn file_holds(&self, root: Option<&Vec<u8>>) -> bool {
        let Ok(blocks) = self.file.as_ref().map_or_else(|_| Ok(Vec::new()), pem::parse_many) else { return true };
        blocks.is_empty() || root.is_none_or(|root| blocks.iter().any(|block| block.contents() == root))
    }
}

#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("{} cannot be read: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("the node has no valid certificate and no join token file is given")]
    NoToken,
    #[error("the controller's address or the certificates are not usable: {0}")]
    Channel(#[from] transport::Error),
    #[error("{by}: {error}")]
    Issue { by: &'static str, error: IssueError },
    #[error("{renewal}; {token}")]
    Both { renewal: Box<JoinError>, token: Box<JoinError> },
}

impl Join {
    #[must_use]
    pub fn new(settings: JoinSettings, credentials: &Credentials) -> (Self, Membership) {
        let (sender, receiver) = watch::channel(None);
        let facts = Arc::new(ArcSwap::from_pointee(CertificateFacts {
            workload: None,
            identity: format!("node {}", settings.node),
            not_after: None,
            generation: 0,
            last_error: None,
        }));
        let membership = Membership { channel: receiver, facts: Arc::clone(&facts) };
        let wanted = credentials.wanted();
        let believed = Believed { file: Ok(Vec::new()), roots: Arc::default() };
        (Self { settings, channel: sender, facts, certificate: None, generation: 0, wanted, believed }, membership)
    }

    /// Runs until `stop`. Never fails: what is wrong is tried again and told by `Membership::facts`.
    pub async fn run(mut self, stop: CancellationToken) {
        if let Some(kept) = self.settings.keys.read(&KeyName::node()) {
            self.adopt(kept);
        }
        let mut back_off = BackOff::new();
        loop {
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = Box::pin(self.attempt()) => attempt,
            };
            let next = match attempt {
                Ok(certificate) => {
                    self.settings.keys.write(&KeyName::node(), &certificate);
                    back_off = BackOff::new();
                    self.adopt(certificate).unwrap_or_else(|| Instant::now() + back_off.pause())
                }
                Err(error) => {
                    self.tell_failure(&error);
                    let pause = if self.is_member() { retry::renewal_pause() } else { back_off.pause() };
                    Instant::now() + pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.rest(next) => {}
            }
        }
    }

    /// Until `next`, or until the mesh's roots are others than those that came with the node's certificate.
    async fn rest(&mut self, mut next: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(next) => return,
                Ok(()) = self.wanted.changed() => {}
                () = sleep(limits::CA_FILE_INTERVAL) => {}
            }
            if self.follow() {
                next = next.min(retry::reissue());
            }
        }
    }

    /// Has the channel believe whom the mesh believes now. True if the node's certificate comes from before that.
    fn follow(&mut self) -> bool {
        let Some(certificate) = self.certificate.clone() else { return false };
        let now = self.believe();
        let before = std::mem::replace(&mut self.believed, now);
        let (file, roots) = (before.file != self.believed.file, before.roots != self.believed.roots);
        if file || roots {
            match self.connect(Some(&certificate), &self.believed) {
                Ok(channel) => drop(self.channel.send_replace(Some(channel))),
                Err(error) => self.tell_failure(&error),
            }
        }
        (file && !self.believed.file_holds(certificate.roots.first()))
            || (roots && !certificate.is_current(&self.believed.roots))
    }

    fn believe(&mut self) -> Believed {
        let roots = self.wanted.borrow_and_update().as_ref().map(|wanted| Arc::clone(&wanted.trust.roots));
        let file = fs::read(&self.settings.ca_file).map_err(|error| error.to_string());
        Believed { file, roots: roots.unwrap_or_default() }
    }

    fn is_member(&self) -> bool {
        self.facts.load().is_valid(SystemTime::now())
    }

    /// A renewal by the certificate where there is one, else (or when that fails) by the token. Both, because a kept
    /// certificate may come from a mesh that was made anew.
    async fn attempt(&mut self) -> Result<Kept, JoinError> {
        let Some(channel) = self.channel.borrow().clone().filter(|_| self.is_member()) else {
            return self.join_by_token().await;
        };
        let renewal = match issue::join(channel, &self.settings.node, String::new()).await {
            Ok(certificate) => return Ok(certificate),
            Err(error) => JoinError::Issue { by: "renewal by the node's certificate", error },
        };
        if self.settings.join_token_file.is_none() {
            return Err(renewal);
        }
        match self.join_by_token().await {
            Ok(certificate) => Ok(certificate),
            Err(token) => Err(JoinError::Both { renewal: Box::new(renewal), token: Box::new(token) }),
        }
    }

    async fn join_by_token(&mut self) -> Result<Kept, JoinError> {
        let path = self.settings.join_token_file.as_ref().ok_or(JoinError::NoToken)?;
        let token = fs::read_to_string(path).map_err(|error| unreadable(path, &error.to_string()))?.trim().to_owned();
        let believed = self.believe();
        let channel = self.connect(None, &believed)?;
        issue::join(channel, &self.settings.node, token)
            .await
            .map_err(|error| JoinError::Issue { by: "joining by the token", error })
    }

    /// Gives out a channel that shows `certificate`. When it is to be renewed; nothing when it is of no use.
    fn adopt(&mut self, certificate: Kept) -> Option<Instant> {
        let leaf = certificate.material.chain.first().map(Leaf::read)?.ok()?;
        leaf.check_time(SystemTime::now()).ok()?;
        self.believed = self.believe();
        let channel = match self.connect(Some(&certificate), &self.believed) {
            Ok(channel) => channel,
            Err(error) => {
                self.tell_failure(&error);
                return None;
            }
        };
        self.generation += 1;
        self.facts.store(Arc::new(CertificateFacts {
            workload: None,
            identity: leaf.uri,
            not_after: Some(leaf.not_after),
            generation: self.generation,
            last_error: None,
        }));
        self.certificate = Some(certificate);
        self.channel.send_replace(Some(channel));
        Some(retry::renewal(leaf.not_before, leaf.not_after))
    }

    fn tell_failure(&self, error: &JoinError) {
        let text = error.to_string();
        let before = self.facts.load_full();
        if before.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the node could not get a certificate; it is tried again");
        }
        self.facts.store(Arc::new(CertificateFacts { last_error: Some(text), ..(*before).clone() }));
    }

    /// A channel that connects when it is used.
    fn connect(&self, certificate: Option<&Kept>, believed: &Believed) -> Result<Channel, JoinError> {
        let mut tls = ClientTlsConfig::new().domain_name(CONTROLLER_NAME);
        let known = certificate.or(self.certificate.as_ref());
        let roots: Vec<&Vec<u8>> = known.iter().flat_map(|kept| &kept.roots).chain(believed.roots.iter()).collect();
        match &believed.file {
            Ok(pem) => tls = tls.ca_certificate(transport::Certificate::from_pem(pem)),
            Err(error) if roots.is_empty() => return Err(unreadable(&self.settings.ca_file, error)),
            Err(error) => {
                let path = self.settings.ca_file.display();
                tracing::warn!(%path, error, "the CA file cannot be read; kept roots serve");
            }
        }
        tls =
            tls.ca_certificates(roots.into_iter().map(|root| transport::Certificate::from_pem(certificate_pem(root))));
        if let Some(kept) = certificate {
            tls = tls.identity(transport::Identity::from_pem(kept.chain_pem(), kept.key_pem()));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.settings.controller))?
            .tls_config(tls)?
            .connect_timeout(limits::CONTROLLER_CONNECT)
            .http2_keep_alive_interval(limits::CONTROLLER_KEEP_ALIVE)
            .keep_alive_timeout(limits::CONTROLLER_KEEP_ALIVE)
            .keep_alive_while_idle(true);
        Ok(endpoint.connect_with_connector_lazy(dialer()))
    }
}

fn unreadable(path: &Path, error: &str) -> JoinError {
    JoinError::File { path: path.to_owned(), error: error.to_owned() }
}
