//! What a user says of a chart: files and settings, the later one over the earlier, as Helm takes them.

use serde_json::{Map, Value};

/// A user's values, not yet over a chart's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(Map<String, Value>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    #[error("{0:?} is no setting: write one such as controller.replicas=3")]
    NoEqualsSign(String),
    #[error("{0:?} names no value: names are parted by single dots")]
    NoName(String),
    #[error("{0:?} points into a list: say the whole list, as in NAME={{a,b}}, or use --values")]
    Index(String),
    #[error("a file of values is not YAML of names and values: {0}")]
    File(String),
}

impl Values {
    /// Adds what a file says (YAML).
    pub fn add_file(&mut self, text: &str) -> Result<(), SettingError> {
        let read: Option<Map<String, Value>> =
            serde_saphyr::from_str(text).map_err(|error| SettingError::File(error.to_string()))?;
        // Not yet a deletion: a later file may say it again, and null says so only to the chart's own values.
        lay_over(&mut self.0, read.unwrap_or_default(), Nulls::Stay);
        Ok(())
    }

    /// Adds settings as `--set` has them: `a.b=c,d={e,f}`. Numbers and `true`, `false`, `null` are what they look like.
    pub fn set(&mut self, settings: &str) -> Result<(), SettingError> {
        for setting in split(settings, ',') {
            let mut sides = split(&setting, '=').into_iter();
            let name = sides.next().unwrap_or_default();
            let value = sides.collect::<Vec<_>>().join("=");
            if name.len() == setting.len() {
                return Err(SettingError::NoEqualsSign(setting));
            }
            let names: Vec<String> = split(&name, '.').iter().map(|name| plain(name)).collect();
            if names.iter().any(String::is_empty) {
                return Err(SettingError::NoName(setting));
            }
            if name.ends_with(']') || name.contains("].") {
                return Err(SettingError::Index(setting));
            }
            let nested = names
                .into_iter()
                .rev()
                .fold(read(&value), |value, name| Value::Object(Map::from_iter([(name, value)])));
            if let Value::Object(nested) = nested {
                lay_over(&mut self.0, nested, Nulls::Stay);
            }
        }
        Ok(())
    }

    /// These values over a chart's own. A null takes a value of the chart away.
    pub(crate) fn over(&self, defaults: Value) -> Value {
        let mut all = if let Value::Object(defaults) = defaults { defaults } else { Map::new() };
        lay_over(&mut all, self.0.clone(), Nulls::Delete);
        Value::Object(all)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Stay,
    Delete,
}

fn lay_over(below: &mut Map<String, Value>, above: Map<String, Value>, nulls: Nulls) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (_, Value::Null) if nulls == Nulls::Delete => {
                below.remove(&name);
            }
            (Some(Value::Object(old)), Value::Object(new)) => lay_over(old, new, nulls),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

/// Parts at a character that is not behind a backslash and not in braces.
fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut escaped, mut depth) = (false, 0_u32);
    for character in text.chars() {
        if character == at && !escaped && depth == 0 {
            parts.push(String::new());
            continue;
        }
        match character {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

/// Without the backslashes.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

fn read(text: &str) -> Value {
    if let Some(items) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let items = if items.is_empty() { Vec::new() } else { split(items, ',') };
        return Value::Array(items.iter().map(|item| read(item)).collect());
    }
    let number = || text.parse::<i64>().ok().filter(|_| text == "0" || !text.starts_with('0'));
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        _ => number().map_or_else(|| Value::String(plain(text)), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(settings: &str, expected: &Value) {
        let mut values = Values::default();
        values.set(settings).unwrap();
        assert_eq!(values.over(Value::Null), *expected, "{settings}");
    }

    #[test]
    fn settings_are_what_they_look_like() {
        check("a=1,b=true,c=x", &json!({ "a": 1, "b": true, "c": "x" }));
        check("a.b=007,a.c=0", &json!({ "a": { "b": "007", "c": 0 } }));
        check("a={x,2},b={}", &json!({ "a": ["x", 2], "b": [] }));
        check(r"a.kubernetes\.io/os=linux,b=c\,d", &json!({ "a": { "kubernetes.io/os": "linux" }, "b": "c,d" }));
        check("a=b=c", &json!({ "a": "b=c" }));
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let refused = |settings: &str| Values::default().set(settings).unwrap_err();
        assert_eq!(refused("a"), SettingError::NoEqualsSign("a".to_owned()));
        assert_eq!(refused("a..b=c"), SettingError::NoName("a..b=c".to_owned()));
        assert_eq!(refused("a[0].b=c"), SettingError::Index("a[0].b=c".to_owned()));
    }

    #[test]
    fn the_later_one_is_over_the_earlier_and_null_takes_away() {
        let mut values = Values::default();
        values.add_file("a: {b: 1, c: [1, 2]}\n").unwrap();
        values.add_file("a: {c: [3], d: null}\n").unwrap();
        values.set("e=null").unwrap();
        let chart = json!({ "a": { "b": 0, "d": 4 }, "e": 5, "f": 6 });
        assert_eq!(values.over(chart), json!({ "a": { "b": 1, "c": [3] }, "f": 6 }));
    }
}
