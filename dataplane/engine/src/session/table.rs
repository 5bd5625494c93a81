//! The session table: a slab of sessions, an index of tuples, and the order of expiry.
//!
//! Slow path only. The index *is* the allocation of NAT ports: a port is in use towards a
//! destination exactly while the reply tuple stands in the index, or in quarantine after it.
//!
//! All workers of a lab share the table. Lookups go to the index and take no lock but its own; every
//! change is made under one lock, whole or not at all, so that of two workers that plan the same one
//! wins and the other finds out when it commits.

use super::departed::Departed;
use super::entering::{Basis, Caching, CommitError, Entered, Fate, NewSession, Observed};
use super::flood::Flows;
use super::{
    Cached, Direction, FlowClass, FlowPlace, MAX_RECORDS, Observation, Progress, RecordKind,
    Records, Session, SessionId, StageRecord, TcpState, TimerSettings, Traffic,
};
use crate::cache::{FlowKey, Owner};
use crate::hash::{SeededState, seeded};
use crate::tables::Bound;
use crate::tuple::{Node, Tuple};
use crate::workers::{Era, Request, Slot, Workers, lock};
use dashmap::DashMap;
use packet::Time;
use slab::Slab;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most sessions that have ended and wait for a worker's batch boundary. Beyond, no new one is made.
const MAX_DEPARTED: usize = 65_536;

/// Where a tuple led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The session.
    pub session: SessionId,
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

/// A tenant's part of the table.
#[derive(Debug, Default)]
struct Share {
    sessions: usize,
    /// Sessions that were expendable when they were put here, oldest first; looked at again when
    /// one is needed.
    expendable: VecDeque<SessionId>,
}

#[derive(Debug, Default)]
struct Inner {
    slab: Slab<Session>,
    serial: u64,
    /// Soonest first. A session may stand here several times; only a time that is not later than
    /// its true expiry counts, and a due entry is armed again if the session lives on.
    due: BinaryHeap<Reverse<(Time, SessionId)>>,
    shares: BTreeMap<Option<u32>, Share>,
    flows: Flows,
    /// Epoch of the newest snapshot.
    epoch: u64,
    departed: Departed,
}

impl Inner {
    fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(id.index as usize).filter(|s| s.id == id)
    }

    fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.index as usize).filter(|s| s.id == id)
    }

    /// The oldest expendable session of a tenant, but for those that leave anyway. It stays listed
    /// until it ends.
    fn expendable(&mut self, tenant: Option<u32>, leaving: &[SessionId]) -> Option<SessionId> {
        let share = self.shares.get_mut(&tenant)?;
        while let Some(id) = share.expendable.front().copied() {
            let session = self.slab.get(id.index as usize).filter(|s| s.id == id);
            if !leaving.contains(&id)
                && session.is_some_and(|s| s.progress.timer_state().is_expendable())
            {
                return Some(id);
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
        let left = |of: Option<u32>| {
            leaving.iter().filter(|id| self.get(**id).is_some_and(|s| s.tenant == of)).count()
        };
        let sessions = |tenant: Option<u32>, share: &Share| share.sessions - left(tenant);
        let own = self.shares.get(&tenant).map_or(0, |s| sessions(tenant, s));
        let all = self.slab.len() - leaving.iter().filter(|id| self.get(**id).is_some()).count();
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

    fn enlist(&mut self, tenant: Option<u32>, id: SessionId) {
        let share = self.shares.entry(tenant).or_default();
        share.expendable.push_back(id);
        // Sessions that were established or ended meanwhile have left their places behind.
        if share.expendable.len() > 2 * share.sessions + 64 {
            let slab = &self.slab;
            share.expendable.retain(|id| {
                let session = slab.get(id.index as usize).filter(|s| s.id == *id);
                session.is_some_and(|s| s.progress.timer_state().is_expendable())
            });
        }
    }

    fn take(&mut self, index: usize) -> Session {
        let session = self.slab.remove(index);
        if let Some(share) = self.shares.get_mut(&session.tenant) {
            share.sessions = share.sessions.saturating_sub(1);
        }
        self.flows.leave(session.flow_class(), &session.records);
        session
    }
}

/// All sessions of a lab.
#[derive(Debug)]
pub struct Sessions {
    workers: Arc<Workers>,
    index: DashMap<(Node, Tuple), Found, SeededState>,
    inner: Mutex<Inner>,
    /// How often tuples have been linked.
    links: AtomicU64,
    /// The first of [`Inner::due`].
    next_due: Bound,
    /// How much has departed, to be looked at without the lock.
    departed: AtomicUsize,
}

impl Sessions {
    /// An empty table under the lab's seed, for these workers.
    #[must_use]
    pub fn new(seed: u64, workers: Arc<Workers>) -> Sessions {
        Sessions {
            workers,
            index: DashMap::with_hasher(seeded(seed, 1)),
            inner: Mutex::new(Inner::default()),
            links: AtomicU64::new(0),
            next_due: Bound::default(),
            departed: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The session that `tuple` belongs to at `node`.
    #[must_use]
    pub fn find(&self, node: Node, tuple: Tuple) -> Option<Found> {
        self.index.get(&(node, tuple)).map(|f| *f)
    }

    /// How often tuples have been linked. A walk that saw some tuples of a session before it was
    /// entered and some after can tell by this.
    #[must_use]
    pub fn links(&self) -> u64 {
        self.links.load(Ordering::Acquire)
    }

    /// Whether a flow that comes to `node` as `before` may leave it as `after`, once those that it
    /// replaces have left: its reply is nobody else's, and was nobody else's lately.
    #[must_use]
    pub fn is_free(&self, node: Node, before: Tuple, after: Tuple, replaces: &[SessionId]) -> bool {
        let found = self.find(node, after.reversed());
        match found {
            None if self.departed.load(Ordering::Acquire) == 0 => true,
            Some(found) if !replaces.contains(&found.session) => false,
            Some(_) if self.workers.is_lone() => true,
            _ => self.may_follow(&self.lock(), found, node, before, after),
        }
    }

    /// Whether nobody is left who could take the new flow's packets for those of the one that had its
    /// reply tuple before.
    fn may_follow(
        &self,
        inner: &Inner,
        found: Option<Found>,
        node: Node,
        before: Tuple,
        after: Tuple,
    ) -> bool {
        if inner.departed.was_anothers(node, before, after) {
            return false;
        }
        let former = found.and_then(|f| inner.get(f.session)).and_then(|s| {
            s.records.iter().find(|r| r.node == node && r.after == after && r.before != r.after)
        });
        self.workers.is_lone() || former.is_none_or(|r| r.before == before)
    }

    /// A copy of the session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.lock().get(id).cloned()
    }

    /// Whether the session has not ended.
    #[must_use]
    pub fn is_live(&self, id: SessionId) -> bool {
        self.lock().get(id).is_some()
    }

    /// All sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Session> {
        let mut all: Vec<Session> = self.lock().slab.iter().map(|(_, s)| s.clone()).collect();
        all.sort_by_key(|s| s.id.serial);
        all
    }

    /// How many flows of `class` a vNIC's firewall or a gateway remembers.
    #[must_use]
    pub fn flows(&self, place: FlowPlace, class: FlowClass) -> usize {
        self.lock().flows.count(place, class)
    }

    /// At most `limit` sessions with serial numbers above `after`, oldest first; no others are copied.
    #[must_use]
    pub fn list_after(&self, after: u64, limit: usize) -> Vec<Session> {
        let inner = self.lock();
        // The smallest serial numbers so far, the largest of them on top.
        let mut oldest: BinaryHeap<(u64, usize)> = BinaryHeap::new();
        for (index, session) in inner.slab.iter().filter(|(_, s)| s.id.serial > after) {
            oldest.push((session.id.serial, index));
            if oldest.len() > limit {
                oldest.pop();
            }
        }
        let found = oldest.into_sorted_vec();
        found.into_iter().filter_map(|(_, index)| inner.slab.get(index).cloned()).collect()
    }

    /// Enters a session, in place of those that it replaces and, in a full table, of one that is
    /// expendable. Its records' reply tuples go in first, then the forward ones, so that no packet can
    /// find half of it. If it cannot be entered nothing has changed.
    ///
    /// # Errors
    /// [`CommitError::Stale`] and [`CommitError::Conflict`] if the walk's basis no longer holds,
    /// [`CommitError::Full`] and [`CommitError::ShareUsed`] if there is no room,
    /// [`CommitError::TooManyRecords`] beyond [`MAX_RECORDS`].
    pub fn insert(
        &self,
        new: NewSession,
        basis: &Basis<'_>,
        own: Slot,
        timers: &TimerSettings,
        now: Time,
    ) -> Result<Entered, CommitError> {
        let NewSession { records, initiating, terminating, tenant, picked_up } = new;
        let mut inner = self.lock();
        let inner = &mut *inner;
        if basis.epoch < inner.epoch {
            return Err(CommitError::Stale);
        }
        if records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        let evict = match inner.room(tenant, basis.replaces, timers) {
            Room::Free => None,
            Room::InPlaceOf(expendable) => Some(expendable),
            Room::ShareUsed => return Err(CommitError::ShareUsed),
            Room::Full => return Err(CommitError::Full),
        };
        inner.serial += 1;
        let serial = inner.serial;
        self.check(inner, &records, basis)?;
        let leaving = basis.replaces.iter().copied().chain(evict);
        let ended = leaving.filter_map(|id| self.end(inner, id, Some(own))).collect();
        let index = inner.slab.vacant_key();
        let index = u32::try_from(index).map_err(|_| CommitError::Full)?;
        let id = SessionId { index, serial };
        let session = Session {
            id,
            created: now,
            last_seen: now,
            tenant,
            initiating,
            terminating,
            progress: match Progress::new(initiating.protocol) {
                Progress::Tcp(_) if picked_up => Progress::Tcp(TcpState::under_way()),
                other => other,
            },
            records: records.clone(),
            traffic: [Traffic::default(); 2],
            cached: [None; 2],
        };
        inner.flows.enter(session.flow_class(), &session.records);
        inner.slab.insert(session);
        self.link(id, &records);
        inner.shares.entry(tenant).or_default().sessions += 1;
        inner.enlist(tenant, id);
        Ok(Entered { id, ended, evicted: evict.is_some() })
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
    ) -> Result<Vec<Session>, CommitError> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if basis.epoch < inner.epoch {
            return Err(CommitError::Stale);
        }
        let Some(session) = inner.get(id) else {
            return Err(CommitError::Conflict);
        };
        if session.records.len() + records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        let class = session.flow_class();
        self.check(inner, records, basis)?;
        let ended =
            basis.replaces.iter().filter_map(|id| self.end(inner, *id, Some(own))).collect();
        let Inner { slab, flows, .. } = &mut *inner;
        if let Some(session) = slab.get_mut(id.index as usize).filter(|s| s.id == id) {
            flows.leave(class, &session.records);
            session.records.extend(records.iter().copied());
            flows.enter(class, &session.records);
            // A new record may be the first to expire.
            let due = session.due(timers);
            self.arm(inner, due, id);
        }
        self.link(id, records);
        Ok(ended)
    }

    /// Whether the records' tuples can be linked once those that they replace have left.
    fn check(
        &self,
        inner: &Inner,
        records: &Records,
        basis: &Basis<'_>,
    ) -> Result<(), CommitError> {
        // Some of what is to be replaced may have been entered while the walk looked.
        if !basis.replaces.is_empty() && basis.links != self.links() {
            return Err(CommitError::Conflict);
        }
        let mut keys: SmallVec<[(Node, Tuple); 2 * MAX_RECORDS]> = SmallVec::new();
        for record in records {
            let reply = (record.node, record.after.reversed());
            let forward = (record.node, record.before);
            for key in [reply, forward] {
                let found = self.find(key.0, key.1);
                let is_taken = found.is_some_and(|f| !basis.replaces.contains(&f.session));
                if is_taken || keys.contains(&key) {
                    return Err(CommitError::Conflict);
                }
                keys.push(key);
            }
            let found = self.find(reply.0, reply.1);
            if !self.may_follow(inner, found, record.node, record.before, record.after)
                || inner.departed.has(forward.0, forward.1)
            {
                return Err(CommitError::Conflict);
            }
        }
        Ok(())
    }

    /// Links tuples that have been checked.
    fn link(&self, id: SessionId, records: &Records) {
        for record in records {
            let reply = Found { session: id, direction: Direction::Reply };
            self.index.insert((record.node, record.after.reversed()), reply);
        }
        for record in records {
            let forward = Found { session: id, direction: Direction::Forward };
            self.index.insert((record.node, record.before), forward);
        }
        self.links.fetch_add(1, Ordering::AcqRel);
    }

    fn unlink(&self, id: SessionId, record: &StageRecord) {
        for key in [(record.node, record.before), (record.node, record.after.reversed())] {
            self.index.remove_if(&key, |_, f| f.session == id);
        }
    }

    fn arm(&self, inner: &mut Inner, at: Time, id: SessionId) {
        inner.due.push(Reverse((at, id)));
        self.next_due.lower(at);
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
    fn end(&self, inner: &mut Inner, id: SessionId, own: Option<Slot>) -> Option<Session> {
        inner.get(id)?;
        let session = inner.take(id.index as usize);
        for record in &session.records {
            self.unlink(id, record);
        }
        let era = self.forgotten_by_others(session.cached, own);
        if !self.workers.is_lone() {
            for record in &session.records {
                inner.departed.quarantine(record, era);
            }
        }
        inner.departed.keep(session.clone(), era);
        self.departed.store(inner.departed.len(), Ordering::Release);
        Some(session)
    }

    /// Ends a session at once; returns it, so that its worker can forget it.
    pub fn remove(&self, id: SessionId, own: Slot) -> Option<Session> {
        self.end(&mut self.lock(), id, Some(own))
    }

    /// From now on plans of snapshots before `epoch` are refused; does to each session what `fate` says.
    pub fn begin_epoch(&self, epoch: u64, fate: impl Fn(&Session) -> Fate) {
        let mut inner = self.lock();
        inner.epoch = epoch;
        let mut ended: Vec<SessionId> = Vec::new();
        for (_, session) in &mut inner.slab {
            match fate(session) {
                Fate::Over => ended.push(session.id),
                Fate::Given(by) => {
                    for (node, giver) in by {
                        give(session, node, giver);
                    }
                }
            }
        }
        ended.sort_by_key(|id| id.serial);
        for id in ended {
            self.end(&mut inner, id, None);
        }
    }

    /// Lets go of what has departed and is in nobody's hands any more.
    pub fn release(&self) {
        if self.departed.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut inner = self.lock();
        inner.departed.release(self.workers.passed());
        self.departed.store(inner.departed.len(), Ordering::Release);
    }

    /// The session that an action was cached for, alive or ended lately.
    pub fn identify(&self, owner: Owner) -> Option<SessionId> {
        let inner = self.lock();
        let Owner { index, serial } = owner;
        let live = inner.slab.get(index as usize).map(|s| s.id);
        live.filter(|id| id.serial as u32 == serial)
            .or_else(|| inner.departed.identify(index, serial))
    }

    /// Takes a packet into account and arms the session's timer. `None` if the session ended so long
    /// ago that nobody should still see its packets.
    pub fn observe(
        &self,
        id: SessionId,
        o: &Observation,
        timers: &TimerSettings,
    ) -> Option<Observed> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let rules = |s: &Session| s.records.iter().filter_map(StageRecord::rule_key).collect();
        let Some(session) = inner.get_mut(id) else {
            let rules = rules(inner.departed.session(id.serial)?);
            return Some(Observed { rules, progress: None });
        };
        let fresh = session.traffic == [Traffic::default(); 2];
        let before = session.due(timers);
        let was_expendable = session.progress.timer_state().is_expendable();
        let class = session.flow_class();
        session.observe(o);
        let due = session.due(timers);
        let tenant = session.tenant;
        let progress = session.progress;
        let observed = Observed { rules: rules(session), progress: Some(progress) };
        let Inner { slab, flows, .. } = &mut *inner;
        if let Some(session) = slab.get(id.index as usize) {
            flows.reclass(class, session.flow_class(), &session.records);
        }
        if !was_expendable && progress.timer_state().is_expendable() {
            inner.enlist(tenant, id);
        }
        // A later expiry is noticed when the earlier one comes due.
        if fresh || due < before {
            self.arm(inner, due, id);
        }
        Some(observed)
    }

    /// Notes that another rule now allows the flow that a firewall judged as `tuple`.
    pub fn rejudge(&self, id: SessionId, node: Node, tuple: Tuple, by: Option<u32>) {
        let mut inner = self.lock();
        let Some(session) = inner.get_mut(id) else {
            return;
        };
        for record in session.records.iter_mut().filter(|r| r.node == node) {
            match &mut record.kind {
                RecordKind::Firewall { rule, judged, .. } if *judged == tuple => *rule = by,
                _ => {}
            }
        }
    }

    /// Notes that a worker may answer packets with `key` from its cache.
    pub fn set_cached(
        &self,
        id: SessionId,
        direction: Direction,
        key: FlowKey,
        own: Slot,
    ) -> Caching {
        let mut inner = self.lock();
        let Some(session) = inner.get_mut(id) else { return Caching::Gone };
        let Some(slot) = session.cached.get_mut(direction.index()) else { return Caching::Gone };
        match *slot {
            Some(Cached { key: old, workers }) if old != key => {
                // Those who have the old key stay listed: until they forget it they have something to
                // report.
                *slot = Some(Cached { key, workers: workers.with(own) });
                if !self.workers.is_lone() {
                    self.workers.ask(workers, Some(own), Request::Forget(old));
                    self.workers.begin_era();
                }
                Caching::Moved(old)
            }
            old => {
                let workers = old.map(|c| c.workers).unwrap_or_default().with(own);
                *slot = Some(Cached { key, workers });
                Caching::Welcome
            }
        }
    }

    /// Has the other workers forget what they cached of a session; returns it, so that its own worker
    /// can.
    pub fn forget_cached(&self, id: SessionId, own: Slot) -> Option<Session> {
        let inner = self.lock();
        let session = inner.get(id)?.clone();
        if session.cached != [None; 2] {
            self.forgotten_by_others(session.cached, Some(own));
        }
        Some(session)
    }

    /// The earliest moment at which some record may expire.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.next_due.get()
    }

    /// Arms all timers anew, after the settings have changed: they may be shorter now.
    pub fn rearm(&self, timers: &TimerSettings) {
        let mut inner = self.lock();
        inner.due = inner.slab.iter().map(|(_, s)| Reverse((s.due(timers), s.id))).collect();
        self.next_due.set(inner.due.peek().map(|Reverse((at, _))| *at));
    }

    /// A session whose timer came due by `now`. The caller folds what the caches know of it, then
    /// calls [`Sessions::expire`].
    #[must_use]
    pub fn take_due(&self, now: Time) -> Option<Session> {
        if !self.next_due.is_due(now) {
            return None;
        }
        let mut inner = self.lock();
        let mut found = None;
        while found.is_none()
            && let Some(Reverse((at, id))) = inner.due.peek().copied()
            && at <= now
        {
            inner.due.pop();
            found = inner.get(id).cloned();
        }
        self.next_due.set(inner.due.peek().map(|Reverse((at, _))| *at));
        found
    }

    /// Removes the records of the session that have expired by `now`, and the session with its last
    /// one. Returns whether anything was removed, so that the worker must forget the session; the
    /// others have been asked to.
    pub fn expire(&self, id: SessionId, timers: &TimerSettings, now: Time, own: Slot) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(session) = inner.get_mut(id) else {
            return false;
        };
        let state = session.progress.timer_state();
        let last_seen = session.last_seen;
        let lives = |r: &StageRecord| last_seen + timers.timeout(r.timers, state) > now;
        if !session.records.iter().any(lives) {
            return self.end(inner, id, Some(own)).is_some();
        }
        let expired: Records = session.records.iter().filter(|r| !lives(r)).copied().collect();
        let before = session.records.clone();
        session.records.retain(|r| lives(r));
        let (cached, due, class) = (session.cached, session.due(timers), session.flow_class());
        let left = session.records.clone();
        for record in &expired {
            self.unlink(id, record);
        }
        inner.flows.leave(class, &before);
        inner.flows.enter(class, &left);
        if !expired.is_empty() {
            let era = self.forgotten_by_others(cached, Some(own));
            if !self.workers.is_lone() {
                for record in &expired {
                    inner.departed.quarantine(record, era);
                }
            }
            self.departed.store(inner.departed.len(), Ordering::Release);
        }
        self.arm(inner, due, id);
        !expired.is_empty()
    }
}

/// Notes that another NAT rule now gives the translation that a gateway remembers.
fn give(session: &mut Session, node: Node, by: u32) {
    for record in session.records.iter_mut().filter(|r| r.node == node) {
        if let RecordKind::Nat { rule } = &mut record.kind {
            *rule = by;
        }
    }
}
