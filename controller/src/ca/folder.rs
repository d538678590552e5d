//! The roots on disk: the folder `ca`, always put there whole by one rename, and `ca.pem` for agents to copy.
//!
//! `ca-fingerprint` remembers that a root existed, so that a lost one is noticed and never replaced by another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::record::{Record, Roots, Texts};
use super::root::Written;
use super::store::{Names, Trace, Traces};
use crate::state;

const ROOT: &str = "root";
const NEXT: &str = "next";
const STAND: &str = "rotation.json";

#[derive(Debug, Clone)]
pub struct Folder {
    state_dir: PathBuf,
}

impl Folder {
    pub fn new(state_dir: &Path) -> anyhow::Result<Self> {
        state::create_folder(state_dir)?;
        Ok(Self { state_dir: state_dir.to_owned() })
    }

    pub fn names(&self) -> Names {
        let name = |path: PathBuf| path.display().to_string();
        Names {
            record: name(self.folder()),
            published: name(self.public()),
            remembered: name(self.fingerprint()),
            begin_anew: format!("empty {}", self.state_dir.display()),
        }
    }

    pub fn read(&self) -> anyhow::Result<Option<Record>> {
        let written = |name: &str| -> anyhow::Result<Option<Written>> {
            let (key, certificate) = (self.text(&format!("{name}.key"))?, self.text(&format!("{name}.pem"))?);
            match (key, certificate) {
                (Some(key), Some(certificate)) => Ok(Some(Written { key, certificate })),
                (None, None) => Ok(None),
                (Some(_), None) | (None, Some(_)) => bail!("{} has half of a root", self.folder().display()),
            }
        };
        Record::read(Texts { root: written(ROOT)?, next: written(NEXT)?, stand: self.text(STAND)? })
    }

    /// False: there is one.
    pub fn create(&self, record: &Record) -> anyhow::Result<bool> {
        // A folder that is not empty is never replaced so.
        self.put(record, RenameFlags::empty())
    }

    /// False: what is there is not `before`.
    pub fn replace(&self, before: &Record, after: &Record) -> anyhow::Result<bool> {
        if self.read()?.as_ref() != Some(before) {
            return Ok(false);
        }
        // What was there is in the other folder's place then.
        let put = self.put(after, RenameFlags::EXCHANGE)?;
        self.clean()?;
        Ok(put)
    }

    pub fn traces(&self) -> anyhow::Result<Traces> {
        let remembered = match fs::read_to_string(self.fingerprint()) {
            Ok(known) => Some(Trace { text: known.trim().to_owned(), version: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.fingerprint().display())),
        };
        let others = [self.public(), self.state_dir.join(crate::agents::STATE_FILE)];
        let witness = others.into_iter().find(|path| path.exists());
        let witness = witness.map(|path| path.display().to_string());
        // `ca.pem` is a copy for people, which nobody is bound by.
        Ok(Traces { published: None, remembered, witness })
    }

    /// Makes the traces say what the roots are.
    pub fn announce(&self, roots: &Roots) -> anyhow::Result<()> {
        self.clean()?;
        for (path, text) in
            [(self.fingerprint(), roots.fingerprint().to_owned()), (self.public(), roots.record.bundle())]
        {
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                state::replace(&path, text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn put(&self, record: &Record, how: RenameFlags) -> anyhow::Result<bool> {
        self.clean()?;
        let (beside, folder) = (self.beside(), self.folder());
        state::create_folder(&beside)?;
        let Texts { root, next, stand } = record.texts();
        for (name, written) in [(ROOT, root), (NEXT, next)] {
            if let Some(Written { key, certificate }) = written {
                state::create(&beside.join(format!("{name}.key")), key.as_bytes())?;
                state::create(&beside.join(format!("{name}.pem")), certificate.as_bytes())?;
            }
        }
        if let Some(stand) = stand {
            state::create(&beside.join(STAND), stand.as_bytes())?;
        }
        state::sync_folder(&beside)?;
        match renameat_with(CWD, &beside, CWD, &folder, how) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => return Ok(false),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot put the roots to {} in one step", folder.display()));
            }
        }
        state::sync_folder(&self.state_dir)?;
        Ok(true)
    }

    /// Nothing of an earlier attempt, or of a root that was replaced, stays.
    fn clean(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(self.beside()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.beside().display()))
            }
            _ => Ok(()),
        }
    }

    fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.folder().join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join("ca")
    }

    fn beside(&self) -> PathBuf {
        self.state_dir.join("ca-beside")
    }

    fn fingerprint(&self) -> PathBuf {
        self.state_dir.join("ca-fingerprint")
    }

    fn public(&self) -> PathBuf {
        self.state_dir.join("ca.pem")
    }
}
