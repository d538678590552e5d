//! `cargo xtask test kernels`: the kernel tier inside QEMU on the oldest supported kernels.
//!
//! The machine is emulated in software, so this needs no /dev/kvm. It has no disk and no network card:
//! only a serial console and an initramfs. What the tier's program owes as its init:
//! - it is started as `/init --init`, process 1, with the console as its standard streams;
//! - it mounts /proc, /sys, /dev (devtmpfs), /tmp (tmpfs), /sys/fs/cgroup (cgroup2), /sys/fs/bpf (bpf);
//! - it loads every file of /modules in name order, uncompressed modules in the order of dependency;
//! - it brings `lo` up, runs every test, prints `N passed, N failed` and powers the machine off.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::counts::Counts;
use super::initramfs::Initramfs;
use super::{Outcome, Tier};
use crate::setup::{self, Kernel};
use crate::{build, run, workspace};

/// The longest that one kernel may take. It boots in seconds; the tier is about ten times slower in
/// emulation than on the machine.
const LIMIT: Duration = Duration::from_mins(10);

/// Memory of the emulated machine: the initramfs, unpacked, and the maps of every test.
const MEMORY: &str = "2048M";

/// Kernel modules that the tests need and that Debian's cloud kernels do not have built in.
const MODULES: [&str; 4] = ["veth", "tcp_diag", "mptcp_diag", "tun"];

/// Runs the tier on every kernel: one row of the table each.
pub fn run() -> Vec<Outcome> {
    let prepared = setup::ensure(&[setup::Part::Kernels]).and_then(|()| build::for_packages(&Tier::PROGRAMS));
    if let Err(error) = prepared {
        return vec![Outcome::unprepared("kernels", &error)];
    }
    let boot_one = |series| Outcome::of(&format!("kernels {series}"), || boot(&Kernel::find(series)?));
    setup::KERNEL_SERIES.into_iter().map(boot_one).collect()
}

fn boot(kernel: &Kernel) -> Result<Counts> {
    println!("{} from {}", kernel.series, kernel.package);
    let image = tempfile::Builder::new().prefix("weft-initramfs-").tempfile()?;
    std::fs::write(image.path(), initramfs(kernel)?)?;
    let mut closing = None;
    run::watched(&mut machine(kernel, image.path()), Some(LIMIT), |line| {
        if let Some(counts) = Counts::of_line(line) {
            closing = Some(counts);
        }
    })?;
    closing.with_context(|| format!("kernel {} ended without a closing line", kernel.series))
}

fn machine(kernel: &Kernel, initramfs: &Path) -> Command {
    // panic=-1 with -no-reboot ends the emulator when the kernel panics; what follows `--` is
    // init's own command line.
    let command_line = "console=ttyS0 quiet panic=-1 rdinit=/init -- --init";
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-append", command_line])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs);
    qemu
}

fn initramfs(kernel: &Kernel) -> Result<Vec<u8>> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernels tier emulates an x86-64 machine and boots the tier's program of this one");
    }
    let tier = workspace::program(Tier::Kernel.program());
    let mut archive = Initramfs::new();
    archive.add_console();
    archive.add_file("init", &std::fs::read(&tier).with_context(|| tier.display().to_string())?);
    for library in shared_libraries(&tier)? {
        let content = std::fs::read(&library).with_context(|| library.clone())?;
        archive.add_file(library.trim_start_matches('/'), &content);
    }
    for (position, (name, module)) in setup::modules_in_order(kernel, &MODULES)?.iter().enumerate() {
        archive.add_file(&format!("modules/{position:02}-{name}.ko"), module);
    }
    Ok(archive.finish())
}

/// The absolute paths that `ldd` names: the libraries and the loader itself.
fn shared_libraries(program: &Path) -> Result<Vec<String>> {
    let printed = run::captured(Command::new("ldd").arg(program))?;
    let paths = printed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(str::to_owned).collect())
}
