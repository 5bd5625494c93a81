//! Work for the packet thread: what the API wants to know of the lab, or to change in it.
//!
//! Only that thread touches the lab. A [`Job`] is run by it between two batches; the queue is bounded and
//! the thread never waits for anybody. What is slow (parsing, realizing, printing) is done before or after, by
//! who asks.

use crossbeam_channel::{Receiver, Sender, bounded};
use hosts::Lab;
use ports::Waker;
use std::time::{Duration, Instant};

/// Jobs that wait for the packet thread.
const QUEUE: usize = 4;
/// The longest rest after a job.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What a job may touch.
#[derive(Debug)]
pub struct Running<'a> {
    /// The lab, at this moment.
    pub lab: &'a mut Lab,
    /// Whether the lab is to end.
    pub end: bool,
}

/// Something to do between two batches.
type Job = Box<dyn FnOnce(&mut Running<'_>) + Send>;

/// The packet thread's end of the queue.
#[derive(Debug)]
pub struct Jobs(Receiver<Job>);

impl Jobs {
    /// Runs the jobs that wait. Returns whether the lab is to end.
    pub fn run(&self, lab: &mut Lab) -> bool {
        let mut running = Running { lab, end: false };
        for job in self.0.try_iter().take(QUEUE) {
            job(&mut running);
        }
        running.end
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// There is no answer: the packet thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lab is ending")]
pub struct LabEnding;

/// The other end: asks, and waits for the answer.
#[derive(Debug)]
pub struct Desk {
    jobs: Sender<Job>,
    waker: Waker,
    /// No job is handed over before: the packet thread belongs to frames for at least half of the time.
    rest_until: Instant,
}

/// Both ends of a queue of jobs for the thread that `waker` wakes.
pub fn queue(waker: Waker) -> (Desk, Jobs) {
    let (jobs, waiting) = bounded(QUEUE);
    (Desk { jobs, waker, rest_until: Instant::now() }, Jobs(waiting))
}

impl Desk {
    /// Has the packet thread do something, and returns what came of it. Waits as long as that thread lives: an
    /// answer that was given up would leave open whether it was done.
    ///
    /// # Errors
    /// The thread has ended; the job was not done.
    pub fn ask<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Running<'_>) -> T + Send + 'static,
    ) -> Result<T, LabEnding> {
        std::thread::sleep(self.rest_until.saturating_duration_since(Instant::now()));
        let (answer, answered) = bounded(1);
        let job: Job = Box::new(move |running| {
            let start = Instant::now();
            let result = act(running);
            // Nobody waits any more: then nobody is told.
            let _ = answer.send((result, start.elapsed()));
        });
        self.jobs.send(job).map_err(|_| LabEnding)?;
        self.waker.wake();
        let (result, took) = answered.recv().map_err(|_| LabEnding)?;
        self.rest_until = Instant::now() + took.min(LONGEST_REST);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use engine::network::Network;
    use ports::Poller;
    use std::sync::Arc;

    #[test]
    fn a_job_wakes_the_thread_and_its_answer_comes_back() {
        let mut poller = Poller::new().unwrap();
        let (mut desk, jobs) = queue(poller.waker());
        let asking = std::thread::spawn(move || {
            let epoch = desk.ask(|running| running.lab.network().epoch).unwrap();
            desk.ask(|running| running.end = true).unwrap();
            (epoch, desk)
        });
        let mut lab = Lab::new(Arc::new(Network { epoch: 7, ..Network::default() }), Vec::new());
        let mut rounds = 0;
        while !jobs.run(&mut lab) {
            assert!(poller.wait(Some(Duration::from_secs(10))).unwrap().woken || rounds > 0);
            rounds += 1;
        }
        let (epoch, mut desk) = asking.join().unwrap();
        assert_eq!(epoch, 7);
        // The thread has ended.
        drop(jobs);
        assert_eq!(desk.ask(|_| ()), Err(LabEnding));
    }

    #[test]
    fn a_slow_job_is_followed_by_a_rest() {
        let poller = Poller::new().unwrap();
        let (mut desk, jobs) = queue(poller.waker());
        let thread = std::thread::spawn(move || {
            let mut lab = Lab::new(Arc::new(Network::default()), Vec::new());
            while !jobs.run(&mut lab) {
                std::thread::yield_now();
            }
        });
        let slow = Duration::from_millis(100);
        desk.ask(move |_| std::thread::sleep(slow)).unwrap();
        let start = Instant::now();
        desk.ask(|running| running.end = true).unwrap();
        assert!(start.elapsed() >= slow);
        thread.join().unwrap();
    }
}
