//! The root itself: made, written as text, read and checked. Absent: where it is kept (`folder`, `secret`).

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use weft_proto::names::TrustDomain;

use crate::hexadecimal::hexadecimal;
use crate::limits;

pub struct Root {
    pub issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
}

/// Both in PEM.
pub struct Written {
    pub key: String,
    pub certificate: String,
}

impl Root {
    /// Of its certificate: SHA-256, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hexadecimal(&Sha256::digest(&self.certificate))
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
        let public = x509_parser::parse_x509_certificate(&certificate)
            .context("its certificate is none")?
            .1
            .public_key()
            .subject_public_key
            .data
            .to_vec();
        ensure!(public == rcgen::PublicKeyData::der_bytes(&key), "its certificate is not of its key");
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Root { issuer, certificate })
    }
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
