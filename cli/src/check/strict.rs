//! `weft check --strict NAMESPACE`: who would be refused if the namespace took mTLS alone, from what its agents have seen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cluster::{self, Cluster};
use crate::Outcome;
use crate::agents::Agent;
use crate::arguments::Output;
use crate::paint::{Mood, Paint, ago, print, print_json, print_table};

/// One agent's answer to `/callers?namespace=`.
#[derive(Debug, Clone, Deserialize)]
pub struct Callers {
    node: String,
    #[serde(default)]
    pods: Vec<PodCallers>,
    #[serde(default)]
    unseen: Vec<Unseen>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodCallers {
    pod: String,
    source: String,
    since: Option<Timestamp>,
    #[serde(default)]
    callers: Vec<Caller>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Caller {
    address: String,
    workload: Option<String>,
    port: u16,
    who: String,
    standing: String,
    why: String,
    connections: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Unseen {
    pod: String,
    why: String,
}

/// An agent that could not be asked: its node or its pod, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Unasked {
    pub place: String,
    pub problem: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Nobody who was seen.
    Nobody,
    Somebody,
    /// Pods are there, and nobody has looked at them.
    NoData,
    /// No agent knows a pod of this namespace.
    NoPods,
}

#[derive(Debug, Serialize)]
struct Answer {
    namespace: String,
    verdict: Verdict,
    refused: Vec<Called>,
    /// Callers of which nobody can tell.
    unknown: Vec<Called>,
    /// How many others were seen, who would not be refused.
    accepted: usize,
    looked_at: Vec<LookedAt>,
    unseen: Vec<Unseen>,
    unasked: Vec<Unasked>,
}

#[derive(Debug, Serialize)]
struct Called {
    pod: String,
    node: String,
    #[serde(flatten)]
    caller: Caller,
}

#[derive(Debug, Serialize)]
struct LookedAt {
    pod: String,
    node: String,
    source: String,
    since: Option<Timestamp>,
}

/// What the agents say.
pub type Answers = Vec<Result<Callers, Unasked>>;

pub async fn of_machine(agents: &[Agent], namespace: &str) -> Answers {
    let mut answers = Vec::new();
    for agent in agents {
        let answer = agent.ask("/callers", &[("namespace", namespace)]).await;
        let unasked =
            |problem: crate::ask::AskError| Unasked { place: agent.node.clone(), problem: problem.to_string() };
        answers.push(answer.map_err(unasked));
    }
    answers
}

pub fn of_cluster(cluster: Cluster<'_>, namespace: &str) -> anyhow::Result<Answers> {
    let pods = cluster::agents(cluster)?;
    let question = ["/callers", &format!("namespace={namespace}")];
    let answers = cluster::ask_all(cluster, &pods, &question);
    let unasked = |(pod, answer): (&cluster::Pod, Result<Callers, String>)| {
        answer.map_err(|problem| Unasked { place: format!("node {}", pod.node), problem })
    };
    Ok(pods.iter().zip(answers).map(unasked).collect())
}

pub fn tell(namespace: &str, answers: Answers, output: Output, paint: Paint) -> anyhow::Result<Outcome> {
    let answer = weigh(namespace, answers);
    match output {
        Output::Json => print_json(&answer)?,
        Output::Table => show(&answer, paint)?,
    }
    Ok(match answer.verdict {
        Verdict::Nobody if answer.unasked.is_empty() => Outcome::Fine,
        Verdict::NoPods => Outcome::Usage,
        Verdict::Nobody | Verdict::Somebody | Verdict::NoData => Outcome::ProblemFound,
    })
}

/// Puts the agents' answers together.
fn weigh(namespace: &str, answers: Answers) -> Answer {
    let mut answer = Answer {
        namespace: namespace.to_owned(),
        verdict: Verdict::NoPods,
        refused: Vec::new(),
        unknown: Vec::new(),
        accepted: 0,
        looked_at: Vec::new(),
        unseen: Vec::new(),
        unasked: Vec::new(),
    };
    for one in answers {
        let callers = match one {
            Ok(callers) => callers,
            Err(unasked) => {
                answer.unasked.push(unasked);
                continue;
            }
        };
        for PodCallers { pod, source, since, callers: seen } in callers.pods {
            let node = callers.node.clone();
            for caller in seen {
                let called = Called { pod: pod.clone(), node: node.clone(), caller };
                match called.caller.standing.as_str() {
                    "accepted" => answer.accepted += 1,
                    "refused" => answer.refused.push(called),
                    _ => answer.unknown.push(called),
                }
            }
            answer.looked_at.push(LookedAt { pod, node, source, since });
        }
        answer.unseen.extend(callers.unseen);
    }
    // A pod that is about to be observed tells nothing yet.
    let looked_at = answer.looked_at.iter().any(|pod| pod.since.is_some());
    answer.verdict = match () {
        () if !answer.refused.is_empty() => Verdict::Somebody,
        () if looked_at => Verdict::Nobody,
        () if answer.looked_at.is_empty() && answer.unseen.is_empty() => Verdict::NoPods,
        () => Verdict::NoData,
    };
    answer
}

fn show(answer: &Answer, paint: Paint) -> anyhow::Result<()> {
    let (now, namespace) = (Timestamp::now(), &answer.namespace);
    let mut table = paint.table(&["", "CALLER", "POD", "PORT", "CONNECTIONS", "LAST", "WHY"]);
    let rows = [(Mood::Bad, "✗", &answer.refused), (Mood::Doubtful, "?", &answer.unknown)];
    for (mood, mark, called) in
        rows.into_iter().flat_map(|(mood, mark, all)| all.iter().map(move |one| (mood, mark, one)))
    {
        let Called { pod, caller, .. } = called;
        let named = caller.workload.as_ref().map(|name| format!("{name} ({})", caller.address));
        table.add_row(vec![
            paint.cell(mood, mark),
            paint.cell(Mood::Plain, named.as_ref().unwrap_or(&caller.address)),
            paint.cell(Mood::Plain, pod),
            paint.cell(Mood::Plain, caller.port),
            paint.cell(Mood::Plain, caller.connections),
            paint.cell(Mood::Plain, ago(caller.last, now)),
            paint.cell(Mood::Plain, &caller.why),
        ]);
    }
    if !table.is_empty() {
        print_table(table)?;
        print("")?;
    }
    for unasked in &answer.unasked {
        print(paint.text(Mood::Bad, format!("{} could not be asked: {}", unasked.place, unasked.problem)))?;
    }
    for unseen in &answer.unseen {
        print(paint.text(Mood::Doubtful, format!("Nothing is known of {}: {}.", unseen.pod, unseen.why)))?;
    }
    let since = answer.looked_at.iter().filter_map(|pod| pod.since);
    let (oldest, newest) = (since.clone().min(), since.max());
    let span = match (oldest, newest) {
        (Some(oldest), Some(newest)) => format!(
            "{} pods were looked at, since {} the first and {} the last; {} callers would be let in as before.",
            answer.looked_at.len(),
            ago(oldest, now),
            ago(newest, now),
            answer.accepted
        ),
        _ => String::new(),
    };
    match answer.verdict {
        Verdict::Somebody => print(paint.text(
            Mood::Bad,
            format!("{} callers would be refused if {namespace} were strict. {span}", answer.refused.len()),
        )),
        Verdict::Nobody => print(paint.text(
            Mood::Good,
            format!("Nobody who was seen would be refused if {namespace} were strict. {span}"),
        )),
        Verdict::NoData => print(paint.text(
            Mood::Bad,
            format!("Nobody knows: no pod of {namespace} is observed or captured. Look for a while first: kubectl label namespace {namespace} weft.dev/capture=observe"),
        )),
        Verdict::NoPods => print(paint.text(Mood::Bad, format!("No agent that was asked knows a pod of {namespace}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(pods: &str, unseen: &str) -> Callers {
        serde_json::from_str(&format!(r#"{{"node":"a","pods":[{pods}],"unseen":[{unseen}]}}"#)).unwrap()
    }

    fn pod(since: &str, standings: &[&str]) -> String {
        let caller = |standing: &&str| {
            format!(
                r#"{{"address":"10.0.0.1","workload":null,"port":80,"who":"outside","standing":"{standing}","why":"it is",
                "connections":1,"first":"2026-11-22T00:00:00Z","last":"2026-11-22T00:00:00Z"}}"#
            )
        };
        let callers: Vec<String> = standings.iter().map(caller).collect();
        format!(
            r#"{{"pod":"shop/web","source":"observed","since":{since},"callers":[{}],"calls":[]}}"#,
            callers.join(",")
        )
    }

    #[test]
    fn no_data_is_no_good_news() {
        let since = r#""2026-11-22T00:00:00Z""#;
        let unseen = r#"{"pod":"shop/db","why":"it is neither captured nor observed"}"#;
        for (pods, unseen, expected) in [
            (pod(since, &["accepted", "refused"]), "", Verdict::Somebody),
            (pod(since, &["accepted", "unknown"]), "", Verdict::Nobody),
            (pod(since, &[]), unseen, Verdict::Nobody),
            (pod("null", &[]), "", Verdict::NoData),
            (String::new(), unseen, Verdict::NoData),
            (String::new(), "", Verdict::NoPods),
        ] {
            let answer = weigh("shop", vec![Ok(callers(&pods, unseen))]);
            assert_eq!(answer.verdict, expected, "{answer:?}");
        }
        let unasked = Unasked { place: "node b".to_owned(), problem: "gone".to_owned() };
        let answer = weigh("shop", vec![Ok(callers(&pod(since, &["accepted"]), "")), Err(unasked)]);
        assert_eq!((answer.accepted, answer.unasked.len()), (1, 1));
    }
}
