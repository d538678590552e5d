//! The order in which Helm installs kinds (pkg/release/v1/util, `InstallOrder`): what others need comes first.

/// Those of Helm's list that the charts have.
const KINDS: [&str; 13] = [
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "PodDisruptionBudget",
    "ServiceAccount",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "DaemonSet",
    "Deployment",
];

/// What a kind is sorted by: its place in the list; all others after those, by name.
pub fn place(kind: &str) -> (usize, &str) {
    match KINDS.iter().position(|known| *known == kind) {
        Some(place) => (place, ""),
        None => (KINDS.len(), kind),
    }
}
