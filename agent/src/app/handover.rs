//! Waits for the agent's end, and serves a successor that asks for the listeners.

use anyhow::Context as _;
use tokio::net::UnixListener;

use crate::config::Settings;
use crate::node::keeper::Keeper;
use crate::upgrade;

use super::signals::{Ending, Signals};

/// Returns when this agent is to end. A hand-over that fails changes nothing.
pub async fn until_the_end(settings: &Settings, keeper: &Keeper, signals: &mut Signals) -> anyhow::Result<Ending> {
    let listener = listen(settings).context("the hand-over socket cannot be opened")?;
    loop {
        let successor = tokio::select! {
            ending = signals.stop() => return Ok(ending),
            accepted = listener.accept() => accepted,
        };
        let given = match successor {
            Ok((stream, _)) => match stream.into_std() {
                Ok(stream) => keeper.give(stream).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match given {
            Ok(()) => return Ok(Ending::HandedOver),
            Err(error) => tracing::warn!(%error, "a successor did not take over; this agent goes on"),
        }
    }
}

/// Takes the place of a predecessor's socket at once, so that there is always one to connect to.
fn listen(settings: &Settings) -> std::io::Result<UnixListener> {
    let path = upgrade::socket_path(&settings.run_dir);
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::rename(fresh, path)?;
    Ok(listener)
}
