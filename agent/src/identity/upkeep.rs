//! The task that keeps one credential per wanted workload.
//!
//! Invariants: every wanted workload is in `rows`, every other one in none; a failed renewal leaves the old credential to
//! its end; at most `limits::ISSUES_AT_ONCE` requests wait for the controller. Absent: reading of credentials, which is
//! lock-free in `Credentials`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_proto::names::{Identity, WorkloadUid};

use super::Credential;
use super::credential::CredentialError;
use super::credentials::{CertificateFacts, Credentials, Wanted};
use super::issue::{self, IssueError};
use super::join::Membership;
use super::keys::{Kept, KeyFolder, KeyName};
use super::retry::{self, BackOff};
use crate::limits;
use crate::tls::{Resumption, Trust};

#[derive(Debug)]
pub struct Upkeep {
    credentials: Credentials,
    channel: watch::Receiver<Option<Channel>>,
    keys: KeyFolder,
    resumption: Resumption,
    trust: Option<Trust>,
    rows: HashMap<WorkloadUid, Row>,
    issues: JoinSet<Issued>,
}

/// What became of one request.
type Issued = (WorkloadUid, Identity, Result<Kept, IssueError>);

/// One wanted workload.
#[derive(Debug)]
struct Row {
    identity: Identity,
    kept: Option<Kept>,
    credential: Option<Arc<Credential>>,
    generation: u64,
    due: Instant,
    asked: bool,
    back_off: BackOff,
    last_error: Option<String>,
}

impl Upkeep {
    #[must_use]
    pub fn new(credentials: Credentials, membership: &Membership, keys: KeyFolder, resumption: Resumption) -> Self {
        Self {
            credentials,
            channel: membership.changes(),
            keys,
            resumption,
            trust: None,
            rows: HashMap::new(),
            issues: JoinSet::new(),
        }
    }

    /// Runs until `stop`. Never fails: what is wrong is tried again and told by `Credentials::facts`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut wanted = self.credentials.wanted();
        wanted.mark_changed();
        loop {
            let next = self.ask_where_due();
            tokio::select! {
                () = stop.cancelled() => break,
                changed = wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now_wanted = wanted.borrow_and_update().clone();
                    if let Some(now_wanted) = now_wanted {
                        self.adopt_wanted(now_wanted);
                    }
                }
                Some(done) = self.issues.join_next() => {
                    if let Ok((uid, identity, result)) = done {
                        self.finish(&uid, &identity, result);
                    }
                }
                Ok(()) = self.channel.changed() => self.ask_again_at_once(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            self.publish();
        }
        self.issues.shutdown().await;
    }

    fn adopt_wanted(&mut self, wanted: Wanted) {
        let trust_changed = self.trust.as_ref() != Some(&wanted.trust);
        self.trust = Some(wanted.trust);
        let identities: HashMap<_, _> = wanted.workloads.into_iter().collect();
        self.rows.retain(|uid, row| identities.get(uid) == Some(&row.identity));
        let names: HashSet<_> = identities.keys().map(KeyName::workload).collect();
        self.keys.retain_workloads(&names);
        if trust_changed {
            let uids: Vec<_> = self.rows.keys().cloned().collect();
            for uid in uids {
                self.remake(&uid);
            }
        }
        for (uid, identity) in identities {
            if self.rows.contains_key(&uid) {
                continue;
            }
            let kept = self.keys.read(&KeyName::workload(&uid));
            self.rows.insert(uid.clone(), Row::new(identity, kept));
            self.remake(&uid);
        }
    }

    /// Makes the credential of `uid` anew from the key that it has. Where that cannot be, a new one is due; soon, where
    /// the mesh's roots are others now.
    fn remake(&mut self, uid: &WorkloadUid) {
        let (Some(row), Some(trust)) = (self.rows.get_mut(uid), &self.trust) else { return };
        let Some(kept) = &row.kept else { return };
        match row.make(uid, kept, trust, self.resumption) {
            Ok(credential) => {
                let is_current = kept.is_current(&trust.roots);
                row.accept(credential);
                if !is_current {
                    row.due = row.due.min(retry::reissue());
                }
            }
            Err(error) => {
                tracing::warn!(workload = %uid, %error, "a kept certificate is of no use any more");
                row.kept = None;
                row.due = Instant::now();
            }
        }
    }

    /// Sends requests where they are due. When the next one is; nothing while another event must come first.
    fn ask_where_due(&mut self) -> Option<Instant> {
        let channel = self.channel.borrow().clone()?;
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for (uid, row) in self.rows.iter_mut().filter(|(_, row)| !row.asked) {
            if row.due > now {
                next = Some(next.map_or(row.due, |earlier| earlier.min(row.due)));
            } else if self.issues.len() < limits::ISSUES_AT_ONCE {
                row.asked = true;
                let (channel, uid, identity) = (channel.clone(), uid.clone(), row.identity.clone());
                self.issues.spawn(async move {
                    let result = issue::issue(channel, &uid).await;
                    (uid, identity, result)
                });
            }
        }
        next
    }

    fn finish(&mut self, uid: &WorkloadUid, identity: &Identity, result: Result<Kept, IssueError>) {
        // The workload may have gone, or come back as another identity, while the controller was asked.
        let Some(row) = self.rows.get_mut(uid).filter(|row| row.identity == *identity) else { return };
        let Some(trust) = &self.trust else { return };
        row.asked = false;
        let made = result.map_err(|error| error.to_string()).and_then(|kept| {
            row.make(uid, &kept, trust, self.resumption).map(|made| (kept, made)).map_err(|error| error.to_string())
        });
        match made {
            Ok((kept, credential)) => {
                self.keys.write(&KeyName::workload(uid), &kept);
                row.kept = Some(kept);
                row.accept(credential);
            }
            Err(error) => row.refuse(uid, error),
        }
    }

    /// The node's certificate is new: what failed by the old one may go now.
    fn ask_again_at_once(&mut self) {
        for row in self.rows.values_mut().filter(|row| row.last_error.is_some() || row.credential.is_none()) {
            row.due = Instant::now();
            row.back_off = BackOff::new();
        }
    }

    fn publish(&self) {
        let not_a_member = self.channel.borrow().is_none();
        let credentials = self
            .rows
            .iter()
            .filter_map(|(uid, row)| Some((uid.clone(), Arc::clone(row.credential.as_ref()?))))
            .collect();
        let mut facts: Vec<_> = self.rows.iter().map(|(uid, row)| row.facts(uid, not_a_member)).collect();
        facts.sort_unstable_by(|one, other| one.workload.cmp(&other.workload));
        self.credentials.publish(credentials, facts);
    }
}

impl Row {
    fn new(identity: Identity, kept: Option<Kept>) -> Self {
        Self {
            identity,
            kept,
            credential: None,
            generation: 0,
            due: Instant::now(),
            asked: false,
            back_off: BackOff::new(),
            last_error: None,
        }
    }

    fn make(
        &self,
        uid: &WorkloadUid,
        kept: &Kept,
        trust: &Trust,
        resumption: Resumption,
    ) -> Result<Credential, CredentialError> {
        let generation = self.generation + 1;
        let (uid, identity) = (uid.clone(), self.identity.clone());
        // What came with the certificate is the controller's word as well, and may be newer than the snapshot: whoever was
        // away has its certificate before it knows the rest.
        let newer = kept.roots.iter().filter(|root| !trust.roots.contains(root));
        let roots = trust.roots.iter().chain(newer).cloned().collect();
        let trust = Trust { roots, ..trust.clone() };
        Credential::new(uid, identity, &kept.material, &trust, generation, resumption)
    }

    fn accept(&mut self, credential: Credential) {
        self.generation = credential.generation;
        self.due = retry::renewal(credential.not_before, credential.not_after);
        self.back_off = BackOff::new();
        self.last_error = None;
        self.credential = Some(Arc::new(credential));
    }

    fn refuse(&mut self, uid: &WorkloadUid, error: String) {
        if self.last_error.as_ref() != Some(&error) {
            tracing::warn!(workload = %uid, error, "no certificate for a workload; it is tried again");
        }
        self.last_error = Some(error);
        let serves = self.credential.as_ref().is_some_and(|credential| SystemTime::now() <= credential.not_after);
        self.due = Instant::now() + if serves { retry::renewal_pause() } else { self.back_off.pause() };
    }

    fn facts(&self, uid: &WorkloadUid, not_a_member: bool) -> CertificateFacts {
        let waiting = || "the node has no certificate yet to ask with".to_owned();
        CertificateFacts {
            workload: Some(uid.clone()),
            identity: self.identity.to_string(),
            not_after: self.credential.as_ref().map(|credential| credential.not_after),
            generation: self.generation,
            last_error: self.last_error.clone().or_else(|| (not_a_member && self.credential.is_none()).then(waiting)),
        }
    }
}
