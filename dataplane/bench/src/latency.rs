//! How long a batch takes: from when its frames are copied in until the last one is copied out. No frame of it
//! waits longer in the engine.

use crate::generator::Generator;
use crate::rates::together;
use crate::{BATCH, BenchError};
use std::time::{Duration, Instant};

/// Most batches that are timed; later ones are not.
const MOST_SAMPLES: usize = 1 << 20;

/// Percentiles of the time of a batch of [`BATCH`] frames, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half of the batches took no longer.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
}

/// Times batches for `duration`.
///
/// # Errors
/// [`BenchError::Lost`] if less came out than went in.
pub fn latency(team: &mut [Generator<'_>], duration: Duration) -> Result<Latency, BenchError> {
    let samples = together(team, |generator| {
        let mut samples: Vec<u64> = Vec::with_capacity(MOST_SAMPLES);
        let started = Instant::now();
        while samples.is_empty() || (started.elapsed() < duration && samples.len() < MOST_SAMPLES) {
            let before = Instant::now();
            // The rest of a round may be less than a batch.
            if generator.step(BATCH)? == BATCH || generator.frames() < BATCH as u64 {
                samples.push(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        generator.pass(started.elapsed());
        Ok(samples)
    })?;
    let mut sorted: Vec<u64> = samples.into_iter().flatten().collect();
    sorted.sort_unstable();
    Ok(Latency {
        p50: percentile(&sorted, 500),
        p99: percentile(&sorted, 990),
        p999: percentile(&sorted, 999),
    })
}

/// The least of `sorted` that `thousandths` of them are not above (nearest rank); 0 if there is none.
fn percentile(sorted: &[u64], thousandths: usize) -> u64 {
    let rank = (sorted.len() * thousandths).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), 50);
        assert_eq!(percentile(&hundred, 990), 99);
        assert_eq!(percentile(&hundred, 999), 100);
        assert_eq!(percentile(&[7], 500), 7);
        assert_eq!(percentile(&[], 500), 0);
    }
}
