//! What ends an agent.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Told to stop.
    Signal,
    /// A successor serves with the same listeners.
    HandedOver,
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a wish to stop.
    pub async fn stop(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        Ending::Signal
    }
}
