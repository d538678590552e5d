//! A place where everything dies with its owner.
//!
//! [`enter`] runs the current program again as the child of a tiny init in private mount and pid
//! namespaces, with a fresh /proc, a private /run (state, run folders, a bpffs) and one cgroup folder of
//! its own. The outer process passes the exit status through and removes the cgroup folder; when even
//! that one is killed, a guard in a session of its own does it. Network namespaces have no names: each
//! lives as long as its pause process, so nothing can be left in /run/netns.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::process::tail_of;
use crate::wait;

/// Which part this process plays; set by the outer process for the ones it starts.
const ROLE: &str = "WEFT_SANDBOX_ROLE";
/// The cgroup folder of the sandbox.
const CGROUP: &str = "WEFT_SANDBOX_CGROUP";
/// The init's process number as the machine sees it.
const OUTER_PID: &str = "WEFT_SANDBOX_OUTER_PID";
/// How long killed processes may take to leave their cgroup folders.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);
/// The private tmpfs; /run exists everywhere and nothing in it is needed inside.
const RUN: &str = "/run";

/// Lines of one log that a failure shows.
const LAST_WORDS: usize = 15;

/// Whether namespaces of our own are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The usual case: a machine with other things on it.
    Private,
    /// The machine is ours and ends with us, as in QEMU with this program as its init.
    WholeMachine,
}

/// The place inside, as the program finds it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    cgroup: PathBuf,
    outer_pid: u32,
}

impl Sandbox {
    /// The cgroup v2 folder in which nodes make theirs.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A bpffs that vanishes with the sandbox.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        Path::new(RUN).join("weft/bpf")
    }

    /// A tmpfs that vanishes with the sandbox, for state folders, sockets and logs.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        Path::new(RUN).join("weft")
    }

    /// The last lines of every log of every mesh in here, also of those that are gone: for failures.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut logs = Vec::new();
        collect_logs(&self.scratch(), &mut logs);
        logs.sort();
        let tails = logs.iter().map(|log| {
            let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
            let lines: Vec<String> = text.lines().filter_map(worth_showing).collect();
            format!("==> {} <==\n{}\n", log.display(), tail_of(&lines.join("\n"), LAST_WORDS))
        });
        tails.collect()
    }

    /// What /etc/hosts is inside the sandbox.
    #[must_use]
    pub fn hosts_file(&self) -> PathBuf {
        Path::new(RUN).join("weft/hosts")
    }

    /// The process whose namespaces somebody outside must enter to look around (`nsenter --target`).
    #[must_use]
    pub fn outer_pid(&self) -> u32 {
        self.outer_pid
    }
}

/// Returns only inside the sandbox; the outer process ends here with the status of the inner one.
///
/// Call it first thing in `main`, before any thread is started.
pub fn enter(isolation: Isolation) -> Result<Sandbox> {
    match env::var(ROLE).as_deref() {
        Ok("guard") => guard(),
        Ok("init") => init(),
        Ok("program") => found(),
        Ok(other) => bail!("{ROLE}={other} is not a part of the sandbox"),
        Err(_) if isolation == Isolation::WholeMachine => furnish_whole_machine(),
        Err(_) => outer(),
    }
}

fn found() -> Result<Sandbox> {
    let cgroup = env::var_os(CGROUP).context("the sandbox has lost its cgroup folder")?;
    let outer_pid = env::var(OUTER_PID).context("the sandbox has lost its process number")?;
    Ok(Sandbox { cgroup: cgroup.into(), outer_pid: outer_pid.parse()? })
}

fn furnish_whole_machine() -> Result<Sandbox> {
    let cgroup = cgroup2_mount()?.join(format!("weft-{}", std::process::id()));
    fs::create_dir_all(&cgroup)?;
    furnish()?;
    Ok(Sandbox { cgroup, outer_pid: std::process::id() })
}

// ---- the outer process ------------------------------------------------------------------------

fn outer() -> Result<Sandbox> {
    if !rustix::process::geteuid().is_root() {
        bail!("namespaces, cgroups and eBPF need root: run this as root");
    }
    // A sandbox inside another makes its folder in the other's, and so cannot outlive it.
    let parent = env::var_os(CGROUP).map_or_else(cgroup2_mount, |folder| Ok(folder.into()))?;
    let cgroup = parent.join(unique_name());
    fs::create_dir(&cgroup).with_context(|| format!("cannot create {}", cgroup.display()))?;
    let mut guard = start(&cgroup, Part::Guard)?;
    let awaited = block_signals();
    let outcome = start(&cgroup, Part::Init).and_then(|child| attend(child, &awaited));
    let removal = remove_cgroup(&cgroup);
    drop(guard.stdin.take());
    guard.wait()?;
    let code = outcome?;
    removal?;
    std::process::exit(code)
}

/// What is different between the two processes that the outer one starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Guard,
    Init,
}

fn start(cgroup: &Path, part: Part) -> Result<Child> {
    let mut command = this_program();
    command.env(CGROUP, cgroup);
    if part == Part::Guard {
        command.env(ROLE, "guard");
        // Its standard input is the pipe whose end tells that the outer process is gone.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        // SAFETY: between fork and exec the closure makes one system call and touches no shared memory.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
        return command.spawn().context("cannot start the guard of the sandbox");
    }
    // Children from here on live in a new pid namespace; the outer process itself does not move.
    unshare(UnshareFlags::NEWPID)?;
    command.env(ROLE, "init");
    let members = fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
    // SAFETY: between fork and exec the closure makes system calls on values prepared before the fork.
    unsafe {
        command.pre_exec(move || {
            reset_signals();
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            rustix::io::write(&members, b"0")?;
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWNET)?;
            Ok(())
        });
    }
    command.spawn().context("cannot start the sandbox: are namespaces allowed here?")
}

/// The same program with the same arguments: they lead it to [`enter`] again.
fn this_program() -> Command {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(arguments.next().unwrap_or_default()).args(arguments);
    command
}

fn unshare(flags: UnshareFlags) -> Result<()> {
    // SAFETY: no file table is unshared, so no descriptor of another owner can change its meaning.
    unsafe { rustix::thread::unshare_unsafe(flags) }.context("cannot make a namespace")
}

/// Signals that end the sandbox, and the one that says that a child ended: waited for, never delivered.
fn block_signals() -> libc::sigset_t {
    // SAFETY: the set is plain memory that the two calls initialise and read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    }
}

/// Gives a process back what the machine gives to every one: nothing blocked, nothing ignored.
///
/// The outer process blocks signals, and whoever started it may ignore some (`nohup` does); everything
/// in the sandbox would inherit both, and an agent that is asked to end would never hear of it.
fn reset_signals() {
    // SAFETY: the set is plain memory that the calls initialise and read; no handler of ours is lost, for
    // the process is about to become another program. All calls may be made between fork and exec.
    unsafe {
        for signal in 1..libc::SIGRTMIN() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Waits for the init to end, or ends it, and with it every process of its pid namespace.
fn attend(mut init: Child, awaited: &libc::sigset_t) -> Result<i32> {
    loop {
        if let Some(status) = init.try_wait()? {
            return Ok(code_of(status));
        }
        let mut signal = 0;
        // SAFETY: both pointers are to live values of the right type.
        unsafe { libc::sigwait(awaited, &raw mut signal) };
        if signal != libc::SIGCHLD {
            init.kill()?;
            init.wait()?;
            return Ok(128 + signal);
        }
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn unique_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("weft-{}-{:x}", std::process::id(), now.subsec_nanos())
}

// ---- the guard --------------------------------------------------------------------------------

fn guard() -> ! {
    let mut rest = Vec::new();
    // An error means the same as the end: nobody is at the other side.
    std::io::stdin().read_to_end(&mut rest).ok();
    let code = match env::var_os(CGROUP) {
        Some(cgroup) => i32::from(remove_cgroup(Path::new(&cgroup)).is_err()),
        None => 2,
    };
    std::process::exit(code)
}

/// Ends what still lives below `folder` and removes it with everything in it.
fn remove_cgroup(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    // Kernels before 5.14 have no such file; there the parent-death signal has already done the work.
    fs::write(folder.join("cgroup.kill"), "1").ok();
    wait::until("the cgroup folders to become empty", REMOVAL_LIMIT, || remove_folders(folder))
}

fn remove_folders(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_folders(&entry.path())?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

// ---- inside -----------------------------------------------------------------------------------

fn init() -> Result<Sandbox> {
    // Still the old /proc: its answer is the process number that the machine outside knows.
    let outer_pid = fs::read_link("/proc/self").context("cannot read /proc/self")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), None).context("cannot mount /proc")?;
    furnish()?;
    let program = this_program().env(ROLE, "program").env(OUTER_PID, outer_pid).spawn()?;
    std::process::exit(reap_until(program.id())?)
}

/// The private /run with what the program expects in it.
fn furnish() -> Result<()> {
    rustix::mount::mount("tmpfs", RUN, "tmpfs", MountFlags::empty(), Some(c"mode=0755"))
        .context("cannot mount a tmpfs on /run")?;
    let bpffs = Path::new(RUN).join("weft/bpf");
    fs::create_dir_all(&bpffs)?;
    rustix::mount::mount("bpf", &bpffs, "bpf", MountFlags::empty(), Some(c"mode=0700"))
        .context("cannot mount a bpffs: has this kernel eBPF?")?;
    let hosts = Path::new(RUN).join("weft/hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n")?;
    rustix::mount::mount_bind(&hosts, "/etc/hosts").context("cannot put the hosts file in place")
}

/// The logs of nodes and controllers; those of pods belong to the tests.
fn collect_logs(folder: &Path, logs: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("pods") && !path.ends_with("bpf") {
            collect_logs(&path, logs);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
}

/// Connections that went as they should are not what a failure is about; of the others the telling fields.
fn worth_showing(line: &str) -> Option<String> {
    let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { return Some(line.to_owned()) };
    let ends = |end: &serde_json::Value| format!("{} {}", end["workload"], end["address"]);
    (record["verdict"] != "allow").then(|| {
        format!(
            "{} {} {} {} side={} rule={} {} → {} asked={} security={} detail={}",
            record["time"],
            record["direction"],
            record["verdict"],
            record["reason"],
            record["side"],
            record["rule"],
            ends(&record["source"]),
            ends(&record["destination"]),
            record["original_destination"],
            record["security"],
            record["detail"],
        )
    })
}

/// Collects every child that ends, orphans included, until the program itself does.
fn reap_until(program: u32) -> Result<i32> {
    loop {
        let Some((pid, status)) = rustix::process::wait(rustix::process::WaitOptions::empty())? else { continue };
        if pid.as_raw_nonzero().get().unsigned_abs() == program {
            return Ok(code_of(ExitStatus::from_raw(status.as_raw())));
        }
    }
}

/// Where the cgroup v2 hierarchy is mounted: its own root on pure machines, `unified` on hybrid ones.
fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    cgroup2_of(&mounts).context("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn cgroup2_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_v2_mount_is_found_on_hybrid_and_on_pure_machines() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_of(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_of(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(cgroup2_of("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
