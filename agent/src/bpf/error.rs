//! What can go wrong at the kernel border.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An operation on programs, links or maps that failed.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The agent was built without the programs.
    #[error("this agent was built without BPF programs: run `cargo xtask bpf` and build it again")]
    NoObject,
    /// Pins need a BPF file system.
    #[error("{} is not on a BPF file system (mount -t bpf bpf {})", .0.display(), .0.display())]
    NotBpffs(PathBuf),
    /// The embedded object is not what this agent expects.
    #[error("the BPF object has no {kind} named {name}")]
    Missing { kind: &'static str, name: &'static str },
    /// The object or one of its maps was refused.
    #[error("the kernel refused the BPF object: {0}")]
    Object(#[from] Box<aya::EbpfError>),
    /// The verifier refused a program; the end of what it said.
    #[error("the kernel refused the program {name}: {source}\n{said}")]
    Program { name: &'static str, source: io::Error, said: String },
    /// A map has no room for another row.
    #[error("the map {map} is full")]
    Full { map: &'static str },
    /// A file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A system call.
    #[error("{action}: {source}")]
    System { action: &'static str, source: io::Error },
    /// Something is still there after it was removed.
    #[error("{what} is still attached after its removal")]
    StillThere { what: String },
    /// More workers, or a port outside the capture range.
    #[error("{0}")]
    Limit(&'static str),
}

impl BpfError {
    /// For `map_err` on a system call.
    pub(super) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// For `map_err` on a file operation.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }
}
