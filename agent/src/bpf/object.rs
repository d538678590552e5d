//! The embedded BPF object.

use super::error::BpfError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.bpf.o"));

/// The object's bytes. Fails if the agent was built without it.
pub(super) fn bytes() -> Result<&'static [u8], BpfError> {
    if OBJECT.is_empty() { Err(BpfError::NoObject) } else { Ok(OBJECT) }
}
