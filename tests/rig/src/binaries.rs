//! Where Weft's own programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The programs that make a mesh.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `weft-agent`.
    pub agent: PathBuf,
    /// `weft-controller`.
    pub controller: PathBuf,
    /// `weft`.
    pub cli: PathBuf,
    /// `weft-testapp`.
    pub testapp: PathBuf,
}

impl Binaries {
    /// The programs in a folder; an error names every one that is missing.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let at = |name: &str| folder.join(name);
        let found = Self {
            agent: at("weft-agent"),
            controller: at("weft-controller"),
            cli: at("weft"),
            testapp: at("weft-testapp"),
        };
        let all = [&found.agent, &found.controller, &found.cli, &found.testapp];
        let missing: Vec<_> =
            all.into_iter().filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
        if !missing.is_empty() {
            bail!("not built: {}; run `cargo xtask build`", missing.join(", "));
        }
        Ok(found)
    }

    /// The programs that were built together with the one that runs.
    pub fn beside_this_program() -> Result<Self> {
        Self::in_folder(&folder_of_this_program()?)
    }
}

/// `weft-testapp`, built together with the running program.
pub fn testapp() -> Result<PathBuf> {
    Ok(folder_of_this_program()?.join("weft-testapp"))
}

/// The folder of the running program, without the `deps` of test programs.
pub fn folder_of_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    let folder = program.parent().context("the running program has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}
