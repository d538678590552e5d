//! What was counted, by Service, rule and backend.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exposition::Counted;

/// One backend of one rule; names are empty where no route, or nobody, decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub service: String,
    pub route: String,
    pub backend: String,
    /// Of the requests that the rule took.
    pub share_percent: Option<f64>,
    pub requests_per_second: f64,
    /// None where there was no request.
    pub success_percent: Option<f64>,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub retries_per_second: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: String,
    route: String,
    backend: String,
}

#[derive(Debug, Default)]
struct Tally {
    requests: f64,
    failures: f64,
    retries: f64,
    /// Cumulative counts by their upper bounds, as text and as numbers.
    buckets: BTreeMap<String, (f64, f64)>,
}

/// The rows of one reading, in a stable order. `wanted`: a Service, or a namespace.
pub fn rows<'a>(counted: impl Iterator<Item = Counted<'a>>, seconds: f64, wanted: Option<&str>) -> Vec<Row> {
    let mut tallies: BTreeMap<Key, Tally> = BTreeMap::new();
    for counted in counted.filter(|counted| counted.label("direction") == "outbound") {
        let [service, route, backend] = ["service", "route", "backend"].map(|name| counted.label(name).to_owned());
        if !wanted.is_none_or(|wanted| fits(wanted, &service)) {
            continue;
        }
        tallies.entry(Key { service, route, backend }).or_default().count(&counted);
    }
    let taken = |key: &Key| -> f64 {
        let same = tallies.iter().filter(|(other, _)| other.service == key.service && other.route == key.route);
        same.map(|(_, tally)| tally.requests).sum()
    };
    let row = |(key, tally): (&Key, &Tally)| Row {
        service: key.service.clone(),
        route: key.route.clone(),
        backend: key.backend.clone(),
        share_percent: percent(tally.requests, taken(key)).filter(|_| !key.backend.is_empty()),
        requests_per_second: tally.requests / seconds,
        success_percent: percent(tally.requests - tally.failures, tally.requests),
        p50_seconds: tally.quantile(0.5),
        p99_seconds: tally.quantile(0.99),
        retries_per_second: tally.retries / seconds,
    };
    tallies.iter().map(row).collect()
}

fn fits(wanted: &str, service: &str) -> bool {
    service == wanted || service.split_once('/').is_some_and(|(namespace, _)| namespace == wanted)
}

fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part * 100.0 / whole)
}

impl Tally {
    fn count(&mut self, counted: &Counted<'_>) {
        match counted.name {
            "weft_requests_total" => {
                self.requests += counted.by;
                let grpc_failed = matches!(counted.label("grpc_status"), "13" | "14" | "15");
                if grpc_failed || matches!(counted.label("class"), "5xx" | "none") {
                    self.failures += counted.by;
                }
            }
            "weft_request_retries_total" => self.retries += counted.by,
            "weft_request_duration_seconds_bucket" => {
                let bound = counted.label("le");
                let number = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::INFINITY) };
                self.buckets.entry(bound.to_owned()).or_insert((number, 0.0)).1 += counted.by;
            }
            _ => {}
        }
    }

    /// Between two bounds times are taken to lie evenly; beyond the last it is that bound.
    fn quantile(&self, share: f64) -> Option<f64> {
        let mut buckets: Vec<_> = self.buckets.values().copied().collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let wanted = all * share;
        let (mut below, mut counted) = (0.0, 0.0);
        for (bound, cumulative) in buckets {
            if cumulative >= wanted {
                let inside = (wanted - counted) / (cumulative - counted).max(1.0);
                return Some(if bound.is_finite() { below + (bound - below) * inside } else { below });
            }
            (below, counted) = (bound, cumulative);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Reading;

    fn text(version: &str, good: u32, bad: u32, fast: u32) -> String {
        let labels = |more: &str| {
            format!(
                "{{direction=\"outbound\",service=\"shop/web\",route=\"HTTPRoute shop/web[0]\",backend=\"shop/{version}:80\"{more}}}"
            )
        };
        let class = |class: &str| labels(&format!(",class=\"{class}\",grpc_status=\"\""));
        let bucket = |bound: &str| labels(&format!(",class=\"2xx\",le=\"{bound}\""));
        let all = good + bad;
        format!(
            "weft_requests_total{} {good}\nweft_requests_total{} {bad}\nweft_request_retries_total{} 4\n\
             weft_request_duration_seconds_bucket{} {fast}\nweft_request_duration_seconds_bucket{} {all}\n\
             weft_request_duration_seconds_bucket{} {all}\n",
            class("2xx"),
            class("5xx"),
            labels(""),
            bucket("0.001"),
            bucket("0.01"),
            bucket("+Inf")
        )
    }

    #[test]
    fn both_versions_of_a_canary_stand_side_by_side() {
        let reading = Reading::of(&(text("v1", 90, 0, 90) + &text("v2", 5, 5, 5)));
        let all = rows(reading.since(&Reading::default()), 2.0, Some("shop/web"));
        assert_eq!(all.iter().map(|row| row.backend.as_str()).collect::<Vec<_>>(), ["shop/v1:80", "shop/v2:80"]);
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(
            (first.requests_per_second, first.share_percent, first.success_percent),
            (45.0, Some(90.0), Some(100.0))
        );
        assert_eq!(
            (second.share_percent, second.success_percent, second.retries_per_second),
            (Some(10.0), Some(50.0), 2.0)
        );
        assert_eq!(first.p50_seconds, Some(0.0005));
        assert!((second.p99_seconds.unwrap() - 0.00982).abs() < 1e-9, "{second:?}");
        assert!(rows(reading.since(&Reading::default()), 2.0, Some("other")).is_empty());
        assert_eq!(rows(reading.since(&reading), 2.0, Some("shop"))[0].success_percent, None);
    }
}
