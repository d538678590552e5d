//! Why a connection ended before its application wanted it to.
//!
//! A [`Reason`] is the one stable word for a cause: the metric label, the access log's `reason`, the
//! `Status` on the wire and what `weft why` explains. A cause that a person cannot tell apart from
//! another is not a reason; a new cause is a new word, never a re-used one.

use serde::Serialize;

/// Whose side of this agent failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The socket that this agent accepted.
    Downstream,
    /// The socket that this agent dialled.
    Upstream,
    /// This agent itself decided.
    Local,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The reason that a peer named; unknown words (a newer peer's) have none.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// Ended as its two applications wanted it to.
    Completed = "completed",
    /// The accepted connection carries no record of where it was going.
    NoOriginalDestination = "no_original_destination",
    /// The listener's pod is not in the snapshot (any more).
    UnknownWorkload = "unknown_workload",
    /// The Service has no ready and no serving endpoint.
    NoEndpoint = "no_endpoint",
    /// The destination workload does not accept connections: every endpoint refused.
    UpstreamRefused = "upstream_refused",
    /// No answer to the TCP connect within the bound.
    UpstreamTimeout = "upstream_timeout",
    /// The network says that the destination cannot be reached.
    UpstreamUnreachable = "upstream_unreachable",
    /// The upstream connection was reset in the middle.
    UpstreamReset = "upstream_reset",
    /// The downstream connection was reset in the middle.
    DownstreamReset = "downstream_reset",
    /// The destination's agent does not answer as a mesh agent: it is down, or something else listens.
    PeerAgentDown = "peer_agent_down",
    /// The TLS handshake with the peer failed for another cause than those below.
    HandshakeFailed = "handshake_failed",
    /// The handshake did not end within the bound.
    HandshakeTimeout = "handshake_timeout",
    /// The peer proved another identity than the expected one.
    IdentityMismatch = "identity_mismatch",
    /// The peer's certificate is not (or no longer) valid.
    CertificateExpired = "certificate_expired",
    /// The peer's certificate comes from no trusted root.
    CertificateUntrusted = "certificate_untrusted",
    /// The peer's certificate names no workload, or more than one.
    CertificateMalformed = "certificate_malformed",
    /// The peer showed no certificate.
    CertificateMissing = "certificate_missing",
    /// This agent holds no valid certificate for its own workload.
    NoCertificate = "no_certificate",
    /// A strict port was spoken to in plaintext.
    PlaintextRefused = "plaintext_refused",
    /// A policy of this pod forbids plaintext to a destination that speaks nothing else.
    MeshTlsRequired = "mesh_tls_required",
    /// A Deny rule matched.
    DeniedByRule = "denied_by_rule",
    /// Allow policies select the pod and none matched.
    NoAllowMatched = "no_allow_matched",
    /// The preamble or the status was too long, cut short or not decodable.
    BadPreamble = "bad_preamble",
    /// The peer asked for a feature that this agent does not have, or the other way round.
    Unsupported = "unsupported",
    /// The agent is draining.
    Draining = "draining",
    /// The pod's budget of connections is spent.
    Overloaded = "overloaded",
    /// The pod went away under the connection.
    WorkloadGone = "workload_gone",
    /// A connection from the pod's own address without a record of its client (see datapath, inbound 2).
    NoClientRecord = "no_client_record",
    /// Nothing moved for longer than the idle bound.
    IdleTimeout = "idle_timeout",
    /// The peer began with something and did not go on, or took nothing of what it had asked for.
    TooSlow = "too_slow",
    /// The peer sent what costs others more than itself: floods of frames, of resets.
    Flooded = "flooded",
    /// A request that could be read in more than one way, or in none.
    BadRequest = "bad_request",
    /// A request whose fields are more than is read.
    HeadTooLong = "head_too_long",
    /// Bytes that are no HTTP, where a route or a rule about requests leaves room for nothing else; or no TLS, where a route goes by
    /// the name in it.
    ProtocolRefused = "protocol_refused",
    /// A request for a tunnel (CONNECT), which no application of the mesh is asked to be, or a WebSocket over HTTP/2 (RFC 8441)
    /// for an application that takes none.
    TunnelRefused = "tunnel_refused",
    /// Routes speak of the Service port, and none of them fits the request, or the name that a connection's TLS asks for.
    NoRoute = "no_route",
    /// The route has no usable backend for the share of the request or connection, or a filter that cannot be applied.
    BrokenRoute = "broken_route",
    /// A route answered the request itself.
    Redirected = "redirected",
    /// A route with a CORS filter answered a browser's preflight itself.
    Preflight = "preflight",
    /// The answer did not come within the route's time.
    RequestTimeout = "request_timeout",
    /// It failed, and the budget for retries was spent.
    RetryBudgetSpent = "retry_budget_spent",
    /// The operating system refused something that this agent needs (descriptors, memory, ports).
    ResourceExhausted = "resource_exhausted",
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A connection that could not go on.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", reason.code(), detail.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct ConnectionError {
    pub side: Side,
    pub reason: Reason,
    /// What was seen, for a person.
    pub detail: Option<String>,
    /// The policy rule that decided, `namespace/name[rule]`.
    pub rule: Option<String>,
}

impl ConnectionError {
    #[must_use]
    pub fn new(side: Side, reason: Reason) -> Self {
        Self { side, reason, detail: None, rule: None }
    }

    /// The connection to the other side broke.
    #[must_use]
    pub fn upstream_reset(cause: &impl std::fmt::Display) -> Self {
        Self::new(Side::Upstream, Reason::UpstreamReset).with_detail(cause.to_string())
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| Reason::from_code(reason.code()) == Some(*reason)));
    }
}
