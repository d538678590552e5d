//! What the pods' settings were before enrolment, kept in the run directory so that every later agent can restore them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sandbox::Sandboxes;
use super::sysctl::{self, Original};
use crate::bpf::NetnsCookie;
use crate::model::Enrolment;

/// Keyed by the namespace's cookie, which is never used twice in one boot; the run directory does not outlive a boot.
#[derive(Debug)]
pub struct Originals {
    file: PathBuf,
    rows: HashMap<u64, Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// Whose namespace it is, and the path where somebody has named one.
    uid: String,
    netns: Option<PathBuf>,
    settings: Original,
}

/// Restores the settings of every pod that still is where it was. For `remove`, when no agent is running.
pub fn restore_all(run_dir: &Path, sysctl_root: &Path, sandboxes: &Sandboxes) -> io::Result<()> {
    let originals = Originals::open(run_dir)?;
    for (cookie, row) in &originals.rows {
        // Nothing, or another namespace, means that the pod is gone.
        if let Ok(uid) = row.uid.parse()
            && let Ok(netns) = sandboxes.netns(&uid, row.netns.as_deref())
            && netns.cookie().0 == *cookie
        {
            netns.run(|| sysctl::restore(sysctl_root, &row.settings))??;
        }
    }
    match fs::remove_file(originals.file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Originals {
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let file = run_dir.join("settings.json");
        let rows = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, rows })
    }

    #[must_use]
    pub fn has(&self, cookie: NetnsCookie) -> bool {
        self.rows.contains_key(&cookie.0)
    }

    pub fn keep(&mut self, cookie: NetnsCookie, enrolment: &Enrolment, settings: Original) -> io::Result<()> {
        let row = Row { uid: enrolment.uid.to_string(), netns: enrolment.netns.clone(), settings };
        self.rows.insert(cookie.0, row);
        self.write()
    }

    /// Forgets and returns. A failed write only means that a later agent may restore once more.
    pub fn take(&mut self, cookie: NetnsCookie) -> Option<Original> {
        let original = self.rows.remove(&cookie.0)?.settings;
        if let Err(error) = self.write() {
            tracing::warn!(%error, "the record of the pods' settings cannot be written");
        }
        Some(original)
    }

    fn write(&self) -> io::Result<()> {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&self.rows)?)?;
        fs::rename(fresh, &self.file)
    }
}
