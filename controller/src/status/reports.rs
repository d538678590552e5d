//! What people are told of all policies and routes: by namespace, and made anew only where something is another one now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::policy::{self, Conditions, OfObjects};
use super::refusal::{self, Refused};
use crate::beside::beside;
use crate::object::Key;
use crate::source::Reading;
use crate::status::PolicyReport;

#[derive(Debug, Clone, Default)]
pub struct Reports(BTreeMap<Arc<str>, Known>);

#[derive(Debug, Clone)]
struct Known {
    reports: Arc<OfObjects>,
    /// What they were made of, if of nothing else.
    conditions: Option<Arc<Conditions>>,
}

/// What there is to say beside the conditions of a translation.
#[derive(Debug)]
pub struct Exceptions<'a> {
    reading: &'a Reading,
    refused: Refused,
    namespaces: BTreeSet<String>,
}

impl<'a> Exceptions<'a> {
    #[must_use]
    pub fn of(reading: &'a Reading, refused: Refused) -> Self {
        let defects = reading.defects.iter().filter_map(|defect| defect.key.as_ref());
        let all = defects.chain(reading.broken.keys()).chain(&reading.stand_ins).chain(refused.keys());
        let namespaces = all.map(|key| key.namespace.clone()).collect();
        Self { reading, refused, namespaces }
    }

    fn reports(&self, namespace: &str, conditions: &Conditions) -> OfObjects {
        let Reading { defects, broken, stand_ins, .. } = self.reading;
        let is_here = |key: &Key| key.namespace == namespace;
        let defects = defects.iter().filter(|defect| defect.key.as_ref().is_some_and(is_here));
        let mut all = policy::reports(conditions, defects, broken, stand_ins);
        refusal::add(&mut all, &self.refused);
        all
    }
}

impl Reports {
    /// The next ones, of these conditions by namespace. What did not change is the same allocation.
    #[must_use]
    pub fn next<'a>(
        &self,
        conditions: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Conditions>)>,
        exceptions: &Exceptions<'_>,
    ) -> Self {
        let mut next = BTreeMap::new();
        for (namespace, conditions) in conditions {
            let plain = (!exceptions.namespaces.contains(&**namespace)).then_some(conditions);
            let is_same =
                |known: &&Known| plain.zip(known.conditions.as_ref()).is_some_and(|(now, then)| Arc::ptr_eq(now, then));
            let known = self.0.get(namespace).filter(is_same).cloned();
            let made = known.unwrap_or_else(|| Known {
                reports: Arc::new(exceptions.reports(namespace, conditions)),
                conditions: plain.cloned(),
            });
            next.insert(Arc::clone(namespace), made);
        }
        let mut next = Self(next);
        let elsewhere = exceptions.namespaces.iter().filter(|namespace| !next.0.contains_key(namespace.as_str()));
        for namespace in elsewhere.cloned().collect::<Vec<_>>() {
            next.extend(&namespace, exceptions);
        }
        next
    }

    /// The same ones, but for what is broken now.
    #[must_use]
    pub fn but(&self, exceptions: &Exceptions<'_>) -> Self {
        let mut next = self.clone();
        for namespace in &exceptions.namespaces {
            next.extend(namespace, exceptions);
        }
        next
    }

    fn extend(&mut self, namespace: &str, exceptions: &Exceptions<'_>) {
        let known = self.of(namespace).cloned().unwrap_or_default();
        let reports: OfObjects = known.into_iter().chain(exceptions.reports(namespace, &Conditions::new())).collect();
        self.0.insert(Arc::from(namespace), Known { reports: Arc::new(reports), conditions: None });
    }

    fn of(&self, namespace: &str) -> Option<&OfObjects> {
        self.0.get(namespace).map(|known| &*known.reports)
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Vec<PolicyReport>> {
        self.of(&key.namespace)?.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Vec<PolicyReport>)> {
        self.0.values().flat_map(|known| known.reports.iter())
    }

    /// Of namespaces in which something may be another one than `before`: what was said there, and what is said now.
    pub fn since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a OfObjects>, Option<&'a OfObjects>)> {
        let reports = |known: Option<&'a Known>| known.map(|known| &*known.reports);
        let pairs = beside(Some(&before.0), Some(&self.0)).map(move |(_, then, now)| (reports(then), reports(now)));
        pairs.filter(|(then, now)| !then.zip(*now).is_some_and(|(then, now)| std::ptr::eq(then, now)))
    }
}
