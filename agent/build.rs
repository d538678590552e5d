//! Puts the BPF object where the agent can embed it; without one, an empty file that the agent refuses.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    // A build that wants another object (the tests of upgrades do) names it here.
    println!("cargo:rerun-if-env-changed=WEFT_BPF_OBJECT");
    let object = env::var_os("WEFT_BPF_OBJECT").map_or_else(default_object, PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_default();
    let output = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(output.join("weft.bpf.o"), bytes)
}

fn default_object() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let alternate = env::var_os("CARGO_FEATURE_ALTERNATE_LAYOUT").is_some();
    let name = if alternate { "target/bpf/weft-alternate.bpf.o" } else { "target/bpf/weft.bpf.o" };
    package.parent().unwrap_or(Path::new("..")).join(name)
}
