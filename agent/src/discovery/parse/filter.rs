//! Filters of a route's rule or backend. One that cannot be read becomes one that refuses, with the reason.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use weft_policy::ReadError;
use weft_proto::v1::{self, path_rewrite, route_filter};

use super::cors;
use super::fields::{port, problem};
use super::routes::{bounded, path, read_backend, text};
use crate::http::canonical::Authority;
use crate::limits;
use crate::model::{Filter, HeaderEdit, Mirror, PathPrefix, PathRewrite, Redirect, Rewrite, Scheme};

pub fn read(written: &v1::RouteFilter) -> Filter {
    let filter = match &written.kind {
        Some(route_filter::Kind::RequestHeaders(edit)) => header_edit(edit).map(Filter::RequestHeaders),
        Some(route_filter::Kind::ResponseHeaders(edit)) => header_edit(edit).map(Filter::ResponseHeaders),
        Some(route_filter::Kind::Redirect(written)) => redirect(written).map(Filter::Redirect),
        Some(route_filter::Kind::Rewrite(written)) => rewrite(written).map(Filter::Rewrite),
        Some(route_filter::Kind::Mirror(written)) => mirror(written).map(|mirror| Filter::Mirror(Box::new(mirror))),
        Some(route_filter::Kind::Cors(written)) => cors::read(written).map(|cors| Filter::Cors(Box::new(cors))),
        Some(route_filter::Kind::Unsupported(why)) => {
            text("filter", why).map(|why| Filter::Unsupported(Arc::from(why)))
        }
        None => Err(problem("filter", "this agent does not know its kind")),
    };
    filter.unwrap_or_else(|error| Filter::Unsupported(Arc::from(error.to_string())))
}

pub fn header_name(field: &str, name: &str) -> Result<HeaderName, ReadError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| problem(field, format!("{name:?} is not a header's name")))
}

fn header_edit(written: &v1::HeaderEdit) -> Result<HeaderEdit, ReadError> {
    let longest = written.remove.len().max(written.set.len()).max(written.add.len());
    bounded("filter.headers", longest, limits::ROUTE_LIST)?;
    Ok(HeaderEdit {
        remove: written.remove.iter().map(|name| editable(name)).collect::<Result<_, _>>()?,
        set: written.set.iter().map(header).collect::<Result<_, _>>()?,
        add: written.add.iter().map(header).collect::<Result<_, _>>()?,
    })
}

fn header(written: &v1::Header) -> Result<(HeaderName, HeaderValue), ReadError> {
    let name = editable(&written.name)?;
    let value = HeaderValue::from_str(text("filter.headers", &written.value)?);
    let value = value.map_err(|_| problem(format!("filter.headers[{name}]"), "its value has a control character"))?;
    Ok((name, value))
}

/// A header that says where a message ends or who is addressed is not a filter's to change.
fn editable(name: &str) -> Result<HeaderName, ReadError> {
    let name = header_name("filter.headers", name)?;
    match name.as_str() {
        "host" => Err(problem("filter.headers[host]", "the host is changed by a URLRewrite filter's hostname")),
        "connection" | "content-length" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" => Err(problem(
            format!("filter.headers[{name}]"),
            "the connection itself needs this header; no filter edits it",
        )),
        _ => Ok(name),
    }
}

fn redirect(written: &v1::Redirect) -> Result<Redirect, ReadError> {
    let scheme = (!written.scheme.is_empty()).then(|| scheme("filter.redirect.scheme", &written.scheme)).transpose()?;
    let status = match written.status {
        301 => StatusCode::MOVED_PERMANENTLY,
        302 => StatusCode::FOUND,
        303 => StatusCode::SEE_OTHER,
        307 => StatusCode::TEMPORARY_REDIRECT,
        308 => StatusCode::PERMANENT_REDIRECT,
        other => {
            return Err(problem("filter.redirect.status", format!("{other} is none of 301, 302, 303, 307 and 308")));
        }
    };
    Ok(Redirect {
        scheme,
        hostname: hostname("filter.redirect.hostname", &written.hostname)?,
        path: written.path.as_ref().map(|path| path_rewrite("filter.redirect.path", path)).transpose()?,
        port: (written.port > 0).then(|| port("filter.redirect.port", written.port)).transpose()?,
        status,
    })
}

pub fn scheme(field: &str, written: &str) -> Result<Scheme, ReadError> {
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|scheme| scheme.as_str() == written)
        .ok_or_else(|| problem(field, format!("{written:?} is neither http nor https")))
}

fn rewrite(written: &v1::Rewrite) -> Result<Rewrite, ReadError> {
    Ok(Rewrite {
        hostname: hostname("filter.rewrite.hostname", &written.hostname)?,
        path: written.path.as_ref().map(|path| path_rewrite("filter.rewrite.path", path)).transpose()?,
    })
}

fn path_rewrite(field: &str, written: &v1::PathRewrite) -> Result<PathRewrite, ReadError> {
    match &written.kind {
        Some(path_rewrite::Kind::Full(full)) if full.is_empty() => Ok(PathRewrite::Full(Box::from("/"))),
        Some(path_rewrite::Kind::Full(full)) => Ok(PathRewrite::Full(path(field, full)?.into())),
        Some(path_rewrite::Kind::Prefix(prefix)) if prefix.is_empty() => Ok(PathRewrite::Prefix(PathPrefix::new(""))),
        Some(path_rewrite::Kind::Prefix(prefix)) => Ok(PathRewrite::Prefix(PathPrefix::new(&path(field, prefix)?))),
        None => Err(problem(field, "this agent does not know this kind of path rewrite")),
    }
}

pub fn hostname(field: &str, written: &str) -> Result<Option<Box<str>>, ReadError> {
    if written.is_empty() {
        return Ok(None);
    }
    match Authority::read(written.as_bytes()) {
        Ok(authority) if authority.port().is_none() => Ok(Some(Box::from(authority.host()))),
        Ok(_) | Err(_) => Err(problem(field, format!("{written:?} is not a host name without a port"))),
    }
}

fn mirror(written: &v1::Mirror) -> Result<Mirror, ReadError> {
    let backend = written.backend.as_ref().ok_or_else(|| problem("filter.mirror.backend", "it is missing"))?;
    if written.per_million > 1_000_000 {
        return Err(problem("filter.mirror.per_million", format!("{} is more than all", written.per_million)));
    }
    if !backend.filters.is_empty() {
        return Err(problem(
            "filter.mirror.backend.filters",
            "a copy is sent as it is; give these filters to the rule",
        ));
    }
    Ok(Mirror { backend: read_backend("filter.mirror.backend", backend)?, per_million: written.per_million })
}
