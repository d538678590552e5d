//! The command line. The only reader of flags and the environment.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::Outcome;

/// Shows what the mesh does and why.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// When to use colours; `NO_COLOR` turns them off too.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
    /// The run directory of an agent, or a directory of such; repeatable.
    #[arg(
        long = "run-dir",
        value_name = "DIR",
        global = true,
        env = "WEFT_RUN_DIR",
        value_delimiter = ':',
        default_value = RUN_DIRECTORY
    )]
    pub run_directories: Vec<PathBuf>,
    /// The controller's admin socket, where it runs on this machine.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_CONTROLLER_SOCKET")]
    pub controller_socket: Option<PathBuf>,
}

/// Where agents run unless somebody says otherwise.
const RUN_DIRECTORY: &str = "/run/weft";

const AFTER_HELP: &str = "Exit codes: 0 all is well, 1 a problem was found, 2 the command itself is wrong.

Examples:
  weft status                         agents, pods and their state
  weft why shop/client web.shop:80    why this is refused or not captured
  weft why 00c0ffee00c0ffee           both agents' story of one request or connection
  weft top                            the routes now: rate, success, times, retries
  weft tap --failed                   requests that fail, as they end
  weft check                          what is wrong here, or in the cluster, with cause and fix
  weft check --strict shop            who would be refused if shop took mTLS alone
  weft why shop/client web.shop:80 -o json | jq -r .cause";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows agents, pods, certificates and what the controller says.
    Status,
    /// Tells why a connection or a request was, or would be, refused, cut or not captured.
    Why(WhyArguments),
    /// Shows the requests of each route's rule and backend: rate, success, times, retries.
    Top(TopArguments),
    /// Shows requests live, as they end.
    Tap(TapArguments),
    /// Shows the configuration that agents decide on.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Looks for everything that is wrong, on this machine or in a Kubernetes cluster, with cause and fix.
    Check(CheckArguments),
    /// Prints one answer of an admin socket: what `weft check` runs inside the pods of a cluster.
    #[command(hide = true)]
    Ask(AskArguments),
    /// Prints, or applies, the objects of Weft for a Kubernetes cluster: the same that the Helm charts have.
    Install(InstallArguments),
    /// Brings an installed Weft to this version: its kinds, then the controller, then the agents.
    Upgrade(Installation),
    /// Takes Weft off the cluster: pods leave the mesh, nodes are cleaned, objects are deleted. Policies stay.
    Uninstall(UninstallArguments),
    /// Prints a completion script, as in: `weft completion bash > /etc/bash_completion.d/weft`
    Completion { shell: Shell },
}

#[derive(Debug, Args)]
#[command(after_help = INSTALL_HELP)]
pub struct InstallArguments {
    #[command(flatten)]
    pub installation: Installation,
    /// Print the definitions of Weft's kinds instead, which must be there first.
    #[arg(long)]
    pub crds: bool,
    /// Apply everything with kubectl, in order, and wait until it runs.
    #[arg(long, conflicts_with = "crds")]
    pub apply: bool,
}

const INSTALL_HELP: &str = "Without --apply nothing is changed, and no cluster is asked.

Examples:
  weft install --apply --set 'meshConfig.networks.pods={10.244.0.0/16}'
  weft install --crds | kubectl apply --server-side -f -
  weft install --values mesh.yaml | kubectl apply --server-side -f -";

/// What is installed, where.
#[derive(Debug, Args)]
pub struct Installation {
    #[arg(short, long, default_value = "weft-system")]
    pub namespace: String,
    /// A file with values of the chart; repeatable, the later one is over the earlier.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub values: Vec<PathBuf>,
    /// A value of the chart, as in `controller.replicas=3`; repeatable, and over all files.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// kubectl's context; without it the current one.
    #[arg(long)]
    pub context: Option<String>,
}

#[derive(Debug, Args)]
pub struct UninstallArguments {
    /// As it was installed.
    #[command(flatten)]
    pub installation: Installation,
    /// Delete Weft's kinds too, and with them everybody's policies. What there is of them is printed first.
    #[arg(long)]
    pub delete_policies: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints the snapshot of each agent.
    Dump(DumpArguments),
}

#[derive(Debug, Args)]
#[command(after_help = WHY_HELP)]
pub struct WhyArguments {
    /// The source (NAMESPACE/POD, NAMESPACE/APPLICATION or an address), or the id of a request or a connection.
    #[arg(value_name = "SOURCE|ID")]
    pub subject: String,
    /// The destination, with a port: a service, a pod or an address.
    pub destination: Option<String>,
    /// The destination's port, where it is not part of the destination.
    #[arg(long)]
    pub port: Option<u16>,
    /// Ask about a request of this method; GET where another word of the request is there.
    #[arg(long, requires = "destination")]
    pub method: Option<String>,
    /// Ask about a request for this path, perhaps with a query.
    #[arg(long, requires = "destination")]
    pub path: Option<String>,
    /// The Host of the request; the destination's name where it is not said.
    #[arg(long, requires = "destination")]
    pub host: Option<String>,
    /// A header of the request; repeatable.
    #[arg(long, value_name = "NAME: VALUE", requires = "destination")]
    pub header: Vec<String>,
}

const WHY_HELP: &str = "The id of a request is in the header weft-request-id of its answer, and in the access log.

Examples:
  weft why shop/client web.shop:80       a service, as applications call it
  weft why shop/client web.shop:80 --path /cart --method DELETE
                                         which rule takes this request, and may it be asked for?
  weft why shop/client shop/web-1:8080   a pod
  weft why 10.1.0.5 10.96.0.10:80        addresses
  weft why 00c0ffee00c0ffee              one request, or one connection";

#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub struct TopArguments {
    /// Only requests to this Service (NAMESPACE/NAME), or to the Services of this namespace.
    pub service: Option<String>,
    /// Seconds between two readings.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Print one table and end.
    #[arg(long)]
    pub once: bool,
}

const TOP_HELP: &str = "Requests are counted where they are sent, so that each is counted once. SUCCESS is the share that was answered, and
not with an error of a server (5xx, or gRPC INTERNAL, UNAVAILABLE, DATA_LOSS). P50 and P99 are of the time to the first byte,
as exact as the histogram's steps. Without a terminal, plain tables follow one another.

Examples:
  weft top                      every route, refreshed in place; q ends it
  weft top shop/web             both versions of a canary, side by side
  weft top --once -o json | jq '.rows[] | [.backend, .success_percent]'";

#[derive(Debug, Args)]
#[command(after_help = TAP_HELP)]
pub struct TapArguments {
    /// Only from here: NAMESPACE/POD, NAMESPACE/APPLICATION or an address.
    #[arg(long)]
    pub source: Option<String>,
    /// Only to there: the same, or a service (the one that was asked for, or a route's backend).
    #[arg(long)]
    pub destination: Option<String>,
    #[arg(long)]
    pub method: Option<String>,
    /// What the path begins with.
    #[arg(long)]
    pub path: Option<String>,
    /// `503`, or a class as `5xx`.
    #[arg(long)]
    pub status: Option<String>,
    /// Only those that nobody answered, or that met an error of a server.
    #[arg(long)]
    pub failed: bool,
    /// One of so many, as `1/100`; the same ones on both sides.
    #[arg(long, value_parser = sample)]
    pub sample: Option<u64>,
    /// At most so many a second of each agent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// End after so many.
    #[arg(long)]
    pub count: Option<u64>,
    /// Whose records to show: the source's agent knows routes and retries, the destination's what was judged.
    #[arg(long, value_enum, default_value_t = TapSide::Source)]
    pub side: TapSide,
}

const TAP_HELP: &str = "What a slow reader or the rate leaves out is counted and told; traffic never waits for it.

Examples:
  weft tap --destination shop/web --status 5xx
  weft tap --source shop/client --path /cart --sample 1/100
  weft tap --failed -o json | jq -r .request";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TapSide {
    Source,
    Destination,
    Both,
}

/// `1/100`, or `100`.
fn sample(text: &str) -> Result<u64, String> {
    let count = text.strip_prefix("1/").unwrap_or(text).parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "say 1/100 for one of a hundred".to_owned())
}

#[derive(Debug, Args)]
pub struct DumpArguments {
    /// Only this node's agent.
    #[arg(long)]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArguments {
    /// Only what is wrong.
    #[arg(long, short)]
    pub quiet: bool,
    /// Say instead who would be refused if this namespace took mTLS alone, from what its agents have seen.
    #[arg(long, value_name = "NAMESPACE")]
    pub strict: Option<String>,
    /// Look at the Kubernetes cluster of kubectl's context, also where agents run on this machine.
    #[arg(long, conflicts_with = "here")]
    pub cluster: bool,
    /// Look at this machine, also where no agent runs on it.
    #[arg(long)]
    pub here: bool,
    /// kubectl's context, for --cluster; without it the current one.
    #[arg(long, conflicts_with = "here")]
    pub context: Option<String>,
    /// Where Weft is in the cluster, or is to be.
    #[arg(short, long, default_value = "weft-system")]
    pub namespace: String,
}

const CHECK_HELP: &str = "Where agents run on this machine, or --run-dir or --controller-socket is said, it looks at them; elsewhere at the cluster
of kubectl's current context, before Weft is installed and after. The first line says which.

Examples:
  weft check                                     what is wrong here
  weft check --context prod --quiet              only what is wrong in that cluster
  weft check --strict shop                       label shop weft.dev/capture=observe some time before
  weft check --strict shop -o json | jq -r '.refused[] | [.workload // .address, .pod, .port, .why] | @tsv'";

#[derive(Debug, Args)]
pub struct AskArguments {
    /// As `/status`.
    pub path: String,
    /// `NAME=VALUE` of the question; repeatable.
    pub parameters: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Arguments {
    pub fn read() -> Self {
        Self::parse()
    }

    /// Whether somebody has said where agents run.
    pub fn names_directories(&self) -> bool {
        self.run_directories != [PathBuf::from(RUN_DIRECTORY)]
    }

    pub fn colour(&self) -> bool {
        match self.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !unwanted && io::stdout().is_terminal()
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a command like the others")]
pub fn completion(shell: Shell) -> anyhow::Result<Outcome> {
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut io::stdout());
    Ok(Outcome::Fine)
}
