//! What can be read on a wire: every TCP payload that passes a device, kept to be searched.
//!
//! Memory is bounded; what no longer fits, or what the kernel had to drop, turns "not found" into an
//! error, because it would prove nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns;
use crate::place::Place;

/// Payload bytes kept: some minutes of what demo and tests send.
const KEPT_BYTES: usize = 64 << 20;
/// Connections told apart.
const KEPT_FLOWS: usize = 100_000;
/// Room for bursts between two visits of the reading thread.
const SOCKET_BUFFER: libc::c_int = 32 << 20;
/// The largest segment that offloading can hand over.
const LARGEST_FRAME: usize = 1 << 17;

/// How every TLS 1.3 client begins: a handshake record, version 3.x.
pub const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// A marker that was seen.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// The readable text around it.
    pub excerpt: String,
}

/// A reader on a device.
#[derive(Debug)]
pub struct Wiretap {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Heard {
    socket: OwnedFd,
    flows: HashMap<(SocketAddr, SocketAddr), Vec<u8>>,
    frames: u64,
    bytes: usize,
    complete: bool,
}

impl Wiretap {
    /// Listens on `device` in the namespace of `place`.
    pub fn on(place: &Place, device: &str) -> Result<Self> {
        let socket = netns::inside(place.netns(), || open(device))??;
        let heard = Heard { socket, flows: HashMap::new(), frames: 0, bytes: 0, complete: true };
        let heard = Arc::new(Mutex::new(heard));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (heard, stop) = (Arc::clone(&heard), Arc::clone(&stop));
            move || listen(&heard, &stop)
        });
        Ok(Self { heard, stop, thread: Some(thread) })
    }

    /// Looks for `marker` in everything that passed so far, up to this moment.
    pub fn find(&self, marker: &str) -> Result<Option<Sighting>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.drain();
        let found = heard.flows.iter().find_map(|((from, to), payload)| {
            let position = position(payload, marker.as_bytes())?;
            Some(Sighting { from: *from, to: *to, excerpt: excerpt(payload, position, marker.len()) })
        });
        if found.is_none() && !(heard.complete && kernel_drops(&heard.socket)? == 0) {
            bail!("{marker:?} was not found, but more passed than could be kept: that proves nothing");
        }
        Ok(found)
    }

    /// Frames seen: a tap that saw none proves nothing.
    #[must_use]
    pub fn frames(&self) -> u64 {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.drain();
        heard.frames
    }

    /// The connections towards `port` whose first bytes that were heard are no TLS record. (Of a flow that was forgotten
    /// for want of room, those are from its middle.)
    #[must_use]
    pub fn plaintext_towards(&self, port: u16) -> Vec<(SocketAddr, SocketAddr)> {
        let all = self.first_bytes(port).into_iter();
        all.filter(|(.., bytes)| !matches!(bytes.as_slice(), [0x14..=0x17, 3, ..]))
            .map(|(from, to, _)| (from, to))
            .collect()
    }

    /// The first payload bytes of the connections towards `port`, to show what travels there.
    #[must_use]
    pub fn first_bytes(&self, port: u16) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.drain();
        let towards = heard.flows.iter().filter(|((_, to), payload)| to.port() == port && !payload.is_empty());
        towards.map(|((from, to), payload)| (*from, *to, payload[..payload.len().min(64)].to_vec())).collect()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(heard: &Mutex<Heard>, stop: &AtomicBool) {
    let Ok(watched) = heard.lock().unwrap_or_else(PoisonError::into_inner).socket.try_clone() else { return };
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let mut descriptors = [PollFd::new(&watched, PollFlags::IN)];
        if rustix::event::poll(&mut descriptors, Some(&pause)).is_ok_and(|ready| ready > 0) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).drain();
        }
    }
}

impl Heard {
    fn drain(&mut self) {
        let mut frame = vec![0; LARGEST_FRAME];
        while let Ok((length, _)) =
            rustix::net::recv(self.socket.as_fd(), frame.as_mut_slice(), rustix::net::RecvFlags::DONTWAIT)
        {
            self.frames += 1;
            if let Some(segment) = Segment::parse(&frame[..length.min(LARGEST_FRAME)]) {
                self.keep(&segment);
            }
        }
    }

    fn keep(&mut self, segment: &Segment<'_>) {
        let flow = (segment.from, segment.to);
        let fits = self.bytes + segment.payload.len() <= KEPT_BYTES;
        if !fits || (self.flows.len() >= KEPT_FLOWS && !self.flows.contains_key(&flow)) {
            self.complete = false;
            return;
        }
        self.bytes += segment.payload.len();
        self.flows.entry(flow).or_default().extend_from_slice(segment.payload);
    }
}

fn open(device: &str) -> Result<OwnedFd> {
    let every_protocol = i32::from(u16::try_from(libc::ETH_P_ALL)?.to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every_protocol)))
        .context("cannot open a packet socket")?;
    let name = std::ffi::CString::new(device)?;
    // SAFETY: the name is a terminated string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        bail!("there is no device {device}");
    }
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address))?;
    // SAFETY: the address is a live sockaddr_ll and its length is given with it.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot listen on {device}"));
    }
    let size = SOCKET_BUFFER;
    let length = u32::try_from(size_of_val(&size))?;
    // SAFETY: the option is an int that lives through the call. A smaller buffer only loses frames, which is counted.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const size).cast(), length)
    };
    Ok(socket.into())
}

/// Frames that found no room since the last question; asking again adds nothing to an answer above zero.
fn kernel_drops(socket: &OwnedFd) -> Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = u32::try_from(size_of_val(&statistics))?;
    // SAFETY: the buffer is a live tpacket_stats and its length is given with it.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if asked != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot ask how many frames were dropped");
    }
    Ok(statistics.tp_drops)
}

/// A TCP segment with its payload.
struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Nothing for other protocols, fragments, extension headers and damaged frames.
    fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
            0x0800 => {
                let header = usize::from(packet.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
                let address =
                    |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?)));
                let end = total.min(packet.len());
                (*packet.get(9)? == 6).then_some(())?;
                Self::of_tcp(address(12)?, address(16)?, packet.get(header..end)?)
            }
            0x86dd => {
                let end = (40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]))).min(packet.len());
                let address =
                    |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)));
                (*packet.get(6)? == 6).then_some(())?;
                Self::of_tcp(address(8)?, address(24)?, packet.get(40..end)?)
            }
            _ => None,
        }
    }

    fn of_tcp(from: IpAddr, to: IpAddr, segment: &'a [u8]) -> Option<Self> {
        let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
        let header = usize::from(segment.get(12)? >> 4) * 4;
        Some(Self {
            from: SocketAddr::new(from, port(0)?),
            to: SocketAddr::new(to, port(2)?),
            payload: segment.get(header..)?,
        })
    }
}

fn position(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len().max(1)).position(|window| window == pattern)
}

fn excerpt(payload: &[u8], position: usize, length: usize) -> String {
    let around = &payload[position.saturating_sub(24)..(position + length + 24).min(payload.len())];
    around.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 10.0.0.1:1000 to 10.0.0.2:80, "hello", and six bytes of Ethernet padding.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 45, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([3, 232, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 24, 0, 0, 0, 0, 0, 0]);
        frame.extend(b"hello\0\0\0\0\0\0");
        frame
    }

    #[test]
    fn the_payload_of_a_segment_is_found_without_the_padding() {
        let frame = frame();
        let segment = Segment::parse(&frame).unwrap();
        assert_eq!(segment.payload, b"hello");
        assert_eq!((segment.from.to_string(), segment.to.to_string()), ("10.0.0.1:1000".into(), "10.0.0.2:80".into()));
    }

    #[test]
    fn damaged_frames_are_passed_over() {
        let frame = frame();
        for length in 0..frame.len() {
            Segment::parse(&frame[..length]);
        }
        assert!(Segment::parse(&frame[..30]).is_none());
    }
}
