//! Where objects come from: a directory of YAML files, or the Kubernetes API; both watched.
//!
//! Invariant: what cannot be read disturbs nothing else; the last good version of that object stays in use.
//! One object means the same from both (`decode`). Absent: what the objects mean together (`translate`).

mod decode;
pub mod defect;
pub mod directory;
mod document;
pub mod kept;
pub mod kubernetes;
mod read;
pub mod reading;
mod schema;
mod watch;
mod yaml;

pub use defect::Defect;
pub use directory::Directory;
pub use kubernetes::Kubernetes;
pub use reading::Reading;
pub use watch::watch;
