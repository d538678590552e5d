//! Which pages of other origins may read what a rule answers (Fetch, CORS protocol; GEP-1767).

use http::HeaderValue;

use super::Scheme;

#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    pub origins: Origins,
    /// Pages may ask with cookies and the like.
    pub credentials: bool,
    /// What pages may ask with beyond what all may; None: nothing.
    pub methods: Option<Names>,
    pub headers: Option<Names>,
    /// Headers of answers that pages may read beyond those that all may; None: no others.
    pub exposed: Option<Names>,
    /// Seconds for which a browser may remember the answer to a preflight.
    pub max_age: HeaderValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    Any,
    /// None of them: no page of another origin.
    Listed(Vec<Origin>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub scheme: Scheme,
    pub host: OriginHost,
    pub port: u16,
}

/// In lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginHost {
    Any,
    Exact(Box<str>),
    /// Begins with a dot, and something stands before it.
    Below(Box<str>),
}

/// Methods, or names of headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    Any,
    /// As an answer lists them.
    Listed(HeaderValue),
}

impl Cors {
    /// Otherwise every answer says "*".
    #[must_use]
    pub fn depends_on_origin(&self) -> bool {
        self.credentials || self.origins != Origins::Any
    }
}
