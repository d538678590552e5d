//! Certificates for tests, good and bad.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use weft_proto::names::{Identity, WorkloadUid};

use super::{Material, Resumption, Trust, client_parameters, server_parameters};
use crate::identity::Credential;

pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// A root with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// What a leaf says.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) names: Vec<SanType>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Shape {
    pub(crate) fn uri(uri: &str) -> Self {
        let now = SystemTime::now();
        Self { names: vec![uri_name(uri)], not_before: now - HOUR, not_after: now + HOUR }
    }

    pub(crate) fn and(mut self, name: SanType) -> Self {
        self.names.push(name);
        self
    }

    pub(crate) fn valid(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }
}

pub(crate) fn uri_name(uri: &str) -> SanType {
    SanType::URI(Ia5String::try_from(uri).unwrap())
}

pub(crate) fn dns_name(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).unwrap())
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn root(&self) -> Vec<u8> {
        self.certificate.to_vec()
    }

    pub(crate) fn root_pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.root()))
    }

    pub(crate) fn sign(&self, shape: &Shape, key: &impl PublicKeyData) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names.clone_from(&shape.names);
        params.not_before = shape.not_before.into();
        params.not_after = shape.not_after.into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    pub(crate) fn material(&self, shape: &Shape) -> Material {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = self.sign(shape, &key);
        Material { key: PrivatePkcs8KeyDer::from(key.serialize_der()), chain: vec![certificate] }
    }

    /// A good credential for a workload named as its service account, trusting this root.
    pub(crate) fn credential(&self, identity: &str) -> Credential {
        credential(&self.material(&Shape::uri(identity)), &trust(&[self]), Resumption::On)
    }
}

pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
pub(crate) const DB: &str = "spiffe://cluster.local/ns/shop/sa/db";

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(crate) fn uid(text: &str) -> WorkloadUid {
    text.parse().unwrap()
}

/// The mesh `cluster.local`, once named `old.local`, with these roots.
pub(crate) fn trust(authorities: &[&Authority]) -> Trust {
    Trust {
        trust_domain: "cluster.local".parse().unwrap(),
        aliases: vec!["old.local".parse().unwrap()].into(),
        roots: authorities.iter().map(|authority| authority.root()).collect(),
    }
}

/// A credential with any certificate at all: what a hostile agent could show.
pub(crate) fn credential(material: &Material, trust: &Trust, resumption: Resumption) -> Credential {
    let sessions = resumption.sessions();
    Credential {
        uid: uid("any"),
        identity: identity(WEB),
        not_before: SystemTime::now() - HOUR,
        not_after: SystemTime::now() + HOUR,
        generation: 1,
        client: client_parameters(material, trust, sessions.clone()).unwrap(),
        server: server_parameters(material, trust, resumption).unwrap(),
        sessions,
        domains: trust.domains(),
    }
}
