//! Where a rule of an `AuthorizationPolicy` leads: ports, and what is asked for there.
//!
//! Agents know one port list and one list of operations in a rule. Destinations that name the same ports share a
//! rule; destinations of ports alone make one port list.

use std::collections::BTreeSet;

use weft_crd::{Destination, GrpcCall, HeaderCondition, PathPattern, PathPatternKind};
use weft_policy::{HostPattern, Method, PatternError};
use weft_proto::v1;

use super::authorization::says_nothing;
use crate::object::FieldError;
use crate::object::field::ports;

/// The part of one of the agents' rules that says where it leads.
type Reach = (Option<v1::PortList>, Option<v1::OperationList>);

/// Methods whose small letters are surely a mistake: no request has them.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// At least one, all together saying what the destinations say. Ports alone come first.
pub fn reaches(path: &str, destinations: Option<&[Destination]>) -> Result<Vec<Reach>, FieldError> {
    let Some(destinations) = destinations else { return Ok(vec![(None, None)]) };
    let mut connections: Option<PortSet> = None;
    let mut requests: Vec<(Option<PortSet>, Vec<v1::Operation>)> = Vec::new();
    for (index, destination) in destinations.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let ports = port_set(&path, destination)?;
        match (operation(&path, destination)?, ports) {
            (Some(operation), ports) => match requests.iter_mut().find(|(own, _)| *own == ports) {
                Some((_, operations)) => operations.push(operation),
                None => requests.push((ports, vec![operation])),
            },
            (None, Some(ports)) => {
                connections = Some(match connections {
                    Some(own) => own.union(ports),
                    None => ports,
                });
            }
            (None, None) => return Err(says_nothing(&path, "ports, methods, paths, hosts or grpc")),
        }
    }
    if requests.is_empty() {
        // An empty list matches nothing.
        connections.get_or_insert(PortSet::Only(BTreeSet::new()));
    }
    let mut all: Vec<Reach> = connections.map(|ports| (Some(ports.list()), None)).into_iter().collect();
    all.extend(requests.into_iter().map(|(ports, operations)| {
        let operations = v1::OperationList { operations };
        (ports.map(PortSet::list), Some(operations))
    }));
    Ok(all)
}

pub fn headers(path: &str, conditions: Option<&[HeaderCondition]>) -> Result<Vec<v1::HeaderCondition>, FieldError> {
    match conditions {
        None => Ok(Vec::new()),
        Some([]) => Err(FieldError::new(path, "it is empty, and would match everything", "leave it out")),
        Some(conditions) => {
            let numbered = conditions.iter().enumerate();
            numbered.map(|(index, condition)| header(&format!("{path}[{index}]"), condition)).collect()
        }
    }
}

fn header(path: &str, condition: &HeaderCondition) -> Result<v1::HeaderCondition, FieldError> {
    if condition.values.is_none() && condition.not_values.is_none() {
        return Err(says_nothing(path, "values or notValues"));
    }
    let name = weft_policy::header_name(&condition.header).map_err(|error| at(&format!("{path}.header"), error))?;
    let values = |name: &str, list: Option<&Vec<String>>| {
        texts(&format!("{path}.{name}"), list, |value| {
            let odd = value.chars().any(|letter| letter.is_control() && letter != '\t');
            if odd || value.trim_matches([' ', '\t']) != value {
                return Err(FieldError::new(
                    "",
                    format!("{value:?} is the value of no header"),
                    "leave out control characters, and spaces at its ends",
                ));
            }
            Ok(value.to_owned())
        })
    };
    Ok(v1::HeaderCondition {
        name: name.as_str().to_owned(),
        values: values("values", condition.values.as_ref())?,
        not_values: values("notValues", condition.not_values.as_ref())?,
    })
}

/// None when the destination speaks of ports alone.
fn operation(path: &str, destination: &Destination) -> Result<Option<v1::Operation>, FieldError> {
    let methods = |name: &str, list: Option<&Vec<String>>| texts(&format!("{path}.{name}"), list, method);
    let hosts = |name: &str, list: Option<&Vec<String>>| texts(&format!("{path}.{name}"), list, host);
    let patterns = |name: &str, list: &Option<Vec<PathPattern>>| {
        list.as_ref().map(|list| paths(&format!("{path}.{name}"), list)).transpose()
    };
    let written = patterns("paths", &destination.paths)?;
    let calls = destination.grpc.as_ref().map(|calls| grpc(&format!("{path}.grpc"), calls)).transpose()?;
    if written.is_some() && calls.is_some() {
        return Err(FieldError::new(
            format!("{path}.grpc"),
            "a call of gRPC is a path, and paths are there too",
            "write two entries, one with each",
        ));
    }
    let operation = v1::Operation {
        methods: methods("methods", destination.methods.as_ref())?,
        paths: written.or(calls),
        hosts: hosts("hosts", destination.hosts.as_ref())?,
        not_methods: methods("notMethods", destination.not_methods.as_ref())?,
        not_paths: patterns("notPaths", &destination.not_paths)?,
        not_hosts: hosts("notHosts", destination.not_hosts.as_ref())?,
    };
    Ok((operation != v1::Operation::default()).then_some(operation))
}

fn method(text: &str) -> Result<String, FieldError> {
    text.parse::<Method>().map_err(|error| at("", error))?;
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.contains(&upper.as_str()) {
        return Err(FieldError::new(
            "",
            format!("{text:?} is no method: their case matters"),
            format!("write {upper}"),
        ));
    }
    Ok(text.to_owned())
}

fn host(text: &str) -> Result<String, FieldError> {
    text.parse::<HostPattern>().map(|host| host.to_string()).map_err(|error| at("", error))
}

fn paths(path: &str, patterns: &[PathPattern]) -> Result<v1::PathList, FieldError> {
    let read = |(index, pattern): (usize, &PathPattern)| {
        let read = match pattern.kind {
            PathPatternKind::Exact => weft_policy::PathPattern::exact(&pattern.value),
            PathPatternKind::Prefix => weft_policy::PathPattern::prefix(&pattern.value),
            PathPatternKind::Template => weft_policy::PathPattern::template(&pattern.value),
        };
        read.map(|read| v1::PathPattern::from(&read)).map_err(|error| at(&format!("{path}[{index}].value"), error))
    };
    Ok(v1::PathList { paths: patterns.iter().enumerate().map(read).collect::<Result<_, _>>()? })
}

fn grpc(path: &str, calls: &[GrpcCall]) -> Result<v1::PathList, FieldError> {
    let read = |(index, call): (usize, &GrpcCall)| {
        let path = format!("{path}[{index}]");
        if *call == GrpcCall::default() {
            return Err(says_nothing(&path, "service or method"));
        }
        let read = weft_policy::PathPattern::grpc(call.service.as_deref(), call.method.as_deref());
        read.map(|read| v1::PathPattern::from(&read)).map_err(|error| at(&path, error))
    };
    Ok(v1::PathList { paths: calls.iter().enumerate().map(read).collect::<Result<_, _>>()? })
}

/// `read` leaves the path of its error empty.
fn texts(
    path: &str,
    values: Option<&Vec<String>>,
    read: impl Fn(&str) -> Result<String, FieldError>,
) -> Result<Option<v1::StringList>, FieldError> {
    let Some(values) = values else { return Ok(None) };
    let read = |(index, value): (usize, &String)| {
        read(value).map_err(|error| FieldError { path: format!("{path}[{index}]"), ..error })
    };
    Ok(Some(v1::StringList { values: values.iter().enumerate().map(read).collect::<Result<_, _>>()? }))
}

fn at(path: &str, error: PatternError) -> FieldError {
    FieldError::new(path, error.problem, error.fix)
}

/// A set of ports, or all ports but a set. Any union of destinations is one of the two.
#[derive(Debug, PartialEq, Eq)]
enum PortSet {
    Only(BTreeSet<u16>),
    AllBut(BTreeSet<u16>),
}

impl PortSet {
    fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(left), Self::Only(right)) => Self::Only(&left | &right),
            (Self::AllBut(left), Self::AllBut(right)) => Self::AllBut(&left & &right),
            (Self::Only(only), Self::AllBut(but)) | (Self::AllBut(but), Self::Only(only)) => Self::AllBut(&but - &only),
        }
    }

    fn list(self) -> v1::PortList {
        let (set, not) = match self {
            Self::Only(set) => (set, false),
            Self::AllBut(set) => (set, true),
        };
        v1::PortList { ports: set.into_iter().map(u32::from).collect(), not }
    }
}

/// None when the destination names no ports.
fn port_set(path: &str, destination: &Destination) -> Result<Option<PortSet>, FieldError> {
    let set = |name: &str, values: &Option<Vec<i32>>| {
        values
            .as_ref()
            .map(|values| {
                ports(&format!("{path}.{name}"), values).map(|ports| ports.into_iter().collect::<BTreeSet<_>>())
            })
            .transpose()
    };
    Ok(match (set("ports", &destination.ports)?, set("notPorts", &destination.not_ports)?) {
        (Some(only), Some(but)) => Some(PortSet::Only(&only - &but)),
        (Some(only), None) => Some(PortSet::Only(only)),
        (None, Some(but)) => Some(PortSet::AllBut(but)),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests;
