//! What the controller answers to those who wrote policies, and the folder where a directory's users find it.

use crate::object::Target;

/// Below the directory; its name begins with a dot, so nothing in it is read as an object.
pub const FOLDER: &str = ".status";

/// Why a policy is or is not in force for one target (GEP-713).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Accepted,
    Conflicted,
    Invalid,
    TargetNotFound,
}

/// The condition `Accepted` of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCondition {
    pub target: Target,
    pub reason: Reason,
    pub message: String,
}
