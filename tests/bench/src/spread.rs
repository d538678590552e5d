//! The middle and the ends of what the rounds of a run say.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) minimum: f64,
    pub(crate) maximum: f64,
}

impl Spread {
    /// None if there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (minimum, maximum) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, minimum, maximum })
    }

    /// For a cell of a table.
    pub(crate) fn text(spread: Option<Self>) -> String {
        let Some(Self { median, minimum, maximum }) = spread else { return "none".to_owned() };
        format!("{} ({}..{})", number(median), number(minimum), number(maximum))
    }
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    let digits = if value.abs() < 9.995 { 2 } else { usize::from(value.abs() < 99.95) };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_round_moves_the_end_and_not_the_middle() {
        let spread = Spread::of(&[10.0, 11.0, 900.0, 12.0, 9.0]).unwrap();
        assert_eq!(spread, Spread { median: 11.0, minimum: 9.0, maximum: 900.0 });
        assert_eq!(Spread::of(&[]), None);
    }
}
