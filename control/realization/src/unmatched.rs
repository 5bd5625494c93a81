//! Rules that can never match: notices of `validate`.
//!
//! Two causes are looked for, and neither is told unless it is certain:
//! - an earlier stage rewrites what the rule names;
//! - one earlier rule takes everything that it would, at every vNIC that it is applied to. Rules that are covered
//!   only by several earlier ones together are not found.
//!
//! Only rules that somebody wrote are judged. What a policy or namespace isolates as a whole is meant to stand
//! behind other rules.

use std::collections::BTreeMap;
use std::rc::Rc;

use definitions::model::ObjectName;
use definitions::own::SnatMode;
use engine::network::{
    AddressSet, Direction, PoolSnat, Rule, Service, ServicePorts, VirtualServers,
};
use packet::{Addr, protocol};

use crate::addressing::{Cluster, prefix4};
use crate::fault::Messages;
use crate::pod_sets::{Applied, Places};
use crate::rules::{Draft, addresses};

/// The most comparisons of rules, ranges and pods in the search for shadowed rules: a fraction of a second.
const MAX_COMPARED: usize = 5_000_000;
/// The most shadowed rules that are told.
const MAX_TOLD: usize = 50;
/// The most packets that are tried to show that a rule is shadowed.
const MAX_TRIED: usize = 64;

/// Notices of rules whose addresses an earlier stage rewrites.
pub(crate) fn notice_rewritten(
    cluster: &Cluster<'_>,
    server: &VirtualServers,
    drafts: &[Draft],
    messages: &mut Messages,
) {
    let rewriting = Rewriting::new(cluster, server);
    for draft in drafts {
        let (Some(author), rule) = (&draft.author, &draft.rule) else { continue };
        if let Some((why, help)) = rewriting.explain(rule) {
            let place = if rule.direction == Direction::In {
                &rule.source_text
            } else {
                &rule.destination_text
            };
            messages.notice(&author.subject, format!("{place}: this can never match, {why}"), help);
        }
    }
}

/// What earlier stages make of addresses: the firewall judges them as they are on the wire at the vNIC, where what
/// came through the load balancer has its address, and a ClusterIP has become a backend.
struct Rewriting {
    /// ClusterIPs: no packet to one leaves a vNIC.
    services: AddressSet,
    /// All sources that a vNIC can see, if not anybody.
    sources: Option<AddressSet>,
    /// The load balancer's addresses among them, for people.
    balancer: String,
}

impl Rewriting {
    fn new(cluster: &Cluster<'_>, server: &VirtualServers) -> Rewriting {
        let services = prefix4(*cluster.spec().service_cidr);
        let transparent = cluster.spec().load_balancer.snat == SnatMode::Transparent
            || server.servers().iter().any(|s| s.snat == PoolSnat::Transparent);
        let balancer = cluster.balancer_addresses();
        let sources = (cluster.nat && !transparent).then(|| {
            let pods = cluster.pods.values().map(|(_, workload)| workload);
            let inside = addresses(pods.chain(cluster.vms.iter().map(|vm| &vm.eth1)));
            inside.union(&AddressSet::from_ranges(balancer.iter().map(|a| (*a, *a))))
        });
        let list: Vec<String> = balancer.iter().map(ToString::to_string).collect();
        Rewriting {
            services: AddressSet::from_ranges([(services.first(), services.last())]),
            sources,
            balancer: list.join(" or "),
        }
    }

    /// Why a rule can never match, and what to do about it.
    fn explain(&self, rule: &Rule) -> Option<(String, &'static str)> {
        if rule.direction == Direction::Out {
            let dead = !rule.destination.is_empty() && covers(&self.services, &rule.destination);
            return dead.then(|| {
                let why = "a ClusterIP has become a backend before the firewall sees it".to_owned();
                (why, "name the backends' pods instead")
            });
        }
        let sources = self.sources.as_ref()?;
        let dead = !rule.source.is_empty() && !overlap(&rule.source, sources);
        dead.then(|| {
            let why = format!("who comes from outside has the load balancer's address, {}", self.balancer);
            (why, "name that address, or keep the client's with 'ncp/transparent-lb: \"true\"' on the Service")
        })
    }
}

/// Notices of rules that one earlier rule shadows entirely; `applied` are the rules of every pod that has any.
pub(crate) fn notice_shadowed(
    places: &Places<'_>,
    drafts: &[Draft],
    applied: &BTreeMap<ObjectName, Applied>,
    messages: &mut Messages,
) {
    let mut search = Search { places, drafts, applied, left: MAX_COMPARED };
    let mut told = 0usize;
    for (at, draft) in (0..).zip(drafts) {
        let Some(author) = &draft.author else { continue };
        let shadow = search.shadow(at, draft);
        if search.left == 0 {
            let message = format!(
                "the search for rules that an earlier one shadows ended here, after {MAX_COMPARED} comparisons"
            );
            messages.notice(&author.subject, message, "");
            return;
        }
        let Some((earlier, list)) = shadow else { continue };
        told += 1;
        if told > MAX_TOLD {
            let message = format!("more than {MAX_TOLD} rules are shadowed; the rest is not told");
            messages.notice(&author.subject, message, "");
            return;
        }
        let mut message = format!(
            "{} can never match: {} takes all of its packets",
            numbered(&draft.rule),
            described(&earlier.rule)
        );
        if let Some(witness) = search.witness(draft, earlier, list) {
            message = format!("{message}, for instance {witness}");
        }
        let help = "narrow the earlier rule, or remove this one; in a SecurityPolicy it can also be put before it";
        messages.notice(&author.subject, message, help);
    }
}

fn numbered(rule: &Rule) -> String {
    format!("rule {} '{}'", rule.id, rule.name)
}

fn described(rule: &Rule) -> String {
    format!("{} ({}, {})", numbered(rule), rule.origin, rule.action)
}

struct Search<'s, 'a> {
    places: &'s Places<'a>,
    drafts: &'s [Draft],
    applied: &'s BTreeMap<ObjectName, Applied>,
    /// Comparisons that may still be made.
    left: usize,
}

impl<'s> Search<'s, '_> {
    fn spend(&mut self, comparisons: usize) {
        self.left = self.left.saturating_sub(comparisons);
    }

    /// The rules in the draft's direction at a vNIC that it is applied to, and that vNIC's pod.
    fn vnic(&self, draft: &Draft) -> Option<(u32, &'s [u32])> {
        let applied = self.applied;
        draft.pods.iter().find_map(|place| {
            let (into, out) = applied.get(self.places.get(*place)?.0)?;
            let list = if draft.rule.direction == Direction::Out { out } else { into };
            Some((*place, &**list))
        })
    }

    /// The first rule that shadows the draft, and the rules of a vNIC that it does so at.
    fn shadow(&mut self, at: u32, draft: &Draft) -> Option<(&'s Draft, &'s [u32])> {
        if draft.rule.source.is_empty() || draft.rule.destination.is_empty() {
            return None;
        }
        let (_, list) = self.vnic(draft)?;
        // A rule of all vNICs of the draft is one of this vNIC.
        let earlier = list.get(..list.partition_point(|i| *i < at))?;
        for i in earlier {
            let candidate = self.drafts.get(*i as usize)?;
            if self.is_shadow(candidate, draft) {
                return Some((candidate, list));
            }
            if self.left == 0 {
                return None;
            }
        }
        None
    }

    fn is_shadow(&mut self, earlier: &Draft, draft: &Draft) -> bool {
        let (a, b) = (&earlier.rule, &draft.rule);
        self.spend(1);
        // Of one written rule each named port is a rule of its own, and may have a number that is there already.
        let same = earlier
            .author
            .as_ref()
            .zip(draft.author.as_ref())
            .is_some_and(|(x, y)| Rc::ptr_eq(&x.subject, &y.subject) && x.rule == y.rule);
        if same
            || !(a.direction == b.direction || a.direction == Direction::InOut)
            || !covers_services(&a.services, &b.services)
        {
            return false;
        }
        for (outer, inner) in [(&a.source, &b.source), (&a.destination, &b.destination)] {
            if outer.is_any() {
                continue;
            }
            self.spend(inner.ranges().len());
            if !covers(outer, inner) {
                return false;
            }
        }
        if Rc::ptr_eq(&earlier.pods, &draft.pods) {
            return true;
        }
        self.spend(draft.pods.len());
        draft.pods.iter().all(|place| {
            earlier.pods.binary_search(place).is_ok()
                || self.places.get(*place).is_none_or(|(key, ..)| !self.applied.contains_key(key))
        })
    }

    /// A packet that the draft would match, and the rule that takes it: `earlier`, if such a packet is found soon.
    fn witness(&self, draft: &Draft, earlier: &Draft, list: &[u32]) -> Option<String> {
        let (place, _) = self.vnic(draft)?;
        let own = self.places.get(place)?.2.v4();
        let rule = &draft.rule;
        let outwards = rule.direction == Direction::Out;
        let others = self.others(if outwards { &rule.destination } else { &rule.source }, own);
        let (number, ports) = ports(&rule.services);
        let mut first = None;
        let packets = ports.iter().flat_map(|port| others.iter().map(move |other| (*port, *other)));
        for (port, other) in packets.take(MAX_TRIED) {
            let (src, dst) = if outwards { (own, other) } else { (other, own) };
            let matches = |rule: &Rule| rule.matches(src, dst, number, port, None);
            let rules = list.iter().filter_map(|i| self.drafts.get(*i as usize));
            let Some(taker) = rules.map(|d| &d.rule).find(|r| matches(r)) else { continue };
            if !matches(rule) {
                continue;
            }
            let service =
                Service { protocol: number, ports: ServicePorts::Destination(vec![(port, port)]) };
            let packet = format!("{src} > {dst} {service}");
            if taker.name == earlier.rule.name {
                return Some(packet);
            }
            first.get_or_insert_with(|| format!("{packet}, which even {} takes", numbered(taker)));
        }
        first
    }

    /// Some IPv4 addresses of a set, pods' before any others, without `own`.
    fn others(&self, set: &AddressSet, own: Addr) -> Vec<Addr> {
        let pods = self.places.all().map(|(.., workload)| workload.v4());
        // TEST-NET-1, RFC 5737: somebody outside.
        let outside = std::iter::once(Addr::v4(0xc000_0201));
        let ranges = set.ranges().iter().map(|(first, _)| *first);
        let usable = |a: &Addr| a.is_v4() && !a.is_unspecified() && *a != own && set.contains(*a);
        pods.filter(usable).take(8).chain(outside.chain(ranges).filter(usable)).take(16).collect()
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

/// Whether every address of `inner` is in `outer`.
fn covers(outer: &AddressSet, inner: &AddressSet) -> bool {
    // Ranges that touch are one, so that an inner range lies in a single outer one.
    inner.ranges().iter().all(|(first, last)| {
        let after = outer.ranges().partition_point(|(start, _)| start <= first);
        let range = after.checked_sub(1).and_then(|i| outer.ranges().get(i));
        range.is_some_and(|(_, end)| last <= end)
    })
}

/// Whether some address is in both.
fn overlap(a: &AddressSet, b: &AddressSet) -> bool {
    a.ranges().iter().any(|(first, last)| {
        let after = b.ranges().partition_point(|(_, end)| end < first);
        b.ranges().get(after).is_some_and(|(start, _)| start <= last)
    })
}

/// Whether every packet of the `inner` services is one of the `outer` ones.
fn covers_services(outer: &[Service], inner: &[Service]) -> bool {
    outer.is_empty()
        || (!inner.is_empty() && inner.iter().all(|service| covers_service(outer, service)))
}

fn covers_service(outer: &[Service], inner: &Service) -> bool {
    let same = || outer.iter().filter(|service| service.protocol == inner.protocol);
    if same().any(|service| service.ports == ServicePorts::Any) {
        return true;
    }
    match &inner.ports {
        ServicePorts::Any => false,
        ServicePorts::Icmp(wanted) => same().any(|service| match &service.ports {
            ServicePorts::Icmp(m) => {
                m.kind == wanted.kind && m.code.is_none_or(|code| wanted.code == Some(code))
            }
            _ => false,
        }),
        ServicePorts::Destination(wanted) => {
            let known = || {
                let ranges = same().filter_map(|service| match &service.ports {
                    ServicePorts::Destination(ranges) => Some(ranges),
                    _ => None,
                });
                ranges.flatten()
            };
            // From the first port on as far as ranges reach.
            wanted.iter().all(|(first, last)| {
                let mut next = u32::from(*first);
                while let Some(end) = known()
                    .filter(|(a, b)| (u32::from(*a)..=u32::from(*b)).contains(&next))
                    .map(|(_, b)| u32::from(*b))
                    .max()
                {
                    next = end + 1;
                }
                next > u32::from(*last)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::network::IcmpMatch;

    fn set(ranges: &[(u32, u32)]) -> AddressSet {
        AddressSet::from_ranges(ranges.iter().map(|(a, b)| (Addr::v4(*a), Addr::v4(*b))))
    }

    #[test]
    fn addresses_are_covered_by_ranges_that_touch_and_not_by_ranges_with_a_hole() {
        assert!(covers(&set(&[(1, 4), (5, 9)]), &set(&[(3, 6), (9, 9)])));
        assert!(!covers(&set(&[(1, 4), (6, 9)]), &set(&[(3, 6)])));
        assert!(!covers(&set(&[(1, 4)]), &set(&[(1, 5)])));
        assert!(!covers(&set(&[(2, 4)]), &set(&[(1, 2)])));
        assert!(covers(&AddressSet::any(), &set(&[(1, 5)])));
        assert!(!covers(&set(&[(0, u32::MAX)]), &AddressSet::any()));
        assert!(!covers(&AddressSet::default(), &set(&[(1, 1)])));
    }

    #[test]
    fn ranges_overlap_where_they_share_an_address() {
        assert!(overlap(&set(&[(1, 4), (8, 9)]), &set(&[(4, 7)])));
        assert!(overlap(&set(&[(5, 5)]), &set(&[(1, 3), (4, 7)])));
        assert!(overlap(&AddressSet::any(), &set(&[(3, 3)])));
        assert!(!overlap(&set(&[(1, 4), (8, 9)]), &set(&[(5, 7), (10, 12)])));
        assert!(!overlap(&set(&[(1, 4)]), &AddressSet::default()));
        assert!(!overlap(&AddressSet::default(), &AddressSet::any()));
    }

    #[test]
    fn services_are_covered_protocol_by_protocol() {
        let of = |protocol, ports| Service { protocol, ports };
        let tcp =
            |ranges: &[(u16, u16)]| of(protocol::TCP, ServicePorts::Destination(ranges.to_vec()));
        let any = |protocol| of(protocol, ServicePorts::Any);
        let icmp = |kind, code| of(protocol::ICMP, ServicePorts::Icmp(IcmpMatch { kind, code }));
        for (outer, inner, covered) in [
            (vec![], vec![], true),
            (vec![], vec![tcp(&[(80, 80)])], true),
            (vec![any(protocol::TCP)], vec![], false),
            (vec![any(protocol::TCP)], vec![tcp(&[(0, 65535)])], true),
            (vec![tcp(&[(0, 65535)])], vec![any(protocol::TCP)], false),
            (vec![any(protocol::UDP)], vec![tcp(&[(80, 80)])], false),
            (vec![tcp(&[(81, 90), (79, 80)])], vec![tcp(&[(80, 85)])], true),
            (vec![tcp(&[(80, 80)]), tcp(&[(81, 65535)])], vec![tcp(&[(80, 65535)])], true),
            (vec![tcp(&[(80, 80), (82, 90)])], vec![tcp(&[(80, 85)])], false),
            (vec![tcp(&[(80, 84)])], vec![tcp(&[(80, 85)])], false),
            (vec![tcp(&[(80, 80)])], vec![tcp(&[(80, 80)]), any(protocol::UDP)], false),
            (vec![icmp(8, None)], vec![icmp(8, Some(0))], true),
            (vec![icmp(8, Some(0))], vec![icmp(8, None)], false),
            (vec![any(protocol::ICMP)], vec![icmp(8, None)], true),
        ] {
            assert_eq!(covers_services(&outer, &inner), covered, "{outer:?} {inner:?}");
        }
    }
}
