//! The agent's listening sockets in a pod's namespace, as the programs expect them.
//!
//! Each property answers something that went wrong in experiments; the kernel tier tests them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use weft_abi::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST};

/// Opens a listener on the first free port of the capture range; which one, is returned, too. The
/// calling thread is inside the namespace. Non-blocking.
///
/// - Bound to loopback: nobody from outside can find it by its port, and it takes no port from an app
///   that listens at the pod's address.
/// - Dual-stack: `::ffff:127.0.0.1` in an IPv6 socket is given IPv4 and IPv6 connections alike; plain
///   IPv4 where the namespace has no IPv6.
/// - Not `SO_REUSEPORT`: root in the container could join the group.
/// - `SO_REUSEADDR`: accepted connections have the app's port and inherit this; without it an app that
///   restarts could not bind to its port as long as one of them is there.
pub fn listen_in_capture_range(backlog: i32) -> io::Result<(Socket, u16)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST {
        match listen_on(port, backlog) {
            Ok(socket) => return Ok((socket, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn listen_on(port: u16, backlog: i32) -> io::Result<Socket> {
    let (socket, address) = match Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            (socket, IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()))
        }
        Err(_) => (Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?, IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    socket.listen(backlog)?;
    Ok(socket)
}
