//! From the snapshot's rows to the kernel's. Pure.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use weft_abi::limits::DEFAULT_FLIGHT_LIMIT;

use crate::bpf::{CapturedPod, Failure, Listener, Mode, NetnsCookie, NetworkRule, Role};
use crate::model::{Enrolment, FailureMode, MtlsMode, Snapshot};
use crate::upgrade::ListenerName;

/// Everything that the kernel is to know about one pod, apart from how this node reaches it.
pub fn pod(snapshot: &Snapshot, enrolment: &Enrolment, netns: NetnsCookie) -> CapturedPod {
    let addresses = snapshot.workloads.get(&enrolment.uid).map_or(&[][..], |workload| &workload.addresses);
    let address4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let address6 = addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    let declared = enrolment.authentication.ports.iter().map(|(port, declared)| (*port, mode(*declared)));
    let excluded = enrolment.excluded_inbound_ports.iter().map(|port| (*port, Mode::Excluded));
    CapturedPod {
        netns,
        address4,
        address6,
        outbound: true,
        inbound: true,
        failure: match enrolment.on_agent_failure {
            FailureMode::Open => Failure::Open,
            FailureMode::Closed => Failure::Closed,
        },
        inbound_mode: mode(enrolment.authentication.default),
        inbound_ports: declared.chain(excluded).collect(),
        excluded_outbound_ports: enrolment.excluded_outbound_ports.iter().copied().collect(),
        excluded_outbound_networks: enrolment.excluded_outbound_networks.iter().copied().collect(),
        probe_ports: enrolment.probe_ports.iter().copied().collect(),
        node4: None,
        node6: None,
        flight_limit: DEFAULT_FLIGHT_LIMIT,
    }
}

fn mode(mtls: MtlsMode) -> Mode {
    match mtls {
        MtlsMode::Strict => Mode::Strict,
        MtlsMode::Permissive => Mode::Permissive,
    }
}

pub fn listener<'fd>(name: &ListenerName, socket: BorrowedFd<'fd>) -> Listener<'fd> {
    let role = if name.outbound { Role::Outbound } else { Role::Inbound };
    Listener { role, worker: name.worker, socket, port: name.port }
}

/// Which networks are captured; addresses that never are, with every port of theirs, win by their longer prefix.
pub fn networks(snapshot: &Snapshot) -> Vec<(IpNet, NetworkRule)> {
    let captured = snapshot.captured_networks.iter().map(|network| (*network, NetworkRule::Captured));
    let never = snapshot.never_captured.iter().filter(|(_, port)| port.is_none());
    let never = never.map(|(address, _)| (IpNet::from(*address), NetworkRule::Never));
    captured.chain(never).collect()
}

/// Single ports that are never captured.
pub fn never_captured(snapshot: &Snapshot) -> Vec<SocketAddr> {
    snapshot.never_captured.iter().filter_map(|(address, port)| Some(SocketAddr::new(*address, (*port)?))).collect()
}
