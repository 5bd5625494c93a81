//! The rule model of the distributed firewall.
//!
//! NSX order: categories Ethernet, Emergency, Infrastructure, Environment, Application, then the
//! default; inside a category top down; the first match decides. A Kubernetes NetworkPolicy becomes
//! an *allow* section and an *isolation* section of this same model. The category Ethernet has rules of
//! its own shape ([`EthernetRule`]).

use super::EthernetRule;
use super::classifier::{Asked, Compiled};
use crate::session::FloodLimits;
use packet::{Addr, Headers, protocol};
use std::fmt;
use std::sync::Arc;

/// What a rule does with a flow that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass, and remember the session.
    Allow,
    /// Discard in silence.
    Drop,
    /// Discard and tell the sender: TCP RST, otherwise ICMP administratively prohibited.
    Reject,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Action::Allow => "ALLOW",
            Action::Drop => "DROP",
            Action::Reject => "REJECT",
        })
    }
}

/// Rule category, in the order of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Quarantine and the like.
    Emergency,
    /// Shared services: DNS, DHCP, the control plane.
    Infrastructure,
    /// Between zones.
    Environment,
    /// Between applications: NetworkPolicy lives here.
    Application,
    /// What applies when nothing else did.
    Default,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Category::Emergency => "Emergency",
            Category::Infrastructure => "Infrastructure",
            Category::Environment => "Environment",
            Category::Application => "Application",
            Category::Default => "Default",
        })
    }
}

/// Direction of a rule as seen from the workload it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the workload.
    In,
    /// From the workload.
    Out,
    /// Both.
    InOut,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::In => "IN",
            Direction::Out => "OUT",
            Direction::InOut => "IN_OUT",
        })
    }
}

/// A set of addresses: sorted, disjoint, inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    ranges: Vec<(Addr, Addr)>,
}

impl AddressSet {
    /// Every address of both families.
    #[must_use]
    pub fn any() -> AddressSet {
        AddressSet { ranges: vec![(Addr(0), Addr(u128::MAX))] }
    }

    /// The union of inclusive ranges, in any order; a range whose end lies before its start is empty.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Addr, Addr)>) -> AddressSet {
        let mut sorted: Vec<(Addr, Addr)> = ranges.into_iter().filter(|(a, b)| a <= b).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(Addr, Addr)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first.0 <= end.0.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        AddressSet { ranges: merged }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn without(&self, other: &AddressSet) -> AddressSet {
        let mut out = Vec::new();
        for &(first, last) in &self.ranges {
            let mut from = Some(first);
            for &(cut, cut_last) in &other.ranges {
                let Some(start) = from else { break };
                if cut_last < start {
                    continue;
                }
                if cut > last {
                    break;
                }
                if cut > start {
                    out.push((start, Addr(cut.0 - 1)));
                }
                from = cut_last.0.checked_add(1).map(Addr).filter(|next| *next <= last);
            }
            if let Some(start) = from {
                out.push((start, last));
            }
        }
        AddressSet::from_ranges(out)
    }

    /// What is in this set, in `other`, or in both.
    #[must_use]
    pub fn union(&self, other: &AddressSet) -> AddressSet {
        AddressSet::from_ranges(self.ranges.iter().chain(&other.ranges).copied())
    }

    /// Whether `addr` is in the set.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= addr);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|(_, last)| addr <= *last)
    }

    /// Whether no address is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether every address is in the set.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.ranges == [(Addr(0), Addr(u128::MAX))]
    }

    /// The ranges, sorted and disjoint.
    #[must_use]
    pub fn ranges(&self) -> &[(Addr, Addr)] {
        &self.ranges
    }
}

/// Ports or ICMP types that a service names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePorts {
    /// All of the protocol.
    Any,
    /// Inclusive ranges of destination ports.
    Destination(Vec<(u16, u16)>),
    /// An ICMP type, and a code if given.
    Icmp(IcmpMatch),
}

/// An ICMP type and perhaps a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMatch {
    /// Type octet.
    pub kind: u8,
    /// Code octet; `None` is any.
    pub code: Option<u8>,
}

/// One protocol with its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// IP protocol number.
    pub protocol: u8,
    /// Which of its ports.
    pub ports: ServicePorts,
}

impl Service {
    /// Whether a flow with these fields is of the service; `icmp` is type and code.
    pub(super) fn matches(&self, protocol: u8, dst_port: u16, icmp: Option<(u8, u8)>) -> bool {
        self.protocol == protocol
            && match &self.ports {
                ServicePorts::Any => true,
                ServicePorts::Destination(ranges) => {
                    ranges.iter().any(|(a, b)| (*a..=*b).contains(&dst_port))
                }
                ServicePorts::Icmp(m) => icmp
                    .is_some_and(|(kind, code)| m.kind == kind && m.code.is_none_or(|c| c == code)),
            }
    }
}

/// Ports as `TCP/80,443-445`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            protocol::TCP => "TCP".to_owned(),
            protocol::UDP => "UDP".to_owned(),
            protocol::SCTP => "SCTP".to_owned(),
            protocol::ICMP => "ICMP".to_owned(),
            protocol::ICMPV6 => "ICMPv6".to_owned(),
            other => format!("IP-{other}"),
        };
        f.write_str(&name)?;
        match &self.ports {
            ServicePorts::Any => Ok(()),
            ServicePorts::Destination(ranges) => {
                for (i, (a, b)) in ranges.iter().enumerate() {
                    f.write_str(if i == 0 { "/" } else { "," })?;
                    if a == b { write!(f, "{a}")? } else { write!(f, "{a}-{b}")? }
                }
                Ok(())
            }
            ServicePorts::Icmp(m) => match m.code {
                Some(code) => write!(f, "/{}:{code}", m.kind),
                None => write!(f, "/{}", m.kind),
            },
        }
    }
}

/// One firewall rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Number that users and drop records name; unique, and kept while the rule lives.
    pub id: u32,
    /// Name, for instance `np-banking-web-allow-0`.
    pub name: String,
    /// Section it belongs to.
    pub section: String,
    /// The object that it was made from, e.g. `NetworkPolicy banking/web`.
    pub origin: String,
    /// Category, the first key of the order.
    pub category: Category,
    /// Direction.
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
    /// TCP strict: a session begins with a SYN. Otherwise a connection that is under way is picked up
    /// at its next segment with data or an acknowledgment, as NSX does by default.
    pub strict: bool,
    /// The workloads it is applied to, for people; the vNICs list their rules.
    pub applied_to_text: String,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// Whether the rule matches a flow with these fields; `icmp` is type and code.
    #[must_use]
    pub fn matches(
        &self,
        src: Addr,
        dst: Addr,
        protocol: u8,
        dst_port: u16,
        icmp: Option<(u8, u8)>,
    ) -> bool {
        (self.services.is_empty()
            || self.services.iter().any(|s| s.matches(protocol, dst_port, icmp)))
            && self.source.contains(src)
            && self.destination.contains(dst)
    }
}

/// What becomes of live sessions when the rules change. The category Ethernet keeps no state: its rules
/// always hold at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyChange {
    /// They are judged again by the rules that are now, and stop if these refuse them.
    #[default]
    Reevaluate,
    /// They pass by the rule that they began with until they end, as NSX's do until they expire and
    /// OVN's with `persist-established`.
    Keep,
}

/// All rules in the order of evaluation. A flow that no rule of a vNIC matches is allowed, which is
/// NSX's default layer-3 rule; definitions that isolate bring their own drop rules.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    /// The rules of the category Ethernet, which come first.
    pub ethernet: Vec<EthernetRule>,
    /// The rules of all other categories.
    pub rules: Vec<Rule>,
    /// What becomes of live sessions.
    pub on_change: PolicyChange,
    /// Most flows of a vNIC.
    pub flood: FloodLimits,
    /// What looks rules up in long lists. It is made when it is first needed.
    pub compiled: Compiled,
}

impl Firewall {
    /// Name and origin of the rule with a number, of whatever category.
    #[must_use]
    pub fn identity(&self, id: u32) -> Option<(&str, &str)> {
        let ethernet = self.ethernet.iter().find(|rule| rule.id == id);
        let ethernet = ethernet.map(|rule| (rule.name.as_str(), rule.origin.as_str()));
        ethernet.or_else(|| {
            let rule = self.rules.iter().find(|rule| rule.id == id)?;
            Some((&rule.name, &rule.origin))
        })
    }

    /// The first of the rules in `list` (indices into [`Firewall::rules`]) that matches a flow; `None` lets it
    /// pass. `epoch` is the snapshot's: rules do not change without it.
    #[must_use]
    pub fn rule(&self, epoch: u64, list: &Arc<[u32]>, asked: &Asked) -> Option<&Rule> {
        self.compiled.first(epoch, &self.rules, list, asked)
    }

    /// The first of the Ethernet rules in `list` (indices into [`Firewall::ethernet`]) that matches a
    /// frame; `None` lets it pass.
    #[must_use]
    pub fn ethernet_rule(&self, list: &[u32], headers: &Headers) -> Option<&EthernetRule> {
        list.iter()
            .filter_map(|i| self.ethernet.get(*i as usize))
            .find(|rule| rule.matches(headers))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(ranges: &[(&str, &str)]) -> AddressSet {
        AddressSet::from_ranges(
            ranges.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())),
        )
    }

    #[test]
    fn ranges_merge_and_sort() {
        let s =
            set(&[("10.0.0.5", "10.0.0.9"), ("10.0.0.1", "10.0.0.4"), ("10.0.0.20", "10.0.0.2")]);
        assert_eq!(s, set(&[("10.0.0.1", "10.0.0.9")]));
        assert!(s.contains("10.0.0.1".parse().unwrap()));
        assert!(s.contains("10.0.0.9".parse().unwrap()));
        assert!(!s.contains("10.0.0.10".parse().unwrap()));
        assert!(!s.contains("10.0.0.0".parse().unwrap()));
        assert!(!AddressSet::default().contains("10.0.0.0".parse().unwrap()));
    }

    #[test]
    fn except_cuts_out_of_the_middle_and_at_both_ends() {
        let s = set(&[("10.0.0.0", "10.0.0.255")]);
        assert_eq!(
            s.without(&set(&[("10.0.0.64", "10.0.0.127")])),
            set(&[("10.0.0.0", "10.0.0.63"), ("10.0.0.128", "10.0.0.255")])
        );
        assert_eq!(
            s.without(&set(&[("9.0.0.0", "10.0.0.0"), ("10.0.0.255", "11.0.0.0")])),
            set(&[("10.0.0.1", "10.0.0.254")])
        );
        assert!(s.without(&AddressSet::any()).is_empty());
        assert_eq!(s.without(&AddressSet::default()), s);
    }

    #[test]
    fn a_service_matches_its_protocol_and_ports_only() {
        let web = Service {
            protocol: protocol::TCP,
            ports: ServicePorts::Destination(vec![(80, 80), (8000, 8010)]),
        };
        assert!(web.matches(protocol::TCP, 80, None));
        assert!(web.matches(protocol::TCP, 8010, None));
        assert!(!web.matches(protocol::TCP, 81, None));
        assert!(!web.matches(protocol::UDP, 80, None));
        // SCTP must not be treated as TCP (Kubernetes e2e netpol).
        assert!(!web.matches(protocol::SCTP, 80, None));
        assert_eq!(web.to_string(), "TCP/80,8000-8010");
        let echo = Service {
            protocol: protocol::ICMP,
            ports: ServicePorts::Icmp(IcmpMatch { kind: 8, code: None }),
        };
        assert!(echo.matches(protocol::ICMP, 0, Some((8, 0))));
        assert!(!echo.matches(protocol::ICMP, 0, Some((13, 0))));
    }
}
