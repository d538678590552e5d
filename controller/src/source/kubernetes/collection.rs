//! Everything that the API has said so far, as one set of objects.
//!
//! Invariant: what is broken keeps its last good version, and what a lost definition had stays, both over a restart too;
//! only a word of the API removes anything. Absent: writing what is kept (`keep`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::answer::Answers;
use super::decode::Found;
use crate::limits;
use crate::object::{Key, Kind, Object};
use crate::source::Defect;
use crate::source::kept::Kept;
use crate::source::reading::{self, Broken, Reading, Suspects};
use crate::store::Objects;

/// What a follower found.
#[derive(Debug)]
pub enum Change {
    Applied(Box<Found>),
    Removed(Key),
    /// All objects of the kind: what is not among them is gone, but for these.
    Listed(Kind, Vec<Found>, BTreeSet<Key>),
    /// The kind cannot be read, and never was while we ran: there are none but what an earlier controller knew.
    Absent(Kind),
    /// The kind is not served any more: what there was has been deleted by nobody.
    Lost(Kind),
}

#[derive(Debug)]
pub struct Collection {
    objects: Objects,
    broken: BTreeMap<Key, (Vec<Defect>, Broken)>,
    /// Of good objects whose kinds are kept.
    texts: BTreeMap<Key, Arc<str>>,
    settled: BTreeSet<Kind>,
    suspects: Suspects,
    /// What an earlier controller kept, of objects that have not been heard of yet.
    earlier: BTreeMap<Key, (Arc<str>, Object)>,
    /// What a definition that is gone had, as far as nobody has spoken of it since. They are in force.
    orphans: BTreeSet<Key>,
    /// Since the last word of the API nothing else has to be kept.
    kept: BTreeMap<Key, Keeping>,
    answers: Arc<Answers>,
}

/// What of an object outlives this process, and whether it is an orphan.
type Keeping = (Arc<str>, bool);

impl Collection {
    /// With what an earlier controller kept.
    pub fn open(kept: Vec<(Kept, Object)>, answers: Arc<Answers>) -> Self {
        let mut collection = Self {
            objects: Objects::default(),
            broken: BTreeMap::new(),
            texts: BTreeMap::new(),
            settled: BTreeSet::new(),
            suspects: Suspects::default(),
            earlier: BTreeMap::new(),
            orphans: BTreeSet::new(),
            kept: BTreeMap::new(),
            answers,
        };
        for (Kept { text, orphan, .. }, object) in kept {
            let (key, text) = (object.key(), Arc::<str>::from(text));
            collection.kept.insert(key.clone(), (Arc::clone(&text), orphan));
            if orphan {
                collection.texts.insert(key.clone(), text);
                collection.objects.insert(object);
                collection.orphans.insert(key);
            } else {
                collection.earlier.insert(key, (text, object));
            }
        }
        collection
    }

    pub fn orphans(&self, kind: Kind) -> BTreeSet<Key> {
        self.orphans.iter().filter(|key| key.kind == kind).cloned().collect()
    }

    /// Kinds of Gateway API that everything else waits for: all others are settled.
    pub fn awaited(&self) -> Vec<Kind> {
        let (awaited, others): (Vec<Kind>, Vec<Kind>) = Kind::ALL
            .into_iter()
            .filter(|kind| !self.settled.contains(kind))
            .partition(|kind| kind.is_of_gateway_api());
        if others.is_empty() { awaited } else { Vec::new() }
    }

    /// True if another reading follows from it.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Applied(found) => self.put(*found),
            Change::Removed(key) => self.remove(&key),
            Change::Listed(kind, all, stay) => {
                let mut gone = self.objects.keys(kind);
                gone.extend(self.broken.keys().filter(|key| key.kind == kind).cloned());
                gone.retain(|key| !stay.contains(key));
                for found in &all {
                    gone.remove(&found.key);
                }
                let mut changed = self.settled.insert(kind);
                for found in all {
                    changed |= self.put(found);
                }
                for key in gone {
                    changed |= self.remove(&key);
                }
                self.earlier.retain(|key, _| key.kind != kind);
                self.orphans.retain(|key| key.kind != kind);
                self.orphans.extend(stay.into_iter().filter(|key| self.objects.namespaced(key).is_some()));
                changed | self.bury()
            }
            Change::Absent(kind) => self.settled.insert(kind),
            Change::Lost(kind) => {
                let before = self.orphans.len();
                self.orphans.append(&mut self.objects.keys(kind));
                self.bury();
                self.orphans.len() != before
            }
        }
    }

    fn put(&mut self, found: Found) -> bool {
        let Found { key, object, fallback, defects, broken, text, answer } = found;
        self.orphans.remove(&key);
        if key.kind.has_status() {
            self.answers.note(&key, answer);
        }
        let mut changed = false;
        if object.is_none() && defects.is_empty() {
            changed = self.objects.remove(&key);
            self.texts.remove(&key);
        } else if let Some(object) = object {
            if let Some(text) = text {
                self.texts.insert(key.clone(), text);
            }
            changed = self.objects.insert(object);
        } else if let Some((text, object)) = self.earlier.remove(&key) {
            self.texts.insert(key.clone(), text);
            changed = self.objects.insert(object);
        } else if let Some(object) = fallback.filter(|_| self.objects.namespace(&key.name).is_none()) {
            changed = self.objects.insert(object);
        }
        if defects.is_empty() {
            return self.broken.remove(&key).is_some() || changed;
        }
        let now = (defects, broken.unwrap_or_default());
        self.broken.insert(key, now.clone()) != Some(now) || changed
    }

    fn remove(&mut self, key: &Key) -> bool {
        self.texts.remove(key);
        self.orphans.remove(key);
        if key.kind.has_status() {
            self.answers.note(key, None);
        }
        let broken = self.broken.remove(key).is_some();
        let removed = self.objects.remove(key) || broken;
        removed | (key.kind == Kind::Namespace && self.bury())
    }

    /// With a namespace goes all that was in it, also what nobody is told of any more: a grant above all.
    fn bury(&mut self) -> bool {
        // Before they are listed nobody knows which ones are there.
        if !self.settled.contains(&Kind::Namespace) {
            return false;
        }
        let homeless: Vec<Key> = self.orphans.iter().filter(|key| !self.has_home(key)).cloned().collect();
        homeless.iter().fold(false, |changed, key| self.remove(key) | changed)
    }

    /// Whether the object's namespace is there, and not a later one of the same name.
    fn has_home(&self, key: &Key) -> bool {
        if !key.kind.is_namespaced() {
            return true;
        }
        let Some(namespace) = self.objects.namespace(&key.namespace) else {
            let broken = Key { kind: Kind::Namespace, namespace: String::new(), name: key.namespace.clone() };
            return self.broken.contains_key(&broken);
        };
        let object = self.objects.namespaced(key);
        let created = object.as_ref().and_then(|object| object.metadata().created);
        created.zip(namespace.metadata.created).is_none_or(|(object, namespace)| object >= namespace)
    }

    pub fn reading(&mut self) -> Reading {
        let listed = self.is_listed();
        let mut defects: Vec<Defect> = self.broken.values().flat_map(|(defects, _)| defects).cloned().collect();
        defects.sort();
        defects.truncate(limits::DEFECTS);
        let good = |key: &&Key| self.texts.contains_key(*key);
        let hopeless: Vec<Key> = self.broken.keys().filter(|key| !good(key)).cloned().collect();
        let withheld = hopeless.iter().any(|key| key.kind == Kind::MeshConfig) && self.objects.mesh_config.is_none();
        let stand_ins = self.suspects.stand_ins(hopeless, listed);
        let mut objects = self.objects.clone();
        for key in &stand_ins {
            objects.insert(reading::stand_in(key));
        }
        let broken = self.broken.iter().map(|(key, (_, broken))| (key.clone(), broken.clone())).collect();
        Reading { objects, defects, broken, stand_ins, withheld, listed }
    }

    fn is_listed(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.settled.contains(kind))
    }

    /// What has to outlive this process now. None: nothing else than before.
    pub fn keep(&mut self) -> Option<Vec<Kept>> {
        if !self.is_listed() {
            return None;
        }
        let earlier = self.earlier.iter().map(|(key, (text, _))| (key.clone(), (Arc::clone(text), false)));
        let keeping = |orphan| move |(key, text): (&Key, &Arc<str>)| (key.clone(), (Arc::clone(text), orphan));
        let broken = self.broken.keys().filter_map(|key| self.texts.get_key_value(key));
        let orphans = self.orphans.iter().filter_map(|key| self.texts.get_key_value(key));
        let kept: BTreeMap<Key, Keeping> =
            earlier.chain(broken.map(keeping(false))).chain(orphans.map(keeping(true))).collect();
        if kept == self.kept {
            return None;
        }
        self.kept = kept;
        let written = |(key, (text, orphan)): (&Key, &Keeping)| Kept {
            file: PathBuf::from(key.to_string()),
            text: text.to_string(),
            orphan: *orphan,
        };
        Some(self.kept.iter().map(written).collect())
    }
}

#[cfg(test)]
mod tests;
