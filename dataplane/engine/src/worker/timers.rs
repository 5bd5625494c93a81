//! What happens as time passes: sessions expire, neighbours are asked again, stations are forgotten.

use super::Worker;
use crate::drops::DropReason;
use crate::network::{Network, PortId};
use crate::plan::{Outcome, Solicitation};
use crate::session::Outline;
use crate::tables::{Held, NEIGHBOR_INTERVAL, NEIGHBOR_REQUESTS, Neighbor, NeighborKey, Waiting};
use crate::workers::lock;
use packet::{Frame, Headers, Time, arp_request, neighbor_solicitation};

impl Worker {
    /// Does what other workers ask, and everything that is due by `now`; what leaves is appended to
    /// `tx`. As with [`Worker::process`], what earlier calls put there must have been sent. Returns false
    /// if no batch may begin: a newer snapshot has been published, or others are still leaving the one
    /// before.
    pub fn advance(&mut self, net: &Network, now: Time, tx: &mut Vec<(PortId, Frame)>) -> bool {
        if !self.begin_batch(net) {
            return false;
        }
        self.decide(now);
        while let Some(session) = self.shared.sessions.take_due(now, &self.timers) {
            self.come_due(&session, now);
        }
        self.advance_neighbors(net, now, tx);
        self.expire_fragments(net, now);
        if self.next_station(net).is_some_and(|at| at <= now) {
            // Cached actions have kept stations alive without telling.
            self.collect();
            if self.shared.tables.change(|t| t.age_stations(now, net.timers.mac_age)) {
                self.raise_generation();
            }
        }
        self.resume(net, now, tx);
        true
    }

    /// When [`Worker::advance`] next has something to do; `None` if nothing is pending. A moment that
    /// has passed means as soon as other workers have come to a batch boundary.
    #[must_use]
    pub fn next_timeout(&self, net: &Network) -> Option<Time> {
        [
            self.shared.sessions.next_due(),
            self.shared.tables.next_neighbor(),
            self.next_station(net),
            lock(&self.shared.fragments).next_timeout(),
            self.waiting_since(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn next_station(&self, net: &Network) -> Option<Time> {
        self.shared.tables.next_station(net.timers.mac_age)
    }

    /// A session's timer came due: what the cache knows of it counts first.
    pub(super) fn expire(&mut self, session: &Outline, now: Time) {
        for cached in session.cached.into_iter().flatten() {
            self.report_in_place(cached.key);
        }
        if self.shared.sessions.expire(session.id, &self.timers, now, self.slot) {
            self.forget_session(session);
            self.shared.sessions.release();
        }
    }

    fn advance_neighbors(&mut self, net: &Network, now: Time, tx: &mut Vec<(PortId, Frame)>) {
        if self.shared.tables.next_neighbor().is_none_or(|at| at > now) {
            return;
        }
        let mut due: Vec<Result<Solicitation, Held>> = Vec::new();
        let forgot = self.shared.tables.change(|learned| {
            let mut forgot = false;
            for key in learned.due_neighbors(now) {
                match learned.neighbors.get_mut(&key) {
                    Some(Neighbor::Pending { requests, next, .. })
                        if *requests < NEIGHBOR_REQUESTS =>
                    {
                        *requests += 1;
                        *next = now + NEIGHBOR_INTERVAL;
                        due.extend(solicitation(net, key).map(Ok));
                    }
                    Some(Neighbor::Pending { held, .. }) => {
                        due.extend(std::mem::take(held).into_iter().map(Err));
                        learned.neighbors.remove(&key);
                    }
                    Some(Neighbor::Resolved { .. }) => {
                        learned.neighbors.remove(&key);
                        forgot = true;
                    }
                    None => {}
                }
            }
            learned.rearm_neighbors();
            forgot
        });
        if forgot {
            self.raise_generation();
        }
        for what in due {
            match what {
                Ok(solicitation) => self.solicit(net, solicitation, now, tx),
                Err(waiting) => self.give_up(net, waiting, now, tx),
            }
        }
    }

    /// Nobody answered for a packet's next hop.
    fn give_up(&mut self, net: &Network, waiting: Held, now: Time, tx: &mut Vec<(PortId, Frame)>) {
        self.counters.count_drop(&waiting.drop, waiting.frame.bytes.len() as u64, now);
        self.settle_fragments(net, waiting.port, &waiting.walked, false, now, tx);
        if let Some(answer) = waiting.failure
            && self.may_answer(waiting.port, now)
        {
            self.originate(net, waiting.port, answer, now, tx);
        }
    }

    /// Whether an ICMP error or reset may be sent for a packet from `port`; counts those that may not.
    pub(super) fn may_answer(&mut self, port: PortId, now: Time) -> bool {
        let may = self.shared.tables.may_answer(port, now);
        self.counters.answers_suppressed += u64::from(!may);
        may
    }

    /// Lets a packet wait for its next hop, and asks for it unless that is under way.
    #[allow(clippy::too_many_arguments, reason = "the packet and all that its waiting needs")]
    pub(super) fn hold(
        &mut self,
        net: &Network,
        key: NeighborKey,
        port: PortId,
        frame: Frame,
        walked: Headers,
        mut outcome: Outcome,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let Some(hold) = outcome.hold.take() else {
            return;
        };
        let (solicitation, drop) = *hold;
        let bytes = frame.bytes.len() as u64;
        let failure = outcome.answer.take();
        let full = crate::Drop { reason: DropReason::NeighborQueueFull, ..drop.clone() };
        let waiting = Held { port, frame, walked, failure, drop };
        let next = now + NEIGHBOR_INTERVAL;
        match self.shared.tables.change(|learned| learned.hold(key, waiting, next)) {
            Waiting::Joined => {}
            Waiting::First => self.solicit(net, solicitation, now, tx),
            Waiting::Full => self.counters.count_drop(&full, bytes, now),
            Waiting::Resolved(waiting) => self.released.push(*waiting),
        }
    }

    /// Sends a request to every station of the segment.
    fn solicit(
        &mut self,
        net: &Network,
        s: Solicitation,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        self.counters.accounting.originated += 1;
        let ports: &[PortId] = net.segment(s.segment).map_or(&[], |segment| &segment.ports);
        if ports.is_empty() {
            self.counters.accounting.consumed += 1;
            return;
        }
        self.counters.accounting.copies += ports.len() as u64 - 1;
        for port in ports {
            self.send_own(net, *port, s.frame.clone(), now, tx);
        }
    }

    /// Walks the packets whose next hop has answered, from the start and as if they came now.
    pub(super) fn release_resolved(
        &mut self,
        net: &Network,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        for Held { port, frame, walked, .. } in std::mem::take(&mut self.released) {
            self.walk(net, port, frame, walked, now, tx);
        }
    }
}

/// A router's request for a neighbour.
fn solicitation(net: &Network, key: NeighborKey) -> Option<Solicitation> {
    let interface = net.router(key.router)?.interface(key.interface)?;
    let crate::network::Attachment::Segment(segment) = interface.attachment else {
        return None;
    };
    let source = interface.address_like(key.address)?;
    let frame = if key.address.is_v4() {
        arp_request(interface.mac, source, key.address)
    } else {
        neighbor_solicitation(interface.mac, source, key.address)
    };
    Some(Solicitation { segment, frame })
}
