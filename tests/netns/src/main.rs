//! The netns tier: whole nodes with real agents, controller and applications, one test per promise.
//!
//! Every test runs in a process and a sandbox of its own ([`weft_rig::tier`]).

mod cast;
mod promises;
mod rig;
mod scene;

use std::process::ExitCode;

use anyhow::anyhow;
use weft_rig::tier;

use scene::Scene;

fn main() -> ExitCode {
    let promises = [rig::promises(), promises::all()].concat();
    tier::main(&promises, |promise, sandbox, scale| {
        let scene = Scene::new(sandbox, scale);
        (promise.run)(&scene).map_err(|error| anyhow!("{error:#}\n{}", scene.sandbox.last_words()))
    })
}
