//! `cargo xtask prove NAME`: one proof in full. Its short form runs in its tier on every `test`.
//!
//! The proofs are the tiers' own: a tier's program lists them with `--proofs` (one line each: the
//! name, a tab, what it proves) and runs one with `--full NAME`, closing with `N passed, N failed`.

use anyhow::{Context, Result, bail};

use super::test::{self, Tier};
use super::{run, table};

/// The tiers that have proofs.
const TIERS: [Tier; 3] = [Tier::Netns, Tier::Control, Tier::Cluster];

/// Runs the named proof in full, or lists the proofs when none is named. Of the tiers, only those are prepared that have to
/// be asked.
pub fn run(name: Option<&str>) -> Result<()> {
    let mut proofs = Vec::new();
    for tier in TIERS {
        test::prepare_prover(tier)?;
        let own = listed(tier)?;
        if let Some(name) = name.filter(|name| own.iter().any(|proof| proof.name == *name)) {
            return test::run_proof(tier, name);
        }
        proofs.extend(own);
    }
    if let Some(name) = name {
        bail!("there is no proof named {name}; `cargo xtask prove` lists them");
    }
    let rows: Vec<_> = proofs.into_iter().map(Proof::row).collect();
    println!("{}", table::layout(["proof", "tier", "what it proves"], &rows));
    Ok(())
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
    let printed = run::captured(test::prover(tier)?.arg("--proofs"))
        .with_context(|| format!("the {} tier does not list its proofs", tier.name()))?;
    let proofs = printed.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let (name, claim) = line.split_once('\t').unwrap_or((line, ""));
        Proof { name: name.trim().to_owned(), tier, claim: claim.trim().to_owned() }
    });
    Ok(proofs.collect())
}
