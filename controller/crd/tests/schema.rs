//! Walks the generated schemas: nothing in them is unbounded, no object of a rule may be empty, and names are unique.

#![expect(clippy::expect_used, reason = "a test ends where its ground is missing")]

use std::collections::BTreeSet;

use serde_json::Value;

fn definitions() -> Vec<Value> {
    weft_crd::definitions()
        .into_iter()
        .map(|definition| serde_json::to_value(definition).expect("a definition is JSON"))
        .collect()
}

fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Calls `visit` with every schema below (and with) this one, and its path.
fn walk<'a>(schema: &'a Value, path: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(property, &format!("{path}.{name}"), visit);
        }
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), visit);
    }
}

fn faults() -> Vec<String> {
    let mut faults = Vec::new();
    for definition in &definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind");
        for part in ["spec", "status"] {
            walk(&schema(definition)["properties"][part], &format!("{kind}.{part}"), &mut |path, schema| {
                faults.extend(fault(schema).map(|fault| format!("{path}: {fault}")));
            });
        }
    }
    faults
}

fn fault(schema: &Value) -> Option<&'static str> {
    // A null that is kept would be read as an omitted field, which matches anything.
    for absent in ["nullable", "oneOf", "anyOf", "not", "x-kubernetes-preserve-unknown-fields"] {
        if !schema[absent].is_null() {
            return Some("the schema is not a plain structural one");
        }
    }
    match schema["type"].as_str() {
        Some("string") if schema["enum"].is_null() && schema["maxLength"].is_null() => {
            Some("a string without maxLength")
        }
        Some("array") if schema["maxItems"].is_null() => Some("a list without maxItems"),
        Some("integer") if schema["format"].as_str() == Some("int64") && schema["minimum"].is_null() => {
            Some("an int64 without minimum")
        }
        Some("integer") if !matches!(schema["format"].as_str(), Some("int32" | "int64")) => {
            Some("an integer of another format")
        }
        Some("integer")
            if schema["format"] == "int32" && (schema["minimum"].is_null() || schema["maximum"].is_null()) =>
        {
            Some("a number without bounds")
        }
        Some("object") if schema["additionalProperties"].is_object() && schema["maxProperties"].is_null() => {
            Some("a map without maxProperties")
        }
        Some("string" | "array" | "integer" | "object" | "boolean") => None,
        _ => Some("no type that the API server prunes by"),
    }
}

#[test]
fn everything_is_bounded() {
    assert_eq!(faults(), Vec::<String>::new());
}

#[test]
fn no_object_of_a_rule_may_be_empty() {
    let mut seen = 0;
    for definition in &definitions() {
        walk(&schema(definition)["properties"]["spec"], "spec", &mut |path, schema| {
            if path.contains("[]") && schema["properties"].is_object() {
                seen += 1;
                assert_eq!(schema["minProperties"], 1, "{path} may be empty");
            }
        });
    }
    assert!(seen >= 8, "only {seen} objects inside lists were found");
}

/// A default is filled in before the API server counts fields.
#[test]
fn no_default_fills_an_object_that_says_nothing() {
    for definition in &definitions() {
        walk(&schema(definition)["properties"]["spec"], "spec", &mut |path, schema| {
            let properties = schema["properties"].as_object().into_iter().flat_map(serde_json::Map::values);
            let filled = properties.filter(|property| !property["default"].is_null()).count();
            if schema["minProperties"] == 1 && filled > 0 {
                assert!(schema["required"].is_array(), "{path} is never empty");
            }
        });
    }
}

#[test]
fn definitions_are_kept_and_say_of_which_release_they_are() {
    for definition in &definitions() {
        let annotations = &definition["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(annotations[weft_crd::BUNDLE_VERSION], env!("CARGO_PKG_VERSION"));
        assert_eq!(definition["spec"]["versions"][0]["subresources"], serde_json::json!({ "status": {} }));
        assert!(!definition.to_string().contains("{{"), "Helm would take it for a template");
    }
}

#[test]
fn names_are_unique_and_say_weft() {
    let mut names = BTreeSet::new();
    for definition in &definitions() {
        let spec = &definition["spec"]["names"];
        assert_eq!(spec["categories"], serde_json::json!(["weft"]));
        let short = spec["shortNames"][0].as_str().expect("a short name");
        assert!(short.starts_with("weft"), "{short} may be another mesh's");
        assert!(names.insert(short.to_owned()), "{short} is there twice");
        assert!(definition["spec"]["versions"][0]["additionalPrinterColumns"].is_array());
    }
}

#[test]
fn a_mistyped_field_is_refused() {
    let refused = serde_json::from_str::<weft_crd::Source>(r#"{"identitie": ["x"]}"#);
    let message = refused.expect_err("a typo was read").to_string();
    assert!(message.contains("identitie"), "{message}");
}
