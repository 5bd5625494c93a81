//! Between batches: where a worker does what others ask of it, takes over a new snapshot, and says
//! that it has left everything behind that it was told to forget.
//!
//! A worker that knows the newest snapshot, has no request and finds the era unchanged pays a few
//! loads a batch for all this.

use super::{Pending, Worker};
use crate::network::{Network, PortId};
use crate::session::Outline;
use crate::workers::{Era, Request, Requests, lock};
use packet::{Frame, Headers, Time, tcp_flags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most packets of one worker that wait for others to tell; beyond, they are judged by what is known.
const MAX_WAITING: usize = 1_024;

/// A packet that is walked again at a later batch boundary.
#[derive(Debug)]
pub(super) struct PutOff {
    pub(super) port: PortId,
    pub(super) frame: Frame,
    pub(super) walked: Headers,
    /// Other workers have told what they know of its session.
    pub(super) told: bool,
    /// Not before every worker has passed this.
    after: Era,
}

impl PutOff {
    /// Until other workers have told what their caches saw.
    pub(super) fn told(pending: Pending, after: Era) -> PutOff {
        let Pending { port, frame, walked, .. } = pending;
        PutOff { port, frame, walked, told: true, after }
    }

    /// Until the worker has a newer snapshot.
    pub(super) fn outdated(pending: Pending) -> PutOff {
        let Pending { port, frame, walked, .. } = pending;
        PutOff { port, frame, walked, told: false, after: Era::default() }
    }
}

impl Worker {
    /// Comes to a batch boundary. Returns whether a batch may begin.
    pub(super) fn begin_batch(&mut self, net: &Network) -> bool {
        self.timers = net.timers;
        self.outdated = false;
        if self.parked {
            self.shared.workers.wake(self.slot);
            (self.parked, self.era) = (false, Era::default());
        }
        if self.epoch != Some(net.epoch) {
            let shared = Arc::clone(&self.shared);
            shared.publish_after(net, || self.collect());
            // Counted by the rules of before.
            self.hand_over();
            match &net.changes {
                Some((since, changes)) if self.epoch == Some(*since) => {
                    self.state.change_partly(Arc::clone(changes));
                }
                _ => self.state.change(),
            }
            self.epoch = Some(net.epoch);
        }
        let era = self.shared.workers.era();
        if era != self.era {
            self.do_requests(era);
        }
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.state.change();
        }
        !self.shared.is_past(net) && !self.shared.is_being_left()
    }

    /// The caller has sent everything that this worker returned, and waits for a frame or a timer: the
    /// worker reports everything, and counts as past every batch boundary until its next batch.
    pub fn park(&mut self) {
        self.collect();
        self.hand_over();
        self.shared.workers.park(self.slot);
        self.parked = true;
        self.shared.sessions.release();
    }

    fn do_requests(&mut self, era: Era) {
        let mut requests = std::mem::take(&mut self.requests);
        self.shared.workers.take_requests(self.slot, &mut requests);
        let Requests { list, overflowed } = &mut requests;
        if *overflowed {
            self.forget_everything();
            self.hand_over();
        }
        for request in list.drain(..) {
            match request {
                Request::Forget(key) => self.forget(key),
                Request::Report(key) => self.report_in_place(key),
                Request::Tell => {
                    self.collect();
                    self.hand_over();
                }
            }
        }
        self.requests = requests;
        self.era = era;
        self.shared.workers.pass(self.slot, era);
        self.shared.sessions.release();
    }

    /// Adds what was counted to the lab's totals, but for what rules have counted that are no more.
    fn hand_over(&mut self) {
        let mut counters = std::mem::take(&mut self.counters);
        self.shared.forget_rules(&mut counters, self.epoch);
        lock(&self.shared.totals).absorb(&counters);
    }

    /// Puts a packet off to a later batch.
    pub(super) fn put_off(&mut self, packet: PutOff) {
        self.shared.put_off.fetch_add(1, Ordering::AcqRel);
        self.put_off.push_back(packet);
    }

    /// Walks the packets that need not wait any longer.
    pub(super) fn resume(&mut self, net: &Network, now: Time, tx: &mut Vec<(PortId, Frame)>) {
        for _ in 0..self.put_off.len() {
            let Some(packet) = self.put_off.pop_front() else { break };
            if self.outdated || !self.shared.has_passed(packet.after) {
                self.put_off.push_back(packet);
                continue;
            }
            self.shared.put_off.fetch_sub(1, Ordering::AcqRel);
            self.walk_put_off(net, packet, now, tx);
        }
    }

    /// The session of a packet that is judged by what other workers' caches may know better than the session:
    /// a reset by how far its connection is (RFC 5961), others by when it was last seen.
    pub(super) fn depends_on(&self, pending: &Pending) -> Option<Outline> {
        let plan = &pending.outcome.plan;
        let tcp = pending.walked.ip().and_then(|ip| ip.tcp());
        let depends = plan.timed || tcp.is_some_and(|t| t.flags & tcp_flags::RST != 0);
        let (id, _) = plan.session.filter(|_| depends)?;
        if self.shared.workers.is_lone() || self.put_off.len() >= MAX_WAITING {
            return None;
        }
        self.shared.sessions.outline(id)
    }

    /// Has the other workers report what their caches know of a session; returns when they have, or
    /// `None` if they know nothing.
    pub(super) fn ask_about(&self, session: &Outline) -> Option<Era> {
        let workers = &self.shared.workers;
        let mut asked = false;
        for cached in session.cached.iter().flatten() {
            let request = Request::Report(cached.key);
            asked |= workers.ask_awake(cached.workers, Some(self.slot), request);
        }
        asked.then(|| workers.begin_era())
    }

    /// A session's timer came due. It is decided at once, or when the other workers that may have seen
    /// its packets have said so. Until then it counts as alive.
    pub(super) fn come_due(&mut self, session: &Outline, now: Time) {
        match self.ask_about(session) {
            Some(era) => self.due.push_back((era, now, session.id)),
            None => self.expire(session, now),
        }
    }

    /// Decides on the sessions of which every worker has told what it knows.
    pub(super) fn decide(&mut self, now: Time) {
        while let Some((era, _, id)) = self.due.front().copied()
            && self.shared.has_passed(era)
        {
            self.due.pop_front();
            if let Some(session) = self.shared.sessions.outline(id) {
                self.expire(&session, now);
            }
        }
    }

    /// Since when something of this worker's waits for other workers.
    pub(super) fn waiting_since(&self) -> Option<Time> {
        let due = self.due.front().map(|(_, at, _)| *at);
        due.into_iter().chain((!self.put_off.is_empty()).then_some(Time::ZERO)).min()
    }
}

/// A worker that goes, also by a panic, holds nobody up.
impl Drop for Worker {
    fn drop(&mut self) {
        self.park();
    }
}
