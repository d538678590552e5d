//! What the audience sees: scenes, commands, the lines that matter, and what they prove.

use std::time::Duration;

use owo_colors::{OwoColorize, Stream};
use weft_rig::place::Outcome;

/// Lines of one command's output that are shown.
const SHOWN_LINES: usize = 6;
/// Characters of one line that are shown.
const SHOWN_WIDTH: usize = 150;

/// The terminal, or whatever the output is.
#[derive(Debug)]
pub struct Screen;

#[expect(clippy::print_stdout, reason = "this is the screen")]
impl Screen {
    pub fn new() -> Self {
        Self
    }

    /// The heading of a scene.
    pub fn scene(&self, number: usize, title: &str) {
        let heading = format!("{number}. {title}");
        println!("\n{}", heading.if_supports_color(Stream::Stdout, |text| text.bold()));
    }

    /// A sentence of the story.
    pub fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// A step that takes a moment.
    pub fn step(&self, text: &str) {
        println!("   {}", text.if_supports_color(Stream::Stdout, |text| text.dimmed()));
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
        let prompt = format!("{place} $");
        println!("   {} {}", prompt.if_supports_color(Stream::Stdout, |text| text.cyan()), cut(line));
    }

    /// A line of evidence.
    pub fn quote(&self, line: &str) {
        println!("     {}", cut(line).if_supports_color(Stream::Stdout, |text| text.dimmed()));
    }

    /// What has just been proven.
    pub fn proven(&self, text: &str) {
        println!("   {} {text}", "✓".if_supports_color(Stream::Stdout, |text| text.green()));
    }

    /// What went wrong.
    pub fn failure(&self, error: &anyhow::Error) {
        println!("   {} {error:#}", "✗".if_supports_color(Stream::Stdout, |text| text.red()));
    }

    /// The last word.
    pub fn end(&self, failed: &[usize], time: Duration) {
        println!();
        if failed.is_empty() {
            self.proven(&format!("every scene has shown its evidence ({:.0} s)", time.as_secs_f64()));
        } else {
            let numbers: Vec<String> = failed.iter().map(ToString::to_string).collect();
            let text = format!("without their evidence: scene {} ({:.0} s)", numbers.join(", "), time.as_secs_f64());
            println!("   {}", text.if_supports_color(Stream::Stdout, |text| text.red()));
        }
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= SHOWN_WIDTH {
        return line.to_owned();
    }
    line.chars().take(SHOWN_WIDTH - 1).chain(['…']).collect()
}
