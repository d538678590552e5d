//! What is kept of the mesh's roots: the one in force, and the one that takes its place while that lasts.
//!
//! Invariant: a record is kept whole or not at all, and everything else (who signs, whom agents trust, what is published)
//! follows from it, so whoever reads it goes on where another stopped. Absent: where it is kept (`folder`, `secret`), and
//! when it changes (`rotation`).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use weft_crd::RotationPhase as Phase;

use super::root::{Root, Written};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub root: Written,
    /// How long after its last signature something that the root has signed may still be shown: twice the longest life of
    /// a leaf, so that a controller that learns late of the end may sign for one life more; at least a node's life.
    /// None: the root was supplied, and whoever did so replaces it.
    pub overlap: Option<Duration>,
    pub next: Option<Next>,
}

/// The root that takes the other's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    pub root: Written,
    pub overlap: Duration,
    pub phase: Phase,
    /// When the phase began, in whole seconds.
    pub since: OffsetDateTime,
}

/// What is kept beside the roots' keys and certificates, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stand {
    overlap_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<Turn>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Turn {
    phase: Phase,
    since_unix_seconds: i64,
    overlap_seconds: u64,
}

/// What a place keeps, by name.
#[derive(Debug, Default)]
pub struct Texts {
    pub root: Option<Written>,
    pub next: Option<Written>,
    /// JSON.
    pub stand: Option<String>,
}

impl Record {
    /// Of a root that was just made.
    pub fn new(root: Written, overlap: Duration) -> Self {
        Self { root, overlap: Some(overlap), next: None }
    }

    /// None: there is no root.
    pub fn read(texts: Texts) -> anyhow::Result<Option<Self>> {
        let Some(root) = texts.root else { return Ok(None) };
        let stand: Option<Stand> = texts.stand.as_deref().map(serde_json::from_str).transpose()?;
        let turn = stand.as_ref().and_then(|stand| stand.rotation.as_ref());
        ensure!(turn.is_some() == texts.next.is_some(), "the next root and what is said about it do not come together");
        let next = turn.zip(texts.next).map(|(turn, root)| {
            let since = OffsetDateTime::from_unix_timestamp(turn.since_unix_seconds)?;
            anyhow::Ok(Next { root, overlap: Duration::from_secs(turn.overlap_seconds), phase: turn.phase, since })
        });
        let overlap = stand.map(|stand| Duration::from_secs(stand.overlap_seconds));
        Ok(Some(Self { root, overlap, next: next.transpose()? }))
    }

    pub fn texts(&self) -> Texts {
        let turn = |next: &Next| Turn {
            phase: next.phase,
            since_unix_seconds: next.since.unix_timestamp(),
            overlap_seconds: next.overlap.as_secs(),
        };
        let stand = self.overlap.map(|overlap| {
            let rotation = self.next.as_ref().map(turn);
            // Numbers and words always become JSON.
            serde_json::to_string(&Stand { overlap_seconds: overlap.as_secs(), rotation }).unwrap_or_default()
        });
        Texts { root: Some(self.root.clone()), next: self.next.as_ref().map(|next| next.root.clone()), stand }
    }

    pub fn phase(&self) -> Option<Phase> {
        self.next.as_ref().map(|next| next.phase)
    }

    /// The root that signs.
    pub fn issuer(&self) -> &Written {
        self.of_issuer(&self.root, |next| &next.root)
    }

    /// `overlap` of the root that signs.
    pub fn issuers_overlap(&self) -> Option<Duration> {
        self.of_issuer(self.overlap, |next| Some(next.overlap))
    }

    fn of_issuer<'a, T>(&'a self, root: T, next: impl FnOnce(&'a Next) -> T) -> T {
        match &self.next {
            Some(taking_over) if taking_over.phase != Phase::TrustNew => next(taking_over),
            _ => root,
        }
    }

    /// Whom agents believe. The first one signs.
    pub fn trusted(&self) -> Vec<&Written> {
        let Some(next) = &self.next else { return vec![&self.root] };
        match next.phase {
            Phase::TrustNew => vec![&self.root, &next.root],
            Phase::Reissue => vec![&next.root, &self.root],
            Phase::RetireOld => vec![&next.root],
        }
    }

    /// The roots that agents believe, as they read them.
    pub fn bundle(&self) -> String {
        self.trusted().into_iter().flat_map(|root| [root.certificate.trim_end(), "\n"]).collect()
    }
}

/// A record that was read and found good.
#[derive(Debug)]
pub struct Roots {
    pub record: Record,
    root: Root,
    next: Option<Root>,
}

impl Roots {
    pub fn parse(record: Record) -> anyhow::Result<Self> {
        let root = record.root.parse()?;
        let next = record.next.as_ref().map(|next| next.root.parse().context("of the next root")).transpose()?;
        Ok(Self { record, root, next })
    }

    /// The root that signs.
    #[must_use]
    pub fn issuer(&self) -> &Root {
        self.parsed(self.record.issuer())
    }

    /// The root by which agents know this controller: the older one for as long as any certificate of it may be good,
    /// because whoever shows such a one may have been away and believe nobody else.
    #[must_use]
    pub fn introducer(&self) -> &Root {
        self.next.as_ref().filter(|_| self.record.phase() == Some(Phase::RetireOld)).unwrap_or(&self.root)
    }

    /// The root that is in force, or that nobody will take back any more.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.introducer().fingerprint
    }

    pub fn trusted(&self) -> impl Iterator<Item = &Root> {
        self.record.trusted().into_iter().map(|written| self.parsed(written))
    }

    #[must_use]
    pub fn trusted_der(&self) -> Vec<Vec<u8>> {
        self.trusted().map(|root| root.certificate.to_vec()).collect()
    }

    pub fn all(&self) -> impl Iterator<Item = &Root> {
        std::iter::once(&self.root).chain(&self.next)
    }

    #[must_use]
    pub fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        self.all().any(|root| root.certificate == *certificate)
    }

    #[must_use]
    pub fn shares(&self, other: &Self) -> bool {
        self.all().any(|root| other.holds(&root.certificate))
    }

    fn parsed(&self, written: &Written) -> &Root {
        self.next.as_ref().filter(|_| *written != self.record.root).unwrap_or(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_in_every_phase() {
        let made = |name: &str| Written { key: format!("key of {name}"), certificate: name.to_owned() };
        let supplied = Record { root: made("old"), overlap: None, next: None };
        let whole = Record::new(made("old"), Duration::from_hours(48));
        let since = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let turning = |phase| Record {
            next: Some(Next { root: made("new"), overlap: Duration::from_mins(1), phase, since }),
            ..whole.clone()
        };
        let turning = [Phase::TrustNew, Phase::Reissue, Phase::RetireOld].map(turning);
        for record in [supplied, whole.clone()].into_iter().chain(turning) {
            assert_eq!(Record::read(record.texts()).unwrap(), Some(record));
        }
        assert_eq!(Record::read(Texts::default()).unwrap(), None);
        let torn = Texts { next: Some(made("new")), ..whole.texts() };
        assert!(Record::read(torn).is_err(), "half of a rotation was taken for something whole");
    }
}
