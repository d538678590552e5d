//! `XBackendTrafficPolicy` (Gateway API 1.7, experimental; GEP-3388), checked: what retries towards a Service may come to.

use serde::Deserialize;
use serde_json::Value as Json;
use weft_proto::v1;

use super::Target;
use crate::limits;
use crate::object::field::milliseconds;
use crate::object::{FieldError, Key, Kind, Metadata, is_of_core_group};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBackendTrafficPolicy {
    target_refs: Vec<RawTarget>,
    retry_constraint: Option<RawConstraint>,
    session_persistence: Option<Json>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    group: String,
    kind: String,
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawConstraint {
    budget: RawBudget,
    min_retry_rate: RawRate,
}

/// The defaults are those of the definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBudget {
    percent: u32,
    interval: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRate {
    count: u32,
    interval: String,
}

impl Default for RawBudget {
    fn default() -> Self {
        Self { percent: 20, interval: "10s".to_owned() }
    }
}

impl Default for RawRate {
    fn default() -> Self {
        Self { count: 10, interval: "1s".to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTrafficPolicy {
    pub metadata: Metadata,
    /// All of them Services.
    pub targets: Vec<Target>,
    /// As agents read it.
    pub constraint: v1::RetryConstraint,
    /// It asks for sessions, which an `XBackend` or a rule of a route may.
    pub asks_for_sessions: bool,
}

const HOUR_MS: u32 = 3_600_000;

impl BackendTrafficPolicy {
    pub fn parse(metadata: Metadata, raw: RawBackendTrafficPolicy) -> Result<Self, FieldError> {
        let targets = targets(&raw.target_refs)?;
        let asks_for_sessions = raw.session_persistence.is_some();
        let Some(RawConstraint { budget, min_retry_rate }) = raw.retry_constraint else {
            return Err(if asks_for_sessions {
                let problem = "sessions of this kind are deprecated, and Weft has none of them";
                FieldError::new("spec.sessionPersistence", problem, "write it on an XBackend, or in a route's rule")
            } else {
                FieldError::new("spec", "it changes nothing", "write retryConstraint")
            });
        };
        let path = "spec.retryConstraint";
        if budget.percent > 100 {
            let problem = format!("{} is more than 100 percent", budget.percent);
            return Err(FieldError::new(format!("{path}.budget.percent"), problem, "write a number from 0 to 100"));
        }
        if !(1..=limits::RETRIES_PER_INTERVAL).contains(&min_retry_rate.count) {
            let fix = format!("write a number from 1 to {}", limits::RETRIES_PER_INTERVAL);
            let problem = format!("{} is out of range", min_retry_rate.count);
            return Err(FieldError::new(format!("{path}.minRetryRate.count"), problem, fix));
        }
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let constraint = v1::RetryConstraint {
            policy: Key { kind: Kind::BackendTrafficPolicy, namespace, name }.to_string(),
            percent: budget.percent,
            interval_ms: interval(&format!("{path}.budget.interval"), &budget.interval, 1_000)?,
            minimum: min_retry_rate.count,
            minimum_interval_ms: interval(&format!("{path}.minRetryRate.interval"), &min_retry_rate.interval, 1)?,
        };
        Ok(Self { metadata, targets, constraint, asks_for_sessions })
    }
}

/// Its Services. Targets of other kinds are those of who serves them: the policy may be for several implementations.
fn targets(raw: &[RawTarget]) -> Result<Vec<Target>, FieldError> {
    if raw.is_empty() || raw.len() > limits::TARGETS {
        let fix = format!("write 1 to {}", limits::TARGETS);
        return Err(FieldError::new("spec.targetRefs", format!("it has {} entries", raw.len()), fix));
    }
    let services = raw.iter().filter(|target| is_service(&target.group, &target.kind));
    let targets: Vec<Target> =
        services.map(|target| Target::Service { name: target.name.clone(), section: None }).collect();
    if targets.is_empty() {
        let problem = format!("Weft constrains no retries towards a {}", raw[0].kind);
        return Err(FieldError::new("spec.targetRefs[0].kind", problem, "name a Service"));
    }
    Ok(targets)
}

fn is_service(group: &str, kind: &str) -> bool {
    is_of_core_group(group) && kind == Kind::Service.as_str()
}

/// Whether anything of this `spec` is for Weft, whatever else is in it.
#[must_use]
pub fn names_a_service(spec: &Json) -> bool {
    let mut targets = spec["targetRefs"].as_array().into_iter().flatten();
    targets.any(|target| {
        let named = target["group"].as_str().zip(target["kind"].as_str());
        named.is_some_and(|(group, kind)| is_service(group, kind))
    })
}

/// In milliseconds, an hour at most.
fn interval(path: &str, text: &str, least: u32) -> Result<u32, FieldError> {
    let interval = milliseconds(path, text)?;
    if (least..=HOUR_MS).contains(&interval) {
        return Ok(interval);
    }
    Err(FieldError::new(path, format!("{text} is too short or too long"), format!("write one from {least}ms to 1h")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(spec: &Json) -> Result<BackendTrafficPolicy, FieldError> {
        let mut spec = spec.clone();
        if spec["targetRefs"].is_null() {
            spec["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
        }
        let metadata = Metadata { name: "calm".to_owned(), namespace: "shop".to_owned(), ..Metadata::default() };
        BackendTrafficPolicy::parse(metadata, serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn what_is_left_out_is_as_the_definition_has_it() {
        let policy = "XBackendTrafficPolicy shop/calm".to_owned();
        let all = |percent, interval_ms, minimum, minimum_interval_ms| v1::RetryConstraint {
            policy: policy.clone(),
            percent,
            interval_ms,
            minimum,
            minimum_interval_ms,
        };
        for (constraint, expected) in [
            (json!({}), all(20, 10_000, 10, 1_000)),
            (json!({"budget": {"percent": 0}}), all(0, 10_000, 10, 1_000)),
            (json!({"minRetryRate": {"interval": "500ms"}}), all(20, 10_000, 10, 500)),
            (
                json!({"budget": {"percent": 100, "interval": "1h"}, "minRetryRate": {"count": 1, "interval": "1h"}}),
                all(100, HOUR_MS, 1, HOUR_MS),
            ),
        ] {
            let found = parse(&json!({"retryConstraint": constraint})).unwrap();
            assert_eq!((found.constraint, found.asks_for_sessions), (expected, false), "{constraint}");
        }
    }

    #[test]
    fn of_several_targets_the_services_count() {
        let targets = json!([
            {"group": "a", "kind": "XBackend", "name": "out"}, {"group": "", "kind": "Service", "name": "web"},
        ]);
        let spec = json!({"retryConstraint": {}, "targetRefs": targets});
        assert_eq!(parse(&spec).unwrap().targets, [Target::Service { name: "web".to_owned(), section: None }]);
        assert!(names_a_service(&spec) && !names_a_service(&json!({"targetRefs": [targets[0]]})));
        assert!(!names_a_service(&json!({})));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let constraint = |constraint: Json| json!({"retryConstraint": constraint});
        for (spec, path) in [
            (json!({}), "spec"),
            (json!({"sessionPersistence": {"type": "Cookie"}}), "spec.sessionPersistence"),
            (constraint(json!({"budget": {"percent": 101}})), "spec.retryConstraint.budget.percent"),
            (constraint(json!({"budget": {"interval": "999ms"}})), "spec.retryConstraint.budget.interval"),
            (constraint(json!({"budget": {"interval": "61m"}})), "spec.retryConstraint.budget.interval"),
            (constraint(json!({"minRetryRate": {"count": 0}})), "spec.retryConstraint.minRetryRate.count"),
            (constraint(json!({"minRetryRate": {"interval": "0s"}})), "spec.retryConstraint.minRetryRate.interval"),
            (
                json!({"retryConstraint": {}, "targetRefs": [{"group": "a", "kind": "XBackend", "name": "out"}]}),
                "spec.targetRefs[0].kind",
            ),
            (json!({"retryConstraint": {}, "targetRefs": []}), "spec.targetRefs"),
        ] {
            assert_eq!(parse(&spec).unwrap_err().path, path, "{spec}");
        }
    }
}
