//! What the controller answers to those who write objects.
//!
//! `policy` turns conditions into the status of a policy or route, `refusal` adds what agents could not apply; `folder` writes it beside the directory's objects, on
//! transitions only. Nothing here ever writes a user's file.

mod folder;
mod policy;
mod refusal;
mod route;

pub use folder::StatusFolder;
pub use policy::{Aspect, PolicyCondition, PolicyReport, Reason, Reference, Subject, reports};
pub use refusal::add as add_refusals;

/// Below the directory; its name begins with a dot, so nothing in it is read as an object.
pub const FOLDER: &str = ".status";
