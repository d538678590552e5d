//! The files that people write: everything that git does not ignore and, of Rust, no tool generates.

use anyhow::Result;

use crate::{run, workspace};

/// A file of ours.
pub struct Source {
    /// Its path from the root of the repository.
    pub path: String,
    pub text: String,
}

/// Every Rust file, committed or not yet, except generated ones.
pub fn rust_files() -> Result<Vec<Source>> {
    let mut sources = files("*.rs")?;
    sources.retain(|source| !source.path.contains("/generated/"));
    Ok(sources)
}

/// Every file that is text, whoever wrote it.
pub fn text_files() -> Result<Vec<Source>> {
    files("*")
}

fn files(pattern: &str) -> Result<Vec<Source>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(workspace::root());
    let listed = run::captured(git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]))?;
    let mut sources = Vec::new();
    for path in listed.lines() {
        // A file may be deleted but still listed in the index, and one that is no text has no lines to judge.
        if let Ok(text) = std::fs::read_to_string(workspace::path(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}
