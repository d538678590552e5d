//! `cargo xtask crds`: writes the definitions of Weft's kinds, which are Rust types, into the chart `weft-crds`.
//!
//! `cargo xtask lint` compares the committed files with what this would write.

use anyhow::{Result, bail};

use super::{generated, run, step};

/// Where the committed definitions are.
const TARGET: &str = "deploy/charts/weft-crds/templates";

/// Writes the definitions, and says which files changed.
pub fn regenerate() -> Result<()> {
    let files = step::quiet("generate the definitions of controller/crd", generate)?;
    generated::write(TARGET, files)
}

/// Fails when the committed definitions are not what the types give.
pub fn check_fresh() -> Result<()> {
    match generated::stale(TARGET, &generate()?) {
        Some(file) => bail!("{file} is not what controller/crd gives: run `cargo xtask crds`"),
        None => Ok(()),
    }
}

/// File names with their content.
fn generate() -> Result<Vec<(String, String)>> {
    let output = tempfile::tempdir()?;
    let mut cargo = run::cargo();
    cargo.args(["run", "--quiet", "--package", "weft-crd", "--example", "definitions", "--"]).arg(output.path());
    run::captured(&mut cargo)?;
    generated::read(output.path())
}
