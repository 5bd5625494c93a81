//! The NAT rules of the Tier-1 in the order of their evaluation: the generated ones (F9, F10) or the table that the user wrote.

use std::cmp::Reverse;
use std::net::IpAddr;

use definitions::own::{NatAction, NatMatch, SupervisorClusterSpec};
use ipnet::IpNet;

use super::Atlas;
use crate::counters::Counter;

/// What a NAT rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    /// The source stays.
    NoSnat,
    /// The source becomes this.
    Snat(IpAddr),
}

/// A NAT rule of the Tier-1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatRule {
    /// Lower comes first.
    pub priority: u32,
    /// Packets from one of these; `None`: from anywhere.
    pub from: Option<Vec<IpNet>>,
    /// To here; `None`: to anywhere.
    pub to: Option<IpNet>,
    /// What becomes of them.
    pub kind: NatKind,
    /// It is a namespace's own: its sources are the segments that there are.
    pub of_namespace: bool,
}

impl NatRule {
    pub(crate) fn matches(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&src)))
            && self.to.is_none_or(|net| net.contains(&dst))
    }

    pub(crate) fn counter(&self) -> Counter {
        let from = match self.from.as_deref() {
            Some([net]) if !self.of_namespace => Some(*net),
            _ => None,
        };
        Counter::Nat { priority: self.priority, from, to: self.to, kind: self.kind }
    }

    /// In this order: ascending priority; at equal ones the more specific source, then destination, then NO_SNAT before SNAT
    /// (docs/choices.md).
    fn order(&self) -> (u32, Reverse<u8>, Reverse<u8>, NatKind) {
        let longest = self.from.iter().flatten().map(IpNet::prefix_len).max();
        let to = self.to.map_or(0, |net| net.prefix_len() + 1);
        (self.priority, Reverse(longest.map_or(0, |len| len + 1)), Reverse(to), self.kind)
    }
}

/// NO_SNAT, SNAT with a source, SNAT of everything, where no priority is stated (docs/choices.md).
const UNSTATED: (u32, u32, u32) = (100, 1000, 2000);

fn side(side: NatMatch) -> Option<IpNet> {
    match side {
        NatMatch::Any => None,
        NatMatch::Network(net) => Some(net.trunc()),
    }
}

/// All rules, in order.
pub(super) fn rules(
    spec: &SupervisorClusterSpec,
    nat: bool,
    atlas: &Atlas,
) -> Result<Vec<NatRule>, String> {
    let mut rules = match &spec.tier1.nat_rules {
        Some(table) => written(table)?,
        None if nat => generated(spec, atlas),
        None => Vec::new(),
    };
    for exemption in &spec.tier1.no_snat {
        rules.push(NatRule {
            priority: UNSTATED.0,
            from: side(exemption.source).map(|net| vec![net]),
            to: side(exemption.destination),
            kind: NatKind::NoSnat,
            of_namespace: false,
        });
    }
    rules.sort_by_key(NatRule::order);
    Ok(rules)
}

fn written(table: &[definitions::own::NatRule]) -> Result<Vec<NatRule>, String> {
    let rule = |rule: &definitions::own::NatRule| {
        let (unstated, kind) = match (rule.action, rule.translated.ends(), &rule.service) {
            (NatAction::NoSnat, None, None) => (UNSTATED.0, NatKind::NoSnat),
            (NatAction::Snat, Some((to, last)), None) if to == last => {
                let unstated = if side(rule.source).is_some() { UNSTATED.1 } else { UNSTATED.2 };
                (unstated, NatKind::Snat(to))
            }
            (action, ..) => {
                let to = rule.translated;
                return Err(format!(
                    "the model knows no NAT rule {action} to {to}, nor one for a service"
                ));
            }
        };
        Ok(NatRule {
            priority: rule.priority.unwrap_or(unstated),
            from: side(rule.source).map(|net| vec![net]),
            to: side(rule.destination),
            kind,
            of_namespace: false,
        })
    };
    table.iter().map(rule).collect()
}

fn generated(spec: &SupervisorClusterSpec, atlas: &Atlas) -> Vec<NatRule> {
    let pods = IpNet::V4(spec.pod_cidr.trunc());
    let mut rules = Vec::new();
    for to in [pods, IpNet::V4(spec.egress_cidr.trunc())] {
        let from = Some(vec![pods]);
        rules.push(NatRule {
            priority: UNSTATED.0,
            from,
            to: Some(to),
            kind: NatKind::NoSnat,
            of_namespace: false,
        });
    }
    for (namespace, address) in &atlas.snat {
        let own = atlas.blocks.iter().filter(|b| b.namespace.as_ref() == Some(namespace));
        let from = own.flat_map(|b| b.nets.iter().copied()).filter(|net| net.addr().is_ipv4());
        rules.push(NatRule {
            priority: UNSTATED.1,
            from: Some(from.collect()),
            to: None,
            kind: NatKind::Snat(*address),
            of_namespace: true,
        });
    }
    // The system has the first address of the pool.
    if let Some(address) = spec.egress_cidr.hosts().next() {
        let kind = NatKind::Snat(address.into());
        let priority = UNSTATED.2;
        rules.push(NatRule { priority, from: None, to: None, kind, of_namespace: false });
    }
    rules
}
