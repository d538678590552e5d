//! `cargo xtask setup`: makes this machine able to build, test, show and check Weft.
//!
//! As root on Debian it installs what is missing and says what; elsewhere it prints exactly what is
//! missing. It starts no daemon, and takes well under a second when nothing is missing.

mod debian;
mod kernels;
mod modules;
pub mod toolchain;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::{bpf, cluster, conformance, run};

pub use kernels::{Kernel, SERIES as KERNEL_SERIES};
pub use modules::modules_in_order;
pub use tools::{BENCH_WHEELS, BPF_LINKER, CARGO_DENY, HELM, LINT_WHEELS, tool_path, wheel_path};

/// A kind of work, and with it what the work needs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The proxies that the benchmark measures beside, and what counts instructions.
    Bench,
    /// The compiler and the linker of the BPF programs.
    Bpf,
    /// What a Kubernetes cluster on this machine is made of. The first build takes a quarter of an hour.
    Cluster,
    /// Gateway API's own suite, and the application that it tests with.
    Conformance,
    /// The network tools and the real applications of the demo and of the netns tier.
    Demo,
    /// QEMU and the oldest kernels that Weft supports.
    Kernels,
    /// Spelling, TOML, dependency and chart checks.
    Lint,
}

impl Part {
    /// Every part, for a set-up without arguments. What takes a quarter of an hour keeps no other waiting.
    pub const ALL: [Self; 7] =
        [Self::Bench, Self::Bpf, Self::Demo, Self::Kernels, Self::Lint, Self::Conformance, Self::Cluster];

    fn needs(self) -> &'static [Need] {
        match self {
            Self::Bench => BENCH,
            Self::Bpf => BPF,
            Self::Cluster => CLUSTER,
            Self::Conformance => CONFORMANCE,
            Self::Demo => DEMO,
            Self::Kernels => KERNELS,
            Self::Lint => LINT,
        }
    }
}

/// A Debian package and how to see that what it brings is here, whoever installed it.
pub struct Need {
    package: &'static str,
    evidence: Evidence,
}

enum Evidence {
    /// A program of this name on the path or in a system folder.
    Program(&'static str),
    /// Whatever this finds.
    Check(fn() -> bool),
}

impl Evidence {
    fn is_here(&self) -> bool {
        match self {
            Self::Program(name) => program(name).is_some(),
            Self::Check(check) => check(),
        }
    }
}

const BENCH: &[Need] = &[
    Need { package: "haproxy", evidence: Evidence::Program("haproxy") },
    NGINX,
    PYTHON,
    Need { package: "valgrind", evidence: Evidence::Program("valgrind") },
];

const BPF: &[Need] = &[
    Need { package: "rustc-web", evidence: Evidence::Check(bpf::toolchain_is_here) },
    Need { package: "cargo-web", evidence: Evidence::Check(bpf::toolchain_is_here) },
    Need { package: "rust-web-src", evidence: Evidence::Check(bpf::toolchain_is_here) },
    Need { package: "llvm-22-dev", evidence: Evidence::Check(llvm_is_here) },
    Need { package: "libpolly-22-dev", evidence: Evidence::Check(polly_is_here) },
];

const CLUSTER: &[Need] = &[
    IPROUTE,
    NFTABLES,
    UTIL_LINUX,
    CURL,
    OPENSSL,
    GO,
    Need { package: "iptables", evidence: Evidence::Program("iptables") },
    AUTHORITIES,
    Need { package: "gcc", evidence: Evidence::Program("cc") },
    Need { package: "libc6-dev", evidence: Evidence::Check(c_library_is_here) },
    Need { package: "libseccomp-dev", evidence: Evidence::Check(seccomp_is_here) },
    Need { package: "pkg-config", evidence: Evidence::Program("pkg-config") },
];

const CONFORMANCE: &[Need] = &[GO, AUTHORITIES, OPENSSL];

const DEMO: &[Need] = &[
    MAKE,
    IPROUTE,
    NFTABLES,
    Need { package: "socat", evidence: Evidence::Program("socat") },
    UTIL_LINUX,
    NGINX,
    Need { package: "apache2-bin", evidence: Evidence::Program("apache2") },
    Need { package: "nodejs", evidence: Evidence::Program("node") },
    GO,
    AUTHORITIES,
    Need { package: "mariadb-server", evidence: Evidence::Program("mariadbd") },
    Need { package: "mariadb-client", evidence: Evidence::Program("mariadb") },
    Need { package: "redis-server", evidence: Evidence::Program("redis-server") },
    Need { package: "redis-tools", evidence: Evidence::Program("redis-cli") },
    CURL,
    OPENSSL,
];

const KERNELS: &[Need] = &[
    Need { package: "qemu-system-x86", evidence: Evidence::Program("qemu-system-x86_64") },
    Need { package: "xz-utils", evidence: Evidence::Program("xz") },
];

const LINT: &[Need] = &[MAKE, PYTHON, GO, AUTHORITIES];

/// Builds the agent's allocator, as cargo's own C compiler builds the rest.
const MAKE: Need = Need { package: "make", evidence: Evidence::Program("make") };

/// Builds Helm, Kubernetes, and the applications that are written in Go.
const GO: Need = Need { package: "golang-go", evidence: Evidence::Program("go") };

/// Vouch for the servers from which Go fetches modules.
const AUTHORITIES: Need = Need { package: "ca-certificates", evidence: Evidence::Check(authorities_are_here) };

const IPROUTE: Need = Need { package: "iproute2", evidence: Evidence::Program("ip") };

const NFTABLES: Need = Need { package: "nftables", evidence: Evidence::Program("nft") };

/// With the next one, what asks for certificates as an agent does.
const CURL: Need = Need { package: "curl", evidence: Evidence::Program("curl") };

const OPENSSL: Need = Need { package: "openssl", evidence: Evidence::Program("openssl") };

const UTIL_LINUX: Need = Need { package: "util-linux", evidence: Evidence::Program("nsenter") };

const NGINX: Need = Need { package: "nginx-light", evidence: Evidence::Program("nginx") };

/// Makes private environments for programs that come as wheels.
const PYTHON: Need = Need { package: "python3-venv", evidence: Evidence::Check(tools::python_is_here) };

/// LLVM is for building the linker only; one that runs needs no more of it.
fn llvm_is_here() -> bool {
    Path::new("/usr/lib/llvm-22/lib/libLLVM.so").exists() || tools::runs(&BPF_LINKER)
}

fn polly_is_here() -> bool {
    Path::new("/usr/lib/llvm-22/lib/libPolly.a").exists() || tools::runs(&BPF_LINKER)
}

fn authorities_are_here() -> bool {
    Path::new("/etc/ssl/certs/ca-certificates.crt").exists() || !debian::is_debian()
}

/// What C is compiled against; the compiler comes without it.
fn c_library_is_here() -> bool {
    Path::new("/usr/include/stdio.h").exists() || !debian::is_debian()
}

/// The header, for runc is compiled against it.
fn seccomp_is_here() -> bool {
    Path::new("/usr/include/seccomp.h").exists() || !debian::is_debian()
}

/// Installs what the parts need; nothing named means every part.
pub fn run(parts: &[Part]) -> Result<()> {
    let parts = if parts.is_empty() { &Part::ALL } else { parts };
    ensure(parts)?;
    println!("set-up is complete");
    Ok(())
}

/// Installs what the parts need and is not here. Prints nothing when nothing is missing.
pub fn ensure(parts: &[Part]) -> Result<()> {
    debian::remove_leftover_policy()?;
    let missing = missing_packages(parts);
    // What a program would have shown is not missing because the program did not run.
    run::expect_uninterrupted()?;
    if !missing.is_empty() {
        if !debian::can_install() {
            bail!(explanation(&missing));
        }
        debian::install(&missing)?;
        let still = missing_packages(parts);
        if !still.is_empty() {
            bail!("the packages are installed, but what they should bring is not here: {}", still.join(" "));
        }
    }
    for part in parts {
        match part {
            Part::Bench => BENCH_WHEELS.ensure()?,
            Part::Bpf => tools::ensure_cargo_tool(&BPF_LINKER)?,
            Part::Lint => {
                tools::ensure_cargo_tool(&CARGO_DENY)?;
                HELM.ensure()?;
                LINT_WHEELS.ensure()?;
            }
            Part::Kernels => kernels::ensure()?,
            Part::Cluster => cluster::ensure_programs()?,
            Part::Conformance => conformance::ensure()?,
            Part::Demo => {}
        }
    }
    Ok(())
}

fn missing_packages(parts: &[Part]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for need in parts.iter().flat_map(|part| part.needs()) {
        if !missing.contains(&need.package) && !need.evidence.is_here() {
            missing.push(need.package);
        }
    }
    missing
}

/// Says at once, and not after a long build, that something needs root.
pub fn require_root(what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{what} makes network namespaces and loads BPF programs: run it as root");
    }
    Ok(())
}

/// Looks a program up on the path and in the system folders that a user's path may lack.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn explanation(missing: &[&str]) -> String {
    let packages = missing.join(" ");
    if debian::is_debian() {
        format!("missing packages; as root: apt-get install --no-install-recommends {packages}")
    } else {
        format!("missing on this machine (names of Debian packages that bring it): {packages}")
    }
}
