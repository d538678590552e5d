//! What a controller that has just begun believes of those who have not spoken to it.

use weft_proto::v1::resource::Body;

use super::*;
use crate::leader;
use crate::source::Directory;
use crate::translate;

const MESH: &str = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {networks: {pods: [10.1.0.0/16]}}\n---\n\
     apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {weft.dev/capture: enabled}}\n---\n";

fn pod(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, uid: {name}}}\n\
         spec: {{nodeName: one, serviceAccountName: {name}}}\nstatus: {{podIP: {address}}}\n---\n"
    )
}

fn reading(text: &str) -> Arc<Reading> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    Arc::new(Directory::impatient(folder.path(), folder.path().join("kept.json")).read(&BTreeSet::new()))
}

fn is_capable(published: &Published, name: &str) -> Option<bool> {
    let resource = published.find(&"one".parse().unwrap(), &weft_proto::resource::workload(name))?;
    let Some(Body::Workload(workload)) = &resource.body else { return None };
    Some(workload.mesh_capable)
}

#[tokio::test]
async fn what_came_after_the_beginning_is_enrolled_by_nobody_whom_we_have_not_heard() {
    let facts = Facts {
        trust_domain: "cluster.local".parse().unwrap(),
        lease: std::time::Duration::from_hours(1),
        roots_der: Vec::new(),
        agents: Some(translate::Agents { namespace: "weft-system".to_owned(), service_account: "agent".to_owned() }),
        inherited: None,
    };
    let before = [MESH, &pod("weft-system", "agent", "10.1.0.9"), &pod("shop", "web", "10.1.0.2")].concat();
    let after = [&before, pod("shop", "late", "10.1.0.3").as_str()].concat();
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let (readings, receiver) = watch::channel(Arc::<Reading>::default());
    let (_standing, standing) = watch::channel(leader::ALONE);
    let (_roots, roots) = watch::channel(Held::made());
    let maker = Maker::new(facts, receiver, None, folder.path(), (State::Kept, (roots, standing))).unwrap();
    let mut published = maker.mesh().published;
    let making = maker.run(stop.clone());
    let asking = async {
        readings.send_replace(reading(&before));
        published.wait_for(|published| is_capable(published, "web").is_some()).await.unwrap();
        readings.send_replace(reading(&after));
        let newest = published.wait_for(|published| is_capable(published, "late").is_some()).await.unwrap().clone();
        stop.cancel();
        newest
    };
    let (made, newest) = tokio::join!(making, asking);
    made.unwrap();
    assert_eq!(is_capable(&newest, "web"), Some(true), "its agent may have been serving it all the time");
    assert_eq!(is_capable(&newest, "late"), Some(false), "it is dialled by a protocol that it cannot speak");
}
