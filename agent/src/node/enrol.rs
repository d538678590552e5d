//! Makes the kernel's pods follow the snapshot's: enrolment, change, disenrolment, hand-over.
//!
//! One thread owns the kernel side and does one thing after another. An enrolment ends with its row in
//! `PODS`, written last and whole, and a self-test; what fails is named and tried again. Everything here
//! is derived from the snapshot, so a restart rebuilds it.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use weft_proto::names::WorkloadUid;

use super::netns::Netns;
use super::originals::Originals;
use super::pod::{Pod, Role};
use super::{row, self_test, socket, sysctl};
use crate::admin::{HookStatus, PodCounters};
use crate::bpf::{Attachment, BpfError, CapturedPod, Datapath, Events, NetnsCookie};
use crate::identity::Credentials;
use crate::limits;
use crate::model::{Enrolment, Snapshot};
use crate::upgrade::ListenerName;
use crate::worker::Order;

/// What became of one wanted pod.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub uid: WorkloadUid,
    pub name: Arc<str>,
    pub cookie: Option<NetnsCookie>,
    /// Why it is not enrolled, in a sentence.
    pub problem: Option<String>,
}

/// What enrolment works with.
pub struct Surroundings {
    pub workers: Vec<mpsc::Sender<Order>>,
    pub credentials: Credentials,
    pub sysctl_root: PathBuf,
}

/// The kernel side of this node.
pub struct Enroller {
    datapath: Datapath,
    events: Option<Events>,
    surroundings: Surroundings,
    attached: bool,
    started: Instant,
    /// Pods without a certificate, and since when.
    waiting: HashMap<WorkloadUid, Instant>,
    /// Those of them whose failure mode the kernel knows.
    guarded: HashMap<WorkloadUid, CapturedPod>,
    /// What was last said about each pod that is not enrolled, so that it is said once.
    problems: HashMap<WorkloadUid, String>,
    originals: Originals,
    enrolled: HashMap<WorkloadUid, Enrolled>,
    /// Listeners of a predecessor that no pod has claimed yet.
    inherited: HashMap<(String, u64), Vec<(ListenerName, TcpListener)>>,
}

struct Enrolled {
    pod: Arc<Pod>,
    listeners: Vec<(ListenerName, TcpListener)>,
    row: CapturedPod,
    proven: bool,
    /// Since when the snapshot does not want it any more.
    leaving: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("its network namespace {path} cannot be opened: {source}")]
    Netns { path: PathBuf, source: io::Error },
    #[error("its network namespace cannot be entered: {0}")]
    Enter(io::Error),
    #[error("its settings cannot be written: {0}")]
    Sysctl(io::Error),
    #[error("no listener can be opened in its capture range: {0}")]
    Listener(io::Error),
    #[error("the kernel refused it: {0}")]
    Kernel(#[from] BpfError),
    #[error("{0}")]
    SelfTest(String),
    #[error("its certificate has not been issued yet")]
    NoCertificate,
    #[error("a worker does not take orders any more")]
    Worker,
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
        Self {
            datapath,
            events,
            surroundings,
            attached: false,
            started: Instant::now(),
            waiting: HashMap::new(),
            guarded: HashMap::new(),
            problems: HashMap::new(),
            originals,
            enrolled: HashMap::new(),
            inherited: by_pod,
        }
    }

    /// Brings the kernel to what `snapshot` wants. Returns every wanted pod's outcome.
    pub fn reconcile(&mut self, snapshot: &Snapshot) -> Result<Vec<Outcome>, BpfError> {
        self.datapath.publish_networks(&row::networks(snapshot))?;
        let empty: Vec<_> = snapshot.empty_service_ports().collect();
        self.datapath.publish_destinations(&empty, &row::never_captured(snapshot))?;
        self.disenrol_unwanted(snapshot);
        let follow = |this: &mut Self| -> Vec<Outcome> {
            snapshot.enrolments.values().map(|enrolment| this.follow(snapshot, enrolment)).collect()
        };
        let outcomes = follow(self);
        // Before that, a predecessor's hooks or a crashed one's rows do better than hooks that know fewer pods.
        let complete = self.waiting.is_empty() || self.started.elapsed() > limits::ATTACH_PATIENCE;
        if complete {
            self.inherited.clear();
        }
        if self.attached || !complete {
            return Ok(outcomes);
        }
        // The connect hooks come last, when everything that they lead to is in place; then each pod is proven.
        self.datapath.attach()?;
        self.attached = true;
        Ok(follow(self))
    }

    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// What the hooks counted for a pod; zeroes where nothing is known.
    #[must_use]
    pub fn counters(&self, netns: Option<NetnsCookie>) -> PodCounters {
        let counted = netns.and_then(|netns| self.datapath.counters(netns).ok()).unwrap_or_default();
        let mut by_reason = [0; weft_abi::reason::REASONS];
        for (reason, count) in counted {
            if let Some(place) = usize::try_from(reason.0).ok().and_then(|index| by_reason.get_mut(index)) {
                *place = count;
            }
        }
        PodCounters::new(by_reason)
    }

    /// Logs the rare happenings that the hooks told since the last time; counters have the common ones.
    pub fn log_events(&mut self) {
        let Some(events) = &mut self.events else { return };
        for _ in 0..limits::EVENTS_PER_LOOK {
            let Some(event) = events.next_event() else { return };
            let pod = self.enrolled.values().find(|enrolled| enrolled.pod.netns.cookie() == event.netns);
            let workload = pod.map(|enrolled| enrolled.pod.uid.as_str());
            let (source, destination) = (event.source, event.destination);
            tracing::info!(workload, reason = event.reason.name(), %source, %destination, suppressed = event.suppressed, "kernel");
        }
    }

    /// The programs that are attached, as the kernel says.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookStatus> {
        let attachments = self.datapath.attachments().unwrap_or_else(|error| {
            tracing::warn!(%error, "the attached programs cannot be listed");
            Vec::new()
        });
        let hook = |attachment: Attachment| {
            let (name, target) = attachment.name.split_once('-').unwrap_or((&attachment.name, ""));
            let detail = (!attachment.attached).then(|| "its cgroup or namespace is gone".to_owned());
            HookStatus {
                name: name.to_owned(),
                target: target.to_owned(),
                pinned: true,
                attached: attachment.attached,
                detail,
            }
        };
        attachments.into_iter().map(hook).collect()
    }

    /// Whether some pod waits for its certificate.
    #[must_use]
    pub fn waits_for_a_certificate(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts everything of this agent in force again, after a successor that had begun and gave up.
    pub fn reassert(&mut self) {
        for (uid, enrolled) in &self.enrolled {
            if let Err(error) = put(&self.datapath, &enrolled.row, &enrolled.pod.netns, &enrolled.listeners) {
                tracing::error!(workload = %uid, %error, "a pod is not captured any more");
            }
        }
        self.attached = false;
    }

    /// Every listener, for a successor.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerName, std::os::fd::BorrowedFd<'_>)> {
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

    /// First its own connections go direct; what others still send to the agent is served for a grace, because they
    /// hear of the change at the same moment as this node; then the pod is left alone.
    fn disenrol_unwanted(&mut self, snapshot: &Snapshot) {
        let unwanted: Vec<_> =
            self.enrolled.keys().filter(|uid| !snapshot.enrolments.contains_key(*uid)).cloned().collect();
        for uid in unwanted {
            let since = self.leave(&uid);
            if since.elapsed() >= limits::DISENROLMENT_GRACE {
                self.disenrol(&uid);
            }
        }
        // After a crash the rows of wanted pods go on deciding by their failure mode until each is enrolled anew.
        self.waiting.retain(|uid, _| snapshot.enrolments.contains_key(uid));
        self.guarded.retain(|uid, _| snapshot.enrolments.contains_key(uid));
        self.problems.retain(|uid, _| snapshot.enrolments.contains_key(uid));
        let wanted = snapshot.enrolments.values().filter_map(|row| Netns::open(&row.netns).ok());
        let ours = self.enrolled.values().map(|enrolled| enrolled.pod.netns.cookie());
        let stay: Vec<NetnsCookie> = wanted.map(|netns| netns.cookie()).chain(ours).collect();
        if let Err(error) = self.datapath.retain(&stay) {
            tracing::warn!(%error, "the rows of pods that are gone stay in the kernel");
        }
    }

    fn leave(&mut self, uid: &WorkloadUid) -> Instant {
        let Some(enrolled) = self.enrolled.get_mut(uid) else { return Instant::now() };
        if let Some(since) = enrolled.leaving {
            return since;
        }
        let quiet = CapturedPod { outbound: false, ..enrolled.row.clone() };
        match self.datapath.update(&quiet) {
            Ok(()) => enrolled.row = quiet,
            Err(error) => tracing::warn!(workload = %uid, %error, "a pod that leaves is still captured"),
        }
        *enrolled.leaving.insert(Instant::now())
    }

    fn disenrol(&mut self, uid: &WorkloadUid) {
        let Some(enrolled) = self.enrolled.remove(uid) else { return };
        let cookie = enrolled.pod.netns.cookie();
        // The row goes first, so that nothing new is led to listeners that are about to close.
        if let Err(error) = self.datapath.disenrol(cookie) {
            tracing::warn!(workload = %uid, %error, "a pod could not be taken off the kernel");
        }
        enrolled.pod.retired.cancel();
        let original = self.originals.take(cookie);
        let restored = original.map(|original| {
            enrolled
                .pod
                .netns
                .run(|| sysctl::restore(&self.surroundings.sysctl_root, &original))
                .and_then(|result| result)
        });
        if let Some(Err(error)) = restored {
            tracing::warn!(workload = %uid, %error, "a pod's settings could not be restored");
        }
        tracing::info!(workload = %uid, "disenrolled");
    }

    fn follow(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Outcome {
        let name = snapshot.workloads.get(&enrolment.uid).map_or_else(|| Arc::from(""), |row| Arc::clone(&row.name));
        let problem = self.try_follow(snapshot, enrolment).err().map(|problem| problem.to_string());
        if self.problems.get(&enrolment.uid) != problem.as_ref() {
            match &problem {
                Some(problem) => {
                    tracing::warn!(workload = %enrolment.uid, %name, problem, "a pod is not enrolled");
                    self.problems.insert(enrolment.uid.clone(), problem.clone());
                }
                None => drop(self.problems.remove(&enrolment.uid)),
            }
        }
        let cookie = self.enrolled.get(&enrolment.uid).map(|enrolled| enrolled.pod.netns.cookie());
        Outcome { uid: enrolment.uid.clone(), name, cookie, problem }
    }

    fn try_follow(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Result<(), Problem> {
        let netns =
            Netns::open(&enrolment.netns).map_err(|source| Problem::Netns { path: enrolment.netns.clone(), source });
        let netns = match netns {
            Ok(netns) => netns,
            Err(problem) => {
                self.lose(&enrolment.uid);
                return Err(problem);
            }
        };
        if self.enrolled.get(&enrolment.uid).is_some_and(|enrolled| enrolled.pod.netns.cookie() != netns.cookie()) {
            self.lose(&enrolment.uid);
        }
        if self.enrolled.contains_key(&enrolment.uid) {
            self.update(snapshot, enrolment)?;
        } else {
            self.await_certificate(snapshot, enrolment, &netns)?;
            self.enrol(snapshot, enrolment, netns)?;
        }
        self.prove(snapshot, enrolment)
    }

    /// A pod without its certificate could neither prove itself nor be reached: it stays as it is until it has one.
    /// Where that takes long, because no controller is there, its failure mode decides in the meantime.
    fn await_certificate(&mut self, snapshot: &Snapshot, enrolment: &Enrolment, netns: &Netns) -> Result<(), Problem> {
        let wanted = snapshot.workloads.get(&enrolment.uid).is_some_and(|row| row.identity.is_some());
        if !wanted || self.surroundings.credentials.of(&enrolment.uid).is_some() {
            self.waiting.remove(&enrolment.uid);
            self.guarded.remove(&enrolment.uid);
            return Ok(());
        }
        let since = *self.waiting.entry(enrolment.uid.clone()).or_insert_with(Instant::now);
        if since.elapsed() > limits::CERTIFICATE_PATIENCE && self.inherited.is_empty() {
            let row = row::pod(snapshot, enrolment, netns.cookie());
            if self.guarded.get(&enrolment.uid) != Some(&row) {
                put(&self.datapath, &row, netns, &[])?;
                self.guarded.insert(enrolment.uid.clone(), row);
            }
        }
        Err(Problem::NoCertificate)
    }

    /// The pod's namespace is gone: nothing of ours may pin it.
    fn lose(&mut self, uid: &WorkloadUid) {
        if let Some(enrolled) = self.enrolled.get(uid) {
            enrolled.pod.gone.cancel();
            self.disenrol(uid);
        }
    }

    fn update(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>) -> Result<(), Problem> {
        let Some(enrolled) = self.enrolled.get_mut(&enrolment.uid) else { return Ok(()) };
        enrolled.pod.remember(enrolment);
        enrolled.leaving = None;
        let wanted = row::pod(snapshot, enrolment, enrolled.pod.netns.cookie());
        if wanted != enrolled.row {
            self.datapath.update(&wanted)?;
            enrolled.row = wanted;
        }
        Ok(())
    }

    fn enrol(&mut self, snapshot: &Snapshot, enrolment: &Arc<Enrolment>, netns: Netns) -> Result<(), Problem> {
        let cookie = netns.cookie();
        self.prepare_settings(&netns, &enrolment.netns)?;
        let listeners = self.listeners_of(enrolment, &netns)?;
        let wanted = row::pod(snapshot, enrolment, cookie);
        put(&self.datapath, &wanted, &netns, &listeners)?;
        let pod = Arc::new(Pod::new(Arc::clone(enrolment), netns));
        let enrolled = Enrolled { pod: Arc::clone(&pod), listeners, row: wanted, proven: false, leaving: None };
        let served = self.serve(&pod, &enrolled.listeners);
        self.enrolled.insert(enrolment.uid.clone(), enrolled);
        served?;
        tracing::info!(workload = %enrolment.uid, netns = cookie.0, "enrolled");
        Ok(())
    }

    fn prepare_settings(&mut self, netns: &Netns, path: &Path) -> Result<(), Problem> {
        if self.originals.has(netns.cookie()) {
            return Ok(());
        }
        let original = netns
            .run(|| sysctl::apply(&self.surroundings.sysctl_root))
            .and_then(|result| result)
            .map_err(Problem::Sysctl)?;
        self.originals.keep(netns.cookie(), path.to_owned(), original).map_err(Problem::Sysctl)
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
                let opened = netns.run(socket::listen_in_capture_range).and_then(|result| result);
                let (listener, port) = opened.map_err(Problem::Listener)?;
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

    /// Runs the self-test once, when the hooks are attached.
    fn prove(&mut self, snapshot: &Snapshot, enrolment: &Enrolment) -> Result<(), Problem> {
        let Some(enrolled) = self.enrolled.get_mut(&enrolment.uid) else { return Ok(()) };
        if enrolled.proven || !self.attached {
            return Ok(());
        }
        if let Some(destination) = self_test::destination(&snapshot.captured_networks) {
            self_test::run(&enrolment.netns, destination).map_err(Problem::SelfTest)?;
        }
        enrolled.proven = true;
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
