//! The access log: one JSON object per ended connection or request and line, appended.
//!
//! A file that was renamed or removed (rotation) is noticed by its inode at the next write and opened
//! anew; a file that was truncated in place goes on at its end, since every write appends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::limits;

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    Off,
    /// Written `-` on the command line.
    Stdout,
    File(PathBuf),
}

#[derive(Debug)]
pub(super) struct AccessLog {
    output: Output,
    /// The lines of a batch. Its room is kept for the next one, up to [`limits::ACCESS_LOG_BUFFER`].
    lines: Vec<u8>,
}

#[derive(Debug)]
enum Output {
    Off,
    Stdout,
    File { path: PathBuf, file: File },
}

impl AccessLog {
    pub(super) fn open(target: &AccessLogTarget) -> io::Result<Self> {
        let output = match target {
            AccessLogTarget::Off => Output::Off,
            AccessLogTarget::Stdout => Output::Stdout,
            AccessLogTarget::File(path) => Output::File { path: path.clone(), file: append_to(path)? },
        };
        Ok(Self { output, lines: Vec::new() })
    }

    /// Writes a batch in one call, so that lines of several writers never mix.
    pub(super) fn write<R: Serialize>(&mut self, records: &[R]) -> io::Result<()> {
        if matches!(self.output, Output::Off) || records.is_empty() {
            return Ok(());
        }
        self.lines.clear();
        for record in records {
            serde_json::to_writer(&mut self.lines, record)?;
            self.lines.push(b'\n');
        }
        let written = self.output.append(&self.lines);
        self.lines.clear();
        self.lines.shrink_to(limits::ACCESS_LOG_BUFFER);
        written
    }
}

impl Output {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File { path, file } => {
                if was_rotated(path, file) {
                    *file = append_to(path)?;
                }
                file.write_all(lines)
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Names and addresses of a whole node's traffic are nobody else's business.
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn was_rotated(path: &Path, file: &File) -> bool {
    let (Ok(named), Ok(open)) = (std::fs::metadata(path), file.metadata()) else {
        return true;
    };
    (named.dev(), named.ino()) != (open.dev(), open.ino())
}

#[cfg(test)]
mod tests {
    use super::super::{ConnectionRecord, Direction};
    use super::*;
    use crate::model::SnapshotVersion;

    #[test]
    fn a_rotated_file_is_followed_and_no_line_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut log = AccessLog::open(&AccessLogTarget::File(path.clone())).unwrap();
        let record = ConnectionRecord::begin(Direction::Inbound, SnapshotVersion("v".into()));
        log.write(&[&record, &record]).unwrap();
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        log.write(&[&record]).unwrap();
        let lines = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap().lines().count();
        assert_eq!((lines("access.log.1"), lines("access.log")), (2, 1));
        File::create(&path).unwrap();
        log.write(&[&record]).unwrap();
        assert_eq!(lines("access.log"), 1);
    }
}
