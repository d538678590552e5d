//! What the controller lacks to do its work, such as a permission: in the log once, in `weft status` while it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::Defect;

/// Shared by all parts; each speaks of topics of its own, so they are as few as the parts.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<String, Defect>>>);

impl Troubles {
    /// In place of what was told of the topic before.
    pub fn raise(&self, topic: &str, defect: Defect) {
        let mut all = self.locked();
        if all.get(topic) != Some(&defect) {
            // Several parts may lack one thing: a person reads of it once.
            if !all.values().any(|known| *known == defect) {
                tracing::warn!("{defect}");
            }
            all.insert(topic.to_owned(), defect);
        }
    }

    pub fn clear(&self, topic: &str) {
        let mut all = self.locked();
        if let Some(ended) = all.remove(topic)
            && !all.values().any(|known| *known == ended)
        {
            tracing::info!("this is over: {}", ended.problem);
        }
    }

    /// Each once.
    #[must_use]
    pub fn all(&self) -> Vec<Defect> {
        let mut all: Vec<Defect> = self.locked().values().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Defect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
