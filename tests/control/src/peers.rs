//! Agents without nodes that prove themselves to one another: each has its pod's certificate renewed by any controller,
//! believes what the leader says, and is held against all others at every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::core::DynamicObject;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use weft_proto::resource::{digest, snapshot_name};
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::identity_client::IdentityClient;
use weft_proto::v1::report_client::ReportClient;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{
    Acknowledgement, AgentReport, DiscoveryResponse, Enrolled, Heartbeat, IssueRequest, Resource, agent_report,
};
use x509_parser::parse_x509_certificate;

use crate::agent::{AUDIENCE, channel, hello, join_by, pod_token, trusted};
use crate::cluster::{Cluster, NAMESPACE};

/// Between two things that an agent does by itself.
const BEAT: Duration = Duration::from_millis(500);
/// How long it stays with one controller: half of a short life.
const SESSION: Duration = Duration::from_secs(5);

pub struct Peers {
    state: Arc<Mutex<State>>,
    _agents: JoinSet<()>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<String, Peer>,
    /// Who met a certificate that it does not believe.
    strangers: Vec<String>,
    /// Certificates that were shown, by all together.
    issued: usize,
}

#[derive(Default, Clone)]
struct Peer {
    /// DER, of its snapshot and of what came with its certificate.
    believes: Vec<Vec<u8>>,
    came: Vec<Vec<u8>>,
    leaf: Option<(Vec<u8>, SystemTime)>,
}

/// What one of them lives by.
struct Life {
    node: String,
    workload: String,
    token: String,
    controllers: Vec<String>,
    config_maps: Api<DynamicObject>,
    state: Arc<Mutex<State>>,
}

impl Peers {
    /// One for each node, with a pod of it.
    pub fn start(cluster: &Cluster, controllers: &[String], nodes: &[(&str, String)]) -> Result<Self> {
        let state: Arc<Mutex<State>> = Arc::default();
        let mut agents = JoinSet::new();
        for (node, workload) in nodes {
            let life = Life {
                node: (*node).to_owned(),
                workload: workload.clone(),
                token: pod_token(cluster, &format!("agent-{node}"), node, "weft-agent", AUDIENCE)?,
                controllers: controllers.to_vec(),
                config_maps: cluster.api("ConfigMap", NAMESPACE)?,
                state: Arc::clone(&state),
            };
            cluster.wait_for(async { agents.spawn(Box::pin(life.live())) });
        }
        Ok(Self { state, _agents: agents })
    }

    /// Nobody ever met a certificate that it does not believe.
    pub fn expect_no_stranger(&self) -> Result<()> {
        let state = locked(&self.state);
        ensure!(state.strangers.is_empty(), "{:?}", state.strangers);
        Ok(())
    }

    /// Besides, every one of them has a good certificate and believes these many roots. What they believe, and how many
    /// certificates they had.
    pub fn expect(&self, roots: usize) -> Result<(Vec<Vec<u8>>, usize)> {
        self.expect_no_stranger()?;
        let state = locked(&self.state);
        let now = SystemTime::now();
        for (node, peer) in &state.peers {
            ensure!(peer.leaf.as_ref().is_some_and(|(_, end)| *end > now), "{node} has no certificate");
            ensure!(peer.believes.len() == roots && peer.came == peer.believes, "{node} believes others");
        }
        let believed = state.peers.values().next().map(|peer| peer.believes.clone());
        Ok((believed.context("nobody is there")?, state.issued))
    }
}

impl State {
    fn change(&mut self, node: &str, change: impl FnOnce(&mut Peer)) {
        change(self.peers.entry(node.to_owned()).or_default());
        let now = SystemTime::now();
        let serving: Vec<(&String, &Peer, &Vec<u8>)> = self
            .peers
            .iter()
            .filter_map(|(node, peer)| Some((node, peer, &peer.leaf.as_ref().filter(|(_, end)| *end > now)?.0)))
            .collect();
        for (one, peer, _) in &serving {
            for (other, _, leaf) in &serving {
                if !peer.believes.iter().chain(&peer.came).any(|root| has_signed(root, leaf)) {
                    self.strangers.push(format!("{one} does not believe {other}"));
                }
            }
        }
    }
}

fn has_signed(root: &[u8], leaf: &[u8]) -> bool {
    let (Ok((_, root)), Ok((_, leaf))) = (parse_x509_certificate(root), parse_x509_certificate(leaf)) else {
        return false;
    };
    leaf.verify_signature(Some(root.public_key())).is_ok()
}

impl Life {
    async fn live(self) {
        let mut beats = interval(BEAT);
        for turn in 0.. {
            beats.tick().await;
            // A controller that was killed, or does not lead: the next one may.
            drop(Box::pin(self.session(turn)).await);
        }
    }

    async fn session(&self, turn: usize) -> Result<()> {
        let address = &self.controllers[turn % self.controllers.len()];
        let root = trusted(&self.config_maps).await?;
        let stranger = Box::pin(channel(root.clone(), address, None, None)).await?;
        let identity = Box::pin(join_by(stranger, &self.node, &self.token)).await??;
        let channel = Box::pin(channel(root, address, Some(identity), None)).await?;
        self.renew(channel.clone()).await?;
        self.follow(channel).await
    }

    async fn renew(&self, channel: Channel) -> Result<()> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?;
        let request = IssueRequest { workload: self.workload.clone(), csr_der: request.der().to_vec() };
        let certificate = IdentityClient::new(channel).issue(request).await?.into_inner();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(certificate.not_after_unix_seconds.try_into()?);
        let leaf = certificate.chain_der.into_iter().next().context("no certificate")?;
        let mut state = locked(&self.state);
        state.issued += 1;
        state.change(&self.node, |peer| {
            peer.leaf = Some((leaf, end));
            peer.came = certificate.roots_der;
        });
        Ok(())
    }

    async fn follow(&self, channel: Channel) -> Result<()> {
        let report = |kind| AgentReport { kind: Some(kind) };
        let heartbeat = || report(agent_report::Kind::Heartbeat(Heartbeat::default()));
        let (reports, stream) = mpsc::channel(16);
        let enrolled = Enrolled { workloads: vec![self.workload.clone()], failed: vec![] };
        reports.send(heartbeat()).await?;
        reports.send(report(agent_report::Kind::Enrolled(enrolled))).await?;
        let _leases = ReportClient::new(channel.clone()).stream(ReceiverStream::new(stream)).await?;
        let (requests, stream) = mpsc::channel(1);
        requests.send(hello(vec![])).await?;
        let mut answers = DiscoveryClient::new(channel.clone()).stream(ReceiverStream::new(stream)).await?.into_inner();
        let (begun, mut beats, mut held) = (Instant::now(), interval(BEAT), BTreeMap::new());
        while begun.elapsed() < SESSION {
            tokio::select! {
                _ = beats.tick() => {
                    reports.send(heartbeat()).await?;
                    self.renew(channel.clone()).await?;
                }
                change = answers.message() => {
                    let change = change?.context("the stream ended")?;
                    if let Some(snapshot) = self.take_in(change, &mut held)? {
                        let acknowledgement = Acknowledgement { snapshot, nacks: vec![] };
                        reports.send(report(agent_report::Kind::Acknowledgement(acknowledgement))).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The name of the snapshot, once it is complete.
    fn take_in(&self, change: DiscoveryResponse, held: &mut BTreeMap<String, Resource>) -> Result<Option<String>> {
        for resource in change.upserts {
            let resource = Resource::decode(resource)?;
            held.insert(resource.name.clone(), resource);
        }
        for name in change.removals {
            held.remove(&name);
        }
        Ok(change.complete.then(|| {
            if let Some(Body::Trust(trust)) = held.get("trust").and_then(|resource| resource.body.clone()) {
                locked(&self.state).change(&self.node, |peer| peer.believes = trust.roots_der);
            }
            snapshot_name(held.iter().fold(0, |sum, (name, resource)| sum ^ digest(name, &resource.version)))
        }))
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
