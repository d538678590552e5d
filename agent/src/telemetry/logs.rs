//! The agent's own log: for people (coloured on a terminal) or as JSON for machines.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::TryInitError;

use crate::config::LogFormat;

/// A log filter that cannot be read, or a second start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("the log was started twice: {0}")]
    Started(#[from] TryInitError),
}

/// Starts logging to stderr; the access log alone may use stdout.
///
/// `filter` is in the syntax of `tracing` (`info`, `weft_agent::identity=debug,info`).
///
/// # Errors
/// The filter cannot be read, or logging was already started.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?);
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()?,
        LogFormat::Text => {
            let text = fmt::layer().compact().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
            registry.with(text).try_init()?;
        }
    }
    Ok(())
}
