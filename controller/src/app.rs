//! The composition root: starts every task, joins every task.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Patience, Unanswered};
use crate::authenticate::FirstProof;
use crate::ca::{self, Authority, Keeper, Lives};
use crate::config::Serve;
use crate::leader::{self, Candidate, Standing};
use crate::limits;
use crate::mesh::{Maker, State};
use crate::review::Reviewer;
use crate::serve::admin::{self, Desk};
use crate::serve::{self, Hellos, Services};
use crate::source::{self, Directory, Kubernetes, Reading, kept};
use crate::sparing::Sparing;
use crate::state;
use crate::status::{Farewell, Introduction, StatusFolder, Writer};
use crate::token::Tokens;
use crate::translate::Facts;
use crate::trouble::Troubles;

/// What depends on where objects come from.
struct Foundation {
    authority: Arc<Authority>,
    keeper: Keeper,
    first_proof: FirstProof,
    state: State,
    folder: Option<StatusFolder>,
    source: Source,
}

enum Source {
    Directory(Directory),
    Kubernetes(Client, Box<Kubernetes>),
}

/// None: it was stopped before.
async fn foundation(
    config: &Serve,
    troubles: &Troubles,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Foundation>> {
    let kept_file = config.state_dir.join(kept::STATE_FILE);
    if let Some(directory) = &config.source.directory {
        let (trust_domain, lives) = (config.trust_domain.clone(), lives(config));
        let (authority, keeper) = ca::open_folder(&config.state_dir, trust_domain, lives, troubles).await?;
        return Ok(Some(Foundation {
            authority,
            keeper,
            first_proof: FirstProof::JoinToken(Tokens::of(&config.state_dir)),
            state: State::Kept,
            folder: Some(StatusFolder::new(directory)),
            source: Source::Directory(Directory::open(directory, kept_file)),
        }));
    }
    let cluster = &config.cluster;
    let client = api::connect(cluster.kubeconfig.as_deref()).await?;
    let reviewer = Reviewer::new(client.clone(), &cluster.namespace, &cluster.agent_service_account, troubles.clone());
    let opened = tokio::select! {
        () = stop.cancelled() => return Ok(None),
        opened = open_root(config, &client, troubles) => opened,
    };
    let (authority, keeper) = opened?;
    let kubernetes = Kubernetes::open(client.clone(), troubles.clone(), kept_file);
    Ok(Some(Foundation {
        authority,
        keeper,
        first_proof: FirstProof::PodToken(Arc::new(reviewer)),
        state: State::MayBeLost,
        folder: None,
        source: Source::Kubernetes(client, Box::new(kubernetes)),
    }))
}

/// A node whose proof is always at hand proves itself anew more often.
fn lives(config: &Serve) -> Lives {
    let node =
        if config.source.kubernetes { limits::REVIEWED_NODE_CERTIFICATE_LIFE } else { limits::NODE_CERTIFICATE_LIFE };
    Lives { workload: config.certificate_life(), node: config.node_certificate_life().unwrap_or(node) }
}

/// As soon as the API server lets us: what it does not do now it may do later, but a lost root does not come back so.
async fn open_root(config: &Serve, client: &Client, troubles: &Troubles) -> anyhow::Result<(Arc<Authority>, Keeper)> {
    let namespace = &config.cluster.namespace;
    let mut patience = Patience::default();
    loop {
        let opening = ca::open_secret(client.clone(), namespace, config.trust_domain.clone(), lives(config), troubles);
        match Box::pin(opening).await.map_err(anyhow::Error::downcast::<Unanswered>) {
            Ok(opened) => {
                troubles.clear("start");
                return Ok(opened);
            }
            Err(Ok(Unanswered(defect))) => troubles.raise("start", defect),
            Err(Err(error)) => return Err(error),
        }
        patience.pause().await;
    }
}

/// Reads objects, and answers to them where they are.
fn start(
    source: Source,
    parts: &mut JoinSet<anyhow::Result<()>>,
    readings: watch::Sender<Arc<Reading>>,
    standing: watch::Sender<Standing>,
    services: &Services,
    config: &Serve,
) {
    let stop = &services.stop;
    match source {
        Source::Directory(directory) => {
            standing.send_replace(leader::ALONE);
            parts.spawn(source::watch(directory, readings, stop.clone()));
        }
        Source::Kubernetes(client, kubernetes) => {
            let troubles = services.troubles.clone();
            let candidate = Candidate::new(client.clone(), config.cluster.namespace.as_str(), troubles.clone());
            let writer = Writer { client: client.clone(), answers: kubernetes.answers(), troubles: troubles.clone() };
            let farewell = Farewell { client: client.clone(), troubles: troubles.clone() };
            let (client, answers) = (client.clone(), kubernetes.answers());
            let introduction = Introduction { client, answers, troubles };
            let (read, stands) = (services.mesh.readings.clone(), services.standing.clone());
            parts.spawn(introduction.run(read, stands, stop.clone()));
            parts.spawn(farewell.run(services.mesh.clone(), services.standing.clone(), stop.clone()));
            parts.spawn(kubernetes.run(readings, stop.clone()));
            parts.spawn(candidate.run(standing, stop.clone()));
            parts.spawn(writer.run(services.mesh.told.clone(), services.standing.clone(), stop.clone()));
        }
    }
}

/// Serves until `stop`, then lets streams end, then ends them. An error of any part ends the whole.
pub async fn run(config: Serve, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    state::create_folder(&config.state_dir)?;
    let socket = config.state_dir.join("admin.sock");
    let people = admin::bind(&socket)?;
    let (troubles, tasks, ending) = (Troubles::default(), TaskTracker::new(), stop.child_token());
    let desk = Desk::new(config.trust_domain.clone(), config.lease(), troubles.clone());
    let mut parts = JoinSet::new();
    // First of all: whoever asks why nothing begins is answered.
    parts.spawn(admin::serve(people, socket, desk.clone(), ending.clone()));
    let beginning = begin(&config, listener, &desk, (troubles, tasks.clone(), ending.clone()), &mut parts);
    let begun = Box::pin(beginning).await;
    let first = if begun.is_err() {
        begun
    } else {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = parts.join_next() => ended.context("a part of the controller panicked").flatten(),
        }
    };
    ending.cancel();
    tasks.close();
    let polite = async {
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the controller panicked")??;
        }
        tasks.wait().await;
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(limits::SHUTDOWN_DEADLINE, polite).await {
        return first.and(ended);
    }
    parts.shutdown().await;
    first.context("some connections did not end in time")
}

/// Starts every part, as soon as what they stand on is there.
async fn begin(
    config: &Serve,
    listener: TcpListener,
    desk: &Desk,
    (troubles, tasks, stop): (Troubles, TaskTracker, CancellationToken),
    parts: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let Some(foundation) = Box::pin(foundation(config, &troubles, &stop)).await? else { return Ok(()) };
    let Foundation { authority, keeper, first_proof, state, folder, source } = foundation;
    let facts = Facts {
        trust_domain: config.trust_domain.clone(),
        lease: config.lease(),
        roots_der: authority.roots().trusted_der(),
        agents: config.source.kubernetes.then(|| config.cluster.agents()),
        inherited: None,
    };
    let (readings, readings_receiver) = watch::channel(Arc::default());
    let (standing, standing_receiver) = watch::channel(Standing::default());
    let followed = (authority.changes(), standing_receiver.clone());
    let maker = Maker::new(facts, readings_receiver, folder, &config.state_dir, (state, followed))?;
    let services = Services {
        mesh: maker.mesh(),
        authority,
        first_proof,
        standing: standing_receiver,
        troubles,
        refusals: Sparing::default(),
        hellos: Hellos::default(),
        tasks,
        stop,
    };
    let names = serve::server_names(config.listen, &config.server_name)?;
    let part = services.stop.clone();
    start(source, parts, readings, standing, &services, config);
    parts.spawn(maker.run(part.clone()));
    parts.spawn(keeper.run(services.mesh.clone(), services.standing.clone(), part.clone()));
    parts.spawn(serve::judge(services.mesh.clone(), services.standing.clone(), part));
    desk.open(services.clone());
    parts.spawn(async move { serve::serve(listener, names, services).await });
    Ok(())
}
