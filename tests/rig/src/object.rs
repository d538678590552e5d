//! The objects that the rig writes, as the API server would show them.
//!
//! Only fields that somebody reads are there. Weft's own kinds are written by the tests themselves.

use std::net::IpAddr;

use serde_json::{Value, json};

/// `namespace/name`, the way people speak of objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl Name {
    /// Splits `namespace/name`; a name alone is in `default`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A pod to be.
#[derive(Debug, Clone)]
pub struct PodPlan {
    pub(crate) name: Name,
    pub(crate) node: usize,
    pub(crate) account: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) number: Option<u8>,
    /// Its object says where its network namespace is.
    pub(crate) names_netns: bool,
}

impl PodPlan {
    /// A pod on the first node, with the service account `default`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: Name::parse(name),
            node: 1,
            account: "default".to_owned(),
            labels: Vec::new(),
            annotations: Vec::new(),
            number: None,
            names_netns: true,
        }
    }

    /// The number of its address on the node, to use one again; without, the next free one.
    #[must_use]
    pub fn number(mut self, number: u8) -> Self {
        self.number = Some(number);
        self
    }

    /// The node it runs on, counted from 1.
    #[must_use]
    pub fn on(mut self, node: usize) -> Self {
        self.node = node;
        self
    }

    /// Its service account.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// A label more.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An annotation more.
    #[must_use]
    pub fn found_by_its_processes(mut self) -> Self {
        self.names_netns = false;
        self
    }

    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A Service to be.
#[derive(Debug, Clone)]
pub struct ServicePlan {
    pub(crate) name: Name,
    pub(crate) ports: Vec<Port>,
    pub(crate) selector: Vec<(String, String)>,
    pub(crate) more: Vec<(String, Value)>,
}

/// A port of a Service.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) target: u16,
}

impl ServicePlan {
    /// A Service without ports.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Name::parse(name), ports: Vec::new(), selector: Vec::new(), more: Vec::new() }
    }

    /// A port and where it leads to in the pods. The name may declare a protocol, as in Kubernetes.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16, target: u16) -> Self {
        self.ports.push(Port { name: name.to_owned(), number: port, target });
        self
    }

    /// A field more of its spec.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.more.push((name.to_owned(), value));
        self
    }

    /// Pods with this label stand behind it.
    #[must_use]
    pub fn selects(mut self, name: &str, value: &str) -> Self {
        self.selector.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A Namespace with labels.
#[must_use]
pub fn namespace(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// The ranges of the rig's pods and Services. A plan may bring another object of the same name.
pub(crate) fn mesh_config() -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"networks": {"pods": ["10.71.0.0/16", "fd71::/16"], "services": ["10.96.0.0/16", "fd96::/112"]}},
    })
}

/// A running pod.
pub(crate) fn pod(plan: &PodPlan, uid: &str, netns: &str, addresses: &[IpAddr], ready: bool) -> Value {
    let mut annotations = pairs(&plan.annotations);
    if plan.names_netns {
        annotations.insert("weft.dev/netns".to_owned(), json!(netns));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": plan.name.name, "namespace": plan.name.namespace, "uid": uid,
            "labels": pairs(&plan.labels), "annotations": annotations,
        },
        "spec": {
            "nodeName": node_name(plan.node), "serviceAccountName": plan.account,
            "containers": [{"name": "app", "image": "app"}],
        },
        "status": {
            "phase": "Running", "podIP": addresses.first(),
            "podIPs": addresses.iter().map(|address| json!({"ip": address})).collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

/// A Service with its addresses.
pub(crate) fn service(plan: &ServicePlan, addresses: &[IpAddr]) -> Value {
    let ports: Vec<Value> = plan
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.number, "targetPort": port.target, "protocol": "TCP"}))
        .collect();
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": plan.name.name, "namespace": plan.name.namespace},
        "spec": {
            "type": "ClusterIP", "clusterIP": addresses.first(), "clusterIPs": addresses,
            "ipFamilies": addresses.iter().map(|address| family(*address)).collect::<Vec<_>>(),
            "ipFamilyPolicy": "PreferDualStack", "selector": pairs(&plan.selector), "ports": ports,
        },
    });
    for (name, value) in &plan.more {
        service["spec"][name] = value.clone();
    }
    service
}

/// A pod behind a Service, as an `EndpointSlice` lists it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) pod: Name,
    pub(crate) uid: String,
    pub(crate) node: usize,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ready: bool,
}

/// The slice of one address family of a Service.
pub(crate) fn endpoint_slice(plan: &ServicePlan, address_type: &str, members: &[Member]) -> Value {
    let endpoints: Vec<Value> = members
        .iter()
        .filter_map(|member| {
            let addresses: Vec<_> =
                member.addresses.iter().filter(|address| family(**address) == address_type).collect();
            (!addresses.is_empty()).then(|| json!({
            "addresses": addresses, "nodeName": node_name(member.node),
            "conditions": {"ready": member.ready, "serving": member.ready, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": member.pod.namespace, "name": member.pod.name, "uid": member.uid},
        }))
        })
        .collect();
    let ports: Vec<Value> =
        plan.ports.iter().map(|port| json!({"name": port.name, "port": port.target, "protocol": "TCP"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", plan.name.name, address_type.to_ascii_lowercase()), "namespace": plan.name.namespace,
            "labels": {"kubernetes.io/service-name": plan.name.name},
        },
        "addressType": address_type, "ports": ports, "endpoints": endpoints,
    })
}

/// The name of a node, counted from 1.
#[must_use]
pub fn node_name(node: usize) -> String {
    format!("node{node}")
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn pairs(list: &[(String, String)]) -> serde_json::Map<String, Value> {
    list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}
