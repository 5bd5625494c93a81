//! NAT rules of a gateway.
//!
//! NSX evaluates by ascending priority, source rules (SNAT, NO_SNAT) and destination rules (DNAT,
//! NO_DNAT) each among themselves; a REFLEXIVE rule stands in both lists. Equal priorities are
//! undefined there; here they are ordered by specificity (more specific source, then destination,
//! then a service before none), then by name, so that the order of definitions never matters. NAT
//! applies to flows that cross the uplink, and to those that turn around at the gateway because an
//! inside host uses an external address (RFC 4787, REQ-9).

use super::{AddressSet, Prefix, Service, ServicePorts};
use crate::tuple::Tuple;
use packet::Addr;
use std::fmt;

/// Addresses in a row, both ends included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: Addr,
    last: Addr,
}

impl AddressRange {
    /// One address.
    #[must_use]
    pub fn host(address: Addr) -> AddressRange {
        AddressRange { first: address, last: address }
    }

    /// From `first` to `last`; `None` if it ends before it begins or mixes families.
    #[must_use]
    pub fn new(first: Addr, last: Addr) -> Option<AddressRange> {
        (first <= last && first.is_v4() == last.is_v4()).then_some(AddressRange { first, last })
    }

    /// The first address.
    #[must_use]
    pub fn first(self) -> Addr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(self) -> Addr {
        self.last
    }

    /// How many addresses lie behind the first one.
    #[must_use]
    pub fn span(self) -> u128 {
        self.last.0.saturating_sub(self.first.0)
    }

    /// The address `offset` places behind the first one, going around at the end.
    #[must_use]
    pub fn around(self, offset: u128) -> Addr {
        // A span of the whole space has no successor to divide by, and needs none.
        let offset = self.span().checked_add(1).map_or(offset, |size| offset % size);
        Addr(self.first.0.saturating_add(offset))
    }
}

impl From<Prefix> for AddressRange {
    fn from(prefix: Prefix) -> AddressRange {
        AddressRange { first: prefix.first(), last: prefix.last() }
    }
}

/// One address, or `FIRST-LAST`.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Destination ports and what becomes of them: one port, or a range of the same length by offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMap {
    /// First port that the rule's service matches.
    pub original: u16,
    /// First and last port that they become.
    pub translated: (u16, u16),
}

impl PortMap {
    /// What `port` becomes.
    #[must_use]
    pub fn apply(self, port: u16) -> u16 {
        let (first, last) = self.translated;
        first.saturating_add(port.saturating_sub(self.original)).min(last)
    }
}

/// What a NAT rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatAction {
    /// Translate the source to one of these addresses, keeping the port if it is free.
    Snat(AddressRange),
    /// Stop evaluation: the flow keeps its source.
    NoSnat,
    /// An SNAT rule for which no address could be had: the flow is dropped (`no-nat-rule`), and never leaves with the
    /// address of a rule behind it.
    NoAddress,
    /// Translate the destination: to the one address of a host prefix, or by offset to a network of
    /// the rule's destination's size.
    Dnat {
        /// The new destination.
        to: Prefix,
        /// The new destination port; `None` keeps it.
        ports: Option<PortMap>,
    },
    /// Stop evaluation: the flow keeps its destination.
    NoDnat,
    /// Translate one to one and by offset, without sessions: the source of what leaves, the
    /// destination of what comes. Both have the same size.
    Reflexive {
        /// The inside.
        internal: Prefix,
        /// What the outside sees in its place.
        external: Prefix,
    },
}

impl fmt::Display for NatAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NatAction::Snat(_) | NatAction::NoAddress => "SNAT",
            NatAction::NoSnat => "NO_SNAT",
            NatAction::Dnat { .. } => "DNAT",
            NatAction::NoDnat => "NO_DNAT",
            NatAction::Reflexive { .. } => "REFLEXIVE",
        })
    }
}

/// Which of a translated flow's addresses the gateway firewall judges (NSX: `firewall_match`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirewallMatch {
    /// Those of the inside: of a destination after, of a source before its translation.
    #[default]
    Internal,
    /// Those that the outside sees.
    External,
    /// None: the flow passes by the firewall.
    Bypass,
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
    /// Service; `None` is any.
    pub service: Option<Service>,
    /// What the gateway firewall judges of a flow that the rule translates.
    pub firewall_match: FirewallMatch,
    /// What it does.
    pub action: NatAction,
}

impl NatRule {
    /// A rule for every source, destination and service.
    #[must_use]
    pub fn new(id: u32, name: impl Into<String>, priority: u32, action: NatAction) -> NatRule {
        NatRule {
            id,
            name: name.into(),
            priority,
            source: None,
            destination: None,
            service: None,
            firewall_match: FirewallMatch::Internal,
            action,
        }
    }

    /// Whether a flow matches; `icmp` is type and code. A rule translates within a family only.
    fn matches(&self, flow: Tuple, icmp: Option<(u8, u8)>) -> bool {
        self.is_about(flow)
            && self.service.as_ref().is_none_or(|s| s.matches(flow.protocol, flow.dst_port, icmp))
    }

    /// Whether the addresses of a flow are the rule's.
    fn is_about(&self, flow: Tuple) -> bool {
        let same_family = match self.action {
            NatAction::Snat(to) => to.first().is_v4() == flow.src.is_v4(),
            NatAction::Dnat { to, .. } => to.first().is_v4() == flow.dst.is_v4(),
            NatAction::NoSnat
            | NatAction::NoAddress
            | NatAction::NoDnat
            | NatAction::Reflexive { .. } => true,
        };
        same_family
            && self.source.as_ref().is_none_or(|set| set.iter().any(|p| p.contains(flow.src)))
            && self.destination.is_none_or(|p| p.contains(flow.dst))
    }

    /// Whether it gives a flow that comes as `before` what this is as `after`, but for the source port: of
    /// source rules the source, of destination rules and REFLEXIVE the destination. What exempts gives only
    /// what changes neither.
    #[must_use]
    pub fn gives(&self, before: &Tuple, after: &Tuple) -> bool {
        // A source rule sees the destination that another rule has given.
        let seen = match self.action {
            NatAction::Snat(_) | NatAction::NoSnat => {
                Tuple { dst: after.dst, dst_port: after.dst_port, ..*before }
            }
            _ => *before,
        };
        let translates = match self.action {
            NatAction::Snat(to) => (to.first()..=to.last()).contains(&after.src),
            NatAction::NoSnat => after.src == before.src,
            NatAction::NoDnat => {
                (after.src, after.dst, after.dst_port) == (before.src, before.dst, before.dst_port)
            }
            NatAction::NoAddress => false,
            NatAction::Dnat { .. } | NatAction::Reflexive { .. } => {
                self.translate_destination(*before).target() == after.target()
            }
        };
        // What type of query a flow began with is not asked again: it is one flow of its protocol.
        let serves = |s: &Service| {
            let query = matches!(s.ports, ServicePorts::Icmp(_)) && s.protocol == before.protocol;
            query || s.matches(before.protocol, seen.dst_port, None)
        };
        translates
            && match self.action {
                NatAction::Reflexive { external, .. } => external.contains(before.dst),
                _ => self.is_about(seen) && self.service.as_ref().is_none_or(serves),
            }
    }

    /// Whether it gives a flow whose destination changed from `before` to `after` the source that it has as
    /// `after`. Of a hairpin a source rule sees the destination that was asked for, of what leaves by the
    /// uplink the one that was given.
    #[must_use]
    pub fn gives_source(&self, before: &Tuple, after: &Tuple) -> bool {
        match self.action {
            NatAction::Snat(_) => {
                self.gives(before, &Tuple { src: after.src, ..*before })
                    || self.gives(before, after)
            }
            NatAction::Reflexive { external, .. } => external.contains(after.src),
            NatAction::NoSnat
            | NatAction::NoDnat
            | NatAction::NoAddress
            | NatAction::Dnat { .. } => false,
        }
    }

    /// Whether the rule changes an address and remembers it.
    #[must_use]
    pub fn translates_sessions(&self) -> bool {
        matches!(self.action, NatAction::Snat(_) | NatAction::Dnat { .. })
    }

    /// A flow with the destination that the rule gives it.
    #[must_use]
    pub fn translate_destination(&self, flow: Tuple) -> Tuple {
        match self.action {
            NatAction::Dnat { to, ports } => {
                let from = self.destination.filter(|p| p.prefix_len() == to.prefix_len());
                let dst = from.map_or(to.first(), |from| offset(flow.dst, from, to));
                let dst_port = ports.map_or(flow.dst_port, |map| map.apply(flow.dst_port));
                Tuple { dst, dst_port, ..flow }
            }
            NatAction::Reflexive { internal, external } => {
                Tuple { dst: offset(flow.dst, external, internal), ..flow }
            }
            NatAction::Snat(_) | NatAction::NoSnat | NatAction::NoAddress | NatAction::NoDnat => {
                flow
            }
        }
    }

    fn order(&self) -> impl Ord + '_ {
        let length = |p: &Prefix| p.prefix_len().saturating_add(1);
        let mut source = self.source.iter().flatten().map(length).min().unwrap_or(0);
        let mut destination = self.destination.as_ref().map_or(0, length);
        if let NatAction::Reflexive { internal, external } = &self.action {
            (source, destination) = (length(internal), length(external));
        }
        (
            self.priority,
            std::cmp::Reverse((source, destination, self.service.is_some())),
            self.name.as_str(),
        )
    }
}

/// The address at the same place in `to` as `address` has in `from`.
#[must_use]
pub fn offset(address: Addr, from: Prefix, to: Prefix) -> Addr {
    let at = address.0.saturating_sub(from.first().0);
    Addr(to.first().0.saturating_add(at).min(to.last().0))
}

/// The NAT rules of a gateway in the order of evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatTable {
    rules: Vec<NatRule>,
    /// Places of the rules that decide about sources.
    sources: Vec<usize>,
    /// Places of the rules that decide about destinations.
    destinations: Vec<usize>,
    /// What the outside knows of the inside.
    external: AddressSet,
    /// Destinations that DNAT rules give.
    targets: AddressSet,
}

impl NatTable {
    /// Brings rules into the order of evaluation.
    #[must_use]
    pub fn new(mut rules: Vec<NatRule>) -> NatTable {
        rules.sort_by(|a, b| a.order().cmp(&b.order()));
        let places = |wanted: fn(&NatAction) -> bool| {
            let places = rules.iter().enumerate().filter(|(_, r)| wanted(&r.action));
            places.map(|(i, _)| i).collect()
        };
        let sources = places(|a| {
            matches!(
                a,
                NatAction::Snat(_)
                    | NatAction::NoSnat
                    | NatAction::NoAddress
                    | NatAction::Reflexive { .. }
            )
        });
        let destinations = places(|a| {
            matches!(a, NatAction::Dnat { .. } | NatAction::NoDnat | NatAction::Reflexive { .. })
        });
        let external = AddressSet::from_ranges(rules.iter().filter_map(|r| match r.action {
            NatAction::Snat(to) => Some((to.first(), to.last())),
            NatAction::Dnat { .. } => r.destination.map(|p| (p.first(), p.last())),
            NatAction::Reflexive { external, .. } => Some((external.first(), external.last())),
            NatAction::NoSnat | NatAction::NoAddress | NatAction::NoDnat => None,
        }));
        let targets = AddressSet::from_ranges(rules.iter().filter_map(|r| match r.action {
            NatAction::Dnat { to, .. } => Some((to.first(), to.last())),
            _ => None,
        }));
        NatTable { rules, sources, destinations, external, targets }
    }

    /// The rule that decides about the source of a flow that leaves; `icmp` is type and code.
    #[must_use]
    pub fn source_rule(&self, flow: Tuple, icmp: Option<(u8, u8)>) -> Option<&NatRule> {
        let mut rules = self.sources.iter().filter_map(|i| self.rules.get(*i));
        rules.find(|r| match r.action {
            NatAction::Reflexive { internal, .. } => internal.contains(flow.src),
            _ => r.matches(flow, icmp),
        })
    }

    /// The rule that decides about the destination of a flow that comes; `icmp` is type and code.
    #[must_use]
    pub fn destination_rule(&self, flow: Tuple, icmp: Option<(u8, u8)>) -> Option<&NatRule> {
        let mut rules = self.destinations.iter().filter_map(|i| self.rules.get(*i));
        rules.find(|r| match r.action {
            NatAction::Reflexive { external, .. } => external.contains(flow.dst),
            _ => r.matches(flow, icmp),
        })
    }

    /// Whether some rule translates destinations to `address`.
    #[must_use]
    pub fn translates_to(&self, address: Addr) -> bool {
        self.targets.contains(address)
    }

    /// The rule with this number.
    #[must_use]
    pub fn rule(&self, id: u32) -> Option<&NatRule> {
        self.rules.iter().find(|r| r.id == id)
    }

    /// Whether the outside uses `address` for something inside: what is sent there and meets no rule
    /// or session ends here.
    #[must_use]
    pub fn owns(&self, address: Addr) -> bool {
        self.external.contains(address)
    }

    /// Whether a rule remembers what it decided: all but the REFLEXIVE ones do.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.rules.iter().any(|r| !matches!(r.action, NatAction::Reflexive { .. }))
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
    use crate::network::ServicePorts;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn a(text: &str) -> Addr {
        text.parse().unwrap()
    }

    fn flow(src: &str, dst: &str, dst_port: u16) -> Tuple {
        Tuple { src: a(src), dst: a(dst), protocol: 6, src_port: 40_000, dst_port }
    }

    /// The three rules of the article (F9), in its order.
    fn article() -> Vec<NatRule> {
        let pods = Some(vec![p("10.244.0.0/20")]);
        vec![
            NatRule::new(1, "snat", 1000, NatAction::Snat(AddressRange::host(a("172.16.2.1")))),
            NatRule {
                source: pods.clone(),
                destination: Some(p("10.244.0.0/20")),
                ..NatRule::new(2, "no-snat-pods", 100, NatAction::NoSnat)
            },
            NatRule {
                source: pods,
                destination: Some(p("172.16.2.0/24")),
                ..NatRule::new(3, "no-snat-egress", 100, NatAction::NoSnat)
            },
        ]
    }

    #[test]
    fn the_articles_rules_work_in_every_order() {
        let rules = article();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let table = NatTable::new(order.iter().map(|i| rules[*i].clone()).collect());
            let hit = |src: &str, dst: &str| {
                table.source_rule(flow(src, dst, 80), None).map(|r| r.id).unwrap()
            };
            assert_eq!(hit("10.244.0.5", "10.244.1.9"), 2);
            assert_eq!(hit("10.244.0.5", "172.16.2.7"), 3);
            assert_eq!(hit("10.244.0.5", "192.168.10.10"), 1);
            assert_eq!(hit("10.244.16.1", "10.244.0.5"), 1);
        }
    }

    #[test]
    fn equal_priority_prefers_the_more_specific() {
        let mut rules = article();
        for rule in &mut rules {
            rule.priority = 7;
        }
        let table = NatTable::new(rules);
        let names: Vec<&str> = table.rules().iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["no-snat-egress", "no-snat-pods", "snat"]);
    }

    #[test]
    fn a_rule_without_an_address_ends_the_search() {
        let mut rules = article();
        rules.push(NatRule {
            source: Some(vec![p("10.244.0.5/32")]),
            ..NatRule::new(4, "withheld", 600, NatAction::NoAddress)
        });
        let table = NatTable::new(rules);
        let hit = |src: &str, dst: &str| table.source_rule(flow(src, dst, 80), None).unwrap().id;
        assert_eq!(hit("10.244.0.5", "192.168.10.10"), 4);
        assert_eq!(hit("10.244.0.6", "192.168.10.10"), 1);
        // What keeps its source needs no address.
        assert_eq!(hit("10.244.0.5", "10.244.1.9"), 2);
    }

    #[test]
    fn no_rule_no_match() {
        let table = NatTable::default();
        assert!(table.source_rule(flow("10.0.0.1", "10.0.0.2", 1), None).is_none());
        assert!(table.destination_rule(flow("10.0.0.1", "10.0.0.2", 1), None).is_none());
        assert!(!table.owns(a("10.0.0.2")));
    }

    #[test]
    fn sources_and_destinations_are_decided_apart() {
        let dnat = |id, name: &str, priority, to: &str| NatRule {
            destination: Some(p("203.0.113.7/32")),
            ..NatRule::new(id, name, priority, NatAction::Dnat { to: p(to), ports: None })
        };
        let table = NatTable::new(vec![
            dnat(1, "late", 200, "10.0.0.1/32"),
            dnat(2, "early", 100, "10.0.0.2/32"),
            NatRule {
                source: Some(vec![p("198.51.100.0/24")]),
                ..NatRule::new(3, "exempt", 50, NatAction::NoDnat)
            },
            NatRule::new(4, "no-snat", 1, NatAction::NoSnat),
        ]);
        let hit =
            |src: &str| table.destination_rule(flow(src, "203.0.113.7", 80), None).unwrap().id;
        assert_eq!(hit("192.0.2.1"), 2);
        assert_eq!(hit("198.51.100.1"), 3);
        assert_eq!(table.source_rule(flow("10.0.0.1", "192.0.2.1", 80), None).unwrap().id, 4);
        assert!(table.owns(a("203.0.113.7")) && !table.owns(a("203.0.113.8")));
    }

    #[test]
    fn no_snat_gives_its_source_to_what_another_rule_sends_elsewhere() {
        let rule = NatRule {
            destination: Some(p("192.0.2.0/24")),
            ..NatRule::new(1, "keep", 1, NatAction::NoSnat)
        };
        let came = flow("10.0.0.1", "203.0.113.7", 80);
        let went = Tuple { dst: a("192.0.2.1"), ..came };
        assert!(rule.gives(&came, &went));
        assert!(!rule.gives(&came, &Tuple { src: a("10.0.0.2"), ..went }));
        assert!(!rule.gives(&came, &came));
    }

    #[test]
    fn a_service_restricts_a_rule() {
        let web = Service { protocol: 6, ports: ServicePorts::Destination(vec![(80, 81)]) };
        let rule = NatRule {
            destination: Some(p("203.0.113.7/32")),
            service: Some(web),
            ..NatRule::new(
                1,
                "web",
                100,
                NatAction::Dnat {
                    to: p("10.0.0.1/32"),
                    ports: Some(PortMap { original: 80, translated: (8080, 8081) }),
                },
            )
        };
        let table = NatTable::new(vec![rule]);
        let port = |port| {
            let tuple = flow("192.0.2.1", "203.0.113.7", port);
            table.destination_rule(tuple, None).map(|r| r.translate_destination(tuple).dst_port)
        };
        assert_eq!([port(79), port(80), port(81), port(82)], [None, Some(8080), Some(8081), None]);
        let udp = Tuple { protocol: 17, ..flow("192.0.2.1", "203.0.113.7", 80) };
        assert!(table.destination_rule(udp, None).is_none());
    }

    #[test]
    fn networks_are_translated_by_offset_and_a_host_takes_all() {
        let rule = |to: &str| NatRule {
            destination: Some(p("203.0.113.16/28")),
            ..NatRule::new(1, "d", 1, NatAction::Dnat { to: p(to), ports: None })
        };
        let flow = flow("192.0.2.1", "203.0.113.21", 80);
        assert_eq!(rule("10.0.0.32/28").translate_destination(flow).dst, a("10.0.0.37"));
        assert_eq!(rule("10.0.0.9/32").translate_destination(flow).dst, a("10.0.0.9"));
        let reflexive =
            NatAction::Reflexive { internal: p("fd00:1::/64"), external: p("2001:db8:1::/64") };
        let six = Tuple { dst: a("2001:db8:1::abcd"), ..flow };
        let reflexive = NatRule::new(1, "r", 1, reflexive);
        assert_eq!(reflexive.translate_destination(six).dst, a("fd00:1::abcd"));
    }

    #[test]
    fn ranges_go_around() {
        let range = AddressRange::new(a("172.16.2.10"), a("172.16.2.12")).unwrap();
        let all: Vec<String> = (0..4).map(|i| range.around(i).to_string()).collect();
        assert_eq!(all, ["172.16.2.10", "172.16.2.11", "172.16.2.12", "172.16.2.10"]);
        assert!(AddressRange::new(a("172.16.2.10"), a("172.16.2.9")).is_none());
        assert!(AddressRange::new(a("::1"), a("172.16.2.9")).is_none());
        assert_eq!(AddressRange::from(p("::/0")).around(7), a("::7"));
    }
}
