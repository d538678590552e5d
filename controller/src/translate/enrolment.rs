//! Whether and how one pod is captured and guarded: labels, policy and the operator's floor, put together.

use std::collections::{BTreeMap, BTreeSet};

use weft_crd::{Exclusion, FailureMode, MeshState, MtlsMode};
use weft_proto::v1;

use super::Finding;
use super::authentication::Decided;
use super::authorization::Locked;
use super::world::World;
use crate::limits;
use crate::object::{AuthenticationPolicy, Capture, Exclusions, Exemption, Pod};

/// Runtime classes whose pods the node's kernel does not see: their sockets live in a kernel of their own.
const SANDBOXES: [&str; 6] = ["gvisor", "runsc", "kata", "kubevirt", "firecracker", "sandbox"];

/// The decision about one pod.
#[derive(Debug)]
pub struct Guarded {
    /// What becomes of it: neither captured nor observed, if it cannot be.
    pub capture: Capture,
    /// Empty: it can be captured.
    pub not_capturable: String,
    pub on_agent_failure: FailureMode,
    pub mtls: MtlsMode,
    pub ports: BTreeMap<u16, MtlsMode>,
    pub mtls_policy: String,
    pub exemptions: Vec<v1::Exemption>,
    pub require_mesh_tls: bool,
    pub exclusions: Exclusions,
    pub refused: Vec<String>,
}

pub fn guard(
    world: &World<'_>,
    pod: &Pod,
    decided: Option<&Decided<'_>>,
    locked: &Locked,
    findings: &mut BTreeSet<Finding>,
) -> Guarded {
    if world.mesh.state == MeshState::Removing {
        return Guarded::leaving();
    }
    let nobody = Decided::default();
    let decided = decided.unwrap_or(&nobody);
    let (mtls, mtls_policy) = mode(world, decided.pod);
    let mut guarded = Guarded {
        capture: Capture::Disabled,
        not_capturable: not_capturable(world, pod),
        on_agent_failure: FailureMode::Open,
        mtls,
        ports: port_modes(world, decided, mtls),
        mtls_policy,
        exemptions: Vec::new(),
        require_mesh_tls: decided.pod.is_some_and(|policy| policy.authentication.require_mesh_tls),
        exclusions: Exclusions::default(),
        refused: world.disputes(pod),
    };
    guarded.refused.extend(pod.exclusions.refused.iter().cloned());
    guarded.refused.extend(pod.probes.ignored.iter().cloned());
    guarded.on_agent_failure = failure_mode(world, guarded.mtls, guarded.require_mesh_tls);
    exempt(world, pod, decided, &mut guarded);
    admit_api_server(world, pod, &mut guarded);
    exclude(world, pod, locked, &mut guarded);
    let wanted = capture(world, pod, locked, &mut guarded);
    let mut sentences = guarded.refused.clone();
    match wanted {
        _ if guarded.not_capturable.is_empty() => guarded.capture = wanted,
        Capture::Disabled => {}
        Capture::Observe | Capture::Enabled => {
            let what = if wanted == Capture::Enabled { "captured" } else { "observed" };
            sentences.push(format!("it is not {what} although its namespace is: {}", guarded.not_capturable));
        }
    }
    findings.extend(sentences.into_iter().map(|message| Finding { object: pod.title(), message }));
    guarded
}

fn not_capturable(world: &World<'_>, pod: &Pod) -> String {
    let sandbox = pod.runtime_class.as_deref().filter(|class| SANDBOXES.iter().any(|known| class.contains(known)));
    if pod.host_network {
        "it uses its node's network".to_owned()
    } else if pod.mirror {
        "it is a mirror pod, which anybody with the node's credential can forge".to_owned()
    } else if pod.service_account.is_empty() {
        "it has no service account, so it has no identity".to_owned()
    } else if let Some(system) = &pod.foreign_system {
        format!("its operating system is {system}")
    } else if let Some(class) = sandbox {
        format!("its runtime class {class} keeps its sockets from the node's kernel")
    } else if pod.netns.is_none() && pod.metadata.uid.is_none() {
        // Its agent finds a pod that a kubelet has made by the uid that the kubelet knows.
        format!("it has no uid, and its annotation {} names no network namespace", weft_crd::NETNS)
    } else {
        world.shares_namespace(pod).unwrap_or_default()
    }
}

/// The mode of ports that no other policy decides, and who said so.
pub fn mode(world: &World<'_>, policy: Option<&AuthenticationPolicy>) -> (MtlsMode, String) {
    let default = (MtlsMode::Permissive, "default".to_owned());
    let operators = |mode| (mode, "MeshConfig/default".to_owned());
    let stated = policy.and_then(|policy| {
        let name = format!("{}/{}", policy.metadata.namespace, policy.metadata.name);
        policy.authentication.mtls.map(|mode| (mode, name))
    });
    let (mode, by) = stated.or_else(|| world.mesh.default_mtls.map(operators)).unwrap_or(default);
    match world.mesh.minimum_mtls {
        Some(minimum) if minimum > mode => operators(minimum),
        _ => (mode, by),
    }
}

/// Ports that differ from the pod's own mode.
fn port_modes(world: &World<'_>, decided: &Decided<'_>, own: MtlsMode) -> BTreeMap<u16, MtlsMode> {
    let floor = world.mesh.minimum_mtls.unwrap_or(MtlsMode::Permissive);
    let mut ports = decided.pod.map(|policy| policy.authentication.ports.clone()).unwrap_or_default();
    for (port, policy) in &decided.ports {
        let stated = policy.authentication.ports.get(port).copied();
        ports.insert(*port, stated.unwrap_or_else(|| mode(world, Some(policy)).0));
    }
    ports.into_iter().map(|(port, mode)| (port, mode.max(floor))).filter(|(_, mode)| *mode != own).collect()
}

/// A namespace's label, or what follows from the mode; never below the floor. A pod that must not speak plaintext to
/// peers has no open failure at all: without an agent its connections would be just that.
pub fn failure_mode(world: &World<'_>, mtls: MtlsMode, require_mesh_tls: bool) -> FailureMode {
    let label = world.own.namespace.as_ref().and_then(|namespace| namespace.on_agent_failure);
    let natural = match mtls {
        MtlsMode::Permissive => FailureMode::Open,
        MtlsMode::Strict => FailureMode::Closed,
    };
    let stated = label.or(world.mesh.default_failure_mode).unwrap_or(natural);
    let required = if require_mesh_tls { FailureMode::Closed } else { FailureMode::Open };
    stated.max(world.mesh.minimum_failure_mode.unwrap_or(FailureMode::Open)).max(required)
}

fn exempt(world: &World<'_>, pod: &Pod, decided: &Decided<'_>, guarded: &mut Guarded) {
    let mut exemptions = Vec::new();
    if let Some(policy) = decided.pod {
        for exemption in &policy.authentication.exemptions {
            // Ports that a Service's policy decides are not this policy's to open. "Every port" is then those the pod declares.
            let ports = match (&exemption.ports, decided.ports.is_empty()) {
                (None, true) => None,
                (None, false) => {
                    let declared = pod.ports.iter().map(|declared| declared.port);
                    Some(declared.take(limits::PORTS_PER_LIST).collect())
                }
                (Some(ports), _) => Some(ports.clone()),
            };
            let own = |ports: Vec<u16>| ports.into_iter().filter(|port| !decided.ports.contains_key(port)).collect();
            exemptions.extend(exemption_row(exemption, ports.map(own)));
        }
    }
    for (port, policy) in &decided.ports {
        for exemption in &policy.authentication.exemptions {
            let named = exemption.ports.as_ref().is_none_or(|ports| ports.contains(port));
            exemptions.extend(named.then(|| exemption_row(exemption, Some(vec![*port]))).flatten());
        }
    }
    let locked = world.mesh.minimum_mtls == Some(MtlsMode::Strict) && !world.mesh.allows(Exclusion::MtlsExemptions);
    if locked && !exemptions.is_empty() {
        guarded
            .refused
            .push("MeshConfig enforces Strict and allows no MtlsExemptions, so its exemptions are refused".to_owned());
        return;
    }
    guarded.exemptions = exemptions;
}

/// Whatever the mode is, so that it is known before the pod is strict, and whatever the floor says: without its webhooks a cluster admits nothing any more, and who writes them may write the floor.
/// Who edits the Service behind may move the port, so no more is let in than what the API server sends: TLS.
fn admit_api_server(world: &World<'_>, pod: &Pod, guarded: &mut Guarded) {
    for (port, reason) in world.calls.on(&pod.metadata.name) {
        let (ports, cidrs) = (vec![port.into()], Vec::new());
        guarded.exemptions.push(v1::Exemption { ports, cidrs, any: true, reason, tls_only: true });
    }
}

/// None: it exempts nobody, because a list is empty.
fn exemption_row(exemption: &Exemption, ports: Option<Vec<u16>>) -> Option<v1::Exemption> {
    if ports.as_ref().is_some_and(Vec::is_empty) || exemption.ranges.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    Some(v1::Exemption {
        ports: ports.into_iter().flatten().map(u32::from).collect(),
        cidrs: exemption.ranges.iter().flatten().map(ToString::to_string).collect(),
        any: exemption.ranges.is_none(),
        tls_only: false,
        reason: exemption.reason.clone(),
    })
}

fn exclude(world: &World<'_>, pod: &Pod, locked: &Locked, guarded: &mut Guarded) {
    let asked = &pod.exclusions;
    let strict_outbound = guarded.mtls == MtlsMode::Strict || guarded.require_mesh_tls;
    let mut refuse = |what: &str, annotation: &str, why: &str, allowed: &str| {
        guarded
            .refused
            .push(format!("{annotation}: {what} is refused because {why} and MeshConfig allows no {allowed}"));
    };
    let is_strict = "the pod is strict";
    let mut accepted = Exclusions::default();
    for port in &asked.inbound_ports {
        let strict = guarded.ports.get(port).copied().unwrap_or(guarded.mtls) == MtlsMode::Strict;
        if (strict || locked.contains(*port)) && !world.mesh.allows(Exclusion::InboundPorts) {
            let why = if strict { is_strict } else { "an authorization policy speaks of it" };
            refuse(&port.to_string(), weft_crd::EXCLUDE_INBOUND_PORTS, why, "InboundPorts");
        } else {
            accepted.inbound_ports.push(*port);
        }
    }
    if strict_outbound && !asked.outbound_ports.is_empty() && !world.mesh.allows(Exclusion::OutboundPorts) {
        refuse("it", weft_crd::EXCLUDE_OUTBOUND_PORTS, is_strict, "OutboundPorts");
    } else {
        accepted.outbound_ports.clone_from(&asked.outbound_ports);
    }
    if strict_outbound && !asked.outbound_ranges.is_empty() && !world.mesh.allows(Exclusion::OutboundCidrs) {
        refuse("it", weft_crd::EXCLUDE_OUTBOUND_CIDRS, is_strict, "OutboundCidrs");
    } else {
        accepted.outbound_ranges.clone_from(&asked.outbound_ranges);
    }
    guarded.exclusions = accepted;
}

/// The namespace's word, narrowed by the pod's where the floor lets it.
fn capture(world: &World<'_>, pod: &Pod, locked: &Locked, guarded: &mut Guarded) -> Capture {
    let namespace = world.own.namespace.as_ref();
    let permitted = namespace.and_then(|namespace| namespace.capture).unwrap_or(Capture::Disabled);
    let wish = pod.capture.unwrap_or(permitted);
    let strict = guarded.is_strict_anywhere();
    if wish > permitted {
        guarded.refused.push(format!(
            "{}: {} is refused because its namespace permits {}",
            weft_crd::CAPTURE,
            wish.as_str(),
            permitted.as_str()
        ));
        permitted
    } else if wish < permitted && !world.mesh.pods_may_opt_out.unwrap_or(!strict && !locked.selected) {
        let why = if world.mesh.pods_may_opt_out.is_some() {
            "MeshConfig says that pods may not opt out"
        } else if strict {
            "the pod is strict"
        } else {
            "an authorization policy selects the pod"
        };
        guarded.refused.push(format!("{}: {} is refused because {why}", weft_crd::CAPTURE, wish.as_str()));
        permitted
    } else {
        wish
    }
}

impl Guarded {
    /// Of a mesh that is taken away: nobody is captured, and nobody is told that the pod demands mTLS.
    fn leaving() -> Self {
        Self {
            capture: Capture::Disabled,
            not_capturable: String::new(),
            on_agent_failure: FailureMode::Open,
            mtls: MtlsMode::Permissive,
            ports: BTreeMap::new(),
            mtls_policy: "MeshConfig/default".to_owned(),
            exemptions: Vec::new(),
            require_mesh_tls: false,
            exclusions: Exclusions::default(),
            refused: Vec::new(),
        }
    }

    pub fn is_captured(&self) -> bool {
        self.capture == Capture::Enabled
    }

    pub fn is_strict_anywhere(&self) -> bool {
        self.mtls == MtlsMode::Strict || self.ports.values().any(|mode| *mode == MtlsMode::Strict)
    }

    pub fn is_strict_everywhere(&self) -> bool {
        self.mtls == MtlsMode::Strict && self.ports.values().all(|mode| *mode == MtlsMode::Strict)
    }

    /// Features without which an agent cannot read the enrolment rightly.
    pub fn requires(&self) -> Vec<String> {
        if self.ports.is_empty() && self.exemptions.is_empty() {
            return Vec::new();
        }
        vec!["authentication.ports".to_owned()]
    }

    pub fn enrolment(self, pod: &Pod, authorization: Vec<String>) -> v1::Enrolment {
        let numbers = |ports: Vec<u16>| ports.into_iter().map(u32::from).collect();
        v1::Enrolment {
            uid: pod.uid.to_string(),
            netns: pod.netns.clone().unwrap_or_default(),
            on_agent_failure: failure_code(self.on_agent_failure).into(),
            mtls: mtls_code(self.mtls).into(),
            ports: self
                .ports
                .into_iter()
                .map(|(port, mode)| v1::PortMtls { port: port.into(), mode: mtls_code(mode).into() })
                .collect(),
            mtls_policy: self.mtls_policy,
            exemptions: self.exemptions,
            require_mesh_tls: self.require_mesh_tls,
            excluded_inbound_ports: numbers(self.exclusions.inbound_ports),
            excluded_outbound_ports: numbers(self.exclusions.outbound_ports),
            excluded_outbound_cidrs: self.exclusions.outbound_ranges.iter().map(ToString::to_string).collect(),
            authorization,
            refused: self.refused,
            probe_ports: numbers(pod.probes.ports.clone()),
        }
    }
}

pub fn mtls_code(mode: MtlsMode) -> v1::MtlsMode {
    match mode {
        MtlsMode::Permissive => v1::MtlsMode::Permissive,
        MtlsMode::Strict => v1::MtlsMode::Strict,
    }
}

pub fn failure_code(mode: FailureMode) -> v1::FailureMode {
    match mode {
        FailureMode::Open => v1::FailureMode::Open,
        FailureMode::Closed => v1::FailureMode::Closed,
    }
}
