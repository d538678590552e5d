//! `cargo xtask cluster up | down | kubectl | kubeconfig | load | node | restart | reboot`: a real Kubernetes with two nodes on this machine.
//!
//! etcd, the control plane, containerd, the kubelet and kube-proxy are the real ones, each part in namespaces of its own;
//! nothing is downloaded but Go modules, when they are built. `up` is complete or says why it is not; `down` leaves
//! nothing, whatever happened before. Absent: IPv6, load balancers, volumes, a way out of the cluster.

mod borrowed;
mod cache;
mod cgroups;
mod control_plane;
mod definitions;
mod launch;
mod lock;
mod module;
mod network;
mod node;
mod options;
mod place;
mod programs;
mod reboot;
mod removal;
mod up;
mod wait;

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};

use self::control_plane::Part;
use self::network::{NODES, Node};
use self::place::{Name, Place};
use super::{run, setup, step};

pub use self::borrowed::Borrowed;
pub use self::cache::{appear, cached};
pub use self::definitions::{GATEWAY_API, GATEWAY_API_EXPERIMENTS, PROMETHEUS_OPERATOR};
pub use self::module::{BUILD, Call, Module, STRIPPED, TEST, fetched};
pub use self::options::Choice;
pub use self::programs::kubernetes;

/// Builds and fetches what clusters are made of. Prints nothing when everything is there.
pub fn ensure_programs() -> Result<()> {
    programs::ensure()?;
    definitions::ensure()
}

#[derive(Args)]
pub struct Arguments {
    /// The cluster's name: several run side by side, and do not see each other.
    #[arg(long, global = true, default_value = "weft")]
    name: Name,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the cluster, and wait until its nodes and its DNS are ready.
    Up(Choice),
    /// End the cluster, and remove everything of it.
    Down {
        /// Wait until nobody holds the other end of the standard input any more.
        #[arg(long, hide = true)]
        after_input: bool,
    },
    /// Run kubectl as the cluster's administrator.
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the path of the administrator's kubeconfig. The API server answers in the control plane's network alone.
    Kubeconfig,
    /// Put an image into both nodes.
    Load {
        /// An OCI or Docker archive.
        image: PathBuf,
    },
    /// End a program of the control plane and start it again, as an upgrade does.
    Restart { part: Part },
    /// End a node at once and start it again: what it has not on its disk is lost.
    Reboot {
        /// node1 or node2.
        node: String,
    },
    /// Run a command inside a node, or inside the control plane's network.
    Node {
        /// node1, node2 or control-plane.
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// Does what was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("a cluster")?;
    let place = Place::of(arguments.name.clone())?;
    match &arguments.command {
        Command::Up(choice) => up::up(&place, *choice),
        Command::Down { after_input } => {
            if *after_input {
                // An error means the same as the end: nobody is at the other side.
                std::io::stdin().read_to_end(&mut Vec::new()).ok();
            }
            run::watchfully(|| down(&place))
        }
        Command::Kubectl { arguments } => {
            become_program(&mut launch::beside(&place, running(&place)?.kubectl().args(arguments)))
        }
        Command::Kubeconfig => {
            println!("{}", running(&place)?.kubeconfig().display());
            Ok(())
        }
        Command::Load { image } => load(running(&place)?, image),
        Command::Restart { part } => {
            let _lock = running(&place)?.lock()?;
            control_plane::restart(&place, *part)
        }
        Command::Reboot { node } => {
            let _lock = running(&place)?.lock()?;
            reboot::reboot(&place, named(node)?)
        }
        Command::Node { node, command } => become_program(&mut inside(running(&place)?, node, command)?),
    }
}

/// Ends the cluster and removes everything of it.
fn down(place: &Place) -> Result<()> {
    if !removal::is_needed(place)? {
        println!("there is no cluster {}", place.name);
        return Ok(());
    }
    let started = Instant::now();
    let _lock = place.lock()?;
    removal::remove(place)?;
    println!("the cluster {} is gone ({})", place.name, step::seconds(started.elapsed()));
    Ok(())
}

fn load(place: &Place, image: &Path) -> Result<()> {
    for node in NODES {
        let archive = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
        let words = ["ctr", "images", "import", "-"].map(str::to_owned);
        step::quiet(&format!("load {} into {}", image.display(), node.name()), || {
            let mut import = node::command(place, node, &words)?;
            run::fed(&mut import, archive)
        })?;
    }
    Ok(())
}

fn inside(place: &Place, node: &str, words: &[String]) -> Result<Process> {
    if node == launch::CONTROL_PLANE {
        let (program, arguments) = words.split_first().context("name a command")?;
        let mut command = place.in_control_plane(program);
        command.args(arguments);
        return Ok(launch::beside(place, &command));
    }
    let node = named(node)?;
    node::command(place, node, words)
}

fn named(name: &str) -> Result<Node> {
    let names = || NODES.map(Node::name).join(", ");
    NODES.into_iter().find(|node| node.name() == name).with_context(|| format!("there is no {name}: {}", names()))
}

fn running(place: &Place) -> Result<&Place> {
    ensure!(
        place.options().is_some(),
        "there is no complete cluster {}; `cargo xtask cluster up` starts it",
        place.name
    );
    Ok(place)
}

/// The program gets everything that is ours: the terminal, the standard streams, and the exit status.
fn become_program(command: &mut Process) -> Result<()> {
    let error = command.exec();
    bail!("cannot run `{}`: {error}", run::line(command))
}
