//! As many agents as a large cluster has, in one process: each joins, subscribes, reports and acknowledges as an agent does.
//!
//! What agents hold is kept as names and versions alone, shared among them.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Identity};
use weft_proto::resource::{digest, shard, shards, snapshot_name};
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::report_client::ReportClient;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{
    self, Acknowledgement, AgentReport, DiscoveryRequest, DiscoveryResponse, Enrolled, Heartbeat, Resource,
    ResourceVersion, agent_report, discovery_request,
};

use crate::agent::{self, AUDIENCE};
use crate::cluster::Cluster;
use crate::controller::Controller;

/// Three of them are a lease.
const BEAT: Duration = Duration::from_secs(3);
/// Of the loopback's network.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
/// The whole mesh for every agent.
const SYNC_LIMIT: Duration = Duration::from_mins(5);

/// Names and versions, and the exclusive-or of their digests.
#[derive(Debug, Default)]
struct Held {
    versions: BTreeMap<Arc<str>, Vec<u8>>,
    sum: u64,
}

impl Held {
    fn hold(&mut self, name: &Arc<str>, version: Option<Vec<u8>>) {
        let add = |version: &Vec<u8>| digest(name, version);
        self.sum ^= version.as_ref().map_or(0, add);
        let before = match version {
            Some(version) => self.versions.insert(Arc::clone(name), version),
            None => self.versions.remove(name),
        };
        self.sum ^= before.as_ref().map_or(0, add);
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.versions.iter().map(|(name, version)| (name.as_ref(), version.as_slice()))
    }

    /// As an agent says it of these shards.
    fn of(&self, unclear: &[u8]) -> DiscoveryRequest {
        let asked = self.pairs().filter(|(name, _)| unclear.contains(&shard(name)));
        let named = asked.map(|(name, version)| ResourceVersion { name: name.to_owned(), version: version.to_vec() });
        let held = v1::Held { resources: named.collect() };
        DiscoveryRequest { kind: Some(discovery_request::Kind::Held(held)) }
    }
}

pub struct Fleet {
    members: Vec<Member>,
    names: Arc<Mutex<HashSet<Arc<str>>>>,
}

/// One agent.
struct Member {
    node: String,
    /// A node has one of its own, and the controller lets nobody have too many connections.
    address: IpAddr,
    identity: Identity,
    /// Its pods.
    workloads: Vec<String>,
    held: Arc<Mutex<Held>>,
    streams: Option<JoinSet<Result<()>>>,
    seen: watch::Receiver<Seen>,
}

/// What one agent has seen since it subscribed.
#[derive(Debug, Clone, Default)]
struct Seen {
    complete: bool,
    received_bytes: usize,
    said_bytes: usize,
    /// Of the first backend of a route's only rule, by the name of its resource: the weight, and when it came.
    weights: BTreeMap<String, (u32, Instant)>,
}

/// Bytes of all agents.
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    pub received: usize,
    pub said: usize,
}

impl Fleet {
    /// One agent for each node, with the pods of that node; they are nobody's yet.
    pub fn join(cluster: &Cluster, controller: &Controller, nodes: &BTreeMap<String, Vec<String>>) -> Result<Self> {
        let mut members = Vec::new();
        for (number, (node, workloads)) in nodes.iter().enumerate() {
            let number = u32::try_from(number)?;
            let address = IpAddr::from(Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + number));
            let token = agent::pod_token(cluster, &format!("agent-{node}"), node, "weft-agent", AUDIENCE)?;
            let identity = agent::join(cluster, controller, node, &token)?.context("it does not join")?;
            let (held, seen) = (Arc::default(), watch::channel(Seen::default()).1);
            let (node, workloads) = (node.clone(), workloads.clone());
            members.push(Member { node, address, identity, workloads, held, streams: None, seen });
        }
        Ok(Self { members, names: Arc::default() })
    }

    /// Each with what it holds already, so many at the same moment; until all are up to date. Where everything is sent, as
    /// many as one process can take in before the controller thinks that nobody is there.
    pub fn subscribe(&mut self, cluster: &Cluster, controller: &Controller, at_once: usize) -> Result<Bytes> {
        let root = cluster.wait_for(agent::cluster_root(cluster))?;
        for some in self.members.chunks_mut(at_once) {
            for member in &mut *some {
                member.dial(cluster, root.clone(), controller.address.clone(), Arc::clone(&self.names));
            }
            await_all(cluster, some, |seen| seen.complete).context("not every agent is up to date")?;
        }
        let sum = |of: fn(&Seen) -> usize| self.members.iter().map(|member| of(&member.seen.borrow())).sum();
        Ok(Bytes { received: sum(|seen| seen.received_bytes), said: sum(|seen| seen.said_bytes) })
    }

    /// Ends every stream; what is held stays.
    pub fn hang_up(&mut self) {
        for member in &mut self.members {
            member.streams = None;
        }
    }

    /// Waits until every agent has this weight. When the first one and the last one got it.
    pub fn await_weight(&mut self, cluster: &Cluster, routes: &str, weight: u32) -> Result<(Instant, Instant)> {
        let has = |seen: &Seen| seen.weights.get(routes).is_some_and(|(known, _)| *known == weight);
        await_all(cluster, &mut self.members, has)
            .with_context(|| format!("not every agent has weight {weight} of {routes}"))?;
        let time = |member: &Member| Some(member.seen.borrow().weights.get(routes)?.1);
        let times: Vec<Instant> = self.members.iter().filter_map(time).collect();
        times.iter().copied().min().zip(times.iter().copied().max()).context("there is no agent")
    }

    /// What every agent holds, by number.
    pub fn resources(&self) -> (usize, usize) {
        let counts: Vec<usize> = self.members.iter().map(|member| lock(&member.held).versions.len()).collect();
        (counts.iter().copied().min().unwrap_or_default(), counts.iter().copied().max().unwrap_or_default())
    }
}

impl Member {
    fn dial(&mut self, cluster: &Cluster, root: String, controller: String, names: Arc<Mutex<HashSet<Arc<str>>>>) {
        let (sender, seen) = watch::channel(Seen::default());
        let (identity, own) = (self.identity.clone(), Some(self.address));
        let (workloads, held) = (self.workloads.clone(), Arc::clone(&self.held));
        let mut streams = JoinSet::new();
        cluster.wait_for(async {
            streams.spawn(async move {
                let channel = Box::pin(agent::channel(root, &controller, Some(identity), own)).await?;
                Box::pin(live(channel, workloads, held, names, sender)).await
            });
        });
        (self.streams, self.seen) = (Some(streams), seen);
    }
}

fn await_all(cluster: &Cluster, members: &mut [Member], holds: impl Fn(&Seen) -> bool) -> Result<()> {
    cluster.wait_for(async {
        for member in members {
            let seen = tokio::time::timeout(SYNC_LIMIT, member.seen.wait_for(&holds)).await;
            let ended = seen.with_context(|| format!("{} waits too long", member.node))?.map(drop);
            if ended.is_err() {
                let streams = member.streams.as_mut().context("it has hung up")?;
                let why = streams.join_next().await.context("its stream is gone")?;
                why?.with_context(|| format!("the streams of {} ended", member.node))?;
            }
            ensure!(ended.is_ok(), "the streams of {} ended", member.node);
        }
        Ok(())
    })
}

/// Until the streams end.
async fn live(
    channel: Channel,
    workloads: Vec<String>,
    held: Arc<Mutex<Held>>,
    names: Arc<Mutex<HashSet<Arc<str>>>>,
    seen: watch::Sender<Seen>,
) -> Result<()> {
    let report = |kind| AgentReport { kind: Some(kind) };
    let (reports, stream) = mpsc::channel(16);
    let features = vec![];
    let heartbeat =
        Heartbeat { agent_version: "fleet".to_owned(), protocol_version: weft_proto::PROTOCOL_VERSION, features };
    reports.send(report(agent_report::Kind::Heartbeat(heartbeat.clone()))).await?;
    reports.send(report(agent_report::Kind::Enrolled(Enrolled { workloads, failed: vec![] }))).await?;
    let mut leases = ReportClient::new(channel.clone()).stream(ReceiverStream::new(stream)).await?.into_inner();

    let (requests, stream) = mpsc::channel(1);
    let hello = agent::hello(shards(lock(&held).pairs()));
    seen.send_modify(|seen| seen.said_bytes = hello.encoded_len());
    requests.send(hello).await?;
    let mut answers = DiscoveryClient::new(channel).stream(ReceiverStream::new(stream)).await?.into_inner();
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            _ = beats.tick() => reports.send(report(agent_report::Kind::Heartbeat(heartbeat.clone()))).await?,
            lease = leases.message() => drop(lease?.context("the stream of reports ended")?),
            change = answers.message() => {
                let change = change?.context("the stream ended")?;
                if !change.unclear.is_empty() {
                    let held = lock(&held).of(&change.unclear);
                    seen.send_modify(|seen| seen.said_bytes += held.encoded_len());
                    requests.send(held).await?;
                    continue;
                }
                let complete = change.complete;
                take_in(change, &mut lock(&held), &mut lock(&names), &seen)?;
                if complete {
                    let snapshot = snapshot_name(lock(&held).sum);
                    let acknowledgement = Acknowledgement { snapshot, nacks: vec![] };
                    reports.send(report(agent_report::Kind::Acknowledgement(acknowledgement))).await?;
                }
            }
        }
    }
}

fn take_in(
    change: DiscoveryResponse,
    held: &mut Held,
    names: &mut HashSet<Arc<str>>,
    seen: &watch::Sender<Seen>,
) -> Result<()> {
    let (now, bytes) = (Instant::now(), change.encoded_len());
    let upserts = change.upserts.into_iter().map(Resource::decode).collect::<Result<Vec<_>, _>>()?;
    seen.send_modify(|seen| {
        seen.received_bytes += bytes;
        seen.complete |= change.complete;
        for resource in &upserts {
            if let Some(Body::Routes(routes)) = &resource.body
                && let Some(backend) = routes.rules.first().and_then(|rule| rule.backends.first())
            {
                seen.weights.insert(resource.name.clone(), (backend.weight, now));
            }
        }
    });
    for resource in upserts {
        let name = names.get(resource.name.as_str()).cloned().unwrap_or_else(|| Arc::from(resource.name.as_str()));
        names.insert(Arc::clone(&name));
        held.hold(&name, Some(resource.version));
    }
    for name in change.removals {
        held.hold(&Arc::from(name), None);
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
