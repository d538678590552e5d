//! `cargo xtask demo`: a two-node mesh on this machine, told in scenes.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use super::{build, run, setup, step, workspace};

/// The package and the program that plays the scenes.
const DEMO: &str = "weft-demo";

#[derive(Args)]
pub struct Arguments {
    /// Leave the mesh running after the last scene, with commands to play with.
    #[arg(long)]
    keep: bool,
}

/// Sets up, builds, and plays the scenes.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the demo")?;
    setup::ensure(&[setup::Part::Demo])?;
    build::for_packages(&[DEMO])?;
    step::loud("demo", || {
        let mut demo = Command::new(workspace::program(DEMO));
        demo.current_dir(workspace::root());
        if arguments.keep {
            demo.arg("--keep");
        }
        run::visibly(&mut demo)
    })
}
