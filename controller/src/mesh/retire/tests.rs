//! What stays for those who leave, and where.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_proto::resource::{authorization, enrolment, versioned};
use weft_proto::v1::{self, Resource, agent_report};

use super::*;
use crate::agents::Remembered;
use crate::source::Directory;

const POLICY: &str = "authorization/MeshConfig/default";

fn node() -> NodeName {
    "one".parse().unwrap()
}

/// The pod `web` of this namespace.
fn objects(namespace: &str) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: {namespace}, uid: web}}\n\
         spec: {{nodeName: one, serviceAccountName: web}}\nstatus: {{podIP: 10.1.0.2}}\n"
    );
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    Directory::impatient(folder.path(), folder.path().join("kept.json")).read(&BTreeSet::new()).objects
}

/// One to whom the pod's agent has said that it serves it.
fn agents(now: Instant) -> Agents {
    let mut agents = Agents::new(Duration::from_secs(10), Remembered::default(), now);
    let enrolled = v1::Enrolled { workloads: vec!["web".to_owned()], failed: vec![] };
    agents.hear(&node(), agent_report::Kind::Enrolled(enrolled), now).unwrap();
    agents
}

fn shared(resource: Resource) -> (Arc<str>, Arc<Encoded>) {
    (Arc::from(resource.name.as_str()), Arc::new(resource.into()))
}

fn enrolled() -> Portion {
    let body =
        v1::Enrolment { uid: "web".to_owned(), authorization: vec![POLICY.to_owned()], ..v1::Enrolment::default() };
    let own = [shared(versioned(enrolment("web"), vec![], Body::Enrolment(body)))];
    Portion { nodes: BTreeMap::from([(node(), own.into())]), ..Portion::default() }
}

fn operators() -> Portion {
    let name = authorization("MeshConfig", "default");
    assert_eq!(name, POLICY);
    let policy = versioned(name, vec![], Body::Authorization(v1::AuthorizationPolicy::default()));
    Portion { shared: [shared(policy)].into(), ..Portion::default() }
}

fn portions(all: Vec<(&str, Portion)>) -> Portions {
    all.into_iter().map(|(namespace, portion)| (Arc::from(namespace), Arc::new(portion))).collect()
}

/// Names of what the pod's node has, in every portion.
fn held(portions: &Portions) -> Vec<String> {
    let all = portions
        .values()
        .flat_map(|portion| portion.shared.keys().chain(portion.nodes.values().flatten().map(|one| one.0)));
    let mut names: Vec<String> = all.map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn who_leaves_keeps_the_operators_rules_also_when_these_go_too() {
    let now = Instant::now();
    let before = Published::default().next(portions(vec![(MESH, operators()), ("shop", enrolled())])).unwrap();
    let mut retiring = Retiring::default();
    let mut both_stay = portions(vec![(MESH, operators()), ("shop", Portion::default())]);
    retiring.keep(&before, &mut both_stay, &objects("shop"), &agents(now), now);
    assert_eq!(held(&both_stay), [POLICY, "enrolment/web"]);
    let mut none_stays = portions(vec![(MESH, Portion::default()), ("shop", Portion::default())]);
    retiring.keep(&before, &mut none_stays, &objects("shop"), &agents(now), now);
    assert_eq!(held(&none_stays), [POLICY, "enrolment/web"]);
}

#[test]
fn who_is_of_another_namespace_now_has_not_left() {
    let now = Instant::now();
    let before = Published::default().next(portions(vec![(MESH, operators()), ("shop", enrolled())])).unwrap();
    let mut moved = portions(vec![(MESH, operators()), ("bank", enrolled()), ("shop", Portion::default())]);
    Retiring::default().keep(&before, &mut moved, &objects("bank"), &agents(now), now);
    assert_eq!(held(&moved), [POLICY, "enrolment/web"], "it is there once");
}
