//! The cases: byte strings with names, and what may become of them apart from arriving as they were sent.
//!
//! They are text files: `name = bytes`, one a line. In the bytes `|` is CR LF, `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN` are what
//! they are elsewhere, and `{text*N}` is the text N times. Lines below a case that begin with spaces are notes on it.

use anyhow::{Context, Result, bail, ensure};

const FILES: [(&str, &str); 4] = [
    ("lines", include_str!("cases/lines.cases")),
    ("targets", include_str!("cases/targets.cases")),
    ("fields", include_str!("cases/fields.cases")),
    ("bodies", include_str!("cases/bodies.cases")),
];

/// Bytes that a client sends on one connection.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub notes: Vec<Note>,
}

/// An exception, with its reason in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The mesh refuses what an application would take.
    Refused,
    /// The same, but only where routes or rules judge requests.
    RefusedWhereJudged,
    /// The application gets, as policy sees it, what it would refuse or read otherwise if it got the client's own bytes.
    Normalised,
}

impl Note {
    fn read(text: &str) -> Result<Self> {
        let (kind, reason) = text.split_once(": ").with_context(|| format!("no reason in {text:?}"))?;
        ensure!(!reason.trim().is_empty(), "no reason in {text:?}");
        match kind {
            "refused" => Ok(Self::Refused),
            "refused where judged" => Ok(Self::RefusedWhereJudged),
            "normalised" => Ok(Self::Normalised),
            other => bail!("{other:?} is no kind of note"),
        }
    }
}

/// Every case of every file.
pub fn all() -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in FILES {
        for (number, line) in text.lines().enumerate() {
            read_line(line, &mut cases).with_context(|| format!("{file}.cases, line {}", number + 1))?;
        }
    }
    Ok(cases)
}

fn read_line(line: &str, cases: &mut Vec<Case>) -> Result<()> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if let Some(note) = line.strip_prefix("    ") {
        let case = cases.last_mut().context("a note before any case")?;
        case.notes.push(Note::read(note)?);
        return Ok(());
    }
    let (name, text) = line.split_once(" = ").context("no name")?;
    ensure!(cases.iter().all(|case| case.name != name), "there is another case {name:?}");
    let bytes = bytes_of(text)?;
    cases.push(Case { name: name.to_owned(), bytes, notes: Vec::new() });
    Ok(())
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '|' => bytes.extend(b"\r\n"),
            '\\' => rest = escaped(rest, &mut bytes)?,
            '{' => match repetition(rest) {
                Some((repeated, count, after)) => {
                    bytes.extend(bytes_of(repeated)?.repeat(count));
                    rest = after;
                }
                None => bytes.push(b'{'),
            },
            letter => bytes.extend(letter.to_string().bytes()),
        }
    }
    Ok(bytes)
}

fn escaped<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str> {
    let letter = rest.chars().next().context("nothing after a backslash")?;
    let after = &rest[letter.len_utf8()..];
    let byte = match letter {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = after.get(..2).context("no two digits after \\x")?;
            bytes.push(u8::from_str_radix(digits, 16)?);
            return Ok(&after[2..]);
        }
        other => bail!("\\{other} is no escape"),
    };
    bytes.push(byte);
    Ok(after)
}

/// What is repeated, how often, and what follows.
fn repetition(rest: &str) -> Option<(&str, usize, &str)> {
    let (inside, after) = rest.split_once('}')?;
    let (text, count) = inside.rsplit_once('*')?;
    Some((text, count.parse().ok()?, after))
}

/// Bytes as one line of text, for people.
pub fn printable(bytes: &[u8]) -> String {
    const SHOWN: usize = 400;
    let text =
        bytes.iter().take(SHOWN).copied().flat_map(std::ascii::escape_default).map(char::from).collect::<String>();
    if bytes.len() > SHOWN { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
