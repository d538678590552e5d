//! The definitions of all kinds, as the API server gets them.
//!
//! What the derive leaves open is closed here: no field takes null, and every definition says of which bundle it is. Helm
//! keeps them: with a definition go all objects of its kind. Where a client sends null, server-side apply refuses it
//! and every other write leaves the field out, as the API server does with all kinds.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt as _;

use crate::{AuthenticationPolicy, AuthorizationPolicy, MESH_CONFIG_NAME, MeshConfig, TrafficPolicy};

/// The annotation of a definition that says of which release it is.
pub const BUNDLE_VERSION: &str = "weft.dev/bundle-version";

/// The definitions of all kinds, as `kubectl apply` takes them.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut mesh = MeshConfig::crd();
    let only_name = ValidationRule {
        rule: format!("self.metadata.name == '{MESH_CONFIG_NAME}'"),
        message: Some(format!("a cluster has one MeshConfig, and its name is {MESH_CONFIG_NAME}")),
        ..ValidationRule::default()
    };
    for schema in schemas(&mut mesh) {
        schema.x_kubernetes_validations.get_or_insert_default().push(only_name.clone());
    }
    let mut all = vec![mesh, AuthenticationPolicy::crd(), AuthorizationPolicy::crd(), TrafficPolicy::crd()];
    for definition in &mut all {
        definition.metadata.annotations = Some(annotations());
        for schema in schemas(definition) {
            schema.description = schema.properties.as_ref().and_then(|parts| parts.get("spec")?.description.clone());
            without_null(schema);
        }
    }
    all
}

fn annotations() -> BTreeMap<String, String> {
    let texts = [(BUNDLE_VERSION, env!("CARGO_PKG_VERSION")), ("helm.sh/resource-policy", "keep")];
    texts.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn schemas(definition: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        without_null(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => without_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(without_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        without_null(values);
    }
}
