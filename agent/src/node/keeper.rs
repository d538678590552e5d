//! The thread that owns the kernel side: it reconciles when the snapshot changes, and once a second anyway.
//!
//! System calls here may block, and entering namespaces is a matter of a thread, so this is neither a
//! worker nor the control runtime. During a hand-over it does nothing else: two agents never change the
//! kernel at once.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::enrol::{Enroller, ObservedPod, Outcome};
use crate::admin::{HookStatus, PodCounters};
use crate::bpf::ForeignProgram;
use crate::discovery::Snapshots;
use crate::limits;
use crate::upgrade;

/// What the kernel side looks like, for status and for the report to the controller.
#[derive(Debug, Clone, Default)]
pub struct KernelSide {
    /// Every wanted pod has been looked at once and the hooks are attached.
    pub attached: bool,
    pub pods: Vec<(Outcome, PodCounters)>,
    pub observed: Vec<ObservedPod>,
    pub hooks: Vec<HookStatus>,
    /// Programs of others at the same hooks.
    pub foreign: Vec<ForeignProgram>,
    /// Why the last attempt to follow the snapshot failed as a whole.
    pub problem: Option<String>,
}

enum Command {
    Wake,
    /// No predecessor can need anything any more.
    Settle,
    Give(UnixStream, oneshot::Sender<io::Result<()>>),
    Stop,
}

/// The owner's end of the thread.
pub struct Keeper {
    commands: SyncSender<Command>,
    thread: JoinHandle<()>,
}

/// Can ask the thread to look again; for whoever watches the snapshot.
#[derive(Clone)]
pub struct Waker(SyncSender<Command>);

impl Waker {
    /// Never waits: a full queue means that the thread is about to look anyway.
    pub fn wake(&self) {
        let _ = self.0.try_send(Command::Wake);
    }
}

impl Keeper {
    pub fn start(
        mut enroller: Enroller,
        snapshots: Snapshots,
        publish: watch::Sender<Arc<KernelSide>>,
    ) -> io::Result<Self> {
        let (commands, arrivals) = sync_channel(limits::KEEPER_COMMANDS);
        enroller.wake(Waker(commands.clone()));
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || run(enroller, &snapshots, &arrivals, &publish))?;
        Ok(Self { commands, thread })
    }

    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(self.commands.clone())
    }

    /// Lets go of what other versions left in the kernel.
    pub fn settle(&self) {
        // A full queue is only ever full of wakes, and the thread is alive as long as its owner.
        let _ = self.commands.send(Command::Settle);
    }

    /// Hands every listener to the successor at the other end. After `Ok` this agent accepts nothing any more.
    pub async fn give(&self, successor: UnixStream) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        let commands = self.commands.clone();
        // Waits behind wakes, off this runtime.
        tokio::task::spawn_blocking(move || commands.send(Command::Give(successor, answer)))
            .await
            .map_err(io::Error::other)?
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        answered.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
    }

    /// Ends the thread; listeners that were not handed over close with it. Blocks while the thread finishes what it does.
    pub fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that keeps the kernel side ended in a panic");
        }
    }
}

fn run(
    mut enroller: Enroller,
    snapshots: &Snapshots,
    arrivals: &Receiver<Command>,
    publish: &watch::Sender<Arc<KernelSide>>,
) {
    let mut due = follow(&mut enroller, snapshots, publish);
    loop {
        let pause = due.saturating_duration_since(Instant::now());
        let applied = Arc::clone(&snapshots.applied().borrow());
        let newcomers = Enroller::awaits_newcomers(&snapshots.current(), &applied) && pause > limits::NEWCOMER_POLL;
        match arrivals.recv_timeout(if newcomers { limits::NEWCOMER_POLL } else { pause }) {
            // They are told of at the next whole look.
            Err(RecvTimeoutError::Timeout) if newcomers => {
                drop(enroller.follow_newcomers(&snapshots.current(), &applied));
            }
            Ok(Command::Wake) | Err(RecvTimeoutError::Timeout) => due = follow(&mut enroller, snapshots, publish),
            Ok(Command::Settle) => enroller.settle(),
            Ok(Command::Give(successor, answer)) => {
                let given = upgrade::give(successor, enroller.listeners());
                let done = given.is_ok();
                if done {
                    enroller.retire_all();
                }
                let _ = answer.send(given);
                if done {
                    return;
                }
                enroller.reassert();
                due = follow(&mut enroller, snapshots, publish);
            }
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => {
                enroller.retire_all();
                return;
            }
        }
    }
}

/// One look at the snapshot. Returns when to look again if nobody asks before.
fn follow(enroller: &mut Enroller, snapshots: &Snapshots, publish: &watch::Sender<Arc<KernelSide>>) -> Instant {
    let applied = Arc::clone(&snapshots.applied().borrow());
    let snapshot = snapshots.current();
    let followed = enroller.reconcile(&snapshot, &applied);
    let mut side = KernelSide::clone(&publish.borrow());
    side.attached = enroller.is_attached();
    match followed {
        Ok(outcomes) => {
            let counted = |outcome: Outcome| {
                let counters = enroller.counters(outcome.cookie);
                (outcome, counters)
            };
            side.pods = outcomes.into_iter().map(counted).collect();
            side.problem = None;
        }
        Err(error) => {
            // What was known of the pods stays: unknown is never false.
            tracing::error!(%error, "the kernel does not follow the snapshot");
            side.problem = Some(error.to_string());
        }
    }
    side.observed = enroller.observe(&snapshot, applied.confirmed);
    enroller.log_events();
    side.hooks = enroller.hooks();
    side.foreign = enroller.foreign();
    publish.send_replace(Arc::new(side));
    let more = enroller.prove_some(&snapshot);
    let hurried = more || enroller.waits_for_a_certificate();
    Instant::now() + if hurried { limits::CERTIFICATE_POLL } else { limits::RECONCILE_INTERVAL }
}
