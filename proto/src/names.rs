//! Names that cross process borders, parsed once into types.
//!
//! An [`Identity`] is what a certificate proves; a [`NodeIdentity`] is what the controller trusts a
//! caller to be. The two have different SPIFFE path shapes, so one can never be read as the other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A Kubernetes name is a DNS label or subdomain of at most 253 characters (RFC 1123).
const NAME_LENGTH_LIMIT: usize = 253;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} must not be empty")]
    Empty { what: &'static str },
    #[error(
        "{what} {value:?} has a character outside a-z, 0-9, '-', '.', an empty part before, between or after dots, or more than 253 characters"
    )]
    Invalid { what: &'static str, value: String },
    #[error("{value:?} is not a SPIFFE identity of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    NotAnIdentity { value: String },
    #[error("{value:?} is not a node identity of the form spiffe://TRUST-DOMAIN/weft/node/NAME")]
    NotANode { value: String },
    #[error("{value:?} is not of the form NAMESPACE/NAME")]
    NotNamespaced { value: String },
}

/// Checks one label or subdomain. Bound: 253 characters. No part between dots is empty, so that a name never reads as
/// the folder `.` or `..` of a path.
fn checked(what: &'static str, value: &str) -> Result<Arc<str>, NameError> {
    if value.is_empty() {
        return Err(NameError::Empty { what });
    }
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let whole_parts = value.split('.').all(|part| !part.is_empty());
    if value.len() > NAME_LENGTH_LIMIT || !value.bytes().all(valid) || !whole_parts {
        return Err(NameError::Invalid { what, value: value.to_owned() });
    }
    Ok(Arc::from(value))
}

macro_rules! simple_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                checked($what, value).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

simple_name!(
    /// The root of all identities of one mesh, such as `cluster.local`.
    TrustDomain,
    "trust domain"
);
simple_name!(
    /// The name of a node, as Kubernetes has it.
    NodeName,
    "node name"
);
simple_name!(
    /// The uid of a pod: unique for ever, unlike its name and address.
    WorkloadUid,
    "workload uid"
);
simple_name!(
    /// A Kubernetes namespace.
    Namespace,
    "namespace"
);

/// An object in a namespace, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    pub namespace: Namespace,
    pub name: Arc<str>,
}

/// What an `XBackend` is called where it stands among Services, none of which has a dot in its name (Kubernetes: "Service").
#[must_use]
pub fn x_backend(name: &str) -> String {
    format!("{X_BACKEND}{name}")
}

const X_BACKEND: &str = "xbackend.";

impl NamespacedName {
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: namespace.parse()?, name: checked("name", name)? })
    }

    /// The object of a name among Services, as its owner knows it: `Service shop/web` or `XBackend shop/cart`.
    #[must_use]
    pub fn backend_title(&self) -> String {
        match self.name.strip_prefix(X_BACKEND) {
            Some(name) => format!("XBackend {}/{name}", self.namespace),
            None => format!("Service {self}"),
        }
    }
}

impl FromStr for NamespacedName {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        let (namespace, name) =
            value.split_once('/').ok_or_else(|| NameError::NotNamespaced { value: value.to_owned() })?;
        Self::new(namespace, name)
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl serde::Serialize for NamespacedName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A workload's identity: its service account in a trust domain (SPIFFE ID, section 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub trust_domain: TrustDomain,
    pub namespace: Namespace,
    pub service_account: Arc<str>,
}

impl Identity {
    pub fn new(trust_domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, NameError> {
        Ok(Self {
            trust_domain: trust_domain.clone(),
            namespace: namespace.parse()?,
            service_account: checked("service account", service_account)?,
        })
    }
}

impl FromStr for Identity {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        let reject = || NameError::NotAnIdentity { value: value.to_owned() };
        let (trust_domain, path) =
            value.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(reject)?;
        let mut segments = path.split('/');
        let (Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) =
            (segments.next(), segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(reject());
        };
        Self::new(&trust_domain.parse()?, namespace, service_account)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The proof that a caller is the agent of one node. Only the controller's authentication makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeIdentity {
    pub trust_domain: TrustDomain,
    pub node: NodeName,
}

impl FromStr for NodeIdentity {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        let reject = || NameError::NotANode { value: value.to_owned() };
        let (trust_domain, path) =
            value.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(reject)?;
        let node = path.strip_prefix("weft/node/").ok_or_else(reject)?;
        Ok(Self { trust_domain: trust_domain.parse()?, node: node.parse()? })
    }
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}/weft/node/{}", self.trust_domain, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_writing_and_reading() {
        let text = "spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(text.parse::<Identity>().map(|identity| identity.to_string()), Ok(text.to_owned()));
    }

    #[test]
    fn only_the_exact_shape_is_an_identity() {
        for text in [
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "spiffe://cluster.local/ns/shop/sa/web/x",
            "spiffe://cluster.local/ns//sa/web",
            "spiffe:///ns/shop/sa/web",
            "spiffe://cluster.local/ns/Shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/w%65b",
            "spiffe://cluster.local/weft/node/a",
            "https://cluster.local/ns/shop/sa/web",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text} was read as an identity");
        }
    }

    #[test]
    fn a_name_never_reads_as_a_folder_of_a_path() {
        for name in [".", "..", ".hidden", "trailing.", "a..b", "../../teamb/deny"] {
            assert!(NamespacedName::new("shop", name).is_err(), "{name} was read as a name");
            assert!(name.parse::<Namespace>().is_err(), "{name} was read as a namespace");
        }
        assert!(NamespacedName::new("shop", "web.v1").is_ok());
    }

    #[test]
    fn an_x_backend_is_told_from_a_service_of_its_name() {
        for (name, title) in [("cart", "Service shop/cart"), (x_backend("cart").as_str(), "XBackend shop/cart")] {
            assert_eq!(NamespacedName::new("shop", name).map(|name| name.backend_title()), Ok(title.to_owned()));
        }
    }

    #[test]
    fn a_workload_is_never_read_as_a_node() {
        assert!("spiffe://cluster.local/ns/weft/sa/node".parse::<NodeIdentity>().is_err());
        assert!("spiffe://cluster.local/weft/node/a/b".parse::<NodeIdentity>().is_err());
        assert!("spiffe://cluster.local/weft/node/a".parse::<NodeIdentity>().is_ok());
    }
}
