//! One document becomes one object, or a list of what is wrong with it.

use std::path::Path;
use std::sync::Arc;

use super::defect::Defect;
use super::document::Document;
use super::{decode, yaml};
use crate::object::{FieldError, Key, Kind, Object};

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
                file: Some(file.to_owned()),
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
    match decode::object(kind, &node) {
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
        let mut optional = Kind::ALL.into_iter().filter(|kind| kind.is_of_gateway_api());
        if let Some(kind) = optional.find(|kind| kind.as_str() == name && kind.group() == group) {
            let problem = format!("Weft does not read version {version:?} of it");
            return Err(FieldError::new("apiVersion", problem, format!("write {}", kind.api_version())));
        }
        if group != weft_crd::GROUP {
            return Ok(None);
        }
        let known = Kind::ALL.into_iter().filter(|kind| kind.group() == weft_crd::GROUP);
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
            file: Some(self.file.to_owned()),
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
}
