//! What a source gives: all objects at one moment, and what is wrong with those that could not be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::defect::Defect;
use crate::object::{AuthenticationPolicy, AuthorizationPolicy, Key, Kind, Object, Parent};
use crate::store::Objects;

#[derive(Debug, Default)]
pub struct Reading {
    pub objects: Objects,
    /// Sorted, at most [`crate::limits::DEFECTS`].
    pub defects: Vec<Defect>,
    /// What is known of objects of the API that cannot be read.
    pub broken: BTreeMap<Key, Broken>,
    /// Policies of `objects` that stand in for ones that were broken at the start, without a last good version; they are as
    /// strict as they can be.
    pub stand_ins: BTreeSet<Key>,
    /// There is a `MeshConfig`, and none that can be read: what the operator enforces is unknown, so nothing may follow.
    pub withheld: bool,
    /// Everything has been listed at least once: before that, no object is known rather than none is there.
    pub listed: bool,
}

/// As far as an object can be read whatever else is wrong with it: enough to answer it where it asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    pub generation: Option<i64>,
    /// Of a route: the Services that it names.
    pub parents: Vec<Parent>,
}

/// Policies that have been broken since the first look; nothing before it.
#[derive(Debug, Default)]
pub struct Suspects(Option<BTreeSet<Key>>);

impl Suspects {
    /// Of the `broken` objects that have no last good version, those that a stand-in is made for. What was broken at the
    /// first look may have been in force before this process began. A policy that comes broken later never was: it is
    /// named, and changes nothing.
    pub fn stand_ins(&mut self, broken: impl IntoIterator<Item = Key>, listed: bool) -> BTreeSet<Key> {
        let guards = |key: &Key| matches!(key.kind, Kind::AuthenticationPolicy | Kind::AuthorizationPolicy);
        let policies = broken.into_iter().filter(guards);
        let mut wanted: BTreeSet<Key> = policies.collect();
        if let Some(suspects) = &self.0 {
            wanted.retain(|key| suspects.contains(key));
        }
        if listed {
            self.0 = Some(wanted.clone());
        }
        wanted
    }
}

/// Guards the whole namespace of the policy that it stands for: denies everything, or takes no plaintext.
#[must_use]
pub fn stand_in(key: &Key) -> Object {
    if key.kind == Kind::AuthenticationPolicy {
        return Object::AuthenticationPolicy(Arc::new(AuthenticationPolicy::stand_in(&key.namespace, &key.name)));
    }
    Object::AuthorizationPolicy(Arc::new(AuthorizationPolicy::stand_in(&key.namespace, &key.name)))
}
