//! Rare happenings in the kernel, read from its ring.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use weft_abi::rows::Event as Row;
use weft_abi::{Address, Port, Reason};

use super::error::BpfError;
use super::pod::NetnsCookie;
use super::system;

/// One happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// On the monotonic clock.
    pub at: Duration,
    pub netns: NetnsCookie,
    pub reason: Reason,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Happenings of the same CPU that the rate limit swallowed before this one.
    pub suppressed: u32,
}

/// The reading end. One process reads at a time.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn open(derived: &Path) -> Result<Self, BpfError> {
        let refused = |error: aya::maps::MapError| BpfError::Object(Box::new(error.into()));
        let map = MapData::from_pin(derived.join("EVENTS")).map_err(refused)?;
        let ring = Map::from_map_data(map).and_then(RingBuf::try_from).map_err(refused)?;
        Ok(Self { ring })
    }

    /// The oldest event that was not read yet. Never waits; the descriptor can be polled.
    pub fn next_event(&mut self) -> Option<Event> {
        let item = self.ring.next()?;
        let row: Row = system::from_bytes(&item)?;
        let end = |address: Address, port: Port| SocketAddr::new(address.to_ip(), port.host());
        Some(Event {
            at: Duration::from_nanos(row.at),
            netns: NetnsCookie(row.netns_cookie),
            reason: Reason(row.reason),
            source: end(row.tuple.source, row.tuple.source_port),
            destination: end(row.tuple.destination, row.tuple.destination_port),
            suppressed: row.suppressed,
        })
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
