//! How a Service port is balanced. Safe: the defaults.

use std::sync::Arc;

use weft_policy::ReadError;
use weft_proto::v1;

use super::fields::problem;
use super::routes::{Scope, milliseconds, read_retry, text};
use crate::model::{Balancing, Ejection, RetryBudget, RetryWindows, Traffic, TrafficScope};

pub fn read(resource: &str, row: &v1::Traffic) -> Result<Traffic, ReadError> {
    let scope = Scope::of_name(resource)?;
    scope.check(&row.namespace, &row.service, row.port, &row.audience)?;
    let balancing = match v1::Balancing::try_from(row.balancing) {
        Ok(v1::Balancing::Unspecified) => Balancing::default(),
        Ok(v1::Balancing::PeakEwma) => Balancing::PeakEwma,
        Ok(v1::Balancing::LeastRequest) => Balancing::LeastRequest,
        Ok(v1::Balancing::RoundRobin) => Balancing::RoundRobin,
        Err(_) => return Err(problem("balancing", format!("{} is not a known way of balancing", row.balancing))),
    };
    let unsaid = RetryBudget::default();
    let retry_budget = match &row.retry_constraint {
        Some(constraint) => read_constraint(constraint)?,
        None => RetryBudget {
            percent: percent("retry_budget_percent", row.retry_budget_percent.unwrap_or(unsaid.percent))?,
            minimum: row.retry_budget_minimum_per_second.unwrap_or(unsaid.minimum),
            ..unsaid
        },
    };
    Ok(Traffic {
        policy: (!row.policy.is_empty()).then(|| text("policy", &row.policy).map(Arc::from)).transpose()?,
        balancing,
        retry_budget,
        ejection: row.ejection.as_ref().map(read_ejection).transpose()?,
        retry: row.retry.as_ref().map(|retry| read_retry("retry", retry)).transpose()?,
        request_timeout: milliseconds(row.request_timeout_ms),
        ..Traffic::defaults(Some(scope.into()))
    })
}

/// None when it has no name.
pub fn safe(resource: &str) -> Option<Traffic> {
    Some(Traffic::defaults(Some(Scope::of_name(resource).ok()?.into())))
}

impl From<Scope> for TrafficScope {
    fn from(scope: Scope) -> Self {
        Self { service: scope.service, port: scope.port, audience: scope.audience }
    }
}

fn read_constraint(written: &v1::RetryConstraint) -> Result<RetryBudget, ReadError> {
    let window = |field: &str, number: u32, least: u32| {
        let missing = || problem(field, format!("it must be at least {least} milliseconds"));
        milliseconds(number).filter(|_| number >= least).ok_or_else(missing)
    };
    let windows = RetryWindows {
        share: window("retry_constraint.interval_ms", written.interval_ms, 1000)?,
        minimum: window("retry_constraint.minimum_interval_ms", written.minimum_interval_ms, 1)?,
    };
    let percent = percent("retry_constraint.percent", written.percent)?;
    Ok(RetryBudget { percent, windows, minimum: written.minimum, refuses: true })
}

fn read_ejection(written: &v1::Ejection) -> Result<Ejection, ReadError> {
    if written.consecutive_failures == 0 {
        return Err(problem("ejection.consecutive_failures", "it must be at least 1"));
    }
    let base_time = milliseconds(written.base_time_ms)
        .ok_or_else(|| problem("ejection.base_time_ms", "it must be at least 1 millisecond"))?;
    Ok(Ejection {
        consecutive_failures: written.consecutive_failures,
        base_time,
        maximum_time: milliseconds(written.maximum_time_ms).unwrap_or(base_time).max(base_time),
        maximum_percent: percent("ejection.maximum_percent", written.maximum_percent)?,
    })
}

fn percent(field: &str, number: u32) -> Result<u32, ReadError> {
    if number > 100 { Err(problem(field, format!("{number} is more than 100 percent"))) } else { Ok(number) }
}
