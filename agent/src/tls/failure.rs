//! What went wrong in TLS, as the one stable word that people see.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::peer::Rejection;
use crate::error::{ConnectionError, Reason, Side};

/// A failure of a connection where this agent is the source, handshake or later.
///
/// A reset, an end, or an answer that is no TLS is `peer_agent_down`: no mesh agent answers there.
#[must_use]
pub fn client_failure(error: &io::Error) -> ConnectionError {
    let failure = |reason, detail| ConnectionError::new(Side::Upstream, reason).with_detail(detail);
    match tls_error(error) {
        None if is_end(error) => {
            failure(Reason::PeerAgentDown, format!("the destination ended the connection: {error}"))
        }
        None => failure(Reason::HandshakeFailed, error.to_string()),
        Some(
            tls @ (Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerIncompatible(_)
            | Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol)),
        ) => failure(Reason::PeerAgentDown, format!("the destination does not speak mesh TLS: {tls}")),
        Some(tls) => certificate_failure(Side::Upstream, tls),
    }
}

/// A failure of a connection where this agent is the destination, handshake or later.
#[must_use]
pub fn server_failure(error: &io::Error) -> ConnectionError {
    match tls_error(error) {
        None if is_end(error) => ConnectionError::new(Side::Downstream, Reason::DownstreamReset)
            .with_detail(format!("the source ended the connection: {error}")),
        None => ConnectionError::new(Side::Downstream, Reason::HandshakeFailed).with_detail(error.to_string()),
        Some(tls) => certificate_failure(Side::Downstream, tls),
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
    )
}

fn certificate_failure(side: Side, error: &Error) -> ConnectionError {
    if let Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(rejection) = other.0.downcast_ref::<Rejection>()
    {
        return rejected(side, rejection);
    }
    if let Error::AlertReceived(alert) = error {
        return alert_failure(side, *alert);
    }
    let reason = if let Error::InvalidCertificate(certificate) = error {
        certificate_reason(certificate)
    } else if matches!(error, Error::NoCertificatesPresented) {
        Reason::CertificateMissing
    } else {
        Reason::HandshakeFailed
    };
    ConnectionError::new(side, reason).with_detail(error.to_string())
}

fn certificate_reason(error: &CertificateError) -> Reason {
    if matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    ) {
        Reason::CertificateExpired
    } else if matches!(error, CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension) {
        Reason::CertificateMalformed
    } else {
        Reason::CertificateUntrusted
    }
}

/// The peer refused this agent: it is this workload's own certificate that is meant.
fn alert_failure(side: Side, alert: AlertDescription) -> ConnectionError {
    let reason = if alert == AlertDescription::CertificateExpired {
        Reason::CertificateExpired
    } else if alert == AlertDescription::CertificateRequired {
        Reason::CertificateMissing
    } else if matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
    ) {
        Reason::CertificateUntrusted
    } else {
        Reason::HandshakeFailed
    };
    let detail = if reason == Reason::HandshakeFailed {
        format!("the peer's agent ended the handshake: {alert:?}")
    } else {
        format!("the peer's agent refused this workload's own certificate: {alert:?}")
    };
    ConnectionError::new(side, reason).with_detail(detail)
}

/// The peer on `side` showed a certificate that is not accepted.
#[must_use]
pub fn rejected(side: Side, rejection: &Rejection) -> ConnectionError {
    ConnectionError::new(side, rejection.reason).with_detail(rejection.detail.clone())
}
