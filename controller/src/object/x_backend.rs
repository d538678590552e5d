//! `XBackend` (Gateway API 1.7, experimental; GEP-4894), checked: pods as a backend of routes, without a Service.
//!
//! What the API server would refuse is a [`FieldError`]; what it takes and Weft cannot do makes the whole of it unusable.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use weft_proto::{names, v1};

use super::field::port;
use super::route::{RawSessionPersistence, session, unknown};
use super::{FieldError, Kind, Metadata, Refusal, Service, ServicePort, TargetPort};
use crate::limits;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawXBackend {
    #[serde(rename = "type")]
    kind: String,
    port: RawPort,
    external_hostname: Option<Json>,
    endpoint_selector: Option<RawSelector>,
    session_persistence: Option<RawSessionPersistence>,
    protocol: Option<String>,
    tls: Option<RawTls>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    number: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSelector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTls {
    mode: String,
    client_certificate_ref: Option<Json>,
    validation: Option<Json>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XBackend {
    pub metadata: Metadata,
    /// On its pods.
    pub port: u16,
    /// Pods of its namespace that have all of them.
    pub labels: BTreeMap<String, String>,
    /// None: as the client's request comes.
    pub protocol: Option<BackendProtocol>,
    /// A cookie may be without its name.
    pub session: Option<v1::SessionPersistence>,
    /// What it asks for and Weft cannot do. With any of them, nothing of it is in force.
    pub refusals: Vec<(Unsupported, Refusal)>,
}

/// The protocols that Weft speaks with a backend's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendProtocol {
    Http,
    Http11,
    H2c,
    Grpc,
}

/// Of what kind it is that Weft cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    Type,
    Protocol,
    Value,
}

const HOSTNAME: &str = "ExternalHostname";
const SELECTOR: &str = "EndpointSelector";

impl XBackend {
    pub fn parse(metadata: Metadata, raw: RawXBackend) -> Result<Self, FieldError> {
        let number = raw.port.number.ok_or_else(|| missing("spec.port.number"))?;
        let port = port("spec.port.number", number)?;
        let mode = mode(raw.tls.as_ref())?;
        fits("spec.externalHostname", raw.kind == HOSTNAME, raw.external_hostname.is_some())?;
        fits("spec.endpointSelector", raw.kind == SELECTOR, raw.endpoint_selector.is_some())?;
        if raw.session_persistence.is_some() && raw.kind != SELECTOR {
            let problem = format!("the type {} has no endpoints to choose from", shown(&raw.kind));
            return Err(FieldError::new("spec.sessionPersistence", problem, "remove it"));
        }
        let mut refusals = Vec::new();
        if names::NamespacedName::new("any", &names::x_backend(&metadata.name)).is_err() {
            let problem = format!("it has {} characters, and Weft takes 244", metadata.name.len());
            refusals.push((Unsupported::Value, Refusal::unsupported("metadata.name", &problem)));
        }
        match raw.kind.as_str() {
            SELECTOR => {}
            HOSTNAME => {
                let problem = "Weft leads to no ExternalHostname; select pods by type EndpointSelector";
                refusals.push((Unsupported::Type, Refusal::unsupported("spec.type", problem)));
            }
            other => refusals.push((Unsupported::Type, unknown("spec.type".to_owned(), other, SELECTOR))),
        }
        let protocol = protocol(raw.protocol.as_deref(), &mode, &mut refusals)?;
        if mode != "None" {
            let problem = format!(
                "Weft begins no TLS of mode {} with a backend; write None: between the mesh's pods all is mutual TLS",
                shown(&mode)
            );
            refusals.push((Unsupported::Protocol, Refusal::unsupported("spec.tls.mode", &problem)));
        }
        let mut of_session = Vec::new();
        let session = session("spec", raw.session_persistence, &mut of_session)?;
        refusals.extend(of_session.into_iter().map(|refusal| (Unsupported::Value, refusal)));
        let labels = raw.endpoint_selector.map(|selector| selector.match_labels).unwrap_or_default();
        if raw.kind == SELECTOR && !(1..=limits::BACKEND_LABELS).contains(&labels.len()) {
            let fix = format!("write 1 to {}", limits::BACKEND_LABELS);
            let problem = format!("it has {} labels", labels.len());
            return Err(FieldError::new("spec.endpointSelector.matchLabels", problem, fix));
        }
        Ok(Self { metadata, port, labels, protocol, session, refusals })
    }

    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}/{}", Kind::XBackend.as_str(), self.metadata.namespace, self.metadata.name)
    }

    /// The headless Service that leads to the same pods (GEP-4894, "Stop-Gap: Service Backing"). It is never written anywhere,
    /// and nobody can give another its name.
    #[must_use]
    pub fn as_service(&self) -> Service {
        let port = ServicePort {
            name: String::new(),
            port: self.port,
            target: TargetPort::Number(self.port),
            app_protocol: self.protocol.map(BackendProtocol::app_protocol).unwrap_or_default().to_owned(),
        };
        let Metadata { namespace, name, .. } = &self.metadata;
        let (namespace, name) = (namespace.clone(), names::x_backend(name));
        Service {
            metadata: Metadata { name, namespace, ..Metadata::default() },
            selector: self.labels.clone(),
            addresses: Vec::new(),
            addresses_left_out: 0,
            ports: vec![port],
            publish_not_ready_addresses: false,
            external_name: false,
            local: false,
            distribution: None,
            affinity_seconds: None,
        }
    }
}

impl BackendProtocol {
    /// As a Service's port declares it.
    fn app_protocol(self) -> &'static str {
        match self {
            Self::Http | Self::Http11 => "http",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
        }
    }
}

fn missing(path: &str) -> FieldError {
    FieldError::new(path, "it is missing", "add it")
}

/// A field that belongs to one value of another.
fn fits(path: &str, wanted: bool, written: bool) -> Result<(), FieldError> {
    match (wanted, written) {
        (true, false) => Err(missing(path)),
        (false, true) => Err(FieldError::new(path, "it does not go with the rest", "remove it")),
        (true, true) | (false, false) => Ok(()),
    }
}

fn mode(raw: Option<&RawTls>) -> Result<String, FieldError> {
    let Some(RawTls { mode, client_certificate_ref, validation }) = raw else { return Ok("None".to_owned()) };
    fits("spec.tls.clientCertificateRef", mode == "ClientAndServer", client_certificate_ref.is_some())?;
    fits("spec.tls.validation", mode != "None", validation.is_some())?;
    Ok(mode.clone())
}

fn protocol(
    written: Option<&str>,
    mode: &str,
    refusals: &mut Vec<(Unsupported, Refusal)>,
) -> Result<Option<BackendProtocol>, FieldError> {
    let path = "spec.protocol";
    let plain = mode == "None";
    let refused = match written {
        None => return Ok(None),
        Some("HTTP") => return Ok(Some(BackendProtocol::Http)),
        Some("HTTP11") => return Ok(Some(BackendProtocol::Http11)),
        Some("H2C") if plain => return Ok(Some(BackendProtocol::H2c)),
        Some("H2C") => return Err(FieldError::new(path, "H2C has no TLS", "write HTTP2, or remove spec.tls")),
        Some("GRPC") => return Ok(Some(BackendProtocol::Grpc)),
        Some(other @ ("HTTP2" | "WSS")) if plain => {
            return Err(FieldError::new(path, format!("{other} is within TLS"), "write H2C or HTTP, or add spec.tls"));
        }
        Some(other @ ("TCP" | "HTTP2" | "WSS" | "MCP")) => {
            let problem = format!("Weft does not speak {other} with the backend of a request");
            Refusal::unsupported(path, &problem)
        }
        Some(other) => unknown(path.to_owned(), other, "HTTP, HTTP11, H2C and GRPC"),
    };
    refusals.push((Unsupported::Protocol, refused));
    Ok(None)
}

fn shown(text: &str) -> String {
    text.chars().take(limits::OBJECT_NAME_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of type `EndpointSelector`, with these fields besides or instead.
    fn parse(more: &Json) -> Result<XBackend, FieldError> {
        let mut spec = json!({
            "type": SELECTOR, "port": {"number": 8080}, "endpointSelector": {"matchLabels": {"app": "cart"}},
        });
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let metadata = Metadata { name: "cart".to_owned(), namespace: "shop".to_owned(), ..Metadata::default() };
        XBackend::parse(metadata, serde_json::from_value(spec).unwrap())
    }

    const NONE: Json = Json::Null;

    #[test]
    fn a_backend_is_a_headless_service_of_its_own_name() {
        for (protocol, app_protocol) in [
            (NONE, ""),
            (json!("HTTP"), "http"),
            (json!("HTTP11"), "http"),
            (json!("H2C"), "h2c"),
            (json!("GRPC"), "grpc"),
        ] {
            let backend = parse(&json!({"protocol": protocol, "tls": {"mode": "None"}})).unwrap();
            assert_eq!((backend.refusals.as_slice(), backend.title().as_str()), (&[][..], "XBackend shop/cart"));
            let service = backend.as_service();
            assert_eq!(
                (service.metadata.namespace.as_str(), service.metadata.name.as_str()),
                ("shop", "xbackend.cart")
            );
            assert!(service.addresses.is_empty() && service.selector == backend.labels, "{service:?}");
            let port = &service.ports[0];
            assert_eq!((port.port, &port.target), (8080, &TargetPort::Number(8080)));
            assert_eq!(port.app_protocol, app_protocol, "{protocol}");
        }
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_by_name() {
        let many: BTreeMap<String, &str> = (0..65).map(|number| (format!("l{number}"), "")).collect();
        let hostname = json!({"hostname": "api.example.com"});
        for (more, path) in [
            (json!({"port": {}}), "spec.port.number"),
            (json!({"port": {"number": 0}}), "spec.port.number"),
            (json!({"endpointSelector": NONE}), "spec.endpointSelector"),
            (json!({"externalHostname": hostname}), "spec.externalHostname"),
            (json!({"type": HOSTNAME, "endpointSelector": NONE}), "spec.externalHostname"),
            (json!({"type": HOSTNAME, "externalHostname": hostname}), "spec.endpointSelector"),
            (json!({"endpointSelector": {"matchLabels": {}}}), "spec.endpointSelector.matchLabels"),
            (json!({"endpointSelector": {"matchLabels": many}}), "spec.endpointSelector.matchLabels"),
            (
                json!({"type": HOSTNAME, "externalHostname": hostname, "endpointSelector": NONE,
                       "sessionPersistence": {"cookie": {}}}),
                "spec.sessionPersistence",
            ),
            (json!({"sessionPersistence": {"type": "Header"}}), "spec.sessionPersistence.header"),
            (json!({"protocol": "HTTP2"}), "spec.protocol"),
            (json!({"protocol": "WSS"}), "spec.protocol"),
            (json!({"protocol": "H2C", "tls": {"mode": "ServerOnly", "validation": {}}}), "spec.protocol"),
            (json!({"tls": {"mode": "ServerOnly"}}), "spec.tls.validation"),
            (json!({"tls": {"mode": "ClientAndServer", "validation": {}}}), "spec.tls.clientCertificateRef"),
            (json!({"tls": {"mode": "None", "validation": {}}}), "spec.tls.validation"),
        ] {
            assert_eq!(parse(&more).unwrap_err().path, path, "{more}");
        }
    }

    #[test]
    fn what_weft_cannot_do_leaves_nothing_of_it_in_force_and_says_why() {
        let hostname =
            json!({"type": HOSTNAME, "externalHostname": {"hostname": "a.example"}, "endpointSelector": NONE});
        let within_tls =
            |protocol: &str| json!({"protocol": protocol, "tls": {"mode": "ServerOnly", "validation": {}}});
        let of_protocol = (Unsupported::Protocol, "spec.protocol");
        let of_tls = (Unsupported::Protocol, "spec.tls.mode");
        for (more, expected) in [
            (hostname, vec![(Unsupported::Type, "spec.type")]),
            (json!({"type": "Other", "endpointSelector": NONE}), vec![(Unsupported::Type, "spec.type")]),
            (json!({"protocol": "TCP"}), vec![of_protocol]),
            (json!({"protocol": "MCP"}), vec![of_protocol]),
            (json!({"protocol": "Other"}), vec![of_protocol]),
            (within_tls("HTTP2"), vec![of_protocol, of_tls]),
            (within_tls("WSS"), vec![of_protocol, of_tls]),
            (within_tls("HTTP"), vec![of_tls]),
            (
                json!({"sessionPersistence": {"cookie": {"path": "cart"}}}),
                vec![(Unsupported::Value, "spec.sessionPersistence.cookie.path")],
            ),
        ] {
            let backend = parse(&more).unwrap();
            let told: Vec<_> = backend.refusals.iter().map(|(kind, refusal)| (*kind, refusal.path.as_str())).collect();
            assert_eq!(told, expected, "{more}");
        }
    }
}
