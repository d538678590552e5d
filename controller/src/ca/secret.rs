//! The root in a Secret, and its certificate in a `ConfigMap` that agents read.
//!
//! Created and never replaced: of two controllers that begin together one is too late and reads the other's. Traces of
//! a root (the `ConfigMap`, the fingerprint in the mesh's status) without the root end the start: another root would cut
//! off every agent that trusts the lost one.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use weft_proto::names::{Namespace, TrustDomain};

use super::root::{Root, Written};
use crate::api::{Access, Unanswered, fault, is};
use crate::limits;
use crate::object::Kind;
use crate::source::Defect;
use crate::source::kubernetes::resource;
use crate::trouble::Troubles;

/// Of type `kubernetes.io/tls`, as others that make roots write them.
const SECRET: &str = "weft-ca";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// What agents trust us by.
const CONFIG_MAP: &str = "weft-trust";
const TRUST: &str = "ca.pem";

struct Store {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    meshes: Api<DynamicObject>,
    namespace: Namespace,
}

/// Looks after what was opened.
pub struct Guard {
    store: Store,
    /// In PEM, with its fingerprint.
    certificate: String,
    fingerprint: String,
    /// False: the installed definition of the mesh's status has no field for the fingerprint.
    remembers: bool,
}

/// The fingerprint in the status of the mesh.
enum Trace {
    /// No operator has said anything yet: the `ConfigMap` is the trace until then.
    NoMesh,
    Nothing,
    Fingerprint(String),
}

pub async fn open(client: Client, namespace: &Namespace, trust_domain: &TrustDomain) -> anyhow::Result<(Root, Guard)> {
    let store = Store {
        secrets: Api::namespaced(client.clone(), namespace.as_str()),
        config_maps: Api::namespaced(client.clone(), namespace.as_str()),
        meshes: Api::all_with(client, &resource(Kind::MeshConfig, weft_crd::VERSION)),
        namespace: namespace.clone(),
    };
    let published = store.published().await?;
    let remembered = store.remembered().await?;
    let written = match (store.read().await?, &published, &remembered) {
        (Some(written), _, _) => written,
        (None, Some(_), _) => bail!("{}", missing(namespace, &format!("the ConfigMap {CONFIG_MAP}"))),
        (None, None, Trace::Fingerprint(_)) => bail!("{}", missing(namespace, "the status of MeshConfig default")),
        (None, None, Trace::NoMesh | Trace::Nothing) => store.make(trust_domain).await?,
    };
    let root = written.parse().with_context(|| format!("the Secret {namespace}/{SECRET} holds no root"))?;
    let fingerprint = root.fingerprint();
    remembered.agree(&fingerprint)?;
    match published {
        None => store.publish(&written.certificate).await?,
        Some(text) => ensure!(
            text.trim() == written.certificate.trim(),
            "the root in the Secret {namespace}/{SECRET} is not the one in the ConfigMap {CONFIG_MAP}, which agents trust"
        ),
    }
    let mut guard = Guard { store, certificate: written.certificate, fingerprint, remembers: true };
    guard.remember(&remembered).await?;
    Ok((root, guard))
}

fn missing(namespace: &Namespace, trace: &str) -> String {
    format!(
        "the Secret {namespace}/{SECRET} is missing, but {trace} says that a root existed: agents trust that one, and \
         another would cut them off; restore it, or remove that trace to begin a new mesh"
    )
}

impl Trace {
    fn agree(&self, fingerprint: &str) -> anyhow::Result<()> {
        match self {
            Self::Fingerprint(known) if known != fingerprint => {
                bail!(
                    "our root has fingerprint {fingerprint}, but the status of MeshConfig default says that agents trust {known}"
                )
            }
            Self::Fingerprint(_) | Self::NoMesh | Self::Nothing => Ok(()),
        }
    }
}

impl Guard {
    /// Tells until `stop` when the Secret is gone or another: this controller goes on with the root that it has, which
    /// agents trust, but none that begins after it would. Traces that are gone are made again.
    pub async fn run(mut self, troubles: Troubles, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(limits::ROOT_INTERVAL) => {}
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = self.look() => looked,
            };
            match looked {
                Ok(()) => troubles.clear("root"),
                Err(error) => troubles.raise("root", lost(&error)),
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let namespace = &self.store.namespace;
        let found = self.store.read().await?.with_context(|| format!("the Secret {namespace}/{SECRET} is missing"))?;
        ensure!(
            found.certificate.trim() == self.certificate.trim(),
            "the Secret {namespace}/{SECRET} holds another root than the one that agents trust"
        );
        match self.store.published().await? {
            None => self.store.publish(&self.certificate).await?,
            Some(text) => ensure!(
                text.trim() == self.certificate.trim(),
                "the ConfigMap {CONFIG_MAP} holds another root than the one that agents trust"
            ),
        }
        let known = self.store.remembered().await?;
        self.remember(&known).await
    }

    async fn remember(&mut self, known: &Trace) -> anyhow::Result<()> {
        known.agree(&self.fingerprint)?;
        if self.remembers && matches!(known, Trace::Nothing) {
            self.remembers = self.store.remember(&self.fingerprint).await?;
        }
        Ok(())
    }
}

fn lost(error: &anyhow::Error) -> Defect {
    let fix = "restore it; a controller that begins without it would not start".to_owned();
    Defect { file: None, line: 0, object: None, key: None, field: None, problem: format!("{error:#}"), fix }
}

impl Store {
    /// None: there is no Secret.
    async fn read(&self) -> anyhow::Result<Option<Written>> {
        let found = self.secrets.get_opt(SECRET).await;
        let Some(secret) = found.map_err(told("get", "", "secrets"))? else { return Ok(None) };
        let data = secret.data.unwrap_or_default();
        let text = |name: &str| {
            let bytes =
                data.get(name).with_context(|| format!("the Secret {}/{SECRET} has no {name}", self.namespace))?;
            String::from_utf8(bytes.0.clone()).with_context(|| format!("{name} of the Secret {SECRET} is not text"))
        };
        Ok(Some(Written { key: text(KEY)?, certificate: text(CERTIFICATE)? }))
    }

    /// Ours, or that of a controller that was faster.
    async fn make(&self, trust_domain: &TrustDomain) -> anyhow::Result<Written> {
        let written = Written::make(trust_domain)?;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = [(CERTIFICATE, bytes(&written.certificate)), (KEY, bytes(&written.key))];
        let secret = Secret {
            metadata: named(SECRET),
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()),
            ..Secret::default()
        };
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                tracing::info!(namespace = %self.namespace, secret = SECRET, "made the root of this mesh");
                Ok(written)
            }
            Err(error) if is(&error, 409) => {
                self.read().await?.context("the Secret of the root came and went; begin again")
            }
            Err(error) => Err(told("create", "", "secrets")(error)),
        }
    }

    /// None: there is no `ConfigMap`. One without a certificate in it is a trace of a root, and nobody knows of which.
    async fn published(&self) -> anyhow::Result<Option<String>> {
        let found = self.config_maps.get_opt(CONFIG_MAP).await.map_err(told("get", "", "configmaps"))?;
        let Some(map) = found else { return Ok(None) };
        let text = map.data.unwrap_or_default().remove(TRUST).with_context(|| {
            format!(
                "the ConfigMap {}/{CONFIG_MAP} has no {TRUST}: write the certificate of the Secret {SECRET} into it, or \
                 remove it, and it is made again",
                self.namespace
            )
        })?;
        Ok(Some(text))
    }

    async fn publish(&self, certificate: &str) -> anyhow::Result<()> {
        let data = Some(BTreeMap::from([(TRUST.to_owned(), certificate.to_owned())]));
        let map = ConfigMap { metadata: named(CONFIG_MAP), data, ..ConfigMap::default() };
        match self.config_maps.create(&PostParams::default(), &map).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 409) => {
                let text = self.published().await?.unwrap_or_default();
                ensure!(
                    text.trim() == certificate.trim(),
                    "the ConfigMap {CONFIG_MAP} holds another root than the Secret"
                );
                Ok(())
            }
            Err(error) => Err(told("create", "", "configmaps")(error)),
        }
    }

    async fn remembered(&self) -> anyhow::Result<Trace> {
        let found = self.meshes.get_opt(weft_crd::MESH_CONFIG_NAME).await;
        let found = found.map_err(told("get", weft_crd::GROUP, "meshconfigs"))?;
        let Some(mesh) = found else { return Ok(Trace::NoMesh) };
        let fingerprint = mesh.data["status"]["rootFingerprint"].as_str();
        Ok(fingerprint.map_or(Trace::Nothing, |fingerprint| Trace::Fingerprint(fingerprint.to_owned())))
    }

    /// False: the definition that is installed knows no such field, and the API server dropped it.
    async fn remember(&self, fingerprint: &str) -> anyhow::Result<bool> {
        let patch = json!({"status": {"rootFingerprint": fingerprint}});
        let name = weft_crd::MESH_CONFIG_NAME;
        match self.meshes.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(mesh) => Ok(mesh.data["status"]["rootFingerprint"] == fingerprint),
            // It has gone since it was read.
            Err(error) if is(&error, 404) => Ok(true),
            Err(error) => Err(told("patch", weft_crd::GROUP, "meshconfigs/status")(error)),
        }
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn told(verb: &'static str, group: &'static str, resource: &'static str) -> impl Fn(Error) -> anyhow::Error {
    move |error| Unanswered(fault(Access { verb, group, resource }, &error)).into()
}

#[cfg(test)]
mod tests;
