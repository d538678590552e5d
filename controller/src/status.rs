//! What the controller answers to those who write objects.
//!
//! `policy` turns conditions into the status of a policy or route, `refusal` adds what agents could not apply, `reports` are
//! those of all; `folder` writes them beside the directory's objects, `kubernetes` into the API's, both on transitions only; `removed` says when the
//! mesh has ended, and `introduction` makes the `XMesh` that says it is there. Nothing here ever writes what a user wrote.

mod condition;
mod folder;
mod introduction;
mod kubernetes;
mod mesh;
mod policy;
mod refusal;
mod removed;
mod reports;
mod route;
mod written;

pub use condition::{condition, with_condition};
pub use folder::StatusFolder;
pub use introduction::{DEFAULT_NAME, Introduction};
pub use kubernetes::Writer;
pub use policy::{Aspect, Conditions, PolicyCondition, PolicyReport, Reason, Reference, Subject};
pub use refusal::refused;
pub use removed::Farewell;
pub use reports::{Exceptions, Reports};

/// Below the directory; its name begins with a dot, so nothing in it is read as an object.
pub const FOLDER: &str = ".status";
