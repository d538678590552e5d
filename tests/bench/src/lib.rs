//! Load, and what it shows about the paths through a mesh.
//!
//! [`generate`] and [`serve`] are the two ends of every measurement; they run inside pods and know nothing
//! of Weft. [`load`] starts them there, [`table`] compares the paths in one interleaved run, [`routing`] counts what
//! finding a rule costs, and
//! [`connection_rate`] and [`memory`] are the runs behind two of the proofs. Nothing here judges a time:
//! what is measured is told, and only lost or broken exchanges are errors.

pub mod connection_rate;
pub mod cpu;
pub mod generate;
mod ground;
pub mod histogram;
pub mod http;
pub mod load;
mod machine;
pub mod memory;
mod message;
pub mod report;
pub mod routing;
pub mod scrape;
pub mod serve;
mod spread;
pub mod table;
