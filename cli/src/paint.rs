//! Colours and tables, the same for all commands.

use std::fmt::Display;
use std::io::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use jiff::Timestamp;
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

/// Names in one line.
const NAMES: usize = 5;
/// Narrower than this a table of sentences cannot be read.
const WIDTH_MINIMUM: u16 = 60;
/// Wider than this a sentence cannot be read.
const SENTENCE_WIDTH_MAXIMUM: u16 = 110;

#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colours: bool,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    Doubtful,
    Bad,
    Plain,
    Faint,
}

impl Paint {
    pub const fn new(colours: bool) -> Self {
        Self { colours }
    }

    pub fn text(self, mood: Mood, text: impl Display) -> String {
        let style = match mood {
            Mood::Good => Style::new().green(),
            Mood::Doubtful => Style::new().yellow(),
            Mood::Bad => Style::new().red().bold(),
            Mood::Plain => Style::new(),
            Mood::Faint => Style::new().dimmed(),
        };
        if self.colours { text.style(style).to_string() } else { text.to_string() }
    }

    pub fn heading(self, text: impl Display) -> String {
        if self.colours { text.bold().to_string() } else { text.to_string() }
    }

    pub fn cell(self, mood: Mood, text: impl Display) -> Cell {
        let cell = Cell::new(text.to_string());
        if !self.colours {
            return cell;
        }
        match mood {
            Mood::Good => cell.fg(Color::Green),
            Mood::Doubtful => cell.fg(Color::Yellow),
            Mood::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
            Mood::Plain => cell,
            Mood::Faint => cell.add_attribute(Attribute::Dim),
        }
    }

    /// A table with a heading row, as wide as it needs to be and the terminal lets it.
    pub fn table(self, heading: &[&str]) -> Table {
        let mut table = self.bare(u16::MAX);
        let cells = heading.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold));
        table.set_header(cells);
        table
    }

    /// Columns without a heading: for marks, labels and sentences that wrap where a person can still read them.
    pub fn columns(self) -> Table {
        self.bare(SENTENCE_WIDTH_MAXIMUM)
    }

    fn bare(self, maximum: u16) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        // Without a terminal nothing wraps: a program reads it, or `grep`.
        if let Some(width) = table.width() {
            table.set_width(width.clamp(WIDTH_MINIMUM, maximum));
        }
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }
}

/// Prints text; a closed pipe is an error that ends the command quietly.
pub fn print(text: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Says to stderr what is not part of the answer.
pub fn complain(text: impl Display) {
    // Where stderr is closed nobody listens.
    let _ = writeln!(io::stderr(), "weft: {text}");
}

/// Prints a table without the blanks at the ends of its lines.
pub fn print_table(table: Table) -> anyhow::Result<()> {
    print(table_text(table))
}

pub fn table_text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?)
}

/// The first few names.
pub fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES { format!("{shown}, ...") } else { shown }
}

/// How long ago, as a person says it.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    if seconds < 0 { "in the future".to_owned() } else { format!("{} ago", span(seconds)) }
}

/// A length of time with one unit.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
