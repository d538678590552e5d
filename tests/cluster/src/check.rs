//! `weft check`, before a namespace is made strict and after something has gone wrong.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::{await_security, refuse_plaintext};
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::NODES;
use crate::weft::{self, EFFECT_LIMIT};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "weft_check_finds_what_is_wrong", run: weft_check_finds_what_is_wrong },
        Promise { name: "strict_is_checked_before_it_is_asked_for", run: strict_is_checked_before_it_is_asked_for },
    ]
}

/// What `weft check` says of the cluster with these words more, and its exit code.
fn check(words: &[&str]) -> Result<(Value, Option<i32>)> {
    let outcome = weft::weft(&["--output=json", "check", "--cluster"])?.args(words.iter().copied()).run()?;
    let told =
        serde_json::from_str(&outcome.stdout).with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    Ok((told, outcome.status.code()))
}

/// The checks of one name, and there is one.
fn named<'a>(told: &'a Value, name: &str) -> Result<&'a Value> {
    let mut all = told.as_array().into_iter().flatten();
    all.find(|check| check["name"] == name).with_context(|| format!("no check {name:?} in {told:#}"))
}

fn weft_check_finds_what_is_wrong(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let well = wait::until("a cluster without problems", EFFECT_LIMIT, || {
        let (told, code) = check(&[])?;
        let problems: Vec<&Value> =
            told.as_array().into_iter().flatten().filter(|one| one["verdict"] == "problem").collect();
        ensure!(problems.is_empty() && code == Some(0), "{problems:#?}");
        Ok(told)
    })?;
    for group in [
        "cluster",
        "nodes",
        "Gateway API",
        "other meshes",
        "weft",
        "kinds",
        "controller",
        "agents",
        "versions",
        "certificates",
        "capture",
    ] {
        let looked_at = well.as_array().into_iter().flatten().any(|one| one["group"] == group);
        ensure!(looked_at, "nobody looks at {group}: {well:#}");
    }
    let agents = format!("of {} agents are well", NODES.len());
    let heard = well
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["name"].as_str().is_some_and(|name| name.ends_with(&agents)));
    ensure!(heard, "not every agent was asked: {well:#}");

    // In two meshes at once, and with a pod that no agent can capture.
    namespace.server("captured", "node1")?;
    namespace.create_pod("host", "node2", &["serve", ":18080"], |pod| pod["spec"]["hostNetwork"] = json!(true))?;
    namespace.await_ready("host")?;
    namespace.capture()?;
    weft::await_captured(namespace, &["captured"])?;
    kubectl(["label", "namespace", namespace.name(), "istio-injection=enabled"]).run()?.expect_success()?;
    let (told, code) = check(&[])?;
    ensure!(code == Some(1), "it ended with {code:?}: {told:#}");
    let both = named(&told, &format!("namespace {} is in one mesh", namespace.name()))?;
    ensure!(both["verdict"] == "problem" && both["fix"].as_str().is_some_and(|fix| fix.contains("Istio")), "{both}");
    let host = named(&told, &format!("{}/host is captured", namespace.name()))?;
    ensure!(host["cause"].as_str().is_some_and(|cause| cause.contains("node's network")), "{host}");
    let captured = format!("{}/captured is captured", namespace.name());
    ensure!(named(&told, &captured).is_err(), "the agent has it: {told:#}");

    // Before it is installed, and where there is no cluster.
    let (told, code) = check(&["--namespace=weft-elsewhere"])?;
    let absent = named(&told, "Weft is installed in weft-elsewhere")?;
    ensure!(absent["verdict"] == "warning" && absent["fix"].as_str().is_some_and(|fix| fix.contains("weft install")));
    ensure!(named(&told, "you may install, upgrade and uninstall Weft")?["verdict"] == "fine", "{told:#}");
    ensure!(code == Some(1), "two meshes are a problem before the installation too");
    let (told, code) = check(&["--context=nowhere"])?;
    ensure!(named(&told, "the API server answers")?["verdict"] == "problem" && code == Some(1), "{told:#}");
    Ok(())
}

/// Waits until these callers would be refused, as `weft check --strict` says, and no others, and so many let in.
fn await_refused(namespace: &Namespace, expected: &[(String, u64)], accepted: u64) -> Result<Value> {
    wait::until(&format!("{expected:?} to be named"), EFFECT_LIMIT, || {
        let (told, code) = check(&["--strict", namespace.name()])?;
        let all = told["refused"].as_array().context("no list of callers")?;
        let refused: Vec<(String, u64)> = all
            .iter()
            .map(|one| (one["workload"].as_str().unwrap_or("?").to_owned(), one["port"].as_u64().unwrap_or(0)))
            .collect();
        ensure!(refused == expected && told["accepted"].as_u64() >= Some(accepted), "{told:#}");
        ensure!(code == Some(i32::from(!expected.is_empty())), "it ended with {code:?}");
        Ok(told)
    })
}

fn strict_is_checked_before_it_is_asked_for(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let outside = Namespace::create(&format!("{}_outside", namespace.name()))?;
    outside.server("stranger", "node1")?;
    namespace.server("client", "node1")?;
    namespace.create_pod("server", "node2", &["serve", &format!(":{PORT}")], |pod| {
        let probe = json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1});
        pod["spec"]["containers"][0]["livenessProbe"] = probe;
    })?;
    namespace.await_ready("server")?;
    wait::until("agents to know of the pods", EFFECT_LIMIT, || {
        let (told, code) = check(&["--strict", namespace.name()])?;
        ensure!(told["verdict"] == "no_data" && code == Some(1), "{told:#}");
        Ok(())
    })?;

    kubectl(["label", "namespace", namespace.name(), "weft.dev/capture=observe"]).run()?.expect_success()?;
    let told = await_refused(namespace, &[], 0)?;
    ensure!(told["verdict"] == "nobody", "{told:#}");
    let url = format!("http://{}:{PORT}/observed", namespace.address("server")?);
    for (space, pod) in [(namespace, "client"), (&outside, "stranger")] {
        let answer = space.ask(pod, &url)?;
        ensure!(answer["request"].is_null(), "Weft carried {answer}");
    }
    let stranger = format!("{}/stranger", outside.name());
    // The client, which is captured with its namespace, and kubelet.
    await_refused(namespace, &[(stranger, u64::from(PORT))], 2)?;

    let label = ["label", "namespace", namespace.name(), "weft.dev/capture=enabled", "--overwrite"];
    kubectl(label).run()?.expect_success()?;
    weft::await_captured(namespace, &["client", "server"])?;
    refuse_plaintext(namespace)?;
    wait::until("the named caller to be refused", EFFECT_LIMIT, || {
        outside.exec("stranger", &["get", &url])?.expect_failure().map(drop)
    })?;
    await_security(namespace, "client", &url, "mtls")?;
    let status = &namespace.get("pod/server")?["status"]["containerStatuses"][0];
    ensure!(status["restartCount"] == 0, "kubelet's probes failed: {status}");
    outside.remove()
}
