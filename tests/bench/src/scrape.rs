//! What the agents themselves have counted, from their metrics.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use weft_rig::node::Node;

use crate::cpu;

/// The outgoing connections that an agent has carried to their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// All of them.
    pub connections: u64,
    /// Those under mTLS.
    pub mtls: u64,
    /// Those whose TLS session was resumed.
    pub resumed: u64,
}

impl Carried {
    /// What a node's agent has carried so far.
    pub fn by(node: &Node) -> Result<Self> {
        Ok(Self::of(&node.metrics()?))
    }

    fn of(metrics: &str) -> Self {
        let outbound = "direction=\"outbound\"";
        Self {
            connections: sum(metrics, "weft_connections_closed_total", &[outbound]),
            mtls: sum(metrics, "weft_connections_closed_total", &[outbound, "security=\"mtls\""]),
            resumed: sum(metrics, "weft_tls_resumed_total", &[outbound]),
        }
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(before.connections),
            mtls: self.mtls.saturating_sub(before.mtls),
            resumed: self.resumed.saturating_sub(before.resumed),
        }
    }

    /// The part of the handshakes that were resumptions; none if there was no handshake.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share has no use for 52 bits")]
    pub fn share_resumed(self) -> Option<f64> {
        (self.mtls > 0).then(|| self.resumed as f64 / self.mtls as f64)
    }
}

/// What an agent has written down about requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Requests that were counted and logged.
    pub requests: u64,
    /// Records that found the queue full and were lost.
    pub dropped: u64,
}

impl Recorded {
    /// By a node's agent.
    pub fn by(node: &Node) -> Result<Self> {
        let text = node.metrics()?;
        let total = |name| sum(&text, name, &[]);
        Ok(Self { requests: total("weft_requests_total"), dropped: total("weft_records_dropped_total") })
    }
}

/// The processes of a node's agent, its parent process among them.
pub fn agent_processes(node: &Node) -> Result<Vec<u32>> {
    let file = node.agent_cgroup().join("cgroup.procs");
    let members = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(members.lines().filter_map(|process| process.parse().ok()).collect())
}

/// The CPU time of a node's agent so far.
pub fn agent_time(node: &Node) -> Result<Duration> {
    agent_processes(node)?.into_iter().map(cpu::time_of).sum()
}

/// The sum of the series of one counter that have all these labels.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.split_once(' '));
    let wanted = series
        .filter(|(set, _)| (set.is_empty() || set.starts_with('{')) && labels.iter().all(|label| set.contains(label)));
    wanted.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE weft_connections_closed counter
weft_connections_closed_total{direction=\"outbound\",security=\"mtls\",reason=\"completed\"} 40
weft_connections_closed_total{direction=\"outbound\",security=\"plaintext\",reason=\"completed\"} 2
weft_connections_closed_total{direction=\"inbound\",security=\"mtls\",reason=\"completed\"} 900
weft_connections_closed_total_created{direction=\"outbound\"} 7
weft_tls_resumed_total{direction=\"inbound\"} 800
weft_tls_resumed_total{direction=\"outbound\"} 30
weft_records_dropped_total 5
";

    #[test]
    fn only_the_outgoing_series_of_that_name_are_added() {
        let carried = Carried::of(METRICS);
        assert_eq!(carried, Carried { connections: 42, mtls: 40, resumed: 30 });
        assert_eq!(carried.share_resumed(), Some(0.75));
    }

    #[test]
    fn a_counter_without_labels_is_read_too() {
        assert_eq!(sum(METRICS, "weft_records_dropped_total", &[]), 5);
    }

    #[test]
    fn no_handshake_has_no_share() {
        assert_eq!(Carried::of("").share_resumed(), None);
    }
}
