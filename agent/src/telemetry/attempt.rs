//! An attempt of a request that came to nothing, or to an answer that says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::record::seconds;
use crate::error::Reason;
use crate::http::retry::Outcome;
use crate::model::Workload;

#[derive(Debug, Clone)]
pub struct FailedAttempt {
    pub endpoint: SocketAddr,
    pub workload: Option<Arc<Workload>>,
    pub outcome: Outcome,
    pub took: Duration,
    /// It was one failure too many: this worker sends the endpoint nothing for so long.
    pub ejected: Option<Duration>,
}

impl FailedAttempt {
    /// Why there was no answer; [`Reason::Completed`] where there was one.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.outcome {
            Outcome::Answered(..) => Reason::Completed,
            Outcome::Failed(reason) | Outcome::Unsent(reason) => reason,
        }
    }
}

/// Field names are stable.
impl Serialize for FailedAttempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, grpc_status) = match self.outcome {
            Outcome::Answered(status, grpc) => (Some(status.as_u16()), grpc),
            Outcome::Failed(_) | Outcome::Unsent(_) => (None, None),
        };
        let mut fields = serializer.serialize_struct("FailedAttempt", 8)?;
        fields.serialize_field("endpoint", &self.endpoint)?;
        fields.serialize_field("workload", &self.workload.as_deref().map(|row| &*row.name))?;
        fields.serialize_field("reason", &self.reason())?;
        fields.serialize_field("sent", &!matches!(self.outcome, Outcome::Unsent(_)))?;
        fields.serialize_field("status", &status)?;
        fields.serialize_field("grpc_status", &grpc_status)?;
        fields.serialize_field("seconds", &seconds(self.took))?;
        fields.serialize_field("ejected_seconds", &self.ejected.map(seconds))?;
        fields.end()
    }
}
