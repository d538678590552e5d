//! What the controller says of objects, policies and agents, read as far as this command needs it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ask::{AskError, ask};

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ControllerStatus {
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub trust_domain: String,
    /// It tells agents what to do; otherwise another controller does.
    #[serde(default)]
    pub leads: bool,
    /// The newest generation of the mesh; an agent that has acknowledged less lags.
    #[serde(default)]
    pub generation: u64,
    #[serde(default)]
    pub objects: usize,
    /// Objects and files that could not be read.
    #[serde(default)]
    pub errors: Vec<Defect>,
    /// What was read well and may still surprise.
    #[serde(default)]
    pub findings: Vec<Surprise>,
    #[serde(default)]
    pub policies: Vec<Policy>,
    #[serde(default)]
    pub agents: Vec<KnownAgent>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Defect {
    /// None: it is about an object of the Kubernetes API, or about the controller itself.
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub line: u64,
    pub object: Option<String>,
    pub field: Option<String>,
    pub problem: String,
    #[serde(default)]
    pub fix: String,
}

impl Defect {
    /// What it is about, as the name of a check.
    pub fn subject(&self) -> String {
        if self.file.is_some() { format!("object in {}", self.place()) } else { self.place() }
    }

    /// File, line, object and field, as far as they are known.
    pub fn place(&self) -> String {
        let line = if self.line > 0 { format!(":{}", self.line) } else { String::new() };
        let file = self.file.as_ref().map(|file| format!("{file}{line}"));
        let parts = [file.as_ref(), self.object.as_ref(), self.field.as_ref()];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { "the controller".to_owned() } else { parts.join(", ") }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Surprise {
    pub object: String,
    pub message: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Policy {
    pub policy: String,
    #[serde(default)]
    pub targets: Vec<PolicyTarget>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct PolicyTarget {
    pub target: String,
    pub accepted: bool,
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct KnownAgent {
    pub node: String,
    pub live: bool,
    #[serde(default)]
    pub plaintext_permitted: bool,
    #[serde(default)]
    pub heard_ms_ago: u64,
    #[serde(default)]
    pub enrolled: usize,
    #[serde(default)]
    pub generation: u64,
    #[serde(default)]
    pub nacks: Vec<crate::answers::Nack>,
}

pub async fn status(socket: &Path) -> Result<ControllerStatus, AskError> {
    ask(socket, "/status", &[]).await
}
