//! NAT rules of a gateway.
//!
//! NSX evaluates by ascending priority. Equal priorities are undefined there; here they are ordered
//! by specificity (more specific source, then destination), then by name, so that the order of
//! definitions never matters. NAT applies only to flows that cross the uplink, source rules only
//! outwards.

use super::Prefix;
use packet::Addr;
use std::fmt;

/// What a NAT rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatAction {
    /// Translate the source to this address, keeping the port if it is free.
    Snat(Addr),
    /// Stop evaluation: the flow keeps its source.
    NoSnat,
    /// An SNAT rule for which no address could be had: the flow is dropped (`no-nat-rule`), and never leaves with the
    /// address of a rule behind it.
    NoAddress,
}

impl fmt::Display for NatAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NatAction::Snat(_) | NatAction::NoAddress => "SNAT",
            NatAction::NoSnat => "NO_SNAT",
        })
    }
}

/// One NAT rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// Number that users and drop records name.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Lower comes first.
    pub priority: u32,
    /// Sources; `None` is any.
    pub source: Option<Vec<Prefix>>,
    /// Destinations; `None` is any.
    pub destination: Option<Prefix>,
    /// What it does.
    pub action: NatAction,
}

impl NatRule {
    /// Whether a flow from `src` to `dst` matches. A rule translates within a family only.
    #[must_use]
    pub fn matches(&self, src: Addr, dst: Addr) -> bool {
        let same_family = match self.action {
            NatAction::Snat(to) => to.is_v4() == src.is_v4(),
            NatAction::NoSnat | NatAction::NoAddress => true,
        };
        same_family
            && self.source.as_ref().is_none_or(|set| set.iter().any(|p| p.contains(src)))
            && self.destination.is_none_or(|p| p.contains(dst))
    }

    fn order(&self) -> (u32, std::cmp::Reverse<u8>, std::cmp::Reverse<u8>, &str) {
        let source = self
            .source
            .iter()
            .flatten()
            .map(|p| p.prefix_len().saturating_add(1))
            .min()
            .unwrap_or(0);
        let destination = self.destination.map_or(0, |p| p.prefix_len().saturating_add(1));
        (self.priority, std::cmp::Reverse(source), std::cmp::Reverse(destination), &self.name)
    }
}

/// The NAT rules of a gateway in the order of evaluation.
#[derive(Clone, Debug, Default)]
pub struct NatTable {
    rules: Vec<NatRule>,
}

impl NatTable {
    /// Brings rules into the order of evaluation.
    #[must_use]
    pub fn new(mut rules: Vec<NatRule>) -> NatTable {
        rules.sort_by(|a, b| a.order().cmp(&b.order()));
        NatTable { rules }
    }

    /// The rule for a flow from `src` to `dst`.
    #[must_use]
    pub fn lookup(&self, src: Addr, dst: Addr) -> Option<&NatRule> {
        self.rules.iter().find(|r| r.matches(src, dst))
    }

    /// The rules in the order of evaluation.
    #[must_use]
    pub fn rules(&self) -> &[NatRule] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The three rules of the article (F9), in its order.
    fn article() -> Vec<NatRule> {
        let rule =
            |id, name: &str, priority, source: Option<&str>, destination: Option<&str>, action| {
                NatRule {
                    id,
                    name: name.into(),
                    priority,
                    source: source.map(|s| vec![s.parse().unwrap()]),
                    destination: destination.map(|d| d.parse().unwrap()),
                    action,
                }
            };
        vec![
            rule(1, "snat", 1000, None, None, NatAction::Snat("172.16.2.1".parse().unwrap())),
            rule(
                2,
                "no-snat-pods",
                100,
                Some("10.244.0.0/20"),
                Some("10.244.0.0/20"),
                NatAction::NoSnat,
            ),
            rule(
                3,
                "no-snat-egress",
                100,
                Some("10.244.0.0/20"),
                Some("172.16.2.0/24"),
                NatAction::NoSnat,
            ),
        ]
    }

    #[test]
    fn the_articles_rules_work_in_every_order() {
        let a = article();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let table = NatTable::new(order.iter().map(|i| a[*i].clone()).collect());
            let hit = |src: &str, dst: &str| {
                table.lookup(src.parse().unwrap(), dst.parse().unwrap()).unwrap().id
            };
            assert_eq!(hit("10.244.0.5", "10.244.1.9"), 2);
            assert_eq!(hit("10.244.0.5", "172.16.2.7"), 3);
            assert_eq!(hit("10.244.0.5", "192.168.10.10"), 1);
            assert_eq!(hit("10.244.16.1", "10.244.0.5"), 1);
        }
    }

    #[test]
    fn equal_priority_prefers_the_more_specific() {
        let mut a = article();
        for rule in &mut a {
            rule.priority = 7;
        }
        let table = NatTable::new(a);
        let names: Vec<&str> = table.rules().iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["no-snat-egress", "no-snat-pods", "snat"]);
    }

    #[test]
    fn a_rule_without_an_address_ends_the_search() {
        let mut rules = article();
        rules.push(NatRule {
            id: 4,
            name: "withheld".into(),
            priority: 600,
            source: Some(vec!["10.244.0.5/32".parse().unwrap()]),
            destination: None,
            action: NatAction::NoAddress,
        });
        let table = NatTable::new(rules);
        let hit = |src: &str, dst: &str| {
            table.lookup(src.parse().unwrap(), dst.parse().unwrap()).unwrap().id
        };
        assert_eq!(hit("10.244.0.5", "192.168.10.10"), 4);
        assert_eq!(hit("10.244.0.6", "192.168.10.10"), 1);
        // What keeps its source needs no address.
        assert_eq!(hit("10.244.0.5", "10.244.1.9"), 2);
    }

    #[test]
    fn no_rule_no_match() {
        assert!(NatTable::default().lookup(Addr::v4(1), Addr::v4(2)).is_none());
    }
}
