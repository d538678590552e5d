//! Pods of captured namespaces of which no controller has told: found while none is there, by what the kubelet leaves on its node.
//!
//! A kubelet makes a pod's folder of logs, `NAMESPACE_NAME_UID`, before the pod's sandbox (`BuildPodLogsDirectory` of its
//! `kuberuntime`), below a folder that root alone writes. Absent: what becomes of such a pod (`enrol/newcomer`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use weft_proto::names::{Namespace, NamespacedName, WorkloadUid};

use crate::limits;
use crate::model::{FailureMode, Snapshot};

/// A pod that the snapshot does not know, and what becomes of it by its namespace's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    pub uid: WorkloadUid,
    /// `namespace/name`.
    pub name: Arc<str>,
    pub way: FailureMode,
}

/// Those that have a folder; some of them may be gone. None where no kubelet keeps logs.
#[must_use]
pub fn look(pod_logs: &Path, snapshot: &Snapshot) -> Vec<Newcomer> {
    if snapshot.namespaces.is_empty() {
        return Vec::new();
    }
    let Ok(folders) = fs::read_dir(pod_logs) else { return Vec::new() };
    let names = folders.flatten().take(limits::POD_FOLDERS).filter_map(|folder| folder.file_name().into_string().ok());
    names.filter_map(|name| newcomer(&name, snapshot)).collect()
}

fn newcomer(folder: &str, snapshot: &Snapshot) -> Option<Newcomer> {
    // None of the three can have the character between them.
    let [namespace, name, uid] = folder.split('_').collect::<Vec<_>>().try_into().ok()?;
    let (namespace, uid): (Namespace, WorkloadUid) = (namespace.parse().ok()?, uid.parse().ok()?);
    if snapshot.workloads.contains_key(&uid) {
        return None;
    }
    let way = *snapshot.namespaces.get(&namespace)?;
    let name = NamespacedName::new(namespace.as_str(), name).ok()?;
    Some(Newcomer { uid, name: Arc::from(name.to_string()), way })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Parts;

    fn snapshot() -> Snapshot {
        let namespace = |name: &str, way| (name.parse().unwrap(), way);
        let namespaces = vec![namespace("shop", FailureMode::Closed), namespace("web", FailureMode::Open)];
        Snapshot::new(Parts { namespaces, ..Parts::empty() })
    }

    #[test]
    fn a_pod_is_known_by_its_folder_and_goes_its_namespaces_way() {
        let found = |folder| newcomer(folder, &snapshot()).map(|newcomer| (newcomer.name.to_string(), newcomer.way));
        assert_eq!(found("shop_cart-0_5f3e"), Some(("shop/cart-0".to_owned(), FailureMode::Closed)));
        assert_eq!(found("web_front_5f3f"), Some(("web/front".to_owned(), FailureMode::Open)));
        for nobody in
            ["kube-system_dns_5f40", "shop_cart-0", "shop_cart-0_5f3e_more", "shop__5f3e", "shop_cart-0_", "", "x"]
        {
            assert_eq!(found(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn where_no_kubelet_keeps_logs_nobody_is_found() {
        assert_eq!(look(Path::new("/nowhere/at/all"), &snapshot()), []);
    }
}
