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

/// Below `target`, what has a tag of its own in a folder of that name: an archive for each image, and beside it a folder with what is in it.
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
    name: &'static str,
    /// None: this version, as users have it.
    tag: Option<&'static str>,
    /// The file that is packed under that name.
    program: &'static str,
    /// None: root.
    user: Option<&'static str>,
}

impl Packed {
    const fn agent(tag: Option<&'static str>, program: &'static str) -> Self {
        Self { name: "weft-agent", tag, program, user: None }
    }

    fn tag(&self) -> &'static str {
        self.tag.unwrap_or(env!("CARGO_PKG_VERSION"))
    }

    const fn controller(tag: Option<&'static str>) -> Self {
        Self { name: "weft-controller", tag, program: "weft-controller", user: Some("65532:65532") }
    }
}

/// The charts know the names, the paths of the programs and the users.
const PACKED: [Packed; 2] = [Packed::agent(None, "weft-agent"), Packed::controller(None)];

/// What the tests of upgrades install next: an agent of another build.
const NEXT: [Packed; 2] = [Packed::agent(Some(NEXT_TAG), build::NEXT_AGENT), Packed::controller(Some(NEXT_TAG))];

const NEXT_TAG: &str = "next";

/// Builds the programs and packs them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = build::for_images(arguments.quick)?;
    for archive in pack_all(&PACKED, &arguments.registry, &programs)? {
        println!("{}", archive.strip_prefix(workspace::root()).unwrap_or(&archive).display());
    }
    Ok(())
}

/// Packs the programs that are built already as those of tests are, and returns the archives.
pub fn of_tests() -> Result<Vec<PathBuf>> {
    pack_all(&PACKED, REGISTRY, &workspace::path("target/release"))
}

/// The same of what tests of upgrades install next.
pub fn of_next() -> Result<Vec<PathBuf>> {
    pack_all(&NEXT, REGISTRY, &workspace::path("target/release"))
}

fn pack_all(all: &[Packed], registry: &str, programs: &Path) -> Result<Vec<PathBuf>> {
    let packed = all.iter().map(|packed| {
        let purpose = format!("pack {}:{}", packed.name, packed.tag());
        step::quiet(&purpose, || pack(packed, registry, programs))
    });
    packed.collect()
}

fn pack(packed: &Packed, registry: &str, programs: &Path) -> Result<PathBuf> {
    let folder = workspace::path(FOLDER).join(packed.tag.unwrap_or_default());
    let root = folder.join(packed.name);
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    for (program, name) in [(packed.program, packed.name), (COMMAND, COMMAND)] {
        let program = programs.join(program);
        // Without line numbers, which are two thirds of it; names of functions stay.
        run::captured(Command::new("strip").args(["--strip-debug", "-o"]).arg(root.join(name)).arg(&program))?;
        for library in libraries(&program)? {
            copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
    }
    let name = format!("{registry}/{}:{}", packed.name, packed.tag());
    let entrypoint = format!("/{}", packed.name);
    let archive = folder.join(format!("{}.tar", packed.name));
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
