//! What the controller sends, as snapshots; and what this node reports to it.
//!
//! `client` follows the Discovery stream, `parse` reads single resources, `apply` folds changes and
//! builds snapshots, `disk` keeps the last one, `report` speaks on the Report stream, `link` keeps
//! either stream alive. `parse` and `apply` are pure. Without a controller the last snapshot stays in
//! force, for as long as it takes. Absent: several replicas' streams (one Reporter for each, by the owner).

mod apply;
mod client;
mod disk;
mod link;
mod parse;
mod report;
mod snapshots;
#[cfg(test)]
mod tests;

pub use client::State;
pub use disk::{Refused, path as snapshot_file};
pub use link::{Channels, Link};
pub use report::{Enrolled, Reporter};
pub use snapshots::{Applied, Nack, Snapshots};
