//! Labels and annotations that Weft reads. It never writes one.

/// Label of a Namespace or Pod: `enabled`, `observe` or `disabled`. A Pod may only narrow what its namespace permits.
pub const CAPTURE: &str = "weft.dev/capture";
/// Label of a Namespace: `open` or `closed`, what its pods do while no agent is alive.
pub const ON_AGENT_FAILURE: &str = "weft.dev/on-agent-failure";
/// Annotation of a Pod: comma-separated destination ports that are not captured.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "weft.dev/exclude-outbound-ports";
/// Annotation of a Pod: comma-separated own ports that are not captured.
pub const EXCLUDE_INBOUND_PORTS: &str = "weft.dev/exclude-inbound-ports";
/// Annotation of a Pod: comma-separated destination ranges that are not captured.
pub const EXCLUDE_OUTBOUND_CIDRS: &str = "weft.dev/exclude-outbound-cidrs";
/// Annotation of a Pod of the directory source: the path of its network namespace on its node.
pub const NETNS: &str = "weft.dev/netns";
