//! One root: made, written as text, read and checked. Absent: which of two signs (`record`), and where they are kept.

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use weft_proto::names::TrustDomain;

use crate::hexadecimal::hexadecimal;
use crate::limits;

#[derive(Debug)]
pub struct Root {
    pub issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    /// Of its certificate: SHA-256, in hexadecimal.
    pub fingerprint: String,
    pub made: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// Both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    pub key: String,
    pub certificate: String,
}

impl Root {
    /// So old that another is to take its place by itself.
    pub fn is_old(&self, now: OffsetDateTime) -> bool {
        let life = self.not_after - self.made;
        now - self.made >= life * limits::ROOT_AGE_PERCENT / 100
    }
}

impl Written {
    pub fn make(trust_domain: &TrustDomain) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = parameters(trust_domain).self_signed(&key)?;
        Ok(Self { key: key.serialize_pem(), certificate: certificate.pem() })
    }

    pub fn parse(&self) -> anyhow::Result<Root> {
        let key = KeyPair::from_pem(&self.key).context("its key is not a private key")?;
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).context("its certificate is not in PEM")?;
        let (_, read) = x509_parser::parse_x509_certificate(&certificate).context("its certificate is none")?;
        let public = read.public_key().subject_public_key.data.to_vec();
        let not_before = read.validity().not_before.to_datetime();
        let not_after = read.validity().not_after.to_datetime();
        ensure!(public == rcgen::PublicKeyData::der_bytes(&key), "its certificate is not of its key");
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let fingerprint = fingerprint(&certificate);
        Ok(Root { issuer, certificate, fingerprint, made: not_before + limits::CLOCK_SKEW, not_after })
    }
}

/// Without the key: it is a secret.
impl std::fmt::Debug for Written {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Written").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

pub fn fingerprint(certificate: &[u8]) -> String {
    hexadecimal(&Sha256::digest(certificate))
}

fn parameters(trust_domain: &TrustDomain) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Weft root of {trust_domain}"));
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - limits::CLOCK_SKEW;
    params.not_after = now + limits::ROOT_LIFE;
    params
}
