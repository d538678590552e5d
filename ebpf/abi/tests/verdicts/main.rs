//! The verdicts against a world in a table: the cases of the kernel tier, and what must hold in any world.

mod world;

use proptest::prelude::*;
use weft_abi::connect::{Attempt, ConnectVerdict, CreateVerdict, decide_create};
use weft_abi::limits::PROBE_LIMIT_NANOSECONDS;
use weft_abi::probe::{PROBER_ADDRESSES, PROBER_NONE, PROBER_SOCKETS, is_unrecorded};
use weft_abi::rows::{
    DESTINATION_CAPTURED, DESTINATION_EMPTY, DESTINATION_NEVER, FAIL_OPEN, MODE_EXCLUDED, MODE_PERMISSIVE, MODE_STRICT,
    NETWORK_NEVER, POD_HAS_PORT_RULES, POD_HAS_PROBES, POD_INBOUND, POD_OUTBOUND, PodRow, ROLE_INBOUND, ROLE_OUTBOUND,
};
use weft_abi::steer::{Arrival, SteerVerdict};
use weft_abi::{Address, MAX_WORKERS, Port, Reason, Tuple, connect, steer};

use world::{COOKIE, NEIGHBOUR4, NODE4, NOW, POD4, POD6, VIP4, World, ip, port, world};

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
    // A Service's port at an address from outside; an operator's word is above it.
    let outside = |network: u32, kind: u32| {
        move |world: &mut World, _: &mut Attempt| (world.network, world.destination) = (network, kind)
    };
    check_connect(outside(0, DESTINATION_EMPTY), Refuse(Reason::OUTBOUND_REFUSED_NO_ENDPOINT));
    check_connect(outside(0, DESTINATION_NEVER), Pass(Reason::OUTBOUND_OUTSIDE));
    check_connect(outside(NETWORK_NEVER, DESTINATION_CAPTURED), Pass(Reason::OUTBOUND_NEVER_CAPTURED));
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

#[test]
fn probes_are_decided_as_in_the_kernel_tier() {
    use SteerVerdict::{Drop, Hand, Pass};
    let (by_socket, by_address) = (Pass(Reason::INBOUND_PROBE), Pass(Reason::INBOUND_PROBE_BY_ADDRESS));
    let (kubelet, other) = (arrival(NODE4, POD4, 8080), arrival(NEIGHBOUR4, POD4, 8080));
    let to_agent = Hand(ROLE_INBOUND, 0);
    let strict = |declares: bool, prober: u32, probe: bool| {
        move |world: &mut World| {
            (world.port_mode, world.declares, world.prober) = (MODE_STRICT, declares, prober);
            world.probe = probe.then_some(NOW - 1);
        }
    };
    check_steer(kubelet, strict(true, PROBER_SOCKETS, true), by_socket);
    // From wherever kubelet connects.
    check_steer(other, strict(true, PROBER_SOCKETS, true), by_socket);
    check_steer(kubelet, strict(false, PROBER_SOCKETS, true), to_agent);
    check_steer(kubelet, strict(true, PROBER_SOCKETS, false), to_agent);
    check_steer(kubelet, strict(true, PROBER_NONE, true), to_agent);
    check_steer(kubelet, strict(true, 9, true), to_agent);
    check_steer(kubelet, strict(true, PROBER_ADDRESSES, false), by_address);
    check_steer(other, strict(true, PROBER_ADDRESSES, true), to_agent);
    check_steer(kubelet, strict(false, PROBER_ADDRESSES, false), to_agent);
    // A pod without an address of the node has nobody at "no address".
    check_steer(arrival("::", POD6, 8080), strict(true, PROBER_ADDRESSES, false), to_agent);
    let changed = |declares, prober, probe, change: fn(&mut World)| {
        move |world: &mut World| {
            strict(declares, prober, probe)(world);
            change(world);
        }
    };
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, |world| world.pod.flags &= !POD_HAS_PROBES), to_agent);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, |world| world.listens = 0), by_socket);
    let (gone, hung) = (Drop(Reason::INBOUND_REFUSED_AGENT_GONE), Drop(Reason::INBOUND_REFUSED_AGENT_HUNG));
    check_steer(kubelet, changed(true, PROBER_SOCKETS, false, |world| world.listens = 0), gone);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, false, |world| world.beats[0] = 1), hung);
    // A pod that is only guarded, while the agent is well.
    check_steer(kubelet, changed(true, PROBER_SOCKETS, false, |world| world.pod.workers = 0), gone);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, |world| world.pod.workers = 0), by_socket);
    check_steer(other, changed(true, PROBER_SOCKETS, false, |world| world.listens = 0), gone);
    check_steer(kubelet, changed(true, PROBER_NONE, false, |world| world.listens = 0), gone);
    check_steer(kubelet, changed(false, PROBER_SOCKETS, false, |world| world.listens = 0), gone);
    check_steer(
        kubelet,
        changed(true, PROBER_SOCKETS, true, |world| world.open.clear()),
        Drop(Reason::INBOUND_CLOSED_PORT),
    );
    // What nobody saw end is on record for a while only.
    let old = |world: &mut World| world.probe = Some(NOW - PROBE_LIMIT_NANOSECONDS - 1);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, old), to_agent);
    let oldest = |world: &mut World| world.probe = Some(NOW - PROBE_LIMIT_NANOSECONDS);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, oldest), by_socket);
    let ahead = |world: &mut World| world.probe = Some(NOW + 1);
    check_steer(kubelet, changed(true, PROBER_SOCKETS, true, ahead), by_socket);
}

#[test]
fn who_comes_from_the_node_and_is_not_on_record_is_counted() {
    for (source, declares, prober, probe, expected) in [
        (NODE4, true, PROBER_SOCKETS, None, true),
        (NODE4, true, PROBER_SOCKETS, Some(NOW - PROBE_LIMIT_NANOSECONDS - 1), true),
        (NODE4, true, PROBER_SOCKETS, Some(NOW), false),
        (NODE4, false, PROBER_SOCKETS, None, false),
        (NODE4, true, PROBER_ADDRESSES, None, false),
        (NODE4, true, PROBER_NONE, None, false),
        (NEIGHBOUR4, true, PROBER_SOCKETS, None, false),
    ] {
        let world = World { declares, prober, probe, ..world() };
        let tuple = arrival(source, POD4, 8080).tuple;
        assert_eq!(is_unrecorded(&tuple, &world.pod, &world), expected, "{source} {world:?}");
    }
}

fn any_address() -> impl Strategy<Value = Address> {
    let known =
        [POD4, POD6, VIP4, NEIGHBOUR4, NODE4, "127.0.0.1", "127.87.3.4", "::1", "fe80::1", "0.0.0.0", "fd88::1"];
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
        (flags, failure, inbound_mode, port_mode) in (0_u32..32, 0_u32..4, 0_u32..5, 0_u32..5),
        (workers, listens, listener_ports) in (0_u32..1 << MAX_WORKERS, any::<u32>(), any::<u64>()),
        ages in proptest::collection::vec(0_u64..4_000_000_000, MAX_WORKERS as usize),
        (network, destination, in_flight) in (0_u32..4, 0_u32..4, 0_u64..20),
        (excludes_port, excludes_network, flow, peer) in any::<(bool, bool, bool, bool)>(),
        open in proptest::collection::vec((any_address(), any_port()), 0..4),
        (has4, has6) in any::<(bool, bool)>(),
        (declares, prober, probe) in (any::<bool>(), 0_u32..4, proptest::option::of(0..NOW + 10)),
    ) -> World {
        let mut world = world();
        world.pod.address4 = if has4 { ip(POD4) } else { Address::NONE };
        world.pod.address6 = if has6 { ip(POD6) } else { Address::NONE };
        world.pod = PodRow { flags, failure, inbound_mode, workers, listener_ports, ..world.pod };
        for (beat, age) in world.beats.iter_mut().zip(ages) {
            *beat = NOW - age;
        }
        let world = World { declares, prober, probe, ..world };
        World { listens, network, destination, excludes_port, excludes_network, in_flight, open, flow, peer, port_mode, ..world }
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
                prop_assert!(!own && protocol == 6 && world.concerns_the_mesh());
                prop_assert!(address != Address::NONE && world.pod.has_address(address));
                prop_assert_eq!(address.is_ip4(), destination.is_ip4());
                prop_assert!(port.capture_index().is_some() && port != bound_port);
                prop_assert!(bound.is_unspecified() || world.pod.has_address(bound));
                prop_assert!(world.in_flight < u64::from(world.pod.flight_limit));
                prop_assert!((0..MAX_WORKERS).any(|worker| world.takes(ROLE_OUTBOUND, worker)));
            }
            // Only what the mesh concerns is ever refused.
            ConnectVerdict::Refuse(_) => {
                prop_assert!(!own && protocol == 6 && world.concerns_the_mesh());
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
            SteerVerdict::Pass(Reason::INBOUND_PROBE | Reason::INBOUND_PROBE_BY_ADDRESS) => {
                // Whoever it is and however it came: only what the pod itself declares, and only by these two ways.
                prop_assert!(world.declares && world.pod.flags & POD_HAS_PROBES != 0 && !same_pod);
                let recorded = world.probe.is_some_and(|at| at + PROBE_LIMIT_NANOSECONDS >= NOW);
                let by_socket = world.prober == PROBER_SOCKETS && recorded;
                prop_assert!(by_socket || world.prober == PROBER_ADDRESSES && source == ip(NODE4));
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
