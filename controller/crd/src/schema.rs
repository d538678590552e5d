//! What the derive cannot say about a schema: an object of a rule must have at least one field, and a
//! map of labels is bounded.

use schemars::{Schema, transform::Transform};
use serde_json::json;

/// An object without any field is refused: what a pruned typo leaves behind must not match everything.
#[derive(Debug, Clone)]
pub struct SaysSomething;

impl Transform for SaysSomething {
    fn transform(&mut self, schema: &mut Schema) {
        schema.insert("minProperties".to_owned(), json!(1));
    }
}

/// Label keys are at most 63 + 1 + 253 characters, values at most 63 (Kubernetes: "Labels and Selectors").
pub fn labels(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

/// Ports of TCP. At most 64 in one list.
pub fn ports(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 }))
}

/// Error statuses of HTTP. At most 64 in one list.
pub fn error_statuses(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "integer", "format": "int32", "minimum": 400, "maximum": 599 }))
}

/// Address ranges such as `10.0.0.0/8` or `fd00::/8`; the longest text of one has 49 characters.
pub fn ranges(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "string", "minLength": 1, "maxLength": 49 }))
}

/// Identities such as `spiffe://cluster.local/ns/shop/sa/web`; a trust domain, a namespace and a name fit in 640 characters.
pub fn identities(_: &mut schemars::SchemaGenerator) -> Schema {
    list(128, &json!({ "type": "string", "minLength": 1, "maxLength": 640 }))
}

/// Namespaces or `namespace/name`: 63 + 1 + 253 characters.
pub fn names(_: &mut schemars::SchemaGenerator) -> Schema {
    list(128, &json!({ "type": "string", "minLength": 1, "maxLength": 317 }))
}

/// Names of nodes. At most 16 in one list.
pub fn nodes(_: &mut schemars::SchemaGenerator) -> Schema {
    list(16, &json!({ "type": "string", "minLength": 1, "maxLength": 253 }))
}

/// Methods of HTTP: the longest registered one has 17 letters.
pub fn methods(_: &mut schemars::SchemaGenerator) -> Schema {
    list(32, &json!({ "type": "string", "minLength": 1, "maxLength": 32 }))
}

/// Names of DNS, perhaps below `*.`.
pub fn hosts(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "string", "minLength": 1, "maxLength": 255 }))
}

/// Values of one header. An empty one is a value.
pub fn header_values(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "string", "maxLength": 1024 }))
}

/// `address`, `address:port` or `[address]:port`.
pub fn addresses(_: &mut schemars::SchemaGenerator) -> Schema {
    list(64, &json!({ "type": "string", "minLength": 1, "maxLength": 53 }))
}

/// Trust domains: DNS names.
pub fn trust_domains(_: &mut schemars::SchemaGenerator) -> Schema {
    list(8, &json!({ "type": "string", "minLength": 1, "maxLength": 253 }))
}

fn list(limit: u32, items: &serde_json::Value) -> Schema {
    schemars::json_schema!({ "type": "array", "maxItems": limit, "items": items })
}
