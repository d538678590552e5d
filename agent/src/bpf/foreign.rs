//! Other people's programs at the hooks that Weft uses: told, never touched.

use std::collections::HashSet;

use super::datapath::{Datapath, open_folder};
use super::error::BpfError;
use super::links::{CONNECT4, CONNECT6, PEER_NAME4, PEER_NAME6, SOCKET_CREATE, SOCKET_OPERATIONS};
use super::{program, system};

/// The hooks, by the names that people know.
const HOOKS: [(&str, u32); 6] = [
    ("connect4", CONNECT4),
    ("connect6", CONNECT6),
    ("getpeername4", PEER_NAME4),
    ("getpeername6", PEER_NAME6),
    ("sock_ops", SOCKET_OPERATIONS),
    ("sock_create", SOCKET_CREATE),
];

/// One program at one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProgram {
    pub hook: &'static str,
    /// As it was loaded; the kernel keeps 15 bytes.
    pub name: String,
}

impl Datapath {
    /// What runs for the pods' sockets beside Weft's programs, attached to the pods' cgroup or above it.
    pub fn foreign_programs(&self) -> Result<Vec<ForeignProgram>, BpfError> {
        let own: HashSet<u32> = self.attachments()?.into_iter().map(|attachment| attachment.program).collect();
        let (cgroup, _) = open_folder(&self.paths().pods_cgroup)?;
        let mut found = Vec::new();
        for (hook, attach_type) in HOOKS {
            let ids = system::effective_programs(&cgroup, attach_type);
            let ids = ids.map_err(BpfError::system("ask which programs are at a cgroup"))?;
            for id in ids.into_iter().filter(|id| !own.contains(id)) {
                // It may have gone since.
                let Ok(loaded) = system::program_by_id(id) else { continue };
                found.push(ForeignProgram { hook, name: program::facts(&loaded)?.name() });
            }
        }
        Ok(found)
    }
}
