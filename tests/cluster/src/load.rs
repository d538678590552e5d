//! Clients that go on asking from a pod and never ask again for what failed, and what became of their conversations.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::namespace::{Namespace, PORT};
use crate::weft::EFFECT_LIMIT;

/// A pod whose clients hold so many conversations a second.
pub struct Load<'a> {
    namespace: &'a Namespace,
    name: String,
}

/// What became of the conversations so far.
#[derive(Debug)]
pub struct Report {
    pub done: u64,
    /// Those of them that Weft carried as requests.
    pub carried: u64,
    /// The pods that answered.
    pub pods: BTreeSet<String>,
    pub failures: Vec<Failure>,
}

/// A conversation that went wrong. Its times are in nanoseconds of the machine's one clock.
#[derive(Debug)]
pub struct Failure {
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub error: String,
}

impl Failure {
    fn of(told: &Value) -> Result<Self> {
        let text = |field: &str| told[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {told}"));
        let time = |field: &str| told[field].as_u64().with_context(|| format!("no {field}: {told}"));
        Ok(Self { name: text("name")?, start: time("start")?, end: time("end")?, error: text("error")? })
    }
}

impl<'a> Load<'a> {
    /// Makes it on a node: conversations of a kind that `podapp load` knows, from the first report on.
    pub fn create(
        namespace: &'a Namespace,
        name: &str,
        node: &str,
        (kind, target): (&str, &str),
        rate: u32,
    ) -> Result<Self> {
        let words = ["load", kind, target, &rate.to_string(), &format!(":{PORT}")];
        namespace.create_pod(name, node, &words, |pod| pod["spec"]["restartPolicy"] = json!("Never"))?;
        namespace.await_ready(name)?;
        Ok(Self { namespace, name: name.to_owned() })
    }

    /// How it has gone.
    pub fn report(&self) -> Result<Report> {
        let asked = self.namespace.exec(&self.name, &["get", &format!("http://127.0.0.1:{PORT}/")])?;
        let told: Value = serde_json::from_str(&asked.expect_success()?)?;
        let number = |field: &str| told[field].as_u64().with_context(|| format!("no {field}: {told}"));
        let failures = told["failures"].as_array().context("no failures")?;
        let pods = told["pods"].as_object().context("no pods")?;
        Ok(Report {
            done: number("done")?,
            carried: number("carried")?,
            pods: pods.keys().filter(|pod| !pod.is_empty()).cloned().collect(),
            failures: failures.iter().map(Failure::of).collect::<Result<_>>()?,
        })
    }

    /// Waits until this many more conversations have gone well.
    pub fn goes_on(&self, more: u64) -> Result<()> {
        self.grows(more, |report| report.done)
    }

    /// Waits until Weft has carried this many more.
    pub fn is_carried(&self, more: u64) -> Result<()> {
        self.grows(more, |report| report.carried)
    }

    fn grows(&self, more: u64, number: impl Fn(&Report) -> u64) -> Result<()> {
        let before = number(&self.report()?);
        wait::until(&format!("{more} more conversations of {}", self.name), EFFECT_LIMIT, || {
            let report = self.report()?;
            let grown = number(&report) - before;
            ensure!(grown >= more, "there are {grown}; {:?}", report.failures.last());
            Ok(())
        })
    }

    /// Fails if any conversation has.
    pub fn expect_unharmed(&self) -> Result<Report> {
        let report = self.report()?;
        let count = report.failures.len();
        ensure!(
            count == 0,
            "{count} conversations of {} failed, beside {}: {:?}",
            self.name,
            report.done,
            report.failures[0]
        );
        Ok(report)
    }
}
