//! Routes: connected, static, what the Tier-1 advertises, and the summaries that end what nobody has.

use std::net::IpAddr;

use definitions::own::{NatAction, NatRule};
use engine::network::{
    Attachment, Interface, InterfaceId, NextHop, Prefix, Route, RouteSource, RouteTarget, SegmentId,
};
use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use packet::Addr;

use crate::addressing::{Cluster, prefix4};
use crate::fault::{Messages, Subject};
use crate::nat;
use crate::snat_pool;

/// Distance of what a Tier-1 advertises: after connected (0) and static (1).
const TIER1_DISTANCE: u8 = 3;
/// Distance of summaries: anything else about the same prefix is better.
const SUMMARY_DISTANCE: u8 = 255;

/// A route by one next hop.
pub(crate) fn via(prefix: Prefix, source: RouteSource, distance: u8, hop: NextHop) -> Route {
    Route { prefix, source, distance, target: RouteTarget::NextHops(vec![hop]) }
}

/// The subnets of a router's interfaces; link-local ones are on every link and no routes.
pub(crate) fn connected(interfaces: &[Interface]) -> Vec<Route> {
    let mut routes = Vec::new();
    for (i, interface) in interfaces.iter().enumerate() {
        let hop =
            NextHop { interface: InterfaceId(u32::try_from(i).unwrap_or(u32::MAX)), gateway: None };
        for (address, len) in interface.addresses.iter().filter(|(a, _)| !a.is_link_local()) {
            routes.push(via(Prefix::new(*address, *len), RouteSource::Connected, 0, hop));
        }
    }
    routes
}

/// The way to a next hop; a fault if it is on no connected subnet or the router's own address.
pub(crate) fn resolve(
    interfaces: &[Interface],
    gateway: Addr,
    network: &str,
    subject: &Subject,
    messages: &mut Messages,
) -> Option<NextHop> {
    let own = interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == gateway));
    let found = interfaces.iter().position(|i| {
        i.attachment != Attachment::Segment(SegmentId(u32::MAX))
            && i.addresses.iter().any(|(a, len)| Prefix::new(*a, *len).contains(gateway))
    });
    let Some(at) = found.filter(|_| !own) else {
        let why = if own {
            "is the gateway's own address"
        } else {
            "is on none of its connected subnets"
        };
        let message = format!("static route to {network}: next hop {gateway} {why}");
        messages.fault(subject, message, "name a neighbour on one of its interfaces");
        return None;
    };
    Some(NextHop { interface: InterfaceId(u32::try_from(at).ok()?), gateway: Some(gateway) })
}

/// The user's own routes of the Tier-1.
pub(crate) fn tier1_static(
    cluster: &Cluster<'_>,
    interfaces: &[Interface],
    messages: &mut Messages,
) -> Vec<Route> {
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    let mut routes = Vec::new();
    for route in &cluster.spec().tier1.static_routes {
        let prefix = Prefix::new(route.network.network().into(), route.network.prefix_len());
        let target = match route.next_hop {
            _ if route.blackhole => RouteTarget::Blackhole,
            _ if route.unreachable => RouteTarget::Unreachable,
            Some(hop) => {
                let name = route.network.to_string();
                match resolve(interfaces, hop.into(), &name, &subject, messages) {
                    Some(hop) => RouteTarget::NextHops(vec![hop]),
                    None => continue,
                }
            }
            None => {
                let message = format!("static route to {} leads nowhere", route.network);
                messages.fault(&subject, message, "state nextHop, blackhole or unreachable");
                continue;
            }
        };
        routes.push(Route { prefix, source: RouteSource::Static, distance: 1, target });
    }
    routes
}

/// Addresses that end at the Tier-1 without being an interface's, with what advertises them.
pub(crate) fn services_of(cluster: &Cluster<'_>) -> Vec<(Addr, RouteSource)> {
    let mut all: Vec<(Addr, RouteSource)> =
        cluster.snat.values().map(|a| (*a, RouteSource::Tier1Nat)).collect();
    all.extend(snat_pool::addresses(cluster).map(|(_, a)| (a, RouteSource::Tier1Nat)));
    all.extend(cluster.vips.values().map(|a| (*a, RouteSource::Tier1LbVip)));
    all.extend(cluster.balancer_pool().into_iter().map(|a| (a, RouteSource::Tier1LbSnat)));
    all.sort();
    all.dedup_by_key(|(address, _)| *address);
    all
}

/// What the outside uses for the inside by a NAT rule: no address that a rule leaves alone.
pub(crate) fn external_networks(rule: &NatRule) -> Vec<IpNet> {
    let ends = match rule.action {
        NatAction::Snat | NatAction::Reflexive => rule.translated.ends(),
        NatAction::Dnat => rule.destination.network().map(|n| (n.network(), n.broadcast())),
        NatAction::NoSnat | NatAction::NoDnat => None,
    };
    let subnets = match ends {
        Some((IpAddr::V4(first), IpAddr::V4(last))) => {
            IpSubnets::V4(Ipv4Subnets::new(first, last, 0))
        }
        Some((IpAddr::V6(first), IpAddr::V6(last))) => {
            IpSubnets::V6(Ipv6Subnets::new(first, last, 0))
        }
        _ => return Vec::new(),
    };
    subnets.collect()
}

/// Networks of the cluster's own NAT rules that the Tier-0 must send to the Tier-1.
fn translated(cluster: &Cluster<'_>) -> Vec<Prefix> {
    let rules = cluster.spec().tier1.nat_rules.iter().flatten();
    let mut all: Vec<Prefix> = rules.flat_map(external_networks).map(nat::prefix_of).collect();
    all.sort();
    all.dedup();
    all
}

/// Whether the cluster's NAT rules translate IPv6, which else never leaves it.
pub(crate) fn translates_v6(cluster: &Cluster<'_>) -> bool {
    translated(cluster).iter().any(|p| !p.first().is_v4())
}

/// What the Tier-1 advertises to the Tier-0: its segments, which the way back needs, and the addresses it has
/// outside. Whether a segment may be *used* from outside is the Tier-1's `private` (F12).
pub(crate) fn advertised(cluster: &Cluster<'_>, hop: NextHop) -> Vec<Route> {
    let mut routes: Vec<Route> = cluster
        .blocks
        .iter()
        .map(|b| via(prefix4(b.net), RouteSource::Tier1Connected, TIER1_DISTANCE, hop))
        .collect();
    for (address, source) in services_of(cluster) {
        routes.push(via(Prefix::host(address), source, TIER1_DISTANCE, hop));
    }
    for prefix in translated(cluster) {
        if !routes.iter().any(|r| r.prefix == prefix) {
            routes.push(via(prefix, RouteSource::Tier1Nat, TIER1_DISTANCE, hop));
        }
    }
    routes
}

/// Blackholes for the pools, so that an address nobody has is dropped here and never sent back out.
pub(crate) fn summaries(cluster: &Cluster<'_>) -> Vec<Route> {
    let spec = cluster.spec();
    let ranges = spec.snat_pools.iter().flat_map(|pool| &pool.addresses);
    [spec.pod_cidr, spec.service_cidr, spec.ingress_cidr, spec.egress_cidr, spec.transit_cidr]
        .into_iter()
        .map(|net| *net)
        .chain(ranges.flat_map(|range| range.networks()))
        .map(|net| Route {
            prefix: prefix4(net),
            source: RouteSource::Summary,
            distance: SUMMARY_DISTANCE,
            target: RouteTarget::Blackhole,
        })
        .collect()
}
