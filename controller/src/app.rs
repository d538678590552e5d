//! The composition root: starts every task, joins every task.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ca::Authority;
use crate::config::Serve;
use crate::limits;
use crate::mesh::Maker;
use crate::serve::{self, Services, admin};
use crate::source::{self, Directory, kept};
use crate::state;
use crate::status::StatusFolder;
use crate::token::Tokens;
use crate::translate::Facts;

/// Serves until `stop`, then lets streams end, then ends them. An error of any part ends the whole.
pub async fn run(config: Serve, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    state::create_folder(&config.state_dir)?;
    let socket = config.state_dir.join("admin.sock");
    let people = admin::bind(&socket)?;
    let authority = Authority::open(&config.state_dir, config.trust_domain.clone(), config.certificate_life())?;
    let authority = Arc::new(authority);
    let facts = Facts {
        trust_domain: config.trust_domain.clone(),
        lease: config.lease(),
        roots_der: vec![authority.root().to_vec()],
    };
    let (readings, readings_receiver) = watch::channel(Arc::default());
    let folder = StatusFolder::new(&config.directory);
    let maker = Maker::new(facts, readings_receiver, folder, &config.state_dir)?;
    let services = Services {
        mesh: maker.mesh(),
        authority,
        tokens: Tokens::of(&config.state_dir),
        tasks: TaskTracker::new(),
        stop: stop.child_token(),
    };
    let names = serve::server_names(config.listen, &config.server_name)?;
    let directory = Directory::open(&config.directory, config.state_dir.join(kept::STATE_FILE));

    let mut parts = JoinSet::new();
    let part = services.stop.clone();
    parts.spawn(source::watch(directory, readings, part.clone()));
    parts.spawn(maker.run(part.clone()));
    parts.spawn(admin::serve(people, socket, services.clone()));
    let server = services.clone();
    parts.spawn(async move { serve::serve(listener, &names, server).await });

    let first = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => ended.context("a part of the controller panicked").flatten(),
    };
    services.stop.cancel();
    services.tasks.close();
    let polite = async {
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the controller panicked")??;
        }
        services.tasks.wait().await;
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(limits::SHUTDOWN_DEADLINE, polite).await {
        return first.and(ended);
    }
    parts.shutdown().await;
    first.context("some connections did not end in time")
}
