//! What the API server calls takes its plaintext, by whichever object it learns of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_proto::v1::{Resource, resource::Body};

use super::promise;
use crate::Promise;
use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::objects;

const PORT: u16 = 15010;

pub fn promises() -> Vec<Promise> {
    vec![promise("ports_that_the_api_server_calls_are_exempt_while_it_does", exempt_while_called)]
}

fn webhooks(kind: &str, service: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "guard"},
        "webhooks": [{
            "name": "guard.example.com", "clientConfig": {"service": service}, "rules": [], "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

fn api(service: &Value) -> Value {
    let spec = json!({
        "group": "metrics.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
        "insecureSkipTLSVerify": true, "service": service,
    });
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.metrics.example.com"},
        "spec": spec,
    })
}

fn definition(service: &Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    })
}

/// The reasons of the exemptions of the one enrolled pod, each of port 8080 and nobody's but the API server's.
fn reasons(held: &BTreeMap<String, Resource>) -> Vec<String> {
    let exemptions = held.values().flat_map(|resource| match &resource.body {
        Some(Body::Enrolment(enrolment)) => enrolment.exemptions.clone(),
        _ => Vec::new(),
    });
    exemptions
        .filter(|exemption| exemption.ports == [8080] && exemption.any)
        .map(|exemption| exemption.reason)
        .collect()
}

fn exempt_while_called(cluster: &mut Cluster) -> Result<()> {
    super::shop(cluster)?;
    cluster.put(&objects::service("shop", "web"))?;
    cluster.put(&json!({
        "apiVersion": weft_crd::API_VERSION, "kind": "AuthenticationPolicy", "metadata": {"namespace": "shop", "name": "strict"},
        "spec": {"targetRefs": [{"kind": "Pod"}], "server": {"mtls": "Strict"}},
    }))?;
    let service = json!({"namespace": "shop", "name": "web", "port": 80});
    let callers = [
        webhooks("ValidatingWebhookConfiguration", &service),
        webhooks("MutatingWebhookConfiguration", &service),
        api(&service),
        definition(&service),
    ];
    // One that is there at the start, and others that come.
    cluster.put(&callers[0])?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    for caller in &callers {
        let (kind, _, name) = objects::names(caller);
        cluster.put(caller)?;
        let told =
            |held: &BTreeMap<String, Resource>| reasons(held) == [format!("the API server calls it ({kind} {name})")];
        agent.until(cluster, &format!("the exemption for {kind}"), told)?;
        cluster.delete(&kind, "", &name)?;
        agent.until(cluster, &format!("it to end without {kind}"), |held| reasons(held).is_empty())?;
    }
    ensure!(agent.held().keys().any(|name| name.starts_with("enrolment/")), "the pod is not enrolled");
    // The API server has dozens of its own that call nobody.
    controller.await_no_error()?;
    controller.stop()
}
