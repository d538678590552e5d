//! What fails under Weft, and what those who talk notice of it: an agent is killed, the API server starts anew, the
//! controller is away for longer than a certificate lives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::{await_accepted, await_security};
use crate::load::{Failure, Load};
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::{inside, restart_api_server};
use crate::weft::{self, EFFECT_LIMIT, NAMESPACE};

/// Conversations a second.
const RATE: u32 = 50;
/// Conversations before a fault and after it.
const AROUND: u64 = 100;
/// A killed container is started again at once, or after ten seconds and more if it was lately.
const BACK_LIMIT: Duration = Duration::from_mins(3);

/// The life of certificates while the controller is away.
const LIFE: Duration = Duration::from_mins(1);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "a_killed_agent_leaves_each_namespace_its_way",
            run: a_killed_agent_leaves_each_namespace_its_way,
        },
        Promise { name: "a_new_api_server_is_obeyed", run: a_new_api_server_is_obeyed },
        Promise {
            name: "certificates_outlive_the_controller_and_no_more",
            run: certificates_outlive_the_controller_and_no_more,
        },
    ]
}

/// Two namespaces whose pods go on without an agent and do not.
struct Ways {
    open: Namespace,
    closed: Namespace,
}

impl Ways {
    /// Each with a server on node2, captured.
    fn create(namespace: &Namespace) -> Result<Self> {
        let create = |way: &str| -> Result<Namespace> {
            let own = Namespace::create(&format!("{}_{way}", namespace.name()))?;
            let label = format!("weft.dev/on-agent-failure={way}");
            kubectl(["label", "namespace", own.name(), &label]).run()?.expect_success()?;
            own.capture()?;
            own.server("server", "node2")?;
            Ok(own)
        };
        Ok(Self { open: create("open")?, closed: create("closed")? })
    }

    fn each(&self) -> [&Namespace; 2] {
        [&self.open, &self.closed]
    }

    fn remove(&self) -> Result<()> {
        self.each().into_iter().try_for_each(Namespace::remove)
    }
}

fn url_of_server(namespace: &Namespace) -> Result<String> {
    Ok(format!("http://{}:{PORT}", namespace.address("server")?))
}

// ---- an agent that is killed --------------------------------------------------------------------

fn a_killed_agent_leaves_each_namespace_its_way(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let ways = Ways::create(namespace)?;
    let start = |own| -> Result<_> {
        let load = Load::create(own, "client", "node1", ("http-once", &url_of_server(own)?), RATE)?;
        weft::await_captured(own, &["client", "server"])?;
        load.goes_on(AROUND)?;
        Ok(load)
    };
    let (open, closed) = (start(&ways.open)?, start(&ways.closed)?);
    let (before_open, before_closed) = (open.report()?, closed.report()?);

    let killing = now()?;
    inside("node1", &["pkill", "-KILL", "-x", "weft-agent"])?.run()?.expect_success()?;
    let killed = now()?;
    wait::until("the agent to be back", BACK_LIMIT, || {
        let status = weft::status("node1")?;
        ensure!(status["ready"] == true, "it is {status}");
        Ok(())
    })?;
    for (own, load) in ways.each().into_iter().zip([&open, &closed]) {
        weft::await_captured(own, &["client", "server"])?;
        load.is_carried(AROUND)?;
    }

    // What the agent had in its hands is lost, in both.
    let cut = |failure: &&Failure| failure.start < killed && failure.end > killing;
    let told = open.report()?;
    let others: Vec<_> = told.failures.iter().filter(|failure| !cut(failure)).collect();
    ensure!(others.is_empty(), "without an agent conversations failed where they were to go on: {:?}", others.first());
    let direct = (told.done - before_open.done) - (told.carried - before_open.carried);
    ensure!(direct > 0, "nothing went its own way: {told:?}");

    let told = closed.report()?;
    let refused: Vec<_> = told.failures.iter().filter(|failure| !cut(failure)).collect();
    ensure!(!refused.is_empty(), "nothing was refused: {} done", told.done);
    for failure in &refused {
        ensure!(failure.error.contains("connection refused"), "it was not refused at once: {failure:?}");
    }
    let direct = (told.done - before_closed.done) - (told.carried - before_closed.carried);
    ensure!(direct == 0, "{direct} conversations went past the agent where none was to");
    namespace.note(&format!("{direct} refused where closed, none where open", direct = refused.len()));
    ways.remove()
}

fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

// ---- another API server -------------------------------------------------------------------------

fn a_new_api_server_is_obeyed(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.capture()?;
    namespace.server("server", "node2")?;
    let url = url_of_server(namespace)?;
    let load = Load::create(namespace, "client", "node1", ("http", &url), RATE)?;
    weft::await_captured(namespace, &["client", "server"])?;
    load.goes_on(AROUND)?;
    let before = restarts_of_weft()?;

    restart_api_server()?;
    // What is written now is heard, of every kind.
    let late = Namespace::create(&format!("{}_late", namespace.name()))?;
    late.server("late", "node1")?;
    late.capture()?;
    weft::await_captured(&late, &["late"])?;
    await_security(&late, "late", &format!("{url}/late"), "mtls")?;
    namespace.create_object(&json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "strangers"},
        "spec": {
            "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": "server"}}}],
            "action": "Deny",
            "rules": [{"from": [{"namespaces": [late.name()]}]}],
        },
    }))?;
    await_accepted(namespace, "authorizationpolicy/strangers", "/status/ancestors/0")?;
    wait::until("the other namespace to be denied", EFFECT_LIMIT, || {
        late.exec("late", &["get", &url])?.expect_failure().map(drop)
    })?;
    load.goes_on(AROUND)?;
    load.expect_unharmed()?;
    let after = restarts_of_weft()?;
    ensure!(before == after, "programs of Weft were started again: {before:?}, {after:?}");
    late.remove()
}

/// Weft's pods and how often each was started again.
fn restarts_of_weft() -> Result<Vec<(String, u64)>> {
    let list = kubectl(["--namespace", NAMESPACE, "get", "pods", "--output=json"]).run()?.expect_success()?;
    let pods: Value = serde_json::from_str(&list)?;
    let counted = pods["items"].as_array().context("no list of pods")?.iter().map(|pod| {
        let restarts =
            pod["status"]["containerStatuses"][0]["restartCount"].as_u64().context("a pod without containers")?;
        Ok((pod["metadata"]["name"].to_string(), restarts))
    });
    counted.collect()
}

// ---- no controller ------------------------------------------------------------------------------

/// Every cell of the table of a controller that is away, except a pod's hold at its start and the start of a whole node.
fn certificates_outlive_the_controller_and_no_more(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    live_for(&format!("{}s", LIFE.as_secs()))?;
    let outcome = outlive(namespace);
    // The next test's certificates live as usual, whatever became of this one.
    let back = scale_controller(2).and_then(|()| live_for("24h"));
    outcome.and(back)
}

fn outlive(namespace: &Namespace) -> Result<()> {
    let ways = Ways::create(namespace)?;
    for own in ways.each() {
        own.server("client", "node1")?;
        weft::await_captured(own, &["client", "server"])?;
    }
    let carried = |own: &Namespace| await_security(own, "client", &url_of_server(own)?, "mtls");
    ways.each().into_iter().try_for_each(carried)?;

    scale_controller(0)?;
    // Known pods go on, also with an agent that starts now.
    ways.each().into_iter().try_for_each(carried)?;
    let agent = weft::agent("node1")?;
    kubectl(["--namespace", NAMESPACE, "delete", &agent]).run()?.expect_success()?;
    wait::until("another agent of node1", BACK_LIMIT, || {
        let other = weft::agent("node1")?;
        ensure!(other != agent, "it is still {agent}");
        ensure!(weft::status("node1")?["ready"] == true, "{other} is not ready");
        Ok(())
    })?;
    ways.each().into_iter().try_for_each(carried)?;
    // A pod that nobody has told the agent about is in no mesh, and those who take no plaintext do not take its.
    for own in ways.each() {
        own.server("new", "node1")?;
        let answer = own.ask("new", &url_of_server(own)?)?;
        ensure!(answer["request"].is_null(), "an agent without a controller carried {answer}");
    }

    for own in ways.each() {
        let url = url_of_server(own)?;
        wait::until(&format!("the certificates of {} to end", own.name()), LIFE * 2, || {
            own.exec("client", &["get", &url])?.expect_failure().map(drop)
        })?;
        let told = weft::record("node1", "why", |record| {
            record["source"]["workload"] == format!("{}/client", own.name()) && record["reason"] != "completed"
        })?;
        // Whose certificate ended first is told by who noticed it.
        ensure!(told["reason"] == "certificate_expired" || told["reason"] == "no_certificate", "{told}");
    }

    scale_controller(2)?;
    for own in ways.each() {
        weft::await_captured(own, &["client", "new", "server"])?;
        carried(own)?;
    }
    ways.remove()
}

/// Makes every certificate that is signed from now on live so long.
fn live_for(life: &str) -> Result<()> {
    let patch = json!({"spec": {"workloadCertificateLife": life}}).to_string();
    let patch = ["patch", "meshconfig/default", "--type=merge", &format!("--patch={patch}")];
    kubectl(patch).run()?.expect_success().map(drop)
}

fn scale_controller(replicas: u32) -> Result<()> {
    let count = format!("--replicas={replicas}");
    kubectl(["--namespace", NAMESPACE, "scale", "deployment/weft-controller", &count]).run()?.expect_success()?;
    wait::until(&format!("{replicas} controllers"), BACK_LIMIT, || {
        let get = ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-controller"];
        let ready = "--output=jsonpath={.items[*].status.containerStatuses[*].ready}";
        let found = kubectl(get).arg(ready).run()?.expect_success()?;
        let words: Vec<&str> = found.split_whitespace().collect();
        ensure!(words.len() == replicas as usize && words.iter().all(|word| *word == "true"), "they are {words:?}");
        Ok(())
    })
}
