//! Pods come, change and go.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use weft_abi::rows::{ListenerKey, POD_INBOUND, POD_OUTBOUND, PodRow};
use weft_abi::{MAX_WORKERS, Port, Reason};

use super::datapath::Datapath;
use super::error::BpfError;
use super::links::{self, Link, SOCKET_LOOKUP};
use super::listening;
use super::load;
use super::plan::{self, Listeners};
use super::pod::{CapturedPod, NetnsCookie, Role};
use super::sync;

/// One of the agent's listening sockets in a pod's namespace.
#[derive(Debug, Clone, Copy)]
pub struct Listener<'a> {
    pub role: Role,
    pub worker: u32,
    pub socket: BorrowedFd<'a>,
    /// The port of the capture range that it is bound to.
    pub port: u16,
}

/// The proof that the open ports of a namespace are known: without it every port would look closed.
#[must_use]
#[derive(Debug)]
pub struct SeededPorts {
    netns: NetnsCookie,
}

impl Datapath {
    /// Takes down which ports of the pod are listened on. The calling thread is inside the namespace.
    /// `own_ports` are the agent's listeners there, which do not count. To be called before `enrol`, and
    /// again from time to time: a socket that listened before this agent's first start closes unseen.
    pub fn seed_open_ports(&self, netns: NetnsCookie, own_ports: &[u16]) -> Result<SeededPorts, BpfError> {
        // From this row on flow_ops records what opens and closes.
        self.maps.in_flight.put_new(&netns.0, &0)?;
        let first = listening::snapshot(netns, own_ports)?;
        for (key, sockets) in &first {
            if self.maps.open_ports.get(key)? != Some(*sockets) {
                self.maps.open_ports.put(key, sockets)?;
            }
        }
        let second = listening::snapshot(netns, own_ports)?;
        self.maps
            .open_ports
            .remove_where(|key| key.netns_cookie == netns.0 && !first.contains_key(key) && !second.contains_key(key))?;
        Ok(SeededPorts { netns })
    }

    /// Captures a pod: its listeners, its copy of `steer`, then its row. Repeating it replaces
    /// everything, which is how a restarted agent takes its pods over.
    pub fn enrol(
        &self,
        pod: &CapturedPod,
        netns: BorrowedFd<'_>,
        listeners: &[Listener<'_>],
        seeded: &SeededPorts,
    ) -> Result<(), BpfError> {
        if seeded.netns != pod.netns {
            return Err(BpfError::Limit("the open ports of another namespace were seeded"));
        }
        self.maps.counters.put_new_zeroes_per_cpu(&pod.netns.0)?;
        let row = self.put_listeners(pod.netns, listeners)?;
        // A copy of `steer` that knows no row lets everything in, so the row comes before it; but a new row without
        // `steer` leads the pod's own connections nowhere, so those are captured last.
        let known = self.maps.pods.get(&pod.netns.0)?.is_some();
        self.write(&CapturedPod { outbound: known && pod.outbound, ..pod.clone() }, row)?;
        self.steer(pod.netns, netns)?;
        self.write(pod, row)
    }

    /// Changes what is captured of an enrolled pod.
    pub fn update(&self, pod: &CapturedPod) -> Result<(), BpfError> {
        let row = self.maps.pods.get(&pod.netns.0)?.ok_or(BpfError::Limit("the pod is not enrolled"))?;
        self.write(pod, Listeners { workers: row.workers, ports: row.listener_ports })
    }

    /// First phase of leaving: nothing new is captured, what is under way still reaches the agent.
    pub fn quiesce(&self, netns: NetnsCookie) -> Result<(), BpfError> {
        let Some(row) = self.maps.pods.get(&netns.0)? else {
            return Ok(());
        };
        self.maps.pods.put(&netns.0, &PodRow { flags: row.flags & !(POD_INBOUND | POD_OUTBOUND), ..row })
    }

    /// Connections of the pod that are between SYN and accept.
    pub fn in_flight(&self, netns: NetnsCookie) -> Result<u64, BpfError> {
        let rows = self.maps.in_flight.get(&netns.0)?.unwrap_or(0);
        Ok(u64::try_from(rows.cast_signed()).unwrap_or(0))
    }

    /// Ends the capture of a pod. Established connections go on. Unknown pods are no error.
    pub fn disenrol(&self, netns: NetnsCookie) -> Result<(), BpfError> {
        self.maps.pods.remove(&netns.0)?;
        links::remove(&self.steer_path(netns))?;
        sync::forget(&self.maps, netns)
    }

    /// The pods that the kernel captures.
    pub fn pods(&self) -> Result<Vec<NetnsCookie>, BpfError> {
        Ok(self.maps.pods.keys()?.into_iter().map(NetnsCookie).collect())
    }

    /// Ends the capture of every other pod: those that went while no agent was there.
    pub fn retain(&self, stay: &[NetnsCookie]) -> Result<(), BpfError> {
        let stay: HashSet<NetnsCookie> = stay.iter().copied().collect();
        let known = self.maps.in_flight.keys()?.into_iter().chain(self.maps.pods.keys()?);
        let gone: HashSet<NetnsCookie> = known.map(NetnsCookie).filter(|netns| !stay.contains(netns)).collect();
        gone.into_iter().try_for_each(|netns| self.disenrol(netns))
    }

    /// How often each reason has decided about this pod's connections, without those that never did.
    pub fn counters(&self, netns: NetnsCookie) -> Result<Vec<(Reason, u64)>, BpfError> {
        let cpus = self.maps.counters.get_per_cpu(&netns.0)?.unwrap_or_default();
        let total = |reason: Reason| cpus.iter().map(|cpu| cpu.by_reason[reason.0 as usize]).sum();
        let counts = Reason::ALL.iter().map(|(reason, _)| (*reason, total(*reason)));
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }

    fn write(&self, pod: &CapturedPod, listeners: Listeners) -> Result<(), BpfError> {
        let mut rules = self.maps.port_rules.keys()?;
        rules.retain(|key| key.netns_cookie == pod.netns.0);
        let halves = sync::excluded_halves(pod.netns);
        let mut networks = self.maps.excluded_networks.keys()?;
        networks.retain(|key| key.netns_cookie == halves);
        sync::apply(&self.maps, pod.netns, &plan::pod(pod, listeners, &rules, &networks))
    }

    fn put_listeners(&self, netns: NetnsCookie, listeners: &[Listener<'_>]) -> Result<Listeners, BpfError> {
        let mut row = Listeners::default();
        let mut keys = HashSet::new();
        for listener in listeners {
            let index = Port::from_host(listener.port).capture_index();
            let index = index.ok_or(BpfError::Limit("a listener is bound outside of the capture range"))?;
            if listener.worker >= MAX_WORKERS {
                return Err(BpfError::Limit("there are at most 16 workers"));
            }
            let key = ListenerKey { netns_cookie: netns.0, role: listener.role.number(), worker: listener.worker };
            self.maps.listeners.put(&key, &listener.socket.as_fd().as_raw_fd().cast_unsigned())?;
            keys.insert(key);
            row.workers |= 1 << listener.worker;
            row.ports |= 1 << index;
        }
        for role in Role::ALL {
            for worker in 0..MAX_WORKERS {
                let key = ListenerKey { netns_cookie: netns.0, role: role.number(), worker };
                if !keys.contains(&key) {
                    self.maps.listeners.remove(&key)?;
                }
            }
        }
        Ok(row)
    }

    fn steer(&self, cookie: NetnsCookie, netns: BorrowedFd<'_>) -> Result<(), BpfError> {
        let program = load::load_steer(&self.folders, cookie)?;
        let number = netns.as_raw_fd();
        let inode = fs::metadata(format!("/proc/self/fd/{number}"));
        let target_inode = inode.map_err(BpfError::system("look at a network namespace"))?.ino();
        let link = Link { path: self.steer_path(cookie), attach_type: SOCKET_LOOKUP, target_inode };
        link.point_to(&program, netns)
    }

    fn steer_path(&self, netns: NetnsCookie) -> PathBuf {
        self.folders.links.join(format!("steer-{:x}", netns.0))
    }
}
