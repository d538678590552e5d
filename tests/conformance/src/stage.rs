//! The mesh that all rows share: every route, every Service, a few pods that answer and a few that ask.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_conformance_tier::cast::{self, CLIENTS, NAMESPACES, SERVERS, ServiceSpec, TARGET};
use weft_conformance_tier::row::{Ask, Change, HOME, Row};
use weft_rig::binaries::testapp;
use weft_rig::{Binaries, Mesh, PodPlan, Sandbox, ServicePlan, wait};

use crate::judge::{self, Report};

/// A change that is not in force by then never will be. A second is promised, and a few milliseconds are usual: what it took is
/// printed, for a busy machine is no fault of the mesh.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);
/// A server that does not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(10);
/// One run of a client, of at most a few hundred requests.
const ASK_LIMIT: Duration = Duration::from_secs(30);

pub struct Stage {
    mesh: Mesh,
    /// Requests so far: each has a number of its own, by which pods know it.
    asked: u32,
    /// How long the slowest change took to be in force.
    pub slowest: Duration,
}

impl Stage {
    /// Everything of all rows, in force.
    pub fn set(sandbox: &Sandbox, rows: &[Row]) -> Result<Self> {
        let mut plan = Mesh::two_nodes().controller(&Binaries::beside_this_program()?).agents();
        for namespace in NAMESPACES {
            plan = plan.namespace(namespace, &[("weft.dev/capture", "enabled")]);
        }
        for (name, node) in CLIENTS {
            plan = plan.pod(PodPlan::named(name).on(node).account("client"));
        }
        for (name, node, pair) in SERVERS {
            let pod = PodPlan::named(name).on(node).account("server").label("app", short(name));
            plan = plan.pod(pair.into_iter().fold(pod, |pod, pair| pod.label("pair", pair)));
        }
        let own = rows.iter().map(|row| &row.service);
        for service in cast::services().iter().chain(own) {
            plan = plan.service(planned(service));
        }
        for route in rows.iter().flat_map(|row| &row.routes) {
            plan = plan.object(route.object.clone());
        }
        let mut stage = Self { mesh: plan.start(sandbox)?, asked: 0, slowest: Duration::ZERO };
        SERVERS.iter().try_for_each(|(name, _, _)| stage.serve(name))?;
        Ok(stage)
    }

    fn serve(&mut self, name: &str) -> Result<()> {
        let journal = self.journal(short(name));
        let pod = self.mesh.pod_mut(name)?;
        let launch = pod.command(testapp()?).args(["http", "--port", &TARGET.to_string(), "--name", short(name)]);
        let launch = launch.arg("--journal").arg(journal);
        let broken = if short(name) == "flaky" { &["--broken", "503", "--every", "2"][..] } else { &[] };
        pod.serve("http", launch.args(broken))?;
        pod.await_listener(TARGET, START_LIMIT)
    }

    /// Asks what the row asks, changes what it changes.
    pub fn play(&mut self, row: &Row) -> Result<()> {
        for ask in &row.asks {
            self.expect(ask)?;
        }
        for step in &row.steps {
            self.change(row, &step.change)?;
            let changed = Instant::now();
            for ask in &step.asks {
                let left = EFFECT_LIMIT.saturating_sub(changed.elapsed());
                wait::until(&format!("{:?} to be in force", step.change), left, || self.expect(ask))?;
            }
            self.slowest = self.slowest.max(changed.elapsed());
        }
        Ok(())
    }

    fn change(&mut self, row: &Row, change: &Change) -> Result<()> {
        let route = |place: &usize| row.routes.get(*place).context("the row has no such route");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let directory = self.mesh.directory();
        match change {
            Change::Delete(place) => {
                let object = &route(place)?.object;
                let metadata = &object["metadata"];
                directory.remove(&text(&object["kind"]), &text(&metadata["namespace"]), &text(&metadata["name"]))
            }
            Change::Create(place) => directory.apply(route(place)?.object.clone()).map(drop),
            Change::Edit { route: place, spec } => {
                let mut object = route(place)?.object.clone();
                overwrite(&mut object["spec"], spec);
                directory.apply(object).map(drop)
            }
            Change::Service { name, spec } => {
                directory.edit("Service", HOME, name, |service| overwrite(&mut service["spec"], spec)).map(drop)
            }
            Change::Restore(name) => self.mesh.restore_service(&format!("{HOME}/{name}")),
        }
    }

    fn expect(&mut self, ask: &Ask) -> Result<()> {
        let first = self.asked;
        self.asked += ask.count;
        let report = self.ask(ask, first)?;
        judge::judge(ask, &report).with_context(|| format!("{}: {}", ask.ask, report.0))?;
        for (pod, percent) in &ask.copies {
            // Whoever mirrors waits for nobody.
            let wanted = (ask.count * percent / 100) as usize;
            wait::until(&format!("{wanted} of {} requests to reach {pod}", ask.count), EFFECT_LIMIT, || {
                let got = self.copies(pod, first, ask.count)?;
                ensure!(judge::is_share(got, *percent, ask.count), "{got} did");
                Ok(())
            })?;
        }
        Ok(())
    }

    fn ask(&self, ask: &Ask, first: u32) -> Result<Report> {
        let (method, path) = ask.ask.split_once(' ').context("an ask is a method and a path")?;
        let to = self.address(ask.to.as_deref().context("nobody is asked")?)?;
        let pod = self.mesh.pod(ask.client.as_deref().unwrap_or("shop/client"))?;
        let mut words: Vec<String> =
            ["requests", "--to", &to, "--method", method, "--path", path].map(str::to_owned).into();
        let numbers =
            [("--count", ask.count), ("--numbered", first), ("--connections", ask.at_once), ("--bytes", ask.bytes)];
        words.extend(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
        words.extend(ask.headers.iter().flat_map(|header| ["--header".to_owned(), header.clone()]));
        words.extend(ask.host.iter().flat_map(|host| ["--host".to_owned(), host.clone()]));
        words.extend(ask.version.flag().map(str::to_owned));
        let outcome = pod.command(testapp()?).args(&words).within(ASK_LIMIT).run()?;
        outcome.report().map(Report)
    }

    /// `pod:NAME` is the pod's own address.
    fn address(&self, to: &str) -> Result<String> {
        match to.strip_prefix("pod:") {
            Some(name) => Ok(format!("{}:{TARGET}", self.mesh.pod(name)?.ipv4())),
            None => Ok(to.to_owned()),
        }
    }

    /// How many of these requests a pod saw, each as often as it did.
    fn copies(&self, pod: &str, first: u32, count: u32) -> Result<u32> {
        let Ok(text) = fs::read_to_string(self.journal(pod)) else { return Ok(0) };
        let numbers = text.lines().filter_map(|line| line.parse::<u32>().ok());
        Ok(u32::try_from(numbers.filter(|number| (first..first + count).contains(number)).count())?)
    }

    fn journal(&self, pod: &str) -> PathBuf {
        self.mesh.scratch().join(format!("{pod}.requests"))
    }
}

fn short(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, name)| name)
}

fn planned(service: &ServiceSpec) -> ServicePlan {
    let mut plan = ServicePlan::named(&service.full_name());
    for (name, number) in service.port_numbers() {
        plan = plan.port(name, number, TARGET);
    }
    if let Some((label, value)) = service.selector() {
        plan = plan.selects(label, value);
    }
    let fields = service.fields();
    fields.as_object().into_iter().flatten().fold(plan, |plan, (name, value)| plan.field(name, value.clone()))
}

fn overwrite(spec: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
}
