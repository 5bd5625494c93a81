//! A worker: batches of frames in, frames out.
//!
//! A cached action whose guards hold is repeated in place. Everything else is walked, committed and,
//! where later packets of the flow would come out the same, cached. Timers run in
//! [`Worker::advance`], which [`Worker::process`] calls first, so that nothing that has expired by
//! `now` is ever used.
//!
//! One worker is a lab by itself. Several share sessions and tables ([`Shared`]); each has its own
//! cache and counts by itself until asked. Nothing here starts a thread: whoever drives the workers
//! may run each on a thread of its own, or all of them on one, a step at a time
//! ([`Worker::begin`], [`Worker::finish`]).

mod adopt;
mod boundary;
mod caching;
mod commit;
mod fragments;
mod originate;
mod passage;
mod shared;
mod timers;
mod trace;

pub use passage::Pending;
pub use shared::Shared;
pub use trace::{Trace, TraceEnd};

use crate::cache::{FlowCache, State};
use crate::network::{Network, PortId};
use crate::session::{FlowClass, FlowPlace, RuleKey, Session, SessionId, TimerSettings, Traffic};
use crate::tables::{Accounting, Counters, DropKey, Held, Hit, NeighborEntry, PortTraffic};
use crate::trace::Step;
use crate::walk::View;
use crate::workers::{Era, Requests, Slot, lock};
use boundary::PutOff;
use caching::Ahead;
use packet::{ChecksumState, Frame, Headers, Time, verify_transport};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Packets that are looked up together: enough to wait for memory once, few enough to stay in a core's first cache.
const AT_ONCE: usize = 64;

/// A frame and the port it came in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Ingress port.
    pub port: PortId,
    /// The frame.
    pub frame: Frame,
}

/// How a worker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Seed of the lab.
    pub seed: u64,
    /// Whether results are cached. Without, every packet is walked: the reference that the cache is
    /// tested against.
    pub cache: bool,
    /// Most cached actions of each family.
    pub cache_entries: usize,
}

impl Default for WorkerConfig {
    fn default() -> WorkerConfig {
        WorkerConfig { seed: 0, cache: true, cache_entries: 4_194_304 }
    }
}

/// A worker of a lab.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    shared: Arc<Shared>,
    slot: Slot,
    /// The era passed last.
    era: Era,
    parked: bool,
    /// Epoch of the snapshot last seen.
    epoch: Option<u64>,
    /// Timers of the snapshot last seen.
    timers: TimerSettings,
    /// State of the learned tables at the beginning of the batch, or as this worker changed it since.
    generation: u64,
    /// In which state of snapshot and learned tables cached actions hold.
    state: State,
    cache4: FlowCache<1>,
    cache6: FlowCache<4>,
    /// Room for what a batch is looked up to.
    ahead: Vec<Ahead>,
    /// What has not been handed over yet.
    counters: Counters,
    /// Room for the requests of others.
    requests: Requests,
    /// Packets whose next hop has answered, to be walked again.
    released: Vec<Held>,
    /// Packets that wait for a batch boundary.
    put_off: VecDeque<PutOff>,
    /// The snapshot of this batch is no longer the newest.
    outdated: bool,
    /// Sessions whose timer came due, since when, and the era in which others were asked about them.
    due: VecDeque<(Era, Time, SessionId)>,
    /// Walks that were watched, while somebody wants them.
    recorded: Option<Vec<Recorded>>,
}

/// A walk that was watched and committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub time: Time,
    /// Ingress port.
    pub port: PortId,
    /// The frame as it came in.
    pub frame: Frame,
    /// Every decision, in order.
    pub steps: Vec<Step>,
}

impl Worker {
    /// The only worker of a lab that knows nothing yet.
    #[must_use]
    pub fn new(config: WorkerConfig) -> Worker {
        let shared = Arc::new(Shared::new(config.seed, 1));
        Worker::at(config, &shared, Slot::FIRST)
    }

    /// The workers of a lab that knows nothing yet: `count` of them, at least one and at most
    /// [`MAX_WORKERS`](crate::MAX_WORKERS), all parked. A flow may come to any of them.
    #[must_use]
    pub fn team(config: WorkerConfig, count: usize) -> Vec<Worker> {
        let shared = Arc::new(Shared::new(config.seed, count));
        shared.workers.slots().map(|slot| Worker::at(config, &shared, slot)).collect()
    }

    fn at(config: WorkerConfig, shared: &Arc<Shared>, slot: Slot) -> Worker {
        Worker {
            config,
            shared: Arc::clone(shared),
            slot,
            era: Era::default(),
            parked: true,
            epoch: None,
            timers: TimerSettings::default(),
            generation: 0,
            state: State::default(),
            cache4: FlowCache::new(config.seed, config.cache_entries),
            cache6: FlowCache::new(config.seed, config.cache_entries),
            ahead: Vec::with_capacity(AT_ONCE),
            counters: Counters::default(),
            requests: Requests::default(),
            released: Vec::new(),
            put_off: VecDeque::new(),
            outdated: false,
            due: VecDeque::new(),
            recorded: None,
        }
    }

    /// What it shares with the other workers of its lab.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a batch; what leaves is appended to `tx` in order. `now` must not go back, and what
    /// earlier calls put into `tx` must have been sent. `net` has to be the newest snapshot: read it
    /// once a batch.
    ///
    /// Returns false, with what has not been taken left in `batch`, if a newer snapshot has been
    /// published, or if workers are still leaving the one before: come again. A lone worker that is
    /// handed its snapshots in order always takes everything.
    pub fn process(
        &mut self,
        net: &Network,
        batch: &mut Vec<Received>,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) -> bool {
        if !self.advance(net, now, tx) {
            return false;
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut frames = batch.drain(..);
        while !frames.as_slice().is_empty() && !self.outdated {
            let next = frames.as_slice();
            let next = next.get(..AT_ONCE).unwrap_or(next);
            if self.config.cache {
                self.look_ahead(next, &mut ahead);
            } else {
                ahead.clear();
                ahead.resize(next.len(), Ahead::Other);
            }
            for (ahead, Received { port, mut frame }) in ahead.iter().zip(&mut frames) {
                if let Some(out) = self.hit(*ahead, port, &mut frame, now) {
                    tx.push((out, frame));
                    continue;
                }
                self.receive(net, port, frame, now, tx);
                if self.outdated {
                    break;
                }
            }
        }
        self.ahead = ahead;
        // What is behind must not overtake what was put off.
        let rest: Vec<Received> = frames.collect();
        batch.extend(rest);
        !self.outdated
    }

    /// What a walk reads now. What its packet teaches may change it: an action is as old as its walk.
    fn view<'a>(&'a self, net: &'a Network, now: Time) -> View<'a> {
        let Worker { shared, generation, .. } = self;
        let (sessions, tables) = (&shared.sessions, &shared.tables);
        View { net, sessions, tables, generation: *generation, now }
    }

    /// Has every worker's cached actions checked that depend on the learned tables.
    fn raise_generation(&mut self) {
        use std::sync::atomic::Ordering;
        self.generation = self.shared.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.state.change();
    }

    /// All sessions, oldest first. Other workers' caches report when they are asked
    /// ([`Shared::ask`]); so it is with the counters below.
    pub fn sessions(&mut self) -> Vec<Session> {
        self.collect();
        self.shared.sessions.list()
    }

    /// At most `limit` sessions with serial numbers above `after`, oldest first: the sessions of a large
    /// table in portions.
    pub fn sessions_after(&mut self, after: u64, limit: usize) -> Vec<Session> {
        self.collect();
        self.shared.sessions.list_after(after, limit)
    }

    /// What is known of the neighbours of all routers, sorted.
    #[must_use]
    pub fn neighbors(&self) -> Vec<NeighborEntry> {
        self.shared.tables.neighbors()
    }

    /// Where all frames have gone.
    pub fn accounting(&mut self) -> Accounting {
        self.collect();
        self.shared.accounting(&self.counters)
    }

    /// Hits of every rule, NAT rule and virtual server.
    pub fn hits(&mut self) -> BTreeMap<RuleKey, Hit> {
        self.collect();
        self.all_counters().hits
    }

    /// How many flows of `class` the distributed firewall at a vNIC, or a gateway, remembers: what flood
    /// protection limits.
    pub fn flows(&mut self, place: impl Into<FlowPlace>, class: FlowClass) -> usize {
        self.collect();
        self.shared.sessions.flows(place.into(), class)
    }

    /// Traffic of every port.
    pub fn port_traffic(&mut self) -> BTreeMap<PortId, PortTraffic> {
        self.collect();
        self.all_counters().ports
    }

    /// Drops by cause.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<DropKey, Traffic> {
        self.all_counters().drops
    }

    fn all_counters(&self) -> Counters {
        let mut all = lock(&self.shared.totals).clone();
        all.absorb(&self.counters);
        all
    }

    /// Starts or stops recording every walk. Repeats from the cache are no walks: a lab that is to
    /// record all packets runs without one.
    pub fn record(&mut self, on: bool) {
        self.recorded = on.then(Vec::new);
    }

    /// Walks recorded since the last call.
    pub fn take_recorded(&mut self) -> Vec<Recorded> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sessions that were ended early, to make room for new ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        lock(&self.shared.totals).evicted + self.counters.evicted
    }

    /// Cached actions, both families.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache4.len() + self.cache6.len()
    }
}

/// Whether the frame is an ICMP error whose checksum is wrong: it is dropped in silence (RFC 5508,
/// REQ-3), because translating it would make it right. One that the sender's kernel left to the port
/// to finish is not.
fn is_forged_error(frame: &Frame, headers: &Headers) -> bool {
    !matches!(frame.checksum, ChecksumState::Partial { .. })
        && headers.ip().is_some_and(|ip| ip.embedded().is_some())
        && !verify_transport(&frame.bytes, headers)
}
