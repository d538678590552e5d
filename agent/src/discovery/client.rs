//! Follows the Discovery stream: hello, what is held, changes, snapshots; and starts from the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_proto::names::NodeName;
use weft_proto::v1::discovery_client::DiscoveryClient;
use weft_proto::v1::discovery_request::Kind;
use weft_proto::{PROTOCOL_VERSION, v1};

use super::apply::{Change, Resources};
use super::disk;
use super::link::{Attempts, Channels, Ended, Link, LinkStatus, opened};
use super::parse::Features;
use super::snapshots::{Publisher, Snapshots, publication};
use crate::limits;
use crate::model::Snapshot;

/// What this agent knows, on its way from the controller to the workers and to the disk.
#[derive(Debug)]
pub struct State {
    world: World,
    node: NodeName,
    path: PathBuf,
    status: LinkStatus,
    /// What should be on disk: the newest alone matters.
    wanted: watch::Receiver<Option<Arc<Vec<Bytes>>>>,
}

/// The part that the stream changes.
#[derive(Debug)]
struct World {
    resources: Resources,
    publisher: Publisher,
    to_disk: watch::Sender<Option<Arc<Vec<Bytes>>>>,
}

impl State {
    /// Reads the snapshot on disk, if a usable one is there, and puts it in force.
    #[must_use]
    pub fn open(node: NodeName, state_directory: &Path) -> (Self, Snapshots) {
        let path = disk::path(state_directory);
        let saved = disk::load(&path, &node).unwrap_or_else(|refused| {
            tracing::warn!(path = %path.display(), %refused, "the snapshot on disk is not used");
            None
        });
        let (resources, (publisher, snapshots)) = match saved {
            Some(saved) => {
                let features = Features::own().shared(&saved.features);
                let resources = Resources::restored(features, saved.resources, saved.resumable);
                let (snapshot, nacks) = resources.snapshot();
                tracing::info!(version = %snapshot.version.0, "the snapshot on disk is in force");
                (resources, publication(snapshot, nacks, Some(Timestamp::now())))
            }
            None => (Resources::new(Features::own()), publication(Snapshot::empty(), Vec::new(), None)),
        };
        let (to_disk, wanted) = watch::channel(None);
        let world = World { resources, publisher, to_disk };
        (Self { world, node, path, status: LinkStatus::new("discovery"), wanted }, snapshots)
    }

    /// Whether the controller is there, for people.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.status.subscribe()
    }

    /// Follows the controller until `stop`; then the newest snapshot is on disk.
    pub async fn follow(self, channels: Channels, stop: CancellationToken) {
        let Self { mut world, node, path, status, wanted } = self;
        let mut attempts = Attempts::new(status, channels, stop.clone());
        let following = async {
            while let Some(channel) = attempts.next().await {
                let carried = attempts.carry(world.converse(channel, &attempts.status)).await;
                world.publisher.lose_step();
                if carried.is_none() {
                    break;
                }
            }
            // Its sender's end tells the writer to end.
            drop(world);
        };
        tokio::join!(following, write_snapshots(wanted, path, node, &stop));
    }
}

impl World {
    async fn converse(&mut self, channel: Channel, status: &LinkStatus) -> Result<(), Ended> {
        let mut client = DiscoveryClient::new(channel).max_decoding_message_size(limits::DISCOVERY_MESSAGE_MAXIMUM);
        // Kept to the end of the stream: dropping it would say goodbye.
        let (requests, receiver) = mpsc::channel(limits::CONTROLLER_QUEUE);
        let hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            features: Features::own().names().to_vec(),
            shards: self.resources.shards(),
        };
        say(&requests, Kind::Hello(hello))?;
        let mut responses = opened(client.stream(ReceiverStream::new(receiver))).await?;
        status.connected();
        let mut change = Change::default();
        while let Some(message) = responses.message().await? {
            if !message.unclear.is_empty() {
                say(&requests, Kind::Held(v1::Held { resources: self.resources.held(&message.unclear) }))?;
                continue;
            }
            if change.add(message)? {
                self.apply(std::mem::take(&mut change));
            }
        }
        Ok(())
    }

    /// One complete change is one snapshot. A change of nothing (a resume) is none, except the very first.
    fn apply(&mut self, change: Change) {
        let first = !self.publisher.applied().version.is_known();
        if !self.resources.fold(change) && !first {
            self.publisher.confirm();
            return;
        }
        let (snapshot, nacks) = self.resources.snapshot();
        tracing::debug!(version = %snapshot.version.0, nacks = nacks.len(), "a new snapshot is in force");
        self.publisher.publish(snapshot, nacks, Timestamp::now());
        self.to_disk.send_replace(Some(Arc::new(self.resources.kept())));
    }
}

/// A controller that takes nothing of what it asked for is none.
fn say(requests: &mpsc::Sender<v1::DiscoveryRequest>, kind: Kind) -> Result<(), Ended> {
    let request = v1::DiscoveryRequest { kind: Some(kind) };
    requests.try_send(request).map_err(|_| Ended::Protocol("the controller does not listen to what this agent holds"))
}

/// Writes the newest state at most once an interval, and at last once more.
async fn write_snapshots(
    mut wanted: watch::Receiver<Option<Arc<Vec<Bytes>>>>,
    path: PathBuf,
    node: NodeName,
    stop: &CancellationToken,
) {
    while wanted.changed().await.is_ok() {
        let resources = wanted.borrow_and_update().clone();
        if let Some(resources) = resources {
            write_snapshot(resources, path.clone(), node.clone()).await;
        }
        tokio::select! {
            () = sleep(limits::SNAPSHOT_WRITE_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn write_snapshot(resources: Arc<Vec<Bytes>>, path: PathBuf, node: NodeName) {
    let place = path.display().to_string();
    let written = spawn_blocking(move || disk::save(&path, &node, &Features::own(), resources.to_vec())).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(path = place, %error, "the snapshot cannot be kept on disk"),
        Err(error) => tracing::error!(path = place, %error, "writing the snapshot failed"),
    }
}
