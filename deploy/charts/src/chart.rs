//! A chart, and what it becomes with a user's values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::files::{self, File};
use crate::order;
use crate::template::{Template, TemplateError};
use crate::values::Values;

/// Where a chart's objects go.
#[derive(Debug, Clone)]
pub struct Release {
    pub name: String,
    pub namespace: String,
}

/// One object of a chart, as it was rendered.
#[derive(Debug, Clone)]
pub struct Object {
    /// The template that it comes from.
    pub file: &'static str,
    pub kind: String,
    pub name: String,
    /// YAML, with the comments of the template.
    pub text: String,
    /// The same, read.
    pub value: Value,
}

/// One of Weft's charts.
#[derive(Debug, Clone)]
pub struct Chart {
    facts: Facts,
    defaults: Value,
    schema: Option<Value>,
    files: &'static [File],
}

/// What `Chart.yaml` says, as far as templates ask for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    name: String,
    version: String,
    app_version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    #[error("{}", refused.join("\n"))]
    Values { refused: Vec<String> },
    #[error("{file}: {error}")]
    Template { file: &'static str, error: TemplateError },
    #[error("{file}: {problem}")]
    File { file: &'static str, problem: String },
}

/// Objects as one stream of documents, each with the template that it comes from.
#[must_use]
pub fn stream(objects: &[Object]) -> String {
    let documents = objects.iter().map(|object| format!("---\n# Source: {}\n{}", object.file, object.text));
    documents.collect::<Vec<_>>().join("\n")
}

impl Chart {
    /// Weft itself: `deploy/charts/weft`.
    pub fn weft() -> Result<Self, ChartError> {
        Self::read(files::WEFT)
    }

    /// The definitions of Weft's kinds: `deploy/charts/weft-crds`.
    pub fn definitions() -> Result<Self, ChartError> {
        Self::read(files::WEFT_CRDS)
    }

    fn read(files: &'static [File]) -> Result<Self, ChartError> {
        let mut facts = None;
        let (mut defaults, mut schema) = (Value::Null, None);
        for &(file, text) in files {
            let wrong = |problem: String| ChartError::File { file, problem };
            match file {
                "Chart.yaml" => {
                    facts = Some(serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?);
                }
                "values.yaml" => {
                    defaults = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
                }
                "values.schema.json" => {
                    schema = Some(serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?);
                }
                _ => {}
            }
        }
        let facts = facts.ok_or(ChartError::File { file: "Chart.yaml", problem: "the chart has none".to_owned() })?;
        Ok(Self { facts, defaults, schema, files })
    }

    /// The chart's version, which is Weft's.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.facts.version
    }

    /// The chart's objects in the order of their installation.
    pub fn render(&self, release: &Release, values: &Values) -> Result<Vec<Object>, ChartError> {
        let values = values.over(self.defaults.clone());
        self.check(&values)?;
        let scope = json!({
            "Values": values,
            "Release": { "Name": release.name, "Namespace": release.namespace },
            "Chart": { "Name": self.facts.name, "Version": self.facts.version, "AppVersion": self.facts.app_version },
        });
        let mut parsed = Vec::new();
        let mut definitions = BTreeMap::new();
        for &(file, text) in self.files.iter().filter(|(file, _)| file.starts_with("templates/")) {
            let template = Template::parse(text).map_err(|error| ChartError::Template { file, error })?;
            definitions.extend(template.definitions.clone());
            // Text for people, and parts that others include.
            if !file.ends_with("NOTES.txt") && !file.starts_with("templates/_") {
                parsed.push((file, template));
            }
        }
        let mut objects = Vec::new();
        for (file, template) in parsed {
            let text = template.render(&scope, &definitions).map_err(|error| ChartError::Template { file, error })?;
            for part in documents(&text) {
                objects.push(object(file, &part)?);
            }
        }
        objects.sort_by(|one, other| order::place(&one.kind).cmp(&order::place(&other.kind)));
        Ok(objects)
    }

    /// Holds the values against the chart's schema, as Helm does.
    fn check(&self, values: &Value) -> Result<(), ChartError> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let validator = jsonschema::validator_for(schema)
            .map_err(|error| ChartError::File { file: "values.schema.json", problem: error.to_string() })?;
        let refused: Vec<String> = validator
            .iter_errors(values)
            .map(|error| {
                let place = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
                format!("{}: {error}", if place.is_empty() { "values" } else { &place })
            })
            .collect();
        if refused.is_empty() { Ok(()) } else { Err(ChartError::Values { refused }) }
    }
}

/// The documents of a rendered file that say anything.
fn documents(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    parts.retain(|part| part.lines().any(says_something));
    parts
}

fn object(file: &'static str, text: &str) -> Result<Object, ChartError> {
    let wrong = |problem: String| ChartError::File { file, problem };
    let value: Value = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let said = |value: &Value, what: &str| {
        value.as_str().map(str::to_owned).ok_or_else(|| wrong(format!("an object has no {what}")))
    };
    let (kind, name) = (said(&value["kind"], "kind")?, said(&value["metadata"]["name"], "name")?);
    Ok(Object { file, kind, name, text: text.trim_matches('\n').to_owned(), value })
}
