//! NAT rules of the Tier-1.
//!
//! The article's three rules (F9) belong to the system: pods keep their source towards pods and towards the
//! egress pool, and everything else leaves with the system's address. A namespace with an address of its own
//! (F10) has a rule before that last one, and Services with an SNAT pool one before the namespaces'. `spec.tier1.natRules` is the whole table in place of all of these. Rules
//! without a priority are ordered as NCP orders its own: NO_SNAT first, SNAT of every source last.

use std::collections::BTreeMap;
use std::net::IpAddr;

use definitions::own::{NatAction as ActionDefinition, NatMatch, NatRule as RuleDefinition};
use engine::network::{NatAction, NatRule, NatTable, Prefix};

use crate::addressing::{Cluster, SYSTEM, prefix4};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};
use crate::snat_pool;

/// Priority of NO_SNAT rules.
const NO_SNAT: u32 = 100;
/// Priority of SNAT rules with a source.
const SNAT: u32 = 1000;
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
            id: 0,
            name: format!("no-snat-{}", i + 1),
            priority: NO_SNAT,
            source: prefix(exemption.source).map(|p| vec![p]),
            destination: prefix(exemption.destination),
            action: NatAction::NoSnat,
        });
    }
    for (namespace, address) in cluster.snat.iter().filter(|(n, _)| *n != SYSTEM) {
        let source: Vec<Prefix> = cluster.blocks_of(namespace).map(|b| prefix4(b.net)).collect();
        if !source.is_empty() {
            rules.push(NatRule {
                id: 0,
                name: format!("{NAMESPACE_RULE}{namespace}"),
                priority: SNAT,
                source: Some(source),
                destination: None,
                action: NatAction::Snat(*address),
            });
        }
    }
    rules.extend(snat_pool::rules(cluster));
    let ordered = NatTable::new(rules);
    let numbers = number(&ordered, &subject, kept, messages);
    let numbered = ordered
        .rules()
        .iter()
        .map(|r| NatRule { id: numbers.get(&r.name).copied().unwrap_or(0), ..r.clone() })
        .collect();
    next.nat_rules = numbers;
    NatTable::new(numbered)
}

/// Numbers from 1, in the order of evaluation at first.
fn number(
    table: &NatTable,
    subject: &Subject,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<String, u32> {
    let pool = Pool {
        what: "number",
        name: "the NAT table".to_owned(),
        bands: vec![1..=u64::from(u32::MAX)],
        reserved: BTreeMap::new(),
        open: false,
        show: |n| n.to_string(),
    };
    let requests: Vec<Request> = table
        .rules()
        .iter()
        .map(|r| Request { owner: r.name.clone(), pin: None, subject: subject.clone() })
        .collect();
    let given =
        assign(&pool, &requests, |k| kept.nat_rules.get(k).copied().map(u64::from), messages);
    given.into_iter().filter_map(|(k, n)| Some((k, u32::try_from(n).ok()?))).collect()
}

/// The article's rules.
fn system(cluster: &Cluster<'_>) -> Vec<NatRule> {
    let spec = cluster.spec();
    let pods = prefix4(*spec.pod_cidr);
    let exempt = |name: &str, destination: Prefix| NatRule {
        id: 0,
        name: name.to_owned(),
        priority: NO_SNAT,
        source: Some(vec![pods]),
        destination: Some(destination),
        action: NatAction::NoSnat,
    };
    let mut rules =
        vec![exempt("no-snat-pods", pods), exempt("no-snat-egress", prefix4(*spec.egress_cidr))];
    if let Some(address) = cluster.snat.get(SYSTEM) {
        rules.push(NatRule {
            id: 0,
            name: "snat-system".to_owned(),
            priority: SNAT_ANY,
            source: None,
            destination: None,
            action: NatAction::Snat(*address),
        });
    }
    rules
}

fn prefix(side: NatMatch) -> Option<Prefix> {
    match side {
        NatMatch::Any => None,
        NatMatch::Network(net) => Some(Prefix::new(net.network().into(), net.prefix_len())),
    }
}

/// A rule as the user wrote it. Its name tells its content, so that a number stays with its rule when the
/// order of writing changes.
fn explicit(
    at: usize,
    rule: &RuleDefinition,
    subject: &Subject,
    messages: &mut Messages,
) -> Option<NatRule> {
    let action = match (rule.action, rule.translated) {
        (ActionDefinition::NoSnat, NatMatch::Any) => NatAction::NoSnat,
        (ActionDefinition::NoSnat, NatMatch::Network(_)) => {
            let message = format!("natRules[{at}]: NO_SNAT translates to nothing");
            messages.fault(subject, message, "remove 'translated'");
            return None;
        }
        (ActionDefinition::Snat, NatMatch::Network(net))
            if is_host(net.addr(), net.prefix_len()) =>
        {
            NatAction::Snat(net.addr().into())
        }
        (ActionDefinition::Snat, _) => {
            let message = format!("natRules[{at}]: SNAT needs one address to translate to");
            messages.fault(subject, message, "write for instance 'translated: 172.16.2.1'");
            return None;
        }
    };
    let stated = match (rule.action, rule.source) {
        (ActionDefinition::NoSnat, _) => NO_SNAT,
        (ActionDefinition::Snat, NatMatch::Network(_)) => SNAT,
        (ActionDefinition::Snat, NatMatch::Any) => SNAT_ANY,
    };
    let priority = rule.priority.unwrap_or(stated);
    Some(NatRule {
        id: 0,
        name: format!(
            "rule {priority} {} {} {} {}",
            action, rule.source, rule.destination, rule.translated
        ),
        priority,
        source: prefix(rule.source).map(|p| vec![p]),
        destination: prefix(rule.destination),
        action,
    })
}

fn is_host(address: IpAddr, len: u8) -> bool {
    len == if address.is_ipv4() { 32 } else { 128 }
}
