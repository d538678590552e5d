//! Who a request is addressed to.

use std::fmt;
use std::net::Ipv6Addr;

use super::Refused;

/// A host in lower case without a trailing dot, and a port where one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    host: Box<str>,
    port: Option<u16>,
}

impl Authority {
    /// Of a request that names no host.
    #[must_use]
    pub fn nobody() -> Self {
        Self { host: Box::from(""), port: None }
    }

    /// A host that is already canonical.
    #[must_use]
    pub fn named(host: &str, port: Option<u16>) -> Self {
        Self { host: Box::from(host), port }
    }

    /// `host`, `host:port`, `[address]` or `[address]:port`; empty for nobody.
    pub fn read(text: &[u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(text).map_err(|_| Refused::Authority)?;
        if text.is_empty() {
            return Ok(Self::nobody());
        }
        if text.contains('@') {
            return Err(Refused::UserInAuthority);
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(Refused::Authority)?;
            let address: Ipv6Addr = address.parse().map_err(|_| Refused::Authority)?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(Refused::Authority)?) };
            return Ok(Self { host: format!("[{address}]").into(), port: read_port(port)? });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if host.is_empty() || host.ends_with('.') || host.len() > HOST_LENGTH || !host.bytes().all(fits) {
            return Err(Refused::Authority);
        }
        Ok(Self { host: host.to_ascii_lowercase().into(), port: read_port(port)? })
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

/// As it is forwarded.
impl fmt::Display for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

/// A name of the DNS has at most 253 characters (RFC 1035, section 2.3.4).
const HOST_LENGTH: usize = 253;

/// Nothing after the colon means the scheme's port (RFC 3986, section 3.2.3).
fn read_port(text: Option<&str>) -> Result<Option<u16>, Refused> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refused::Authority);
    }
    text.parse().ok().filter(|port| *port > 0).map(Some).ok_or(Refused::Authority)
}
