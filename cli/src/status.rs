//! `weft status`: which agents and pods there are, and how they are.

use serde_json::json;

use crate::Outcome;
use crate::agents;
use crate::arguments::{Arguments, Output};
use crate::controller;
use crate::paint::{Paint, print_json};
use crate::status_view;

pub async fn run(arguments: &Arguments, paint: Paint) -> anyhow::Result<Outcome> {
    let agents = agents::find(&arguments.run_directories).await;
    let controller = match &arguments.controller_socket {
        Some(socket) => Some(controller::status(socket).await),
        None => None,
    };
    let healthy = agents.iter().all(|agent| agent.status().is_some_and(|status| status.ready || status.draining))
        && agents.iter().filter_map(|agent| agent.status()).all(|status| status.pods.iter().all(|pod| pod.enrolled))
        && controller.as_ref().is_none_or(Result::is_ok);
    let outcome = if healthy { Outcome::Fine } else { Outcome::ProblemFound };
    if arguments.output == Output::Json {
        let listed: Vec<_> = agents
            .iter()
            .map(|agent| {
                json!({
                    "node": agent.node,
                    "run_dir": agent.directory,
                    "answering": agent.status().is_some(),
                    "problem": agent.problem().map(ToString::to_string),
                    "status": agent.status(),
                })
            })
            .collect();
        let controller = controller.map(|answer| match answer {
            Ok(status) => json!(status),
            Err(error) => json!({ "problem": error.to_string() }),
        });
        print_json(&json!({ "agents": listed, "controller": controller }))?;
        return Ok(outcome);
    }
    status_view::show(&agents, controller.as_ref(), paint)?;
    Ok(outcome)
}
