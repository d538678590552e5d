//! As much of rtnetlink(7) as the tier needs: it runs as the only program of a machine, without `ip`.
//!
//! Every function acts on the network namespace of the calling thread.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 5;
/// `NLM_F_CREATE | NLM_F_EXCL`.
const CREATE: u16 = 0x600;
const HEADER: usize = 16;

const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const LINK_NETNS: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const INTERFACE_UP: u32 = 1;
/// No duplicate address detection: the address works at once.
const NO_DETECTION: u8 = 2;
const ROUTE_MAIN: u8 = 254;
const ROUTE_STATIC: u8 = 4;
const ROUTE_UNICAST: u8 = 1;

/// Makes a pair of devices: `name` here, `peer_name` in the other namespace.
pub fn add_veth(name: &str, peer_name: &str, peer_netns: &File) -> Result<()> {
    let mut peer = interface_header(0, 0);
    attribute(&mut peer, LINK_NAME, &text(peer_name));
    attribute(&mut peer, LINK_NETNS, &peer_netns.as_raw_fd().to_ne_bytes());
    let mut data = Vec::new();
    attribute(&mut data, VETH_PEER, &peer);
    let mut info = Vec::new();
    attribute(&mut info, INFO_KIND, b"veth");
    attribute(&mut info, INFO_DATA, &data);
    let mut body = interface_header(0, 0);
    attribute(&mut body, LINK_NAME, &text(name));
    attribute(&mut body, LINK_INFO, &info);
    ask(NEW_LINK, CREATE, &body).context("make a pair of devices: is veth there?")
}

/// Brings a device up.
pub fn set_up(name: &str) -> Result<()> {
    ask(NEW_LINK, 0, &interface_header(index(name)?, INTERFACE_UP)).with_context(|| format!("bring {name} up"))
}

/// Gives a device an address.
pub fn add_address(name: &str, address: IpAddr, prefix: u8) -> Result<()> {
    let flags = if address.is_ipv6() { NO_DETECTION } else { 0 };
    let mut body = vec![family(address), prefix, flags, 0];
    body.extend(index(name)?.to_ne_bytes());
    attribute(&mut body, ADDRESS_LOCAL, &octets(address));
    attribute(&mut body, ADDRESS_ADDRESS, &octets(address));
    ask(NEW_ADDRESS, CREATE, &body).with_context(|| format!("give {name} the address {address}"))
}

/// Sends everything without a route of its own through a gateway.
pub fn add_default_route(name: &str, gateway: IpAddr) -> Result<()> {
    let mut body = vec![family(gateway), 0, 0, 0, ROUTE_MAIN, ROUTE_STATIC, 0, ROUTE_UNICAST];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, ROUTE_GATEWAY, &octets(gateway));
    attribute(&mut body, ROUTE_INTERFACE, &index(name)?.to_ne_bytes());
    ask(NEW_ROUTE, CREATE, &body).with_context(|| format!("route through {gateway}"))
}

/// The number of a device.
pub fn index(name: &str) -> Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name is a string that ends with a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => bail!("there is no device {}", name.to_string_lossy()),
        index => Ok(index),
    }
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> Result<()> {
    let length = u32::try_from(HEADER + body.len())?;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.write_all(&message)?;
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer)?;
    let (Some(answered), Some(code)) = (answer.get(4..6), answer.get(HEADER..HEADER + 4)) else {
        bail!("{length} bytes are no answer");
    };
    if u16::from_ne_bytes(answered.try_into()?) != ERROR {
        bail!("the answer is of another kind");
    }
    match i32::from_ne_bytes(code.try_into()?) {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(-code).into()),
    }
}

fn interface_header(index: u32, up: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn text(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

fn family(address: IpAddr) -> u8 {
    u8::try_from(if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).unwrap_or(0)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}
