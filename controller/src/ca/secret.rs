//! The roots in a Secret, and whom agents believe in a `ConfigMap` that they read.
//!
//! Created once, and changed only from the version that was read: of two controllers that begin or go on together one is
//! too late and reads the other's. What the mesh's status says of them is the trace that outlives both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::json;
use weft_crd::ConditionStatus;
use weft_proto::names::Namespace;

use super::record::{Record, Roots, Texts};
use super::report::RootReport;
use super::root::Written;
use super::store::{Names, Trace, Traces};
use crate::api::{Access, Unanswered, fault, is};
use crate::object::Kind;
use crate::source::kubernetes::resource;
use crate::status::{condition, with_condition};

/// Of type `kubernetes.io/tls`, as others that make roots write them.
const SECRET: &str = "weft-ca";
/// Names in it: of the root in force, as that type has them, ...
const ROOT: [&str; 2] = ["tls.key", "tls.crt"];
/// ... of the one that takes its place, and of what is said about both.
const NEXT: [&str; 2] = ["next.key", "next.crt"];
const STAND: &str = "rotation.json";
/// What agents trust us by.
const CONFIG_MAP: &str = "weft-trust";
const TRUST: &str = "ca.pem";
/// The type of the condition.
const CURRENT: &str = "RootCurrent";

#[derive(Debug)]
pub struct Cluster {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    meshes: Api<DynamicObject>,
    namespace: Namespace,
    /// False: the installed definition of the mesh's status has no field for the fingerprint.
    remembers: AtomicBool,
}

impl Cluster {
    pub fn new(client: Client, namespace: &Namespace) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace.as_str()),
            config_maps: Api::namespaced(client.clone(), namespace.as_str()),
            meshes: Api::all_with(client, &resource(Kind::MeshConfig, weft_crd::VERSION)),
            namespace: namespace.clone(),
            remembers: AtomicBool::new(true),
        }
    }

    pub fn names(&self) -> Names {
        Names {
            record: format!("the Secret {}/{SECRET}", self.namespace),
            published: format!("the ConfigMap {CONFIG_MAP}"),
            remembered: "the status of MeshConfig default".to_owned(),
            begin_anew: "remove that trace".to_owned(),
        }
    }

    pub async fn read(&self) -> anyhow::Result<Option<Record>> {
        self.secret().await?.map_or(Ok(None), |secret| self.record(secret))
    }

    /// False: a controller was faster.
    pub async fn create(&self, record: &Record) -> anyhow::Result<bool> {
        let secret = Secret {
            metadata: named(SECRET),
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data(record)),
            ..Secret::default()
        };
        unless_too_late(self.secrets.create(&PostParams::default(), &secret).await, told("create", "", "secrets"))
    }

    /// False: it is not `before` any more, and nothing was changed.
    pub async fn replace(&self, before: &Record, after: &Record) -> anyhow::Result<bool> {
        let Some(mut secret) = self.secret().await? else { return Ok(false) };
        if self.record(secret.clone())?.as_ref() != Some(before) {
            return Ok(false);
        }
        let all = secret.data.get_or_insert_default();
        for name in ROOT.into_iter().chain(NEXT).chain([STAND]) {
            all.remove(name);
        }
        all.extend(data(after));
        // At the version that was read.
        let replaced = self.secrets.replace(SECRET, &PostParams::default(), &secret).await;
        unless_too_late(replaced, told("update", "", "secrets"))
    }

    pub async fn traces(&self) -> anyhow::Result<Traces> {
        let found = self.config_maps.get_opt(CONFIG_MAP).await.map_err(told("get", "", "configmaps"))?;
        let published = found.map(|map| {
            // One without a certificate in it is a trace of a root, and nobody knows of which.
            let text = map.data.unwrap_or_default().remove(TRUST).with_context(|| self.no_trust())?;
            anyhow::Ok(Trace { text, version: map.metadata.resource_version })
        });
        let mesh = self.mesh().await?;
        let remembered = mesh.and_then(|mesh| {
            let text = mesh.data["status"]["rootFingerprint"].as_str()?.to_owned();
            Some(Trace { text, version: mesh.metadata.resource_version })
        });
        Ok(Traces { published: published.transpose()?, remembered, witness: None })
    }

    /// Only from the versions that were read: between them and now the roots may have become others.
    pub async fn announce(&self, roots: &Roots, traces: &Traces, all: bool) -> anyhow::Result<bool> {
        let bundle = roots.record.bundle();
        let published = match &traces.published {
            None => {
                let data = Some(BTreeMap::from([(TRUST.to_owned(), bundle)]));
                let map = ConfigMap { metadata: named(CONFIG_MAP), data, ..ConfigMap::default() };
                let created = self.config_maps.create(&PostParams::default(), &map).await;
                unless_too_late(created, told("create", "", "configmaps"))?
            }
            Some(known) if all && known.text.trim() != bundle.trim() => {
                let patch = json!({"metadata": {"resourceVersion": known.version}, "data": {TRUST: bundle}});
                let patched = self.config_maps.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(patch)).await;
                unless_too_late(patched, told("patch", "", "configmaps"))?
            }
            Some(_) => true,
        };
        let remembered = match &traces.remembered {
            Some(known) if !all || known.text == roots.fingerprint() => true,
            known => self.remember(roots.fingerprint(), known.as_ref()).await?,
        };
        Ok(published && remembered)
    }

    /// False: somebody wrote to it at the same time. Without a mesh nobody is told.
    pub async fn tell(&self, report: &RootReport) -> anyhow::Result<bool> {
        let Some(mesh) = self.mesh().await? else { return Ok(true) };
        let (current, reason, message) = report.condition();
        let status = if current { ConditionStatus::True } else { ConditionStatus::False };
        let condition = condition(CURRENT, status, reason, message, mesh.metadata.generation);
        let known = &mesh.data["status"];
        let status = json!({
            "roots": report.roots,
            "rootRotation": report.rotation,
            "conditions": with_condition(&known["conditions"], condition),
        });
        if status.as_object().is_some_and(|status| status.iter().all(|(field, value)| known[field] == *value)) {
            return Ok(true);
        }
        let patch = json!({"metadata": {"resourceVersion": mesh.metadata.resource_version}, "status": status});
        match self.patch(&patch).await {
            Err(error) if is(&error, 404) => Ok(true),
            patched => unless_too_late(patched, told("patch", weft_crd::GROUP, "meshconfigs/status")),
        }
    }

    async fn remember(&self, fingerprint: &str, known: Option<&Trace>) -> anyhow::Result<bool> {
        if !self.remembers.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let mut patch = json!({"status": {"rootFingerprint": fingerprint}});
        // The first word has none to follow, and every controller would say the same.
        if let Some(version) = known.and_then(|known| known.version.as_ref()) {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        match self.patch(&patch).await {
            Ok(mesh) => {
                // A definition that knows no such field has the API server drop it.
                let kept = mesh.data["status"]["rootFingerprint"] == fingerprint;
                self.remembers.store(kept, Ordering::Relaxed);
                Ok(true)
            }
            // No operator has said anything yet: the `ConfigMap` is the trace until then.
            Err(error) if is(&error, 404) => Ok(true),
            answer => unless_too_late(answer, told("patch", weft_crd::GROUP, "meshconfigs/status")),
        }
    }

    async fn patch(&self, patch: &serde_json::Value) -> Result<DynamicObject, Error> {
        let name = weft_crd::MESH_CONFIG_NAME;
        self.meshes.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    async fn mesh(&self) -> anyhow::Result<Option<DynamicObject>> {
        let found = self.meshes.get_opt(weft_crd::MESH_CONFIG_NAME).await;
        found.map_err(told("get", weft_crd::GROUP, "meshconfigs"))
    }

    async fn secret(&self) -> anyhow::Result<Option<Secret>> {
        self.secrets.get_opt(SECRET).await.map_err(told("get", "", "secrets"))
    }

    fn record(&self, secret: Secret) -> anyhow::Result<Option<Record>> {
        let mut data = secret.data.unwrap_or_default();
        let mut text = |name: &str| {
            let text = data.remove(name).map(|bytes| String::from_utf8(bytes.0));
            text.transpose().with_context(|| format!("{name} of the Secret {SECRET} is not text"))
        };
        let [key, certificate] = ROOT.map(|name| text(name)?.with_context(|| self.without(name)));
        let root = Some(Written { key: key?, certificate: certificate? });
        let next = NEXT.map(&mut text);
        let next = match next {
            [key, certificate] => match (key?, certificate?) {
                (Some(key), Some(certificate)) => Some(Written { key, certificate }),
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => anyhow::bail!("{}", self.without("a whole next root")),
            },
        };
        let stand = text(STAND)?;
        Record::read(Texts { root, next, stand }).with_context(|| format!("{STAND} of the Secret {SECRET}"))
    }

    fn without(&self, what: &str) -> String {
        format!("the Secret {}/{SECRET} has no {what}", self.namespace)
    }

    fn no_trust(&self) -> String {
        format!(
            "the ConfigMap {}/{CONFIG_MAP} has no {TRUST}: write the certificate of the Secret {SECRET} into it, or \
             remove it, and it is made again",
            self.namespace
        )
    }
}

fn data(record: &Record) -> BTreeMap<String, ByteString> {
    let Texts { root, next, stand } = record.texts();
    let both = |names: [&'static str; 2], written: Option<Written>| {
        written.map(|Written { key, certificate }| names.into_iter().zip([key, certificate])).into_iter().flatten()
    };
    let texts = both(ROOT, root).chain(both(NEXT, next)).chain(stand.map(|stand| (STAND, stand)));
    texts.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect()
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn unless_too_late<T>(answer: Result<T, Error>, told: impl Fn(Error) -> anyhow::Error) -> anyhow::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if is(&error, 409) => Ok(false),
        Err(error) => Err(told(error)),
    }
}

fn told(verb: &'static str, group: &'static str, resource: &'static str) -> impl Fn(Error) -> anyhow::Error {
    move |error| Unanswered(fault(Access { verb, group, resource }, &error)).into()
}
