//! The two certificate verifiers: chain to any trusted root, then one workload of a trusted domain.
//!
//! Invariant: nothing is accepted that `peer::identity_of` would refuse, so a bad peer meets a TLS alert that names the
//! cause. The server's name is no input: the client compares identities after the handshake. It judges there, too, whether a
//! server's certificate has ended: whoever is told so then has shown that it holds the key, and is no replay of what it once was.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::peer::{Leaf, Rejection, TrustedDomains, identity_of};
use super::provider::provider;

#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    domains: TrustedDomains,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, domains: TrustedDomains) -> Self {
        Self { roots, domains, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = leaf(end_entity);
        let now = before_the_end(leaf.as_deref(), now);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            forgiving(leaf.as_deref(), now),
            self.algorithms.all,
        )?;
        names_a_workload(end_entity, &self.domains, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    domains: TrustedDomains,
}

impl ClientVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, domains: TrustedDomains) -> Result<Self, VerifierBuilderError> {
        // Root names as hints would only make the handshake longer: an agent has one certificate to show.
        let chain =
            WebPkiClientVerifier::builder_with_provider(roots, provider()).clear_root_hint_subjects().build()?;
        Ok(Self { chain, domains })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified =
            self.chain.verify_client_cert(end_entity, intermediates, forgiving(leaf(end_entity).as_deref(), now))?;
        names_a_workload(end_entity, &self.domains, now)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The time at which the chain is judged: `now`, or the leaf's beginning where that is ahead by no more than the
/// forgiven difference of clocks.
fn forgiving(leaf: Option<&Leaf>, now: UnixTime) -> UnixTime {
    leaf.filter(|leaf| leaf.not_before > system_time(now) && leaf.check_time(system_time(now)).is_ok())
        .and_then(|leaf| leaf.not_before.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(now, UnixTime::since_unix_epoch)
}

/// `now`, or the leaf's end where that is over.
fn before_the_end(leaf: Option<&Leaf>, now: UnixTime) -> UnixTime {
    leaf.filter(|leaf| leaf.not_after < system_time(now))
        .and_then(|leaf| leaf.not_after.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(now, UnixTime::since_unix_epoch)
}

/// Nobody has verified it yet, so it is not remembered.
fn leaf(end_entity: &CertificateDer<'_>) -> Option<Rc<Leaf>> {
    Leaf::known(end_entity).or_else(|| Leaf::read(end_entity).map(Rc::new).ok())
}

fn names_a_workload(end_entity: &CertificateDer<'_>, domains: &TrustedDomains, now: UnixTime) -> Result<(), Error> {
    match identity_of(Some(std::slice::from_ref(end_entity)), domains, system_time(now)) {
        Ok(_) => Ok(()),
        Err(rejection) => Err(rejected(rejection)),
    }
}

/// Carries the precise reason through rustls to `failure`.
fn rejected(rejection: Rejection) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejection))))
}

fn only_tls13() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}
