//! Objects as YAML that a person likes to read: block style, strings quoted where YAML would guess.

use serde_json::Value;

/// The document of one object.
#[must_use]
pub fn document(object: &Value) -> String {
    let mut text = String::new();
    write_block(&mut text, object, 0);
    text
}

fn write_block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                indent(text, depth);
                text.push_str(&scalar(name));
                text.push(':');
                write_after_colon(text, field, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text, depth);
                text.push('-');
                write_item(text, item, depth);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            indent(text, depth);
            text.push_str(&inline(value));
            text.push('\n');
        }
    }
}

fn write_after_colon(text: &mut String, field: &Value, depth: usize) {
    if is_block(field) {
        text.push('\n');
        write_block(text, field, if field.is_array() { depth } else { depth + 1 });
    } else {
        text.push(' ');
        text.push_str(&inline(field));
        text.push('\n');
    }
}

/// The first line of an item stands beside its dash; the rest is two columns further in.
fn write_item(text: &mut String, item: &Value, depth: usize) {
    let mut block = String::new();
    write_block(&mut block, item, depth + 1);
    text.push(' ');
    text.push_str(block.trim_start());
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty())
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A word stays bare; whatever YAML could take for something else is quoted as JSON, which YAML reads.
fn scalar(text: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/') && text.chars().all(safe);
    let guessed = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && !guessed.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_reads_as_people_write_it() {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "labels": {}},
            "spec": {"clusterIP": "10.96.0.10", "flag": "true", "ports": [{"name": "http", "port": 80}], "list": [["a"], 1]}
        });
        let expected = "apiVersion: v1\nkind: Service\nmetadata:\n  labels: {}\n  name: web\nspec:\n  clusterIP: \"10.96.0.10\"\n  \
                        flag: \"true\"\n  list:\n  - - a\n  - 1\n  ports:\n  - name: http\n    port: 80\n";
        assert_eq!(document(&object), expected);
    }
}
