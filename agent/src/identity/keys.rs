//! Keys and certificates across a restart of the agent.
//!
//! Invariant: a private key is written only to memory (tmpfs), in a file that root alone reads: what a disk once held
//! may be read from it later. Absent: a reboot, after which everything is asked for again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use weft_proto::names::WorkloadUid;

use crate::limits;
use crate::tls::Material;

/// `linux/magic.h`.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";
const ROOT: &str = "TRUSTED CERTIFICATE";

/// What is kept for one name.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) material: Material,
    /// The roots that came with it, DER. The first one has signed it.
    pub(super) roots: Vec<Vec<u8>>,
}

impl Kept {
    /// Whether the mesh, as far as it is known, still says what was said when this came: who signs, and nobody less.
    pub(super) fn is_current(&self, trusted: &[Vec<u8>]) -> bool {
        trusted.is_empty()
            || (self.roots.first() == trusted.first() && self.roots.iter().all(|root| trusted.contains(root)))
    }

    pub(super) fn key_pem(&self) -> String {
        pem::encode(&pem::Pem::new(KEY, self.material.key.secret_pkcs8_der()))
    }

    /// Leaf first.
    pub(super) fn chain_pem(&self) -> String {
        self.material.chain.iter().map(|der| certificate_pem(der)).collect()
    }
}

pub(super) fn certificate_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(CERTIFICATE, der))
}

/// Whose key a file holds. Names of files are digests: a uid may be any word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyName(String);

impl KeyName {
    pub(super) fn node() -> Self {
        Self("node.pem".to_owned())
    }

    pub(super) fn workload(uid: &WorkloadUid) -> Self {
        Self(format!("workload-{}.pem", crate::tls::short_digest(uid.as_str())))
    }
}

#[derive(Debug, Clone)]
pub struct KeyFolder {
    /// Nothing when keys are not kept.
    folder: Option<PathBuf>,
}

impl KeyFolder {
    /// `keys` below `run_dir`, when that is a tmpfs. Otherwise keys live in this process alone, which is logged.
    #[must_use]
    pub fn open(run_dir: &Path) -> Self {
        match open_in_memory(run_dir) {
            Ok(folder) => Self { folder: Some(folder) },
            Err(error) => {
                tracing::warn!(folder = %run_dir.display(), %error, "keys are not kept across a restart");
                Self { folder: None }
            }
        }
    }

    /// Keys live in this process alone.
    #[must_use]
    pub fn none() -> Self {
        Self { folder: None }
    }

    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// What was kept; nothing when there is none or it cannot be read (then it is asked for again).
    pub(super) fn read(&self, name: &KeyName) -> Option<Kept> {
        let path = self.folder.as_ref()?.join(&name.0);
        match read_file(&path).and_then(|text| decode(&text)) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a kept key cannot be read; a new one is asked for");
                None
            }
        }
    }

    /// Replaces what was kept, whole or not at all. A failure is logged: the key goes on serving from memory.
    pub(super) fn write(&self, name: &KeyName, kept: &Kept) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = replace(folder, &name.0, encode(kept).as_bytes()) {
            tracing::warn!(name = name.0, %error, "a key could not be kept for a restart");
        }
    }

    /// Removes the workloads' keys that are not in `names`.
    pub(super) fn retain_workloads(&self, names: &std::collections::HashSet<KeyName>) {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for entry in entries.flatten() {
            let name = KeyName(entry.file_name().to_string_lossy().into_owned());
            if name.0.starts_with("workload-")
                && !names.contains(&name)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a key that nobody needs could not be removed");
            }
        }
    }
}

/// Where keys are, below the run directory.
#[must_use]
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("keys")
}

fn open_in_memory(run_dir: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    let kind = rustix::fs::statfs(run_dir)?.f_type;
    if kind != TMPFS && kind != RAMFS {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the folder is not on a tmpfs"));
    }
    let folder = folder(run_dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limits::KEY_FILE_MAXIMUM).read_to_string(&mut text)?;
    Ok(text)
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, folder.join(name))
}

fn encode(kept: &Kept) -> String {
    let mut blocks = vec![pem::Pem::new(KEY, kept.material.key.secret_pkcs8_der())];
    blocks.extend(kept.material.chain.iter().map(|der| pem::Pem::new(CERTIFICATE, der.as_ref())));
    blocks.extend(kept.roots.iter().map(|der| pem::Pem::new(ROOT, der.as_slice())));
    pem::encode_many(&blocks)
}

fn decode(text: &str) -> io::Result<Kept> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let (mut key, mut chain, mut roots) = (None, Vec::new(), Vec::new());
    for block in pem::parse_many(text).map_err(|error| invalid(error.to_string()))? {
        match block.tag() {
            KEY => key = Some(PrivatePkcs8KeyDer::from(block.into_contents())),
            CERTIFICATE => chain.push(CertificateDer::from(block.into_contents())),
            ROOT => roots.push(block.into_contents()),
            other => return Err(invalid(format!("a block {other:?} is not known"))),
        }
    }
    let key = key.filter(|_| !chain.is_empty()).ok_or_else(|| invalid("key or certificate is missing".to_owned()))?;
    Ok(Kept { material: Material { key, chain }, roots })
}
