//! Gateway API's own definitions, out of its Go module: what users install beside Weft.
//!
//! The version is that of the committed go.mod, and go.sum says what is in it. Nothing of the module is compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::programs::{add_files, appear, cached};
use crate::setup::toolchain::{self, Toolchain};
use crate::{run, step, workspace};

/// The folder of this repository, and the one in the cache.
const NAME: &str = "gateway-api";

const MODULE: &str = "sigs.k8s.io/gateway-api";

/// Where the module has the definitions that are stable.
const DEFINITIONS: &str = "config/crd/standard";

/// Fetches them unless they are in the cache.
pub fn ensure() -> Result<()> {
    let folder = folder()?;
    if folder.exists() {
        return Ok(());
    }
    step::quiet("fetch the definitions of Gateway API", || {
        let toolchain = toolchain::ensure()?;
        run::captured(&mut go(&toolchain, &["mod", "download"]))?;
        let module = run::captured(&mut go(&toolchain, &["list", "-m", "-f", "{{.Dir}}", MODULE]))?;
        appear(&folder, |draft| copy(&Path::new(module.trim()).join(DEFINITIONS), draft))
    })
}

/// Where they are, or will be.
pub fn folder() -> Result<PathBuf> {
    let mut inputs = Sha256::new();
    inputs.update(DEFINITIONS);
    add_files(&mut inputs, &source())?;
    cached(NAME, inputs)
}

fn source() -> PathBuf {
    workspace::path("cluster").join(NAME)
}

fn go(toolchain: &Toolchain, arguments: &[&str]) -> Command {
    let mut go = toolchain.command();
    go.current_dir(source()).args(arguments);
    go
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            // By its content alone: files of Go's cache may not be written.
            fs::write(to.join(path.file_name().unwrap_or_default()), fs::read(&path)?)?;
        }
    }
    Ok(())
}
