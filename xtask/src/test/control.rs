//! The control tier: every test starts an etcd and an API server of its own, from the programs that clusters are made of.

use std::process::Command;

use anyhow::Result;

use super::{Outcome, TIER_LIMIT, Tier, count};
use crate::{build, cluster, setup, workspace};

pub fn run(name: Option<&str>) -> Outcome {
    match prepare() {
        Ok(()) => Outcome::of(Tier::Control.name(), || count(program()?.args(name), Some(TIER_LIMIT))),
        Err(error) => Outcome::unprepared(Tier::Control.name(), &error),
    }
}

pub fn prepare() -> Result<()> {
    setup::require_root("the control tier")?;
    setup::ensure(&[setup::Part::Bpf, setup::Part::Cluster])?;
    build::for_packages(&Tier::PROGRAMS)
}

/// The tier's program, told where the programs of clusters are.
pub fn program() -> Result<Command> {
    let mut program = Command::new(workspace::program(Tier::Control.program()));
    program.env("WEFT_KUBE", cluster::kubernetes()?).env("WEFT_GATEWAY_API", cluster::GATEWAY_API.place()?);
    program.env("WEFT_GATEWAY_API_EXPERIMENTS", cluster::GATEWAY_API_EXPERIMENTS.place()?);
    Ok(program)
}
