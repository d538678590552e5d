//! Tells a controller replica what this node does: alive, enrolled, which snapshot decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_proto::names::WorkloadUid;
use weft_proto::v1::agent_report::Kind;
use weft_proto::v1::report_client::ReportClient;
use weft_proto::{PROTOCOL_VERSION, v1};

use super::link::{Attempts, Channels, Ended, Link, LinkStatus, opened};
use super::parse::Features;
use super::snapshots::{Applied, Snapshots};
use crate::limits;

/// The whole set of this node's pods that should be enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// Enrolled and serving.
    pub serving: Vec<WorkloadUid>,
    /// Could not be enrolled, and why, in a sentence.
    pub failed: Vec<(WorkloadUid, String)>,
}

/// Speaks to one controller replica.
#[derive(Debug)]
pub struct Reporter {
    voice: Voice,
    status: LinkStatus,
}

/// What is said.
#[derive(Debug)]
struct Voice {
    snapshots: Snapshots,
    enrolled: watch::Receiver<Enrolled>,
    /// The node side has said which pods are enrolled.
    is_told: bool,
}

impl Reporter {
    /// The first value of `enrolled` says nothing: until there is another one, what the controller knows of this node from
    /// before (the agent that this one succeeds) stands. To withdraw it at every restart would turn peers to plaintext.
    #[must_use]
    pub fn new(snapshots: Snapshots, enrolled: watch::Receiver<Enrolled>) -> Self {
        Self { voice: Voice { snapshots, enrolled, is_told: false }, status: LinkStatus::new("report") }
    }

    /// Whether the controller hears this node, for people.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.status.subscribe()
    }

    /// Reports until `stop`.
    pub async fn run(self, channels: Channels, stop: CancellationToken) {
        let Self { mut voice, status } = self;
        let mut attempts = Attempts::new(status, channels, stop);
        while let Some(channel) = attempts.next().await {
            // Boxed: the stream's state is large, and lives once for each connection to the controller.
            let stream = Box::pin(voice.converse(channel, &attempts.status));
            if attempts.carry(stream).await.is_none() {
                return;
            }
        }
    }
}

impl Voice {
    async fn converse(&mut self, channel: Channel, status: &LinkStatus) -> Result<(), Ended> {
        let mut client = ReportClient::new(channel);
        let (reports, receiver) = mpsc::channel(limits::CONTROLLER_QUEUE);
        let mut applied = self.snapshots.applied();
        let mut lease = self.lease();
        send(&reports, heartbeat()).await?;
        self.is_told |= self.enrolled.has_changed().unwrap_or(false);
        if self.is_told {
            let enrolled = Kind::Enrolled(message(&self.enrolled.borrow_and_update()));
            send(&reports, enrolled).await?;
        }
        let known = acknowledgement(&applied.borrow_and_update());
        send_some(&reports, known).await?;
        let mut responses = opened(client.stream(ReceiverStream::new(receiver))).await?;
        status.connected();
        let mut beat = beats(lease);
        let mut enrolled_ends = false;
        loop {
            tokio::select! {
                response = responses.message() => match response? {
                    Some(response) if response.lease_ms > 0 => {
                        let said = Duration::from_millis(u64::from(response.lease_ms)).max(limits::LEASE_MINIMUM);
                        if said != lease {
                            lease = said;
                            beat = beats(lease);
                        }
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                _ = beat.tick() => send(&reports, heartbeat()).await?,
                changed = self.enrolled.changed(), if !enrolled_ends => match changed {
                    Ok(()) => {
                        self.is_told = true;
                        let enrolled = Kind::Enrolled(message(&self.enrolled.borrow_and_update()));
                        send(&reports, enrolled).await?;
                    }
                    // The node side has ended; the heartbeats go on until `stop`.
                    Err(_) => enrolled_ends = true,
                },
                Ok(()) = applied.changed() => {
                    let news = acknowledgement(&applied.borrow_and_update());
                    send_some(&reports, news).await?;
                }
            }
        }
    }

    fn lease(&self) -> Duration {
        match self.snapshots.current().lease_milliseconds {
            0 => limits::LEASE_DEFAULT,
            lease => Duration::from_millis(u64::from(lease)).max(limits::LEASE_MINIMUM),
        }
    }
}

/// A controller that takes nothing for a whole call's time is as good as gone.
async fn send(reports: &mpsc::Sender<v1::AgentReport>, kind: Kind) -> Result<(), Ended> {
    match timeout(limits::CONTROLLER_CALL, reports.send(v1::AgentReport { kind: Some(kind) })).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::ByController),
        Err(_) => Err(Ended::NoAnswer),
    }
}

async fn send_some(reports: &mpsc::Sender<v1::AgentReport>, kind: Option<Kind>) -> Result<(), Ended> {
    match kind {
        Some(kind) => send(reports, kind).await,
        None => Ok(()),
    }
}

fn beats(lease: Duration) -> tokio::time::Interval {
    let mut beats = interval(lease / limits::HEARTBEATS_PER_LEASE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

fn heartbeat() -> Kind {
    Kind::Heartbeat(v1::Heartbeat {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        features: Features::own().names().to_vec(),
    })
}

fn message(enrolled: &Enrolled) -> v1::Enrolled {
    let failed = enrolled
        .failed
        .iter()
        .map(|(workload, reason)| v1::NotEnrolled { workload: workload.to_string(), reason: reason.clone() });
    v1::Enrolled { workloads: enrolled.serving.iter().map(ToString::to_string).collect(), failed: failed.collect() }
}

/// Nothing is acknowledged before a controller's snapshot is in force.
fn acknowledgement(applied: &Arc<Applied>) -> Option<Kind> {
    applied.version.is_known().then(|| {
        let nacks = applied.nacks.iter().map(|nack| v1::Nack {
            resource: nack.resource.clone(),
            version: nack.version.clone(),
            reason: nack.reason.clone(),
        });
        Kind::Acknowledgement(v1::Acknowledgement { snapshot: applied.version.0.to_string(), nacks: nacks.collect() })
    })
}
