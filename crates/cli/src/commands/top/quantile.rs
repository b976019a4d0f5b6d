//! How long things took between two readings of a histogram.

/// Durations between two readings: how many there were in each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Between(Vec<u64>);

impl Between {
    /// Those of `now` that are not in `before`, which may have fewer buckets or none.
    pub(super) fn new(before: &[u64], now: &[u64]) -> Self {
        let old = |at: usize| before.get(at).copied().unwrap_or(0);
        Self(now.iter().enumerate().map(|(at, count)| count.saturating_sub(old(at))).collect())
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The duration in seconds that this share of them (0 to 1) did not exceed; none without any. Within a bucket they
    /// are taken as evenly spread, and in the last one, which has no end, as long as its beginning.
    // So many durations were never counted that precision would be lost.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn quantile(&self, bounds: &[f64], share: f64) -> Option<f64> {
        let rank = share * self.count() as f64;
        let mut below = 0.0;
        for (at, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            let start = at.checked_sub(1).and_then(|before| bounds.get(before)).unwrap_or(&0.0);
            if below + count >= rank {
                let end = bounds.get(at).unwrap_or(start);
                return Some(start + (end - start) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [1.0, 2.0, 10.0];

    #[test]
    fn a_quantile_is_within_its_bucket_and_never_falls() {
        // All distributions of up to three in each of four buckets.
        for code in 0..256_u64 {
            let counts: Vec<u64> = (0..4).map(|at| code >> (2 * at) & 3).collect();
            let between = Between(counts.clone());
            let mut last = 0.0;
            for percent in 0..=100 {
                let share = f64::from(percent) / 100.0;
                let Some(value) = between.quantile(&BOUNDS, share) else {
                    assert_eq!(code, 0);
                    continue;
                };
                assert!((last..=10.0).contains(&value), "{counts:?} {share} {value}");
                last = value;
                let within =
                    |value: f64| BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(3);
                // As many as the share wants are in that bucket and those before.
                let upto: u64 = counts[..=within(value)].iter().sum();
                let all: u64 = counts.iter().sum();
                #[allow(clippy::cast_precision_loss)]
                let is_enough = upto as f64 + counts[3] as f64 + 1e-9 >= share * all as f64;
                assert!(is_enough, "{counts:?} {share} {value}");
            }
        }
    }

    #[test]
    fn evenly_spread_durations_have_their_median_in_the_middle() {
        let between = Between::new(&[5, 5, 5, 5], &[5, 9, 5, 5]);
        assert_eq!((between.count(), between.quantile(&BOUNDS, 0.5)), (4, Some(1.5)));
        assert_eq!(between.quantile(&BOUNDS, 1.0), Some(2.0));
        let endless = Between(vec![0, 0, 0, 7]);
        assert_eq!(endless.quantile(&BOUNDS, 0.99), Some(10.0));
    }

    #[test]
    fn without_a_reading_before_all_count() {
        assert_eq!(Between::new(&[], &[1, 2]), Between(vec![1, 2]));
        let mut sum = Between::default();
        sum.add(&Between(vec![1, 2]));
        sum.add(&Between(vec![1]));
        assert_eq!(sum, Between(vec![2, 2]));
    }
}
