//! The control side: discovery, reports, certificates, and what people ask. One runtime, apart from the workers'.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_proto::names::{Identity, NodeName, WorkloadUid};

use crate::admin::{self, AdminState, NodeStatus};
use crate::bpf::Sightings;
use crate::config::Settings;
use crate::discovery::{Enrolled, Link, Reporter, Snapshots, State};
use crate::identity::{Credentials, Join, JoinSettings, KeyFolder, Membership, Upkeep};
use crate::limits;
use crate::memory;
use crate::model::Snapshot;
use crate::node::keeper::{KernelSide, Waker};
use crate::telemetry::Telemetry;
use crate::tls::{Resumption, Trust};

use super::ready_file::ReadyFile;
use super::signals::{Ending, Signals};
use super::status::Sources;

pub struct Control {
    pub snapshots: Snapshots,
    pub credentials: Credentials,
    pub membership: Membership,
    pub link: watch::Receiver<Link>,
    node: NodeName,
    telemetry: Telemetry,
    side: watch::Receiver<Arc<KernelSide>>,
    status: watch::Sender<NodeStatus>,
    sightings: Arc<OnceLock<Sightings>>,
    draining: Arc<AtomicBool>,
    /// Whether people are answered here; before that a predecessor does everything.
    serving: Arc<AtomicBool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Control {
    pub fn start(
        settings: &Settings,
        telemetry: &Telemetry,
        side: watch::Receiver<Arc<KernelSide>>,
    ) -> anyhow::Result<Self> {
        let node: NodeName = settings.node.parse().context("--node")?;
        let keys = KeyFolder::open(&settings.run_dir);
        let credentials = Credentials::default();
        let joining = JoinSettings {
            node: node.clone(),
            controller: settings.controller.clone(),
            ca_file: settings.ca_file.clone(),
            join_token_file: settings.join_token_file.clone(),
            keys: keys.clone(),
        };
        let (join, membership) = Join::new(joining, &credentials);
        let (discovery, snapshots) = State::open(node.clone(), &settings.state_dir);
        let resumption = if settings.no_resumption { Resumption::Off } else { Resumption::On };
        let upkeep = Upkeep::new(credentials.clone(), &membership, keys, resumption);
        let (enrolled, said) = watch::channel(Enrolled::default());
        let report = Reporter::new(snapshots.clone(), said);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let link = discovery.link();
        let channels = membership.changes();
        tasks.spawn_local(join.run(stop.clone()));
        tasks.spawn_local(upkeep.run(stop.clone()));
        tasks.spawn_local(discovery.follow(channels.clone(), stop.clone()));
        tasks.spawn_local(report.run(channels, stop.clone()));
        tasks.spawn_local(report_enrolled(side.clone(), enrolled, stop.clone()));
        tasks.spawn_local(memory::give_back(telemetry.clone(), stop.clone()));
        let status = watch::Sender::new(NodeStatus::default());
        Ok(Self {
            snapshots,
            credentials,
            membership,
            link,
            node,
            telemetry: telemetry.clone(),
            side,
            status,
            sightings: Arc::default(),
            draining: Arc::default(),
            serving: Arc::default(),
            tasks,
            stop,
        })
    }

    /// Keeps the status fresh for `GET /status`, the metrics and the readiness probe.
    pub fn publish_status(&self, sources: Sources, mut ready_file: Option<ReadyFile>) {
        let (status, draining, stop) = (self.status.clone(), Arc::clone(&self.draining), self.stop.clone());
        let serving = Arc::clone(&self.serving);
        self.tasks.spawn_local(async move {
            let mut tick = interval(limits::STATUS_INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let now = sources.status(draining.load(Ordering::Relaxed));
                if let Some(file) = &mut ready_file {
                    file.tell(now.ready && serving.load(Ordering::Relaxed));
                }
                status.send_replace(now);
            }
        });
    }

    /// Opens the admin socket, and the address for metrics and readiness.
    pub fn serve_people(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let state = AdminState {
            node: self.node.clone(),
            snapshots: self.snapshots.clone(),
            credentials: self.credentials.clone(),
            membership: Some(self.membership.clone()),
            telemetry: self.telemetry.clone(),
            sightings: Arc::clone(&self.sightings),
            status: self.status.subscribe(),
        };
        let listener = admin::bind(&settings.run_dir, &self.node).context("cannot open the admin socket")?;
        self.tasks.spawn_local(admin::serve(listener, state.clone(), self.stop.clone()));
        if let Some(address) = settings.metrics_address {
            let listener = metrics_socket(address).with_context(|| format!("cannot listen on {address}"))?;
            self.tasks.spawn_local(admin::serve_metrics(listener, state, self.stop.clone()));
        }
        self.serving.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Lets people ask what the kernel has seen. To be called once.
    pub fn show_sightings(&self, sightings: Sightings) {
        let _ = self.sightings.set(sightings);
    }

    /// Waits until a snapshot is there, from the disk or from the controller; Some when the agent is to end before that.
    pub async fn first_snapshot(&self, signals: &mut Signals) -> Option<Ending> {
        let mut applied = self.snapshots.applied();
        let known = async {
            // An error says that the discovery task has ended, which it does after `stop` alone.
            let _ = applied.wait_for(|applied| applied.version.is_known()).await;
        };
        tokio::select! {
            () = known => None,
            ending = signals.stop() => Some(ending),
        }
    }

    /// Lets certificates follow each snapshot. To be called once a snapshot is known.
    pub fn want_certificates(&self) {
        let (snapshots, credentials, stop) = (self.snapshots.clone(), self.credentials.clone(), self.stop.clone());
        self.tasks.spawn_local(async move {
            let mut applied = snapshots.applied();
            let mut wanted = Wanted::default();
            loop {
                wanted.follow(&credentials, &snapshots.current());
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = applied.changed() => if changed.is_err() { return },
                    () = sleep(limits::DISENROLMENT_GRACE), if !wanted.leaving.is_empty() => {}
                }
            }
        });
    }

    /// Lets the kernel side follow each snapshot.
    pub fn follow_snapshots(&self, waker: Waker) {
        let (mut applied, stop) = (self.snapshots.applied(), self.stop.clone());
        self.tasks.spawn_local(async move {
            loop {
                waker.wake();
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = applied.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Waits until this agent does for every pod of `inherited` what its predecessor did. False when that takes longer
    /// than the predecessor waits: then it had better go on.
    pub async fn serves_all(&self, inherited: &HashSet<String>) -> bool {
        let mut side = self.side.clone();
        let applied = self.snapshots.applied();
        let serves = |side: &Arc<KernelSide>| {
            let outcome = |uid: &String| side.pods.iter().find(|(outcome, _)| outcome.uid.as_str() == uid.as_str());
            // A pod that the snapshot does not have is let go only at a controller's word, not at an old file's.
            let done = |uid: &String| outcome(uid).map_or(applied.borrow().confirmed, |(outcome, _)| outcome.enrolled);
            side.attached && inherited.iter().all(done)
        };
        let waited = tokio::time::timeout(limits::HANDOVER_TIMEOUT * 2 / 3, side.wait_for(serves)).await;
        matches!(waited, Ok(Ok(_)))
    }

    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Tells every task to end, without waiting for it.
    pub fn retire(&self) {
        self.stop.cancel();
    }

    /// Ends and joins every task.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

/// Whose certificates are wanted: this node's pods, and for a moment those that have just left.
#[derive(Default)]
struct Wanted {
    before: HashMap<WorkloadUid, Identity>,
    leaving: HashMap<WorkloadUid, (Identity, Instant)>,
}

impl Wanted {
    /// A pod that leaves keeps its certificate for a moment: what is under way is still served.
    fn follow(&mut self, credentials: &Credentials, snapshot: &Snapshot) {
        let identity = |uid| Some((WorkloadUid::clone(uid), snapshot.workloads.get(uid)?.identity.clone()?));
        let staying: HashMap<WorkloadUid, Identity> = snapshot.enrolments.keys().filter_map(identity).collect();
        let now = Instant::now();
        let gone = std::mem::replace(&mut self.before, staying.clone());
        for (uid, identity) in gone {
            self.leaving.entry(uid).or_insert((identity, now + limits::DISENROLMENT_GRACE * 2));
        }
        self.leaving.retain(|uid, (_, until)| !staying.contains_key(uid) && *until > now);
        let held = self.leaving.iter().map(|(uid, (identity, _))| (uid.clone(), identity.clone()));
        let workloads = held.chain(staying).collect();
        let trust = Trust {
            trust_domain: snapshot.trust_domain.clone(),
            aliases: snapshot.trust_domain_aliases.as_slice().into(),
            roots: Arc::clone(&snapshot.roots),
        };
        credentials.want(workloads, trust);
    }
}

/// Tells the controller which pods serve, from what the kernel side says.
async fn report_enrolled(
    mut side: watch::Receiver<Arc<KernelSide>>,
    enrolled: watch::Sender<Enrolled>,
    stop: CancellationToken,
) {
    loop {
        let now = of_side(&side.borrow_and_update());
        enrolled.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        tokio::select! {
            () = stop.cancelled() => return,
            changed = side.changed() => if changed.is_err() { return },
        }
    }
}

fn of_side(side: &KernelSide) -> Enrolled {
    let mut enrolled = Enrolled::default();
    if !side.attached {
        // A restart is not the pods' end: nothing is said before every pod was looked at.
        return enrolled;
    }
    for (outcome, _) in &side.pods {
        match &outcome.problem {
            _ if outcome.enrolled => enrolled.serving.push(outcome.uid.clone()),
            Some(problem) => enrolled.failed.push((outcome.uid.clone(), problem.clone())),
            None => {}
        }
    }
    enrolled.serving.sort_unstable();
    enrolled.failed.sort_unstable();
    enrolled
}

/// Two agents hold it for a moment during a hand-over.
fn metrics_socket(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(limits::METRICS_BACKLOG)
}
