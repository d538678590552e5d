//! How it stands with the roots, for people: in `weft status`, and in the mesh's own.

use jiff::Timestamp;
use serde::Serialize;
use time::OffsetDateTime;
use weft_crd::{RootRotation, RotationPhase, TrustedRoot};

use super::record::Roots;
use super::rotation::{Heard, earliest_end};
use crate::limits;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RootReport {
    /// Whom agents believe; the first one signs.
    pub roots: Vec<TrustedRoot>,
    pub rotation: Option<RootRotation>,
    /// Another root is wanted, and nobody but whoever supplied this one can replace it.
    #[serde(skip)]
    pub replaced_by_hand: bool,
}

impl RootReport {
    #[must_use]
    pub fn new(roots: &Roots, heard: &Heard, due: bool) -> Self {
        let trusted = roots
            .trusted()
            .map(|root| TrustedRoot { fingerprint: root.fingerprint.clone(), not_after: readable(root.not_after) });
        let rotation = roots.record.next.as_ref().map(|next| {
            let away = heard.silent.iter().filter(|_| next.phase == RotationPhase::TrustNew);
            let waiting: Vec<String> = heard.late.iter().chain(away).map(ToString::to_string).collect();
            RootRotation {
                phase: next.phase,
                since: readable(next.since),
                not_over_before: readable(earliest_end(&roots.record, next, heard)),
                waiting_on: waiting.into_iter().take(limits::ROOT_WAITING_TOLD).collect(),
            }
        });
        Self { roots: trusted.collect(), rotation, replaced_by_hand: due && roots.record.overlap.is_none() }
    }

    /// Whether all is as it should be, a word for it and a sentence.
    #[must_use]
    pub fn condition(&self) -> (bool, &'static str, String) {
        let Some(rotation) = &self.rotation else {
            let end = self.roots.first().map_or("", |root| root.not_after.as_str());
            if self.replaced_by_hand {
                let message = format!(
                    "the root is to be replaced by a younger one, and whoever supplied it has to do that; it ends {end}"
                );
                return (false, "Supplied", message);
            }
            return (true, "Current", format!("the root is in force until {end}"));
        };
        let doing = match rotation.phase {
            RotationPhase::TrustNew => "every agent learns to believe the new root too",
            RotationPhase::Reissue => "the new root signs, and what the old one has signed comes to its end",
            RotationPhase::RetireOld => "every agent forgets the old root",
        };
        let waits = if rotation.waiting_on.is_empty() {
            String::new()
        } else {
            format!("; it waits for {}", rotation.waiting_on.join(", "))
        };
        let RootRotation { since, not_over_before, .. } = rotation;
        let message = format!("since {since} {doing}; not over before {not_over_before}{waits}");
        (false, rotation.phase.as_str(), message)
    }
}

fn readable(time: OffsetDateTime) -> String {
    Timestamp::from_second(time.unix_timestamp()).unwrap_or_default().to_string()
}
