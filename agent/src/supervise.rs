//! The agent's parent: starts it, watches its heartbeats, ends it when it hangs, starts it anew.
//!
//! It holds no descriptor of the agent's, so a dead agent's listeners are gone at once and the kernel's
//! failure mode decides; ending a stuck agent resets what waits in its backlogs.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant as Deadline, sleep, sleep_until};

use crate::bpf;
use crate::config::{self, Settings};
use crate::{limits, memory};

/// Runs until the agent ends in an orderly way (a signal to this process, or a successor took over).
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut pause = limits::RESTART_DELAY_FIRST;
    loop {
        let begun = Instant::now();
        let mut child = start().context("cannot start the agent")?;
        let pid = Pid::from_child(&child);
        tracing::info!(pid = child.id(), "agent started");
        let ended = tokio::select! {
            ended = watch(&mut child, settings) => ended?,
            _ = terminate.recv() => return stop(&mut child, pid).await,
            _ = interrupt.recv() => return stop(&mut child, pid).await,
        };
        if ended.success() {
            let stay = if settings.stay { limits::STAY_AFTER_HANDOVER } else { Duration::ZERO };
            tokio::select! {
                () = sleep(stay) => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return Ok(());
        }
        tracing::error!(status = %ended, "the agent ended; pods of this node follow their failure mode until it is back");
        if begun.elapsed() > limits::RESTART_DELAY_MAXIMUM {
            pause = limits::RESTART_DELAY_FIRST;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        pause = (pause * 2).min(limits::RESTART_DELAY_MAXIMUM);
    }
}

fn start() -> io::Result<Child> {
    let arguments = config::serve_arguments();
    let mut command = Command::new("/proc/self/exe");
    if let [name, rest @ ..] = arguments.as_slice() {
        command.arg0(name).args(rest);
    }
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made, no memory is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above.
            if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    command.spawn()
}

/// Waits for the agent's end, and brings it about when a worker has been silent for too long.
async fn watch(child: &mut Child, settings: &Settings) -> io::Result<ExitStatus> {
    let started = Instant::now();
    let workers = settings.worker_count();
    let mut settled = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // Older heartbeats than this agent are its predecessor's; higher numbers are those of one with more workers.
        let own = bpf::silences(&settings.kernel.pin_dir)
            .into_iter()
            .filter(|(worker, silence)| *worker < workers && *silence <= started.elapsed());
        let silent = own.map(|(_, silence)| silence).max().unwrap_or(Duration::ZERO);
        if silent > limits::SUPERVISOR_PATIENCE {
            tracing::error!(?silent, "a worker hangs; the agent is ended so that what waits for it is reset");
            child.kill()?;
        }
        if !settled && started.elapsed() > limits::QUIET_INTERVAL {
            memory::give_back_start();
            settled = true;
        }
        sleep(limits::SUPERVISOR_INTERVAL).await;
    }
}

/// Passes the wish to stop on, and gives the agent its time to drain.
async fn stop(child: &mut Child, pid: Pid) -> anyhow::Result<()> {
    // Failing means that it has ended already.
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Deadline::now() + limits::DRAIN + limits::CUT_TIMEOUT * 2;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        tokio::select! {
            () = sleep(limits::SUPERVISOR_INTERVAL) => {}
            () = sleep_until(deadline) => {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("the agent did not stop within its time and was ended");
            }
        }
    }
}
