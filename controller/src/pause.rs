//! Waiting for a moment that may never come.

use std::time::Instant;

/// For ever, if there is no end.
pub async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}
