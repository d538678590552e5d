//! Single fields, each error naming its field.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use weft_policy::ReadError;
use weft_proto::v1;

use crate::model::MtlsMode;

/// Ports of one list. The controller sends at most 64 (its schemas' bound, and that of one annotation): each may cost an
/// entry in a table that all pods of the node share.
const PORTS_PER_LIST: usize = 64;
/// Ranges of one list: the captured ones are two lists of at most 64.
const NETWORKS_PER_LIST: usize = 128;

pub fn problem(field: impl Into<String>, problem: impl fmt::Display) -> ReadError {
    ReadError { field: field.into(), problem: problem.to_string() }
}

pub fn name<T>(field: &str, text: &str) -> Result<T, ReadError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| problem(field, error))
}

/// A name that is said twice must be the same both times.
pub fn same<T: PartialEq + fmt::Display>(field: &str, inside: &T, outside: &T) -> Result<(), ReadError> {
    if inside == outside {
        return Ok(());
    }
    Err(problem(field, format!("the resource is named {outside} and speaks of {inside}")))
}

pub fn port(field: &str, number: u32) -> Result<u16, ReadError> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(problem(field, format!("{number} is not a port (1 to 65535)"))),
    }
}

pub fn ports(field: &str, numbers: &[u32]) -> Result<Vec<u16>, ReadError> {
    bounded(field, numbers.len(), PORTS_PER_LIST)?;
    numbers.iter().map(|number| port(field, *number)).collect()
}

fn bounded(field: &str, count: usize, limit: usize) -> Result<(), ReadError> {
    if count > limit {
        return Err(problem(field, format!("it has {count} entries, and at most {limit} are read")));
    }
    Ok(())
}

/// 4 or 16 bytes; IPv4 written as IPv6 becomes IPv4.
pub fn address(field: &str, bytes: &[u8]) -> Result<IpAddr, ReadError> {
    let read = <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let address = read.map_err(|_| problem(field, format!("{} bytes are no address (4 or 16 are)", bytes.len())))?;
    Ok(address.to_canonical())
}

pub fn addresses(field: &str, list: &[Vec<u8>]) -> Result<Vec<IpAddr>, ReadError> {
    list.iter().map(|bytes| address(field, bytes)).collect()
}

pub fn network(field: &str, text: &str) -> Result<IpNet, ReadError> {
    weft_policy::read_network(text).map_err(|error| problem(field, error.problem))
}

pub fn networks(field: &str, list: &[String]) -> Result<Vec<IpNet>, ReadError> {
    bounded(field, list.len(), NETWORKS_PER_LIST)?;
    list.iter().map(|text| network(field, text)).collect()
}

pub fn mtls(field: &str, number: i32) -> Result<MtlsMode, ReadError> {
    match v1::MtlsMode::try_from(number) {
        Ok(v1::MtlsMode::Permissive) => Ok(MtlsMode::Permissive),
        Ok(v1::MtlsMode::Strict) => Ok(MtlsMode::Strict),
        Ok(v1::MtlsMode::Unspecified) | Err(_) => Err(problem(field, format!("{number} is not a known mTLS mode"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_too_long_is_refused_whole() {
        let numbers: Vec<u32> = (1..=65).collect();
        assert_eq!(ports("excluded", &numbers[..64]).unwrap().len(), 64);
        assert!(ports("excluded", &numbers).is_err());
        let texts: Vec<String> = (0..129).map(|number| format!("10.{number}.0.0/16")).collect();
        assert_eq!(networks("excluded", &texts[..128]).unwrap().len(), 128);
        assert!(networks("excluded", &texts).is_err());
    }
}
