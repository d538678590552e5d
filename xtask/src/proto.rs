//! `cargo xtask proto`: turns proto/weft/v1/*.proto into the committed code of proto/src/generated.
//!
//! The compiler is protox, in this process: nobody needs `protoc`, and users of the repository need
//! neither. `cargo xtask lint` compares the committed code with what this would write.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{generated, run, step, workspace};

/// Where the committed code is.
const GENERATED: &str = "proto/src/generated";

/// Writes the generated code, and says which files changed.
pub fn regenerate() -> Result<()> {
    generated::write(GENERATED, step::quiet("generate code from proto/weft/v1", generate)?)
}

/// Fails when the committed code is not what the .proto files give.
pub fn check_fresh() -> Result<()> {
    match generated::stale(GENERATED, &generate()?) {
        Some(file) => bail!("{file} is not what the .proto files give: run `cargo xtask proto`"),
        None => Ok(()),
    }
}

/// Generated file names with their content.
fn generate() -> Result<Vec<(String, String)>> {
    let root = workspace::path("proto");
    let sources = sources(&root.join("weft/v1"))?;
    let descriptors = protox::compile(&sources, [&root]).context("the .proto files do not compile")?;
    let output = tempfile::tempdir()?;
    // prost leaves equality out of messages that hold lists of messages, and copies bytes unless it is told to share them.
    tonic_prost_build::configure()
        .bytes(".weft.v1.DiscoveryResponse.upserts")
        .type_attribute("weft.v1.RetryPolicy", "#[derive(Eq, Hash)]")
        .out_dir(output.path())
        .compile_fds(descriptors)?;
    for file in listed(output.path())? {
        format_in_place(&file)?;
    }
    generated::read(output.path())
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = listed(directory)?;
    sources.retain(|file| file.extension().is_some_and(|extension| extension == "proto"));
    if sources.is_empty() {
        bail!("no .proto file in {}", directory.display());
    }
    Ok(sources)
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn format_in_place(file: &Path) -> Result<()> {
    let configuration = workspace::path("rustfmt.toml");
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(configuration).arg(file);
    rustfmt.current_dir(workspace::root());
    run::captured(&mut rustfmt)?;
    Ok(())
}
