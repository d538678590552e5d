//! `cargo xtask bpf`: builds ebpf/programs into target/bpf/weft.bpf.o, which the agent embeds.
//!
//! The BPF target needs `core` from source and an LLVM that fits bpf-linker's. Two toolchains are
//! tried in this order: a rustup toolchain that already has rust-src, then Debian's packages.
//! The object is replaced only when its bytes changed, so that an unchanged program rebuilds nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::{run, setup, step, table, workspace};

/// The feature of programs and agent that gives their derived maps another layout.
pub const ALTERNATE_FEATURE: &str = "alternate-layout";

/// Which layout the derived maps have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The one that is released.
    Own,
    /// One that differs, for the tests of upgrades.
    Alternate,
}

impl Layout {
    /// Where the object is, from the root of the repository; the agent's build script knows both.
    pub fn object(self) -> &'static str {
        match self {
            Self::Own => "target/bpf/weft.bpf.o",
            Self::Alternate => "target/bpf/weft-alternate.bpf.o",
        }
    }
}

/// LLVM of the bpf-linker that set-up installs; the compiler must produce the same bitcode.
const LLVM_MAJOR: u32 = 22;

/// Where a compiler's installation has the source of `core`.
const LIBRARY_SOURCE: &str = "lib/rustlib/src/rust/library/core";

/// Bytes of one BPF instruction.
const INSTRUCTION_BYTES: u64 = 8;

/// aya-ebpf asks through `--cfg=bpf_target_arch` for the register layout of the machine that runs
/// the programs, which is the one that builds them.
const ARCHITECTURE: &str = std::env::consts::ARCH;

/// Builds the object, with the set-up that this needs, and prints the size of every program.
pub fn build_and_report() -> Result<()> {
    build(Layout::Own)?;
    print_instruction_counts(&workspace::path(Layout::Own.object()))
}

/// Builds the object, with the set-up that this needs.
pub fn build(layout: Layout) -> Result<()> {
    setup::ensure(&[setup::Part::Bpf])?;
    let toolchain = Toolchain::find()?;
    let which = if layout == Layout::Alternate { " in their alternate layout" } else { "" };
    step::loud(&format!("build the BPF programs{which} with {}", toolchain.name), || {
        let built = compile(&toolchain, layout)?;
        install(&built, layout)
    })
}

/// Whether a compiler for the BPF programs is here.
pub fn toolchain_is_here() -> bool {
    // Three packages ask; asking the compilers takes a moment.
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| Toolchain::find().is_ok())
}

/// A compiler that can build `core` for the BPF target.
struct Toolchain {
    name: String,
    cargo: PathBuf,
    rustc: PathBuf,
}

impl Toolchain {
    /// Finds a usable toolchain on this machine without installing anything.
    fn find() -> Result<Self> {
        Self::from_rustup().or_else(Self::from_debian).with_context(|| {
            format!(
                "no Rust toolchain with its library's source and LLVM {LLVM_MAJOR}: \
                 add rust-src to a rustup toolchain, or install Debian's rustc-web, cargo-web and rust-web-src"
            )
        })
    }

    fn from_rustup() -> Option<Self> {
        let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME")?);
            Some(home.join(".rustup"))
        })?;
        let entries = std::fs::read_dir(home.join("toolchains")).ok()?;
        entries.flatten().find_map(|entry| {
            let directory = entry.path();
            let toolchain = Self {
                name: format!("rustup's {}", entry.file_name().to_string_lossy()),
                cargo: directory.join("bin/cargo"),
                rustc: directory.join("bin/rustc"),
            };
            let has_source = directory.join(LIBRARY_SOURCE).exists();
            (has_source && toolchain.is_usable()).then_some(toolchain)
        })
    }

    fn from_debian() -> Option<Self> {
        let toolchain = Self {
            name: "the system's /usr/bin/rustc".to_owned(),
            cargo: PathBuf::from("/usr/bin/cargo"),
            rustc: PathBuf::from("/usr/bin/rustc"),
        };
        toolchain.is_usable().then_some(toolchain)
    }

    fn is_usable(&self) -> bool {
        let Some(sysroot) = self.ask(&["--print", "sysroot"]) else {
            return false;
        };
        let library = Path::new(sysroot.trim()).join(LIBRARY_SOURCE);
        let version = self.ask(&["-vV"]).unwrap_or_default();
        library.exists() && self.cargo.exists() && llvm_major(&version) == Some(LLVM_MAJOR)
    }

    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = isolated(&self.rustc).args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The major version in the line `LLVM version: 22.1.2` of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// Another toolchain than the one that runs xtask must not see what this one put into the
/// environment.
fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") && text != "CARGO_HOME" || text.starts_with("RUST");
        if ours && text != "RUSTUP_HOME" || text == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
    command
}

/// Compiles and links; returns the path of cargo's result.
fn compile(toolchain: &Toolchain, layout: Layout) -> Result<PathBuf> {
    let linker = setup::tool_path(&setup::BPF_LINKER)?;
    let mut flags = OsString::from("-Clinker=");
    flags.push(linker);
    flags.push("\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf\u{1f}--cfg=bpf_target_arch=\"");
    flags.push(ARCHITECTURE);
    flags.push("\"");
    let mut cargo = isolated(&toolchain.cargo);
    cargo
        .current_dir(workspace::path("ebpf/programs"))
        .args(["build", "--release", "--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .args(["--message-format", "json-render-diagnostics"])
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_DIR", workspace::path("target/bpf/build"))
        .env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
    if layout == Layout::Alternate {
        cargo.args(["--features", ALTERNATE_FEATURE]);
    }
    let messages = run::piped(&mut cargo).context("the BPF programs do not build")?;
    executable(&messages).context("cargo reported no BPF object")
}

/// The path of the one program that cargo's messages report.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    })
}

fn install(built: &Path, layout: Layout) -> Result<()> {
    let object = layout.object();
    let target = workspace::path(object);
    let bytes = std::fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if std::fs::read(&target).is_ok_and(|old| old == bytes) {
        println!("{object}: unchanged");
        return Ok(());
    }
    let written = target.with_extension("new");
    std::fs::write(&written, &bytes).with_context(|| format!("cannot write {}", written.display()))?;
    std::fs::rename(&written, &target)?;
    println!("{object}: written, {} bytes", bytes.len());
    Ok(())
}

fn print_instruction_counts(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let rows: Vec<[String; 3]> = instruction_counts(&bytes)?
        .into_iter()
        .map(|(program, section, instructions)| [program, section, instructions.to_string()])
        .collect();
    println!("{}", table::layout(["program", "section", "instructions"], &rows));
    Ok(())
}

/// Every function of the object: its name, its section, its number of instructions.
fn instruction_counts(bytes: &[u8]) -> Result<Vec<(String, String, u64)>> {
    let object = object::File::parse(bytes).context("the BPF object is not an ELF file")?;
    let mut counts = Vec::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = object.section_by_index(index)?;
        if section.kind() == SectionKind::Text && symbol.size() > 0 {
            // `{:#}` leaves the hash out.
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
            counts.push((name, section.name()?.to_owned(), symbol.size() / INSTRUCTION_BYTES));
        }
    }
    counts.sort_by(|left, right| (&left.1, &left.0).cmp(&(&right.1, &right.0)));
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_llvm_version_of_a_compiler() {
        assert_eq!(llvm_major("host: x\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("host: x\n"), None);
    }

    #[test]
    fn finds_the_object_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/weft\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/weft")));
    }
}
