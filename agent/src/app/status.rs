//! Puts the node's state together for people: what `GET /status` answers.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::{
    ControllerStatus, ForeignStatus, KernelStatus, NodeStatus, ObservedStatus, PodStatus, WorkerStatus,
};
use crate::bpf;
use crate::config::Settings;
use crate::discovery::{Link, Snapshots};
use crate::identity::Membership;
use crate::limits;
use crate::node::keeper::KernelSide;
use crate::worker::Load;

/// Where every part of the status comes from.
pub struct Sources {
    pub settings: Settings,
    pub snapshots: Snapshots,
    pub membership: Membership,
    pub link: watch::Receiver<Link>,
    pub side: watch::Receiver<Arc<KernelSide>>,
    pub loads: Vec<Arc<Load>>,
}

impl Sources {
    /// The state at this moment.
    #[must_use]
    pub fn status(&self, draining: bool) -> NodeStatus {
        let applied = Arc::clone(&self.snapshots.applied().borrow());
        let side = Arc::clone(&self.side.borrow());
        let workers = self.workers();
        NodeStatus {
            ready: applied.version.is_known()
                && side.attached
                && !draining
                && workers.iter().all(|worker| worker.alive),
            draining,
            pods: pods(&side),
            observed: observed(&side),
            controller: self.controller(),
            workers,
            kernel: KernelStatus {
                release: kernel_release(),
                pin_directory: self.settings.kernel.pin_dir.clone(),
                hooks: side.hooks.clone(),
                foreign: foreign(&side),
            },
        }
    }

    fn controller(&self) -> ControllerStatus {
        let link = self.link.borrow().clone();
        ControllerStatus {
            connected: link.connected,
            address: self.settings.controller.clone(),
            since: link.since,
            last_error: link.last_error.or_else(|| self.membership.facts().last_error.clone()),
        }
    }

    fn workers(&self) -> Vec<WorkerStatus> {
        let silences = bpf::silences(&self.settings.kernel.pin_dir);
        self.loads
            .iter()
            .zip(0_u32..)
            .map(|(load, index)| {
                let age = silences.iter().find(|(worker, _)| *worker == index).map(|(_, age)| *age);
                WorkerStatus {
                    index,
                    alive: age.is_some_and(|age| age < limits::HEARTBEAT_STALE),
                    heartbeat_age_milliseconds: age
                        .map_or(u64::MAX, |age| age.as_millis().try_into().unwrap_or(u64::MAX)),
                    connections: load.connections(),
                }
            })
            .collect()
    }
}

fn pods(side: &KernelSide) -> Vec<PodStatus> {
    side.pods
        .iter()
        .map(|(outcome, counters)| PodStatus {
            uid: outcome.uid.clone(),
            name: outcome.name.to_string(),
            enrolled: outcome.enrolled,
            reason: outcome.problem.clone(),
            counters: *counters,
        })
        .collect()
}

fn observed(side: &KernelSide) -> Vec<ObservedStatus> {
    side.observed
        .iter()
        .map(|pod| ObservedStatus {
            uid: pod.uid.clone(),
            name: pod.name.to_string(),
            observed: pod.netns.is_some(),
            reason: pod.problem.clone(),
            netns: pod.netns,
        })
        .collect()
}

fn foreign(side: &KernelSide) -> Vec<ForeignStatus> {
    let all = side.foreign.iter();
    all.map(|program| ForeignStatus { hook: program.hook, program: program.name.clone() }).collect()
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
