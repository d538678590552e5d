//! The addresses of a cluster, and the network namespaces that have them.
//!
//! The control plane's namespace holds a bridge, and each node hangs on it by a pair of interfaces; every part knows
//! the way to every node's pods, so that addresses stay what they are across nodes. The machine's own network is not
//! touched: clusters use the same addresses side by side. Absent: IPv6, and a way out.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result};

use super::launch::{self, CONTROL_PLANE};
use super::place::Place;
use super::removal;

/// Where the API server is.
pub const API: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// The port of the API server.
pub const API_PORT: u16 = 6443;
/// The addresses of all pods.
pub const PODS: &str = "10.91.0.0/16";
/// The addresses of Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The API server's address as a Service: the first of the range.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The address of the cluster's DNS, as cluster/dns.yaml has it.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    number: u8,
}

/// Both nodes.
pub const NODES: [Node; 2] = [Node { number: 1 }, Node { number: 2 }];

impl Node {
    /// What Kubernetes calls it.
    pub fn name(self) -> String {
        format!("node{}", self.number)
    }

    /// Its own address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, 0, 10 + self.number)
    }

    /// The address of its network card, which it keeps when it is started again.
    fn hardware(self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }

    /// The addresses of its pods.
    pub fn pods(self) -> String {
        format!("10.91.{}.0/24", self.number)
    }
}

/// Makes the namespaces and connects them.
pub fn make(place: &Place) -> Result<()> {
    fs::create_dir_all(place.path("network"))?;
    make_namespace(place, CONTROL_PLANE)?;
    configure(place, CONTROL_PLANE, &control_plane())?;
    let mut forward = place.in_control_plane("sh");
    launch::captured(place, forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))?;
    NODES.into_iter().try_for_each(|node| connect(place, node))
}

/// Makes the namespace of a node and connects it.
pub fn connect(place: &Place, node: Node) -> Result<()> {
    make_namespace(place, &node.name())?;
    configure(place, CONTROL_PLANE, &towards(place, node))?;
    configure(place, &node.name(), &of_node(node))
}

/// Removes the namespace of a node in which nothing runs any more.
pub fn disconnect(place: &Place, node: Node) -> Result<()> {
    configure(place, CONTROL_PLANE, &[format!("link delete {}", node.name())])?;
    removal::unmount(&place.network(&node.name()))
}

fn control_plane() -> Vec<String> {
    vec![
        "link set lo up".to_owned(),
        "link add nodes type bridge".to_owned(),
        format!("address add {API}/24 dev nodes"),
        "link set nodes up".to_owned(),
    ]
}

fn towards(place: &Place, node: Node) -> Vec<String> {
    let (name, there) = (node.name(), place.network(&node.name()));
    let hardware = node.hardware();
    vec![
        format!("link add {name} type veth peer name eth0 address {hardware} netns {}", there.display()),
        format!("link set {name} master nodes up"),
        // It is there from before if the node is connected again.
        format!("route replace {} via {}", node.pods(), node.address()),
    ]
}

fn of_node(node: Node) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("address add {}/24 dev eth0", node.address()),
        "link set eth0 up".to_owned(),
        format!("route add default via {API}"),
    ];
    let others = NODES.into_iter().filter(|other| *other != node);
    lines.extend(others.map(|other| format!("route add {} via {}", other.pods(), other.address())));
    lines
}

/// A namespace that lasts as long as it is mounted on its file.
fn make_namespace(place: &Place, part: &str) -> Result<()> {
    let file = place.network(part);
    fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
    launch::captured(place, Command::new("unshare").arg(format!("--net={}", file.display())).arg("true")).map(drop)
}

fn configure(place: &Place, part: &str, lines: &[String]) -> Result<()> {
    let batch = place.path(format!("network/{part}.batch"));
    fs::write(&batch, lines.join("\n") + "\n")?;
    let mut ip = Command::new("nsenter");
    ip.arg(format!("--net={}", place.network(part).display())).args(["ip", "-batch"]).arg(batch);
    launch::captured(place, &ip).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_the_dns_has_the_address_that_pods_are_told() {
        assert!(include_str!("../../../cluster/dns.yaml").contains(&format!("clusterIP: {DNS}\n")));
    }
}
