//! One client and one server parameter set per workload credential.
//!
//! Invariant: each set has a session store or ticket key of its own, so a session can be resumed only under the same
//! certificate, roots and trust domains that were checked when it began.

use std::sync::Arc;

use rustls::client::{Resumption as ClientResumption, TicketRequest};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use weft_proto::names::{TrustDomain, WorkloadUid};

use super::ALPN;
use super::peer::TrustedDomains;
use super::provider::provider;
use super::sessions::Sessions;
use super::verify::{ClientVerifier, ServerVerifier};
use crate::limits;

/// Whether later handshakes with the same peer may be short ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    On,
    /// Every handshake in full: three to four times the CPU. For measurements.
    Off,
}

impl Resumption {
    /// An empty store of sessions, where there are any.
    #[must_use]
    pub fn sessions(self) -> Option<Arc<Sessions>> {
        match self {
            Self::On => Some(Arc::default()),
            Self::Off => None,
        }
    }
}

/// A private key with its certificates.
#[derive(Debug)]
pub struct Material {
    pub key: PrivatePkcs8KeyDer<'static>,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Clone for Material {
    fn clone(&self) -> Self {
        Self { key: self.key.clone_key(), chain: self.chain.clone() }
    }
}

/// Whom to believe: every root of the bundle, and which trust domains are this mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    pub trust_domain: TrustDomain,
    pub aliases: Arc<[TrustDomain]>,
    /// DER. One that cannot be read is left out, so that it disturbs no other.
    pub roots: Arc<[Vec<u8>]>,
}

impl Trust {
    #[must_use]
    pub fn domains(&self) -> TrustedDomains {
        TrustedDomains::new(self.trust_domain.clone(), Arc::clone(&self.aliases))
    }

    pub(crate) fn root_store(&self) -> Result<Arc<RootCertStore>, ParametersError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().map(|root| CertificateDer::from(root.as_slice())));
        if store.is_empty() { Err(ParametersError::NoRoot) } else { Ok(Arc::new(store)) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    #[error("no root certificate that can be read is known")]
    NoRoot,
    #[error("key and certificates do not make a TLS identity: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the trusted roots do not make a verifier: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// What this workload's agent shows and accepts where it is the source. Without `sessions` every handshake is a full one.
pub fn client_parameters(
    material: &Material,
    trust: &Trust,
    sessions: Option<Arc<Sessions>>,
) -> Result<Arc<ClientConfig>, ParametersError> {
    let verifier = ServerVerifier::new(trust.root_store()?, trust.domains());
    let mut parameters = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key().into())?;
    parameters.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket serves once. A full handshake stocks up for connections made side by side, a resumed one replaces its own.
    parameters.send_ticket_request = sessions.is_some().then_some(TicketRequest {
        new_session_count: limits::TICKETS_AFTER_FULL_HANDSHAKE,
        resumption_count: limits::TICKETS_AFTER_RESUMPTION,
    });
    parameters.resumption = match sessions {
        Some(sessions) => ClientResumption::store(sessions),
        None => ClientResumption::disabled(),
    };
    Ok(Arc::new(parameters))
}

/// What this workload's agent shows and accepts where it is the destination.
pub fn server_parameters(
    material: &Material,
    trust: &Trust,
    resumption: Resumption,
) -> Result<Arc<ServerConfig>, ParametersError> {
    let verifier = ClientVerifier::new(trust.root_store()?, trust.domains())?;
    let mut parameters = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(material.chain.clone(), material.key.clone_key().into())?;
    parameters.alpn_protocols = vec![ALPN.to_vec()];
    // Sessions travel in tickets under a key of this credential alone; nothing is kept here.
    parameters.session_storage = Arc::new(NoServerSessionStorage {});
    match resumption {
        Resumption::On => {
            parameters.ticketer = Ticketer::new()?;
            parameters.send_tls13_tickets = usize::from(limits::TICKETS_AFTER_RESUMPTION);
            parameters.max_tls13_tickets = usize::from(limits::TICKETS_AFTER_FULL_HANDSHAKE);
        }
        Resumption::Off => parameters.send_tls13_tickets = 0,
    }
    Ok(Arc::new(parameters))
}

/// The name under which sessions with one workload are kept. A digest, because a uid need not be a host name, and the name
/// travels in the clear.
#[must_use]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "hexadecimal digits and a dot are always a host name"
)]
pub fn server_name(destination: &WorkloadUid) -> ServerName<'static> {
    ServerName::try_from(format!("{}.weft", short_digest(destination.as_str()))).expect("a host name")
}

/// 128 bits of SHA-256 in hexadecimal: no two names share it by chance.
pub(crate) fn short_digest(name: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(name);
    let half = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
    digest[..16].iter().flat_map(|byte| [byte >> 4, byte & 15]).map(half).collect()
}
