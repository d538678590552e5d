//! Hands the listening sockets to a successor, so that an upgrade refuses and loses no connection.
//!
//! The successor connects to `<run-dir>/handover.sock`, gets the very same listeners (closing one would
//! reset its backlog), starts to serve and says so; only then does the predecessor stop to accept, drain
//! and exit. A successor that never says so changes nothing.

use std::collections::HashSet;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::limits;

/// Names one listener that is handed over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListenerName {
    pub workload: String,
    pub netns_cookie: u64,
    pub outbound: bool,
    pub worker: u32,
    pub port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Listener(ListenerName),
    /// No more listeners.
    Complete,
}

/// What the successor says once it serves.
const SERVING: &[u8] = b"serving\n";

#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("handover.sock")
}

/// A successor's end of a hand-over: listeners received, not yet confirmed.
#[derive(Debug)]
pub struct Inheritance {
    stream: UnixStream,
    listeners: Vec<(ListenerName, TcpListener)>,
}

impl Inheritance {
    /// Asks a running predecessor for its listeners. None when there is no predecessor. Blocks for at most
    /// `limits::HANDOVER_TIMEOUT`.
    pub fn claim(run_dir: &Path) -> io::Result<Option<Self>> {
        let stream = match UnixStream::connect(socket_path(run_dir)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(limits::HANDOVER_TIMEOUT))?;
        let mut listeners = Vec::new();
        while let Some((name, descriptor)) = receive(&stream)? {
            if listeners.len() >= limits::HANDOVER_LISTENERS {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the predecessor sends too many listeners"));
            }
            listeners.push((name, TcpListener::from(descriptor)));
        }
        Ok(Some(Self { stream, listeners }))
    }

    /// The inherited listeners, as descriptors of this process' own.
    pub fn duplicates(&self) -> io::Result<Vec<(ListenerName, TcpListener)>> {
        self.listeners.iter().map(|(name, listener)| Ok((name.clone(), listener.try_clone()?))).collect()
    }

    /// The workloads whose listeners these are.
    #[must_use]
    pub fn workloads(&self) -> HashSet<String> {
        self.listeners.iter().map(|(name, _)| name.workload.clone()).collect()
    }

    /// Tells the predecessor that this agent serves: it stops to accept.
    pub fn confirm(&self) -> io::Result<()> {
        (&self.stream).write_all(SERVING)
    }
}

/// Gives `listeners` to the successor at the other end of `stream`, and waits for its word. Blocks for at most twice
/// `limits::HANDOVER_TIMEOUT`. An error means that this agent goes on.
pub fn give<'fd>(
    mut stream: UnixStream,
    listeners: impl Iterator<Item = (ListenerName, BorrowedFd<'fd>)>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(limits::HANDOVER_TIMEOUT))?;
    stream.set_write_timeout(Some(limits::HANDOVER_TIMEOUT))?;
    for (name, descriptor) in listeners {
        send(&stream, &Message::Listener(name), Some(descriptor))?;
    }
    send(&stream, &Message::Complete, None)?;
    let mut said = [0; SERVING.len()];
    stream.read_exact(&mut said)?;
    if said == SERVING { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// One message: its length (one byte pair), its JSON, and the descriptor with the first byte.
fn send(stream: &UnixStream, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u16::try_from(json.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?.to_be_bytes();
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != length.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    (&mut &*stream).write_all(&json)
}

fn receive(mut stream: &UnixStream) -> io::Result<Option<(ListenerName, OwnedFd)>> {
    let mut length = [0; 2];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes != length.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message { descriptors.next() } else { None }
    });
    let length = usize::from(u16::from_be_bytes(length));
    if length > limits::HANDOVER_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json)?;
    match (serde_json::from_slice(&json)?, descriptor) {
        (Message::Listener(name), Some(descriptor)) => Ok(Some((name, descriptor))),
        (Message::Complete, None) => Ok(None),
        (Message::Listener(_), None) | (Message::Complete, Some(_)) => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn name(worker: u32) -> ListenerName {
        ListenerName { workload: "uid".to_owned(), netns_cookie: 7, outbound: true, worker, port: 61000 }
    }

    #[test]
    fn a_successor_accepts_what_waited_in_the_predecessors_backlog() {
        let folder = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(socket_path(folder.path())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let giving = std::thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            give(stream, [(name(0), listener.as_fd())].into_iter())
        });
        let inheritance = Inheritance::claim(folder.path()).unwrap().unwrap();
        let (given, inherited) = &inheritance.listeners[0];
        assert_eq!(given, &name(0));
        let (_, peer) = inherited.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
        inheritance.confirm().unwrap();
        giving.join().unwrap().unwrap();
    }

    #[test]
    fn a_successor_that_never_serves_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(socket_path(folder.path())).unwrap();
        let giving = std::thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            give(stream, std::iter::empty())
        });
        drop(Inheritance::claim(folder.path()).unwrap().unwrap());
        assert!(giving.join().unwrap().is_err());
    }

    #[test]
    fn without_a_predecessor_there_is_nothing_to_claim() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Inheritance::claim(folder.path()).unwrap().is_none());
    }
}
