//! When two views of a request are the same request.
//!
//! What may differ is listed in [`Allowance`], each with its source; everything else is compared byte by byte. The forms of
//! paths and authorities are computed here from the RFCs, with nothing of the agent's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use super::stage::Application;
use super::view::Seen;

/// A difference that two views of the same request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// Connection and what it names, Keep-Alive, Proxy-Connection, Upgrade, codings of TE (RFC 9110, section 7.6.1).
    HopByHop,
    /// Content-Length and Transfer-Encoding, where the body is the same (RFC 9112, section 6).
    Framing,
    /// An absolute target as a path and a Host (RFC 9112, section 3.2.2).
    AbsoluteForm,
    /// A fragment is no part of a request (RFC 9112, section 3.2).
    Fragment,
    /// An equivalent spelling of the path, where requests are judged (RFC 3986, section 6.2.2).
    PathSpelling,
    /// An equivalent spelling of the authority (RFC 3986, section 6.2.2 and 6.2.3).
    HostSpelling,
    /// HTTP/1.0 carried as HTTP/1.1 (RFC 9110, section 6.2).
    Version,
    /// Trailers that nobody announced may be dropped (RFC 9110, section 6.5.1).
    Trailers,
    /// White space around a field's value is no part of it (RFC 9110, section 5.5).
    Whitespace,
    /// The mesh has answered an expectation itself (RFC 9110, section 10.1.1).
    Expectation,
}

/// A request without what may differ.
#[derive(Debug, PartialEq, Eq)]
pub struct Reduced {
    method: String,
    target: String,
    authority: String,
    /// By name, in the case that it was written in where the application tells; the values in their order.
    fields: BTreeMap<String, Vec<String>>,
    body: String,
}

impl Reduced {
    /// Without the query.
    pub fn path(&self) -> &str {
        split_query(&self.target).0
    }
}

/// What the mesh adds, and the mark of a route.
const ADDED: [&str; 2] = ["weft-request-id", "x-route"];

/// The same bytes, in whatever order an application tells them, beside what the mesh adds.
pub fn is_identical(plain: &Seen, arrived: &Seen) -> bool {
    let fields = |seen: &Seen| {
        let mut fields: Vec<(String, String)> = seen.headers.clone();
        fields.retain(|(name, _)| !ADDED.contains(&name.to_ascii_lowercase().as_str()));
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields
    };
    let line = |seen: &Seen| (seen.method.clone(), seen.target.clone(), seen.version.clone(), seen.host.clone());
    line(plain) == line(arrived)
        && fields(plain) == fields(arrived)
        && plain.body == arrived.body
        && plain.trailers == arrived.trailers
}

/// What a request that was seen without the mesh should look like behind it.
///
/// `sent` are the client's bytes.
pub fn expected(
    application: Application,
    (seen, sent): (&Seen, &[u8]),
    judged: bool,
    used: &mut BTreeSet<Allowance>,
) -> Reduced {
    let (target, authority) = split_target(seen, used);
    let target = if judged && seen.method != "CONNECT" {
        let (path, query) = split_query(&target);
        let canonical = canonical_path(path) + query;
        note(used, Allowance::PathSpelling, canonical != target);
        canonical
    } else {
        target
    };
    note(used, Allowance::Version, seen.version.ends_with("1.0"));
    let reduced = authority_form(&authority);
    note(used, Allowance::HostSpelling, reduced != authority);
    Reduced {
        method: seen.method.clone(),
        target,
        authority: reduced,
        fields: fields(application, seen, &named_by_connection(sent), used),
        body: seen.body.clone(),
    }
}

/// A request that was seen behind the mesh. Only where nobody judges it has it the form that the client chose.
pub fn arrived(application: Application, seen: &Seen, judged: bool) -> Reduced {
    let own = || (seen.target.clone(), seen.host.clone());
    let (target, authority) = if judged { own() } else { split_target(seen, &mut BTreeSet::new()) };
    Reduced {
        method: seen.method.clone(),
        target,
        authority: authority_form(&authority),
        fields: fields(application, seen, &[], &mut BTreeSet::new()),
        body: seen.body.clone(),
    }
}

fn note(used: &mut BTreeSet<Allowance>, allowance: Allowance, is_used: bool) {
    if is_used {
        used.insert(allowance);
    }
}

/// The path that a target has, whatever its form.
pub fn path_of(seen: &Seen) -> String {
    let (target, _) = split_target(seen, &mut BTreeSet::new());
    split_query(&target).0.to_owned()
}

/// The target without authority and fragment, and the authority.
fn split_target(seen: &Seen, used: &mut BTreeSet<Allowance>) -> (String, String) {
    if seen.method == "CONNECT" {
        return (seen.target.clone(), seen.host.clone());
    }
    let target = seen.target.split('#').next().unwrap_or_default();
    note(used, Allowance::Fragment, target.len() < seen.target.len());
    let scheme = target.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let Some((_, rest)) = scheme else {
        // nginx tells neither form nor authority of an absolute target, but whom it takes the request to be for.
        let differs = seen.named.as_ref().filter(|named| !named.is_empty() && **named != host_of(&seen.host));
        let rootless = target.starts_with('?');
        note(used, Allowance::AbsoluteForm, differs.is_some() || rootless);
        let path = if rootless { format!("/{target}") } else { target.to_owned() };
        return (path, differs.unwrap_or(&seen.host).clone());
    };
    used.insert(Allowance::AbsoluteForm);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let path = if rest[end..].starts_with('/') { rest[end..].to_owned() } else { format!("/{}", &rest[end..]) };
    (path, rest[..end].to_owned())
}

/// In lower case, and without port.
fn host_of(authority: &str) -> String {
    let form = authority_form(authority);
    let end = form.rfind(':').filter(|at| !form[*at..].contains(']')).unwrap_or(form.len());
    form[..end].to_owned()
}

/// The path and what follows it.
pub fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// RFC 3986: capitals in percent encodings, unreserved characters plain, others encoded, dot segments removed.
pub fn canonical_path(path: &str) -> String {
    if path == "*" {
        return path.to_owned();
    }
    let written = spelt(path).into_iter().map(|(byte, encoded)| {
        let plain: &[u8] = if encoded { b"-._~" } else { b"-._~!$&'()*+,;=:@/" };
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    remove_dot_segments(&written.collect::<String>())
}

/// RFC 3986, section 5.2.4, step by step.
fn remove_dot_segments(path: &str) -> String {
    let mut input = path.to_owned();
    let mut output = String::new();
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            "/".clone_into(&mut input);
        } else if input.starts_with("/../") || input == "/.." {
            input = format!("/{}", input.get(4..).unwrap_or_default());
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.extend(input.drain(..end));
        }
    }
    output
}

/// In lower case, without trailing dot, without the port of http; an IPv6 address in its own canonical form.
pub fn authority_form(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let end = lower.rfind(':').filter(|at| !lower[*at..].contains(']')).unwrap_or(lower.len());
    let (host, port) = lower.split_at(end);
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::parse::<Ipv6Addr>);
    let host = match address {
        Some(Ok(address)) => format!("[{address}]"),
        Some(Err(_)) | None => host.strip_suffix('.').unwrap_or(host).to_owned(),
    };
    if port.is_empty() || port == ":" || port == ":80" { host } else { host + port }
}

/// What the Connection fields of a client's bytes name: some applications tell of the first one alone.
fn named_by_connection(sent: &[u8]) -> Vec<String> {
    let text: String = sent.iter().copied().map(char::from).collect();
    let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.filter(|(name, _)| name.eq_ignore_ascii_case("connection")).flat_map(|(_, value)| elements(value)).collect()
}

fn fields(
    application: Application,
    seen: &Seen,
    named: &[String],
    used: &mut BTreeSet<Allowance>,
) -> BTreeMap<String, Vec<String>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &seen.headers {
        let lower = name.to_ascii_lowercase();
        let allowance = match lower.as_str() {
            name if ADDED.contains(&name) || name == "host" => continue,
            "content-length" | "transfer-encoding" => Some(Allowance::Framing),
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "http2-settings" => {
                Some(Allowance::HopByHop)
            }
            "te" if !elements(value).contains(&"trailers".to_owned()) => Some(Allowance::HopByHop),
            "expect" if value.eq_ignore_ascii_case("100-continue") => Some(Allowance::Expectation),
            // What says how to read the message stays, whatever Connection names.
            "content-type" | "te" => None,
            _ if named.contains(&lower) => Some(Allowance::HopByHop),
            _ => None,
        };
        if let Some(allowance) = allowance {
            used.insert(allowance);
            continue;
        }
        let name = if application == Application::Node { name.clone() } else { lower.clone() };
        let trimmed = value.trim_matches([' ', '\t']);
        note(used, Allowance::Whitespace, trimmed.len() < value.len());
        let value = if lower == "te" { "trailers".to_owned() } else { trimmed.to_owned() };
        fields.entry(name).or_default().push(value);
    }
    note(used, Allowance::Trailers, !seen.trailers.is_empty());
    fields
}

/// Of a list, in lower case.
fn elements(list: &str) -> Vec<String> {
    list.split(',').map(|element| element.trim().to_ascii_lowercase()).filter(|element| !element.is_empty()).collect()
}

/// The path as a lenient application could read it: decoded, without parameters, empty and dot segments.
pub fn leniently(seen: &Seen) -> String {
    // Some have decoded it already.
    let decoded = seen.path.clone().unwrap_or_else(|| decoded(split_query(&seen.target).0));
    let mut kept: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            plain => kept.push(plain),
        }
    }
    format!("/{}", kept.join("/"))
}

fn decoded(path: &str) -> String {
    spelt(path).into_iter().map(|(byte, _)| char::from(byte)).collect()
}

/// The bytes that a path stands for, and which of them were encoded.
fn spelt(path: &str) -> Vec<(u8, bool)> {
    let bytes: Vec<u8> = path.chars().filter_map(|letter| u8::try_from(letter).ok()).collect();
    let mut meant = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let encoded = digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        at += if encoded.is_some() { 3 } else { 1 };
        meant.push((encoded.unwrap_or(*byte), encoded.is_some()));
    }
    meant
}
