//! The CORS filter of a route's rule.

use http::{HeaderValue, Method};
use weft_policy::ReadError;
use weft_proto::v1;

use super::fields::{port, problem};
use super::filter::{header_name, hostname, scheme};
use super::routes::{bounded, each};
use crate::limits;
use crate::model::{Cors, Names, Origin, OriginHost, Origins};

pub fn read(written: &v1::Cors) -> Result<Cors, ReadError> {
    const ORIGINS: &str = "filter.cors.origins";
    bounded(ORIGINS, written.origins.len(), limits::ROUTE_LIST)?;
    let origins = each(ORIGINS, &written.origins, origin)?;
    let method = |field: &str, name: &str| {
        Method::from_bytes(name.as_bytes()).map_err(|_| problem(field, format!("{name:?} is not a method")))?;
        Ok(())
    };
    let header = |field: &str, name: &str| header_name(field, name).map(drop);
    Ok(Cors {
        origins: if written.any_origin { Origins::Any } else { Origins::Listed(origins) },
        credentials: written.credentials,
        methods: names("filter.cors.methods", &written.methods, method)?,
        headers: names("filter.cors.headers", &written.headers, header)?,
        exposed: names("filter.cors.exposed", &written.exposed, header)?,
        max_age: HeaderValue::from(written.max_age_seconds),
    })
}

fn origin(field: &str, written: &v1::CorsOrigin) -> Result<Origin, ReadError> {
    let name = |name: &str| {
        let read = hostname(&format!("{field}.host"), name)?;
        read.ok_or_else(|| problem(format!("{field}.host"), "it is empty"))
    };
    let host = match (written.host.as_str(), written.host.strip_prefix("*.")) {
        ("*", _) => OriginHost::Any,
        (_, Some(end)) => OriginHost::Below(format!(".{}", name(end)?).into()),
        (host, None) => OriginHost::Exact(name(host)?),
    };
    Ok(Origin {
        scheme: scheme(&format!("{field}.scheme"), &written.scheme)?,
        host,
        port: port(&format!("{field}.port"), written.port)?,
    })
}

fn names(
    field: &str,
    written: &[String],
    check: impl Fn(&str, &str) -> Result<(), ReadError>,
) -> Result<Option<Names>, ReadError> {
    bounded(field, written.len(), limits::ROUTE_LIST)?;
    written.iter().try_for_each(|name| check(field, name))?;
    if written.is_empty() || written.iter().any(|name| name == "*") {
        return Ok((!written.is_empty()).then_some(Names::Any));
    }
    let listed = HeaderValue::try_from(written.join(", "));
    Ok(Some(Names::Listed(listed.map_err(|_| problem(field, "it has a control character"))?)))
}
