use proptest::prelude::*;

use super::*;

#[test]
fn a_bound_belongs_to_its_bucket() {
    for (at, bound) in BOUNDS.into_iter().enumerate() {
        let bound = Duration::from_micros(bound);
        assert_eq!(bucket(bound), at);
        assert_eq!(bucket(bound + Duration::from_nanos(1)), at + 1);
    }
    assert_eq!(bucket(Duration::ZERO), 0);
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
}

proptest! {
    #[test]
    fn every_duration_is_in_one_bucket_and_in_the_sum(
        microseconds in prop::collection::vec(0_u64..60_000_000, 0..200),
    ) {
        let histogram = Histogram::default();
        for duration in &microseconds {
            histogram.add(Duration::from_micros(*duration));
        }
        let read = histogram.read();
        prop_assert_eq!(read.count(), microseconds.len() as u64);
        prop_assert_eq!(read.sum, Duration::from_micros(microseconds.iter().sum()));
        let mut below = 0;
        for (bound, bucket) in BOUNDS.into_iter().zip(read.buckets) {
            below += bucket;
            let expected = microseconds.iter().filter(|duration| **duration <= bound).count();
            prop_assert_eq!(below, expected as u64);
        }
    }

    #[test]
    fn what_is_added_between_two_readings_is_their_difference(
        before in prop::collection::vec(0_u64..60_000_000, 0..50),
        after in prop::collection::vec(0_u64..60_000_000, 0..50),
    ) {
        let (both, only) = (Histogram::default(), Histogram::default());
        before.iter().for_each(|it| both.add(Duration::from_micros(*it)));
        let first = both.read();
        for duration in &after {
            both.add(Duration::from_micros(*duration));
            only.add(Duration::from_micros(*duration));
        }
        let (second, only) = (both.read(), only.read());
        for at in 0..BUCKETS {
            prop_assert_eq!(second.buckets[at] - first.buckets[at], only.buckets[at]);
        }
        prop_assert_eq!(second.sum - first.sum, only.sum);
    }
}

#[test]
fn threads_lose_nothing() {
    let histogram = Histogram::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|at| histogram.add(Duration::from_micros(at))));
        }
    });
    assert_eq!(histogram.read().count(), 40_000);
}
