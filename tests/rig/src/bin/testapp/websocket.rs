//! A WebSocket echo and its client: one thread per connection, there are few.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use tungstenite::Message;

use crate::{everywhere, print};

/// Sends a message every beat and expects it back.
#[derive(Args)]
pub struct Talk {
    /// A ws:// address.
    #[arg(long)]
    to: String,
    /// What is said.
    #[arg(long, default_value = "tick")]
    message: String,
    /// For how long.
    #[arg(long)]
    seconds: u64,
    /// Milliseconds between two messages.
    #[arg(long, default_value_t = 200)]
    beat: u64,
}

pub fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(everywhere(port))?;
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that leaves ends its own thread and nothing else.
        std::thread::spawn(move || -> Result<()> {
            let client = stream.peer_addr()?.ip().to_canonical();
            let mut socket = tungstenite::accept(stream).map_err(|error| anyhow::anyhow!("{error}"))?;
            print(&json!({"event": "accepted", "client": client}));
            loop {
                let message = socket.read()?;
                if message.is_text() || message.is_binary() {
                    socket.send(message)?;
                }
            }
        });
    }
    Ok(())
}

pub fn talk(plan: &Talk) -> Result<()> {
    let (mut socket, _) = tungstenite::connect(&plan.to).context("no WebSocket")?;
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    let mut echoes = 0_u64;
    while Instant::now() < end {
        socket.send(Message::text(plan.message.as_str()))?;
        let answer = socket.read().with_context(|| format!("after {echoes} echoes"))?;
        ensure!(answer.to_text()? == plan.message, "an echo came back changed");
        echoes += 1;
        print(&json!({"event": "beat", "echoes": echoes}));
        std::thread::sleep(Duration::from_millis(plan.beat));
    }
    socket.close(None).ok();
    print(&json!({"event": "done", "echoes": echoes}));
    Ok(())
}
