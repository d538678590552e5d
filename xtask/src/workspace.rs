//! Where things are in this repository and in the developer's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the repository.
pub fn root() -> &'static Path {
    // xtask/Cargo.toml is one level below the root; this is fixed when xtask is compiled.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A path below the root of the repository.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// An optimized program that cargo built.
pub fn program(name: &str) -> PathBuf {
    path("target/release").join(name)
}

/// Tools and downloads that outlive `cargo clean`: `$XDG_CACHE_HOME/weft` or `~/.cache/weft`.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("weft"))
}
