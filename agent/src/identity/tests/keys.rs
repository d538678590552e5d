//! What a restart of the agent keeps, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use super::*;

/// A folder in memory: `/dev/shm` is a tmpfs on every Linux that these tests run on.
fn in_memory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("weft-identity-").tempdir_in("/dev/shm").unwrap()
}

fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder.path().join("keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files
}

#[tokio::test]
async fn a_restart_without_a_controller_goes_on_with_the_kept_keys() {
    let run_dir = in_memory();
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", WEB)], trusting(&rules));
    until("it is there", || agent.generation("a") == 1).await;
    let chain = agent.credentials.of(&uid("a")).unwrap().not_after;
    agent.stop().await;
    controller.stop().await;
    assert_eq!(files(&run_dir).len(), 2, "the node's and the workload's");
    for file in files(&run_dir) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }

    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", WEB)], trusting(&rules));
    until("the kept one serves", || agent.generation("a") == 1).await;
    assert_eq!(agent.credentials.of(&uid("a")).unwrap().not_after, chain);
    assert!(agent.membership.channel().await.is_some());
    assert_eq!(rules.issues.load(Ordering::Relaxed), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_workload_that_is_gone_leaves_no_key_behind() {
    let run_dir = in_memory();
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", WEB), ("b", WEB)], trusting(&rules));
    until("both are kept", || agent.generation("b") == 1 && files(&run_dir).len() == 3).await;
    agent.want(&[("b", WEB)], trusting(&rules));
    until("one is left beside the node's", || files(&run_dir).len() == 2).await;
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn no_key_is_written_to_a_disk() {
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    assert!(!KeyFolder::open(disk.path()).is_kept(), "the sources of this crate are on a tmpfs");
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(disk.path()));
    agent.want(&[("a", WEB)], trusting(&rules));
    until("it is there", || agent.generation("a") == 1).await;
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_kept_key_that_cannot_be_read_is_replaced() {
    let run_dir = in_memory();
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let keys = KeyFolder::open(run_dir.path());
    let agent = node.agent(keys.clone());
    agent.want(&[("a", WEB)], trusting(&rules));
    until("both are kept", || agent.generation("a") == 1 && files(&run_dir).len() == 2).await;
    agent.stop().await;
    for file in files(&run_dir) {
        fs::write(file, "-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n").unwrap();
    }
    let agent = node.agent(keys);
    agent.want(&[("a", WEB)], trusting(&rules));
    until("it is there again", || agent.generation("a") == 1).await;
    assert_eq!((rules.joins.load(Ordering::Relaxed), rules.issues.load(Ordering::Relaxed)), (2, 2));
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_key_of_another_identity_is_not_used() {
    let run_dir = in_memory();
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", WEB)], trusting(&rules));
    until("it is kept", || agent.generation("a") == 1 && files(&run_dir).len() == 2).await;
    agent.stop().await;
    *rules.identity.lock().unwrap() = DB.to_owned();
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", DB)], trusting(&rules));
    until("it is another", || agent.credentials.of(&uid("a")).is_some()).await;
    assert_eq!(agent.credentials.of(&uid("a")).unwrap().identity, identity(DB));
    assert_eq!(rules.issues.load(Ordering::Relaxed), 2);
    agent.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_node_joins_anew_where_the_mesh_was_made_anew() {
    let run_dir = in_memory();
    let rules = Rules::new();
    let node = Node::new(&rules).await;
    let controller = Controller::start(&rules, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    until("the node is a member", || agent.membership.current().is_some() && files(&run_dir).len() == 1).await;
    agent.stop().await;
    controller.stop().await;

    let anew = Rules::new();
    fs::write(node.file("ca.pem"), anew.authority.root_pem()).unwrap();
    let controller = Controller::start(&anew, node.address, "weft-controller").await;
    let agent = node.agent(KeyFolder::open(run_dir.path()));
    agent.want(&[("a", WEB)], trusting(&anew));
    until("the workload has a certificate of the new mesh", || agent.generation("a") == 1).await;
    assert_eq!(anew.joins.load(Ordering::Relaxed), 1);
    agent.stop().await;
    controller.stop().await;
}
