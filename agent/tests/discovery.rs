//! An agent and a controller over loopback: resume, nacks, reconnects, the snapshot on disk, reports.

#![expect(clippy::expect_used, reason = "the helpers of a test may panic")]
#![expect(clippy::disallowed_methods, reason = "each test owns its tasks and joins or aborts them")]

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use weft_agent::discovery::{Enrolled, Link, Reporter, Snapshots, State};
use weft_proto::resource::{SETTINGS, shard, shards, snapshot_version, versioned, workload};
use weft_proto::v1::agent_report::Kind;
use weft_proto::v1::discovery_request::Kind as Asked;
use weft_proto::v1::discovery_server::{Discovery, DiscoveryServer};
use weft_proto::v1::report_server::{Report, ReportServer};
use weft_proto::v1::{self, resource::Body};

/// Nothing here takes longer than a moment; a machine under load may.
const PATIENCE: Duration = Duration::from_secs(20);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One Discovery stream, in the test's hands.
struct Session {
    hello: v1::Hello,
    requests: Streaming<v1::DiscoveryRequest>,
    responses: mpsc::Sender<Result<v1::DiscoveryResponse, Status>>,
}

/// One Report stream, in the test's hands.
struct Ear {
    reports: Streaming<v1::AgentReport>,
    responses: mpsc::Sender<Result<v1::ReportResponse, Status>>,
}

struct Protocol {
    sessions: mpsc::Sender<Session>,
    ears: mpsc::Sender<Ear>,
}

#[tonic::async_trait]
impl Discovery for Protocol {
    type StreamStream = Responses<v1::DiscoveryResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Asked::Hello(hello)) = requests.message().await?.and_then(|request| request.kind) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (responses, receiver) = mpsc::channel(16);
        let _ = self.sessions.send(Session { hello, requests, responses }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl Report for Protocol {
    type StreamStream = Responses<v1::ReportResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::AgentReport>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (responses, receiver) = mpsc::channel(16);
        let _ = self.ears.send(Ear { reports: request.into_inner(), responses }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// A controller on a loopback port; it stands as long as this value.
struct Controller {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    ears: mpsc::Receiver<Ear>,
    serving: JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Controller {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener)
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let ((sessions, next_session), (ears, next_ear)) = (mpsc::channel(16), mpsc::channel(16));
        let discovery = Protocol { sessions: sessions.clone(), ears: ears.clone() };
        let report = Protocol { sessions, ears };
        let serving = tokio::spawn(async move {
            let server =
                Server::builder().add_service(DiscoveryServer::new(discovery)).add_service(ReportServer::new(report));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serves");
        });
        Self { address, sessions: next_session, ears: next_ear, serving }
    }

    fn channel(&self) -> Channel {
        channel(self.address)
    }

    async fn session(&mut self) -> Session {
        within(self.sessions.recv()).await.expect("a session")
    }

    async fn ear(&mut self) -> Ear {
        within(self.ears.recv()).await.expect("an ear")
    }
}

impl Session {
    async fn send(&self, upserts: Vec<v1::Resource>, removals: &[&str], complete: bool) {
        let upserts = upserts.into_iter().map(|resource| resource.encode_to_vec().into()).collect();
        let removals = removals.iter().map(ToString::to_string).collect();
        self.say(v1::DiscoveryResponse { upserts, removals, complete, ..v1::DiscoveryResponse::default() }).await;
    }

    async fn say(&self, response: v1::DiscoveryResponse) {
        self.responses.send(Ok(response)).await.expect("heard");
    }

    /// What the agent names of these shards.
    async fn asks(&mut self, unclear: &[u8]) -> Vec<v1::ResourceVersion> {
        self.say(v1::DiscoveryResponse { unclear: unclear.to_vec(), ..v1::DiscoveryResponse::default() }).await;
        let answer = within(self.requests.message()).await.expect("a stream").expect("an answer");
        let Some(Asked::Held(held)) = answer.kind else { panic!("{answer:?}") };
        held.resources
    }

    /// What the agent names when it is asked for everything, which is also what its hello was about.
    async fn held(&mut self) -> Vec<String> {
        let held = self.asks(&(0..=u8::MAX).collect::<Vec<_>>()).await;
        assert_eq!(self.hello.shards, shards(held.iter().map(|held| (held.name.as_str(), held.version.as_slice()))));
        held.into_iter().map(|held| held.name).collect()
    }
}

impl Ear {
    /// The next report that `wanted` takes.
    async fn hears<T>(&mut self, wanted: impl Fn(Kind) -> Option<T>) -> T {
        let search = async {
            loop {
                let report = self.reports.message().await.expect("a stream").expect("a report");
                if let Some(found) = report.kind.and_then(&wanted) {
                    return found;
                }
            }
        };
        within(search).await
    }

    async fn hears_acknowledgement(&mut self) -> v1::Acknowledgement {
        self.hears(|kind| match kind {
            Kind::Acknowledgement(said) => Some(said),
            Kind::Enrolled(said) => panic!("{said:?} before anything is known"),
            Kind::Heartbeat(_) => None,
        })
        .await
    }

    async fn hears_enrolled(&mut self) -> v1::Enrolled {
        self.hears(|kind| if let Kind::Enrolled(said) = kind { Some(said) } else { None }).await
    }
}

/// A node's control side, without kernel and workers.
struct Agent {
    snapshots: Snapshots,
    link: watch::Receiver<Link>,
    channels: watch::Sender<Option<Channel>>,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

impl Agent {
    fn start(state_directory: &Path, channel: Option<Channel>) -> Self {
        let (state, snapshots) = State::open("node-a".parse().expect("a name"), state_directory);
        let (channels, following) = watch::channel(channel);
        let stop = CancellationToken::new();
        let link = state.link();
        let following = tokio::spawn(state.follow(following, stop.clone()));
        Self { snapshots, link, channels, stop, following }
    }

    /// Waits until the snapshot in force knows exactly these workloads.
    async fn knows(&self, uids: &[&str]) {
        let mut applied = self.snapshots.applied();
        let known = || {
            let snapshot = self.snapshots.current();
            let mut known: Vec<_> = snapshot.workloads.keys().map(|uid| uid.as_str().to_owned()).collect();
            known.sort();
            known == uids && snapshot.version.is_known()
        };
        within(applied.wait_for(|_| known())).await.expect("a publisher");
    }

    async fn is_linked(&mut self, wanted: impl Fn(&Link) -> bool) -> Link {
        within(self.link.wait_for(|link| wanted(link))).await.expect("a link").clone()
    }

    /// A wished-for end: the newest snapshot is on disk after it.
    async fn stop(self) {
        self.stop.cancel();
        within(self.following).await.expect("an end");
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

fn settings() -> v1::Resource {
    let body = v1::Settings { trust_domain: "cluster.local".to_owned(), lease_ms: 400, ..v1::Settings::default() };
    versioned(SETTINGS.to_owned(), vec![], Body::Settings(body))
}

fn pod(uid: &str, requires: &[&str]) -> v1::Resource {
    let row = v1::Workload {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: uid.to_owned(),
        service_account: "web".to_owned(),
        mtls: v1::MtlsMode::Permissive.into(),
        ..v1::Workload::default()
    };
    versioned(workload(uid), requires.iter().map(ToString::to_string).collect(), Body::Workload(row))
}

#[tokio::test]
async fn a_broken_stream_is_resumed_from_what_is_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), Some(controller.channel()));
    let mut first = controller.session().await;
    assert_eq!(first.held().await, [""; 0]);
    assert_eq!(first.hello.protocol_version, weft_proto::PROTOCOL_VERSION);
    first.send(vec![settings(), pod("a", &[])], &[], false).await;
    first.send(vec![pod("b", &[])], &[], true).await;
    agent.knows(&["a", "b"]).await;
    drop(first);

    let mut second = controller.session().await;
    assert_eq!(second.held().await, ["settings", "workload/a", "workload/b"]);
    let of_one = second.asks(&[shard("workload/a")]).await;
    assert_eq!(of_one, [v1::ResourceVersion { name: workload("a"), version: pod("a", &[]).version }]);
    second.send(vec![pod("c", &[])], &["workload/a"], true).await;
    agent.knows(&["b", "c"]).await;
    let all = [settings(), pod("b", &[]), pod("c", &[])];
    let version = snapshot_version(all.iter().map(|resource| (resource.name.as_str(), resource.version.as_slice())));
    assert_eq!(*agent.snapshots.current().version.0, version);
    agent.stop().await;
}

#[tokio::test]
async fn half_a_change_is_no_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), Some(controller.channel()));
    let first = controller.session().await;
    first.send(vec![settings(), pod("a", &[])], &[], true).await;
    agent.knows(&["a"]).await;
    first.send(vec![pod("b", &[])], &["workload/a"], false).await;
    drop(first);
    let mut second = controller.session().await;
    assert_eq!(second.held().await, ["settings", "workload/a"]);
    agent.knows(&["a"]).await;
    // The next stream begins with a change of its own.
    second.send(vec![pod("c", &[])], &[], true).await;
    agent.knows(&["a", "c"]).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_goes_on_with_the_snapshot_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), Some(controller.channel()));
    let session = controller.session().await;
    session.send(vec![settings(), pod("a", &[])], &[], true).await;
    agent.knows(&["a"]).await;
    session.send(vec![pod("b", &[])], &[], true).await;
    agent.knows(&["a", "b"]).await;
    agent.stop().await;
    let address = controller.address;
    drop((session, controller));

    let mut again = Agent::start(folder.path(), Some(channel(address)));
    again.knows(&["a", "b"]).await;
    let link = again.is_linked(|link| link.last_error.is_some()).await;
    assert!(!link.connected && link.since.is_some());
    again.knows(&["a", "b"]).await;
    assert!(!again.snapshots.applied().borrow().confirmed);

    let mut controller = Controller::on(TcpListener::bind(address).await.expect("the same port"));
    let mut session = controller.session().await;
    assert_eq!(session.held().await, ["settings", "workload/a", "workload/b"]);
    again.is_linked(|link| link.connected).await;
    session.send(vec![], &[], true).await;
    let mut applied = again.snapshots.applied();
    within(applied.wait_for(|applied| applied.confirmed)).await.expect("a publisher");
    session.send(vec![], &["workload/b"], true).await;
    again.knows(&["a"]).await;
    again.stop().await;
}

#[tokio::test]
async fn with_nothing_at_all_an_agent_waits_for_its_first_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let agent = Agent::start(folder.path(), None);
    assert!(!agent.snapshots.current().version.is_known());
    assert!(agent.snapshots.current().enrolments.is_empty());
    let mut controller = Controller::start().await;
    agent.channels.send_replace(Some(controller.channel()));
    // A mesh without anything is known, too.
    controller.session().await.send(vec![], &[], true).await;
    agent.knows(&[]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_asked_for_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("snapshot"), b"weftsnap and then something else").expect("written");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), Some(controller.channel()));
    assert!(!agent.snapshots.current().version.is_known());
    let mut session = controller.session().await;
    assert_eq!(session.held().await, [""; 0]);
    session.send(vec![settings(), pod("a", &[])], &[], true).await;
    agent.knows(&["a"]).await;
    agent.stop().await;
    Agent::start(folder.path(), None).knows(&["a"]).await;
}

#[tokio::test]
async fn a_controller_hears_heartbeats_enrolments_acknowledgements_and_nacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), Some(controller.channel()));
    let (enrolled, told) = watch::channel(Enrolled::default());
    let reporter = Reporter::new(agent.snapshots.clone(), told);
    let reporting = tokio::spawn(reporter.run(agent.channels.subscribe(), agent.stop.clone()));
    let session = controller.session().await;
    let mut ear = controller.ear().await;
    ear.hears(|kind| if let Kind::Heartbeat(said) = kind { Some(said) } else { None }).await;
    session.send(vec![settings(), pod("a", &[]), pod("b", &["telepathy"])], &[], true).await;
    let acknowledgement = ear.hears_acknowledgement().await;
    agent.knows(&["a"]).await;
    assert_eq!(acknowledgement.snapshot, *agent.snapshots.current().version.0);
    // Nothing was said of enrolments so far: a controller must not forget what a node's last agent said.
    let nacks: Vec<_> = acknowledgement.nacks.iter().map(|nack| (&*nack.resource, &nack.version)).collect();
    assert_eq!(nacks, [("workload/b", &pod("b", &["telepathy"]).version)]);
    assert!(acknowledgement.nacks[0].reason.contains("telepathy"));
    // What can be read now is nacked no longer.
    session.send(vec![pod("b", &[])], &[], true).await;
    assert_eq!(ear.hears_acknowledgement().await.nacks, []);

    let failed = vec![("b".parse().expect("a uid"), "its netns is gone".to_owned())];
    enrolled.send_replace(Enrolled { serving: vec!["a".parse().expect("a uid")], failed });
    let said = ear.hears_enrolled().await;
    assert_eq!(
        (said.workloads.as_slice(), said.failed[0].reason.as_str()),
        (&["a".to_owned()][..], "its netns is gone")
    );

    drop(ear);
    let mut again = controller.ear().await;
    // A replica that knows nothing is told everything.
    assert_eq!(again.hears_enrolled().await.workloads, ["a"]);
    assert_eq!(again.hears_acknowledgement().await.snapshot, *agent.snapshots.current().version.0);
    agent.stop().await;
    within(reporting).await.expect("an end");
}

#[tokio::test]
async fn the_controller_sets_the_pace_of_heartbeats() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let agent = Agent::start(folder.path(), None);
    let (_enrolled, told) = watch::channel(Enrolled::default());
    let reporter = Reporter::new(agent.snapshots.clone(), told);
    let reporting = tokio::spawn(reporter.run(watch::channel(Some(controller.channel())).1, agent.stop.clone()));
    let ear = controller.ear().await;
    ear.responses.send(Ok(v1::ReportResponse { lease_ms: 600 })).await.expect("heard");
    let begun = std::time::Instant::now();
    let beats = ear.reports.filter(|report| matches!(report, Ok(v1::AgentReport { kind: Some(Kind::Heartbeat(_)) })));
    // Of a lease of 10 s, the default, these would take 20 s.
    let eight: Vec<_> = within(beats.take(8).collect()).await;
    assert_eq!(eight.len(), 8);
    assert!(begun.elapsed() < Duration::from_secs(10));
    agent.stop().await;
    within(reporting).await.expect("an end");
}

#[tokio::test]
async fn a_refusal_is_shown_as_the_last_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut controller = Controller::start().await;
    let mut agent = Agent::start(folder.path(), Some(controller.channel()));
    let session = controller.session().await;
    agent.is_linked(|link| link.connected).await;
    session.responses.send(Err(Status::permission_denied("node-a is not a member"))).await.expect("heard");
    let link = agent.is_linked(|link| !link.connected).await;
    assert_eq!(link.last_error.as_deref(), Some("node-a is not a member"));
    agent.stop().await;
}
