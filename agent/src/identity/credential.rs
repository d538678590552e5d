//! What lets one workload's agent side prove who it is.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::{ClientConfig, ServerConfig};
use weft_proto::names::{Identity, WorkloadUid};

use crate::error::{ConnectionError, Reason, Side};
use crate::tls::{
    Leaf, Material, ParametersError, Rejection, Resumption, Sessions, Trust, TrustedDomains, client_parameters,
    server_parameters,
};

/// One workload's certificate with everything that a handshake needs. Immutable: a renewal or another trust bundle makes
/// a new one, and with it new sessions.
#[derive(Debug)]
pub struct Credential {
    pub uid: WorkloadUid,
    pub identity: Identity,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Counts the credentials of this workload since the agent's start.
    pub generation: u64,
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
    /// What `client` resumes by; nothing where every handshake is a full one.
    pub sessions: Option<Arc<Sessions>>,
    pub domains: TrustedDomains,
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    #[error("the issued certificate is not acceptable: {0}")]
    Certificate(#[from] Rejection),
    #[error("no certificate was issued")]
    Empty,
    #[error("the issued certificate names {found}, wanted was {wanted}")]
    AnotherIdentity { found: String, wanted: Identity },
}

impl Credential {
    /// Fails when the certificate is not `identity`'s, or does not go with the key.
    pub fn new(
        uid: WorkloadUid,
        identity: Identity,
        material: &Material,
        trust: &Trust,
        generation: u64,
        resumption: Resumption,
    ) -> Result<Self, CredentialError> {
        let leaf = Leaf::read(material.chain.first().ok_or(CredentialError::Empty)?)?;
        let domains = trust.domains();
        let found = leaf.uri.parse::<Identity>().ok().and_then(|identity| domains.canonical(identity));
        if found.is_none() || found != domains.canonical(identity.clone()) {
            return Err(CredentialError::AnotherIdentity { found: leaf.uri, wanted: identity });
        }
        let sessions = resumption.sessions();
        Ok(Self {
            uid,
            identity,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            generation,
            client: client_parameters(material, trust, sessions.clone())?,
            server: server_parameters(material, trust, resumption)?,
            sessions,
            domains,
        })
    }

    /// `no_certificate` once this workload's own certificate has ended.
    pub fn check_time(&self, now: SystemTime) -> Result<(), ConnectionError> {
        if now <= self.not_after {
            return Ok(());
        }
        Err(ConnectionError::new(Side::Local, Reason::NoCertificate)
            .with_detail(format!("this workload's own certificate ({}) has ended", self.identity)))
    }
}
