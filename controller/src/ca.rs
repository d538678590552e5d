//! The certificate authority: a root that is kept in the state directory or in a Secret, and others in its place in time.
//!
//! Invariant: every signature needs a [`ProvenNode`]; of a request only the public key is used. A root of which there is
//! a trace is never made again: whoever lost it must say so by removing the trace. What a root has signed is over before
//! agents may forget it (`rotation`), also where this controller learns late that it should sign by another.

mod folder;
mod keeper;
mod record;
mod report;
mod root;
mod rotation;
mod secret;
mod store;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::sync::watch;
use weft_proto::names::{Identity, Namespace, TrustDomain};
use weft_proto::v1;

use crate::authenticate::ProvenNode;
use crate::limits;
use crate::trouble::Troubles;

use folder::Folder;
pub use keeper::Keeper;
pub use record::Roots;
pub use report::RootReport;
use secret::Cluster;
use store::Store;

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
    #[error(
        "this controller has not been able to look for so long whether its root is still in force; ask another one"
    )]
    Unsure,
}

#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    roots: watch::Sender<Held>,
    /// When the roots were last known to be these, in Unix seconds.
    confirmed: AtomicI64,
    report: Mutex<RootReport>,
    lives: Lives,
}

/// The roots of the moment.
#[derive(Debug, Clone)]
pub struct Held {
    pub roots: Arc<Roots>,
    /// They were looked at since this controller leads: agents may be told of them.
    pub may_be_told: bool,
}

/// Of certificates, unless the mesh says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    pub workload: Duration,
    pub node: Duration,
}

/// The authority of a mesh whose roots are kept in `state_dir`, where they are made if there never were any.
pub async fn open_folder(
    state_dir: &Path,
    trust_domain: TrustDomain,
    lives: Lives,
    troubles: &Troubles,
) -> anyhow::Result<(Arc<Authority>, Keeper)> {
    open(Store::Folder(Folder::new(state_dir)?), trust_domain, lives, troubles).await
}

/// The same in a Secret of `namespace`.
pub async fn open_secret(
    client: kube::Client,
    namespace: &Namespace,
    trust_domain: TrustDomain,
    lives: Lives,
    troubles: &Troubles,
) -> anyhow::Result<(Arc<Authority>, Keeper)> {
    let cluster = Cluster::new(client, namespace);
    open(Store::Cluster(Box::new(cluster)), trust_domain, lives, troubles).await
}

async fn open(
    store: Store,
    trust_domain: TrustDomain,
    lives: Lives,
    troubles: &Troubles,
) -> anyhow::Result<(Arc<Authority>, Keeper)> {
    let asked = OffsetDateTime::now_utc();
    let roots = store.open(&trust_domain, lives.overlap()).await?;
    let authority = Arc::new(Authority {
        trust_domain,
        roots: watch::Sender::new(Held { roots: Arc::new(roots), may_be_told: false }),
        confirmed: AtomicI64::new(asked.unix_timestamp()),
        report: Mutex::default(),
        lives,
    });
    Ok((Arc::clone(&authority), Keeper::new(store, authority, troubles.clone())))
}

#[cfg(test)]
impl Held {
    /// A root of nobody.
    pub(crate) fn made() -> Self {
        let root = root::Written::make(&"cluster.local".parse().expect("a trust domain")).expect("a root");
        let record = record::Record::new(root, Duration::from_hours(48));
        Self { roots: Arc::new(Roots::parse(record).expect("a root")), may_be_told: true }
    }
}

impl Lives {
    /// Twice the longest life of a leaf, and at least a node's (see [`record::Record::overlap`]).
    fn overlap(self) -> Duration {
        (self.workload * 2).max(self.node)
    }
}

impl Authority {
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Those of this moment.
    #[must_use]
    pub fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots.borrow().roots)
    }

    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Held> {
        self.roots.subscribe()
    }

    /// How it stands with the roots, for people.
    #[must_use]
    pub fn report(&self) -> RootReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, report: &RootReport) {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone_from(report);
    }

    fn adopt(&self, roots: Arc<Roots>) {
        self.roots.send_modify(|held| held.roots = roots);
    }

    fn lead(&self) {
        self.roots.send_if_modified(|held| !std::mem::replace(&mut held.may_be_told, true));
    }

    fn confirm(&self, asked: OffsetDateTime) {
        self.confirmed.store(asked.unix_timestamp(), Ordering::Relaxed);
    }

    /// What is asked of the root that signs, where the mesh says how long workloads' certificates live.
    fn overlap(&self, workload: Option<Duration>) -> Duration {
        Lives { workload: workload.unwrap_or(self.lives.workload), ..self.lives }.overlap()
    }

    /// A certificate that proves the node, for its agent's connections to us.
    pub fn sign_node(&self, node: &ProvenNode, csr_der: &[u8]) -> Result<v1::Certificate, SignError> {
        let names = vec![uri(&node.identity().to_string())?];
        self.sign(csr_der, names, vec![ExtendedKeyUsagePurpose::ClientAuth], (self.lives.node, 1))
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
        let life = life.unwrap_or(self.lives.workload);
        self.sign(csr_der, vec![uri(&identity.to_string())?], usages, (life, 2))
    }

    /// Our own certificate, made at each start and when the roots change. Agents verify the name `weft-controller` whatever
    /// address they dial.
    pub fn server(
        names: &[SanType],
        roots: &Roots,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        let params = parameters(names.to_vec(), usages, now, now + limits::SERVER_CERTIFICATE_LIFE);
        let certificate =
            params.signed_by(&key, &roots.introducer().issuer).context("cannot sign our own certificate")?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok((vec![certificate.der().clone()], key))
    }

    fn sign(
        &self,
        csr_der: &[u8],
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        (life, times): (Duration, u32),
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
        let (roots, now) = (self.roots(), OffsetDateTime::now_utc());
        let not_after = self.end(&roots, now, life, times).ok_or(SignError::Unsure)?;
        let params = parameters(names, usages, now, not_after);
        let certificate = params.signed_by(&key, &roots.issuer().issuer).map_err(SignError::Sign)?;
        Ok(v1::Certificate {
            chain_der: vec![certificate.der().to_vec()],
            not_before_unix_seconds: params.not_before.unix_timestamp(),
            not_after_unix_seconds: not_after.unix_timestamp(),
            roots_der: roots.trusted_der(),
        })
    }

    /// Of a certificate that would live for `life`, `times` of which the root's overlap is to cover. None: it would be over
    /// already, because nobody knows whether the root is in force.
    fn end(&self, roots: &Roots, now: OffsetDateTime, life: Duration, times: u32) -> Option<OffsetDateTime> {
        let Some(overlap) = roots.record.issuers_overlap() else { return Some(now + life) };
        let confirmed = OffsetDateTime::from_unix_timestamp(self.confirmed.load(Ordering::Relaxed)).ok()?;
        Some((now + life.min(overlap / times)).min(confirmed + overlap)).filter(|end| *end > now)
    }
}

fn uri(text: &str) -> Result<SanType, SignError> {
    Ok(SanType::URI(text.try_into().map_err(SignError::Sign)?))
}

/// A leaf without a subject: its name is the alternative one alone.
fn parameters(
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    now: OffsetDateTime,
    not_after: OffsetDateTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - limits::CLOCK_SKEW;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    params
}
