//! Attachments: made once, pinned, and from then on only given new programs.
//!
//! A pinned link keeps its place in the order of a cgroup's programs, and there is no moment without a
//! program. A link whose cgroup or namespace is gone, or that belongs to another one, is made anew.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::error::BpfError;
use super::system;

// Attach types of the kernel's `bpf.h`.
pub(super) const SOCKET_CREATE: u32 = 2;
pub(super) const SOCKET_OPERATIONS: u32 = 3;
pub(super) const CONNECT4: u32 = 10;
pub(super) const CONNECT6: u32 = 11;
pub(super) const PEER_NAME4: u32 = 29;
pub(super) const PEER_NAME6: u32 = 30;
pub(super) const SOCKET_LOOKUP: u32 = 36;

/// `BPF_LINK_TYPE_NETNS`.
const KIND_NETNS: u32 = 5;

/// One attachment.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) attach_type: u32,
    /// The inode of the cgroup folder or of the namespace.
    pub(super) target_inode: u64,
}

impl Link {
    /// Makes this program the attached one.
    pub(super) fn point_to(&self, program: impl AsFd, target: impl AsFd) -> Result<(), BpfError> {
        if let Some(link) = open(&self.path)? {
            if target_of(&link)? == self.target_inode {
                match system::link_update(&link, &program) {
                    Ok(()) => return Ok(()),
                    // What it was attached to has just gone.
                    Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                    // The program that is attached goes on: better an old one than none.
                    Err(error) => return Err(BpfError::file("give a new program to", &self.path)(error)),
                }
            }
            remove(&self.path)?;
        }
        let failed = BpfError::file("attach", &self.path);
        let link = system::link_create(program, target, self.attach_type).map_err(failed)?;
        // If this fails the link is dropped, and with it the attachment.
        system::pin(&link, &self.path).map_err(BpfError::file("pin", &self.path))
    }
}

/// Detaches and unpins, and looks whether it is detached. Nothing at the path is no error.
pub(super) fn remove(path: &Path) -> Result<(), BpfError> {
    let Some(link) = open(path)? else {
        return Ok(());
    };
    // An error says that it was detached already, because its cgroup or namespace is gone; whether it
    // is detached now is asked below.
    let _ = system::link_detach(&link);
    if target_of(&link)? != 0 {
        return Err(BpfError::StillThere { what: path.display().to_string() });
    }
    fs::remove_file(path).map_err(BpfError::file("unpin", path))
}

/// Whether a link is pinned there and attached to what has this inode.
pub(super) fn is_attached_to(path: &Path, target_inode: u64) -> Result<bool, BpfError> {
    open(path)?.map_or(Ok(false), |link| Ok(target_of(&link)? == target_inode))
}

/// A pinned link as the kernel has it: its program, and whether what it was attached to is still there.
pub(super) fn state(path: &Path) -> Result<Option<(u32, bool)>, BpfError> {
    let Some(link) = open(path)? else {
        return Ok(None);
    };
    let facts = system::link_facts(&link).map_err(BpfError::system("read a link's facts"))?;
    Ok(Some((facts.program, target_of(&link)? != 0)))
}

/// Removes a pinned link if what it was attached to is gone.
pub(super) fn remove_if_orphaned(path: &Path) -> Result<(), BpfError> {
    match open(path)? {
        Some(link) if target_of(&link)? == 0 => fs::remove_file(path).map_err(BpfError::file("unpin", path)),
        Some(_) | None => Ok(()),
    }
}

fn open(path: &Path) -> Result<Option<OwnedFd>, BpfError> {
    match system::open_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BpfError::file("open the link", path)(error)),
    }
}

fn target_of(link: &OwnedFd) -> Result<u64, BpfError> {
    let facts = system::link_facts(link).map_err(BpfError::system("read a link's facts"))?;
    // A namespace's inode has 32 bits; the other half holds the attach type.
    Ok(if facts.kind == KIND_NETNS { facts.target & 0xffff_ffff } else { facts.target })
}
