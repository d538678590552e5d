//! The certificate authority: one root, kept in the state directory or in a Secret, and made once.
//!
//! Invariant: every signature needs a [`ProvenNode`]; of a request only the public key is used. A root of which there is
//! a trace is never made again: whoever lost it must say so by removing the trace.

mod folder;
mod root;
mod secret;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use time::OffsetDateTime;
use weft_proto::names::{Identity, Namespace, TrustDomain};
use weft_proto::v1;

use crate::authenticate::ProvenNode;
use crate::limits;

use root::Root;
pub use secret::Guard;

/// An uncompressed point of P-256: 0x04 and two coordinates (SEC 1, 2.3.3).
const P256_POINT_BYTES: usize = 65;

/// Why a request is not signed. The sentences go to the caller.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the certificate request has {0} bytes, more than {max} are not read", max = limits::CSR_BYTES)]
    TooLarge(usize),
    #[error("the certificate request is not valid: {0}")]
    NotValid(rcgen::Error),
    #[error("the key of a certificate request must be an ECDSA key of P-256")]
    OtherKey,
    #[error("signing failed: {0}")]
    Sign(rcgen::Error),
}

#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    workload_life: Duration,
}

impl Authority {
    /// Reads the root of `state_dir`, or makes it if there never was one.
    pub fn open(state_dir: &Path, trust_domain: TrustDomain, workload_life: Duration) -> anyhow::Result<Self> {
        let root = folder::open(state_dir, &trust_domain)?;
        Ok(Self::of(root, trust_domain, workload_life))
    }

    /// The same in a Secret of `namespace`.
    pub async fn open_secret(
        client: kube::Client,
        namespace: &Namespace,
        trust_domain: TrustDomain,
        workload_life: Duration,
    ) -> anyhow::Result<(Self, Guard)> {
        let (root, guard) = Box::pin(secret::open(client, namespace, &trust_domain)).await?;
        Ok((Self::of(root, trust_domain, workload_life), guard))
    }

    fn of(root: Root, trust_domain: TrustDomain, workload_life: Duration) -> Self {
        Self { trust_domain, issuer: root.issuer, root: root.certificate, workload_life }
    }

    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// A certificate that proves the node, for its agent's connections to us.
    pub fn sign_node(&self, node: &ProvenNode, csr_der: &[u8], life: Duration) -> Result<v1::Certificate, SignError> {
        let names = vec![uri(&node.identity().to_string())?];
        self.sign(csr_der, names, vec![ExtendedKeyUsagePurpose::ClientAuth], life)
    }

    /// A certificate that proves a workload of the node. The caller has checked that it lives there. Without `life` it
    /// lives as long as this authority was told.
    pub fn sign_workload(
        &self,
        node: &ProvenNode,
        identity: &Identity,
        csr_der: &[u8],
        life: Option<Duration>,
    ) -> Result<v1::Certificate, SignError> {
        tracing::debug!(node = %node.node(), %identity, "signing");
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(csr_der, vec![uri(&identity.to_string())?], usages, life.unwrap_or(self.workload_life))
    }

    /// Our own certificate, made at each start. Agents verify the name `weft-controller` whatever address they dial.
    pub fn server(&self, names: &[SanType]) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (params, _) = parameters(names.to_vec(), usages, limits::SERVER_CERTIFICATE_LIFE);
        let certificate = params.signed_by(&key, &self.issuer).context("cannot sign our own certificate")?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok((vec![certificate.der().clone()], key))
    }

    fn sign(
        &self,
        csr_der: &[u8],
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        life: Duration,
    ) -> Result<v1::Certificate, SignError> {
        if csr_der.len() > limits::CSR_BYTES {
            return Err(SignError::TooLarge(csr_der.len()));
        }
        let der = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&der).map_err(SignError::NotValid)?;
        let key = request.public_key;
        // The request's algorithm is the signature's; the point itself says which curve it is of.
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_BYTES {
            return Err(SignError::OtherKey);
        }
        let (params, (not_before, not_after)) = parameters(names, usages, life);
        let certificate = params.signed_by(&key, &self.issuer).map_err(SignError::Sign)?;
        Ok(v1::Certificate {
            chain_der: vec![certificate.der().to_vec()],
            not_before_unix_seconds: not_before.unix_timestamp(),
            not_after_unix_seconds: not_after.unix_timestamp(),
            roots_der: vec![self.root.to_vec()],
        })
    }
}

fn uri(text: &str) -> Result<SanType, SignError> {
    Ok(SanType::URI(text.try_into().map_err(SignError::Sign)?))
}

/// A leaf without a subject: its name is the alternative one alone.
fn parameters(
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    life: Duration,
) -> (CertificateParams, (OffsetDateTime, OffsetDateTime)) {
    let now = OffsetDateTime::now_utc();
    let (not_before, not_after) = (now - limits::CLOCK_SKEW, now + life);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    (params, (not_before, not_after))
}
