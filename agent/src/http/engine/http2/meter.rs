//! Counts the frames of an HTTP/2 connection (RFC 9113, section 4.1) and knows a flood when it sees one.
//!
//! The engine bounds what frames may make it keep, not how many of them it answers. Frames that carry requests and answers,
//! either way, earn the peer its right to others: settings, pings, windows, resets, priorities and what nobody knows.
//! Invariant: nothing is kept of any frame but its nine octets of header. Absent: errors of the protocol, the engine's.

use crate::limits;

/// RFC 9113, section 3.4.
const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// One direction of a connection, cut into frames.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// Octets of the header that have come.
    seen: usize,
    /// Octets that belong to no header.
    skip: usize,
    begun: usize,
}

impl Frames {
    const fn after(skip: usize) -> Self {
        Self { header: [0; HEADER], seen: 0, skip, begun: 0 }
    }

    /// Tells of each frame that begins, by its type and length.
    fn read(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8, usize)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.seen).min(bytes.len());
            self.header[self.seen..self.seen + taken].copy_from_slice(&bytes[..taken]);
            self.seen += taken;
            bytes = &bytes[taken..];
            if self.seen == HEADER {
                let [high, middle, low, kind, ..] = self.header;
                self.seen = 0;
                self.begun = self.begun.saturating_add(1);
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                frame(kind, self.skip);
            }
        }
    }
}

/// Which end of the connection this agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

#[derive(Debug)]
pub struct Meter {
    received: Frames,
    sent: Frames,
    /// Frames that the peer may still send without a request or an answer.
    allowance: u32,
}

/// The peer sends nothing but frames that have to be answered or noted.
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

impl Meter {
    pub const fn new(end: End) -> Self {
        let (received, sent) = match end {
            End::Server => (PREFACE, 0),
            End::Client => (0, PREFACE),
        };
        Self { received: Frames::after(received), sent: Frames::after(sent), allowance: limits::HTTP2_CONTROL_FRAMES }
    }

    pub fn received(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let (mut allowance, mut flood) = (self.allowance, false);
        self.received.read(bytes, |kind, length| {
            if carries(kind, length) {
                allowance = earned(allowance);
            } else {
                flood |= allowance == 0;
                allowance = allowance.saturating_sub(1);
            }
        });
        self.allowance = allowance;
        if flood { Err(Flood) } else { Ok(()) }
    }

    /// The peer's first frame has come whole, which are its settings (RFC 9113, section 3.4).
    pub const fn has_settings(&self) -> bool {
        let Frames { begun, skip, .. } = self.received;
        begun > 1 || (begun == 1 && skip == 0)
    }

    pub fn sent(&mut self, bytes: &[u8]) {
        let mut allowance = self.allowance;
        self.sent.read(bytes, |kind, length| {
            if carries(kind, length) {
                allowance = earned(allowance);
            }
        });
        self.allowance = allowance;
    }
}

const fn carries(kind: u8, length: usize) -> bool {
    kind == HEADERS || (kind == DATA && length > 0)
}

const fn earned(allowance: u32) -> u32 {
    let sum = allowance.saturating_add(limits::HTTP2_CONTROL_FRAMES_EARNED);
    if sum < limits::HTTP2_CONTROL_FRAMES { sum } else { limits::HTTP2_CONTROL_FRAMES }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], &vec![0xff; length.into()]].concat()
    }

    fn listed(frames: &mut Frames, bytes: &[u8]) -> Vec<(u8, usize)> {
        let mut list = Vec::new();
        frames.read(bytes, |kind, length| list.push((kind, length)));
        list
    }

    #[test]
    fn a_flood_is_known_after_its_allowance_and_work_earns_it_back() {
        let mut meter = Meter::new(End::Client);
        let pings = frame(PING, 8).repeat(limits::HTTP2_CONTROL_FRAMES as usize);
        assert_eq!(meter.received(&pings), Ok(()));
        meter.sent(&[0; PREFACE]);
        meter.sent(&frame(HEADERS, 3));
        assert_eq!(meter.received(&frame(SETTINGS, 0).repeat(limits::HTTP2_CONTROL_FRAMES_EARNED as usize)), Ok(()));
        assert_eq!(meter.received(&frame(DATA, 0)), Err(Flood));
    }

    #[test]
    fn a_stream_of_small_messages_with_a_ping_and_windows_for_each_is_none() {
        let mut meter = Meter::new(End::Server);
        assert_eq!(meter.received(&[0; PREFACE]), Ok(()));
        for _ in 0..3 * limits::HTTP2_CONTROL_FRAMES {
            meter.sent(&frame(DATA, 6));
            assert_eq!(meter.received(&[frame(PING, 8), frame(8, 4), frame(8, 4)].concat()), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_their_bytes_come(
            frames in prop::collection::vec((0_u8..12, any::<u8>()), 0..20),
            preface in any::<bool>(),
            cuts in prop::collection::vec(1_usize..40, 1..40),
        ) {
            let skip = if preface { PREFACE } else { 0 };
            let bytes = [vec![7; skip], frames.iter().flat_map(|(kind, length)| frame(*kind, *length)).collect()].concat();
            let mut reader = Frames::after(skip);
            let (mut found, mut rest, mut turn) = (Vec::new(), &bytes[..], 0);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
                found.extend(listed(&mut reader, piece));
                (rest, turn) = (after, turn + 1);
            }
            let expected: Vec<_> = frames.iter().map(|(kind, length)| (*kind, usize::from(*length))).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_read_to_their_end(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut meter = Meter::new(End::Server);
            for piece in &pieces {
                let _ = meter.received(piece);
                meter.sent(piece);
                prop_assert!(meter.allowance <= limits::HTTP2_CONTROL_FRAMES);
            }
        }
    }
}
