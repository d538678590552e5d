//! What objects should say in our name, and which of them do not.
//!
//! Invariant: an object that may say something else than it should is looked at until it does not; one that neither the
//! mesh nor the API has spoken of since is not looked at at all, so a change costs what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;

use super::{Compared, Past, entries};
use crate::limits;
use crate::object::Key;
use crate::source::kubernetes::{Digest, digest};
use crate::status::{PolicyReport, Reports};

/// Of one object: what it should say, and the digest of it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub reports: Vec<PolicyReport>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Default)]
pub struct Wishes {
    all: BTreeMap<Key, Wish>,
    /// They are about every object: what is not among them should say nothing.
    complete: bool,
    /// Objects that may say something else.
    unsettled: BTreeSet<Key>,
}

/// One object that is to be written now.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    pub key: Key,
    pub reports: Vec<PolicyReport>,
    pub compared: Compared,
}

impl Wishes {
    pub fn contains(&self, key: &Key) -> bool {
        self.all.contains_key(key)
    }

    /// From what was to be told to what is.
    pub fn follow(&mut self, before: &Reports, now: &Reports, complete: bool) {
        self.complete = complete;
        for (then, now) in now.since(before) {
            for key in then.into_iter().flat_map(BTreeMap::keys) {
                if !now.is_some_and(|now| now.contains_key(key)) {
                    self.set(key, None);
                }
            }
            for (key, reports) in now.into_iter().flatten() {
                let known = self.all.get(key);
                if known.is_none_or(|known| known.reports != *reports || known.digest.is_none()) {
                    let digest = digest(&entries(reports, &[], Timestamp::UNIX_EPOCH));
                    self.set(key, Some(Wish { reports: reports.clone(), digest }));
                }
            }
        }
    }

    /// None: of this object nothing is wished.
    pub fn set(&mut self, key: &Key, wish: Option<Wish>) {
        match wish {
            Some(wish) => drop(self.all.insert(key.clone(), wish)),
            None => drop(self.all.remove(key)),
        }
        self.unsettled.insert(key.clone());
    }

    /// Objects that do not say what they should, as many as may be written now, and when the next one may be where none is
    /// being written. What should say nothing and says something of ours is stale, once the wishes are complete.
    /// `changed`: what says something else since the last look, which is taken.
    pub fn choose(
        &mut self,
        said: &BTreeMap<Key, Digest>,
        changed: &mut BTreeSet<Key>,
        past: &Past,
    ) -> (Vec<Turn>, Option<Instant>) {
        self.unsettled.append(changed);
        let free = limits::STATUS_WRITES.saturating_sub(past.writing.len());
        let nothing = Wish::default();
        let (mut settled, mut ready, mut again, mut next) = (Vec::new(), Vec::new(), Vec::new(), None);
        for key in &self.unsettled {
            // The rest has time until one of these is written: all of a large mesh at each write would take minutes.
            if ready.len() == free {
                break;
            }
            let wish = match self.all.get(key) {
                wish if wish.and_then(|wish| wish.digest) == said.get(key).copied() => {
                    settled.push(key.clone());
                    continue;
                }
                Some(wish) => wish,
                None if self.complete => &nothing,
                None => continue,
            };
            let compared = (wish.digest, said.get(key).copied());
            if past.done.get(key) == Some(&compared) || past.writing.contains(key) {
                continue;
            }
            match past.end(key) {
                Some(end) => next = Some(next.map_or(end, |known: Instant| known.min(end))),
                None => match past.failed.get(key) {
                    Some(when) => again.push((when, key, wish, compared)),
                    None => ready.push((key, wish, compared)),
                },
            }
        }
        again.sort_by_key(|(when, ..)| **when);
        let again = again.into_iter().map(|(_, key, wish, compared)| (key, wish, compared));
        let turn = |(key, wish, compared): (&Key, &Wish, _)| Turn {
            key: key.clone(),
            reports: wish.reports.clone(),
            compared,
        };
        let turns = ready.into_iter().chain(again).take(free).map(turn).collect();
        for key in settled {
            self.unsettled.remove(&key);
        }
        (turns, next)
    }
}
