//! How requests of one session stay with their endpoint (Gateway API, GEP-1619).

use std::sync::OnceLock;
use std::time::Duration;

use http::HeaderName;
use sha2::{Digest as _, Sha256};
use weft_proto::names::NamespacedName;

use super::Endpoint;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPersistence {
    pub carrier: Carrier,
    /// After its beginning; None: a session never ends by itself.
    pub absolute_timeout: Option<Duration>,
}

/// Where a client shows its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    Cookie(Cookie),
    Header(HeaderName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    pub name: Box<str>,
    pub path: Box<str>,
    /// The client keeps it until the absolute timeout.
    pub permanent: bool,
}

/// What a token calls an endpoint: nobody reads from it who or where that is, and every agent calls it the same, for ever.
///
/// It is a digest without a key. A pod's uid is random and is never another's, so there is nothing to try out; and whoever
/// makes a token up reaches no endpoint that a request without one could not get. A key would have to be the same on all
/// nodes, and sessions would end with it. Only an address that no workload owns can be found by trying all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias(pub [u8; 8]);

impl Alias {
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        Self(match &endpoint.workload {
            Some(uid) => digest("workload", uid.as_str()),
            None => digest("address", &endpoint.address.to_string()),
        })
    }
}

/// What a token calls the backend at a Service's port.
#[must_use]
pub fn backend_alias(service: &NamespacedName, port: u16) -> [u8; 4] {
    digest("backend", &format!("{service}:{port}"))
}

/// The first bytes of what `text` is called as one of its kind.
fn digest<const BYTES: usize>(kind: &str, text: &str) -> [u8; BYTES] {
    let whole = Sha256::new().chain_update(kind).chain_update([0]).chain_update(text).finalize();
    std::array::from_fn(|index| whole[index])
}

/// The aliases of a port's endpoints, in their order. Made for the first request of a session, so that others pay nothing.
#[derive(Debug, Default)]
pub struct Aliases(OnceLock<Box<[Alias]>>);

impl Aliases {
    pub(super) fn of(&self, endpoints: &[Endpoint]) -> &[Alias] {
        self.0.get_or_init(|| endpoints.iter().map(Alias::of).collect())
    }
}

/// A copy may be given other endpoints.
impl Clone for Aliases {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// They follow from the endpoints.
impl PartialEq for Aliases {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Aliases {}
