//! The Services that rows send requests to, and what stands behind them.

use serde_json::{Value, json};

/// The port of every Service that is not said to have others.
pub const MAIN: u16 = 80;
/// The ports of a row's own Service: neither declares a protocol.
pub const OWN_PORTS: [(&str, u16); 2] = [("main", MAIN), ("second", 8080)];
/// The port of every pod.
pub const TARGET: u16 = 8000;
/// The pod behind every row's own Service: it answers where no route speaks.
pub const PARENT: &str = "parent";

/// Namespaces; all are captured.
pub const NAMESPACES: [&str; 4] = ["shop", "guest", "third", "elsewhere"];

/// Pods that answer: name, node, and the value of the label `pair` of those that stand behind one Service together.
pub const SERVERS: [(&str, usize, Option<&str>); 7] = [
    ("shop/parent", 2, None),
    ("shop/one", 2, Some("both")),
    ("shop/two", 1, None),
    // As far from the client as its pair: the nearer one would be asked far more often.
    ("shop/three", 2, Some("both")),
    // Every second of its answers is a 503.
    ("shop/flaky", 2, None),
    ("elsewhere/four", 2, None),
    // Behind a Service that no client ever names.
    ("shop/hidden", 1, None),
];

/// Pods that ask: name and node.
pub const CLIENTS: [(&str, usize); 3] = [("shop/client", 1), ("guest/client", 1), ("third/client", 2)];

/// What a Service is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    ClusterIp,
    Headless,
    ExternalName,
}

/// A Service.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    namespace: String,
    name: String,
    shape: Shape,
    /// Name, number, and the protocol that is declared.
    ports: Vec<(String, u16, Option<String>)>,
    selector: Option<(String, String)>,
}

impl ServiceSpec {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        let ports = vec![("main".to_owned(), MAIN, None)];
        Self { namespace: namespace.to_owned(), name: name.to_owned(), shape: Shape::ClusterIp, ports, selector: None }
    }

    pub(crate) fn ports(self, ports: Vec<(String, u16, Option<String>)>) -> Self {
        Self { ports, ..self }
    }

    pub(crate) fn selects(self, label: &str, value: &str) -> Self {
        Self { selector: Some((label.to_owned(), value.to_owned())), ..self }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The label of its pods.
    #[must_use]
    pub fn selector(&self) -> Option<(&str, &str)> {
        self.selector.as_ref().map(|(label, value)| (label.as_str(), value.as_str()))
    }

    /// Names and numbers of its ports.
    pub fn port_numbers(&self) -> impl Iterator<Item = (&str, u16)> {
        self.ports.iter().map(|(name, number, _)| (name.as_str(), *number))
    }

    /// What its spec has beside what every Service has; null where it lacks something.
    #[must_use]
    pub fn fields(&self) -> Value {
        let ports: Vec<Value> = self.ports.iter().map(port).collect();
        match self.shape {
            Shape::ClusterIp => json!({"ports": ports}),
            Shape::Headless => json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
            Shape::ExternalName => json!({
                "type": "ExternalName", "externalName": "external.example", "clusterIP": null, "clusterIPs": null,
                "ipFamilies": null, "ipFamilyPolicy": null, "ports": ports,
            }),
        }
    }

    /// As a person would create it.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut spec = self.fields();
        if let Some((label, value)) = &self.selector {
            spec["selector"] = json!({label: value});
        }
        let metadata = json!({"namespace": self.namespace, "name": self.name});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }
}

fn port((name, number, protocol): &(String, u16, Option<String>)) -> Value {
    let mut port = json!({"name": name, "port": number, "targetPort": TARGET, "protocol": "TCP"});
    if let Some(protocol) = protocol {
        port["appProtocol"] = json!(protocol);
    }
    port
}

/// Every Service that is not a row's own.
#[must_use]
pub fn services() -> Vec<ServiceSpec> {
    let own = |full: &(&str, usize, Option<&str>)| {
        let (namespace, name) = full.0.split_once('/').unwrap_or(("shop", full.0));
        ServiceSpec::new(namespace, name).selects("app", name)
    };
    let declared = |name: &str, protocol: &str| {
        let ports = vec![("main".to_owned(), MAIN, Some(protocol.to_owned()))];
        ServiceSpec::new("shop", name).ports(ports).selects("app", "one")
    };
    let mut all: Vec<ServiceSpec> = SERVERS.iter().map(own).collect();
    all.extend([
        ServiceSpec::new("shop", "both").selects("pair", "both"),
        // One that changes under way.
        ServiceSpec::new("shop", "swing").selects("app", "one"),
        ServiceSpec::new("shop", "empty").selects("app", "nobody"),
        ServiceSpec { shape: Shape::Headless, ..ServiceSpec::new("shop", "headless").selects("app", "one") },
        ServiceSpec { shape: Shape::ExternalName, ..ServiceSpec::new("shop", "external") },
        declared("h2c", "kubernetes.io/h2c"),
        declared("opaque", "tcp"),
    ]);
    all
}
