//! `ReferenceGrant` (Gateway API 1.7), checked: whose routes may name a namespace's Services as backends.

use serde::Deserialize;

use super::{FieldError, Kind, Metadata, is_of_core_group};
use crate::limits;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawReferenceGrant {
    from: Vec<Trusted>,
    to: Vec<Named>,
}

/// It speaks for its own namespace. Several grants of one namespace add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    pub metadata: Metadata,
    /// One must fit.
    from: Vec<Trusted>,
    /// One must fit.
    to: Vec<Named>,
}

/// Who may refer: objects of a kind, in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Trusted {
    group: String,
    kind: String,
    namespace: String,
}

/// To what: all objects of a kind, or one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    group: String,
    kind: String,
    name: Option<String>,
}

impl ReferenceGrant {
    pub fn parse(metadata: Metadata, raw: RawReferenceGrant) -> Result<Self, FieldError> {
        for (list, count) in [("spec.from", raw.from.len()), ("spec.to", raw.to.len())] {
            if count == 0 || count > limits::GRANT_ENTRIES {
                let fix = format!("write 1 to {}", limits::GRANT_ENTRIES);
                return Err(FieldError::new(list, format!("it has {count} entries"), fix));
            }
        }
        Ok(Self { metadata, from: raw.from, to: raw.to })
    }

    /// A route of that kind and namespace may name that Service of the grant's own namespace.
    #[must_use]
    pub fn permits(&self, route: Kind, namespace: &str, service: &str) -> bool {
        let trusts =
            |from: &Trusted| from.group == route.group() && from.kind == route.as_str() && from.namespace == namespace;
        let names = |to: &Named| {
            is_of_core_group(&to.group)
                && to.kind == Kind::Service.as_str()
                && to.name.as_deref().is_none_or(|name| name == service)
        };
        self.from.iter().any(trusts) && self.to.iter().any(names)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn parse(from: &Json, to: &Json) -> Result<ReferenceGrant, FieldError> {
        let raw = serde_json::from_value(json!({"from": from, "to": to})).unwrap();
        ReferenceGrant::parse(Metadata::default(), raw)
    }

    /// Whether an `HTTPRoute` of `shop` may name the Service `till`.
    fn check(from: &Json, to: &Json, expected: bool) {
        let grant = parse(from, to).unwrap();
        assert_eq!(grant.permits(Kind::HttpRoute, "shop", "till"), expected, "{from} {to}");
    }

    fn from(group: &str, kind: &str, namespace: &str) -> Json {
        json!({"group": group, "kind": kind, "namespace": namespace})
    }

    const GROUP: &str = "gateway.networking.k8s.io";

    #[test]
    fn a_grant_permits_what_it_names_in_every_field() {
        let route = from(GROUP, "HTTPRoute", "shop");
        let service = json!({"group": "", "kind": "Service"});
        check(&json!([route]), &json!([service]), true);
        for wrong in [from("", "HTTPRoute", "shop"), from(GROUP, "GRPCRoute", "shop"), from(GROUP, "HTTPRoute", "bank")]
        {
            check(&json!([wrong]), &json!([service]), false);
            check(&json!([wrong, route]), &json!([service]), true);
        }
        let named = |name: &str| json!({"group": "", "kind": "Service", "name": name});
        let wrong = [
            json!({"group": GROUP, "kind": "Service"}),
            json!({"group": "", "kind": "Secret"}),
            json!({"group": "", "kind": "Secret", "name": "till"}),
            named("other"),
        ];
        for wrong in wrong {
            check(&json!([route]), &json!([wrong]), false);
            check(&json!([route]), &json!([wrong, named("till")]), true);
        }
    }

    #[test]
    fn a_grant_of_nothing_is_refused() {
        let (route, service) = (from(GROUP, "HTTPRoute", "shop"), json!({"group": "", "kind": "Service"}));
        for (list, error) in [
            ("spec.from", parse(&json!([]), &json!([service])).unwrap_err()),
            ("spec.to", parse(&json!([route]), &json!([])).unwrap_err()),
            ("spec.to", parse(&json!([route]), &json!(vec![service; limits::GRANT_ENTRIES + 1])).unwrap_err()),
        ] {
            assert_eq!(error.path, list);
        }
    }
}
