//! The cluster tier: a cluster of the tier's own comes up, the tests run in it, and it goes whatever happened.

use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::counts::Counts;
use super::{Outcome, TIER_LIMIT, Tier, count};
use crate::cluster::{Borrowed, Name, Options};
use crate::{build, setup, workspace};

/// Runs the tier in a cluster with its options.
pub fn run(tier: Tier) -> Outcome {
    let prepared = setup::require_root("the cluster tier")
        .and_then(|()| setup::ensure(&[setup::Part::Cluster]))
        .and_then(|()| build::package_alone(tier.program()));
    match prepared {
        Ok(()) => Outcome::of(tier.name(), || in_cluster(tier)),
        Err(error) => Outcome::unprepared(tier.name(), &error),
    }
}

fn in_cluster(tier: Tier) -> Result<Counts> {
    let options = if tier == Tier::ClusterV2 { Options::OTHER } else { Options::USUAL };
    let cluster = Borrowed::up(name(tier)?, options)?;
    let mut program: Command = cluster.command(&workspace::program(tier.program()))?;
    let counts = count(&mut program, Some(TIER_LIMIT));
    if !counts.as_ref().is_ok_and(|counts| counts.objection().is_none()) {
        println!("{}", cluster.last_words());
    }
    counts
}

/// One for each copy of the repository and each tier, so that a run finds what its killed predecessor left, and nobody else's.
fn name(tier: Tier) -> Result<Name> {
    let hash = format!("{:x}", Sha256::digest(workspace::root().as_os_str().as_encoded_bytes()));
    format!("{}-{}", tier.name(), &hash[..8]).parse().context("the tier's cluster")
}
