//! Holds what this crate makes of the charts against what the real Helm makes of them: `against_helm HELM`.
//!
//! The same objects in the same order, or a refusal by both.
#![expect(clippy::print_stdout, reason = "it says what it compared")]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use weft_charts::{Chart, Release, Values};

/// Arguments that both take, and whether they are values of the chart.
struct Case {
    settings: &'static [&'static str],
    file: Option<&'static str>,
    refused: bool,
}

const fn good(settings: &'static [&'static str], file: Option<&'static str>) -> Case {
    Case { settings, file, refused: false }
}

const fn bad(settings: &'static [&'static str]) -> Case {
    Case { settings, file: None, refused: true }
}

const CASES: [Case; 12] = [
    good(&[], None),
    good(&[], Some("everything.yaml")),
    good(&["agent.remove=true"], None),
    good(&["agent.remove=true", "controller.replicas=5,logLevel=debug"], Some("everything.yaml")),
    good(&["namespace.create=true", "image.tag=1.2.3"], None),
    good(&["controller.networkPolicy.nodes={10.0.0.0/24,fd00::/64}"], None),
    good(&["controller.tolerations=null,controller.nodeSelector=null,resourceQuota=false,flowSchemas=false"], None),
    good(&[r"agent.nodeSelector.example\.com/mesh=yes", "agent.resources.limits.memory=1Gi"], None),
    good(&["meshConfig.networks.pods={10.244.0.0/16}", "meshConfig.enforced.minimumMtls=Strict"], None),
    bad(&["controller.replica=3"]),
    bad(&["controller.replicas=many"]),
    bad(&["image.pullPolicy=Sometimes"]),
];

fn main() -> anyhow::Result<()> {
    let helm = std::env::args_os().nth(1).context("say where helm is")?;
    let charts = Path::new(env!("CARGO_MANIFEST_DIR"));
    for chart in ["weft", "weft-crds"] {
        let mut lint = Command::new(&helm);
        let printed = lint.args(["lint", "--strict", "--quiet"]).arg(charts.join(chart)).output()?;
        ensure!(printed.status.success(), "helm lint {chart}: {}", said(&printed));
    }
    for case in &CASES {
        compare("weft", &Chart::weft()?, case, &helm)?;
    }
    compare("weft-crds", &Chart::definitions()?, &CASES[0], &helm)?;
    println!("{} sets of values: as Helm renders them", CASES.len() + 1);
    Ok(())
}

fn compare(name: &str, chart: &Chart, case: &Case, helm: &OsStr) -> anyhow::Result<()> {
    let release = Release { name: name.to_owned(), namespace: "weft-system".to_owned() };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = case.file.map(|file| folder.join("tests/values").join(file));
    let mut values = Values::default();
    if let Some(file) = &file {
        values.add_file(&std::fs::read_to_string(file)?)?;
    }
    case.settings.iter().try_for_each(|setting| values.set(setting))?;
    let mut command = Command::new(helm);
    command.args(["template", name]).arg(folder.join(name)).args(["--namespace", "weft-system"]);
    command.args(file.into_iter().flat_map(|file| [OsString::from("--values"), file.into()]));
    command.args(case.settings.iter().flat_map(|setting| ["--set", setting]));
    let printed = command.output()?;
    let what = format!("{name} with {:?} {:?}", case.file, case.settings);
    let ours = chart.render(&release, &values);
    if case.refused {
        ensure!(!printed.status.success(), "{what}: Helm takes it");
        ensure!(ours.is_err(), "{what}: we take it");
        return Ok(());
    }
    ensure!(printed.status.success(), "{what}: {}", said(&printed));
    let theirs: Vec<Option<Value>> = serde_saphyr::from_multiple(&String::from_utf8(printed.stdout)?)?;
    let theirs: Vec<Value> = theirs.into_iter().flatten().collect();
    let ours = ours.with_context(|| what.clone())?;
    for (one, other) in ours.iter().zip(&theirs) {
        if one.value != *other {
            bail!("{what}: {} {} differs\nHelm: {other}\nours: {}", one.kind, one.name, one.value);
        }
    }
    ensure!(ours.len() == theirs.len(), "{what}: {} objects, Helm has {}", ours.len(), theirs.len());
    Ok(())
}

fn said(printed: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&printed.stdout), String::from_utf8_lossy(&printed.stderr))
}
