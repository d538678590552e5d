//! `weft ask`: one answer as it is, for a `weft` elsewhere that cannot reach the socket itself.

use anyhow::Context as _;

use crate::Outcome;
use crate::agents;
use crate::arguments::{Arguments, AskArguments};
use crate::ask::ask_text;
use crate::paint::print;

/// Prints what the controller answers, where its socket is said, or the agent that runs here.
pub async fn run(arguments: &Arguments, question: &AskArguments) -> anyhow::Result<Outcome> {
    let agent = || Some(agents::places(&arguments.run_directories).into_iter().next()?.join(agents::SOCKET));
    let socket = arguments.controller_socket.clone().or_else(agent).context("no agent runs here")?;
    let parameters: Vec<_> = question.parameters.iter().filter_map(|words| words.split_once('=')).collect();
    print(ask_text(&socket, &question.path, &parameters).await?)?;
    Ok(Outcome::Fine)
}
