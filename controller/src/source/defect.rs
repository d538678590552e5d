//! What is wrong: where exactly, with which object and field, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::object::Key;

/// One thing to repair. `Display` is the whole message on one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Defect {
    /// Relative to the directory; None for what came from the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// From 1; 0 when it is about the whole file.
    pub line: u64,
    /// `Kind namespace/name`, as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The object, if enough of it could be read.
    #[serde(skip)]
    pub key: Option<Key>,
    /// Such as `spec.rules[0].from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub problem: String,
    pub fix: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{}", file.display())?;
            if self.line > 0 {
                write!(formatter, ":{}", self.line)?;
            }
            write!(formatter, ": ")?;
        }
        if let Some(object) = &self.object {
            write!(formatter, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(formatter, "{field}: ")?;
        }
        write!(formatter, "{}; {}", self.problem, self.fix)
    }
}
