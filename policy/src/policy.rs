//! A policy in validated types. Structure says the logic: `None` is anything, an empty list is nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use weft_proto::names::{Identity, NameError, Namespace, NamespacedName};
use weft_proto::v1;

use crate::read::{action, ports};
use crate::{HeaderCondition, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Allow,
    Deny,
    Audit,
}

/// Whose policy it is, for people. The operator's name has an upper-case letter, so no namespace can pass for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyName {
    /// An `AuthorizationPolicy` object.
    Object(NamespacedName),
    /// The rules of the `MeshConfig` of this name, written `MeshConfig/name`.
    Operator(Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub name: PolicyName,
    pub action: Action,
    pub dry_run: bool,
    /// From `MeshConfig`: an enforced Deny comes before everything else.
    pub enforced: bool,
    /// Ports of the target that the policy speaks of; empty: every port. On other ports the policy does not exist:
    /// an Allow for one port of a pod does not close its other ports.
    pub target_ports: Vec<u16>,
    pub rules: Vec<Rule>,
    /// Why this is the safe reading and not what was written; None for a policy that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// Matches when all present fields match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// One source must match.
    pub from: Option<Vec<Source>>,
    pub to: Option<PortMatch>,
    /// One operation must match. A rule that has operations or headers is a rule of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// All must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderCondition>,
    /// Which rule of its object this is a part of, for people; None: the one at the same index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortMatch {
    pub ports: Vec<u16>,
    pub negated: bool,
}

/// Matches when every present field matches. A peer without identity (plaintext) matches no positive identity field and
/// every negative one: `not` is the exact negation, whoever asks. Only a strict port makes an identity certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Source {
    pub identities: Option<Vec<Identity>>,
    pub namespaces: Option<Vec<Namespace>>,
    pub service_accounts: Option<Vec<NamespacedName>>,
    pub networks: Option<Vec<IpNet>>,
    pub not_identities: Option<Vec<Identity>>,
    pub not_namespaces: Option<Vec<Namespace>>,
    pub not_service_accounts: Option<Vec<NamespacedName>>,
    pub not_networks: Option<Vec<IpNet>>,
}

const OPERATOR: &str = "MeshConfig";

impl FromStr for PolicyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            // Any namespace serves to check the name itself.
            Some((OPERATOR, name)) => Ok(Self::Operator(NamespacedName::new("any", name)?.name)),
            Some(_) | None => text.parse().map(Self::Object),
        }
    }
}

impl From<NamespacedName> for PolicyName {
    fn from(name: NamespacedName) -> Self {
        Self::Object(name)
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(name) => name.fmt(formatter),
            Self::Operator(name) => write!(formatter, "{OPERATOR}/{name}"),
        }
    }
}

impl Serialize for PolicyName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Rule {
    /// Matches every connection and every request.
    pub const ANY: Self = Self { from: None, to: None, operations: None, headers: Vec::new(), written: None };
}

impl Policy {
    /// What an agent applies in place of a policy that it cannot read rightly: an Allow that matches nothing, a Deny of
    /// the whole target, an Audit of nothing. An unknown action (or no readable body at all) may be a new kind of
    /// refusal and is a Deny. Dry runs stay dry. Target ports that cannot be read become every port.
    #[must_use]
    pub fn safe_reading(name: PolicyName, message: Option<&v1::AuthorizationPolicy>, why: impl Into<String>) -> Self {
        let action = message.and_then(|message| action(message.action).ok()).unwrap_or(Action::Deny);
        let target_ports = message.and_then(|message| ports("target_ports", &message.target_ports).ok());
        Self {
            name,
            action,
            dry_run: message.is_some_and(|message| message.dry_run),
            enforced: message.is_some_and(|message| message.enforced),
            target_ports: target_ports.unwrap_or_default(),
            rules: match action {
                Action::Allow | Action::Audit => Vec::new(),
                Action::Deny => vec![Rule::ANY],
            },
            unread: Some(why.into()),
        }
    }

    /// Stands for a policy that is named as selecting a pod and is not there: nobody may connect until it is.
    #[must_use]
    pub fn absent(name: PolicyName) -> Self {
        Self::safe_reading(name, None, "it has not been received")
    }

    /// Whether the policy speaks of `port` at all.
    #[must_use]
    pub fn speaks_of(&self, port: u16) -> bool {
        self.target_ports.is_empty() || self.target_ports.contains(&port)
    }

    /// Whether a rule of requests speaks of `port`.
    #[must_use]
    pub fn judges_requests(&self, port: u16) -> bool {
        self.speaks_of(port) && self.rules.iter().any(|rule| rule.is_of_requests() && rule.speaks_of(port))
    }

    /// True when a peer that speaks plaintext passes although its author may not think so: a Deny by identity, or an Allow
    /// that only excludes identities. On a strict port neither can happen.
    #[must_use]
    pub fn leans_on_strict_mode(&self) -> bool {
        let sources = || self.rules.iter().filter_map(|rule| rule.from.as_ref()).flatten();
        match self.action {
            Action::Deny => sources().any(Source::names_identity),
            Action::Allow => sources().any(|source| source.excludes_identity() && !source.names_identity()),
            Action::Audit => false,
        }
    }
}
