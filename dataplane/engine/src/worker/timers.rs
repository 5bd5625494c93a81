//! What happens as time passes: sessions expire, neighbours are asked again, stations are forgotten.

use super::Worker;
use crate::drops::DropReason;
use crate::network::{Network, PortId};
use crate::plan::{Outcome, Solicitation};
use crate::session::Session;
use crate::tables::{
    Held, MAX_HELD, MAX_NEIGHBORS, NEIGHBOR_INTERVAL, NEIGHBOR_REQUESTS, Neighbor, NeighborKey,
};
use packet::{Frame, Headers, Time, arp_request, neighbor_solicitation};

impl Worker {
    /// Does everything that is due by `now`.
    pub fn advance(&mut self, net: &Network, now: Time, tx: &mut Vec<(PortId, Frame)>) {
        if self.timers != net.timers {
            // What cached actions have seen counts, or the same timers would be armed otherwise with them.
            self.collect();
            self.timers = net.timers;
            self.sessions.rearm(&self.timers);
        }
        self.adopt(net);
        while let Some(session) = self.sessions.take_due(now) {
            self.expire(net, &session, now);
        }
        self.advance_neighbors(net, now, tx);
        self.expire_fragments(net, now);
        if self.next_station(net).is_some_and(|at| at <= now) {
            // Cached actions have kept stations alive without telling.
            self.collect();
            if self.tables.age_stations(now, net.timers.mac_age) {
                self.generation += 1;
            }
        }
    }

    /// When [`Worker::advance`] next has something to do; `None` if nothing is pending.
    #[must_use]
    pub fn next_timeout(&self, net: &Network) -> Option<Time> {
        [
            self.sessions.next_due(),
            self.tables.next_neighbor(),
            self.next_station(net),
            self.fragments.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn next_station(&self, net: &Network) -> Option<Time> {
        self.tables.next_station(net.timers.mac_age)
    }

    /// A session's timer came due: what the cache knows of it counts first.
    fn expire(&mut self, net: &Network, session: &Session, now: Time) {
        for key in session.cached.into_iter().flatten() {
            self.report_in_place(key);
        }
        if self.sessions.expire(session.id, &net.timers, now) {
            self.forget_session(session);
        }
    }

    fn advance_neighbors(&mut self, net: &Network, now: Time, tx: &mut Vec<(PortId, Frame)>) {
        let due = self.tables.due_neighbors(now);
        if due.is_empty() && self.tables.next_neighbor().is_none_or(|at| at > now) {
            return;
        }
        for key in due {
            match self.tables.neighbors.get_mut(&key) {
                Some(Neighbor::Pending { requests, next, .. }) if *requests < NEIGHBOR_REQUESTS => {
                    *requests += 1;
                    *next = now + NEIGHBOR_INTERVAL;
                    if let Some(s) = solicitation(net, key) {
                        self.solicit(net, s, now, tx);
                    }
                }
                Some(Neighbor::Pending { .. }) => self.give_up(net, key, now, tx),
                Some(Neighbor::Resolved { .. }) => {
                    self.tables.neighbors.remove(&key);
                    self.generation += 1;
                }
                None => {}
            }
        }
        self.tables.rearm_neighbors();
    }

    fn give_up(
        &mut self,
        net: &Network,
        key: NeighborKey,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let Some(Neighbor::Pending { held, .. }) = self.tables.neighbors.remove(&key) else {
            return;
        };
        for waiting in held {
            self.tables.accounting.held -= 1;
            self.tables.count_drop(&waiting.drop, waiting.frame.bytes.len() as u64, now);
            self.settle_fragments(net, waiting.port, &waiting.walked, false, now, tx);
            if let Some(answer) = waiting.failure
                && self.tables.may_answer(waiting.port, now)
            {
                self.originate(net, waiting.port, answer, now, tx);
            }
        }
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
        let Some((solicitation, drop)) = outcome.hold.take() else {
            return;
        };
        let bytes = frame.bytes.len() as u64;
        let failure = outcome.answer.take();
        let full = self.tables.neighbors.len() >= MAX_NEIGHBORS;
        if let Some(Neighbor::Pending { held, .. }) = self.tables.neighbors.get_mut(&key) {
            if held.len() < MAX_HELD {
                held.push_back(Held { port, frame, walked, failure, drop });
                self.tables.accounting.held += 1;
            } else {
                let full = crate::Drop { reason: DropReason::NeighborQueueFull, ..drop };
                self.tables.count_drop(&full, bytes, now);
            }
            return;
        }
        if full {
            let full = crate::Drop { reason: DropReason::NeighborQueueFull, ..drop };
            self.tables.count_drop(&full, bytes, now);
            return;
        }
        self.tables.accounting.held += 1;
        self.tables.set_neighbor(
            key,
            Neighbor::Pending {
                requests: 1,
                next: now + NEIGHBOR_INTERVAL,
                held: [Held { port, frame, walked, failure, drop }].into(),
            },
        );
        self.solicit(net, solicitation, now, tx);
    }

    /// Sends a request to every station of the segment.
    fn solicit(
        &mut self,
        net: &Network,
        s: Solicitation,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        self.tables.accounting.originated += 1;
        let ports: &[PortId] = net.segment(s.segment).map_or(&[], |segment| &segment.ports);
        if ports.is_empty() {
            self.tables.accounting.consumed += 1;
            return;
        }
        self.tables.accounting.copies += ports.len() as u64 - 1;
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
            self.tables.accounting.held -= 1;
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
