//! What each party saw: the applications' notes, the agents' records, the client's answers.
//!
//! A letter of a text is a byte everywhere (Latin-1), so that views compare byte by byte.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// A request as an application saw it.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    pub port: u16,
    /// Connection and number on it, as the answer's header x-seen says it.
    #[serde(rename = "seen")]
    pub name: String,
    /// nginx alone: the status of what stands behind it, empty where the request was handed to nobody.
    #[serde(default)]
    pub behind: Option<String>,
    pub method: String,
    pub target: String,
    /// As the application itself decodes and normalises it, where it does.
    #[serde(default)]
    pub path: Option<String>,
    pub version: String,
    pub host: String,
    /// nginx alone: whom it takes the request to be for, in lower case and without port.
    #[serde(default)]
    pub named: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The body came to its end.
    pub complete: bool,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// Its connection, and its number there.
    fn place(&self) -> Option<(u64, u64)> {
        let (connection, number) = self.name.split_once('.')?;
        Some((connection.parse().ok()?, number.parse().ok()?))
    }

    /// The values of a field, in their order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect()
    }
}

/// The notes of an application by port and by case: everything before the request that follows a case belongs to it.
pub fn read_notes(file: &Path) -> Result<BTreeMap<(u16, usize), Notes>> {
    let bytes = std::fs::read(file).with_context(|| format!("no {}", file.display()))?;
    let text: String = bytes.into_iter().map(char::from).collect();
    let mut under_way: BTreeMap<u16, Vec<Seen>> = BTreeMap::new();
    let mut notes = BTreeMap::new();
    for line in text.lines() {
        let mut seen: Seen = serde_json::from_str(line).with_context(|| format!("a note that is no note: {line}"))?;
        if seen.behind.as_deref() == Some("") {
            continue;
        }
        // nginx cannot tell an empty field from none.
        seen.headers.retain(|(_, value)| seen.behind.is_none() || !value.is_empty());
        let before = under_way.entry(seen.port).or_default();
        match seen.target.strip_prefix(AFTER).and_then(|number| number.parse().ok()) {
            Some(number) => {
                let mut requests = std::mem::take(before);
                requests.sort_by_key(Seen::place);
                notes.insert((seen.port, number), Notes { requests, after: seen.name });
            }
            None => before.push(seen),
        }
    }
    Ok(notes)
}

/// The path of the request that follows case N is this and N.
pub const AFTER: &str = "/after/";

/// What an application noted of one case.
#[derive(Debug, Default)]
pub struct Notes {
    pub requests: Vec<Seen>,
    /// The name of the request that followed.
    pub after: String,
}

/// An answer as the client got it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The request that it answers, by the application's word.
    pub seen: Option<String>,
    /// By the mesh's word, why the mesh gave it.
    pub reason: Option<String>,
}

/// The answers in what a client received, without interim ones. No body here has a status line in it.
pub fn answers(received: &str) -> Vec<Answer> {
    let heads = received.split("HTTP/1.").skip(1);
    heads
        .filter_map(|text| {
            let status = text.get(2..5)?.parse().ok()?;
            let head = text.split("\r\n\r\n").next().unwrap_or_default();
            let field = |wanted: &str| {
                let mut fields = head.lines().filter_map(|line| line.split_once(": "));
                fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
            };
            Some(Answer { status, seen: field("x-seen"), reason: field("weft-reason") })
        })
        .filter(|answer| answer.status >= 200)
        .collect()
}

/// A line of an agent's access log.
#[derive(Debug, Clone)]
pub struct Record(Value);

impl Record {
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// Of a request, not of a connection.
    fn is_request(&self) -> bool {
        self.0.get("method").is_some()
    }

    /// It was sent on.
    pub fn is_forwarded(&self) -> bool {
        self.0["attempts"].as_u64().is_some_and(|attempts| attempts > 0)
    }

    fn source(&self) -> Option<&str> {
        self.0["source"]["address"].as_str()
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = ["request", "method", "host", "path", "status", "reason", "rule", "detail", "attempts"];
        let told = fields.iter().filter(|field| !self.0[**field].is_null());
        let told: Vec<String> = told.map(|field| format!("{field}={}", self.0[*field])).collect();
        formatter.write_str(&told.join(" "))
    }
}

/// The records of one node in one direction.
#[derive(Debug, Default)]
pub struct Log {
    by_source: BTreeMap<String, Vec<Record>>,
    by_request: BTreeMap<String, Record>,
    connections: BTreeMap<String, Record>,
}

impl Log {
    pub fn read(file: &Path, direction: &str) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
        let mut log = Self::default();
        for line in text.lines() {
            let record = Record(serde_json::from_str(line)?);
            if record.text("direction") != direction {
                continue;
            }
            let source = record.source().unwrap_or_default().to_owned();
            if record.is_request() {
                log.by_request.insert(record.text("request").to_owned(), record.clone());
                log.by_source.entry(source).or_default().push(record);
            } else {
                log.connections.insert(source, record);
            }
        }
        Ok(log)
    }

    /// The requests that came from this address and port.
    pub fn from(&self, source: &str) -> Vec<Record> {
        self.by_source.get(source).cloned().unwrap_or_default()
    }

    pub fn request(&self, id: &str) -> Option<&Record> {
        self.by_request.get(id)
    }

    pub fn connection(&self, source: &str) -> Option<&Record> {
        self.connections.get(source)
    }
}
