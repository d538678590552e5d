//! Last good versions that no file holds any more, kept over a restart of the controller.
//!
//! Only what is broken now is in this file, and of the API what a definition that is gone had. A file that breaks while no
//! controller runs has no last good version.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::read::{Read, read};
use crate::object::Object;
use crate::state;

/// In the state directory.
pub const STATE_FILE: &str = "kept.json";

/// One object as its file said it, before the file was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Relative to the directory.
    pub file: PathBuf,
    pub text: String,
    /// Of the API: its definition is gone, and nobody has deleted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub orphan: bool,
}

/// What an earlier controller kept. A damaged file is logged and left out: it is a comfort, not a source.
#[must_use]
pub fn load(path: &Path) -> Vec<(Kept, Object)> {
    let Ok(text) = std::fs::read(path) else { return Vec::new() };
    let all: Vec<Kept> = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, file = %path.display(), "cannot read what was kept of broken files");
        Vec::new()
    });
    all.into_iter().filter_map(|kept| parse(&kept).map(|object| (kept, object))).collect()
}

pub fn save(path: &Path, kept: &[Kept]) {
    let written = serde_json::to_vec(kept).map_err(anyhow::Error::from).and_then(|text| state::replace(path, &text));
    if let Err(error) = written {
        tracing::warn!("cannot keep the last good versions of broken files over a restart: {error:#}");
    }
}

fn parse(kept: &Kept) -> Option<Object> {
    let document = Document { first_line: 1, text: kept.text.clone() };
    match read(&kept.file, &document) {
        Read::Object { object, .. } => Some(object),
        Read::Foreign | Read::Broken { .. } => None,
    }
}
