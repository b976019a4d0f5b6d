//! Counts durations in a histogram: adding one takes no lock and no memory, so that it is done for every call.
//!
//! Who measures keeps its histograms in its own types; the program gathers what they have ([`Histogram::read`]).

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of all buckets but the last, which has none, in microseconds. A duration that is equal to a bound is
/// below it. They are those that OpenTelemetry advises for durations of calls (5 ms to 10 s), and some for shorter ones.
pub const BOUNDS: [u64; 20] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000,
    750_000, 1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000, 30_000_000,
];

/// One more than there are bounds.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The bounds in seconds, as OTLP has them.
pub fn bounds_in_seconds() -> impl Iterator<Item = f64> {
    BOUNDS.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64())
}

/// Durations that are counted in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

/// What a histogram has counted up to a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many durations were in each bucket.
    pub buckets: [u64; BUCKETS],
    /// All durations together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&self, duration: Duration) {
        self.buckets[bucket(duration)].fetch_add(1, Ordering::Relaxed);
        // Five centuries fit.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was counted so far. A duration that is added meanwhile may be in the sum and not yet in a bucket, or the
    /// other way round.
    pub fn read(&self) -> Distribution {
        Distribution {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

impl Distribution {
    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The bucket of a duration.
fn bucket(duration: Duration) -> usize {
    BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < duration)
}
