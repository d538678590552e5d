//! Keeps kubelet's probes recognised: by its sockets while the programs at its cgroup see it, by the node's address
//! otherwise.
//!
//! Invariants: a kubelet that ends is noticed at once, so that the next one's probes are never refused; nothing is
//! attached while no pod declares a probe. Absent: which ports are declared (the snapshot), the verdict (`weft_abi`).

use std::io::{self, PipeWriter};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::keeper::Waker;
use super::kubelet::{Kubelet, Search};
use super::netns::Netns;
use super::process::Process;
use crate::bpf::{BpfError, CapturedPod, Datapath, NetnsCookie, Paths, ProbeSockets};
use crate::limits;

/// The watch over one node's kubelet.
pub struct Probing {
    search: Search,
    /// The node's own namespace.
    home: io::Result<NetnsCookie>,
    state: State,
    /// When all processes are looked through, even if nothing seems to have changed.
    next_search: Instant,
    waker: Option<Waker>,
}

enum State {
    /// What the kernel was told by others is still in force.
    Unknown,
    Unneeded,
    BySockets {
        kubelet: Kubelet,
        _watch: Option<Watch>,
    },
    ByAddress {
        why: String,
    },
}

impl Probing {
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        let home = Netns::open(Path::new("/proc/self/ns/net")).map(|netns| netns.cookie());
        Self { search: Search::new(paths), home, state: State::Unknown, next_search: Instant::now(), waker: None }
    }

    /// Whom to wake when kubelet ends; without, it is noticed at the next look.
    pub fn wake(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    /// Why probes are known by the node's address alone, if they are.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match &self.state {
            State::ByAddress { why } => Some(why),
            State::Unknown | State::Unneeded | State::BySockets { .. } => None,
        }
    }

    /// Puts this agent's programs in place at the next look, whatever is there.
    pub fn reassert(&mut self) {
        self.state = State::Unknown;
    }

    /// One look. `wanted`: a pod declares a probe; `confirmed`: a controller has said what pods there are.
    pub fn follow(&mut self, datapath: &Datapath, wanted: bool, confirmed: bool) {
        if !wanted {
            if confirmed && !matches!(self.state, State::Unneeded) {
                self.state = State::Unneeded;
                said(datapath.probe_not_at_all());
            }
            return;
        }
        let due = Instant::now() >= self.next_search;
        match &self.state {
            State::BySockets { kubelet, .. } if !due => match self.search.look_again(kubelet) {
                Some(now) => self.keep(datapath, now),
                None => self.look(datapath),
            },
            State::ByAddress { .. } if !due => {}
            State::Unknown | State::Unneeded | State::BySockets { .. } | State::ByAddress { .. } => self.look(datapath),
        }
    }

    fn look(&mut self, datapath: &Datapath) {
        self.next_search = Instant::now() + limits::KUBELET_SECOND_SEARCH;
        match self.search.find() {
            Ok(kubelet) => self.keep(datapath, kubelet),
            Err(why) => self.assume(datapath, why, limits::KUBELET_SEARCH),
        }
    }

    /// Goes on with this kubelet; attached is what is not, or not any more.
    fn keep(&mut self, datapath: &Datapath, kubelet: Kubelet) {
        let known = matches!(&self.state, State::BySockets { kubelet: known, .. } if *known == kubelet);
        let attached = |home| datapath.probes_by_sockets(&kubelet.cgroup, sockets_of(&kubelet), home).unwrap_or(false);
        if !known || !self.home.as_ref().is_ok_and(|home| attached(*home)) {
            self.attach(datapath, kubelet);
        }
    }

    fn attach(&mut self, datapath: &Datapath, kubelet: Kubelet) {
        let home = match &self.home {
            Ok(home) => *home,
            Err(error) => {
                let why = format!("the node's network namespace cannot be opened: {error}");
                return self.assume(datapath, why, limits::KUBELET_RETRY);
            }
        };
        // From here on its end is seen, also if it comes before the programs are attached.
        let watch = self.waker.clone().and_then(|waker| Watch::over(kubelet.process, waker).ok());
        match datapath.probe_by_sockets(&kubelet.cgroup, sockets_of(&kubelet), home) {
            Ok(()) => {
                let Kubelet { process, cgroup, alone, serves_api } = &kubelet;
                let number = process.number();
                tracing::info!(process = number, cgroup = %cgroup.display(), alone, "kubelet's probes are known by its sockets");
                if *serves_api {
                    tracing::warn!(
                        "kubelet and API server are one process: whoever may have it connect reaches the ports of probes"
                    );
                }
                self.state = State::BySockets { kubelet, _watch: watch };
            }
            Err(error) => {
                let said = error.to_string();
                let why = format!("kubelet's sockets cannot be watched: {}", said.lines().next().unwrap_or_default());
                self.assume(datapath, why, limits::KUBELET_RETRY);
            }
        }
    }

    fn assume(&mut self, datapath: &Datapath, why: String, pause: Duration) {
        if self.problem() != Some(why.as_str()) {
            tracing::warn!(
                why,
                "kubelet's probes are known by the node's address alone: any process of this node passes for it"
            );
        }
        said(datapath.probe_by_address());
        self.next_search = Instant::now() + pause;
        self.state = State::ByAddress { why };
    }
}

fn sockets_of(kubelet: &Kubelet) -> ProbeSockets {
    if kubelet.alone { ProbeSockets::All } else { ProbeSockets::OfProcess(kubelet.process.number()) }
}

fn said(outcome: Result<(), BpfError>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "the kernel does not learn how probes are known");
    }
}

/// The pod with the addresses from which this node connects to it: what the kernel would choose for kubelet.
#[must_use]
pub fn reached_from_here(pod: CapturedPod) -> CapturedPod {
    if pod.probe_ports.is_empty() {
        return pod;
    }
    let node4 = pod.address4.and_then(|address| match source_towards(address.into()) {
        Some(IpAddr::V4(source)) => Some(source),
        Some(IpAddr::V6(_)) | None => None,
    });
    let node6 = pod.address6.and_then(|address| match source_towards(address.into()) {
        Some(IpAddr::V6(source)) => Some(source),
        Some(IpAddr::V4(_)) | None => None,
    });
    CapturedPod { node4, node6, ..pod }
}

/// From which address this node itself connects to another one: connecting a datagram socket asks for the route and sends nothing.
#[must_use]
pub fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = if address.is_ipv4() { ([0_u8; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((address, 1)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    // Without a route, or towards itself, there is nobody to be taken for kubelet.
    (!source.is_unspecified() && source != address).then_some(source)
}

/// A thread that waits for a process' end, and wakes somebody then.
struct Watch {
    /// Closed, it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn over(process: Process, waker: Waker) -> io::Result<Self> {
        let end = process.end()?;
        let (stopped, stop) = io::pipe()?;
        let wait = move || {
            let mut watched = [PollFd::new(&end, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
            let waited = rustix::io::retry_on_intr(|| poll(&mut watched, None));
            if waited.is_ok() && watched[1].revents().is_empty() {
                waker.wake();
            }
        };
        let thread = std::thread::Builder::new().name("kubelet-watch".to_owned()).spawn(wait)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can only have ended, or be about to.
            let _ = thread.join();
        }
    }
}
