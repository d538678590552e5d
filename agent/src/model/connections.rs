//! Where connections to a Service port go that are carried as a whole: all the same way (`TCPRoute`), or by the name of the
//! server that the client's TLS asks for (`TLSRoute`). No fit, no fall-back.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use weft_proto::names::{Namespace, NamespacedName};

use super::RouteRule;

#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionRoutes {
    pub service: NamespacedName,
    pub port: u16,
    /// Whose clients are meant; None: everybody's.
    pub audience: Option<Namespace>,
    pub rules: ConnectionRules,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionRules {
    /// Of a `TCPRoute`. None: every connection is refused.
    One(Option<Arc<RouteRule>>),
    /// Of `TLSRoutes`.
    ByName(ServerNames),
}

impl ConnectionRules {
    /// Each with the hostname that it is for; "" where that does not matter.
    pub fn all(&self) -> impl Iterator<Item = (String, &Arc<RouteRule>)> {
        let (one, named) = match self {
            Self::One(rule) => (rule.as_ref(), None),
            Self::ByName(names) => (None, Some(names)),
        };
        one.map(|rule| (String::new(), rule)).into_iter().chain(named.into_iter().flat_map(ServerNames::all))
    }
}

/// Rules by the name of the server (RFC 6066), of which the most specific decides, as Gateway API has it: the whole name,
/// else the longest wildcard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerNames {
    whole: HashMap<Box<str>, Arc<RouteRule>>,
    /// By what stands behind "*.".
    below: HashMap<Box<str>, Arc<RouteRule>>,
}

impl ServerNames {
    /// Of hostnames in lower case, "*." before those that stand for all names below. Of two equal ones the first counts.
    pub fn new<Name: AsRef<str>>(hostnames: impl IntoIterator<Item = (Name, Arc<RouteRule>)>) -> Self {
        let mut names = Self { whole: HashMap::new(), below: HashMap::new() };
        for (hostname, rule) in hostnames {
            let (of, name) = match hostname.as_ref().strip_prefix("*.") {
                Some(end) => (&mut names.below, end),
                None => (&mut names.whole, hostname.as_ref()),
            };
            of.entry(Box::from(name)).or_insert(rule);
        }
        names
    }

    /// The rule for a name in lower case. A wildcard stands for one label or more, never for none.
    #[must_use]
    pub fn rule_for(&self, name: &str) -> Option<&Arc<RouteRule>> {
        let below = || name.match_indices('.').find_map(|(dot, _)| self.below.get(&name[dot + 1..]));
        self.whole.get(name).or_else(below)
    }

    /// In no order.
    fn all(&self) -> impl Iterator<Item = (String, &Arc<RouteRule>)> {
        let whole = self.whole.iter().map(|(name, rule)| (name.to_string(), rule));
        whole.chain(self.below.iter().map(|(name, rule)| (format!("*.{name}"), rule)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(index: usize) -> Arc<RouteRule> {
        Arc::new(RouteRule { index: u32::try_from(index).unwrap(), ..RouteRule::silent("TLSRoute shop/web") })
    }

    fn chosen(hostnames: &[&str], name: &str) -> Option<usize> {
        let rules = hostnames.iter().enumerate().map(|(index, hostname)| (*hostname, rule(index)));
        ServerNames::new(rules).rule_for(name).map(|rule| rule.index as usize)
    }

    #[test]
    fn the_most_specific_hostname_decides() {
        let hostnames = ["*.com", "*.shop.com", "cart.shop.com", "shop.com", "cart.shop.com"];
        for (name, expected) in [
            ("cart.shop.com", Some(2)),
            ("a.cart.shop.com", Some(1)),
            ("x.shop.com", Some(1)),
            ("shop.com", Some(3)),
            ("other.com", Some(0)),
            ("com", None),
            ("shop.com.evil.net", None),
            ("notshop.com", Some(0)),
            ("", None),
        ] {
            assert_eq!(chosen(&hostnames, name), expected, "{name:?}");
        }
    }

    /// Gateway API's words, one after the other (`TLSRouteSpec.hostnames`).
    fn by_the_words(hostnames: &[&str], name: &str) -> Option<usize> {
        let fits = |hostname: &str| match hostname.strip_prefix('*') {
            Some(end) => name.len() > end.len() && name.ends_with(end),
            None => hostname == name,
        };
        let specific = |hostname: &str| {
            let whole = if hostname.starts_with('*') { 0 } else { hostname.len() };
            (whole, hostname.len())
        };
        let fitting = hostnames.iter().enumerate().filter(|(_, hostname)| fits(hostname));
        // Of equal ones `max_by_key` takes the last, and the first is wanted.
        fitting.rev().max_by_key(|(_, hostname)| specific(hostname)).map(|(index, _)| index)
    }

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{1,2}", 1..5).prop_map(|labels| labels.join("."))
    }

    proptest! {
        #[test]
        fn a_name_finds_the_rule_that_gateway_api_says(
            hostnames in prop::collection::vec((any::<bool>(), name()), 0..12),
            name in name(),
        ) {
            let written = |(wild, name): &(bool, String)| if *wild { format!("*.{name}") } else { name.clone() };
            let hostnames: Vec<String> = hostnames.iter().map(written).collect();
            let hostnames: Vec<&str> = hostnames.iter().map(String::as_str).collect();
            prop_assert_eq!(chosen(&hostnames, &name), by_the_words(&hostnames, &name));
        }
    }
}
