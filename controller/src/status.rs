//! What the controller answers to those who write objects.
//!
//! `policy` turns conditions into the status of a policy; `folder` writes it beside the directory's objects, on
//! transitions only. Nothing here ever writes a user's file.

mod folder;
mod policy;

pub use folder::StatusFolder;
pub use policy::{PolicyCondition, PolicyReport, Reason, reports};

/// Below the directory; its name begins with a dot, so nothing in it is read as an object.
pub const FOLDER: &str = ".status";
