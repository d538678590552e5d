//! Makes the kernel's pods follow the snapshot's: enrolment, change, hand-over.
//!
//! One thread owns the kernel side and does one thing after another. An enrolment ends with its row in
//! `PODS`, written last and whole. A pod that cannot be served is guarded: the kernel knows its failure
//! mode, so a strict port stays closed and a closed pod stays in. Nothing that fails for one pod
//! disturbs another; everything here is derived from the snapshot, so a restart rebuilds it.

mod leave;
mod newcomer;
mod observe;
mod prove;
mod tell;

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use weft_proto::names::WorkloadUid;

use super::keeper::Waker;
use super::netns::Netns;
use super::originals::Originals;
use super::pod::{Pod, Role};
use super::probing::{Probing, reached_from_here};
use super::sandbox::Sandboxes;
use super::{row, socket, sysctl};
use crate::bpf::{self, Attachment, BpfError, CapturedPod, Datapath, Events, NetnsCookie};
use crate::discovery::Applied;
use crate::identity::Credentials;
use crate::limits;
use crate::model::{Enrolment, Snapshot};
use crate::upgrade::ListenerName;
use crate::worker::Order;
use leave::Left;
pub use observe::ObservedPod;
use prove::Proof;

/// What became of one wanted pod.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub uid: WorkloadUid,
    pub name: Arc<str>,
    pub cookie: Option<NetnsCookie>,
    pub enrolled: bool,
    /// What is wrong with it, in a sentence; an enrolled pod may have failed its self-test.
    pub problem: Option<String>,
}

/// What enrolment works with.
pub struct Surroundings {
    pub workers: Vec<mpsc::Sender<Order>>,
    pub credentials: Credentials,
    pub sysctl_root: PathBuf,
    pub sandboxes: Sandboxes,
    /// Where the kubelet keeps pods' logs.
    pub pod_logs: PathBuf,
}

/// The kernel side of this node.
pub struct Enroller {
    datapath: Datapath,
    events: Option<Events>,
    surroundings: Surroundings,
    originals: Originals,
    probing: Probing,
    /// From when on pods that wait keep the hooks from nobody.
    attach_by: Instant,
    /// Whether a controller has spoken of the pods in this process' life.
    confirmed: bool,
    attached: bool,
    settles: bool,
    enrolled: HashMap<WorkloadUid, Enrolled>,
    /// Pods that could not be enrolled, and since when.
    waiting: HashMap<WorkloadUid, Instant>,
    /// Those of them whose failure mode the kernel knows.
    guarded: HashMap<WorkloadUid, CapturedPod>,
    /// Pods that no controller has told of; with what the kernel knows of those that are guarded.
    newcomers: HashMap<WorkloadUid, Option<CapturedPod>>,
    /// What was last said about each pod, so that it is said once.
    problems: HashMap<WorkloadUid, String>,
    /// Pods that have left and may still have connections.
    left: Vec<Left>,
    /// Listeners of a predecessor that no pod has claimed yet.
    inherited: HashMap<(String, u64), Vec<(ListenerName, TcpListener)>>,
}

struct Enrolled {
    pod: Arc<Pod>,
    named: Option<PathBuf>,
    listeners: Vec<(ListenerName, TcpListener)>,
    row: CapturedPod,
    proof: Proof,
    seeded: Instant,
    /// Since when the snapshot does not want it any more.
    leaving: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("its network namespace{} cannot be opened: {source}", at(.named.as_deref()))]
    Netns { named: Option<PathBuf>, source: io::Error },
    #[error("its network namespace cannot be entered: {0}")]
    Enter(io::Error),
    #[error("its network namespace belongs to {0}: two pods cannot share one")]
    Taken(WorkloadUid),
    #[error("its settings cannot be written: {0}")]
    Sysctl(io::Error),
    #[error("no listener can be opened in its capture range: {0}")]
    Listener(io::Error),
    #[error("the kernel refused it: {0}")]
    Kernel(#[from] BpfError),
    #[error("its certificate has not been issued yet")]
    NoCertificate,
    #[error("a worker does not take orders any more")]
    Worker,
}

fn at(named: Option<&Path>) -> String {
    named.map_or_else(String::new, |path| format!(" {}", path.display()))
}

impl Problem {
    /// Whether the pod itself is gone, and with it what the kernel knows about it.
    fn is_the_pods_end(&self) -> bool {
        matches!(self, Self::Netns { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Enroller {
    #[must_use]
    pub fn new(
        datapath: Datapath,
        surroundings: Surroundings,
        originals: Originals,
        inherited: Vec<(ListenerName, TcpListener)>,
    ) -> Self {
        let mut by_pod: HashMap<_, Vec<_>> = HashMap::new();
        for (name, listener) in inherited {
            by_pod.entry((name.workload.clone(), name.netns_cookie)).or_default().push((name, listener));
        }
        let events =
            datapath.events().inspect_err(|error| tracing::warn!(%error, "the kernel's events cannot be read")).ok();
        // Until then a predecessor's hooks, or a crashed one's rows, do better than hooks that know fewer pods. Where there are
        // none, as after a boot, closed pods would go past everybody meanwhile.
        let captures = |there: Vec<Attachment>| there.iter().any(|one| one.attached && one.name.starts_with("connect"));
        let preceded = datapath.attachments().map_or(true, captures);
        let patience = if preceded { limits::ATTACH_PATIENCE } else { Duration::ZERO };
        Self {
            attach_by: Instant::now() + patience,
            confirmed: false,
            probing: Probing::new(datapath.paths()),
            datapath,
            events,
            surroundings,
            originals,
            attached: false,
            settles: false,
            enrolled: HashMap::new(),
            waiting: HashMap::new(),
            guarded: HashMap::new(),
            newcomers: HashMap::new(),
            problems: HashMap::new(),
            left: Vec::new(),
            inherited: by_pod,
        }
    }

    /// Brings the kernel to what `snapshot` wants. Until a controller has confirmed it in this process' life nothing is taken
    /// off the kernel, because a snapshot from the disk may be older than what is there.
    pub fn reconcile(&mut self, snapshot: &Snapshot, applied: &Applied) -> Result<Vec<Outcome>, BpfError> {
        let confirmed = applied.confirmed;
        self.datapath.publish_networks(&row::networks(snapshot))?;
        let empty: Vec<_> = snapshot.empty_service_ports().collect();
        let external: Vec<_> = snapshot.external_service_ports().collect();
        if let Err(error) = self.datapath.publish_destinations(&external, &empty, &row::never_captured(snapshot)) {
            // The refusals are only shortcuts: the agent refuses the same connections itself.
            tracing::error!(%error, "the kernel does not know all services with external addresses or without endpoints");
        }
        let newcomers = self.follow_newcomers(snapshot, applied);
        if confirmed {
            self.disenrol_unwanted(snapshot);
        }
        self.end_what_left();
        self.confirmed = confirmed;
        let mut looked_at = snapshot.enrolments.values().chain(snapshot.observations.values());
        let probed = looked_at.any(|enrolment| !enrolment.probe_ports.is_empty());
        self.probing.follow(&self.datapath, probed, confirmed);
        let followed = snapshot.enrolments.values().map(|enrolment| self.follow(snapshot, enrolment));
        let outcomes: Vec<Outcome> = followed.chain(newcomers).collect();
        let complete = self.waiting.is_empty() || Instant::now() >= self.attach_by;
        if complete {
            self.inherited.clear();
        }
        if complete && !self.attached {
            // The connect hooks come last, when everything that they lead to is in place.
            self.datapath.take_over()?;
            self.attached = true;
        }
        self.forget_others();
        Ok(outcomes)
    }

    /// Whom to wake when the node changes between two looks.
    pub fn wake(&mut self, waker: Waker) {
        self.probing.wake(waker);
    }

    /// No predecessor can need anything any more: what other versions left goes as soon as this one is attached.
    pub fn settle(&mut self) {
        self.settles = true;
    }

    fn forget_others(&mut self) {
        if !self.settles || !self.attached {
            return;
        }
        self.settles = false;
        if let Err(error) = self.datapath.forget_others() {
            tracing::warn!(%error, "what an earlier version left in the kernel could not be removed");
        }
    }

    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether some pod has begun to wait a moment ago: then it is worth looking again soon.
    #[must_use]
    pub fn waits_for_a_certificate(&self) -> bool {
        self.waiting.values().any(|since| since.elapsed() < limits::ATTACH_PATIENCE)
    }

    /// Puts everything of this agent in force again, after a successor that had begun and gave up.
    pub fn reassert(&mut self) {
        self.probing.reassert();
        for (uid, enrolled) in &self.enrolled {
            if let Err(error) = put(&self.datapath, &enrolled.row, &enrolled.pod.netns, &enrolled.listeners) {
                tracing::error!(workload = %uid, %error, "a pod is not captured any more");
            }
        }
        self.attached = false;
    }

    /// Every listener, for a successor.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerName, BorrowedFd<'_>)> {
        self.enrolled
            .values()
            .flat_map(|enrolled| &enrolled.listeners)
            .map(|(name, socket)| (name.clone(), socket.as_fd()))
    }

    /// Stops to accept everywhere and forgets the listeners; the kernel's rows are a successor's now.
    pub fn retire_all(&mut self) {
        for (_, enrolled) in self.enrolled.drain() {
            enrolled.pod.retired.cancel();
        }
    }

    fn follow(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Outcome {
        let uid = &enrolment.uid;
        let name = snapshot.workloads.get(uid).map_or_else(|| Arc::from(""), |row| Arc::clone(&row.name));
        let mut problem = None;
        match self.try_follow(snapshot, enrolment) {
            Ok(()) => {
                self.waiting.remove(uid);
                self.guarded.remove(uid);
            }
            Err(error) => {
                if error.is_the_pods_end() {
                    self.lose(uid);
                    self.waiting.remove(uid);
                } else if !self.enrolled.contains_key(uid) {
                    self.guard(snapshot, enrolment, &error);
                }
                problem = Some(error.to_string());
            }
        }
        let enrolled = self.enrolled.get(uid);
        let cookie = enrolled.map(|enrolled| enrolled.pod.netns.cookie());
        let problem = problem.or_else(|| enrolled.and_then(|enrolled| enrolled.proof.problem()));
        let outcome =
            Outcome { uid: uid.clone(), name, cookie, enrolled: enrolled.is_some(), problem: problem.clone() };
        self.say_once(&outcome);
        outcome
    }

    fn say_once(&mut self, outcome: &Outcome) {
        if self.problems.get(&outcome.uid) == outcome.problem.as_ref() {
            return;
        }
        match &outcome.problem {
            Some(problem) => {
                tracing::warn!(workload = %outcome.uid, name = %outcome.name, problem, "something is wrong with a pod");
                self.problems.insert(outcome.uid.clone(), problem.clone());
            }
            None => drop(self.problems.remove(&outcome.uid)),
        }
    }

    fn try_follow(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Result<(), Problem> {
        let netns = self.surroundings.sandboxes.netns(&enrolment.uid, enrolment.netns.as_deref());
        let netns = netns.map_err(|source| Problem::Netns { named: enrolment.netns.clone(), source })?;
        if self.enrolled.get(&enrolment.uid).is_some_and(|enrolled| enrolled.pod.netns.cookie() != netns.cookie()) {
            self.lose(&enrolment.uid);
        }
        if self.enrolled.contains_key(&enrolment.uid) {
            return self.update(snapshot, enrolment);
        }
        self.make_way(netns.cookie())?;
        let wanted = snapshot.workloads.get(&enrolment.uid).is_some_and(|row| row.identity.is_some());
        if wanted && self.surroundings.credentials.of(&enrolment.uid).is_none() {
            // It could neither prove itself nor be reached.
            return Err(Problem::NoCertificate);
        }
        self.enrol(snapshot, enrolment, netns)
    }

    /// Another pod in the same namespace: one that is leaving goes now, one that stays is in the way.
    fn make_way(&mut self, cookie: NetnsCookie) -> Result<(), Problem> {
        let holder = self.enrolled.values().find(|enrolled| enrolled.pod.netns.cookie() == cookie);
        let Some(holder) = holder else { return Ok(()) };
        let uid = holder.pod.uid.clone();
        if holder.leaving.is_none() {
            return Err(Problem::Taken(uid));
        }
        self.disenrol(&uid);
        Ok(())
    }

    /// Lets the pod's failure mode decide until it can be served. A pod that waits for its certificate alone is given a
    /// moment, so that switching capture on interrupts nothing; what an earlier agent has written to the disk was switched
    /// on before. A predecessor that still serves it is left alone.
    fn guard(&mut self, snapshot: &Snapshot, enrolment: &Enrolment, problem: &Problem) {
        let since = *self.waiting.entry(enrolment.uid.clone()).or_insert_with(Instant::now);
        let patient = matches!(problem, Problem::NoCertificate)
            && self.confirmed
            && since.elapsed() < limits::CERTIFICATE_PATIENCE;
        if patient || !self.inherited.is_empty() || matches!(problem, Problem::Taken(_)) {
            return;
        }
        let named = enrolment.netns.as_deref();
        let Ok(netns) = self.surroundings.sandboxes.netns(&enrolment.uid, named) else { return };
        let row = reached_from_here(row::pod(snapshot, enrolment, netns.cookie()));
        if self.guarded.get(&enrolment.uid) == Some(&row) {
            return;
        }
        match put(&self.datapath, &row, &netns, &[]) {
            Ok(()) => drop(self.guarded.insert(enrolment.uid.clone(), row)),
            Err(error) => tracing::error!(workload = %enrolment.uid, %error, "a pod is neither served nor guarded"),
        }
    }

    fn update(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Result<(), Problem> {
        let Some(enrolled) = self.enrolled.get_mut(&enrolment.uid) else { return Ok(()) };
        enrolled.pod.remember(enrolment);
        enrolled.leaving = None;
        let wanted = reached_from_here(row::pod(snapshot, enrolment, enrolled.pod.netns.cookie()));
        if wanted != enrolled.row {
            self.datapath.update(&wanted)?;
            enrolled.row = wanted;
        }
        if enrolled.seeded.elapsed() > limits::RESEED_INTERVAL {
            // A socket that listened before the first agent's start closes unseen; and a full map may have room again.
            let ports: Vec<u16> = enrolled.listeners.iter().map(|(name, _)| name.port).collect();
            let netns = &enrolled.pod.netns;
            let _seeded =
                netns.run(|| self.datapath.seed_open_ports(netns.cookie(), &ports)).map_err(Problem::Enter)??;
            enrolled.seeded = Instant::now();
        }
        Ok(())
    }

    fn enrol(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>, netns: Netns) -> Result<(), Problem> {
        let cookie = netns.cookie();
        self.prepare_settings(&netns, enrolment)?;
        let inherits = self.inherited.contains_key(&(enrolment.uid.to_string(), cookie.0));
        let listeners = self.listeners_of(enrolment, &netns)?;
        let wanted = reached_from_here(row::pod(snapshot, enrolment, cookie));
        put(&self.datapath, &wanted, &netns, &listeners)?;
        let pod = Arc::new(Pod::new(Arc::clone(enrolment), netns));
        let enrolled = Enrolled {
            pod: Arc::clone(&pod),
            named: enrolment.netns.clone(),
            listeners,
            row: wanted,
            // What a predecessor captured is captured.
            proof: if inherits { Proof::Given } else { Proof::Wanted { next: Instant::now() } },
            seeded: Instant::now(),
            leaving: None,
        };
        let served = self.serve(&pod, &enrolled.listeners);
        self.enrolled.insert(enrolment.uid.clone(), enrolled);
        if let Err(problem) = served {
            // Listeners that nobody accepts from would hang whoever is led to them.
            self.disenrol(&enrolment.uid);
            return Err(problem);
        }
        tracing::info!(workload = %enrolment.uid, netns = cookie.0, "enrolled");
        Ok(())
    }

    fn prepare_settings(&mut self, netns: &Netns, enrolment: &Enrolment) -> Result<(), Problem> {
        if self.originals.has(netns.cookie()) {
            return Ok(());
        }
        let original = netns
            .run(|| sysctl::apply(&self.surroundings.sysctl_root))
            .and_then(|result| result)
            .map_err(Problem::Sysctl)?;
        self.originals.keep(netns.cookie(), enrolment, original).map_err(Problem::Sysctl)
    }

    /// A predecessor's listeners where it handed them over; new ones for what is missing.
    fn listeners_of(
        &mut self,
        enrolment: &Enrolment,
        netns: &Netns,
    ) -> Result<Vec<(ListenerName, TcpListener)>, Problem> {
        let cookie = netns.cookie().0;
        let mut listeners = self.inherited.remove(&(enrolment.uid.to_string(), cookie)).unwrap_or_default();
        for worker in 0..u32::try_from(self.surroundings.workers.len()).unwrap_or(0) {
            for outbound in [true, false] {
                if listeners.iter().any(|(name, _)| name.worker == worker && name.outbound == outbound) {
                    continue;
                }
                let opened =
                    netns.run(|| bpf::listen_in_capture_range(limits::LISTEN_BACKLOG)).and_then(|result| result);
                let (listener, port) = opened.map_err(Problem::Listener)?;
                listener.set_tcp_keepalive(&socket::keep_alive()).map_err(Problem::Listener)?;
                let workload = enrolment.uid.to_string();
                let name = ListenerName { workload, netns_cookie: cookie, outbound, worker, port };
                listeners.push((name, listener.into()));
            }
        }
        Ok(listeners)
    }

    fn serve(&self, pod: &Arc<Pod>, listeners: &[(ListenerName, TcpListener)]) -> Result<(), Problem> {
        for (name, listener) in listeners {
            // A predecessor may have had more workers: its surplus listeners are served by those that there are.
            let index = usize::try_from(name.worker).unwrap_or(0) % self.surroundings.workers.len().max(1);
            let worker = self.surroundings.workers.get(index).ok_or(Problem::Worker)?;
            let role = if name.outbound { Role::Outbound } else { Role::Inbound };
            let listener = listener.try_clone().map_err(Problem::Listener)?;
            let order = Order::Serve { pod: Arc::clone(pod), role, listener };
            worker.try_send(order).map_err(|_| Problem::Worker)?;
        }
        Ok(())
    }
}

/// Writes a pod and its listeners to the kernel. Without listeners its failure mode decides.
fn put(
    datapath: &Datapath,
    row: &CapturedPod,
    netns: &Netns,
    listeners: &[(ListenerName, TcpListener)],
) -> Result<(), Problem> {
    let ports: Vec<u16> = listeners.iter().map(|(name, _)| name.port).collect();
    let seeded = netns.run(|| datapath.seed_open_ports(row.netns, &ports)).map_err(Problem::Enter)??;
    let descriptors: Vec<_> = listeners.iter().map(|(name, socket)| row::listener(name, socket.as_fd())).collect();
    datapath.enrol(row, netns.as_fd(), &descriptors, &seeded)?;
    Ok(())
}
