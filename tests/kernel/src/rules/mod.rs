//! The tests, by what they are about.

mod inbound;
mod lifetime;
mod limits;
mod liveness;
mod observe;
mod outbound;
mod ports;
mod probes;
mod sockets;

use crate::Rule;

/// Every test with its name.
pub fn all() -> Vec<(&'static str, Rule)> {
    [
        lifetime::RULES,
        outbound::RULES,
        sockets::RULES,
        inbound::RULES,
        probes::RULES,
        observe::RULES,
        ports::RULES,
        liveness::RULES,
        limits::RULES,
    ]
    .concat()
}
