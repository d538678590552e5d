//! Medians over rounds, and ratios of rounds.

use serde::Serialize;

use super::Path;
use super::measure::Measurement;
use super::metric::{Better, METRICS};
use crate::spread::Spread;

/// All rows.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) rows: Vec<Row>,
}

/// One measure on every path.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) load: &'static str,
    pub(super) measure: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) paths: Vec<PathValues>,
}

/// One measure on one path.
#[derive(Debug, Serialize)]
pub(super) struct PathValues {
    pub(super) path: &'static str,
    /// None where the path has no such thing.
    pub(super) value: Option<Spread>,
    /// This path divided by the direct one, round by round.
    pub(super) ratio: Option<Spread>,
    rounds: Vec<f64>,
}

impl Summary {
    pub(super) fn of(measurements: &[Measurement], paths: &[Path]) -> Self {
        let rows = METRICS.iter().map(|metric| {
            let values = |path: Path| -> Vec<f64> {
                let of_path = measurements.iter().filter(|seen| seen.path == path && seen.step == metric.step);
                of_path.filter_map(|seen| (metric.value)(seen)).collect()
            };
            let direct = values(Path::Direct);
            let paths = paths.iter().map(|path| PathValues::new(*path, values(*path), &direct)).collect();
            Row { load: metric.group, measure: metric.name, unit: metric.unit, better: metric.better, paths }
        });
        Self { rows: rows.collect() }
    }
}

impl PathValues {
    fn new(path: Path, rounds: Vec<f64>, direct: &[f64]) -> Self {
        let ratios = rounds.iter().zip(direct).filter(|(_, direct)| **direct > 0.0);
        let ratios: Vec<f64> = ratios.map(|(value, direct)| value / direct).collect();
        let ratio = if path == Path::Direct { None } else { Spread::of(&ratios) };
        Self { path: path.name(), value: Spread::of(&rounds), ratio, rounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rounds_and_not_of_medians() {
        // Both rounds were twice as slow as direct, although the machine was ten times slower in one.
        let values = PathValues::new(Path::TwoNode, vec![20.0, 200.0], &[10.0, 100.0]);
        assert_eq!(values.ratio, Some(Spread { median: 2.0, minimum: 2.0, maximum: 2.0 }));
        assert_eq!(PathValues::new(Path::Direct, vec![1.0], &[1.0]).ratio, None);
    }
}
