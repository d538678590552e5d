//! The kinds of load, and their command lines both ways.

use std::ffi::OsString;

use clap::Subcommand;

use super::{Bulk, Hold, RoundTrip, Short};

/// A kind of load.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Load {
    /// New connections: connect, send, read the echo, close.
    Connect(Short),
    /// New connections to a server that speaks first: connect, read the greeting, close.
    Greeting(Short),
    /// Connections that stay: send, read the echo, again.
    RoundTrip(RoundTrip),
    /// As much as fits through one connection.
    Bulk(Bulk),
    /// Connections that move some bytes each and rest.
    Hold(Hold),
}

impl Load {
    /// The words after `generate` that mean this load.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words = match self {
            Self::Connect(plan) => plan.words("connect"),
            Self::Greeting(plan) => plan.words("greeting"),
            Self::RoundTrip(plan) => plan.words(),
            Self::Bulk(plan) => plan.words(),
            Self::Hold(plan) => plan.words(),
        };
        words.retain(|word| !word.is_empty());
        words.into_iter().map(OsString::from).collect()
    }

    /// How long it takes at most when everything goes as planned, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        match self {
            Self::Connect(plan) | Self::Greeting(plan) => plan.warm_up + plan.seconds,
            Self::RoundTrip(plan) => plan.warm_up + plan.seconds,
            Self::Bulk(plan) => plan.seconds,
            Self::Hold(plan) => plan.seconds,
        }
    }
}

/// A flag that may be left out.
pub(super) fn optional(flag: &str, value: Option<impl std::fmt::Display>) -> [String; 2] {
    value.map_or_else(Default::default, |value| [flag.to_owned(), value.to_string()])
}

#[cfg(test)]
mod tests {
    use super::super::bulk::Direction;
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        load: Load,
    }

    #[test]
    fn a_load_survives_its_own_command_line() {
        let to = "[fd71:2::3]:7001".parse().unwrap();
        let short = Short { rate: Some(250.5), seconds: 0.4, count: Some(200), bytes: 64, ..Short::open(to, 1.0, 1.0) };
        for load in [
            Load::Connect(short.clone()),
            Load::Greeting(Short { rate: None, connections: Some(3), ..short }),
            Load::RoundTrip(RoundTrip { rate: Some(1000.0), http: true, ..RoundTrip::closed(to, 16, 1.5) }),
            Load::Bulk(Bulk { to, seconds: 2.0, direction: Direction::Receive }),
            Load::Hold(Hold { to, connections: 2000, bytes: 1024, seconds: 30.0, http: true }),
        ] {
            let words = std::iter::once(OsString::from("generate")).chain(load.arguments());
            assert_eq!(Line::try_parse_from(words).unwrap().load, load);
        }
    }
}
