//! Which programs are attached where, as the kernel says: for `weft status` and `weft check`.

use super::datapath::Datapath;
use super::error::BpfError;
use super::{links, removal};

/// One pinned attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pin's name: the program and where it belongs, `connect4-pods`, `own-agent-1f`, `steer-3`.
    pub name: String,
    /// False when its cgroup or namespace is gone.
    pub attached: bool,
    /// The kernel's number of the program.
    pub program: u32,
}

impl Datapath {
    /// Every pinned attachment, in the order of their names.
    pub fn attachments(&self) -> Result<Vec<Attachment>, BpfError> {
        let mut found = Vec::new();
        for path in removal::files_in(&self.folders.links)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some((program, attached)) = links::state(&path)? {
                found.push(Attachment { name, attached, program });
            }
        }
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}
