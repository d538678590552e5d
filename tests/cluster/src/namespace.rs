//! A namespace of a test's own, and what a test does in it with kubectl, as a user would.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weft_rig::place::{Launch, Outcome};
use weft_rig::wait;

use crate::nodes::NODES;
use crate::weft;

/// A pod takes two to four seconds on a free machine.
pub const POD_LIMIT: Duration = Duration::from_mins(2);

/// What every pod of the tier runs: `podapp`, which cluster/images brings.
pub const IMAGE: &str = "registry.weft.local/podapp:1";

/// The port on which a test's servers listen.
pub const PORT: u16 = 8080;

/// The label of what a test makes outside of its namespace, and the kinds of it.
const LABEL: &str = "tests.weft.dev/namespace";
const OUTSIDE: &str = "validatingwebhookconfigurations";

/// A namespace with a default service account.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    pub fn create(test: &str) -> Result<Self> {
        let name = test.replace('_', "-");
        kubectl(["create", "namespace", &name]).run()?.expect_success()?;
        let namespace = Self { name };
        // Until there is one, no pod is admitted.
        namespace.kubectl(["wait", "--for=create", "serviceaccount/default"]).run()?.expect_success()?;
        Ok(namespace)
    }

    /// Removes it, and what has its label. Does not wait for the end of its pods.
    pub fn remove(&self) -> Result<()> {
        let label = format!("--selector={LABEL}={}", self.name);
        kubectl(["delete", OUTSIDE, &label]).run()?.expect_success()?;
        kubectl(["delete", "namespace", &self.name, "--wait=false"]).run()?.expect_success().map(drop)
    }

    /// The labels of objects that belong to the test and not to the namespace.
    pub fn label(&self) -> Value {
        json!({LABEL: self.name})
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl in this namespace.
    pub fn kubectl<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Launch {
        kubectl([]).arg(format!("--namespace={}", self.name)).args(words)
    }

    /// Makes an object, and returns it as the API server completed it.
    pub fn create_object(&self, object: &Value) -> Result<Value> {
        let create = self.kubectl(["create", "--filename=-", "--output=json"]).input(&object.to_string());
        Ok(serde_json::from_str(&create.run()?.expect_success()?)?)
    }

    /// Makes a pod on a node that runs `podapp` with these words. The changes are merged into its description.
    pub fn create_pod(&self, name: &str, node: &str, words: &[&str], changes: impl FnOnce(&mut Value)) -> Result<()> {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "app", "image": IMAGE, "imagePullPolicy": "Never", "args": words}],
            },
        });
        changes(&mut pod);
        self.create_object(&pod).map(drop)
    }

    /// A pod that answers requests, ready.
    pub fn server(&self, name: &str, node: &str) -> Result<()> {
        self.create_pod(name, node, &["serve", &format!(":{PORT}")], |_| {})?;
        self.await_ready(name)
    }

    /// A Service in front of the pod of the same name; returns its address.
    pub fn service(&self, name: &str) -> Result<String> {
        let service = self.create_object(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
        }))?;
        Ok(service["spec"]["clusterIP"].as_str().context("a Service without an address")?.to_owned())
    }

    /// The address of a pod.
    pub fn address(&self, pod: &str) -> Result<String> {
        let pod = self.get(&format!("pod/{pod}"))?;
        Ok(pod["status"]["podIP"].as_str().context("a pod without an address")?.to_owned())
    }

    /// Asks for its pods to be captured, those that run too.
    pub fn capture(&self) -> Result<()> {
        kubectl(["label", "namespace", &self.name, "weft.dev/capture=enabled"]).run()?.expect_success().map(drop)
    }

    /// Waits until a pod is ready.
    pub fn await_ready(&self, pod: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", POD_LIMIT.as_secs());
        let wait = self.kubectl(["wait", "--for=condition=Ready", &format!("pod/{pod}"), &timeout]);
        wait.within(POD_LIMIT * 2).run()?.expect_success().map(drop)
    }

    /// Waits until a field of a pod, named by a JSON pointer, is what is wanted.
    pub fn await_field(&self, pod: &str, pointer: &str, wanted: &str) -> Result<()> {
        wait::until(&format!("{pointer} of {pod} to be {wanted}"), POD_LIMIT, || {
            let pod = self.get(&format!("pod/{pod}"))?;
            let found = pod.pointer(pointer).cloned().unwrap_or_default();
            anyhow::ensure!(found == wanted, "it is {found}; {}", pod["status"]);
            Ok(())
        })
    }

    /// An object of this namespace.
    pub fn get(&self, object: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(["get", object, "--output=json"]).run()?.expect_success()?)?)
    }

    /// Runs `podapp` with these words inside a pod.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<Outcome> {
        self.exec_with(pod, words, "")
    }

    /// The same, with something to read.
    pub fn exec_with(&self, pod: &str, words: &[&str], input: &str) -> Result<Outcome> {
        let exec = self.kubectl(["exec", "--stdin", pod, "--", "/podapp"]).args(words);
        exec.input(input).run()
    }

    /// What a server that is asked from a pod answers, as soon as it does: rules for a new Service take a moment.
    pub fn ask(&self, pod: &str, url: &str) -> Result<Value> {
        wait::until(&format!("an answer of {url} to {pod}"), POD_LIMIT, || {
            Ok(serde_json::from_str(&self.exec(pod, &["get", url])?.expect_success()?)?)
        })
    }

    /// Which pods answer so many requests of a pod, and how many each. Fails if Weft has not carried one of them.
    pub fn tally(&self, pod: &str, url: &str, requests: u32) -> Result<BTreeMap<String, u32>> {
        let tally = self.exec(pod, &["tally", url, &requests.to_string()])?.expect_success()?;
        Ok(serde_json::from_str(&tally)?)
    }

    /// Prints a figure of a test that went well.
    #[expect(clippy::print_stdout, reason = "it is the test's output")]
    pub fn note(&self, figure: &str) {
        println!("{}: {figure}", self.name);
    }

    /// The pods, what they last said, the events, and what the agents say, for failures.
    pub fn last_words(&self) -> String {
        let shown = |words: &[&str]| {
            let shown = self.kubectl(words.iter().copied()).run();
            shown.map_or_else(|error| format!("{error:#}"), |outcome| outcome.stdout + &outcome.stderr)
        };
        let pods = shown(&["get", "pods,events", "--output=wide"]);
        let said = shown(&["logs", "--selector=app", "--prefix", "--tail=2", "--max-log-requests=100"]);
        let agents = NODES.map(weft::last_words).join("\n");
        [pods, said, agents].join("\n")
    }
}

/// kubectl for what belongs to no namespace.
pub fn kubectl<'a>(words: impl IntoIterator<Item = &'a str>) -> Launch {
    Launch::new("kubectl").args(words).ends_with_caller()
}
