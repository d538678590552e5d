//! Takes away the agent's own files: keys, sockets and the last snapshot. For `remove`, when no agent is running.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use crate::{admin, discovery, identity, upgrade};

/// Folders stay: in a container they are mounts.
pub fn forget(run_dir: &Path, state_dir: &Path) -> anyhow::Result<()> {
    let keys = identity::key_folder(run_dir);
    gone(fs::remove_dir_all(&keys)).with_context(|| format!("cannot remove {}", keys.display()))?;
    let socket = run_dir.join(admin::SOCKET);
    let files =
        [socket, run_dir.join(admin::NODE_FILE), upgrade::socket_path(run_dir), discovery::snapshot_file(state_dir)];
    for file in files {
        gone(fs::remove_file(&file)).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_agent_stays_also_the_second_time() {
        let (run, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(identity::key_folder(run.path())).unwrap();
        fs::write(identity::key_folder(run.path()).join("node.pem"), "").unwrap();
        for file in [admin::SOCKET, admin::NODE_FILE] {
            fs::write(run.path().join(file), "").unwrap();
        }
        fs::write(upgrade::socket_path(run.path()), "").unwrap();
        fs::write(discovery::snapshot_file(state.path()), "").unwrap();
        for _ in 0..2 {
            forget(run.path(), state.path()).unwrap();
            for folder in [&run, &state] {
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{}", folder.path().display());
            }
        }
    }
}
