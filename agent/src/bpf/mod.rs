//! The agent's side of the kernel programs: loads, pins, attaches and fills them. Synchronous.
//!
//! Invariants: everything is pinned and survives the agent; a pod's row is written last and removed
//! first; the maps are derived state. Absent: deciding what is to be captured (`node`), and the
//! listeners themselves, which the caller opens.
//!
//! Use: `Datapath::open` → `publish_networks`, `publish_destinations` → `retain` (what is still there) →
//! for each pod: inside its namespace `listen_in_capture_range` and `seed_open_ports`, then `enrol` →
//! `attach`. Later: `update`, `quiesce`, `disenrol`. Workers take a `Heartbeat` and the `SocketFacts`.

mod attachments;
mod datapath;
mod enrolment;
mod error;
mod events;
mod facts;
mod foreign;
mod heartbeat;
mod links;
mod listener;
mod listening;
mod load;
mod maps;
mod object;
mod observing;
mod plan;
mod pod;
mod prober;
mod program;
mod publish;
mod removal;
mod sync;
mod system;
mod table;

pub use attachments::Attachment;
pub use datapath::{Datapath, Paths, Sizes};
pub use enrolment::{Listener, SeededPorts};
pub use error::BpfError;
pub use events::{Event, Events};
pub use facts::SocketFacts;
pub use foreign::ForeignProgram;
pub use heartbeat::{Heartbeat, heartbeats, silences};
pub use listener::listen_in_capture_range;
pub use load::ProgramSize;
pub use observing::{Seen, Sighting, Sightings};
pub use pod::{CapturedPod, Failure, Mode, NetnsCookie, Role};
pub use prober::ProbeSockets;
pub use publish::NetworkRule;
pub use removal::remove_all;
