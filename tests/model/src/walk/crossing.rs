//! The firewall of the Tier-1, for what crosses its uplink (docs/choices.md, "Firewall"; features.md 3.G): inwards behind the
//! translation of the destination, outwards before that of the source.

use definitions::own::{FirewallMatch, GatewayAction};

use super::{Stop, Walk, gone};
use crate::counters::Counter;
use crate::memory::{Deed, Memory, Place, Way};
use crate::network::{GatewayRule, NatKind, NatRule};
use crate::packet::{Complaint, Content, Flow, protocol};

/// Where the firewall looks, and what its rules see; both as the packet goes.
struct Crossing {
    inward: bool,
    place: Flow,
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
    fn gateway_rule(&self, inward: bool, flow: Flow, query: Option<u8>) -> Option<GatewayRule> {
        let mut rules = self.network.gateway_firewall.rules.iter();
        rules.find(|rule| rule.matches(inward, flow, query)).cloned()
    }

    /// A packet crosses the uplink. `came` is its flow as it came to the gateway, `known` what NAT and balancer remember of it,
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
            let translates =
                rule.filter(|r| matches!(r.kind, NatKind::Snat(_) | NatKind::Dnat(..)));
            if let Some(rule) = translates.filter(|_| seen != FirewallMatch::Bypass) {
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
                Crossing { inward, place: turned(memory.came), judged: turned(judged) }
            }
            None => {
                let served =
                    by.is_none() && self.done.fresh.iter().any(|m| m.place == Place::Tier1);
                let now = self.done.packet.flow();
                let judged = if served || external { outside } else { now };
                Crossing { inward, place: came, judged }
            }
        };
        self.judge_crossing(&crossing)
    }

    fn judge_crossing(&mut self, crossing: &Crossing) -> Stop<()> {
        if let Some((memory, _)) = self.recall_as(Place::Tier1Firewall, crossing.place)? {
            let Deed::Crossed { judged, inward, query } = memory.deed else { return Ok(()) };
            let rule = self.gateway_rule(inward, judged, query);
            if rule.as_ref().is_some_and(|rule| rule.action != GatewayAction::Allow) {
                self.done.killed = Some(memory.conversation);
            }
            self.refuses(rule.as_ref())?;
            let counter = rule.map(|rule| Counter::Gateway(rule.name));
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
            let rule = self.gateway_rule(crossing.inward, itself, self.message());
            self.refuses(rule.as_ref())?;
            if let Some(rule) = rule.filter(|rule| !rule.stateful) {
                self.done.let_pass.push(Counter::Gateway(rule.name));
                return Ok(());
            }
            return gone("an error about no conversation");
        }
        let query = self.message();
        let rule = self.gateway_rule(crossing.inward, crossing.judged, query);
        self.refuses(rule.as_ref())?;
        if let Some(rule) = rule.as_ref().filter(|rule| !rule.stateful) {
            self.done.let_pass.push(Counter::Gateway(rule.name.clone()));
            return Ok(());
        }
        if !self.may_begin() {
            return gone("cannot begin a conversation at the gateway's firewall");
        }
        self.crosses(crossing.place, crossing.judged, crossing.inward, query, rule);
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
        let rule = self.gateway_rule(inward, judged, query);
        let allows = |rule: &GatewayRule| rule.action == GatewayAction::Allow;
        let stateless = rule.as_ref().is_some_and(|rule| !rule.stateful && allows(rule));
        if stateless || !self.model.memories.is_fresh_at_gateways(id, self.model.now) {
            return Ok(false);
        }
        if !rule.as_ref().is_none_or(allows) {
            self.done.killed = Some(id);
        }
        self.refuses(rule.as_ref())?;
        if !self.done.packet.is_error() {
            self.crosses(crossing.place, judged, inward, query, rule);
        }
        Ok(true)
    }

    fn crosses(
        &mut self,
        place: Flow,
        judged: Flow,
        inward: bool,
        query: Option<u8>,
        rule: Option<GatewayRule>,
    ) {
        let counter = rule.map(|rule| Counter::Gateway(rule.name));
        let deed = Deed::Crossed { judged, inward, query };
        self.remember(Place::Tier1Firewall, (place, place), deed, counter);
    }

    fn refuses(&mut self, rule: Option<&GatewayRule>) -> Stop<()> {
        let Some(rule) = rule.filter(|rule| rule.action != GatewayAction::Allow) else {
            return Ok(());
        };
        self.done.blamed = Some(Counter::Gateway(rule.name.clone()));
        if rule.action == GatewayAction::Reject {
            self.prohibit();
            return gone("rejected by the gateway's firewall");
        }
        gone("dropped by the gateway's firewall")
    }
}
