//! A stream to the controller that is opened again whenever it ends.

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::RngExt as _;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::apply::Unusable;
use crate::limits;

/// The way to a controller; None until this node has joined. A new value (a renewed certificate) serves the next stream.
pub type Channels = watch::Receiver<Option<Channel>>;

/// Whether a stream stands, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    pub connected: bool,
    /// Since when it has been as `connected` says.
    pub since: Option<Timestamp>,
    /// Why the last stream ended, or could not begin.
    pub last_error: Option<String>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the controller did not answer within {} s", limits::CONTROLLER_CALL.as_secs())]
    NoAnswer,
    #[error("{}", described(.0))]
    Failed(#[from] tonic::Status),
    #[error("the controller ended the stream")]
    ByController,
    #[error("{0}")]
    Change(#[from] Unusable),
    #[error("{0}")]
    Protocol(&'static str),
}

/// Says what is known of one link.
#[derive(Debug)]
pub(super) struct LinkStatus {
    name: &'static str,
    link: watch::Sender<Link>,
}

impl LinkStatus {
    pub(super) fn new(name: &'static str) -> Self {
        let (link, _) = watch::channel(Link::default());
        Self { name, link }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn connected(&self) {
        tracing::info!(stream = self.name, "connected to the controller");
        self.link.send_modify(|link| {
            link.connected = true;
            link.since = Some(Timestamp::now());
        });
    }

    fn ended(&self, ended: &Ended) {
        let reason = ended.to_string();
        let news = self.link.send_if_modified(|link| {
            let known = !link.connected && link.last_error.as_ref() == Some(&reason);
            if link.connected || link.since.is_none() {
                link.since = Some(Timestamp::now());
            }
            link.connected = false;
            link.last_error = Some(reason.clone());
            !known
        });
        // A controller that stays away is said once, not at every attempt.
        if news {
            tracing::warn!(stream = self.name, %reason, "no controller: the last snapshot stays in force");
        }
    }
}

/// The attempts at one stream, until somebody says stop.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) status: LinkStatus,
    channels: Channels,
    stop: CancellationToken,
    pauses: Pauses,
    /// When the last attempt began; None before the first.
    begun: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(status: LinkStatus, channels: Channels, stop: CancellationToken) -> Self {
        Self { status, channels, stop, pauses: Pauses::default(), begun: None }
    }

    /// The channel of the next attempt, after a jittered pause if there was one before; None when stopped.
    pub(super) async fn next(&mut self) -> Option<Channel> {
        let stop = self.stop.clone();
        if let Some(begun) = self.begun {
            let pause = self.pauses.next(begun.elapsed(), rand::rng().random_range(0.0..1.0));
            or_stop(&stop, sleep(pause)).await?;
        }
        let channel = or_stop(&stop, next_channel(&mut self.channels)).await?;
        self.begun = Some(Instant::now());
        Some(channel)
    }

    /// Carries one stream to its end and says how it ended; None when stopped.
    pub(super) async fn carry(&self, stream: impl Future<Output = Result<(), Ended>>) -> Option<()> {
        let ended = match or_stop(&self.stop, stream).await? {
            Ok(()) => Ended::ByController,
            Err(ended) => ended,
        };
        self.status.ended(&ended);
        Some(())
    }
}

/// The answer to opening a stream, within the bound.
pub(super) async fn opened<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Ended> {
    let response = timeout(limits::CONTROLLER_CALL, call).await.map_err(|_| Ended::NoAnswer)??;
    Ok(response.into_inner())
}

async fn or_stop<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

async fn next_channel(channels: &mut Channels) -> Channel {
    loop {
        let channel = channels.borrow_and_update().clone();
        if let Some(channel) = channel {
            return channel;
        }
        if channels.changed().await.is_err() {
            // Nobody will ever join this node: wait to be stopped.
            std::future::pending::<()>().await;
        }
    }
}

/// Pauses between attempts: doubled up to the maximum, half of each by chance, so that 300 agents do not return at once.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: limits::RECONNECT_FIRST }
    }
}

impl Pauses {
    /// `chance` is in 0..1.
    fn next(&mut self, lasted: Duration, chance: f64) -> Duration {
        if lasted >= limits::RECONNECT_FORGIVEN {
            *self = Self::default();
        }
        let pause = self.next;
        self.next = (pause * 2).min(limits::RECONNECT_MAXIMUM);
        pause.mul_f64(0.5 + chance / 2.0)
    }
}

/// A status with its sources: tonic's own text stops at "transport error".
fn described(status: &tonic::Status) -> String {
    let mut text = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    let mut source = status.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_never_meet() {
        let mut pauses = Pauses::default();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let pause = pauses.next(Duration::ZERO, 0.999);
            assert!(pause >= last && pause <= limits::RECONNECT_MAXIMUM);
            last = pause;
        }
        assert!(last > limits::RECONNECT_MAXIMUM.mul_f64(0.9));
        assert!(Pauses::default().next(Duration::ZERO, 0.0) < Pauses::default().next(Duration::ZERO, 0.5));
    }

    #[test]
    fn a_good_connection_is_followed_by_the_first_pause() {
        let mut pauses = Pauses::default();
        for _ in 0..20 {
            pauses.next(Duration::ZERO, 0.5);
        }
        assert!(pauses.next(limits::RECONNECT_FORGIVEN, 0.999) <= limits::RECONNECT_FIRST);
    }
}
