//! The session table: the sessions, an index of tuples, and the order of expiry.
//!
//! Slow path only. The index *is* the allocation of NAT ports: a port is in use towards a
//! destination exactly while the reply tuple stands in the index, or in quarantine after it.
//!
//! All workers of a lab share the table, behind one lock. A walk reads it as it was at one moment
//! ([`Sessions::read`]); every change is made whole or not at all, so that of two workers that plan the
//! same one wins and the other finds out when it commits. A lone worker takes the lock uncontended: once
//! a walk and once a commit.

use super::departed::Departed;
use super::due::Agenda;
use super::entering::{Basis, Caching, CommitError, Entered, Fate, NewSession, Observed, Outline};
use super::flood::Flows;
use super::index::{Index, Place};
use super::store::{Beginning, Known, Store};
use super::{
    Cached, Direction, FlowClass, FlowPlace, MAX_RECORDS, Observation, Progress, RecordKind,
    Records, Session, SessionId, StageRecord, TcpState, TimerSettings, Traffic,
};
use crate::cache::{FlowKey, Owner};
use crate::tables::Bound;
use crate::tuple::{Node, Tuple};
use crate::workers::{Era, Request, Slot, Workers};
use packet::Time;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Most sessions that have ended and wait for a worker's batch boundary. Beyond, no new one is made.
const MAX_DEPARTED: usize = 65_536;
/// Places in a tenant's list of expendable sessions that are tidied up when one is added.
const TIDIED: usize = 2;

/// Where a tuple led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The session.
    pub session: SessionId,
    /// Which of its records knows the tuple, in the order of the path.
    pub record: usize,
    /// Which way the tuple goes in it.
    pub direction: Direction,
}

/// Whether another session fits.
enum Room {
    /// It does.
    Free,
    /// It does once this one has been ended.
    InPlaceOf(SessionId),
    /// The tenant has its share, and nothing of it is expendable.
    ShareUsed,
    /// The table is full, and nothing in it is expendable.
    Full,
}

/// A session in few octets: its slot, and the lower half of its serial number. Whoever gets the slot within
/// the next 2^32 sessions has another one.
#[derive(Clone, Copy, Debug)]
struct Listed {
    slot: u32,
    serial: u32,
}

/// A tenant's part of the table.
#[derive(Debug, Default)]
struct Share {
    sessions: usize,
    /// Sessions that were expendable when they were put here, oldest first; looked at again when
    /// one is needed.
    expendable: VecDeque<Listed>,
}

#[derive(Debug)]
struct Table {
    store: Store,
    index: Index,
    agenda: Agenda,
    serial: u64,
    shares: BTreeMap<Option<u32>, Share>,
    flows: Flows,
    /// Epoch of the newest snapshot.
    epoch: u64,
    departed: Departed,
}

/// The session that was listed, if it is still expendable.
fn still_expendable(store: &Store, listed: Listed) -> Option<SessionId> {
    let known = store.known(listed.slot).filter(|k| k.id.serial as u32 == listed.serial)?;
    known.progress.timer_state().is_expendable().then_some(known.id)
}

/// Lists a session that is expendable.
fn enlist(share: &mut Share, store: &Store, id: SessionId) {
    // Sessions that were established or ended meanwhile have left their places behind.
    for _ in 0..TIDIED {
        if share.expendable.front().is_some_and(|l| still_expendable(store, *l).is_none()) {
            share.expendable.pop_front();
        }
    }
    share.expendable.push_back(Listed { slot: id.index, serial: id.serial as u32 });
    if share.expendable.len() > 2 * share.sessions + 64 {
        share.expendable.retain(|listed| still_expendable(store, *listed).is_some());
    }
}

/// Where records stand in the index.
type Places = SmallVec<[(Place, Option<Place>); 4]>;

impl Table {
    fn find(&self, node: Node, tuple: &Tuple) -> Option<Found> {
        if !self.index.has_any(node) {
            return None;
        }
        let mut found = None;
        let slot = self.index.find(self.index.place(node, tuple), |slot| {
            found = self.store.recall(slot, node, tuple);
            found.is_some()
        })?;
        let (record, direction) = found?;
        Some(Found { session: self.store.identity(slot)?, record, direction })
    }

    /// Where records stand: one place, or two if they translate.
    fn places(&self, records: &[StageRecord]) -> Places {
        let place = |record: &StageRecord| {
            let place = |tuple| self.index.place(record.node, tuple);
            let translates = record.after != record.before;
            (place(&record.before), translates.then(|| place(&record.after)))
        };
        records.iter().map(place).collect()
    }

    fn link(&mut self, slot: u32, records: &[StageRecord], places: &Places) {
        for (record, (before, after)) in records.iter().zip(places) {
            for place in std::iter::once(before).chain(after) {
                self.index.insert(record.node, *place, slot);
            }
        }
    }

    fn unlink(&mut self, slot: u32, records: &[StageRecord]) {
        for (record, (before, after)) in records.iter().zip(&self.places(records)) {
            for place in std::iter::once(before).chain(after) {
                self.index.remove(record.node, *place, slot);
            }
        }
    }

    fn class(&self, slot: u32) -> Option<FlowClass> {
        let progress = self.store.known(slot)?.progress;
        FlowClass::of(self.store.protocol(slot)?, progress)
    }

    /// The oldest expendable session of a tenant, but for those that leave anyway. It stays listed
    /// until it ends.
    fn expendable(&mut self, tenant: Option<u32>, leaving: &[SessionId]) -> Option<SessionId> {
        let Table { shares, store, .. } = self;
        let share = shares.get_mut(&tenant)?;
        while let Some(listed) = share.expendable.front().copied() {
            let found = still_expendable(store, listed).filter(|id| !leaving.contains(id));
            if found.is_some() {
                return found;
            }
            share.expendable.pop_front();
        }
        None
    }

    /// Whether a session of `tenant` fits once those that leave have left, and in whose place. Of
    /// several tenants the one with most sessions gives way.
    fn room(&mut self, tenant: Option<u32>, leaving: &[SessionId], timers: &TimerSettings) -> Room {
        if self.departed.sessions() >= MAX_DEPARTED {
            return Room::Full;
        }
        let live: SmallVec<[u32; 2]> =
            leaving.iter().filter_map(|id| self.store.slot(*id)).collect();
        let left =
            |of: Option<u32>| live.iter().filter(|slot| self.store.tenant(**slot) == of).count();
        let sessions = |tenant: Option<u32>, share: &Share| share.sessions - left(tenant);
        let own = self.shares.get(&tenant).map_or(0, |s| sessions(tenant, s));
        let all = self.store.len() - live.len();
        if tenant.is_some() && own >= timers.max_tenant_sessions {
            return self.expendable(tenant, leaving).map_or(Room::ShareUsed, Room::InPlaceOf);
        }
        if all < timers.max_sessions {
            return Room::Free;
        }
        let mut tenants: Vec<(usize, Option<u32>)> =
            self.shares.iter().map(|(tenant, s)| (sessions(*tenant, s), *tenant)).collect();
        tenants.sort_unstable_by(|a, b| b.cmp(a));
        tenants
            .into_iter()
            .find_map(|(_, tenant)| self.expendable(tenant, leaving))
            .map_or(Room::Full, Room::InPlaceOf)
    }

    /// Whether nobody is left who could take the new flow's packets for those of the one that had its
    /// reply tuple before.
    fn may_follow(
        &self,
        found: Option<&Found>,
        lone: bool,
        node: Node,
        before: Tuple,
        after: Tuple,
    ) -> bool {
        if self.departed.was_anothers(node, before, after) {
            return false;
        }
        let slot = found.filter(|_| !lone).and_then(|f| self.store.slot(f.session));
        let former = slot.and_then(|slot| {
            self.store
                .records(slot)
                .find(|r| r.node == node && r.after == after && r.before != r.after)
        });
        former.is_none_or(|r| r.before == before)
    }

    /// Whether the records' tuples can be linked once those that they replace have left.
    fn check(
        &self,
        records: &[StageRecord],
        places: &Places,
        basis: &Basis<'_>,
        links: u64,
        lone: bool,
    ) -> Result<(), CommitError> {
        // Some of what is to be replaced may have been entered while the walk looked.
        if !basis.replaces.is_empty() && basis.links != links {
            return Err(CommitError::Conflict);
        }
        for ((at, record), (place, other)) in records.iter().enumerate().zip(places) {
            let StageRecord { node, before, after, .. } = *record;
            let reply = after.reversed();
            let earlier = records.get(..at).unwrap_or_default().iter().filter(|r| r.node == node);
            let own = |tuple: Tuple| {
                earlier.clone().any(|r| r.before == tuple || r.after.reversed() == tuple)
            };
            if before == reply || own(before) || own(reply) {
                return Err(CommitError::Conflict);
            }
            let found = if basis.replaces.is_empty() && self.departed.len() == 0 {
                // Nobody may have either of them: where both stand at one place, one look is enough.
                let is_taken = |place: &Place| self.is_taken(node, *place, &before, &reply);
                if is_taken(place) || other.as_ref().is_some_and(is_taken) {
                    return Err(CommitError::Conflict);
                }
                continue;
            } else {
                self.find(node, &reply)
            };
            for found in [found, self.find(node, &before)].into_iter().flatten() {
                if !basis.replaces.contains(&found.session) {
                    return Err(CommitError::Conflict);
                }
            }
            if !self.may_follow(found.as_ref(), lone, node, before, after)
                || self.departed.has(node, before)
            {
                return Err(CommitError::Conflict);
            }
        }
        Ok(())
    }

    /// Whether some session at a place knows one of two tuples.
    fn is_taken(&self, node: Node, place: Place, tuple: &Tuple, other: &Tuple) -> bool {
        let knows = |slot| {
            let knows = |tuple| self.store.recall(slot, node, tuple).is_some();
            knows(tuple) || knows(other)
        };
        self.index.find(place, knows).is_some()
    }

    fn arm(&mut self, slot: u32, timers: &TimerSettings, next_due: &Bound) {
        if let Some((at, armed)) = self.store.due(slot, timers) {
            self.agenda.arm(slot, armed, at);
            next_due.lower(at);
        }
        let Table { agenda, store, .. } = self;
        agenda.tidy(store.len(), |slot| store.armed(slot));
    }
}

/// The table as it is at one moment.
#[derive(Debug)]
pub struct Reading<'a> {
    sessions: &'a Sessions,
    table: RwLockReadGuard<'a, Table>,
}

impl Reading<'_> {
    /// The session that `tuple` belongs to at `node`.
    #[must_use]
    pub fn find(&self, node: Node, tuple: &Tuple) -> Option<Found> {
        self.table.find(node, tuple)
    }

    /// What a stage remembers of a session.
    #[must_use]
    pub fn record(&self, found: &Found) -> Option<StageRecord> {
        self.table.store.record(found.session.index, found.record)
    }

    /// What a session is doing; `None` if it has ended.
    #[must_use]
    pub fn known(&self, id: SessionId) -> Option<Known> {
        self.table.store.known(self.table.store.slot(id)?)
    }

    /// What stages remember of a session, in the order of the path.
    pub fn records(&self, id: SessionId) -> impl Iterator<Item = StageRecord> + use<'_> {
        let store = &self.table.store;
        store.slot(id).into_iter().flat_map(|slot| store.records(slot))
    }

    /// The tuple that a session's initiator sent.
    #[must_use]
    pub fn initiating(&self, id: SessionId) -> Option<Tuple> {
        let store = &self.table.store;
        store.initiating(store.slot(id)?)
    }

    /// Whether a balancer remembers a session.
    #[must_use]
    pub fn is_balanced(&self, id: SessionId) -> bool {
        let store = &self.table.store;
        store.slot(id).is_some_and(|slot| store.is_balanced(slot))
    }

    /// What a session counts as for flood protection.
    #[must_use]
    pub fn class(&self, id: SessionId) -> Option<FlowClass> {
        self.table.class(self.table.store.slot(id)?)
    }

    /// How many flows of `class` a vNIC's firewall or a gateway remembers.
    #[must_use]
    pub fn flows(&self, place: FlowPlace, class: FlowClass) -> usize {
        self.table.flows.count(place, class)
    }

    /// Whether a flow that comes to `node` as `before` may leave it as `after`, once those that it
    /// replaces have left: its reply is nobody else's, and was nobody else's lately.
    #[must_use]
    pub fn is_free(&self, node: Node, before: Tuple, after: Tuple, replaces: &[SessionId]) -> bool {
        let found = self.table.find(node, &after.reversed());
        let lone = self.sessions.workers.is_lone();
        match found {
            None if self.table.departed.len() == 0 => true,
            Some(found) if !replaces.contains(&found.session) => false,
            Some(_) if lone => true,
            found => self.table.may_follow(found.as_ref(), lone, node, before, after),
        }
    }
}

/// All sessions of a lab.
#[derive(Debug)]
pub struct Sessions {
    workers: Arc<Workers>,
    table: RwLock<Table>,
    /// How often tuples have been linked.
    links: AtomicU64,
    /// When the first session comes due.
    next_due: Bound,
    /// How much has departed, to be looked at without the lock.
    departed: AtomicUsize,
}

impl Sessions {
    /// An empty table under the lab's seed, for these workers.
    #[must_use]
    pub fn new(seed: u64, workers: Arc<Workers>) -> Sessions {
        let table = Table {
            store: Store::default(),
            index: Index::new(seed),
            agenda: Agenda::default(),
            serial: 0,
            shares: BTreeMap::new(),
            flows: Flows::default(),
            epoch: 0,
            departed: Departed::default(),
        };
        Sessions {
            workers,
            table: RwLock::new(table),
            links: AtomicU64::new(0),
            next_due: Bound::default(),
            departed: AtomicUsize::new(0),
        }
    }

    /// The table as it is now. Nobody changes it as long as the caller looks: for one walk.
    pub fn read(&self) -> Reading<'_> {
        Reading { sessions: self, table: self.table() }
    }

    /// To look; also after a worker has panicked, as with [`lock`](crate::workers::lock).
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often tuples have been linked. A walk that saw some tuples of a session before it was
    /// entered and some after can tell by this.
    #[must_use]
    pub fn links(&self) -> u64 {
        self.links.load(Ordering::Acquire)
    }

    /// Where a session may be cached.
    #[must_use]
    pub fn outline(&self, id: SessionId) -> Option<Outline> {
        let table = self.table();
        let slot = table.store.slot(id)?;
        Some(Outline { id, cached: table.store.cached(slot) })
    }

    /// Whether the session has not ended.
    #[must_use]
    pub fn is_live(&self, id: SessionId) -> bool {
        self.table().store.slot(id).is_some()
    }

    /// All sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Session> {
        let table = self.table();
        let store = &table.store;
        let mut all: Vec<Session> = store.slots().filter_map(|slot| store.session(slot)).collect();
        drop(table);
        all.sort_by_key(|s| s.id.serial);
        all
    }

    /// How many flows of `class` a vNIC's firewall or a gateway remembers.
    #[must_use]
    pub fn flows(&self, place: FlowPlace, class: FlowClass) -> usize {
        self.table().flows.count(place, class)
    }

    /// At most `limit` sessions with serial numbers above `after`, oldest first; no others are copied.
    #[must_use]
    pub fn list_after(&self, after: u64, limit: usize) -> Vec<Session> {
        let table = self.table();
        let store = &table.store;
        // The smallest serial numbers so far, the largest of them on top.
        let mut oldest: BinaryHeap<(u64, u32)> = BinaryHeap::new();
        for (serial, slot) in store.serials().filter(|(serial, _)| *serial > after) {
            oldest.push((serial, slot));
            if oldest.len() > limit {
                oldest.pop();
            }
        }
        let found = oldest.into_sorted_vec();
        found.into_iter().filter_map(|(_, slot)| store.session(slot)).collect()
    }

    /// Enters a session, in place of those that it replaces and, in a full table, of one that is
    /// expendable, and takes its first packet into account. If it cannot be entered nothing has changed.
    ///
    /// # Errors
    /// [`CommitError::Stale`] and [`CommitError::Conflict`] if the walk's basis no longer holds,
    /// [`CommitError::Full`] and [`CommitError::ShareUsed`] if there is no room,
    /// [`CommitError::TooManyRecords`] beyond [`MAX_RECORDS`].
    pub fn insert(
        &self,
        new: &NewSession<'_>,
        basis: &Basis<'_>,
        own: Slot,
        timers: &TimerSettings,
        first: &Observation,
    ) -> Result<Entered, CommitError> {
        let NewSession { records, initiating, terminating, tenant, picked_up } = *new;
        let mut table = self.lock();
        let table = &mut *table;
        if basis.epoch < table.epoch {
            return Err(CommitError::Stale);
        }
        if records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        let evict = match table.room(tenant, basis.replaces, timers) {
            Room::Free => None,
            Room::InPlaceOf(expendable) => Some(expendable),
            Room::ShareUsed => return Err(CommitError::ShareUsed),
            Room::Full => return Err(CommitError::Full),
        };
        table.serial += 1;
        let serial = table.serial;
        let places = table.places(records);
        table.check(records, &places, basis, self.links(), self.workers.is_lone())?;
        let leaving = basis.replaces.iter().copied().chain(evict);
        let ended = leaving.filter_map(|id| self.end(table, id, Some(own))).collect();
        let mut progress = Progress::new(initiating.protocol);
        if let (Progress::Tcp(tcp), true) = (&mut progress, picked_up) {
            *tcp = TcpState::under_way();
        }
        let mut traffic = [Traffic::default(); 2];
        if let Some(t) = traffic.get_mut(first.direction.index()) {
            t.add(first.packets, first.bytes);
        }
        if !first.icmp_error {
            progress.observe(first, traffic);
        }
        let beginning = Beginning {
            serial,
            created: first.now,
            tenant,
            initiating,
            terminating,
            progress,
            traffic,
        };
        let slot = table.store.insert(&beginning, records).ok_or(CommitError::Full)?;
        let id = SessionId { index: slot, serial };
        table.flows.enter(FlowClass::of(initiating.protocol, progress), records);
        table.link(slot, records, &places);
        self.links.fetch_add(1, Ordering::AcqRel);
        let share = table.shares.entry(tenant).or_default();
        share.sessions += 1;
        enlist(share, &table.store, id);
        table.arm(slot, timers, &self.next_due);
        Ok(Entered { id, ended, evicted: evict.is_some(), progress })
    }

    /// Adds records to a session: stages that forgot it, or that it meets for the first time. Returns
    /// the sessions that ended for it.
    ///
    /// # Errors
    /// As [`Sessions::insert`]; also a conflict if the session has gone.
    pub fn extend(
        &self,
        id: SessionId,
        records: &Records,
        basis: &Basis<'_>,
        own: Slot,
        timers: &TimerSettings,
    ) -> Result<SmallVec<[Outline; 1]>, CommitError> {
        let mut table = self.lock();
        let table = &mut *table;
        if basis.epoch < table.epoch {
            return Err(CommitError::Stale);
        }
        let Some(slot) = table.store.slot(id) else {
            return Err(CommitError::Conflict);
        };
        if table.store.record_count(slot) + records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        let class = table.class(slot);
        let places = table.places(records);
        table.check(records, &places, basis, self.links(), self.workers.is_lone())?;
        let ended =
            basis.replaces.iter().filter_map(|id| self.end(table, *id, Some(own))).collect();
        if table.store.slot(id).is_some() {
            let had: Records = table.store.records(slot).collect();
            let all: Records = had.iter().chain(records).copied().collect();
            table.store.set_records(slot, &all);
            table.flows.leave(class, &had);
            table.flows.enter(class, &all);
            table.link(slot, records, &places);
            self.links.fetch_add(1, Ordering::AcqRel);
            // A new record may be the first to expire.
            table.arm(slot, timers, &self.next_due);
        }
        Ok(ended)
    }

    /// Has the other workers forget what they cached of a session, and begins an era with that. What
    /// a lone worker takes away itself nobody else has.
    fn forgotten_by_others(&self, cached: [Option<Cached>; 2], own: Option<Slot>) -> Era {
        if own.is_some() && self.workers.is_lone() {
            return Era::default();
        }
        for Cached { key, workers } in cached.into_iter().flatten() {
            self.workers.ask(workers, own, Request::Forget(key));
        }
        self.workers.begin_era()
    }

    /// Unlinks a session and lets it depart. Its own worker, if there is one, still has to forget it.
    fn end(&self, table: &mut Table, id: SessionId, own: Option<Slot>) -> Option<Outline> {
        let slot = table.store.slot(id)?;
        let outline = Outline { id, cached: table.store.cached(slot) };
        let records: Records = table.store.records(slot).collect();
        let (class, tenant) = (table.class(slot), table.store.tenant(slot));
        table.unlink(slot, &records);
        table.flows.leave(class, &records);
        table.store.remove(slot);
        if let Some(share) = table.shares.get_mut(&tenant) {
            share.sessions = share.sessions.saturating_sub(1);
        }
        let era = self.forgotten_by_others(outline.cached, own);
        if !self.workers.is_lone() {
            for record in &records {
                table.departed.quarantine(record, era);
            }
        }
        // What was never cached nobody has anything to report of.
        if outline.cached != [None; 2] || !self.workers.is_lone() {
            table.departed.keep(id, &records, era);
        }
        self.departed.store(table.departed.len(), Ordering::Release);
        Some(outline)
    }

    /// Ends a session at once; its worker still has to forget it.
    pub fn remove(&self, id: SessionId, own: Slot) -> Option<Outline> {
        self.end(&mut self.lock(), id, Some(own))
    }

    /// From now on plans of snapshots before `epoch` are refused; does to each session what `fate` says of
    /// what its stages remember.
    pub fn begin_epoch(&self, epoch: u64, fate: Option<impl Fn(&[StageRecord]) -> Fate>) {
        let mut table = self.lock();
        let table = &mut *table;
        table.epoch = epoch;
        let Some(fate) = fate else { return };
        let mut ended: Vec<SessionId> = Vec::new();
        let mut given: Vec<(u32, Records)> = Vec::new();
        for (serial, slot) in table.store.serials() {
            let mut records: Records = table.store.records(slot).collect();
            match fate(&records) {
                Fate::Over => ended.push(SessionId { index: slot, serial }),
                Fate::Given(by) if by.is_empty() => {}
                Fate::Given(by) => {
                    for (node, giver) in by {
                        give(&mut records, node, giver);
                    }
                    given.push((slot, records));
                }
            }
        }
        for (slot, records) in given {
            table.store.set_records(slot, &records);
        }
        ended.sort_by_key(|id| id.serial);
        for id in ended {
            self.end(table, id, None);
        }
    }

    /// Lets go of what has departed and is in nobody's hands any more.
    pub fn release(&self) {
        if self.departed.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut table = self.lock();
        table.departed.release(self.workers.passed());
        self.departed.store(table.departed.len(), Ordering::Release);
    }

    /// The session that an action was cached for, alive or ended lately.
    pub fn identify(&self, owner: Owner) -> Option<SessionId> {
        let table = self.table();
        let Owner { index, serial } = owner;
        let live = table.store.identity(index).filter(|id| id.serial as u32 == serial);
        live.or_else(|| table.departed.identify(index, serial))
    }

    /// Takes a packet into account and arms the session's timer. `None` if the session ended so long
    /// ago that nobody should still see its packets.
    pub fn observe(
        &self,
        id: SessionId,
        o: &Observation,
        timers: &TimerSettings,
    ) -> Option<Observed> {
        let mut table = self.lock();
        let table = &mut *table;
        let Some(slot) = table.store.slot(id) else {
            let rules = table.departed.rules(id.serial)?.clone();
            return Some(Observed { rules, progress: None });
        };
        let (before, progress) = table.store.observe(slot, o)?;
        let rules = table.store.rules(slot);
        let (was, is) = (before.timer_state(), progress.timer_state());
        if was != is {
            let number = table.store.protocol(slot)?;
            let (was_class, class) =
                (FlowClass::of(number, before), FlowClass::of(number, progress));
            if was_class != class {
                let records: Records = table.store.records(slot).collect();
                table.flows.reclass(was_class, class, &records);
            }
            if !was.is_expendable() && is.is_expendable() {
                let tenant = table.store.tenant(slot);
                enlist(table.shares.entry(tenant).or_default(), &table.store, id);
            }
            // In another state it may expire earlier. A later expiry is noticed when the earlier one comes due.
            table.arm(slot, timers, &self.next_due);
        }
        Some(Observed { rules, progress: Some(progress) })
    }

    /// Notes that another rule now allows the flow that a firewall judged as `tuple`.
    pub fn rejudge(&self, id: SessionId, node: Node, tuple: Tuple, by: Option<u32>) {
        let mut table = self.lock();
        let Some(slot) = table.store.slot(id) else { return };
        let mut records: Records = table.store.records(slot).collect();
        for record in records.iter_mut().filter(|r| r.node == node) {
            match &mut record.kind {
                RecordKind::Firewall { rule, judged, .. } if *judged == tuple => *rule = by,
                _ => {}
            }
        }
        table.store.set_records(slot, &records);
    }

    /// Notes that a worker may answer packets with `key` from its cache.
    pub fn set_cached(
        &self,
        id: SessionId,
        direction: Direction,
        key: FlowKey,
        own: Slot,
    ) -> Caching {
        let mut table = self.lock();
        let Some(slot) = table.store.slot(id) else { return Caching::Gone };
        let [forward, reply] = table.store.cached(slot);
        let old = match direction {
            Direction::Forward => forward,
            Direction::Reply => reply,
        };
        let workers = old.map(|c| c.workers).unwrap_or_default();
        let cached = Cached { key, workers: workers.with(own) };
        if old != Some(cached) {
            table.store.set_cached(slot, direction, cached);
        }
        match old {
            Some(Cached { key: old, .. }) if old != key => {
                // Those who have the old key stay listed: until they forget it they have something to
                // report.
                if !self.workers.is_lone() {
                    self.workers.ask(workers, Some(own), Request::Forget(old));
                    self.workers.begin_era();
                }
                Caching::Moved(old)
            }
            _ => Caching::Welcome,
        }
    }

    /// Has the other workers forget what they cached of a session; returns what its own worker has to.
    pub fn forget_cached(&self, id: SessionId, own: Slot) -> Option<Outline> {
        let outline = self.outline(id)?;
        if outline.cached != [None; 2] {
            self.forgotten_by_others(outline.cached, Some(own));
        }
        Some(outline)
    }

    /// The earliest moment at which some record may expire.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.next_due.get()
    }

    /// Arms all timers anew, after the settings have changed: they may be shorter now.
    pub fn rearm(&self, timers: &TimerSettings) {
        let mut table = self.lock();
        let Table { store, agenda, .. } = &mut *table;
        agenda.clear();
        for slot in store.slots().collect::<Vec<u32>>() {
            if let Some((at, armed)) = store.due(slot, timers) {
                *armed = super::due::UNARMED;
                agenda.arm(slot, armed, at);
            }
        }
        self.next_due.set(agenda.first());
    }

    /// A session whose timer came due by `now`. The caller folds what the caches know of it, then
    /// calls [`Sessions::expire`].
    #[must_use]
    pub fn take_due(&self, now: Time, timers: &TimerSettings) -> Option<Outline> {
        if !self.next_due.is_due(now) {
            return None;
        }
        let mut table = self.lock();
        let Table { store, agenda, .. } = &mut *table;
        let found = agenda.take(now, store, timers);
        self.next_due.set(agenda.first());
        let slot = found?;
        Some(Outline { id: store.known(slot)?.id, cached: store.cached(slot) })
    }

    /// Removes the records of the session that have expired by `now`, and the session with its last
    /// one. Returns whether anything was removed, so that the worker must forget the session; the
    /// others have been asked to.
    pub fn expire(&self, id: SessionId, timers: &TimerSettings, now: Time, own: Slot) -> bool {
        let mut table = self.lock();
        let table = &mut *table;
        let Some(known) = table.store.slot(id).and_then(|slot| table.store.known(slot)) else {
            return false;
        };
        let (slot, state, last_seen) = (id.index, known.progress.timer_state(), known.last_seen);
        let lives = |r: &StageRecord| last_seen + timers.timeout(r.timers, state) > now;
        let (left, expired): (Records, Records) = table.store.records(slot).partition(lives);
        if left.is_empty() {
            return self.end(table, id, Some(own)).is_some();
        }
        if !expired.is_empty() {
            let class = table.class(slot);
            table.unlink(slot, &expired);
            let had: Records = table.store.records(slot).collect();
            table.store.set_records(slot, &left);
            table.flows.leave(class, &had);
            table.flows.enter(class, &left);
            let era = self.forgotten_by_others(table.store.cached(slot), Some(own));
            if !self.workers.is_lone() {
                for record in &expired {
                    table.departed.quarantine(record, era);
                }
            }
            self.departed.store(table.departed.len(), Ordering::Release);
        }
        table.arm(slot, timers, &self.next_due);
        !expired.is_empty()
    }
}

/// Notes that another NAT rule now gives the translation that a gateway remembers.
fn give(records: &mut Records, node: Node, by: u32) {
    for record in records.iter_mut().filter(|r| r.node == node) {
        if let RecordKind::Nat { rule } = &mut record.kind {
            *rule = by;
        }
    }
}
