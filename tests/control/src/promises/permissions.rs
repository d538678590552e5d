//! The role is as small as it can be: without any part of it the controller says what it lacks.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use weft_rig::wait;

use crate::Promise;
use crate::agent::{AUDIENCE, join, pod_token};
use crate::cluster::{Cluster, NAMESPACE, PATIENCE, documents};
use crate::controller::Controller;
use crate::objects;

pub fn promises() -> Vec<Promise> {
    let (name, run) = ("every_permission_is_needed_and_named", every_permission_is_needed_and_named as _);
    vec![Promise { name, proof: None, limit: Duration::from_mins(10), run }]
}

/// One thing that a role permits.
struct Permission {
    role: Value,
    rule: usize,
    group: String,
    resource: String,
    verb: String,
}

fn permissions(role: &Value) -> Vec<Permission> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = Vec::new();
    for (index, rule) in role["rules"].as_array().into_iter().flatten().enumerate() {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                let group = texts(&rule["apiGroups"]).concat();
                all.push(Permission { role: role.clone(), rule: index, group, resource: resource.clone(), verb });
            }
        }
    }
    all
}

impl Permission {
    /// The role without it.
    fn missing(&self) -> Value {
        let mut without = self.role.clone();
        let whole = &self.role["rules"][self.rule];
        let (mut others, mut own) = (whole.clone(), whole.clone());
        let keep = |list: &Value, gone: &str| -> Vec<Value> {
            list.as_array().into_iter().flatten().filter(|one| **one != *gone).cloned().collect()
        };
        others["resources"] = keep(&whole["resources"], &self.resource).into();
        own["resources"] = json!([self.resource]);
        own["verbs"] = keep(&whole["verbs"], &self.verb).into();
        let left =
            [others, own].into_iter().filter(|rule| rule["resources"] != json!([]) && rule["verbs"] != json!([]));
        let all = without["rules"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let all = all.into_iter().enumerate().filter(|(index, _)| *index != self.rule).map(|(_, rule)| rule);
        without["rules"] = all.chain(left).collect();
        without
    }

    /// The API server says yes or no by now.
    fn await_word(&self, cluster: &Cluster, allowed: bool) -> Result<()> {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        let rule = &self.role["rules"][self.rule];
        let attributes = json!({
            "group": self.group, "resource": resource, "subresource": subresource, "verb": self.verb,
            "name": rule["resourceNames"][0].as_str().unwrap_or_default(),
            "namespace": self.role["metadata"]["namespace"].as_str().unwrap_or_default(),
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "system:serviceaccount:weft-system:weft-controller", "resourceAttributes": attributes},
        });
        wait::until("the API server to know the role", PATIENCE, || {
            let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews");
            let request = request.header("content-type", "application/json").body(serde_json::to_vec(&review)?)?;
            let answer: Value = cluster.wait_for(cluster.client.request(request))?;
            ensure!(answer["status"]["allowed"] == allowed, "{answer}");
            Ok(())
        })
    }
}

fn every_permission_is_needed_and_named(cluster: &mut Cluster) -> Result<()> {
    for plural in ["httproutes", "grpcroutes", "tlsroutes", "tcproutes", "referencegrants"] {
        cluster.define(&cluster.gateway_definition(plural)?)?;
    }
    for plural in ["xbackendtrafficpolicies", "xbackends", "xmeshes"] {
        cluster.define(&cluster.gateway_experiment(plural)?)?;
    }
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    cluster.put(&objects::namespace("shop", "enabled"))?;
    cluster.put(&objects::service("shop", "web"))?;
    let token = pod_token(cluster, "agent", "one", "weft-agent", AUDIENCE)?;
    let roles = documents(include_str!("../../../../controller/rbac.yaml"))?;
    let all: Vec<Permission> = roles.iter().flat_map(permissions).collect();
    ensure!(all.len() > 30, "only {} permissions were found", all.len());
    for (index, permission) in all.iter().enumerate() {
        let Permission { group, resource, verb, .. } = permission;
        begin_anew(cluster)?;
        cluster.put(&permission.missing())?;
        permission.await_word(cluster, false)?;
        let mut controller = Controller::launch(cluster, &format!("controller-{index}"), 15010)?;
        let named = format!("the controller may not {verb} {resource}");
        let context = || format!("without {verb} of {resource} in {group:?}");
        if resource == "tokenreviews" {
            controller.await_generation()?;
            ensure!(join(cluster, &controller, "one", &token)?.is_err(), "a node joined without a review");
        }
        controller.await_log(&named).with_context(context)?;
        drop(controller);
        cluster.put(&permission.role.clone())?;
        permission.await_word(cluster, true)?;
    }
    begin_anew(cluster)?;
    let mut controller = Controller::start(cluster, "whole", 15010)?;
    controller.await_log("this controller writes statuses")?;
    controller.await_no_error()?;
    controller.stop()
}

/// Nothing is there that the controller makes, and something of each kind that it answers to, unanswered.
fn begin_anew(cluster: &Cluster) -> Result<()> {
    for (kind, name) in [("Secret", "weft-ca"), ("ConfigMap", "weft-trust"), ("Lease", "weft-controller")] {
        cluster.delete(kind, NAMESPACE, name)?;
    }
    // The one says that a root existed, and the other is made where there is none.
    for (kind, name) in [("MeshConfig", "default"), ("XMesh", "weft")] {
        cluster.delete(kind, "", name)?;
    }
    // The root is made in a moment, and another a moment later.
    cluster.put(&objects::mesh_with_a_root_of(Timestamp::now() + Duration::from_secs(3)))?;
    cluster.put(&objects::denial("shop", "deny", &json!({"namespaces": ["guest"]})))?;
    for object in objects::of_each_answered_kind("shop", "web") {
        let (kind, namespace, name) = objects::names(&object);
        cluster.delete(&kind, &namespace, &name)?;
        cluster.put(&object)?;
    }
    Ok(())
}
