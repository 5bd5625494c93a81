//! Rates: as fast as it goes, and as fast as nothing is lost.

use crate::generator::Generator;
use crate::{BATCH, BenchError};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Batches between two looks at the clock.
const UNTIMED: usize = 16;
/// Trials of a search: the last halves what is left of the range to a 250th of it.
const TRIALS: u32 = 8;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    /// Frames of all workers.
    pub frames: u64,
    /// Frames a second of each worker.
    pub per_worker: Vec<f64>,
}

impl Rate {
    /// Frames a second of all workers together.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.per_worker.iter().sum()
    }
}

/// Has all generators work at once, each on a thread of its own; the only one on this thread. They park when they are done.
pub(crate) fn together<R: Send>(
    team: &mut [Generator<'_>],
    work: impl Fn(&mut Generator<'_>) -> Result<R, BenchError> + Sync,
) -> Result<Vec<R>, BenchError> {
    if let [only] = team {
        return Ok(vec![work(only)?]);
    }
    let barrier = Barrier::new(team.len());
    let (barrier, work) = (&barrier, &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = team
            .iter_mut()
            .map(|generator| {
                scope.spawn(move || {
                    barrier.wait();
                    let result = work(generator);
                    generator.park();
                    result
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// Measures for `duration` of wall time, which is also what passes for the workers.
///
/// # Errors
/// [`BenchError::Lost`] if less came out than went in.
pub fn rate(team: &mut [Generator<'_>], duration: Duration) -> Result<Rate, BenchError> {
    let measured = together(team, |generator| {
        let started = Instant::now();
        let (mut frames, mut seen) = (0u64, Duration::ZERO);
        loop {
            for _ in 0..UNTIMED {
                frames += generator.step(BATCH)? as u64;
            }
            let elapsed = started.elapsed();
            generator.pass(elapsed - seen);
            seen = elapsed;
            if elapsed >= duration {
                return Ok((frames, frames as f64 / elapsed.as_secs_f64().max(1e-9)));
            }
        }
    })?;
    Ok(Rate {
        frames: measured.iter().map(|(frames, _)| frames).sum(),
        per_worker: measured.into_iter().map(|(_, rate)| rate).collect(),
    })
}

/// The highest rate at which nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZeroLoss {
    /// Frames a second of all workers together; 0 if something was lost at every rate that was tried.
    pub per_second: f64,
    /// Frames that wait for a worker at most.
    pub queue: u64,
    /// How long a rate was tried, seconds. RFC 2544 wants 60.
    pub trial: f64,
}

/// Searches the throughput of RFC 2544, 26.1: the highest rate at which as many frames come out as are
/// offered.
///
/// What is emulated is a port whose link brings frames at a constant rate into a receive queue of `queue`
/// frames for each worker. The worker takes up to [`BATCH`] at a time; a frame that finds the queue full is
/// lost, and one lost frame fails the trial. The rate is halved in on between 0 and `most`.
///
/// # Errors
/// [`BenchError::Lost`] if less came out than went in: that is no overload.
pub fn zero_loss(
    team: &mut [Generator<'_>],
    most: f64,
    queue: u64,
    duration: Duration,
) -> Result<ZeroLoss, BenchError> {
    let (share, trial) = (1.0 / team.len().max(1) as f64, duration / TRIALS);
    let (mut good, mut bad) = (0.0, most);
    for _ in 0..TRIALS {
        let rate = f64::midpoint(good, bad);
        let lossless = together(team, |g| offer(g, rate * share, queue, trial))?;
        if lossless.into_iter().all(|lossless| lossless) {
            good = rate;
        } else {
            bad = rate;
        }
    }
    Ok(ZeroLoss { per_second: good, queue, trial: trial.as_secs_f64() })
}

/// Offers frames at a rate; returns whether the queue always had room.
fn offer(
    generator: &mut Generator<'_>,
    rate: f64,
    queue: u64,
    duration: Duration,
) -> Result<bool, BenchError> {
    let started = Instant::now();
    let mut taken = 0u64;
    loop {
        let elapsed = started.elapsed();
        if elapsed >= duration {
            generator.pass(elapsed);
            return Ok(true);
        }
        let waiting = ((elapsed.as_secs_f64() * rate) as u64).saturating_sub(taken);
        if waiting > queue {
            generator.pass(elapsed);
            return Ok(false);
        }
        match usize::try_from(waiting).unwrap_or(BATCH).min(BATCH) {
            0 => std::hint::spin_loop(),
            batch => taken += generator.step(batch)? as u64,
        }
    }
}
