//! `TrafficPolicy`, checked.

use weft_crd::{GrpcCall, LoadBalancer, OutlierDetection, RetryBudget, TrafficPolicySpec, TrafficRetry};
use weft_policy::PathPattern;
use weft_proto::v1;

use super::Target;
use crate::object::field::milliseconds;
use crate::object::{FieldError, Metadata};

const BASE_EJECTION_MS: u32 = 10_000;
const MAXIMUM_EJECTION_MS: u32 = 300_000;
const EJECTED_PERCENT: u32 = 50;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPolicy {
    pub metadata: Metadata,
    /// All of them Services.
    pub targets: Vec<Target>,
    pub settings: TrafficSettings,
}

/// As agents read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSettings {
    pub balancing: v1::Balancing,
    pub retry_budget_percent: Option<u32>,
    pub retry_budget_minimum_per_second: Option<u32>,
    pub ejection: Option<v1::Ejection>,
    pub retry: Option<v1::RetryPolicy>,
    /// None: the policy is silent.
    pub request_timeout_ms: Option<u32>,
}

impl TrafficPolicy {
    pub fn parse(metadata: Metadata, spec: TrafficPolicySpec) -> Result<Self, FieldError> {
        let targets = super::target::parse(spec.target_refs)?;
        if !targets.iter().all(Target::is_service) {
            let problem = "a TrafficPolicy acts on requests to a Service";
            return Err(FieldError::new("spec.targetRefs[0].kind", problem, "write Service"));
        }
        let silent = spec.load_balancer.is_none()
            && spec.retry_budget.is_none()
            && spec.retry.is_none()
            && spec.request_timeout.is_none()
            && spec.outlier_detection.is_none();
        if silent {
            let fix = "write loadBalancer, retryBudget, retry, requestTimeout or outlierDetection";
            return Err(FieldError::new("spec", "it changes nothing", fix));
        }
        let budget = spec.retry_budget.unwrap_or(RetryBudget { percent: None, min_per_second: None });
        let number = |path: &str, value: Option<i32>| value.map(|value| whole(path, value)).transpose();
        let timeout = spec.request_timeout.as_deref().map(|text| milliseconds("spec.requestTimeout", text));
        let settings = TrafficSettings {
            balancing: match spec.load_balancer.unwrap_or_default() {
                LoadBalancer::PeakEwma => v1::Balancing::PeakEwma,
                LoadBalancer::LeastRequest => v1::Balancing::LeastRequest,
                LoadBalancer::RoundRobin => v1::Balancing::RoundRobin,
            },
            retry_budget_percent: number("spec.retryBudget.percent", budget.percent)?,
            retry_budget_minimum_per_second: number("spec.retryBudget.minPerSecond", budget.min_per_second)?,
            ejection: spec.outlier_detection.as_ref().map(ejection).transpose()?,
            retry: spec.retry.as_ref().map(retry).transpose()?,
            request_timeout_ms: timeout.transpose()?,
        };
        Ok(Self { metadata, targets, settings })
    }
}

/// The schema has checked the range; this checks what comes by another way.
fn whole(path: &str, value: i32) -> Result<u32, FieldError> {
    u32::try_from(value).map_err(|_| FieldError::new(path, format!("{value} is negative"), "write 0 or more"))
}

fn retry(raw: &TrafficRetry) -> Result<v1::RetryPolicy, FieldError> {
    let status = |status: &i32| whole("spec.retry.httpStatuses", *status);
    let mut statuses = raw.http_statuses.iter().map(status).collect::<Result<Vec<_>, _>>()?;
    let mut grpc_statuses: Vec<u32> = raw.grpc_statuses.iter().map(|status| *status as u32).collect();
    for list in [&mut statuses, &mut grpc_statuses] {
        list.sort_unstable();
        list.dedup();
    }
    let backoff = raw.backoff.as_deref().map(|text| milliseconds("spec.retry.backoff", text)).transpose()?;
    Ok(v1::RetryPolicy {
        attempts: whole("spec.retry.attempts", raw.attempts.unwrap_or(1))?,
        statuses,
        grpc_statuses,
        backoff_ms: backoff.unwrap_or(0),
        grpc_calls: raw.grpc.iter().flatten().enumerate().map(grpc_call).collect::<Result<_, _>>()?,
    })
}

fn grpc_call((index, raw): (usize, &GrpcCall)) -> Result<v1::GrpcCall, FieldError> {
    // What an agent could not read would be every call to it.
    PathPattern::grpc(raw.service.as_deref(), raw.method.as_deref())
        .map_err(|error| FieldError::new(format!("spec.retry.grpc[{index}]"), error.problem, error.fix))?;
    Ok(v1::GrpcCall {
        service: raw.service.clone().unwrap_or_default(),
        method: raw.method.clone().unwrap_or_default(),
    })
}

fn ejection(raw: &OutlierDetection) -> Result<v1::Ejection, FieldError> {
    let field = |name: &str, text: &Option<String>, default: u32| {
        let path = format!("spec.outlierDetection.{name}");
        text.as_deref().map_or(Ok(default), |text| milliseconds(&path, text))
    };
    let base_time_ms = field("baseEjectionTime", &raw.base_ejection_time, BASE_EJECTION_MS)?;
    let maximum_time_ms = field("maxEjectionTime", &raw.max_ejection_time, MAXIMUM_EJECTION_MS.max(base_time_ms))?;
    if base_time_ms == 0 {
        let problem = "an endpoint that is ejected for no time is not ejected";
        return Err(FieldError::new("spec.outlierDetection.baseEjectionTime", problem, "write 1ms or more"));
    }
    if maximum_time_ms < base_time_ms {
        let problem = format!("{maximum_time_ms} ms are shorter than the base's {base_time_ms} ms");
        return Err(FieldError::new("spec.outlierDetection.maxEjectionTime", problem, "make it the longer of the two"));
    }
    let percent = raw.max_ejection_percent.map(|percent| whole("spec.outlierDetection.maxEjectionPercent", percent));
    Ok(v1::Ejection {
        consecutive_failures: whole("spec.outlierDetection.consecutiveFailures", raw.consecutive_failures)?,
        base_time_ms,
        maximum_time_ms,
        maximum_percent: percent.transpose()?.unwrap_or(EJECTED_PERCENT),
    })
}
