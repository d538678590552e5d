//! The Go compilers of what is built from modules: the same on every machine.
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

/// A compiler; another one would compile everything anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub name: &'static str,
    /// Of the module's files for amd64 and for arm64, as go.sum has it and the public log of modules tells it.
    hashes: [&'static str; 2],
}

/// The one with which Kubernetes and what nodes run are released.
pub const USUAL: Version = Version {
    name: "go1.26.8",
    hashes: ["h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=", "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc="],
};

/// Gateway API asks for it.
const NEWEST: Version = Version {
    name: "go1.27.3",
    hashes: ["h1:r0ub+FnqzZxoWm/dSUOI9DcIqYWn/mNYGFJcv7PyBzs=", "h1:VY4gDzfxOrsM17J2qtgZgiAIsWhp7XWK1jMfE3kXV0s="],
};

/// The module that compilers are versions of.
const MODULE: &str = "golang.org/toolchain";

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
pub fn ensure(version: Version) -> Result<Toolchain> {
    let go = super::program("go").context("there is no go; `cargo xtask setup` installs it")?;
    let mut ask = Command::new(&go);
    let printed = run::captured(ask.arg("env").args(CHOICES).env("GOTOOLCHAIN", "local"))?;
    let choices = CHOICES.into_iter().zip(printed.lines().map(str::to_owned)).collect();
    let here = Toolchain { go, choices };
    if run::captured(here.command().args(["env", "GOVERSION"]))?.trim() == version.name {
        return Ok(here);
    }
    let go = step::quiet(&format!("fetch the compiler {}", version.name), || here.fetch(version))?;
    Ok(Toolchain { go, ..here })
}

impl Version {
    /// The older one, if the module takes it.
    pub fn of_module(folder: &Path) -> Result<Self> {
        let file = folder.join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let asked = text
            .lines()
            .find_map(|line| line.strip_prefix("go "))
            .with_context(|| format!("{} does not say which Go it is in", file.display()))?;
        let suits = |version: &Self| numbers(asked) <= numbers(version.name);
        let found = [USUAL, NEWEST].into_iter().find(suits);
        found.with_context(|| format!("{} asks for Go {asked}, which is newer than {}", file.display(), NEWEST.name))
    }

    const fn hash(self, architecture: Architecture) -> &'static str {
        let [amd64, arm64] = self.hashes;
        match architecture {
            Architecture::Amd64 => amd64,
            Architecture::Arm64 => arm64,
        }
    }
}

/// Of `go1.26.8`, or of `1.26` in a go.mod.
fn numbers(version: &str) -> Vec<u32> {
    version.trim_start_matches("go").split('.').filter_map(|number| number.trim().parse().ok()).collect()
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

    fn fetch(&self, version: Version) -> Result<PathBuf> {
        let architecture = Architecture::here()?;
        let expected = version.hash(architecture);
        let version = format!("{MODULE}@v0.0.1-{}.linux-{}", version.name, architecture.name());
        // Where no go.mod can have a say.
        let empty = tempfile::tempdir()?;
        let mut download = self.command();
        download.current_dir(empty.path()).args(["mod", "download", "-json", &version]);
        let told: Value = serde_json::from_str(&run::captured(&mut download)?)?;
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

    #[test]
    fn every_module_finds_its_compiler() {
        let mut versions = Vec::new();
        for entry in fs::read_dir(workspace::path("cluster")).unwrap() {
            let folder = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(folder.join("go.mod")) else { continue };
            versions.push(Version::of_module(&folder).unwrap());
            assert!(!text.lines().any(|line| line.starts_with("toolchain ")), "{text}");
        }
        assert!([USUAL, NEWEST].iter().all(|version| versions.contains(version)), "{versions:?}");
    }

    #[test]
    fn a_module_that_is_ahead_of_the_compilers_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |line: &str, expected: Result<Version, &str>| {
            fs::write(folder.path().join("go.mod"), format!("module weft.dev/some\n\n{line}\n")).unwrap();
            let found = Version::of_module(folder.path()).map_err(|error| format!("{error:#}"));
            match expected {
                Ok(version) => assert_eq!(found.unwrap(), version, "{line}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{line}"),
            }
        };
        check("go 1.26", Ok(USUAL));
        check("go 1.26.8", Ok(USUAL));
        check("go 1.26.9", Ok(NEWEST));
        check("go 1.27.0", Ok(NEWEST));
        check("go 1.99.0", Err("go.mod asks for Go 1.99.0"));
        check("", Err("does not say"));
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
