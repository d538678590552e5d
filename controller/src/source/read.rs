//! One document becomes one object, or a list of what is wrong with it.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::defect::Defect;
use super::document::Document;
use super::{schema, yaml};
use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, EndpointSlice, FieldError, Key, Kind, MeshConfig, Metadata, Namespace,
    Object, Pod, RawMetadata, Route, Service, TrafficPolicy,
};

/// What a document gave.
#[derive(Debug, Clone)]
pub enum Read {
    Object {
        line: u64,
        object: Object,
        text: Arc<str>,
    },
    /// An object that is not Weft's business, such as a Deployment in the same file.
    Foreign,
    Broken {
        /// As far as it could be read.
        kind: Option<Kind>,
        key: Option<Key>,
        defects: Vec<Defect>,
    },
}

/// Reads one document of `file`.
#[must_use]
pub fn read(file: &Path, document: &Document) -> Read {
    let offset = document.first_line - 1;
    let node = match yaml::parse(&document.text) {
        Ok(node) => node,
        Err(error) => {
            let line = if error.line == 0 { document.first_line } else { offset + error.line };
            let defect = Defect {
                file: file.to_owned(),
                line,
                object: None,
                key: None,
                field: None,
                problem: format!("this is not YAML: {}", error.problem),
                fix: "repair it; the objects that this file held before stay in use until then".to_owned(),
            };
            return Read::Broken { kind: guess(&document.text), key: None, defects: vec![defect] };
        }
    };
    let subject = Subject { file, offset, node: &node };
    let kind = match subject.kind() {
        Ok(Some(kind)) => kind,
        Ok(None) => return Read::Foreign,
        Err(error) => return Read::Broken { kind: None, key: None, defects: vec![subject.defect(None, &error)] },
    };
    match subject.object(kind) {
        Ok(object) => Read::Object { line: offset + node.line, object, text: Arc::from(document.text.as_str()) },
        Err(errors) => {
            let key = subject.key(kind);
            let defects = errors.iter().map(|error| subject.defect(Some(kind), error)).collect();
            Read::Broken { kind: Some(kind), key, defects }
        }
    }
}

/// The kind of a document that is not YAML, by its line: whether it is the mesh's own must be known even then.
fn guess(text: &str) -> Option<Kind> {
    text.lines().find_map(|line| {
        let name = line.strip_prefix("kind:")?.trim().trim_matches(['"', '\'']);
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    })
}

struct Subject<'a> {
    file: &'a Path,
    /// Lines of the file before the document.
    offset: u64,
    node: &'a yaml::Node,
}

impl Subject<'_> {
    /// None: a kind that Weft has nothing to do with.
    fn kind(&self) -> Result<Option<Kind>, FieldError> {
        let text = |name: &str| {
            self.node.field(name).and_then(yaml::Node::text).ok_or_else(|| {
                FieldError::new(name, "it is missing or not a text", format!("say which {name} this object is of"))
            })
        };
        let (version, name) = (text("apiVersion")?, text("kind")?);
        let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == name && kind.is_written_as(version));
        if known.is_some() {
            return Ok(known);
        }
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let routes = [Kind::HttpRoute, Kind::GrpcRoute];
        if let Some(kind) = routes.into_iter().find(|kind| kind.as_str() == name && kind.group() == group) {
            let problem = format!("Weft does not read version {version:?} of it");
            return Err(FieldError::new("apiVersion", problem, format!("write {}", kind.api_version())));
        }
        if group != weft_crd::GROUP {
            return Ok(None);
        }
        let known = Kind::ALL.into_iter().filter(|kind| kind.api_version() == weft_crd::API_VERSION);
        let names: Vec<&str> = known.map(Kind::as_str).collect();
        if names.contains(&name) {
            return Err(FieldError::new(
                "apiVersion",
                format!("Weft has no version {version:?}"),
                format!("write {}", weft_crd::API_VERSION),
            ));
        }
        Err(FieldError::new("kind", format!("Weft has no kind {name:?}"), format!("write one of {}", names.join(", "))))
    }

    /// The object that this document is about, even if it is otherwise broken.
    fn key(&self, kind: Kind) -> Option<Key> {
        let metadata = self.node.field("metadata")?;
        let name = metadata.field("name")?.text()?;
        let namespace = match metadata.field("namespace").and_then(yaml::Node::text) {
            Some(namespace) if kind.is_namespaced() => namespace,
            None if kind.is_namespaced() => return None,
            _ => "",
        };
        Key::checked(kind, namespace, name)
    }

    fn defect(&self, kind: Option<Kind>, error: &FieldError) -> Defect {
        let object = match (kind.and_then(|kind| self.key(kind)), kind) {
            (Some(key), _) => Some(key.to_string()),
            (None, Some(kind)) => Some(self.nameless(kind.as_str())),
            (None, None) => self.node.field("kind").and_then(yaml::Node::text).map(|kind| self.nameless(kind)),
        };
        Defect {
            file: self.file.to_owned(),
            line: self.offset + self.node.line_of(&yaml::steps(&error.path)),
            object,
            key: kind.and_then(|kind| self.key(kind)),
            field: Some(error.path.clone()).filter(|path| !path.is_empty()),
            problem: error.problem.clone(),
            fix: error.fix.clone(),
        }
    }

    fn nameless(&self, kind: &str) -> String {
        let name = self.node.field("metadata").and_then(|metadata| metadata.field("name")).and_then(yaml::Node::text);
        format!("{kind} {}", name.unwrap_or("without a name"))
    }

    fn object(&self, kind: Kind) -> Result<Object, Vec<FieldError>> {
        let errors = schema::check(kind, self.node);
        if !errors.is_empty() {
            return Err(errors);
        }
        self.typed(kind).map_err(|error| vec![error])
    }

    fn typed(&self, kind: Kind) -> Result<Object, FieldError> {
        let json = self.node.to_json();
        Ok(match kind {
            Kind::Namespace => Object::Namespace(Arc::new(Namespace::parse(parse("", json)?)?)),
            Kind::Pod => Object::Pod(Arc::new(Pod::parse(parse("", json)?)?)),
            Kind::Service => Object::Service(Arc::new(Service::parse(parse("", json)?)?)),
            Kind::EndpointSlice => Object::EndpointSlice(Arc::new(EndpointSlice::parse(parse("", json)?)?)),
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
            Kind::HttpRoute => {
                let (metadata, spec) = parts(kind, json)?;
                Object::Route(Arc::new(Route::http(metadata, parse("spec", spec)?)?))
            }
            Kind::GrpcRoute => {
                let (metadata, spec) = parts(kind, json)?;
                Object::Route(Arc::new(Route::grpc(metadata, parse("spec", spec)?)?))
            }
        })
    }
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
