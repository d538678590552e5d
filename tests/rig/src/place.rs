//! Where a command runs: a network namespace and a cgroup folder, and the ways to run one there.
//!
//! A command that is run is bounded in time and in what it may print; one that is started becomes a
//! [`Process`] whose output goes to a file and which ends with its owner.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::LinkNameSpaceType;
use serde_json::Value;

use crate::netns::{Namespace, open_members};
use crate::process::Process;

/// What one command may print; more is cut, so that a mad client cannot fill the memory.
const OUTPUT_LIMIT: u64 = 8 << 20;
/// A command that has not ended by then hangs.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// A network namespace, and a cgroup folder if processes there belong to one.
#[derive(Debug, Clone)]
pub struct Place {
    netns: PathBuf,
    cgroup: Option<PathBuf>,
}

impl Place {
    /// The namespace alone.
    #[must_use]
    pub fn of(namespace: &Namespace) -> Self {
        Self { netns: namespace.path().to_owned(), cgroup: None }
    }

    /// The same namespace, with processes in this cgroup folder.
    #[must_use]
    pub fn in_cgroup(self, folder: &Path) -> Self {
        Self { cgroup: Some(folder.to_owned()), ..self }
    }

    /// The cgroup folder of processes there, if they have one.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    /// Where the network namespace can be opened.
    #[must_use]
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// Changes the rules of its packet filter, as `nft --file` reads them.
    pub fn load_rules(&self, ruleset: &str) -> Result<()> {
        self.command("nft").args(["-f", "-"]).input(ruleset).run()?.expect_success().map(drop)
    }

    /// A command that will run here.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Launch {
        Launch::new(program).at(self)
    }

    /// A shell line that will run here.
    #[must_use]
    pub fn shell(&self, line: &str) -> Launch {
        self.command("sh").args(["-c", line])
    }

    /// Runs lines of `ip -batch` in this namespace.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        let outcome = self.command("ip").args(["-batch", "-"]).input(&lines.join("\n")).run()?;
        outcome.expect_success().map(drop)
    }
}

/// A command being put together.
#[derive(Debug)]
pub struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    place: Option<Place>,
    input: Option<Vec<u8>>,
    limit: Duration,
    ends_with_caller: bool,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command as a person would type it.
    pub line: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Outcome {
    /// Whether the command succeeded.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The output of a command that succeeded; otherwise an error with everything it said.
    pub fn expect_success(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout);
        }
        bail!("`{}` ended with {}\n{}{}", self.line, self.status, self.stdout, self.stderr)
    }

    /// What the command's last line says, which is JSON: so clients of the test application report, also of failures.
    pub fn report(&self) -> Result<Value> {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("no report: {self:?}"))
    }

    /// Fails if the command succeeded: for what must be refused.
    pub fn expect_failure(self) -> Result<Self> {
        if self.success() {
            bail!("`{}` succeeded and should not have\n{}{}", self.line, self.stdout, self.stderr);
        }
        Ok(self)
    }
}

impl Launch {
    /// A command in the place of the caller.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            place: None,
            input: None,
            limit: DEFAULT_LIMIT,
            ends_with_caller: false,
        }
    }

    /// Runs it there.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Several arguments more.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// One variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// What the command reads on its standard input.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.as_bytes().to_vec());
        self
    }

    /// How long [`Launch::run`] waits before it ends the command.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Asks the command to end (SIGTERM) when the calling thread ends first: inside a sandbox everything does
    /// that by itself, outside nothing does.
    #[must_use]
    pub fn ends_with_caller(self) -> Self {
        Self { ends_with_caller: true, ..self }
    }

    /// The command as a person would type it.
    #[must_use]
    pub fn line(&self) -> String {
        if let (Some("sh"), [flag, line]) = (self.program.to_str(), self.arguments.as_slice())
            && flag == "-c"
        {
            return line.to_string_lossy().into_owned();
        }
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Runs the command to its end. An error means that it could not be run or did not end in time.
    pub fn run(self) -> Result<Outcome> {
        let line = self.line();
        let mut command = self.prepare()?;
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let input = child.stdin.take().zip(self.input);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (ended, stdout, stderr) = std::thread::scope(|scope| {
            // A command that ends without reading everything is its own business.
            scope.spawn(move || input.map(|(mut pipe, text)| pipe.write_all(&text).ok()));
            let out = scope.spawn(move || read_text(stdout));
            let err = scope.spawn(move || read_text(stderr));
            let ended = await_end(&mut child, self.limit);
            // Also what it left running: a pipe held by a grandchild would never end.
            kill_group(&child);
            let status = child.wait();
            (ended.and_then(|in_time| Ok((in_time, status?))), out.join(), err.join())
        });
        let (in_time, status) = ended?;
        let (stdout, stderr) = (stdout.unwrap_or_default(), stderr.unwrap_or_default());
        if !in_time {
            bail!("`{line}` had not ended after {:?}\n{stdout}{stderr}", self.limit);
        }
        Ok(Outcome { line, status, stdout, stderr })
    }

    /// Starts the command and lets it run; what it prints goes to the file `log`.
    pub fn start(self, log: &Path) -> Result<Process> {
        let line = self.line();
        let output = fs::OpenOptions::new().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.prepare()?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        Ok(Process::new(child, line, log.to_owned()))
    }

    fn prepare(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.process_group(0);
        if self.ends_with_caller {
            let caller = rustix::process::getpid();
            // SAFETY: between fork and exec the closure makes two system calls.
            unsafe {
                command.pre_exec(move || {
                    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                    // The caller may have ended before the line above.
                    if rustix::process::getppid() == Some(caller) {
                        Ok(())
                    } else {
                        Err(std::io::ErrorKind::BrokenPipe.into())
                    }
                });
            }
        }
        let Some(place) = &self.place else { return Ok(command) };
        let netns = File::open(&place.netns).with_context(|| format!("cannot open {}", place.netns.display()))?;
        let members = place.cgroup.as_deref().map(open_members).transpose()?;
        // SAFETY: between fork and exec the closure makes system calls on values prepared before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(members) = &members {
                    rustix::io::write(members, b"0")?;
                }
                rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(())
            });
        }
        Ok(command)
    }
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn read_text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end of `child` without collecting it; false when the limit came first.
fn await_end(child: &mut Child, limit: Duration) -> Result<bool> {
    let pid = Pid::from_child(child);
    let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a process")?;
    let timeout = Timespec { tv_sec: limit.as_secs().try_into()?, tv_nsec: limit.subsec_nanos().into() };
    let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
    let events = rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, Some(&timeout)))?;
    Ok(events > 0)
}

fn kill_group(child: &Child) {
    rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL).ok();
}
