//! An agent's certificates against a controller that comes, goes, refuses and errs.

mod controller;
mod keys;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_proto::names::WorkloadUid;

use self::controller::{Controller, Rules, TOKEN};
use super::{CertificateFacts, Credentials, Join, JoinSettings, KeyFolder, Membership, Upkeep};
use crate::tls::fixtures::{Authority, DB, HOUR, WEB, identity, trust, uid};
use crate::tls::{Resumption, Trust};

/// Waits for what an agent does in its own time; long enough for a loaded machine.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waited).await.is_ok(), "in vain: {what}");
}

/// A node's folder with a CA file and a token, and an address for its controller.
struct Node {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Node {
    async fn new(rules: &Rules) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), rules.authority.root_pem()).unwrap();
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        // A port that was free a moment ago: the controller is to be absent at first and to come back.
        let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { folder, address }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&self, keys: KeyFolder) -> Agent {
        let stop = CancellationToken::new();
        let credentials = Credentials::default();
        let settings = JoinSettings {
            node: "node-a".parse().unwrap(),
            controller: self.address.to_string(),
            ca_file: self.file("ca.pem"),
            join_token_file: Some(self.file("token")),
            keys: keys.clone(),
        };
        let (join, membership) = Join::new(settings, &credentials);
        let upkeep = Upkeep::new(credentials.clone(), &membership, keys, Resumption::On);
        let mut tasks = JoinSet::new();
        tasks.spawn(join.run(stop.clone()));
        tasks.spawn(upkeep.run(stop.clone()));
        Agent { credentials, membership, stop, tasks }
    }
}

/// The identity part of an agent.
struct Agent {
    credentials: Credentials,
    membership: Membership,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Agent {
    fn want(&self, workloads: &[(&str, &str)], trust: Trust) {
        let workloads = workloads.iter().map(|(workload, name)| (uid(workload), identity(name))).collect();
        self.credentials.want(workloads, trust);
    }

    fn generation(&self, workload: &str) -> u64 {
        self.credentials.of(&uid(workload)).map_or(0, |credential| credential.generation)
    }

    fn facts(&self, workload: &str) -> Option<CertificateFacts> {
        let workload: Option<WorkloadUid> = Some(uid(workload));
        self.credentials.facts().iter().find(|facts| facts.workload == workload).cloned()
    }

    fn error(&self, workload: &str) -> String {
        self.facts(workload).and_then(|facts| facts.last_error).unwrap_or_default()
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.tasks.join_all()).await.expect("a task did not end");
    }
}

fn trusting(rules: &Rules) -> Trust {
    trust(&[&rules.authority])
}

/// A node and its controller, and its agent, which has a certificate for one pod.
async fn served(rules: &Arc<Rules>) -> (Node, Controller, Agent) {
    let node = Node::new(rules).await;
    let controller = Controller::start(rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB)], trusting(rules));
    until("it is there", || agent.generation("a") == 1).await;
    (node, controller, agent)
}

#[tokio::test]
async fn a_node_joins_and_its_workloads_get_certificates() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB), ("b", WEB)], trusting(&rules));
    until("both have one", || agent.generation("a") == 1 && agent.generation("b") == 1).await;
    let credential = agent.credentials.of(&uid("a")).unwrap();
    assert_eq!(credential.identity, identity(WEB));
    assert!(agent.facts("a").unwrap().is_valid(std::time::SystemTime::now()));
    assert_eq!(agent.membership.facts().identity, "spiffe://cluster.local/weft/node/node-a");
    assert_eq!(rules.joins.load(Ordering::Relaxed), 1);
    assert!(agent.credentials.of(&uid("c")).is_none());
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_absent_at_first_is_waited_for() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let ca = std::fs::read(node.file("ca.pem")).unwrap();
    std::fs::remove_file(node.file("ca.pem")).unwrap();
    let agent = node.agent(KeyFolder::none());
    let node_error = || agent.membership.facts().last_error.clone().unwrap_or_default();
    until("the missing file is named", || node_error().contains("ca.pem")).await;
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the workload tells why it waits", || agent.error("a").contains("the node has no certificate")).await;
    std::fs::write(node.file("ca.pem"), ca).unwrap();
    until("the absent controller is named", || node_error().contains("refused")).await;
    assert!(agent.membership.current().is_none());
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    until("the workload has a certificate", || agent.generation("a") == 1).await;
    assert_eq!((agent.error("a"), node_error()), (String::new(), String::new()));
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_false_controller_is_not_believed() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let error = |agent: &Agent| agent.membership.facts().last_error.clone().unwrap_or_default();

    let controller = Controller::start(&rules, node.address, "another-name").await;
    let agent = node.agent(KeyFolder::none());
    until("another name is refused", || error(&agent).contains("not valid for name")).await;
    controller.stop().await;

    let stranger = Rules::new();
    let controller = Controller::start(&stranger, node.address, "weft-controller").await;
    let is_refused =
        |error: String| error.contains("invalid peer certificate") && !error.contains("not valid for name");
    until("another root is refused", || is_refused(error(&agent))).await;
    assert_eq!(stranger.joins.load(Ordering::Relaxed), 0, "the token went to a stranger");
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_before_their_end() {
    let rules = Rules::new();
    // A third of the life is over when it is signed: the renewal is due after the shortest pause.
    *rules.before.lock().unwrap() = HOUR;
    *rules.after.lock().unwrap() = HOUR;
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the first is there", || agent.generation("a") == 1).await;
    let first = agent.credentials.of(&uid("a")).unwrap();
    until("it was renewed", || agent.generation("a") >= 2).await;
    let second = agent.credentials.of(&uid("a")).unwrap();
    assert!(!Arc::ptr_eq(&first.client, &second.client), "a renewal must begin with new sessions");
    until("the node's too", || rules.renewals.load(Ordering::Relaxed) >= 1).await;
    assert_eq!(rules.joins.load(Ordering::Relaxed), 1, "the token is for the first time only");
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_certificate_serving() {
    let rules = Rules::new();
    *rules.before.lock().unwrap() = HOUR;
    *rules.after.lock().unwrap() = HOUR;
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the first is there", || agent.generation("a") >= 1).await;
    rules.refuses.store(true, Ordering::Relaxed);
    until("the refusal is told", || agent.error("a").contains("not today")).await;
    let held = agent.credentials.of(&uid("a")).expect("the old one is gone");
    assert!(held.check_time(std::time::SystemTime::now()).is_ok());
    let before = held.generation;
    controller.stop().await;
    rules.refuses.store(false, Ordering::Relaxed);
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    until("it is renewed once the controller agrees", || agent.generation("a") > before).await;
    assert_eq!(agent.error("a"), "");
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_refused() {
    let rules = Rules::new();
    *rules.identity.lock().unwrap() = DB.to_owned();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the error names both", || agent.error("a").contains(DB) && agent.error("a").contains(WEB)).await;
    assert!(agent.credentials.of(&uid("a")).is_none());
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_workload_that_is_gone_or_another_loses_its_credential() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    agent.want(&[("a", WEB), ("b", WEB)], trusting(&rules));
    until("both are there", || agent.generation("a") == 1 && agent.generation("b") == 1).await;
    *rules.identity.lock().unwrap() = DB.to_owned();
    agent.want(&[("b", DB)], trusting(&rules));
    let proves = |workload: &str| agent.credentials.of(&uid(workload)).map(|credential| credential.identity.clone());
    until("a has none", || proves("a").is_none()).await;
    until("b is another", || proves("b") == Some(identity(DB))).await;
    assert!(agent.facts("a").is_none());
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn another_trust_bundle_makes_new_credentials_of_the_same_certificates() {
    let rules = Rules::new();
    let (_node, controller, agent) = served(&rules).await;
    let first = agent.credentials.of(&uid("a")).unwrap();
    agent.want(&[("a", WEB)], trusting(&rules));
    agent.want(&[("a", WEB)], trust(&[&rules.authority, &Authority::new()]));
    until("it was remade", || agent.generation("a") == 2).await;
    let second = agent.credentials.of(&uid("a")).unwrap();
    assert!(!Arc::ptr_eq(&first.server, &second.server), "sessions of the old bundle must end");
    assert_eq!(rules.issues.load(Ordering::Relaxed), 1);
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn what_another_root_has_signed_is_renewed_as_soon_as_one_takes_its_place() {
    let rules = Rules::new();
    let (_node, controller, agent) = served(&rules).await;
    let next = Authority::new();
    agent.want(&[("a", WEB)], trust(&[&rules.authority, &next]));
    until("it believes both", || agent.generation("a") == 2).await;
    assert_eq!(rules.issues.load(Ordering::Relaxed), 1, "a root that does not sign yet is no reason");
    agent.want(&[("a", WEB)], trust(&[&next, &rules.authority]));
    until("the workload's is new", || rules.issues.load(Ordering::Relaxed) >= 2).await;
    until("the node's is new", || rules.renewals.load(Ordering::Relaxed) >= 1).await;
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_node_that_was_cut_off_while_the_root_was_replaced_comes_back_by_itself() {
    let rules = Rules::new();
    let (node, controller, agent) = served(&rules).await;
    controller.stop().await;

    // The controller's proof is another, and it takes nothing that the former root has signed.
    let later = Rules::new();
    let controller = Controller::start(&later, node.address, "weft-controller").await;
    std::fs::write(node.file("ca.pem"), later.authority.root_pem()).unwrap();
    until("it joins by its token", || later.joins.load(Ordering::Relaxed) == 1).await;
    agent.want(&[("a", WEB)], trusting(&later));
    until("its workload has a certificate", || later.issues.load(Ordering::Relaxed) >= 1).await;
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn the_tasks_end_while_the_controller_says_nothing() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::none());
    until("the node is a member", || agent.membership.current().is_some()).await;
    rules.is_silent.store(true, Ordering::Relaxed);
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the request waits", || rules.issues.load(Ordering::Relaxed) == 1).await;
    agent.stop().await;
    controller.stop().await;
}
