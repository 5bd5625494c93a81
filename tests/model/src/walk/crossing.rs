//! The firewalls of the gateways, for what crosses their uplinks (docs/choices.md, "Firewall"; features.md 3.G): inwards behind the
//! translation of the destination, outwards before that of the source.

use definitions::own::{FirewallMatch, GatewayAction};

use super::{Stop, Walk, gone};
use crate::counters::Counter;
use crate::memory::{Deed, Memory, Place, Tier, Way};
use crate::network::{GatewayRule, NatKind, NatRule};
use crate::packet::{Complaint, Content, Flow, protocol};

/// Where the firewall looks, and what its rules see; both as the packet goes.
struct Crossing {
    tier: Tier,
    inward: bool,
    place: Flow,
    /// Where it looks too: at the other side of a translation that the gateway first met in an answer.
    other_place: Option<Flow>,
    judged: Flow,
}

impl Walk<'_> {
    /// The ICMP type that a packet's flow began with, or that of an error.
    fn message(&self) -> Option<u8> {
        Some(match self.done.packet.content {
            Content::Echo { reply: false, .. } => 8,
            Content::Error { complaint: Complaint::TimeExceeded, .. } => 11,
            Content::Error { .. } => 3,
            _ => 0,
        })
    }

    /// The first rule for a flow.
    fn gateway_rule(
        &self,
        tier: Tier,
        inward: bool,
        flow: Flow,
        query: Option<u8>,
    ) -> Option<GatewayRule> {
        let firewall = match tier {
            Tier::Tier0 => &self.network.tier0_firewall,
            Tier::Tier1 => &self.network.gateway_firewall,
        };
        let mut rules = firewall.rules.iter();
        rules.find(|rule| rule.matches(inward, flow, query)).cloned()
    }

    /// A packet crosses an uplink of the Tier-0, which translates nothing.
    pub(super) fn cross_tier0(&mut self, inward: bool) -> Stop<()> {
        if !self.network.tier0_firewall.judges() {
            return Ok(());
        }
        let flow = self.done.packet.flow();
        self.judge_crossing(&Crossing {
            tier: Tier::Tier0,
            inward,
            place: flow,
            other_place: None,
            judged: flow,
        })
    }

    /// A packet crosses the uplink of the Tier-1. `came` is its flow as it came to the gateway, `known` what NAT and balancer remember of it,
    /// `by` the rule that translates it just now.
    pub(super) fn cross(
        &mut self,
        inward: bool,
        came: Flow,
        known: Option<&(Memory, Way)>,
        by: Option<&NatRule>,
        outside: Flow,
    ) -> Stop<()> {
        let network = self.network;
        let remembered = known.and_then(|(memory, _)| {
            let own = |rule: &&NatRule| memory.counter == Some(rule.counter());
            network.nat_rules.iter().find(own)
        });
        let rule = by.or(remembered);
        let seen = rule.map_or(FirewallMatch::Internal, |rule| rule.firewall_match);
        if !network.gateway_firewall.enabled {
            let translates = match known {
                Some((memory, _)) => memory.came != memory.went,
                None => {
                    let kind = rule.map(|rule| rule.kind);
                    matches!(kind, Some(NatKind::Snat(_) | NatKind::Dnat(..)))
                        || came != self.done.packet.flow()
                }
            };
            if let Some(rule) = rule.filter(|_| translates && seen != FirewallMatch::Bypass) {
                self.done.blamed = Some(rule.counter());
                return gone("NAT beside a firewall that is switched off");
            }
            return Ok(());
        }
        if network.gateway_firewall.rules.is_empty() {
            return Ok(());
        }
        // Outwards it is the source's rule that says what is judged.
        let turned = !inward && rule.is_some_and(|rule| rule.is_about_destinations());
        let seen = if turned && known.is_none() { FirewallMatch::Internal } else { seen };
        if seen == FirewallMatch::Bypass {
            return Ok(());
        }
        let external = seen == FirewallMatch::External;
        let crossing = match known {
            Some((memory, way)) => {
                let began_inward = inward == (*way == Way::Along);
                let is_balanced = matches!(memory.deed, Deed::Balanced { .. });
                let judged = if began_inward == (external || is_balanced) {
                    memory.came
                } else {
                    memory.went
                };
                let turned = |flow: Flow| if *way == Way::Along { flow } else { flow.reversed() };
                Crossing {
                    tier: Tier::Tier1,
                    inward,
                    place: turned(memory.came),
                    other_place: Some(turned(memory.went)),
                    judged: turned(judged),
                }
            }
            None => {
                let served =
                    by.is_none() && self.done.fresh.iter().any(|m| m.place == Place::Tier1);
                let now = self.done.packet.flow();
                let judged = if served || external { outside } else { now };
                Crossing { tier: Tier::Tier1, inward, place: came, other_place: None, judged }
            }
        };
        self.judge_crossing(&crossing)
    }

    fn judge_crossing(&mut self, crossing: &Crossing) -> Stop<()> {
        let tier = crossing.tier;
        let mut found = self.recall_as(Place::GatewayFirewall(tier), crossing.place)?;
        if let (None, Some(place)) = (&found, crossing.other_place) {
            found = self.recall_as(Place::GatewayFirewall(tier), place)?;
        }
        if let Some((memory, _)) = found {
            let Deed::Crossed { judged, inward, query } = memory.deed else { return Ok(()) };
            let rule = self.gateway_rule(tier, inward, judged, query);
            if rule.as_ref().is_some_and(|rule| rule.action != GatewayAction::Allow) {
                self.done.killed = Some(memory.conversation);
            }
            self.refuses(tier, rule.as_ref())?;
            let counter = rule.map(|rule| Counter::Gateway(tier, rule.name));
            self.done.recounted.push(Memory { counter, ..memory });
            return Ok(());
        }
        if self.older_than_rules(crossing)? {
            return Ok(());
        }
        let packet = self.done.packet;
        if packet.is_error() {
            // Nothing is remembered of its flow: it is a packet by itself.
            let itself = Flow {
                src: packet.src,
                dst: packet.dst,
                protocol: protocol::ICMP,
                src_port: 0,
                dst_port: 0,
            };
            let rule = self.gateway_rule(tier, crossing.inward, itself, self.message());
            self.refuses(tier, rule.as_ref())?;
            if let Some(rule) = rule.filter(|rule| !rule.stateful) {
                self.done.let_pass.push(Counter::Gateway(tier, rule.name));
                return Ok(());
            }
            return gone("an error about no conversation");
        }
        let query = self.message();
        let rule = self.gateway_rule(tier, crossing.inward, crossing.judged, query);
        self.refuses(tier, rule.as_ref())?;
        if let Some(rule) = rule.as_ref().filter(|rule| !rule.stateful) {
            self.done.let_pass.push(Counter::Gateway(tier, rule.name.clone()));
            return Ok(());
        }
        if !self.may_begin() {
            return gone("cannot begin a conversation at the gateway's firewall");
        }
        self.crosses(crossing, crossing.judged, crossing.inward, query, rule);
        Ok(())
    }

    /// A conversation that the gateway would still remember, but does not, is older than its rules: it is judged as it began.
    fn older_than_rules(&mut self, crossing: &Crossing) -> Stop<bool> {
        let Some((id, way)) = self.done.known else { return Ok(false) };
        let (judged, inward) = match way {
            Way::Along => (crossing.judged, crossing.inward),
            Way::Back => (crossing.judged.reversed(), !crossing.inward),
        };
        let query = Some(if judged.protocol == protocol::ICMP { 8 } else { 0 });
        let tier = crossing.tier;
        let rule = self.gateway_rule(tier, inward, judged, query);
        let allows = |rule: &GatewayRule| rule.action == GatewayAction::Allow;
        let stateless = rule.as_ref().is_some_and(|rule| !rule.stateful && allows(rule));
        let (timers, now) = (self.network.timers, self.model.now);
        if stateless || !self.model.memories.is_fresh_at_gateways(timers, id, now) {
            return Ok(false);
        }
        if !rule.as_ref().is_none_or(allows) {
            self.done.killed = Some(id);
        }
        self.refuses(tier, rule.as_ref())?;
        if !self.done.packet.is_error() {
            self.crosses(crossing, judged, inward, query, rule);
        }
        Ok(true)
    }

    fn crosses(
        &mut self,
        crossing: &Crossing,
        judged: Flow,
        inward: bool,
        query: Option<u8>,
        rule: Option<GatewayRule>,
    ) {
        let Crossing { tier, place, .. } = *crossing;
        let counter = rule.map(|rule| Counter::Gateway(tier, rule.name));
        let deed = Deed::Crossed { judged, inward, query };
        self.remember(Place::GatewayFirewall(tier), (place, place), deed, counter);
    }

    fn refuses(&mut self, tier: Tier, rule: Option<&GatewayRule>) -> Stop<()> {
        let Some(rule) = rule.filter(|rule| rule.action != GatewayAction::Allow) else {
            return Ok(());
        };
        self.done.blamed = Some(Counter::Gateway(tier, rule.name.clone()));
        if rule.action == GatewayAction::Reject {
            self.prohibit();
            return gone("rejected by the gateway's firewall");
        }
        gone("dropped by the gateway's firewall")
    }
}
