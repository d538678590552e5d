//! Another proxy in two pods, configured to do what Weft does and no more.
//!
//! Both processes have one thread, keep connections to their upstream alive, log each request as one line of JSON into a
//! file, and speak TLS 1.3 with P-256 certificates and AES-128-GCM to each other.

mod envoy;
mod haproxy;
mod nginx;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use weft_rig::Mesh;
use weft_rig::place::Launch;

use super::certificates::Files;
use super::layout::Proxy;
use crate::ground::{CLIENT_NODE, SERVER_NODE};
use crate::load::{Generator, HTTP_PORT};

/// Where the proxy beside the client takes what goes to the server in plaintext.
const HOP_PORT: u16 = 8001;
/// Where it takes what goes to the other proxy.
const PAIR_PORT: u16 = 8002;
/// Where the proxy beside the server takes mTLS.
const MESH_PORT: u16 = 8003;
/// A proxy that does not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What one process has to know.
struct Side<'a> {
    listeners: Vec<Listener>,
    files: &'a Files,
    scratch: &'a Path,
}

/// A port, and where its requests go.
struct Listener {
    name: &'static str,
    address: SocketAddr,
    upstream: SocketAddr,
    leg: Leg,
}

/// On which leg of the way a listener stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leg {
    /// Plaintext in and out.
    Hop,
    /// Plaintext in, mTLS out.
    Near,
    /// MTLS in, plaintext out.
    Far,
}

/// A proxy that runs.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) proxy: Proxy,
    pub(super) hop: SocketAddr,
    pub(super) pair: SocketAddr,
    /// The processes beside the client.
    pub(super) near: Vec<u32>,
    /// The processes beside the server.
    pub(super) far: Vec<u32>,
    pub(super) server: u32,
}

impl Proxy {
    /// The pods that it needs, with their nodes.
    pub(super) fn pods(self) -> [(String, usize); 2] {
        [(self.near_pod(), CLIENT_NODE), (self.far_pod(), SERVER_NODE)]
    }

    /// Where its client runs too.
    pub(super) fn near_pod(self) -> String {
        format!("plain/{}-near", self.program())
    }

    fn far_pod(self) -> String {
        format!("plain/{}-far", self.program())
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// What it says of its version, in one line.
    pub(super) fn version(self) -> Result<String> {
        let flag = if self == Self::Envoy { "--version" } else { "-v" };
        let outcome = Launch::new(self.program()).arg(flag).run()?;
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty());
        Ok(format!("{}: {}", self.name(), line.unwrap_or("unknown")))
    }

    fn configuration(self, side: &Side<'_>) -> (String, Launch) {
        let file = side.configuration();
        let launch = Launch::new(self.program());
        match self {
            Self::Envoy | Self::Weft => (envoy::configuration(side), envoy::launch(launch, &file)),
            Self::Haproxy => (haproxy::configuration(side), launch.arg("-db").arg("-f").arg(&file)),
            Self::Nginx => (nginx::configuration(side), launch.arg("-p").arg(side.scratch).arg("-c").arg(&file)),
        }
    }
}

impl Side<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Envoy tells the form of a file by its name; to the others it is one like any other.
    fn configuration(&self) -> PathBuf {
        self.file("configuration.json")
    }

    fn access_log(&self) -> PathBuf {
        self.file("access.log")
    }
}

impl Peer {
    /// Starts both processes and a server of their own.
    pub(super) fn start(proxy: Proxy, mesh: &mut Mesh, generator: &Generator, files: &[Files; 2]) -> Result<Self> {
        let [near_files, far_files] = files;
        let server = generator.serve(mesh.pod_mut(&proxy.far_pod())?)?;
        let far_address = mesh.pod(&proxy.far_pod())?.ipv4();
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener =
            |name, port, upstream, leg| Listener { name, address: SocketAddr::new(local, port), upstream, leg };
        let far = Listener {
            name: "far",
            address: SocketAddr::new(far_address, MESH_PORT),
            upstream: SocketAddr::new(local, HTTP_PORT),
            leg: Leg::Far,
        };
        let near = vec![
            listener("hop", HOP_PORT, SocketAddr::new(far_address, HTTP_PORT), Leg::Hop),
            listener("pair", PAIR_PORT, far.address, Leg::Near),
        ];
        let far = start(proxy, mesh, &proxy.far_pod(), (vec![far], far_files))?;
        let near = start(proxy, mesh, &proxy.near_pod(), (near, near_files))?;
        let at = |port| SocketAddr::new(local, port);
        let far = far.into_iter().filter(|process| *process != server).collect();
        Ok(Self { proxy, hop: at(HOP_PORT), pair: at(PAIR_PORT), near, far, server })
    }
}

/// Starts one process in a pod and returns everything that then runs in the pod.
fn start(proxy: Proxy, mesh: &mut Mesh, name: &str, (listeners, files): (Vec<Listener>, &Files)) -> Result<Vec<u32>> {
    let pod = mesh.pod_mut(name)?;
    let scratch = pod.scratch().to_owned();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.address.port()).collect();
    let side = Side { listeners, files, scratch: &scratch };
    let (configuration, launch) = proxy.configuration(&side);
    fs::write(side.configuration(), configuration)?;
    let launch = launch.at(&pod.place());
    pod.serve(proxy.program(), launch)
        .with_context(|| format!("cannot start {}; `cargo xtask setup bench` installs it", proxy.name()))?;
    for port in ports {
        pod.await_listener(port, START_LIMIT)?;
    }
    let members = fs::read_to_string(pod.cgroup().join("cgroup.procs"))?;
    Ok(members.lines().filter_map(|process| process.parse().ok()).collect())
}
