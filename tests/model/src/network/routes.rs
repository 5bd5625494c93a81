//! Where the Tier-0 sends: what it knows by itself, from the Tier-1 and from its static routes.

use std::net::IpAddr;

use definitions::own::{SupervisorClusterSpec, Tier0GatewaySpec};
use ipnet::{IpNet, Ipv4Net};

use super::Network;

/// Where a route of the Tier-0 leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the Tier-1.
    Down,
    /// Onto the link of this uplink.
    Link(usize),
    /// To one of these neighbours.
    Neighbors(Vec<IpAddr>),
    /// To nobody.
    Blackhole,
}

/// A route of the Tier-0.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) net: IpNet,
    pub(crate) distance: u8,
    pub(crate) target: Target,
}

pub(super) fn add(network: &mut Network, spec: &SupervisorClusterSpec, tier0: &Tier0GatewaySpec) {
    let mut routes = Vec::new();
    let mut add = |net: IpNet, distance: u8, target: Target| {
        routes.push(Route { net: net.trunc(), distance, target });
    };
    for route in &tier0.static_routes {
        let hops = route.next_hops.clone();
        let target = if route.blackhole { Target::Blackhole } else { Target::Neighbors(hops) };
        add(*route.network, route.distance, target);
    }
    for (at, uplink) in network.uplinks.iter().enumerate() {
        for net in &uplink.nets {
            add(*net, 0, Target::Link(at));
        }
    }
    // From the Tier-1: its link, its segments, its addresses. Better than any static route.
    if let IpAddr::V4(even) = network.transit.0 {
        add(IpNet::V4(Ipv4Net::new_assert(even, 31)), 3, Target::Down);
    }
    // No IPv6 leads into the cluster.
    for net in network.blocks.iter().flat_map(|b| &b.nets).filter(|net| net.addr().is_ipv4()) {
        add(*net, 3, Target::Down);
    }
    for address in &network.tier1_addresses {
        add(*address, 3, Target::Down);
    }
    for net in
        [spec.pod_cidr, spec.service_cidr, spec.ingress_cidr, spec.egress_cidr, spec.transit_cidr]
    {
        add(IpNet::V4(net.trunc()), 255, Target::Blackhole);
    }
    network.routes = routes;
}
