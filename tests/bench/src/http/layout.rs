//! Who is measured, and in which arrangement.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// Who carries the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Proxy {
    #[value(skip)]
    Weft,
    Envoy,
    Haproxy,
    Nginx,
}

/// From the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    /// Nobody between them.
    Direct,
    /// One proxy beside the client, plaintext on both sides.
    Hop(Proxy),
    /// One beside the client and one beside the server, mTLS between them.
    Pair(Proxy),
}

impl Proxy {
    /// Everybody but Weft, or those of them that are named.
    pub(super) fn peers(named: &[Self]) -> Vec<Self> {
        let all = [Self::Envoy, Self::Haproxy, Self::Nginx];
        all.into_iter().filter(|peer| named.is_empty() || named.contains(peer)).collect()
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Weft => "Weft",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }
}

impl Layout {
    /// The direct path, then Weft's and every peer's pair, then their hops.
    pub(super) fn all(peers: &[Proxy]) -> Vec<Self> {
        let proxies: Vec<Proxy> = std::iter::once(Proxy::Weft).chain(peers.iter().copied()).collect();
        let pairs = proxies.iter().copied().map(Self::Pair);
        std::iter::once(Self::Direct).chain(pairs).chain(proxies.iter().copied().map(Self::Hop)).collect()
    }

    /// The same with Weft; none of what is Weft's itself, or nobody's.
    pub(super) const fn of_weft(self) -> Option<Self> {
        match self {
            Self::Direct | Self::Hop(Proxy::Weft) | Self::Pair(Proxy::Weft) => None,
            Self::Hop(_) => Some(Self::Hop(Proxy::Weft)),
            Self::Pair(_) => Some(Self::Pair(Proxy::Weft)),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => formatter.write_str("direct"),
            Self::Hop(proxy) => write!(formatter, "{} hop", proxy.name()),
            Self::Pair(proxy) => write!(formatter, "{} pair", proxy.name()),
        }
    }
}

impl Serialize for Layout {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Proxy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
