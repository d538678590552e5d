//! All matches of a Service port, found without trying one after the other.
//!
//! A match stands in one row of a table, under the hash of all that it compares as a whole: its path, or its prefix element by
//! element, then its method and the exact values of headers and parameters. A request looks into the rows where a match that
//! fits it could stand, and tries what is there: a hash that coincides costs a try, and nothing else. So the cost grows with
//! the elements of the longest prefix, and at one path with the different sets of names that its matches compare (one
//! look-up for each), not with the number of matches. Regular expressions are tried one by one; their number is bounded.

use std::hash::{BuildHasher, Hasher};

use foldhash::HashMap;
use foldhash::fast::FoldHasher;
use http::header::HOST;
use http::{HeaderMap, HeaderName, Method};

use super::{PathMatch, RouteMatch};
use crate::http::canonical::Canonical;
use crate::http::query;

/// After every match.
const NOWHERE: usize = usize::MAX;

/// In their order of precedence.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    all: Vec<RouteMatch>,
    rows: HashMap<u64, Row>,
    /// Of matches to which no hash of a path leads: those for every path, and those of regular expressions.
    others: Row,
    /// By the number of a path's elements, from 1: the first match with a prefix of that many elements or more.
    prefixes: Vec<usize>,
    /// The first match for a gRPC method of any service.
    grpc: Option<usize>,
}

/// Where what was hashed so far leads.
#[derive(Debug, Clone, Default)]
struct Row {
    /// Of the matches that compare nothing more as a whole, in their order.
    places: Vec<usize>,
    /// What the others compare, the one of the first match first.
    finer: Vec<Finer>,
}

#[derive(Debug, Clone)]
struct Finer {
    first: usize,
    /// What the hash goes on from.
    seed: u64,
    names: Names,
}

/// What of a request is compared as a whole besides its path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Names {
    method: bool,
    headers: Vec<HeaderName>,
    parameters: Vec<Box<str>>,
}

/// What a match wants of them, each list by name.
struct Values<'a> {
    method: Option<&'a Method>,
    headers: Vec<(&'a HeaderName, &'a str)>,
    parameters: Vec<(&'a str, &'a str)>,
}

/// How a path is looked for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Exact,
    Prefix,
    GrpcMethod,
}

/// A request's way through the rows.
struct Search<'a, F> {
    matches: &'a Matches,
    method: &'a Method,
    request: &'a Canonical,
    headers: &'a HeaderMap,
    fits: F,
    /// The first match that fits, so far.
    found: usize,
}

impl Matches {
    #[must_use]
    pub fn new(all: Vec<RouteMatch>) -> Self {
        let mut matches = Self::default();
        let mut seeds: HashMap<(Option<u64>, Names), u64> = HashMap::default();
        for (place, one) in all.iter().enumerate() {
            let path = matches.path(place, &one.path);
            let values = Values::of(one);
            if values.names() == Names::default() {
                matches.row(path).places.push(place);
                continue;
            }
            let seed = *seeds.entry((path, values.names())).or_insert_with_key(|key| {
                let seed = matches.rows.hasher().hash_one(key);
                matches.row(path).finer.push(Finer { first: place, seed, names: key.1.clone() });
                seed
            });
            let key = values.key(matches.hasher(seed));
            matches.row(Some(key)).places.push(place);
        }
        Self { all, ..matches }
    }

    #[must_use]
    pub fn all(&self) -> &[RouteMatch] {
        &self.all
    }

    /// The first that `fits` the request, as one of `method`. Whoever cannot fit is not asked, nor is whoever stands behind one that does.
    pub fn first(
        &self,
        method: &Method,
        request: &Canonical,
        headers: &HeaderMap,
        fits: impl Fn(&RouteMatch) -> bool,
    ) -> Option<&RouteMatch> {
        let path = request.path();
        let mut search = Search { matches: self, method, request, headers, fits, found: NOWHERE };
        search.at(self.key(Kind::Exact, [path.as_bytes()]));
        let mut prefix = self.hasher(Kind::Prefix as u64);
        for (first, element) in self.prefixes.iter().zip(elements(path)) {
            if search.found <= *first {
                break;
            }
            prefix.write(element);
            search.at(prefix.finish());
        }
        if self.grpc.is_some_and(|first| first < search.found) {
            search.at(self.key(Kind::GrpcMethod, path.rsplit('/').take(1).map(str::as_bytes)));
        }
        search.row(&self.others);
        self.all.get(search.found)
    }

    /// The row of a match with this path; None: among the others.
    fn path(&mut self, place: usize, path: &PathMatch) -> Option<u64> {
        match path {
            PathMatch::Exact(whole) => Some(self.key(Kind::Exact, [whole.as_bytes()])),
            PathMatch::Prefix(prefix) if !prefix.as_str().is_empty() => {
                let longest = elements(prefix.as_str()).count().max(self.prefixes.len());
                self.prefixes.resize(longest, place);
                Some(self.key(Kind::Prefix, elements(prefix.as_str())))
            }
            PathMatch::GrpcMethod(method) => {
                self.grpc.get_or_insert(place);
                Some(self.key(Kind::GrpcMethod, [method.as_bytes()]))
            }
            PathMatch::Any | PathMatch::Prefix(_) | PathMatch::Pattern(_) => None,
        }
    }

    fn row(&mut self, key: Option<u64>) -> &mut Row {
        match key {
            Some(key) => self.rows.entry(key).or_default(),
            None => &mut self.others,
        }
    }

    fn key<'a>(&self, kind: Kind, texts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let mut hasher = self.hasher(kind as u64);
        texts.into_iter().for_each(|text| hasher.write(text));
        hasher.finish()
    }

    fn hasher(&self, seed: u64) -> FoldHasher<'static> {
        let mut hasher = self.rows.hasher().build_hasher();
        hasher.write_u64(seed);
        hasher
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl<'a, F: Fn(&RouteMatch) -> bool> Search<'a, F> {
    fn at(&mut self, key: u64) {
        if let Some(row) = self.matches.rows.get(&key) {
            self.row(row);
        }
    }

    fn row(&mut self, row: &'a Row) {
        for finer in &row.finer {
            if self.found <= finer.first {
                break;
            }
            let key = finer.names.key(self.matches.hasher(finer.seed), self.method, self.request, self.headers);
            if let Some(row) = key.and_then(|key| self.matches.rows.get(&key)) {
                self.ask(&row.places);
            }
        }
        self.ask(&row.places);
    }

    fn ask(&mut self, places: &[usize]) {
        let mut before = places.iter().take_while(|place| **place < self.found);
        let fitting = before.find(|place| self.matches.all.get(**place).is_some_and(&self.fits));
        self.found = fitting.copied().unwrap_or(self.found);
    }
}

impl Names {
    /// None: the request lacks one of them, so that no match of these names fits it.
    fn key(
        &self,
        mut hasher: FoldHasher<'_>,
        method: &Method,
        request: &Canonical,
        headers: &HeaderMap,
    ) -> Option<u64> {
        if self.method {
            hasher.write(method.as_str().as_bytes());
        }
        for name in &self.headers {
            let value = if name == HOST { request.host().as_bytes() } else { headers.get(name)?.as_bytes() };
            hasher.write(value);
        }
        for name in &self.parameters {
            let value = query::value(request.query(), name)?;
            query::decoded(value).for_each(|byte| hasher.write_u8(byte));
        }
        Some(hasher.finish())
    }
}

impl<'a> Values<'a> {
    fn of(one: &'a RouteMatch) -> Self {
        let mut headers: Vec<_> = one.headers.iter().filter_map(|one| Some((&one.name, one.value.exact()?))).collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        let mut parameters: Vec<_> =
            one.query.iter().filter_map(|one| Some((&*one.name, one.value.exact()?))).collect();
        parameters.sort_unstable();
        Self { method: one.method.as_ref(), headers, parameters }
    }

    fn names(&self) -> Names {
        Names {
            method: self.method.is_some(),
            headers: self.headers.iter().map(|(name, _)| (*name).clone()).collect(),
            parameters: self.parameters.iter().map(|(name, _)| Box::from(*name)).collect(),
        }
    }

    /// The same as [`Names::key`] of a request with these values.
    fn key(&self, mut hasher: FoldHasher<'_>) -> u64 {
        if let Some(method) = self.method {
            hasher.write(method.as_str().as_bytes());
        }
        for (name, value) in &self.headers {
            if **name == HOST {
                hasher.write(host_and_port(value).0.to_ascii_lowercase().as_bytes());
            } else {
                hasher.write(value.as_bytes());
            }
        }
        for (_, value) in &self.parameters {
            value.bytes().for_each(|byte| hasher.write_u8(byte));
        }
        hasher.finish()
    }
}

/// What a match wants of a Host: with a port it means that port, else any.
#[must_use]
pub fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// What stands behind each slash.
fn elements(path: &str) -> impl Iterator<Item = &[u8]> {
    // By hand, for elements are too short for a search by vectors to pay.
    path.as_bytes().split(|byte| *byte == b'/').skip(1)
}
