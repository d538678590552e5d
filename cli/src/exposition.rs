//! What an agent's `/metrics` say of requests, and what they have counted between two readings.
//!
//! Reads only what Weft's own agents write: one series a line, labels in quotes, no time.

use std::collections::HashMap;

/// The counters of requests at one moment, by their names with labels.
#[derive(Debug, Clone, Default)]
pub struct Reading(HashMap<String, f64>);

/// A series whose counter has moved, or stands.
#[derive(Debug)]
pub struct Counted<'a> {
    pub name: &'a str,
    labels: HashMap<&'a str, String>,
    /// Since the reading before.
    pub by: f64,
}

impl Counted<'_> {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Reading {
    /// The lines that speak of requests.
    pub fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| line.starts_with("weft_request"));
        let pair = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(pair).collect())
    }

    /// What was counted since `before`. A counter that has fallen began anew with its agent.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Counted<'a>> + 'a {
        self.0.iter().filter_map(|(series, now)| {
            let then = before.0.get(series).copied().unwrap_or(0.0);
            let (name, labels) = series.split_once('{')?;
            let by = if *now < then { *now } else { *now - then };
            Some(Counted { name, labels: labels_of(labels.strip_suffix('}')?)?, by })
        })
    }
}

/// `a="b",c="d\"e"`; None for what is no list of labels.
fn labels_of(mut text: &str) -> Option<HashMap<&str, String>> {
    let mut labels = HashMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name, value);
        text = rest.get(end + 1..)?.trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_by_their_difference_and_a_restart_begins_anew() {
        let text = |one: u64, two: u64| {
            format!(
                "# HELP weft_requests x\nweft_requests_total{{service=\"shop/web\",route=\"a \\\"b\\\", c\"}} {one}\n\
                 weft_requests_total{{service=\"shop/other\",route=\"\"}} {two}\nweft_connections_active{{a=\"b\"}} 9\n# EOF\n"
            )
        };
        let (before, after) = (Reading::of(&text(10, 7)), Reading::of(&text(25, 3)));
        let mut told: Vec<_> = after
            .since(&before)
            .map(|counted| (counted.label("service").to_owned(), counted.label("route").to_owned(), counted.by))
            .collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(told[0], ("shop/other".to_owned(), String::new(), 3.0));
        assert_eq!(told[1], ("shop/web".to_owned(), "a \"b\", c".to_owned(), 15.0));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn what_is_no_list_of_labels_is_none() {
        for text in ["a", "a=b", "a=\"b", "a=\"b\\"] {
            assert!(labels_of(text).is_none(), "{text}");
        }
    }
}
