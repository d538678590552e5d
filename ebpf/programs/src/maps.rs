//! Every map. User space pins them by these names: the first group in the frozen folder, the second in
//! the folder of this layout.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SkStorage, SockHash,
};
use aya_ebpf::macros::btf_map;
use weft_abi::Address;
use weft_abi::flight::{FlightKey, FlightRow, SocketFact};
use weft_abi::limits;
use weft_abi::observe::{SeenKey, SeenRow};
use weft_abi::probe::Prober;
use weft_abi::rows::{
    Counters, DestinationKey, Event, EventBudget, Heartbeats, ListenerKey, OpenPortKey, PodRow, PortRuleKey,
};

/// Map flags of the kernel's `bpf.h`.
const NO_PREALLOC: usize = 1;
const MMAPABLE: usize = 1024;

// Frozen.

/// Original destinations between the SYN and the agent's accept.
#[btf_map]
pub static FLOWS: HashMap<FlightKey, FlightRow, { limits::MAX_FLOWS as usize }> = HashMap::new();

/// Real clients between the agent's SYN and the app's accept.
#[btf_map]
pub static PEERS: HashMap<FlightKey, FlightRow, { limits::MAX_PEERS as usize }> = HashMap::new();

/// What kubelet connects to, between its SYN and its end; the oldest make room.
#[btf_map]
pub static PROBES: LruHashMap<FlightKey, FlightRow, { limits::MAX_PROBES as usize }> = LruHashMap::new();

/// Rows of each captured pod in `FLOWS`. A namespace with a row here is one whose listeners are recorded.
#[btf_map]
pub static IN_FLIGHT: HashMap<u64, u64, { limits::MAX_PODS as usize }> = HashMap::new();

/// What is known about single sockets.
#[btf_map]
pub static SOCKET_FACTS: SkStorage<SocketFact> = SkStorage::new();

// Derived.

/// Captured pods by the cookie of their network namespace.
#[btf_map]
pub static PODS: HashMap<u64, PodRow, { limits::MAX_PODS as usize }> = HashMap::new();

/// The agent's listening sockets.
#[btf_map]
pub static LISTENERS: SockHash<ListenerKey, { limits::MAX_LISTENERS as usize }> = SockHash::new();

/// Observed pods by the cookie of their network namespace, and since when: nanoseconds of the monotonic clock.
#[btf_map]
pub static OBSERVED: HashMap<u64, u64, { limits::MAX_PODS as usize }> = HashMap::new();

/// Connections of observed pods; the oldest make room.
#[btf_map]
pub static SEEN: LruHashMap<SeenKey, SeenRow, { limits::MAX_SEEN as usize }> = LruHashMap::new();

/// How many sockets listen where.
#[btf_map]
pub static OPEN_PORTS: HashMap<OpenPortKey, u64, { limits::MAX_OPEN_PORTS as usize }> = HashMap::new();

/// Modes of single ports.
#[btf_map]
pub static PORT_RULES: HashMap<PortRuleKey, u32, { limits::MAX_PORT_RULES as usize }> = HashMap::new();

/// Captured and never captured networks.
#[btf_map]
pub static NETWORKS: LpmTrie<Address, u32, { limits::MAX_NETWORKS as usize }> = LpmTrie::new();

/// The address part of [`weft_abi::rows::ExcludedNetworkKey`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PodNetwork {
    pub netns_cookie: [u32; 2],
    pub address: Address,
}

/// Networks that single pods exclude.
#[btf_map]
pub static EXCLUDED_NETWORKS: LpmTrie<PodNetwork, u32, { limits::MAX_EXCLUDED_NETWORKS as usize }> = LpmTrie::new();

/// Services without a usable endpoint, single ports that are never captured.
#[btf_map]
pub static DESTINATIONS: HashMap<DestinationKey, u32, { limits::MAX_DESTINATIONS as usize }, NO_PREALLOC> =
    HashMap::new();

/// Counters of each pod; user space makes the row when it enrols the pod.
#[btf_map]
pub static COUNTERS: PerCpuHashMap<u64, Counters, { limits::MAX_PODS as usize }, NO_PREALLOC> = PerCpuHashMap::new();

/// When each worker last beat; written by the workers through a memory mapping.
#[btf_map]
pub static HEARTBEATS: Array<Heartbeats, 1, MMAPABLE> = Array::new();

/// How probes are known.
#[btf_map]
pub static PROBER: Array<Prober, 1> = Array::new();

/// Rare happenings.
#[btf_map]
pub static EVENTS: RingBuf<Event, { limits::EVENT_RING_BYTES as usize }> = RingBuf::new();

/// The rate limit of `EVENTS`.
#[btf_map]
pub static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// The namespace of this copy of `steer`: the hook cannot ask for it.
#[unsafe(no_mangle)]
pub static NETNS_COOKIE: Global<u64> = Global::new(0);

/// The process whose sockets `probe_connect4` and `probe_connect6` mark; 0 where every socket of the cgroup is kubelet's.
#[unsafe(no_mangle)]
pub static PROBER_PROCESS: Global<u64> = Global::new(0);

/// The namespace of processes in which that is its number (device and inode); 0 for the kernel's first one.
#[unsafe(no_mangle)]
pub static PROBER_SPACE_DEVICE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static PROBER_SPACE_INODE: Global<u64> = Global::new(0);
