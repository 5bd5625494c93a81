//! Committing a plan: the only place where packets create state (promise 3).
//!
//! A plan that lost (its snapshot is no longer the newest, a tuple was taken, a session ended, a
//! rotation moved) changes nothing at all. A new session stands before anything else that the plan says:
//! positions, affinity and hits move only then.

use super::Worker;
use super::passage::Pending;
use crate::cache::wire_packets;
use crate::network::Network;
use crate::plan::{Plan, Resolved, Verdict};
use crate::session::{
    Basis, CommitError, Direction, NewSession, Observation, Outline, Progress, Records, Segment,
    SessionId, StageRecord,
};
use crate::tables::{MAX_NEIGHBORS, Neighbor};
use packet::Time;
use std::time::Duration;

/// The session that a delivered packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) id: SessionId,
    pub(super) direction: Direction,
    /// Whether later packets of this direction change nothing but counters.
    pub(super) steady: bool,
}

/// The session of a packet that is being committed.
struct Entry {
    id: SessionId,
    direction: Direction,
    /// Some stages remember it only now.
    begun: bool,
    /// The progress of a new one, which the packet is part of.
    progress: Option<Progress>,
}

impl Worker {
    /// Creates what the plan says. Only a packet that leaves creates a session: a denied one leaves
    /// nothing behind, a waiting one is walked again.
    pub(super) fn commit(
        &mut self,
        net: &Network,
        pending: &Pending,
        now: Time,
    ) -> Result<Option<Committed>, CommitError> {
        let Pending { port, frame, walked: headers, outcome, .. } = pending;
        let plan = &outcome.plan;
        self.check(net, pending, now)?;
        let ip = headers.ip();
        let mut observation = Observation {
            direction: Direction::Forward,
            tcp: ip
                .filter(|ip| ip.fragment.is_none_or(|f| f.offset == 0))
                .and_then(|ip| ip.tcp())
                .map(Segment::of),
            icmp_error: ip.is_some_and(|ip| ip.embedded().is_some()),
            packets: wire_packets(frame, headers),
            bytes: frame.bytes.len() as u64,
            now,
        };
        let session = if matches!(outcome.verdict, Verdict::Deliver(_) | Verdict::Flood { .. }) {
            let basis =
                Basis { epoch: pending.epoch, links: pending.links, replaces: &plan.replaces };
            self.commit_session(net, plan, &basis, &observation)?
        } else {
            None
        };
        if let Some(learned) = plan.learned
            && self
                .shared
                .tables
                .change(|t| t.learn(net.epoch, learned.segment, learned.mac, *port, now))
        {
            self.raise_generation();
        }
        for resolved in &plan.resolved {
            self.resolve(net, *resolved, now);
        }
        if let Some(killed) = plan.kill {
            self.end(killed);
        }
        let Some(Entry { id, direction, begun, progress }) = session else {
            return Ok(None);
        };
        if !plan.choices.is_empty() {
            let mut balancing = self.shared.tables.balancing();
            for choice in &plan.choices {
                if choice.rotate {
                    balancing.rotate(choice.server, choice.member.wrapping_add(1));
                }
                if let Some((client, member, nanos)) = choice.affinity {
                    let until = now + Duration::from_nanos(nanos);
                    balancing.stick(choice.server, client, member, until, now);
                }
            }
        }
        if !plan.rejudged.is_empty() {
            // What the cache has seen so far passed by the old rule.
            self.report_session(id);
        }
        for (node, judged, rule) in &plan.rejudged {
            self.shared.sessions.rejudge(id, *node, *judged, *rule);
        }
        if begun {
            for key in plan.records.iter().filter_map(StageRecord::rule_key) {
                self.counters.hits.entry(key).or_default().sessions += 1;
            }
        }
        observation.direction = direction;
        let is_new = progress.is_some();
        let progress = match progress {
            Some(progress) => {
                for rule in plan.records.iter().filter_map(StageRecord::rule_key) {
                    let Observation { packets, bytes, .. } = observation;
                    self.counters.count_hit(rule, packets, bytes, now);
                }
                Some(progress)
            }
            None => self.observe(id, &observation),
        };
        let steady = progress.is_some_and(|p| p.is_steady(direction));
        // A connection that is opening or closing is nobody's cached business.
        if !steady && !is_new && matches!(progress, Some(Progress::Tcp(_))) {
            self.forget_connection(id);
        }
        Ok(Some(Committed { id, direction, steady }))
    }

    /// Whether what the walk saw still holds, as far as entering its session will not find out.
    fn check(&self, net: &Network, pending: &Pending, now: Time) -> Result<(), CommitError> {
        let (shared, outcome) = (&self.shared, &pending.outcome);
        let plan = &outcome.plan;
        if shared.is_past(net) {
            return Err(CommitError::Stale);
        }
        let has_ended = plan.session.is_some_and(|(id, _)| !shared.sessions.is_live(id));
        let was_torn = outcome.is_conflict() && pending.links != shared.sessions.links();
        let has_moved = !plan.choices.is_empty() && {
            let balancing = shared.tables.balancing();
            plan.choices.iter().any(|c| {
                let stuck =
                    c.affinity.and_then(|(client, ..)| balancing.sticky(c.server, client, now));
                balancing.position(&c.server) != c.position || stuck != c.stuck
            })
        };
        if has_ended || was_torn || has_moved {
            return Err(CommitError::Conflict);
        }
        Ok(())
    }

    fn commit_session(
        &mut self,
        net: &Network,
        plan: &Plan,
        basis: &Basis<'_>,
        first: &Observation,
    ) -> Result<Option<Entry>, CommitError> {
        if let Some((id, direction)) = plan.session {
            if plan.records.is_empty() {
                self.end_all(basis.replaces);
            } else {
                // What the cache has seen so far is not for the new records to count.
                self.report_session(id);
                let records: Records = match direction {
                    Direction::Forward => plan.records.clone(),
                    Direction::Reply => plan.records.iter().map(|r| r.flipped()).collect(),
                };
                let ended =
                    self.shared.sessions.extend(id, &records, basis, self.slot, &net.timers)?;
                self.forget_ended(&ended);
                // What passed a stage without a record may be translated by it from now on.
                self.forget_connection(id);
            }
            let begun = !plan.records.is_empty();
            return Ok(Some(Entry { id, direction, begun, progress: None }));
        }
        let (Some(initiating), Some(terminating), false) =
            (plan.initiating, plan.terminating, plan.records.is_empty())
        else {
            self.end_all(basis.replaces);
            return Ok(None);
        };
        let new = NewSession {
            records: &plan.records,
            initiating,
            terminating,
            tenant: plan.tenant,
            picked_up: plan.picked_up,
        };
        let entered = self.shared.sessions.insert(&new, basis, self.slot, &net.timers, first)?;
        self.counters.evicted += u64::from(entered.evicted);
        self.forget_ended(&entered.ended);
        let (id, progress) = (entered.id, Some(entered.progress));
        Ok(Some(Entry { id, direction: Direction::Forward, begun: true, progress }))
    }

    /// Ends a session: unlinks it, and makes the caches forget it.
    pub(super) fn end(&mut self, id: SessionId) {
        let ended = self.shared.sessions.remove(id, self.slot);
        self.forget_ended(ended.as_slice());
    }

    fn end_all(&mut self, ids: &[SessionId]) {
        for id in ids {
            self.end(*id);
        }
    }

    /// Forgets what has ended; rules still count its last packets.
    fn forget_ended(&mut self, ended: &[Outline]) {
        for session in ended {
            self.forget_session(session);
        }
        self.shared.sessions.release();
    }

    /// Counts packets on a session and its rules. Returns the session's progress, unless it has ended.
    pub(super) fn observe(&mut self, id: SessionId, observation: &Observation) -> Option<Progress> {
        let observed = self.shared.sessions.observe(id, observation, &self.timers)?;
        for rule in observed.rules {
            let Observation { packets, bytes, now, .. } = *observation;
            self.counters.count_hit(rule, packets, bytes, now);
        }
        observed.progress
    }

    fn resolve(&mut self, net: &Network, resolved: Resolved, now: Time) {
        let Resolved { key, mac, update_only } = resolved;
        let until = now + net.timers.neighbor_age;
        let released = &mut self.released;
        let has_moved = self.shared.tables.change(|learned| {
            let full = learned.neighbors.len() >= MAX_NEIGHBORS;
            match learned.neighbors.get_mut(&key) {
                Some(Neighbor::Resolved { mac: old, until: age }) => {
                    let has_moved = *old != mac;
                    (*old, *age) = (mac, until);
                    return has_moved;
                }
                Some(pending @ Neighbor::Pending { .. }) => {
                    let old = std::mem::replace(pending, Neighbor::Resolved { mac, until });
                    if let Neighbor::Pending { held, .. } = old {
                        released.extend(held);
                    }
                }
                None if !update_only && !full => {
                    learned.set_neighbor(key, Neighbor::Resolved { mac, until });
                }
                None => {}
            }
            false
        });
        if has_moved {
            self.raise_generation();
        }
    }
}
