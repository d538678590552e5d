//! Ports at which the kubelet is to reach a pod's containers: probes and lifecycle hooks that open connections.
//!
//! One with a `host` of its own is none of the pod's: the kubelet connects wherever that says, which is reported. Ports go by
//! the names of their own container, as the kubelet reads them.

use serde::Deserialize;

use crate::limits;
use crate::object::FieldError;
use crate::object::field::port;

use super::RawContainer;

/// Hosts that lead the kubelet to its own node, where no pod is. The chart's admission policy permits the same.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawLifecycle {
    post_start: Option<RawAction>,
    pre_stop: Option<RawAction>,
}

/// What the kubelet does to a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawAction {
    http_get: Option<RawTarget>,
    tcp_socket: Option<RawTarget>,
    grpc: Option<RawTarget>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawTarget {
    #[serde(default)]
    host: Option<String>,
    port: RawPortReference,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RawPortReference {
    Number(i64),
    Name(String),
}

/// What a pod declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// In ascending order, each once.
    pub ports: Vec<u16>,
    /// Sentences about what is declared and does not count.
    pub ignored: Vec<String>,
}

/// Of all containers that the kubelet probes: not the init containers that end, and not ephemeral ones.
pub(super) fn declared<'a>(containers: impl Iterator<Item = &'a RawContainer>) -> Result<Probes, FieldError> {
    let mut probes = Probes::default();
    for container in containers {
        for (field, target) in targets(container) {
            if let Some(host) = target.host.as_deref().filter(|host| !host.is_empty()) {
                if !LOOPBACK.contains(&host) {
                    probes.ignored.push(foreign(field, &container.name, host));
                }
            } else if let Some(number) = resolve(&target.port, container, field)?
                && !limits::CAPTURE_PORTS.contains(&number)
            {
                probes.ports.push(number);
            }
        }
    }
    probes.ports.sort_unstable();
    probes.ports.dedup();
    let (count, limit) = (probes.ports.len(), limits::PROBE_PORTS);
    if count > limit {
        probes.ports.truncate(limit);
        probes.ignored.push(format!("its probes use {count} ports, and strict ports take the first {limit} of them"));
    }
    Ok(probes)
}

fn foreign(field: &str, container: &str, host: &str) -> String {
    let host: String = host.chars().take(limits::OBJECT_NAME_BYTES).collect();
    format!(
        "{field} of container {container}: it names the host {host:?}, where its node's kubelet reaches, past every policy, \
         what a pod declares for probes; leave host out, and refuse such pods with the chart's refuseProbeHosts"
    )
}

fn targets(container: &RawContainer) -> Vec<(&'static str, &RawTarget)> {
    let lifecycle = container.lifecycle.as_ref();
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ];
    let hooks = [
        ("lifecycle.postStart", lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref())),
        ("lifecycle.preStop", lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref())),
    ];
    let mut found = Vec::new();
    for (field, action) in probes {
        let kinds = action.iter().flat_map(|action| [&action.http_get, &action.tcp_socket, &action.grpc]);
        found.extend(kinds.flatten().map(|target| (field, target)));
    }
    // A hook's tcpSocket is in the schema and never carried out (LifecycleHandler of the Kubernetes API).
    found.extend(hooks.into_iter().filter_map(|(field, action)| Some((field, action?.http_get.as_ref()?))));
    found
}

/// None: no port has that name, and the kubelet connects to none.
fn resolve(reference: &RawPortReference, container: &RawContainer, field: &str) -> Result<Option<u16>, FieldError> {
    let path = format!("spec.containers[].{field}");
    let number = match reference {
        RawPortReference::Number(number) => Some(*number),
        RawPortReference::Name(name) => {
            let named = container.ports.iter().find(|declared| declared.name.as_deref() == Some(name));
            named.map(|declared| declared.container_port).or_else(|| name.parse().ok())
        }
    };
    number.map(|number| port(&path, number)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(containers: &str, ports: &[u16], ignored: &[&str]) {
        let read: Vec<RawContainer> = serde_json::from_str(containers).unwrap();
        let probes = declared(read.iter()).unwrap();
        assert_eq!(probes.ports, ports, "{containers}");
        assert_eq!(probes.ignored.len(), ignored.len(), "{:?}", probes.ignored);
        for (sentence, part) in probes.ignored.iter().zip(ignored) {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn every_kind_of_probe_and_hook_declares_its_port() {
        check("[{}]", &[], &[]);
        check(r#"[{"readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTPS"}}}]"#, &[8080], &[]);
        check(r#"[{"livenessProbe": {"tcpSocket": {"port": 5432}}}]"#, &[5432], &[]);
        check(r#"[{"startupProbe": {"grpc": {"port": 9000, "service": "ready"}}}]"#, &[9000], &[]);
        check(r#"[{"livenessProbe": {"exec": {"command": ["true"]}}}]"#, &[], &[]);
        let hooks = r#"{"postStart": {"httpGet": {"port": 81}}, "preStop": {"httpGet": {"port": 82, "host": ""}}}"#;
        check(&format!(r#"[{{"lifecycle": {hooks}}}]"#), &[81, 82], &[]);
        check(r#"[{"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]"#, &[], &[]);
        check(r#"[{"lifecycle": {"preStop": {"tcpSocket": {"port": 83}}}}]"#, &[], &[]);
        let two = r#"{"readinessProbe": {"httpGet": {"port": 2}}, "livenessProbe": {"httpGet": {"port": 2}}}"#;
        check(&format!(r#"[{two}, {{"livenessProbe": {{"tcpSocket": {{"port": 1}}}}}}]"#), &[1, 2], &[]);
    }

    #[test]
    fn names_are_those_of_the_same_container() {
        let named =
            r#"{"ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": {"httpGet": {"port": "web"}}}"#;
        check(&format!("[{named}]"), &[8080], &[]);
        let other =
            r#"{"ports": [{"name": "other", "containerPort": 9}], "readinessProbe": {"httpGet": {"port": "web"}}}"#;
        check(&format!("[{other}]"), &[], &[]);
        check(r#"[{"readinessProbe": {"httpGet": {"port": "8081"}}}]"#, &[8081], &[]);
    }

    #[test]
    fn what_leads_elsewhere_or_to_the_agent_does_not_count() {
        let foreign = r#"[{"name": "web", "readinessProbe": {"httpGet": {"host": "10.0.0.9", "port": 80}}}]"#;
        check(foreign, &[], &["readinessProbe of container web: it names the host \"10.0.0.9\""]);
        let hooks = r#"{"postStart": {"httpGet": {"host": "other", "port": 1}}, "preStop": {"httpGet": {"port": 2}}}"#;
        check(&format!(r#"[{{"lifecycle": {hooks}}}]"#), &[2], &["lifecycle.postStart"]);
        check(r#"[{"livenessProbe": {"httpGet": {"host": "127.0.0.1", "port": 80}}}]"#, &[], &[]);
        check(r#"[{"livenessProbe": {"tcpSocket": {"port": 61000}}}]"#, &[], &[]);
        let many: Vec<String> =
            (1..=18).map(|number| format!(r#"{{"livenessProbe": {{"tcpSocket": {{"port": {number}}}}}}}"#)).collect();
        let ports: Vec<u16> = (1..=16).collect();
        check(&format!("[{}]", many.join(",")), &ports, &["18 ports"]);
    }

    #[test]
    fn an_impossible_port_is_named() {
        let read: Vec<RawContainer> = serde_json::from_str(r#"[{"startupProbe": {"grpc": {"port": 70000}}}]"#).unwrap();
        let error = declared(read.iter()).unwrap_err();
        assert_eq!(error.path, "spec.containers[].startupProbe");
    }
}
