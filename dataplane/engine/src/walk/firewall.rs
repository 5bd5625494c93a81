//! The distributed firewall at a vNIC.
//!
//! Stateful: the first packet of a flow is judged, later ones match the session. Because a walk only
//! happens when the cache does not know, a known flow is judged again by the tuple that was judged
//! first: a rule that changed takes effect, whichever packet came. Unless sessions are to be kept
//! ([`PolicyChange::Keep`]): then a record stays what it is until it expires.

use super::{Stop, Walk};
use crate::drops::{DropReason, Stage};
use crate::network::{Action, Asked, PolicyChange, Port, PortId, Rule, Vnic};
use crate::session::{Direction, RecordKind, RuleKey, StageRecord, TimerClass};
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::{IcmpErrorKind, IcmpMessage, Transport};

impl<O: Observer> Walk<'_, O> {
    pub(super) fn firewall(
        &mut self,
        id: PortId,
        port: &Port,
        vnic: &Vnic,
        ingress: bool,
    ) -> Stop<()> {
        let stage = if ingress { Stage::DfwIn } else { Stage::DfwOut };
        if self.hairpin {
            // A pod can never block itself (networking.k8s.io/v1).
            self.note(stage, &port.name, || "to itself: not judged".to_owned());
            return Ok(());
        }
        let node = Node::Firewall(id);
        if let Some((record, direction)) = self.recall(stage, &port.name, node)? {
            if !ingress && direction == Direction::Forward && self.is_anothers(id, &record) {
                return Err(self.drop(stage, DropReason::SessionConflict, &port.name, None));
            }
            return self.judge_again(stage, port, vnic, &record, direction);
        }
        let Some(tuple) = self.tuple() else {
            return Ok(());
        };
        if self.is_icmp_error() {
            return Err(self.drop(stage, DropReason::IcmpUnmatched, &port.name, None));
        }
        let icmp = self.icmp_code();
        let rule = judge(self.view.net, vnic, ingress, tuple, icmp);
        self.refuse_unless_allowed(stage, port, rule)?;
        if self.ip().is_some_and(|ip| ip.dst.is_multicast() || ip.dst == packet::Addr::BROADCAST_V4)
        {
            // Nobody answers to a group: judged, never remembered.
            return Ok(());
        }
        let picks_up = rule.is_some_and(|r| !r.strict) && self.is_under_way();
        if picks_up {
            self.plan.picked_up = true;
        } else {
            self.may_begin().map_err(|reason| self.drop(stage, reason, &port.name, None))?;
        }
        let rule = rule.map(|r| r.id);
        self.plan.records.push(StageRecord {
            node,
            before: tuple,
            after: tuple,
            kind: RecordKind::Firewall { rule, ingress, judged: tuple, icmp },
            timers: TimerClass::Dfw,
        });
        self.flood_protection_at_vnic(id, stage, port)?;
        self.note(stage, &port.name, || match rule {
            Some(id) => format!("allowed by rule {id}"),
            None => "allowed: no rule applies".to_owned(),
        });
        Ok(())
    }

    /// Whether a flow that comes here untranslated looks like one that the balancer at this vNIC made:
    /// its replies would be taken for the other's.
    fn is_anothers(&self, id: PortId, record: &StageRecord) -> bool {
        let untranslated = self.original.ip().map(Tuple::of) == Some(record.before);
        let Some((session, _)) = &self.session else { return false };
        untranslated
            && self.sessions.records(session.id).any(|r| {
                r.node == Node::Balancer(id) && r.after == record.before && r.before != r.after
            })
    }

    /// Whether the packet is a segment of a connection whose beginning was not seen. A bare FIN or RST
    /// never opens anything.
    fn is_under_way(&self) -> bool {
        use packet::tcp_flags::{ACK, FIN, RST, SYN};
        self.ip()
            .filter(|ip| ip.embedded().is_none())
            .and_then(|ip| ip.tcp())
            .is_some_and(|t| t.flags & ACK != 0 && t.flags & (SYN | FIN | RST) == 0)
    }

    /// Whether an ICMP query or reply is of the kind that its session began with: an identifier that
    /// was allowed to echo may not ask for timestamps.
    pub(super) fn is_same_query(&self, began: Option<(u8, u8)>) -> bool {
        let Some(Transport::Icmp(icmp)) = self.ip().map(|ip| ip.transport) else { return true };
        let asked = match icmp.message {
            IcmpMessage::Query { .. } => icmp.kind,
            // Echo reply 0 answers 8, timestamp reply 14 answers 13, ICMPv6 129 answers 128.
            IcmpMessage::Reply { .. } if icmp.kind == 0 => 8,
            IcmpMessage::Reply { .. } => icmp.kind.wrapping_sub(1),
            _ => return true,
        };
        began.is_none_or(|(kind, _)| kind == asked)
    }

    fn judge_again(
        &mut self,
        stage: Stage,
        port: &Port,
        vnic: &Vnic,
        record: &StageRecord,
        direction: Direction,
    ) -> Stop<()> {
        let RecordKind::Firewall { rule: before, ingress, judged, icmp } = record.kind else {
            return Ok(());
        };
        if !self.is_same_query(icmp) {
            return Err(self.drop(stage, DropReason::NoSession, &port.name, None));
        }
        if self.view.net.firewall.on_change == PolicyChange::Keep {
            self.note(stage, &port.name, || match before {
                Some(id) => format!("known session, kept by rule {id}"),
                None => "known session, kept: no rule applied".to_owned(),
            });
            return Ok(());
        }
        let rule = judge(self.view.net, vnic, ingress, judged, icmp);
        if rule.is_some_and(|r| r.action != Action::Allow) {
            self.plan.kill = self.session_id();
        }
        self.refuse_unless_allowed(stage, port, rule)?;
        let rule = rule.map(|r| r.id);
        if rule != before {
            self.plan.rejudged.push((record.node, judged, rule));
        }
        self.note(stage, &port.name, || {
            let way = match direction {
                Direction::Forward => "known session",
                Direction::Reply => "reply of a known session",
            };
            match rule {
                Some(id) => format!("{way}, allowed by rule {id}"),
                None => format!("{way}, no rule applies"),
            }
        });
        Ok(())
    }

    fn refuse_unless_allowed(
        &mut self,
        stage: Stage,
        port: &Port,
        rule: Option<&Rule>,
    ) -> Stop<()> {
        let Some(rule) = rule else { return Ok(()) };
        match rule.action {
            Action::Allow => return Ok(()),
            Action::Drop => {}
            Action::Reject => self.answer_reject(IcmpErrorKind::AdminProhibited),
        }
        self.note(stage, &port.name, || {
            format!("{} by rule {} '{}' ({})", rule.action, rule.id, rule.name, rule.origin)
        });
        Err(self.drop(stage, DropReason::Firewall, &port.name, Some(RuleKey::Firewall(rule.id))))
    }

    /// The layer-3 rule that refuses a copy of a group-addressed packet on its way to a vNIC.
    pub(super) fn refuses_group(&self, vnic: &Vnic) -> Option<RuleKey> {
        if !self.is_stateful() {
            return None;
        }
        let tuple = self.tuple()?;
        let rule = judge(self.view.net, vnic, true, tuple, None)?;
        (rule.action != Action::Allow).then_some(RuleKey::Firewall(rule.id))
    }
}

/// The first rule of the vNIC that matches, in order.
fn judge<'n>(
    net: &'n crate::network::Network,
    vnic: &Vnic,
    ingress: bool,
    tuple: Tuple,
    icmp: Option<(u8, u8)>,
) -> Option<&'n Rule> {
    let list = if ingress { &vnic.rules_in } else { &vnic.rules_out };
    let Tuple { src, dst, protocol, dst_port, .. } = tuple;
    net.firewall.rule(net.epoch, list, &Asked { src, dst, protocol, dst_port, icmp })
}
