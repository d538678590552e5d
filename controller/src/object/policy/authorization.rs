//! `AuthorizationPolicy`, checked, with its rules as agents read them.

use std::collections::BTreeMap;

use weft_crd::{Action, AuthorizationPolicySpec, Rule, Source};
use weft_proto::names::{Identity, Namespace, NamespacedName};
use weft_proto::v1;

use super::{Target, operation};
use crate::object::field::ranges;
use crate::object::{FieldError, Metadata};

#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationPolicy {
    pub metadata: Metadata,
    pub targets: Vec<Target>,
    pub action: Action,
    pub dry_run: bool,
    pub rules: Vec<v1::AuthorizationRule>,
}

impl Eq for AuthorizationPolicy {}

impl AuthorizationPolicy {
    pub fn parse(metadata: Metadata, spec: AuthorizationPolicySpec) -> Result<Self, FieldError> {
        let targets = super::target::parse(spec.target_refs)?;
        let rules = numbered(rules("spec.rules", &spec.rules, Some(&metadata.namespace))?);
        Ok(Self { metadata, targets, action: spec.action, dry_run: spec.dry_run, rules })
    }

    /// The safe reading of a policy of which nothing but its name is known: nobody reaches any pod of its namespace.
    #[must_use]
    pub fn stand_in(namespace: &str, name: &str) -> Self {
        let metadata = Metadata { namespace: namespace.to_owned(), name: name.to_owned(), ..Metadata::default() };
        let every_port = v1::PortList { ports: Vec::new(), not: true };
        Self {
            metadata,
            targets: vec![Target::Pods(BTreeMap::new())],
            action: Action::Deny,
            dry_run: false,
            rules: vec![v1::AuthorizationRule { to: Some(every_port), ..v1::AuthorizationRule::default() }],
        }
    }
}

/// What each rule is for agents. `home` completes service accounts that are written without a namespace.
pub(super) fn rules(
    path: &str,
    rules: &[Rule],
    home: Option<&str>,
) -> Result<Vec<Vec<v1::AuthorizationRule>>, FieldError> {
    rules.iter().enumerate().map(|(index, parsed)| rule(&format!("{path}[{index}]"), parsed, home)).collect()
}

/// All in one list; a rule that is not at the place where it was written says so, for those who are told of it.
pub(super) fn numbered(rules: Vec<Vec<v1::AuthorizationRule>>) -> Vec<v1::AuthorizationRule> {
    let mut all = Vec::with_capacity(rules.len());
    for (index, parts) in (0_u32..).zip(rules) {
        for part in parts {
            let here = u32::try_from(all.len()).ok() == Some(index);
            all.push(v1::AuthorizationRule { written: (!here).then_some(index), ..part });
        }
    }
    all
}

/// One rule, or one for each set of ports that its destinations name together with requests.
fn rule(path: &str, rule: &Rule, home: Option<&str>) -> Result<Vec<v1::AuthorizationRule>, FieldError> {
    if rule.from.is_none() && rule.to.is_none() && rule.when.is_none() {
        return Err(says_nothing(path, "from, to or when"));
    }
    let from = rule.from.as_ref().map(|from| {
        from.iter()
            .enumerate()
            .map(|(index, parsed)| source(&format!("{path}.from[{index}]"), parsed, home))
            .collect::<Result<Vec<_>, _>>()
            .map(|sources| v1::SourceList { sources })
    });
    let from = from.transpose()?;
    let headers = operation::headers(&format!("{path}.when"), rule.when.as_deref())?;
    let reaches = operation::reaches(&format!("{path}.to"), rule.to.as_deref())?;
    let whole = |(to, operations)| v1::AuthorizationRule {
        from: from.clone(),
        to,
        operations,
        headers: headers.clone(),
        written: None,
    };
    Ok(reaches.into_iter().map(whole).collect())
}

pub(super) fn says_nothing(path: &str, fields: &str) -> FieldError {
    FieldError::new(path, "it says nothing, and would match everything", format!("write {fields}"))
}

fn source(path: &str, source: &Source, home: Option<&str>) -> Result<v1::Source, FieldError> {
    if *source == Source::default() {
        return Err(says_nothing(path, "identities, namespaces, serviceAccounts or cidrs"));
    }
    let identity = |_: &str, value: &str| {
        value.parse::<Identity>().map(|identity| identity.to_string()).map_err(|error| error.to_string())
    };
    let namespace = |_: &str, value: &str| {
        value.parse::<Namespace>().map(|name| name.to_string()).map_err(|error| error.to_string())
    };
    let account = |_: &str, value: &str| service_account(value, home);
    let list = |name: &str, values: &Option<Vec<String>>, parse: &dyn Fn(&str, &str) -> Result<String, String>| {
        strings(&format!("{path}.{name}"), values.as_deref(), parse)
    };
    let nets = |name: &str, values: &Option<Vec<String>>| {
        values
            .as_ref()
            .map(|values| ranges(&format!("{path}.{name}"), values))
            .transpose()
            .map(|nets| nets.map(|nets| v1::StringList { values: nets.iter().map(ToString::to_string).collect() }))
    };
    Ok(v1::Source {
        identities: list("identities", &source.identities, &identity)?,
        namespaces: list("namespaces", &source.namespaces, &namespace)?,
        service_accounts: list("serviceAccounts", &source.service_accounts, &account)?,
        cidrs: nets("cidrs", &source.cidrs)?,
        not_identities: list("notIdentities", &source.not_identities, &identity)?,
        not_namespaces: list("notNamespaces", &source.not_namespaces, &namespace)?,
        not_service_accounts: list("notServiceAccounts", &source.not_service_accounts, &account)?,
        not_cidrs: nets("notCidrs", &source.not_cidrs)?,
    })
}

fn service_account(value: &str, home: Option<&str>) -> Result<String, String> {
    let name = match (value.contains('/'), home) {
        (true, _) => value.parse::<NamespacedName>(),
        (false, Some(home)) => NamespacedName::new(home, value),
        (false, None) => return Err(format!("{value:?} names no namespace")),
    };
    name.map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn strings(
    path: &str,
    values: Option<&[String]>,
    parse: &dyn Fn(&str, &str) -> Result<String, String>,
) -> Result<Option<v1::StringList>, FieldError> {
    let Some(values) = values else { return Ok(None) };
    let mut parsed = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let value = parse(&path, value).map_err(|problem| {
            FieldError::new(path, problem, "write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME for an identity, NAMESPACE/NAME for a service account")
        })?;
        parsed.push(value);
    }
    Ok(Some(v1::StringList { values: parsed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_stays_and_an_omitted_one_is_absent() {
        let raw = Source { namespaces: Some(vec![]), ..Source::default() };
        let parsed = source("from", &raw, Some("shop")).unwrap();
        assert_eq!(parsed.namespaces, Some(v1::StringList { values: vec![] }));
        assert_eq!(parsed.identities, None);
    }

    #[test]
    fn a_service_account_without_a_namespace_is_the_policies_neighbour() {
        let raw = Source { service_accounts: Some(vec!["web".to_owned(), "ops/cron".to_owned()]), ..Source::default() };
        let parsed = source("from", &raw, Some("shop")).unwrap();
        assert_eq!(parsed.service_accounts.unwrap().values, ["shop/web", "ops/cron"]);
        assert!(source("from", &raw, None).is_err(), "a mesh-wide rule has no neighbour");
    }

    #[test]
    fn what_would_match_everything_by_mistake_is_refused() {
        let nothing = Rule { from: None, to: None, when: None };
        assert!(rule("rules[0]", &nothing, Some("shop")).is_err());
        let empty_source = Rule { from: Some(vec![Source::default()]), to: None, when: None };
        assert_eq!(rule("rules[0]", &empty_source, Some("shop")).unwrap_err().path, "rules[0].from[0]");
    }
}
