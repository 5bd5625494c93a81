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

/// A static route of the Tier-1 that leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) net: IpNet,
    /// The sender is told.
    pub(crate) told: bool,
}

pub(super) fn lost(spec: &SupervisorClusterSpec) -> Result<Vec<Lost>, String> {
    let routes = spec.tier1.static_routes.iter().map(|route| match route.next_hop {
        None => Ok(Lost { net: route.network.trunc(), told: route.unreachable }),
        Some(hop) => Err(format!("the model knows no route of the Tier-1 by {hop}")),
    });
    routes.collect()
}

/// Of equal paths, those that are used: all up to a limit, or the first.
fn paths(network: &Network, tier0: &Tier0GatewaySpec, hops: &[IpAddr]) -> Vec<IpAddr> {
    let mut sorted = hops.to_vec();
    sorted.sort_by_key(|hop| (network.uplink_of(*hop), *hop));
    let most = if tier0.ecmp.enabled { usize::from(tier0.ecmp.max_paths) } else { 1 };
    sorted.truncate(most);
    sorted
}

pub(super) fn add(network: &mut Network, spec: &SupervisorClusterSpec, tier0: &Tier0GatewaySpec) {
    let mut routes = Vec::new();
    let mut add = |net: IpNet, distance: u8, target: Target| {
        routes.push(Route { net: net.trunc(), distance, target });
    };
    for route in &tier0.static_routes {
        let hops = paths(network, tier0, &route.next_hops);
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
    for range in spec.snat_pools.iter().flat_map(|pool| &pool.addresses) {
        // Host by host: a model's pools are short.
        for address in u32::from(range.first())..=u32::from(range.last()) {
            add(IpNet::from(IpAddr::V4(address.into())), 255, Target::Blackhole);
        }
    }
    network.routes = routes;
}
