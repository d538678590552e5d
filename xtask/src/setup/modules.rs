//! Kernel modules of an unpacked kernel, in the order in which they load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use object::{Object, ObjectSection};

use super::Kernel;
use crate::run;

/// The wanted modules and what they depend on, uncompressed, dependencies first. A name that the
/// kernel has no module for is built in, and left out.
pub fn modules_in_order(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    find_modules(&kernel.modules, &mut files)?;
    let mut ordered = Vec::new();
    for name in wanted {
        add_with_dependencies(name, &files, &mut ordered)?;
    }
    Ok(ordered)
}

fn add_with_dependencies(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Some(file) = files.get(name).filter(|_| ordered.iter().all(|(present, _)| present != name)) else {
        return Ok(());
    };
    let content = uncompressed(file)?;
    for dependency in dependencies(&content).with_context(|| file.display().to_string())? {
        add_with_dependencies(&dependency, files, ordered)?;
    }
    ordered.push((name.to_owned(), content));
    Ok(())
}

/// Module names, with underscores as the kernel writes them, and their files.
fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return Ok(std::fs::read(file)?);
    }
    let plain = tempfile::NamedTempFile::new()?;
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"xz --decompress --stdout "$1" > "$2""#, "sh"]).arg(file).arg(plain.path());
    run::captured(&mut shell)?;
    Ok(std::fs::read(plain.path())?)
}

/// The line `depends=a,b` of a module's description of itself.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let object = object::File::parse(module).context("a module is not an ELF file")?;
    let description = object.section_by_name(".modinfo").context("a module does not describe itself")?;
    let description = String::from_utf8_lossy(description.data()?).into_owned();
    let listed = description.split('\0').find_map(|entry| entry.strip_prefix("depends=")).unwrap_or_default();
    Ok(listed.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}
