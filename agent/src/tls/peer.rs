//! Who a verified certificate says its holder is.
//!
//! Invariant: a certificate names exactly one subject: one URI and no other alternative name, because another name would
//! be a second answer to "who is this". Absent: the chain, which `verify` checks first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use weft_proto::names::{Identity, TrustDomain};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Reason;
use crate::limits;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
}

impl Rejection {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The trust domains that mean this mesh: its own and its former or other names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedDomains {
    own: TrustDomain,
    aliases: Arc<[TrustDomain]>,
}

impl TrustedDomains {
    #[must_use]
    pub fn new(own: TrustDomain, aliases: Arc<[TrustDomain]>) -> Self {
        Self { own, aliases }
    }

    /// The identity under the mesh's own trust domain, so that policies and expectations need not know aliases;
    /// nothing for a foreign trust domain.
    #[must_use]
    pub fn canonical(&self, identity: Identity) -> Option<Identity> {
        if identity.trust_domain == self.own {
            Some(identity)
        } else if self.aliases.contains(&identity.trust_domain) {
            Some(Identity { trust_domain: self.own.clone(), ..identity })
        } else {
            None
        }
    }
}

thread_local! {
    /// What the bytes of certificates say, nothing about whom to believe.
    static KNOWN: RefCell<HashMap<Box<[u8]>, Rc<Leaf>>> = RefCell::default();
}

/// What this mesh reads of an end-entity certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its only alternative name.
    pub uri: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// The subject's public key, DER.
    pub public_key: Vec<u8>,
}

impl Leaf {
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, Rejection> {
        let malformed = |what: &str| Rejection::new(Reason::CertificateMalformed, what);
        let (rest, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| malformed(&format!("the certificate cannot be read: {error}")))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow the certificate"));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| malformed(&format!("its alternative names cannot be read: {error}")))?
            .ok_or_else(|| malformed("it has no alternative name"))?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(malformed(&format!(
                "it must have exactly one alternative name, a URI; it has {}",
                names.value.general_names.len()
            )));
        };
        Ok(Self {
            uri: (*uri).to_owned(),
            not_before: time_from_unix(certificate.validity().not_before.timestamp()),
            not_after: time_from_unix(certificate.validity().not_after.timestamp()),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// As `read`, without reading the same bytes twice: in resumed handshakes the same certificates come back.
    fn read_once(certificate: &CertificateDer<'_>) -> Result<Rc<Self>, Rejection> {
        if let Some(known) = Self::known(certificate) {
            return Ok(known);
        }
        let leaf = Rc::new(Self::read(certificate)?);
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= limits::LEAVES_KEPT {
                // Rare, and what is in use is back after one handshake each.
                known.clear();
            }
            known.insert(certificate.as_ref().into(), Rc::clone(&leaf));
        });
        Ok(leaf)
    }

    /// What `read_once` has read before, on this thread.
    pub(super) fn known(certificate: &CertificateDer<'_>) -> Option<Rc<Self>> {
        KNOWN.with_borrow(|known| known.get(certificate.as_ref()).cloned())
    }

    /// Whether it is valid at `now`. A peer whose clock is ahead by less than `limits::CLOCK_SKEW` is forgiven.
    pub fn check_time(&self, now: SystemTime) -> Result<(), Rejection> {
        let expired = |detail| Err(Rejection::new(Reason::CertificateExpired, detail));
        if now > self.not_after {
            return expired(format!("{} is valid until {} only", self.uri, readable(self.not_after)));
        }
        if now + limits::CLOCK_SKEW < self.not_before {
            return expired(format!("{} is valid from {} only", self.uri, readable(self.not_before)));
        }
        Ok(())
    }
}

/// The workload identity that a peer's chain (leaf first) proves at `now`, under the mesh's own trust domain.
///
/// To be asked after every handshake: rustls does not verify again when it resumes.
pub fn identity_of(
    chain: Option<&[CertificateDer<'_>]>,
    domains: &TrustedDomains,
    now: SystemTime,
) -> Result<Identity, Rejection> {
    let (leaf, identity) = named(chain, domains)?;
    leaf.check_time(now)?;
    Ok(identity)
}

/// The identity that it has proven until its end, if that is over at `now`.
#[must_use]
pub fn ended_identity_of(
    chain: Option<&[CertificateDer<'_>]>,
    domains: &TrustedDomains,
    now: SystemTime,
) -> Option<Identity> {
    let (_, identity) = named(chain, domains).ok().filter(|(leaf, _)| leaf.not_after < now)?;
    Some(identity)
}

/// At whatever time.
fn named(chain: Option<&[CertificateDer<'_>]>, domains: &TrustedDomains) -> Result<(Rc<Leaf>, Identity), Rejection> {
    let leaf = chain
        .and_then(<[_]>::first)
        .ok_or_else(|| Rejection::new(Reason::CertificateMissing, "the peer showed no certificate"))?;
    let leaf = Leaf::read_once(leaf)?;
    let identity: Identity = leaf
        .uri
        .parse()
        .map_err(|error| Rejection::new(Reason::CertificateMalformed, format!("it names no workload: {error}")))?;
    let identity = domains.canonical(identity).ok_or_else(|| {
        Rejection::new(Reason::CertificateUntrusted, format!("{} is of a foreign trust domain", leaf.uri))
    })?;
    Ok((leaf, identity))
}

fn time_from_unix(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

fn readable(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}
