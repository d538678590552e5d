//! The controller's command line.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weft_controller::config::{Command, Config, CreateToken, LogFormat, Serve, Token};
use weft_controller::token::Tokens;
use weft_controller::{app, limits, state};

/// Whatever all agents bring at once is given back: the C library's keeps it as holes among what lives.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    let outcome = log(&config).and_then(|()| match config.command {
        Command::Serve(serve) => run(serve),
        Command::Token(Token::Create(create)) => create_token(&create),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// To standard error: standard output belongs to what a command prints.
fn log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("--log {:?} is not a filter", config.log))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// As many descriptors as we may have: each connection is one, and the soft limit is usually 1,024.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the limit of open files")
}

fn run(config: Serve) -> anyhow::Result<()> {
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!("{error:#}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // A thread that is stuck in a translation or on a disk must not keep the process.
    runtime.shutdown_timeout(limits::SHUTDOWN_DEADLINE);
    outcome
}

async fn serve(config: Serve) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    let serving = app::run(config, listener, stop);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    signalled.cancel();
    serving.await
}

#[expect(clippy::print_stdout, reason = "the token is what the command is for")]
fn create_token(create: &CreateToken) -> anyhow::Result<()> {
    state::create_folder(&create.state_dir)?;
    let life = Duration::from_secs(create.valid_for);
    let token = Tokens::of(&create.state_dir).create(&create.node, life, OffsetDateTime::now_utc())?;
    println!("{token}");
    Ok(())
}
