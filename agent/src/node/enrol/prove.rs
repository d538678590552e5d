//! The self-tests of freshly enrolled pods: a few at each look, so that a slow pod holds up nobody.

use std::time::Instant;

use super::Enroller;
use crate::limits;
use crate::model::Snapshot;
use crate::node::self_test;

/// Whether it is known that a pod's hook captures.
pub(super) enum Proof {
    Wanted { next: Instant },
    Given,
    Failed { problem: String, next: Instant },
}

impl Proof {
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Failed { problem, .. } => Some(format!("its connections are not captured: {problem}")),
            Self::Wanted { .. } | Self::Given => None,
        }
    }

    fn is_due(&self) -> bool {
        match self {
            Self::Wanted { next } | Self::Failed { next, .. } => *next <= Instant::now(),
            Self::Given => false,
        }
    }
}

impl Enroller {
    /// Runs self-tests that are due, for at most `limits::PROOF_SHARE`. True when there are more.
    pub fn prove_some(&mut self, snapshot: &Snapshot) -> bool {
        if !self.attached {
            return false;
        }
        let begun = Instant::now();
        for (uid, enrolled) in self.enrolled.iter_mut().filter(|(_, enrolled)| enrolled.proof.is_due()) {
            if begun.elapsed() > limits::PROOF_SHARE {
                return true;
            }
            // Nothing that this pod sends is captured by the wish of its owner, or no range is of its family.
            let Some(destination) = self_test::destination(&snapshot.captured_networks, &enrolled.row) else {
                enrolled.proof = Proof::Given;
                continue;
            };
            let netns = &enrolled.pod.netns;
            let cgroup = self.surroundings.sandboxes.cgroup(uid, netns);
            enrolled.proof = match cgroup
                .map_err(|error| error.to_string())
                .and_then(|cgroup| self_test::run(netns, &cgroup, destination))
            {
                Ok(()) => Proof::Given,
                Err(problem) => {
                    tracing::warn!(workload = %uid, problem, "a pod's self-test failed");
                    Proof::Failed { problem, next: Instant::now() + limits::PROOF_RETRY }
                }
            };
        }
        false
    }
}
