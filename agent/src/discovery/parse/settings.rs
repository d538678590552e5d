//! Facts of the whole mesh: settings, and the certificates to trust.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_policy::ReadError;
use weft_proto::names::TrustDomain;
use weft_proto::v1;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Domains;
use super::fields::{name, network, networks, problem};
use crate::limits;
use crate::model::default_trust_domain;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub domains: Domains,
    pub captured_networks: Vec<IpNet>,
    pub never_captured: Vec<(IpAddr, Option<u16>)>,
    pub lease_milliseconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: Domains { name: default_trust_domain(), aliases: Vec::new() },
            captured_networks: Vec::new(),
            never_captured: Vec::new(),
            lease_milliseconds: milliseconds(limits::LEASE_DEFAULT),
        }
    }
}

pub fn read(row: &v1::Settings) -> Result<Settings, ReadError> {
    Ok(Settings {
        domains: Domains {
            name: name("trust_domain", &row.trust_domain)?,
            aliases: row
                .trust_domain_aliases
                .iter()
                .map(|alias| name::<TrustDomain>("trust_domain_aliases", alias))
                .collect::<Result<_, _>>()?,
        },
        captured_networks: networks("captured_cidrs", &row.captured_cidrs)?,
        never_captured: row.never_captured.iter().map(|text| exception(text)).collect::<Result<_, _>>()?,
        lease_milliseconds: lease(row.lease_ms),
    })
}

/// What can be read of it: in force only where no better settings were before.
pub fn safe(row: Option<&v1::Settings>) -> Settings {
    let Some(row) = row else { return Settings::default() };
    let default = Settings::default();
    Settings {
        domains: Domains {
            name: row.trust_domain.parse().unwrap_or(default.domains.name),
            aliases: row.trust_domain_aliases.iter().filter_map(|alias| alias.parse().ok()).collect(),
        },
        captured_networks: row.captured_cidrs.iter().filter_map(|text| network("", text).ok()).collect(),
        never_captured: row.never_captured.iter().filter_map(|text| exception(text).ok()).collect(),
        lease_milliseconds: lease(row.lease_ms),
    }
}

pub fn read_trust(row: &v1::Trust) -> Result<Arc<[Vec<u8>]>, ReadError> {
    if row.roots_der.is_empty() {
        return Err(problem("roots_der", "a mesh trusts at least one root"));
    }
    if row.roots_der.len() > limits::ROOTS_MAXIMUM {
        return Err(problem("roots_der", format!("more than {} roots", limits::ROOTS_MAXIMUM)));
    }
    match row.roots_der.iter().position(|root| !is_certificate(root)) {
        None => Ok(row.roots_der.clone().into()),
        Some(index) => Err(problem(format!("roots_der[{index}]"), "not a DER certificate")),
    }
}

/// The roots that can be read: in force only where no better bundle was before.
pub fn safe_trust(row: Option<&v1::Trust>) -> Arc<[Vec<u8>]> {
    let roots = row.map(|row| row.roots_der.as_slice()).unwrap_or_default();
    roots.iter().filter(|root| is_certificate(root)).take(limits::ROOTS_MAXIMUM).cloned().collect()
}

/// `address` or `address:port`.
fn exception(text: &str) -> Result<(IpAddr, Option<u16>), ReadError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_canonical(), None));
    }
    match text.parse::<SocketAddr>() {
        Ok(socket) => Ok((socket.ip().to_canonical(), Some(socket.port()))),
        Err(_) => Err(problem("never_captured", format!("{text:?} is neither ADDRESS nor ADDRESS:PORT"))),
    }
}

fn is_certificate(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

/// Zero says nothing.
fn lease(written: u32) -> u32 {
    match written {
        0 => milliseconds(limits::LEASE_DEFAULT),
        lease => lease.max(milliseconds(limits::LEASE_MINIMUM)),
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
