//! A network with more in it: rules, servers and routes that no packet of a measurement matches.
//!
//! All of them are about 240.0.0.0/4, which is reserved (RFC 1112, 4) and which no lab can use.

use engine::FloodLimits;
use engine::network::{
    Action, AddressSet, Category, Direction, Fib, Member, Network, NoMembers, PoolSnat, Prefix,
    Route, RouteSource, RouteTarget, Rule, Service, ServicePorts, VirtualServer, VirtualServers,
};
use packet::{Addr, protocol};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The first address of what matches nothing.
const NOWHERE: u32 = 0xf000_0000;
/// Numbers of added rules begin here; a lab's are below.
const FIRST_RULE: u32 = 0x4000_0000;
/// Sessions that a table takes, and that a tenant may have.
const MOST_SESSIONS: usize = 1 << 24;
/// Ways that a route may have.
const MAX_PATHS: usize = 8;

/// How much is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Rules of the distributed firewall, at every vNIC and in both directions, before those that
    /// are there.
    pub rules: u32,
    /// Virtual servers, of the distributed and of the server load balancers.
    pub services: u32,
    /// Routes of every gateway.
    pub routes: u32,
}

/// Adds to a network what matches nothing, and raises the limits that a measurement would meet:
/// sessions of the table and of a tenant, flood protection, and how long neighbours are believed.
#[must_use]
pub fn enlarge(mut net: Network, extras: Extras) -> Network {
    net.timers.max_sessions = MOST_SESSIONS;
    net.timers.max_tenant_sessions = MOST_SESSIONS;
    net.timers.neighbor_age = Duration::from_secs(86_400);
    net.firewall.flood = FloodLimits::default();
    for router in &mut net.routers {
        router.gateway_firewall =
            std::mem::take(&mut router.gateway_firewall).with_flood(FloodLimits::default());
    }
    add_rules(&mut net, extras.rules);
    if extras.services > 0 {
        net.distributed_balancer = with_servers(&net.distributed_balancer, extras.services);
        for router in net.routers.iter_mut().filter(|r| !r.balancer.servers().is_empty()) {
            router.balancer = with_servers(&router.balancer, extras.services);
        }
    }
    if extras.routes > 0 {
        for router in &mut net.routers {
            router.fib = with_routes(&router.fib, extras.routes);
        }
    }
    net
}

fn nowhere(i: u32) -> Addr {
    Addr::v4(NOWHERE.wrapping_add(i))
}

/// A rule that drops what goes to or comes from an address that nobody has.
pub fn idle_rule(i: u32) -> Rule {
    let address = AddressSet::from_ranges([(nowhere(i), nowhere(i))]);
    Rule {
        id: FIRST_RULE + i,
        name: format!("bench-{i}"),
        section: "bench".to_owned(),
        origin: "tierlab bench".to_owned(),
        category: Category::Application,
        direction: Direction::InOut,
        source: if i.is_multiple_of(2) { AddressSet::any() } else { address.clone() },
        source_text: if i.is_multiple_of(2) { "any".to_owned() } else { nowhere(i).to_string() },
        destination: if i.is_multiple_of(2) { address } else { AddressSet::any() },
        destination_text: if i.is_multiple_of(2) {
            nowhere(i).to_string()
        } else {
            "any".to_owned()
        },
        services: vec![Service {
            protocol: protocol::TCP,
            ports: ServicePorts::Destination(vec![(443, 443)]),
        }],
        strict: false,
        applied_to_text: "DFW".to_owned(),
        action: Action::Drop,
    }
}

fn add_rules(net: &mut Network, count: u32) {
    if count == 0 {
        return;
    }
    let Ok(own) = u32::try_from(net.firewall.rules.len()) else { return };
    net.firewall.rules.extend((0..count).map(idle_rule));
    // vNICs with the same rules share their list; they still do.
    let mut lists: BTreeMap<Arc<[u32]>, Arc<[u32]>> = BTreeMap::new();
    for vnic in net.ports.iter_mut().filter_map(|p| p.vnic.as_mut()) {
        for list in [&mut vnic.rules_in, &mut vnic.rules_out] {
            let longer = lists.entry(Arc::clone(list)).or_insert_with(|| {
                (own..own.saturating_add(count)).chain(list.iter().copied()).collect()
            });
            *list = Arc::clone(longer);
        }
    }
}

fn with_servers(table: &VirtualServers, count: u32) -> VirtualServers {
    let added = (0..count).map(|i| VirtualServer {
        name: format!("bench/{i}:80/TCP"),
        address: nowhere(i),
        protocol: protocol::TCP,
        port: 80,
        members: vec![Member {
            address: nowhere(!i),
            port: 8080,
            name: nowhere(!i).to_string(),
            hypervisor: None,
        }],
        snat: PoolSnat::Transparent,
        local_only: false,
        affinity: None,
        source_ranges: Vec::new(),
        no_members: NoMembers::Drop,
    });
    VirtualServers::new(
        added.chain(table.servers().iter().cloned()).collect(),
        table.reserved.clone(),
    )
}

fn with_routes(fib: &Fib, count: u32) -> Fib {
    let routes: Vec<Route> = fib.routes().into_iter().cloned().collect();
    let added = (0..count).map(|i| Route {
        // Lengths as in the Internet's table: most are /24, some shorter, some longer.
        prefix: Prefix::new(nowhere(i << 8), if i.is_multiple_of(4) { 22 } else { 24 }),
        source: RouteSource::Static,
        distance: 1,
        target: RouteTarget::Blackhole,
    });
    Fib::build(added.chain(routes).collect(), MAX_PATHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_there_as_often_as_asked() {
        let net = Network::default();
        let more = enlarge(net, Extras { rules: 10, services: 7, routes: 0 });
        assert_eq!(more.firewall.rules.len(), 10);
        assert_eq!(more.distributed_balancer.servers().len(), 7);
        assert_eq!(with_routes(&Fib::default(), 100_000).routes().len(), 100_000);
        assert!(more.timers.max_sessions > 4_000_000);
    }

    #[test]
    fn an_added_rule_matches_no_address_of_a_lab() {
        for i in [0, 1, 9_999] {
            for address in ["10.244.0.18", "198.18.1.1", "fd00::1", "0.0.0.0"] {
                if let Ok(address) = address.parse() {
                    assert!(!idle_rule(i).matches(address, address, protocol::TCP, 443, None));
                }
            }
        }
    }
}
