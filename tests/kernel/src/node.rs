//! A node in small: programs, cgroup folders and heartbeats, all its own, gone when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use weft_agent::bpf::{
    CapturedPod, Datapath, Failure, Heartbeat, Mode, NetnsCookie, NetworkRule, Paths, Sizes, heartbeats, remove_all,
};

use crate::place::SOON;

/// Workers whose hearts can beat here.
pub const WORKERS: u32 = 4;
/// How often they do.
const BEAT: Duration = Duration::from_millis(100);

/// What a service of the mesh has; the outside of every pod answers there, too, for what goes direct.
pub const VIP4: &str = "10.96.0.10";
pub const VIP6: &str = "fd96::10";
/// Somewhere in the world, not in the mesh.
pub const WORLD4: &str = "192.0.2.1";
pub const WORLD6: &str = "2001:db8::1";

/// Where the tier may make folders.
#[derive(Debug, Clone)]
pub struct Grounds {
    pub cgroup: PathBuf,
    pub bpffs: PathBuf,
}

/// The node.
#[derive(Debug)]
pub struct Node {
    datapath: Option<Datapath>,
    pub paths: Paths,
    /// Where apps live, below the pods' folder.
    pub apps: PathBuf,
    /// A folder for kubelet, beside the pods'.
    pub kubelet: PathBuf,
    /// Above all of them.
    pub root: PathBuf,
    hearts: Hearts,
}

#[derive(Debug)]
struct Hearts {
    beating: Arc<[AtomicBool]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Everything attached; the service network of both families is captured.
    pub fn new(grounds: &Grounds) -> Result<Self> {
        Self::with_sizes(grounds, Sizes::default())
    }

    /// The same with small maps.
    pub fn with_sizes(grounds: &Grounds, sizes: Sizes) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("node{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = grounds.cgroup.join(&name);
        // The agent's folder lies below the pods', as a DaemonSet's does: only its mark tells it apart.
        let (pods, agent, apps) = (root.join("pods"), root.join("pods/agent"), root.join("pods/apps"));
        let kubelet = root.join("kubelet");
        [&root, &pods, &agent, &apps, &kubelet].into_iter().try_for_each(|folder| make_folder(folder))?;
        let paths =
            Paths { pin_dir: grounds.bpffs.join(&name), pods_cgroup: pods, agent_cgroup: agent, kubelet_cgroup: None };
        let datapath = Datapath::open_with(&paths, sizes)?;
        let captured = ["10.96.0.0/16", "fd96::/32"];
        let networks = captured.map(|network| network.parse().map(|network| (network, NetworkRule::Captured)));
        datapath.publish_networks(&networks.into_iter().collect::<Result<Vec<_>, _>>()?)?;
        datapath.attach()?;
        let hearts = Hearts::start(&datapath)?;
        Ok(Self { datapath: Some(datapath), paths, apps, kubelet, root, hearts })
    }

    /// The kernel side.
    pub fn datapath(&self) -> Result<&Datapath> {
        self.datapath.as_ref().context("the agent of this node is dead")
    }

    /// The agent's end, as SIGKILL would have it: nothing is taken back.
    pub fn kill_agent(&mut self) {
        self.hearts.end();
        self.datapath = None;
    }

    /// A new agent.
    pub fn restart_agent(&mut self) -> Result<()> {
        let datapath = Datapath::open(&self.paths)?;
        self.hearts = Hearts::start(&datapath)?;
        self.datapath = Some(datapath);
        Ok(())
    }

    /// Stops the hearts of these workers and waits until the kernel would notice.
    pub fn hang(&self, workers: &[u32]) -> Result<()> {
        let begun = Instant::now();
        for worker in workers {
            self.hearts.beating[*worker as usize].store(false, Ordering::Relaxed);
        }
        let silent = || heartbeats(&self.paths.pin_dir).iter().filter(|age| **age > Duration::from_secs(2)).count();
        while silent() < workers.len() {
            if begun.elapsed() > SOON {
                bail!("the hearts go on beating");
            }
            std::thread::park_timeout(BEAT);
        }
        Ok(())
    }

    /// Lets these hearts beat again and waits for it.
    pub fn revive(&self, workers: &[u32]) -> Result<()> {
        for worker in workers {
            self.hearts.beating[*worker as usize].store(true, Ordering::Relaxed);
        }
        self.await_hearts()
    }

    fn await_hearts(&self) -> Result<()> {
        let begun = Instant::now();
        while heartbeats(&self.paths.pin_dir).iter().any(|age| *age > Duration::from_secs(1)) {
            if begun.elapsed() > SOON {
                bail!("the hearts do not beat");
            }
            std::thread::park_timeout(BEAT);
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_agent();
        if let Err(error) = remove_all(&self.paths.pin_dir) {
            println!("a node could not be removed: {error}");
        }
        for folder in ["pods/apps", "pods/agent", "pods", "kubelet", ""] {
            if let Err(error) = remove_folder(&self.root.join(folder)) {
                println!("a cgroup folder stays: {error:#}");
            }
        }
    }
}

/// Makes a cgroup folder for threads of this one process.
pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(fs::write(folder.join("cgroup.type"), "threaded")?)
}

/// Removes a cgroup folder; a thread that has just ended is in it for another moment.
pub fn remove_folder(folder: &Path) -> Result<()> {
    let begun = Instant::now();
    while folder.exists() {
        // A test may have removed or moved it itself.
        match fs::remove_dir(folder) {
            Err(error) if begun.elapsed() > SOON => return Err(error).context(folder.display().to_string()),
            _ => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
    Ok(())
}

impl Hearts {
    fn start(datapath: &Datapath) -> Result<Self> {
        let handles = (0..WORKERS).map(|worker| datapath.heartbeat(worker)).collect::<Result<Vec<Heartbeat>, _>>()?;
        let beating: Arc<[AtomicBool]> = (0..WORKERS).map(|_| AtomicBool::new(true)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        handles.iter().for_each(Heartbeat::beat);
        let (flags, ended) = (Arc::clone(&beating), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for (heart, beats) in handles.iter().zip(flags.iter()) {
                    if beats.load(Ordering::Relaxed) {
                        heart.beat();
                    }
                }
                std::thread::park_timeout(BEAT);
            }
        });
        Ok(Self { beating, stop, thread: Some(thread) })
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A pod that is captured both ways, permissive, and refuses when the agent is away.
pub fn plan(netns: NetnsCookie) -> CapturedPod {
    CapturedPod {
        netns,
        address4: "10.88.0.2".parse().ok(),
        address6: "fd88::2".parse().ok(),
        outbound: true,
        inbound: true,
        failure: Failure::Closed,
        inbound_mode: Mode::Permissive,
        inbound_ports: BTreeMap::new(),
        excluded_outbound_ports: BTreeSet::new(),
        excluded_outbound_networks: BTreeSet::new(),
        probe_ports: BTreeSet::new(),
        node4: None,
        node6: None,
        flight_limit: weft_abi::limits::DEFAULT_FLIGHT_LIMIT,
    }
}
