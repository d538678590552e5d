//! Every bound of the controller, with its reason. Nothing here is read from outside.

use std::ops::RangeInclusive;
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
/// Ports of one pod's probes and lifecycle hooks: the rules that the tables of the nodes' kernels have room for, for each pod.
pub const PROBE_PORTS: usize = 16;
/// The agents' own ports in every pod's network namespace: an exception for one of them would be a way around the agent.
pub const CAPTURE_PORTS: std::ops::RangeInclusive<u16> = 61_000..=61_063;

/// Parents, hostnames, rules, matches, backends, filters and values of one route, and their lengths: the bounds of Gateway
/// API's own schemas, so that a directory is no laxer than an API server.
pub const PARENTS_PER_ROUTE: usize = 32;
pub const HOSTNAMES_PER_ROUTE: usize = 16;
pub const SERVER_NAMES_PER_ROUTE: usize = 1024;
pub const RULES_PER_ROUTE: usize = 16;
pub const MATCHES_PER_RULE: usize = 64;
pub const MATCHES_PER_ROUTE: usize = 128;
pub const VALUES_PER_MATCH: usize = 16;
pub const BACKENDS_PER_RULE: usize = 16;
pub const BACKEND_WEIGHT: u32 = 1_000_000;
pub const FILTERS: usize = 16;
pub const HEADER_EDITS: usize = 16;
pub const CORS_NAMES: usize = 64;
pub const ORIGIN_BYTES: usize = 253;
pub const OBJECT_NAME_BYTES: usize = 253;
pub const HEADER_NAME_BYTES: usize = 256;
pub const HEADER_VALUE_BYTES: usize = 4_096;
pub const QUERY_VALUE_BYTES: usize = 1_024;
pub const PATH_BYTES: usize = 1_024;
/// Entries of each list of a `ReferenceGrant`, by its schema as well.
pub const GRANT_ENTRIES: usize = 16;
/// Statuses of one retry, which agents read: more than a person writes.
pub const RETRY_CODES: usize = 64;
/// Retries of one request: the agents' own bound.
pub const RETRY_ATTEMPTS: u32 = 10;
/// Retries that a policy may permit in an interval in any case, and targets of a policy: by their schemas as well.
pub const RETRIES_PER_INTERVAL: u32 = 1_000_000;
pub const TARGETS: usize = 16;
/// Labels by which an `XBackend` selects, by its schema as well.
pub const BACKEND_LABELS: usize = 64;
/// A compiled regular expression of a route, and its nested groups: the agents' own bounds. An agent that could not compile
/// one would refuse every request to the port.
pub const EXPRESSION_BYTES: usize = 64 << 10;
pub const EXPRESSION_DEPTH: u32 = 32;
/// Regular expressions of one route, and of all routes of one Service port for one audience: 4 MiB of every agent's memory, and a
/// request may be held against each.
pub const EXPRESSIONS_PER_PORT: usize = 64;
/// Characters of a sentence about what is wrong in a rule. Agents read sentences of 4 KiB.
pub const PROBLEM_CHARACTERS: usize = 512;
/// Such sentences in one answer or condition; the rest is a number.
pub const PROBLEMS_TOLD: usize = 5;
/// Matches of all routes of one Service port for one audience: 10,000 rules in 625 routes of 16. What a request costs does not
/// depend on it; but whatever changes of them, agents are sent all.
pub const MATCHES_PER_PORT: usize = 10_240;
/// Bytes of all routes of one Service port for one audience, which every agent holds: 300 for each match, and one resource.
pub const ROUTES_BYTES_PER_PORT: usize = 3 << 20;
/// What one route may take at all of its ports together: it names up to 32 Services of 64 ports, and is copied to each.
pub const ROUTE_BYTES_EVERYWHERE: usize = 4 << 20;
pub const ROUTE_EXPRESSIONS_EVERYWHERE: usize = 256;

/// Resources in one message: about 64 KiB at 200 bytes each, so a slow agent holds little in our memory.
pub const RESOURCES_PER_MESSAGE: usize = 256;
/// Bytes of one message, unless a single resource is larger: what one slow agent costs us, and far below the 4 MiB that
/// gRPC takes unless told otherwise.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of one resource: with its message's own bytes it is within the 4 MiB that any gRPC client takes.
pub const RESOURCE_BYTES: usize = (4 << 20) - (64 << 10);
/// External addresses and balancers' addresses of one Service: a balancer has a few, one for each zone and family. With
/// each port each is a row in a table of every node's kernel.
pub const EXTERNAL_ADDRESSES_PER_SERVICE: usize = 16;
/// Ports of one Service.
pub const PORTS_PER_SERVICE: usize = 64;
/// Endpoints of one Service, over all of its ports: 30,000 of at most 100 bytes are below [`RESOURCE_BYTES`].
pub const ENDPOINTS_PER_SERVICE: usize = 30_000;
/// Zones, and nodes, that one endpoint is hinted for: the API's own bound.
pub const HINTS_PER_ENDPOINT: usize = 8;
/// Bytes of all hints of one Service: with [`ENDPOINTS_PER_SERVICE`] they are below [`RESOURCE_BYTES`]. A port with more is
/// balanced without them.
pub const HINT_BYTES_PER_SERVICE: usize = 512 << 10;
/// Services that one object may have the API server call: the largest policy engines have some dozens.
pub const SERVICES_PER_CALLER: usize = 256;
/// Objects that one sentence names.
pub const CALLERS_TOLD: usize = 3;
/// Messages that wait for one agent's connection. What waits beyond is made when there is room: the latest wins.
pub const MESSAGES_IN_FLIGHT: usize = 2;
/// Names that an agent may say that it holds: ten times a mesh of 10,000 pods.
pub const HELD_RESOURCES: usize = 200_000;
/// The first message of a stream must come this soon, and so must what an agent holds once it is asked for.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Agents that say at once what they hold: 16 times 4 MiB, decoded, of a mesh of 10,000 pods of which everything differs.
pub const HELLOS: usize = 16;
/// Bytes that wait unread of one stream and of one connection: agents say little but for what they hold, if that is another
/// mesh. Large enough that this takes a few round trips.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// A stream ends after a time between these two, so that agents spread over replicas and read a renewed trust in us.
pub const STREAM_AGE_MINIMUM: Duration = Duration::from_mins(30);
pub const STREAM_AGE_MAXIMUM: Duration = Duration::from_hours(1);
/// One message from an agent: [`HELD_RESOURCES`] names of 60 bytes with their versions fit.
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
/// A node's connection to a controller that does not lead, from its beginning or from when it asked for a stream: enough to have certificates signed, and soon the node dials again.
pub const STANDBY_LIFE: Duration = Duration::from_secs(2);
/// Warnings of one thing that anybody can cause, in this long: enough to see what it is, and no way to fill a disk.
pub const WARNINGS: usize = 10;
pub const WARNINGS_INTERVAL: Duration = Duration::from_secs(10);
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
/// What a workload's certificate may be told to live: shorter ones would be renewed all the time, longer ones outlive a theft.
pub const WORKLOAD_CERTIFICATE_LIVES: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_hours(30 * 24);
/// A node's certificate: longer than a workload's, so that a node that was away for a weekend can still renew.
pub const NODE_CERTIFICATE_LIFE: Duration = Duration::from_hours(7 * 24);
/// The same where a node proves itself anew at each renewal, by a token that is always at hand: what a thief has of it.
pub const REVIEWED_NODE_CERTIFICATE_LIFE: Duration = Duration::from_hours(24);
/// Our own server certificate, made anew at each start and for each root.
pub const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_hours(365 * 24);
/// The root's life.
pub const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin this much earlier: clocks of nodes differ.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// An API server answers at once or not at all.
pub const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence on a connection to the API server: longer than [`WATCH_SECONDS`], so that only a dead one is silent so long.
pub const API_READ_TIMEOUT: Duration = Duration::from_secs(90);
/// The API server ends a watch after this long, and it is begun again from where it was: a connection that died without
/// a word costs a minute, not an hour.
pub const WATCH_SECONDS: u32 = 60;
/// A watch that ends sooner than this without a word is begun again after a pause.
pub const WATCH_TOO_SHORT: Duration = Duration::from_secs(1);
/// Objects of one page of a list: a few MiB of pods while they are read.
pub const LIST_PAGE: u32 = 250;
/// The same of definitions, whose schemas have up to a MiB each.
pub const LIST_PAGE_OF_DEFINITIONS: u32 = 10;
/// Changes that wait to be taken in; followers wait beyond it, and the API server behind them. Also what becomes one
/// reading at most, so that a flood does not hold the first change back.
pub const CHANGES_WAITING: usize = 1_024;
/// Between two looks for a kind that is not served: two small requests.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(3);
/// How long routes are waited for when all else is known: a definition that was just made is served within seconds, and a
/// role or an API server that keeps them back must not keep the rest of a mesh back.
pub const ROUTES_PATIENCE: Duration = Duration::from_secs(30);
/// After a request that failed: doubles from the first to the last, so that an API server that comes back is not met by all.
pub const API_PAUSE_MINIMUM: Duration = Duration::from_millis(100);
pub const API_PAUSE_MAXIMUM: Duration = Duration::from_secs(10);

/// Of the right to write statuses; renewed at a third of it. The only write of a mesh at rest.
pub const LEADERSHIP: Duration = Duration::from_secs(15);
/// One object's status is written at most this often: a route that flaps must not flood the API server.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// A status that could not be written is tried again after this long, so that those of others have their turn.
pub const STATUS_RETRY: Duration = Duration::from_mins(1);
/// Statuses being written at once.
pub const STATUS_WRITES: usize = 8;
/// Entries of a policy's status, ours and others' (GEP-713).
pub const ANCESTORS: usize = 16;
/// Characters of a condition's message: the bound of its schema.
pub const MESSAGE_CHARACTERS: usize = 32_768;

/// Between two looks whether the last pod has left, while all are to: an uninstall waits for it.
pub const REMOVAL_INTERVAL: Duration = Duration::from_millis(500);

/// Between two looks at where the roots are kept, at most: three small requests.
pub const ROOT_INTERVAL: Duration = Duration::from_mins(1);
/// The same where certificates live for seconds: looks in the time that they take to end.
pub const ROOT_LOOKS_PER_OVERLAP: u32 = 20;
/// Between two looks at what agents said and what is due: nothing is asked of anybody for it.
pub const ROTATION_INTERVAL: Duration = Duration::from_secs(1);
/// A root of this age, in percent of its life, is replaced by itself: of ten years two are left for what may go wrong.
pub const ROOT_AGE_PERCENT: u32 = 80;
/// Nodes that a person is told of as those that a rotation waits for: the bound of the schema.
pub const ROOT_WAITING_TOLD: usize = 16;

/// A service account's token: a few claims and a signature.
pub const REVIEWED_TOKEN_BYTES: usize = 8 << 10;
/// An answer about a token is used again for this long: an agent that reconnects at once, or one that tries again and again.
pub const REVIEW_LIFE: Duration = Duration::from_secs(30);
/// Answers about tokens that are remembered: of all nodes at once.
pub const REVIEWS: usize = NODES;
/// Between two looks at the keys of tokens, however many tokens are signed by none of them.
pub const KEYS_INTERVAL: Duration = Duration::from_secs(10);
/// Tokens being reviewed at once, whoever asks.
pub const REVIEWS_IN_FLIGHT: usize = 8;

/// After this long, shutdown stops being polite.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
