//! What a test is given, and what describes it.

use std::time::Duration;

use anyhow::Result;
use weft_rig::{Binaries, Sandbox};

/// How much of a proof is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// At most a minute, in every run of the tier.
    Short,
    /// The numbers of the work order.
    Full,
}

/// A test.
pub struct Promise {
    /// What it is called on the command line.
    pub name: &'static str,
    /// A test that takes longer hangs.
    pub limit: Duration,
    /// What its longer form proves, if it has one.
    pub proof: Option<&'static str>,
    /// The test itself.
    pub run: fn(&Scene) -> Result<()>,
}

impl Promise {
    /// A test of at most a minute.
    pub fn new(name: &'static str, run: fn(&Scene) -> Result<()>) -> Self {
        Self { name, limit: Duration::from_mins(1), proof: None, run }
    }

    /// The same, with a longer form that proves this.
    pub fn proves(self, claim: &'static str) -> Self {
        Self { proof: Some(claim), ..self }
    }
}

/// Where a test plays.
#[derive(Debug)]
pub struct Scene {
    /// The place of namespaces and folders.
    pub sandbox: Sandbox,
    /// Short or full.
    pub scale: Scale,
}

impl Scene {
    pub fn new(sandbox: Sandbox, scale: Scale) -> Self {
        Self { sandbox, scale }
    }

    /// A number worth quoting.
    #[expect(clippy::print_stdout, clippy::unused_self, reason = "what a proof prints is its result")]
    pub fn note(&self, text: &str) {
        println!("  {text}");
    }

    /// Weft's programs; an error names what is not built.
    #[expect(clippy::unused_self, reason = "a scene is where tests look for what they need")]
    pub fn binaries(&self) -> Result<Binaries> {
        Binaries::beside_this_program()
    }

    /// One of two values by the scale.
    pub fn pick<T>(&self, short: T, full: T) -> T {
        match self.scale {
            Scale::Short => short,
            Scale::Full => full,
        }
    }
}
