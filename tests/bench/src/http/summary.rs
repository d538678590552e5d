//! Medians over rounds, and what a layout adds to the direct one, round by round.

use serde::Serialize;

use super::layout::Layout;
use super::measure::{Measurement, Placement, Step};
use crate::spread::Spread;

/// All layouts under all loads.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) rows: Vec<Row>,
}

/// One layout under one load. Times are in microseconds, CPU time in microseconds of one request.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) layout: Layout,
    #[serde(serialize_with = "describe")]
    pub(super) step: Step,
    pub(super) measures: Vec<Values>,
}

/// One measure, round by round.
#[derive(Debug, Serialize)]
pub(super) struct Values {
    pub(super) measure: Measure,
    pub(super) spread: Option<Spread>,
    /// Weft's in the same arrangement divided by this.
    pub(super) weft: Option<Spread>,
    rounds: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    P50,
    AddedP50,
    AddedP99,
    /// Requests per second.
    Rate,
    /// Of the proxies.
    Cpu,
    /// Of client, proxies and server.
    CpuOfAll,
}

impl Measure {
    pub(super) const ALL: [Self; 6] =
        [Self::P50, Self::AddedP50, Self::AddedP99, Self::Rate, Self::Cpu, Self::CpuOfAll];

    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::P50 => "p50 us",
            Self::AddedP50 => "added p50 us",
            Self::AddedP99 => "added p99 us",
            Self::Rate => "1,000/s",
            Self::Cpu => "proxies' CPU us",
            Self::CpuOfAll => "everybody's CPU us",
        }
    }

    /// Whether a ratio of two proxies means something by itself: what they add, and what they use.
    pub(super) const fn is_compared(self) -> bool {
        matches!(self, Self::AddedP50 | Self::AddedP99 | Self::Cpu)
    }

    fn value(self, seen: &Measurement, direct: &Measurement) -> Option<f64> {
        let added = |per_mille| {
            let added = quantile(seen, per_mille) - quantile(direct, per_mille);
            (seen.layout != Layout::Direct).then_some(added)
        };
        match self {
            Self::P50 => Some(quantile(seen, 500)),
            Self::AddedP50 => added(500),
            Self::AddedP99 => added(990),
            Self::Rate => Some(count(seen.report.completed) / seen.report.seconds / 1e3),
            Self::Cpu => Some(each(seen.proxies?.as_secs_f64(), seen)),
            Self::CpuOfAll => {
                let ends = seen.report.generator_cpu_seconds + seen.server.as_secs_f64();
                Some(each(ends + seen.proxies.unwrap_or_default().as_secs_f64(), seen))
            }
        }
    }
}

impl Summary {
    pub(super) fn of(measurements: &[Measurement], layouts: &[Layout]) -> Self {
        let rows = Step::ALL.iter().flat_map(|step| {
            layouts.iter().map(|layout| {
                let measures = Measure::ALL.map(|measure| values(measurements, *layout, *step, measure));
                Row { layout: *layout, step: *step, measures: measures.into() }
            })
        });
        Self { rows: rows.collect() }
    }

    /// Every round's value; none where that was not measured.
    pub(super) fn rounds(&self, layout: Layout, step: Step, measure: Measure) -> Option<&[f64]> {
        let row = self.rows.iter().find(|row| row.layout == layout && row.step == step)?;
        row.measures.iter().find(|values| values.measure == measure).map(|values| values.rounds.as_slice())
    }
}

fn values(measurements: &[Measurement], layout: Layout, step: Step, measure: Measure) -> Values {
    let rounds = rounds(measurements, layout, step, measure);
    let weft = layout.of_weft().filter(|_| measure.is_compared());
    let weft = weft.map(|weft| ratios(&self::rounds(measurements, weft, step, measure), &rounds));
    Values { measure, spread: Spread::of(&rounds), weft: weft.and_then(|ratios| Spread::of(&ratios)), rounds }
}

fn rounds(measurements: &[Measurement], layout: Layout, step: Step, measure: Measure) -> Vec<f64> {
    let of = |layout| measurements.iter().filter(move |seen| seen.layout == layout && seen.step == step);
    of(layout).zip(of(Layout::Direct)).filter_map(|(seen, direct)| measure.value(seen, direct)).collect()
}

/// Round by round. What adds nothing measurable divides nothing.
pub(super) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

fn quantile(seen: &Measurement, per_mille: u64) -> f64 {
    seen.report.answer.quantile(per_mille).as_secs_f64() * 1e6
}

fn each(seconds: f64, seen: &Measurement) -> f64 {
    seconds * 1e6 / count(seen.report.exchanges.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let placement = match self.placement {
            Placement::OneCore => "everything on one core",
            Placement::Split => "split: the proxies on one core, client and server on another",
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(formatter, "{placement}, {} connection{plural}", self.connections)
    }
}

fn describe<S: serde::Serializer>(step: &Step, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(step)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::layout::Proxy;
    use super::*;
    use crate::report::Report;

    fn seen(layout: Layout, microseconds: u64, cpu: u64) -> Measurement {
        let mut report = Report { seconds: 1.0, completed: 1, exchanges: 1, ..Report::default() };
        report.answer.record(Duration::from_micros(microseconds));
        let proxies = (layout != Layout::Direct).then_some(Duration::from_micros(cpu));
        Measurement { layout, step: Step::ONE, report, proxies, server: Duration::ZERO }
    }

    #[test]
    fn what_is_compared_is_what_was_added_in_the_same_round() {
        let (weft, envoy) = (Layout::Pair(Proxy::Weft), Layout::Pair(Proxy::Envoy));
        // The second round was ten times slower for everybody.
        let all = [
            seen(Layout::Direct, 10, 0),
            seen(weft, 30, 20),
            seen(envoy, 110, 80),
            seen(envoy, 1100, 800),
            seen(weft, 300, 200),
            seen(Layout::Direct, 100, 0),
        ];
        let layouts = [Layout::Direct, weft, envoy];
        let summary = Summary::of(&all, &layouts);
        let row = summary.rows.iter().find(|row| row.layout == envoy && row.step == Step::ONE).unwrap();
        for (measure, ratio) in [(Measure::AddedP50, 0.2), (Measure::Cpu, 0.25)] {
            let values = row.measures.iter().find(|values| values.measure == measure).unwrap();
            let median = values.weft.unwrap().median;
            assert!((median - ratio).abs() < 0.005, "{measure:?}: {median}");
        }
        assert_eq!(summary.rounds(weft, Step::LOADED, Measure::Cpu), Some(&[][..]));
    }
}
