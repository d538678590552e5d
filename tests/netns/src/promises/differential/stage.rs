//! Where the cases are played: four applications on node 2, and four ways to each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::place::Launch;
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use super::case::Case;
use super::view::{self, Answer, Log, Notes, Record};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::Scene;

/// Rules about requests judge this port.
const JUDGED: u16 = 8000;
/// Nothing is said of this one.
const LEARNED: u16 = 8001;
/// Reached within the pod alone, which nobody captures.
const DIRECT: u16 = 8002;
/// The same, where Apache hands requests on to.
const BEHIND: u16 = 9000;
/// The server in Go.
const WITNESS: &str = "weft-witness";
/// Ports of the Services.
const ROUTED_SERVICE: u16 = 80;
const LEARNED_SERVICE: u16 = 81;
/// All cases of one way to one application.
const RUN_LIMIT: Duration = Duration::from_secs(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Application {
    Nginx,
    Apache,
    Node,
    Go,
}

impl Application {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Apache, Self::Node, Self::Go];

    fn pod(self) -> String {
        format!("shop/{self}")
    }
}

impl fmt::Display for Application {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Node => "node",
            Self::Go => "go",
        })
    }
}

/// A way to an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Without a mesh: within the application's pod.
    Direct,
    /// From a captured pod through routes, to a port that rules judge.
    Routed,
    /// From a captured pod to a port of which nothing is said.
    Learned,
    /// From a pod without an agent to the port that rules judge.
    Plaintext,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Direct, Self::Routed, Self::Learned, Self::Plaintext];
    pub const THROUGH_THE_MESH: [Self; 3] = [Self::Routed, Self::Learned, Self::Plaintext];

    /// Requests are judged in their canonical form.
    pub const fn is_judged(self) -> bool {
        matches!(self, Self::Routed | Self::Plaintext)
    }

    /// The client's agent has a record of each request.
    pub const fn has_outbound(self) -> bool {
        matches!(self, Self::Routed | Self::Learned)
    }

    const fn listened(self) -> u16 {
        match self {
            Self::Direct => DIRECT,
            // Each has a port of its own in the application, so that their notes do not mix.
            Self::Routed => JUDGED,
            Self::Learned => LEARNED,
            Self::Plaintext => JUDGED + 10,
        }
    }

    fn client(self, application: Application) -> String {
        match self {
            Self::Direct => application.pod(),
            Self::Routed | Self::Learned => "shop/client".to_owned(),
            Self::Plaintext => "outside/stranger".to_owned(),
        }
    }

    fn address(self, mesh: &Mesh, application: Application) -> Result<String> {
        let pod = application.pod();
        Ok(match self {
            Self::Direct => format!("127.0.0.1:{}", self.listened()),
            Self::Routed => format!("{}:{ROUTED_SERVICE}", mesh.service_ipv4(&pod)?),
            Self::Learned => format!("{}:{LEARNED_SERVICE}", mesh.service_ipv4(&pod)?),
            Self::Plaintext => cast::at(mesh, &pod, self.listened())?,
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Direct => "direct",
            Self::Routed => "routed",
            Self::Learned => "learned",
            Self::Plaintext => "plaintext",
        })
    }
}

/// What everybody saw of one case on one way.
#[derive(Debug)]
pub struct Played {
    pub notes: Notes,
    pub outcome: String,
    pub answers: Vec<Answer>,
    /// The answer to the request that followed.
    pub after: Option<Answer>,
    pub outbound: Vec<Record>,
    pub inbound: Vec<Record>,
    /// What the first agent says of the connection as a whole.
    pub connection: Option<Record>,
}

/// Everything, by application, way and case.
pub type Everything = BTreeMap<(Application, Way), Vec<Played>>;

fn route(application: Application) -> Value {
    let name = application.to_string();
    let backend = json!([{"name": name, "port": ROUTED_SERVICE}]);
    let mark = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-route", "value": "other"}]}});
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/other"}}], "filters": [mark], "backendRefs": backend},
        {"backendRefs": backend},
    ]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": name, "port": ROUTED_SERVICE}], "rules": rules},
    })
}

/// Denies one path to everybody.
fn rule() -> Value {
    let ports = [Way::Routed.listened(), Way::Plaintext.listened()];
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "forbidden", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"kind": "witness"}}}], "action": "Deny",
            "rules": [{"to": [{"ports": ports, "paths": [{"type": "Prefix", "value": "/forbidden"}]}]}],
        },
    })
}

/// The mesh with its applications listening.
pub fn start(scene: &Scene) -> Result<Mesh> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "open")];
    let mut plan = Mesh::two_nodes()
        .namespace("shop", &labels)
        .namespace("outside", &[])
        .pod(PodPlan::named("shop/client").on(1).account("client"))
        .pod(PodPlan::named("outside/stranger").on(1))
        .object(rule());
    for application in Application::ALL {
        let name = application.to_string();
        let service = ServicePlan::named(&application.pod())
            .port("routed", ROUTED_SERVICE, Way::Routed.listened())
            .port("learned", LEARNED_SERVICE, Way::Learned.listened());
        let pod = PodPlan::named(&application.pod()).on(2).account(&name).label("app", &name).label("kind", "witness");
        plan = plan.pod(pod).service(service.selects("app", &name)).object(route(application));
    }
    // One worker each: its log is in order, and the request after a case goes the way that the case went.
    let mut mesh = plan.controller(&scene.binaries()?).agents().workers(1).start(&scene.sandbox)?;
    for application in Application::ALL {
        start_application(&mut mesh, application)?;
    }
    wait::until("the rule to be in force", EFFECT_LIMIT, || {
        for application in Application::ALL {
            let url = format!("http://{}/forbidden", Way::Plaintext.address(&mesh, application)?);
            let command =
                mesh.pod("outside/stranger")?.command("curl").args(["-sS", "--max-time", "5", "-w", "%{http_code}"]);
            let answer = command.arg(url).run()?.expect_success()?;
            ensure!(answer.ends_with("403"), "{application} answers {answer}");
        }
        Ok(())
    })?;
    Ok(mesh)
}

fn start_application(mesh: &mut Mesh, application: Application) -> Result<()> {
    const NODE: &str = include_str!("../../../witness/witness.js");
    const NGINX: &str = include_str!("../../../witness/nginx.conf");
    const APACHE: &str = include_str!("../../../witness/apache.conf");
    let pod = mesh.pod_mut(&application.pod())?;
    let folder = pod.scratch().to_owned();
    let ports = Way::ALL.map(|way| way.listened().to_string());
    let notes = folder.join("seen.log");
    // Their settings, with what only the test knows.
    let settings = |name: &str, text: &str, listen: String| {
        let text = text.replace("FOLDER", &folder.display().to_string()).replace("LISTEN\n", &listen);
        let file = folder.join(name);
        fs::write(&file, text.replace("BEHIND", &BEHIND.to_string())).map(|()| file)
    };
    let launch = match application {
        Application::Nginx => {
            let listen = ports.map(|port| format!("        listen {port};\n")).concat();
            pod.command("nginx").arg("-c").arg(settings("nginx.conf", NGINX, listen)?)
        }
        Application::Apache => {
            let behind = pod.command(cast::built(WITNESS)?).arg(&notes).arg(format!("fastcgi:{BEHIND}"));
            let listen = ports.map(|port| format!("Listen {port}\n")).concat();
            let apache = pod.command("apache2").args(["-X", "-f"]).arg(settings("apache.conf", APACHE, listen)?);
            pod.serve("behind", behind)?;
            pod.await_listener(BEHIND, EFFECT_LIMIT)?;
            apache
        }
        Application::Node => {
            let file = folder.join("witness.js");
            fs::write(&file, NODE)?;
            pod.command("node").arg(file).arg(&notes).args(ports)
        }
        Application::Go => pod.command(cast::built(WITNESS)?).arg(&notes).args(ports),
    };
    pod.serve("application", launch)?;
    Way::ALL.into_iter().try_for_each(|way| pod.await_listener(way.listened(), EFFECT_LIMIT))
}

/// Sends every case every way to every application and gathers what everybody saw.
pub fn play(mesh: &mut Mesh, cases: &[Case]) -> Result<Everything> {
    let letters: Vec<String> = cases.iter().map(|case| case.bytes.iter().copied().map(char::from).collect()).collect();
    let file = mesh.scratch().join("cases.json");
    fs::write(&file, serde_json::to_string(&letters)?)?;
    let runs = Application::ALL.into_iter().flat_map(|application| Way::ALL.map(|way| (application, way)));
    let mut reports = BTreeMap::new();
    for (number, (application, way)) in (0_u16..).zip(runs) {
        let first_port = 10_000 + number * u16::try_from(cases.len())?;
        let then = format!("GET {}{{}} HTTP/1.1\r\nHost: after\r\nConnection: close\r\n\r\n", view::AFTER);
        let launch = mesh.pod(&way.client(application))?.command(cast::testapp()?);
        let launch = launch.args(["raw", "--to", &way.address(mesh, application)?, "--then", &then]);
        let launch = launch.args(["--first-port", &first_port.to_string(), "--bytes"]).arg(&file);
        reports.insert((application, way), launch.within(RUN_LIMIT));
    }
    let reports = run_all(reports)?;
    await_records(mesh, &reports)?;
    gather(mesh, &reports)
}

type Reports = BTreeMap<(Application, Way), Vec<Value>>;

/// Side by side: every run waits most of the time.
fn run_all(launches: BTreeMap<(Application, Way), Launch>) -> Result<Reports> {
    std::thread::scope(|scope| {
        let running: Vec<_> = launches
            .into_iter()
            .map(|(run, launch)| (run, scope.spawn(move || launch.run()?.expect_success())))
            .collect();
        let mut reports = Reports::new();
        for ((application, way), thread) in running {
            let printed = thread.join().ok().context("a run's thread has failed")?;
            let printed = printed.with_context(|| format!("{way} to {application}"))?;
            let lines: Result<_, _> = printed.lines().map(serde_json::from_str).collect();
            reports.insert((application, way), lines?);
        }
        Ok(reports)
    })
}

/// The last request of each way has been recorded, and so has everything before it.
fn await_records(mesh: &mut Mesh, reports: &Reports) -> Result<()> {
    let answered = |lines: &[Value]| lines.last().is_some_and(|line| line["then"]["answer"] != "");
    let ways = |recorded: fn(Way) -> bool| -> Vec<usize> {
        let runs = reports.iter().filter(|((_, way), lines)| recorded(*way) && answered(lines));
        runs.map(|(_, lines)| lines.len() - 1).collect()
    };
    let expected = [(1, "outbound", ways(Way::has_outbound)), (2, "inbound", ways(Way::is_judged))];
    for (node, direction, lasts) in expected {
        let file = mesh.node(node)?.access_log();
        wait::until(&format!("the last records of node{node}"), EFFECT_LIMIT, || {
            let text = fs::read_to_string(&file)?;
            let of_case = |number: &usize| format!("\"path\":\"{}{number}\"", view::AFTER);
            let last: std::collections::BTreeSet<String> = lasts.iter().map(of_case).collect();
            let found =
                text.lines().filter(|line| line.contains(direction) && last.iter().any(|path| line.contains(path)));
            ensure!(found.count() >= lasts.len(), "not all of them have come");
            Ok(())
        })?;
    }
    Ok(())
}

fn gather(mesh: &mut Mesh, reports: &Reports) -> Result<Everything> {
    let outbound = Log::read(&mesh.node(1)?.access_log(), "outbound")?;
    let inbound = Log::read(&mesh.node(2)?.access_log(), "inbound")?;
    let mut everything = Everything::new();
    for application in Application::ALL {
        let mut notes = view::read_notes(&mesh.pod(&application.pod())?.scratch().join("seen.log"))?;
        for way in Way::ALL {
            let client = mesh.pod(&way.client(application))?.ipv4();
            let lines = reports.get(&(application, way)).context("a run without a report")?;
            let played = lines.iter().enumerate().map(|(number, line)| {
                let source = format!("{client}:{}", line["port"]);
                let sent = if way.has_outbound() { outbound.from(&source) } else { Vec::new() };
                let known = |record: &Record| inbound.request(record.text("request")).cloned();
                let received = match way {
                    Way::Routed | Way::Learned => sent.iter().filter_map(known).collect(),
                    Way::Plaintext => inbound.from(&source),
                    Way::Direct => Vec::new(),
                };
                let connections = if way.has_outbound() { &outbound } else { &inbound };
                Played {
                    notes: notes.remove(&(way.listened(), number)).unwrap_or_default(),
                    outcome: line["outcome"].as_str().unwrap_or_default().to_owned(),
                    answers: view::answers(line["answer"].as_str().unwrap_or_default()),
                    after: view::answers(line["then"]["answer"].as_str().unwrap_or_default()).pop(),
                    outbound: sent,
                    inbound: received,
                    connection: connections.connection(&source).cloned(),
                }
            });
            let mut played: Vec<Played> = played.collect();
            attribute(&mut played);
            everything.insert((application, way), played);
        }
    }
    Ok(everything)
}

/// Gives each request that an application noted to the case whose record has its name. One that nobody named stays where it
/// was noted; what breaks off may be noted late.
fn attribute(played: &mut [Played]) {
    let mut named = BTreeMap::new();
    for (number, case) in played.iter().enumerate() {
        for (place, record) in case.outbound.iter().chain(&case.inbound).enumerate() {
            named.entry(record.text("request").to_owned()).or_insert((number, place));
        }
    }
    let mut requests = Vec::new();
    for (number, case) in played.iter_mut().enumerate() {
        for (place, request) in std::mem::take(&mut case.notes.requests).into_iter().enumerate() {
            let of_record = request.values("weft-request-id").first().and_then(|id| named.get(*id));
            requests.push((of_record.copied().unwrap_or((number, place)), request));
        }
    }
    requests.sort_by_key(|(place, _)| *place);
    for ((number, _), request) in requests {
        played[number].notes.requests.push(request);
    }
}
