//! The firewall of a gateway, where a flow crosses its uplink.
//!
//! Stateful and strict: a session begins with a SYN. A flow is known by the tuple that it came to the
//! gateway with, and judged by what the NAT rule that translates it says ([`FirewallMatch`]); one of
//! a virtual server from outside by the address that the client used. As at a vNIC a known flow that
//! is walked is judged again, with the tuple and the direction that were judged first.
//!
//! A rule that is not stateful remembers nothing: each packet is judged as it goes.

use super::nat::Translation;
use super::{Stop, Walk, firewall_stage};
use crate::drops::DropReason;
use crate::network::{Action, FirewallMatch, GatewayRule, NatAction, NatRule, Router, RouterId};
use crate::session::{Direction, RecordKind, RuleKey, StageRecord, StatelessRule, TimerClass};
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::{Icmp, IcmpErrorKind, IcmpMessage, Transport};

/// A packet at the line between inside and outside.
#[derive(Clone, Copy)]
struct Crossing {
    /// It goes inwards.
    inward: bool,
    /// The tuple by which its flow is known, as the packet goes.
    place: Tuple,
    /// The one by which it is known if its gateway first met it in a reply: then it is the other side of
    /// the translation that came to the gateway.
    other_place: Option<Tuple>,
    /// The tuple that rules see, as the packet goes.
    judged: Tuple,
}

impl<O: Observer> Walk<'_, O> {
    /// Judges a packet that crosses the uplink. `source` is the rule that is about to translate its
    /// source, and the tuple to judge by if that is to be the outside's.
    pub(super) fn cross(
        &mut self,
        id: RouterId,
        router: &Router,
        way: &Translation<'_>,
        inward: bool,
        source: Option<(&NatRule, Tuple)>,
    ) -> Stop<()> {
        self.nat_needs_firewall(id, router, way, source.map(|(rule, _)| rule))?;
        if !router.gateway_firewall.judges() {
            return Ok(());
        }
        match self.crossing(router, way, inward, source) {
            Some(crossing) => self.judge_crossing(id, router, &crossing),
            None => {
                self.note(firewall_stage(router), &router.name, || {
                    "the NAT rule bypasses the firewall".to_owned()
                });
                Ok(())
            }
        }
    }

    /// Where the firewall looks; `None` if a NAT rule bypasses it.
    fn crossing(
        &self,
        router: &Router,
        way: &Translation<'_>,
        inward: bool,
        source: Option<(&NatRule, Tuple)>,
    ) -> Option<Crossing> {
        let now = self.tuple()?;
        if let Some((record, direction)) = way.known {
            let began_inward = inward == (direction == Direction::Forward);
            let (inside, outside) = if began_inward {
                (record.after, record.before)
            } else {
                (record.before, record.after)
            };
            let judged = match record.kind {
                // A member's own address, and the one that the client used.
                RecordKind::Balancer { .. } => outside,
                RecordKind::Nat { rule } => {
                    match router.nat.rule(rule).map(|r| r.firewall_match).unwrap_or_default() {
                        FirewallMatch::Internal => inside,
                        FirewallMatch::External => outside,
                        FirewallMatch::Bypass => return None,
                    }
                }
                _ => inside,
            };
            let turned = |tuple: Tuple| match direction {
                Direction::Forward => tuple,
                Direction::Reply => tuple.reversed(),
            };
            return Some(Crossing {
                inward,
                place: turned(record.before),
                other_place: Some(turned(record.after)),
                judged: turned(judged),
            });
        }
        if way.served {
            let judged = if inward { way.came } else { now };
            return Some(Crossing { inward, place: way.came, other_place: None, judged });
        }
        let rule = if inward { way.destination } else { source.map(|(rule, _)| rule) };
        let (inside, outside) = match source {
            Some((_, after)) if !inward => (now, after),
            _ if inward => (now, way.came),
            _ => (now, now),
        };
        // A stateless translation has no record to be known by: both directions meet inside.
        let place = match rule.map(|r| r.action) {
            Some(NatAction::Reflexive { .. }) if inward => now,
            _ => way.came,
        };
        let judged = match rule.map(|r| r.firewall_match).unwrap_or_default() {
            FirewallMatch::Internal => inside,
            FirewallMatch::External => outside,
            FirewallMatch::Bypass => return None,
        };
        Some(Crossing { inward, place, other_place: None, judged })
    }

    fn judge_crossing(&mut self, id: RouterId, router: &Router, crossing: &Crossing) -> Stop<()> {
        let stage = firewall_stage(router);
        let node = Node::GatewayFirewall(id);
        for place in [Some(crossing.place), crossing.other_place].into_iter().flatten() {
            if let Some((record, _)) = self.recall_as(stage, &router.name, node, place)? {
                return self.judge_known(id, router, &record);
            }
        }
        if self.judge_unmet(id, router, crossing)? {
            return Ok(());
        }
        if self.is_icmp_error() {
            return self.judge_error(id, router, crossing.inward);
        }
        let icmp = self.icmp_code();
        let rule = router.gateway_firewall.lookup(crossing.inward, crossing.judged, icmp);
        self.refuse_unless_passed(id, router, rule)?;
        if let Some(rule) = rule.filter(|r| !r.stateful) {
            self.plan.stateless.push(StatelessRule::GatewayFirewall(id, rule.id));
            // This packet or an answer may begin a session by which the next one is known here.
            self.meets_state |= router.gateway_firewall.remembers();
            self.note(stage, &router.name, || {
                format!("allowed by stateless rule {} '{}'", rule.id, rule.name)
            });
            return Ok(());
        }
        self.may_begin().map_err(|reason| self.drop(stage, reason, &router.name, None))?;
        let Crossing { inward, place, judged, .. } = *crossing;
        self.remember_crossing(id, router, place, judged, inward, icmp, rule);
        Ok(())
    }

    /// A session that is older than the firewall's rules is judged as it began, whichever side's packet
    /// comes. Returns whether it passes by that.
    fn judge_unmet(&mut self, id: RouterId, router: &Router, crossing: &Crossing) -> Stop<bool> {
        let Some((_, direction)) = &self.session else { return Ok(false) };
        let (judged, inward) = match direction {
            Direction::Forward => (crossing.judged, crossing.inward),
            Direction::Reply => (crossing.judged.reversed(), !crossing.inward),
        };
        let icmp = self.began_with();
        let rule = router.gateway_firewall.lookup(inward, judged, icmp);
        if rule.is_some_and(|r| !r.stateful && r.action == Action::Allow) {
            return Ok(false);
        }
        self.plan.timed = true;
        if !self.is_unforgotten() {
            // Another packet may find it otherwise.
            self.cacheable = false;
            return Ok(false);
        }
        if rule.is_some_and(|r| r.action != Action::Allow) {
            self.plan.kill = self.session_id();
        }
        self.refuse_unless_passed(id, router, rule)?;
        if !self.is_icmp_error() {
            self.remember_crossing(id, router, crossing.place, judged, inward, icmp, rule);
        }
        Ok(true)
    }

    /// An error about a flow that the firewall does not remember passes where a stateless rule allows
    /// the error itself.
    fn judge_error(&mut self, id: RouterId, router: &Router, inward: bool) -> Stop<()> {
        let itself = self.ip().map(|ip| Tuple {
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            src_port: 0,
            dst_port: 0,
        });
        let rule = itself.and_then(|t| router.gateway_firewall.lookup(inward, t, self.icmp_code()));
        self.refuse_unless_passed(id, router, rule)?;
        if let Some(rule) = rule.filter(|r| !r.stateful) {
            self.plan.stateless.push(StatelessRule::GatewayFirewall(id, rule.id));
            return Ok(());
        }
        Err(self.drop(firewall_stage(router), DropReason::IcmpUnmatched, &router.name, None))
    }

    #[allow(clippy::too_many_arguments, reason = "everything that a firewall's record is made of")]
    fn remember_crossing(
        &mut self,
        id: RouterId,
        router: &Router,
        place: Tuple,
        judged: Tuple,
        inward: bool,
        icmp: Option<(u8, u8)>,
        rule: Option<&GatewayRule>,
    ) {
        let number = rule.map(|r| r.id);
        self.plan.records.push(StageRecord {
            node: Node::GatewayFirewall(id),
            before: place,
            after: place,
            kind: RecordKind::Firewall { rule: number, ingress: inward, judged, icmp },
            timers: TimerClass::Gateway,
        });
        self.note_allowed(router, rule);
    }

    fn note_allowed(&mut self, router: &Router, rule: Option<&GatewayRule>) {
        self.note(firewall_stage(router), &router.name, || match rule {
            Some(rule) => format!("allowed by rule {} '{}'", rule.id, rule.name),
            None => "allowed: no rule applies".to_owned(),
        });
    }

    fn judge_known(&mut self, id: RouterId, router: &Router, record: &StageRecord) -> Stop<()> {
        let RecordKind::Firewall { rule: before, ingress, judged, icmp } = record.kind else {
            return Ok(());
        };
        if !self.is_same_query(icmp) {
            let stage = firewall_stage(router);
            return Err(self.drop(stage, DropReason::NoSession, &router.name, None));
        }
        let rule = router.gateway_firewall.lookup(ingress, judged, icmp);
        if rule.is_some_and(|r| r.action != Action::Allow) {
            self.plan.kill = self.session_id();
        }
        self.refuse_unless_passed(id, router, rule)?;
        let number = rule.map(|r| r.id);
        if number != before {
            self.plan.rejudged.push((record.node, judged, number));
        }
        self.note_allowed(router, rule);
        Ok(())
    }

    fn refuse_unless_passed(
        &mut self,
        id: RouterId,
        router: &Router,
        rule: Option<&GatewayRule>,
    ) -> Stop<()> {
        let Some(rule) = rule.filter(|r| r.action != Action::Allow) else { return Ok(()) };
        if rule.action == Action::Reject {
            self.answer_reject(IcmpErrorKind::AdminProhibited);
        }
        let stage = firewall_stage(router);
        self.note(stage, &router.name, || {
            format!("{} by rule {} '{}'", rule.action, rule.id, rule.name)
        });
        let key = Some(RuleKey::GatewayFirewall(id, rule.id));
        Err(self.drop(stage, DropReason::Firewall, &router.name, key))
    }

    /// Whether the gateway's timers have not run out on the session: if the firewall has no record of
    /// it, it never made one.
    fn is_unforgotten(&self) -> bool {
        self.session.as_ref().is_some_and(|(session, _)| {
            let state = session.progress.timer_state();
            let timeout = self.view.net.timers.timeout(TimerClass::Gateway, state);
            session.last_seen + timeout > self.view.now
        })
    }

    /// ICMP type and code that the packet's flow began with.
    fn began_with(&self) -> Option<(u8, u8)> {
        let Some(Transport::Icmp(Icmp { kind, code, message, .. })) =
            self.ip().map(|ip| ip.transport)
        else {
            return None;
        };
        Some(match message {
            IcmpMessage::Reply { .. } if kind == 0 => (8, code),
            IcmpMessage::Reply { .. } => (kind.wrapping_sub(1), code),
            _ => (kind, code),
        })
    }
}
