//! Durations counted in buckets whose width grows with the value, as HDR histograms do.
//!
//! A quantile is off by less than one part in 128, whatever the load; two histograms of different
//! processes add up without a loss. The memory is fixed: about 4,000 counters.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of each doubling, as a power of two.
const PRECISION_BITS: u32 = 7;
const BUCKETS_PER_DOUBLING: u64 = 1 << PRECISION_BITS;
/// Values are below two to the power of this, in nanoseconds: 137 s, above every bound of a run.
const VALUE_BITS: u32 = 37;
const LARGEST: u64 = (1 << VALUE_BITS) - 1;

/// How often each duration was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Summary", into = "Summary")]
pub struct Histogram {
    /// Empty as long as nothing was recorded; then one counter for every bucket.
    counts: Vec<u64>,
    total: u64,
    maximum: u64,
}

impl Histogram {
    /// Counts one duration; everything above 137 s counts as that.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(LARGEST).min(LARGEST);
        self.add(bucket_of(nanoseconds), 1);
        self.maximum = self.maximum.max(nanoseconds);
    }

    /// Takes over everything that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.seen() {
            self.add(bucket, count);
        }
        self.maximum = self.maximum.max(other.maximum);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    #[must_use]
    pub fn maximum(&self) -> Duration {
        Duration::from_nanos(self.maximum)
    }

    /// The smallest value that this many thousandths of the durations do not exceed; zero if there are none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let wanted = (self.total * per_mille).div_ceil(1000).max(1);
        let mut passed = 0;
        for (bucket, count) in self.seen() {
            passed += count;
            if passed >= wanted {
                return Duration::from_nanos(last_of(bucket).min(self.maximum));
            }
        }
        Duration::ZERO
    }

    fn seen(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    fn add(&mut self, bucket: usize, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; bucket_of(LARGEST) + 1];
        }
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += count;
        self.total += count;
    }
}

/// Exact below the first doubling, then the leading bits of the value.
fn bucket_of(nanoseconds: u64) -> usize {
    let doubling = nanoseconds.checked_ilog2().unwrap_or(0).saturating_sub(PRECISION_BITS);
    let bucket = u64::from(doubling) * BUCKETS_PER_DOUBLING + (nanoseconds >> doubling);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doubling = (bucket / BUCKETS_PER_DOUBLING).saturating_sub(1);
    let leading = bucket - doubling * BUCKETS_PER_DOUBLING;
    ((leading + 1) << doubling) - 1
}

/// The form on paper: what a person reads, and the buckets that were not empty.
#[derive(Serialize, Deserialize)]
struct Summary {
    count: u64,
    #[serde(default)]
    p50_us: f64,
    #[serde(default)]
    p90_us: f64,
    #[serde(default)]
    p99_us: f64,
    #[serde(default)]
    p999_us: f64,
    maximum_ns: u64,
    buckets: Vec<(usize, u64)>,
}

impl From<Histogram> for Summary {
    fn from(histogram: Histogram) -> Self {
        // Whole nanoseconds, so that no digits are printed that mean nothing.
        let microseconds = |per_mille| (histogram.quantile(per_mille).as_secs_f64() * 1e9).round() / 1e3;
        Self {
            count: histogram.total,
            p50_us: microseconds(500),
            p90_us: microseconds(900),
            p99_us: microseconds(990),
            p999_us: microseconds(999),
            maximum_ns: histogram.maximum,
            buckets: histogram.seen().collect(),
        }
    }
}

impl From<Summary> for Histogram {
    fn from(summary: Summary) -> Self {
        let mut histogram = Self { maximum: summary.maximum_ns, ..Self::default() };
        for (bucket, count) in summary.buckets {
            histogram.add(bucket, count);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_microseconds(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(Duration::from_micros(value)));
        histogram
    }

    #[test]
    fn a_quantile_is_at_most_one_part_in_128_above_the_true_one() {
        let histogram = of_microseconds(1..=100_000);
        for (per_mille, truth) in [(500, 50_000.0), (990, 99_000.0), (999, 99_900.0), (1000, 100_000.0)] {
            let told = histogram.quantile(per_mille).as_secs_f64() * 1e6;
            assert!((truth..truth * (1.0 + 1.0 / 128.0)).contains(&told), "{per_mille}: {told} for {truth}");
        }
    }

    #[test]
    fn one_long_stall_shows_at_the_far_end_and_nowhere_else() {
        let mut histogram = of_microseconds(std::iter::repeat_n(10, 9_989));
        histogram.merge(&of_microseconds(std::iter::repeat_n(100_000, 11)));
        assert!(histogram.quantile(990) < Duration::from_micros(11));
        assert!(histogram.quantile(999) >= Duration::from_millis(100));
        assert_eq!(histogram.maximum(), Duration::from_millis(100));
    }

    #[test]
    fn paper_loses_nothing() {
        let histogram = of_microseconds([0, 1, 3, 3, 70, 12_345, 1 << 40]);
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..VALUE_BITS).flat_map(|bit| [1_u64 << bit, (1 << bit) + 1, (2 << bit) - 1]) {
            let bucket = bucket_of(value);
            assert!(last_of(bucket) >= value, "{value}");
            assert!(bucket == 0 || last_of(bucket - 1) < value, "{value}");
        }
    }

    #[test]
    fn nothing_recorded_is_no_time() {
        assert_eq!(Histogram::default().quantile(990), Duration::ZERO);
    }
}
