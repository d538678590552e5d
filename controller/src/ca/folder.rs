//! The root on disk: `ca/root.key` and `ca/root.pem`, put there by one rename, and `ca.pem` for agents to copy.
//!
//! `ca-fingerprint` remembers that a root existed, so that a lost one is noticed and never replaced by another.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use weft_proto::names::TrustDomain;

use super::root::{Root, Written};
use crate::state;

pub fn open(state_dir: &Path, trust_domain: &TrustDomain) -> anyhow::Result<Root> {
    state::create_folder(state_dir)?;
    let folder = state_dir.join("ca");
    let fingerprint = state_dir.join("ca-fingerprint");
    if !folder.exists() {
        let remembered = [fingerprint.clone(), state_dir.join("ca.pem"), state_dir.join(crate::agents::STATE_FILE)]
            .into_iter()
            .find(|path| path.exists());
        if let Some(trace) = remembered {
            bail!(
                "{} is missing, but {} says that a root existed: agents trust that one, and another would cut them off; \
                 restore it, or empty {} to begin a new mesh",
                folder.display(),
                trace.display(),
                state_dir.display()
            );
        }
        make(state_dir, &folder, trust_domain)?;
    }
    let root = read(&folder)?;
    remember(&fingerprint, &root)?;
    let public = fs::read(folder.join("root.pem"))?;
    if fs::read(state_dir.join("ca.pem")).ok().as_deref() != Some(&public) {
        state::replace(&state_dir.join("ca.pem"), &public)?;
    }
    Ok(root)
}

fn make(state_dir: &Path, folder: &Path, trust_domain: &TrustDomain) -> anyhow::Result<()> {
    let Written { key, certificate } = Written::make(trust_domain)?;
    let beside = state_dir.join("ca.new");
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", beside.display()));
        }
        _ => {}
    }
    state::create_folder(&beside)?;
    state::create(&beside.join("root.key"), key.as_bytes())?;
    state::create(&beside.join("root.pem"), certificate.as_bytes())?;
    state::sync_folder(&beside)?;
    // Fails if another controller was faster: a folder that is not empty is never replaced.
    fs::rename(&beside, folder).with_context(|| format!("cannot put the new root to {}", folder.display()))?;
    state::sync_folder(state_dir)?;
    tracing::info!(folder = %folder.display(), "made the root of this mesh");
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Root> {
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let written = Written { key: text("root.key")?, certificate: text("root.pem")? };
    written.parse().with_context(|| format!("{} holds no root", folder.display()))
}

fn remember(path: &Path, root: &Root) -> anyhow::Result<()> {
    let found = root.fingerprint();
    match fs::read_to_string(path) {
        Ok(known) => ensure!(
            known.trim() == found,
            "the root on disk has fingerprint {found}, but {} says that agents trust {}",
            path.display(),
            known.trim()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => state::create(path, found.as_bytes())?,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "cluster.local".parse().unwrap()
    }

    #[test]
    fn a_root_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), &domain()).unwrap().certificate;
        assert_eq!(open(folder.path(), &domain()).unwrap().certificate, first);
        assert!(folder.path().join("ca.pem").exists());
    }

    #[test]
    fn only_the_owner_reads_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &domain()).unwrap();
        for file in ["ca/root.key", "ca/root.pem", "ca.pem", "ca-fingerprint"] {
            let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_lost_or_exchanged_root_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &domain()).unwrap();
        fs::rename(folder.path().join("ca"), folder.path().join("elsewhere")).unwrap();
        let error = open(folder.path(), &domain()).err().expect("another root was made").to_string();
        assert!(error.contains("says that a root existed"), "{error}");

        let other = tempfile::tempdir().unwrap();
        open(other.path(), &domain()).unwrap();
        fs::rename(other.path().join("ca"), folder.path().join("ca")).unwrap();
        let error = open(folder.path(), &domain()).err().expect("an exchanged root was taken").to_string();
        assert!(error.contains("fingerprint"), "{error}");
    }
}
