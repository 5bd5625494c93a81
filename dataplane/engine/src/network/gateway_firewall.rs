//! The rule model of a gateway's own firewall.
//!
//! NSX order: categories Emergency, SystemRules, SharedPreRules, LocalGatewayRules, AutoServiceRules,
//! Default; in a category by sequence number, then name; the first match decides. It judges flows
//! that cross an uplink of its gateway and nothing else. A firewall without rules costs nothing and
//! remembers nothing.

use super::{Action, AddressSet, Direction, Service};
use crate::session::FloodLimits;
use crate::tuple::Tuple;
use std::fmt;

/// Category of a gateway firewall rule, in the order of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayCategory {
    /// Quarantine and the like.
    Emergency,
    /// Made by the system.
    SystemRules,
    /// Shared by gateways.
    SharedPreRules,
    /// The gateway's own.
    LocalGatewayRules,
    /// Made for the gateway's services.
    AutoServiceRules,
    /// What applies when nothing else did.
    Default,
}

impl fmt::Display for GatewayCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GatewayCategory::Emergency => "Emergency",
            GatewayCategory::SystemRules => "SystemRules",
            GatewayCategory::SharedPreRules => "SharedPreRules",
            GatewayCategory::LocalGatewayRules => "LocalGatewayRules",
            GatewayCategory::AutoServiceRules => "AutoServiceRules",
            GatewayCategory::Default => "Default",
        })
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRule {
    /// Number that users and drop records name; unique in its gateway, kept while the rule lives.
    pub id: u32,
    /// Name, unique in its gateway.
    pub name: String,
    /// First key of the order.
    pub category: GatewayCategory,
    /// Second key: lower comes first.
    pub sequence: u32,
    /// [`Direction::In`] is from the uplink towards the workloads.
    pub direction: Direction,
    /// Sources.
    pub source: AddressSet,
    /// Sources as the definition put them, for people.
    pub source_text: String,
    /// Destinations.
    pub destination: AddressSet,
    /// Destinations as the definition put them, for people.
    pub destination_text: String,
    /// Services; empty is every protocol.
    pub services: Vec<Service>,
    /// Whether it remembers what it allows. Where not, every packet is judged by itself.
    pub stateful: bool,
    /// Whether it is passed over.
    pub disabled: bool,
    /// What it does.
    pub action: Action,
}

impl GatewayRule {
    fn matches(&self, inward: bool, flow: Tuple, icmp: Option<(u8, u8)>) -> bool {
        let direction = match self.direction {
            Direction::In => inward,
            Direction::Out => !inward,
            Direction::InOut => true,
        };
        let service = || {
            self.services.is_empty()
                || self.services.iter().any(|s| s.matches(flow.protocol, flow.dst_port, icmp))
        };
        !self.disabled
            && direction
            && service()
            && self.source.contains(flow.src)
            && self.destination.contains(flow.dst)
    }
}

/// The firewall of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFirewall {
    enabled: bool,
    rules: Vec<GatewayRule>,
    flood: FloodLimits,
}

impl Default for GatewayFirewall {
    /// Enabled and without rules: everything passes.
    fn default() -> GatewayFirewall {
        GatewayFirewall { enabled: true, rules: Vec::new(), flood: FloodLimits::default() }
    }
}

impl GatewayFirewall {
    /// Brings rules into the order of evaluation. A firewall that is not `enabled` judges nothing; NSX
    /// then lets no flow pass that a stateful NAT rule translates, unless that rule bypasses it.
    #[must_use]
    pub fn new(enabled: bool, mut rules: Vec<GatewayRule>) -> GatewayFirewall {
        rules.sort_by(|a, b| {
            (a.category, a.sequence, &a.name).cmp(&(b.category, b.sequence, &b.name))
        });
        GatewayFirewall { enabled, rules, flood: FloodLimits::default() }
    }

    /// The same with limits of the flows that the gateway remembers.
    #[must_use]
    pub fn with_flood(self, flood: FloodLimits) -> GatewayFirewall {
        GatewayFirewall { flood, ..self }
    }

    /// Most flows that the gateway may remember; `None` if the firewall is switched off.
    #[must_use]
    pub fn flood(&self) -> Option<&FloodLimits> {
        self.enabled.then_some(&self.flood)
    }

    /// Whether it has been switched off.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        !self.enabled
    }

    /// Whether it judges anything.
    #[must_use]
    pub fn judges(&self) -> bool {
        self.enabled && !self.rules.is_empty()
    }

    /// Whether it remembers anything.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.enabled && self.rules.iter().any(|r| r.stateful && !r.disabled)
    }

    /// The first rule that matches a flow, `inward` or outwards; `icmp` is type and code. A flow that
    /// none matches is allowed, and remembered.
    #[must_use]
    pub fn lookup(
        &self,
        inward: bool,
        flow: Tuple,
        icmp: Option<(u8, u8)>,
    ) -> Option<&GatewayRule> {
        self.rules.iter().find(|r| r.matches(inward, flow, icmp))
    }

    /// The rules in the order of evaluation, disabled ones too.
    #[must_use]
    pub fn rules(&self) -> &[GatewayRule] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::network::{Prefix, ServicePorts};

    fn rule(name: &str, category: GatewayCategory, sequence: u32) -> GatewayRule {
        GatewayRule {
            id: sequence,
            name: name.into(),
            category,
            sequence,
            direction: Direction::InOut,
            source: AddressSet::any(),
            source_text: "any".into(),
            destination: AddressSet::any(),
            destination_text: "any".into(),
            services: Vec::new(),
            stateful: true,
            disabled: false,
            action: Action::Allow,
        }
    }

    fn flow(src: &str, dst: &str) -> Tuple {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        Tuple { src, dst, protocol: 6, src_port: 1, dst_port: 443 }
    }

    #[test]
    fn categories_come_before_sequence_and_sequence_before_name() {
        use GatewayCategory as C;
        let all = vec![
            rule("z", C::Default, 0),
            rule("b", C::LocalGatewayRules, 20),
            rule("a", C::LocalGatewayRules, 20),
            rule("c", C::LocalGatewayRules, 10),
            rule("auto", C::AutoServiceRules, 1),
            rule("shared", C::SharedPreRules, 900),
            rule("system", C::SystemRules, 900),
            rule("emergency", C::Emergency, 900),
        ];
        let mut reversed = all.clone();
        reversed.reverse();
        for rules in [all, reversed] {
            let firewall = GatewayFirewall::new(true, rules);
            let names: Vec<&str> = firewall.rules().iter().map(|r| r.name.as_str()).collect();
            let order = ["emergency", "system", "shared", "c", "a", "b", "auto", "z"];
            assert_eq!(names, order);
        }
    }

    #[test]
    fn every_field_counts() {
        let net: Prefix = "192.0.2.0/24".parse().unwrap();
        let only = GatewayRule {
            direction: Direction::In,
            source: AddressSet::from_ranges([(net.first(), net.last())]),
            services: vec![Service {
                protocol: 6,
                ports: ServicePorts::Destination(vec![(443, 443)]),
            }],
            ..rule("only", GatewayCategory::LocalGatewayRules, 1)
        };
        let hits = |rule: &GatewayRule, inward, flow| {
            GatewayFirewall::new(true, vec![rule.clone()]).lookup(inward, flow, None).is_some()
        };
        let right = flow("192.0.2.9", "10.0.0.1");
        assert!(hits(&only, true, right));
        assert!(!hits(&only, false, right));
        assert!(!hits(&only, true, flow("192.0.3.9", "10.0.0.1")));
        assert!(!hits(&only, true, Tuple { dst_port: 80, ..right }));
        assert!(!hits(&only, true, Tuple { protocol: 17, ..right }));
        assert!(!hits(&GatewayRule { disabled: true, ..only.clone() }, true, right));
        let out = GatewayRule { direction: Direction::Out, ..only };
        assert!(!hits(&out, true, right) && hits(&out, false, right));
    }

    #[test]
    fn a_firewall_without_rules_or_switched_off_judges_nothing() {
        assert!(!GatewayFirewall::default().judges());
        let one = vec![rule("a", GatewayCategory::Default, 1)];
        assert!(GatewayFirewall::new(true, one.clone()).judges());
        let off = GatewayFirewall::new(false, one);
        assert!(!off.judges() && off.is_disabled());
    }
}
