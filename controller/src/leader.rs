//! Who tells agents what to do, and writes statuses: the one that holds a Lease. Everybody signs.
//!
//! Invariants: nobody believes to lead for longer than its Lease says, counted from when the word was begun to be sent;
//! clocks of others are never compared with ours, only how long their word has not changed. Who sees another in its place
//! ends: what agents told it is old from then on.
//! Absent: what the leader does (`mesh`, `serve`, `status/kubernetes`).

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Access, fault, is};
use crate::limits;
use crate::pause;
use crate::trouble::Troubles;

pub const LEASE: &str = "weft-controller";
const GROUP: &str = "coordination.k8s.io";

#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    /// Of this process alone.
    identity: String,
    troubles: Troubles,
    /// The word of whoever leads, and since when it has not changed.
    heard: Option<(LeaseSpec, Instant)>,
    /// When our own last word that was taken began to be sent.
    renewed: Option<Instant>,
}

/// What others read of a candidate.
struct Seat<'a> {
    standing: &'a watch::Sender<Standing>,
    identity: String,
}

/// The only controller that there is.
pub const ALONE: Standing = Standing { leads: true, serves: true };

/// How this controller stands to the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Our Lease is good: for what must not be done beside another, such as statuses, and agents that come anew.
    pub leads: bool,
    /// It was ours, and nobody else has been seen in our place: what stands by then goes on.
    pub serves: bool,
}

type Fault = (Access, Error);

/// Whose the Lease is, after an attempt to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Ours,
    Other,
    /// Somebody wrote to it at the same time.
    Unclear,
}

impl Standing {
    /// True if it leads now and did not before, or the other way round.
    fn turn(&mut self, leads: bool) -> bool {
        self.serves |= leads;
        std::mem::replace(&mut self.leads, leads) != leads
    }
}

impl Candidate {
    #[must_use]
    pub fn new(client: Client, namespace: &str, troubles: Troubles) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let identity = format!("{host}-{:016x}", rand::random::<u64>());
        Self { leases: Api::namespaced(client, namespace), identity, troubles, heard: None, renewed: None }
    }

    /// Runs until `stop`, then lets go at once, so that another leads without waiting.
    pub async fn run(mut self, standing: watch::Sender<Standing>, stop: CancellationToken) -> anyhow::Result<()> {
        let seat = Seat { standing: &standing, identity: self.identity.clone() };
        tokio::select! {
            () = stop.cancelled() => {}
            ended = Box::pin(self.campaign(&seat)) => return Err(ended),
        }
        standing.send_replace(Standing::default());
        self.let_go().await;
        Ok(())
    }

    /// Until another is seen in our place.
    async fn campaign(&mut self, seat: &Seat<'_>) -> anyhow::Error {
        loop {
            let (begun, end) = (Instant::now(), self.end());
            let attempt = tokio::time::timeout(limits::LEADERSHIP / 3, self.attempt());
            match seat.during(end, Box::pin(attempt)).await {
                Ok(Ok(holder)) => {
                    self.troubles.clear("leader");
                    match holder {
                        Holder::Ours => self.renewed = Some(begun),
                        Holder::Other if seat.standing.borrow().serves => {
                            return anyhow!("another controller leads now, and this one has to begin anew");
                        }
                        Holder::Other => self.renewed = None,
                        Holder::Unclear => {}
                    }
                }
                Ok(Err((access, error))) => self.troubles.raise("leader", fault(access, &error)),
                Err(_) => tracing::debug!("the API server does not answer about the Lease"),
            }
            let end = self.end();
            seat.turn(end.is_some_and(|end| Instant::now() < end));
            seat.during(end, tokio::time::sleep_until(begun + limits::LEADERSHIP / 3)).await;
        }
    }

    /// When we have to stop leading: well before another may begin.
    fn end(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + limits::LEADERSHIP * 2 / 3)
    }

    async fn attempt(&mut self) -> Result<Holder, Fault> {
        let access = |verb| move |error| (Access { verb, group: GROUP, resource: "leases" }, error);
        let Some(mut lease) = self.leases.get_opt(LEASE).await.map_err(access("get"))? else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.word(None)) };
            return won(self.leases.create(&PostParams::default(), &lease).await, access("create"));
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        // Its word is no older than our question, and may be as young as the answer.
        if holder != self.identity && !holder.is_empty() && !self.is_silent(&spec, Instant::now()) {
            return Ok(Holder::Other);
        }
        lease.spec = Some(self.word(Some(&spec)));
        won(self.leases.replace(LEASE, &PostParams::default(), &lease).await, access("update"))
    }

    /// The holder's word has not changed for as long as it was good for.
    fn is_silent(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        match &self.heard {
            Some((known, since)) if known == spec => {
                let seconds = spec.lease_duration_seconds.unwrap_or_default();
                now.duration_since(*since) >= Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            }
            _ => {
                self.heard = Some((spec.clone(), now));
                false
            }
        }
    }

    fn word(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let own = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.map(|spec| spec.lease_transitions.unwrap_or_default() + i32::from(own.is_none()));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(limits::LEADERSHIP.as_secs()).ok(),
            acquire_time: own.map_or_else(|| now.clone(), |spec| spec.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(transitions.unwrap_or_default()),
            ..LeaseSpec::default()
        }
    }

    async fn let_go(&self) {
        if self.renewed.is_none() {
            return;
        }
        let letting_go = async {
            let mut lease = self.leases.get(LEASE).await?;
            let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
            else {
                return Ok(());
            };
            spec.holder_identity = None;
            self.leases.replace(LEASE, &PostParams::default(), &lease).await.map(drop)
        };
        let outcome = tokio::time::timeout(limits::API_CONNECT_TIMEOUT, letting_go).await;
        if let Err(error) = outcome.context("no answer").and_then(|outcome| outcome.context("refused")) {
            tracing::debug!("cannot let go of the Lease: {error:#}");
        }
    }
}

impl Seat<'_> {
    fn turn(&self, leading: bool) {
        if self.standing.send_if_modified(|standing| standing.turn(leading)) {
            tracing::info!(
                identity = self.identity,
                "this controller {} statuses",
                if leading { "writes" } else { "no longer writes" }
            );
        }
    }

    /// Waits for the work, and leads no longer than until `end` however long that takes.
    async fn during<T>(&self, end: Option<Instant>, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = pause::until(end.map(Instant::into_std)) => self.turn(false),
        }
        work.await
    }
}

/// The next look tells what a conflict was.
fn won(answer: Result<Lease, Error>, access: impl Fn(Error) -> Fault) -> Result<Holder, Fault> {
    match answer {
        Ok(_) => Ok(Holder::Ours),
        Err(error) if is(&error, 409) => Ok(Holder::Unclear),
        Err(error) => Err(access(error)),
    }
}

#[cfg(test)]
mod tests;
