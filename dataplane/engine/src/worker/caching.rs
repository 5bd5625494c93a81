//! The cache's side of a worker: repeating actions, storing them, and reporting what they saw.
//!
//! A cached action owns nothing but observations (promise 4). They are reported to session, rules,
//! ports and stations before the action is thrown away, before the session is judged anew, and
//! whenever somebody asks.

use super::commit::Committed;
use super::{Received, Worker};
use crate::cache::{FlowKey, Looked, NewEntry, Path, Repeat, Seen, Terms};
use crate::network::PortId;
use crate::plan::Outcome;
use crate::session::{Caching, Observation, Outline, Segment, SessionId, Traffic};
use packet::{
    Frame, Headers, LinkRewrite, Plain, PlainRewrite, Rewrite, Time, flow4, flow6, plain4, plain6,
    tcp_flags,
};

/// A packet of a batch, looked up before the batch is worked on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ahead {
    /// A plain IPv4 packet.
    V4(Looked),
    /// A plain IPv6 packet.
    V6(Looked),
    /// One that is never cached.
    Other,
}

impl Worker {
    /// Looks up a batch. Each step touches memory that the steps of other packets do not wait for: what takes
    /// long, takes long for all of them at once.
    #[inline]
    pub(super) fn look_ahead(&self, batch: &[Received], ahead: &mut Vec<Ahead>) {
        ahead.clear();
        ahead.extend(batch.iter().map(|Received { port, frame }| self.begin_look(*port, frame)));
        for one in &mut *ahead {
            match one {
                Ahead::V4(looked) => self.cache4.look(looked),
                Ahead::V6(looked) => self.cache6.look(looked),
                Ahead::Other => {}
            }
        }
        let touched = ahead.iter().fold(0, |touched, one| match one {
            Ahead::V4(looked) => touched ^ self.cache4.touch(*looked),
            Ahead::V6(looked) => touched ^ self.cache6.touch(*looked),
            Ahead::Other => touched,
        });
        // What is loaded for nobody is not loaded.
        std::hint::black_box(touched);
    }

    #[inline]
    fn begin_look(&self, port: PortId, frame: &Frame) -> Ahead {
        if let Some(flow) = flow4(port.0, &frame.bytes) {
            Ahead::V4(self.cache4.begin(&flow))
        } else if let Some(flow) = flow6(port.0, &frame.bytes) {
            Ahead::V6(self.cache6.begin(&flow))
        } else {
            Ahead::Other
        }
    }

    /// As [`Worker::look_ahead`], for one packet.
    pub(super) fn look_up(&self, port: PortId, frame: &Frame) -> Ahead {
        let mut ahead = self.begin_look(port, frame);
        match &mut ahead {
            Ahead::V4(looked) => self.cache4.look(looked),
            Ahead::V6(looked) => self.cache6.look(looked),
            Ahead::Other => {}
        }
        ahead
    }

    /// Repeats a cached action, if there is one that holds.
    #[inline(always)]
    pub(super) fn hit(
        &mut self,
        ahead: Ahead,
        port: PortId,
        frame: &mut Frame,
        now: Time,
    ) -> Option<PortId> {
        match self.repeat(ahead, port, frame, now) {
            Repeat::Sent(out) => Some(out),
            Repeat::Refused => None,
            Repeat::Full => self.report_and_repeat(ahead, port, frame, now),
        }
    }

    #[inline(always)]
    fn repeat(&mut self, ahead: Ahead, port: PortId, frame: &mut Frame, now: Time) -> Repeat {
        match ahead {
            Ahead::V4(looked) => {
                let plain = plain4(port.0, &frame.bytes);
                self.cache4.repeat(looked, &plain, &self.state, frame, now)
            }
            Ahead::V6(looked) => {
                let plain = plain6(port.0, &frame.bytes);
                self.cache6.repeat(looked, &plain, &self.state, frame, now)
            }
            Ahead::Other => Repeat::Refused,
        }
    }

    #[cold]
    fn report_and_repeat(
        &mut self,
        ahead: Ahead,
        port: PortId,
        frame: &mut Frame,
        now: Time,
    ) -> Option<PortId> {
        if let Some(flow) = flow4(port.0, &frame.bytes) {
            self.report_in_place(FlowKey::V4(flow));
        } else if let Some(flow) = flow6(port.0, &frame.bytes) {
            self.report_in_place(FlowKey::V6(flow));
        }
        match self.repeat(ahead, port, frame, now) {
            Repeat::Sent(out) => Some(out),
            Repeat::Refused | Repeat::Full => None,
        }
    }

    /// Stores what a walk found, if later packets of the flow change nothing but counters.
    pub(super) fn store(
        &mut self,
        port: PortId,
        frame: &Frame,
        outcome: &Outcome,
        rewrite: &Rewrite,
        session: Option<Committed>,
        out: PortId,
    ) {
        // What the walk itself has taught is not in what it saw.
        if session.is_some_and(|s| !s.steady) || outcome.generation != self.generation {
            return;
        }
        let bytes = &frame.bytes;
        if let Some(key) = flow4(port.0, bytes) {
            let plain = plain4(port.0, bytes);
            if let Some(new) = action(&plain, outcome, rewrite, session, out)
                && self.claim(session, FlowKey::V4(key))
            {
                let displaced = self.cache4.insert(&key, &new, &self.state);
                self.report(displaced);
            }
        } else if let Some(key) = flow6(port.0, bytes) {
            let plain = plain6(port.0, bytes);
            if let Some(new) = action(&plain, outcome, rewrite, session, out)
                && self.claim(session, FlowKey::V6(key))
            {
                let displaced = self.cache6.insert(&key, &new, &self.state);
                self.report(displaced);
            }
        }
    }

    /// Tells the session where its packets of this direction are cached now. Returns whether they may be.
    fn claim(&mut self, session: Option<Committed>, key: FlowKey) -> bool {
        let Some(Committed { id, direction, .. }) = session else { return true };
        match self.shared.sessions.set_cached(id, direction, key, self.slot) {
            Caching::Welcome => true,
            Caching::Moved(old) => {
                self.forget(old);
                true
            }
            Caching::Gone => false,
        }
    }

    /// Forgets a cached action after reporting what it saw.
    pub(super) fn forget(&mut self, key: FlowKey) {
        let seen = match &key {
            FlowKey::V4(k) => self.cache4.remove(k),
            FlowKey::V6(k) => self.cache6.remove(k),
        };
        self.report(seen);
    }

    /// Reports what a cached action saw and keeps it.
    pub(super) fn report_in_place(&mut self, key: FlowKey) {
        let seen = match &key {
            FlowKey::V4(k) => self.cache4.take_seen(k),
            FlowKey::V6(k) => self.cache6.take_seen(k),
        };
        self.report(seen);
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
    fn report(&mut self, seen: Option<Seen>) {
        let Some(seen) = seen.filter(|s| s.frames > 0) else { return };
        let Seen { port, out, packets, bytes, last_seen, .. } = seen;
        let counters = &mut self.counters;
        counters.accounting.received += seen.frames;
        counters.accounting.delivered += seen.frames;
        counters.ports.entry(port).or_default().rx.add(packets, bytes);
        counters.ports.entry(out).or_default().tx.add(packets, bytes);
        if let Some(segment) = seen.learned {
            self.shared.tables.change(|learned| {
                if let Some(s) = learned.stations.get_mut(&(segment, seen.src_mac))
                    && s.port == port
                {
                    s.last_seen = s.last_seen.max(last_seen);
                }
            });
        }
        for rule in &seen.stateless {
            self.counters.count_passed(*rule, Traffic { packets, bytes }, last_seen);
        }
        let Some((owner, direction)) = seen.session else { return };
        let Some(id) = self.shared.sessions.identify(owner) else { return };
        let observation = Observation {
            direction,
            tcp: seen.tcp,
            icmp_error: false,
            packets,
            bytes,
            now: last_seen,
        };
        self.observe(id, &observation);
    }

    /// Reports everything that cached actions have seen.
    pub fn collect(&mut self) {
        let mut all = self.cache4.take_observations();
        all.extend(self.cache6.take_observations());
        for seen in all {
            self.report(Some(seen));
        }
    }

    /// Reports everything, and forgets it.
    pub(super) fn forget_everything(&mut self) {
        self.collect();
        self.cache4.clear();
        self.cache6.clear();
    }
}

/// The action for packets like this one; `None` if this one tells its session something.
fn action<'a, const W: usize>(
    plain: &Plain<W>,
    outcome: &'a Outcome,
    rewrite: &Rewrite,
    session: Option<Committed>,
    out: PortId,
) -> Option<NewEntry<'a, W>> {
    let tcp = plain.flow.is_tcp() && session.is_some();
    let segment = Segment { flags: plain.upper.flags, ..Segment::default() };
    if tcp && !segment.is_plain() {
        return None;
    }
    let plan = &outcome.plan;
    Some(NewEntry {
        path: Path {
            link: plain.flow.link(),
            src_mac: plain.src_mac,
            place: PortId(plain.flow.place()),
            out,
            mtu: outcome.mtu,
            rewrite: LinkRewrite::new(rewrite),
            learned: plan.learned.map(|l| l.segment),
        },
        terms: Terms {
            stateless: &plan.stateless,
            objects: &plan.reads.objects,
            asked: &plan.reads.addresses,
        },
        tcp: tcp.then_some((plain.upper.end, plain.upper.ack)),
        rewrite: PlainRewrite::new(rewrite),
        session: session.map(|s| (s.id, s.direction)),
    })
}
