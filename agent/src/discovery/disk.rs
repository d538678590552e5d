//! The last snapshot's resources in one file, so that an agent starts without a controller.
//!
//! `magic ‖ format ‖ protobuf ‖ SHA-256`, written aside and renamed. A file of another format, node, owner
//! or with a wrong digest is refused whole, never guessed at: it names the roots that are trusted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use weft_proto::names::NodeName;
use weft_proto::v1;

use super::parse::Features;
use crate::limits;

const MAGIC: &[u8; 8] = b"weftsnap";
/// Rises with every change after which an older reader would read something else than was written.
const FORMAT: u32 = 1;
const DIGEST_LENGTH: usize = 32;
const HEADER_LENGTH: usize = MAGIC.len() + size_of::<u32>();

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not a regular file of this user that nobody else may write")]
    NotOurs,
    #[error("it is larger than {} bytes", limits::SNAPSHOT_FILE_MAXIMUM)]
    TooLarge,
    #[error("it is not a snapshot")]
    NotASnapshot,
    #[error("its format is {0}; this agent reads {FORMAT}")]
    OtherFormat(u32),
    #[error("it is damaged")]
    Damaged,
    #[error("it belongs to node {0:?}")]
    OtherNode(String),
}

/// What a file held.
#[derive(Debug)]
pub struct Saved {
    /// Of the agent that wrote it.
    pub features: Features,
    /// The same build wrote it, so nothing is missing in it.
    pub resumable: bool,
    pub resources: Vec<v1::Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    writer: String,
    #[prost(string, repeated, tag = "3")]
    features: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    resources: Vec<Bytes>,
}

/// The file's place in the state directory.
#[must_use]
pub fn path(state_directory: &Path) -> PathBuf {
    state_directory.join("snapshot")
}

/// None when there is no file.
pub fn load(path: &Path, node: &NodeName) -> Result<Option<Saved>, Refused> {
    let mut bytes = Vec::new();
    match open(path) {
        Ok(file) => file.take(limits::SNAPSHOT_FILE_MAXIMUM + 1).read_to_end(&mut bytes)?,
        Err(Refused::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(refused) => return Err(refused),
    };
    if bytes.len() as u64 > limits::SNAPSHOT_FILE_MAXIMUM {
        return Err(Refused::TooLarge);
    }
    decode(&Bytes::from(bytes), node).map(Some)
}

/// Replaces the file. After a crash at any moment the old one or the new one is there, whole.
pub fn save(path: &Path, node: &NodeName, features: &Features, resources: Vec<Bytes>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(&encode(node, features, resources))?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(directory)?.sync_all()
}

fn open(path: &Path) -> Result<File, Refused> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(no_follow.bits().cast_signed()).open(path)?;
    let facts = file.metadata()?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw();
    if !facts.is_file() || !ours || facts.mode() & 0o022 != 0 {
        return Err(Refused::NotOurs);
    }
    Ok(file)
}

fn writer() -> String {
    format!("{} protocol {}", env!("CARGO_PKG_VERSION"), weft_proto::PROTOCOL_VERSION)
}

fn encode(node: &NodeName, features: &Features, resources: Vec<Bytes>) -> Vec<u8> {
    let content = Content { node: node.to_string(), writer: writer(), features: features.names().to_vec(), resources };
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + content.encoded_len() + DIGEST_LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&content.encode_to_vec());
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

fn decode(bytes: &Bytes, node: &NodeName) -> Result<Saved, Refused> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Refused::NotASnapshot)?;
    let (format, _) = rest.split_first_chunk::<4>().ok_or(Refused::NotASnapshot)?;
    let format = u32::from_be_bytes(*format);
    if format != FORMAT {
        return Err(Refused::OtherFormat(format));
    }
    let end = bytes.len().checked_sub(DIGEST_LENGTH).filter(|end| *end >= HEADER_LENGTH).ok_or(Refused::Damaged)?;
    if *Sha256::digest(&bytes[..end]) != bytes[end..] {
        return Err(Refused::Damaged);
    }
    let content = Content::decode(bytes.slice(HEADER_LENGTH..end)).map_err(|_| Refused::Damaged)?;
    if content.node != node.as_str() {
        return Err(Refused::OtherNode(content.node));
    }
    let resources: Result<Vec<_>, _> = content.resources.into_iter().map(v1::Resource::decode).collect();
    let features = Features::new(content.features);
    Ok(Saved {
        resumable: content.writer == writer() && features == Features::own(),
        features,
        resources: resources.map_err(|_| Refused::Damaged)?,
    })
}
