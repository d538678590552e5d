//! Kernels for the kernels tier: Debian's signed cloud images, downloaded and unpacked, never installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian;
use crate::{run, step, workspace};

/// The series that the tier boots: the oldest that Weft supports, and the next long-term one.
pub const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A kernel in the developer's cache.
pub struct Kernel {
    /// The series, such as `6.1`.
    pub series: &'static str,
    /// The Debian package that it came from.
    pub package: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The folder with its modules, `lib/modules/VERSION`.
    pub modules: PathBuf,
}

impl Kernel {
    /// Finds the kernel of a series that set-up unpacked.
    pub fn find(series: &'static str) -> Result<Self> {
        let folder = folder(series)?;
        let package = std::fs::read_to_string(folder.join("package"))
            .with_context(|| format!("kernel {series} is not unpacked in {}", folder.display()))?;
        let version = package.trim_start_matches("linux-image-");
        let image = folder.join("boot").join(format!("vmlinuz-{version}"));
        let modules = folder.join("lib/modules").join(version);
        if !image.exists() {
            bail!("{} is missing", image.display());
        }
        Ok(Self { series, package, image, modules })
    }
}

/// Downloads and unpacks the newest kernel of every series that is not here yet.
pub fn ensure() -> Result<()> {
    for series in SERIES {
        if Kernel::find(series).is_err() {
            step::quiet(&format!("download a Debian kernel {series}"), || unpack(series))?;
        }
    }
    Ok(())
}

fn unpack(series: &'static str) -> Result<()> {
    if !debian::is_debian() {
        bail!("kernels are downloaded with apt; this machine has none");
    }
    let package = newest(series)?;
    let folder = folder(series)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let download = tempfile::tempdir_in(&folder)?;
    debian::download(&package, download.path())?;
    let archive = std::fs::read_dir(download.path())?.next().context("apt downloaded nothing")??.path();
    run::captured(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&folder))?;
    // Written last: its presence says that everything before it succeeded.
    std::fs::write(folder.join("package"), &package)?;
    Kernel::find(series).map(drop)
}

/// The newest signed cloud image of a series in apt's index.
fn newest(series: &str) -> Result<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no Debian kernel is known for {other}"),
    };
    let suffix = format!("-cloud-{architecture}");
    let packages = debian::packages_named(&format!("linux-image-{series}."))?;
    packages
        .into_iter()
        .filter(|name| name.ends_with(&suffix))
        .max_by_key(|name| numbers(name))
        .with_context(|| format!("apt knows no linux-image-{series}.*{suffix}"))
}

/// The numbers of a version in order, so that versions compare as people read them.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn folder(series: &str) -> Result<PathBuf> {
    Ok(workspace::cache()?.join("kernels").join(series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("linux-image-6.1.0-9-cloud-amd64") < numbers("linux-image-6.1.0-56-cloud-amd64"));
        assert!(numbers("linux-image-6.12.99+deb12-cloud-amd64") < numbers("linux-image-6.12.117+deb12-cloud-amd64"));
    }
}
