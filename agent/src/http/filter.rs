//! What a route does to requests and answers on their way.
//!
//! A rule's filters come first, then its backend's. A rewritten path and host are canonical again, since what replaces them
//! is. A filter that cannot be applied refuses the request: it is never left out. Absent: sending a mirror's copy, and what
//! pages of other origins are told (`cors`).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, response};
use rand::{Rng, RngExt as _};

use super::canonical::Canonical;
use super::matching::Chosen;
use crate::model::{Filter, HeaderEdit, Mirror, PathRewrite, Redirect, Rewrite, Scheme};

/// What becomes of a request after its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Forward,
    Redirect(Redirection),
}

/// The answer of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    pub status: StatusCode,
    pub location: HeaderValue,
}

/// Why a request cannot go on: 500, or UNAVAILABLE for gRPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Unsupported(Arc<str>),
    #[error("a filter replaces the prefix of the path, but the path was not matched by a prefix")]
    NoPrefix,
    #[error("a redirect needs a host, and neither the request nor the filter names one")]
    NoHost,
    #[error("the rewritten request cannot be written: {0}")]
    Rewritten(String),
}

/// Applies one list of filters to a request that `chosen` was found for. `dialled` is the port that the client connected to.
pub fn apply_request(
    filters: &[Filter],
    chosen: Option<&Chosen<'_>>,
    dialled: u16,
    request: &mut Canonical,
    headers: &mut HeaderMap,
) -> Result<Next, Broken> {
    for filter in filters {
        if let Filter::Unsupported(why) = filter {
            return Err(Broken::Unsupported(Arc::clone(why)));
        }
    }
    for filter in filters {
        match filter {
            Filter::RequestHeaders(edit) => apply_edit(edit, headers),
            Filter::Rewrite(rewrite) => apply_rewrite(rewrite, chosen, request)?,
            Filter::Redirect(redirect) => return Ok(Next::Redirect(redirection(redirect, chosen, dialled, request)?)),
            Filter::ResponseHeaders(_) | Filter::Mirror(_) | Filter::Cors(_) | Filter::Unsupported(_) => {}
        }
    }
    Ok(Next::Forward)
}

/// Applies one list of filters to the head of an answer.
pub fn apply_response(filters: &[Filter], head: &mut response::Parts) {
    for filter in filters {
        if let Filter::ResponseHeaders(edit) = filter {
            apply_edit(edit, &mut head.headers);
        }
    }
}

/// The mirrors that get a copy of this request.
pub fn mirrors<'a>(filters: &'a [Filter], random: &mut impl Rng) -> Vec<&'a Mirror> {
    let mirrors = filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&**mirror),
        Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Redirect(_)
        | Filter::Rewrite(_)
        | Filter::Cors(_)
        | Filter::Unsupported(_) => None,
    });
    mirrors.filter(|mirror| random.random_range(0..1_000_000) < mirror.per_million).collect()
}

fn apply_edit(edit: &HeaderEdit, headers: &mut HeaderMap) {
    for name in &edit.remove {
        headers.remove(name);
    }
    for (name, value) in &edit.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edit.add {
        headers.append(name, value.clone());
    }
}

fn apply_rewrite(rewrite: &Rewrite, chosen: Option<&Chosen<'_>>, request: &mut Canonical) -> Result<(), Broken> {
    // `OPTIONS *` and CONNECT have no path.
    if let Some(path) = rewrite.path.as_ref().filter(|_| request.path().starts_with('/')) {
        let path = replaced(path, chosen, request.path())?;
        request.replace_path(&path).map_err(|refused| Broken::Rewritten(refused.to_string()))?;
    }
    if let Some(host) = &rewrite.hostname {
        request.replace_host(host);
    }
    Ok(())
}

/// The path with another prefix, or another path. The root never gets lost: a path begins with '/'.
fn replaced(rewrite: &PathRewrite, chosen: Option<&Chosen<'_>>, path: &str) -> Result<String, Broken> {
    match rewrite {
        PathRewrite::Full(full) => Ok(full.to_string()),
        PathRewrite::Prefix(new) => {
            let old = chosen.and_then(Chosen::prefix).ok_or(Broken::NoPrefix)?;
            let rest = old.rest(path).ok_or(Broken::NoPrefix)?;
            let whole = format!("{}{rest}", new.as_str());
            Ok(if whole.is_empty() { "/".to_owned() } else { whole })
        }
    }
}

/// An absolute Location (RFC 9110, section 10.2.2). The request's scheme is http: what this agent reads was not encrypted by
/// the application.
fn redirection(
    redirect: &Redirect,
    chosen: Option<&Chosen<'_>>,
    dialled: u16,
    request: &Canonical,
) -> Result<Redirection, Broken> {
    let scheme = redirect.scheme.unwrap_or(Scheme::Http);
    let host = redirect.hostname.as_deref().unwrap_or_else(|| request.host());
    if host.is_empty() {
        return Err(Broken::NoHost);
    }
    let port = redirect.port.unwrap_or(if redirect.scheme.is_some() { scheme.port() } else { dialled });
    let port = if port == scheme.port() { String::new() } else { format!(":{port}") };
    let path = match &redirect.path {
        _ if !request.path().starts_with('/') => "/".to_owned(),
        Some(path) => replaced(path, chosen, request.path())?,
        None => request.path().to_owned(),
    };
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}://{host}{port}{path}{query}", scheme.as_str());
    let location = HeaderValue::try_from(location).map_err(|error| Broken::Rewritten(error.to_string()))?;
    Ok(Redirection { status: redirect.status, location })
}
