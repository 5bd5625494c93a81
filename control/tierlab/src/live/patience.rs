//! How long a thread that has nothing to do looks for more before it sleeps.
//!
//! Going to sleep and being woken costs as much as a dozen frames, and more where an idle processor is halted; looking in vain
//! costs a processor. So the thread looks for a moment where that has paid lately, and sleeps at once where it has not: each
//! moment in vain doubles the rounds until the next attempt. An idle lab sleeps.
//!
//! Between two looks the processor is left to whoever else wants it: where the endpoint of a connection runs on the same one,
//! it is what the thread waits for.

use ports::{Poller, Ready};
use std::io;
use std::time::{Duration, Instant};

/// The moment: about what going to sleep and waking up cost on a virtual machine.
const MOMENT: Duration = Duration::from_micros(20);

/// Two to this power are the most rounds between two attempts.
const MOST_DOUBLINGS: u32 = 10;

/// What has been learned of looking before sleeping.
#[derive(Debug, Default)]
pub struct Patience {
    /// Attempts in vain since the last that was not.
    in_vain: u32,
    /// Rounds without an attempt still to come.
    rest: u32,
}

impl Patience {
    /// Waits as [`Poller::wait_into`] does, after having looked for a moment where that pays.
    ///
    /// # Errors
    /// As [`Poller::wait_into`].
    pub fn wait(
        &mut self,
        poller: &mut Poller,
        timeout: Option<Duration>,
        ready: &mut Ready,
    ) -> io::Result<()> {
        if self.rest > 0 || timeout.is_some_and(|t| t <= MOMENT) {
            self.rest = self.rest.saturating_sub(1);
            return poller.wait_into(timeout, ready);
        }
        poller.wait_into(Some(Duration::ZERO), ready)?;
        if !ready.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        while start.elapsed() < MOMENT {
            std::thread::yield_now();
            poller.wait_into(Some(Duration::ZERO), ready)?;
            if !ready.is_empty() {
                self.in_vain = 0;
                return Ok(());
            }
        }
        self.was_in_vain();
        poller.wait_into(timeout, ready)
    }

    fn was_in_vain(&mut self) {
        self.in_vain = (self.in_vain + 1).min(MOST_DOUBLINGS);
        self.rest = 1 << self.in_vain;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn looking_in_vain_is_tried_less_and_less() {
        let mut patience = Patience::default();
        let mut poller = Poller::new().unwrap();
        let mut ready = Ready::default();
        let mut attempts = 0;
        // Far more than a moment, so that it is never cut short by the timeout.
        for _ in 0..40 {
            attempts += u32::from(patience.rest == 0);
            patience.wait(&mut poller, Some(Duration::from_millis(1)), &mut ready).unwrap();
            assert!(ready.is_empty());
        }
        // Rounds 0, 3, 8, 17, 34: 2, 4, 8, 16, 32 without lie between them.
        assert_eq!(attempts, 5);
        for _ in 0..100 {
            patience.was_in_vain();
        }
        assert_eq!(patience.rest, 1 << MOST_DOUBLINGS);
    }

    #[test]
    fn what_is_ready_is_found_at_once() {
        let mut patience = Patience::default();
        let mut poller = Poller::new().unwrap();
        let mut ready = Ready::default();
        poller.waker().wake();
        patience.wait(&mut poller, None, &mut ready).unwrap();
        assert!(ready.woken);
        assert_eq!((patience.in_vain, patience.rest), (0, 0), "nothing was learned");
    }
}
