//! Nodes and values to text.

use serde_json::Value;

use super::{Block, Definitions, Expression, Function, Node, Template, TemplateError};

impl Template {
    pub fn render(&self, scope: &Value, definitions: &Definitions) -> Result<String, TemplateError> {
        rendered(&self.nodes, scope, definitions)
    }
}

fn rendered(nodes: &[Node], dot: &Value, definitions: &Definitions) -> Result<String, TemplateError> {
    let mut out = String::new();
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(expression) => out.push_str(&written(&value(expression, dot, definitions)?)),
            Node::Block(block, subject, body, otherwise) => {
                let subject = value(subject, dot, definitions)?;
                match (block, &subject) {
                    (Block::Range, Value::Array(items)) if !items.is_empty() => {
                        for item in items {
                            out.push_str(&rendered(body, item, definitions)?);
                        }
                    }
                    (Block::If, subject) if holds(subject) => out.push_str(&rendered(body, dot, definitions)?),
                    (Block::With, subject) if holds(subject) => out.push_str(&rendered(body, subject, definitions)?),
                    _ => out.push_str(&rendered(otherwise, dot, definitions)?),
                }
            }
        }
    }
    Ok(out)
}

fn value(expression: &Expression, dot: &Value, definitions: &Definitions) -> Result<Value, TemplateError> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Path(names) => {
            let mut found = dot;
            for name in names {
                let Value::Object(fields) = found else { return Err(TemplateError::Missing(names.join("."))) };
                found = fields.get(name).unwrap_or(&Value::Null);
            }
            Ok(found.clone())
        }
        Expression::Call(function, arguments) => {
            let arguments: Vec<Value> =
                arguments.iter().map(|argument| value(argument, dot, definitions)).collect::<Result<_, _>>()?;
            call(*function, &arguments, definitions)
        }
    }
}

fn call(function: Function, arguments: &[Value], definitions: &Definitions) -> Result<Value, TemplateError> {
    Ok(match (function, arguments) {
        (Function::Include, [Value::String(name), scope]) => {
            let body = definitions.get(name).ok_or_else(|| TemplateError::Missing(name.clone()))?;
            Value::from(rendered(body, scope, definitions)?)
        }
        (Function::ToYaml, [value]) => {
            let text = serde_saphyr::to_string(value).map_err(|_| TemplateError::Misused("toYaml"))?;
            Value::from(text.trim_end())
        }
        (Function::NewlineIndent, [Value::Number(width), text]) => {
            let width = width.as_u64().and_then(|width| usize::try_from(width).ok()).unwrap_or_default();
            let indent = " ".repeat(width);
            Value::from(format!("\n{indent}{}", written(text).replace('\n', &format!("\n{indent}"))))
        }
        (Function::Quote, [value]) => Value::from(Value::from(written(value)).to_string()),
        (Function::Default, [default, value]) => {
            if holds(value) {
                value.clone()
            } else {
                default.clone()
            }
        }
        (Function::Include, _) => return Err(TemplateError::Misused("include")),
        (Function::ToYaml, _) => return Err(TemplateError::Misused("toYaml")),
        (Function::NewlineIndent, _) => return Err(TemplateError::Misused("nindent")),
        (Function::Quote, _) => return Err(TemplateError::Misused("quote")),
        (Function::Default, _) => return Err(TemplateError::Misused("default")),
    })
}

/// What Go's templates take for true: anything but nothing, zero and emptiness.
fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: &str) {
        let scope = json!({ "a": { "b": 1, "c": "x", "none": null, "list": ["p", "q"] }, "empty": {} });
        let template = Template::parse(text).unwrap();
        assert_eq!(template.render(&scope, &template.definitions).unwrap(), expected, "{text}");
    }

    #[test]
    fn templates_say_what_go_says() {
        check("{{ .a.b }}-{{ .a.c | quote }}-{{ .a.missing }}", "1-\"x\"-");
        check("{{ if .a }}yes{{ else }}no{{ end }}{{ if .empty }}yes{{ else }}no{{ end }}", "yesno");
        check("{{ with .a }}{{ .c }}{{ end }}{{ with .empty }}{{ .c }}{{ end }}", "x");
        check("{{ range .a.list }}[{{ . }}]{{ end }}", "[p][q]");
        check("{{ .a.none | default .a.c }}{{ .a.b | default 7 }}", "x1");
        check("m:{{ toYaml .a.list | nindent 2 }}", "m:\n  - p\n  - q");
        check("{{ define \"t\" }}{{ .c }}{{ end }}{{ include \"t\" .a }}", "x");
    }

    #[test]
    fn a_path_below_nothing_is_an_error() {
        let template = Template::parse("{{ .a.b }}").unwrap();
        assert!(template.render(&json!({}), &template.definitions).is_err());
        assert!(template.render(&json!({ "a": "text" }), &template.definitions).is_err());
    }
}
