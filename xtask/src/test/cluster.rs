//! The cluster tier: a cluster of the tier's own comes up, the tests run in it, and it goes whatever happened.

use std::process::Command;

use anyhow::{Result, bail};

use super::counts::Counts;
use super::{Outcome, TIER_LIMIT, Tier, count};
use crate::cluster::{self, Borrowed, Choice};
use crate::{build, images, setup, workspace};

/// Runs the tier's program with these words, in a cluster with the tier's options.
pub fn run(tier: Tier, words: &[&str]) -> Outcome {
    match prepare() {
        Ok(()) => Outcome::of(tier.name(), || in_cluster(tier, words)),
        Err(error) => Outcome::unprepared(tier.name(), &error),
    }
}

/// Installs and builds what it takes, without a cluster.
pub fn prepare() -> Result<()> {
    setup::require_root("the cluster tier")?;
    setup::ensure(&[setup::Part::Bpf, setup::Part::Cluster])?;
    build::for_packages_and_next_agent(&Tier::PROGRAMS)
}

fn in_cluster(tier: Tier, words: &[&str]) -> Result<Counts> {
    let choice = if tier == Tier::ClusterV2 { Choice::OTHER } else { Choice::USUAL };
    let cluster = Borrowed::up(tier.name(), choice)?;
    // Where nobody else packs: another run of the tier waits for the cluster.
    let images = std::env::join_paths(images::of_tests()?.into_iter().chain(images::of_next()?))?;
    let mut program: Command = cluster.command(&workspace::program(tier.program()))?;
    program.env("WEFT_IMAGES", images).env("WEFT_GATEWAY_API", cluster::GATEWAY_API.place()?);
    program.env("WEFT_GATEWAY_API_EXPERIMENTS", cluster::GATEWAY_API_EXPERIMENTS.place()?);
    program.env("WEFT_PROMETHEUS_OPERATOR", cluster::PROMETHEUS_OPERATOR.place()?);
    let counts = count(program.args(words), Some(TIER_LIMIT));
    if !counts.as_ref().is_ok_and(|counts| counts.objection().is_none()) {
        println!("{}", cluster.last_words());
    }
    and_gone(counts, cluster.down())
}

/// A tier whose cluster stays has failed, whatever its tests say.
fn and_gone(counts: Result<Counts>, gone: Result<()>) -> Result<Counts> {
    match (counts, gone) {
        (counts, Ok(())) => counts,
        (Ok(counts), Err(left)) => bail!("{} passed, {} failed, and {left:#}", counts.passed, counts.failed),
        (Err(error), Err(left)) => bail!("{error:#}, and {left:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use anyhow::anyhow;

    #[test]
    fn a_cluster_that_stays_fails_the_tier() {
        let passed = Counts { passed: 9, failed: 0, ignored: 0 };
        let check = |counts: Result<Counts>, gone: Result<()>, expected: Result<Counts, &str>| {
            let told = and_gone(counts, gone).map_err(|error| format!("{error:#}"));
            assert_eq!(told, expected.map_err(str::to_owned));
        };
        check(Ok(passed), Ok(()), Ok(passed));
        check(Err(anyhow!("no program")), Ok(()), Err("no program"));
        check(Ok(passed), Err(anyhow!("it stays")), Err("9 passed, 0 failed, and it stays"));
        check(Err(anyhow!("no program")), Err(anyhow!("it stays")), Err("no program, and it stays"));
    }
}
