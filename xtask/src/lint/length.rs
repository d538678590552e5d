//! The gate that keeps files readable in one sitting.

use anyhow::{Result, bail};

use super::sources::{Source, rust_files};

/// The longest a Rust file may be, in lines.
const LIMIT: usize = 500;

/// The longest a module's description of itself may be, in lines.
const DESCRIPTION_LIMIT: usize = 10;

/// Names every file, and every module's description, that is too long.
pub fn check() -> Result<()> {
    let mut too_long = Vec::new();
    for Source { path, text } in rust_files()? {
        let lines = text.lines().count();
        if lines > LIMIT {
            too_long.push(format!("{path}: {lines} lines; the limit is {LIMIT}"));
        }
        let described = text.lines().take_while(|line| line.starts_with("//!")).count();
        if described > DESCRIPTION_LIMIT {
            too_long.push(format!("{path}: described in {described} lines; the limit is {DESCRIPTION_LIMIT}"));
        }
    }
    if !too_long.is_empty() {
        bail!(too_long.join("\n"));
    }
    Ok(())
}
