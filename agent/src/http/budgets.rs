//! The retry budgets of one worker: one for each Service port that its pods call.
//!
//! Each worker keeps its own, so that nothing is shared; the share of requests is then the same, and the least number of
//! retries is each worker's. Whoever counts over other times counts for itself.

use std::collections::HashMap;
use std::time::Instant;

use weft_proto::names::NamespacedName;

use super::retry::Budget;
use crate::limits;
use crate::model::{RetryBudget, RetryWindows};

#[derive(Debug, Default)]
pub struct Budgets {
    ports: HashMap<(NamespacedName, u16, RetryWindows), Budget>,
}

impl Budgets {
    /// A first attempt: it earns a part of a retry.
    pub fn earned(&mut self, port: Option<(&NamespacedName, u16)>, terms: RetryBudget, now: Instant) {
        if let Some(budget) = self.of(port, terms) {
            budget.earned(terms, now);
        }
    }

    /// Takes one retry out of the budget; false when it is spent. Where there is no Service there are no routes, and no retries.
    pub fn pays(&mut self, port: Option<(&NamespacedName, u16)>, terms: RetryBudget, now: Instant) -> bool {
        self.of(port, terms).is_some_and(|budget| budget.pays(terms, now))
    }

    fn of(&mut self, port: Option<(&NamespacedName, u16)>, terms: RetryBudget) -> Option<&mut Budget> {
        let (service, port) = port?;
        let key = (service.clone(), port, terms.windows);
        if self.ports.len() >= limits::RETRY_BUDGETS && !self.ports.contains_key(&key) {
            // Budgets fill up again within their windows: forgetting them all is cheaper than choosing.
            self.ports.clear();
        }
        Some(self.ports.entry(key).or_default())
    }
}
