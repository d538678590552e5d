//! `cargo xtask cluster reboot NODE`: a node ends at once, as without power, and starts again with nothing but its disk.
//!
//! Lost are its processes, the files in its memory, what they have pinned in the kernel, its cgroups and its network with all
//! that was attached to them. Its files, its network card's address and its object at the API server stay. Absent: the
//! kernel, which is the machine's.

use anyhow::{Context, Result};

use super::cgroups::Hierarchies;
use super::launch::Started;
use super::network::{self, Node};
use super::options::Options;
use super::place::Place;
use super::{node, up};
use crate::step;

/// Ends the node, starts it, and waits until it has told the API server that it is another start and ready.
pub fn reboot(place: &Place, node: Node) -> Result<()> {
    let hierarchies = Hierarchies::of_this_machine()?;
    let line = place.options().context("a cluster that is complete has options")?;
    let options = Options::of_line(&line, &hierarchies)?;
    step::quiet(&format!("end {} with all that it does not have on its disk", node.name()), || {
        hierarchies.remove(place, &node.name())?;
        network::disconnect(place, node)
    })?;
    step::quiet(&format!("{} is ready again", node.name()), || {
        let mut started = Started::nothing();
        network::connect(place, node)?;
        node::prepare(place, node, options, &mut started)?;
        up::start_nodes(place, &[node], options, &mut started)?;
        // Until then, what is said of it is of its last start.
        let boot = node::boot(place, node)?;
        up::await_nodes(place, &[node], &format!("jsonpath={{.status.nodeInfo.bootID}}={boot}"))?;
        up::await_nodes(place, &[node], "condition=Ready")?;
        started.expect_running()
    })
}
