//! What a root leaves behind, and who is told when that is lost; on a real API server in `tests/control`.

use serde_json::Value as Json;
use tokio::task::JoinSet;

use super::*;
use crate::api::stage::{self, Objects};
use crate::pause;

const SECRETS: &str = "/api/v1/namespaces/weft-system/secrets/weft-ca";
const TRUSTS: &str = "/api/v1/namespaces/weft-system/configmaps/weft-trust";
const MESHES: &str = "/apis/weft.dev/v1alpha1/meshconfigs/default";

fn cluster() -> (Objects, Client) {
    let objects = Objects::default();
    let mesh = json!({"apiVersion": weft_crd::API_VERSION, "kind": "MeshConfig", "metadata": {"name": "default"}});
    objects.locked().insert(MESHES.to_owned(), mesh);
    let answering = objects.clone();
    let client = stage::client(move |method, path, sent| std::future::ready(answering.answer(&method, &path, sent)));
    (objects, client)
}

async fn begin(client: &Client) -> anyhow::Result<Guard> {
    let (namespace, trust_domain) = ("weft-system".parse().unwrap(), "cluster.local".parse().unwrap());
    let opened = Box::pin(open(client.clone(), &namespace, &trust_domain)).await;
    opened.map(|(_, guard)| guard)
}

fn change(objects: &Objects, path: &str, change: impl FnOnce(&mut Json)) {
    change(objects.locked().get_mut(path).unwrap());
}

#[tokio::test]
async fn a_trace_without_a_certificate_is_a_trace() {
    let (objects, client) = cluster();
    begin(&client).await.unwrap();
    assert!(
        objects.locked().contains_key(SECRETS) && objects.locked()[MESHES]["status"]["rootFingerprint"].is_string()
    );
    // Everything else that says that a root existed is gone.
    objects.locked().remove(SECRETS);
    change(&objects, MESHES, |mesh| mesh["status"] = Json::Null);
    change(&objects, TRUSTS, |map| map["data"] = json!({"other": "text"}));
    let refused = begin(&client).await.err().unwrap().to_string();
    assert!(refused.contains("the ConfigMap weft-system/weft-trust has no ca.pem"), "{refused}");
    assert!(!objects.locked().contains_key(SECRETS), "another root was made");
}

/// Waits until the guard has looked so often that what it says is of now.
async fn told_of(guard: Guard, objects: &Objects, changes: &[(&str, Json)]) -> Vec<String> {
    let (troubles, stop) = (Troubles::default(), CancellationToken::new());
    let mut running = JoinSet::new();
    running.spawn(guard.run(troubles.clone(), stop.clone()));
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
    let guard = begin(&client).await.unwrap();
    let good = objects.locked().clone();
    let another = |path: &str, list: &str, name: &str, value: &str| {
        let mut object = good[path].clone();
        object[list][name] = json!(value);
        object
    };
    let fingerprint = another(MESHES, "status", "rootFingerprint", &"0".repeat(64));
    let map = another(TRUSTS, "data", TRUST, "another");
    let secret = another(SECRETS, "data", CERTIFICATE, "YW5vdGhlcg==");
    let told = told_of(
        guard,
        &objects,
        &[
            (MESHES, good[MESHES].clone()),
            (MESHES, fingerprint),
            (MESHES, good[MESHES].clone()),
            (TRUSTS, map),
            (TRUSTS, Json::Null),
            (SECRETS, secret),
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
        "holds another root than the one that agents trust",
        "the Secret weft-system/weft-ca is missing",
        "",
    ];
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{told:?} instead of {wanted:?}");
    }
    assert_eq!(objects.locked()[TRUSTS]["data"], good[TRUSTS]["data"], "a lost trace was not made again");
}
