//! Small real applications for tests and benchmark, used where curl, nginx and the like do not fit.
//!
//! Servers take connections until they are ended; clients print one line of JSON and exit with a
//! failure when anything went wrong. Clients never retry: what they count is what an application feels.

mod attack;
mod client;
mod frames;
mod hostile;
mod http;
mod probe;
mod raw;
mod requests;
mod server;
mod transfer;
mod websocket;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Small real applications for Weft's tests")]
struct Arguments {
    #[command(subcommand)]
    application: Application,
}

#[derive(Subcommand)]
enum Application {
    /// Sends back what it receives, with half-close.
    Echo {
        #[arg(long)]
        port: u16,
    },
    /// Answers HTTP of either version with what it saw.
    Http(http::Http),
    /// Sends bytes exactly as they are given and tells what came back.
    Raw(raw::Raw),
    /// Sends requests and tells who answered what.
    Requests(requests::Requests),
    /// Answers HTTP/1.1 with its own name and the client's address, as `accept()` and `getpeername()` give it.
    Identify {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        name: String,
    },
    /// Speaks first: sends a banner on accept, then works as an echo.
    Greet {
        #[arg(long)]
        port: u16,
        #[arg(long, default_value = "welcome")]
        banner: String,
    },
    /// Receives a transfer, sends the hash of it and as many bytes of its own.
    Sink {
        #[arg(long)]
        port: u16,
    },
    /// Accepts, reads one byte and resets.
    Reset {
        #[arg(long)]
        port: u16,
    },
    /// Reads to the end and then says how many bytes came.
    Tally {
        #[arg(long)]
        port: u16,
    },
    /// Says goodbye and closes its side at once, reads on, and prints how much came and how it ended.
    Farewell {
        #[arg(long)]
        port: u16,
    },
    /// Opens new connections at a fixed rate, whatever happens to the ones before.
    Connect(client::Connect),
    /// Opens connections one after the other and waits for the greeting of each.
    Greetings(client::Greetings),
    /// Opens connections and keeps them, with a beat on each.
    Hold(client::Hold),
    /// Sends and receives bytes with hashes both ways.
    Transfer(transfer::Transfer),
    /// One connection, one word each way; prints what came of it and succeeds either way.
    Attempt {
        #[arg(long)]
        to: String,
    },
    /// One connection to each address, one word each way, again and again; prints what came of each.
    Probe(probe::Probe),
    /// Sends half, closes its side, and reads the rest.
    HalfClose {
        #[arg(long)]
        to: String,
    },
    /// Closes its side without a word, and reads to the end of what the server says.
    EndFirst {
        #[arg(long)]
        to: String,
    },
    /// Reads to the end of what the server says, and only then sends all it has.
    SpeakLast {
        #[arg(long)]
        to: String,
    },
    /// Sends something, reads the first byte of an answer, and resets.
    Abort {
        #[arg(long)]
        to: String,
    },
    /// Means harm, and tells how it was stopped.
    Attack(attack::Attack),
    /// Ends, refuses or floods where others would answer.
    Hostile(hostile::Hostile),
    /// Says something by hand, and tells what was heard and how it ended.
    Say(hostile::Say),
    /// An echo over WebSocket.
    WebsocketServe {
        #[arg(long)]
        port: u16,
    },
    /// Sends a message every beat over one WebSocket and expects it back.
    WebsocketTalk(websocket::Talk),
}

#[expect(clippy::print_stderr, reason = "the output of this program")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(Arguments::parse().application))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(application: Application) -> Result<()> {
    match application {
        Application::Echo { port } => server::echo(port).await,
        Application::Http(plan) => http::serve(plan).await,
        Application::Raw(plan) => raw::send(&plan),
        Application::Requests(plan) => requests::send(plan).await,
        Application::Identify { port, name } => server::identify(port, &name).await,
        Application::Greet { port, banner } => server::greet(port, &banner).await,
        Application::Reset { port } => server::reset(port).await,
        Application::Tally { port } => server::tally(port).await,
        Application::Farewell { port } => server::farewell(port).await,
        Application::Sink { port } => transfer::serve(port).await,
        Application::Connect(connect) => client::connect(connect).await,
        Application::Greetings(greetings) => client::greetings(&greetings).await,
        Application::Hold(hold) => client::hold(hold).await,
        Application::Transfer(transfer) => transfer::run(transfer).await,
        Application::Attempt { to } => client::attempt(&to).await,
        Application::Probe(plan) => match probe::probe(&plan).await? {},
        Application::HalfClose { to } => client::half_close(&to).await,
        Application::EndFirst { to } => client::end_first(&to).await,
        Application::SpeakLast { to } => client::speak_last(&to).await,
        Application::Abort { to } => client::abort(&to).await,
        Application::Attack(plan) => attack::run(plan).await,
        Application::Hostile(plan) => hostile::serve(plan).await,
        Application::Say(plan) => hostile::say(plan).await,
        Application::WebsocketServe { port } => websocket::serve(port),
        Application::WebsocketTalk(talk) => websocket::talk(&talk),
    }
}

/// Every local address of both families.
fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from(([0_u16; 8], port))
}

/// The one line a client prints.
#[expect(clippy::print_stdout, reason = "the output of this program")]
fn print(report: &serde_json::Value) {
    println!("{report}");
}

/// The value below which `percent` of the sorted `samples` lie.
fn percentile(samples: &[Duration], percent: usize) -> Duration {
    samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
}
