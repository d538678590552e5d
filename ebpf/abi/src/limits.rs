//! Every bound of the kernel side, with its reason.

/// First port of the capture range: above Linux' default ephemeral range (32768–60999).
pub const CAPTURE_PORT_FIRST: u16 = 61_000;
/// Last port of the capture range.
pub const CAPTURE_PORT_LAST: u16 = 61_063;
/// Ports in the range: one bit each in [`crate::rows::PodRow::listener_ports`].
pub const CAPTURE_PORTS: u16 = CAPTURE_PORT_LAST - CAPTURE_PORT_FIRST + 1;
const _: () = assert!(CAPTURE_PORTS == 64);

/// Workers of one agent: more cores than this add no throughput to one node's mesh traffic.
pub const MAX_WORKERS: u32 = 16;

/// A worker whose last beat is older than this is hung. Above what CPU throttling (100 ms periods)
/// and page faults cause, below what a person calls an outage.
pub const HEARTBEAT_LIMIT_NANOSECONDS: u64 = 2_000_000_000;

/// Connections of kubelet on record: probes of [`MAX_PODS`] pods at the same moment, several of each. The newest are
/// kept, because somebody that a hook of kubelet's calls may never hang up.
pub const MAX_PROBES: u32 = MAX_PODS * 8;

/// A connection of kubelet is looked up when its SYN arrives; a SYN is repeated for about as long as this.
pub const PROBE_LIMIT_NANOSECONDS: u64 = 120_000_000_000;

/// Captured pods of one node; Kubernetes' own largest supported value is 500.
pub const MAX_PODS: u32 = 1024;
/// One listener for each pod, role and worker.
pub const MAX_LISTENERS: u32 = MAX_PODS * 2 * MAX_WORKERS;
/// Connections of the whole node between SYN and accept; such a row lives for microseconds.
pub const MAX_FLOWS: u32 = 32_768;
/// The same for connections from the agent to the apps.
pub const MAX_PEERS: u32 = 32_768;
/// Connections of one pod between SYN and accept, unless its row says otherwise: a pod cannot take
/// more than a sixteenth of [`MAX_FLOWS`].
pub const DEFAULT_FLIGHT_LIMIT: u32 = MAX_FLOWS / 16;
/// Listening (address, port) pairs of all captured pods: 32 for each pod.
pub const MAX_OPEN_PORTS: u32 = MAX_PODS * 32;
/// Port rules of all captured pods: 16 for each pod.
pub const MAX_PORT_RULES: u32 = MAX_PODS * 16;
/// Peers of observed pods, by port and direction: 16 for each pod of a full node, 150 for each of the usual 110, 1.5 MB in
/// all. The newest are kept: what was not seen for the longest time says least about who would be refused.
pub const MAX_SEEN: u32 = MAX_PODS * 16;
/// Prefixes that are captured or never captured, for the whole node.
pub const MAX_NETWORKS: u32 = 16_384;
/// Outbound prefixes that single pods exclude.
pub const MAX_EXCLUDED_NETWORKS: u32 = 16_384;
/// Services without a usable endpoint and single never captured ports, of the whole cluster.
pub const MAX_DESTINATIONS: u32 = 65_536;
/// Bytes of the event ring: about 2,700 events.
pub const EVENT_RING_BYTES: u32 = 256 * 1024;
/// Events that one CPU may write in a second; more are counted as suppressed.
pub const EVENTS_PER_SECOND: u32 = 128;

/// Where the agent binds when a pod address has run out of ports: 127.87.0.0/16, which no app has a
/// reason to use and whose ports the kernel recycles after a second.
pub const AGENT_LOOPBACK_PREFIX: [u8; 2] = [127, 87];
