//! What clusters are made of, kept outside of the repository: a folder for each hash of its inputs.
//!
//! A folder appears when it is complete, and is used by every later cluster. One at a time is made.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::lock;
use crate::workspace;

/// The folder of a result that is being made.
const DRAFT: &str = ".draft-";

pub fn cached(name: &str, inputs: Sha256) -> Result<PathBuf> {
    // Sixteen digits are enough to tell the builds of one developer apart.
    let hash = format!("{:x}", inputs.finalize());
    Ok(workspace::cache()?.join("cluster").join(format!("{name}-{}", &hash[..16])))
}

/// Makes a folder, unless it is there, that is complete as soon as it is there. One at a time is made in the cache.
pub fn appear(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = folder.parent().context("the cache has no folder")?;
    fs::create_dir_all(parent)?;
    let lock = File::open(parent)?;
    lock::take(&lock, "another build of a cluster's programs")?;
    if folder.exists() {
        return Ok(());
    }
    sweep(parent)?;
    let draft = tempfile::Builder::new().prefix(DRAFT).tempdir_in(parent)?;
    fill(draft.path())?;
    fs::rename(draft.path(), folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// Removes what killed builds left. The caller holds the lock, so none of it is being made.
fn sweep(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The names and contents of all files below a folder, in the order of their names.
pub fn add_files(inputs: &mut Sha256, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        inputs.update(format!("{:?} {:?}", path.file_name(), path.is_dir()));
        if path.is_dir() {
            add_files(inputs, &path)?;
        } else {
            // Of one length, so that no content can pass for the name behind it.
            inputs.update(Sha256::digest(fs::read(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_there_at_once_or_not_at_all() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("kube");
        let left = cache.path().join(format!("{DRAFT}killed"));
        fs::create_dir(&left).unwrap();
        assert!(appear(&folder, |draft| Ok(fs::write(draft.join("missing/kubelet"), "")?)).is_err());
        assert!(!folder.exists() && !left.exists());
        appear(&folder, |draft| Ok(fs::write(draft.join("kubelet"), "")?)).unwrap();
        appear(&folder, |_| panic!("it is there")).unwrap();
        let names: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kube"]);
    }

    #[test]
    fn a_change_of_any_input_is_another_result() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || {
            let mut inputs = Sha256::new();
            add_files(&mut inputs, folder.path()).unwrap();
            format!("{:x}", inputs.finalize())
        };
        let mut seen = vec![hash()];
        for (name, content) in [("go.mod", "a"), ("go.mod", "b"), ("main.go", "b")] {
            fs::write(folder.path().join(name), content).unwrap();
            assert!(!seen.contains(&hash()), "{name} {content}");
            seen.push(hash());
        }
    }
}
