//! An agent without a node: joins with its pod's token and follows what the controller publishes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use kube::Api;
use kube::core::DynamicObject;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate as Root, Channel, ClientTlsConfig, Identity};
use tonic::{Status, Streaming};
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::identity_client::IdentityClient;
use weft_proto::v1::report_client::ReportClient;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{
    AgentReport, Certificate, DiscoveryRequest, DiscoveryResponse, Enrolled, Hello, JoinRequest, Resource, Workload,
    agent_report, discovery_request,
};

use crate::cluster::{Cluster, NAMESPACE, PATIENCE};
use crate::controller::Controller;
use crate::objects;

/// What agents' tokens are made for.
pub const AUDIENCE: &str = "weft.dev/controller";

/// What an agent needs to speak to any controller of the cluster.
pub struct Member {
    root: String,
    identity: Identity,
}

pub struct Agent {
    channel: Channel,
    reports: Option<mpsc::Sender<AgentReport>>,
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
    held: BTreeMap<String, Resource>,
}

/// The pod of an agent, and a token of an account that is bound to it.
pub fn pod_token(cluster: &Cluster, pod: &str, node: &str, account: &str, audience: &str) -> Result<String> {
    cluster.put(&objects::node(node, "10.1.0.0/16"))?;
    cluster.put(&objects::pod(NAMESPACE, pod, node, account))?;
    let uid = cluster.get("Pod", NAMESPACE, pod)?["metadata"]["uid"].clone();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
    cluster.token(account, &[audience], Some(&bound))
}

/// What the controller answers to whoever asks to be a node.
pub fn join(cluster: &Cluster, controller: &Controller, node: &str, token: &str) -> Result<Result<Identity, Status>> {
    ask(cluster, controller, node, token, None)
}

/// The same of one that shows its certificate and no token.
pub fn renew(
    cluster: &Cluster,
    controller: &Controller,
    node: &str,
    known: Identity,
) -> Result<Result<Identity, Status>> {
    ask(cluster, controller, node, "", Some(known))
}

fn ask(
    cluster: &Cluster,
    controller: &Controller,
    node: &str,
    token: &str,
    known: Option<Identity>,
) -> Result<Result<Identity, Status>> {
    cluster.wait_for(async {
        let channel = Box::pin(channel(cluster_root(cluster).await?, &controller.address, known, None)).await?;
        Box::pin(join_by(channel, node, token)).await
    })
}

/// The same of whoever is at the other end of a channel.
pub async fn join_by(channel: Channel, node: &str, token: &str) -> Result<Result<Identity, Status>> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let request = JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der: request.der().to_vec() };
    let answer = IdentityClient::new(channel).join(request).await;
    Ok(answer.map(|answer| identity(&key, answer.get_ref())))
}

impl Member {
    /// On a node that has the range 10.1.0.0/16.
    pub fn join(cluster: &Cluster, controller: &Controller, node: &str) -> Result<Self> {
        let token = pod_token(cluster, &format!("agent-{node}"), node, "weft-agent", AUDIENCE)?;
        let identity = join(cluster, controller, node, &token)?.context("it does not join")?;
        Ok(Self { root: cluster.wait_for(cluster_root(cluster))?, identity })
    }

    /// Needs no API server.
    pub fn subscribe(&self, cluster: &Cluster, controller: &Controller) -> Result<Agent> {
        let (root, identity) = (self.root.clone(), self.identity.clone());
        cluster.wait_for(async {
            let channel = Box::pin(channel(root, &controller.address, Some(identity), None)).await?;
            let (requests, stream) = mpsc::channel(4);
            requests.send(hello(vec![])).await?;
            let answers = DiscoveryClient::new(channel.clone()).stream(ReceiverStream::new(stream)).await?.into_inner();
            Ok(Agent { channel, reports: None, requests, answers, held: BTreeMap::new() })
        })
    }
}

impl Agent {
    /// On a node that has the range 10.1.0.0/16.
    pub fn start(cluster: &Cluster, controller: &Controller, node: &str) -> Result<Self> {
        Member::join(cluster, controller, node)?.subscribe(cluster, controller)
    }

    /// Asks on its own connection for another stream, as an agent does whose stream has ended: what it is told.
    pub fn ask_again(&self, cluster: &Cluster) -> Result<(), Status> {
        let (channel, (_requests, stream)) = (self.channel.clone(), mpsc::channel(1));
        cluster.wait_for(async { DiscoveryClient::new(channel).stream(ReceiverStream::new(stream)).await.map(drop) })
    }

    /// Waits until the controller closes its connection.
    pub fn await_end(&mut self, cluster: &Cluster) -> Result<()> {
        let ending = async { while let Ok(Some(_)) = self.answers.message().await {} };
        let ended = cluster.wait_for(async { tokio::time::timeout(PATIENCE, ending).await });
        ended.context("its connection stays")
    }

    /// Says that it serves these workloads and no others.
    pub fn report(&mut self, cluster: &Cluster, workloads: &[String]) -> Result<()> {
        let enrolled = Enrolled { workloads: workloads.to_vec(), failed: vec![] };
        let report = AgentReport { kind: Some(agent_report::Kind::Enrolled(enrolled)) };
        let (channel, known) = (self.channel.clone(), self.reports.take());
        let reports = cluster.wait_for(async {
            let reports = if let Some(reports) = known {
                reports
            } else {
                let (reports, stream) = mpsc::channel(4);
                ReportClient::new(channel).stream(ReceiverStream::new(stream)).await?;
                reports
            };
            reports.send(report).await?;
            anyhow::Ok(reports)
        })?;
        self.reports = Some(reports);
        Ok(())
    }

    /// Takes in changes until what is held is so.
    pub fn until(
        &mut self,
        cluster: &Cluster,
        what: &str,
        holds: impl Fn(&BTreeMap<String, Resource>) -> bool,
    ) -> Result<()> {
        let waiting = async {
            while !holds(&self.held) {
                let change = self.answers.message().await.context("the stream failed")?;
                let Some(change) = change else { bail!("the stream ended") };
                for resource in change.upserts {
                    let resource = Resource::decode(resource)?;
                    self.held.insert(resource.name.clone(), resource);
                }
                for name in change.removals {
                    self.held.remove(&name);
                }
            }
            Ok(())
        };
        let ended = cluster.wait_for(async { tokio::time::timeout(PATIENCE, waiting).await });
        let ended =
            ended.with_context(|| format!("waited for {what}; held: {:?}", self.held.keys().collect::<Vec<_>>()));
        anyhow::ensure!(!self.requests.is_closed(), "the controller closed the stream");
        ended?
    }

    pub fn held(&self) -> &BTreeMap<String, Resource> {
        &self.held
    }
}

/// Of an agent that holds what these digests say.
pub fn hello(shards: Vec<Vec<u8>>) -> DiscoveryRequest {
    let hello = Hello { protocol_version: weft_proto::PROTOCOL_VERSION, features: vec![], shards };
    DiscoveryRequest { kind: Some(discovery_request::Kind::Hello(hello)) }
}

/// The pod of this name, as agents know it.
pub fn workload(held: &BTreeMap<String, Resource>, name: &str) -> Option<Workload> {
    held.values().find_map(|resource| match &resource.body {
        Some(Body::Workload(workload)) if workload.name == name => Some(workload.clone()),
        _ => None,
    })
}

pub fn has(held: &BTreeMap<String, Resource>, part: &str) -> bool {
    held.keys().any(|name| name.contains(part))
}

/// From where agents have it.
pub async fn cluster_root(cluster: &Cluster) -> Result<String> {
    trusted(&cluster.api("ConfigMap", NAMESPACE)?).await
}

/// The same of those who have no more of the cluster than its `ConfigMap`s.
pub async fn trusted(config_maps: &Api<DynamicObject>) -> Result<String> {
    let map = config_maps.get("weft-trust").await?;
    let map: Value = serde_json::to_value(map)?;
    Ok(map["data"]["ca.pem"].as_str().context("the ConfigMap holds no root")?.to_owned())
}

/// To the controller at the address, as whoever that is, from an address of its own if that is given.
pub async fn channel(root: String, address: &str, identity: Option<Identity>, own: Option<IpAddr>) -> Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Root::from_pem(root)).domain_name("weft-controller");
    let tls = match identity {
        Some(identity) => tls.identity(identity),
        None => tls,
    };
    Ok(Channel::from_shared(format!("https://{address}"))?.local_address(own).tls_config(tls)?.connect().await?)
}

fn identity(key: &KeyPair, certificate: &Certificate) -> Identity {
    let chain: String =
        certificate.chain_der.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()))).collect();
    Identity::from_pem(chain, key.serialize_pem())
}
