//! Starting programs: a failure names the command line and shows the end of what it printed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many lines of a failed program's output are worth showing.
const SHOWN_LINES: usize = 60;

/// Cargo of the toolchain that rust-toolchain.toml names, at the root of the repository.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.current_dir(super::workspace::root());
    command
}

/// Runs a program that writes to the screen itself.
pub fn visibly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to its standard output.
pub fn captured(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let everything = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{}` ended with {}\n{}", line(command), output.status, last_lines(&everything));
    }
    Ok(printed)
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let hidden = lines.len().saturating_sub(SHOWN_LINES);
    let mut shown = if hidden > 0 { format!("... {hidden} lines before\n") } else { String::new() };
    shown.push_str(&lines[hidden..].join("\n"));
    shown
}
