//! How long a thread that has nothing to do looks for more before it sleeps.
//!
//! Going to sleep and being woken costs as much as a dozen frames, and more where an idle processor is halted; looking in vain
//! costs a processor. So the thread looks for a moment where that has paid lately, and sleeps at once where it has not: each
//! moment in vain doubles the rounds until the next attempt. An idle lab sleeps.
//!
//! Between two looks the processor is left to whoever else wants it: where the endpoint of a connection runs on the same one,
//! it is what the thread waits for. Where somebody else keeps it for longer than the moment, looking is given up for the
//! longest time, also if there was something in the end: a thread that sleeps is woken for a frame at once, one that has left
//! the processor waits for its turn.

use ports::{Poller, Ready};
use std::io;
use std::time::{Duration, Instant};

/// The moment: about what going to sleep and waking up cost on a virtual machine.
const MOMENT: Duration = Duration::from_micros(20);

/// A look that comes back this late found the processor taken.
const TAKEN: Duration = Duration::from_micros(60);

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
        let mut passed = Duration::ZERO;
        while passed < MOMENT {
            std::thread::yield_now();
            poller.wait_into(Some(Duration::ZERO), ready)?;
            passed = start.elapsed();
            if !ready.is_empty() {
                self.found(passed);
                return Ok(());
            }
        }
        self.was_in_vain(passed);
        poller.wait_into(timeout, ready)
    }

    /// There was something after a while.
    fn found(&mut self, passed: Duration) {
        if passed > TAKEN {
            self.was_in_vain(passed);
        } else {
            self.in_vain = 0;
        }
    }

    fn was_in_vain(&mut self, passed: Duration) {
        let next = if passed > TAKEN { MOST_DOUBLINGS } else { self.in_vain + 1 };
        self.in_vain = next.min(MOST_DOUBLINGS);
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
        for rest in [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024] {
            patience.was_in_vain(MOMENT);
            assert_eq!(patience.rest, rest);
        }
        patience.found(MOMENT / 2);
        patience.was_in_vain(MOMENT);
        assert_eq!(patience.rest, 2, "it had paid again");
    }

    #[test]
    fn a_processor_that_others_want_is_slept_on() {
        let mut patience = Patience::default();
        patience.found(Duration::from_millis(3));
        assert_eq!(patience.rest, 1 << MOST_DOUBLINGS);
    }

    #[test]
    fn no_attempt_is_made_while_resting() {
        let mut patience = Patience { in_vain: 1, rest: 2 };
        let mut poller = Poller::new().unwrap();
        let mut ready = Ready::default();
        for rest in [1, 0] {
            patience.wait(&mut poller, Some(Duration::from_millis(1)), &mut ready).unwrap();
            assert!(ready.is_empty());
            assert_eq!((patience.in_vain, patience.rest), (1, rest));
        }
        patience.wait(&mut poller, Some(Duration::from_millis(1)), &mut ready).unwrap();
        assert!(patience.rest > 0, "tried in vain");
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
