//! Holds a document against the schema of its kind, as the API server would, so that a directory is no laxer.
//!
//! Knows what Weft's generated schemas use: types, bounds, enums, required and unknown fields.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::yaml::{Node, Value};
use crate::limits;
use crate::object::{FieldError, Kind};

static DEFINITIONS: LazyLock<Vec<Json>> = LazyLock::new(|| {
    weft_crd::definitions().iter().filter_map(|definition| serde_json::to_value(definition).ok()).collect()
});

/// What is wrong in `spec`, at most [`limits::DEFECTS_PER_OBJECT`] things. Of kinds that are not Weft's own,
/// those of Gateway API alone are looked at, from outside.
#[must_use]
pub fn check(kind: Kind, document: &Node) -> Vec<FieldError> {
    let definition = DEFINITIONS.iter().find(|definition| definition["spec"]["names"]["kind"] == kind.as_str());
    let Some(definition) = definition else { return foreign(kind, document) };
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut errors = Vec::new();
    match document.field("spec") {
        Some(spec) => visit(schema, spec, "spec", &mut errors),
        None => errors.push(FieldError::new("spec", "it is missing", "add it")),
    }
    others(document, &mut errors);
    errors.truncate(limits::DEFECTS_PER_OBJECT);
    errors
}

/// Those of Gateway API have types of their own that refuse unknown fields; core kinds have many that Weft does not know.
fn foreign(kind: Kind, document: &Node) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if kind.is_of_gateway_api() {
        others(document, &mut errors);
        if document.field("spec").is_none() {
            errors.push(FieldError::new("spec", "it is missing", "add it"));
        }
    }
    errors
}

/// What stands beside `spec`.
fn others(document: &Node, errors: &mut Vec<FieldError>) {
    let Value::Map(entries) = &document.value else { return };
    for entry in entries {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&entry.key.as_str()) {
            errors.push(unknown(&entry.key, &entry.key, ["spec", "metadata", "status"].into_iter()));
        }
    }
}

fn visit(schema: &Json, node: &Node, path: &str, errors: &mut Vec<FieldError>) {
    if errors.len() >= limits::DEFECTS_PER_OBJECT {
        return;
    }
    match (schema["type"].as_str(), &node.value) {
        (Some("object"), Value::Map(_)) => object(schema, node, path, errors),
        (Some("array"), Value::List(items)) => {
            at_most(schema, "maxItems", items.len(), path, "entries", errors);
            at_least(schema, "minItems", items.len(), path, "entries", errors);
            for (index, item) in items.iter().enumerate() {
                visit(&schema["items"], item, &format!("{path}[{index}]"), errors);
            }
        }
        (Some("string"), Value::Text(text)) => string(schema, text, path, errors),
        (Some("integer"), Value::Integer(number)) => integer(schema, *number, path, errors),
        (Some("boolean"), Value::Boolean(_)) => {}
        (_, Value::Null) if schema["nullable"] == true => {}
        (Some(expected), found) => errors.push(FieldError::new(
            path,
            format!("expected {}, found {}", with_article(expected), describe(found)),
            hint(expected, found),
        )),
        (None, _) => {}
    }
}

fn object(schema: &Json, node: &Node, path: &str, errors: &mut Vec<FieldError>) {
    let Value::Map(entries) = &node.value else { return };
    at_most(schema, "maxProperties", entries.len(), path, "fields", errors);
    let known = schema["properties"].as_object();
    for entry in entries {
        match known.and_then(|known| known.get(&entry.key)) {
            Some(schema) => visit(schema, &entry.value, &format!("{path}.{}", entry.key), errors),
            None if schema["additionalProperties"].is_object() => {
                visit(&schema["additionalProperties"], &entry.value, &format!("{path}[{}]", entry.key), errors);
            }
            None => {
                let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                errors.push(unknown(&format!("{path}.{}", entry.key), &entry.key, names));
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if node.field(name).is_none() {
            errors.push(FieldError::new(format!("{path}.{name}"), "it is missing", "add it"));
        }
    }
    if schema["minProperties"] == 1 && entries.is_empty() {
        errors.push(FieldError::new(path, "it is empty, and would match everything", "say something or remove it"));
    }
}

fn string(schema: &Json, text: &str, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    at_most(schema, "maxLength", length, path, "characters", errors);
    at_least(schema, "minLength", length, path, "characters", errors);
    let values = schema["enum"].as_array().filter(|values| !values.iter().any(|value| value == text));
    if let Some(values) = values {
        let names: Vec<&str> = values.iter().filter_map(Json::as_str).collect();
        let fix = format!("write {}", names.join(" or "));
        errors.push(FieldError::new(path, format!("{text:?} is not one of its values"), fix));
    }
}

fn integer(schema: &Json, number: i64, path: &str, errors: &mut Vec<FieldError>) {
    // Bounds are written as floating-point numbers by the derive.
    #[expect(clippy::cast_possible_truncation, reason = "the bounds of our own schemas are small whole numbers")]
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (minimum, maximum) = (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX));
    if number < minimum || number > maximum {
        let fix = format!("write a number from {minimum} to {maximum}");
        errors.push(FieldError::new(path, format!("{number} is out of range"), fix));
    }
}

fn at_most(schema: &Json, bound: &str, count: usize, path: &str, what: &str, errors: &mut Vec<FieldError>) {
    if let Some(limit) = schema[bound].as_u64().filter(|limit| count as u64 > *limit) {
        errors.push(FieldError::new(path, format!("it has {count} {what}"), format!("{limit} are allowed")));
    }
}

fn at_least(schema: &Json, bound: &str, count: usize, path: &str, what: &str, errors: &mut Vec<FieldError>) {
    if let Some(limit) = schema[bound].as_u64().filter(|limit| (count as u64) < *limit) {
        errors.push(FieldError::new(path, format!("it has {count} {what}"), format!("at least {limit} are needed")));
    }
}

fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    let nearest = known.map(|candidate| (distance(name, candidate), candidate)).min();
    let fix = match nearest {
        Some((steps, candidate)) if steps <= 1 + name.len() / 3 => format!("did you mean {candidate}?"),
        _ => "remove it".to_owned(),
    };
    FieldError::new(path, "it is not a field that Weft knows", fix)
}

/// Levenshtein's distance, case-insensitive. Names are short.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

fn with_article(expected: &str) -> String {
    match expected {
        "array" => "a list".to_owned(),
        "object" => "a map of fields".to_owned(),
        "integer" => "a whole number".to_owned(),
        other => format!("a {other}"),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Boolean(value) => format!("the boolean {value}"),
        Value::Integer(value) => format!("the number {value}"),
        Value::Float(value) => format!("the number {value}"),
        Value::Text(value) => format!("the text {value:?}"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map of fields".to_owned(),
    }
}

fn hint(expected: &str, found: &Value) -> String {
    match (expected, found) {
        ("string", Value::Boolean(_) | Value::Integer(_) | Value::Float(_)) => "put it in quotes".to_owned(),
        ("integer" | "boolean", Value::Text(_)) => "remove the quotes, or write another value".to_owned(),
        ("array", _) => "begin each entry with a dash".to_owned(),
        _ => format!("write {}", with_article(expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::yaml;

    fn check_spec(spec: &str, expected: &[(&str, &str)]) {
        let text = format!("spec:\n{spec}");
        let node = yaml::parse(&text).unwrap();
        let found = check(Kind::AuthorizationPolicy, &node);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((path, part), message) in expected.iter().zip(&found) {
            assert!(message.starts_with(&format!("{path}: ")) && message.contains(part), "{message}");
        }
    }

    const HEAD: &str = "  targetRefs: [{kind: Pod}]\n  action: Allow\n";

    #[test]
    fn a_good_policy_passes() {
        check_spec(&format!("{HEAD}  rules:\n  - from: [{{namespaces: [shop]}}]\n    to: [{{ports: [80]}}]\n"), &[]);
    }

    #[test]
    fn each_kind_of_mistake_names_field_and_fix() {
        check_spec(&format!("{HEAD}  rules: [{{}}]\n"), &[("spec.rules[0]", "would match everything")]);
        check_spec(
            &format!("{HEAD}  rules: [{{from: [{{namespace: [a]}}]}}]\n"),
            &[("spec.rules[0].from[0].namespace", "did you mean namespaces?")],
        );
        check_spec(
            &format!("{HEAD}  rules: [{{to: [{{ports: ['80']}}]}}]\n"),
            &[("spec.rules[0].to[0].ports[0]", "remove the quotes")],
        );
        check_spec(
            &format!("{HEAD}  rules: [{{to: [{{ports: [70000]}}]}}]\n"),
            &[("spec.rules[0].to[0].ports[0]", "from 1 to 65535")],
        );
        check_spec(
            "  targetRefs: [{kind: Pod}]\n  action: allow\n",
            &[("spec.action", "write Allow or Deny or Audit")],
        );
        check_spec("  action: Deny\n", &[("spec.targetRefs", "missing")]);
        check_spec("  targetRefs: []\n  action: Deny\n", &[("spec.targetRefs", "at least 1")]);
        check_spec(&format!("{HEAD}  dryRun: 'true'\n"), &[("spec.dryRun", "a boolean")]);
    }
}
