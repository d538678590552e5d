//! A resource as agents receive it.

use std::ops::Deref;
use std::sync::OnceLock;

use prost::Message as _;
use prost::bytes::Bytes;
use weft_proto::v1::Resource;

/// Encoded when the first agent is sent it, and once for all of them.
#[derive(Debug)]
pub struct Encoded {
    resource: Resource,
    bytes: OnceLock<Bytes>,
}

impl Encoded {
    /// Shared by all who ask.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| self.resource.encode_to_vec().into())
    }
}

/// Whether anybody was sent it makes no difference.
impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.resource == other.resource
    }
}

impl From<Resource> for Encoded {
    fn from(resource: Resource) -> Self {
        Self { resource, bytes: OnceLock::new() }
    }
}

impl Deref for Encoded {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.resource
    }
}
