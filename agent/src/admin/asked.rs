//! A request that somebody asks about and nobody has sent: `weft why SOURCE DESTINATION --method --path`.

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::http::canonical::{Canonical, Refused, canonical};

#[derive(Debug, Clone)]
pub struct AskedRequest {
    method: Method,
    target: PathAndQuery,
    /// None: as the destination is called in the question.
    host: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl AskedRequest {
    /// From the words of the question; None where none of them is there. `headers` has one `name: value` a line.
    ///
    /// # Errors
    /// A word that no request can have.
    pub fn read(
        method: Option<&str>,
        path: Option<&str>,
        host: Option<&str>,
        headers: Option<&str>,
    ) -> Result<Option<Self>, String> {
        if [method, path, host, headers].iter().all(Option::is_none) {
            return Ok(None);
        }
        let method = method.unwrap_or("GET").to_ascii_uppercase();
        let target = path.unwrap_or("/");
        if !target.starts_with('/') {
            return Err(format!("a path begins with /, not {target:?}"));
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("a header is NAME: VALUE, not {line:?}"))?;
            let name = name.trim().parse().map_err(|_| format!("{name:?} is no header's name"))?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("{value:?} is no header's value"))?;
            Ok((name, value))
        };
        Ok(Some(Self {
            method: Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?,
            target: target.parse().map_err(|_| format!("{target:?} is no path"))?,
            host: host.map(HeaderValue::from_str).transpose().map_err(|_| "the host is no header's value")?,
            headers: headers.unwrap_or_default().lines().map(header).collect::<Result<_, String>>()?,
        }))
    }

    /// What agents would judge, and the headers that go with it. `called`: the destination as it was named.
    ///
    /// # Errors
    /// It could be read in more than one way.
    pub fn canonical(&self, called: &str) -> Result<(Canonical, Parts), Refused> {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.method.clone();
        head.uri = Uri::from(self.target.clone());
        let called = || HeaderValue::from_str(called).map_err(|_| Refused::Authority);
        head.headers.insert(HOST, self.host.clone().map_or_else(called, Ok)?);
        for (name, value) in &self.headers {
            head.headers.append(name, value.clone());
        }
        Ok((canonical(&head)?, head))
    }
}

/// `shop/web:80` is called `web.shop:80` by clients.
pub(super) fn called(words: &str) -> String {
    match words.split_once('/') {
        Some((namespace, rest)) => match rest.split_once(':') {
            Some((name, port)) => format!("{name}.{namespace}:{port}"),
            None => format!("{rest}.{namespace}"),
        },
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_request_that_agents_would_judge() {
        let asked = AskedRequest::read(Some("delete"), Some("/a/../b?x=1"), None, Some("X-User: tester\nx-user: b"));
        let (canonical, head) = asked.unwrap().unwrap().canonical(&called("shop/web:80")).unwrap();
        assert_eq!((canonical.method().as_str(), canonical.path()), ("DELETE", "/b"));
        assert_eq!((canonical.host(), canonical.query()), ("web.shop", Some("x=1")));
        assert_eq!(head.headers.get_all("x-user").iter().count(), 2);
        assert!(AskedRequest::read(None, None, None, None).unwrap().is_none());
    }

    #[test]
    fn words_that_no_request_can_have_are_named() {
        for (method, path, header) in
            [("G T", "/", ""), ("GET", "b", ""), ("GET", "/", "no colon"), ("GET", "/", "a b: c")]
        {
            let header = Some(header).filter(|header| !header.is_empty());
            assert!(AskedRequest::read(Some(method), Some(path), None, header).is_err(), "{method} {path} {header:?}");
        }
        let two = AskedRequest::read(None, Some("/%2e%2e%2f"), None, None).unwrap().unwrap();
        assert!(two.canonical("web.shop").is_err());
    }
}
