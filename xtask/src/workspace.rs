//! Where things are in this repository and in the developer's cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

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
    cache_of(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
}

/// A relative path would be another cache in every folder from which xtask, or a program that it starts, is called.
fn cache_of(chosen: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let (variable, folder, below) = match chosen.filter(|folder| !folder.is_empty()) {
        Some(folder) => ("XDG_CACHE_HOME", PathBuf::from(folder), "weft"),
        None => ("HOME", PathBuf::from(home.context("HOME is not set")?), ".cache/weft"),
    };
    ensure!(folder.is_absolute(), "{variable} is `{}`, which is not an absolute path", folder.display());
    Ok(folder.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_its_owner_says() {
        let check = |chosen: Option<&str>, home: Option<&str>, expected: Result<&str, &str>| {
            let found = cache_of(chosen.map(OsString::from), home.map(OsString::from));
            let told = found.map_err(|error| error.to_string());
            assert_eq!(told, expected.map(PathBuf::from).map_err(str::to_owned), "{chosen:?} {home:?}");
        };
        check(Some("/caches"), Some("/home/ada"), Ok("/caches/weft"));
        check(None, Some("/home/ada"), Ok("/home/ada/.cache/weft"));
        check(Some(""), Some("/home/ada"), Ok("/home/ada/.cache/weft"));
        check(Some("src"), Some("/home/ada"), Err("XDG_CACHE_HOME is `src`, which is not an absolute path"));
        check(None, Some("home"), Err("HOME is `home`, which is not an absolute path"));
        check(None, None, Err("HOME is not set"));
    }
}
