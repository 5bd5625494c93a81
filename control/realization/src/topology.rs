//! Ports, segments and gateways.
//!
//! One Tier-1 a cluster with a downlink a segment, a /31 up to the Tier-0, and the Tier-0's uplinks. An object
//! that lives on keeps its index in the network, so that sessions, which name nodes by index, stay valid; the
//! index of one that is gone is filled with an inert object called `unused/N` until another takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use definitions::model::{Definitions, ObjectName, Tier0Gateway};
use definitions::own::{EcmpHash as HashDefinition, Tier0Route, UrpfMode};
use engine::network::{
    Attachment, EcmpHash, Fib, GatewayFirewall, Interface, InterfaceId, NatTable, NextHop, Port,
    PortId, Prefix, Route, RouteSource, RouteTarget, Router, RouterId, Segment, SegmentId, Side,
    Tier, Urpf, VirtualServers, Vnic,
};
use packet::{Addr, Mac};

use crate::addressing::{Addressing, Cluster, ROUTER_MAC, Workload, prefix4, uplink_key};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};
use crate::routes;
use crate::security::segment_security;

/// Packets of an external network that states no MTU, octets.
pub(crate) const DEFAULT_MTU: u16 = 1500;
/// Name of the Tier-1's interface to the Tier-0.
pub(crate) const UPLINK: &str = "uplink";
/// The highest index that a kept allocation may claim: a damaged file must not cost memory.
const MAX_INDEX: u64 = (1 << 18) - 1;

/// Indices of everything in the network, by name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) ports: BTreeMap<String, PortId>,
    pub(crate) segments: BTreeMap<String, SegmentId>,
    pub(crate) routers: BTreeMap<String, RouterId>,
    /// By router and interface.
    pub(crate) interfaces: BTreeMap<(String, String), InterfaceId>,
}

impl Index {
    /// The interface `name` of `router`. Every one that is asked for was indexed.
    pub(crate) fn interface(&self, router: &str, name: &str) -> InterfaceId {
        let key = (router.to_owned(), name.to_owned());
        self.interfaces.get(&key).copied().unwrap_or(InterfaceId(u32::MAX))
    }

    fn segment(&self, name: &str) -> SegmentId {
        self.segments.get(name).copied().unwrap_or(SegmentId(u32::MAX))
    }

    fn router(&self, name: &str) -> RouterId {
        self.routers.get(name).copied().unwrap_or(RouterId(u32::MAX))
    }
}

/// The network without its rules.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    pub(crate) ports: Vec<Port>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) routers: Vec<Router>,
    pub(crate) index: Index,
}

impl Topology {
    /// The vNIC of a pod.
    pub(crate) fn vnic(&mut self, pod: &ObjectName) -> Option<&mut Vnic> {
        let port = self.index.ports.get(&format!("pod/{pod}"))?;
        self.ports.get_mut(port.0 as usize)?.vnic.as_mut()
    }
}

/// Name of the segment of an external network.
pub(crate) fn external_segment(network: &str) -> String {
    format!("net-{network}")
}

/// Name of a Tier-0.
pub(crate) fn tier0_name(name: &str) -> String {
    format!("tier0/{name}")
}

/// The Tier-0 that the cluster hangs from, with the name of its interface to the Tier-1.
pub(crate) fn upstream<'a>(
    definitions: &'a Definitions,
    cluster: &Cluster<'_>,
) -> Option<(&'a Tier0Gateway, String)> {
    definitions.tier0_of(cluster.object).map(|t| (t, cluster.tier1()))
}

/// Builds ports, segments and routers with their routes.
pub(crate) fn build(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Topology {
    let index = index(definitions, addressing, kept, next, messages);
    let ports = ports(definitions, addressing, &index);
    let routers = routers(definitions, addressing, &index, messages);
    let segments = segments(definitions, addressing, &index, &ports, &routers);
    Topology { ports, segments, routers, index }
}

/// Puts everything at its index and fills the holes.
fn at_index<T>(items: Vec<(u32, T)>, hole: impl Fn(usize) -> T) -> Vec<T> {
    let mut sparse: BTreeMap<u32, T> = items.into_iter().collect();
    let length = sparse.last_key_value().map_or(0, |(last, _)| *last as usize + 1);
    (0..length)
        .map(|i| u32::try_from(i).ok().and_then(|i| sparse.remove(&i)).unwrap_or_else(|| hole(i)))
        .collect()
}

fn assign_indices(
    names: Vec<(String, Subject)>,
    kept: impl Fn(&str) -> Option<u32>,
    messages: &mut Messages,
) -> BTreeMap<String, u32> {
    let pool = Pool {
        what: "index",
        name: "the network".to_owned(),
        bands: vec![0..=MAX_INDEX],
        reserved: BTreeMap::new(),
        open: false,
        show: |n| n.to_string(),
    };
    let mut requests: Vec<Request> =
        names.into_iter().map(|(owner, subject)| Request { owner, pin: None, subject }).collect();
    requests.sort_by(|a, b| a.owner.cmp(&b.owner));
    let given = assign(&pool, &requests, |k| kept(k).map(u64::from), messages);
    given.into_iter().filter_map(|(k, n)| Some((k, u32::try_from(n).ok()?))).collect()
}

fn index(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Index {
    let (mut ports, mut segments, mut routers) = (Vec::new(), Vec::new(), Vec::new());
    let mut interfaces: BTreeMap<String, Vec<(String, Subject)>> = BTreeMap::new();
    for network in definitions.external_networks.values() {
        segments.push((
            external_segment(&network.meta.name),
            Subject::new("ExternalNetwork", &network.meta),
        ));
    }
    for host in definitions.external_hosts.values() {
        let subject = Subject::new("ExternalHost", &host.meta);
        for interface in &host.spec.interfaces {
            ports.push((format!("host/{}:{}", host.meta.name, interface.name), subject.clone()));
        }
    }
    for tier0 in definitions.tier0_gateways.values() {
        let subject = Subject::new("Tier0Gateway", &tier0.meta);
        let name = tier0_name(&tier0.meta.name);
        let own = interfaces.entry(name.clone()).or_default();
        own.extend(tier0.spec.uplinks.iter().map(|u| (u.name.clone(), subject.clone())));
        routers.push((name, subject));
    }
    if let Some(cluster) = &addressing.cluster {
        let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
        for vm in &cluster.vms {
            ports.push((format!("vm/{}:eth0", vm.name), subject.clone()));
            ports.push((format!("vm/{}:eth1", vm.name), subject.clone()));
        }
        for (key, (pod, _)) in &cluster.pods {
            ports.push((format!("pod/{key}"), Subject::new("Pod", &pod.meta)));
        }
        let own = interfaces.entry(cluster.tier1()).or_default();
        for block in &cluster.blocks {
            segments.push((block.segment(), subject.clone()));
            own.push((block.segment(), subject.clone()));
        }
        if let Some((tier0, downlink)) = upstream(definitions, cluster) {
            own.push((UPLINK.to_owned(), subject.clone()));
            interfaces
                .entry(tier0_name(&tier0.meta.name))
                .or_default()
                .push((downlink, subject.clone()));
        }
        routers.push((cluster.tier1(), subject));
    }
    next.ports = assign_indices(ports, |k| kept.ports.get(k).copied(), messages);
    next.segments = assign_indices(segments, |k| kept.segments.get(k).copied(), messages);
    next.routers = assign_indices(routers, |k| kept.routers.get(k).copied(), messages);
    let mut index = Index::default();
    for (router, own) in interfaces {
        let key = |name: &str| format!("{router} {name}");
        for (name, id) in
            assign_indices(own, |name| kept.interfaces.get(&key(name)).copied(), messages)
        {
            next.interfaces.insert(key(&name), id);
            index.interfaces.insert((router.clone(), name), InterfaceId(id));
        }
    }
    index.ports = next.ports.iter().map(|(k, i)| (k.clone(), PortId(*i))).collect();
    index.segments = next.segments.iter().map(|(k, i)| (k.clone(), SegmentId(*i))).collect();
    index.routers = next.routers.iter().map(|(k, i)| (k.clone(), RouterId(*i))).collect();
    index
}

/// The IPv6 link-local address that an interface forms from its MAC (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    Addr(0xfe80_u128 << 112 | u128::from(identifier))
}

/// Largest IP packet in an external network, octets.
pub(crate) fn network_mtu(definitions: &Definitions, network: &str) -> u32 {
    let stated = definitions.external_networks.get(network).and_then(|n| n.spec.mtu);
    u32::from(stated.unwrap_or(DEFAULT_MTU))
}

/// The number of a workload's tenant: the network of its namespace's first block, which stays as long
/// as the namespace.
fn tenant(workload: &Workload, cluster: &Cluster<'_>) -> u32 {
    let owner = cluster.blocks.get(workload.block).map(|b| b.owner.as_str());
    let first = owner.and_then(|owner| cluster.blocks_of(owner).next());
    first.and_then(|b| b.gateways().first().copied()).map_or(0, |(gateway, _)| gateway.low32())
}

fn workload_port(name: String, workload: &Workload, cluster: &Cluster<'_>, index: &Index) -> Port {
    let segment = cluster.blocks.get(workload.block).map(|b| index.segment(&b.segment()));
    let mut addresses: Vec<Addr> = workload.addresses.iter().map(|(a, _)| *a).collect();
    addresses.push(link_local(workload.mac));
    Port {
        name,
        segment: segment.unwrap_or(SegmentId(u32::MAX)),
        mtu: u32::from(cluster.spec().tier1.mtu),
        vnic: Some(Vnic {
            mac: workload.mac,
            addresses,
            hypervisor: workload.hypervisor,
            tenant: tenant(workload, cluster),
            spoof_guard: cluster.spec().segment_security.spoof_guard,
            security: segment_security(cluster.spec()),
            ethernet_in: Arc::default(),
            ethernet_out: Arc::default(),
            rules_in: Arc::default(),
            rules_out: Arc::default(),
        }),
    }
}

fn ports(definitions: &Definitions, addressing: &Addressing<'_>, index: &Index) -> Vec<Port> {
    let mut all: Vec<Port> = Vec::new();
    let outside = |name: String, network: &str| Port {
        name,
        segment: index.segment(&external_segment(network)),
        mtu: network_mtu(definitions, network),
        vnic: None,
    };
    for host in definitions.external_hosts.values() {
        for interface in &host.spec.interfaces {
            all.push(outside(
                format!("host/{}:{}", host.meta.name, interface.name),
                &interface.network,
            ));
        }
    }
    if let Some(cluster) = &addressing.cluster {
        for vm in &cluster.vms {
            all.push(outside(format!("vm/{}:eth0", vm.name), cluster.spec().management_network()));
            all.push(workload_port(format!("vm/{}:eth1", vm.name), &vm.eth1, cluster, index));
        }
        for (key, (_, workload)) in &cluster.pods {
            all.push(workload_port(format!("pod/{key}"), workload, cluster, index));
        }
    }
    let indexed = all.into_iter().filter_map(|p| Some((index.ports.get(&p.name)?.0, p))).collect();
    at_index(indexed, |i| Port {
        name: format!("unused/{i}"),
        segment: SegmentId(u32::MAX),
        mtu: 0,
        vnic: None,
    })
}

fn segments(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    index: &Index,
    ports: &[Port],
    routers: &[Router],
) -> Vec<Segment> {
    let mut by_id: BTreeMap<u32, Segment> = BTreeMap::new();
    for network in definitions.external_networks.values() {
        let name = external_segment(&network.meta.name);
        let id = index.segment(&name).0;
        by_id.insert(
            id,
            Segment { name, vlan: network.spec.vlan, learning: true, ..Segment::default() },
        );
    }
    for block in addressing.cluster.iter().flat_map(|c| &c.blocks) {
        let name = block.segment();
        let id = index.segment(&name).0;
        by_id.insert(id, Segment { name, ..Segment::default() });
    }
    for (i, port) in ports.iter().enumerate() {
        let Some(segment) = by_id.get_mut(&port.segment.0) else { continue };
        let id = PortId(u32::try_from(i).unwrap_or(u32::MAX));
        segment.ports.push(id);
        if let Some(vnic) = &port.vnic {
            segment.stations.insert(vnic.mac, id);
            segment.neighbors.extend(vnic.addresses.iter().map(|a| (*a, vnic.mac)));
        }
    }
    for (r, router) in routers.iter().enumerate() {
        for (i, interface) in router.interfaces.iter().enumerate() {
            let Attachment::Segment(id) = interface.attachment else { continue };
            let Some(segment) = by_id.get_mut(&id.0) else { continue };
            let ids = (u32::try_from(r).unwrap_or(u32::MAX), u32::try_from(i).unwrap_or(u32::MAX));
            segment.gateways.push((RouterId(ids.0), InterfaceId(ids.1)));
            // Outside, the gateway answers for itself like any other station there.
            if !segment.learning {
                segment
                    .neighbors
                    .extend(interface.addresses.iter().map(|(a, _)| (*a, interface.mac)));
            }
        }
    }
    at_index(by_id.into_iter().collect(), |i| Segment {
        name: format!("unused/{i}"),
        ..Segment::default()
    })
}

fn router(name: String, tier: Tier, interfaces: Vec<(InterfaceId, Interface)>) -> Router {
    let interfaces = interfaces.into_iter().map(|(id, i)| (id.0, i)).collect();
    Router {
        name,
        tier,
        interfaces: at_index(interfaces, |i| Interface {
            name: format!("unused/{i}"),
            attachment: Attachment::Segment(SegmentId(u32::MAX)),
            side: Side::Downlink,
            mac: Mac::ZERO,
            addresses: Vec::new(),
            mtu: 0,
            urpf: Urpf::None,
        }),
        fib: Fib::default(),
        nat: NatTable::default(),
        gateway_firewall: GatewayFirewall::default(),
        balancer: VirtualServers::default(),
        local: std::collections::BTreeSet::new(),
        private: Vec::new(),
        ecmp: EcmpHash::FiveTuple,
    }
}

fn routers(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    index: &Index,
    messages: &mut Messages,
) -> Vec<Router> {
    let mut all = Vec::new();
    for tier0 in definitions.tier0_gateways.values() {
        all.push(tier0_router(definitions, tier0, addressing, index, messages));
    }
    if let Some(cluster) = &addressing.cluster {
        all.push(tier1_router(definitions, cluster, index, messages));
    }
    let indexed = all.into_iter().map(|r| (index.router(&r.name).0, r)).collect();
    at_index(indexed, |i| router(format!("unused/{i}"), Tier::Tier1, Vec::new()))
}

fn urpf(mode: UrpfMode) -> Urpf {
    match mode {
        UrpfMode::Strict => Urpf::Strict,
        UrpfMode::Loose => Urpf::Loose,
        UrpfMode::None => Urpf::None,
    }
}

fn tier0_router(
    definitions: &Definitions,
    tier0: &Tier0Gateway,
    addressing: &Addressing<'_>,
    index: &Index,
    messages: &mut Messages,
) -> Router {
    let (spec, name) = (&tier0.spec, tier0_name(&tier0.meta.name));
    let below = addressing
        .cluster
        .as_ref()
        .filter(|c| definitions.tier0_of(c.object).is_some_and(|t| t.meta.name == tier0.meta.name));
    let mut interfaces = Vec::new();
    for uplink in &spec.uplinks {
        let mac = addressing.macs.get(&uplink_key(&tier0.meta.name, &uplink.name));
        let mtu = uplink.mtu.map_or_else(|| network_mtu(definitions, &uplink.network), u32::from);
        let interface = Interface {
            name: uplink.name.clone(),
            attachment: Attachment::Segment(index.segment(&external_segment(&uplink.network))),
            side: Side::Uplink,
            mac: mac.copied().unwrap_or_default(),
            addresses: uplink.addresses.iter().map(|a| (a.addr().into(), a.prefix_len())).collect(),
            mtu,
            urpf: urpf(uplink.urpf_mode.unwrap_or(spec.urpf_mode)),
        };
        interfaces.push((index.interface(&name, &uplink.name), interface));
    }
    if let Some(cluster) = below {
        let tier1 = cluster.tier1();
        let interface = Interface {
            name: tier1.clone(),
            attachment: Attachment::Router(index.router(&tier1), index.interface(&tier1, UPLINK)),
            side: Side::Downlink,
            mac: ROUTER_MAC,
            addresses: vec![(cluster.transit.0, 31)],
            mtu: u32::from(cluster.spec().tier1.mtu),
            urpf: Urpf::None,
        };
        interfaces.push((index.interface(&name, &tier1), interface));
    }
    let mut router = router(name, Tier::Tier0, interfaces);
    router.ecmp = match spec.ecmp.hash {
        HashDefinition::FiveTuple => EcmpHash::FiveTuple,
        HashDefinition::TwoTuple => EcmpHash::TwoTuple,
    };
    let mut table = routes::connected(&router.interfaces);
    let subject = Subject::new("Tier0Gateway", &tier0.meta);
    for route in &spec.static_routes {
        table.extend(tier0_static(route, &router.interfaces, &subject, messages));
    }
    if let Some(cluster) = below {
        let hop = NextHop {
            interface: index.interface(&router.name, &cluster.tier1()),
            gateway: Some(cluster.transit.1),
        };
        table.extend(routes::advertised(cluster, hop));
        table.extend(routes::summaries(cluster));
        // Nobody outside speaks with the link between the tiers.
        router.private.push(prefix4(*cluster.spec().transit_cidr));
    }
    let paths = if spec.ecmp.enabled { usize::from(spec.ecmp.max_paths) } else { 1 };
    router.fib = Fib::build(table, paths);
    router
}

fn tier0_static(
    route: &Tier0Route,
    interfaces: &[Interface],
    subject: &Subject,
    messages: &mut Messages,
) -> Option<Route> {
    let prefix = Prefix::new(route.network.network().into(), route.network.prefix_len());
    let target = if route.blackhole {
        RouteTarget::Blackhole
    } else {
        let hops = route.next_hops.iter().filter_map(|hop| {
            routes::resolve(
                interfaces,
                (*hop).into(),
                &route.network.to_string(),
                subject,
                messages,
            )
        });
        RouteTarget::NextHops(hops.collect())
    };
    Some(Route { prefix, source: RouteSource::Static, distance: route.distance, target })
}

fn tier1_router(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    index: &Index,
    messages: &mut Messages,
) -> Router {
    let name = cluster.tier1();
    let mtu = u32::from(cluster.spec().tier1.mtu);
    let mut interfaces = Vec::new();
    for block in &cluster.blocks {
        let mut addresses = block.gateways();
        if block.v6.is_some() {
            addresses.push((link_local(ROUTER_MAC), 64));
        }
        let interface = Interface {
            name: block.segment(),
            attachment: Attachment::Segment(index.segment(&block.segment())),
            side: Side::Downlink,
            mac: ROUTER_MAC,
            addresses,
            mtu,
            urpf: Urpf::None,
        };
        interfaces.push((index.interface(&name, &block.segment()), interface));
    }
    let uplink = index.interface(&name, UPLINK);
    let above = upstream(definitions, cluster);
    if let Some((tier0, downlink)) = &above {
        let tier0 = tier0_name(&tier0.meta.name);
        let interface = Interface {
            name: UPLINK.to_owned(),
            attachment: Attachment::Router(index.router(&tier0), index.interface(&tier0, downlink)),
            side: Side::Uplink,
            mac: ROUTER_MAC,
            addresses: vec![(cluster.transit.1, 31)],
            mtu,
            urpf: Urpf::None,
        };
        interfaces.push((uplink, interface));
    }
    let mut router = router(name, Tier::Tier1, interfaces);
    let mut table = routes::connected(&router.interfaces);
    if above.is_some() {
        let hop = NextHop { interface: uplink, gateway: Some(cluster.transit.0) };
        table.push(routes::via(Prefix::new(Addr::UNSPECIFIED_V4, 0), RouteSource::Static, 1, hop));
        if routes::translates_v6(cluster) {
            let everywhere = Prefix::new(Addr::UNSPECIFIED_V6, 0);
            table.push(routes::via(everywhere, RouteSource::Static, 1, hop));
        }
    } else {
        // Without an uplink nothing carries the address that automap takes as source.
        router.local.insert(cluster.transit.1);
    }
    table.extend(routes::tier1_static(cluster, &router.interfaces, messages));
    router.fib = Fib::build(table, 1);
    router.local.extend(routes::services_of(cluster).into_iter().map(|(a, _)| a));
    if cluster.nat {
        let spec = cluster.spec();
        router.private =
            vec![prefix4(*spec.pod_cidr), prefix4(*spec.service_cidr), prefix4(*spec.transit_cidr)];
    }
    if let Some(v6) = cluster.spec().pod_cidr_v6 {
        // No IPv6 network leads out of the cluster but by a NAT rule.
        router.private.push(Prefix::new(v6.network().into(), v6.prefix_len()));
    }
    router
}
