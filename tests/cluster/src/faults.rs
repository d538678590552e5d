//! What fails under Weft, and what those who talk notice of it: an agent is killed, the API server starts anew, the
//! controller is away for longer than a certificate lives.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::capture::{await_accepted, await_security};
use crate::load::{Failure, Load};
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::{NODES, inside, restart_api_server};
use crate::weft::{self, EFFECT_LIMIT, NAMESPACE};
use crate::{Promise, Proof};

/// Conversations a second.
const RATE: u32 = 50;
/// Conversations before a fault and after it.
const AROUND: u64 = 100;
/// A killed container is started again at once, or after ten seconds and more if it was lately.
pub const BACK_LIMIT: Duration = Duration::from_mins(3);

/// The name of the proof of life without a controller, which is its short form's too.
const OUTAGE: &str = "certificates_outlive_the_controller_and_no_more";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "a_killed_agent_leaves_each_namespace_its_way",
            run: a_killed_agent_leaves_each_namespace_its_way,
        },
        Promise { name: "a_new_api_server_is_obeyed", run: a_new_api_server_is_obeyed },
        Promise { name: OUTAGE, run: |namespace| outlive(namespace, &SHORT) },
    ]
}

/// Two namespaces whose pods go on without an agent and do not.
pub struct Ways {
    pub open: Namespace,
    pub closed: Namespace,
}

impl Ways {
    /// Each with a server on node2, captured.
    pub fn create(namespace: &Namespace) -> Result<Self> {
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

    pub fn each(&self) -> [&Namespace; 2] {
        [&self.open, &self.closed]
    }

    pub fn remove(&self) -> Result<()> {
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
    inside("node1", &["bash", "-c", KILL_AGENT])?.run()?.expect_success()?;
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

/// The agent's parent process is killed, and with it goes the agent a moment later: until both are gone.
const KILL_AGENT: &str = r#"
all=$(pgrep --full '^/weft-agent ')
pkill -KILL --exact weft-agent
for process in $all; do
    while [ -e "/proc/$process" ]; do :; done
done"#;

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

/// How long certificates live, and for how long there is no controller.
struct Outage {
    life: Duration,
    away: Duration,
}

const SHORT: Outage = Outage { life: Duration::from_mins(1), away: Duration::from_secs(75) };
const FULL: Outage = Outage { life: Duration::from_mins(10), away: Duration::from_mins(12) };

/// The proof in full.
pub const PROOF: Proof = Proof {
    name: OUTAGE,
    claim: "certificates of 10 minutes, no controller for 12, pods come and go: open namespaces go on, closed ones until the end",
    run: |namespace| outlive(namespace, &FULL),
};

/// What becomes of pods while the controller is away, before their certificates end and after, but for the start of a whole node.
fn outlive(namespace: &Namespace, outage: &Outage) -> Result<()> {
    weft::need()?;
    live_for(&format!("{}s", outage.life.as_secs()))?;
    let outcome = without_controller(namespace, outage);
    // The next test's certificates live as usual, whatever became of this one.
    let back = scale_controller(2).and_then(|()| live_for("24h"));
    outcome.and(back)
}

fn without_controller(namespace: &Namespace, outage: &Outage) -> Result<()> {
    let ways = Ways::create(namespace)?;
    for own in ways.each() {
        own.server("client", "node1")?;
        weft::await_captured(own, &["client", "server"])?;
    }
    let carried = |own: &Namespace, security: &str| await_security(own, "client", &url_of_server(own)?, security);
    let proven = || ways.each().into_iter().try_for_each(|own| carried(own, "mtls"));
    proven()?;

    scale_controller(0)?;
    let gone = Instant::now();
    // Known pods go on, also with an agent that starts now.
    proven()?;
    another_agent("node1")?;
    proven()?;
    for own in ways.each() {
        own.server("new", "node1")?;
    }
    ways.expect_newcomers("new", "node1")?;
    let mut guests = 0;
    while ways.closed.exec("client", &["get", &url_of_server(&ways.closed)?])?.success() {
        ensure!(gone.elapsed() < outage.life * 2, "the certificates of {} do not end", ways.closed.name());
        ways.welcome(&mut guests)?;
        ways.open.ask("client", &url_of_server(&ways.open)?)?;
    }
    let ended = gone.elapsed();
    let told = weft::record("node1", "why", |record| {
        record["source"]["workload"] == format!("{}/client", ways.closed.name()) && record["reason"] != "completed"
    })?;
    // Whose certificate ended first is told by who noticed it.
    ensure!(told["reason"] == "certificate_expired" || told["reason"] == "no_certificate", "{told}");
    carried(&ways.open, "plaintext")?;
    another_agent("node1")?;
    let goes_on = |own: &Namespace| own.exec("client", &["get", &url_of_server(own)?]);
    wait::until("the open namespace to go on with another agent", EFFECT_LIMIT, || {
        goes_on(&ways.open)?.expect_success().map(drop)
    })?;
    while gone.elapsed() < outage.away {
        goes_on(&ways.open)?.expect_success()?;
        goes_on(&ways.closed)?.expect_failure()?;
        ways.expect_newcomers("new", "node1")?;
        ways.welcome(&mut guests)?;
    }
    let away = gone.elapsed();

    scale_controller(2)?;
    for own in ways.each() {
        weft::await_captured(own, &["client", "new", "server"])?;
        carried(own, "mtls")?;
        await_security(own, "new", &url_of_server(own)?, "mtls")?;
    }
    namespace.note(&format!(
        "certificates ended after {ended:.0?}, the controller came after {away:.0?}; {guests} pods came and went"
    ));
    ways.remove()
}

impl Ways {
    /// A pod on each way that comes, finds what is there for pods that no controller tells of, and goes; on the nodes by turns.
    fn welcome(&self, guests: &mut usize) -> Result<()> {
        let (name, node) = (format!("guest-{guests}"), NODES[*guests % NODES.len()]);
        for own in self.each() {
            own.server(&name, node)?;
        }
        self.expect_newcomers(&name, node)?;
        for own in self.each() {
            own.kubectl(["delete", &format!("pod/{name}")]).run()?.expect_success()?;
        }
        *guests += 1;
        Ok(())
    }

    /// A pod that no controller has told of is in no mesh where that is open, and speaks to nobody where it is closed; its
    /// node's agent names it, and says why.
    fn expect_newcomers(&self, name: &str, node: &str) -> Result<()> {
        for (own, why) in self.each().into_iter().zip(["fails open", "fails closed"]) {
            let whole = format!("{}/{name}", own.name());
            wait::until(&format!("{node} to tell of {whole}"), EFFECT_LIMIT, || {
                let status = weft::status(node)?;
                let pods = status["pods"].as_array().context("no list of pods")?;
                let told = pods.iter().find(|pod| pod["name"] == *whole).context("it is not there")?;
                let reason = told["reason"].as_str().unwrap_or_default();
                ensure!(told["enrolled"] == false && reason.contains(why), "{told}");
                Ok(())
            })?;
        }
        let url = url_of_server(&self.open)?;
        let answer = self.open.ask(name, &url)?;
        ensure!(answer["request"].is_null(), "an agent without a controller carried {answer}");
        let own = format!("http://{}:{PORT}", self.open.address(name)?);
        self.open.exec("server", &["get", &own])?.expect_success()?;

        let refused = self.closed.exec(name, &["get", &url_of_server(&self.closed)?])?.expect_failure()?;
        ensure!(refused.stderr.contains("connection refused"), "it was not refused at once: {refused:?}");
        let own = format!("http://{}:{PORT}", self.closed.address(name)?);
        self.closed.exec("server", &["get", &own])?.expect_failure().map(drop)
    }
}

/// Puts another agent in the place of a node's.
fn another_agent(node: &str) -> Result<()> {
    let agent = weft::agent(node)?;
    kubectl(["--namespace", NAMESPACE, "delete", &agent]).run()?.expect_success()?;
    wait::until(&format!("another agent of {node}"), BACK_LIMIT, || {
        let other = weft::agent(node)?;
        ensure!(other != agent, "it is still {agent}");
        ensure!(weft::status(node)?["ready"] == true, "{other} is not ready");
        Ok(())
    })
}

/// Makes every certificate that is signed from now on live so long.
fn live_for(life: &str) -> Result<()> {
    let patch = json!({"spec": {"workloadCertificateLife": life}}).to_string();
    let patch = ["patch", "meshconfig/default", "--type=merge", &format!("--patch={patch}")];
    kubectl(patch).run()?.expect_success().map(drop)
}

/// Waits until there are so many controllers and all are ready.
pub fn scale_controller(replicas: u32) -> Result<()> {
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
