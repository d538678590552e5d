//! What the API server sends of an object, made slim, and what Weft reads of it.

use std::sync::Arc;

use kube::core::DynamicObject;
use serde_json::{Map, Value as Json, json};

use super::answer::{self, Digest};
use crate::limits;
use crate::object::{
    FieldError, Key, Kind, MIRROR_ANNOTATION, Object, Origin, Parent, is_of_core_group, names_a_service,
};
use crate::source::reading::Broken;
use crate::source::{Defect, decode, yaml};

/// One object of the API.
#[derive(Debug)]
pub struct Found {
    pub key: Key,
    /// None: it cannot be read, or (without defects) is not ours.
    pub object: Option<Object>,
    /// In force where no last good version is known.
    pub fallback: Option<Object>,
    pub defects: Vec<Defect>,
    /// Of custom kinds, if it cannot be read.
    pub broken: Option<Broken>,
    /// Of kinds whose last good version is kept over a restart.
    pub text: Option<Arc<str>>,
    pub answer: Option<Digest>,
}

pub fn key(kind: Kind, object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
    Key { kind, namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
}

pub fn found(kind: Kind, mut object: DynamicObject) -> Found {
    let key = key(kind, &object);
    let generation = object.metadata.generation;
    let metadata = slim(&mut object);
    let mut found =
        Found { key, object: None, fallback: None, defects: vec![], broken: None, text: None, answer: None };
    if kind.has_status() {
        found.answer = answer::digest(&answer::divide(kind, &object.data).0);
    }
    let errors = if kind.origin() == Origin::Core {
        let mut whole = object.data;
        whole["metadata"] = metadata;
        core(kind, whole, &mut found)
    } else {
        custom(kind, metadata, object.data, &mut found)
    };
    let errors = errors.into_iter().take(limits::DEFECTS_PER_OBJECT);
    found.defects = errors.map(|error| defect(&found.key, error)).collect();
    if let Some(broken) = &mut found.broken {
        broken.generation = generation;
    }
    found
}

/// Of custom kinds, which are checked as strictly as a file. What is wrong with it.
fn custom(kind: Kind, metadata: Json, mut data: Json, found: &mut Found) -> Vec<FieldError> {
    let route = kind.is_route();
    let parents = if route { service_parents(&data["spec"]) } else { Vec::new() };
    let is_foreign = (route && parents.is_empty())
        || (kind == Kind::BackendTrafficPolicy && !names_a_service(&data["spec"]))
        || (kind == Kind::XMesh && data["spec"]["controllerName"] != weft_crd::CONTROLLER_NAME);
    let mut json = Map::from_iter([("metadata".to_owned(), metadata)]);
    let fields = data.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "status");
    json.extend(fields.map(|(name, value)| (name.clone(), value.take())));
    let json = written(kind, json);
    found.text = Some(Arc::from(json.to_string()));
    match decode::object(kind, &yaml::Node::from_json(&json)) {
        Ok(object) => {
            found.object = Some(object);
            Vec::new()
        }
        // Another controller's: what we cannot read of it is no fault.
        Err(_) if is_foreign => Vec::new(),
        Err(errors) => {
            found.broken = Some(Broken { generation: None, parents });
            errors
        }
    }
}

/// As a file has it.
fn written(kind: Kind, mut json: Map<String, Json>) -> Json {
    json.insert("apiVersion".to_owned(), kind.api_version().into());
    json.insert("kind".to_owned(), kind.as_str().into());
    Json::Object(json)
}

/// Parents of a route that are Services, whatever else is in it.
fn service_parents(spec: &Json) -> Vec<Parent> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let mut parents = Vec::new();
    for raw in spec["parentRefs"].as_array().into_iter().flatten().take(limits::PARENTS_PER_ROUTE) {
        let group = raw["group"].as_str().filter(|group| is_of_core_group(group) && raw["kind"] == "Service");
        let (Some(group), Some(name)) = (group, text(&raw["name"])) else { continue };
        let parent = Parent {
            group: group.to_owned(),
            namespace: text(&raw["namespace"]),
            name,
            port: raw["port"].as_u64().and_then(|port| port.try_into().ok()),
            section: text(&raw["sectionName"]),
        };
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    parents
}

/// Of core kinds. An author must not leave the mesh by a word that nobody can read: on a pod such a word counts for
/// nothing, and on a namespace of which no better version is known it is read as the strictest. What is wrong with it.
fn core(kind: Kind, mut whole: Json, found: &mut Found) -> Vec<FieldError> {
    if kind == Kind::Namespace {
        let metadata = Map::from_iter([("metadata".to_owned(), whole["metadata"].clone())]);
        found.text = Some(Arc::from(written(kind, metadata).to_string()));
    }
    let mut refused = Vec::new();
    loop {
        let spare = speaks(kind, &whole).then(|| whole.clone());
        match decode::core(kind, whole) {
            Ok(object) if kind == Kind::Namespace && !refused.is_empty() => {
                found.fallback = Some(object);
                return refused;
            }
            // One that has nobody called means nothing, and most are like that.
            Ok(Object::Caller(caller)) if caller.services.is_empty() => return refused,
            Ok(object) => {
                found.object = Some(object);
                return refused;
            }
            Err(errors) => {
                let mended = spare.and_then(|spare| without_words(kind, spare, &errors));
                refused.extend(errors);
                let Some(mended) = mended else { return refused };
                whole = mended;
            }
        }
    }
}

/// Its author has a word for us, so that it may have to be read twice.
fn speaks(kind: Kind, whole: &Json) -> bool {
    let ours = |words: &Json| words.as_object().is_some_and(|words| words.keys().any(|name| is_ours(name)));
    let metadata = &whole["metadata"];
    matches!(kind, Kind::Pod | Kind::Namespace) && (ours(&metadata["labels"]) || ours(&metadata["annotations"]))
}

fn is_ours(name: &str) -> bool {
    name.starts_with("weft.dev/")
}

/// None: what is wrong is no word of its author to us.
fn without_words(kind: Kind, mut whole: Json, errors: &[FieldError]) -> Option<Json> {
    let mut mended = false;
    for list in ["labels", "annotations"] {
        let Some(words) = whole["metadata"][list].as_object_mut() else { continue };
        let wrong = |name: &String| {
            let path = format!("metadata.{list}[{name}]");
            is_ours(name) && errors.iter().any(|error| error.path.starts_with(&path))
        };
        let all: Vec<String> = words.keys().filter(|name| wrong(name)).cloned().collect();
        for name in all {
            match (kind, name.as_str()) {
                (Kind::Namespace, weft_crd::CAPTURE) => words.insert(name, "enabled".into()),
                (Kind::Namespace, weft_crd::ON_AGENT_FAILURE) => words.insert(name, "closed".into()),
                _ => words.remove(&name),
            };
            mended = true;
        }
    }
    mended.then_some(whole)
}

/// The metadata alone, as far as it means something. Of annotations that is Weft's own, but for the one that is a
/// directory's alone, and the kubelet's mark of a pod that anybody with its credential can forge.
fn slim(object: &mut DynamicObject) -> Json {
    let metadata = &mut object.metadata;
    metadata.managed_fields = None;
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == MIRROR_ANNOTATION || (is_ours(name) && name != weft_crd::NETNS));
    }
    serde_json::to_value(&*metadata).unwrap_or_else(|_| json!({}))
}

fn defect(key: &Key, error: FieldError) -> Defect {
    Defect {
        file: None,
        line: 0,
        object: Some(key.to_string()),
        key: Some(key.clone()),
        field: Some(error.path).filter(|path| !path.is_empty()),
        problem: error.problem,
        fix: error.fix,
    }
}
