//! The proof, at the end of every enrolment, that the pod's hook captures.
//!
//! A short-lived process joins the pod's cgroup and network namespace and connects to an address that
//! nobody has: the network address of the first captured range. Only a captured connection is answered.

use std::fs;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bpf::CapturedPod;
use crate::config::ProbeSettings;
use crate::limits;
use crate::node::netns::Netns;

/// What the outbound journey answers.
pub const ANSWER: &[u8] = b"weft\n";

/// No Service uses the TCP port multiplexer's port (RFC 1078), and no host has a network address.
const PORT: u16 = 1;

/// Where a pod's self-test connects to: the first captured network of a family that the pod has. None when the pod's
/// exclusions cover every such address.
#[must_use]
pub fn destination(captured: &[IpNet], pod: &CapturedPod) -> Option<SocketAddr> {
    if pod.excluded_outbound_ports.contains(&PORT) {
        return None;
    }
    let usable = |network: &&IpNet| {
        let address = network.network();
        let has_family = if address.is_ipv4() { pod.address4.is_some() } else { pod.address6.is_some() };
        has_family && !pod.excluded_outbound_networks.iter().any(|excluded| excluded.contains(&address))
    };
    captured.iter().find(usable).map(|network| SocketAddr::new(network.network(), PORT))
}

/// Whether a captured connection is a self-test's.
#[must_use]
pub fn is_destination(captured: &[IpNet], asked: SocketAddr) -> bool {
    asked.port() == PORT && captured.iter().any(|network| network.network() == asked.ip())
}

/// Runs the probe in a process of its own. The error says what was seen, for a person.
pub fn run(netns: &Netns, cgroup: &Path, destination: SocketAddr) -> Result<(), String> {
    let mut child = Command::new("/proc/self/exe")
        .arg("probe")
        .arg("--netns")
        .arg(netns.path())
        .arg("--cgroup")
        .arg(cgroup)
        .arg("--destination")
        .arg(destination.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the self-test cannot start: {error}"))?;
    let deadline = Instant::now() + limits::SELF_TEST;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => {
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    let _ = stderr.read_to_string(&mut said);
                }
                return Err(said.trim().to_owned());
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the self-test did not end within {:?}", limits::SELF_TEST));
            }
        }
    }
}

/// The probe's own side.
pub fn probe(settings: &ProbeSettings) -> anyhow::Result<()> {
    use anyhow::Context as _;
    leave_cgroup_namespace().context("cannot enter the node's cgroup namespace")?;
    fs::write(settings.cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot join the pod's cgroup {}", settings.cgroup.display()))?;
    let namespace = fs::File::open(&settings.netns)
        .with_context(|| format!("cannot open the network namespace {}", settings.netns.display()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter the network namespace")?;
    let mut stream = TcpStream::connect_timeout(&settings.destination, limits::SELF_TEST / 2)
        .context("the hook did not capture the self-test's connection")?;
    stream.set_read_timeout(Some(limits::SELF_TEST / 2))?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).context("the agent did not answer the self-test")?;
    anyhow::ensure!(answer == ANSWER, "something else than the agent answered the self-test");
    Ok(())
}

/// A container may move processes only between cgroups that its own namespace shows (`nsdelegate` in `cgroups(7)`); the
/// node's first process sees all of them.
fn leave_cgroup_namespace() -> io::Result<()> {
    let (own, first) = ("/proc/self/ns/cgroup", "/proc/1/ns/cgroup");
    // Without the host's process ids the first process is our own.
    if fs::read_link(own)? != fs::read_link(first)? {
        let namespace = fs::File::open(first)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
    }
    Ok(())
}
