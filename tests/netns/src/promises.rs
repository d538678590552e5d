//! The promises, by the part of the mesh that keeps them.

use crate::scene::Promise;

/// All of them.
pub fn all() -> Vec<Promise> {
    Vec::new()
}
