//! The cache's side of a worker: repeating actions, storing them, and reporting what they saw.
//!
//! A cached action owns nothing but observations (promise 4). They are reported to session, rules,
//! ports and stations before the action is thrown away, before the session is judged anew, and
//! whenever somebody asks.

use super::Worker;
use super::commit::Committed;
use crate::cache::{CacheEntry, FlowKey, wire_packets};
use crate::network::{Network, PortId};
use crate::plan::Outcome;
use crate::session::{Caching, Observation, Outline, Segment, SessionId, Traffic};
use packet::{Frame, Headers, Rewrite, Time, tcp_flags};

impl Worker {
    /// Repeats a cached action, if there is one that holds.
    pub(super) fn hit(
        &mut self,
        net: &Network,
        port: PortId,
        frame: &mut Frame,
        headers: &Headers,
        now: Time,
    ) -> Option<PortId> {
        let ip = headers.ip()?;
        let generation = self.generation;
        let entry = match FlowKey::of(port, headers)? {
            FlowKey::V4(key) => self.cache4.get_mut(&key),
            FlowKey::V6(key) => self.cache6.get_mut(&key),
        }?;
        if entry.epoch != net.epoch
            || entry.generation != generation
            || !entry.admits(frame, headers, ip)
        {
            return None;
        }
        let is_first = entry.frames == 0;
        entry.unreported.add(wire_packets(frame, headers), frame.bytes.len() as u64);
        entry.frames += 1;
        entry.last_seen = now;
        if let (Some(sender), Some(tcp)) = (&mut entry.tcp, ip.tcp()) {
            sender.extend(Segment::of(tcp));
        }
        entry.rewrite.apply(frame, headers);
        let out = entry.out;
        if is_first {
            self.touch(port, headers);
        }
        Some(out)
    }

    /// Notes that the packet's cached action has something to report.
    #[cold]
    fn touch(&mut self, port: PortId, headers: &Headers) {
        match FlowKey::of(port, headers) {
            Some(FlowKey::V4(key)) => self.cache4.touch(key),
            Some(FlowKey::V6(key)) => self.cache6.touch(key),
            None => {}
        }
    }

    #[allow(clippy::too_many_arguments, reason = "everything that a cached action is made of")]
    pub(super) fn store(
        &mut self,
        net: &Network,
        port: PortId,
        headers: &Headers,
        outcome: &Outcome,
        rewrite: Rewrite,
        session: Option<Committed>,
        out: PortId,
        now: Time,
    ) {
        let Some(key) = FlowKey::of(port, headers) else {
            return;
        };
        let tcp =
            headers.ip().filter(|_| session.is_some()).and_then(|ip| ip.tcp()).map(Segment::of);
        if session.as_ref().is_some_and(|s| !s.steady) || tcp.is_some_and(|t| !t.is_plain()) {
            return;
        }
        let session = session.map(|s| (s.id, s.direction));
        if let Some((id, direction)) = session {
            match self.shared.sessions.set_cached(id, direction, key, self.slot) {
                Caching::Welcome => {}
                Caching::Moved(old) => self.forget(old),
                Caching::Gone => return,
            }
        }
        let entry = CacheEntry {
            epoch: net.epoch,
            generation: outcome.generation,
            src_mac: headers.src_mac,
            mtu: outcome.mtu,
            tcp,
            rewrite,
            out,
            serial: 0,
            session,
            learned: outcome.plan.learned.map(|l| l.segment),
            ethernet: outcome.plan.ethernet.clone(),
            unreported: Traffic::default(),
            frames: 0,
            last_seen: now,
        };
        match key {
            FlowKey::V4(key) => {
                for (key, old) in self.cache4.insert(key, entry) {
                    self.report(FlowKey::V4(key), old);
                }
            }
            FlowKey::V6(key) => {
                for (key, old) in self.cache6.insert(key, entry) {
                    self.report(FlowKey::V6(key), old);
                }
            }
        }
    }

    /// Forgets a cached action after reporting what it saw.
    pub(super) fn forget(&mut self, key: FlowKey) {
        let entry = match &key {
            FlowKey::V4(k) => self.cache4.remove(k),
            FlowKey::V6(k) => self.cache6.remove(k),
        };
        if let Some(entry) = entry {
            self.report(key, entry);
        }
    }

    /// Reports what a cached action saw and keeps it.
    pub(super) fn report_in_place(&mut self, key: FlowKey) {
        let seen = match &key {
            FlowKey::V4(k) => self.cache4.get_mut(k).map(CacheEntry::take_observations),
            FlowKey::V6(k) => self.cache6.get_mut(k).map(CacheEntry::take_observations),
        };
        if let Some(entry) = seen {
            self.report(key, entry);
        }
    }

    /// Reports what cached actions saw of a session, and keeps them.
    pub(super) fn report_session(&mut self, id: SessionId) {
        let cached = self.shared.sessions.outline(id).map(|s| s.cached);
        for cached in cached.into_iter().flatten().flatten() {
            self.report_in_place(cached.key);
        }
    }

    pub(super) fn forget_session(&mut self, session: &Outline) {
        for cached in session.cached.into_iter().flatten() {
            self.forget(cached.key);
        }
    }

    /// Has every worker forget what it cached of a session.
    pub(super) fn forget_connection(&mut self, id: SessionId) {
        if let Some(session) = self.shared.sessions.forget_cached(id, self.slot) {
            self.forget_session(&session);
        }
    }

    /// Reports what the cached action for this packet's own flow saw before the packet is walked,
    /// so that counters stay in order.
    pub(super) fn report_for(&mut self, port: PortId, headers: &Headers) {
        if let Some(key) = FlowKey::of(port, headers) {
            self.forget(key);
        }
    }

    /// Whether a walk that depends on it was judged by a session that had not heard from the cache yet,
    /// as a reset's does; it has now.
    pub(super) fn is_behind(&mut self, walked: &Headers, outcome: &Outcome) -> bool {
        let is_reset =
            walked.ip().and_then(|ip| ip.tcp()).is_some_and(|t| t.flags & tcp_flags::RST != 0);
        let depends = is_reset || outcome.plan.timed;
        let Some((id, _)) = outcome.plan.session.filter(|_| depends) else { return false };
        let Some(session) = self.shared.sessions.outline(id) else { return false };
        let before = self.cached();
        self.forget_session(&session);
        self.cached() != before
    }

    /// Folds a cached action's observations into session, rules, ports and stations.
    fn report(&mut self, key: FlowKey, entry: CacheEntry) {
        if entry.frames == 0 {
            return;
        }
        let Traffic { packets, bytes } = entry.unreported;
        let port = key.port();
        let counters = &mut self.counters;
        counters.accounting.received += entry.frames;
        counters.accounting.delivered += entry.frames;
        counters.ports.entry(port).or_default().rx.add(packets, bytes);
        counters.ports.entry(entry.out).or_default().tx.add(packets, bytes);
        if let Some(segment) = entry.learned {
            self.shared.tables.change(|learned| {
                if let Some(s) = learned.stations.get_mut(&(segment, entry.src_mac))
                    && s.port == port
                {
                    s.last_seen = s.last_seen.max(entry.last_seen);
                }
            });
        }
        for rule in &entry.ethernet {
            self.counters.count_passed(*rule, entry.unreported, entry.last_seen);
        }
        let Some((id, direction)) = entry.session else {
            return;
        };
        let observation = Observation {
            direction,
            tcp: entry.tcp,
            icmp_error: false,
            packets,
            bytes,
            now: entry.last_seen,
        };
        self.observe(id, &observation);
    }

    /// Reports everything that cached actions have seen, in the order of their keys.
    pub fn collect(&mut self) {
        for (key, entry) in self.cache4.take_observations() {
            self.report(FlowKey::V4(key), entry);
        }
        for (key, entry) in self.cache6.take_observations() {
            self.report(FlowKey::V6(key), entry);
        }
    }

    /// Reports everything, and forgets it.
    pub(super) fn forget_everything(&mut self) {
        self.collect();
        self.cache4.clear();
        self.cache6.clear();
    }
}
