//! What was looked at and what came of it, and how that is printed.

use serde::Serialize;

use crate::Outcome;
use crate::arguments::Output;
use crate::paint::{Mood, Paint, print, print_json, print_table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fine,
    /// Works, and a person should know.
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The heading that it is printed under.
    pub group: String,
    pub name: String,
    pub verdict: Verdict,
    pub cause: Option<String>,
    pub fix: Option<String>,
}

#[derive(Debug, Default)]
pub struct Checks {
    pub made: Vec<Check>,
}

impl Checks {
    pub fn fine(&mut self, group: &str, name: impl Into<String>) {
        self.add(group, name, Verdict::Fine, None);
    }

    pub fn problem(&mut self, group: &str, name: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(group, name, Verdict::Problem, Some((cause.into(), fix.into())));
    }

    pub fn warning(&mut self, group: &str, name: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(group, name, Verdict::Warning, Some((cause.into(), fix.into())));
    }

    fn add(&mut self, group: &str, name: impl Into<String>, verdict: Verdict, told: Option<(String, String)>) {
        let (cause, fix) = told.unzip();
        self.made.push(Check { group: group.to_owned(), name: name.into(), verdict, cause, fix });
    }

    /// Prints everything, or what is wrong.
    pub fn tell(self, output: Output, quiet: bool, paint: Paint) -> anyhow::Result<Outcome> {
        let checks = self.made;
        let problems = checks.iter().any(|check| check.verdict == Verdict::Problem);
        let outcome = if problems { Outcome::ProblemFound } else { Outcome::Fine };
        match output {
            Output::Json => print_json(&checks)?,
            Output::Table => show(&checks, quiet, paint)?,
        }
        Ok(outcome)
    }
}

fn show(checks: &[Check], quiet: bool, paint: Paint) -> anyhow::Result<()> {
    let mut group = "";
    for check in checks.iter().filter(|check| !quiet || check.verdict != Verdict::Fine) {
        if check.group != group {
            if !group.is_empty() {
                print("")?;
            }
            print(paint.heading(&check.group))?;
            group = &check.group;
        }
        let (mood, mark) = match check.verdict {
            Verdict::Fine => (Mood::Good, "✓"),
            Verdict::Warning => (Mood::Doubtful, "!"),
            Verdict::Problem => (Mood::Bad, "✗"),
        };
        print(format!("  {} {}", paint.text(mood, mark), check.name))?;
        let mut table = paint.columns();
        for (label, text) in [("cause", &check.cause), ("fix", &check.fix)] {
            if let Some(text) = text {
                table.add_row(vec![
                    paint.cell(Mood::Plain, "   "),
                    paint.cell(Mood::Faint, label),
                    paint.cell(Mood::Plain, text),
                ]);
            }
        }
        if !table.is_empty() {
            print_table(table)?;
        }
    }
    let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    if !quiet || problems + warnings > 0 {
        print("")?;
    }
    match (problems, warnings) {
        (0, 0) => print(paint.text(Mood::Good, format!("All {} checks passed.", checks.len()))),
        (0, warnings) => print(paint.text(Mood::Doubtful, format!("No problem, {warnings} to know of."))),
        (problems, warnings) => print(paint.text(Mood::Bad, format!("{problems} to mend, {warnings} to know of."))),
    }
}
