//! From the protocol's message to validated types, with the safe reading of what cannot be read.

use weft_proto::v1;

use crate::Policy;

/// Names the field that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ReadError {
    pub field: String,
    pub problem: String,
}

/// Reads a policy. On an error the caller applies [`Policy::safe_reading`].
pub fn read(message: &v1::AuthorizationPolicy) -> Result<Policy, ReadError> {
    let _ = message;
    Err(ReadError { field: String::new(), problem: String::new() })
}
