//! Definitions of others' kinds, out of their Go modules: what users install beside Weft.
//!
//! The version is that of the committed go.mod, and go.sum says what is in it. Nothing of the modules is compiled.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cache::{add_files, appear, cached};
use super::module;
use crate::{step, workspace};

/// The kinds of one project.
pub struct Definitions {
    project: &'static str,
    /// The folder of this repository, and the one in the cache.
    name: &'static str,
    module: &'static str,
    /// Where the module has them.
    folder: &'static str,
}

/// Those that are stable.
pub const GATEWAY_API: Definitions = Definitions {
    project: "Gateway API",
    name: "gateway-api",
    module: "sigs.k8s.io/gateway-api",
    folder: "config/crd/standard",
};

/// Those that may still change, of which some have a group of their own.
pub const GATEWAY_API_EXPERIMENTS: Definitions = Definitions { folder: "config/crd/experimental", ..GATEWAY_API };

pub const PROMETHEUS_OPERATOR: Definitions = Definitions {
    project: "the Prometheus operator",
    name: "prometheus-operator",
    module: "github.com/prometheus-operator/prometheus-operator",
    folder: "example/prometheus-operator-crd",
};

/// Fetches what is not in the cache.
pub fn ensure() -> Result<()> {
    [GATEWAY_API, GATEWAY_API_EXPERIMENTS, PROMETHEUS_OPERATOR].iter().try_for_each(Definitions::ensure)
}

impl Definitions {
    /// Where they are, or will be.
    pub fn place(&self) -> Result<PathBuf> {
        let mut inputs = Sha256::new();
        inputs.update(self.folder);
        add_files(&mut inputs, &self.source())?;
        cached(self.name, inputs)
    }

    fn ensure(&self) -> Result<()> {
        let place = self.place()?;
        if place.exists() {
            return Ok(());
        }
        step::quiet(&format!("fetch the definitions of {}", self.project), || {
            let module = module::fetched(&self.source(), self.module)?;
            appear(&place, |draft| copy(&module.join(self.folder), draft))
        })
    }

    fn source(&self) -> PathBuf {
        workspace::path("cluster").join(self.name)
    }
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
