//! One YAML document as a tree in which every value knows its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::Spanned;

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// From 1 within the document.
    pub line: u64,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_line: u64,
    pub value: Node,
}

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Text that is not YAML: where, and why.
#[derive(Debug)]
pub struct SyntaxError {
    /// From 1 within the document; 0 if unknown.
    pub line: u64,
    pub problem: String,
}

/// Parses one document. Duplicate keys are errors; nesting, aliases and size are within the parser's budget.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let rendered = error.without_snippet().to_string();
        SyntaxError {
            line: error.location().map_or(0, |location| location.line()),
            problem: rendered.lines().next().unwrap_or("it is not YAML").to_owned(),
        }
    })
}

impl Node {
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value),
            Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                None
            }
        }
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        }
    }

    /// The line of what `steps` lead to, or of the nearest thing above it that exists.
    #[must_use]
    pub fn line_of(&self, steps: &[Step]) -> u64 {
        self.line_below(steps, self.line)
    }

    /// `above` is the line where this value is named.
    fn line_below(&self, steps: &[Step], above: u64) -> u64 {
        let Some((step, rest)) = steps.split_first() else { return above };
        match (step, &self.value) {
            (Step::Key(key), Value::Map(entries)) => entries
                .iter()
                .find(|entry| entry.key == *key)
                .map_or(above, |entry| entry.value.line_below(rest, entry.key_line)),
            (Step::Index(index), Value::List(items)) => {
                items.get(*index).map_or(above, |item| item.line_below(rest, item.line))
            }
            _ => above,
        }
    }

    /// A tree without lines.
    #[must_use]
    pub fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => {
                number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Integer)
            }
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry { key: key.clone(), key_line: 0, value: Self::from_json(value) })
                    .collect(),
            ),
        };
        Self { line: 0, value }
    }

    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Boolean(value) => Json::Bool(*value),
            Value::Integer(value) => Json::from(*value),
            Value::Float(value) => Json::from(*value),
            Value::Text(value) => Json::String(value.clone()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }
}

/// Reads `spec.rules[0].metadata.labels[weft.dev/capture]`; what stands in brackets and is no number is a key.
#[must_use]
pub fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let (inside, after) = bracket.split_once(']').unwrap_or((bracket, ""));
            steps.push(inside.parse().map_or_else(|_| Step::Key(inside.to_owned()), Step::Index));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                steps.push(Step::Key(rest[..end].to_owned()));
            }
            rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        }
    }
    steps
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value).map(Value::Integer).map_err(|_| E::custom(format!("{value} is too large")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push(Entry { key_line: key.referenced.line(), key: key.value, value: entries.next_value()? });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let node = parse("kind: Pod\nspec:\n  list:\n    - a\n    - b: 1\n      c: true\n  empty:\n").unwrap();
        for (path, line) in
            [("kind", 1), ("spec", 2), ("spec.list", 3), ("spec.list[1]", 5), ("spec.list[1].c", 6), ("spec.absent", 2)]
        {
            assert_eq!(node.line_of(&steps(path)), line, "{path}");
        }
        assert_eq!(
            node.to_json(),
            serde_json::json!({"kind": "Pod", "spec": {"list": ["a", {"b": 1, "c": true}], "empty": null}})
        );
    }

    #[test]
    fn scalars_are_what_the_api_server_takes_them_for() {
        let node = parse("a: \"8080\"\nb: 8080\nc: 'true'\nd: ~\ne: 2026-01-01T00:00:00Z\nf: 10.0.0.1\n").unwrap();
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": "8080", "b": 8080, "c": "true", "d": null, "e": "2026-01-01T00:00:00Z", "f": "10.0.0.1"})
        );
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        assert_eq!(parse("a: 1\nb: [1,\nc: 2\n").unwrap_err().line, 2);
        assert_eq!(parse("a: 1\na: 2\n").unwrap_err().line, 2);
    }

    #[test]
    fn a_path_names_its_steps() {
        let key = |text: &str| Step::Key(text.to_owned());
        assert_eq!(
            steps("metadata.labels[weft.dev/capture]"),
            [key("metadata"), key("labels"), key("weft.dev/capture")]
        );
        assert_eq!(
            steps("spec.rules[0].from[12].cidrs"),
            [key("spec"), key("rules"), Step::Index(0), key("from"), Step::Index(12), key("cidrs")]
        );
    }
}
