//! Every bound of the controller, with its reason. Nothing here is read from outside.

use std::time::Duration;

/// One YAML file. The largest honest one (10,000 pods of about 1 KiB) fits; a file dropped by mistake does not.
pub const FILE_BYTES: u64 = 16 << 20;
/// Files of one directory, so that a wrong `--directory` ends in a message and not in hours of reading.
pub const FILES: usize = 20_000;
/// Folders below the directory: deep enough for one per team and environment, and an end to symlink loops.
pub const FOLDER_DEPTH: usize = 8;
/// Defects told for one object: the first ones are what a person repairs.
pub const DEFECTS_PER_OBJECT: usize = 16;
/// Defects told at all.
pub const DEFECTS: usize = 1_000;
/// A file that is written without being closed is read after this long; one that is closed or renamed, at once.
pub const OPEN_FILE_QUIET: Duration = Duration::from_millis(100);
/// A file that never rests is read as it is after this long, so that one busy writer cannot hide a file for ever.
pub const OPEN_FILE_PATIENCE: Duration = Duration::from_secs(1);
/// The directory is read again this often even when no event came: a network filesystem sends none.
pub const RESCAN_INTERVAL: Duration = Duration::from_secs(30);

/// Entries of one exclusion annotation: a pod has a few. Each costs an entry in tables that all pods of its node share.
pub const EXCLUSIONS_PER_ANNOTATION: usize = 64;
/// Ports of one list that agents read: the bound of the schemas.
pub const PORTS_PER_LIST: usize = 64;
/// The agents' own ports in every pod's network namespace: an exception for one of them would be a way around the agent.
pub const CAPTURE_PORTS: std::ops::RangeInclusive<u16> = 61_000..=61_063;

/// Parents, hostnames, rules, matches, backends, filters and values of one route, and their lengths: the bounds of Gateway
/// API's own schemas, so that a directory is no laxer than an API server.
pub const PARENTS_PER_ROUTE: usize = 32;
pub const HOSTNAMES_PER_ROUTE: usize = 16;
pub const RULES_PER_ROUTE: usize = 16;
pub const MATCHES_PER_RULE: usize = 64;
pub const MATCHES_PER_ROUTE: usize = 128;
pub const VALUES_PER_MATCH: usize = 16;
pub const BACKENDS_PER_RULE: usize = 16;
pub const BACKEND_WEIGHT: u32 = 1_000_000;
pub const FILTERS: usize = 16;
pub const HEADER_EDITS: usize = 16;
pub const OBJECT_NAME_BYTES: usize = 253;
pub const HEADER_NAME_BYTES: usize = 256;
pub const HEADER_VALUE_BYTES: usize = 4_096;
pub const QUERY_VALUE_BYTES: usize = 1_024;
pub const PATH_BYTES: usize = 1_024;
/// Statuses of one retry, which agents read: more than a person writes.
pub const RETRY_CODES: usize = 64;
/// Retries of one request: the agents' own bound.
pub const RETRY_ATTEMPTS: u32 = 10;
/// A compiled regular expression of a route, and its nested groups: the agents' own bounds. An agent that could not compile
/// one would refuse every request to the port.
pub const EXPRESSION_BYTES: usize = 64 << 10;
pub const EXPRESSION_DEPTH: u32 = 32;
/// Regular expressions of one route, and of all routes of one Service port for one audience: 4 MiB of every agent's memory.
pub const EXPRESSIONS_PER_PORT: usize = 64;
/// Characters of a sentence about what is wrong in a rule. Agents read sentences of 4 KiB.
pub const PROBLEM_CHARACTERS: usize = 512;
/// Such sentences in one answer or condition; the rest is a number.
pub const PROBLEMS_TOLD: usize = 5;
/// Matches of all routes of one Service port for one audience: every request is held against them one by one.
pub const MATCHES_PER_PORT: usize = 1_024;
/// Bytes of all routes of one Service port for one audience, which every agent holds.
pub const ROUTES_BYTES_PER_PORT: usize = 1 << 20;
/// What one route may take at all of its ports together: it names up to 32 Services of 64 ports, and is copied to each.
pub const ROUTE_BYTES_EVERYWHERE: usize = 4 << 20;
pub const ROUTE_EXPRESSIONS_EVERYWHERE: usize = 256;

/// Changes remembered for agents that are a little behind; one further behind is compared resource by resource.
pub const REMEMBERED_CHANGES: usize = 64;
/// Resources in one message: about 64 KiB at 200 bytes each, so a slow agent holds little in our memory.
pub const RESOURCES_PER_MESSAGE: usize = 256;
/// Bytes of one message, unless a single resource is larger: what one slow agent costs us, and far below the 4 MiB that
/// gRPC takes unless told otherwise.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of one resource: with its message's own bytes it is within the 4 MiB that any gRPC client takes.
pub const RESOURCE_BYTES: usize = (4 << 20) - (64 << 10);
/// Ports of one Service.
pub const PORTS_PER_SERVICE: usize = 64;
/// Endpoints of one Service, over all of its ports: 30,000 of at most 100 bytes are below [`RESOURCE_BYTES`].
pub const ENDPOINTS_PER_SERVICE: usize = 30_000;
/// Messages that wait for one agent's connection. What waits beyond is a set of names, not a queue: the latest wins.
pub const MESSAGES_IN_FLIGHT: usize = 2;
/// Names that an agent may claim to hold already: ten times a mesh of 10,000 pods.
pub const HELD_RESOURCES: usize = 200_000;
/// The first message of a stream must come this soon.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream ends after a time between these two, so that agents spread over replicas and read a renewed trust in us.
pub const STREAM_AGE_MINIMUM: Duration = Duration::from_mins(30);
pub const STREAM_AGE_MAXIMUM: Duration = Duration::from_hours(1);
/// One message from an agent: a Hello with [`HELD_RESOURCES`] names of 60 bytes fits.
pub const AGENT_MESSAGE_BYTES: usize = 32 << 20;

/// Nodes that may report: the size of the largest Kubernetes clusters.
pub const NODES: usize = 5_000;
/// Workloads that one agent may report: ten times the pods that a kubelet allows.
pub const WORKLOADS_PER_NODE: usize = 5_000;
/// Bytes of a resource's version, of which an agent may name any.
pub const VERSION_BYTES: usize = 64;
/// Nacks kept of one agent.
pub const NACKS_PER_NODE: usize = 1_000;
/// Bytes kept of a reason that an agent gave.
pub const REASON_BYTES: usize = 512;

/// The lease, unless `--lease` says otherwise: three missed heartbeats.
pub const LEASE: Duration = Duration::from_secs(10);
/// Nodes (percent of all known ones, at least one) that may count as gone before nobody is marked any more.
pub const GONE_NODES_PERCENT: usize = 50;
/// How long a workload that is no longer captured stays enrolled while other agents acknowledge, in leases.
pub const DISENROLMENT_LEASES: u32 = 3;

/// Connections that are still shaking hands: each costs a signature. Beyond it new ones wait in the backlog.
pub const HANDSHAKES: usize = 64;
/// After an accept that failed, so that a full descriptor table does not become a full processor.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A handshake takes two round trips; what takes longer is not an agent of ours.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections at once: one or two per node, and those that reconnect. Beyond it new ones wait in the backlog.
pub const CONNECTIONS: usize = 2 * NODES + 1_000;
/// An agent that vanished without a word is noticed this soon, well within any lease that matters.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes of one address at once: an agent needs two, and one address must not keep all others waiting.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// Connections of one address at once: a node has a few, and one address must not use up [`CONNECTIONS`].
pub const CONNECTIONS_PER_ADDRESS: usize = 64;
/// A connection that shows no certificate can only join, which takes one request; then it has to come back as a node.
pub const STRANGER_LIFE: Duration = Duration::from_secs(30);
/// Streams of one connection: an agent has two, and asks for some certificates at once.
pub const STREAMS_PER_CONNECTION: u32 = 64;
/// A request for a certificate: a CSR, a token and two names.
pub const REQUEST_BYTES: usize = 16 << 10;
/// Requests for a certificate of one connection at once.
pub const REQUESTS_PER_CONNECTION: usize = 64;

/// A CSR for P-256 has about 300 bytes.
pub const CSR_BYTES: usize = 4 << 10;
/// Random bytes of a join token: more than anybody can guess.
pub const TOKEN_BYTES: usize = 32;
/// A token as text; longer ones are not hashed.
pub const TOKEN_TEXT_BYTES: usize = 512;
/// How long a join token is good, unless said otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// A workload's certificate, unless said otherwise: a day without a controller.
pub const WORKLOAD_CERTIFICATE_LIFE: Duration = Duration::from_hours(24);
/// A node's certificate: longer than a workload's, so that a node that was away for a weekend can still renew.
pub const NODE_CERTIFICATE_LIFE: Duration = Duration::from_hours(7 * 24);
/// Our own server certificate, made anew at each start.
pub const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_hours(365 * 24);
/// The root's life.
pub const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin this much earlier: clocks of nodes differ.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// After this long, shutdown stops being polite.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
