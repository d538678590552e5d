//! A control plane of a test's own: etcd and the API server on the loopback of its sandbox.

use std::env;
use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use weft_rig::Sandbox;
use weft_rig::place::Launch;
use weft_rig::process::Process;
use weft_rig::tier::Scale;
use weft_rig::wait;

use crate::objects;

/// An API server that is not ready by then never will be.
const START_LIMIT: Duration = Duration::from_secs(90);
/// What any change takes at most to be seen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The program that all of Kubernetes' programs are in.
const KUBE: &str = "WEFT_KUBE";
/// The folder of Gateway API's own definitions.
const GATEWAY_API: &str = "WEFT_GATEWAY_API";
/// The folder of those that may still change.
const GATEWAY_API_EXPERIMENTS: &str = "WEFT_GATEWAY_API_EXPERIMENTS";
/// Requests of a test that are under way together: as many as an API server of two processors works on.
const REQUESTS_AT_ONCE: usize = 16;
/// Where Weft lives.
pub const NAMESPACE: &str = "weft-system";
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Every write, with who made it.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
                     - {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}\n- {level: None}\n";

pub struct Cluster {
    folder: PathBuf,
    gateway_api: PathBuf,
    gateway_api_experiments: PathBuf,
    etcd: Option<Process>,
    api: Option<Process>,
    runtime: Runtime,
    pub client: Client,
    pub scale: Scale,
}

impl Cluster {
    pub fn start(sandbox: &Sandbox, scale: Scale) -> Result<Self> {
        let folder = sandbox.scratch().join("cluster");
        fs::create_dir_all(folder.join("bin"))?;
        let path = |name: &str| env::var_os(name).with_context(|| format!("{name} is not set"));
        symlink(path(KUBE)?, folder.join("bin/weft-kube"))?;
        Launch::new("ip").args(["link", "set", "lo", "up"]).run()?.expect_success()?;
        let certificates = kube(&folder, "certificates").arg(folder.join("pki"));
        certificates.args(["127.0.0.1:6443", "10.96.0.1"]).run()?.expect_success()?;
        fs::write(folder.join("audit.yaml"), AUDIT)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let admin = Kubeconfig::read_from(folder.join("pki/admin.kubeconfig"))?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(admin, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        let gateway_api = path(GATEWAY_API)?.into();
        let gateway_api_experiments = path(GATEWAY_API_EXPERIMENTS)?.into();
        let (etcd, api) = (None, None);
        let mut cluster = Self { folder, gateway_api, gateway_api_experiments, etcd, api, runtime, client, scale };
        cluster.start_etcd()?;
        cluster.start_api(&[])?;
        cluster.furnish()?;
        Ok(cluster)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn start_etcd(&mut self) -> Result<()> {
        let etcd = kube(&self.folder, "etcd").arg(format!("--data-dir={}", self.folder.join("etcd").display()));
        let etcd = etcd.args([
            "--name=one",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=one=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]);
        self.etcd = Some(self.alone(etcd).start(&self.folder.join("etcd.json"))?);
        Ok(())
    }

    /// Starts it (again), and waits until it is ready.
    pub fn start_api(&mut self, flags: &[&str]) -> Result<()> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let server = kube(&self.folder, "kube-apiserver").args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--secure-port=6443".to_owned(),
            format!("--tls-cert-file={}", file("pki/apiserver.crt")),
            format!("--tls-private-key-file={}", file("pki/apiserver.key")),
            format!("--client-ca-file={}", file("pki/ca.crt")),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-key-file={}", file("pki/service-account.pub")),
            format!("--service-account-signing-key-file={}", file("pki/service-account.key")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.json")),
            "--profiling=false".to_owned(),
        ]);
        self.api = Some(self.alone(server).args(flags).start(&self.folder.join("apiserver.log"))?);
        self.await_ready()
    }

    /// In full size every process has a machine of its own, but here all share one: at least nobody is to wait for the garbage
    /// of another, which takes a processor for half a second where there are 30,000 objects.
    fn alone(&self, program: Launch) -> Launch {
        if self.scale == Scale::Full { program.variable("GOGC", "off").variable("GOMEMLIMIT", "4GiB") } else { program }
    }

    fn await_ready(&mut self) -> Result<()> {
        let (client, runtime) = (self.client.clone(), &self.runtime);
        let processes = [&mut self.etcd, &mut self.api];
        let mut processes: Vec<_> = processes.into_iter().flatten().collect();
        wait::until("the API server to be ready", START_LIMIT, || {
            processes.iter_mut().try_for_each(|process| process.expect_running())?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = runtime.block_on(client.request_text(request))?;
            ensure!(answer == "ok", "{answer}");
            Ok(())
        })
    }

    /// At once, as a machine that loses its power.
    pub fn kill_api(&mut self) {
        drop(self.api.take());
    }

    /// Weft's own definitions, namespace, accounts and permissions.
    fn furnish(&self) -> Result<()> {
        for definition in weft_crd::definitions() {
            self.define(&serde_json::to_value(definition)?)?;
        }
        self.put(&objects::namespace(NAMESPACE, "disabled"))?;
        for account in ["weft-controller", "weft-agent", "other"] {
            self.put(&objects::service_account(NAMESPACE, account))?;
        }
        for object in documents(include_str!("../../../controller/rbac.yaml"))? {
            self.put(&object)?;
        }
        Ok(())
    }

    /// A definition, and the wait until its kind is served.
    pub fn define(&self, definition: &Value) -> Result<()> {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.put(definition)?;
        wait::until(&format!("{name} to be established"), PATIENCE, || {
            let found = self.get("CustomResourceDefinition", "", &name)?;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let established = |one: &Value| one["type"] == "Established" && one["status"] == "True";
            ensure!(conditions.iter().any(established), "{conditions:?}");
            Ok(())
        })
    }

    /// One of Gateway API's own.
    pub fn gateway_definition(&self, plural: &str) -> Result<Value> {
        definition(&self.gateway_api.join(format!("gateway.networking.k8s.io_{plural}.yaml")))
    }

    /// One that only the experimental channel has, and its group.
    pub fn gateway_experiment(&self, plural: &str) -> Result<Value> {
        definition(&self.gateway_api_experiments.join(format!("gateway.networking.x-k8s.io_{plural}.yaml")))
    }

    pub fn api(&self, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
        let resource = objects::resource(kind)?;
        Ok(if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        })
    }

    /// Makes it, or makes it so.
    pub fn put(&self, object: &Value) -> Result<()> {
        let (kind, namespace, name) = objects::names(object);
        let params = PatchParams::apply("test").force();
        let put = self.api(&kind, &namespace)?;
        let put = self.wait_for(put.patch(&name, &params, &Patch::Apply(object)));
        put.map(drop).with_context(|| format!("cannot put {kind} {namespace}/{name}"))
    }

    /// Makes them, several at once; none is there yet. As they are then.
    pub fn create_all(&self, objects: Vec<Value>) -> Result<Vec<Value>> {
        let requests = objects.into_iter().map(|object| {
            let (kind, namespace, name) = objects::names(&object);
            let api = self.api(&kind, &namespace)?;
            let object: DynamicObject = serde_json::from_value(object)?;
            Ok(async move {
                let made = api.create(&PostParams::default(), &object).await;
                let made = made.with_context(|| format!("cannot create {kind} {namespace}/{name}"))?;
                Ok(serde_json::to_value(made)?)
            })
        });
        self.at_once(requests.collect::<Result<Vec<_>>>()?)
    }

    pub fn put_all_statuses(&self, kind: &str, statuses: Vec<(String, String, Value)>) -> Result<()> {
        let requests = statuses.into_iter().map(|(namespace, name, status)| {
            let api = self.api(kind, &namespace)?;
            let patch = Patch::Merge(serde_json::json!({"status": status}));
            Ok(async move {
                let put = api.patch_status(&name, &PatchParams::default(), &patch).await;
                put.map(drop).with_context(|| format!("cannot put the status of {namespace}/{name}"))
            })
        });
        self.at_once(requests.collect::<Result<Vec<_>>>()?).map(drop)
    }

    /// A few at a time.
    fn at_once<T: Send + 'static>(
        &self,
        requests: Vec<impl Future<Output = Result<T>> + Send + 'static>,
    ) -> Result<Vec<T>> {
        self.wait_for(async {
            let mut answers = Vec::with_capacity(requests.len());
            let mut waiting = JoinSet::new();
            for request in requests {
                waiting.spawn(request);
                if waiting.len() == REQUESTS_AT_ONCE
                    && let Some(answer) = waiting.join_next().await
                {
                    answers.push(answer??);
                }
            }
            while let Some(answer) = waiting.join_next().await {
                answers.push(answer??);
            }
            Ok(answers)
        })
    }

    /// Changes these fields and no others.
    pub fn merge(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Result<()> {
        let api = self.api(kind, namespace)?;
        let patched = self.wait_for(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)));
        patched.map(drop).with_context(|| format!("cannot change {kind} {namespace}/{name}"))
    }

    /// All of a kind.
    pub fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let found = self.wait_for(self.api(kind, "")?.list(&ListParams::default()))?;
        found.items.into_iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
    }

    pub fn put_status(&self, kind: &str, namespace: &str, name: &str, status: &Value) -> Result<()> {
        let api = self.api(kind, namespace)?;
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        let put = self.wait_for(api.patch_status(name, &PatchParams::default(), &patch));
        put.map(drop).with_context(|| format!("cannot put the status of {kind} {namespace}/{name}"))
    }

    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let api = self.api(kind, namespace)?;
        let found = self.wait_for(api.get(name)).with_context(|| format!("cannot get {kind} {namespace}/{name}"))?;
        Ok(serde_json::to_value(found)?)
    }

    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let api = self.api(kind, namespace)?;
        // A pod that no kubelet runs would wait for one otherwise.
        match self.wait_for(api.delete(name, &DeleteParams::default().grace_period(0))) {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {kind} {namespace}/{name}")),
        }
    }

    /// Waits until the object is gone.
    pub fn await_gone(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let api = self.api(kind, namespace)?;
        wait::until(&format!("{kind} {name} to be gone"), PATIENCE, || {
            ensure!(self.wait_for(api.get_opt(name))?.is_none(), "it is there");
            Ok(())
        })
    }

    /// A token of a service account of [`NAMESPACE`]; bound to an object, it lives no longer than that.
    pub fn token(&self, account: &str, audiences: &[&str], bound: Option<&Value>) -> Result<String> {
        let request = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": 3600, "boundObjectRef": bound},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
        let request =
            http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&request)?)?;
        let answer: Value = self.wait_for(self.client.request(request)).context("cannot request a token")?;
        Ok(answer["status"]["token"].as_str().context("the answer holds no token")?.to_owned())
    }

    /// Writes that the API server has taken from a service account of [`NAMESPACE`]: verb and path.
    pub fn writes_of(&self, account: &str) -> Result<Vec<String>> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let text = fs::read_to_string(self.folder.join("audit.json"))?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own = events.filter(|event| event["user"]["username"] == *user);
        Ok(own.map(|event| format!("{} {}", event["verb"], event["requestURI"]).replace('"', "")).collect())
    }
}

fn definition(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    documents(&text)?.into_iter().next().with_context(|| format!("{} is empty", file.display()))
}

fn kube(folder: &Path, program: &str) -> Launch {
    Launch::new(folder.join("bin/weft-kube")).arg(program)
}

pub fn documents(text: &str) -> Result<Vec<Value>> {
    let parts =
        text.split("\n---\n").filter(|part| part.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    parts.map(|part| serde_saphyr::from_str(part).context("it is not YAML")).collect()
}
