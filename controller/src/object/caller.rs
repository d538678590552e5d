//! Objects that have the API server call a Service: webhooks, aggregated APIs, conversions of custom kinds.
//!
//! Of each, only the Services are read. What is called by URL is none of the mesh's pods.

use serde::Deserialize;

use super::field::port;
use super::{FieldError, Kind, Metadata, RawMetadata};
use crate::limits;

/// Where the API says no port (`ServiceReference`).
const DEFAULT_PORT: i64 = 443;

/// What is read of any of the kinds; each has its own part.
#[derive(Debug, Clone, Deserialize)]
pub struct RawCaller {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    webhooks: Option<Vec<RawWebhook>>,
    #[serde(default)]
    spec: RawSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    /// Of an aggregated API; absent for one that the API server serves itself.
    service: Option<RawService>,
    /// Of a custom kind.
    conversion: Option<RawConversion>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawConversion {
    webhook: Option<RawWebhook>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawWebhook {
    client_config: Option<RawClient>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawClient {
    service: Option<RawService>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawService {
    namespace: String,
    name: String,
    port: Option<i64>,
}

/// A port of a Service, by its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub kind: Kind,
    /// The name alone.
    pub metadata: Metadata,
    /// Sorted, each once.
    pub services: Vec<Called>,
}

impl Caller {
    pub fn parse(kind: Kind, raw: RawCaller) -> Result<Self, FieldError> {
        let name = raw.metadata.name;
        // The API of the core group is called "v1.", which is no name that an object could have elsewhere.
        let checked = name.strip_suffix('.').unwrap_or(&name).to_owned();
        Metadata::parse(kind, RawMetadata { name: checked, ..RawMetadata::default() })?;
        let mut services = Vec::new();
        for (index, webhook) in raw.webhooks.iter().flatten().enumerate() {
            let path = format!("webhooks[{index}].clientConfig.service");
            services.extend(webhook.called(&path)?);
        }
        services
            .extend(raw.spec.service.as_ref().map(|service| called("spec.service", service)).transpose()?.flatten());
        if let Some(webhook) = raw.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref()) {
            services.extend(webhook.called("spec.conversion.webhook.clientConfig.service")?);
        }
        services.sort_unstable();
        services.dedup();
        let (count, limit) = (services.len(), limits::SERVICES_PER_CALLER);
        if count > limit {
            let problem = format!("it has the API server call {count} Services, and at most {limit} are read");
            return Err(FieldError::new("", problem, "divide it"));
        }
        Ok(Self { kind, metadata: Metadata { name, ..Metadata::default() }, services })
    }

    /// `Kind name`, for sentences.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.metadata.name)
    }
}

impl RawWebhook {
    fn called(&self, path: &str) -> Result<Option<Called>, FieldError> {
        let service = self.client_config.as_ref().and_then(|client| client.service.as_ref());
        service.map(|service| called(path, service)).transpose().map(Option::flatten)
    }
}

/// None: it names nothing, which no API server takes.
fn called(path: &str, raw: &RawService) -> Result<Option<Called>, FieldError> {
    if raw.namespace.is_empty() || raw.name.is_empty() {
        return Ok(None);
    }
    let port = port(&format!("{path}.port"), raw.port.unwrap_or(DEFAULT_PORT))?;
    Ok(Some(Called { namespace: raw.namespace.clone(), name: raw.name.clone(), port }))
}
