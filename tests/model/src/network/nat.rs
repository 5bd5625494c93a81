//! The NAT rules of the Tier-1 in the order of their evaluation: the generated ones (F9, F10) or the table that the user wrote.

use std::cmp::Reverse;
use std::net::IpAddr;

use definitions::Definitions;
use definitions::own::{FirewallMatch, NatAction, NatMatch, SupervisorClusterSpec};
use ipnet::IpNet;

use super::Atlas;
use crate::counters::Counter;
use crate::packet::{Flow, protocol};

/// Addresses in a row, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// The first one.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
}

impl Pool {
    pub(crate) fn of(address: IpAddr) -> Pool {
        Pool { first: address, last: address }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// All of them, one by one; a model's pools are short and of IPv4.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (u32::from(first)..=u32::from(last)).map(|n| IpAddr::V4(n.into())).collect()
            }
            _ => vec![self.first],
        }
    }
}

/// What a NAT rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    /// The source stays.
    NoSnat,
    /// The source becomes one of these.
    Snat(Pool),
    /// The source would become an address that its Service could not have: it does not leave.
    NoAddress,
    /// The destination stays.
    NoDnat,
    /// The destination becomes this address, or that of the same place in this network; its port the one in the same place of
    /// these, if they are more than one.
    Dnat(IpNet, Option<(u16, u16)>),
}

/// A protocol, and what of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    protocol: u8,
    /// None: all.
    ports: Vec<(u16, u16)>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
}

impl Service {
    pub(crate) fn of(service: &definitions::own::RuleService) -> Service {
        Service {
            protocol: service.protocol.0,
            ports: service.ports.iter().map(|range| (range.first(), range.last())).collect(),
            icmp_type: service.kind,
            icmp_code: service.code,
        }
    }

    /// `query` is the ICMP type; `None` stands for any.
    pub(crate) fn matches(&self, flow: Flow, query: Option<u8>) -> bool {
        // A flow's ICMP is that of its family.
        let is_v6_query = flow.protocol == protocol::ICMP && flow.src.is_ipv6();
        let number = if is_v6_query { protocol::ICMP6 } else { flow.protocol };
        self.protocol == number
            && (self.ports.is_empty() || self.range(flow.dst_port).is_some())
            && self.icmp_type.is_none_or(|kind| query.is_none_or(|query| query == kind))
            // Queries have no code but 0.
            && self.icmp_code.is_none_or(|code| query.is_none() || code == 0)
    }

    fn range(&self, port: u16) -> Option<(u16, u16)> {
        self.ports.iter().copied().find(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// A NAT rule of the Tier-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// Lower comes first.
    pub priority: u32,
    /// What the user called it.
    pub name: Option<String>,
    /// Packets from one of these; `None`: from anywhere.
    pub from: Option<Vec<IpNet>>,
    /// To here; `None`: to anywhere.
    pub to: Option<IpNet>,
    /// Of this service; `None`: of any.
    pub service: Option<Service>,
    /// What becomes of them.
    pub kind: NatKind,
    /// Which address of its flows the gateway's firewall judges.
    pub firewall_match: FirewallMatch,
    /// It is a namespace's own: its sources are the segments that there are.
    pub of_namespace: bool,
}

impl NatRule {
    /// Whether it is about the packets of a flow; `query` is their ICMP type, `None` any.
    pub(crate) fn matches(&self, flow: Flow, query: Option<u8>) -> bool {
        self.from.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&flow.src)))
            && self.to.is_none_or(|net| net.contains(&flow.dst))
            && self.service.as_ref().is_none_or(|service| service.matches(flow, query))
    }

    /// Whether it is of the list of destination rules; else of that of source rules.
    pub(crate) fn is_about_destinations(&self) -> bool {
        matches!(self.kind, NatKind::NoDnat | NatKind::Dnat(..))
    }

    /// The flow with the destination that DNAT gives it.
    pub(crate) fn with_destination(&self, flow: Flow) -> Flow {
        let NatKind::Dnat(to, ports) = self.kind else { return flow };
        let dst = match (to, self.to, flow.dst) {
            (IpNet::V4(to), Some(IpNet::V4(from)), IpAddr::V4(dst)) if to.prefix_len() < 32 => {
                let at = u32::from(dst) - u32::from(from.network());
                IpAddr::V4((u32::from(to.network()) + at).into())
            }
            _ => to.addr(),
        };
        let original = self.service.as_ref().and_then(|service| service.range(flow.dst_port));
        let dst_port = match (ports, original) {
            (Some((first, last)), Some((from, _))) if last > first => {
                first + (flow.dst_port - from)
            }
            (Some((only, _)), _) => only,
            (None, _) => flow.dst_port,
        };
        Flow { dst, dst_port, ..flow }
    }

    /// What it makes the outside see of the inside.
    pub(crate) fn external(&self) -> Vec<IpNet> {
        match self.kind {
            NatKind::Snat(pool) => pool.addresses().into_iter().map(IpNet::from).collect(),
            NatKind::Dnat(..) => self.to.into_iter().collect(),
            NatKind::NoSnat | NatKind::NoAddress | NatKind::NoDnat => Vec::new(),
        }
    }

    pub(crate) fn counter(&self) -> Counter {
        if let Some(name) = &self.name {
            return Counter::NatByName(name.clone());
        }
        let from = match self.from.as_deref() {
            Some([net]) if !self.of_namespace => Some(*net),
            _ => None,
        };
        Counter::Nat { priority: self.priority, from, to: self.to, kind: self.kind }
    }

    /// In this order: ascending priority; at equal ones the more specific source, then destination, then one with a service, then the name
    /// (docs/choices.md). The user's names, `by-hand-...`, are before those that rules get by themselves.
    fn order(&self) -> impl Ord + use<> {
        let longest = self.from.iter().flatten().map(IpNet::prefix_len).max();
        let to = self.to.map_or(0, |net| net.prefix_len() + 1);
        let from = Reverse(longest.map_or(0, |len| len + 1));
        let general = self.service.is_none();
        (
            self.priority,
            from,
            Reverse(to),
            general,
            self.name.is_none(),
            self.name.clone(),
            self.kind,
        )
    }
}

/// NO_SNAT and NO_DNAT, SNAT of everything, and others, where no priority is stated (docs/choices.md).
const EXEMPT: u32 = 100;
/// SNAT by `ncp/snat_pool`, and where that gave no address.
const SERVICE: u32 = 500;
const SERVICE_WITHOUT: u32 = 600;
const TRANSLATE: u32 = 1000;
const SNAT_ANY: u32 = 2000;

fn side(side: NatMatch) -> Option<IpNet> {
    match side {
        NatMatch::Any => None,
        NatMatch::Network(net) => Some(net.trunc()),
    }
}

/// All rules, in order.
pub(super) fn rules(
    definitions: &Definitions,
    spec: &SupervisorClusterSpec,
    nat: bool,
    atlas: &Atlas,
) -> Result<Vec<NatRule>, String> {
    let mut rules = match &spec.tier1.nat_rules {
        Some(table) => table.iter().map(written).collect::<Result<_, _>>()?,
        None if nat => {
            let mut rules = generated(spec, atlas);
            of_services(&mut rules, definitions, spec, atlas)?;
            rules
        }
        None => Vec::new(),
    };
    for exemption in &spec.tier1.no_snat {
        rules.push(NatRule {
            priority: EXEMPT,
            name: None,
            from: side(exemption.source).map(|net| vec![net]),
            to: side(exemption.destination),
            service: None,
            kind: NatKind::NoSnat,
            firewall_match: FirewallMatch::Internal,
            of_namespace: false,
        });
    }
    rules.sort_by_key(NatRule::order);
    Ok(rules)
}

fn written(rule: &definitions::own::NatRule) -> Result<NatRule, String> {
    let (unstated, kind) = match (rule.action, rule.translated.ends()) {
        (NatAction::NoSnat, _) => (EXEMPT, NatKind::NoSnat),
        (NatAction::NoDnat, _) => (EXEMPT, NatKind::NoDnat),
        (NatAction::Snat, Some((first, last))) => {
            let unstated = if side(rule.source).is_some() { TRANSLATE } else { SNAT_ANY };
            (unstated, NatKind::Snat(Pool { first, last }))
        }
        (NatAction::Dnat, Some(_)) => {
            let to = rule.translated.network().ok_or("DNAT to a range")?;
            let ports = rule.translated_port.map(|range| (range.first(), range.last()));
            (TRANSLATE, NatKind::Dnat(to.trunc(), ports))
        }
        (action, _) => return Err(format!("the model knows no {action} to {}", rule.translated)),
    };
    Ok(NatRule {
        priority: rule.priority.unwrap_or(unstated),
        name: Some(rule.name.clone().ok_or("the model knows no NAT rules without names")?),
        from: side(rule.source).map(|net| vec![net]),
        to: side(rule.destination),
        service: rule.service.as_ref().map(Service::of),
        kind,
        firewall_match: rule.firewall_match,
        of_namespace: false,
    })
}

/// The pods that a Service with an SNAT pool selects leave with the address that it has of the pool, or not at all
/// (docs/choices.md, "NAT").
fn of_services(
    rules: &mut Vec<NatRule>,
    definitions: &Definitions,
    spec: &SupervisorClusterSpec,
    atlas: &Atlas,
) -> Result<(), String> {
    let asking = definitions.services.iter().filter(|(_, service)| !service.snat_pools.is_empty());
    for (key, service) in asking {
        let Some(selector) = &service.selector else { continue };
        let selected = atlas.pods.iter().filter(|(pod, _)| {
            let labels = definitions.pods.get(pod).map(|pod| &pod.meta.labels);
            pod.namespace == key.namespace
                && labels.is_some_and(|own| selector.iter().all(|(k, v)| own.get(k) == Some(v)))
        });
        let from: Vec<IpNet> = selected
            .flat_map(|(_, station)| station.addresses.iter().filter(|address| address.is_ipv4()))
            .map(|address| IpNet::from(*address))
            .collect();
        let address = super::find(&atlas.service_snat, key).copied();
        let named = |pool: &&definitions::own::SnatPool| service.snat_pools.contains(&pool.name);
        let holds = |pool: &definitions::own::SnatPool, address: IpAddr| {
            let ends = pool.addresses.iter().map(|range| (range.first(), range.last()));
            let mut ends = ends.map(|(first, last)| (IpAddr::V4(first), IpAddr::V4(last)));
            let allowed = &pool.namespaces;
            ends.any(|(first, last)| (first..=last).contains(&address))
                && (allowed.is_empty() || allowed.contains(&key.namespace))
        };
        if let Some(address) = address
            && !spec.snat_pools.iter().filter(named).any(|pool| holds(pool, address))
        {
            return Err(format!("{address} is of no pool that {key} may ask for"));
        }
        if from.is_empty() {
            continue;
        }
        rules.push(NatRule {
            priority: if address.is_some() { SERVICE } else { SERVICE_WITHOUT },
            name: Some(format!("snat-service-{key}")),
            from: Some(from),
            to: None,
            service: None,
            kind: address.map_or(NatKind::NoAddress, |address| NatKind::Snat(Pool::of(address))),
            firewall_match: FirewallMatch::Internal,
            of_namespace: false,
        });
    }
    Ok(())
}

fn generated(spec: &SupervisorClusterSpec, atlas: &Atlas) -> Vec<NatRule> {
    let pods = IpNet::V4(spec.pod_cidr.trunc());
    let mut rules = Vec::new();
    for to in [pods, IpNet::V4(spec.egress_cidr.trunc())] {
        let from = Some(vec![pods]);
        rules.push(NatRule {
            priority: EXEMPT,
            name: None,
            from,
            to: Some(to),
            service: None,
            kind: NatKind::NoSnat,
            firewall_match: FirewallMatch::Internal,
            of_namespace: false,
        });
    }
    for (namespace, address) in &atlas.snat {
        let own = atlas.blocks.iter().filter(|b| b.namespace.as_ref() == Some(namespace));
        let from = own.flat_map(|b| b.nets.iter().copied()).filter(|net| net.addr().is_ipv4());
        rules.push(NatRule {
            priority: TRANSLATE,
            name: None,
            from: Some(from.collect()),
            to: None,
            service: None,
            kind: NatKind::Snat(Pool::of(*address)),
            firewall_match: FirewallMatch::Internal,
            of_namespace: true,
        });
    }
    // The system has the first address of the pool.
    if let Some(address) = spec.egress_cidr.hosts().next() {
        rules.push(NatRule {
            priority: SNAT_ANY,
            name: None,
            from: None,
            to: None,
            service: None,
            kind: NatKind::Snat(Pool::of(address.into())),
            firewall_match: FirewallMatch::Internal,
            of_namespace: false,
        });
    }
    rules
}
