//! Progress: every step says its name when it starts, and its time and outcome when it ends.
//!
//! A quiet step shows a spinner on a terminal and plain lines elsewhere. A loud step lets the
//! programs that it starts write to the screen themselves, between a heading and a closing line.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize, Stream};

/// How often the spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// How many steps of a counted work are one line, where there is no terminal.
const COUNTED_LINE: usize = 250;

/// Runs work that prints nothing of its own.
pub fn quiet<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    shown(title, |_| work())
}

/// Runs long work that says when it has done one of many, such as one package: their number is shown.
pub fn counted<T>(title: &str, unit: &str, work: impl FnOnce(&mut dyn FnMut()) -> Result<T>) -> Result<T> {
    shown(title, |spinner| {
        let mut done = 0;
        work(&mut || {
            done += 1;
            match spinner {
                Some(spinner) => spinner.set_message(format!("{title}: {done} {unit}")),
                None if done % COUNTED_LINE == 0 => println!("{title}: {done} {unit}"),
                None => {}
            }
        })
    })
}

fn shown<T>(title: &str, work: impl FnOnce(Option<&ProgressBar>) -> Result<T>) -> Result<T> {
    let spinner = if stderr().is_terminal() {
        let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(SPINNER_TICK);
        Some(spinner)
    } else {
        println!("{title} ...");
        None
    };
    let started = Instant::now();
    let outcome = work(spinner.as_ref());
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    close(title, started, outcome.is_ok());
    outcome
}

/// Runs work whose programs write to the screen themselves.
pub fn loud<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("{}", format!("==> {title}").if_supports_color(Stream::Stdout, |text| text.bold()));
    let started = Instant::now();
    let outcome = work();
    close(title, started, outcome.is_ok());
    outcome
}

/// A duration as people read it: `0.42 s`, `12.3 s`, `3 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let total = duration.as_secs_f64();
    if total < 10.0 {
        format!("{total:.2} s")
    } else if total < 60.0 {
        format!("{total:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

fn close(title: &str, started: Instant, succeeded: bool) {
    let time = seconds(started.elapsed());
    if succeeded {
        println!("{} {title} ({time})", "done".if_supports_color(Stream::Stdout, |text| text.green()));
    } else {
        println!("{} {title} ({time})", "FAILED".if_supports_color(Stream::Stdout, |text| text.red()));
    }
}
