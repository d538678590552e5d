//! The routes' half: which rule takes a request, where that or a connection is led, and who is ejected there.

use weft_proto::names::NamespacedName;

use super::source::{plural, span};
use super::{Known, Told};
use crate::admin::asked::{AskedRequest, called};
use crate::admin::describe;
use crate::admin::finding::{Cause, End, Finding, Weight};
use crate::admin::question::{Question, Source, Target};
use crate::error::Reason;
use crate::http::canonical::{Canonical, Refused};
use crate::http::cors::Sharing;
use crate::http::filter::{self, Next};
use crate::http::matching::Chosen;
use crate::limits;
use crate::model::{
    Backend, BackendTarget, ConnectionRoutes, ConnectionRules, Endpoint, PortRoutes, RouteRule, Routes, ServicePort,
    Traffic,
};
use crate::telemetry::Ejected;

/// What the question's request is, and where it may end.
pub(super) struct Way<'a> {
    /// None where the question is about the connection as such.
    pub request: Option<Asked>,
    /// Why the request has no one form.
    refused: Option<Refused>,
    pub routes: Option<&'a Routes>,
    /// Or these, of connections.
    pub connections: Option<&'a ConnectionRoutes>,
    chosen: Option<Chosen<'a>>,
    /// How the rule answers it, where it does so itself.
    answered: Option<String>,
    /// Why the page that asks may not read the answer.
    unshared: Option<String>,
    broken: Option<String>,
    traffic: Option<&'a Traffic>,
    pub endpoints: Vec<Endpoint>,
}

/// As the destination would see it.
pub(super) struct Asked {
    pub canonical: Canonical,
    pub headers: http::HeaderMap,
}

impl Asked {
    pub fn words(&self) -> String {
        format!("{} {} of {}", self.canonical.method(), self.canonical.path(), self.canonical.host())
    }
}

/// Finds the way. `captured`: the source's agent carries its requests, so that routes act on them.
pub(super) fn choose<'a>(
    known: &Known<'a>,
    question: &Question,
    source: &Source,
    target: &Target,
    captured: bool,
) -> Way<'a> {
    let mut way = Way {
        request: None,
        refused: None,
        routes: None,
        connections: None,
        chosen: None,
        answered: None,
        unshared: None,
        broken: None,
        traffic: None,
        endpoints: target.endpoints(),
    };
    let client = source.row().filter(|_| captured).and_then(|row| row.namespace());
    if let (Target::Service { service, port, .. }, Some(client)) = (target, &client) {
        match known.snapshot.routes(&service.name, *port, client) {
            Some(PortRoutes::Requests(routes)) => way.routes = Some(routes),
            Some(PortRoutes::Connections(routes)) => way.connections = Some(routes),
            None => {}
        }
        way.traffic = Some(known.snapshot.traffic(&service.name, *port, client).as_ref());
    }
    if let Some(request) = &question.request {
        way.read(request, &called(&question.destination));
    }
    let dialled = target.asked().map_or(0, |asked| asked.port());
    way.follow(known, dialled);
    way
}

impl<'a> Way<'a> {
    fn read(&mut self, request: &AskedRequest, called: &str) {
        match request.canonical(called) {
            Ok((canonical, head)) => self.request = Some(Asked { canonical, headers: head.headers }),
            Err(refused) => self.refused = Some(refused),
        }
    }

    fn follow(&mut self, known: &Known<'a>, dialled: u16) {
        if let Some(routes) = self.connections {
            let backends = routes.rules.all().flat_map(|(_, rule)| &rule.backends).filter(|backend| backend.weight > 0);
            self.endpoints = backends.flat_map(|backend| reached(known, backend)).cloned().collect();
            self.endpoints.sort_by_key(|endpoint| endpoint.address);
            self.endpoints.dedup();
        }
        let Some(routes) = self.routes else { return };
        let Some(asked) = &mut self.request else {
            let rules = routes.matches.all().iter().map(|one| &one.rule);
            for backend in rules.flat_map(|rule| &rule.backends) {
                let more = reached(known, backend).iter().filter(|one| !self.endpoints.contains(one));
                let more: Vec<_> = more.cloned().collect();
                self.endpoints.extend(more);
            }
            return;
        };
        self.chosen = routes.choose(&asked.canonical, &asked.headers);
        self.endpoints.clear();
        let Some(chosen) = self.chosen else { return };
        if let Some(sharing) = Sharing::of(&chosen, &asked.canonical, &asked.headers) {
            self.unshared = sharing.refusal();
            if sharing.is_preflight() {
                self.answered = Some("204, because it is a browser's preflight".to_owned());
                return;
            }
        }
        match filter::apply_request(
            &chosen.rule.filters,
            Some(&chosen),
            dialled,
            &mut asked.canonical,
            &mut asked.headers,
        ) {
            Ok(Next::Forward) => {
                let backends = chosen.rule.backends.iter().filter(|backend| backend.weight > 0);
                self.endpoints = backends.flat_map(|backend| reached(known, backend)).cloned().collect();
            }
            Ok(Next::Redirect(redirect)) => {
                let to = String::from_utf8_lossy(redirect.location.as_bytes()).into_owned();
                self.answered = Some(format!("{}, a redirect to {to}", redirect.status.as_u16()));
            }
            Err(broken) => self.broken = Some(broken.to_string()),
        }
    }

    /// Says what the routes do.
    pub(super) fn tell(&self, known: &Known<'_>, told: &mut Told) {
        if let Some(refused) = self.refused {
            let summary = format!("The request could be read in more than one way: {refused}.");
            told.finding(Finding::new(Cause::Reason(Reason::BadRequest), Weight::Blocks, End::Path, summary));
        }
        if let Some(routes) = self.routes {
            self.tell_routes(known, routes, told);
        }
        if let Some(routes) = self.connections {
            tell_connections(known, routes, told);
        }
        self.tell_ejected(known, told);
    }

    fn tell_routes(&self, known: &Known<'_>, routes: &Routes, told: &mut Told) {
        let port = format!("{}:{}", routes.service, routes.port);
        let Some(asked) = &self.request else {
            let rules = describe::rules(routes).join("; ");
            let hint = "say --path, --method, --host or --header to hear which one takes a request";
            told.fact(End::Path, format!("Requests to {port} follow routes: {rules} ({hint})."));
            return;
        };
        let Some(chosen) = self.chosen else {
            let summary = format!("No rule of the routes of {port} fits {}: it is answered 404.", asked.words());
            let mut finding = Finding::new(Cause::Reason(Reason::NoRoute), Weight::Blocks, End::Path, summary);
            finding.evidence = describe::rules(routes);
            told.finding(finding);
            return;
        };
        let rule = chosen.rule;
        told.fact(
            End::Path,
            format!(
                "{rule} takes it ({}) and leads to {}.",
                describe::conditions(chosen.matched),
                describe::leads_to(rule)
            ),
        );
        if let Some(unshared) = &self.unshared {
            told.fact(End::Path, format!("A browser keeps the answer from the page that asks: {unshared}."));
        }
        if let Some(answered) = &self.answered {
            told.fact(End::Path, format!("The rule answers it itself: {answered}."));
            return;
        }
        if let Some(broken) = &self.broken {
            told.finding(broken_route(
                format!("{rule} cannot be applied: {broken}. It is answered 500."),
                Weight::Blocks,
            ));
            return;
        }
        for sentence in describe::sessions(rule) {
            told.fact(End::Path, sentence);
        }
        if let Some(traffic) = self.traffic {
            let request = rule.request_timeout.or(traffic.request_timeout);
            let retry = rule.retry.as_ref().or(traffic.retry.as_ref());
            told.fact(End::Path, describe::patience(request, rule.backend_timeout, retry, traffic.retry_budget));
        }
        if rule.backends.iter().all(|backend| backend.weight == 0) {
            let summary = format!("{rule} has no backend with a weight: every request is answered 500.");
            told.finding(broken_route(summary, Weight::Blocks));
        }
        for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
            tell_backend(known, chosen, backend, told);
        }
    }

    /// One finding for all of them: what is said of the same cause at the same end is folded.
    fn tell_ejected(&self, known: &Known<'_>, told: &mut Told) {
        let is_of_way = |endpoint| self.endpoints.iter().any(|other| other.address == endpoint);
        let ejected: Vec<_> = known.ejected.iter().filter(|one| is_of_way(one.endpoint)).collect();
        if ejected.is_empty() {
            return;
        }
        let named = |one: &&Ejected| {
            let name = one.workload.as_deref().unwrap_or("an endpoint");
            format!("{name} ({}), for another {}", one.endpoint, span(known.now, one.until))
        };
        let listed: Vec<_> = ejected.iter().map(named).collect();
        let summary =
            format!("Ejected after too many failures in a row: {}. The other endpoints serve.", listed.join("; "));
        let mut finding = Finding::new(Cause::EndpointEjected, Weight::Weakens, End::Path, summary);
        let of = |one: &&Ejected| format!("Request {} was one failure too many, at {:.3}.", one.request, one.since);
        finding.evidence = ejected.iter().map(of).collect();
        told.finding(finding.seen(policy(self.traffic)));
    }
}

fn policy(traffic: Option<&Traffic>) -> String {
    let rule = traffic.and_then(|traffic| Some((traffic.policy.as_deref()?, traffic.ejection?)));
    rule.map_or_else(
        || "Each worker decides by what it has seen itself.".to_owned(),
        |(policy, ejection)| {
            format!(
                "{policy} ejects after {} in a row, for {:?} and longer each time.",
                plural(ejection.consecutive_failures as usize, "failure"),
                ejection.base_time
            )
        },
    )
}

/// All that may happen to a connection: which rule takes it is in its first bytes, which nobody has told.
fn tell_connections(known: &Known<'_>, routes: &ConnectionRoutes, told: &mut Told) {
    let port = format!("{}:{}", routes.service, routes.port);
    let rules = describe::connections(routes);
    if rules.is_empty() {
        let summary = format!("The routes of {port} could not be read, or have no rule: every connection is reset.");
        told.finding(Finding::new(Cause::Reason(Reason::NoRoute), Weight::Blocks, End::Path, summary));
        return;
    }
    let others = match &routes.rules {
        ConnectionRules::One(_) => "",
        ConnectionRules::ByName(_) => " What fits none of them is reset.",
    };
    told.fact(End::Path, format!("Connections to {port} follow routes: {}.{others}", rules.join("; ")));
    let mut rules: Vec<&RouteRule> = routes.rules.all().map(|(_, rule)| &**rule).collect();
    rules.sort_by_key(|rule| &rule.route);
    rules.dedup_by_key(|rule| &rule.route);
    let only = rules.len() == 1 && matches!(routes.rules, ConnectionRules::One(_));
    for rule in rules {
        if rule.backends.iter().all(|backend| backend.weight == 0) {
            let weight = if only { Weight::Blocks } else { Weight::Weakens };
            let summary = format!("{rule} has no backend with a weight: its connections are reset.");
            told.finding(broken_route(summary, weight));
        }
        for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
            let share = describe::percent(rule, backend).unwrap_or_default();
            let weight = if only && share == 100 { Weight::Blocks } else { Weight::Weakens };
            let lost = format!("{share} % of its connections are reset");
            match &backend.target {
                BackendTarget::Invalid(why) => {
                    told.finding(broken_route(format!("{rule} has an invalid backend: {why}; {lost}."), weight));
                }
                BackendTarget::Service { service, port } if reached(known, backend).is_empty() => {
                    told.finding(no_endpoint(service, *port, &format!("{rule} leads there: {lost}"), weight));
                }
                BackendTarget::Service { .. } => {}
            }
        }
    }
}

fn tell_backend(known: &Known<'_>, chosen: Chosen<'_>, backend: &Backend, told: &mut Told) {
    let share = describe::percent(chosen.rule, backend).unwrap_or_default();
    let weight = if share == 100 { Weight::Blocks } else { Weight::Weakens };
    let of_requests = if share == 100 { "every request".to_owned() } else { format!("{share} % of the requests") };
    let (service, port) = match &backend.target {
        BackendTarget::Invalid(why) => {
            let summary = format!("{} has an invalid backend: {why}. It gets {of_requests}: 500.", chosen.rule);
            told.finding(broken_route(summary, weight));
            return;
        }
        BackendTarget::Service { service, port } => (service, *port),
    };
    let Some(row) = known.snapshot.service_port(service, port) else {
        let summary = format!("{} leads {of_requests} to {service}:{port}, which does not exist: 500.", chosen.rule);
        told.finding(broken_route(summary, weight));
        return;
    };
    let endpoints = row.nearest();
    if endpoints.is_empty() {
        told.finding(no_endpoint(service, port, &format!("{} leads {of_requests} there: 503", chosen.rule), weight));
    } else {
        let listed: Vec<_> =
            endpoints.iter().take(limits::WHY_BACKEND_ENDPOINTS).map(|endpoint| named(known, endpoint)).collect();
        let count = plural(endpoints.len(), "endpoint");
        told.fact(End::Path, format!("{service}:{port} has {count}: {}.", listed.join(", ")));
    }
}

fn broken_route(summary: String, weight: Weight) -> Finding {
    Finding::new(Cause::Reason(Reason::BrokenRoute), weight, End::Path, summary)
}

/// A backend that nobody serves.
pub(in crate::admin) fn no_endpoint(service: &NamespacedName, port: u16, why: &str, weight: Weight) -> Finding {
    let title = service.backend_title();
    let summary = format!("{title} has no ready endpoint for port {port}, and {why}.");
    Finding::new(Cause::Reason(Reason::NoEndpoint), weight, End::Path, summary)
        .fix(format!("Compare the selector of {title} with its pods' labels, and look whether the pods are ready."))
}

fn named(known: &Known<'_>, endpoint: &Endpoint) -> String {
    known.row(endpoint).map_or_else(|| endpoint.address.to_string(), |row| row.name.to_string())
}

fn reached<'a>(known: &Known<'a>, backend: &Backend) -> &'a [Endpoint] {
    match &backend.target {
        BackendTarget::Service { service, port } => {
            known.snapshot.service_port(service, *port).map(ServicePort::nearest).unwrap_or_default()
        }
        BackendTarget::Invalid(_) => &[],
    }
}
