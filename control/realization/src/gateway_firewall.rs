//! The firewalls of the gateways.
//!
//! Rules are numbered a gateway, in the order of evaluation at first; a number stays with its rule's name. What
//! `defaultAction` says is the last rule, so that it counts like any other. On an active-active Tier-0 none is
//! stateful, as in NSX-T: its service routers share no sessions.

use std::collections::BTreeMap;

use definitions::model::Tier0Gateway;
use definitions::own::{
    GatewayAction, GatewayCategory as CategoryDefinition, GatewayDirection,
    GatewayFirewall as Definition, GatewayRule as RuleDefinition, HaMode, RuleAddresses,
    RuleService,
};
use engine::network::{
    Action, AddressSet, Direction, GatewayCategory, GatewayFirewall, GatewayRule, IcmpMatch,
    Service, ServicePorts,
};

use crate::addressing::Cluster;
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};
use crate::security::gateway_flood_limits;
use crate::topology::tier0_name;
use crate::unmatched::notice_shadowed_at_gateway;

/// Name of the rule that `defaultAction` makes; the definitions leave it to this rule.
pub(crate) const DEFAULT_RULE: &str = "default";

/// The firewall of the cluster's Tier-1.
pub(crate) fn of_tier1(
    cluster: &Cluster<'_>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> GatewayFirewall {
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    let definition = &cluster.spec().tier1.gateway_firewall;
    let gateway = Gateway { name: cluster.tier1(), stateful: true, subject };
    gateway.firewall(definition, kept, next, messages)
}

/// The firewall of a Tier-0.
pub(crate) fn of_tier0(
    tier0: &Tier0Gateway,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> GatewayFirewall {
    let gateway = Gateway {
        name: tier0_name(&tier0.meta.name),
        stateful: tier0.spec.ha_mode == HaMode::ActiveStandby,
        subject: Subject::new("Tier0Gateway", &tier0.meta),
    };
    gateway.firewall(&tier0.spec.gateway_firewall, kept, next, messages)
}

/// Whose firewall it is.
struct Gateway {
    name: String,
    /// What a rule is that does not say.
    stateful: bool,
    subject: Subject,
}

impl Gateway {
    fn firewall(
        &self,
        definition: &Definition,
        kept: &Allocations,
        next: &mut Allocations,
        messages: &mut Messages,
    ) -> GatewayFirewall {
        let mut rules: Vec<GatewayRule> =
            (1u32..).zip(&definition.rules).map(|(place, rule)| self.rule(place, rule)).collect();
        // What is limited is remembered: by the default rule, if there is no other.
        let limited = definition.flood_protection.is_some();
        if limited || !rules.is_empty() || definition.default_action != GatewayAction::Allow {
            rules.push(self.default_rule(definition.default_action));
        }
        let ordered = GatewayFirewall::new(definition.enabled, rules);
        let pool = Pool {
            what: "number",
            name: format!("the firewall of {}", self.name),
            bands: vec![1..=u64::from(u32::MAX)],
            reserved: BTreeMap::new(),
            open: false,
            show: |n| n.to_string(),
        };
        let key = |rule: &GatewayRule| format!("{} {}", self.name, rule.name);
        let requests: Vec<Request> = ordered
            .rules()
            .iter()
            .map(|r| Request { owner: key(r), pin: None, subject: self.subject.clone() })
            .collect();
        let number = |k: &str| kept.gateway_rules.get(k).copied().map(u64::from);
        let given = assign(&pool, &requests, number, messages);
        let mut numbered = ordered.rules().to_vec();
        for rule in &mut numbered {
            rule.id = given.get(&key(rule)).and_then(|n| u32::try_from(*n).ok()).unwrap_or(0);
            next.gateway_rules.insert(key(rule), rule.id);
        }
        let firewall = GatewayFirewall::new(definition.enabled, numbered)
            .with_flood(gateway_flood_limits(definition));
        notice_shadowed_at_gateway(&firewall, &self.subject, messages);
        firewall
    }

    fn rule(&self, place: u32, rule: &RuleDefinition) -> GatewayRule {
        let (source, source_text) = addresses(&rule.sources);
        let (destination, destination_text) = addresses(&rule.destinations);
        GatewayRule {
            id: 0,
            name: rule.name.clone(),
            category: category(rule.category),
            sequence: rule.sequence.unwrap_or(place.saturating_mul(10)),
            direction: match rule.direction {
                GatewayDirection::In => Direction::In,
                GatewayDirection::Out => Direction::Out,
                GatewayDirection::InOut => Direction::InOut,
            },
            source,
            source_text,
            destination,
            destination_text,
            services: rule.services.iter().map(service).collect(),
            stateful: rule.stateful.unwrap_or(self.stateful),
            disabled: rule.disabled,
            action: action(rule.action),
        }
    }

    /// What `defaultAction` says, behind all rules.
    fn default_rule(&self, default: GatewayAction) -> GatewayRule {
        let (any, text) = addresses(&[]);
        GatewayRule {
            id: 0,
            name: DEFAULT_RULE.to_owned(),
            category: GatewayCategory::Default,
            sequence: u32::MAX,
            direction: Direction::InOut,
            source: any.clone(),
            source_text: text.clone(),
            destination: any,
            destination_text: text,
            services: Vec::new(),
            stateful: self.stateful,
            disabled: false,
            action: action(default),
        }
    }
}

fn action(action: GatewayAction) -> Action {
    match action {
        GatewayAction::Allow => Action::Allow,
        GatewayAction::Drop => Action::Drop,
        GatewayAction::Reject => Action::Reject,
    }
}

fn category(category: CategoryDefinition) -> GatewayCategory {
    match category {
        CategoryDefinition::Emergency => GatewayCategory::Emergency,
        CategoryDefinition::SystemRules => GatewayCategory::SystemRules,
        CategoryDefinition::SharedPreRules => GatewayCategory::SharedPreRules,
        CategoryDefinition::LocalGatewayRules => GatewayCategory::LocalGatewayRules,
        CategoryDefinition::AutoServiceRules => GatewayCategory::AutoServiceRules,
        CategoryDefinition::Default => GatewayCategory::Default,
    }
}

/// A set of addresses, and how people read it; an empty list is everywhere.
fn addresses(list: &[RuleAddresses]) -> (AddressSet, String) {
    if list.is_empty() {
        return (AddressSet::any(), "any".to_owned());
    }
    let ranges = list.iter().map(|a| {
        let (first, last) = a.ends();
        (first.into(), last.into())
    });
    let text: Vec<String> = list.iter().map(ToString::to_string).collect();
    (AddressSet::from_ranges(ranges), text.join(","))
}

/// A service of a gateway's rule, firewall or NAT.
pub(crate) fn service(service: &RuleService) -> Service {
    let ports = match service.kind {
        Some(kind) => ServicePorts::Icmp(IcmpMatch { kind, code: service.code }),
        None if service.ports.is_empty() => ServicePorts::Any,
        None => ServicePorts::Destination(
            service.ports.iter().map(|range| (range.first(), range.last())).collect(),
        ),
    };
    Service { protocol: service.protocol.0, ports }
}
