//! Opens a connection to each of some addresses, again and again, and tells what came of each.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::{client, print};

#[derive(Args)]
pub struct Probe {
    /// Host and port of an echo.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Milliseconds between two rounds.
    #[arg(long, default_value_t = 50)]
    every: u64,
}

pub async fn probe(plan: &Probe) -> Result<Infallible> {
    let mut tick = interval(Duration::from_millis(plan.every));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for to in &plan.to {
            print(&json!({"to": to, "outcome": client::outcome(to).await}));
        }
    }
}
