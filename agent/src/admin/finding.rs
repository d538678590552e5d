//! What stands in a connection's way.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::explain::explain;
use crate::error::Reason;

/// How a finding bears on the question; the first outranks the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// A connection opened now would fail of this.
    Blocks,
    /// The last connection failed of this; nothing known says that it still would.
    Happened,
    /// Connections work, but not as the mesh means it.
    Weakens,
    /// The kernel has counted this at some time.
    Counted,
}

/// Which end of the path a finding is about; the same order as the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Source,
    Path,
    Destination,
}

/// A cause in one stable word: a reason, or what keeps a connection from ever reaching an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The pod's or the destination's traffic does not pass the mesh.
    NotCaptured,
    /// No worker of the node's agent lives.
    AgentDown,
    /// The agent runs and does not serve yet.
    AgentNotReady,
    /// An endpoint is passed over, because it failed too often lately.
    EndpointEjected,
    /// What was answered, or was not, is the application's own word.
    AnsweredByApplication,
    Reason(Reason),
}

impl Cause {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotCaptured => "not_captured",
            Self::AgentDown => "agent_down",
            Self::AgentNotReady => "agent_not_ready",
            Self::EndpointEjected => "endpoint_ejected",
            Self::AnsweredByApplication => "answered_by_application",
            Self::Reason(reason) => reason.code(),
        }
    }

    /// The other side usually knows a better word for it.
    #[must_use]
    pub const fn is_vague(self) -> bool {
        matches!(
            self,
            Self::Reason(
                Reason::HandshakeFailed
                    | Reason::HandshakeTimeout
                    | Reason::PeerAgentDown
                    | Reason::UpstreamRefused
                    | Reason::UpstreamReset
                    | Reason::DownstreamReset
                    | Reason::BadPreamble
            )
        )
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub cause: Cause,
    pub weight: Weight,
    pub end: End,
    /// See [`Cause::is_vague`].
    pub vague: bool,
    /// When it happened last, where a record says so.
    pub at: Option<Timestamp>,
    /// The cause in a sentence with the names of this case.
    pub summary: String,
    pub evidence: Vec<String>,
    pub fix: String,
}

impl Finding {
    #[must_use]
    pub fn new(cause: Cause, weight: Weight, end: End, summary: impl Into<String>) -> Self {
        Self {
            cause,
            weight,
            end,
            vague: cause.is_vague(),
            at: None,
            summary: summary.into(),
            evidence: Vec::new(),
            fix: default_fix(cause).to_owned(),
        }
    }

    #[must_use]
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

/// Sorts the likeliest cause first and folds findings of the same cause at the same end into one.
#[must_use]
pub fn ranked(findings: Vec<Finding>) -> Vec<Finding> {
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = kept.iter_mut().find(|other| other.cause == finding.cause && other.end == finding.end);
        match same {
            Some(other) => {
                if finding.weight < other.weight {
                    other.weight = finding.weight;
                    other.summary.clone_from(&finding.summary);
                    other.fix.clone_from(&finding.fix);
                }
                other.at = other.at.max(finding.at);
                // The same pod is often reached by an address of each family.
                for evidence in finding.evidence {
                    if !other.evidence.contains(&evidence) {
                        other.evidence.push(evidence);
                    }
                }
            }
            None => kept.push(finding),
        }
    }
    kept.sort_by_key(|finding| (finding.weight, finding.vague, finding.end));
    kept
}

const fn default_fix(cause: Cause) -> &'static str {
    match cause {
        Cause::NotCaptured => "Label its namespace weft.dev/capture=enabled, and look whether the pod itself opts out.",
        Cause::AgentDown => "Start the agent on that node (weft-agent run), and look into its log for why it ended.",
        Cause::AgentNotReady => "Look into the agent's log; without a snapshot it waits for the controller.",
        Cause::EndpointEjected => {
            "Look into its application's log for why it failed; it is tried again by itself when its time is over."
        }
        Cause::AnsweredByApplication => "Look into the application's log at that time: Weft carried what it said.",
        Cause::Reason(reason) => explain(reason).fix,
    }
}
