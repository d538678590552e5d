//! This node's pods: their network namespaces, the agent's sockets inside them, and their enrolment.

pub mod cgroups;
pub mod enrol;
pub mod keeper;
mod kubelet;
pub mod netns;
mod newcomers;
pub mod originals;
pub mod pod;
pub mod probing;
mod process;
mod row;
pub mod sandbox;
pub mod self_test;
pub mod socket;
pub mod sysctl;
