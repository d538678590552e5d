//! Debian packages, installed without starting a daemon.
//!
//! While packages are installed a policy file forbids every service start. The shell that runs apt
//! removes the file when it ends, also when it is interrupted; what a killed run left is removed by
//! the next set-up.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{run, setup, step};

/// What `invoke-rc.d` and `deb-systemd-invoke` ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Distinguishes our policy file from one that the machine's owner put there.
const MARK: &str = "# written by cargo xtask setup while it installs packages";

/// Exit status 101 means: forbidden by policy.
const INSTALL: &str = r#"
policy="$1"; mark="$2"; shift 2
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > "$policy"
    chmod 755 "$policy"
fi
apt-get install --yes --no-install-recommends -o Dpkg::Options::=--force-confold "$@" && exit 0
apt-get update && apt-get install --yes --no-install-recommends -o Dpkg::Options::=--force-confold "$@"
"#;

/// Whether packages are managed by apt here.
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && setup::program("apt-get").is_some()
}

/// Whether this process may install packages.
pub fn can_install() -> bool {
    is_debian() && rustix::process::geteuid().is_root()
}

/// Installs packages; the package index is refreshed only when that fails with the present one.
pub fn install(packages: &[&str]) -> Result<()> {
    step::quiet(&format!("install {}", packages.join(" ")), || {
        let mut shell = Command::new("sh");
        shell.args(["-c", INSTALL, "sh", POLICY, MARK]).args(packages);
        shell.env("DEBIAN_FRONTEND", "noninteractive");
        run::captured(&mut shell).map(drop)
    })
}

/// Downloads a package's file into a folder without installing it.
pub fn download(package: &str, directory: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.current_dir(directory).args(["download", package]);
    run::captured(&mut apt).map(drop)
}

/// Packages whose names begin like this, in the present index or, if it has none, in a fresh one.
pub fn packages_named(prefix: &str) -> Result<Vec<String>> {
    let found = search(prefix)?;
    if !found.is_empty() || !can_install() {
        return Ok(found);
    }
    step::quiet("refresh the package index", || run::captured(Command::new("apt-get").arg("update")).map(drop))?;
    search(prefix)
}

/// Removes the policy file of a set-up that was killed.
pub fn remove_leftover_policy() -> Result<()> {
    let ours = std::fs::read_to_string(POLICY).is_ok_and(|content| content.contains(MARK));
    if ours && can_install() {
        std::fs::remove_file(POLICY).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    Ok(())
}

fn search(prefix: &str) -> Result<Vec<String>> {
    let pattern = format!("^{}", prefix.replace('.', "\\."));
    let mut search = Command::new("apt-cache");
    search.args(["search", "--names-only", &pattern]);
    let printed = run::captured(&mut search)?;
    Ok(printed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}
