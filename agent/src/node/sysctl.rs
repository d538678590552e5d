//! The settings that an enrolled pod's namespace needs, and their restoration.
//!
//! `ip_local_reserved_ports` gets the capture range, or an application with a wide ephemeral range
//! connects to itself; `tcp_tw_reuse=1`, or connections to the application from the pod's own address
//! stop at some 470 new ones a second. Called by a thread inside the namespace.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_abi::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST};

const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";
const TIME_WAIT_REUSE: &str = "net/ipv4/tcp_tw_reuse";

/// What the namespace had before. Kept in the run directory, so that a later agent can restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    reserved_ports: String,
    time_wait_reuse: String,
}

/// Applies both settings below `root` (`/proc/sys`, or the host's). Returns what was there before.
pub fn apply(root: &Path) -> io::Result<Original> {
    let original =
        Original { reserved_ports: read(root, RESERVED_PORTS)?, time_wait_reuse: read(root, TIME_WAIT_REUSE)? };
    fs::write(root.join(RESERVED_PORTS), with_capture_range(&original.reserved_ports))?;
    fs::write(root.join(TIME_WAIT_REUSE), "1")?;
    Ok(original)
}

/// Puts back what [`apply`] found.
pub fn restore(root: &Path, original: &Original) -> io::Result<()> {
    // An empty list is written as a line: the kernel ignores a write of no bytes.
    fs::write(root.join(RESERVED_PORTS), format!("{}\n", original.reserved_ports))?;
    fs::write(root.join(TIME_WAIT_REUSE), &original.time_wait_reuse)
}

fn read(root: &Path, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(root.join(name))?.trim().to_owned())
}

fn with_capture_range(reserved: &str) -> String {
    let range = format!("{CAPTURE_PORT_FIRST}-{CAPTURE_PORT_LAST}");
    if reserved.is_empty() { range } else { format!("{reserved},{range}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reserved_stays_reserved() {
        assert_eq!(with_capture_range(""), "61000-61063");
        assert_eq!(with_capture_range("8080,9000-9010"), "8080,9000-9010,61000-61063");
    }

    #[test]
    fn both_settings_are_restored_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        fs::write(root.path().join(RESERVED_PORTS), "8080\n").unwrap();
        fs::write(root.path().join(TIME_WAIT_REUSE), "2\n").unwrap();
        let original = apply(root.path()).unwrap();
        assert_eq!(read(root.path(), RESERVED_PORTS).unwrap(), "8080,61000-61063");
        assert_eq!(read(root.path(), TIME_WAIT_REUSE).unwrap(), "1");
        restore(root.path(), &original).unwrap();
        assert_eq!(read(root.path(), RESERVED_PORTS).unwrap(), "8080");
        assert_eq!(read(root.path(), TIME_WAIT_REUSE).unwrap(), "2");
    }
}
