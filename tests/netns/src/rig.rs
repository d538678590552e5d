//! The ground that the other tests stand on: nodes, names, Services, the wire, and leaving nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_rig::binaries::testapp;
use weft_rig::process::Signal;
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use crate::scene::{Promise, Scene};

/// The exit status of curl for a connection that could not be made, as against 28 for one that hung.
const CURL_REFUSED: i32 = 7;

/// Tests of the rig itself.
pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("rig_two_pods_talk_over_the_wire_and_the_wire_is_readable", two_pods_talk),
        Promise::new("rig_services_lead_to_ready_pods_and_refuse_without", services_lead_to_ready_pods),
        Promise::new("rig_a_killed_sandbox_leaves_nothing", a_killed_sandbox_leaves_nothing),
        Promise::new("rig_signals_reach_every_process", signals_reach),
    ]
}

fn pods_and_service() -> weft_rig::MeshPlan {
    Mesh::two_nodes()
        .namespace("shop", &[])
        .pod(PodPlan::named("shop/client").on(1))
        .pod(PodPlan::named("shop/near").on(1).label("app", "web"))
        .pod(PodPlan::named("shop/far").on(2).label("app", "web"))
        .service(ServicePlan::named("shop/web").port("http", 80, 8080).selects("app", "web"))
}

fn serve(mesh: &mut Mesh, name: &str) -> Result<()> {
    let pod = mesh.pod_mut(name)?;
    let launch = pod.command(testapp()?).args(["identify", "--port", "8080", "--name", name]);
    pod.serve("web", launch)?;
    pod.await_listener(8080, Duration::from_secs(5))
}

fn fetch(mesh: &Mesh, address: &str) -> Result<String> {
    mesh.pod("shop/client")?.command("curl").args(["-sS", "--max-time", "5", address]).run()?.expect_success()
}

fn two_pods_talk(scene: &Scene) -> Result<()> {
    let mut mesh = pods_and_service().start(&scene.sandbox)?;
    let tap = mesh.fabric().listen(1)?;
    serve(&mut mesh, "shop/far")?;
    let far = mesh.pod("shop/far")?;
    let (v4, v6) = (far.ipv4(), far.ipv6());
    for address in [format!("http://{v4}:8080/marker-four"), format!("http://[{v6}]:8080/marker-six")] {
        ensure!(fetch(&mesh, &address)?.contains("shop/far"), "no page from {address}");
    }
    for marker in ["marker-four", "marker-six"] {
        let sighting = tap.find(marker)?.with_context(|| format!("{marker} was not on the wire"))?;
        ensure!(sighting.to.port() == 8080 || sighting.from.port() == 8080, "seen elsewhere: {sighting:?}");
    }
    ensure!(tap.find("marker-never-sent")?.is_none(), "the wiretap hears what nobody said");
    Ok(())
}

fn services_lead_to_ready_pods(scene: &Scene) -> Result<()> {
    let mut mesh = pods_and_service().start(&scene.sandbox)?;
    for name in ["shop/near", "shop/far"] {
        serve(&mut mesh, name)?;
    }
    let mut seen = String::new();
    wait::until("both pods to answer", Duration::from_secs(20), || {
        seen += &fetch(&mesh, "http://web.shop/")?;
        ensure!(seen.contains("shop/near") && seen.contains("shop/far"), "so far: {seen}");
        Ok(())
    })?;
    let address =
        mesh.directory().get("Service", "shop", "web").context("no Service")?["spec"]["clusterIPs"][1].clone();
    fetch(&mesh, &format!("http://[{}]/", address.as_str().context("no IPv6 address")?))?;
    mesh.set_ready("shop/near", false)?;
    for _ in 0..8 {
        let page = fetch(&mesh, "http://web.shop/")?;
        ensure!(page.contains("shop/far"), "an unready pod answered: {page}");
    }
    // A pod that is its own backend: the hairpin.
    let own = mesh.pod("shop/far")?.shell("curl -sS --max-time 5 http://web.shop/")?.expect_success()?;
    ensure!(own.contains("shop/far"), "{own}");
    mesh.set_ready("shop/far", false)?;
    let refused = mesh.pod("shop/client")?.shell("curl -sS --max-time 5 http://web.shop/")?;
    ensure!(refused.status.code() == Some(CURL_REFUSED), "{refused:?}");
    Ok(())
}

/// Whoever starts the tests may block or ignore signals, and the sandbox itself blocks some to wait for them.
fn signals_reach(scene: &Scene) -> Result<()> {
    let mesh = pods_and_service().start(&scene.sandbox)?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::PIPE] {
        let pod = mesh.pod("shop/client")?;
        let sleeper = pod.start("sleeper", pod.command("sleep").arg("infinity"))?;
        sleeper.signal(signal)?;
        let (status, _) = sleeper.finish(Duration::from_secs(5))?;
        ensure!(status.signal() == Some(signal.as_raw()), "{signal:?}: {status}");
    }
    Ok(())
}

/// The whole program again, in a sandbox of its own, killed with the signal nobody can catch.
fn a_killed_sandbox_leaves_nothing(scene: &Scene) -> Result<()> {
    // Inside, variables of the outer sandbox would be taken for an answer.
    let program = "/proc/self/exe";
    let mut child = Command::new(program)
        .args([weft_rig::tier::RUN, "rig_two_pods_talk_over_the_wire_and_the_wire_is_readable"])
        .env_remove("WEFT_SANDBOX_ROLE")
        .spawn()?;
    let prefix = format!("weft-{}-", child.id());
    let root = scene.sandbox.cgroup().to_owned();
    let folder = wait::until("the other sandbox to have pods", Duration::from_secs(20), || {
        let folder = folder_with(&root, &prefix)?.context("no cgroup folder yet")?;
        let pods = fs::read_dir(folder.join("mesh1/node2/kubepods"))?.count();
        ensure!(pods > 2, "no pod yet");
        Ok(folder)
    })?;
    let members = members_below(&folder)?;
    ensure!(!members.is_empty(), "a sandbox without processes proves nothing");
    child.kill()?;
    child.wait()?;
    wait::until("everything to be gone", Duration::from_secs(15), || {
        ensure!(folder_with(&root, &prefix)?.is_none(), "the cgroup folder is still there");
        for pid in &members {
            ensure!(!PathBuf::from(format!("/proc/{pid}")).exists(), "process {pid} still lives");
        }
        Ok(())
    })
}

fn folder_with(root: &std::path::Path, prefix: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn members_below(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_to_string(folder.join("cgroup.procs"))?.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(members_below(&entry.path())?);
        }
    }
    Ok(found)
}
