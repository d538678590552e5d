//! Addresses, ports and tuples as the kernel has them: network byte order, IPv4 as `::ffff:a.b.c.d`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::layout::plain;
use crate::limits::{AGENT_LOOPBACK_PREFIX, CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST};

/// The third word of every IPv4-mapped address.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IP address in 16 bytes, as four words that keep the network's byte order in memory.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Address(pub [u32; 4]);

plain!(Address, 16);

impl Address {
    /// `::`, which also says "no address".
    pub const NONE: Self = Self([0; 4]);
    /// `::ffff:0.0.0.0`: every IPv4 address of a namespace.
    pub const ANY4: Self = Self::from_ip4_word(0);

    /// From a word that the kernel holds in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from_ip4_word(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// Parses nothing: every `IpAddr` has exactly one form here.
    #[must_use]
    pub fn from_ip(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
            IpAddr::V6(six) => six.octets(),
        };
        Self([0, 4, 8, 12].map(|at| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])))
    }

    /// The address as the standard library has it; a mapped one is IPv4.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        let octets = self.octets();
        if self.is_ip4() {
            return IpAddr::V4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]));
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }

    /// The 16 bytes in network order.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_ip4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// `::` or 0.0.0.0, which `connect()` takes for "this host".
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(self) -> bool {
        let high = self.0[0] | self.0[1] | self.0[3];
        high == 0 && (self.0[2] == 0 || self.0[2] == MAPPED)
    }

    /// 127.0.0.0/8 or `::1`.
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        if self.is_ip4() {
            return self.0[3] & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be();
        }
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 1_u32.to_be()
    }

    /// 169.254.0.0/16 or `fe80::/10`: metadata services and node-local DNS live here.
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        if self.is_ip4() {
            return self.0[3] & 0xffff_0000_u32.to_be() == 0xa9fe_0000_u32.to_be();
        }
        self.0[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
    }

    /// 224.0.0.0/4, 255.255.255.255 or `ff00::/8`.
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast_or_broadcast(self) -> bool {
        if self.is_ip4() {
            let class = self.0[3] & 0xf000_0000_u32.to_be();
            return class == 0xe000_0000_u32.to_be() || self.0[3] == u32::MAX;
        }
        self.0[0] & 0xff00_0000_u32.to_be() == 0xff00_0000_u32.to_be()
    }

    /// An address from which only the agent connects to an app: its slice of 127/8, or `::1`.
    #[inline(always)]
    #[must_use]
    pub const fn is_agent_loopback(self) -> bool {
        if self.is_ip4() {
            let prefix = u32::from_be_bytes([AGENT_LOOPBACK_PREFIX[0], AGENT_LOOPBACK_PREFIX[1], 0, 0]);
            return self.0[3] & 0xffff_0000_u32.to_be() == prefix.to_be();
        }
        self.is_loopback()
    }
}

/// A TCP port in network byte order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Port(u16);

plain!(Port, 2);

impl Port {
    /// From the number that people write.
    #[inline(always)]
    #[must_use]
    pub const fn from_host(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From a word that the kernel holds in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from_network(word: u16) -> Self {
        Self(word)
    }

    /// The number that people write.
    #[inline(always)]
    #[must_use]
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The word that the kernel holds.
    #[inline(always)]
    #[must_use]
    pub const fn network(self) -> u16 {
        self.0
    }

    /// Its place in the capture range, if it is in there.
    #[inline(always)]
    #[must_use]
    pub const fn capture_index(self) -> Option<u16> {
        let number = self.host();
        if number < CAPTURE_PORT_FIRST || number > CAPTURE_PORT_LAST { None } else { Some(number - CAPTURE_PORT_FIRST) }
    }
}

/// The two ends of a connection, seen from the side that opened it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    pub source: Address,
    pub destination: Address,
    pub source_port: Port,
    pub destination_port: Port,
    pub padding: u32,
}

plain!(Tuple, 40);

impl Tuple {
    /// A tuple from its two ends.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: (Address, Port), destination: (Address, Port)) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            padding: 0,
        }
    }

    /// A tuple as the standard library's addresses say it.
    #[must_use]
    pub fn from_sockets(source: SocketAddr, destination: SocketAddr) -> Self {
        let end = |socket: SocketAddr| (Address::from_ip(socket.ip()), Port::from_host(socket.port()));
        Self::new(end(source), end(destination))
    }

    /// A number that is the same for every packet of the connection, for the choice of a worker.
    #[inline(always)]
    #[must_use]
    pub const fn hash(&self) -> u32 {
        let ports = (self.source_port.network() as u32) << 16 | self.destination_port.network() as u32;
        let mut hash = mix(0x9e37_79b9, ports);
        let mut word = 0;
        while word < 4 {
            hash = mix(hash, self.source.0[word]);
            hash = mix(hash, self.destination.0[word]);
            word += 1;
        }
        hash ^ hash >> 16
    }
}

/// One round of a multiplicative hash.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u32, word: u32) -> u32 {
    let product = (hash ^ word).wrapping_mul(0x85eb_ca6b);
    product ^ product >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_survives_the_way_through_the_kernel() {
        for text in ["10.1.2.3", "127.0.0.1", "::", "::1", "fe80::1", "2001:db8::7", "255.255.255.255"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Address::from_ip(address).to_ip(), address);
        }
    }

    #[test]
    fn classes_of_addresses_are_told_apart() {
        let class = |text: &str| {
            let address = Address::from_ip(text.parse().unwrap());
            (
                address.is_unspecified(),
                address.is_loopback(),
                address.is_link_local(),
                address.is_multicast_or_broadcast(),
                address.is_agent_loopback(),
            )
        };
        assert_eq!(class("0.0.0.0"), (true, false, false, false, false));
        assert_eq!(class("::"), (true, false, false, false, false));
        assert_eq!(class("127.0.0.1"), (false, true, false, false, false));
        assert_eq!(class("127.87.3.4"), (false, true, false, false, true));
        assert_eq!(class("::1"), (false, true, false, false, true));
        assert_eq!(class("169.254.169.254"), (false, false, true, false, false));
        assert_eq!(class("fe80::9"), (false, false, true, false, false));
        assert_eq!(class("239.0.0.1"), (false, false, false, true, false));
        assert_eq!(class("255.255.255.255"), (false, false, false, true, false));
        assert_eq!(class("ff02::1"), (false, false, false, true, false));
        assert_eq!(class("10.0.0.1"), (false, false, false, false, false));
        assert_eq!(class("2001:db8::1"), (false, false, false, false, false));
    }

    #[test]
    fn the_capture_range_has_64_ports() {
        assert_eq!(Port::from_host(61_000).capture_index(), Some(0));
        assert_eq!(Port::from_host(61_063).capture_index(), Some(63));
        assert_eq!(Port::from_host(60_999).capture_index(), None);
        assert_eq!(Port::from_host(61_064).capture_index(), None);
    }
}
