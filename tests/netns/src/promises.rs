//! The promises, by the part of the mesh that keeps them.

mod access;
mod balance;
mod carriage;
mod changes;
mod connections;
mod controller;
mod cors;
mod differential;
mod failure;
mod faults;
mod fidelity;
mod floods;
mod grants;
mod h2spec;
mod hostile;
mod http;
mod load;
mod observe;
mod probes;
mod requests_seen;
mod resets;
mod retries;
mod rotation;
mod seeing;
mod services;
mod sessions;
mod upgrade;
mod upheaval;
mod x_backends;

use crate::scene::Promise;

/// All of them.
pub fn all() -> Vec<Promise> {
    [
        carriage::promises(),
        access::promises(),
        changes::promises(),
        failure::promises(),
        probes::promises(),
        observe::promises(),
        faults::promises(),
        upgrade::promises(),
        controller::promises(),
        hostile::promises(),
        http::promises(),
        cors::promises(),
        connections::promises(),
        grants::promises(),
        differential::promises(),
        h2spec::promises(),
        fidelity::promises(),
        floods::promises(),
        resets::promises(),
        retries::promises(),
        rotation::promises(),
        balance::promises(),
        upheaval::promises(),
        seeing::promises(),
        services::promises(),
        sessions::promises(),
        x_backends::promises(),
        requests_seen::promises(),
        load::promises(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
