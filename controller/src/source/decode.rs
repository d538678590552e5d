//! One object out of its fields: the same from a file and from the API.
//!
//! Invariant: what passes here is within the schema of its kind, whoever checked it before. Absent: where it was written.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{schema, yaml};
use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, BackendTrafficPolicy, Caller, EndpointSlice, FieldError, Kind,
    MeshConfig, Metadata, Namespace, Node, Object, Pod, RawMetadata, ReferenceGrant, Route, Service, TrafficPolicy,
    XBackend, XMesh,
};

pub fn object(kind: Kind, node: &yaml::Node) -> Result<Object, Vec<FieldError>> {
    let errors = schema::check(kind, node);
    if !errors.is_empty() {
        return Err(errors);
    }
    typed(kind, node.to_json()).map_err(|error| vec![error])
}

/// Of core kinds, whose unknown fields are skipped: there is no schema to check.
pub fn core(kind: Kind, json: Json) -> Result<Object, Vec<FieldError>> {
    typed(kind, json).map_err(|error| vec![error])
}

fn typed(kind: Kind, json: Json) -> Result<Object, FieldError> {
    Ok(match kind {
        Kind::Namespace => Object::Namespace(Arc::new(Namespace::parse(parse("", json)?)?)),
        Kind::Node => Object::Node(Arc::new(Node::parse(parse("", json)?)?)),
        Kind::Pod => Object::Pod(Arc::new(Pod::parse(parse("", json)?)?)),
        Kind::Service => Object::Service(Arc::new(Service::parse(parse("", json)?)?)),
        Kind::EndpointSlice => Object::EndpointSlice(Arc::new(EndpointSlice::parse(parse("", json)?)?)),
        Kind::ValidatingWebhooks | Kind::MutatingWebhooks | Kind::ApiService | Kind::Definition => {
            Object::Caller(Arc::new(Caller::parse(kind, parse("", json)?)?))
        }
        Kind::MeshConfig => {
            let (metadata, spec) = parts(kind, json)?;
            Object::MeshConfig(Arc::new(MeshConfig::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::AuthenticationPolicy => {
            let (metadata, spec) = parts(kind, json)?;
            Object::AuthenticationPolicy(Arc::new(AuthenticationPolicy::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::AuthorizationPolicy => {
            let (metadata, spec) = parts(kind, json)?;
            Object::AuthorizationPolicy(Arc::new(AuthorizationPolicy::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::TrafficPolicy => {
            let (metadata, spec) = parts(kind, json)?;
            Object::TrafficPolicy(Arc::new(TrafficPolicy::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::HttpRoute => route(kind, json, Route::http)?,
        Kind::GrpcRoute => route(kind, json, Route::grpc)?,
        Kind::TlsRoute => route(kind, json, Route::tls)?,
        Kind::TcpRoute => route(kind, json, Route::tcp)?,
        Kind::ReferenceGrant => {
            let (metadata, spec) = parts(kind, json)?;
            Object::ReferenceGrant(Arc::new(ReferenceGrant::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::BackendTrafficPolicy => {
            let (metadata, spec) = parts(kind, json)?;
            Object::BackendTrafficPolicy(Arc::new(BackendTrafficPolicy::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::XBackend => {
            let (metadata, spec) = parts(kind, json)?;
            Object::XBackend(Arc::new(XBackend::parse(metadata, parse("spec", spec)?)?))
        }
        Kind::XMesh => {
            let (metadata, spec) = parts(kind, json)?;
            Object::XMesh(Arc::new(XMesh::new(metadata, parse("spec", spec)?)))
        }
    })
}

fn route<Raw: DeserializeOwned>(
    kind: Kind,
    json: Json,
    read: fn(Metadata, Raw) -> Result<Route, FieldError>,
) -> Result<Object, FieldError> {
    let (metadata, spec) = parts(kind, json)?;
    Ok(Object::Route(Arc::new(read(metadata, parse("spec", spec)?)?)))
}

fn parts(kind: Kind, mut json: Json) -> Result<(Metadata, Json), FieldError> {
    let metadata = parse::<RawMetadata>("metadata", json["metadata"].take())?;
    Ok((Metadata::parse(kind, metadata)?, json["spec"].take()))
}

fn parse<T: DeserializeOwned>(root: &str, json: Json) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let inner = error.path().to_string();
        let path = match (root, inner.as_str()) {
            (root, ".") => root.to_owned(),
            ("", inner) => inner.to_owned(),
            (root, inner) => format!("{root}.{inner}"),
        };
        let problem = error.into_inner().to_string();
        let fix = if problem.starts_with("unknown field") {
            "write one of these fields, or remove it"
        } else if problem.starts_with("missing field") {
            "add it"
        } else {
            "write a value of that type (quotes make a text)"
        };
        FieldError::new(path, problem, fix)
    })
}
