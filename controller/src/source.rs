//! Where objects come from: a directory of YAML files, watched.
//!
//! Invariant: what cannot be read disturbs nothing else; the last good version of that object stays in use.
//! Absent: the Kubernetes API (a later source of the same objects), and what the objects mean (`translate`).

pub mod defect;
pub mod directory;
mod document;
pub mod kept;
mod read;
mod schema;
mod watch;
mod yaml;

pub use defect::Defect;
pub use directory::Directory;
pub use watch::watch;
