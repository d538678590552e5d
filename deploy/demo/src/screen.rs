//! What the audience sees: scenes, commands, the lines that matter, and what they prove.

use std::io::IsTerminal;
use std::time::Duration;

use owo_colors::Style;
use weft_rig::place::Outcome;

/// Lines of one command's output that are shown.
const SHOWN_LINES: usize = 8;
/// Characters of one line that are shown.
const SHOWN_WIDTH: usize = 150;

/// The terminal, or whatever the output is.
#[derive(Debug)]
pub struct Screen {
    coloured: bool,
}

impl Screen {
    pub fn new() -> Self {
        Self { coloured: std::io::stdout().is_terminal() }
    }

    /// The heading of a scene.
    pub fn scene(&self, number: usize, title: &str) {
        self.line("");
        self.line(&self.painted(&format!("{number}. {title}"), Style::new().bold()));
    }

    /// A sentence of the story.
    pub fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// A step that takes a moment.
    pub fn step(&self, text: &str) {
        self.line(&format!("   {}", self.painted(text, Style::new().dimmed())));
    }

    /// A command that was run somewhere, and the first lines of what it said.
    pub fn command(&self, place: &str, outcome: &Outcome) {
        self.typed(place, &outcome.line);
        let text = if outcome.stdout.trim().is_empty() { &outcome.stderr } else { &outcome.stdout };
        for line in text.lines().filter(|line| !line.trim().is_empty()).take(SHOWN_LINES) {
            self.quote(line);
        }
    }

    /// A command line.
    pub fn typed(&self, place: &str, line: &str) {
        self.line(&format!("   {} {}", self.painted(&format!("{place} $"), Style::new().cyan()), cut(line)));
    }

    /// A line of evidence.
    pub fn quote(&self, line: &str) {
        self.line(&format!("     {}", self.painted(&cut(line), Style::new().dimmed())));
    }

    /// What has just been proven.
    pub fn proven(&self, text: &str) {
        self.line(&format!("   {} {text}", self.painted("✓", Style::new().green())));
    }

    /// What went wrong.
    pub fn failure(&self, error: &anyhow::Error) {
        self.line(&format!("   {} {error:#}", self.painted("✗", Style::new().red())));
    }

    /// The last word.
    pub fn end(&self, failed: &[usize], time: Duration) {
        self.line("");
        if failed.is_empty() {
            self.proven(&format!("every scene has shown its evidence ({:.0} s)", time.as_secs_f64()));
        } else {
            let numbers: Vec<String> = failed.iter().map(ToString::to_string).collect();
            let text = format!("without their evidence: scene {} ({:.0} s)", numbers.join(", "), time.as_secs_f64());
            self.line(&format!("   {}", self.painted(&text, Style::new().red())));
        }
    }

    fn painted(&self, text: &str, style: Style) -> String {
        if self.coloured { style.style(text).to_string() } else { text.to_owned() }
    }

    #[expect(clippy::print_stdout, clippy::unused_self, reason = "this is the screen")]
    fn line(&self, text: &str) {
        println!("{text}");
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= SHOWN_WIDTH {
        return line.to_owned();
    }
    line.chars().take(SHOWN_WIDTH - 1).chain(['…']).collect()
}
