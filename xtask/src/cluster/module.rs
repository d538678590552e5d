//! Go modules in cluster/, and how programs are built from them into the developer's cache.
//!
//! What decides a result is in the name of its folder: the module's files, the compiler, and every word of the calls.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cache::{add_files, appear, cached};
use crate::image::Architecture;
use crate::setup::toolchain::{self, Toolchain, Version};
use crate::{run, step, workspace};

/// A Go module, and the calls that build its programs.
pub struct Module {
    /// Below `cluster`.
    pub folder: &'static str,
    /// [`BUILD`] or [`TEST`].
    pub verb: &'static [&'static str],
    pub calls: &'static [Call],
}

#[derive(Debug)]
pub struct Call {
    pub packages: &'static [&'static str],
    /// A file, or a folder if it ends with a slash.
    pub output: &'static str,
    /// Words before the packages.
    pub flags: &'static [&'static str],
    /// Whether C is compiled too.
    pub with_c: bool,
}

/// Programs.
pub const BUILD: &[&str] = &["build", "-v", "-trimpath", "-buildvcs=false"];

/// Tests, as a program that runs them.
pub const TEST: &[&str] = &["test", "-c", "-trimpath", "-buildvcs=false"];

pub const STRIPPED: &[&str] = &["-ldflags", "-s -w"];

impl Module {
    pub fn source(&self) -> PathBuf {
        workspace::path("cluster").join(self.folder)
    }

    /// Where its programs are, or will be.
    pub fn programs(&self) -> Result<PathBuf> {
        let mut inputs = Sha256::new();
        inputs.update(format!("{} {:?}", self.version()?.name, self.verb));
        for call in self.calls {
            inputs.update(format!("{call:?} {:?}", call.environment()?));
        }
        add_files(&mut inputs, &self.source())?;
        cached(self.folder, inputs)
    }

    /// Builds them, unless they are there.
    pub fn ensure(&self) -> Result<()> {
        let programs = self.programs()?;
        appear(&programs, |draft| {
            let toolchain = toolchain::ensure(self.version()?)?;
            self.calls.iter().try_for_each(|call| self.build(call, &toolchain, draft))?;
            ensure!(self.programs()? == programs, "cluster/{} changed while it was built: run it again", self.folder);
            Ok(())
        })
    }

    fn version(&self) -> Result<Version> {
        Version::of_module(&self.source())
    }

    fn build(&self, call: &Call, toolchain: &Toolchain, draft: &Path) -> Result<()> {
        let title = format!("build {} ({})", names(call).join(", "), self.folder);
        step::counted(&title, "packages", |count| {
            let mut go = toolchain.command();
            go.current_dir(self.source()).args(self.verb).arg("-o").arg(draft.join(call.output));
            go.args(call.flags).args(call.packages).envs(call.environment()?);
            // Go names each package as it is compiled, and what it downloads.
            run::listened(&mut go, |_| count())
        })
    }
}

impl Call {
    /// What else decides the result: everything that Go would otherwise take from the developer's environment.
    fn environment(&self) -> Result<[(&'static str, &'static str); 6]> {
        Ok([
            ("GOOS", "linux"),
            ("GOARCH", Architecture::here()?.name()),
            ("GOAMD64", "v1"),
            ("GOARM64", "v8.0"),
            ("CGO_ENABLED", if self.with_c { "1" } else { "0" }),
            ("CC", "cc"),
        ])
    }
}

/// Fetches a module that the one in `source` requires, at the version that it requires. Where its files are.
pub fn fetched(source: &Path, required: &str) -> Result<PathBuf> {
    let mut go = toolchain::ensure(Version::of_module(source)?)?.command();
    go.current_dir(source).args(["mod", "download", "-json", required]);
    let told: Value = serde_json::from_str(&run::captured(&mut go)?)?;
    Ok(PathBuf::from(told["Dir"].as_str().with_context(|| format!("go does not say where {required} is"))?))
}

fn names(call: &Call) -> Vec<&'static str> {
    if !call.output.ends_with('/') {
        return vec![call.output];
    }
    call.packages.iter().map(|package| package.rsplit('/').next().unwrap_or(package)).collect()
}
