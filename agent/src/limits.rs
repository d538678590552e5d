//! Every bound of the agent, with its reason. Nowhere else in this crate is a bound a literal.

use std::time::Duration;

/// A worker whose heartbeat is older than this counts as stuck in the kernel. Above scheduler throttling and page-fault
/// stalls (hundreds of milliseconds), below what a person takes for a hang. The kernel's copy is `weft_abi`'s constant.
pub const HEARTBEAT_STALE: Duration = Duration::from_secs(2);
/// How often a worker's own loop writes its heartbeat: eight chances before it counts as stale.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// The parent ends an agent whose worker has been silent this long: what waits in that backlog is reset within 6 s in all.
pub const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(5);
/// How often the parent looks.
pub const SUPERVISOR_INTERVAL: Duration = Duration::from_millis(250);
/// Pause before a crashed agent is started again; doubled up to the maximum so that a crash loop cannot eat a core.
pub const RESTART_DELAY_FIRST: Duration = Duration::from_millis(50);
pub const RESTART_DELAY_MAXIMUM: Duration = Duration::from_secs(5);

/// At most this many workers: more cores than this are left to the applications.
pub const WORKERS_MAXIMUM: u32 = 16;

/// A source's whole attempt to reach one endpoint's agent (TCP connect and TLS handshake): after it another endpoint is tried.
/// Above one lost SYN or `ClientHello` (1 s initial retransmission, RFC 6298), below a person's patience.
pub const PEER_ATTEMPT: Duration = Duration::from_secs(3);
/// Endpoints tried for one connection, so that a dead service answers in bounded time.
pub const ENDPOINT_ATTEMPTS: usize = 3;
/// A plain TCP connect to an application or an uncaptured destination.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Accepted inbound connection until the end of its handshake and preamble: long enough for two lost segments.
pub const INBOUND_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the greeting of an application is held back from a peer that is known to speak mesh TLS (wire, permissive).
pub const GREETING_HOLD: Duration = Duration::from_millis(1500);
/// The status must follow the preamble within the application's connect bound and a round trip.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(7);

/// A relayed connection on which nothing moved for this long is closed (an hour, as in the tunnels of other proxies).
pub const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// A silent TCP peer is asked whether it still lives after this time, this often, and so many times: a dead one is known
/// after two minutes. Paths that forget connections do so after five at the soonest.
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_mins(1);
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
pub const KEEP_ALIVE_PROBES: u32 = 4;
/// One relay buffer, shared by all connections of a worker: a read takes what is there, up to this.
pub const RELAY_BUFFER: usize = 64 * 1024;
/// How long a client is awaited whose server has greeted with what may be settings of HTTP/2. Its first bytes were on their way
/// already, so that it is long enough for a machine that is out of breath; no other protocol is known to greet so. Each of two
/// agents waits that long.
pub const SETTINGS_HOLD: Duration = Duration::from_secs(3);
/// Of a server's greeting, what is read before anybody knows that it is one: the rest is relayed.
pub const GREETING_FIRST: usize = 64;
/// Longest preamble or status, in bytes: names are at most 253 characters each.
pub const WIRE_MESSAGE_MAXIMUM: usize = 4096;
/// Bytes of a connection's beginning that are looked at to tell mesh TLS from plaintext: a `ClientHello` with ML-KEM is
/// about 1.8 KB; 4 KB leave room for a full session ticket.
pub const SNIFF_MAXIMUM: usize = 4096;
/// Bytes of a client's TLS that are read to find the name of the server in them: what nginx reads at most.
pub const CLIENT_HELLO_MAXIMUM: usize = 16 * 1024;
/// A client that should speak TLS has this long to say for whom: it has nothing to wait for. What Envoy grants.
pub const CLIENT_HELLO: Duration = Duration::from_secs(15);

/// Connections of one pod in each direction, so that one tenant cannot take all descriptors.
pub const CONNECTIONS_PER_POD: usize = 8192;
/// Folders down to a process from where cgroups are mounted: the deepest tree known is kind's, with seven.
pub const CGROUP_DEPTH: usize = 10;
/// Folders down to that of all pods: runtimes that nest nodes in containers add some.
pub const PODS_CGROUP_DEPTH: usize = 5;
/// Pods whose sandbox is remembered, some 100 bytes each: more than a node runs.
pub const SANDBOXES_KNOWN: usize = 4096;
/// Folders of pods' logs that are looked at: kubelets keep those of pods that have ended for a while.
pub const POD_FOLDERS: usize = 8192;
/// Processes of one pod that are looked at to find its namespace: kubelets allow some thousand.
pub const POD_PROCESSES: usize = 8192;
/// Listen backlog of the agent's listeners in each pod: the kernel caps it by `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Orders that wait for a worker: two listeners of each of some hundred pods at a start.
pub const WORKER_ORDERS: usize = 1024;
/// Pause of an accept loop when the process has no descriptor or memory left: some connections end meanwhile.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// TLS sessions kept per (source identity, certificate generation), some 2 KB each.
pub const SESSIONS_PER_IDENTITY: usize = 1024;
/// Of these, sessions with one peer: as many handshakes with it may go on at once and all be short. At 2,000 a second that
/// is 32 ms of them.
pub const SESSIONS_PER_PEER: usize = 64;
/// Peers that one identity keeps sessions of; the one that was not used for the longest time makes room.
pub const SESSION_PEERS_PER_IDENTITY: usize = 128;
/// Tickets that a full handshake asks for, so that connections made side by side can all resume (RFC 9149). About 1 KB each:
/// together they fit into the first congestion window.
pub const TICKETS_AFTER_FULL_HANDSHAKE: u8 = 8;
/// Full handshakes of one identity with one peer at the same time while others wait for the tickets that these bring: the
/// second is for the one that got stuck.
pub const FULL_HANDSHAKES_AT_ONCE: usize = 2;
/// Longest wait for such a ticket or place. A round trip between distant zones, and far below `GREETING_HOLD`, in which the
/// destination's agent expects the handshake to begin.
pub const TICKET_WAIT: Duration = Duration::from_millis(250);
/// Longest wait while tickets come and go to others: a crowd passes in short handshakes. Still below `GREETING_HOLD`.
pub const TICKET_WAIT_IN_CROWD: Duration = Duration::from_secs(1);
/// After this many full handshakes without a ticket the peer is one that gives none, and nobody waits for them any more.
pub const FRUITLESS_HANDSHAKES: usize = 16;
/// A resumed handshake replaces the ticket that it used up.
pub const TICKETS_AFTER_RESUMPTION: u8 = 1;
/// Bytes that rustls may keep for a slow peer, each way: one relay buffer, so that a whole one is sent in one turn. Nothing
/// is set aside before it is needed.
pub const TLS_BUFFER: usize = RELAY_BUFFER;
/// Bytes of a beginning connection that are held back to leave together: the tickets of a full handshake and the status.
pub const HELD_MAXIMUM: usize = 16 * 1024;
/// Peers' certificates that one worker has read and remembers, 1.5 KB each: in resumed handshakes the same ones come back.
pub const LEAVES_KEPT: usize = 256;
/// A connection's name in a preamble: a UUID with room for a prefix.
pub const CONNECTION_NAME_MAXIMUM: usize = 64;

/// Fields of one HTTP message: what gateways take at most, and the most that the engine parses without asking for memory.
pub const HTTP_HEADERS: usize = 100;
/// Bytes of an HTTP/1 message's head, with room for 64 KiB of fields and a long target.
pub const HTTP_HEAD_MAXIMUM: usize = 96 * 1024;
/// The same for HTTP/2, where each field counts 32 bytes more (RFC 9113, section 6.5.2).
pub const HTTP2_HEADER_LIST: u32 = 96 * 1024;
/// What is read of a head to say with a reason that it is too long. Beyond that the engine says so, without one.
pub const HTTP2_HEADER_LIST_READ: u32 = 2 * HTTP2_HEADER_LIST;
/// How long the settings of an HTTP/2 server are awaited that decide whether an extended CONNECT can be sent: they are the first
/// that it says.
pub const HTTP2_SETTINGS_WAIT: Duration = Duration::from_secs(3);
/// Streams of one HTTP/2 connection at the same time: what RFC 9113 advises as the least, and floods get no more.
pub const HTTP2_STREAMS: u32 = 100;
/// Bytes of one HTTP/2 stream that may be under way unread: a slow reader holds no more.
pub const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
/// The same of a whole connection: all its streams can be stuck without taking the share of one that is not.
pub const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAMS * HTTP2_STREAM_WINDOW;
/// Bytes of one HTTP/2 stream that wait for the peer's window.
pub const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// Resets of streams that the engine had not looked at yet, from one HTTP/2 peer at a time; more end the connection with
/// `ENHANCE_YOUR_CALM`. What h2 proposes; an ordinary client has one or two.
pub const HTTP2_RESETS_UNSEEN: usize = 20;
/// The same from a mesh agent, which passes on what several clients cancel at once.
pub const HTTP2_RESETS_UNSEEN_OF_AGENT: usize = 1024;
/// Streams reset here that are remembered for a second, so that late frames of them are no error: half of those that may live.
pub const HTTP2_RESETS_REMEMBERED: usize = 50;
/// Streams that one HTTP/2 peer may break by errors of its own before its connection ends: what h2 proposes.
pub const HTTP2_ERRORS: usize = 1024;
/// Frames of one HTTP/2 peer that carry no request, answer or body while none moves, and how many more each one that does
/// allows: a client that measures the path sends a ping and two windows for each piece that it gets.
pub const HTTP2_CONTROL_FRAMES: u32 = 10_000;
pub const HTTP2_CONTROL_FRAMES_EARNED: u32 = 4;
/// A request that its client resets without an answer within this time was hardly meant.
pub const HTTP2_PREMATURE: Duration = Duration::from_secs(1);
/// Requests of one HTTP/2 connection among which these are counted: a quarter of so many, if they are most of all, is a flood.
pub const HTTP2_PREMATURE_SAMPLE: u32 = 1000;
/// Bytes that wait this long for an HTTP/2 peer's window reset their stream: whoever reads slowly gives windows, however
/// rarely, and five minutes are what other proxies grant a silent stream.
pub const HTTP2_STREAM_STALL: Duration = Duration::from_mins(5);
/// The head of an HTTP/1 request from its first byte to its last: 64 KiB at modem speed, and no place to rest for a client
/// that sends a byte now and then. Between requests a connection may rest for `IDLE_TIMEOUT`.
pub const HTTP1_HEAD: Duration = Duration::from_secs(15);
/// Heads of status 1xx before an answer: a server that says more has nothing to say.
pub const INTERIM: usize = 100;
/// Of these, heads that are passed on to the client of one request, and what their fields count in all (RFC 9113, section 6.5.2):
/// HTTP/2 has no window for heads, so all of a client's hundred streams that nobody reads hold less than two megabytes.
pub const INTERIM_PASSED: usize = 16;
pub const INTERIM_FIELDS: usize = 16 * 1024;
/// Bytes of all chunk extensions of one HTTP/1 body, which nobody reads: what other servers skip.
pub const HTTP1_CHUNK_EXTENSIONS: usize = 16 * 1024;
/// Bytes that one read of an HTTP/1 connection asks for at first, which hold an ordinary head and a short body, and at most,
/// once a body has filled what was asked for.
pub const HTTP1_READ: usize = 8 * 1024;
pub const HTTP1_READ_MAXIMUM: usize = 64 * 1024;
/// Room for an HTTP/1 message on its way out: an ordinary head and a short body.
pub const HTTP1_WRITE_AT_FIRST: usize = 2 * 1024;
/// Bytes of an HTTP/1 message that are gathered before they are written: one record of TLS.
pub const HTTP1_WRITE: usize = 16 * 1024;
/// Bytes behind a request that are read before its answer is written: beginnings of the next ones, or an end.
pub const HTTP1_AHEAD: usize = 16 * 1024;
/// Pause in the middle of an HTTP/1 body whose length was announced, while somebody waits for it: what nginx grants. One
/// without a length is a stream and may rest.
pub const HTTP1_BODY_STALL: Duration = Duration::from_mins(1);
/// A connection of requests whose peer takes no byte for this long is reset: what nginx grants.
pub const WRITE_STALL: Duration = Duration::from_mins(1);
/// One whose peer acknowledges nothing, or keeps its window closed, for this long is given up by the kernel, which tells the
/// peer nothing: later than `WRITE_STALL`, which does, and far below the quarter of an hour of retransmissions.
pub const ACKNOWLEDGE: Duration = Duration::from_secs(90);
/// After a last answer to a client that is still sending, as much of that is thrown away, for as long, as the answer takes
/// to be read.
pub const LINGER: Duration = Duration::from_secs(2);
pub const LINGER_BYTES: usize = 1024 * 1024;
/// An HTTP/2 peer that is silent is asked whether it still lives this often, and has this long to say so.
pub const HTTP2_PING: Duration = Duration::from_mins(1);
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A request's body up to this many bytes is kept in memory until it is answered; a longer one is sent once.
pub const RETRY_BODY_MAXIMUM: usize = 64 * 1024;
/// Copies of requests for mirrors that one worker has under way; above that, requests go without.
pub const MIRRORS: usize = 256;
/// A mirror's copy and its answer have this long: a slow mirror holds no more than its share.
pub const MIRROR_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a mirror's answer, what is read so that its connection can serve again.
pub const MIRROR_ANSWER_MAXIMUM: usize = 1024 * 1024;
/// Answers that one worker reads to their end for nobody; the connections of others are closed.
pub const UNREAD_ANSWERS: usize = 64;
/// Of an answer that nobody reads, what is read so that its connection can serve again: the page of an error.
pub const UNREAD_ANSWER_MAXIMUM: usize = 64 * 1024;
/// It has this long to come: about what a new connection would take at its worst.
pub const UNREAD_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Retries of one request, whatever its policy says: the most that the controller lets through.
pub const REQUEST_RETRIES: u32 = 10;
/// Endpoints beyond the first that one request is offered to, outside of any budget, when nobody has worked on it.
pub const REQUEST_PICKS_AGAIN: u32 = 3;
/// Service ports that one worker keeps a retry budget of.
pub const RETRY_BUDGETS: usize = 4096;
/// An upstream HTTP connection at rest is closed after this: below the five seconds after which common servers close theirs,
/// so that a request seldom meets a connection that is just ending.
pub const LINE_IDLE: Duration = Duration::from_secs(4);
/// Resting upstream HTTP connections of one pod to one endpoint, on one worker: a burst's worth.
pub const LINES_PER_ENDPOINT: usize = 32;
/// Resting upstream HTTP connections of one worker: some 25 KB each.
pub const LINES_PER_WORKER: usize = 1024;
/// The part of a request's path in a record, in bytes.
pub const RECORD_PATH_MAXIMUM: usize = 512;

/// A connection of HTTP/1 on which nobody has asked for this long is closed by an agent that leaves. Longer than `LINE_IDLE`:
/// another agent has then ended it itself, and what asks more often is told with an answer.
pub const DRAIN_REST: Duration = Duration::from_secs(6);
/// Draining: connections that have not ended by themselves by then are reset.
pub const DRAIN: Duration = Duration::from_secs(30);
/// A connection that was told to end has this long to do so before its worker's thread ends without it.
pub const CUT_TIMEOUT: Duration = Duration::from_secs(1);
/// The successor must serve within this time, or the old agent goes on.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent to which no connection came, and which none left, for this long gives back the memory of its code.
pub const QUIET_INTERVAL: Duration = Duration::from_secs(3);

/// Records kept for `weft why`, of connections that were carried and again of those that were not, and of requests the same:
/// some 700 bytes each, three megabytes of an agent that has served many.
pub const RECORDS_KEPT: usize = 1024;
/// Names that kept records share, of each kind: as many workloads as one node talks to, some 100 bytes each.
pub const RECORD_NAMES: usize = 1024;
/// Lines of the access log that wait for the disk; more are counted and dropped.
pub const ACCESS_LOG_QUEUE: usize = 8192;
/// Bytes for the lines of a batch that are kept for the next one: a batch of a busy node.
pub const ACCESS_LOG_BUFFER: usize = 256 * 1024;
/// The recorder collects for this long before it writes: one wake-up for a burst instead of one for each connection, and
/// still at once to a person. At 800,000 ended connections a second the queue would just fill in it.
pub const RECORD_BATCH: Duration = Duration::from_millis(10);
/// How far the thread that writes records stands back behind the workers: at 5 it has a quarter of a core that they fill,
/// several times what it needs.
pub const RECORDER_NICENESS: i32 = 5;
/// Longest text of a record that a peer had a part in, in bytes: several times what Weft itself ever writes there.
pub const RECORD_DETAIL_MAXIMUM: usize = 512;
/// Audit and dry-run rules named in one record: more than a person reads.
pub const RECORD_NOTED_MAXIMUM: usize = 8;
/// Failed attempts, and endpoints that were passed over, that one record names: more than a person reads.
pub const RECORD_ATTEMPTS: usize = 6;
/// A method's name in a record, in bytes: any text is one.
pub const RECORD_METHOD_MAXIMUM: usize = 32;
/// Ejected endpoints that people may ask about, some 200 bytes each.
pub const EJECTED_KEPT: usize = 256;
/// Clients that spoke plaintext to captured pods, by port, some 150 bytes each: 40 for each of a node's hundred pods.
pub const CALLERS_KEPT: usize = 4096;
/// Readers of live requests (`weft tap`) at the same time: some people and their mistakes.
pub const TAPS: usize = 4;
/// Requests that wait for one such reader: what it reads in a tenth of a second. More are counted and not shown.
pub const TAP_QUEUE: usize = 1024;
/// Requests shown to one such reader in a second, whatever it asks for: a few percent of a core.
pub const TAP_RATE: u32 = 10_000;
/// A reader that was forgotten is sent away after this.
pub const TAP_LIFE: Duration = Duration::from_hours(1);
/// Label sets of one metric family; more are counted under `overflow`.
pub const METRIC_SERIES: usize = 2000;
/// Of these, label sets that one workload of this node may have, so that one tenant cannot take all.
pub const METRIC_SERIES_PER_WORKLOAD: usize = 200;
/// A label set that nothing touched for this long makes room when the bound is met.
pub const METRIC_SERIES_IDLE: Duration = Duration::from_hours(1);

/// Reconnect to the controller: first pause, doubled with jitter up to the maximum.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(200);
pub const RECONNECT_MAXIMUM: Duration = Duration::from_secs(5);
/// One unary call to the controller (join, issue).
pub const CONTROLLER_CALL: Duration = Duration::from_secs(10);
/// A connection to the controller that lasted this long was a good one: the next pause is the first again.
pub const RECONNECT_FORGIVEN: Duration = Duration::from_secs(10);
/// TCP and TLS connect to the controller, within one call.
pub const CONTROLLER_CONNECT: Duration = Duration::from_secs(5);
/// A controller that does not answer a ping within this time, sent as often, is taken for gone: streams end and begin anew.
pub const CONTROLLER_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Certificates asked for at the same time: a node's 250 pods in some round trips, without flooding the controller.
pub const ISSUES_AT_ONCE: usize = 8;
/// A kept key with its chain and roots is some 4 KB; a longer file is not ours.
pub const KEY_FILE_MAXIMUM: u64 = 256 * 1024;
/// A Discovery message: 16 MiB hold about 80,000 workload rows.
pub const DISCOVERY_MESSAGE_MAXIMUM: usize = 16 * 1024 * 1024;
/// Resources of one agent, held or arriving: twenty times the 10,000 pods that Weft is measured with.
pub const RESOURCES_MAXIMUM: usize = 200_000;
/// Parts of one change that wait for its end, in bytes as encoded: all resources at 1 KiB each.
pub const CHANGE_MAXIMUM: usize = 200 * 1024 * 1024;
/// Longest name of a resource: a kind, a namespace and a name of at most 253 characters each.
pub const RESOURCE_NAME_MAXIMUM: usize = 600;
/// Longest content hash that is kept: a whole SHA-512.
pub const RESOURCE_VERSION_MAXIMUM: usize = 64;
/// Roots of the trust bundle: two at once in a rotation, and some supplied by hand.
pub const ROOTS_MAXIMUM: usize = 64;
/// Pause before the first retry where a route says nothing: above a garbage collector's pause, below what a person notices.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(25);
/// Longest pause before a retry that doubling comes to; a policy's own least pause may be longer.
pub const RETRY_BACKOFF_MAXIMUM: Duration = Duration::from_secs(1);
/// Compiled size of one regular expression of a route, in bytes: some hundred characters' worth, so that a tenant's routes
/// cannot take the node's memory.
pub const ROUTE_PATTERN_SIZE: usize = 64 * 1024;
/// Backends whose endpoints one token of a session names: Gateway API permits a rule as many. A token is 266 characters then.
pub const SESSION_BACKENDS: usize = 16;
/// Tokens of one name that a request may show: a browser has one for each path that the cookie ever had.
pub const SESSION_TOKENS: usize = 8;
/// How much the clocks of two nodes may differ: a session that begins later than that was made up by its client.
pub const SESSION_CLOCK_AHEAD: Duration = Duration::from_mins(1);
/// Nested groups of one regular expression: more than a person writes.
pub const ROUTE_PATTERN_DEPTH: u32 = 32;
/// Regular expressions of one Service port, which are tried one after the other: at most 8 MiB, and twice what controllers send.
pub const ROUTE_PATTERNS: usize = 128;
/// Matches, and rules, of one Service port: twice what controllers send, some 800 bytes each.
pub const ROUTE_MATCHES: usize = 20_480;
pub const ROUTE_RULES: usize = 20_480;
/// Filters, backends, header or query conditions, header edits, statuses of one list: Gateway API permits 16 of most.
pub const ROUTE_LIST: usize = 64;
/// Longest text of a route (a path, a value, a sentence), in bytes: Gateway API permits 4096 for a header's value.
pub const ROUTE_TEXT: usize = 4096;
/// Longest sentence of a nack, in bytes: a field, a value that may be a name, and what is wrong with it.
pub const NACK_REASON_MAXIMUM: usize = 1024;
/// Nacks in one acknowledgement; the first ones by name. More say no more: the controller is at fault.
pub const NACKS_MAXIMUM: usize = 1000;
/// The snapshot on disk, in bytes: as one change.
pub const SNAPSHOT_FILE_MAXIMUM: u64 = 256 * 1024 * 1024;
/// Pause between two writes of the snapshot to disk, so that a busy mesh does not wear it out: after a crash the agent
/// starts from a state at most this old and resumes from there.
pub const SNAPSHOT_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Heartbeats in one lease: three are promised, one may be late.
pub const HEARTBEATS_PER_LEASE: u32 = 4;
/// The lease that is assumed until the controller names one, as short as in tests.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest lease that is believed, so that a controller's mistake does not become a storm of heartbeats.
pub const LEASE_MINIMUM: Duration = Duration::from_millis(400);
/// Messages that wait for one stream to the controller; what is newer waits at its source, where the newest replaces the rest.
pub const CONTROLLER_QUEUE: usize = 8;

/// Sets of at most this many endpoints are looked at whole; of larger ones two random ones.
pub const BALANCE_SCAN_MAXIMUM: usize = 16;
/// Endpoints that one worker keeps counts and latencies of, about 200 bytes each.
pub const BALANCED_ENDPOINTS: usize = 4096;

/// Clients whose endpoints an agent remembers where Services ask for it, some 200 bytes each: a node's 250 pods with 60 such
/// Services each. One more gets the endpoint that follows from its name.
pub const AFFINITIES: usize = 16_384;
/// Of one client: four times as many as most call, so that it takes dozens of pods that mean ill to fill the table.
pub const AFFINITIES_PER_CLIENT: usize = 256;
/// A full table is looked through for what is over no more often than this.
pub const AFFINITY_SWEEP: Duration = Duration::from_secs(1);

/// Certificates are renewed after a third of their life, with this much jitter either way, in percent of that third.
pub const RENEWAL_JITTER_PERCENT: u32 = 10;
/// A certificate that comes with a third of its life behind it is not renewed sooner than this: an odd clock must not make a
/// flood of requests.
pub const RENEWAL_MINIMUM: Duration = Duration::from_secs(1);
/// Pause after a failed renewal; the old certificate serves to its end.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(5);
/// When the mesh's roots are others from now on, certificates are renewed within this: of a thousand agents, whose pods are many,
/// each in its turn, and long before what the former root has signed ends.
pub const REISSUE_SPREAD: Duration = Duration::from_secs(10);
/// Between two looks whether the CA file is another one now: a kubelet changes it within a minute or two of the cluster.
pub const CA_FILE_INTERVAL: Duration = Duration::from_secs(5);
/// Clock difference that a fresh certificate forgives.
pub const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// An admin or metrics connection as a whole, kept-alive requests included: a client that says nothing holds its place
/// no longer, and a scraper that comes every 15 seconds connects anew.
pub const ADMIN_CONNECTION_LIFE: Duration = Duration::from_secs(10);
/// Admin and metrics connections at the same time: a person, a scraper, and their mistakes.
pub const ADMIN_CONNECTIONS: usize = 32;
/// Endpoints that one answer of `weft why` speaks of: more than a person reads.
pub const WHY_ENDPOINTS: usize = 16;
/// Endpoints of one backend that such an answer names.
pub const WHY_BACKEND_ENDPOINTS: usize = 4;
/// Rules of routes that one answer of `weft why` lists, and conditions of each: a `TLSRoute` may have a thousand hostnames.
pub const WHY_RULES: usize = 12;
pub const WHY_CONDITIONS: usize = 64;
/// Records that one answer of `weft why` shows.
pub const WHY_RECORDS: usize = 10;
/// Records in one answer when nobody says how many.
pub const ADMIN_RECORDS_DEFAULT: usize = 100;
/// The self-test of one enrolment, process start included.
pub const SELF_TEST: Duration = Duration::from_secs(2);
/// How often the kernel's state is compared with the wanted one even when nothing seems to have changed.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// An agent whose successor serves is asked to end within seconds. When nobody asks, as after an upgrade that was called
/// back, it ends by itself, is started again and takes over in its turn.
pub const STAY_AFTER_HANDOVER: Duration = Duration::from_mins(2);
/// Listeners in one hand-over: two for each worker of each pod, for the 250 pods that a node may have.
pub const HANDOVER_LISTENERS: usize = 2 * 16 * 256;
/// One hand-over message: names of a listener.
pub const HANDOVER_MESSAGE: usize = 1024;
/// Commands that wait for the thread that keeps the kernel side: one wake and one hand-over are enough.
pub const KEEPER_COMMANDS: usize = 4;
/// How often the status that people ask for is put together.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Scrapers that may wait at once.
pub const METRICS_BACKLOG: u32 = 16;
/// How soon the kernel side looks again while a pod waits for its certificate alone.
pub const CERTIFICATE_POLL: Duration = Duration::from_millis(50);
/// A pod that leaves the mesh still answers mesh connections this long: other nodes learn of it at the same moment.
pub const DISENROLMENT_GRACE: Duration = Duration::from_secs(3);
/// Kernel events logged at one look: the kernel side bounds their rate, this bounds a look's time.
pub const EVENTS_PER_LOOK: usize = 256;
/// How often pods are looked for that no controller tells of, where they are to be refused: a container starts some tenths of a
/// second after its pod's sandbox.
pub const NEWCOMER_POLL: Duration = Duration::from_millis(100);
/// Before its hooks replace those that are there, an agent waits this long for the certificates of all its pods.
pub const ATTACH_PATIENCE: Duration = Duration::from_secs(4);
/// A pod that has waited this long for its first certificate follows its failure mode until it has one.
pub const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(1);
/// How often the open ports of a pod are compared with what the kernel side has recorded.
pub const RESEED_INTERVAL: Duration = Duration::from_secs(30);
/// Time of one look that self-tests may take: a pod that gets no CPU must not hold up the others' enrolment.
pub const PROOF_SHARE: Duration = Duration::from_millis(300);
/// While no kubelet is found, `/proc` is looked through this often (some milliseconds each time).
pub const KUBELET_SEARCH: Duration = Duration::from_secs(1);
/// The same while one is known: a second one that comes up is noticed by then.
pub const KUBELET_SECOND_SEARCH: Duration = Duration::from_secs(5);
/// A kubelet whose sockets the kernel does not let us watch: each try loads programs.
pub const KUBELET_RETRY: Duration = Duration::from_secs(30);
/// Parents of a process up to kubelet: its helpers start some of their own.
pub const PROCESS_ANCESTORS: usize = 16;
/// A failed self-test is repeated after this.
pub const PROOF_RETRY: Duration = Duration::from_secs(10);
