//! NAT rules of the gateways.
//!
//! A Tier-0 has those that its definition states, and no others. Of the Tier-1:
//!
//! The article's three rules (F9) belong to the system: pods keep their source towards pods and towards the
//! egress pool, and everything else leaves with the system's address. A namespace with an address of its own
//! (F10) has a rule before that last one, and Services with an SNAT pool one before the namespaces'.
//! `spec.tier1.natRules` is the whole table in place of all of these. Rules without a priority are ordered as NCP
//! orders its own: exemptions first, SNAT of every source last.

use std::collections::BTreeMap;

use definitions::model::Tier0Gateway;
use definitions::own::{
    FirewallMatch as MatchDefinition, NatAction as ActionDefinition, NatMatch,
    NatRule as RuleDefinition,
};
use engine::network::{AddressRange, FirewallMatch, NatAction, NatRule, NatTable, PortMap, Prefix};
use ipnet::IpNet;
use packet::Addr;

use crate::addressing::{Cluster, SYSTEM, prefix4};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};
use crate::gateway_firewall;
use crate::snat_pool;
use crate::topology::tier0_name;

/// Priority of rules that exempt.
const EXEMPT: u32 = 100;
/// Priority of rules that translate something particular.
const TRANSLATE: u32 = 1000;
/// Priority of SNAT rules for every source.
const SNAT_ANY: u32 = 2000;

/// What the name of a namespace's own rule begins with; no other rule's does.
const NAMESPACE_RULE: &str = "snat-namespace-";

/// The namespace whose own rule this is, or one of its Services'.
pub(crate) fn namespace_of(rule: &NatRule) -> Option<&str> {
    rule.name.strip_prefix(NAMESPACE_RULE).or_else(|| snat_pool::namespace_of(rule))
}

/// The table, with numbers kept by the rules' names.
pub(crate) fn table(
    cluster: &Cluster<'_>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> NatTable {
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    let tier1 = &cluster.spec().tier1;
    let mut rules = match &tier1.nat_rules {
        Some(own) => {
            let own = own.iter().enumerate();
            own.filter_map(|(i, rule)| explicit(i, rule, &subject, messages)).collect()
        }
        None if cluster.nat => system(cluster),
        None => Vec::new(),
    };
    for (i, exemption) in tier1.no_snat.iter().enumerate() {
        rules.push(NatRule {
            source: prefix(exemption.source).map(|p| vec![p]),
            destination: prefix(exemption.destination),
            ..NatRule::new(0, format!("no-snat-{}", i + 1), EXEMPT, NatAction::NoSnat)
        });
    }
    for (namespace, address) in cluster.snat.iter().filter(|(n, _)| *n != SYSTEM) {
        let source: Vec<Prefix> = cluster.blocks_of(namespace).map(|b| prefix4(b.net)).collect();
        if !source.is_empty() {
            let action = NatAction::Snat(AddressRange::host(*address));
            let name = format!("{NAMESPACE_RULE}{namespace}");
            rules
                .push(NatRule { source: Some(source), ..NatRule::new(0, name, TRANSLATE, action) });
        }
    }
    rules.extend(snat_pool::rules(cluster));
    numbered(rules, "", &subject, kept, next, messages)
}

/// The table of a Tier-0.
pub(crate) fn tier0_table(
    tier0: &Tier0Gateway,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> NatTable {
    let subject = Subject::new("Tier0Gateway", &tier0.meta);
    let rules = tier0.spec.nat_rules.iter().enumerate();
    let rules = rules.filter_map(|(i, rule)| explicit(i, rule, &subject, messages)).collect();
    let gateway = format!("{} ", tier0_name(&tier0.meta.name));
    numbered(rules, &gateway, &subject, kept, next, messages)
}

/// Numbers rules from 1, in the order of evaluation at first. A number is kept under `gateway` and the rule's
/// name.
fn numbered(
    rules: Vec<NatRule>,
    gateway: &str,
    subject: &Subject,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> NatTable {
    let ordered = NatTable::new(rules);
    let pool = Pool {
        what: "number",
        name: "the NAT table".to_owned(),
        bands: vec![1..=u64::from(u32::MAX)],
        reserved: BTreeMap::new(),
        open: false,
        show: |n| n.to_string(),
    };
    let key = |rule: &NatRule| format!("{gateway}{}", rule.name);
    let requests: Vec<Request> = ordered
        .rules()
        .iter()
        .map(|r| Request { owner: key(r), pin: None, subject: subject.clone() })
        .collect();
    let given =
        assign(&pool, &requests, |k| kept.nat_rules.get(k).copied().map(u64::from), messages);
    let number = |rule: &NatRule| {
        let number = given.get(&key(rule)).and_then(|n| u32::try_from(*n).ok());
        number.unwrap_or(0)
    };
    let rules = ordered.rules().iter();
    let rules: Vec<NatRule> = rules.map(|r| NatRule { id: number(r), ..r.clone() }).collect();
    next.nat_rules.extend(rules.iter().map(|r| (key(r), r.id)));
    NatTable::new(rules)
}

/// The article's rules.
fn system(cluster: &Cluster<'_>) -> Vec<NatRule> {
    let spec = cluster.spec();
    let pods = prefix4(*spec.pod_cidr);
    let exempt = |name: &str, destination: Prefix| NatRule {
        source: Some(vec![pods]),
        destination: Some(destination),
        ..NatRule::new(0, name, EXEMPT, NatAction::NoSnat)
    };
    let mut rules =
        vec![exempt("no-snat-pods", pods), exempt("no-snat-egress", prefix4(*spec.egress_cidr))];
    if let Some(address) = cluster.snat.get(SYSTEM) {
        let action = NatAction::Snat(AddressRange::host(*address));
        rules.push(NatRule::new(0, "snat-system", SNAT_ANY, action));
    }
    rules
}

fn prefix(side: NatMatch) -> Option<Prefix> {
    side.network().map(prefix_of)
}

/// `Prefix` of a network.
pub(crate) fn prefix_of(net: IpNet) -> Prefix {
    Prefix::new(net.network().into(), net.prefix_len())
}

/// A rule as the user wrote it. Its name tells its content where it has none of its own, so that a number stays
/// with its rule when the order of writing changes.
fn explicit(
    at: usize,
    rule: &RuleDefinition,
    subject: &Subject,
    messages: &mut Messages,
) -> Option<NatRule> {
    let Some(action) = action(rule) else {
        let message =
            format!("natRules[{at}]: {} cannot translate to {}", rule.action, rule.translated);
        let subject = subject.at_line(rule.line);
        messages.fault(&subject, message, "see the fields of natRules in the reference");
        return None;
    };
    let stated = match rule.action {
        ActionDefinition::NoSnat | ActionDefinition::NoDnat => EXEMPT,
        ActionDefinition::Snat if rule.source == NatMatch::Any => SNAT_ANY,
        ActionDefinition::Snat | ActionDefinition::Dnat | ActionDefinition::Reflexive => TRANSLATE,
    };
    let priority = rule.priority.unwrap_or(stated);
    let reflexive = rule.action == ActionDefinition::Reflexive;
    Some(NatRule {
        source: prefix(rule.source).filter(|_| !reflexive).map(|p| vec![p]),
        destination: prefix(rule.destination).filter(|_| !reflexive),
        service: rule.service.as_ref().map(gateway_firewall::service),
        firewall_match: match rule.firewall_match {
            MatchDefinition::Internal => FirewallMatch::Internal,
            MatchDefinition::External => FirewallMatch::External,
            MatchDefinition::Bypass => FirewallMatch::Bypass,
        },
        ..NatRule::new(0, name(rule, priority), priority, action)
    })
}

fn name(rule: &RuleDefinition, priority: u32) -> String {
    if let Some(name) = &rule.name {
        return name.clone();
    }
    let mut name = format!(
        "rule {priority} {} {} {} {}",
        rule.action, rule.source, rule.destination, rule.translated
    );
    if let Some(service) = &rule.service {
        name.push_str(&format!(" {service}"));
    }
    if let Some(port) = rule.translated_port {
        name.push_str(&format!(" to {port}"));
    }
    name
}

/// `None` if the fields do not fit, which the checks of definitions rule out.
fn action(rule: &RuleDefinition) -> Option<NatAction> {
    let network = || rule.translated.network().map(prefix_of);
    match rule.action {
        ActionDefinition::NoSnat => Some(NatAction::NoSnat),
        ActionDefinition::NoDnat => Some(NatAction::NoDnat),
        ActionDefinition::Snat => {
            let (first, last) = rule.translated.ends()?;
            AddressRange::new(Addr::from(first), Addr::from(last)).map(NatAction::Snat)
        }
        ActionDefinition::Dnat => {
            let original = rule.service.as_ref().and_then(|s| s.ports.first());
            let ports = rule.translated_port.map(|to| PortMap {
                original: original.map_or(to.first(), |ports| ports.first()),
                translated: (to.first(), to.last()),
            });
            Some(NatAction::Dnat { to: network()?, ports })
        }
        ActionDefinition::Reflexive => {
            Some(NatAction::Reflexive { internal: prefix(rule.source)?, external: network()? })
        }
    }
}
