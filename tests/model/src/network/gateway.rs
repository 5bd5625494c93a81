//! The rules of a gateway's firewall, in the order of their evaluation.

use std::net::IpAddr;

use definitions::own::{GatewayAction, GatewayCategory, GatewayDirection, GatewayFirewall};

use super::Service;
use crate::packet::Flow;

/// A rule of a gateway's firewall.
#[derive(Clone, Debug)]
pub(crate) struct GatewayRule {
    pub(crate) name: String,
    pub(crate) action: GatewayAction,
    pub(crate) stateful: bool,
    sources: Vec<(IpAddr, IpAddr)>,
    destinations: Vec<(IpAddr, IpAddr)>,
    services: Vec<Service>,
    direction: GatewayDirection,
}

impl GatewayRule {
    /// Whether it is about a flow; `query` is its ICMP type.
    pub(crate) fn matches(&self, inward: bool, flow: Flow, query: Option<u8>) -> bool {
        let way = match self.direction {
            GatewayDirection::In => inward,
            GatewayDirection::Out => !inward,
            GatewayDirection::InOut => true,
        };
        let within = |sets: &[(IpAddr, IpAddr)], address: IpAddr| {
            sets.is_empty() || sets.iter().any(|(first, last)| (*first..=*last).contains(&address))
        };
        way && within(&self.sources, flow.src)
            && within(&self.destinations, flow.dst)
            && (self.services.is_empty() || self.services.iter().any(|s| s.matches(flow, query)))
    }
}

/// The firewall of a gateway.
#[derive(Clone, Debug)]
pub(crate) struct Firewall {
    pub(crate) enabled: bool,
    pub(crate) rules: Vec<GatewayRule>,
}

impl Firewall {
    /// By category, sequence and name; the default action is the last rule, unless it allows and no other is written. `stateful` is
    /// what a rule is that does not say: an active-active Tier-0 has no stateful ones.
    pub(super) fn new(definition: &GatewayFirewall, stateful: bool) -> Firewall {
        let mut ordered: Vec<((GatewayCategory, u32, &str), GatewayRule)> = Vec::new();
        for (place, rule) in (0_u32..).zip(&definition.rules) {
            if rule.disabled {
                continue;
            }
            let sequence = rule.sequence.unwrap_or(10 * (place + 1));
            let ends = |sets: &[definitions::own::RuleAddresses]| {
                sets.iter().map(definitions::own::RuleAddresses::ends).collect()
            };
            let model = GatewayRule {
                name: rule.name.clone(),
                action: rule.action,
                stateful: rule.stateful.unwrap_or(stateful),
                sources: ends(&rule.sources),
                destinations: ends(&rule.destinations),
                services: rule.services.iter().map(Service::of).collect(),
                direction: rule.direction,
            };
            ordered.push(((rule.category, sequence, &rule.name), model));
        }
        ordered.sort_by(|a, b| a.0.cmp(&b.0));
        let mut rules: Vec<GatewayRule> = ordered.into_iter().map(|(_, rule)| rule).collect();
        if !definition.rules.is_empty() || definition.default_action != GatewayAction::Allow {
            rules.push(GatewayRule {
                name: "default".to_owned(),
                action: definition.default_action,
                stateful,
                sources: Vec::new(),
                destinations: Vec::new(),
                services: Vec::new(),
                direction: GatewayDirection::InOut,
            });
        }
        Firewall { enabled: definition.enabled, rules }
    }

    /// Whether it judges anything.
    pub(crate) fn judges(&self) -> bool {
        self.enabled && !self.rules.is_empty()
    }

    /// Whether it follows connections.
    pub(crate) fn remembers(&self) -> bool {
        self.enabled && self.rules.iter().any(|rule| rule.stateful)
    }
}
