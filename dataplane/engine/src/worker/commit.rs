//! Committing a plan: the only place where packets create state (promise 3).

use super::Worker;
use crate::cache::wire_packets;
use crate::network::{Network, PortId};
use crate::plan::{Outcome, Plan, Resolved, Verdict};
use crate::session::{
    CommitError, Direction, NewSession, Observation, Progress, Records, Room, Segment, SessionId,
    StageRecord,
};
use crate::tables::{MAX_AFFINITY, MAX_NEIGHBORS, Neighbor};
use packet::{Frame, Headers, Time};
use std::time::Duration;

/// The session that a delivered packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) id: SessionId,
    pub(super) direction: Direction,
    /// Whether later packets of this direction change nothing but counters.
    pub(super) steady: bool,
}

impl Worker {
    /// Creates what the plan says. Only a packet that leaves creates a session: a denied one leaves
    /// nothing behind, a waiting one is walked again.
    pub(super) fn commit(
        &mut self,
        net: &Network,
        port: PortId,
        frame: &Frame,
        headers: &Headers,
        outcome: &Outcome,
        now: Time,
    ) -> Result<Option<Committed>, CommitError> {
        let plan = &outcome.plan;
        let session = if matches!(outcome.verdict, Verdict::Deliver(_) | Verdict::Flood { .. }) {
            self.commit_session(net, plan, now)?
        } else {
            None
        };
        if let Some(learned) = plan.learned
            && self.tables.learn(learned.segment, learned.mac, port, now)
        {
            self.generation += 1;
        }
        for resolved in &plan.resolved {
            self.resolve(net, *resolved, now);
        }
        if let Some(killed) = plan.kill {
            self.end(killed);
        }
        let Some((id, direction, begun)) = session else {
            return Ok(None);
        };
        for choice in &plan.choices {
            if choice.rotate {
                self.tables.positions.insert(choice.server, choice.member.wrapping_add(1));
            }
            if let Some((client, member, nanos)) = choice.affinity {
                self.remember_affinity(
                    choice.server,
                    client,
                    member,
                    now + Duration::from_nanos(nanos),
                    now,
                );
            }
        }
        if !plan.rejudged.is_empty() {
            // What the cache has seen so far passed by the old rule.
            self.report_session(id);
        }
        for (node, judged, rule) in &plan.rejudged {
            self.sessions.rejudge(id, *node, *judged, *rule);
        }
        if begun {
            for key in plan.records.iter().filter_map(StageRecord::rule_key) {
                self.tables.hits.entry(key).or_default().sessions += 1;
            }
        }
        let ip = headers.ip();
        let observation = Observation {
            direction,
            tcp: ip
                .filter(|ip| ip.fragment.is_none_or(|f| f.offset == 0))
                .and_then(|ip| ip.tcp())
                .map(Segment::of),
            icmp_error: ip.is_some_and(|ip| ip.embedded().is_some()),
            packets: wire_packets(frame, headers),
            bytes: frame.bytes.len() as u64,
            now,
        };
        self.observe(id, &observation);
        let steady = self.sessions.get(id).is_some_and(|s| s.progress.is_steady(direction));
        // A connection that is opening or closing is nobody's cached business.
        if !steady
            && let Some(session) = self.sessions.get(id)
            && matches!(session.progress, Progress::Tcp(_))
        {
            self.forget_session(&session);
        }
        Ok(Some(Committed { id, direction, steady }))
    }

    fn commit_session(
        &mut self,
        net: &Network,
        plan: &Plan,
        now: Time,
    ) -> Result<Option<(SessionId, Direction, bool)>, CommitError> {
        for old in &plan.replaces {
            self.end(*old);
        }
        if let Some((id, direction)) = plan.session {
            if !plan.records.is_empty() {
                // What the cache has seen so far is not for the new records to count.
                self.report_session(id);
                let records: Records = match direction {
                    Direction::Forward => plan.records.clone(),
                    Direction::Reply => plan.records.iter().map(|r| r.flipped()).collect(),
                };
                self.sessions.extend(id, &records, &net.timers)?;
            }
            return Ok(Some((id, direction, !plan.records.is_empty())));
        }
        if plan.records.is_empty() {
            return Ok(None);
        }
        let (Some(initiating), Some(terminating)) = (plan.initiating, plan.terminating) else {
            return Ok(None);
        };
        match self.sessions.room(plan.tenant, &net.timers) {
            Room::Free => {}
            Room::InPlaceOf(expendable) => {
                self.tables.evicted += 1;
                self.end(expendable);
            }
            Room::ShareUsed => return Err(CommitError::ShareUsed),
            Room::Full => return Err(CommitError::Full),
        }
        let records = plan.records.clone();
        let new = NewSession {
            records,
            initiating,
            terminating,
            tenant: plan.tenant,
            picked_up: plan.picked_up,
        };
        let id = self.sessions.insert(new, now)?;
        Ok(Some((id, Direction::Forward, true)))
    }

    /// Ends a session: unlinks it, and makes the cache forget it.
    pub(super) fn end(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(id) {
            // Reported first, so that its rules count its last packets.
            self.forget_session(&session);
            self.sessions.remove(id);
        }
    }

    /// Counts packets on a session and its rules.
    pub(super) fn observe(&mut self, id: SessionId, observation: &Observation) {
        self.sessions.observe(id, observation, &self.timers);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        for key in session.records.iter().filter_map(StageRecord::rule_key) {
            let hit = self.tables.hits.entry(key).or_default();
            hit.traffic.add(observation.packets, observation.bytes);
            hit.last = hit.last.max(Some(observation.now));
        }
    }

    fn remember_affinity(
        &mut self,
        server: crate::tables::ServerKey,
        client: packet::Addr,
        member: (packet::Addr, u16),
        until: Time,
        now: Time,
    ) {
        let affinity = &mut self.tables.affinity;
        if affinity.len() >= MAX_AFFINITY && !affinity.contains_key(&(server, client)) {
            affinity.retain(|_, (_, until)| *until > now);
            if affinity.len() >= MAX_AFFINITY {
                return;
            }
        }
        affinity.insert((server, client), (member, until));
    }

    fn resolve(&mut self, net: &Network, resolved: Resolved, now: Time) {
        let Resolved { key, mac, update_only } = resolved;
        let until = now + net.timers.neighbor_age;
        let full = self.tables.neighbors.len() >= MAX_NEIGHBORS;
        match self.tables.neighbors.get_mut(&key) {
            Some(Neighbor::Resolved { mac: old, until: age }) => {
                if *old != mac {
                    self.generation += 1;
                }
                (*old, *age) = (mac, until);
            }
            Some(pending @ Neighbor::Pending { .. }) => {
                let old = std::mem::replace(pending, Neighbor::Resolved { mac, until });
                if let Neighbor::Pending { held, .. } = old {
                    self.released.extend(held);
                }
            }
            None if !update_only && !full => {
                self.tables.set_neighbor(key, Neighbor::Resolved { mac, until });
            }
            None => {}
        }
    }
}
