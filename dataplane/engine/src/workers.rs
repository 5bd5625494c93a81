//! Several workers over one lab: batch boundaries, and what one worker asks of the others.
//!
//! A flow cache belongs to one worker, and nobody else may look into it. So whoever takes something
//! away (a session, a NAT port, a snapshot) does it in three steps: it unlinks the thing, it asks
//! every worker that may have cached it to forget it, and it waits until every worker has passed a
//! batch boundary since. Only then is the thing used again. This is reclamation by quiescent states
//! (McKenney and Slingwine, "Read-copy update", 1998; QSBR in liburcu): a batch is the read side, its
//! beginning the quiescent state, and a hit pays nothing.
//!
//! Time is counted in [`Era`]s. Whoever asks leaves its requests first and then begins a new era; a
//! worker that comes to a boundary reads the era first, then does what it was asked, and then says
//! that it has passed that era. So a worker that has passed an era has done everything that was asked
//! before the era began.
//!
//! A *parked* worker has passed every era: it has reported all it saw, everything that it returned
//! has been sent, and it reads its requests before it uses its cache again. Parking and looking for
//! parked workers are sequentially consistent: either the worker that wakes sees the new era, or who
//! began it sees the worker awake.
//!
//! Nothing here blocks or waits. "Not yet" is an answer, and the caller asks again.

use crate::cache::FlowKey;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most workers of a lab.
pub const MAX_WORKERS: usize = 64;
/// Most requests that wait for one worker. Beyond, it reports and forgets everything.
const MAX_REQUESTS: usize = 1_024;
/// What a parked worker has passed.
const PARKED: u64 = u64::MAX;

/// Locks, also after a worker has panicked: what the lock guards is changed by single statements that
/// leave it whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment between batches; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Era(u64);

impl Era {
    /// Its number, from 0.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_number(number: u64) -> Era {
        Era(number)
    }
}

/// One worker's number, below [`MAX_WORKERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

impl Slot {
    /// The first worker's.
    pub const FIRST: Slot = Slot(0);
}

/// A set of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(u64);

impl WorkerSet {
    /// The set with `worker` in it.
    #[must_use]
    pub fn with(self, worker: Slot) -> WorkerSet {
        WorkerSet(self.0 | 1 << worker.0)
    }

    /// One bit for each worker, the first one's the lowest.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> WorkerSet {
        WorkerSet(bits)
    }

    fn has(self, worker: usize) -> bool {
        self.0 & 1 << worker != 0
    }
}

/// What a worker is asked to do at its next batch boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Report what the action under this key saw, and forget it.
    Forget(FlowKey),
    /// Report what the action under this key saw.
    Report(FlowKey),
    /// Report everything, and hand over all counters.
    Tell,
}

/// What a worker has been asked.
#[derive(Debug, Default)]
pub struct Requests {
    /// In the order in which they came.
    pub list: Vec<Request>,
    /// There were too many: report and forget everything instead.
    pub overflowed: bool,
}

/// What others see of one worker; alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Desk {
    passed: AtomicU64,
    requests: Mutex<Requests>,
}

/// All workers of a lab, as they see each other.
#[derive(Debug)]
pub struct Workers {
    era: AtomicU64,
    desks: Box<[Desk]>,
}

impl Workers {
    /// `count` workers, at least one and at most [`MAX_WORKERS`], none of which has begun.
    #[must_use]
    pub fn new(count: usize) -> Workers {
        let desk =
            |_| Desk { passed: AtomicU64::new(PARKED), requests: Mutex::new(Requests::default()) };
        Workers {
            era: AtomicU64::new(1),
            desks: (0..count.clamp(1, MAX_WORKERS)).map(desk).collect(),
        }
    }

    /// Every worker's number.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.desks.len()).map(Slot)
    }

    /// Whether there is only one: then nothing that it takes away is in anybody else's hands.
    #[must_use]
    pub fn is_lone(&self) -> bool {
        self.desks.len() == 1
    }

    /// The present era.
    #[must_use]
    pub fn era(&self) -> Era {
        Era(self.era.load(Ordering::SeqCst))
    }

    /// Begins a new era, after whatever was asked.
    pub fn begin_era(&self) -> Era {
        Era(self.era.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Whether every worker has passed a batch boundary since `era` began.
    #[must_use]
    pub fn has_passed(&self, era: Era) -> bool {
        self.passed() >= era
    }

    /// The latest era that every worker has passed.
    #[must_use]
    pub fn passed(&self) -> Era {
        let passed = self.desks.iter().map(|d| d.passed.load(Ordering::SeqCst)).min();
        Era(passed.unwrap_or(PARKED))
    }

    /// Leaves a request for each worker of the set but `own`.
    pub fn ask(&self, set: WorkerSet, own: Option<Slot>, request: Request) {
        for (i, desk) in self.desks.iter().enumerate() {
            if set.has(i) && own != Some(Slot(i)) {
                desk.leave(request);
            }
        }
    }

    /// As [`Workers::ask`], but only of workers that are not parked, which have nothing to tell.
    /// Returns whether there was one.
    pub fn ask_awake(&self, set: WorkerSet, own: Option<Slot>, request: Request) -> bool {
        let mut asked = false;
        for (i, desk) in self.desks.iter().enumerate() {
            let awake = desk.passed.load(Ordering::SeqCst) != PARKED;
            if set.has(i) && own != Some(Slot(i)) && awake {
                desk.leave(request);
                asked = true;
            }
        }
        asked
    }

    /// Leaves a request for every worker.
    pub fn ask_all(&self, request: Request) {
        self.ask(WorkerSet(u64::MAX), None, request);
    }

    /// A parked worker is about to begin a batch: it no longer counts as past anything to come.
    pub fn wake(&self, own: Slot) {
        self.say(own, 0);
    }

    /// The worker has done all that was asked before `era` began.
    pub fn pass(&self, own: Slot, era: Era) {
        self.say(own, era.0);
    }

    /// The worker waits; see the module's description for what that promises.
    pub fn park(&self, own: Slot) {
        self.say(own, PARKED);
    }

    fn say(&self, own: Slot, passed: u64) {
        if let Some(desk) = self.desks.get(own.0) {
            desk.passed.store(passed, Ordering::SeqCst);
        }
    }

    /// Takes what the worker has been asked; `spare` is left in its place, so that nothing is
    /// allocated.
    pub fn take_requests(&self, own: Slot, spare: &mut Requests) {
        spare.list.clear();
        spare.overflowed = false;
        if let Some(desk) = self.desks.get(own.0) {
            std::mem::swap(&mut *lock(&desk.requests), spare);
        }
    }
}

impl Desk {
    fn leave(&self, request: Request) {
        let mut requests = lock(&self.requests);
        if requests.overflowed {
            return;
        }
        if requests.list.len() >= MAX_REQUESTS {
            requests.list.clear();
            requests.overflowed = true;
        } else {
            requests.list.push(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Workers, Slot, Slot) {
        let workers = Workers::new(2);
        for slot in workers.slots() {
            workers.wake(slot);
        }
        (workers, Slot(0), Slot(1))
    }

    #[test]
    fn an_era_has_passed_when_the_last_worker_says_so() {
        let (workers, a, b) = two();
        let era = workers.begin_era();
        assert!(!workers.has_passed(era));
        workers.pass(a, workers.era());
        assert!(!workers.has_passed(era));
        workers.pass(b, workers.era());
        assert!(workers.has_passed(era));
        assert!(!workers.has_passed(workers.begin_era()), "not those to come");
    }

    #[test]
    fn a_parked_worker_counts_as_passed_until_it_wakes() {
        let (workers, a, b) = two();
        workers.park(b);
        let era = workers.begin_era();
        workers.pass(a, era);
        assert!(workers.has_passed(era));
        workers.wake(b);
        assert!(!workers.has_passed(era));
    }

    #[test]
    fn requests_go_to_those_who_are_meant_and_are_bounded() {
        let (workers, a, b) = two();
        let both = WorkerSet::default().with(a).with(b);
        workers.ask(both, Some(a), Request::Tell);
        let mut got = Requests::default();
        workers.take_requests(a, &mut got);
        assert!(got.list.is_empty());
        workers.take_requests(b, &mut got);
        assert_eq!(got.list, [Request::Tell]);
        workers.park(b);
        assert!(!workers.ask_awake(both, Some(a), Request::Tell));
        for _ in 0..=MAX_REQUESTS {
            workers.ask_all(Request::Tell);
        }
        workers.take_requests(b, &mut got);
        assert!(got.overflowed && got.list.is_empty());
        workers.take_requests(b, &mut got);
        assert!(!got.overflowed);
    }

    #[test]
    fn there_are_between_one_and_the_most_workers() {
        assert!(Workers::new(0).is_lone());
        assert_eq!(Workers::new(1_000).slots().count(), MAX_WORKERS);
    }
}
