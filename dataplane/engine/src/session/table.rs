//! The session table: a slab of sessions, an index of tuples, and the order of expiry.
//!
//! Slow path only. The index *is* the allocation of NAT ports: a port is in use towards a
//! destination exactly while the reply tuple stands in the index.

use super::flood::Flows;
use super::{
    Direction, FlowClass, MAX_RECORDS, Observation, Progress, RecordKind, Records, Session,
    SessionId, StageRecord, TcpState, TimerSettings, Traffic,
};
use crate::cache::FlowKey;
use crate::hash::{SeededState, seeded};
use crate::network::PortId;
use crate::tuple::{Node, Tuple};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use packet::Time;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a tuple led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The session.
    pub session: SessionId,
    /// Which way the tuple goes in it.
    pub direction: Direction,
}

/// Why a new session could not be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The tenant has its share of the table.
    ShareUsed,
    /// Another session took one of the tuples since the walk looked.
    Conflict,
    /// The table is full.
    Full,
    /// More stages would remember it than a session has room for.
    TooManyRecords,
}

/// Whether another session fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Free,
    /// It does once this one has been ended.
    InPlaceOf(SessionId),
    /// The tenant has its share, and nothing of it is expendable.
    ShareUsed,
    /// The table is full, and nothing in it is expendable.
    Full,
}

/// What a session is made of.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Stage records.
    pub records: Records,
    /// The tuple as the initiator sent it.
    pub initiating: Tuple,
    /// The tuple as the responder got it.
    pub terminating: Tuple,
    /// Whose share it takes.
    pub tenant: Option<u32>,
    /// It is a TCP connection that is under way already.
    pub picked_up: bool,
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
}

impl Inner {
    /// The oldest expendable session of a tenant.
    fn expendable(&mut self, tenant: Option<u32>) -> Option<SessionId> {
        let share = self.shares.get_mut(&tenant)?;
        while let Some(id) = share.expendable.pop_front() {
            let session = self.slab.get(id.index as usize).filter(|s| s.id == id);
            if session.is_some_and(|s| s.progress.timer_state().is_expendable()) {
                return Some(id);
            }
        }
        None
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
    index: DashMap<(Node, Tuple), Found, SeededState>,
    inner: Mutex<Inner>,
}

impl Sessions {
    /// An empty table under the lab's seed.
    #[must_use]
    pub fn new(seed: u64) -> Sessions {
        Sessions {
            index: DashMap::with_hasher(seeded(seed, 1)),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that `tuple` belongs to at `node`.
    #[must_use]
    pub fn find(&self, node: Node, tuple: Tuple) -> Option<Found> {
        self.index.get(&(node, tuple)).map(|f| *f)
    }

    /// A copy of the session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Session> {
        let inner = self.lock();
        inner.slab.get(id.index as usize).filter(|s| s.id == id).cloned()
    }

    /// All sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Session> {
        let mut all: Vec<Session> = self.lock().slab.iter().map(|(_, s)| s.clone()).collect();
        all.sort_by_key(|s| s.id.serial);
        all
    }

    /// How many flows of `class` the firewall at a vNIC remembers.
    #[must_use]
    pub fn flows(&self, port: PortId, class: FlowClass) -> usize {
        self.lock().flows.count(port, class)
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

    /// Whether a session of `tenant` fits, and in whose place. Of several tenants the one with most
    /// sessions gives way.
    #[must_use]
    pub fn room(&self, tenant: Option<u32>, timers: &TimerSettings) -> Room {
        let mut inner = self.lock();
        let own = inner.shares.get(&tenant).map_or(0, |s| s.sessions);
        if tenant.is_some() && own >= timers.max_tenant_sessions {
            return inner.expendable(tenant).map_or(Room::ShareUsed, Room::InPlaceOf);
        }
        if inner.slab.len() < timers.max_sessions {
            return Room::Free;
        }
        let mut tenants: Vec<(usize, Option<u32>)> =
            inner.shares.iter().map(|(tenant, s)| (s.sessions, *tenant)).collect();
        tenants.sort_unstable_by(|a, b| b.cmp(a));
        tenants
            .into_iter()
            .find_map(|(_, tenant)| inner.expendable(tenant))
            .map_or(Room::Full, Room::InPlaceOf)
    }

    /// Enters a session. Its records' reply tuples go in first, then the forward ones, so that no
    /// packet can find half of it; on a conflict everything is withdrawn.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] if a tuple is taken, [`CommitError::TooManyRecords`] beyond
    /// [`MAX_RECORDS`].
    pub fn insert(&self, new: NewSession, now: Time) -> Result<SessionId, CommitError> {
        let NewSession { records, initiating, terminating, tenant, picked_up } = new;
        let mut inner = self.lock();
        if records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        inner.serial += 1;
        let serial = inner.serial;
        let index = inner.slab.vacant_key();
        let index = u32::try_from(index).map_err(|_| CommitError::Full)?;
        let id = SessionId { index, serial };
        self.link(id, &records)?;
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
            records,
            traffic: [Traffic::default(); 2],
            cached: [None; 2],
        };
        let inner = &mut *inner;
        inner.flows.enter(session.flow_class(), &session.records);
        inner.slab.insert(session);
        inner.shares.entry(tenant).or_default().sessions += 1;
        inner.enlist(tenant, id);
        Ok(id)
    }

    /// Adds records to a session: stages that forgot it, or that it meets for the first time.
    ///
    /// # Errors
    /// As [`Sessions::insert`]; also a conflict if the session has gone.
    pub fn extend(
        &self,
        id: SessionId,
        records: &Records,
        timers: &TimerSettings,
    ) -> Result<(), CommitError> {
        let mut inner = self.lock();
        let Inner { slab, flows, due, .. } = &mut *inner;
        let Some(session) = slab.get_mut(id.index as usize).filter(|s| s.id == id) else {
            return Err(CommitError::Conflict);
        };
        if session.records.len() + records.len() > MAX_RECORDS {
            return Err(CommitError::TooManyRecords);
        }
        self.link(id, records)?;
        session.records.extend(records.iter().copied());
        flows.enter(session.flow_class(), records);
        // A new record may be the first to expire.
        due.push(Reverse((session.due(timers), id)));
        Ok(())
    }

    fn link(&self, id: SessionId, records: &Records) -> Result<(), CommitError> {
        let keys = records
            .iter()
            .map(|r| ((r.node, r.after.reversed()), Direction::Reply))
            .chain(records.iter().map(|r| ((r.node, r.before), Direction::Forward)));
        let mut done: Vec<(Node, Tuple)> = Vec::with_capacity(records.len() * 2);
        for (key, direction) in keys {
            // The entry holds its shard locked: it must be gone before anything is withdrawn.
            let entered = match self.index.entry(key) {
                Entry::Vacant(v) => {
                    v.insert(Found { session: id, direction });
                    true
                }
                Entry::Occupied(_) => false,
            };
            if entered {
                done.push(key);
                continue;
            }
            for key in done {
                self.index.remove(&key);
            }
            return Err(CommitError::Conflict);
        }
        Ok(())
    }

    fn unlink(&self, id: SessionId, record: &StageRecord) {
        for key in [(record.node, record.before), (record.node, record.after.reversed())] {
            self.index.remove_if(&key, |_, f| f.session == id);
        }
    }

    /// Takes a packet into account and arms the session's timer.
    pub fn observe(&self, id: SessionId, o: &Observation, timers: &TimerSettings) {
        let mut inner = self.lock();
        let Inner { slab, flows, .. } = &mut *inner;
        let Some(session) = slab.get_mut(id.index as usize).filter(|s| s.id == id) else {
            return;
        };
        let fresh = session.traffic == [Traffic::default(); 2];
        let before = session.due(timers);
        let was_expendable = session.progress.timer_state().is_expendable();
        let class = session.flow_class();
        session.observe(o);
        flows.reclass(class, session.flow_class(), &session.records);
        let due = session.due(timers);
        let tenant = session.tenant;
        if !was_expendable && session.progress.timer_state().is_expendable() {
            inner.enlist(tenant, id);
        }
        // A later expiry is noticed when the earlier one comes due.
        if fresh || due < before {
            inner.due.push(Reverse((due, id)));
        }
    }

    /// Notes that another rule now allows the flow that a firewall judged as `tuple`.
    pub fn rejudge(&self, id: SessionId, node: Node, tuple: Tuple, by: Option<u32>) {
        let mut inner = self.lock();
        let Some(session) = inner.slab.get_mut(id.index as usize).filter(|s| s.id == id) else {
            return;
        };
        for record in session.records.iter_mut().filter(|r| r.node == node) {
            match &mut record.kind {
                RecordKind::Firewall { rule, judged, .. } if *judged == tuple => *rule = by,
                _ => {}
            }
        }
    }

    /// Notes that another NAT rule now gives the translation that a gateway remembers.
    pub fn give(&self, id: SessionId, node: Node, by: u32) {
        let mut inner = self.lock();
        let Some(session) = inner.slab.get_mut(id.index as usize).filter(|s| s.id == id) else {
            return;
        };
        for record in session.records.iter_mut().filter(|r| r.node == node) {
            if let RecordKind::Nat { rule } = &mut record.kind {
                *rule = by;
            }
        }
    }

    /// Notes that packets with `key` may be answered from the cache; returns the key that this
    /// direction had before, which must be forgotten.
    pub fn set_cached(&self, id: SessionId, direction: Direction, key: FlowKey) -> Option<FlowKey> {
        let mut inner = self.lock();
        let session = inner.slab.get_mut(id.index as usize).filter(|s| s.id == id)?;
        let slot = session.cached.get_mut(direction.index())?;
        slot.replace(key).filter(|old| *old != key)
    }

    /// The earliest moment at which some record may expire.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.lock().due.peek().map(|Reverse((at, _))| *at)
    }

    /// Arms all timers anew, after the settings have changed: they may be shorter now.
    pub fn rearm(&self, timers: &TimerSettings) {
        let mut inner = self.lock();
        inner.due = inner.slab.iter().map(|(_, s)| Reverse((s.due(timers), s.id))).collect();
    }

    /// A session whose timer came due by `now`. The caller folds what the caches know of it, then
    /// calls [`Sessions::expire`].
    #[must_use]
    pub fn take_due(&self, now: Time) -> Option<Session> {
        let mut inner = self.lock();
        while let Some(Reverse((at, id))) = inner.due.peek().copied() {
            if at > now {
                return None;
            }
            inner.due.pop();
            if let Some(session) = inner.slab.get(id.index as usize).filter(|s| s.id == id) {
                return Some(session.clone());
            }
        }
        None
    }

    /// Removes the records of the session that have expired by `now`, and the session with its last
    /// one. Returns whether anything was removed, so that caches must forget the session.
    pub fn expire(&self, id: SessionId, timers: &TimerSettings, now: Time) -> bool {
        let mut inner = self.lock();
        let Inner { slab, flows, .. } = &mut *inner;
        let Some(session) = slab.get_mut(id.index as usize).filter(|s| s.id == id) else {
            return false;
        };
        let class = session.flow_class();
        let state = session.progress.timer_state();
        let last_seen = session.last_seen;
        let mut removed = false;
        session.records.retain(|record| {
            let live = last_seen + timers.timeout(record.timers, state) > now;
            if !live {
                self.unlink(id, record);
                flows.leave(class, std::slice::from_ref(record));
                removed = true;
            }
            live
        });
        if session.records.is_empty() {
            inner.take(id.index as usize);
        } else {
            let due = session.due(timers);
            inner.due.push(Reverse((due, id)));
        }
        removed
    }

    /// Removes a session at once; returns it, so that caches can forget it.
    pub fn remove(&self, id: SessionId) -> Option<Session> {
        let mut inner = self.lock();
        inner.slab.get(id.index as usize).filter(|s| s.id == id)?;
        let session = inner.take(id.index as usize);
        for record in &session.records {
            self.unlink(id, record);
        }
        Some(session)
    }
}
