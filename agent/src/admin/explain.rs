//! What each reason means for a person: the cause, where its evidence is, and what to do.
//!
//! One table, exhaustive: a new reason does not compile until it is explained here.

use serde::Serialize;

use crate::error::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happened, in a sentence.
    pub cause: &'static str,
    /// Where it can be seen.
    pub evidence: &'static str,
    /// What a person can do.
    pub fix: &'static str,
}

const fn told(cause: &'static str, evidence: &'static str, fix: &'static str) -> Explanation {
    Explanation { cause, evidence, fix }
}

/// The explanation of `reason`.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one table with one row for each reason")]
pub const fn explain(reason: Reason) -> Explanation {
    match reason {
        Reason::Completed => told(
            "The connection was carried until its applications ended it.",
            "The record's bytes and duration.",
            "Nothing to do.",
        ),
        Reason::NoOriginalDestination => told(
            "The agent accepted a captured connection that carries no record of where it was going, and reset it: \
             somebody dialled the agent's capture port directly, or the kernel's table of connections being opened was full.",
            "The pod's kernel counters flows_full and outbound_dropped_no_record (weft status -o json).",
            "If flows_full counts, open fewer connections at once; else find out what dials ports 61000-61063 of the pod.",
        ),
        Reason::UnknownWorkload => told(
            "The agent's snapshot does not know the pod that the connection belongs to.",
            "weft config dump: the pod is missing among the enrolments.",
            "If the pod exists, look whether the controller is connected (weft status) and whether its object was refused (weft check).",
        ),
        Reason::NoEndpoint => told(
            "The Service has no endpoint to send the connection to, or does not have that port.",
            "The Service's endpoints in weft config dump; the pod's kernel counter outbound_refused_no_endpoint.",
            "Compare the Service's selector with the pods' labels, look whether the pods are ready, and whether the port is one of the Service's.",
        ),
        Reason::UpstreamRefused => told(
            "The destination refused the connection: in its pod nobody listens on that port, or the application is starting or stopping.",
            "The record's detail names the address that refused.",
            "Start the application, or correct the Service's targetPort; see with `ss -ltn` inside the pod what it listens on.",
        ),
        Reason::UpstreamTimeout => told(
            "The destination did not answer the TCP connect in time: its pod or node is gone or frozen, or something drops the packets.",
            "The record's detail names the address.",
            "Look whether the destination's node is up, and whether a NetworkPolicy or firewall drops that port between the two pods.",
        ),
        Reason::UpstreamUnreachable => told(
            "The network says that the destination cannot be reached: there is no route to its address.",
            "The record's detail has the network's own words.",
            "Look at the routes of the source's node, and whether the destination's address still belongs to a pod.",
        ),
        Reason::UpstreamReset => told(
            "The destination's side reset the connection in the middle.",
            "The other agent's record of the same connection id says who.",
            "Look into the destination application's log at that time; if its agent was restarted then, that cut what it carried.",
        ),
        Reason::DownstreamReset => told(
            "The source's side reset the connection in the middle.",
            "The other agent's record of the same connection id says who.",
            "Usually a client that gave up: look into its log at that time for a timeout of its own.",
        ),
        Reason::PeerAgentDown => told(
            "The agent of the destination's node does not answer as a mesh agent: it is down, hung, or something else listens there.",
            "weft status on the destination's node; the destination's row says since when it may be reached in plaintext.",
            "Start the agent on that node, and look into its log for why it ended.",
        ),
        Reason::HandshakeFailed => told(
            "The two agents could not agree on a TLS session, for a cause that the other side knows better.",
            "The detail of the other agent's record; the record's own detail has the TLS alert.",
            "Read both sides' records (weft why CONNECTION); if the alert speaks of certificates, see weft check.",
        ),
        Reason::HandshakeTimeout => told(
            "The TLS handshake did not end in time: the peer said nothing or stopped in the middle.",
            "The record's detail says which side was silent.",
            "If a client that is not in the mesh waits for the server to speak first, it cannot use a strict port; else look whether packets are lost.",
        ),
        Reason::IdentityMismatch => told(
            "The peer proved another identity than the one that the workload at this address has: the connection would have reached somebody else.",
            "The record's detail names both identities.",
            "Look which pod has that address now, and whether its service account was changed without a new pod; the agents' snapshots must be current (weft status).",
        ),
        Reason::CertificateExpired => told(
            "A certificate was shown whose validity is over.",
            "The certificates' remaining life in weft check; the record's detail has both clocks.",
            "Look why it was not renewed: the controller must be reachable from the holder's node; and compare the two nodes' clocks.",
        ),
        Reason::CertificateUntrusted => told(
            "A certificate was shown that comes from no root which this mesh trusts.",
            "The record's detail.",
            "Look whether both nodes' agents are joined to the same controller, and whether the certificate authority was replaced.",
        ),
        Reason::CertificateMalformed => told(
            "A certificate was shown that names no workload of the mesh, or more than one.",
            "The record's detail.",
            "It was not signed by Weft's controller for a workload: find out what listens or connects there.",
        ),
        Reason::CertificateMissing => told(
            "The peer began a mesh connection without showing a certificate.",
            "The record's detail and source address.",
            "Only an agent speaks on these ports: find out what connects from that address.",
        ),
        Reason::NoCertificate => told(
            "The agent holds no valid certificate for its own workload.",
            "weft check: the workload's certificate and the last error of getting one.",
            "The controller must be reachable from this node, and the pod must have a service account.",
        ),
        Reason::PlaintextRefused => told(
            "The destination's port is strict: it accepts mTLS alone, and the client spoke plaintext.",
            "The record's rule names the AuthenticationPolicy.",
            "Capture the client (label its namespace weft.dev/capture=enabled), or make the port permissive or exempt the client in that AuthenticationPolicy.",
        ),
        Reason::MeshTlsRequired => told(
            "The source's policy forbids plaintext, and the destination speaks nothing else.",
            "The source's AuthenticationPolicy; the destination's row is not mesh-capable.",
            "Capture the destination (label its namespace weft.dev/capture=enabled), or do not require mesh TLS of this source.",
        ),
        Reason::DeniedByRule => told(
            "A Deny rule of an AuthorizationPolicy matched.",
            "The record's rule.",
            "If the source should be let in, change that rule; a Deny wins over every Allow.",
        ),
        Reason::NoAllowMatched => told(
            "Allow policies select the destination, and none of their rules matches this source and port.",
            "weft why SOURCE DESTINATION lists the policies and what did not match.",
            "Add the source to a rule of one of these policies, or a new Allow policy.",
        ),
        Reason::BadPreamble => told(
            "The peer's first words after the handshake were too long, cut short or not readable.",
            "The record's detail.",
            "The peer is no Weft agent of a version that this one knows, or its connection was cut: compare versions with weft status.",
        ),
        Reason::Unsupported => told(
            "One agent asked for something that the other's version does not know.",
            "The versions in weft status.",
            "Upgrade the older agent.",
        ),
        Reason::Draining => told(
            "The agent is stopping or being upgraded, and the connection outlived the time to drain.",
            "The agent's log at that time.",
            "New connections reach its successor: connect again. For connections that live longer, allow a longer drain.",
        ),
        Reason::Overloaded => told(
            "The pod has as many connections as one pod may have.",
            "The agent's metric weft_connections_active and this pod's records.",
            "Look for connections that are opened and never closed, or spread the load over more pods.",
        ),
        Reason::WorkloadGone => told(
            "The pod was removed, or its capture ended, under the connection.",
            "The pod's events at that time.",
            "Nothing if the pod was meant to go; else look why.",
        ),
        Reason::NoClientRecord => told(
            "A connection came from the pod's own address without a record of its client; it could pass for a local one, so it was reset.",
            "The pod's kernel counters peers_full and inbound_dropped_unknown_client.",
            "If peers_full counts, the node opens too many connections at once; else something in the pod dials from the agent's loopback slice.",
        ),
        Reason::IdleTimeout => told(
            "Nothing moved on the connection for an hour.",
            "The record's duration.",
            "Let the application send keep-alives more often than that.",
        ),
        Reason::TooSlow => told(
            "The peer began a request and did not go on with it, or took no byte of an answer for a minute.",
            "The record's detail says what was waited for.",
            "Look why that application stalls; between requests, and in streams without a length, it may rest.",
        ),
        Reason::Flooded => told(
            "The client sent floods of frames or of requests that it reset at once, and its connection was cut.",
            "The record's detail says which.",
            "Look what runs in that client; an ordinary one never does this.",
        ),
        Reason::BadRequest => told(
            "The request could be read in more than one way, or in none, and was answered 400: policy and application must see the same.",
            "The record's detail names what is ambiguous.",
            "Correct the client; the detail says which part of its request to look at.",
        ),
        Reason::ProtocolRefused => told(
            "Something else was spoken than the port takes: no HTTP where a route or a rule speaks of requests, or no TLS where a TLSRoute goes by the name in it.",
            "The record's detail; the routes of the Service and the policies of the pod.",
            "Speak that there, or take the routes and the rules about requests away from this port.",
        ),
        Reason::HeadTooLong => told(
            "The fields of a request were more than an agent reads, so it was answered 431.",
            "The record's detail names the bound; look for cookies and tokens that grow.",
            "Send less in header fields.",
        ),
        Reason::TunnelRefused => told(
            "The client asked for a tunnel (CONNECT), as of a forward proxy or to a protocol that the server does not take, and was answered 501.",
            "The record's method and host.",
            "Let the client connect to its destination itself; the mesh captures that connection too.",
        ),
        Reason::NoRoute => told(
            "Routes are attached to the Service's port and none of them fits: a request was answered 404, a connection by a TLSRoute reset.",
            "weft why SOURCE DESTINATION, for requests with --path PATH, lists what each rule of the routes wants.",
            "Add a rule for this request, or a last one that fits everything; for a connection the hostname that the record's detail names.",
        ),
        Reason::BrokenRoute => told(
            "The route that fits has no usable backend for its share, or a filter that cannot be applied: a request was answered 500, a connection reset.",
            "The record's detail has the controller's sentence; the route's conditions say the same.",
            "Correct the backendRef or the filter that the detail names.",
        ),
        Reason::Redirected => {
            told("The route answered the request with a redirect.", "The record's route.", "Nothing to do.")
        }
        Reason::Preflight => told(
            "A browser asked whether a page of another origin may send a request, and the route's CORS filter answered.",
            "The record's detail, if the filter does not allow the origin.",
            "Nothing to do, or add the page's origin to the filter's allowOrigins.",
        ),
        Reason::RequestTimeout => told(
            "No answer came within the time that the route or the traffic policy allows: it was answered 504.",
            "The record's duration, attempts and route.",
            "Look why the backend is slow, or allow more time in the route.",
        ),
        Reason::RetryBudgetSpent => told(
            "The request failed and was not tried again, because retries have already had their share of this Service's requests.",
            "The record's detail; the metric weft_request_retries_total.",
            "Find out why so many requests fail; a larger budget in a TrafficPolicy only adds load to a sick backend.",
        ),
        Reason::ResourceExhausted => told(
            "The operating system refused the agent something: descriptors, memory or ports.",
            "The record's detail has the system's words; the agent's log has more.",
            "Raise the agent's limit that the detail names, or spread the load over more nodes.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_cause_an_evidence_and_a_fix_of_its_own() {
        let mut causes: Vec<_> = Reason::ALL.iter().map(|reason| explain(*reason).cause).collect();
        for reason in Reason::ALL {
            let row = explain(*reason);
            for text in [row.cause, row.evidence, row.fix] {
                assert!(text.ends_with('.') && text.len() > 10, "{}: {text:?}", reason.code());
            }
        }
        causes.sort_unstable();
        causes.dedup();
        assert_eq!(causes.len(), Reason::ALL.len());
    }
}
