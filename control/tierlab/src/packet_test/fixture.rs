//! A lab by hand: two pods on a segment, Tier-1 with SNAT, Tier-0, an external network with a host,
//! and a router to another network with one more.
//!
//! ```text
//! pod/bank/web 10.244.0.18 fd00::12 ─┐                                        ┌─ host/dns 192.168.10.10
//! pod/bank/db  10.244.0.19 fd00::13 ─┴ .17 T1 (SNAT 172.16.2.2) ─ T0 .1 ─ uplink ─┴ .254 host/gw .1 ─ host/far 172.30.0.9
//! ```
//! Nobody may reach TCP port 5432 of pod/bank/db (rule 7).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::{Resolver, TestBed};
use definitions::model::{Meta, Object, PacketTest, Source};
use definitions::own::{AddressExpr, MacExpr, PortRef};
use engine::network::{
    Action, AddressRange, AddressSet, Attachment, Category, Direction, Fib, Firewall,
    GatewayFirewall, Interface, InterfaceId, NatAction, NatRule, NatTable, Network, NextHop, Port,
    PortId, Prefix, Route, RouteSource, RouteTarget, Router, RouterId, Rule, Segment, SegmentId,
    SegmentSecurity, Service, ServicePorts, Side, Tier, Urpf, Vnic,
};
use hosts::routing::TABLE_MAIN;
use hosts::{HostConfig, HostSpec, InterfaceConfig};
use packet::{Addr, Mac, protocol};
use std::collections::BTreeMap;
use std::sync::Arc;

const T1_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const T0_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Addresses with the length of their prefix.
type Addresses = &'static [(&'static str, u8)];

/// Name, segment and addresses of each port, by number.
const PORTS: [(&str, u32, Addresses); 6] = [
    ("pod/bank/web", 0, &[("10.244.0.18", 28), ("fd00::12", 64)]),
    ("pod/bank/db", 0, &[("10.244.0.19", 28), ("fd00::13", 64)]),
    ("host/dns:eth0", 1, &[("192.168.10.10", 24)]),
    ("host/gw:eth0", 1, &[("192.168.10.254", 24)]),
    ("host/gw:eth1", 2, &[("172.30.0.1", 24)]),
    ("host/far:eth0", 2, &[("172.30.0.9", 24)]),
];

pub(super) fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub(super) fn mac(port: usize) -> Mac {
    Mac([4, 0x50, 0x56, 0, 0, u8::try_from(port).unwrap()])
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn addresses(port: usize) -> Vec<(Addr, u8)> {
    PORTS[port].2.iter().map(|(a, len)| (addr(a), *len)).collect()
}

/// A route by `interface`, to `gateway` or on the link.
fn route(to: &str, interface: u32, gateway: &str) -> Route {
    let gateway = (!gateway.is_empty()).then(|| addr(gateway));
    let target =
        RouteTarget::NextHops(vec![NextHop { interface: InterfaceId(interface), gateway }]);
    let source = if gateway.is_some() { RouteSource::Static } else { RouteSource::Connected };
    Route { prefix: prefix(to), source, distance: 0, target }
}

fn interface(
    name: &str,
    attachment: Attachment,
    side: Side,
    mac: Mac,
    address: (&str, u8),
) -> Interface {
    Interface {
        name: name.to_owned(),
        attachment,
        side,
        mac,
        addresses: vec![(addr(address.0), address.1)],
        mtu: 1500,
        urpf: Urpf::None,
    }
}

fn routers() -> Vec<Router> {
    let router = |name: &str, tier, interfaces, routes| Router {
        name: name.to_owned(),
        tier,
        interfaces,
        fib: Fib::build(routes, 8),
        nat: NatTable::default(),
        gateway_firewall: GatewayFirewall::default(),
        balancer: engine::network::VirtualServers::default(),
        local: std::collections::BTreeSet::new(),
        private: Vec::new(),
        ecmp: engine::network::EcmpHash::default(),
    };
    let mut tier1 = router(
        "t1",
        Tier::Tier1,
        vec![
            interface(
                "pods",
                Attachment::Segment(SegmentId(0)),
                Side::Downlink,
                T1_MAC,
                ("10.244.0.17", 28),
            ),
            interface(
                "uplink",
                Attachment::Router(RouterId(1), InterfaceId(0)),
                Side::Uplink,
                Mac([2, 0, 0, 0, 1, 1]),
                ("100.64.0.1", 31),
            ),
        ],
        vec![
            route("10.244.0.16/28", 0, ""),
            route("100.64.0.0/31", 1, ""),
            route("0.0.0.0/0", 1, "100.64.0.0"),
        ],
    );
    tier1.nat = NatTable::new(vec![NatRule {
        source: Some(vec![prefix("10.244.0.0/20")]),
        ..NatRule::new(
            11,
            "snat-bank".to_owned(),
            1000,
            NatAction::Snat(AddressRange::host(addr("172.16.2.2"))),
        )
    }]);
    tier1.local.insert(addr("172.16.2.2"));
    tier1.private.push(prefix("10.244.0.0/20"));
    let tier0 = router(
        "t0",
        Tier::Tier0,
        vec![
            interface(
                "t1",
                Attachment::Router(RouterId(0), InterfaceId(1)),
                Side::Downlink,
                Mac([2, 0, 0, 0, 1, 2]),
                ("100.64.0.0", 31),
            ),
            interface(
                "uplink",
                Attachment::Segment(SegmentId(1)),
                Side::Uplink,
                T0_MAC,
                ("192.168.10.1", 24),
            ),
        ],
        vec![
            route("100.64.0.0/31", 0, ""),
            route("172.16.2.2/32", 0, "100.64.0.1"),
            route("192.168.10.0/24", 1, ""),
            route("172.30.0.0/24", 1, "192.168.10.254"),
        ],
    );
    vec![tier1, tier0]
}

fn network() -> Network {
    let port = |(index, (name, segment, _)): (usize, &(&str, u32, _))| Port {
        name: (*name).to_owned(),
        segment: SegmentId(*segment),
        mtu: 1500,
        vnic: (*segment == 0).then(|| Vnic {
            mac: mac(index),
            addresses: addresses(index).iter().map(|(a, _)| *a).collect(),
            hypervisor: 0,
            tenant: 0,
            spoof_guard: true,
            security: SegmentSecurity::default(),
            ethernet_in: Arc::default(),
            ethernet_out: Arc::default(),
            rules_in: if index == 1 { [0].into() } else { Arc::default() },
            rules_out: Arc::default(),
        }),
    };
    let segment = |index: u32, gateways: Vec<(RouterId, InterfaceId)>| {
        let here = || (0..PORTS.len()).filter(move |p| PORTS[*p].1 == index);
        let id = |p: usize| PortId(u32::try_from(p).unwrap());
        let known = index == 0;
        Segment {
            name: format!("segment-{index}"),
            vlan: None,
            ports: here().map(id).collect(),
            gateways,
            learning: !known,
            stations: here().filter(|_| known).map(|p| (mac(p), id(p))).collect(),
            neighbors: here()
                .filter(|_| known)
                .flat_map(|p| addresses(p).into_iter().map(move |(a, _)| (a, mac(p))))
                .collect(),
        }
    };
    Network {
        epoch: 1,
        seed: 42,
        ports: PORTS.iter().enumerate().map(port).collect(),
        segments: vec![
            segment(0, vec![(RouterId(0), InterfaceId(0))]),
            segment(1, vec![(RouterId(1), InterfaceId(1))]),
            segment(2, Vec::new()),
        ],
        routers: routers(),
        firewall: Firewall {
            rules: vec![Rule {
                id: 7,
                name: "np-bank-db-isolate".to_owned(),
                section: "np-bank-db".to_owned(),
                origin: "NetworkPolicy bank/db".to_owned(),
                category: Category::Application,
                direction: Direction::In,
                source: AddressSet::any(),
                source_text: "any".to_owned(),
                destination: AddressSet::any(),
                destination_text: "any".to_owned(),
                services: vec![Service {
                    protocol: protocol::TCP,
                    ports: ServicePorts::Destination(vec![(5432, 5432)]),
                }],
                strict: true,
                applied_to_text: "pod/bank/db".to_owned(),
                action: Action::Drop,
            }],
            ..Firewall::default()
        },
        ..Network::default()
    }
}

fn host(name: &str, ports: &[usize], gateway: &str) -> HostSpec {
    let mut config = HostConfig::new(name);
    for (index, port) in ports.iter().enumerate() {
        let mut interface =
            InterfaceConfig::new(format!("eth{index}"), mac(*port), Addr::default(), 0);
        interface.addresses = addresses(*port);
        config.interfaces.push(interface);
    }
    if !gateway.is_empty() {
        let route = hosts::Route::via(Addr::UNSPECIFIED_V4, 0, addr(gateway), 0);
        config.routing.add_route(TABLE_MAIN, route);
    }
    HostSpec { config, ports: ports.iter().map(|p| PortId(u32::try_from(*p).unwrap())).collect() }
}

/// The names of this lab.
#[derive(Debug, Default)]
pub(super) struct Names {
    ports: BTreeMap<String, usize>,
}

impl Names {
    pub(super) fn new() -> Names {
        let full = PORTS.iter().enumerate().map(|(i, (name, ..))| ((*name).to_owned(), i));
        let first = PORTS
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(i, (name, ..))| Some((name.split_once(':')?.0.to_owned(), i)));
        Names { ports: full.chain(first).collect() }
    }

    fn index(&self, port: &PortRef) -> Result<usize, String> {
        let found = self.ports.get(&port.to_string()).copied();
        found.ok_or_else(|| format!("there is no port '{port}'"))
    }
}

impl Resolver for Names {
    fn port(&self, port: &PortRef) -> Result<PortId, String> {
        self.index(port).map(|i| PortId(u32::try_from(i).unwrap()))
    }

    fn address(&self, expression: &AddressExpr) -> Result<Addr, String> {
        match expression {
            AddressExpr::Ip(ip) => Ok((*ip).into()),
            AddressExpr::Port(port) => Ok(addresses(self.index(port)?)[0].0),
            AddressExpr::Snat(namespace) if namespace == "bank" => Ok(addr("172.16.2.2")),
            other => Err(format!("there is no '{other}'")),
        }
    }

    fn mac(&self, expression: &MacExpr) -> Result<Mac, String> {
        match expression {
            MacExpr::Mac(mac) => Ok(*mac),
            MacExpr::Port(port) => self.index(port).map(mac),
            MacExpr::Gateway(_) => Ok(T1_MAC),
            MacExpr::Variable(name) => panic!("the variable {name} reached the resolver"),
        }
    }
}

/// The lab.
pub(super) fn bed(names: &Names) -> TestBed<'_> {
    let mut gw = host("host/gw", &[3, 4], "");
    gw.config.forwarding = true;
    gw.config
        .routing
        .add_route(TABLE_MAIN, hosts::Route::via(addr("172.16.2.0"), 24, addr("192.168.10.1"), 0));
    TestBed {
        network: Arc::new(network()),
        hosts: vec![
            host("pod/bank/web", &[0], "10.244.0.17"),
            host("pod/bank/db", &[1], "10.244.0.17"),
            host("host/dns", &[2], "192.168.10.1"),
            gw,
            host("host/far", &[5], "172.30.0.1"),
        ],
        resolver: names,
        opened: None,
    }
}

/// A test with these steps in YAML, at line 3 of `tests/NAME.yaml`.
pub(super) fn packet_test(name: &str, steps: &str) -> PacketTest {
    let spec = serde_saphyr::from_str(&format!("steps:\n{steps}")).unwrap();
    let source = Source { file: format!("tests/{name}.yaml").into(), line: 3 };
    Object {
        meta: Meta {
            namespace: String::new(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            source,
        },
        spec,
    }
}
