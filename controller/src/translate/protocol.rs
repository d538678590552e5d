//! Which protocol a Service's port declares: by `appProtocol`, or where that is silent by the beginning of its name.

use crate::object::{RouteKind, ServicePort};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The first bytes tell.
    Undeclared,
    Http,
    /// In plaintext (h2c).
    Http2,
    Grpc,
    /// The application's own TLS: opaque for the mesh.
    Tls,
    /// Something that is no HTTP.
    Opaque,
}

impl Protocol {
    pub fn of(port: &ServicePort) -> Self {
        if port.app_protocol.is_empty() {
            return Self::of_word(&port.name).unwrap_or(Self::Undeclared);
        }
        let written = port.app_protocol.to_ascii_lowercase();
        match written.strip_prefix("kubernetes.io/").unwrap_or(&written) {
            "ws" => Self::Http,
            "wss" => Self::Tls,
            // A name of somebody's own (Kubernetes: "appProtocol") says nothing to us; IANA's other services are no HTTP.
            other => Self::of_word(other).unwrap_or(if other.contains('/') { Self::Undeclared } else { Self::Opaque }),
        }
    }

    /// `word` or `word-suffix`, as Istio's users write names of ports.
    fn of_word(name: &str) -> Option<Self> {
        let word = if name.starts_with("grpc-web") { "grpc-web" } else { name.split('-').next().unwrap_or_default() };
        Some(match word {
            "http" | "grpc-web" => Self::Http,
            "http2" | "h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "tls" | "https" => Self::Tls,
            "tcp" | "mysql" | "redis" | "mongo" | "mongodb" | "postgres" | "postgresql" | "mssql" | "kafka"
            | "amqp" | "mqtt" | "nats" | "memcached" | "zookeeper" | "cassandra" | "ldap" | "ldaps" | "smtp"
            | "imap" | "ssh" => Self::Opaque,
            _ => return None,
        })
    }

    /// The one word that agents read; empty for what is not declared.
    pub fn word(self) -> &'static str {
        match self {
            Self::Undeclared => "",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tls => "tls",
            Self::Opaque => "tcp",
        }
    }

    /// What routes of that kind are about can be found in it, or it is not known that it cannot.
    pub fn may_be_routed(self, kind: RouteKind) -> bool {
        match (kind, self) {
            (RouteKind::Grpc | RouteKind::Http, Self::Tls | Self::Opaque)
            | (RouteKind::Tls, Self::Http | Self::Http2 | Self::Grpc) => false,
            (RouteKind::Grpc | RouteKind::Http, Self::Undeclared | Self::Http | Self::Http2 | Self::Grpc)
            | (RouteKind::Tls, Self::Undeclared | Self::Tls | Self::Opaque)
            | (RouteKind::Tcp, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::TargetPort;

    fn check(name: &str, app_protocol: &str, expected: &str) {
        let port = ServicePort {
            name: name.to_owned(),
            port: 80,
            target: TargetPort::Number(80),
            app_protocol: app_protocol.to_owned(),
        };
        assert_eq!(Protocol::of(&port).word(), expected, "{name:?} with appProtocol {app_protocol:?}");
    }

    #[test]
    fn app_protocol_declares() {
        for (written, expected) in [
            ("http", "http"),
            ("HTTP", "http"),
            ("kubernetes.io/h2c", "http2"),
            ("h2c", "http2"),
            ("http2", "http2"),
            ("kubernetes.io/ws", "http"),
            ("kubernetes.io/wss", "tls"),
            ("https", "tls"),
            ("grpc", "grpc"),
            ("grpc-web", "http"),
            ("tcp", "tcp"),
            ("redis", "tcp"),
            ("domain", "tcp"),
            ("example.com/own", ""),
        ] {
            check("", written, expected);
            check("redis", written, expected);
        }
    }

    #[test]
    fn a_silent_port_is_declared_by_its_name() {
        for (name, expected) in [
            ("http", "http"),
            ("http-web", "http"),
            ("http2", "http2"),
            ("http2-web", "http2"),
            ("h2c", "http2"),
            ("grpc", "grpc"),
            ("grpc-web", "http"),
            ("grpc-api", "grpc"),
            ("https", "tls"),
            ("tls-db", "tls"),
            ("tcp-echo", "tcp"),
            ("mysql", "tcp"),
            ("redis-main", "tcp"),
            ("", ""),
            ("web", ""),
            ("httpx", ""),
            ("web-http", ""),
            ("metrics", ""),
        ] {
            check(name, "", expected);
        }
    }
}
