//! `weft tap`: requests live, as they end.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::Outcome;
use crate::agents;
use crate::answers::RequestRecord;
use crate::arguments::{Arguments, Output, TapArguments, TapSide};
use crate::ask::{AskError, ask_lines};
use crate::paint::{Mood, Paint, complain, print};

/// Lines that wait to be printed; after that the agents are not read, and tell what they leave out.
const LINES_WAITING: usize = 64;

struct Line {
    node: String,
    text: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Shown {
    Lost { lost: u64 },
    Request(Box<RequestRecord>),
}

pub async fn run(arguments: &Arguments, options: &TapArguments, paint: Paint) -> anyhow::Result<Outcome> {
    LocalSet::new().run_until(Box::pin(follow(arguments, options, paint))).await
}

async fn follow(arguments: &Arguments, options: &TapArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let agents = agents::find(&arguments.run_directories).await;
    let (sender, mut lines) = mpsc::channel(LINES_WAITING);
    let mut taps = JoinSet::new();
    for agent in agents {
        if let Some(problem) = agent.problem() {
            complain(format!("the agent of {}: {problem}", agent.node));
            continue;
        }
        let (socket, parameters, sender) = (agent.socket(), parameters(options), sender.clone());
        taps.spawn_local(async move {
            let node = agent.node.clone();
            let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let line = async |text| sender.send(Line { node: node.clone(), text }).await.is_ok();
            (agent.node.clone(), Box::pin(ask_lines(&socket, "/tap", &parameters, line)).await)
        });
    }
    drop(sender);
    let mut left = options.count;
    while left != Some(0) {
        let Some(line) = lines.recv().await else { break };
        if show(arguments, &line, paint)? {
            left = left.map(|left| left - 1);
        }
    }
    if left == Some(0) {
        return Ok(Outcome::Fine);
    }
    Ok(ended(&mut taps).await)
}

/// Every agent has ended its answer.
async fn ended(taps: &mut JoinSet<(String, Result<(), AskError>)>) -> Outcome {
    let mut outcome = Outcome::ProblemFound;
    while let Some(ended) = taps.join_next().await {
        match ended {
            Ok((_, Err(AskError::Declined(problem)))) => {
                complain(problem);
                outcome = Outcome::Usage;
            }
            Ok((node, Err(error))) => complain(format!("the agent of {node}: {error}")),
            Ok((node, Ok(()))) => complain(format!("the agent of {node} has ended")),
            Err(error) => complain(error),
        }
    }
    outcome
}

fn parameters(options: &TapArguments) -> Vec<(&'static str, String)> {
    let side = match options.side {
        TapSide::Source => Some("outbound"),
        TapSide::Destination => Some("inbound"),
        TapSide::Both => None,
    };
    let all = [
        ("direction", side.map(ToOwned::to_owned)),
        ("source", options.source.clone()),
        ("destination", options.destination.clone()),
        ("method", options.method.clone()),
        ("path", options.path.clone()),
        ("status", options.status.clone()),
        ("failed", options.failed.then(|| "true".to_owned())),
        ("sample", options.sample.map(|sample| sample.to_string())),
        ("rate", Some(options.rate.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Prints one line; true when it was a request.
fn show(arguments: &Arguments, line: &Line, paint: Paint) -> anyhow::Result<bool> {
    if arguments.output == Output::Json {
        let mut value: Value = serde_json::from_slice(&line.text)?;
        value["node"] = json!(line.node);
        print(&value)?;
        return Ok(value.get("lost").is_none());
    }
    match serde_json::from_slice(&line.text)? {
        Shown::Lost { lost } => {
            let what =
                format!("… {lost} more of node {} came too fast to be shown (see --rate and --sample)", line.node);
            print(paint.text(Mood::Doubtful, what))?;
            Ok(false)
        }
        Shown::Request(record) => {
            print(told(&record, paint))?;
            Ok(true)
        }
    }
}

fn told(record: &RequestRecord, paint: Paint) -> String {
    let mood = match (record.is_failure(), record.status) {
        (true, _) => Mood::Bad,
        (false, Some(400..)) => Mood::Doubtful,
        (false, _) => Mood::Good,
    };
    let retries = match record.retries {
        0 => String::new(),
        1 => "  1 retry".to_owned(),
        retries => format!("  {retries} retries"),
    };
    let route = record.route.as_deref().map(|route| format!("  {route}")).unwrap_or_default();
    let outcome = if record.outcome().is_empty() { String::new() } else { format!("  {}", record.outcome()) };
    format!(
        "{}  {}  {:>9}  {}  {} → {}  {} {}{}{}{}{}",
        paint.text(Mood::Faint, record.time.strftime("%H:%M:%S%.3f")),
        paint.text(mood, format!("{:>3}", record.answer())),
        time(record.duration_seconds),
        paint.text(Mood::Faint, &record.request),
        record.source.name(),
        record.destination.name(),
        record.method,
        record.host,
        record.path,
        paint.text(Mood::Faint, route),
        paint.text(mood, outcome),
        paint.text(Mood::Doubtful, retries),
    )
}

/// Milliseconds to a second, then seconds.
pub fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
