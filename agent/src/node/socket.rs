//! The agent's sockets inside a pod's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use rand::RngExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::netns::Netns;
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;

/// Source addresses towards the pod's own application when the pod address has no port left: a slice of 127/8 that
/// nothing else uses. `steer` counts it as the pod itself.
const SPARE_SOURCES: [u8; 2] = [127, 87];

/// A socket inside `netns`, not yet connected.
pub fn stream_socket(netns: &Netns, destination: IpAddr) -> io::Result<TcpSocket> {
    let socket = netns.run(|| if destination.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })??;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&keep_alive())?;
    Ok(socket)
}

/// How a peer that has gone without a word is noticed. Accepted sockets have it from their listener.
#[must_use]
pub fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(limits::KEEP_ALIVE_AFTER)
        .with_interval(limits::KEEP_ALIVE_INTERVAL)
        .with_retries(limits::KEEP_ALIVE_PROBES)
}

/// What carries bytes over TCP, whatever lies between.
pub trait OverTcp {
    /// Makes the coming close a reset.
    fn reset_on_close(&self);

    /// How long bytes may stay unacknowledged, or a window closed, before the connection counts as broken. None: as long as
    /// the system likes.
    fn acknowledge_within(&self, limit: Option<Duration>);
}

impl OverTcp for TcpStream {
    fn reset_on_close(&self) {
        reset_on_close(self);
    }

    fn acknowledge_within(&self, limit: Option<Duration>) {
        // Failing means that the connection is gone already.
        let _ = SockRef::from(self).set_tcp_user_timeout(limit);
    }
}

/// Connects within `bound`; running out of it is `TimedOut`.
pub async fn connect(socket: TcpSocket, destination: SocketAddr, bound: Duration) -> io::Result<TcpStream> {
    timeout(bound, socket.connect(destination)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why a dial to `destination` failed, in the words that everybody else reads.
#[must_use]
pub fn dial_error(destination: SocketAddr, error: &io::Error) -> ConnectionError {
    let failed = |side, reason| ConnectionError::new(side, reason).with_detail(format!("{destination}: {error}"));
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) {
        failed(Side::Upstream, Reason::UpstreamRefused)
    } else if kind == io::ErrorKind::TimedOut {
        failed(Side::Upstream, Reason::UpstreamTimeout)
    } else if matches!(kind, io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) {
        failed(Side::Upstream, Reason::UpstreamUnreachable)
    } else {
        failed(Side::Local, Reason::ResourceExhausted)
    }
}

/// Binds to a spare loopback source, for a pod whose own address has run out of ports towards one destination.
pub fn bind_spare_source(socket: &TcpSocket, destination: IpAddr) -> io::Result<()> {
    bind_address_without_port(socket)?;
    let source = match destination {
        IpAddr::V4(_) => {
            let mut random = rand::rng();
            let [first, second] = SPARE_SOURCES;
            IpAddr::V4(Ipv4Addr::new(first, second, random.random(), random.random_range(1..255)))
        }
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    socket.bind(SocketAddr::new(source, 0))
}

/// The port is chosen by `connect()`, when the destination is known (`IP_BIND_ADDRESS_NO_PORT`, `ip(7)`).
fn bind_address_without_port(socket: &TcpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the socket is open, and `on` outlives the call and has the size that `length` says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel has measured between this end and the peer's (`tcpi_rtt`, `tcp(7)`, `TCP_INFO`); None where it cannot tell.
#[must_use]
pub fn round_trip(stream: &TcpStream) -> Option<Duration> {
    // SAFETY: it consists of integers, for which zeros are valid.
    let mut known: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the socket is open, and `known` outlives the call and has the size that `length` says.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut known).cast(),
            &raw mut length,
        )
    };
    (result == 0 && known.tcpi_rtt > 0).then(|| Duration::from_micros(known.tcpi_rtt.into()))
}

/// Takes [`reset_on_close`] back: from now on a close is an orderly end.
pub fn end_in_order(stream: &TcpStream) {
    // Failing means that the connection is gone already.
    let _ = SockRef::from(stream).set_linger(None);
}

/// Makes the coming close a reset: the peer must not take a failure for an orderly end.
pub fn reset_on_close(stream: &TcpStream) {
    // Failing means that the connection is gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Normal form: an IPv4 address that came through a dual-stack socket is an IPv4 address.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_the_round_trip_of_a_connection() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let measured = round_trip(&stream).unwrap();
        assert!(measured < Duration::from_secs(10), "{measured:?}");
    }
}
