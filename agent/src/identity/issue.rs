//! A new key and the certificate for it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::time::SystemTime;
use tokio::time::timeout;
use tonic::transport::Channel;
use weft_proto::names::{NodeName, WorkloadUid};
use weft_proto::v1::identity_client::IdentityClient;
use weft_proto::v1::{Certificate, IssueRequest, JoinRequest};

use super::keys::Kept;
use crate::limits;
use crate::tls::{Leaf, Material, Rejection};

#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error("a key could not be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the controller did not answer in {} s", limits::CONTROLLER_CALL.as_secs())]
    Timeout,
    #[error("the controller said {code:?}: {message}")]
    Refused { code: tonic::Code, message: String },
    #[error("the issued certificate is not acceptable: {0}")]
    Certificate(#[from] Rejection),
    #[error("no certificate was issued")]
    Empty,
}

/// A certificate for one workload of this node.
pub(super) async fn issue(channel: Channel, workload: &WorkloadUid) -> Result<Kept, IssueError> {
    let (key, csr_der) = new_key()?;
    let request = IssueRequest { workload: workload.to_string(), csr_der };
    let mut client = IdentityClient::new(channel);
    received(&key, timeout(limits::CONTROLLER_CALL, client.issue(request)).await)
}

/// A certificate for this node: by the token, or (empty token) by the certificate that `channel` shows.
pub(super) async fn join(channel: Channel, node: &NodeName, token: String) -> Result<Kept, IssueError> {
    let (key, csr_der) = new_key()?;
    let request = JoinRequest { node: node.to_string(), token, csr_der };
    let mut client = IdentityClient::new(channel);
    received(&key, timeout(limits::CONTROLLER_CALL, client.join(request)).await)
}

/// P-256: the smallest certificates and the fastest signatures that every TLS library has. The request names nobody.
fn new_key() -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut request = CertificateParams::default();
    request.distinguished_name = DistinguishedName::new();
    let request = request.serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}

type Answer = Result<Result<tonic::Response<Certificate>, tonic::Status>, tokio::time::error::Elapsed>;

fn received(key: &KeyPair, answer: Answer) -> Result<Kept, IssueError> {
    let certificate = answer
        .map_err(|_| IssueError::Timeout)?
        .map_err(|status| IssueError::Refused { code: status.code(), message: described(&status) })?
        .into_inner();
    let chain: Vec<_> = certificate.chain_der.into_iter().map(CertificateDer::from).collect();
    Leaf::read(chain.first().ok_or(IssueError::Empty)?)?.check_time(SystemTime::now())?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(Kept { material: Material { key, chain }, roots: certificate.roots_der })
}

/// The message with its causes: tonic's own says "transport error" alone.
fn described(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
