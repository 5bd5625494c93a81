//! Ports, segments, gateways and hosts of labs that are not the article's.

use super::*;
use crate::names::{NameError, Target};
use definitions::model::{ContainerPort, ObjectName, Protocol};
use engine::network::{Attachment, RouteTarget, Side, Tier, Urpf};
use hosts::{ServiceKind, ServiceProtocol};
use packet::Addr;
use std::collections::BTreeSet;

const OUTSIDE: &str = "{kind: ExternalNetwork, metadata: {name: outside}, spec: {cidr: 192.168.100.0/24, mtu: 9000, vlan: 7}}
---
{kind: Tier0Gateway, metadata: {name: t0}, spec: {uplinks: [{name: up, network: outside, addresses: [192.168.100.2/24]}]}}
---
{kind: ExternalHost, metadata: {name: server}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.168.100.1/24]}], \
 routes: [{to: 172.16.0.0/16, via: 192.168.100.2}]}}";

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

#[test]
fn workloads_are_stations_that_never_move() {
    let lab = realized(&documents(&[CLUSTER, &namespace("a"), &pod("a", "x")]));
    let (_, place) = lab.names.port("pod/a/x").unwrap();
    let port = lab.network.port(place.port).unwrap();
    let vnic = port.vnic.as_ref().unwrap();
    // The fourth MAC after the three VMs'; its interface identifier by RFC 4291, appendix A.
    assert_eq!(vnic.mac, "04:50:56:00:d0:03".parse().unwrap());
    assert_eq!(vnic.addresses, [addr("10.244.0.18"), addr("fe80::650:56ff:fe00:d003")]);
    assert!(vnic.spoof_guard);
    let segment = lab.network.segment(port.segment).unwrap();
    assert!(!segment.learning);
    assert_eq!(segment.stations[&vnic.mac], place.port);
    assert_eq!(segment.neighbors[&addr("10.244.0.18")], vnic.mac);
    assert_eq!(segment.neighbors[&addr("10.244.0.17")], "02:50:56:56:44:52".parse().unwrap());
    let host = lab.hosts.iter().find(|h| h.config.name == "pod/a/x").unwrap();
    assert_eq!(host.ports, [place.port]);
    assert_eq!(host.config.interfaces[0].addresses, [(addr("10.244.0.18"), 28)]);
    let main: Vec<_> =
        host.config.routing.tables().filter(|(n, _)| *n == 254).flat_map(|(_, r)| r).collect();
    assert_eq!(main.len(), 1);
    assert_eq!(
        (main[0].to, main[0].prefix_len, main[0].via),
        (addr("0.0.0.0"), 0, Some(addr("10.244.0.17")))
    );
}

#[test]
fn the_tiers_are_linked_and_indexed_both_ways() {
    let lab = realized(&documents(&[CLUSTER, OUTSIDE]));
    for (r, router) in lab.network.routers.iter().enumerate() {
        for (i, interface) in router.interfaces.iter().enumerate() {
            match interface.attachment {
                Attachment::Router(other, id) => {
                    let back = lab.network.router(other).unwrap().interface(id).unwrap();
                    let Attachment::Router(router_id, interface_id) = back.attachment else {
                        panic!("{back:?}")
                    };
                    assert_eq!((router_id.0 as usize, interface_id.0 as usize), (r, i));
                    assert_ne!(interface.side, back.side);
                }
                Attachment::Segment(id) => {
                    let gateways = &lab.network.segment(id).unwrap().gateways;
                    assert!(gateways.iter().any(|(a, b)| (a.0 as usize, b.0 as usize) == (r, i)));
                }
            }
        }
    }
    let tier0 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier0).unwrap();
    let up = tier0.interfaces.iter().find(|i| i.side == Side::Uplink).unwrap();
    assert_eq!(
        (up.mac, up.mtu, up.urpf),
        ("02:50:56:00:00:00".parse().unwrap(), 9000, Urpf::Strict)
    );
    let tier1 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier1).unwrap();
    let private: Vec<String> = tier1.private.iter().map(ToString::to_string).collect();
    assert_eq!(private, ["10.244.0.0/20", "10.96.0.0/23", "100.64.0.0/16"]);
    assert_eq!(tier1.local.iter().copied().collect::<Vec<_>>(), [addr("172.16.2.1")]);
    let segment = lab.network.segments.iter().find(|s| s.name == "net-outside").unwrap();
    assert!(segment.learning && segment.vlan == Some(7) && segment.neighbors.is_empty());
    assert_eq!(lab.network.port(lab.names.port("host/server").unwrap().1.port).unwrap().mtu, 9000);
}

#[test]
fn a_detached_cluster_has_no_way_out() {
    let cluster = "{kind: SupervisorCluster, metadata: {name: s}, spec: {detached: true}}";
    let lab = realized(&documents(&[cluster, OUTSIDE]));
    let tier1 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier1).unwrap();
    assert!(tier1.interfaces.iter().all(|i| i.side == Side::Downlink));
    assert!(tier1.fib.lookup(addr("8.8.8.8")).is_none());
    assert!(tier1.owns(addr("100.64.0.1")));
    let tier0 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier0).unwrap();
    assert!(tier0.fib.lookup(addr("10.244.0.2")).is_none());
}

#[test]
fn without_nat_pods_are_routed() {
    let cluster =
        "{kind: SupervisorCluster, metadata: {name: s}, spec: {profile: vsphere-7.0u3-nonat}}";
    let lab = realized(&documents(&[cluster, OUTSIDE, &namespace("a"), &pod("a", "x")]));
    let tier1 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier1).unwrap();
    assert!(tier1.nat.rules().is_empty() && tier1.private.is_empty() && tier1.local.is_empty());
    let tier0 = lab.network.routers.iter().find(|r| r.tier == Tier::Tier0).unwrap();
    assert!(matches!(
        tier0.fib.lookup(addr("10.244.0.18")).unwrap().target,
        RouteTarget::NextHops(_)
    ));
    assert_eq!(tier0.fib.lookup(addr("10.244.9.9")).unwrap().target, RouteTarget::Blackhole);
    assert!(lab.names.snat("a").is_err());
    assert!(lab.statuses.is_empty());
}

#[test]
fn ipv6_blocks_follow_the_ipv4_ones() {
    let cluster =
        "{kind: SupervisorCluster, metadata: {name: s}, spec: {podCIDRv6: 'fd00:244::/48'}}";
    let lab = realized(&documents(&[cluster, &namespace("a"), &namespace("b"), &pod("b", "x")]));
    let (_, place) = lab.names.port("pod/b/x").unwrap();
    // b has the block number 2: 10.244.0.32/28 and fd00:244:0:2::/64.
    assert_eq!(place.addresses, [addr("10.244.0.34"), addr("fd00:244:0:2::2")]);
    let host = lab.hosts.iter().find(|h| h.config.name == "pod/b/x").unwrap();
    assert_eq!(host.config.interfaces[0].addresses[1], (addr("fd00:244:0:2::2"), 64));
    let tier1 = &lab.network.routers[0];
    assert!(matches!(
        tier1.fib.lookup(addr("fd00:244:0:2::9")).unwrap().target,
        RouteTarget::NextHops(_)
    ));
    assert!(tier1.fib.lookup(addr("2001:db8::1")).is_none());
    let own =
        lab.network.firewall.rules.iter().find(|r| r.name == "ns.b.ingress-namespace").unwrap();
    assert!(
        own.source.contains(addr("fd00:244:0:2::2"))
            && !own.source.contains(addr("fd00:244:0:1::2"))
    );
}

#[test]
fn external_hosts_listen_and_route_as_they_say() {
    let text = "{kind: ExternalNetwork, metadata: {name: net}}
---
{kind: ExternalHost, metadata: {name: h}, spec: {ttl: 128, forwarding: true, interfaces: [{name: a, network: net, addresses: [192.0.2.1/24]}, \
 {name: b, network: net, addresses: [198.51.100.1/24], mac: '00:11:22:33:44:55'}], routes: [{to: default, via: 198.51.100.9}, \
 {to: 203.0.113.0/24, dev: a, table: 7}], rules: [{to: 203.0.113.0/24, table: 7, priority: 5}, {from: 192.0.2.0/24, iif: b, table: 7, priority: 5}]}}
---
{kind: ExternalHost, metadata: {name: dns}, spec: {interfaces: [{name: e, network: net, addresses: [192.0.2.2/24]}], \
 services: [{port: 53, protocol: UDP, kind: dns, records: {a.lab: [192.0.2.7]}}]}}";
    let lab = realized(text);
    let h = &lab.hosts.iter().find(|h| h.config.name == "host/h").unwrap().config;
    assert!(h.forwarding && h.ttl == 128);
    let listening: Vec<_> = h.services.iter().map(|s| (s.protocol, s.port)).collect();
    assert_eq!(
        listening,
        [(ServiceProtocol::Tcp, 7), (ServiceProtocol::Udp, 7), (ServiceProtocol::Tcp, 80)]
    );
    assert_eq!(h.interfaces[1].mac, "00:11:22:33:44:55".parse().unwrap());
    let rules: Vec<String> = h.routing.rules().iter().map(ToString::to_string).collect();
    assert_eq!(rules[1], "5: from all to 203.0.113.0/24 lookup 7");
    assert_eq!(rules[2], "5: from 192.0.2.0/24 iif #1 lookup 7");
    let main: Vec<_> = h.routing.tables().filter(|(n, _)| *n == 254).flat_map(|(_, r)| r).collect();
    assert_eq!((main[0].via, main[0].dev), (Some(addr("198.51.100.9")), 1));
    let dns = &lab.hosts.iter().find(|h| h.config.name == "host/dns").unwrap().config;
    let ServiceKind::Dns(zone) = &dns.services[0].kind else { panic!("{:?}", dns.services) };
    assert_eq!(zone.lookup("A.lab.").unwrap(), [addr("192.0.2.7")]);
    assert_eq!(lab.network.routers.len(), 0);
}

#[test]
fn names_mean_what_people_write() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {ports: [{port: 80}]}}";
    let lab = realized(&documents(&[CLUSTER, OUTSIDE, &namespace("a"), &pod("a", "x"), service]));
    let address = |text: &str| lab.names.target(text).map(|t| t.address().unwrap());
    assert_eq!(address("pod/a/x").unwrap(), addr("10.244.0.18"));
    assert_eq!(address("vm/cp-2").unwrap(), addr("10.244.0.3"));
    assert_eq!(address("vm/cp-2:eth0").unwrap(), addr("192.168.10.46"));
    assert_eq!(address("host/server").unwrap(), addr("192.168.100.1"));
    assert_eq!(address("ext/server:eth0").unwrap(), addr("192.168.100.1"));
    assert_eq!(address("svc/a/s").unwrap(), addr("10.96.0.33"));
    assert_eq!(address("192.0.2.1").unwrap(), addr("192.0.2.1"));
    let Target::Port(full, _) = lab.names.target("vm/cp-1").unwrap() else { panic!() };
    assert_eq!(full, "vm/cp-1:eth1");
    assert!(matches!(lab.names.target("nonsense"), Err(NameError::Syntax(_))));
    assert_eq!(
        lab.names.vip(&ObjectName::new("a", "s")).unwrap_err().to_string(),
        "there is no Service with an address outside 'a/s'; there is none"
    );
    assert_eq!(
        lab.names.snat("b").unwrap_err().to_string(),
        "there is no namespace with an egress address 'b'; there are a"
    );
    let none = |name: &str| None.filter(|_: &Addr| name.is_empty());
    let ask = |text: &str| lab.names.address(&text.parse().unwrap(), none);
    assert_eq!(ask("gateway(a)").unwrap(), addr("10.244.0.17"));
    assert_eq!(ask("snat(a)").unwrap(), addr("172.16.2.2"));
    assert_eq!(ask("clusterip(a/s)").unwrap(), addr("10.96.0.33"));
    assert_eq!(ask("${nat_port}").unwrap_err(), NameError::Variable("nat_port".into()));
    let mac = |text: &str| lab.names.mac(&text.parse().unwrap(), |_| None).unwrap();
    assert_eq!(mac("mac(gateway(a))"), "02:50:56:56:44:52".parse().unwrap());
    assert_eq!(mac("mac(pod/a/x)"), "04:50:56:00:d0:03".parse().unwrap());
}

#[test]
fn a_host_network_pod_is_its_vm() {
    let on_host = |host: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: api, namespace: kube-system, labels: {{app: api}}}}, \
             spec: {{hostNetwork: true{host}, containers: [{{name: c, image: i}}]}}}}"
        )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: kube-system}, \
                   spec: {selector: {app: api}, ports: [{port: 443, targetPort: 6443}]}}";
    let lab = realized(&documents(&[CLUSTER, &on_host(""), service]));
    assert!(lab.network.distributed_balancer.servers()[0].members.is_empty());
    assert!(lab.notices.iter().any(|n| n.message.contains("hostNetwork")));
    assert!(lab.names.port("pod/kube-system/api").is_err());

    let mut placed = definitions(&documents(&[CLUSTER, &on_host(""), service]));
    let pod = placed.pods.values_mut().next().unwrap();
    pod.host = Some("cp-2".to_owned());
    pod.ports.push(ContainerPort { name: None, port: 9100, protocol: Protocol::Tcp });
    let lab = realize(&placed, &Allocations::default()).unwrap();
    let members = &lab.network.distributed_balancer.servers()[0].members;
    let members: Vec<String> =
        members.iter().map(|m| format!("{} {}:{}", m.name, m.address, m.port)).collect();
    assert_eq!(members, ["vm/cp-2 10.244.0.3:6443"]);
    assert_eq!(lab.notices, []);
    assert!(lab.names.port("pod/kube-system/api").is_err());
    // What the pod listens on, its VM does, and no other.
    for (vm, expected) in [("vm/cp-1", false), ("vm/cp-2", true)] {
        let vm = &lab.hosts.iter().find(|h| h.config.name == vm).unwrap().config;
        assert_eq!(vm.services.iter().any(|s| s.port == 9100), expected, "{}", vm.name);
    }
    // A pod with an address of its own is never a VM, wherever it says it is.
    let pod = placed.pods.values_mut().next().unwrap();
    pod.host_network = false;
    pod.host = Some("esx-1".to_owned());
    let lab = realize(&placed, &Allocations::default()).unwrap();
    let member = &lab.network.distributed_balancer.servers()[0].members[0];
    assert_eq!(member.name, "pod/kube-system/api");
}

#[test]
fn a_pod_that_has_ended_is_not_there() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, \
                   spec: {selector: {app: x}, publishNotReadyAddresses: true, ports: [{port: 80}]}}";
    let mut ended = definitions(&documents(&[
        CLUSTER,
        &namespace("a"),
        &pod("a", "x"),
        &pod("a", "y"),
        service,
    ]));
    let key = ObjectName::new("a", "x");
    ended.pods.get_mut(&key).unwrap().terminal = true;
    let lab = realize(&ended, &Allocations::default()).unwrap();
    assert!(lab.names.port("pod/a/x").is_err());
    assert!(lab.network.distributed_balancer.servers()[0].members.is_empty());
    // Its address is free for the next.
    assert_eq!(lab.names.address_of("pod/a/y").unwrap(), addr("10.244.0.18"));
    // On its host's network it has not even a notice, and its VM does not stand for it.
    let pod = ended.pods.get_mut(&key).unwrap();
    pod.host_network = true;
    pod.host = Some("cp-2".to_owned());
    let lab = realize(&ended, &Allocations::default()).unwrap();
    assert!(lab.network.distributed_balancer.servers()[0].members.is_empty());
    assert_eq!(lab.notices, []);
}

#[test]
fn tables_say_whose_rules_and_routes_they_are() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, \
                   spec: {type: LoadBalancer, ports: [{port: 80}]}}";
    let parts = [CLUSTER, OUTSIDE, &namespace("a"), &pod("a", "x"), &namespace("b"), service];
    let lab = realized(&documents(&parts));
    let nat: Vec<(Option<&str>, &str)> =
        lab.logical.nat.iter().map(|r| (r.namespace(), r.translation.as_str())).collect();
    assert_eq!(
        nat,
        [
            (None, "Any"),
            (None, "Any"),
            (Some("a"), "172.16.2.2"),
            (Some("b"), "172.16.2.3"),
            (None, "172.16.2.1")
        ]
    );
    let routes = |namespace: Option<&str>| -> BTreeSet<&str> {
        let own = lab.logical.routes.iter().filter(|r| r.namespace() == namespace);
        own.map(|r| r.prefix.as_str()).collect()
    };
    let a = ["10.244.0.16/28", "172.16.1.1/32", "172.16.2.2/32"];
    assert_eq!(routes(Some("a")), BTreeSet::from(a));
    assert_eq!(routes(Some("b")), BTreeSet::from(["10.244.0.32/28", "172.16.2.3/32"]));
    assert!(routes(None).contains("172.16.2.1/32"), "the system's address is nobody's own");
}

#[test]
fn segments_say_the_gateways_mac() {
    let lab = realized(&documents(&[CLUSTER, OUTSIDE, &namespace("a"), &pod("a", "x")]));
    let rows = cells(&lab.logical.segments, &["GATEWAY", "GATEWAY-MAC"]);
    // ROUTER_MAC, on every segment of the cluster.
    assert!(rows.contains(&"10.244.0.17 02:50:56:56:44:52".to_owned()), "{rows:?}");
    // Where there is no gateway, there is no MAC.
    assert!(rows.contains(&"- -".to_owned()), "{rows:?}");
}

#[test]
fn the_labs_we_ship_are_realized_without_a_word() {
    for name in ["first-lab", "nat-as-printed", "supervisor", "supervisor-cured"] {
        let path = format!("{}/../../topologies/{name}", env!("CARGO_MANIFEST_DIR"));
        let loaded =
            load(&[Input::Path(path.into())]).unwrap_or_else(|f| panic!("{name}: {}", f[0]));
        let lab = realize(&loaded.definitions, &Allocations::default())
            .unwrap_or_else(|f| panic!("{name}: {}", f[0]));
        assert_eq!(lab.notices, [], "{name}");
    }
}
