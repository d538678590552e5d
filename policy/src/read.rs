//! From the protocol's message to validated types; what cannot be read names its field.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use weft_proto::v1;

use crate::{
    Action, HeaderCondition, HostPattern, Operation, PathPattern, Policy, PolicyName, PortMatch, Rule, Source,
};

/// Rules of one policy: above what a person writes, so that one policy cannot make each connection slow.
pub const RULES_MAXIMUM: usize = 1024;
/// Values of one list, for the same reason.
pub const LIST_MAXIMUM: usize = 4096;

/// Bytes of one header value, for the same reason.
pub const HEADER_VALUE_MAXIMUM: usize = 4096;

/// Names the field that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ReadError {
    pub field: String,
    pub problem: String,
}

impl ReadError {
    fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

/// Reads a policy. On an error the caller applies [`Policy::safe_reading`].
pub fn read(message: &v1::AuthorizationPolicy) -> Result<Policy, ReadError> {
    let name = format!("{}/{}", message.namespace, message.name).parse::<PolicyName>();
    bounded("rules", message.rules.len(), RULES_MAXIMUM)?;
    Ok(Policy {
        name: name.map_err(|error| ReadError::new("name", error))?,
        action: action(message.action)?,
        dry_run: message.dry_run,
        enforced: message.enforced,
        target_ports: ports("target_ports", &message.target_ports)?,
        rules: each("rules", &message.rules, read_rule)?,
        unread: None,
    })
}

/// Reads `address/prefix`, or an address that stands for itself. IPv4 written as IPv6 becomes IPv4, as peers' addresses do.
pub fn read_network(text: &str) -> Result<IpNet, ReadError> {
    let network = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    let network = network
        .map_err(|_| ReadError::new("", format!("{text:?} is not a network of the form ADDRESS/PREFIX")))?
        .trunc();
    Ok(match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => {
            let inside: Ipv6Addr = mapped.network();
            let plain = inside.to_ipv4_mapped();
            let narrowed = plain.and_then(|plain| Ipv4Net::new(plain, mapped.prefix_len() - 96).ok());
            narrowed.map_or(network, IpNet::V4)
        }
        IpNet::V4(_) | IpNet::V6(_) => network,
    })
}

pub(crate) fn action(number: i32) -> Result<Action, ReadError> {
    match v1::Action::try_from(number) {
        Ok(v1::Action::Allow) => Ok(Action::Allow),
        Ok(v1::Action::Deny) => Ok(Action::Deny),
        Ok(v1::Action::Audit) => Ok(Action::Audit),
        Ok(v1::Action::Unspecified) | Err(_) => {
            Err(ReadError::new("action", format!("{number} is not a known action")))
        }
    }
}

pub(crate) fn ports(field: &str, numbers: &[u32]) -> Result<Vec<u16>, ReadError> {
    each(field, numbers, |field, number| match u16::try_from(*number) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(ReadError::new(field, format!("{number} is not a port (1 to 65535)"))),
    })
}

fn read_rule(field: &str, rule: &v1::AuthorizationRule) -> Result<Rule, ReadError> {
    let from = rule.from.as_ref().map(|from| each(&format!("{field}.from.sources"), &from.sources, read_source));
    let to = rule.to.as_ref().map(|to| {
        let ports = ports(&format!("{field}.to.ports"), &to.ports)?;
        Ok(PortMatch { ports, negated: to.not })
    });
    let operations = rule.operations.as_ref().map(|list| {
        let field = format!("{field}.operations");
        each(&field, &list.operations, read_operation)
    });
    Ok(Rule {
        from: from.transpose()?,
        to: to.transpose()?,
        operations: operations.transpose()?,
        headers: each(&format!("{field}.headers"), &rule.headers, read_header)?,
        written: rule.written.and_then(|written| usize::try_from(written).ok()),
    })
}

fn read_operation(field: &str, operation: &v1::Operation) -> Result<Operation, ReadError> {
    let hosts = |name: &str, list: &Option<v1::StringList>| names::<HostPattern>(field, name, list.as_ref());
    Ok(Operation {
        methods: names(field, "methods", operation.methods.as_ref())?,
        hosts: hosts("hosts", &operation.hosts)?,
        paths: paths(&format!("{field}.paths"), operation.paths.as_ref())?,
        not_methods: names(field, "not_methods", operation.not_methods.as_ref())?,
        not_hosts: hosts("not_hosts", &operation.not_hosts)?,
        not_paths: paths(&format!("{field}.not_paths"), operation.not_paths.as_ref())?,
    })
}

fn paths(field: &str, list: Option<&v1::PathList>) -> Result<Option<Vec<PathPattern>>, ReadError> {
    list.map(|list| each(field, &list.paths, read_path)).transpose()
}

fn read_path(field: &str, pattern: &v1::PathPattern) -> Result<PathPattern, ReadError> {
    let read = match v1::PathPatternKind::try_from(pattern.kind) {
        Ok(v1::PathPatternKind::Exact) => PathPattern::exact(&pattern.value),
        Ok(v1::PathPatternKind::Prefix) => PathPattern::prefix(&pattern.value),
        Ok(v1::PathPatternKind::Template) => PathPattern::template(&pattern.value),
        Ok(v1::PathPatternKind::Unspecified) | Err(_) => {
            return Err(ReadError::new(field, format!("{} is not a known kind of path pattern", pattern.kind)));
        }
    };
    read.map_err(|error| ReadError::new(field, error))
}

fn read_header(field: &str, condition: &v1::HeaderCondition) -> Result<HeaderCondition, ReadError> {
    let name = HeaderName::from_lowercase(condition.name.as_bytes()).map_err(|_| {
        ReadError::new(format!("{field}.name"), format!("{:?} is not a header's name in lower case", condition.name))
    })?;
    if condition.values.is_none() && condition.not_values.is_none() {
        return Err(ReadError::new(field, "it has neither values nor not_values"));
    }
    let texts = |name: &str, list: &Option<v1::StringList>| {
        list_of(field, name, list.as_ref(), |text| {
            bounded("", text.len(), HEADER_VALUE_MAXIMUM).map(|()| Box::<str>::from(text))
        })
    };
    Ok(HeaderCondition {
        name,
        values: texts("values", &condition.values)?,
        not_values: texts("not_values", &condition.not_values)?,
    })
}

fn read_source(field: &str, source: &v1::Source) -> Result<Source, ReadError> {
    let networks = |name: &str, list: &Option<v1::StringList>| list_of(field, name, list.as_ref(), read_network);
    Ok(Source {
        identities: names(field, "identities", source.identities.as_ref())?,
        namespaces: names(field, "namespaces", source.namespaces.as_ref())?,
        service_accounts: names(field, "service_accounts", source.service_accounts.as_ref())?,
        networks: networks("cidrs", &source.cidrs)?,
        not_identities: names(field, "not_identities", source.not_identities.as_ref())?,
        not_namespaces: names(field, "not_namespaces", source.not_namespaces.as_ref())?,
        not_service_accounts: names(field, "not_service_accounts", source.not_service_accounts.as_ref())?,
        not_networks: networks("not_cidrs", &source.not_cidrs)?,
    })
}

fn names<T>(field: &str, name: &str, list: Option<&v1::StringList>) -> Result<Option<Vec<T>>, ReadError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    list_of(field, name, list, |text| text.parse().map_err(|error| ReadError::new("", error)))
}

fn list_of<T>(
    field: &str,
    name: &str,
    list: Option<&v1::StringList>,
    read: impl Fn(&str) -> Result<T, ReadError>,
) -> Result<Option<Vec<T>>, ReadError> {
    let Some(list) = list else { return Ok(None) };
    let named = |field: &str, value: &String| read(value).map_err(|error| ReadError::new(field, error.problem));
    each(&format!("{field}.{name}"), &list.values, named).map(Some)
}

/// Reads every element of a list, naming a bad one by its index.
fn each<T, R>(field: &str, list: &[T], read: impl Fn(&str, &T) -> Result<R, ReadError>) -> Result<Vec<R>, ReadError> {
    bounded(field, list.len(), LIST_MAXIMUM)?;
    list.iter().enumerate().map(|(index, value)| read(&format!("{field}[{index}]"), value)).collect()
}

fn bounded(field: &str, length: usize, maximum: usize) -> Result<(), ReadError> {
    if length > maximum {
        return Err(ReadError::new(field, format!("{length} elements, at most {maximum} are allowed")));
    }
    Ok(())
}
