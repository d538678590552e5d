//! Answers that this agent gives itself.
//!
//! Each has its own reason in the header `weft-reason`, the same word as in the access log, and a sentence for the person who
//! reads it. A gRPC client is answered in its own terms (gRPC over HTTP/2: status 200, the error in `grpc-status`).

use std::fmt::Write as _;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version as HttpVersion};

use super::engine::{Body, Protocol};
use super::filter::Redirection;
use super::{Request, Response};
use crate::error::{ConnectionError, Reason};

pub const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Names a request in access logs and for `weft why`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("weft-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Who asked: it is answered in its own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Http,
    Grpc,
}

impl Asker {
    #[must_use]
    pub fn of(request: &Request) -> Self {
        // Whoever asks for a stream of its own (RFC 8441) would take the 200 of a refused call for its grant.
        let calls = request.version() == HttpVersion::HTTP_2 && request.extensions().get::<Protocol>().is_none();
        let grpc = calls && is_grpc(request.headers());
        if grpc { Self::Grpc } else { Self::Http }
    }
}

/// A gRPC call (gRPC over HTTP/2, Requests); gRPC-Web is ordinary HTTP.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b'+' | b';' | b' ')))
}

/// The status that a reason is answered with, and gRPC's code for it
/// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
#[must_use]
pub const fn status(reason: Reason) -> (StatusCode, u8) {
    const RESOURCE_EXHAUSTED: u8 = 8;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match reason {
        Reason::BadRequest | Reason::ProtocolRefused => (StatusCode::BAD_REQUEST, INTERNAL),
        Reason::HeadTooLong => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, RESOURCE_EXHAUSTED),
        Reason::TunnelRefused => (StatusCode::NOT_IMPLEMENTED, 12),
        Reason::NoRoute => (StatusCode::NOT_FOUND, 12),
        Reason::BrokenRoute => (StatusCode::INTERNAL_SERVER_ERROR, UNAVAILABLE),
        Reason::DeniedByRule | Reason::NoAllowMatched | Reason::PlaintextRefused | Reason::MeshTlsRequired => {
            (StatusCode::FORBIDDEN, 7)
        }
        Reason::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, 4),
        Reason::UpstreamTimeout | Reason::HandshakeTimeout => (StatusCode::GATEWAY_TIMEOUT, UNAVAILABLE),
        Reason::NoEndpoint
        | Reason::Overloaded
        | Reason::Draining
        | Reason::NoCertificate
        | Reason::ResourceExhausted
        | Reason::RetryBudgetSpent
        | Reason::WorkloadGone => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
        Reason::Completed
        | Reason::Redirected
        | Reason::Preflight
        | Reason::NoOriginalDestination
        | Reason::UnknownWorkload
        | Reason::UpstreamRefused
        | Reason::UpstreamUnreachable
        | Reason::UpstreamReset
        | Reason::DownstreamReset
        | Reason::PeerAgentDown
        | Reason::HandshakeFailed
        | Reason::IdentityMismatch
        | Reason::CertificateExpired
        | Reason::CertificateUntrusted
        | Reason::CertificateMalformed
        | Reason::CertificateMissing
        | Reason::BadPreamble
        | Reason::Unsupported
        | Reason::NoClientRecord
        | Reason::TooSlow
        | Reason::Flooded
        | Reason::IdleTimeout => (StatusCode::BAD_GATEWAY, UNAVAILABLE),
    }
}

/// The answer to a request that went no further.
#[must_use]
pub fn refusal(asker: Asker, error: &ConnectionError) -> Response {
    let (status, grpc) = status(error.reason);
    let sentence = error.to_string();
    let mut response = match asker {
        Asker::Http => {
            let mut response = Response::new(Body::whole(format!("{sentence}\n")));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(sentence.len() + 1));
            response
        }
        Asker::Grpc => {
            let mut response = Response::new(Body::empty());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(grpc)));
            if let Ok(message) = HeaderValue::from_str(&grpc_message(&sentence)) {
                headers.insert(GRPC_MESSAGE, message);
            }
            response
        }
    };
    response.headers_mut().insert(REASON, HeaderValue::from_static(error.reason.code()));
    response
}

/// The answer of a route that redirects.
#[must_use]
pub fn redirect(redirection: &Redirection) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirection.status;
    response.headers_mut().insert(LOCATION, redirection.location.clone());
    response.headers_mut().insert(REASON, HeaderValue::from_static(Reason::Redirected.code()));
    response
}

/// The answer to a preflight, but for what its headers say (`cors`).
#[must_use]
pub fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(REASON, HeaderValue::from_static(Reason::Preflight.code()));
    response
}

/// gRPC's own status where an answer consists of headers alone.
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// `Status-Message` is percent-encoded (gRPC over HTTP/2, Responses).
fn grpc_message(sentence: &str) -> String {
    let mut encoded = String::with_capacity(sentence.len());
    for byte in sentence.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Side;

    fn asked(kind: &str, version: HttpVersion) -> Asker {
        let request = http::Request::builder().version(version).header(CONTENT_TYPE, kind).body(Body::empty()).unwrap();
        Asker::of(&request)
    }

    #[test]
    fn a_grpc_client_is_answered_in_its_own_terms() {
        assert_eq!(asked("application/grpc", HttpVersion::HTTP_2), Asker::Grpc);
        assert_eq!(asked("application/grpc+proto", HttpVersion::HTTP_2), Asker::Grpc);
        assert_eq!(asked("application/grpc-web", HttpVersion::HTTP_11), Asker::Http);
        let mut tunnel = http::Request::builder().version(HttpVersion::HTTP_2).body(Body::empty()).unwrap();
        tunnel.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        tunnel.extensions_mut().insert(Protocol("websocket".into()));
        assert_eq!(Asker::of(&tunnel), Asker::Http, "to which any 200 is a grant");
        let error = ConnectionError::new(Side::Local, Reason::NoRoute).with_detail("ä");
        let response = refusal(Asker::Grpc, &error);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(grpc_status(response.headers()), Some(12));
        assert_eq!(response.headers()[GRPC_MESSAGE], "no_route: %C3%A4");
    }

    #[test]
    fn a_grpc_call_learns_the_reason_from_headers_alone() {
        let rows = [
            (Reason::NoRoute, 12),
            (Reason::TunnelRefused, 12),
            (Reason::DeniedByRule, 7),
            (Reason::PlaintextRefused, 7),
            (Reason::RequestTimeout, 4),
            (Reason::NoEndpoint, 14),
            (Reason::Overloaded, 14),
            (Reason::BrokenRoute, 14),
            (Reason::UpstreamReset, 14),
            (Reason::HeadTooLong, 8),
            (Reason::BadRequest, 13),
        ];
        for (reason, code) in rows {
            let response = refusal(Asker::Grpc, &ConnectionError::new(Side::Local, reason));
            assert_eq!(grpc_status(response.headers()), Some(code), "{reason:?}");
            assert_eq!(response.headers()[GRPC_MESSAGE], reason.code());
            assert!(response.status() == StatusCode::OK && response.body().is_over());
        }
    }

    #[test]
    fn every_refusal_names_its_reason() {
        for reason in Reason::ALL {
            let response = refusal(Asker::Http, &ConnectionError::new(Side::Local, *reason));
            assert_eq!(response.headers()[REASON], reason.code());
            assert!(response.status().is_client_error() || response.status().is_server_error());
        }
    }
}
