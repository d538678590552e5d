//! What a test is given, and what describes it.

use anyhow::Result;
use weft_rig::tier::{self, Scale};
use weft_rig::{Binaries, Sandbox};

/// A test.
pub type Promise = tier::Promise<fn(&Scene) -> Result<()>>;

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
