//! Rules that can never match: notices of `validate`, each with a packet that shows it.
//!
//! Two causes are looked for, and neither is told unless it is certain:
//! - an earlier stage rewrites what the rule names (`rewritten`);
//! - earlier rules take everything that it would, one of them alone or several together, at every vNIC that it
//!   is applied to (`shadowed`), or at its gateway (`gateway`).
//!
//! Only rules that somebody wrote are judged. What a policy or namespace isolates as a whole is meant to stand
//! behind other rules. Packets are IPv4; a rule of IPv6 addresses alone is told without one.

mod cover;
mod gateway;
mod rewritten;
mod shadowed;

pub(crate) use gateway::notice_shadowed_at_gateway;
pub(crate) use rewritten::notice_rewritten;
pub(crate) use shadowed::notice_shadowed;

use std::collections::BTreeMap;
use std::fmt;

use definitions::model::ObjectName;
use engine::network::{Direction, Rule, Service, ServicePorts};
use packet::{Addr, protocol};

use crate::pod_sets::{Applied, Places};
use crate::rules::Draft;

/// The most packets that are tried to show that a rule can never match.
const MAX_TRIED: usize = 64;

/// The rules at every vNIC.
#[derive(Clone, Copy)]
pub(crate) struct Vnics<'s, 'a> {
    /// All pods.
    pub(crate) places: &'s Places<'a>,
    /// All rules, numbered, in the order of evaluation.
    pub(crate) drafts: &'s [Draft],
    /// The rules of every pod that has any.
    pub(crate) applied: &'s BTreeMap<ObjectName, Applied>,
}

impl<'s> Vnics<'s, '_> {
    /// The rules in a direction at a pod's vNIC; none if it is on the exclude list.
    fn rules(&self, place: u32, direction: Direction) -> Option<&'s [u32]> {
        let (into, out) = self.applied.get(self.places.get(place)?.0)?;
        Some(if direction == Direction::Out { out } else { into })
    }

    /// The first vNIC that a rule is applied to, by its pod, and the rules there in the rule's direction.
    fn first(&self, draft: &Draft) -> Option<(u32, &'s [u32])> {
        draft.pods.iter().find_map(|at| Some((*at, self.rules(*at, draft.rule.direction)?)))
    }

    /// The rule of a list that decides about a packet.
    fn taker(&self, list: &[u32], packet: Packet) -> Option<&'s Rule> {
        let rules = list.iter().filter_map(|i| self.drafts.get(*i as usize));
        rules.map(|draft| &draft.rule).find(|rule| packet.is_matched_by(rule))
    }
}

/// The first packet of a flow, as a firewall judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    src: Addr,
    dst: Addr,
    protocol: u8,
    /// Destination port.
    port: u16,
}

impl Packet {
    fn is_matched_by(&self, rule: &Rule) -> bool {
        rule.matches(self.src, self.dst, self.protocol, self.port, None)
    }
}

/// As `10.244.0.18 > 10.244.0.19 TCP/80`.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = ServicePorts::Destination(vec![(self.port, self.port)]);
        let service = Service { protocol: self.protocol, ports };
        write!(f, "{} > {} {service}", self.src, self.dst)
    }
}

/// A protocol of the services and some of its ports; `TCP/80` where they are all. Policies name no ICMP types.
fn ports(services: &[Service]) -> (u8, Vec<u16>) {
    let protocol = services.first().map_or(protocol::TCP, |service| service.protocol);
    let ports = match services.first().map(|service| &service.ports) {
        None | Some(ServicePorts::Any) => vec![80],
        Some(ServicePorts::Destination(ranges)) => {
            ranges.iter().take(4).flat_map(|(first, last)| [*first, *last]).collect()
        }
        Some(ServicePorts::Icmp(_)) => Vec::new(),
    };
    (protocol, ports)
}

/// A rule by its number and name.
fn numbered(rule: &Rule) -> String {
    format!("rule {} '{}'", rule.id, rule.name)
}
