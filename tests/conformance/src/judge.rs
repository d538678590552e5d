//! Whether what came of an ask is what the row promises. Pure.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_conformance_tier::row::{Ask, Version};

/// What the client printed.
pub struct Report(pub Value);

/// Standard deviations that a share may be off: of 500 draws, one in two million runs is.
const DEVIATIONS: u32 = 5;

pub fn judge(ask: &Ask, report: &Report) -> Result<()> {
    ensure!(report.0["failures"].as_object().is_some_and(serde_json::Map::is_empty), "requests failed");
    ensure!(report.0["answered"] == ask.count, "not every request was answered");
    if ask.shares.is_empty() && ask.statuses.is_empty() {
        let ordinary = if ask.version == Version::Grpc { "grpc 0" } else { "200" };
        let wanted = ask.status.as_deref().unwrap_or(ordinary);
        ensure!(report.count("statuses", wanted) == ask.count, "not every status is {wanted}");
    }
    if let Some(backend) = &ask.backend {
        ensure!(report.count("names", backend) == ask.count, "not every answer is of {backend}");
    }
    if let Some(reason) = &ask.reason {
        ensure!(report.count("reasons", reason) == ask.count, "not every answer is given for {reason}");
    }
    for (who, percent) in &ask.shares {
        let of_backend = !who.starts_with("grpc ") && who.parse::<u16>().is_err();
        let got = report.count(if of_backend { "names" } else { "statuses" }, who);
        ensure!(is_share(got, *percent, ask.count), "{got} of {} are {who}'s, and not {percent} %", ask.count);
    }
    for (status, percent) in &ask.statuses {
        let got = report.count("statuses", status);
        ensure!(is_share(got, *percent, ask.count), "{got} of {} are {status}, and not {percent} %", ask.count);
    }
    for (backend, least) in &ask.at_least {
        let got = report.count("names", backend);
        ensure!(got >= *least, "{got} of {} are of {backend}, and not {least}", ask.count);
    }
    for (name, value) in &ask.answer {
        expect_header("the answer", &report.answer_headers(), name, value.as_deref())?;
    }
    if ask.path.is_some() || !ask.seen.is_empty() {
        judge_seen(ask, &report.seen().context("no backend told what it saw")?)?;
    }
    Ok(())
}

fn judge_seen(ask: &Ask, seen: &Value) -> Result<()> {
    if let Some(path) = &ask.path {
        ensure!(seen["target"] == *path, "the backend saw {} and not {path}", seen["target"]);
    }
    let headers = pairs(&seen["headers"]);
    for (name, value) in &ask.seen {
        if name == ":version" {
            ensure!(seen["version"].as_str() == value.as_deref(), "the backend was asked in {}", seen["version"]);
        } else {
            expect_header("the request", &headers, name, value.as_deref())?;
        }
    }
    Ok(())
}

fn expect_header(whose: &str, headers: &[(String, String)], name: &str, wanted: Option<&str>) -> Result<()> {
    let values: Vec<&str> = headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect();
    let found = (!values.is_empty()).then(|| values.join(","));
    ensure!(found.as_deref() == wanted, "{whose} has {name}: {found:?}, and not {wanted:?}");
    Ok(())
}

/// Exactly all or none where that is wanted, else what chance allows. More than a hundred percent is exact, too.
pub fn is_share(got: u32, percent: u32, count: u32) -> bool {
    let exact = u64::from(count) * u64::from(percent);
    let off = (u64::from(got) * 100).abs_diff(exact);
    if percent == 0 || percent >= 100 {
        return off == 0;
    }
    let variance = u64::from(count) * u64::from(percent) * u64::from(100 - percent);
    off <= u64::from(DEVIATIONS) * variance.isqrt()
}

impl Report {
    fn count(&self, what: &str, which: &str) -> u32 {
        self.0[what][which].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0)
    }

    fn answer_headers(&self) -> Vec<(String, String)> {
        pairs(&self.0["last"]["headers"])
    }

    /// What the backend of the last request tells that it saw: in the body, or of a call in a header.
    fn seen(&self) -> Option<Value> {
        let of_call = self.answer_headers().into_iter().find(|(name, _)| name == "server-saw").map(|(_, value)| value);
        let text = of_call.or_else(|| self.0["last"]["body"].as_str().map(str::to_owned))?;
        serde_json::from_str(&text).ok()
    }
}

fn pairs(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(text: &str) -> Ask {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_share_is_exact_at_its_ends_and_chance_between() {
        for (got, percent, holds) in [
            (0, 0, true),
            (1, 0, false),
            (500, 100, true),
            (499, 100, false),
            (350, 70, true),
            (250, 70, false),
            (1500, 300, true),
        ] {
            assert_eq!(is_share(got, percent, 500), holds, "{got} of 500 for {percent} %");
        }
    }

    #[test]
    fn what_differs_is_named() {
        let seen = json!({"target": "/x", "version": "HTTP/1.1", "headers": [["a", "1"], ["a", "2"]]}).to_string();
        let report = Report(json!({
            "answered": 1, "failures": {}, "statuses": {"200": 1}, "names": {"one": 1}, "reasons": {},
            "last": {"headers": [["location", "/y"]], "body": seen},
        }));
        for (text, complaint) in [
            ("{ask: GET /, backend: one, path: /x, seen: {a: '1,2', b: null}, answer: {location: /y}}", ""),
            ("{ask: GET /, status: '404'}", "status"),
            ("{ask: GET /, backend: two}", "of two"),
            ("{ask: GET /, count: 2}", "answered"),
            ("{ask: GET /, path: /y}", "saw"),
            ("{ask: GET /, seen: {a: '1'}}", "the request has a"),
            ("{ask: GET /, seen: {a: null}}", "the request has a"),
            ("{ask: GET /, answer: {location: /z}}", "the answer has location"),
            ("{ask: GET /, reason: no_route}", "given for"),
            ("{ask: GET /, shares: {two: 100}}", "two's"),
            ("{ask: GET /, at_least: {two: 1}}", "of two"),
            ("{ask: GET /, statuses: {'503': 100}}", "503"),
        ] {
            let outcome = judge(&ask(text), &report).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(outcome.is_empty() == complaint.is_empty() && outcome.contains(complaint), "{text}: {outcome}");
        }
    }
}
