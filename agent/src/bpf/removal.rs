//! Taking everything off the kernel, and looking whether it is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::BpfError;
use super::links;
use super::load::Folders;

/// Detaches and unpins everything of this agent, of whatever version. The agent must not be running.
/// Fails if something is still there afterwards; nothing being there is no error.
pub fn remove_all(pin_dir: &Path) -> Result<(), BpfError> {
    let folders = Folders::below(pin_dir);
    if !folders.root.exists() {
        return Ok(());
    }
    // Capture ends first: without connect nothing new is led to an agent that is gone.
    let mut pinned = files_in(&folders.links)?;
    pinned.sort_by_key(|path| !is_connect(path));
    pinned.iter().try_for_each(|path| links::remove(path))?;
    remove_folder(&folders.links)?;
    for folder in folders_in(&folders.root)? {
        remove_pins(&folder)?;
    }
    remove_folder(&folders.root)?;
    if folders.root.exists() {
        return Err(BpfError::StillThere { what: folders.root.display().to_string() });
    }
    Ok(())
}

/// Unpins the derived maps of other versions, whose programs have been replaced.
pub(super) fn remove_other_versions(folders: &Folders) -> Result<(), BpfError> {
    let stay = [&folders.flight, &folders.derived, &folders.links];
    for folder in folders_in(&folders.root)? {
        if !stay.contains(&&folder) {
            remove_pins(&folder)?;
        }
    }
    Ok(())
}

/// What is pinned in a folder; nothing if there is no folder.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, BpfError> {
    list(folder, false)
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, BpfError> {
    list(folder, true)
}

fn list(folder: &Path, folders: bool) -> Result<Vec<PathBuf>, BpfError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BpfError::file("read", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(BpfError::file("read", folder))?.path();
        if path.is_dir() == folders {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn remove_pins(folder: &Path) -> Result<(), BpfError> {
    for path in files_in(folder)? {
        fs::remove_file(&path).map_err(BpfError::file("unpin", path))?;
    }
    remove_folder(folder)
}

fn remove_folder(folder: &Path) -> Result<(), BpfError> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BpfError::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn is_connect(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("connect"))
}
