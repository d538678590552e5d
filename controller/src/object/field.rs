//! A field that says something impossible, and the small parsers that find out.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::limits;

/// Which field is wrong, why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; {fix}")]
pub struct FieldError {
    /// Such as `spec.rules[0].from[1].cidrs[0]`.
    pub path: String,
    pub problem: String,
    /// A sentence that begins in lower case.
    pub fix: String,
}

impl FieldError {
    pub fn new(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), fix: fix.into() }
    }
}

/// In its only form: an IPv4 address that is written as one of IPv6 is the same address, and no claim beside it.
pub(super) fn address(path: &str, value: &str) -> Result<IpAddr, FieldError> {
    let address = IpAddr::from_str(value).map_err(|_| {
        FieldError::new(path, format!("{value:?} is not an IP address"), "write one such as 10.0.0.7 or fd00::7")
    })?;
    Ok(address.to_canonical())
}

/// A range whose address has no bit outside its prefix.
pub(super) fn range(path: &str, value: &str) -> Result<IpNet, FieldError> {
    let net = IpNet::from_str(value).map_err(|_| {
        FieldError::new(path, format!("{value:?} is not an address range"), "write one such as 10.0.0.0/8 or fd00::/8")
    })?;
    if net.addr() != net.network() {
        return Err(FieldError::new(
            path,
            format!("{value:?} has address bits beyond its prefix"),
            format!("write {}", net.trunc()),
        ));
    }
    Ok(net)
}

pub(super) fn ranges(path: &str, values: &[String]) -> Result<Vec<IpNet>, FieldError> {
    values.iter().enumerate().map(|(index, value)| range(&format!("{path}[{index}]"), value)).collect()
}

/// A TCP port. Zero is none.
pub(super) fn port(path: &str, value: i64) -> Result<u16, FieldError> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(FieldError::new(path, format!("{value} is not a port"), "write a number from 1 to 65535")),
    }
}

/// A port that a rule or an exception may speak of: not one of the agents' own.
pub(super) fn ruled_port(path: &str, value: i64) -> Result<u16, FieldError> {
    let port = port(path, value)?;
    if limits::CAPTURE_PORTS.contains(&port) {
        let (first, last) = limits::CAPTURE_PORTS.into_inner();
        return Err(FieldError::new(
            path,
            format!("port {port} is one of the agents' own, {first} to {last}"),
            "name a port of the application",
        ));
    }
    Ok(port)
}

pub(super) fn ports(path: &str, values: &[i32]) -> Result<Vec<u16>, FieldError> {
    let mut ports = values
        .iter()
        .enumerate()
        .map(|(index, value)| ruled_port(&format!("{path}[{index}]"), i64::from(*value)))
        .collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// `a, b,c`: what annotations use for lists. An empty text is an empty list.
pub(super) fn comma_separated<T>(
    path: &str,
    text: &str,
    parse: impl Fn(&str, &str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| parse(path, part)).collect()
}

/// [`duration`], where one that is longer than 49 days counts as that long.
pub(super) fn milliseconds(path: &str, text: &str) -> Result<u32, FieldError> {
    Ok(u32::try_from(duration(path, text)?).unwrap_or(u32::MAX))
}

/// Gateway API's durations (GEP-2257), such as `1h30m`, `2s` or `500ms`, in milliseconds: up to four parts that add up.
pub(super) fn duration(path: &str, text: &str) -> Result<u64, FieldError> {
    let wrong = || FieldError::new(path, format!("{text:?} is not a duration"), "write one such as 1h30m, 2s or 500ms");
    let (mut rest, mut parts, mut sum) = (text, 0, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let factor = match &rest[digits..digits + unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return Err(wrong());
        }
        sum += rest[..digits].parse::<u64>().map_err(|_| wrong())? * factor;
        rest = &rest[digits + unit..];
    }
    if parts == 0 {
        return Err(wrong());
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gateway_api() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m5s10ms", Some(5_405_010)),
            ("1s1s", Some(2_000)),
            ("99999h", Some(u32::MAX)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("1d", None),
            ("1 s", None),
            ("1µ", None),
        ] {
            assert_eq!(milliseconds("spec.timeouts.request", text).ok(), expected, "{text:?}");
        }
    }
}
