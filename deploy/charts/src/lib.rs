//! Weft's Helm charts, and the objects that they become.
//!
//! The charts are the one source of what is installed: Helm reads them from the folders beside this crate, `weft install`
//! has them in it. Both render the same objects from the same values, which `cargo xtask lint charts` holds against the
//! real Helm. Of Go's templates this crate knows what the charts use and refuses everything else. Absent: talking to a
//! cluster.

mod chart;
mod files;
mod order;
mod template;
mod values;

pub use chart::{Chart, ChartError, Object, Release, stream};
pub use values::{SettingError, Values};
