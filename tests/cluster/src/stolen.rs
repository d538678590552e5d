//! Whoever has stolen a node's credential, its agent's key and token, is that node before the controller, and nobody else
//! anywhere: it gets certificates of that node's pods and the node's own part of the configuration.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_proto::PROTOCOL_VERSION;
use weft_proto::resource;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{
    Certificate, DiscoveryRequest, DiscoveryResponse, Hello, IssueRequest, JoinRequest, Resource, discovery_request,
};
use weft_rig::place::Launch;
use weft_rig::wait;

use crate::Promise;
use crate::capture::await_accepted;
use crate::namespace::{Namespace, kubectl};
use crate::nodes::said;
use crate::weft::{self, EFFECT_LIMIT};

/// gRPC's words for how a call ended.
const GRANTED: &str = "0";
const NOT_FOUND: &str = "5";
const UNAUTHENTICATED: &str = "16";

/// What a gRPC message begins with: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

const DISCOVERY: &str = "Discovery/Stream";
const ISSUE: &str = "Identity/Issue";
const JOIN: &str = "Identity/Join";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "a_stolen_credential_is_its_node_alone", run: a_stolen_credential_is_its_node_alone }]
}

fn a_stolen_credential_is_its_node_alone(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    for (pod, node) in [("mine", "node1"), ("theirs", "node2")] {
        namespace.server(pod, node)?;
    }
    namespace.capture()?;
    weft::await_captured(namespace, &["mine", "theirs"])?;
    for pod in ["mine", "theirs"] {
        guard(namespace, pod)?;
    }
    let thief = Thief::rob("node1")?;
    certificates(namespace, &thief)?;
    configuration(namespace, &thief)?;
    api_server(&thief)
}

/// A policy that speaks of this pod alone.
fn guard(namespace: &Namespace, pod: &str) -> Result<()> {
    namespace.create_object(&json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": pod},
        "spec": {
            "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": pod}}}],
            "action": "Allow",
            "rules": [{"from": [{"serviceAccounts": ["default"]}]}],
        },
    }))?;
    await_accepted(namespace, &format!("authorizationpolicy/{pod}"), "/status/ancestors/0")
}

/// Somebody in the control plane's network with what was on a node.
struct Thief {
    folder: TempDir,
    token: String,
    /// The address of the controller that leads.
    controller: String,
}

/// Who calls.
#[derive(Clone, Copy, PartialEq)]
enum Credential {
    Nothing,
    /// The node's certificate and key.
    Node,
    /// A certificate that the node has got for a pod of its own.
    Workload,
    /// A certificate that nobody has signed, with the name of another node.
    Forged,
}

impl Credential {
    const fn file(self) -> &'static str {
        match self {
            Self::Nothing => "nothing.pem",
            Self::Node => "node.pem",
            Self::Workload => "workload.pem",
            Self::Forged => "forged.pem",
        }
    }
}

impl Thief {
    fn rob(node: &str) -> Result<Self> {
        let object = |words: &[&str]| -> Result<Value> {
            let get = kubectl(["--namespace", weft::NAMESPACE, "get", "--output=json"]).args(words);
            Ok(serde_json::from_str(&get.run()?.expect_success()?)?)
        };
        let agent = object(&[&weft::agent(node)?])?;
        let uid = agent["metadata"]["uid"].as_str().context("a pod without a uid")?;
        let token = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/token/token");
        let lease = object(&["lease/weft-controller"])?;
        // The pod's name, and a word of the process' own.
        let holder = lease["spec"]["holderIdentity"].as_str().and_then(|holder| holder.rsplit_once('-'));
        let (leader, _) = holder.context("nobody leads")?;
        let leader = object(&[&format!("pod/{leader}")])?;
        let address = leader["status"]["podIP"].as_str().context("the leader has no address")?;
        let thief = Self {
            folder: tempfile::tempdir()?,
            token: said(node, &["cat", &token])?,
            controller: format!("{address}:15010"),
        };
        fs::write(thief.path(Credential::Node.file()), said(node, &["cat", "/run/weft/keys/node.pem"])?)?;
        thief.openssl("-out own.der -outform DER -keyout own.key -subj /")?;
        let name = "-addext subjectAltName=critical,URI:spiffe://cluster.local/weft/node/node2";
        thief.openssl(&format!("-x509 -out forged.crt -keyout forged.key -subj / {name}"))?;
        let forged = ["forged.key", "forged.crt"].map(|part| fs::read_to_string(thief.path(part)));
        let forged: String = forged.into_iter().collect::<Result<_, _>>()?;
        fs::write(thief.path(Credential::Forged.file()), forged)?;
        Ok(thief)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a key and a certificate or the request for one.
    fn openssl(&self, words: &str) -> Result<()> {
        let folder = self.folder.path().display();
        let key = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let line = format!("cd {folder} && openssl {key} {words}");
        Launch::new("sh").args(["-c", &line]).run()?.expect_success().map(drop)
    }

    /// Asks for a certificate for its own key.
    fn request(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.path("own.der"))?)
    }

    /// A call that has yet to be run; what is answered goes to the file `answer`.
    fn curl(&self, method: &str, credential: Credential, message: &impl Message) -> Result<Launch> {
        let body = self.path("body");
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len())?.to_be_bytes();
        fs::write(&body, [&[0], &length[..], &message].concat())?;
        let mut curl = Launch::new("curl").args(["-sS", "--http2", "--insecure", "--no-buffer", "--max-time", "10"]);
        curl = curl.args(["--dump-header", "-", "-H", "content-type: application/grpc", "-H", "te: trailers"]);
        curl = curl.arg("--output").arg(self.path("answer")).arg("--data-binary").arg(format!("@{}", body.display()));
        if credential != Credential::Nothing {
            let file = self.path(credential.file());
            curl = curl.arg("--cert").arg(&file).arg("--key").arg(&file);
        }
        Ok(curl.arg(format!("https://{}/weft.v1.{method}", self.controller)))
    }

    /// Calls, and holds how that ended against what is expected.
    fn expect(&self, expected: &str, method: &str, credential: Credential, message: &impl Message) -> Result<()> {
        // A refused stream is reset once it has been answered, which curl calls an error.
        let outcome = self.curl(method, credential, message)?.run()?;
        let line = format!("grpc-status: {expected}");
        let found = outcome.stdout.lines().any(|one| one.trim() == line);
        ensure!(found, "not {line}: {}{}", outcome.stdout, outcome.stderr);
        Ok(())
    }

    /// Calls as somebody with whom not even a handshake ends well.
    fn expect_no_answer(&self, method: &str, credential: Credential, message: &impl Message) -> Result<()> {
        let outcome = self.curl(method, credential, message)?.run()?.expect_failure()?;
        ensure!(outcome.stdout.is_empty(), "it was answered {}", outcome.stdout);
        Ok(())
    }

    /// What has come so far in answer to the last call.
    fn answers<T: Message + Default>(&self) -> Result<Vec<T>> {
        let bytes = fs::read(self.path("answer"))?;
        let (mut rest, mut messages) = (&bytes[..], Vec::new());
        while let Some((head, tail)) = rest.split_first_chunk::<FRAME_BYTES>() {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some((message, tail)) = tail.split_at_checked(length) else { break };
            messages.push(T::decode(message)?);
            rest = tail;
        }
        Ok(messages)
    }

    /// Asks for a node's configuration. A refused stream is reset at once, which curl calls an error and nothing else.
    fn expect_told_nothing(&self, credential: Credential) -> Result<()> {
        fs::write(self.path("answer"), "")?;
        let ended = self.curl(DISCOVERY, credential, &hello())?.run()?;
        let told: Vec<DiscoveryResponse> = self.answers()?;
        ensure!(told.is_empty(), "{} messages were told: {}", told.len(), ended.stdout);
        Ok(())
    }

    /// Everything that an agent is told at first.
    fn subscribe(&self) -> Result<Vec<Resource>> {
        let call = self.curl(DISCOVERY, Credential::Node, &hello())?;
        let mut stream = call.start(&self.path("stream.log"))?;
        wait::until("all that the node is told", EFFECT_LIMIT, || {
            let answers: Vec<DiscoveryResponse> = self.answers().unwrap_or_default();
            if answers.last().is_some_and(|last| last.complete) {
                let encoded = answers.into_iter().flat_map(|answer| answer.upserts);
                return Ok(encoded.map(Resource::decode).collect::<Result<_, _>>()?);
            }
            stream.expect_running()?;
            anyhow::bail!("{} messages have come", answers.len())
        })
    }
}

fn hello() -> DiscoveryRequest {
    let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
    DiscoveryRequest { kind: Some(discovery_request::Kind::Hello(hello)) }
}

fn uid(namespace: &Namespace, pod: &str) -> Result<String> {
    let pod = namespace.get(&format!("pod/{pod}"))?;
    Ok(pod["metadata"]["uid"].as_str().context("a pod without a uid")?.to_owned())
}

fn certificates(namespace: &Namespace, thief: &Thief) -> Result<()> {
    let issue = |workload: &str| -> Result<IssueRequest> {
        Ok(IssueRequest { workload: workload.to_owned(), csr_der: thief.request()? })
    };
    let join = |node: &str, token: &str| -> Result<JoinRequest> {
        Ok(JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der: thief.request()? })
    };
    let (mine, theirs) = (issue(&uid(namespace, "mine")?)?, issue(&uid(namespace, "theirs")?)?);
    let nobodys = issue("00000000-0000-4000-8000-000000000000")?;
    thief.expect(UNAUTHENTICATED, ISSUE, Credential::Nothing, &mine).context("its own pod, without a credential")?;
    thief.expect(NOT_FOUND, ISSUE, Credential::Node, &theirs).context("another node's pod")?;
    thief.expect(NOT_FOUND, ISSUE, Credential::Node, &nobodys).context("a pod that is nowhere")?;
    for credential in [Credential::Nothing, Credential::Node] {
        let (renewed, other) = (join("node1", "")?, join("node2", &thief.token)?);
        thief.expect(UNAUTHENTICATED, JOIN, credential, &renewed).context("the same node, without the token")?;
        thief.expect(UNAUTHENTICATED, JOIN, credential, &other).context("another node, with the token")?;
    }
    // What it can do, without which nothing above would mean anything: be the node that was robbed.
    thief.expect(GRANTED, JOIN, Credential::Nothing, &join("node1", &thief.token)?).context("the node")?;
    thief.expect(GRANTED, ISSUE, Credential::Node, &mine).context("its own pod")?;
    let issued: Certificate = thief.answers()?.pop().context("no certificate came")?;
    fs::write(thief.path("chain.der"), issued.chain_der.first().context("the chain is empty")?)?;
    let made = format!(
        "cd {} && cp own.key workload.pem && openssl x509 -inform DER -in chain.der >> workload.pem",
        thief.folder.path().display()
    );
    Launch::new("sh").args(["-c", &made]).run()?.expect_success()?;
    thief.expect(UNAUTHENTICATED, ISSUE, Credential::Workload, &mine).context("by a pod's certificate")?;
    thief.expect_no_answer(ISSUE, Credential::Forged, &theirs).context("another node's pod, by a forged certificate")
}

/// A node may know every workload and Service, for it connects to them; not how other nodes guard theirs.
fn configuration(namespace: &Namespace, thief: &Thief) -> Result<()> {
    for credential in [Credential::Nothing, Credential::Workload, Credential::Forged] {
        thief.expect_told_nothing(credential)?;
    }
    let (mine, theirs) = (uid(namespace, "mine")?, uid(namespace, "theirs")?);
    let (own, foreign) =
        (resource::authorization(namespace.name(), "mine"), resource::authorization(namespace.name(), "theirs"));
    let told = thief.subscribe()?;
    let knows = |name: &str| told.iter().any(|one| one.name == name);
    for name in [resource::workload(&mine), resource::workload(&theirs), resource::enrolment(&mine), own] {
        ensure!(knows(&name), "{name} is kept from its own node");
    }
    ensure!(!knows(&foreign), "it knows {foreign}, which guards another node's pod");
    let is_own = |uid: &str| {
        told.iter().any(|one| match &one.body {
            Some(Body::Workload(workload)) => workload.uid == uid && workload.node == "node1",
            _ => false,
        })
    };
    for one in &told {
        match &one.body {
            Some(Body::Enrolment(enrolment)) => {
                ensure!(is_own(&enrolment.uid), "it knows how another node guards {}", enrolment.uid);
            }
            Some(Body::Node(node)) => ensure!(node.name == "node1", "it knows the place of {}", node.name),
            _ => {}
        }
    }
    Ok(())
}

fn api_server(thief: &Thief) -> Result<()> {
    let server = kubectl(["config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]);
    let server = format!("--server={}", server.run()?.expect_success()?.trim());
    let bare = ["--kubeconfig=/dev/null", &server, "--insecure-skip-tls-verify"];
    let key = thief.path(Credential::Node.file()).display().to_string();
    let token = vec![format!("--token={}", thief.token)];
    let certificate = vec![format!("--client-certificate={key}"), format!("--client-key={key}")];
    for (what, credential) in [("the token", token), ("the certificate", certificate)] {
        for words in
            [&["auth", "can-i", "--list"][..], &["get", "secrets", "--all-namespaces"], &["get", "--raw", "/api"]]
        {
            let asked = kubectl(bare).args(&credential).args(words).run()?;
            let refused = asked.expect_failure().with_context(|| format!("{what} is good for {words:?}"))?.stderr;
            ensure!(refused.contains("Unauthorized") || refused.contains("must be logged in"), "{what}: {refused}");
        }
    }
    // Whom the token is of may do nothing either, whatever audience a token of it had.
    let agent = format!("--as=system:serviceaccount:{}:weft-agent", weft::NAMESPACE);
    for words in [
        ["get", "secrets"],
        ["list", "pods"],
        ["create", "pods"],
        ["get", "nodes"],
        ["create", "serviceaccounts/token"],
    ] {
        let asked = kubectl(["auth", "can-i", "--all-namespaces", &agent]).args(words).run()?.expect_failure()?;
        ensure!(asked.stdout.trim() == "no", "{words:?}: {}{}", asked.stdout, asked.stderr);
    }
    Ok(())
}
