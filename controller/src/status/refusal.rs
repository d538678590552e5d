//! Agents that could not apply what an object asks for: the object's status says so, in the condition `Programmed`.
//!
//! Pure. The condition is there only while it is false. Absent: what is not made of one policy or route, such as a pod's
//! enrolment; agents' words on those are in the log and in `weft status`.

use std::collections::{BTreeMap, BTreeSet};

use weft_proto::names::NodeName;
use weft_proto::v1::{Resource, resource::Body};

use super::policy::{Aspect, OfObjects, PolicyReport, Reason};
use crate::agents::Refusals;
use crate::object::{Key, Kind};

/// Sentences about the objects that refused resources were made of.
pub type Refused = BTreeMap<Key, BTreeSet<String>>;

/// What agents said, by object. `resource` is the newest of a name that a node should have: of an older one nothing is said.
#[must_use]
pub fn refused<'a>(refusals: &Refusals, resource: impl Fn(&NodeName, &str) -> Option<&'a Resource>) -> Refused {
    let mut all = Refused::new();
    for ((name, version), (node, reason)) in refusals {
        let newest = resource(node, name).filter(|resource| resource.version == *version);
        for key in newest.map(made_of).unwrap_or_default() {
            all.entry(key).or_default().insert(format!("the agent of {node} could not apply it: {reason}"));
        }
    }
    all
}

/// Adds that to every target of these objects.
pub fn add(all: &mut OfObjects, refused: &Refused) {
    for (key, reports) in all {
        let Some(sentences) = refused.get(key) else { continue };
        let told = sentences.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        let known = std::mem::take(reports);
        for report in known {
            let programmed = (report.aspect == Aspect::Accepted && report.accepted).then(|| PolicyReport {
                aspect: Aspect::Programmed,
                accepted: false,
                reason: Reason::RefusedByAgent,
                message: told.clone(),
                ..report.clone()
            });
            reports.push(report);
            reports.extend(programmed);
        }
    }
}

/// The objects that a resource was made of.
fn made_of(resource: &Resource) -> BTreeSet<Key> {
    match &resource.body {
        Some(Body::Authorization(policy)) => {
            Key::checked(Kind::AuthorizationPolicy, &policy.namespace, &policy.name).into_iter().collect()
        }
        Some(Body::Traffic(traffic)) => {
            let constraint = traffic.retry_constraint.as_ref().and_then(|constraint| key(&constraint.policy));
            key(&traffic.policy).into_iter().chain(constraint).collect()
        }
        Some(Body::Routes(routes)) => routes.rules.iter().filter_map(|rule| key(&rule.route)).collect(),
        Some(
            Body::Workload(_)
            | Body::Enrolment(_)
            | Body::Observation(_)
            | Body::Namespace(_)
            | Body::Service(_)
            | Body::Node(_)
            | Body::Settings(_)
            | Body::Trust(_),
        )
        | None => BTreeSet::new(),
    }
}

/// `HTTPRoute shop/web`, as resources name the objects that they come from.
fn key(written: &str) -> Option<Key> {
    let (kind, name) = written.split_once(' ')?;
    let (namespace, name) = name.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    Key::checked(kind, namespace, name)
}

#[cfg(test)]
mod tests {
    use weft_proto::resource::versioned;
    use weft_proto::v1;

    use super::*;
    use crate::object::Target;
    use crate::status::policy::{Conditions, reports};
    use crate::status::{PolicyCondition, Subject};

    #[test]
    fn a_policy_that_an_agent_refused_is_accepted_and_not_programmed() {
        let key = Key::checked(Kind::TrafficPolicy, "shop", "web").unwrap();
        let service = Target::Service { name: "web".to_owned(), section: None };
        let condition = PolicyCondition {
            subject: Subject::Target(service),
            aspect: Aspect::Accepted,
            reason: Reason::Accepted,
            message: "in force".to_owned(),
            generation: Some(3),
        };
        let conditions = Conditions::from([(key.clone(), vec![condition])]);
        let traffic = v1::Traffic { policy: "TrafficPolicy shop/web".to_owned(), ..v1::Traffic::default() };
        let resource = versioned("traffic/shop/web/80".to_owned(), vec![], Body::Traffic(traffic));
        let mut all = reports(&conditions, std::iter::empty(), &BTreeMap::new(), &BTreeSet::new());
        let refused = |name: &str, version: &[u8]| {
            let said = ("node-a".parse().unwrap(), "this agent lacks it".to_owned());
            let refusals = Refusals::from([((name.to_owned(), version.to_vec()), said)]);
            refused(&refusals, |_, name| (name == resource.name).then_some(&resource))
        };
        add(&mut all, &refused("traffic/shop/other/80", &resource.version));
        // What was refused was the one before.
        add(&mut all, &refused("traffic/shop/web/80", b"older"));
        assert_eq!(all[&key].len(), 1);
        add(&mut all, &refused("traffic/shop/web/80", &resource.version));
        let told: Vec<_> = all[&key].iter().map(|report| (report.aspect, report.holds(), report.generation)).collect();
        assert_eq!(told, [(Aspect::Accepted, true, Some(3)), (Aspect::Programmed, false, Some(3))]);
        assert_eq!(all[&key][1].message, "the agent of node-a could not apply it: this agent lacks it");
    }

    #[test]
    fn rules_of_several_routes_name_each_route_once() {
        let rule = |route: &str| v1::RouteRule { route: route.to_owned(), ..v1::RouteRule::default() };
        let rules = ["HTTPRoute shop/a", "HTTPRoute shop/a", "GRPCRoute shop/b", "nonsense"].map(rule).to_vec();
        let routes = v1::Routes { rules, ..v1::Routes::default() };
        let keys = made_of(&versioned("routes/shop/web/80".to_owned(), vec![], Body::Routes(routes)));
        let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["HTTPRoute shop/a", "GRPCRoute shop/b"]);
    }
}
