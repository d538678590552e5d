//! The verdicts against a world in a table: the cases of the kernel tier, and what must hold in any world.

use proptest::prelude::*;
use weft_abi::connect::{Attempt, ConnectLookups, ConnectVerdict, CreateVerdict, decide_create};
use weft_abi::listening::OpenPorts;
use weft_abi::rows::{
    DESTINATION_EMPTY, DESTINATION_NEVER, FAIL_CLOSED, FAIL_OPEN, MODE_EXCLUDED, MODE_PERMISSIVE, MODE_STRICT,
    NETWORK_CAPTURED, NETWORK_NEVER, OpenPortKey, POD_HAS_EXCLUDED_NETWORKS, POD_HAS_PORT_RULES, POD_INBOUND,
    POD_OUTBOUND, POD_SPARE, PodRow, ROLE_INBOUND, ROLE_OUTBOUND,
};
use weft_abi::steer::{Arrival, SteerLookups, SteerVerdict};
use weft_abi::worker::{Workers, freshness};
use weft_abi::{Address, MAX_WORKERS, Port, Reason, Tuple, connect, steer};

const COOKIE: u64 = 7;
const NOW: u64 = 1_000_000_000_000;
const POD4: &str = "10.88.0.2";
const POD6: &str = "fd88::2";
const VIP4: &str = "10.96.0.10";
const NEIGHBOUR4: &str = "10.88.0.1";

/// Everything that a verdict can read.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is the answer of one lookup")]
struct World {
    pod: PodRow,
    beats: [u64; MAX_WORKERS as usize],
    /// Bit n: worker n listens.
    listens: u32,
    network: u32,
    destination: u32,
    excludes_port: bool,
    excludes_network: bool,
    in_flight: u64,
    open: Vec<(Address, Port)>,
    flow: bool,
    peer: bool,
    port_mode: u32,
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
fn ip(text: &str) -> Address {
    Address::from_ip(text.parse().unwrap())
}

fn port(number: u16) -> Port {
    Port::from_host(number)
}

/// The pod of the kernel tier: captured both ways, permissive, fails closed, one live worker.
fn world() -> World {
    let pod = PodRow {
        address4: ip(POD4),
        address6: ip(POD6),
        listener_ports: 0b11,
        workers: 1,
        flags: POD_INBOUND | POD_OUTBOUND | POD_HAS_PORT_RULES | POD_HAS_EXCLUDED_NETWORKS,
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
    }
}

fn attempt(destination: &str) -> Attempt {
    Attempt {
        protocol: 6,
        own: false,
        destination: ip(destination),
        port: port(80),
        bound: Address::NONE,
        bound_port: port(0),
        hash: 5,
    }
}

fn check_connect(change: impl FnOnce(&mut World, &mut Attempt), expected: ConnectVerdict) {
    let (mut world, mut attempt) = (world(), attempt(VIP4));
    change(&mut world, &mut attempt);
    assert_eq!(connect::decide(&attempt, &world.pod, &world), expected, "{attempt:?}\n{world:?}");
}

#[test]
fn connects_are_decided_as_in_the_kernel_tier() {
    use ConnectVerdict::{Capture, Ignore, Pass, Refuse};
    check_connect(|_, _| {}, Capture(ip(POD4), port(61_005)));
    check_connect(|_, attempt| attempt.destination = ip("fd96::10"), Capture(ip(POD6), port(61_005)));
    check_connect(|_, attempt| attempt.bound_port = port(61_005), Capture(ip(POD4), port(61_006)));
    check_connect(
        |_, attempt| (attempt.bound_port, attempt.hash) = (port(61_063), 63),
        Capture(ip(POD4), port(61_000)),
    );
    check_connect(|_, attempt| attempt.own = true, Ignore);
    check_connect(|_, attempt| attempt.protocol = 17, Ignore);
    check_connect(|world, _| world.pod.flags = POD_INBOUND, Ignore);
    for local in ["127.0.0.1", "::1", POD4, POD6, "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::"] {
        check_connect(|_, attempt| attempt.destination = ip(local), Pass(Reason::OUTBOUND_LOCAL));
    }
    check_connect(|_, attempt| attempt.bound = ip("10.88.0.77"), Pass(Reason::OUTBOUND_FOREIGN_SOURCE));
    check_connect(|_, attempt| attempt.bound = ip(POD4), Capture(ip(POD4), port(61_005)));
    check_connect(|world, _| world.excludes_port = true, Pass(Reason::OUTBOUND_EXCLUDED));
    check_connect(|world, _| world.excludes_network = true, Pass(Reason::OUTBOUND_EXCLUDED));
    check_connect(|world, _| world.network = 0, Pass(Reason::OUTBOUND_OUTSIDE));
    check_connect(|world, _| world.network = NETWORK_NEVER, Pass(Reason::OUTBOUND_NEVER_CAPTURED));
    check_connect(|world, _| world.destination = DESTINATION_NEVER, Pass(Reason::OUTBOUND_NEVER_CAPTURED));
    check_connect(|world, _| world.destination = DESTINATION_EMPTY, Refuse(Reason::OUTBOUND_REFUSED_NO_ENDPOINT));
    check_connect(|world, _| world.in_flight = 10, Refuse(Reason::OUTBOUND_REFUSED_FLIGHT_LIMIT));
    check_connect(|world, _| world.pod.address4 = Address::NONE, Refuse(Reason::OUTBOUND_REFUSED_NO_ADDRESS));
    check_connect(|world, _| world.listens = 0, Refuse(Reason::OUTBOUND_REFUSED_AGENT_GONE));
    check_connect(|world, _| world.beats[0] = NOW - 3_000_000_000, Refuse(Reason::OUTBOUND_REFUSED_AGENT_HUNG));
    let open = |change: fn(&mut World)| {
        move |world: &mut World, _: &mut Attempt| {
            world.pod.failure = FAIL_OPEN;
            change(world);
        }
    };
    check_connect(open(|world| world.listens = 0), Pass(Reason::OUTBOUND_DIRECT_AGENT_GONE));
    check_connect(open(|world| world.beats[0] = 0), Pass(Reason::OUTBOUND_DIRECT_AGENT_HUNG));
    check_connect(open(|world| world.pod.address4 = Address::NONE), Pass(Reason::OUTBOUND_DIRECT_NO_ADDRESS));
    // Without an agent nobody knows whether the service is still empty.
    check_connect(
        open(|world| (world.listens, world.destination) = (0, DESTINATION_EMPTY)),
        Pass(Reason::OUTBOUND_DIRECT_AGENT_GONE),
    );
}

#[test]
fn mptcp_is_refused_in_captured_pods_only() {
    assert_eq!(decide_create(262, true), CreateVerdict::RefuseProtocol);
    assert_eq!(decide_create(262, false), CreateVerdict::Allow);
    assert_eq!(decide_create(6, true), CreateVerdict::Allow);
}

fn arrival(source: &str, destination: &str, destination_port: u16) -> Arrival {
    let tuple = Tuple::new((ip(source), port(40_000)), (ip(destination), port(destination_port)));
    Arrival { protocol: 6, netns_cookie: COOKIE, tuple }
}

fn check_steer(arrival: Arrival, change: impl FnOnce(&mut World), expected: SteerVerdict) {
    let mut world = world();
    change(&mut world);
    assert_eq!(steer::decide(&arrival, &world.pod, &world), expected, "{arrival:?}\n{world:?}");
}

#[test]
fn arrivals_of_the_pod_itself_are_decided_as_in_the_kernel_tier() {
    use SteerVerdict::{Drop, Hand, Ignore};
    let captured = arrival(POD4, POD4, 61_020);
    check_steer(captured, |world| world.flow = true, Hand(ROLE_OUTBOUND, 0));
    check_steer(captured, |_| {}, Drop(Reason::OUTBOUND_DROPPED_NO_RECORD));
    check_steer(captured, |world| world.peer = true, Ignore);
    check_steer(captured, |world| (world.flow, world.listens) = (true, 0), Drop(Reason::OUTBOUND_LOST_AGENT));
    check_steer(arrival(POD4, POD4, 8080), |_| {}, Ignore);
    check_steer(arrival("127.0.0.1", POD4, 8080), |_| {}, Ignore);
    check_steer(arrival("10.88.0.99", "10.88.0.99", 8080), |_| {}, Ignore);
    let unknown = Drop(Reason::INBOUND_DROPPED_UNKNOWN_CLIENT);
    check_steer(arrival("127.87.0.1", POD4, 8080), |_| {}, unknown);
    check_steer(arrival("127.87.0.1", POD4, 8080), |world| world.peer = true, Ignore);
    check_steer(arrival("::1", POD6, 8080), |_| {}, unknown);
    check_steer(arrival("127.0.0.1", "127.0.0.1", 61_001), |_| {}, Drop(Reason::OUTBOUND_DROPPED_NO_RECORD));
    check_steer(arrival("127.0.0.1", "127.0.0.1", 61_002), |_| {}, Ignore);
    check_steer(arrival("127.0.0.1", "127.0.0.1", 8080), |_| {}, Ignore);
}

#[test]
fn arrivals_from_elsewhere_are_decided_as_in_the_kernel_tier() {
    use SteerVerdict::{Drop, Hand, Ignore, Pass};
    let web = arrival(NEIGHBOUR4, POD4, 8080);
    check_steer(web, |_| {}, Hand(ROLE_INBOUND, 0));
    check_steer(arrival("fe80::1", "fe80::99", 8080), |_| {}, Hand(ROLE_INBOUND, 0));
    check_steer(web, |world| world.pod.flags = POD_OUTBOUND, Ignore);
    check_steer(Arrival { protocol: 17, ..web }, |_| {}, Ignore);
    check_steer(web, |world| world.port_mode = MODE_EXCLUDED, Pass(Reason::INBOUND_EXCLUDED));
    check_steer(web, |world| world.open.clear(), Drop(Reason::INBOUND_CLOSED_PORT));
    check_steer(
        web,
        |world| {
            world.open.clear();
            world.port_mode = MODE_STRICT;
        },
        Drop(Reason::INBOUND_CLOSED_PORT),
    );
    check_steer(arrival(NEIGHBOUR4, POD4, 61_001), |_| {}, Drop(Reason::INBOUND_CLOSED_PORT));
    check_steer(web, |world| world.open = vec![(Address::ANY4, port(8080))], Hand(ROLE_INBOUND, 0));
    check_steer(web, |world| world.open = vec![(ip(POD4), port(8080))], Hand(ROLE_INBOUND, 0));
    check_steer(web, |world| world.open = vec![(ip("10.88.0.3"), port(8080))], Drop(Reason::INBOUND_CLOSED_PORT));
    check_steer(arrival("fd88::1", POD6, 8080), |world| world.open = vec![(Address::ANY4, port(8080))], {
        Drop(Reason::INBOUND_CLOSED_PORT)
    });
    check_steer(web, |world| world.listens = 0, Drop(Reason::INBOUND_REFUSED_AGENT_GONE));
    check_steer(web, |world| world.beats[0] = 1, Drop(Reason::INBOUND_REFUSED_AGENT_HUNG));
    let fails_open = |mode: u32| {
        move |world: &mut World| {
            world.pod.failure = FAIL_OPEN;
            world.port_mode = mode;
            world.listens = 0;
        }
    };
    check_steer(web, fails_open(MODE_PERMISSIVE), Pass(Reason::INBOUND_DIRECT_AGENT_GONE));
    check_steer(web, fails_open(MODE_STRICT), Drop(Reason::INBOUND_REFUSED_AGENT_GONE));
}

fn any_address() -> impl Strategy<Value = Address> {
    let known = [POD4, POD6, VIP4, NEIGHBOUR4, "127.0.0.1", "127.87.3.4", "::1", "fe80::1", "0.0.0.0", "fd88::1"];
    prop_oneof![
        proptest::sample::select(known.map(ip).to_vec()),
        any::<[u32; 4]>().prop_map(Address),
        any::<u32>().prop_map(Address::from_ip4_word),
    ]
}

fn any_port() -> impl Strategy<Value = Port> {
    prop_oneof![61_000_u16..61_070, Just(8080), Just(0), any::<u16>()].prop_map(Port::from_host)
}

prop_compose! {
    fn any_world()(
        (flags, failure, inbound_mode, port_mode) in (0_u32..16, 0_u32..4, 0_u32..5, 0_u32..5),
        (workers, listens, listener_ports) in (0_u32..1 << MAX_WORKERS, any::<u32>(), any::<u64>()),
        ages in proptest::collection::vec(0_u64..4_000_000_000, MAX_WORKERS as usize),
        (network, destination, in_flight) in (0_u32..4, 0_u32..4, 0_u64..20),
        (excludes_port, excludes_network, flow, peer) in any::<(bool, bool, bool, bool)>(),
        open in proptest::collection::vec((any_address(), any_port()), 0..4),
        (has4, has6) in any::<(bool, bool)>(),
    ) -> World {
        let mut world = world();
        world.pod.address4 = if has4 { ip(POD4) } else { Address::NONE };
        world.pod.address6 = if has6 { ip(POD6) } else { Address::NONE };
        world.pod = PodRow { flags, failure, inbound_mode, workers, listener_ports, ..world.pod };
        for (beat, age) in world.beats.iter_mut().zip(ages) {
            *beat = NOW - age;
        }
        World { listens, network, destination, excludes_port, excludes_network, in_flight, open, flow, peer, port_mode, ..world }
    }
}

impl World {
    fn is_alive(&self, worker: u32) -> bool {
        self.pod.workers >> worker & 1 == 1 && freshness(self.beats[worker as usize], NOW) == 1
    }

    fn takes(&self, role: u32, worker: u32) -> bool {
        worker < MAX_WORKERS && self.is_alive(worker) && self.listens(role, worker)
    }
}

proptest! {
    #[test]
    fn a_connect_is_never_led_astray(
        world in any_world(),
        (destination, port, bound, bound_port) in (any_address(), any_port(), any_address(), any_port()),
        (hash, own, protocol) in (any::<u32>(), any::<bool>(), prop_oneof![Just(6_u32), any::<u32>()]),
    ) {
        let attempt = Attempt { protocol, own, destination, port, bound, bound_port, hash };
        let verdict = connect::decide(&attempt, &world.pod, &world);
        match verdict {
            ConnectVerdict::Capture(address, port) => {
                prop_assert!(!own && protocol == 6 && world.network == NETWORK_CAPTURED);
                prop_assert!(address != Address::NONE && world.pod.has_address(address));
                prop_assert_eq!(address.is_ip4(), destination.is_ip4());
                prop_assert!(port.capture_index().is_some() && port != bound_port);
                prop_assert!(bound.is_unspecified() || world.pod.has_address(bound));
                prop_assert!(world.in_flight < u64::from(world.pod.flight_limit));
                prop_assert!((0..MAX_WORKERS).any(|worker| world.takes(ROLE_OUTBOUND, worker)));
            }
            // Only what the mesh concerns is ever refused.
            ConnectVerdict::Refuse(_) => {
                prop_assert!(!own && protocol == 6 && world.network == NETWORK_CAPTURED);
                prop_assert!(!connect::stays_local(destination) && world.destination != DESTINATION_NEVER);
            }
            ConnectVerdict::Pass(reason) => {
                let fails_open = [
                    Reason::OUTBOUND_DIRECT_AGENT_GONE,
                    Reason::OUTBOUND_DIRECT_AGENT_HUNG,
                    Reason::OUTBOUND_DIRECT_NO_ADDRESS,
                ];
                prop_assert!(!fails_open.contains(&reason) || world.pod.failure == FAIL_OPEN);
            }
            ConnectVerdict::Ignore => {
                prop_assert!(own || protocol != 6 || world.pod.flags & POD_OUTBOUND == 0);
            }
        }
    }

    #[test]
    fn an_arrival_is_never_led_astray(
        world in any_world(),
        (source, destination) in (any_address(), any_address()),
        (source_port, destination_port) in (any_port(), any_port()),
    ) {
        let tuple = Tuple::new((source, source_port), (destination, destination_port));
        let arrival = Arrival { protocol: 6, netns_cookie: COOKIE, tuple };
        let verdict = steer::decide(&arrival, &world.pod, &world);
        let same_pod = steer::comes_from_the_pod(source, destination, &world.pod);
        let mode = if world.pod.flags & POD_HAS_PORT_RULES != 0 && world.port_mode != 0 {
            world.port_mode
        } else {
            world.pod.inbound_mode
        };
        match verdict {
            SteerVerdict::Hand(ROLE_OUTBOUND, worker) => {
                prop_assert!(same_pod && world.flow && destination_port.capture_index().is_some());
                prop_assert!(!destination.is_loopback() && world.takes(ROLE_OUTBOUND, worker));
            }
            SteerVerdict::Hand(role, worker) => {
                prop_assert_eq!(role, ROLE_INBOUND);
                prop_assert!(!same_pod && world.pod.flags & POD_INBOUND != 0 && mode != MODE_EXCLUDED);
                prop_assert!(world.takes(ROLE_INBOUND, worker));
            }
            SteerVerdict::Pass(_) => prop_assert!(mode == MODE_PERMISSIVE || mode == MODE_EXCLUDED),
            SteerVerdict::Drop(_) => {}
            SteerVerdict::Ignore => {
                // Plaintext from elsewhere reaches an app unseen only if the pod is not captured inbound.
                prop_assert!(same_pod || destination.is_loopback() || world.pod.flags & POD_INBOUND == 0);
                // A captured connection without its record reaches nobody.
                let captured = same_pod && !destination.is_loopback() && destination_port.capture_index().is_some();
                prop_assert!(!captured || world.peer);
            }
        }
        prop_assert_eq!(steer::decide(&arrival, &world.pod, &world), verdict);
    }
}
