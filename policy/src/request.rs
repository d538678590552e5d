//! What is asked for, and whether a rule speaks of it.

use http::{HeaderMap, HeaderName};
use serde::{Serialize, Serializer};

use crate::{HostPattern, Method, Mismatch, PathPattern};

/// What is asked of the pod.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    Request(&'a Request<'a>),
    /// A connection whose bytes nobody parses: any request may be in them, or none.
    Opaque,
}

/// A request in the one canonical form that is also forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Case-sensitive.
    pub method: &'a str,
    /// The authority, in any case, with a port or without; empty when the request has none.
    pub host: &'a str,
    /// Canonical, without the query.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
}

/// Matches when every present field matches. `not` is the exact negation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Operation {
    pub methods: Option<Vec<Method>>,
    pub hosts: Option<Vec<HostPattern>>,
    pub paths: Option<Vec<PathPattern>>,
    pub not_methods: Option<Vec<Method>>,
    pub not_hosts: Option<Vec<HostPattern>>,
    pub not_paths: Option<Vec<PathPattern>>,
}

/// Matches when some value of the header is one of `values`, and none is one of `not_values`, byte for byte.
/// A header that is not there has no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderCondition {
    #[serde(serialize_with = "header_name")]
    pub name: HeaderName,
    pub values: Option<Vec<Box<str>>>,
    pub not_values: Option<Vec<Box<str>>>,
}

impl Operation {
    pub(crate) fn mismatch(&self, request: &Request<'_>) -> Option<Mismatch> {
        let method = |listed: &Method| listed.matches(request.method);
        let host = |listed: &HostPattern| listed.matches(request.host);
        let path = |listed: &PathPattern| listed.matches(request.path);
        if !passes(self.methods.as_deref(), self.not_methods.as_deref(), method) {
            Some(Mismatch::Method)
        } else if !passes(self.hosts.as_deref(), self.not_hosts.as_deref(), host) {
            Some(Mismatch::Host)
        } else if !passes(self.paths.as_deref(), self.not_paths.as_deref(), path) {
            Some(Mismatch::Path)
        } else {
            None
        }
    }
}

impl HeaderCondition {
    pub(crate) fn matches(&self, headers: &HeaderMap) -> bool {
        let has = |value: &[u8]| headers.get_all(&self.name).iter().any(|own| own.as_bytes() == value);
        passes(self.values.as_deref(), self.not_values.as_deref(), |listed| has(listed.as_bytes()))
    }
}

/// Absent matches anything, a list one of its values; `not` is its negation, so that an empty one excludes nothing.
pub(crate) fn passes<T>(listed: Option<&[T]>, excluded: Option<&[T]>, is: impl Fn(&T) -> bool) -> bool {
    listed.is_none_or(|values| values.iter().any(&is)) && !excluded.is_some_and(|values| values.iter().any(&is))
}

fn header_name<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
