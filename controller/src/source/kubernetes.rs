//! The Kubernetes API as a source: one follower per kind, and one collection of all that they find.
//!
//! Invariants: nothing is published before every kind is settled (listed, or of Gateway API and not served, or not to be
//! read in [`limits::ROUTES_PATIENCE`]); what is lost (a definition deleted, a permission taken away, an API server that
//! is away) is never taken for empty.
//! Absent: any waiting for a burst to end; changes that are there already are one reading.

mod answer;
mod collection;
mod decode;
mod follow;
mod resource;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Reading, kept};
use crate::limits;
use crate::object::Kind;
use crate::pause;
use crate::trouble::Troubles;

pub use answer::{Answers, Digest, digest, divide, united};
use collection::{Change, Collection};
use follow::Follower;
pub use resource::of as resource;

pub struct Kubernetes {
    client: Client,
    troubles: Troubles,
    collection: Collection,
    kept_file: PathBuf,
    answers: Arc<Answers>,
    /// Routes are waited for until then.
    patience: Option<Instant>,
}

impl Kubernetes {
    /// `kept_file` is in the state directory.
    #[must_use]
    pub fn open(client: Client, troubles: Troubles, kept_file: PathBuf) -> Self {
        let answers = Arc::new(Answers::default());
        let collection = Collection::open(kept::load(&kept_file), Arc::clone(&answers));
        Self { client, troubles, collection, kept_file, answers, patience: None }
    }

    /// What the objects' own statuses say in our name.
    #[must_use]
    pub fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// Runs until `stop`. Each reading replaces the one before; nobody has to take every one.
    pub async fn run(mut self, readings: watch::Sender<Arc<Reading>>, stop: CancellationToken) -> anyhow::Result<()> {
        let (sender, mut changes) = mpsc::channel(limits::CHANGES_WAITING);
        let mut followers = JoinSet::new();
        for kind in Kind::ALL {
            let (client, troubles, answers) = (self.client.clone(), self.troubles.clone(), self.answers());
            let orphans = self.collection.orphans(kind);
            let follower = Follower::new(kind, client, sender.clone(), troubles, answers, orphans);
            followers.spawn(follower.run(stop.clone()));
        }
        drop(sender);
        loop {
            let awaited = self.collection.awaited();
            let patience = (!awaited.is_empty()).then(|| Instant::now() + limits::ROUTES_PATIENCE);
            self.patience = patience.map(|end| self.patience.unwrap_or(end));
            let mut differs = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = followers.join_next() => {
                    ended.context("a follower of the API panicked")?;
                    if stop.is_cancelled() {
                        continue;
                    }
                    bail!("a follower of the API ended by itself");
                }
                Some(change) = changes.recv() => self.collection.apply(change),
                () = pause::until(self.patience.map(Instant::into_std)) => self.go_without(awaited),
            };
            for _ in 0..limits::CHANGES_WAITING {
                let Ok(change) = changes.try_recv() else { break };
                differs |= self.collection.apply(change);
            }
            if differs {
                let reading = self.collection.reading();
                if let Some(kept) = self.collection.keep() {
                    let file = self.kept_file.clone();
                    spawn_blocking(move || kept::save(&file, &kept))
                        .await
                        .context("keeping last good versions failed")?;
                }
                readings.send_replace(Arc::new(reading));
            }
        }
        followers.shutdown().await;
        Ok(())
    }

    /// What keeps these from being read is told by their followers, for as long as it lasts.
    fn go_without(&mut self, awaited: Vec<Kind>) -> bool {
        let mut differs = false;
        for kind in awaited {
            tracing::warn!(kind = kind.as_str(), "not to be read until now; what follows is published without it");
            differs |= self.collection.apply(Change::Absent(kind));
        }
        differs
    }
}

#[cfg(test)]
mod tests;
