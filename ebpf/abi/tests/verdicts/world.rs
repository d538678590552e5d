//! Everything that a verdict can look up, as a table.

use weft_abi::connect::ConnectLookups;
use weft_abi::listening::OpenPorts;
use weft_abi::probe::{PROBER_SOCKETS, ProbeLookups};
use weft_abi::rows::{
    DESTINATION_CAPTURED, DESTINATION_EMPTY, FAIL_CLOSED, MODE_PERMISSIVE, NETWORK_CAPTURED, NETWORK_NEVER,
    OpenPortKey, POD_HAS_EXCLUDED_NETWORKS, POD_HAS_PORT_RULES, POD_HAS_PROBES, POD_INBOUND, POD_OUTBOUND, POD_SPARE,
    PodRow,
};
use weft_abi::steer::SteerLookups;
use weft_abi::worker::{Workers, freshness};
use weft_abi::{Address, MAX_WORKERS, Port};

pub const COOKIE: u64 = 7;
pub const NOW: u64 = 1_000_000_000_000;
pub const POD4: &str = "10.88.0.2";
pub const POD6: &str = "fd88::2";
pub const VIP4: &str = "10.96.0.10";
pub const NEIGHBOUR4: &str = "10.88.0.1";
pub const NODE4: &str = "10.88.0.254";

/// Everything that a verdict can read.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is the answer of one lookup")]
pub struct World {
    pub pod: PodRow,
    pub beats: [u64; MAX_WORKERS as usize],
    /// Bit n: worker n listens.
    pub listens: u32,
    pub network: u32,
    pub destination: u32,
    pub excludes_port: bool,
    pub excludes_network: bool,
    pub in_flight: u64,
    pub open: Vec<(Address, Port)>,
    pub flow: bool,
    pub peer: bool,
    pub port_mode: u32,
    pub declares: bool,
    pub prober: u32,
    /// When the connection was put on record.
    pub probe: Option<u64>,
}

impl Workers for World {
    fn beat_at(&self, worker: u32) -> u64 {
        self.beats[worker as usize]
    }
    fn now(&self) -> u64 {
        NOW
    }
    fn listens(&self, _role: u32, worker: u32) -> bool {
        self.listens >> worker & 1 == 1
    }
}

impl ConnectLookups for World {
    fn excludes_port(&self, _port: Port) -> bool {
        self.excludes_port
    }
    fn excludes_network(&self, _destination: Address) -> bool {
        self.excludes_network
    }
    fn network(&self, _destination: Address) -> u32 {
        self.network
    }
    fn destination(&self, _destination: Address, _port: Port) -> u32 {
        self.destination
    }
    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

impl OpenPorts for World {
    fn is_open(&self, key: &OpenPortKey) -> bool {
        key.netns_cookie == COOKIE && self.open.contains(&(key.address, key.port))
    }
}

impl ProbeLookups for World {
    fn declares_probe(&self, _port: Port) -> bool {
        self.declares
    }
    fn prober(&self) -> u32 {
        self.prober
    }
    fn probe_written_at(&self) -> Option<u64> {
        self.probe
    }
}

impl SteerLookups for World {
    fn has_flow(&self) -> bool {
        self.flow
    }
    fn has_peer(&self) -> bool {
        self.peer
    }
    fn port_mode(&self, _port: Port) -> u32 {
        self.port_mode
    }
}

#[expect(clippy::unwrap_used, reason = "the addresses are those of this file")]
pub fn ip(text: &str) -> Address {
    Address::from_ip(text.parse().unwrap())
}

pub fn port(number: u16) -> Port {
    Port::from_host(number)
}

/// The pod of the kernel tier: captured both ways, permissive, fails closed, one live worker.
pub fn world() -> World {
    let pod = PodRow {
        address4: ip(POD4),
        address6: ip(POD6),
        node4: ip(NODE4),
        node6: Address::NONE,
        listener_ports: 0b11,
        workers: 1,
        flags: POD_INBOUND | POD_OUTBOUND | POD_HAS_PORT_RULES | POD_HAS_EXCLUDED_NETWORKS | POD_HAS_PROBES,
        failure: FAIL_CLOSED,
        inbound_mode: MODE_PERMISSIVE,
        flight_limit: 10,
        padding: 0,
        spare: [0; POD_SPARE],
    };
    World {
        pod,
        beats: [NOW; MAX_WORKERS as usize],
        listens: 1,
        network: NETWORK_CAPTURED,
        destination: 0,
        excludes_port: false,
        excludes_network: false,
        in_flight: 0,
        open: vec![(Address::NONE, port(8080))],
        flow: false,
        peer: false,
        port_mode: 0,
        declares: false,
        prober: PROBER_SOCKETS,
        probe: None,
    }
}

impl World {
    pub fn is_alive(&self, worker: u32) -> bool {
        self.pod.workers >> worker & 1 == 1 && freshness(self.beats[worker as usize], NOW) == 1
    }

    pub fn concerns_the_mesh(&self) -> bool {
        let single = [DESTINATION_CAPTURED, DESTINATION_EMPTY].contains(&self.destination);
        self.network == NETWORK_CAPTURED || (self.network != NETWORK_NEVER && single)
    }

    pub fn takes(&self, role: u32, worker: u32) -> bool {
        worker < MAX_WORKERS && self.is_alive(worker) && self.listens(role, worker)
    }
}
