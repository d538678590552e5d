//! h2spec, which asks a server of HTTP/2 for every rule of RFC 9113 and RFC 7541 that a client can see kept, asks the agents.
//!
//! Invariant: what fails is what [`FAILURES`] lists, neither more nor less. Absent: clients of HTTP/2, which it does not test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::{Mesh, PodPlan, ServicePlan};

use crate::cast::{self, EFFECT_LIMIT, authorization};
use crate::scene::{Promise, Scene};

/// Of the Service and of the application.
const PORT: u16 = 8000;
/// All cases, and two seconds for each that waits for what never comes.
const RUN_LIMIT: Duration = Duration::from_secs(100);

/// A case that fails, with its section and the reason.
struct Failure {
    section: &'static str,
    case: &'static str,
    reason: &'static str,
}

const FAILURES: &[Failure] = &[Failure {
    section: "http2/3.5",
    case: "Sends invalid connection preface",
    reason: "the agents reset a connection on which no HTTP is spoken; h2spec looks for an orderly end, for it knows a reset only \
             in a form in which Go does not tell it any more",
}];

pub fn promises() -> Vec<Promise> {
    vec![
        Promise {
            limit: Duration::from_mins(3),
            ..Promise::new("http2_keeps_the_rules_that_h2spec_knows", conformant)
        }
        .proves("h2spec --strict, all sections: nothing fails but what is listed with its reason, at either agent"),
    ]
}

fn conformant(scene: &Scene) -> Result<()> {
    let mesh = start(scene)?;
    let listed: BTreeSet<String> = FAILURES.iter().map(|known| name(known.section, known.case)).collect();
    let ways = [
        ("of the client", "shop/client", mesh.service_ipv4("shop/web")?.to_string()),
        ("of the server", "outside/stranger", mesh.pod("shop/web")?.ipv4().to_string()),
    ];
    for (agent, pod, host) in &ways {
        let results = ask(&mesh, pod, host)?;
        let failed: BTreeSet<String> =
            results.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name.clone()).collect();
        scene.note(&format!("the agent {agent}: {} cases, {} failed", results.len(), failed.len()));
        let unlisted: Vec<_> = failed.difference(&listed).collect();
        ensure!(unlisted.is_empty(), "the agent {agent} fails {unlisted:#?}");
        let mended: Vec<_> = listed.difference(&failed).collect();
        ensure!(mended.is_empty(), "listed as failures, but the agent {agent} passes {mended:#?}");
    }
    for known in FAILURES {
        scene.note(&format!("{}: {}", name(known.section, known.case), known.reason));
    }
    Ok(())
}

fn name(section: &str, case: &str) -> String {
    format!("{section}: {case}")
}

/// nginx on node 2, behind both agents: it is said to speak HTTP/2, and a rule makes its agent read requests.
fn start(scene: &Scene) -> Result<Mesh> {
    let mut rule = authorization("no-delete", "Deny", &json!([{"to": [{"methods": ["DELETE"]}]}]));
    rule["spec"]["targetRefs"][0]["selector"]["matchLabels"]["app"] = "web".into();
    let plan = cast::shop(scene)?
        .pod(PodPlan::named("shop/web").on(2).account("web").label("app", "web"))
        .service(ServicePlan::named("shop/web").port("http2-web", PORT, PORT).selects("app", "web"))
        .object(rule);
    let mut mesh = plan.start(&scene.sandbox)?;
    let pod = mesh.pod_mut("shop/web")?;
    let folder = pod.scratch().to_owned();
    let file = folder.join("nginx.conf");
    let text = include_str!("../../witness/h2c.conf").replace("FOLDER", &folder.display().to_string());
    fs::write(&file, text.replace("PORT", &PORT.to_string()))?;
    let launch = pod.command("nginx").arg("-c").arg(file);
    pod.serve("nginx", launch)?;
    pod.await_listener(PORT, EFFECT_LIMIT)?;
    Ok(mesh)
}

/// Every case, and whether it passed.
fn ask(mesh: &Mesh, pod: &str, host: &str) -> Result<BTreeMap<String, bool>> {
    let program = cast::built("weft-h2spec")?;
    let report = mesh.pod(pod)?.scratch().join("h2spec.xml");
    let launch = mesh.pod(pod)?.command(program).args(["--strict", "--host", host, "--port", &PORT.to_string()]);
    let outcome = launch.arg("--junit-report").arg(&report).within(RUN_LIMIT).run()?;
    let text = fs::read_to_string(&report).with_context(|| format!("no report: {outcome:?}"))?;
    let results = cases(&text)?;
    ensure!(results.len() > 100, "only {} cases: {outcome:?}", results.len());
    Ok(results)
}

/// The cases of a report in the form of `JUnit`: a line for each that passed, more for each that did not.
fn cases(report: &str) -> Result<BTreeMap<String, bool>> {
    let written = report.split("<testcase ").skip(1);
    written
        .map(|text| {
            let attribute = |name: &str| {
                let (_, rest) = text.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.replace("&#34;", "\"").replace("&#39;", "'"))
            };
            let section = attribute("package").context("a case without a section")?;
            let case = attribute("classname").context("a case without a name")?;
            Ok((name(&section, &case), !text.contains("<failure") && !text.contains("<error")))
        })
        .collect()
}
