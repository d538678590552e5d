//! The gate that keeps files readable in one sitting.

use anyhow::{Result, bail};

use super::sources::rust_files;

/// The longest a Rust file may be, in lines.
const LIMIT: usize = 500;

/// Names every file that is too long.
pub fn check() -> Result<()> {
    let too_long: Vec<String> = rust_files()?
        .iter()
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > LIMIT)
        .map(|(lines, path)| format!("{path}: {lines} lines; the limit is {LIMIT}"))
        .collect();
    if !too_long.is_empty() {
        bail!(too_long.join("\n"));
    }
    Ok(())
}
