//! The control plane: etcd, the API server, the controller manager and the scheduler, in a network of their own.
//!
//! Webhooks and aggregated APIs go to pods' addresses, because this network has routes to them but no kube-proxy.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::process::{Pid, Signal};
use rustix::thread::LinkNameSpaceType;

use super::cgroups::Hierarchies;
use super::launch::{self, CONTROL_PLANE, Started};
use super::network::{API, API_PORT, SERVICES};
use super::place::Place;
use super::wait;

/// The API server is ready after five seconds on two free processors.
const READY_LIMIT: Duration = Duration::from_mins(2);

/// A connection within one machine takes microseconds.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// The API server lets requests end that it has, and waits a minute for those that do not.
const END_LIMIT: Duration = Duration::from_mins(2);

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
}

impl Part {
    const fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
        }
    }

    fn words(self, place: &Place) -> Vec<String> {
        match self {
            Self::Etcd => etcd(place),
            Self::KubeApiserver => api_server(place),
            Self::KubeControllerManager => controller_manager(place),
            Self::KubeScheduler => scheduler(place),
        }
    }

    fn start(self, place: &Place, started: &mut Started) -> Result<()> {
        started.add(place, CONTROL_PLANE, self.program(), &self.words(place))
    }
}

/// Ends a part, starts it again, and waits until the API server is ready.
pub fn restart(place: &Place, part: Part) -> Result<()> {
    for process in Hierarchies::of_this_machine()?.processes(place, CONTROL_PLANE) {
        if !runs(process, part) {
            continue;
        }
        let number = i32::try_from(process).ok().and_then(Pid::from_raw).context("no number of a process")?;
        rustix::process::kill_process(number, Signal::TERM)?;
        wait::until(&format!("{} to end", part.program()), END_LIMIT, || Ok((!runs(process, part)).then_some(())))?;
    }
    let mut started = Started::nothing();
    part.start(place, &mut started)?;
    await_api(place, &mut started)
}

/// Whether this is the number of the part's program: one that has ended has no words.
fn runs(process: u32, part: Part) -> bool {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).next() == Some(part.program().as_bytes())
}

/// Starts etcd and the API server.
pub fn start_api(place: &Place, started: &mut Started) -> Result<()> {
    Part::Etcd.start(place, started)?;
    Part::KubeApiserver.start(place, started)
}

/// Starts the controller manager and the scheduler. The API server must be ready: it forbids them what they need before
/// it has made its own roles, and the controller manager then ends.
pub fn start_controllers(place: &Place, started: &mut Started) -> Result<()> {
    Part::KubeControllerManager.start(place, started)?;
    Part::KubeScheduler.start(place, started)
}

/// Waits until the API server says that it is ready.
pub fn await_api(place: &Place, started: &mut Started) -> Result<()> {
    wait::until("the API server", READY_LIMIT, || {
        started.expect_running()?;
        Ok((is_listening(place)? && is_ready(place)).then_some(()))
    })
}

/// Whether the API server says that it is ready.
pub fn is_ready(place: &Place) -> bool {
    let mut kubectl = place.kubectl();
    kubectl.args(["get", "--raw", "/readyz", "--request-timeout=2s"]);
    launch::captured(place, &kubectl).is_ok_and(|answer| answer == "ok")
}

/// Costs nothing, unlike a start of kubectl, which would take the processors from the API server.
fn is_listening(place: &Place) -> Result<bool> {
    let network = File::open(place.control_plane_network())?;
    let connect = move || -> Result<bool> {
        rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(TcpStream::connect_timeout(&SocketAddr::from((API, API_PORT)), CONNECT_LIMIT).is_ok())
    };
    // Only the thread is in the other network, and it ends there.
    std::thread::spawn(connect).join().ok().context("cannot look for the API server")?
}

/// The data of a cluster that is made anew every time need not survive a power cut.
fn etcd(place: &Place) -> Vec<String> {
    vec![
        "etcd".to_owned(),
        "--name=control-plane".to_owned(),
        format!("--data-dir={}", place.path("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=control-plane=http://127.0.0.1:2380".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server(place: &Place) -> Vec<String> {
    let file = |name: &str| place.path("certificates").join(name).display().to_string();
    vec![
        "kube-apiserver".to_owned(),
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={API}"),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("service-account.pub")),
        format!("--service-account-signing-key-file={}", file("service-account.key")),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        "--enable-aggregator-routing=true".to_owned(),
        // When it is told to end, it ends watches, instead of waiting a minute for them.
        "--shutdown-watch-termination-grace-period=1s".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn controller_manager(place: &Place) -> Vec<String> {
    let file = |name: &str| place.path("certificates").join(name).display().to_string();
    let mut words = vec!["kube-controller-manager".to_owned()];
    words.extend(as_client(&file("controller-manager.kubeconfig")));
    words.extend([
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("service-account.key")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allocate-node-cidrs=false".to_owned(),
        // It makes this folder, by default in the machine's own.
        format!("--flex-volume-plugin-dir={}", place.path("volume-plugins").display()),
    ]);
    words
}

fn scheduler(place: &Place) -> Vec<String> {
    let mut words = vec!["kube-scheduler".to_owned()];
    words.extend(as_client(&place.path("certificates/scheduler.kubeconfig").display().to_string()));
    words
}

/// There is one of each, so none waits to be elected.
fn as_client(kubeconfig: &str) -> [String; 5] {
    [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ]
}
