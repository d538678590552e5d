//! How a rule's requests stay with an endpoint.

use std::time::Duration;

use weft_policy::ReadError;
use weft_proto::v1::{self, session_persistence};

use super::fields::problem;
use super::filter::header_name;
use super::routes::text;
use crate::model::{Carrier, Cookie, SessionPersistence};

pub fn read(field: &str, written: &v1::SessionPersistence) -> Result<SessionPersistence, ReadError> {
    let absolute_timeout = Some(written.absolute_timeout_ms).filter(|timeout| *timeout > 0).map(Duration::from_millis);
    let carrier = match &written.carrier {
        Some(session_persistence::Carrier::Header(name)) => {
            Carrier::Header(header_name(&format!("{field}.header"), name)?)
        }
        Some(session_persistence::Carrier::Cookie(cookie)) => {
            let cookie = read_cookie(&format!("{field}.cookie"), cookie)?;
            if cookie.permanent && absolute_timeout.is_none() {
                return Err(problem(format!("{field}.absolute_timeout_ms"), "a permanent cookie needs one"));
            }
            Carrier::Cookie(cookie)
        }
        None => return Err(problem(field, "it has no known carrier")),
    };
    Ok(SessionPersistence { carrier, absolute_timeout })
}

fn read_cookie(field: &str, written: &v1::SessionCookie) -> Result<Cookie, ReadError> {
    let (name, path) = (format!("{field}.name"), format!("{field}.path"));
    // A cookie's name is made of the same letters as a header's (RFC 6265, section 4.1.1).
    header_name(&name, &written.name)?;
    let is_attribute = |byte: u8| byte != b';' && matches!(byte, b' '..=b'~');
    if !text(&path, &written.path)?.starts_with('/') || !written.path.bytes().all(is_attribute) {
        return Err(problem(path, format!("{:?} is no path of a cookie", written.path)));
    }
    Ok(Cookie {
        name: Box::from(text(&name, &written.name)?),
        path: Box::from(written.path.as_str()),
        permanent: written.permanent,
    })
}
