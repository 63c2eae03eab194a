//! Times in buckets whose bounds grow by the square root of two.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often each time was measured, in buckets from 62 µs to twelve days. The upper bound of a bucket is 1.41 times the
/// lower one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(Vec<u64>);

impl Histogram {
    /// The number of buckets.
    pub(crate) const BUCKETS: u8 = 70;

    /// The lower bound of the first bucket above zero: 1/16 ms.
    const FIRST: f64 = 1.0 / 16_000.0;

    /// The bucket of a time. The first also has everything below it, and the last everything above.
    pub(crate) fn bucket_of(time: Duration) -> u8 {
        let times = time.as_secs_f64() / Self::FIRST;
        // The logarithm of 0 is below all numbers.
        let bucket = (times.log2() * 2.0).floor();
        bucket.clamp(0.0, f64::from(Self::BUCKETS - 1)) as u8
    }

    /// The lower bound of a bucket, except that of the first one, which is zero.
    fn bound(bucket: usize) -> Duration {
        Duration::from_secs_f64(Self::FIRST * (bucket as f64 / 2.0).exp2())
    }

    pub(super) fn add(&mut self, bucket: usize, count: u64) {
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] = self.0[bucket].saturating_add(count);
    }

    /// Adds the times of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.0.iter().enumerate() {
            self.add(bucket, *count);
        }
    }

    /// How many times were measured.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that this share of all times does not exceed, such as the median for 0.5. Within a bucket, the times are
    /// assumed to be spread evenly by their logarithm, so the result is off by at most 41 %. `None` if nothing was
    /// measured.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (share.clamp(0.0, 1.0) * count as f64).max(1.0);
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate() {
            let count = *count as f64;
            if below + count >= wanted {
                let part = (wanted - below) / count;
                let bound = Self::FIRST * ((bucket as f64 + part) / 2.0).exp2();
                return Some(Duration::from_secs_f64(bound));
            }
            below += count;
        }
        None
    }

    /// The buckets from the shortest time to the longest one, with the empty ones between them: the lower and the upper
    /// bound, and the number of times.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u64)> {
        let is_used = |count: &u64| *count > 0;
        let first = self.0.iter().position(is_used).unwrap_or_default();
        let end = self
            .0
            .iter()
            .rposition(is_used)
            .map_or(first, |last| last + 1);
        let all = self.0[first..end].iter().enumerate();
        all.map(move |(place, count)| {
            let bucket = first + place;
            let from = match bucket {
                0 => Duration::ZERO,
                _ => Self::bound(bucket),
            };
            (from, Self::bound(bucket + 1), *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_within_the_bounds_of_its_bucket() {
        for micros in [63, 100, 1_000, 1_001, 50_000, 1_000_000, 86_400_000_000] {
            let time = Duration::from_micros(micros);
            let mut histogram = Histogram::default();
            histogram.add(Histogram::bucket_of(time).into(), 1);
            let (from, to, count) = histogram.buckets().next().expect("a bucket");
            assert!(from <= time && time < to, "{time:?}: {from:?} to {to:?}");
            assert_eq!(count, 1);
        }
        assert_eq!(Histogram::bucket_of(Duration::ZERO), 0);
        assert_eq!(Histogram::bucket_of(Duration::MAX), Histogram::BUCKETS - 1);
    }

    /// Without the empty buckets, a chart would show times that are far apart side by side.
    #[test]
    fn empty_buckets_are_listed_between_others_only() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.buckets().count(), 0);
        for (bucket, count) in [(4, 7), (7, 1), (9, 0)] {
            histogram.add(bucket, count);
        }
        let counts: Vec<_> = histogram.buckets().map(|(.., count)| count).collect();
        assert_eq!(counts, [7, 0, 0, 1]);
        let bounds: Vec<_> = histogram
            .buckets()
            .map(|(from, to, _)| (from, to))
            .collect();
        assert!(
            bounds.windows(2).all(|two| two[0].1 == two[1].0),
            "{bounds:?}"
        );
        assert_eq!(bounds[0].0, Duration::from_micros(250));
    }

    #[test]
    fn percentiles_are_close_to_the_times_that_were_measured() {
        let mut histogram = Histogram::default();
        for millis in 1..=1_000 {
            let bucket = Histogram::bucket_of(Duration::from_millis(millis));
            histogram.add(bucket.into(), 1);
        }
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = histogram.percentile(share).expect("times").as_secs_f64() * 1_000.0;
            assert!((found / expected - 1.0).abs() < 0.1, "{share}: {found}");
        }
        assert_eq!(Histogram::default().percentile(0.5), None);
    }
}
