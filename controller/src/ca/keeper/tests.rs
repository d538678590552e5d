//! What a root leaves behind, who is told when that is lost, and one root after another; on a real API server in
//! `tests/control`.

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use weft_proto::v1;

use super::*;
use crate::api::stage::{self, Objects};
use crate::ca::{self, Lives};
use crate::leader;
use crate::mesh::{Maker, State};
use crate::pause;
use crate::source::{Directory, Reading};
use crate::translate::Facts;

const SECRETS: &str = "/api/v1/namespaces/weft-system/secrets/weft-ca";
const TRUSTS: &str = "/api/v1/namespaces/weft-system/configmaps/weft-trust";
const MESHES: &str = "/apis/weft.dev/v1alpha1/meshconfigs/default";

fn cluster() -> (Objects, kube::Client) {
    let objects = Objects::default();
    let mesh = json!({"apiVersion": weft_crd::API_VERSION, "kind": "MeshConfig", "metadata": {"name": "default"}});
    objects.locked().insert(MESHES.to_owned(), mesh);
    let answering = objects.clone();
    let client = stage::client(move |method, path, sent| std::future::ready(answering.answer(&method, &path, sent)));
    (objects, client)
}

const LIVES: Lives = Lives { workload: limits::WORKLOAD_CERTIFICATE_LIFE, node: limits::NODE_CERTIFICATE_LIFE };

type Begun = (Arc<Authority>, Keeper);

async fn begin(client: &kube::Client, lives: Lives, troubles: &Troubles) -> anyhow::Result<Begun> {
    let (namespace, trust_domain) = ("weft-system".parse().unwrap(), "cluster.local".parse().unwrap());
    Box::pin(ca::open_secret(client.clone(), &namespace, trust_domain, lives, troubles)).await
}

fn change(objects: &Objects, path: &str, change: impl FnOnce(&mut Json)) {
    change(objects.locked().get_mut(path).unwrap());
}

#[tokio::test]
async fn a_trace_without_a_certificate_is_a_trace() {
    let (objects, client) = cluster();
    begin(&client, LIVES, &Troubles::default()).await.unwrap();
    assert!(
        objects.locked().contains_key(SECRETS) && objects.locked()[MESHES]["status"]["rootFingerprint"].is_string()
    );
    // Everything else that says that a root existed is gone.
    objects.locked().remove(SECRETS);
    change(&objects, MESHES, |mesh| mesh["status"] = Json::Null);
    change(&objects, TRUSTS, |map| map["data"] = json!({"other": "text"}));
    let refused = begin(&client, LIVES, &Troubles::default()).await.err().unwrap().to_string();
    assert!(refused.contains("the ConfigMap weft-system/weft-trust has no ca.pem"), "{refused}");
    assert!(!objects.locked().contains_key(SECRETS), "another root was made");
}

/// What the keeper follows, without an object in it.
struct Stage {
    mesh: Mesh,
    maker: Maker,
    readings: watch::Sender<Arc<Reading>>,
    standing: watch::Sender<Standing>,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(authority: &Authority, standing: Standing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts {
            trust_domain: authority.trust_domain().clone(),
            lease: std::time::Duration::from_millis(1),
            roots_der: Vec::new(),
            agents: None,
            inherited: None,
        };
        let (readings, reading) = watch::channel(Arc::<Reading>::default());
        let (standing, stands) = watch::channel(standing);
        let followed = (authority.changes(), stands);
        let maker = Maker::new(facts, reading, None, folder.path(), (State::Kept, followed)).unwrap();
        Self { mesh: maker.mesh(), maker, readings, standing, folder }
    }

    /// A mesh whose roots are to be made after that.
    fn want(&self, made_after: &str) {
        let text = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec: {{rootMadeAfter: {made_after:?}}}\n"
        );
        std::fs::write(self.folder.path().join("mesh.yaml"), text).unwrap();
        let mut directory = Directory::impatient(self.folder.path(), self.folder.path().join("kept.json"));
        let reading = directory.read(&BTreeSet::new());
        assert!(reading.objects.mesh_config.is_some(), "{:?}", reading.defects);
        self.readings.send_replace(Arc::new(reading));
    }
}

/// Waits until the keeper has looked so often that what it says is of now.
async fn told_of(
    (authority, keeper): Begun,
    troubles: Troubles,
    objects: &Objects,
    changes: &[(&str, Json)],
) -> Vec<String> {
    let (stop, stage) = (CancellationToken::new(), Stage::new(&authority, Standing::default()));
    let mut running = JoinSet::new();
    running.spawn(keeper.run(stage.mesh.clone(), stage.standing.subscribe(), stop.clone()));
    let mut told = Vec::new();
    for (path, object) in changes {
        if object.is_null() {
            objects.locked().remove(*path);
        } else {
            objects.locked().insert((*path).to_owned(), object.clone());
        }
        let looked = tokio::time::Instant::now() + limits::ROOT_INTERVAL * 2;
        pause::until(Some(looked.into_std())).await;
        told.push(troubles.all().iter().map(ToString::to_string).collect());
    }
    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
    told
}

#[tokio::test(start_paused = true)]
async fn whatever_says_that_agents_trust_another_root_is_told_while_it_lasts() {
    let (objects, client) = cluster();
    let troubles = Troubles::default();
    let begun = begin(&client, LIVES, &troubles).await.unwrap();
    let (strangers, elsewhere) = cluster();
    begin(&elsewhere, LIVES, &Troubles::default()).await.unwrap();
    let (good, other) = (objects.locked().clone(), strangers.locked().clone());
    let mut fingerprint = good[MESHES].clone();
    fingerprint["status"]["rootFingerprint"] = json!("0".repeat(64));
    let told = told_of(
        begun,
        troubles,
        &objects,
        &[
            (MESHES, good[MESHES].clone()),
            (MESHES, fingerprint),
            (MESHES, good[MESHES].clone()),
            (TRUSTS, other[TRUSTS].clone()),
            (TRUSTS, Json::Null),
            (SECRETS, other[SECRETS].clone()),
            (SECRETS, Json::Null),
            (SECRETS, good[SECRETS].clone()),
        ],
    )
    .await;
    let wanted = [
        "",
        "the status of MeshConfig default says that agents trust 000",
        "",
        "the ConfigMap weft-trust holds another root",
        "",
        "but the status of MeshConfig default says that agents trust",
        "the Secret weft-system/weft-ca is missing",
        "",
    ];
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{told:?} instead of {wanted:?}");
    }
    assert_eq!(objects.locked()[TRUSTS]["data"], good[TRUSTS]["data"], "a lost trace was not made again");
}

/// The certificates that agents read, and the phase in the mesh's status.
fn published(objects: &Objects) -> (usize, Json) {
    let all = objects.locked();
    let roots = all[TRUSTS]["data"]["ca.pem"].as_str().unwrap_or_default().matches("BEGIN CERTIFICATE").count();
    (roots, all[MESHES]["status"]["rootRotation"]["phase"].clone())
}

/// An hour ago such a root was not made yet, and in a second it was.
fn soon() -> String {
    (jiff::Timestamp::now() + std::time::Duration::from_secs(1)).to_string()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_mins(1), waited).await.is_ok(), "in vain: {what}");
}

#[tokio::test]
async fn a_root_that_is_to_be_younger_is_replaced_by_whichever_controller_leads() {
    let (objects, client) = cluster();
    let second = std::time::Duration::from_secs(1);
    let lives = Lives { workload: second, node: second };
    let leaf = |authority: &Authority| authority.roots().issuer().fingerprint.clone();
    let (wanted, mut signers) = (soon(), Vec::new());
    // Each controller ends after one phase, and the next one goes on.
    for phase in ["TrustNew", "Reissue", ""] {
        let troubles = Troubles::default();
        let (authority, keeper) = begin(&client, lives, &troubles).await.unwrap();
        signers.push(leaf(&authority));
        let (stop, stage) = (CancellationToken::new(), Stage::new(&authority, leader::ALONE));
        stage.want(&wanted);
        let mut running = JoinSet::new();
        running.spawn(keeper.run(stage.mesh.clone(), stage.standing.subscribe(), stop.clone()));
        running.spawn(stage.maker.run(stop.clone()));
        let done = || match phase {
            "" => published(&objects) == (1, Json::Null) && leaf(&authority) != signers[0],
            phase => published(&objects) == (2, json!(phase)),
        };
        until(phase, || done() || !troubles.all().is_empty()).await;
        assert_eq!(troubles.all(), [], "{phase:?}");
        signers.push(leaf(&authority));
        stop.cancel();
        while running.join_next().await.is_some() {}
    }
    let [old, .., new] = signers.as_slice() else { panic!("nobody signed") };
    assert!(objects.locked()[MESHES]["status"]["rootFingerprint"] == json!(new) && old != new);
    let kept = objects.locked()[SECRETS]["data"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(kept, ["rotation.json", "tls.crt", "tls.key"], "a root that nobody believes was kept");
    // What is satisfied stays so.
    let (authority, _) = begin(&client, lives, &Troubles::default()).await.unwrap();
    let stage = Stage::new(&authority, leader::ALONE);
    stage.want(&wanted);
    assert!(!is_due(&stage.mesh, &authority.roots()));
}

#[tokio::test]
async fn a_step_of_whoever_knows_less_than_what_is_kept_changes_nothing() {
    let (objects, client) = cluster();
    let (authority, mut late) = begin(&client, LIVES, &Troubles::default()).await.unwrap();
    let (_, mut first) = begin(&client, LIVES, &Troubles::default()).await.unwrap();
    let make = Step::Make(std::time::Duration::from_hours(1));
    let roots = authority.roots();
    first.take(make, &roots).await.unwrap();
    let kept = objects.locked()[SECRETS].clone();
    late.take(make, &roots).await.unwrap();
    assert_eq!(objects.locked()[SECRETS], kept, "a second root was made");
    assert_eq!(authority.roots().record, roots.record, "it believes in a root that nobody keeps");
    late.turn(true, make, None).await.unwrap();
    assert_eq!(objects.locked()[SECRETS], kept, "it made another before it knew of the first");
    assert_eq!(authority.roots().record.trusted().len(), 2);
}

#[tokio::test]
async fn an_agent_counts_by_what_it_says_of_the_newest_roots() {
    let (_objects, client) = cluster();
    let (authority, mut keeper) = begin(&client, LIVES, &Troubles::default()).await.unwrap();
    let stage = Stage::new(&authority, leader::ALONE);
    keeper.take(Step::Make(std::time::Duration::from_hours(1)), &authority.roots()).await.unwrap();
    keeper.leads = Some(Instant::now());
    let node: NodeName = "one".parse().unwrap();
    let heartbeat = v1::agent_report::Kind::Heartbeat(v1::Heartbeat::default());
    stage.mesh.agents().hear(&node, heartbeat, Instant::now()).unwrap();
    let heard = keeper.hear(&stage.mesh, &authority.roots(), Instant::now());
    assert_eq!((heard.settled, heard.late), (false, [node].into()), "nobody was told yet");
}
