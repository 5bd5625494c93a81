//! NAT of a gateway.
//!
//! A flow has at most one NAT record at a gateway, made when its way through it is known: destination
//! and source may both change, of a flow that goes out by the uplink it came by, or of one that turns
//! around because an inside host uses an external address (hairpin: RFC 4787 REQ-9, RFC 5382 REQ-8,
//! RFC 5508 REQ-7). Invariants:
//!
//! * Known flows and those of a virtual server meet no rule.
//! * A reply tuple belongs to one flow: a taken source port is replaced, an address never is but by
//!   an SNAT rule.
//! * What crosses the uplink untranslated although a rule would meet its replies, or gives its inside
//!   end to others, is remembered: its replies stay untranslated too, and are nobody else's.
//! * REFLEXIVE rules keep no state and judge every packet by itself, but for a hairpin whose answer
//!   would otherwise not come back.

use super::{Stop, Walk, firewall_stage, nat_stage};
use crate::drops::DropReason;
use crate::hash::hash_of;
use crate::network::{
    AddressRange, FirewallMatch, Interface, NatAction, NatRule, Router, RouterId, Side, offset,
};
use crate::session::{Direction, RecordKind, RuleKey, StageRecord, StatelessRule, TimerClass};
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::Addr;

/// Addresses of an SNAT pool whose ports are all tried for one flow. Of the others only the flow's
/// own port is: a packet's work stays bounded.
const MAX_POOL_SEARCHES: u128 = 4;
/// Addresses of an SNAT pool that are looked at for one flow.
const MAX_POOL_ADDRESSES: u128 = 1024;

/// What a gateway has decided about a packet's addresses so far.
#[derive(Clone, Copy)]
pub(super) struct Translation<'n> {
    /// The tuple as the packet came to the gateway.
    pub(super) came: Tuple,
    /// How the gateway knows the flow, and which way the packet goes in it.
    pub(super) known: Option<(StageRecord, Direction)>,
    /// A virtual server has taken the packet.
    pub(super) served: bool,
    /// The rule that decided about the destination.
    pub(super) destination: Option<&'n NatRule>,
}

impl Translation<'_> {
    /// Whether no NAT rule is to be asked any more.
    fn is_settled(&self) -> bool {
        self.known.is_some() || self.served
    }

    /// Whether the packet was let in: it goes where a session, a virtual server or a rule sends it.
    pub(super) fn is_admitted(&self) -> bool {
        let translated = |r: &&NatRule| r.action != NatAction::NoDnat;
        self.is_settled() || self.destination.as_ref().is_some_and(translated)
    }
}

impl<O: Observer> Walk<'_, O> {
    /// The ICMP type and code that rules see.
    pub(super) fn icmp_code(&self) -> Option<(u8, u8)> {
        match self.ip().map(|ip| ip.transport) {
            Some(packet::Transport::Icmp(packet::Icmp { kind, code, .. })) => Some((kind, code)),
            _ => None,
        }
    }

    /// Asks the rules about the destination of a packet that neither a session nor a virtual server
    /// has taken, and translates it.
    pub(super) fn destination_nat<'n>(
        &mut self,
        id: RouterId,
        router: &'n Router,
        entry: &Interface,
        came: Tuple,
    ) -> Stop<Option<&'n NatRule>> {
        let Some(rule) = router.nat.destination_rule(came, self.icmp_code()) else {
            return Ok(None);
        };
        let stage = nat_stage(router);
        let key = Some(RuleKey::Nat(id, rule.id));
        match rule.action {
            NatAction::Dnat { .. } if !self.is_icmp_error() => {
                self.may_begin().map_err(|reason| self.drop(stage, reason, &router.name, key))?;
                let mut after = rule.translate_destination(came);
                if entry.side == Side::Uplink {
                    // The client keeps its address; its port only while no other flow from there to
                    // the same target has it.
                    let Some(free) = self.allocate_from(came, &[Node::Gateway(id)], after) else {
                        let reason = DropReason::NatPortExhausted;
                        return Err(self.drop(stage, reason, &router.name, key));
                    };
                    after = free;
                }
                self.translate(came, after);
                self.note(stage, &router.name, || {
                    format!(
                        "DNAT to {}:{} by rule {} '{}'",
                        after.dst, after.dst_port, rule.id, rule.name
                    )
                });
                Ok(Some(rule))
            }
            // An error about a flow that nobody knows: it ends at the address that it came for.
            NatAction::Dnat { .. } => Ok(None),
            NatAction::Reflexive { .. } => {
                self.translate_statelessly(
                    id,
                    router,
                    rule,
                    came,
                    rule.translate_destination(came),
                )?;
                Ok(Some(rule))
            }
            NatAction::NoDnat => {
                self.note(stage, &router.name, || {
                    format!("NO_DNAT by rule {} '{}'", rule.id, rule.name)
                });
                Ok(Some(rule))
            }
            NatAction::Snat(_) | NatAction::NoSnat | NatAction::NoAddress => Ok(None),
        }
    }

    /// Translates a packet without remembering it. An ICMP error must be about a packet of the
    /// address that it is sent to: outer and quoted header change together.
    fn translate_statelessly(
        &mut self,
        id: RouterId,
        router: &Router,
        rule: &NatRule,
        from: Tuple,
        to: Tuple,
    ) -> Stop<()> {
        let stage = nat_stage(router);
        if self.is_stray_error() {
            let key = Some(RuleKey::Nat(id, rule.id));
            return Err(self.drop(stage, DropReason::IcmpUnmatched, &router.name, key));
        }
        self.translate(from, to);
        self.plan.stateless.push(StatelessRule::Nat(id, rule.id));
        self.note(stage, &router.name, || {
            let (side, address) =
                if from.src == to.src { ("destination", to.dst) } else { ("source", to.src) };
            format!("REFLEXIVE, {side} {address} by rule {} '{}'", rule.id, rule.name)
        });
        Ok(())
    }

    /// Ends the translation of a packet that came by an uplink and goes inside: what is to be
    /// remembered of it.
    pub(super) fn settle_inward(
        &mut self,
        id: RouterId,
        router: &Router,
        way: &Translation<'_>,
    ) -> Stop<()> {
        let Some(tuple) = self.tuple().filter(|_| !way.is_settled()) else { return Ok(()) };
        match way.destination {
            Some(rule) if matches!(rule.action, NatAction::Dnat { .. }) => {
                self.remember(id, way.came, tuple, RecordKind::Nat { rule: rule.id });
                Ok(())
            }
            Some(rule) if rule.action == NatAction::NoDnat => {
                self.remember_untranslated(id, router, RecordKind::Nat { rule: rule.id }, tuple)
            }
            None => {
                let met = router.nat.source_rule(tuple.reversed(), None);
                self.pass_untranslated(id, router, met, tuple.dst, tuple)
            }
            Some(_) => Ok(()),
        }
    }

    /// A flow that no rule translates is remembered if its replies would meet one, or if a rule gives its
    /// inside end to others: their replies could not be told from its own.
    fn pass_untranslated(
        &mut self,
        id: RouterId,
        router: &Router,
        met: Option<&NatRule>,
        inside: Addr,
        tuple: Tuple,
    ) -> Stop<()> {
        let meets = met.is_some_and(|r| !matches!(r.action, NatAction::Reflexive { .. }));
        if meets || router.nat.translates_to(inside) {
            return self.remember_untranslated(id, router, RecordKind::Untranslated, tuple);
        }
        Ok(())
    }

    /// Remembers a flow that stays as it is, and drops it where its replies are another flow's already:
    /// nothing may give it another port, for no rule names its source.
    fn remember_untranslated(
        &mut self,
        id: RouterId,
        router: &Router,
        kind: RecordKind,
        tuple: Tuple,
    ) -> Stop<()> {
        if self.may_begin().is_err() {
            return Ok(());
        }
        if self.is_free(Node::Gateway(id), tuple, tuple) {
            self.remember(id, tuple, tuple, kind);
            return Ok(());
        }
        let key = match kind {
            RecordKind::Nat { rule } => Some(RuleKey::Nat(id, rule)),
            _ => None,
        };
        Err(self.drop(nat_stage(router), DropReason::NatPortExhausted, &router.name, key))
    }

    fn remember(&mut self, id: RouterId, before: Tuple, after: Tuple, kind: RecordKind) {
        let timers = TimerClass::Gateway;
        let node = Node::Gateway(id);
        self.plan.records.push(StageRecord { node, before, after, kind, timers });
        // From now on the record translates what a rule without state did for this packet, and counts.
        self.plan.stateless.retain(|rule| !matches!(rule, StatelessRule::Nat(at, _) if *at == id));
    }

    /// A packet that leaves by an uplink: gateway firewall, unless it was judged as it came in, then
    /// NAT of its source.
    pub(super) fn leave_by_uplink(
        &mut self,
        id: RouterId,
        router: &Router,
        entry: &Interface,
        way: &Translation<'_>,
    ) -> Stop<()> {
        let outward = entry.side != Side::Uplink;
        let Some(tuple) = self.tuple() else { return Ok(()) };
        if way.is_settled() {
            if outward {
                self.cross(id, router, way, false, None)?;
            }
            return Ok(());
        }
        let stage = nat_stage(router);
        let rule = router.nat.source_rule(tuple, self.icmp_code());
        let private = router.private.iter().any(|p| p.contains(tuple.src));
        // What answers a flow that came in untranslated leaves untranslated.
        let answers = matches!(self.session, Some((_, Direction::Reply))) && !private;
        let stateless = |r: &&NatRule| matches!(r.action, NatAction::Reflexive { .. });
        let Some(rule) = rule.filter(|r| !answers || stateless(r)) else {
            if private {
                return Err(self.drop(stage, DropReason::NoNatRule, &router.name, None));
            }
            if outward {
                self.cross(id, router, way, false, None)?;
            }
            match way.destination {
                Some(rule) if rule.translates_sessions() => {
                    self.remember(id, way.came, tuple, RecordKind::Nat { rule: rule.id });
                }
                _ if !answers => {
                    let met = router.nat.destination_rule(tuple.reversed(), None);
                    self.pass_untranslated(id, router, met, tuple.src, tuple)?;
                }
                _ => {}
            }
            return Ok(());
        };
        let key = Some(RuleKey::Nat(id, rule.id));
        if rule.action == NatAction::NoAddress {
            return Err(self.drop(stage, DropReason::NoNatRule, &router.name, key));
        }
        if let NatAction::Reflexive { internal, external } = rule.action {
            let after = Tuple { src: offset(tuple.src, internal, external), ..tuple };
            if outward {
                self.cross(id, router, way, false, Some((rule, after)))?;
            }
            self.translate_statelessly(id, router, rule, tuple, after)?;
            if let Some(dnat) = way.destination.filter(|r| r.translates_sessions()) {
                self.remember(id, way.came, after, RecordKind::Nat { rule: dnat.id });
            }
            return Ok(());
        }
        self.may_begin().map_err(|reason| self.drop(stage, reason, &router.name, key))?;
        let judged_outside = rule.firewall_match == FirewallMatch::External;
        let mut after = if judged_outside { self.source_for(id, rule, way.came) } else { None };
        if outward && !(judged_outside && after.is_none()) {
            self.cross(id, router, way, false, Some((rule, after.unwrap_or(tuple))))?;
        }
        after = after.or_else(|| self.source_for(id, rule, way.came));
        let Some(after) = after else {
            return Err(self.drop(stage, DropReason::NatPortExhausted, &router.name, key));
        };
        self.remember(id, way.came, after, RecordKind::Nat { rule: rule.id });
        self.translate(tuple, after);
        self.note_source(router, rule, after);
        Ok(())
    }

    fn note_source(&mut self, router: &Router, rule: &NatRule, after: Tuple) {
        self.note(nat_stage(router), &router.name, || match rule.action {
            NatAction::NoSnat => format!("NO_SNAT by rule {} '{}'", rule.id, rule.name),
            _ => format!(
                "SNAT to {}:{} by rule {} '{}'",
                after.src, after.src_port, rule.id, rule.name
            ),
        });
    }

    /// The packet with the source that an SNAT rule gives it; `None` if every port is in use.
    fn source_for(&self, id: RouterId, rule: &NatRule, came: Tuple) -> Option<Tuple> {
        let tuple = self.tuple()?;
        match rule.action {
            NatAction::Snat(range) => self.source_of_pool(id, range, came, tuple),
            // Kept, unless a reply would be taken for another flow's.
            _ => {
                let free = came == tuple || tuple.reversed() != came;
                (free && self.is_free(Node::Gateway(id), came, tuple)).then_some(tuple)
            }
        }
    }

    /// An address of a pool and a port of it. Seed and source choose the first address, so that a
    /// host has the same one for all of its flows (RFC 4787, REQ-2); the next ones are for when its
    /// ports towards this destination are used up.
    fn source_of_pool(
        &self,
        id: RouterId,
        range: AddressRange,
        came: Tuple,
        tuple: Tuple,
    ) -> Option<Tuple> {
        let nodes = [Node::Gateway(id)];
        let start = if range.span() == 0 {
            0
        } else {
            u128::from(hash_of(self.view.net.seed, 5, &came.src))
        };
        let at = |i: u128| {
            let offset = range.span().checked_add(1).map_or(start, |size| start % size);
            Tuple { src: range.around(offset.wrapping_add(i)), ..tuple }
        };
        let size = range.span().saturating_add(1).min(MAX_POOL_ADDRESSES);
        let searched = size.min(MAX_POOL_SEARCHES);
        let whole = (0..searched).find_map(|i| self.allocate_from(came, &nodes, at(i)));
        whole.or_else(|| {
            (searched..size).map(at).find(|wanted| {
                wanted.reversed() != came && self.is_free(Node::Gateway(id), came, *wanted)
            })
        })
    }

    /// A flow of the inside to an external address of its own gateway: it has reached its target
    /// without crossing the uplink. The target sees the source that it would see outside.
    pub(super) fn turn_around(
        &mut self,
        id: RouterId,
        router: &Router,
        same_link: bool,
        way: &Translation<'_>,
    ) -> Stop<()> {
        let Some(rule) = way.destination.filter(|r| r.action != NatAction::NoDnat) else {
            return Ok(());
        };
        let Some(tuple) = self.tuple() else { return Ok(()) };
        let stage = nat_stage(router);
        let key = Some(RuleKey::Nat(id, rule.id));
        let outside = router.nat.source_rule(way.came, self.icmp_code());
        if let Some((own, NatAction::Reflexive { internal, external })) =
            outside.map(|r| (r, r.action))
        {
            let after = Tuple { src: offset(tuple.src, internal, external), ..tuple };
            // What a host sends to itself must differ from its own answer.
            let told_apart = after.reversed() != way.came;
            if told_apart && matches!(rule.action, NatAction::Reflexive { .. }) {
                // Both ends have an external address of their own: replies find their way back alone.
                return self.translate_statelessly(id, router, own, tuple, after);
            }
        }
        self.may_begin().map_err(|reason| self.drop(stage, reason, &router.name, key))?;
        let nodes = [Node::Gateway(id)];
        let with = |src: Addr| Tuple { src, ..tuple };
        let after = match outside.map(|r| r.action) {
            Some(NatAction::Snat(range)) => self.source_of_pool(id, range, way.came, tuple),
            Some(NatAction::NoAddress) => {
                return Err(self.drop(stage, DropReason::NoNatRule, &router.name, key));
            }
            Some(NatAction::Reflexive { internal, external }) => {
                let source = offset(tuple.src, internal, external);
                self.allocate_from(way.came, &nodes, with(source))
            }
            // Nothing external to show. Where the answer would not come back through the gateway the
            // address that was asked for stands in, as with a balancer's hairpin.
            _ if same_link || tuple.src == tuple.dst => {
                self.allocate_from(way.came, &nodes, with(way.came.dst))
            }
            _ => self.allocate_from(way.came, &nodes, tuple),
        };
        let Some(after) = after else {
            return Err(self.drop(stage, DropReason::NatPortExhausted, &router.name, key));
        };
        self.remember(id, way.came, after, RecordKind::Nat { rule: rule.id });
        self.translate(tuple, after);
        self.note(stage, &router.name, || {
            format!("hairpin: source {}:{}", after.src, after.src_port)
        });
        Ok(())
    }

    /// Drops what a stateful rule translates where the gateway's firewall is switched off: NSX's edge
    /// has its NAT sessions from the firewall.
    pub(super) fn nat_needs_firewall(
        &mut self,
        id: RouterId,
        router: &Router,
        way: &Translation<'_>,
        source: Option<&NatRule>,
    ) -> Stop<()> {
        if !router.gateway_firewall.is_disabled() {
            return Ok(());
        }
        let known = way.known.and_then(|(record, _)| match record.kind {
            RecordKind::Nat { rule } if record.before != record.after => {
                Some((rule, router.nat.rule(rule)))
            }
            _ => None,
        });
        // Outwards its session will be the source rule's.
        let mut planned = source.into_iter().chain(way.destination);
        let first = planned.clone().next();
        let first = first.filter(|_| planned.any(NatRule::translates_sessions));
        let Some((number, rule)) = known.or(first.map(|r| (r.id, Some(r)))) else {
            return Ok(());
        };
        if rule.is_some_and(|r| r.firewall_match == FirewallMatch::Bypass) {
            return Ok(());
        }
        let key = Some(RuleKey::Nat(id, number));
        let reason = DropReason::GatewayFirewallDisabled;
        Err(self.drop(firewall_stage(router), reason, &router.name, key))
    }
}
