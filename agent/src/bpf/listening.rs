//! Who listens in a namespace right now, and which connections stand there, asked of `sock_diag(7)`.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};

use socket2::{Domain, Protocol, Socket, Type};
use weft_abi::listening::is_recorded;
use weft_abi::rows::OpenPortKey;
use weft_abi::{Address, Port};

use super::error::BpfError;
use super::pod::NetnsCookie;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
/// One bit for `TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// One bit for `TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
/// Both families; sockets of the second may speak the first.
const FAMILIES: [i32; 2] = [libc::AF_INET, libc::AF_INET6];
/// Of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Of `struct inet_diag_req_v2` and the netlink header before it.
const REQUEST: usize = HEADER + 56;
/// The kernel fills at most this much in one message of a dump.
const BUFFER: usize = 64 * 1024;
/// A namespace with more sockets than this is not believed: the answer would not end.
const MAX_MESSAGES: usize = 65_536;

/// How many sockets listen at each address and port, without loopback and without `own_ports`. The
/// calling thread is inside the namespace.
pub(super) fn snapshot(netns: NetnsCookie, own_ports: &[u16]) -> Result<HashMap<OpenPortKey, u64>, BpfError> {
    let mut found = HashMap::new();
    for family in FAMILIES {
        let sockets = sockets(family, LISTENING).map_err(BpfError::system("ask which ports are listened on"))?;
        for Connection { local: (address, port), .. } in sockets {
            if is_recorded(address) && !own_ports.contains(&port.host()) {
                *found.entry(OpenPortKey::new(netns.0, address, port)).or_default() += 1;
            }
        }
    }
    Ok(found)
}

/// A socket's two ends; the remote one of a listening socket says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) local: (Address, Port),
    pub(super) remote: (Address, Port),
}

/// The connections that stand in the namespace of the calling thread.
pub(super) fn connections() -> Result<Vec<Connection>, BpfError> {
    let of = |family| sockets(family, ESTABLISHED).map_err(BpfError::system("ask which connections stand"));
    Ok(FAMILIES.into_iter().map(of).collect::<Result<Vec<_>, _>>()?.concat())
}

fn sockets(family: i32, states: u32) -> io::Result<Vec<Connection>> {
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.write_all(&request(family, states))?;
    let mut buffer = vec![0; BUFFER];
    let mut found = Vec::new();
    for _ in 0..MAX_MESSAGES {
        let length = socket.read(&mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, after)) = next_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(refusal(body)),
                _ => found.extend(connection(body)),
            }
            rest = after;
        }
    }
    Err(io::Error::other("the kernel's answer does not end"))
}

fn request(family: i32, states: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[HEADER] = u8::try_from(family).unwrap_or_default();
    bytes[HEADER + 1] = IPPROTO_TCP;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// The type and the body of the first message, and what comes after it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn refusal(body: &[u8]) -> io::Error {
    let code = body.get(0..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    io::Error::from_raw_os_error(-code)
}

/// Reads a `struct inet_diag_msg`: family, then the ports at 4 and 6, the source address at 8 and the destination at 24.
fn connection(body: &[u8]) -> Option<Connection> {
    let family = i32::from(*body.first()?);
    let end = |port: usize, address: usize| {
        let port = Port::from_network(u16::from_ne_bytes(body.get(port..port + 2)?.try_into().ok()?));
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(body.get(address..address + 16)?.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().ok()?);
        }
        Some((if family == libc::AF_INET { Address::from_ip4_word(words[0]) } else { Address(words) }, port))
    };
    Some(Connection { local: end(4, 8)?, remote: end(6, 24)? })
}
