//! How requests and connections to a Service port are balanced, and what holds where a route says nothing.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use weft_proto::names::{Namespace, NamespacedName};

use super::RetryPolicy;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The port that is meant, for people; None for the defaults.
    pub of: Option<TrafficScope>,
    /// `TrafficPolicy namespace/name`; None for the defaults.
    pub policy: Option<Arc<str>>,
    pub balancing: Balancing,
    pub retry_budget: RetryBudget,
    /// None: no endpoint is ejected.
    pub ejection: Option<Ejection>,
    /// For rules that say nothing of retries.
    pub retry: Option<RetryPolicy>,
    /// For rules that say nothing of timeouts.
    pub request_timeout: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficScope {
    pub service: NamespacedName,
    pub port: u16,
    /// Whose clients are meant; None: everybody's.
    pub audience: Option<Namespace>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Balancing {
    #[default]
    PeakEwma,
    LeastRequest,
    RoundRobin,
}

/// Retries that all routes to a port may make: this share of its requests of late, and in any case so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    pub percent: u32,
    pub windows: RetryWindows,
    pub minimum: u32,
    /// What it does not pay for is answered 503, whatever the last attempt came to (GEP-3388).
    pub refuses: bool,
}

/// How long what counts, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RetryWindows {
    pub share: Duration,
    pub minimum: Duration,
}

impl Default for RetryBudget {
    /// Gateway API's share (GEP-3388), and fewer in any case: each worker has a budget of its own.
    fn default() -> Self {
        let windows = RetryWindows { share: Duration::from_secs(10), minimum: Duration::from_secs(1) };
        Self { percent: 20, windows, minimum: 3, refuses: false }
    }
}

/// An endpoint that fails so often in a row gets nothing for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    pub consecutive_failures: u32,
    pub base_time: Duration,
    pub maximum_time: Duration,
    /// At most this share of a port's endpoints at the same time.
    pub maximum_percent: u32,
}

impl Traffic {
    /// What holds for a port that nobody has said anything about.
    #[must_use]
    pub fn unsaid() -> &'static Arc<Self> {
        static UNSAID: LazyLock<Arc<Traffic>> = LazyLock::new(|| Arc::new(Traffic::defaults(None)));
        &UNSAID
    }

    /// The defaults for this port.
    #[must_use]
    pub fn defaults(of: Option<TrafficScope>) -> Self {
        Self {
            of,
            policy: None,
            balancing: Balancing::default(),
            retry_budget: RetryBudget::default(),
            ejection: None,
            retry: None,
            request_timeout: None,
        }
    }
}
