//! The Go compiler of all that is built from modules: one version, the same on every machine.
//!
//! Go's modules bring compilers too, and any Go since 1.13 can fetch one: that of the oldest supported Debian is enough.
//! What came is used only if its hash is the one that is written here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::image::Architecture;
use crate::{run, step};

/// Another version would compile everything anew.
pub const VERSION: &str = "go1.26.8";

/// The module that compilers are versions of.
const MODULE: &str = "golang.org/toolchain";

/// The hash of the module's files, as go.sum has it and the public log of modules tells it.
const fn hash(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=",
        Architecture::Arm64 => "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=",
    }
}

/// What decides from where modules come, who vouches for them, and where they and what is compiled are kept. It is the
/// developer's choice; everything that decides what is compiled is ours.
const CHOICES: [&str; 8] =
    ["GOPROXY", "GOSUMDB", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOPRIVATE", "GOMODCACHE", "GOCACHE"];

/// A Go program, and the developer's choices that it is to keep to.
pub struct Toolchain {
    go: PathBuf,
    choices: Vec<(&'static str, String)>,
}

/// This machine's Go if it is the version, or else the one that it fetches.
pub fn ensure() -> Result<Toolchain> {
    let go = super::program("go").context("there is no go; `cargo xtask setup` installs it")?;
    let mut ask = Command::new(&go);
    let printed = run::captured(ask.arg("env").args(CHOICES).env("GOTOOLCHAIN", "local"))?;
    let choices = CHOICES.into_iter().zip(printed.lines().map(str::to_owned)).collect();
    let here = Toolchain { go, choices };
    if run::captured(here.command().args(["env", "GOVERSION"]))?.trim() == VERSION {
        return Ok(here);
    }
    let go = step::quiet(&format!("fetch the compiler {VERSION}"), || here.fetch())?;
    Ok(Toolchain { go, ..here })
}

impl Toolchain {
    /// Go, without what the developer's environment says of compiling.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.go);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("GO") || name.starts_with("CGO_") || ["CC", "CXX", "PKG_CONFIG"].contains(&&*name) {
                command.env_remove(&*name);
            }
        }
        command.envs(self.choices.iter().map(|(name, value)| (name, value)));
        command.envs([("GOENV", "off"), ("GOFLAGS", ""), ("GOWORK", "off")]);
        command.envs([("GO111MODULE", "on"), ("GOTOOLCHAIN", "local")]);
        command
    }

    fn fetch(&self) -> Result<PathBuf> {
        let architecture = Architecture::here()?;
        let version = format!("{MODULE}@v0.0.1-{VERSION}.linux-{}", architecture.name());
        // Where no go.mod can have a say.
        let empty = tempfile::tempdir()?;
        let mut download = self.command();
        download.current_dir(empty.path()).args(["mod", "download", "-json", &version]);
        let told: Value = serde_json::from_str(&run::captured(&mut download)?)?;
        let expected = hash(architecture);
        ensure!(told["Sum"] == expected, "the compiler {version} has the hash {}, not {expected}", told["Sum"]);
        let folder = PathBuf::from(told["Dir"].as_str().context("go does not say where the compiler is")?);
        let go = folder.join("bin/go");
        // Modules have no modes, so it is for us to let programs run. The one that is asked comes last.
        if !is_executable(&go)? {
            make_executable(&folder.join("pkg/tool"))?;
            make_executable(&folder.join("bin"))?;
        }
        Ok(go)
    }
}

fn is_executable(file: &Path) -> Result<bool> {
    let found = fs::metadata(file).with_context(|| format!("cannot find {}", file.display()))?;
    Ok(found.permissions().mode() & 0o111 == 0o111)
}

/// All files below a folder, in the order of their names but `go` last.
fn make_executable(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort_by_key(|path| path.ends_with("go"));
    for path in paths {
        let found = fs::symlink_metadata(&path)?;
        if found.is_dir() {
            make_executable(&path)?;
        } else if found.is_file() {
            let mode = found.permissions().mode() | 0o111;
            let changed = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
            changed.with_context(|| format!("cannot let {} run", path.display()))?;
        } else {
            bail!("{} is neither a file nor a folder", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::workspace;

    /// Numbers of `go1.26.8` or of `go 1.26`.
    fn numbers(version: &str) -> Vec<u32> {
        let plain = version.trim_start_matches("go").trim();
        plain.split('.').map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn no_module_asks_for_a_newer_compiler() {
        let mut modules = 0;
        for entry in fs::read_dir(workspace::path("cluster")).unwrap() {
            let Ok(text) = fs::read_to_string(entry.unwrap().path().join("go.mod")) else { continue };
            let asked = text.lines().find(|line| line.starts_with("go ")).unwrap();
            assert!(numbers(asked) <= numbers(VERSION), "{asked}");
            assert!(!text.lines().any(|line| line.starts_with("toolchain ")), "{text}");
            modules += 1;
        }
        assert!(modules > 0, "no module is read");
    }

    #[test]
    fn programs_of_a_module_can_be_made_to_run() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("linux")).unwrap();
        let files = [folder.path().join("go"), folder.path().join("linux/compile")];
        for file in &files {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
            assert!(!is_executable(file).unwrap());
        }
        make_executable(folder.path()).unwrap();
        assert!(files.iter().all(|file| is_executable(file).unwrap()));
    }
}
