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
        if let Some(budget) = self.of(port, terms, now) {
            budget.earned(terms, now);
        }
    }

    /// Takes one retry out of the budget; false when it is spent. Where there is no Service there are no routes, and no retries.
    pub fn pays(&mut self, port: Option<(&NamespacedName, u16)>, terms: RetryBudget, now: Instant) -> bool {
        self.of(port, terms, now).is_some_and(|budget| budget.pays(terms, now))
    }

    fn of(&mut self, port: Option<(&NamespacedName, u16)>, terms: RetryBudget, now: Instant) -> Option<&mut Budget> {
        let (service, port) = port?;
        let key = (service.clone(), port, terms.windows);
        if self.ports.len() >= limits::RETRY_BUDGETS && !self.ports.contains_key(&key) {
            self.make_room(now);
        }
        Some(self.ports.entry(key).or_default())
    }

    /// What counts nothing any more is as good as new. Where every budget counts, those go that no retry was paid from: they
    /// fill up again. As a last resort all begin anew: cheaper than choosing.
    fn make_room(&mut self, now: Instant) {
        self.ports.retain(|(_, _, windows), budget| budget.still_counts(*windows, now));
        if self.ports.len() >= limits::RETRY_BUDGETS {
            self.ports.retain(|_, budget| budget.has_paid());
        }
        if self.ports.len() >= limits::RETRY_BUDGETS {
            self.ports.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_that_counts_outlives_those_that_do_not() {
        let windows = |share| RetryWindows { share, minimum: share };
        let terms = |share| RetryBudget { percent: 20, minimum: 1, windows: windows(share), refuses: true };
        let (hour, ten_seconds) = (terms(Duration::from_hours(1)), terms(Duration::from_secs(10)));
        let service = NamespacedName::new("shop", "web").unwrap();
        let (mut budgets, begin) = (Budgets::default(), Instant::now());
        assert!(budgets.pays(Some((&service, 80)), hour, begin), "the first retry");
        for port in 1..limits::RETRY_BUDGETS {
            budgets.earned(Some((&service, u16::try_from(port).unwrap())), ten_seconds, begin);
        }
        let later = begin + Duration::from_mins(1);
        budgets.earned(Some((&service, 65_000)), ten_seconds, later);
        assert!(!budgets.pays(Some((&service, 80)), hour, later), "it was spent");
        assert_eq!(budgets.ports.len(), 2, "the others' windows are over");
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let terms = RetryBudget::default();
        let service = NamespacedName::new("shop", "web").unwrap();
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for port in 1..=u16::try_from(limits::RETRY_BUDGETS).unwrap() + 9 {
            budgets.earned(Some((&service, port)), terms, now);
        }
        assert!(budgets.ports.len() <= limits::RETRY_BUDGETS, "{}", budgets.ports.len());
    }
}
