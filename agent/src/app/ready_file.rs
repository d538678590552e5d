//! A file that is there while this very process serves: what the readiness probe of its pod looks for.
//!
//! During an upgrade two agents share the node's sockets and its metrics' address, so an answer there may be the other's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    there: bool,
}

impl ReadyFile {
    /// Takes away what a process before this one left.
    pub fn new(path: PathBuf) -> anyhow::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(Self { path, there: false }),
        }
    }

    pub fn tell(&mut self, ready: bool) {
        if ready == self.there {
            return;
        }
        let told = if ready { fs::write(&self.path, "") } else { fs::remove_file(&self.path) };
        match told {
            Ok(()) => self.there = ready,
            // Said again at the next look.
            Err(error) => tracing::warn!(%error, path = %self.path.display(), "readiness cannot be told"),
        }
    }
}

/// What `weft-agent ready` answers.
pub fn is_told(path: &Path) -> anyhow::Result<()> {
    fs::metadata(path).map(drop).with_context(|| format!("not ready: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_while_the_agent_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        fs::write(&path, "of a process before").unwrap();
        let mut file = ReadyFile::new(path.clone()).unwrap();
        for ready in [false, true, true, false, true] {
            file.tell(ready);
            assert_eq!(is_told(&path).is_ok(), ready);
        }
    }
}
