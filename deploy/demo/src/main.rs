//! A two-node mesh on one machine, told in scenes.
//!
//! Every scene shows the commands it ran and the lines that prove its claim; a claim without its
//! evidence fails the scene, and a failed scene fails the demo. Nodes are network namespaces, the
//! applications are the real ones, and all of it is gone when the program ends, however it ends.

mod cast;
mod play;
mod scenes;
mod screen;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use weft_rig::{Binaries, Isolation, sandbox};

use screen::Screen;
use stage::Stage;

#[derive(Parser)]
#[command(name = "weft-demo", about = "A two-node mesh on this machine, told in scenes")]
struct Arguments {
    /// Leave the mesh running after the last scene, with commands to play with.
    #[arg(long)]
    keep: bool,
    /// The folder with Weft's programs; without it the one of this program.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Play only the first N scenes.
    #[arg(long, value_name = "N", default_value_t = usize::MAX)]
    scenes: usize,
}

fn main() -> ExitCode {
    let screen = Screen::new();
    match play(&Arguments::parse(), &screen) {
        Ok(code) => code,
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments, screen: &Screen) -> Result<ExitCode> {
    let binaries = match &arguments.programs {
        Some(folder) => Binaries::in_folder(folder)?,
        None => Binaries::beside_this_program()?,
    };
    // Everything below runs inside; the outer process stays in this call.
    let sandbox = sandbox::enter(Isolation::Private)?;
    let start = Instant::now();
    let mut stage = Stage::build(&sandbox, &binaries, screen)?;
    let mut failed = Vec::new();
    for (number, scene) in scenes::ALL.iter().take(arguments.scenes).enumerate() {
        screen.scene(number + 1, scene.title);
        if let Err(error) = (scene.play)(&mut stage, screen) {
            screen.failure(&error);
            failed.push(number + 1);
        }
    }
    screen.end(&failed, start.elapsed());
    if arguments.keep {
        play::keep(&mut stage, &sandbox, screen)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
