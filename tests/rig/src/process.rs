//! A process that was started: looked at, signalled, and ended with its owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Pid;
pub use rustix::process::Signal;

use crate::wait;

/// Lines of output that a failure shows.
const TAIL: usize = 30;

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    pub(crate) fn new(child: Child, line: String, log: PathBuf) -> Self {
        Self { child, line, log }
    }

    /// Its number inside the sandbox.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command as a person would type it.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The file that holds what it printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines it has printed, for failures.
    #[must_use]
    pub fn tail(&self) -> String {
        tail_of(&self.output(), TAIL)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails, with the last lines of output, if the process is no longer there.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("`{}` ended with {status}; it last said:\n{}", self.line, self.tail())),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal `{}`", self.line))
    }

    /// Waits until `text` is in its output; fails early if the process ends first.
    pub fn await_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("`{}` to print {text:?}", self.line);
        wait::until(&what, limit, || {
            if self.output().contains(text) {
                return Ok(());
            }
            bail!("it last said:\n{}", self.tail())
        })
    }

    /// Waits for its end and returns the exit status and the output.
    pub fn finish(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let what = format!("`{}` to end", self.line);
        let status = wait::until(&what, limit, || {
            let ended = self.child.try_wait()?;
            ended.ok_or_else(|| anyhow!("it still runs; it last said:\n{}", self.tail()))
        })?;
        Ok((status, self.output()))
    }

    /// Asks it to end, and waits for it.
    pub fn stop(self, limit: Duration) -> Result<(ExitStatus, String)> {
        self.signal(Signal::TERM)?;
        self.finish(limit)
    }

    /// Ends it at once, with everything in its process group.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last `lines` lines of `text`.
#[must_use]
pub fn tail_of(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
