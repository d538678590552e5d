//! Being the only program of a machine: process 1 in an initramfs.

use std::fs;
use std::io;
use std::path::Path;
use std::process;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

use crate::netlink;

/// Furnishes the machine, runs the tests and powers it off.
pub fn run_as_init(tests: impl FnOnce() -> Result<usize>) -> ! {
    let outcome = furnish().and_then(|()| tests());
    if let Err(error) = outcome {
        // Without this line nobody outside would learn that nothing was tested.
        println!("the kernel tier cannot run: {error:#}\n0 passed, 1 failed");
    }
    let error = reboot(RebootCommand::PowerOff);
    println!("the machine does not power off: {error:?}");
    process::exit(1)
}

fn furnish() -> Result<()> {
    let places = [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
        ("bpf", "/sys/fs/bpf", "bpf"),
    ];
    for (source, target, kind) in places {
        fs::create_dir_all(target).ok();
        mount(source, target, kind, MountFlags::empty(), None).with_context(|| format!("mount {target}"))?;
    }
    for folder in ["/run", "/etc"] {
        fs::create_dir_all(folder)?;
    }
    fs::write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    load_modules(Path::new("/modules"))?;
    netlink::set_up("lo")
}

/// Loads every file of the folder, in the order of their names.
fn load_modules(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    for file in files {
        let module = fs::read(&file)?;
        // SAFETY: the pointer and the length are those of a live buffer, the parameters an empty string.
        let result = unsafe { libc::syscall(libc::SYS_init_module, module.as_ptr(), module.len(), c"".as_ptr()) };
        let error = io::Error::last_os_error();
        if result != 0 && error.raw_os_error() != Some(libc::EEXIST) {
            return Err(error).with_context(|| format!("load {}", file.display()));
        }
    }
    Ok(())
}
