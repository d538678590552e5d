//! What the statuses of objects say in our name, so that what is said already is not written again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::object::{Key, Kind};
use crate::status::Aspect;

/// Of our entries of one status, whatever their order and times.
pub type Digest = [u8; 32];

/// Written by followers, read by whoever writes statuses.
#[derive(Debug, Default)]
pub struct Answers {
    known: Mutex<Known>,
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    digests: BTreeMap<Key, Digest>,
    /// Of which another digest is known since they were compared last; as many as there are objects, at most.
    changed: BTreeSet<Key>,
    versions: BTreeMap<Kind, &'static str>,
}

impl Answers {
    /// None: the object is gone, or nothing in it is ours.
    pub fn note(&self, key: &Key, answer: Option<Digest>) {
        let mut known = self.locked();
        let before = match answer {
            Some(answer) => known.digests.insert(key.clone(), answer),
            None => known.digests.remove(key),
        };
        if before != answer {
            known.changed.insert(key.clone());
            self.changed.notify_one();
        }
    }

    /// All that is known, and what is another one since the last time, for `with` to take. Followers wait meanwhile.
    pub fn compare<T>(&self, with: impl FnOnce(&BTreeMap<Key, Digest>, &mut BTreeSet<Key>) -> T) -> T {
        let mut known = self.locked();
        let Known { digests, changed, .. } = &mut *known;
        with(digests, changed)
    }

    /// The version that a kind is followed in.
    #[must_use]
    pub fn version(&self, kind: Kind) -> Option<&'static str> {
        self.locked().versions.get(&kind).copied()
    }

    pub fn serve(&self, kind: Kind, version: &'static str) {
        self.locked().versions.insert(kind, version);
    }

    /// The kind is not served any more.
    pub fn withdraw(&self, kind: Kind) {
        self.locked().versions.remove(&kind);
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list of a status that has an entry per target or parent.
fn list(kind: Kind) -> &'static str {
    if kind.is_route() { "parents" } else { "ancestors" }
}

/// Our entries of an object's status, and everybody else's. That of an `XMesh` is one entry, its controller's: conditions
/// of other types are others'.
#[must_use]
pub fn divide(kind: Kind, object: &Json) -> (Vec<Json>, Vec<Json>) {
    let (spec, status) = (&object["spec"], &object["status"]);
    let is_ours = |of: &Json| of["controllerName"] == weft_crd::CONTROLLER_NAME;
    if kind == Kind::XMesh {
        if !is_ours(spec) || !status.is_object() {
            return (Vec::new(), Vec::new());
        }
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let (said, others): (Vec<Json>, Vec<Json>) =
            conditions.into_iter().partition(|one| one["type"] == Aspect::Accepted.as_str());
        let features = status["supportedFeatures"].as_array().cloned().unwrap_or_default();
        let ours = json!({"conditions": said, "supportedFeatures": features});
        return (vec![ours], others);
    }
    let entries = status[list(kind)].as_array().cloned().unwrap_or_default();
    entries.into_iter().partition(is_ours)
}

/// A status of others' entries and ours.
#[must_use]
pub fn united(kind: Kind, mut others: Vec<Json>, ours: Vec<Json>) -> Json {
    if kind != Kind::XMesh {
        others.extend(ours);
        return json!({ list(kind): others });
    }
    let mut status = ours.into_iter().next().unwrap_or_default();
    let said = status["conditions"].as_array().cloned().unwrap_or_default();
    status["conditions"] = said.into_iter().chain(others).collect();
    status
}

/// None: there are none.
#[must_use]
pub fn digest(entries: &[Json]) -> Option<Digest> {
    let timeless = |entry: &Json| {
        let mut entry = entry.clone();
        let mut conditions: Vec<String> = Vec::new();
        for condition in entry["conditions"].as_array_mut().into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastTransitionTime");
            }
            conditions.push(canonical(condition));
        }
        conditions.sort_unstable();
        entry["conditions"] = conditions.into();
        canonical(&entry)
    };
    let mut texts: Vec<String> = entries.iter().map(timeless).collect();
    texts.sort_unstable();
    (!texts.is_empty()).then(|| Sha256::digest(texts.join("\n")).into())
}

/// The same text for the same value, whatever order its fields have.
fn canonical(value: &Json) -> String {
    match value {
        Json::Object(fields) => {
            let fields: BTreeMap<&String, String> =
                fields.iter().map(|(name, value)| (name, canonical(value))).collect();
            format!("{fields:?}")
        }
        Json::Array(items) => format!("{:?}", items.iter().map(canonical).collect::<Vec<_>>()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(controller: &str, reason: &str, time: &str) -> Json {
        json!({
            "controllerName": controller,
            "parentRef": {"name": "web", "kind": "Service"},
            "conditions": [{"type": "Accepted", "reason": reason, "lastTransitionTime": time}, {"type": "ResolvedRefs"}],
        })
    }

    #[test]
    fn an_answer_is_the_same_whatever_its_order_and_time() {
        let first = entry("weft.dev/controller", "Accepted", "1970-01-01T00:00:00Z");
        let mut second = entry("weft.dev/controller", "Accepted", "2026-01-01T00:00:00Z");
        second["conditions"].as_array_mut().unwrap().reverse();
        let other = entry("weft.dev/controller", "NoMatchingParent", "1970-01-01T00:00:00Z");
        assert_eq!(digest(&[first.clone(), other.clone()]), digest(&[other.clone(), second]));
        assert_ne!(digest(&[first]), digest(&[other]));
        assert_eq!(digest(&[]), None);
    }

    #[test]
    fn entries_of_others_are_told_apart() {
        let (ours, theirs) =
            (entry("weft.dev/controller", "Accepted", ""), entry("example.com/gateway", "Accepted", ""));
        let object = json!({"status": {"parents": [theirs, ours]}});
        assert_eq!(divide(Kind::HttpRoute, &object), (vec![ours.clone()], vec![theirs.clone()]));
        assert_eq!(divide(Kind::HttpRoute, &Json::Null), (vec![], vec![]));
        assert_eq!(united(Kind::HttpRoute, vec![theirs], vec![ours]), object["status"]);
        let told = json!({"conditions": [{"type": "Accepted"}, {"type": "Audited"}], "supportedFeatures": []});
        let mesh = |controller: &str| json!({"spec": {"controllerName": controller}, "status": told});
        let (ours, others) = divide(Kind::XMesh, &mesh("weft.dev/controller"));
        assert_eq!(ours, [json!({"conditions": [{"type": "Accepted"}], "supportedFeatures": []})]);
        assert_eq!(others, [json!({"type": "Audited"})]);
        assert_eq!(united(Kind::XMesh, others, ours), told);
        assert_eq!(divide(Kind::XMesh, &mesh("example.com/mesh")), (vec![], vec![]));
    }
}
