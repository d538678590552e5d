//! Raw requests to real servers, without a mesh and through it: a server sees the same request, or the client an answer that
//! says why not, and never does a server see what policy has not seen.
//!
//! `case` reads the byte strings, `stage` plays them, `view` holds what everybody saw, `equivalence` says what the same
//! request is, `judge` decides. Absent: HTTP/2, whose frames leave less to misunderstand.

mod case;
mod equivalence;
mod judge;
mod stage;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use crate::scene::{Promise, Scene};
use case::{Case, Note};
use judge::{Outcome, Trial, Verdict};
use stage::{Application, Played, Way};

/// As many as were promised.
const CASES: usize = 700;
/// Mismatches that are printed in full.
const TOLD: usize = 4000;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("http_servers_see_what_policy_saw_or_nothing", same_or_refused)
            .proves("at least 700 raw requests, to nginx, Apache, Node and Go: the same request as without a mesh, or a refusal; none that policy saw otherwise"),
    ]
}

fn same_or_refused(scene: &Scene) -> Result<()> {
    let cases = case::all()?;
    ensure!(cases.len() >= CASES, "only {} cases", cases.len());
    let mut mesh = stage::start(scene)?;
    let everything = stage::play(&mut mesh, &cases)?;
    let mut table = Table::default();
    let mut mismatches = Vec::new();
    for application in Application::ALL {
        for way in Way::THROUGH_THE_MESH {
            for (number, case) in cases.iter().enumerate() {
                let of = |way| &everything[&(application, way)][number];
                let trial = Trial { case, application, way, direct: of(Way::Direct), meshed: of(way) };
                let verdict = trial.judge();
                if !verdict.violations.is_empty() {
                    mismatches.push(tell(&trial, &verdict));
                }
                table.add(&trial, &verdict);
            }
        }
    }
    table.print(scene, &cases);
    if !mismatches.is_empty() {
        let told = mismatches.iter().take(TOLD).cloned().collect::<String>();
        bail!("{} mismatches, of which the first:\n{told}", mismatches.len());
    }
    Ok(())
}

/// A mismatch with the three views.
fn tell(trial: &Trial<'_>, verdict: &Verdict) -> String {
    let Trial { case, application, way, direct, meshed } = trial;
    let seen = |played: &Played| {
        let requests = played.notes.requests.iter().map(|request| format!("\n      {request:?}"));
        requests.collect::<String>()
    };
    let records = meshed.outbound.iter().map(|record| format!("\n      out {record}"));
    let records: String = records.chain(meshed.inbound.iter().map(|record| format!("\n      in  {record}"))).collect();
    let connection =
        meshed.connection.as_ref().map(|record| format!("\n      connection {record}")).unwrap_or_default();
    let answers = |played: &Played| format!("{} {:?}", played.outcome, played.answers);
    let texts = [
        format!("== {} · {way} to {application}: {}", case.name, verdict.violations.join("; ")),
        format!("   {}", case::printable(&case.bytes)),
        format!("   without a mesh: {}{}", answers(direct), seen(direct)),
        format!("   through it:     {}{}", answers(meshed), seen(meshed)),
        format!("   policy:{records}{connection}\n"),
    ];
    texts.map(|text| text.chars().take(2_000).collect::<String>()).join("\n")
}

/// What became of all cases.
#[derive(Default)]
struct Table {
    outcomes: BTreeMap<(Application, Way, Outcome), usize>,
    allowances: BTreeMap<equivalence::Allowance, usize>,
    violated: BTreeMap<(Application, Way), usize>,
    /// Cases and the notes on them that were needed.
    needed: BTreeSet<(String, &'static str)>,
    checks: usize,
}

impl Table {
    fn add(&mut self, trial: &Trial<'_>, verdict: &Verdict) {
        let run = (trial.application, trial.way);
        *self.outcomes.entry((run.0, run.1, verdict.outcome)).or_default() += 1;
        for allowance in &verdict.used {
            *self.allowances.entry(*allowance).or_default() += 1;
        }
        if let Some(note) = verdict.note {
            self.needed.insert((trial.case.name.clone(), word(note)));
        }
        *self.violated.entry(run).or_default() += usize::from(!verdict.violations.is_empty());
        self.checks += verdict.checks;
    }

    /// Notes that no application needed: another version of one of them may.
    fn unneeded(&self, cases: &[Case]) -> Vec<String> {
        let notes = cases.iter().flat_map(|case| case.notes.iter().map(|note| (case.name.clone(), word(*note))));
        let unneeded = notes.filter(|note| !self.needed.contains(note));
        unneeded.map(|(name, note)| format!("{name} ({note})")).collect()
    }

    fn print(&self, scene: &Scene, cases: &[Case]) {
        let columns = [Outcome::Same, Outcome::Neither, Outcome::Denied, Outcome::Refused, Outcome::Normalised];
        scene.note("application  way        same  neither  denied  refused  normalised  mismatched");
        for application in Application::ALL {
            for way in Way::THROUGH_THE_MESH {
                let count = |outcome| self.outcomes.get(&(application, way, outcome)).copied().unwrap_or_default();
                let [same, neither, denied, refused, normalised] = columns.map(count);
                let violated = self.violated.get(&(application, way)).copied().unwrap_or_default();
                scene.note(&format!(
                    "{:<11}  {:<9} {same:>5} {neither:>8} {denied:>7} {refused:>8} {normalised:>11} {violated:>11}",
                    application.to_string(),
                    way.to_string()
                ));
            }
        }
        let allowances: Vec<String> =
            self.allowances.iter().map(|(allowance, count)| format!("{allowance:?} {count}")).collect();
        scene.note(&format!("what differed and may: {}", allowances.join(", ")));
        scene.note(&format!("exceptions that nobody needed: {}", self.unneeded(cases).join(", ")));
        scene.note(&format!(
            "{} cases to {} applications on {} ways, {} checks",
            cases.len(),
            Application::ALL.len(),
            Way::THROUGH_THE_MESH.len(),
            self.checks
        ));
    }
}

const fn word(note: Note) -> &'static str {
    match note {
        Note::Refused => "refused",
        Note::RefusedWhereJudged => "refused where judged",
        Note::Normalised => "normalised",
    }
}
