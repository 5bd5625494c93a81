//! What all workers of a lab share, and how a snapshot is published to them.
//!
//! Publishing makes a snapshot the newest: from then on no plan of an older one is committed, no
//! worker takes a batch with an older one, and the sessions of workloads that have gone are over.
//! What a worker still does in the batch that it is in, it does by the old snapshot. Once every worker
//! has passed a batch boundary since ([`Shared::has_passed`]) nothing that the new snapshot forbids
//! gets through any more, and what has gone may be used again.
//!
//! Ports and addresses are used again. A workload that gets the index or the address of one that has
//! gone must never inherit its sessions, which would carry it past rules that it was never judged by,
//! nor get a packet that was for the other. A snapshot that uses something again right away is
//! therefore begun by all workers together: none takes a batch until every one has left the old one.

use super::adopt::{Gone, Known};
use crate::fragments::Fragments;
use crate::network::Network;
use crate::session::{RuleKey, Session, Sessions, StageRecord};
use crate::tables::{Accounting, Bound, Counters, Tables};
use crate::workers::{Era, Request, Workers, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The newest snapshot.
#[derive(Debug, Default)]
struct Newest {
    epoch: Option<u64>,
    known: Known,
    /// The era that began with it.
    era: Era,
    /// Rules that have gone, and with which epoch, while some worker may still count by them.
    forgotten: BTreeMap<RuleKey, u64>,
}

/// The state of a lab that belongs to no single worker.
#[derive(Debug)]
pub struct Shared {
    pub(super) workers: Arc<Workers>,
    pub(super) sessions: Sessions,
    pub(super) tables: Tables,
    pub(super) fragments: Mutex<Fragments>,
    /// No datagram times out before this.
    pub(super) fragments_due: Bound,
    /// Raised whenever something that walks look up in the learned tables has changed.
    pub(super) generation: AtomicU64,
    /// Frames that workers have put off to their next batch.
    pub(super) put_off: AtomicU64,
    pub(super) totals: Mutex<Counters>,
    /// Held while sessions are entered. Whoever lost a conflict walks again with it held, and cannot
    /// lose to another worker a second time.
    gate: Mutex<()>,
    newest: Mutex<Newest>,
    /// Epoch of the newest snapshot.
    epoch: AtomicU64,
    /// The era that all workers must have passed before any begins with the newest snapshot.
    together: AtomicU64,
}

impl Shared {
    pub(super) fn new(seed: u64, workers: usize) -> Shared {
        let workers = Arc::new(Workers::new(workers));
        Shared {
            sessions: Sessions::new(seed, Arc::clone(&workers)),
            workers,
            tables: Tables::default(),
            fragments: Mutex::default(),
            fragments_due: Bound::default(),
            generation: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            totals: Mutex::default(),
            gate: Mutex::default(),
            newest: Mutex::default(),
            epoch: AtomicU64::new(0),
            together: AtomicU64::new(0),
        }
    }

    /// Makes a snapshot the newest, unless it is or a newer one is. Returns the era in which it began:
    /// once that [has passed](Shared::has_passed) every worker has acknowledged the snapshot, nothing
    /// that it forbids gets through any more, and what it took away may be used again.
    ///
    /// Whoever applies a configuration publishes it before handing it to the workers; a worker that is
    /// handed an unpublished one publishes it itself.
    pub fn publish(&self, net: &Network) -> Era {
        self.publish_after(net, || ())
    }

    /// Publishes a snapshot. Where it takes rules away, translates otherwise or changes timers, `report` is
    /// called first: what a cache has seen so far counts by the rules of before.
    pub(super) fn publish_after(&self, net: &Network, report: impl FnOnce()) -> Era {
        let mut newest = lock(&self.newest);
        if newest.epoch.is_some_and(|epoch| epoch >= net.epoch) {
            return newest.era;
        }
        let now = Known::of(net);
        let gone = Gone::between(&newest.known, &now);
        let is_first = newest.epoch.is_none();
        let timers_changed = !is_first && newest.known.timers != now.timers;
        if !gone.rules.is_empty() || newest.known.nat != now.nat || timers_changed {
            report();
        }
        newest.epoch = Some(net.epoch);
        let before = std::mem::replace(&mut newest.known, now);
        self.epoch.store(net.epoch, Ordering::SeqCst);
        let now = &newest.known;
        let fate = |records: &[StageRecord]| gone.fate(&before, now, records);
        let touched = !gone.leaves_all(&before, now);
        self.sessions.begin_epoch(net.epoch, touched.then_some(fate));
        if timers_changed {
            self.sessions.rearm(&net.timers);
        }
        let forgot = self.tables.change(|learned| {
            learned.epoch = net.epoch;
            learned.leave_ports(&gone.ports)
        });
        if forgot {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        if self.has_passed(newest.era) {
            newest.forgotten.clear();
        }
        lock(&self.totals).forget_rules(&gone.rules);
        newest.forgotten.extend(gone.rules.iter().map(|key| (*key, net.epoch)));
        if !is_first {
            newest.era = self.workers.begin_era();
        }
        if gone.again {
            self.together.store(newest.era.number(), Ordering::SeqCst);
        }
        newest.era
    }

    /// Takes from counters what rules have counted that have gone since the snapshot `epoch`.
    pub(super) fn forget_rules(&self, counters: &mut Counters, epoch: Option<u64>) {
        let newest = lock(&self.newest);
        let since = |at: &u64| epoch.is_none_or(|epoch| *at > epoch);
        let gone: BTreeSet<RuleKey> =
            newest.forgotten.iter().filter(|(_, at)| since(at)).map(|(key, _)| *key).collect();
        if !gone.is_empty() {
            counters.forget_rules(&gone);
        }
    }

    /// Whether every worker has passed a batch boundary since `era` began. Parked workers have.
    #[must_use]
    pub fn has_passed(&self, era: Era) -> bool {
        self.workers.has_passed(era)
    }

    /// Asks every worker to report what its cache has seen, and to hand over its counters, at its next
    /// batch boundary. Once the era [has passed](Shared::has_passed), [`Shared::counters`] and
    /// [`Shared::sessions`] know everything that happened before the call.
    pub fn ask(&self) -> Era {
        self.workers.ask_all(Request::Tell);
        self.workers.begin_era()
    }

    /// All sessions, oldest first, with what has been reported of them.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.sessions.list()
    }

    /// What the workers have handed over.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = lock(&self.totals).clone();
        counters.accounting.held = self.held();
        counters
    }

    /// Frames that wait: for neighbours, for first fragments, for a batch boundary.
    pub(super) fn held(&self) -> u64 {
        let waiting = self.tables.held() + lock(&self.fragments).held();
        waiting as u64 + self.put_off.load(Ordering::Acquire)
    }

    /// Whether a newer snapshot than `net` has been published.
    pub(super) fn is_past(&self, net: &Network) -> bool {
        self.epoch.load(Ordering::SeqCst) > net.epoch
    }

    /// Whether some worker may still be in a batch of the snapshot before, and something of that is
    /// used again.
    pub(super) fn is_being_left(&self) -> bool {
        !self.has_passed(Era::from_number(self.together.load(Ordering::SeqCst)))
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, ()> {
        lock(&self.gate)
    }

    /// Where all frames have gone, with `own` counters not yet handed over.
    pub(super) fn accounting(&self, own: &Counters) -> Accounting {
        let mut sum = Counters { accounting: lock(&self.totals).accounting, ..Counters::default() };
        sum.absorb(&Counters { accounting: own.accounting, ..Counters::default() });
        Accounting { held: self.held(), ..sum.accounting }
    }
}
