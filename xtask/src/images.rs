//! `cargo xtask image`: the images of the agent and the controller, without a registry and without a daemon.
//!
//! An image has the program, `weft` beside it, the libraries that the two name, and nothing else: no shell, no package
//! manager. Each is for the machine that makes it; deploy/images/Containerfile makes them where there is a container tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::image::{self, Architecture, Image};
use super::{build, run, step, workspace};

/// Below `target`: an archive for each image, and beside it a folder with what is in it.
const FOLDER: &str = "target/images";

/// What the images' names begin with, unless somebody says otherwise: also the charts' default.
const REGISTRY: &str = "registry.weft.local";

/// The command for people, in every image.
const COMMAND: &str = "weft";

#[derive(Args)]
pub struct Arguments {
    /// What the images' names begin with; the charts' value `image.registry`.
    #[arg(long, default_value = REGISTRY)]
    registry: String,
    /// Programs as tests have them: built in half the time, and slower.
    #[arg(long)]
    quick: bool,
}

/// One of the product's programs, as an image.
struct Packed {
    program: &'static str,
    /// None: root.
    user: Option<&'static str>,
}

/// The charts know the names, the paths of the programs and the users.
const PACKED: [Packed; 2] =
    [Packed { program: "weft-agent", user: None }, Packed { program: "weft-controller", user: Some("65532:65532") }];

/// Builds the programs and packs them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = build::for_images(arguments.quick)?;
    for archive in pack_all(&arguments.registry, &programs)? {
        println!("{}", archive.strip_prefix(workspace::root()).unwrap_or(&archive).display());
    }
    Ok(())
}

/// Packs the programs that are built already as those of tests are, and returns the archives.
pub fn of_tests() -> Result<Vec<PathBuf>> {
    pack_all(REGISTRY, &workspace::path("target/release"))
}

fn pack_all(registry: &str, programs: &Path) -> Result<Vec<PathBuf>> {
    let packed = PACKED.iter().map(|packed| {
        let purpose = format!("pack {}", packed.program);
        step::quiet(&purpose, || pack(packed, registry, programs))
    });
    packed.collect()
}

fn pack(packed: &Packed, registry: &str, programs: &Path) -> Result<PathBuf> {
    let folder = workspace::path(FOLDER);
    let root = folder.join(packed.program);
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    for name in [packed.program, COMMAND] {
        let program = programs.join(name);
        // Without line numbers, which are two thirds of it; names of functions stay.
        run::captured(Command::new("strip").args(["--strip-debug", "-o"]).arg(root.join(name)).arg(&program))?;
        for library in libraries(&program)? {
            copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
    }
    let name = format!("{registry}/{}:{}", packed.program, env!("CARGO_PKG_VERSION"));
    let entrypoint = format!("/{}", packed.program);
    let archive = folder.join(format!("{}.tar", packed.program));
    let image = Image {
        name: &name,
        architecture: Architecture::here()?,
        entrypoint: &[&entrypoint],
        user: packed.user,
        root: &root,
    };
    image::write(&image, &archive)?;
    Ok(archive)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file needs a folder")?)?;
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// What the dynamic loader maps for a program, and the loader itself: the paths are those that the program names.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let printed = run::captured(Command::new("ldd").arg(program))?;
    let libraries: Vec<PathBuf> = printed.lines().filter_map(library).collect();
    if libraries.is_empty() {
        bail!("ldd names no library of {}:\n{printed}", program.display());
    }
    Ok(libraries)
}

/// `libm.so.6 => /lib/libm.so.6 (0x7f…)` or `/lib64/ld-linux-x86-64.so.2 (0x7f…)`; the kernel's own has no file.
fn library(line: &str) -> Option<PathBuf> {
    let named = line.split_once("=> ").map_or(line, |(_, path)| path);
    let path = named.trim().split(' ').next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_file() {
        let check =
            |line: &str, expected: Option<&str>| assert_eq!(library(line), expected.map(PathBuf::from), "{line}");
        check("\tlinux-vdso.so.1 (0x00007ffd)", None);
        check("\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f12)", Some("/lib/x86_64-linux-gnu/libm.so.6"));
        check("\t/lib64/ld-linux-x86-64.so.2 (0x00007f12)", Some("/lib64/ld-linux-x86-64.so.2"));
    }
}
