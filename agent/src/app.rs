//! Puts the agent together, and takes it apart in order.
//!
//! Control side first (discovery, identity, admin), then, once a snapshot is there, the kernel side and
//! the workers. Shutdown has two phases: nothing new is accepted and connections end by themselves, then
//! what is left is cut. Every task and thread started here is joined here.

mod control;
pub mod forget;
mod handover;
pub mod ready_file;
mod signals;
mod status;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::bpf::Datapath;
use crate::config::Settings;
use crate::limits;
use crate::node::cgroups;
use crate::node::enrol::{Enroller, Surroundings};
use crate::node::keeper::{Keeper, KernelSide};
use crate::node::originals::Originals;
use crate::node::sandbox::Sandboxes;
use crate::telemetry::{AccessLogTarget, Telemetry};
use crate::upgrade::Inheritance;
use crate::worker::{self, Load, Shared};

use control::Control;
use ready_file::ReadyFile;
use signals::{Ending, Signals};
use status::Sources;

/// Runs the agent until it is told to stop or a successor has taken over.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    std::fs::create_dir_all(&settings.run_dir).context("cannot make the run directory")?;
    std::fs::create_dir_all(&settings.state_dir).context("cannot make the state directory")?;
    if let Some(own) = &settings.kernel.agent_cgroup {
        std::fs::write(own.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot join the agent's cgroup {}", own.display()))?;
    }
    allow_all_descriptors()?;
    let (telemetry, recorder) = Telemetry::start(&access_log(settings)).context("cannot open the access log")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = LocalSet::new().block_on(&runtime, Box::pin(serve(settings, telemetry)));
    recorder.finish();
    ended
}

async fn serve(settings: &Settings, telemetry: Telemetry) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let inheritance = claim(settings).await?;
    let (publish_side, side) = watch::channel(Arc::new(KernelSide::default()));
    let mut control = Control::start(settings, &telemetry, side.clone())?;
    let loads: Vec<Arc<Load>> = (0..settings.worker_count()).map(|_| Arc::default()).collect();
    let sources = Sources {
        settings: settings.clone(),
        snapshots: control.snapshots.clone(),
        membership: control.membership.clone(),
        link: control.link.clone(),
        side,
        loads: loads.clone(),
    };
    let ready_file = settings.ready_file.clone().map(ReadyFile::new).transpose()?;
    control.publish_status(sources, ready_file);
    if inheritance.is_none() {
        control.serve_people(settings)?;
    }
    if control.first_snapshot(&mut signals).await.is_some() {
        return control.stop().await;
    }
    control.want_certificates();
    let mut paths_ready = start_data_path(settings, &telemetry, &control, &loads)?;
    let inherited = inheritance.as_ref().map(Inheritance::duplicates).transpose()?.unwrap_or_default();
    let surroundings = Surroundings {
        workers: paths_ready.workers.iter().map(|worker| worker.orders.clone()).collect(),
        credentials: control.credentials.clone(),
        sysctl_root: settings.sysctl_root.clone(),
        sandboxes: paths_ready.sandboxes.take().context("no data path")?,
        pod_logs: settings.pod_logs.clone(),
    };
    let originals = Originals::open(&settings.run_dir).context("cannot read the record of the pods' settings")?;
    let enroller =
        Enroller::new(paths_ready.datapath.take().context("no data path")?, surroundings, originals, inherited);
    let keeper = Keeper::start(enroller, control.snapshots.clone(), publish_side)?;
    control.follow_snapshots(keeper.waker());
    if let Some(inheritance) = inheritance
        && let Err(error) = take_over(settings, &mut control, inheritance.workloads())
            .await
            .and_then(|()| inheritance.confirm().context("the predecessor cannot be told that this agent serves"))
    {
        // This agent lets go of the kernel side before the predecessor, which now goes on, asserts it again.
        let _ = tokio::task::spawn_blocking(move || keeper.stop()).await;
        drop(inheritance);
        return Err(error);
    }
    keeper.settle();
    let ending = handover::until_the_end(settings, &keeper, &mut signals).await?;
    if ending == Ending::HandedOver {
        // Reports, certificates and the snapshot on disk are the successor's from here on.
        control.retire();
    }
    wind_up(&control, keeper, paths_ready, ending).await;
    control.stop().await
}

/// Waits until everything that a predecessor served is served here, and answers people in its place.
async fn take_over(settings: &Settings, control: &mut Control, pods: HashSet<String>) -> anyhow::Result<()> {
    anyhow::ensure!(control.serves_all(&pods).await, "the predecessor's pods could not be taken over in time");
    control.serve_people(settings)?;
    tracing::info!(pods = pods.len(), "takes over from a predecessor");
    Ok(())
}

/// The threads of the data path and what they share.
struct DataPath {
    datapath: Option<Datapath>,
    sandboxes: Option<Sandboxes>,
    workers: Vec<worker::Handle>,
    shared: Shared,
}

fn start_data_path(
    settings: &Settings,
    telemetry: &Telemetry,
    control: &Control,
    loads: &[Arc<Load>],
) -> anyhow::Result<DataPath> {
    let paths = cgroups::find(&settings.kernel).context("the pods of this node cannot be found")?;
    let sandboxes = Sandboxes::new(paths.pods_cgroup.clone())
        .context("this node's own network namespace cannot be entered, which takes CAP_SYS_ADMIN")?;
    let datapath = Datapath::open(&paths).context("the kernel side cannot be opened")?;
    control.show_sightings(datapath.sightings());
    let shared = Shared {
        snapshots: control.snapshots.clone(),
        credentials: control.credentials.clone(),
        telemetry: telemetry.clone(),
        facts: datapath.socket_facts(),
        affinities: Arc::default(),
        stopping: tokio_util::sync::CancellationToken::new(),
        cutting: tokio_util::sync::CancellationToken::new(),
    };
    let mut workers = Vec::new();
    for (load, index) in loads.iter().zip(0_u32..) {
        workers.push(worker::start(index, shared.clone(), datapath.heartbeat(index)?, Arc::clone(load))?);
    }
    Ok(DataPath { datapath: Some(datapath), sandboxes: Some(sandboxes), workers, shared })
}

/// First phase: accept nothing, let connections end. Second phase: cut what is left.
async fn wind_up(control: &Control, keeper: Keeper, path: DataPath, ending: Ending) {
    tracing::info!(?ending, "draining");
    control.draining();
    let stopped = tokio::task::spawn_blocking(move || keeper.stop()).await;
    path.shared.stopping.cancel();
    let cutting = path.shared.cutting.clone();
    let joining = tokio::task::spawn_blocking(move || {
        for worker in path.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
    });
    tokio::pin!(joining);
    if timeout(limits::DRAIN, &mut joining).await.is_err() {
        cutting.cancel();
        let _ = joining.await;
    }
    if stopped.is_err() {
        tracing::error!("the kernel side could not be left in order");
    }
}

/// A predecessor that is there and does not hand over lives: this agent ends, and its parent tries again.
async fn claim(settings: &Settings) -> anyhow::Result<Option<Inheritance>> {
    let run_dir = settings.run_dir.clone();
    let claimed = tokio::task::spawn_blocking(move || Inheritance::claim(&run_dir)).await?;
    claimed.context("a predecessor does not hand its listeners over")
}

fn access_log(settings: &Settings) -> AccessLogTarget {
    match &settings.access_log {
        None => AccessLogTarget::Off,
        Some(path) if path.as_os_str() == "-" => AccessLogTarget::Stdout,
        Some(path) => AccessLogTarget::File(path.clone()),
    }
}

/// Two descriptors a connection add up: the soft limit is raised to the hard one.
fn allow_all_descriptors() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
