//! `cargo xtask prove NAME`: one proof in full. Its short form runs in its tier on every `test`.
//!
//! The proofs are the tiers' own: a tier's program lists them with `--proofs` (one line each: the
//! name, a tab, what it proves) and runs one with `--full NAME`, closing with `N passed, N failed`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::test::{self, Tier};
use super::{build, run, setup, table, workspace};

/// The tiers that have proofs.
const TIERS: [Tier; 1] = [Tier::Netns];

/// Runs the named proof in full, or lists the proofs when none is named.
pub fn run(name: Option<&str>) -> Result<()> {
    setup::ensure(&[setup::Part::Demo])?;
    build::for_packages_and_next_agent(&Tier::PROGRAMS)?;
    let mut proofs = Vec::new();
    for tier in TIERS {
        proofs.extend(listed(tier)?);
    }
    let Some(name) = name else {
        let rows: Vec<_> = proofs.into_iter().map(Proof::row).collect();
        println!("{}", table::layout(["proof", "tier", "what it proves"], &rows));
        return Ok(());
    };
    let Some(proof) = proofs.into_iter().find(|proof| proof.name == name) else {
        bail!("there is no proof named {name}; `cargo xtask prove` lists them");
    };
    test::run_proof(proof.tier, name)
}

struct Proof {
    name: String,
    tier: Tier,
    claim: String,
}

impl Proof {
    fn row(self) -> [String; 3] {
        [self.name, self.tier.name().to_owned(), self.claim]
    }
}

fn listed(tier: Tier) -> Result<Vec<Proof>> {
    let mut program = Command::new(workspace::program(tier.program()));
    let printed = run::captured(program.arg("--proofs"))
        .with_context(|| format!("the {} tier does not list its proofs", tier.name()))?;
    let proofs = printed.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let (name, claim) = line.split_once('\t').unwrap_or((line, ""));
        Proof { name: name.trim().to_owned(), tier, claim: claim.trim().to_owned() }
    });
    Ok(proofs.collect())
}
