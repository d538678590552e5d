//! Pods of captured namespaces of which no controller has told: found while none is there, by what the kubelet leaves on its node.
//!
//! A kubelet makes a pod's folder of logs, `NAMESPACE_NAME_UID`, before the pod's sandbox (`BuildPodLogsDirectory` of its
//! `kuberuntime`), below a folder that root alone writes. A static pod has another uid there than its mirror in the API, and is
//! never captured. Absent: what becomes of such a pod (`enrol/newcomer`).

use std::fs;
use std::io;
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

/// Length of the uids that an API server gives (RFC 9562), with their dashes; a kubelet's own have none.
const UID_LENGTH: usize = 36;

/// Those that have a folder; some of them may be gone. None where no kubelet keeps logs.
pub fn look(pod_logs: &Path, snapshot: &Snapshot) -> io::Result<Vec<Newcomer>> {
    if snapshot.namespaces.is_empty() {
        return Ok(Vec::new());
    }
    let folders = match fs::read_dir(pod_logs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folders => folders?,
    };
    let names = folders.take(limits::POD_FOLDERS).map(|folder| Ok(folder?.file_name().into_string().ok()));
    let found = names.map(|name: io::Result<_>| Ok(name?.and_then(|name| newcomer(&name, snapshot))));
    found.filter_map(io::Result::transpose).collect()
}

fn newcomer(folder: &str, snapshot: &Snapshot) -> Option<Newcomer> {
    // None of the three can have the character between them.
    let [namespace, name, uid] = folder.split('_').collect::<Vec<_>>().try_into().ok()?;
    let (namespace, uid): (Namespace, WorkloadUid) = (namespace.parse().ok()?, uid.parse().ok()?);
    let told = snapshot.workloads.contains_key(&uid)
        || snapshot.enrolments.contains_key(&uid)
        || snapshot.observations.contains_key(&uid);
    if told || uid.as_str().len() != UID_LENGTH {
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

    const UID: &str = "5f3e9a60-0d0a-4c1c-9b3f-2f1f6c7d8e90";

    fn snapshot() -> Snapshot {
        let namespace = |name: &str, way| (name.parse().unwrap(), way);
        let namespaces = vec![namespace("shop", FailureMode::Closed), namespace("web", FailureMode::Open)];
        Snapshot::new(Parts { namespaces, ..Parts::empty() })
    }

    #[test]
    fn a_pod_is_known_by_its_folder_and_goes_its_namespaces_way() {
        let found =
            |folder: &str| newcomer(folder, &snapshot()).map(|newcomer| (newcomer.name.to_string(), newcomer.way));
        assert_eq!(found(&format!("shop_cart-0_{UID}")), Some(("shop/cart-0".to_owned(), FailureMode::Closed)));
        assert_eq!(found(&format!("web_front_{UID}")), Some(("web/front".to_owned(), FailureMode::Open)));
        for nobody in
            ["kube-system_dns_UID", "shop_cart-0", "shop_cart-0_UID_more", "shop__UID", "shop_cart-0_", "", "x"]
        {
            assert_eq!(found(&nobody.replace("UID", UID)), None, "{nobody}");
        }
        assert_eq!(found(&format!("shop_static_{}", UID.replace('-', ""))), None);
    }

    #[test]
    fn where_no_kubelet_keeps_logs_nobody_is_found() {
        assert_eq!(look(Path::new("/nowhere/at/all"), &snapshot()).unwrap(), []);
        assert!(look(Path::new("/proc/self/stat"), &snapshot()).is_err());
    }
}
