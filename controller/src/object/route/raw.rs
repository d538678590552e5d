//! Routes as they are written: every field of Gateway API 1.7, and no other.
//!
//! Enumerations are texts here: a value that Weft does not know concerns one rule, not the whole object.

use serde::Deserialize;
use serde_json::Value as Json;

pub type RawHttpRoute = RawRoute<RawHttpRule>;
pub type RawGrpcRoute = RawRoute<RawGrpcRule>;
/// A `TLSRoute` or a `TCPRoute`.
pub type RawConnectionRoute = RawRoute<RawConnectionRule>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawRoute<Rule> {
    pub parent_refs: Vec<RawParent>,
    pub hostnames: Vec<String>,
    pub rules: Option<Vec<Rule>>,
    /// Speaks of Gateways alone, like parents of that kind.
    pub use_default_gateways: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawParent {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub section_name: Option<String>,
    pub port: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawHttpRule {
    pub name: Option<String>,
    pub matches: Option<Vec<RawHttpMatch>>,
    pub filters: Vec<RawFilter>,
    pub backend_refs: Vec<RawBackend>,
    pub timeouts: RawTimeouts,
    pub retry: Option<RawRetry>,
    /// Experimental.
    pub session_persistence: Option<RawSessionPersistence>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawGrpcRule {
    pub name: Option<String>,
    pub matches: Option<Vec<RawGrpcMatch>>,
    pub filters: Vec<RawFilter>,
    pub backend_refs: Vec<RawBackend>,
    /// Experimental.
    pub session_persistence: Option<RawSessionPersistence>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawConnectionRule {
    pub name: Option<String>,
    pub backend_refs: Vec<RawBackend>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawHttpMatch {
    pub path: RawPath,
    pub headers: Vec<RawValueMatch>,
    pub query_params: Vec<RawValueMatch>,
    pub method: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawPath {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub value: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawGrpcMatch {
    pub method: Option<RawGrpcMethod>,
    pub headers: Vec<RawValueMatch>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawGrpcMethod {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub service: Option<String>,
    pub method: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawSessionPersistence {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub absolute_timeout: Option<String>,
    pub cookie: Option<RawSessionCookie>,
    pub header: Option<RawSessionHeader>,
    /// This and what follows: of definitions before Gateway API 1.7, which may still be in a cluster.
    pub session_name: Option<Json>,
    pub idle_timeout: Option<Json>,
    pub cookie_config: Option<Json>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawSessionCookie {
    pub name: Option<String>,
    pub path: Option<String>,
    pub lifetime_type: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSessionHeader {
    pub name: String,
}

/// Of a header or a query parameter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawValueMatch {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawTimeouts {
    pub request: Option<String>,
    pub backend_request: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawRetry {
    pub codes: Vec<i64>,
    pub attempts: Option<i64>,
    pub backoff: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBackend {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<i64>,
    pub weight: Option<i64>,
    #[serde(default)]
    pub filters: Vec<RawFilter>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBackendObject {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawFilter {
    #[serde(rename = "type")]
    pub kind: String,
    pub request_header_modifier: Option<RawHeaderEdit>,
    pub response_header_modifier: Option<RawHeaderEdit>,
    pub request_mirror: Option<RawMirror>,
    pub request_redirect: Option<RawRedirect>,
    pub url_rewrite: Option<RawRewrite>,
    pub cors: Option<RawCors>,
    pub extension_ref: Option<Json>,
    /// Experimental.
    pub external_auth: Option<Json>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawHeaderEdit {
    pub set: Vec<RawHeader>,
    pub add: Vec<RawHeader>,
    pub remove: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawHeader {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawMirror {
    pub backend_ref: RawBackendObject,
    pub percent: Option<i64>,
    pub fraction: Option<RawFraction>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawFraction {
    pub numerator: i64,
    pub denominator: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawRedirect {
    pub scheme: Option<String>,
    pub hostname: Option<String>,
    pub path: Option<RawPathModifier>,
    pub port: Option<i64>,
    pub status_code: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawRewrite {
    pub hostname: Option<String>,
    pub path: Option<RawPathModifier>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawCors {
    pub allow_origins: Vec<String>,
    pub allow_credentials: Option<bool>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawPathModifier {
    #[serde(rename = "type")]
    pub kind: String,
    pub replace_full_path: Option<String>,
    pub replace_prefix_match: Option<String>,
}

const EXPRESSION: &str = "RegularExpression";

impl RawHttpRule {
    /// Regular expressions, which cost their readers more than all else.
    pub fn expressions(&self) -> usize {
        let of = |one: &RawHttpMatch| {
            usize::from(one.path.kind.as_deref() == Some(EXPRESSION)) + count(&one.headers) + count(&one.query_params)
        };
        self.matches.iter().flatten().map(of).sum()
    }
}

impl RawGrpcRule {
    pub fn expressions(&self) -> usize {
        let method =
            |one: &RawGrpcMatch| one.method.as_ref().and_then(|method| method.kind.as_deref()) == Some(EXPRESSION);
        self.matches.iter().flatten().map(|one| usize::from(method(one)) + count(&one.headers)).sum()
    }
}

fn count(values: &[RawValueMatch]) -> usize {
    values.iter().filter(|value| value.kind.as_deref() == Some(EXPRESSION)).count()
}
