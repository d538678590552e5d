//! The scenes in their order. Each leaves the stage as the next expects it.

mod backends;
mod canary;
mod capture;
mod failure;
mod policy;
mod requests;
mod upgrade;

use anyhow::Result;

use crate::screen::Screen;
use crate::stage::Stage;

/// A scene.
pub struct Scene {
    /// What it claims.
    pub title: &'static str,
    /// Plays it; fails without its evidence.
    pub play: fn(&mut Stage, &Screen) -> Result<()>,
}

/// The story.
pub const ALL: [Scene; 14] = [
    Scene { title: "Without Weft, whoever sits on the wire reads along", play: capture::before },
    Scene { title: "One label switches capture on; no application is restarted", play: capture::switch_on },
    Scene { title: "The server sees the client's real address, the log its identity", play: capture::identity },
    Scene { title: "A backend dies, new connections go elsewhere", play: backends::one_dies },
    Scene { title: "In strict mode an intruder that speaks plaintext is refused", play: policy::intruder },
    Scene { title: "A policy forbids one service account", play: policy::forbid_account },
    Scene { title: "A canary: 5, 50, 100 % by editing a weight", play: canary::by_weight },
    Scene {
        title: "Rolled back by one edit; a header sends testers to the new version",
        play: canary::testers_and_back,
    },
    Scene { title: "A backend that fails is hidden by retries, within a budget", play: requests::failures_hidden },
    Scene { title: "gRPC calls of one connection are balanced over two pods", play: requests::calls_balanced },
    Scene { title: "A rule denies one method, and the answer names the rule", play: requests::delete_denied },
    Scene {
        title: "The agent is killed: a closed namespace refuses, an open one goes on",
        play: failure::agent_killed,
    },
    Scene { title: "The agent is upgraded under load", play: upgrade::under_load },
    Scene { title: "What the wire has heard in all", play: capture::nothing_heard },
];
