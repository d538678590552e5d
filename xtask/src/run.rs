//! Starting programs: a failure names the command line and shows the end of what it printed.
//!
//! Every program runs in a process group of its own, and what a person or a supervisor sends to xtask
//! (Ctrl-C, SIGTERM, a hang-up) is passed on to that group exactly once. xtask then waits for the
//! program's own clean-up, so nothing outlives it. One program runs at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::workspace;

/// How many lines of a failed program's output are worth showing.
const SHOWN_LINES: usize = 60;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED_STATUS: u8 = 130;

/// The process group of the program that runs now.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Whether somebody asked us to stop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the work that is being done looks at [`interrupted`] by itself, and ends in good order.
static WATCHFUL: AtomicBool = AtomicBool::new(false);

/// From here on a request to stop ends the running program first, and xtask after it.
pub fn pass_signals_on() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for number in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            let group = *running();
            let (Some(group), Some(signal)) = (group, Signal::from_named_raw(number)) else {
                if WATCHFUL.load(Ordering::SeqCst) {
                    continue;
                }
                std::process::exit(INTERRUPTED_STATUS.into());
            };
            // A group that ended in this moment needs nothing from us.
            let _ = kill_process_group(group, signal);
        }
    });
    Ok(())
}

/// Does work that leaves something behind if it is cut off: it looks at [`interrupted`] wherever it waits.
pub fn watchfully<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = WATCHFUL.swap(true, Ordering::SeqCst);
    let outcome = work();
    // Work may be part of other work that looks too.
    WATCHFUL.store(before, Ordering::SeqCst);
    outcome
}

/// Whether somebody asked us to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Fails once somebody has asked us to stop.
pub fn expect_uninterrupted() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// How xtask ends after an error.
pub fn failure_status() -> u8 {
    if interrupted() { INTERRUPTED_STATUS } else { 1 }
}

/// Cargo of the toolchain that rust-toolchain.toml names, at the root of the repository.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command
}

/// Runs a program that writes to the screen itself.
pub fn visibly(command: &mut Command) -> Result<()> {
    let status = finish(start(command)?, |_| Ok(()))?;
    succeeded(command, status)
}

/// Runs a program and returns what it wrote to its standard output.
pub fn captured(command: &mut Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command)?;
    let errors = child.stderr.take().map(|stream| std::thread::spawn(|| std::io::read_to_string(stream)));
    let mut printed = String::new();
    let status = finish(child, |child| {
        printed = child.stdout.take().map_or_else(|| Ok(String::new()), read_lossily)?;
        Ok(())
    })?;
    if !status.success() {
        let errors = errors.and_then(|thread| thread.join().ok()?.ok()).unwrap_or_default();
        bail!("`{}` ended with {status}\n{}", line(command), last_lines(&format!("{printed}{errors}")));
    }
    Ok(printed)
}

/// Runs a program that reads a file on its standard input; what it prints is shown only if it fails.
pub fn fed(command: &mut Command, input: File) -> Result<()> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut told = String::new();
    let status = finish(start_with(command, input.into())?, |child| {
        told = child.stderr.take().map_or_else(|| Ok(String::new()), read_lossily)?;
        Ok(())
    })?;
    if !status.success() {
        bail!("`{}` ended with {status}\n{}", line(command), last_lines(&told));
    }
    Ok(())
}

/// Runs a program whose standard output is for us, and whose errors and progress are for the screen.
pub fn piped(command: &mut Command) -> Result<String> {
    command.stdout(Stdio::piped());
    let mut printed = String::new();
    let status = finish(start(command)?, |child| {
        printed = child.stdout.take().map_or_else(|| Ok(String::new()), read_lossily)?;
        Ok(())
    })?;
    succeeded(command, status)?;
    Ok(printed)
}

/// Runs a program, shows every line that it prints and gives the line to `watch`. After `limit` the
/// program's group is killed.
pub fn watched(command: &mut Command, limit: Option<Duration>, mut watch: impl FnMut(&str)) -> Result<ExitStatus> {
    read(command, limit, |line| {
        println!("{line}");
        watch(line);
        Ok(())
    })
}

/// The same, and shows nothing: every line goes to `each`.
pub fn read(
    command: &mut Command,
    limit: Option<Duration>,
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<ExitStatus> {
    command.stdout(Stdio::piped());
    let child = start(command)?;
    let group = Pid::from_child(&child);
    let (ended, wait_for_end) = sync_channel::<()>(1);
    let killer = limit.map(|limit| {
        std::thread::spawn(move || {
            let late = wait_for_end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                // The group may have ended by itself in this moment.
                let _ = kill_process_group(group, Signal::KILL);
            }
            late
        })
    });
    let status = finish(child, |child| {
        let Some(output) = child.stdout.take() else {
            return Ok(());
        };
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
            each(&line)?;
        }
        Ok(())
    })?;
    drop(ended);
    let late = killer.and_then(|thread| thread.join().ok()).unwrap_or(false);
    if late && status.signal().is_some() {
        bail!("`{}` was ended after its time limit of {} s", line(command), limit.unwrap_or_default().as_secs());
    }
    Ok(status)
}

/// Runs a program that tells its progress in lines on its standard error; they go to `watch`, and a failure shows the last.
pub fn listened(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<()> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut told = VecDeque::new();
    let status = finish(start(command)?, |child| {
        let Some(errors) = child.stderr.take() else {
            return Ok(());
        };
        for line in BufReader::new(errors).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            watch(&line);
            told.push_back(line);
            if told.len() > SHOWN_LINES {
                told.pop_front();
            }
        }
        Ok(())
    })?;
    if !status.success() {
        bail!("`{}` ended with {status}\n{}", line(command), told.make_contiguous().join("\n"));
    }
    Ok(())
}

/// Fails unless the program succeeded.
pub fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

fn start(command: &mut Command) -> Result<Child> {
    start_with(command, Stdio::null())
}

fn start_with(command: &mut Command, input: Stdio) -> Result<Child> {
    // Held until the group is noted, so that a signal in between finds it.
    let mut running = running();
    // Whoever asked us to stop wants no other program instead of the one that ended.
    expect_uninterrupted()?;
    let child =
        command.stdin(input).process_group(0).spawn().with_context(|| format!("cannot start `{}`", line(command)))?;
    *running = Some(Pid::from_child(&child));
    Ok(child)
}

fn finish(mut child: Child, read: impl FnOnce(&mut Child) -> Result<()>) -> Result<ExitStatus> {
    let read = read(&mut child);
    let status = child.wait();
    *running() = None;
    expect_uninterrupted()?;
    read?;
    Ok(status?)
}

fn running() -> MutexGuard<'static, Option<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lossily(mut stream: impl std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let hidden = lines.len().saturating_sub(SHOWN_LINES);
    let heading = if hidden > 0 { format!("... {hidden} lines before\n") } else { String::new() };
    format!("{heading}{}", lines[hidden..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_watched_and_ended_after_its_limit() {
        let mut lines = Vec::new();
        let mut endless = Command::new("sh");
        endless.args(["-c", "echo one; echo two; exec sleep infinity"]);
        let outcome = watched(&mut endless, Some(Duration::from_millis(300)), |line| lines.push(line.to_owned()));
        assert!(format!("{:#}", outcome.unwrap_err()).contains("time limit"));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn work_within_watchful_work_leaves_it_watchful() {
        watchfully(|| {
            watchfully(|| Ok(()))?;
            assert!(WATCHFUL.load(Ordering::SeqCst), "the rest of the work would be cut off");
            Ok(())
        })
        .unwrap();
        assert!(!WATCHFUL.load(Ordering::SeqCst));
    }

    #[test]
    fn a_failure_names_the_command_and_shows_what_it_printed() {
        let error = captured(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("status: 3") && error.contains("why"), "{error}");
    }
}
