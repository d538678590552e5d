//! A controller in this process, on loopback, with a directory of its own; and agents made of bare clients.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value as Json;
use time::OffsetDateTime;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate as Root, Channel, ClientTlsConfig, Identity};
use tonic::{Status, Streaming};
use weft_controller::config::{Cluster, Serve, Source};
use weft_controller::token::Tokens;
use weft_proto::resource::{shard, shards};
use weft_proto::v1::agent_report::Kind;
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::identity_client::IdentityClient;
use weft_proto::v1::report_client::ReportClient;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{
    AgentReport, Certificate, DiscoveryRequest, DiscoveryResponse, Heartbeat, Held, Hello, IssueRequest, JoinRequest,
    ReportResponse, Resource, ResourceVersion, Workload, discovery_request,
};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod whose uid, name, label and service account are one word.
pub fn pod(name: &str, node: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  uid: {name}\n  labels: {{app: {name}}}\n  \
         annotations: {{weft.dev/netns: /run/netns/{name}}}\nspec: {{nodeName: {node}, serviceAccountName: {name},}}\n\
         status: {{podIP: {address}}}\n"
    )
}

pub struct Controller {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    lease: Duration,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Controller {
    pub async fn start(objects: &str, lease: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        std::fs::write(folder.path().join("objects/mesh.yaml"), objects).unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let mut controller = Self { folder, address, lease, stop: CancellationToken::new(), running: JoinSet::new() };
        controller.restart().await;
        controller
    }

    /// On the same address and state as before.
    pub async fn restart(&mut self) {
        self.end().await;
        self.stop = CancellationToken::new();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let config = Serve {
            source: Source { directory: Some(self.directory()), kubernetes: false },
            cluster: Cluster {
                kubeconfig: None,
                namespace: "weft-system".parse().unwrap(),
                agent_service_account: String::new(),
            },
            listen: self.address,
            state_dir: self.state(),
            trust_domain: "cluster.local".parse().unwrap(),
            lease: self.lease.as_secs(),
            certificate_life: 24 * 3600,
            node_certificate_life: None,
            server_name: vec![],
        };
        self.running.spawn(weft_controller::app::run(config, listener, self.stop.clone()));
        self.status_until(|status| status["generation"].as_u64() > Some(0)).await;
    }

    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(ended) = tokio::time::timeout(PATIENCE, self.running.join_next()).await.expect("it does not stop") {
            ended.unwrap().unwrap();
        }
    }

    pub async fn stop(mut self) {
        self.end().await;
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("objects")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// As an editor does: beside, then renamed.
    pub fn write(&self, file: &str, text: &str) {
        let beside = self.directory().join(".new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.directory().join(file)).unwrap();
    }

    pub fn token(&self, node: &str, life: Duration) -> String {
        Tokens::of(&self.state()).create(&node.parse().unwrap(), life, OffsetDateTime::now_utc()).unwrap()
    }

    async fn channel(&self, node: Option<&Identity>) -> Channel {
        let root = std::fs::read(self.state().join("ca.pem")).unwrap();
        let mut tls = ClientTlsConfig::new().ca_certificate(Root::from_pem(root)).domain_name("weft-controller");
        if let Some(node) = node {
            tls = tls.identity(node.clone());
        }
        let endpoint = Channel::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub async fn identity(&self, node: Option<&Identity>) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel(node).await)
    }

    pub async fn join(&self, node: &str) -> Identity {
        let token = self.token(node, Duration::from_mins(1));
        let key = Key::generate();
        let certificate = self.identity(None).await.join(key.join(node, &token)).await.unwrap().into_inner();
        key.with(&certificate)
    }

    pub async fn discover(&self, node: Option<&Identity>, held: Vec<ResourceVersion>) -> Result<Agent, Status> {
        self.discover_as(node, weft_proto::PROTOCOL_VERSION, held).await
    }

    pub async fn discover_as(
        &self,
        node: Option<&Identity>,
        version: u32,
        held: Vec<ResourceVersion>,
    ) -> Result<Agent, Status> {
        let (requests, stream) = mpsc::channel(4);
        let known = held.iter().map(|held| Resource {
            name: held.name.clone(),
            version: held.version.clone(),
            ..Resource::default()
        });
        let known = known.map(|resource| (resource.name.clone(), resource)).collect();
        requests.send(hello(version, &held)).await.unwrap();
        let mut client = DiscoveryClient::new(self.channel(node).await);
        let answers = client.stream(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Agent { requests: Some(requests), answers, held: known, asked: vec![] })
    }

    pub async fn report(&self, node: Option<&Identity>) -> Result<Reports, Status> {
        let (reports, stream) = mpsc::channel(4);
        reports.send(AgentReport { kind: Some(Kind::Heartbeat(Heartbeat::default())) }).await.unwrap();
        let mut client = ReportClient::new(self.channel(node).await);
        let answers = client.stream(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Reports { reports, _answers: answers })
    }

    pub async fn file_until(&self, file: &str, wanted: impl Fn(&str) -> bool) {
        let begun = std::time::Instant::now();
        let path = self.directory().join(file);
        while !std::fs::read_to_string(&path).is_ok_and(|text| wanted(&text)) {
            assert!(begun.elapsed() < PATIENCE, "{file} never says it: {:?}", std::fs::read_to_string(&path));
            tokio::task::yield_now().await;
        }
    }

    pub async fn status_until(&self, wanted: impl Fn(&Json) -> bool) -> Json {
        let begun = std::time::Instant::now();
        loop {
            let status = status(&self.state().join("admin.sock")).await;
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "it never came: {status:#?}");
            tokio::task::yield_now().await;
        }
    }
}

async fn status(socket: &Path) -> Option<Json> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = hyper::Request::get("/status").header("host", "controller").body(Empty::<Bytes>::new()).unwrap();
    let answer = async { sender.send_request(request).await.ok()?.into_body().collect().await.ok() };
    let answer = tokio::select! {
        answer = answer => answer?.to_bytes(),
        _ = connection => return None,
    };
    serde_json::from_slice(&answer).ok()
}

pub struct Key(KeyPair);

impl Key {
    pub fn generate() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub fn p384() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    }

    /// Asks for names that must not be given.
    fn request(&self) -> Vec<u8> {
        let params = CertificateParams::new(["weft-controller".to_owned()]).unwrap();
        params.serialize_request(&self.0).unwrap().der().to_vec()
    }

    pub fn join(&self, node: &str, token: &str) -> JoinRequest {
        JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der: self.request() }
    }

    pub fn issue(&self, workload: &str) -> IssueRequest {
        IssueRequest { workload: workload.to_owned(), csr_der: self.request() }
    }

    pub fn with(&self, certificate: &Certificate) -> Identity {
        let pem = |der: &[u8]| {
            use rustls::pki_types::CertificateDer;
            let certificate = CertificateDer::from(der.to_vec());
            pem_of(&certificate)
        };
        let chain: String = certificate.chain_der.iter().map(|der| pem(der)).collect();
        Identity::from_pem(chain, self.0.serialize_pem())
    }
}

fn pem_of(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let number =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        for place in 0..4_usize {
            let index = (number >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A request whose signature is not its key's.
pub fn broken_request(workload: &str) -> IssueRequest {
    let mut request = Key::generate().issue(workload);
    let last = request.csr_der.len() - 1;
    request.csr_der[last] ^= 1;
    request
}

/// Every alternative name of the leaf, and the proof that it is good for what it should be.
pub fn names(certificate: &Certificate) -> Vec<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(&certificate.chain_der[0]).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(&certificate.roots_der[0]).unwrap();
    leaf.verify_signature(Some(root.public_key())).expect("it is not signed by the root");
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
    let names: Vec<String> =
        names.iter().map(|name| name.trim_start_matches("URI(").trim_end_matches(')').to_owned()).collect();
    assert!(usage.client_auth);
    assert_eq!(usage.server_auth, !names[0].contains("/weft/node/"));
    names
}

fn hello(protocol_version: u32, held: &[ResourceVersion]) -> DiscoveryRequest {
    let shards = shards(held.iter().map(|held| (held.name.as_str(), held.version.as_slice())));
    DiscoveryRequest {
        kind: Some(discovery_request::Kind::Hello(Hello { protocol_version, features: vec![], shards })),
    }
}

pub fn workload(held: &BTreeMap<String, Resource>, uid: &str) -> Workload {
    match held.get(&format!("workload/{uid}")).and_then(|resource| resource.body.clone()) {
        Some(Body::Workload(workload)) => workload,
        other => panic!("workload {uid} is {other:?}"),
    }
}

/// A discovery stream and what it has brought.
pub struct Agent {
    requests: Option<mpsc::Sender<DiscoveryRequest>>,
    answers: Streaming<DiscoveryResponse>,
    pub held: BTreeMap<String, Resource>,
    /// What it had to name.
    pub asked: Vec<String>,
}

impl Agent {
    async fn say(&self, request: DiscoveryRequest) {
        self.requests.as_ref().expect("its half is closed").send(request).await.unwrap();
    }

    /// It is asked for names, and begins anew.
    pub async fn misunderstand(&mut self) {
        let question = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("nothing was asked");
        assert!(!question.unwrap().expect("the stream ended").unclear.is_empty());
        self.say(hello(weft_proto::PROTOCOL_VERSION, &[])).await;
    }

    /// Nothing more will be said; answers are still listened to.
    pub fn close_own_half(&mut self) {
        self.requests = None;
    }

    /// The names of the next whole change: upserts, removals.
    pub async fn change(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut upserts, mut removals) = (Vec::new(), Vec::new());
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("no change came");
            let answer = answer.unwrap().expect("the stream ended");
            if !answer.unclear.is_empty() {
                let mut resources = self.versions();
                resources.retain(|held| answer.unclear.contains(&shard(&held.name)));
                self.asked = resources.iter().map(|held| held.name.clone()).collect();
                let held = discovery_request::Kind::Held(Held { resources });
                self.say(DiscoveryRequest { kind: Some(held) }).await;
            }
            for resource in answer.upserts {
                let resource = Resource::decode(resource).unwrap();
                upserts.push(resource.name.clone());
                self.held.insert(resource.name.clone(), resource);
            }
            for name in answer.removals {
                self.held.remove(&name);
                removals.push(name);
            }
            if answer.complete {
                return (upserts, removals);
            }
        }
    }

    pub async fn until(&mut self, wanted: impl Fn(&BTreeMap<String, Resource>) -> bool) {
        while !wanted(&self.held) {
            self.change().await;
        }
    }

    pub async fn refusal(&mut self) -> Status {
        tokio::time::timeout(PATIENCE, self.answers.message())
            .await
            .expect("no answer came")
            .expect_err("it was served")
    }

    pub fn versions(&self) -> Vec<ResourceVersion> {
        let version =
            |resource: &Resource| ResourceVersion { name: resource.name.clone(), version: resource.version.clone() };
        self.held.values().map(version).collect()
    }

    pub fn snapshot(&self) -> String {
        let all = self.held.iter().map(|(name, resource)| (name.as_str(), resource.version.as_slice()));
        weft_proto::resource::snapshot_version(all)
    }
}

pub struct Reports {
    reports: mpsc::Sender<AgentReport>,
    _answers: Streaming<ReportResponse>,
}

impl Reports {
    pub async fn say(&mut self, kind: Kind) {
        self.reports.send(AgentReport { kind: Some(kind) }).await.unwrap();
    }

    /// Heartbeats until it is dropped.
    pub fn beat(&self, interval: Duration) -> JoinSet<()> {
        let reports = self.reports.clone();
        let mut beating = JoinSet::new();
        beating.spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            loop {
                ticks.tick().await;
                let beat = AgentReport { kind: Some(Kind::Heartbeat(Heartbeat::default())) };
                if reports.send(beat).await.is_err() {
                    return;
                }
            }
        });
        beating
    }
}
