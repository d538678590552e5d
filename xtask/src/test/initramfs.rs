//! A root file system for the emulated machine: a cpio archive in the `newc` format, as
//! Documentation/driver-api/early-userspace/buffer-format.rst of the kernel has it.

use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// Device numbers of /dev/console, which init's standard streams are.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

/// The last entry's name.
const END: &str = "TRAILER!!!";

/// An archive under construction. Paths are relative to the root; their folders are made as needed.
pub struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), folders: BTreeSet::new(), entries: 0 }
    }

    /// Adds an executable file.
    pub fn add_file(&mut self, path: &str, content: &[u8]) {
        self.add_folders_of(path);
        self.add_entry(path, PROGRAM, (0, 0), content);
    }

    /// Adds /dev/console.
    pub fn add_console(&mut self) {
        self.add_folders_of("dev/console");
        self.add_entry("dev/console", CONSOLE, CONSOLE_DEVICE, &[]);
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.add_entry(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn add_folders_of(&mut self, path: &str) {
        let Some(parent) = Path::new(path).parent().and_then(Path::to_str).filter(|parent| !parent.is_empty()) else {
            return;
        };
        if self.folders.insert(parent.to_owned()) {
            self.add_folders_of(parent);
            self.add_entry(parent, FOLDER, (0, 0), &[]);
        }
    }

    fn add_entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Names and contents end on a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_folder_once_and_an_end() {
        let mut archive = Initramfs::new();
        archive.add_file("lib/x/one", b"1");
        archive.add_file("lib/x/two", b"22222");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 5, "two folders, two files, the end");
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.find("lib/x\0") < text.find("lib/x/one\0"), "a folder comes before what is in it");
        assert!(text.contains(END));
    }
}
