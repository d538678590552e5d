//! Addresses change hands all the time, and identities never do with them: who asks and who answers is known by certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::{await_accepted, refuse_plaintext};
use crate::load::Load;
use crate::namespace::{IMAGE, Namespace, PORT};
use crate::nodes::{ADDRESSES, NODES, said};
use crate::weft;

/// Pods, in waves of the one account and the other by turns: a wave comes as soon as its predecessor has gone.
const WAVES: usize = 8;
const PODS: usize = 25;
/// Until every pod of a wave has asked, on a busy machine.
const WAVE_LIMIT: Duration = Duration::from_mins(2);
/// Requests a second to the Service of the first account's pods.
const RATE: u32 = 50;
/// Requests that go well before, between and after the waves.
const MORE: u64 = 50;

/// Whose pods are asked for, and who may ask the guarded server; and the others.
const ACCOUNTS: [&str; 2] = ["welcome", "other"];

/// Who is asked by every pod once.
const SERVERS: [&str; 2] = ["server", "guarded"];

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "an_address_used_again_is_its_new_pods", run: an_address_used_again_is_its_new_pods }]
}

fn an_address_used_again_is_its_new_pods(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let eager = Eager::allot()?;
    prepare(namespace)?;
    let url = format!("http://{}:80", namespace.service("welcome")?);
    let load = Load::create(namespace, "client", "node1", ("http", &url), RATE)?;
    weft::await_captured(namespace, &["client", "guarded", "server", "stays"])?;
    load.goes_on(MORE)?;
    let mut owners: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut changed_hands = 0;
    for number in 0..WAVES {
        let wave = Wave::of(number);
        if let Some(before) = number.checked_sub(1) {
            Wave::of(before).delete(namespace)?;
        }
        wave.create(namespace)?;
        wave.await_visits(namespace)?;
        for address in wave.addresses(namespace)? {
            let accounts = owners.entry(address).or_default();
            changed_hands += usize::from(accounts.iter().any(|account| *account != wave.account));
            accounts.insert(wave.account);
        }
        load.goes_on(MORE)?;
        expect_answered_by_account(&load)?;
    }
    expect_guarded(namespace)?;
    let report = load.report()?;
    ensure!(report.carried == report.done, "Weft has carried {} of {}", report.carried, report.done);
    ensure!(changed_hands >= WAVES * PODS / 2, "only {changed_hands} addresses were another account's before");
    let (done, failed) = (report.done, report.failures.len());
    let pods = WAVES * PODS;
    namespace.note(&format!(
        "{changed_hands} of {pods} pods had an address of the other account; {done} asked, {failed} failed"
    ));
    eager.end()
}

/// The lowest free address is the next one, in place of the one after the last.
struct Eager;

impl Eager {
    /// The plugin that allots addresses writes the last one down, and starts behind it; nothing is written down here.
    fn allot() -> Result<Self> {
        for node in NODES {
            said(node, &["ln", "--symbolic", "--force", "/dev/null", &format!("{ADDRESSES}/last_reserved_ip.0")])?;
        }
        Ok(Self)
    }

    fn end(self) -> Result<()> {
        drop(self);
        for node in NODES {
            said(node, &["test", "!", "-e", &format!("{ADDRESSES}/last_reserved_ip.0")])?;
        }
        Ok(())
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        for node in NODES {
            said(node, &["rm", "--force", &format!("{ADDRESSES}/last_reserved_ip.0")]).ok();
        }
    }
}

/// Two servers on node2, of which one lets one account in alone; and a pod of that account that stays.
fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.capture()?;
    // Who has no certificate is nobody, and is refused: pods ask until they have theirs.
    refuse_plaintext(namespace)?;
    for account in ACCOUNTS {
        namespace.kubectl(["create", "serviceaccount", account]).run()?.expect_success()?;
    }
    for server in SERVERS {
        namespace.create_pod(server, "node2", &["serve", &format!(":{PORT}")], |_| {})?;
        namespace.service(server)?;
    }
    namespace.create_pod("stays", "node2", &["serve", &format!(":{PORT}")], |pod| {
        pod["metadata"]["labels"]["app"] = json!("welcome");
        pod["spec"]["serviceAccountName"] = json!("welcome");
    })?;
    ["server", "guarded", "stays"].iter().try_for_each(|pod| namespace.await_ready(pod))?;
    weft::await_captured(namespace, &["guarded", "server", "stays"])?;
    namespace.create_object(&json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "guard"},
        "spec": {
            "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": "guarded"}}}],
            "action": "Allow",
            "rules": [{"from": [{"serviceAccounts": ["welcome"]}]}],
        },
    }))?;
    await_accepted(namespace, "authorizationpolicy/guard", "/status/ancestors/0")?;
    wait::until("the guard to be in force", WAVE_LIMIT, || {
        namespace.exec("server", &["get", "http://guarded/before"])?.expect_failure().map(drop)
    })
}

/// Pods of one account, which ask both servers once, each under its own name, and then answer.
struct Wave {
    number: usize,
    account: &'static str,
}

impl Wave {
    fn of(number: usize) -> Self {
        Self { number, account: ACCOUNTS[number % ACCOUNTS.len()] }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..PODS).map(|index| format!("{}-{}-{index}", self.account, self.number))
    }

    fn selector(&self) -> String {
        format!("--selector=wave={}", self.number)
    }

    fn create(&self, namespace: &Namespace) -> Result<()> {
        let listen = format!(":{PORT}");
        let pods = self.names().zip(NODES.iter().cycle()).map(|(name, node)| {
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": self.account, "wave": self.number.to_string()}},
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": self.account,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app",
                        "image": IMAGE,
                        "imagePullPolicy": "Never",
                        "args": ["visit", listen, "http://server", "http://guarded"],
                    }],
                },
            })
        });
        let pods: Vec<Value> = pods.collect();
        let pods = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
        namespace.kubectl(["create", "--filename=-"]).input(&pods).run()?.expect_success().map(drop)
    }

    /// When it is gone, its addresses are free.
    fn delete(&self, namespace: &Namespace) -> Result<()> {
        let delete = namespace.kubectl(["delete", "pods", &self.selector()]).within(WAVE_LIMIT);
        delete.run()?.expect_success().map(drop)
    }

    /// Waits until every pod has asked both servers; nothing of that may have been taken for another account's.
    fn await_visits(&self, namespace: &Namespace) -> Result<()> {
        let identity = format!("spiffe://cluster.local/ns/{}/sa/{}", namespace.name(), self.account);
        let wanted = |server: &str| if server == "server" || self.account == ACCOUNTS[0] { "allow" } else { "deny" };
        let names: BTreeSet<String> = self.names().collect();
        // What was seen once may not be there the next time: the end of the log alone is read.
        let mut asked = BTreeMap::from(SERVERS.map(|server| (server, BTreeSet::new())));
        wait::until(&format!("wave {} to ask", self.number), WAVE_LIMIT, || {
            for Visit { server, name, record } in visits(namespace)? {
                if names.contains(&name) {
                    ensure!(record["source"]["identity"] == *identity, "{name} is taken for another: {record}");
                    ensure!(record["verdict"] == wanted(server), "{name} at {server}: {record}");
                    asked.entry(server).or_default().insert(name);
                }
            }
            for (server, asked) in &asked {
                let missing: Vec<_> = names.difference(asked).collect();
                ensure!(missing.is_empty(), "{server} has not been asked by {missing:?}");
            }
            Ok(())
        })
    }

    fn addresses(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let list = namespace.kubectl(["get", "pods", &self.selector(), "--output=jsonpath={.items[*].status.podIP}"]);
        let found: Vec<String> = list.run()?.expect_success()?.split_whitespace().map(str::to_owned).collect();
        ensure!(found.len() == PODS, "the addresses of wave {} are {found:?}", self.number);
        Ok(found)
    }
}

/// What the servers' agent has written of somebody who came with a certificate.
struct Visit {
    server: &'static str,
    /// Of the pod: as itself says in the path, or where it was not let so far, as its agent says.
    name: String,
    record: Value,
}

/// Of late. A pod that has no certificate yet is refused unread, and is no visit.
fn visits(namespace: &Namespace) -> Result<Vec<Visit>> {
    let visit = |record: Value| {
        let own = |party: &str| record[party]["workload"].as_str()?.strip_prefix(namespace.name())?.strip_prefix('/');
        let server = SERVERS.into_iter().find(|server| own("destination") == Some(server))?;
        let path = record["path"].as_str().and_then(|path| path.strip_prefix('/'));
        let proven = record["direction"] == "inbound" && (path.is_some() || record["source"]["identity"].is_string());
        let name = path.or_else(|| own("source")).filter(|_| proven)?.to_owned();
        Some(Visit { server, name, record })
    };
    Ok(weft::records("node2")?.into_iter().filter_map(visit).collect())
}

/// No request for the Service was answered by anybody else's pod, whoever has the address by now.
fn expect_answered_by_account(load: &Load) -> Result<()> {
    let others = format!("{}-", ACCOUNTS[1]);
    let report = load.report()?;
    let strangers: Vec<_> = report.pods.iter().filter(|pod| pod.starts_with(&others)).collect();
    ensure!(strangers.is_empty(), "the Service of {} was answered by {strangers:?}", ACCOUNTS[0]);
    Ok(())
}

/// What the guarded application itself has seen: every pod that is let in, and no other.
fn expect_guarded(namespace: &Namespace) -> Result<()> {
    let log = namespace.kubectl(["logs", "guarded"]).run()?.expect_success()?;
    let mut seen: BTreeSet<String> =
        log.lines().filter_map(|line| Some(line.strip_prefix("GET /")?.split_once(' ')?.0.to_owned())).collect();
    // Until the guard was in force, somebody asked.
    seen.remove("before");
    let welcome = (0..WAVES).map(Wave::of).filter(|wave| wave.account == ACCOUNTS[0]);
    let expected: BTreeSet<String> = welcome.flat_map(|wave| wave.names().collect::<Vec<_>>()).collect();
    let strangers: Vec<_> = seen.difference(&expected).collect();
    ensure!(strangers.is_empty(), "let in were {strangers:?}");
    ensure!(seen == expected, "not let in were {:?}", expected.difference(&seen).collect::<Vec<_>>());
    Ok(())
}
