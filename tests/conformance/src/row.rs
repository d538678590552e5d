//! A row as it is written, and as objects.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cast::{MAIN, OWN_PORTS, PARENT, ServiceSpec};

/// The Service of the row, wherever it is named.
const OWN_SERVICE: &str = "$service";
/// Where routes live that do not say it.
pub const HOME: &str = "shop";

/// A row of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// What of the specification it is about.
    item: String,
    /// What is promised, in a sentence.
    says: String,
    /// The rules of its only route.
    #[serde(default)]
    rules: Option<Value>,
    #[serde(default)]
    routes: Vec<WrittenRoute>,
    /// Ports of its Service, where it needs others than [`OWN_PORTS`]: name, number and the protocol that is declared.
    #[serde(default)]
    ports: Option<Vec<(String, u16, Option<String>)>>,
    #[serde(default)]
    asks: Vec<Ask>,
    #[serde(default)]
    steps: Vec<Step>,
    /// What the owner of the only route is told.
    #[serde(default)]
    told: Option<Vec<String>>,
    /// The API server takes no such route, so nobody is told anything.
    #[serde(default)]
    refused_by_api: bool,
}

/// A route of a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRoute {
    #[serde(default = "http_route")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default = "home")]
    namespace: String,
    /// Older routes have smaller numbers.
    #[serde(default)]
    age: u32,
    #[serde(default)]
    parents: Option<Value>,
    #[serde(default)]
    hostnames: Vec<String>,
    rules: Value,
    #[serde(default)]
    told: Option<Vec<String>>,
}

fn http_route() -> String {
    "HTTPRoute".to_owned()
}

fn home() -> String {
    HOME.to_owned()
}

/// Requests of one client, and what has to come of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Method and path.
    pub ask: String,
    /// The pod that asks; `shop/client` where it is not said.
    #[serde(default)]
    pub client: Option<String>,
    /// Host and port of whom; the row's own Service where it is not said.
    #[serde(default)]
    pub to: Option<String>,
    /// The Host header; that of `to` where it is not said.
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub headers: Vec<String>,
    #[serde(default)]
    pub version: Version,
    #[serde(default = "one")]
    pub count: u32,
    /// How many at the same time, on one connection of HTTP/2 or on as many of HTTP/1.
    #[serde(default = "one")]
    pub at_once: u32,
    /// Bytes of each body.
    #[serde(default)]
    pub bytes: u32,

    /// Of every answer: 200 or `grpc 0` where it is not said.
    #[serde(default)]
    pub status: Option<String>,
    /// Who answers every request.
    #[serde(default)]
    pub backend: Option<String>,
    /// The reason that Weft gives with an answer of its own.
    #[serde(default)]
    pub reason: Option<String>,
    /// Percent of the requests, by backend, and by status of those that no backend answers.
    #[serde(default)]
    pub shares: BTreeMap<String, u32>,
    /// Percent of the requests, by status, whoever answers.
    #[serde(default)]
    pub statuses: BTreeMap<String, u32>,
    /// How many requests at least, by backend.
    #[serde(default)]
    pub at_least: BTreeMap<String, u32>,
    /// Percent of the requests that a pod of `shop` gets, whoever answers.
    #[serde(default)]
    pub copies: BTreeMap<String, u32>,
    /// The path and query that the backend saw.
    #[serde(default)]
    pub path: Option<String>,
    /// Headers that the backend saw; null for those that it must not see. Several of one name are joined by a comma.
    #[serde(default)]
    pub seen: BTreeMap<String, Option<String>>,
    /// Headers of the answer, likewise.
    #[serde(default)]
    pub answer: BTreeMap<String, Option<String>>,
}

fn one() -> u32 {
    1
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    #[default]
    Http1,
    Http2,
    Grpc,
}

impl Version {
    /// What the test application's client is told.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Http1 => None,
            Self::Http2 => Some("--http2"),
            Self::Grpc => Some("--grpc"),
        }
    }
}

/// A change under way, and what has to be true at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub change: Change,
    pub asks: Vec<Ask>,
}

/// Of the row's own objects.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The route at this place goes.
    Delete(usize),
    /// It comes, as it is written.
    Create(usize),
    /// Fields of its spec are others.
    Edit { route: usize, spec: Value },
    /// Fields of a Service's spec are others.
    Service { name: String, spec: Value },
    /// A Service is again as it was.
    Restore(String),
}

/// A row, ready to be played.
#[derive(Debug, Clone)]
pub struct Row {
    /// Subject and sentence.
    pub title: String,
    pub item: String,
    /// In the order of their age.
    pub routes: Vec<Route>,
    pub service: ServiceSpec,
    pub asks: Vec<Ask>,
    pub steps: Vec<Step>,
    pub refused_by_api: bool,
}

/// A route as an object, and what its owner has to be told: `type=status/reason`, parent by parent.
#[derive(Debug, Clone)]
pub struct Route {
    pub object: Value,
    pub told: Vec<String>,
}

impl Row {
    pub(crate) fn new(subject: &str, index: usize, mut written: Written) -> Result<Self> {
        let name = format!("{subject}-{index}");
        let title = format!("{subject}: {}", written.says);
        if let Some(rules) = written.rules.take() {
            written.routes.push(WrittenRoute {
                kind: http_route(),
                name: None,
                namespace: home(),
                age: 0,
                parents: None,
                hostnames: Vec::new(),
                rules,
                told: written.told.take(),
            });
        }
        if written.told.is_some() {
            bail!("{title}: where there are several routes each has its own `told`");
        }
        let several = written.routes.len() > 1;
        let routes = written.routes.into_iter().enumerate();
        let routes: Vec<Route> = routes
            .map(|(place, route)| {
                let default = if several { format!("{name}-{place}") } else { name.clone() };
                route.into_route(&name, default)
            })
            .collect();
        let ports = written.ports.unwrap_or_else(|| OWN_PORTS.map(|(name, port)| (name.to_owned(), port, None)).into());
        let service = ServiceSpec::new(HOME, &name).ports(ports).selects("app", PARENT);
        let (mut asks, mut steps) = (written.asks, written.steps);
        for step in &mut steps {
            step.change.settle(&name);
        }
        for ask in asks.iter_mut().chain(steps.iter_mut().flat_map(|step| &mut step.asks)) {
            ask.settle(&name);
        }
        Ok(Self { title, item: written.item, routes, service, asks, steps, refused_by_api: written.refused_by_api })
    }
}

impl WrittenRoute {
    fn into_route(self, service: &str, default_name: String) -> Route {
        let parent = json!([{"group": "", "kind": "Service", "namespace": HOME, "name": service, "port": MAIN}]);
        let mut object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": self.kind,
            "metadata": {
                "namespace": self.namespace, "name": self.name.unwrap_or(default_name),
                "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", self.age),
            },
            "spec": {"parentRefs": self.parents.unwrap_or(parent), "rules": self.rules},
        });
        if !self.hostnames.is_empty() {
            object["spec"]["hostnames"] = json!(self.hostnames);
        }
        substitute(&mut object, service);
        let good = || ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"].map(str::to_owned).into();
        Route { object, told: self.told.unwrap_or_else(good) }
    }
}

impl Ask {
    fn settle(&mut self, service: &str) {
        let own = format!("{service}.{HOME}:{MAIN}");
        let answers = self.answer.values_mut().chain(self.seen.values_mut()).flatten();
        let texts = answers.chain(&mut self.to).chain(&mut self.host).chain(&mut self.path);
        texts.for_each(|text| *text = text.replace(OWN_SERVICE, service));
        self.to.get_or_insert(own);
    }
}

impl Change {
    fn settle(&mut self, service: &str) {
        match self {
            Self::Edit { spec, .. } => substitute(spec, service),
            Self::Service { name, .. } | Self::Restore(name) => *name = name.replace(OWN_SERVICE, service),
            Self::Delete(_) | Self::Create(_) => {}
        }
    }
}

fn substitute(value: &mut Value, service: &str) {
    match value {
        Value::String(text) => *text = text.replace(OWN_SERVICE, service),
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, service)),
        Value::Object(fields) => fields.values_mut().for_each(|field| substitute(field, service)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
