//! `weft check`: everything that is wrong, with cause and fix: on this machine, or in a Kubernetes cluster.
//!
//! Where agents run here, it looks at them; elsewhere at the cluster of kubectl's context. Flags say otherwise.

mod agent;
mod cluster;
mod controller;
mod kernel;
mod list;
mod machine;
mod strict;

use crate::Outcome;
use crate::agents;
use crate::arguments::{Arguments, CheckArguments, Output};
use crate::kubectl;
use crate::paint::{Mood, Paint, print};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Machine,
    Cluster,
}

pub async fn run(arguments: &Arguments, options: &CheckArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let named = arguments.names_directories() || arguments.controller_socket.is_some();
    let here = || named || agents::are_in(&arguments.run_directories);
    let place = choose(options, here, kubectl::is_there);
    if arguments.output == Output::Table && !options.quiet {
        print(paint.text(Mood::Faint, introduce(place, arguments, options)))?;
    }
    let cluster = cluster::Cluster { context: options.context.as_deref(), namespace: &options.namespace };
    if let Some(namespace) = &options.strict {
        let answers = match place {
            Place::Machine => strict::of_machine(&agents::find(&arguments.run_directories).await, namespace).await,
            Place::Cluster => strict::of_cluster(cluster, namespace)?,
        };
        return strict::tell(namespace, answers, arguments.output, paint);
    }
    let checks = match place {
        Place::Machine => machine::look(arguments, &agents::find(&arguments.run_directories).await).await,
        Place::Cluster => cluster::look(cluster),
    };
    checks.tell(arguments.output, options.quiet, paint)
}

/// What flags say; else this machine, if it has anything to do with Weft or no kubectl.
fn choose(options: &CheckArguments, here: impl FnOnce() -> bool, kubectl: impl FnOnce() -> bool) -> Place {
    if options.here {
        Place::Machine
    } else if options.cluster || options.context.is_some() {
        Place::Cluster
    } else if here() || !kubectl() {
        Place::Machine
    } else {
        Place::Cluster
    }
}

fn introduce(place: Place, arguments: &Arguments, options: &CheckArguments) -> String {
    match (place, &options.context) {
        (Place::Machine, _) => {
            let directories: Vec<_> = arguments.run_directories.iter().map(|path| path.display().to_string()).collect();
            format!("This machine, by the agents in {} (--cluster: a Kubernetes cluster)", directories.join(", "))
        }
        (Place::Cluster, Some(context)) => format!("The cluster of kubectl's context {context}"),
        (Place::Cluster, None) => "The cluster of kubectl's current context (--here: this machine)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_then_agents_here_then_kubectl() {
        let options = |cluster, here, context: &str| CheckArguments {
            quiet: false,
            strict: None,
            cluster,
            here,
            context: Some(context.to_owned()).filter(|context| !context.is_empty()),
            namespace: "weft-system".to_owned(),
        };
        for (options, agents, kubectl, expected) in [
            (options(false, false, ""), true, true, Place::Machine),
            (options(false, false, ""), false, true, Place::Cluster),
            (options(false, false, ""), false, false, Place::Machine),
            (options(true, false, ""), true, true, Place::Cluster),
            (options(false, false, "prod"), true, true, Place::Cluster),
            (options(false, true, ""), false, true, Place::Machine),
        ] {
            assert_eq!(choose(&options, || agents, || kubectl), expected, "{options:?}");
        }
    }
}
