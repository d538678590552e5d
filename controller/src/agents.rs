//! What agents have said, and when they were last heard: leases, enrolled workloads, snapshots, nacks.
//!
//! Pure but for the caller's clock. Invariants: silence shorter than a lease means nothing, and so does silence during
//! the first lease of the controller's own life; what is unknown is never published as false.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weft_proto::names::{NodeName, WorkloadUid};
use weft_proto::v1;

use crate::limits;
use crate::text::shortened;
use crate::translate::{Observed, Workloads};

/// Remembers, over a restart, which workloads their agents had reported.
pub const STATE_FILE: &str = "agents.json";
/// Snapshots offered to one agent that it may still acknowledge.
const OFFERED: usize = 64;

#[derive(Debug)]
pub struct Agents {
    lease: Duration,
    nodes: BTreeMap<NodeName, Agent>,
    /// Nodes whose workloads may be reached in plaintext, because their agent is gone.
    marked: BTreeSet<NodeName>,
    /// Nobody may speak to this controller now, so nobody's silence says anything.
    suspended: bool,
    /// Something waits for acknowledgements; at other times they are no news.
    awaited: bool,
}

#[derive(Debug, Clone)]
pub struct Agent {
    /// When the agent spoke last; for one that is only remembered, when this controller started.
    pub heard: Instant,
    /// Only known from before a restart.
    pub remembered: bool,
    pub version: String,
    pub protocol_version: u32,
    pub features: Vec<String>,
    /// Shared with what is observed of it, so that what did not change is the same allocation.
    pub workloads: Arc<BTreeSet<WorkloadUid>>,
    /// It has said which workloads it serves, to this very controller.
    spoken: bool,
    /// Those of `workloads` that the agent, since it began anew, has not enrolled again.
    unsettled: BTreeSet<WorkloadUid>,
    /// When its report stream began.
    began: Instant,
    pub failed: Vec<(String, String)>,
    pub snapshot: String,
    pub nacks: Vec<Nack>,
    /// What it was sent lately: the name of the snapshot and the generation that it is the same as.
    offered: VecDeque<(String, u64)>,
    pub acknowledged: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nack {
    pub resource: String,
    /// Of the resource that was refused: the next one may be better.
    #[serde(skip)]
    pub version: Vec<u8>,
    pub reason: String,
}

/// By name and version of the resource: the first node that refused it, and its reason.
pub type Refusals = BTreeMap<(String, Vec<u8>), (NodeName, String)>;

/// The part that outlives the controller.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    nodes: BTreeMap<String, Vec<String>>,
}

impl Remembered {
    #[must_use]
    pub fn of(workloads: &Workloads) -> Self {
        let texts = |uids: &BTreeSet<WorkloadUid>| uids.iter().map(ToString::to_string).collect();
        Self { nodes: workloads.iter().map(|(node, uids)| (node.to_string(), texts(uids))).collect() }
    }
}

impl Agent {
    fn new(now: Instant) -> Self {
        Self {
            heard: now,
            remembered: false,
            version: String::new(),
            protocol_version: 0,
            features: Vec::new(),
            workloads: Arc::default(),
            spoken: false,
            unsettled: BTreeSet::new(),
            began: now,
            failed: Vec::new(),
            snapshot: String::new(),
            nacks: Vec::new(),
            offered: VecDeque::new(),
            acknowledged: 0,
        }
    }

    /// True if the set of workloads is another one now. An agent that has just begun finds its pods one after the other:
    /// what it had before and does not serve yet is unknown, and unknown is never false, for a lease. That it failed to
    /// serve one says little so early: it may have no certificate yet.
    fn enrol(&mut self, enrolled: v1::Enrolled, now: Instant, lease: Duration) -> bool {
        let uids = enrolled.workloads.iter().take(limits::WORKLOADS_PER_NODE);
        let mut workloads: BTreeSet<WorkloadUid> = uids.filter_map(|uid| uid.parse().ok()).collect();
        let failed = enrolled.failed.into_iter().take(limits::WORKLOADS_PER_NODE);
        self.failed = failed.map(|failed| (shortened(failed.workload), shortened(failed.reason))).collect();
        self.unsettled.clear();
        if now.duration_since(self.began) < lease {
            self.unsettled = self.workloads.difference(&workloads).cloned().collect();
            workloads.extend(self.unsettled.iter().cloned());
        }
        let first = !std::mem::replace(&mut self.spoken, true);
        let changed = first || *self.workloads != workloads;
        if changed {
            self.workloads = Arc::new(workloads);
        }
        changed
    }

    fn settle(&mut self, now: Instant, lease: Duration) {
        if now.duration_since(self.began) >= lease {
            for uid in std::mem::take(&mut self.unsettled) {
                Arc::make_mut(&mut self.workloads).remove(&uid);
            }
        }
    }

    fn reckon(&mut self) {
        let reached =
            self.offered.iter().filter(|(snapshot, _)| *snapshot == self.snapshot).map(|(_, generation)| *generation);
        self.acknowledged = reached.max().unwrap_or(self.acknowledged).max(self.acknowledged);
    }
}

impl Agents {
    #[must_use]
    pub fn new(lease: Duration, remembered: Remembered, now: Instant) -> Self {
        let mut nodes = BTreeMap::new();
        for (node, uids) in remembered.nodes.into_iter().take(limits::NODES) {
            let Ok(node) = node.parse::<NodeName>() else { continue };
            let workloads = Arc::new(uids.iter().filter_map(|uid| uid.parse().ok()).collect());
            nodes.insert(node, Agent { remembered: true, workloads, ..Agent::new(now) });
        }
        Self { lease, nodes, marked: BTreeSet::new(), suspended: false, awaited: false }
    }

    /// Silence counts from now on: nobody could speak to us before.
    pub fn start(&mut self, now: Instant) {
        for agent in self.nodes.values_mut() {
            agent.heard = now;
        }
    }

    /// Agents are turned away from now on: whoever is silent may speak to another controller.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// They may speak again, and have a lease to do so.
    pub fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.suspended) {
            self.start(now);
        }
    }

    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    #[must_use]
    pub fn workloads(&self) -> Workloads {
        self.nodes.iter().map(|(node, agent)| (node.clone(), Arc::clone(&agent.workloads))).collect()
    }

    /// From now on acknowledgements are news, or are not.
    pub fn set_awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Agent)> {
        self.nodes.iter()
    }

    #[must_use]
    pub fn is_live(&self, agent: &Agent, now: Instant) -> bool {
        !agent.remembered && now.duration_since(agent.heard) < self.lease
    }

    /// What it serves is known by its own word, not only from before a restart.
    #[must_use]
    pub fn has_spoken(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|agent| agent.spoken)
    }

    /// This node's agent has said that it serves the workload.
    #[must_use]
    pub fn reported(&self, node: &NodeName, uid: &WorkloadUid) -> bool {
        self.nodes.get(node).is_some_and(|agent| agent.workloads.contains(uid))
    }

    #[must_use]
    pub fn is_marked(&self, node: &NodeName) -> bool {
        self.marked.contains(node)
    }

    /// A report stream of this node begins: the agent may have been started anew.
    pub fn begin(&mut self, node: &NodeName, now: Instant) {
        if let Some(agent) = self.nodes.get_mut(node) {
            agent.began = now;
            // What it decided on before says nothing about the state that it has now; it will tell.
            agent.acknowledged = 0;
            agent.snapshot.clear();
        }
    }

    /// Takes in one report. True if it changes what the mesh should know. Err: there are too many nodes.
    pub fn hear(
        &mut self,
        node: &NodeName,
        report: v1::agent_report::Kind,
        now: Instant,
    ) -> Result<bool, &'static str> {
        if !self.nodes.contains_key(node) && self.nodes.len() >= limits::NODES {
            return Err("more nodes report than this controller serves");
        }
        let agent = self.nodes.entry(node.clone()).or_insert_with(|| Agent::new(now));
        // A node that was silent for long counted against the cap: its return may let another one be marked.
        let mut changed = self.marked.contains(node) || now.duration_since(agent.heard) >= self.lease / 2;
        agent.heard = now;
        agent.remembered = false;
        match report {
            v1::agent_report::Kind::Heartbeat(heartbeat) => {
                agent.version = shortened(heartbeat.agent_version);
                agent.protocol_version = heartbeat.protocol_version;
                agent.features = heartbeat.features.into_iter().take(limits::REASON_BYTES).map(shortened).collect();
            }
            v1::agent_report::Kind::Enrolled(enrolled) => changed |= agent.enrol(enrolled, now, self.lease),
            v1::agent_report::Kind::Acknowledgement(acknowledgement) => {
                agent.snapshot = shortened(acknowledgement.snapshot);
                let nacks = acknowledgement.nacks.into_iter().take(limits::NACKS_PER_NODE);
                let nacks: Vec<_> = nacks
                    .map(|nack| Nack {
                        resource: shortened(nack.resource),
                        version: nack.version.into_iter().take(limits::VERSION_BYTES).collect(),
                        reason: shortened(nack.reason),
                    })
                    .collect();
                changed |= agent.nacks != nacks;
                agent.nacks = nacks;
                let before = agent.acknowledged;
                agent.reckon();
                changed |= self.awaited && agent.acknowledged != before;
            }
        }
        Ok(changed)
    }

    /// The agent's stream has sent everything up to `generation`; the agent will name that `snapshot`.
    /// True if it had acknowledged the same content before, and that is news.
    pub fn offer(&mut self, node: &NodeName, snapshot: String, generation: u64, now: Instant) -> bool {
        if !self.nodes.contains_key(node) && self.nodes.len() >= limits::NODES {
            return false;
        }
        let agent = self.nodes.entry(node.clone()).or_insert_with(|| Agent { remembered: true, ..Agent::new(now) });
        agent.offered.retain(|(offered, _)| *offered != snapshot);
        agent.offered.push_back((snapshot, generation));
        if agent.offered.len() > OFFERED {
            agent.offered.pop_front();
        }
        let before = agent.acknowledged;
        agent.reckon();
        self.awaited && agent.acknowledged != before
    }

    /// Every agent with a live lease decides on `generation` or a later one.
    #[must_use]
    pub fn all_acknowledged(&self, generation: u64, now: Instant) -> bool {
        self.nodes.values().filter(|agent| self.is_live(agent, now)).all(|agent| agent.acknowledged >= generation)
    }

    /// What the mesh should know now. Marks nodes that are gone, within the cap: when more nodes than that fall silent
    /// together, the fault is rather ours or the network's, and marking them would downgrade the mesh. A node that is
    /// silent for half a lease counts against the cap already, so that a partition is seen before its first lease ends.
    pub fn observe(&mut self, now: Instant) -> Observed {
        for agent in self.nodes.values_mut() {
            agent.settle(now, self.lease);
        }
        let silent = |agent: &Agent| now.duration_since(agent.heard);
        let suspected = self.nodes.values().filter(|agent| silent(agent) >= self.lease / 2).count();
        let cap = (self.nodes.len() * limits::GONE_NODES_PERCENT / 100).max(1);
        let gone: BTreeSet<NodeName> =
            self.nodes.iter().filter(|(_, agent)| silent(agent) >= self.lease).map(|(node, _)| node.clone()).collect();
        self.marked.retain(|node| gone.contains(node));
        if suspected <= cap && !self.suspended {
            self.marked = gone;
        }
        Observed {
            capable: self.workloads(),
            spoken: self.nodes.iter().filter(|(_, agent)| agent.spoken).map(|(node, _)| node.clone()).collect(),
            gone: self.marked.clone(),
        }
    }

    /// What agents with a live lease could not apply, each resource once.
    #[must_use]
    pub fn refusals(&self, now: Instant) -> Refusals {
        let mut refusals = Refusals::new();
        for (node, agent) in self.nodes.iter().filter(|(_, agent)| self.is_live(agent, now)) {
            for nack in agent.nacks.iter().filter(|nack| !nack.version.is_empty()) {
                let version = (nack.resource.clone(), nack.version.clone());
                refusals.entry(version).or_insert_with(|| (node.clone(), nack.reason.clone()));
            }
        }
        refusals
    }

    /// When silence, or the patience with an agent that has just begun, ends next.
    #[must_use]
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        let silence = self.nodes.values().map(|agent| agent.heard + self.lease);
        let beginners = self.nodes.values().filter(|agent| !agent.unsettled.is_empty());
        silence.chain(beginners.map(|agent| agent.began + self.lease)).filter(|end| *end > now).min()
    }

    /// Drops nodes that are gone and have no pods left, so that they no longer count as nodes of the mesh.
    pub fn forget(&mut self, is_inhabited: impl Fn(&NodeName) -> bool, now: Instant) {
        let lease = self.lease;
        self.nodes.retain(|node, agent| now.duration_since(agent.heard) < lease || is_inhabited(node));
        self.marked.retain(|node| self.nodes.contains_key(node));
    }
}

#[cfg(test)]
mod tests;
