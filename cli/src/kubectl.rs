//! kubectl, run step by step: it knows the user's cluster, context and credentials.
//!
//! A plan is data, so that it can be shown and tested; running it says each step and stops at the first that fails.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::paint::print;

/// How objects that Weft applies are owned on the API server.
const FIELD_MANAGER: &str = "weft";

/// One call of kubectl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is for, as a person reads it.
    pub purpose: String,
    pub arguments: Vec<String>,
    /// What it reads, if anything.
    pub input: Option<String>,
    /// Whether what follows makes sense after a failure; what is said then.
    pub otherwise: Option<&'static str>,
}

impl Step {
    pub fn new(purpose: impl Into<String>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { purpose: purpose.into(), arguments, input: None, otherwise: None }
    }

    /// Applies objects: what somebody else owns is refused, not overwritten.
    pub fn apply(purpose: impl Into<String>, objects: String) -> Self {
        let manager = format!("--field-manager={FIELD_MANAGER}");
        Self::new(purpose, &["apply", "--server-side", &manager, "--filename=-"]).reading(objects)
    }

    pub fn reading(mut self, input: String) -> Self {
        self.input = Some(input);
        self
    }

    /// A failure is told in these words, and the next step follows.
    pub fn or_else(mut self, said: &'static str) -> Self {
        self.otherwise = Some(said);
        self
    }
}

/// Runs a plan in the cluster of this context, or of kubectl's current one.
pub fn run(plan: &[Step], context: Option<&str>) -> anyhow::Result<()> {
    for (number, step) in plan.iter().enumerate() {
        print(format!("{}/{} {}", number + 1, plan.len(), step.purpose))?;
        match (call(step, context), step.otherwise) {
            (Err(error), Some(otherwise)) => print(format!("{error:#}\n{otherwise}"))?,
            (outcome, _) => outcome?,
        }
    }
    Ok(())
}

/// Whether there is a kubectl at all.
pub fn is_there() -> bool {
    let asked =
        Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// What kubectl prints for a question.
///
/// # Errors
/// What it says is wrong.
pub fn ask(arguments: &[&str], context: Option<&str>) -> anyhow::Result<String> {
    let printed = kubectl(context).args(arguments).output().with_context(missing)?;
    if !printed.status.success() {
        let said = String::from_utf8_lossy(&printed.stderr);
        bail!("kubectl {} ended with {}: {}", arguments.join(" "), printed.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
}

fn call(step: &Step, context: Option<&str>) -> anyhow::Result<()> {
    let input = if step.input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = kubectl(context).args(&step.arguments).stdin(input).spawn().with_context(missing)?;
    if let (Some(text), Some(mut pipe)) = (&step.input, child.stdin.take()) {
        // A reader that ended early says by its status what was wrong.
        let _ = pipe.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("kubectl {} ended with {status}", step.arguments.join(" "));
    }
    Ok(())
}

fn kubectl(context: Option<&str>) -> Command {
    let mut command = Command::new("kubectl");
    command.args(context.map(|context| format!("--context={context}")));
    command
}

fn missing() -> String {
    "kubectl cannot be run; `weft install` prints the objects for other tools".to_owned()
}
