//! The agents of this machine: where they are and whether they answer.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::answers::Status;
use crate::ask::{AskError, ask};

pub const SOCKET: &str = "admin.sock";
/// Where an agent writes whose place this is.
const NODE_FILE: &str = "node";
/// More agents than this on one machine is a mistyped directory.
const AGENTS_MAXIMUM: usize = 256;

/// One place where an agent runs, or ran.
#[derive(Debug)]
pub struct Agent {
    pub directory: PathBuf,
    /// As it says, or as its place says when it is dead.
    pub node: String,
    pub state: State,
}

#[derive(Debug)]
pub enum State {
    Answering(Box<Status>),
    /// It cannot be asked; the reason, in a sentence's words.
    Dead(AskError),
}

impl Agent {
    pub fn status(&self) -> Option<&Status> {
        match &self.state {
            State::Answering(status) => Some(status),
            State::Dead(_) => None,
        }
    }

    pub fn problem(&self) -> Option<&AskError> {
        match &self.state {
            State::Answering(_) => None,
            State::Dead(error) => Some(error),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    pub async fn ask<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> Result<T, AskError> {
        ask(&self.socket(), path, parameters).await
    }
}

/// Finds the agents below `directories` and asks each for its status.
pub async fn find(directories: &[PathBuf]) -> Vec<Agent> {
    let mut agents = Vec::new();
    for directory in places(directories).into_iter().take(AGENTS_MAXIMUM) {
        let state = match ask::<Status>(&directory.join(SOCKET), "/status", &[]).await {
            Ok(status) => State::Answering(Box::new(status)),
            Err(error) => State::Dead(error),
        };
        let node = match &state {
            State::Answering(status) => status.node.clone(),
            State::Dead(_) => node_of(&directory),
        };
        agents.push(Agent { directory, node, state });
    }
    agents.sort_by(|one, other| one.node.cmp(&other.node));
    agents
}

/// Whether an agent runs, or ran, below one of these.
pub fn are_in(directories: &[PathBuf]) -> bool {
    places(directories).iter().any(|directory| is_place(directory))
}

/// Each directory that is an agent's, and for any other the agents' directories in it.
pub fn places(directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in directories {
        let mut inside: Vec<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_place(path))
            .collect();
        inside.sort();
        // A directory that was named and holds nothing is told as an agent that is gone.
        if is_place(directory) || inside.is_empty() {
            found.push(directory.clone());
        }
        found.append(&mut inside);
    }
    found.dedup();
    found
}

fn is_place(directory: &Path) -> bool {
    directory.join(SOCKET).exists() || directory.join(NODE_FILE).is_file()
}

fn node_of(directory: &Path) -> String {
    let written = std::fs::read_to_string(directory.join(NODE_FILE)).ok();
    let named = || directory.file_name().map(|name| name.to_string_lossy().into_owned());
    written.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).or_else(named).unwrap_or_default()
}
