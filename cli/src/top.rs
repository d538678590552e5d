//! `weft top`: the requests of each route's rule and backend, from the difference of two readings of the agents' metrics.

mod rows;
mod screen;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::Outcome;
use crate::agents::{self, Agent};
use crate::arguments::{Arguments, Output, TopArguments};
use crate::ask::ask_text;
use crate::exposition::Reading;
use crate::paint::{Mood, Paint, print, print_json, table_text};
use crate::tap::time;

use rows::Row;
use screen::Screen;

/// What all agents have counted at one moment.
struct Moment {
    at: Instant,
    readings: Vec<(String, Reading)>,
    /// Agents that cannot be asked.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    time: Timestamp,
    seconds: f64,
    rows: Vec<Row>,
    problems: Vec<String>,
}

pub async fn run(arguments: &Arguments, options: &TopArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let agents = agents::find(&arguments.run_directories).await;
    let wait = Duration::from_secs(options.interval);
    let live = !options.once && arguments.output == Output::Table && io::stdout().is_terminal();
    let mut screen = if live { Some(Screen::open()?) } else { None };
    let mut before = read(&agents).await;
    if let Some(screen) = &mut screen {
        screen.draw(&format!("Reading {} for {} s …  (q ends)", count(agents.len(), "agent"), options.interval))?;
    }
    loop {
        match &screen {
            Some(_) if screen::is_ended_within(wait)? => return Ok(Outcome::Fine),
            Some(_) => {}
            None => tokio::time::sleep(wait).await,
        }
        let after = read(&agents).await;
        let shown = difference(&before, &after, options.service.as_deref());
        if let Some(screen) = &mut screen {
            screen.draw(&format!("{}\n{}", headline(&shown, options.interval, paint), table(&shown, paint)))?;
        } else if arguments.output == Output::Json {
            if options.once { print_json(&shown)? } else { print(serde_json::to_string(&shown)?)? }
        } else {
            print(table(&shown, paint))?;
        }
        if options.once {
            return Ok(if shown.problems.is_empty() { Outcome::Fine } else { Outcome::ProblemFound });
        }
        before = after;
    }
}

async fn read(agents: &[Agent]) -> Moment {
    let mut moment = Moment { at: Instant::now(), readings: Vec::new(), problems: Vec::new() };
    for agent in agents {
        match ask_text(&agent.socket(), "/metrics", &[]).await {
            Ok(text) => moment.readings.push((agent.node.clone(), Reading::of(&text))),
            Err(error) => moment.problems.push(format!("the agent of {}: {error}", agent.node)),
        }
    }
    moment
}

fn difference(before: &Moment, after: &Moment, wanted: Option<&str>) -> Shown {
    let seconds = after.at.duration_since(before.at).as_secs_f64().max(f64::EPSILON);
    // An agent that was not there before would have counted all its life in this moment.
    let pairs = after.readings.iter().filter_map(|(node, now)| {
        let (_, then) = before.readings.iter().find(|(other, _)| other == node)?;
        Some((now, then))
    });
    let counted = pairs.flat_map(|(now, then)| now.since(then));
    Shown {
        time: Timestamp::now(),
        seconds,
        rows: rows::rows(counted, seconds, wanted),
        problems: after.problems.clone(),
    }
}

fn headline(shown: &Shown, interval: u64, paint: Paint) -> String {
    let rate: f64 = shown.rows.iter().map(|row| row.requests_per_second).sum();
    let title = paint.heading(format!("{rate:.0} requests a second"));
    let rest = format!("  {}  every {interval} s  q ends", shown.time.strftime("%H:%M:%S"));
    format!("{title}{}\n", paint.text(Mood::Faint, rest))
}

fn table(shown: &Shown, paint: Paint) -> String {
    if shown.rows.is_empty() && shown.problems.is_empty() {
        return paint.text(Mood::Faint, "No request of a pod of these nodes has ended yet.\n");
    }
    let mut table =
        paint.table(&["SERVICE", "RULE", "BACKEND", "SHARE", "RATE/S", "SUCCESS", "P50", "P99", "RETRIES/S"]);
    table.column_iter_mut().skip(3).for_each(|column| column.set_cell_alignment(comfy_table::CellAlignment::Right));
    let mut last: Option<&Row> = None;
    for row in &shown.rows {
        let new_service = last.is_none_or(|last| last.service != row.service);
        let new_rule = new_service || last.is_none_or(|last| last.route != row.route);
        let said = |text: &str, new: bool, absent: &str| match (new, text) {
            (false, _) => String::new(),
            (true, "") => absent.to_owned(),
            (true, text) => text.to_owned(),
        };
        let idle = row.success_percent.is_none();
        let mood = if idle { Mood::Faint } else { Mood::Plain };
        let number = |text: Option<String>| paint.cell(mood, text.unwrap_or_else(|| "-".to_owned()));
        table.add_row(vec![
            paint.cell(mood, said(&row.service, new_service, "(an address)")),
            paint.cell(mood, said(&row.route, new_rule, "(no rule)")),
            paint.cell(mood, said(&row.backend, true, "-")),
            number(row.share_percent.map(|share| format!("{share:.1} %"))),
            number(Some(format!("{:.1}", row.requests_per_second))),
            success(row, paint),
            number(row.p50_seconds.map(time)),
            number(row.p99_seconds.map(time)),
            number(Some(format!("{:.1}", row.retries_per_second))),
        ]);
        last = Some(row);
    }
    let mut text = table_text(table);
    for problem in &shown.problems {
        text.push('\n');
        text.push_str(&paint.text(Mood::Bad, problem));
    }
    text.push('\n');
    text
}

fn success(row: &Row, paint: Paint) -> comfy_table::Cell {
    match row.success_percent {
        None => paint.cell(Mood::Faint, "-"),
        Some(percent) if percent >= 99.95 => paint.cell(Mood::Good, "100 %"),
        Some(percent) if percent >= 99.0 => paint.cell(Mood::Doubtful, format!("{percent:.1} %")),
        Some(percent) => paint.cell(Mood::Bad, format!("{percent:.1} %")),
    }
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
