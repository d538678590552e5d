//! The network between the nodes: one bridge in a namespace of its own, where the controller lives and
//! where the wire is listened to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::Namespace;
use crate::packets::Wiretap;
use crate::place::Place;

/// The bridge that joins the nodes.
const BRIDGE: &str = "fabric0";

/// The network between the nodes.
#[derive(Debug)]
pub struct Fabric {
    namespace: Namespace,
}

impl Fabric {
    /// A bridge with an address of its own and no nodes yet.
    pub fn create() -> Result<Self> {
        let namespace = Namespace::create(None)?;
        Place::of(&namespace).ip(&[
            format!("link add {BRIDGE} type bridge"),
            format!("link set {BRIDGE} up"),
            format!("addr add {}/24 dev {BRIDGE}", Self::ipv4()),
            format!("addr add {}/64 dev {BRIDGE} nodad", Self::ipv6()),
        ])?;
        Ok(Self { namespace })
    }

    /// The address of whoever lives in the fabric: the controller.
    #[must_use]
    pub fn ipv4() -> Ipv4Addr {
        Ipv4Addr::new(10, 70, 0, 254)
    }

    fn ipv6() -> Ipv6Addr {
        Ipv6Addr::new(0xfd70, 0, 0, 0, 0, 0, 0, 0xfe)
    }

    /// The address of a node, counted from 1.
    #[must_use]
    pub fn node_ipv4(node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 70, 0, octet(node))
    }

    /// The IPv6 address of a node, counted from 1.
    #[must_use]
    pub fn node_ipv6(node: usize) -> Ipv6Addr {
        Ipv6Addr::new(0xfd70, 0, 0, 0, 0, 0, 0, octet(node).into())
    }

    /// The namespace.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::of(&self.namespace)
    }

    /// Listens to everything that node `node` sends to others and hears from them.
    pub fn listen(&self, node: usize) -> Result<Wiretap> {
        Wiretap::on(&self.place(), &Self::port(node))
    }

    /// Joins a node's namespace, whose device will be `fabric`.
    pub(crate) fn join(&self, node: usize, namespace: &Namespace) -> Result<()> {
        let port = Self::port(node);
        self.place().ip(&[
            format!("link add {port} type veth peer name fabric netns {}", namespace.pid()),
            format!("link set {port} master {BRIDGE} up"),
            format!("route add {} via {}", pod_range(node, Family::V4), Self::node_ipv4(node)),
        ])?;
        Place::of(namespace).ip(&[
            format!("addr add {}/24 dev fabric", Self::node_ipv4(node)),
            format!("addr add {}/64 dev fabric nodad", Self::node_ipv6(node)),
            "link set fabric up".to_owned(),
            format!("route add default via {}", Self::ipv4()),
        ])
    }

    fn port(node: usize) -> String {
        format!("node{node}")
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The addresses of the pods of a node: 10.71.N.0/24 and `fd71:N::/64`.
pub(crate) fn pod_range(node: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("10.71.{node}.0/24"),
        Family::V6 => format!("fd71:{node}::/64"),
    }
}

/// The addresses of the pod with this number on a node.
pub(crate) fn pod_addresses(node: usize, number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd71, octet(node).into(), 0, 0, 0, 0, 0, number.into());
    [Ipv4Addr::new(10, 71, octet(node), number).into(), v6.into()]
}

fn octet(node: usize) -> u8 {
    u8::try_from(node).unwrap_or(u8::MAX)
}
