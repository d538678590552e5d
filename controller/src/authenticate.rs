//! Who is calling: the proof that a caller is the agent of one node.
//!
//! Only this module makes a [`ProvenNode`], from a verified client certificate, a join token or a token of the agent's
//! pod; everything that signs asks for one.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use weft_proto::names::{NodeIdentity, NodeName, TrustDomain};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::review::{self, Reviewer};
use crate::text::shortened;
use crate::token::Tokens;

/// How a node without a certificate proves itself.
#[derive(Debug, Clone)]
pub enum FirstProof {
    /// By a join token, which a person has brought there.
    JoinToken(Tokens),
    /// By the token of the agent's pod.
    PodToken(Arc<Reviewer>),
}

/// A node's identity that has been proven on this very connection.
#[derive(Debug, Clone)]
pub struct ProvenNode {
    identity: NodeIdentity,
    until: OffsetDateTime,
}

impl ProvenNode {
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.identity.node
    }

    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// The proof holds until then: a long stream ends with the certificate that opened it.
    #[must_use]
    pub fn until(&self) -> OffsetDateTime {
        self.until
    }
}

/// Why a caller is not believed. The sentences go to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("a node certificate is needed, and this connection shows none; join first")]
    NoCertificate,
    #[error("the client certificate is not a node's: {0}")]
    NotANode(String),
    #[error("the client certificate has expired")]
    Expired,
    #[error("the node certificate is of trust domain {found}, ours is {ours}")]
    OtherTrustDomain { found: TrustDomain, ours: TrustDomain },
    #[error("the join token is not good for node {0}: it is wrong, or of another node")]
    WrongToken(String),
    #[error("the join token of node {0} has expired; make another with `weft-controller token create`")]
    ExpiredToken(NodeName),
    #[error("{0}")]
    NotAName(String),
    #[error("a certificate alone renews none here: show the token of the agent's pod")]
    NoToken,
    #[error("{0}")]
    NotReviewed(review::Refused),
    #[error("the token is of a pod on node {found}, not on {asked:?}")]
    OtherNode { found: NodeName, asked: String },
}

/// From the certificates that TLS has verified against our root (leaf first).
pub fn by_certificate(
    ours: &TrustDomain,
    certificates: Option<&[CertificateDer<'_>]>,
    now: OffsetDateTime,
) -> Result<ProvenNode, Unproven> {
    let leaf = certificates.and_then(<[_]>::first).ok_or(Unproven::NoCertificate)?;
    let unreadable = || Unproven::NotANode("it cannot be read".to_owned());
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
    let identity: NodeIdentity = only_uri(&certificate)?
        .parse()
        .map_err(|error: weft_proto::names::NameError| Unproven::NotANode(error.to_string()))?;
    if identity.trust_domain != *ours {
        return Err(Unproven::OtherTrustDomain { found: identity.trust_domain, ours: ours.clone() });
    }
    let until = certificate.validity().not_after.to_datetime();
    if until <= now {
        return Err(Unproven::Expired);
    }
    Ok(ProvenNode { identity, until })
}

/// Exactly one URI among the subject's alternative names, and nothing else.
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, Unproven> {
    let names: Vec<&GeneralName<'_>> = certificate
        .extensions()
        .iter()
        .filter_map(|extension| {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { return None };
            Some(&names.general_names)
        })
        .flatten()
        .collect();
    match names.as_slice() {
        [GeneralName::URI(uri)] => Ok(uri),
        _ => Err(Unproven::NotANode("it must have exactly one name, a URI".to_owned())),
    }
}

/// From a join token, which is good for one node until it expires.
pub fn by_token(
    ours: &TrustDomain,
    tokens: &Tokens,
    node: &str,
    token: &str,
    now: OffsetDateTime,
) -> Result<ProvenNode, Unproven> {
    let node: NodeName =
        node.parse().map_err(|error: weft_proto::names::NameError| Unproven::NotAName(shortened(error.to_string())))?;
    let until = tokens.check(&node, token).ok_or_else(|| Unproven::WrongToken(node.to_string()))?;
    if until <= now {
        return Err(Unproven::ExpiredToken(node));
    }
    Ok(ProvenNode { identity: NodeIdentity { trust_domain: ours.clone(), node }, until })
}

/// From the token of the agent's pod, which says on which node it is.
pub async fn by_review(
    ours: &TrustDomain,
    reviewer: &Reviewer,
    node: &str,
    token: &str,
) -> Result<ProvenNode, Unproven> {
    let (proven, until) = reviewer.review(token).await.map_err(Unproven::NotReviewed)?;
    if proven.as_str() != node {
        return Err(Unproven::OtherNode { found: proven, asked: shortened(node.to_owned()) });
    }
    Ok(ProvenNode { identity: NodeIdentity { trust_domain: ours.clone(), node: proven }, until })
}
