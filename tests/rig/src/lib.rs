//! Nodes out of network namespaces, for the demo, the tests and the benchmark.
//!
//! [`sandbox::enter`] makes a place in which everything dies with its owner, [`Mesh`] builds nodes, pods
//! and Services in it from a plan that reads as a sentence, [`packets`] listens on the wire between the
//! nodes. Nothing here knows how Weft works: it starts the programs by their command lines, writes the
//! objects a user would write and looks at what comes out.

pub mod admin;
pub mod binaries;
pub mod controller;
pub mod directory;
pub mod fabric;
pub mod mesh;
pub mod netns;
pub mod node;
pub mod object;
pub mod packets;
pub mod place;
pub mod pod;
pub mod process;
mod proxy;
pub mod sandbox;
pub mod tier;
pub mod wait;
mod yaml;

pub use binaries::Binaries;
pub use mesh::{Mesh, MeshPlan};
pub use object::{PodPlan, ServicePlan};
pub use sandbox::{Isolation, Sandbox};
