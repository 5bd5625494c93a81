//! The facts of the source articles (features.md 1), out of topologies/supervisor.

use super::*;
use crate::logical::{HostRow, NatRow};
use definitions::Input;
use hosts::routing::Query;
use hosts::{RouteOutcome, ServiceKind, ServiceProtocol};
use std::path::PathBuf;

fn supervisor() -> Realized {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies/supervisor"));
    let loaded = load(&[Input::Path(path)]).unwrap_or_else(|f| panic!("{}", f[0]));
    realize(&loaded.definitions, &Allocations::default()).unwrap_or_else(|f| panic!("{}", f[0]))
}

#[test]
fn f1_f2_blocks_of_the_pod_network() {
    let lab = supervisor();
    assert_eq!(
        cells(&lab.logical.segments, &["NAME", "NETWORK", "GATEWAY"])[5..],
        [
            "seg-banking-0 10.244.0.16/28 10.244.0.17",
            "seg-control-plane 10.244.0.0/28 10.244.0.1",
            "seg-shop-0 10.244.0.32/28 10.244.0.33"
        ]
    );
}

#[test]
fn f3_control_plane_vms() {
    let lab = supervisor();
    let vms: Vec<String> = cells(&lab.logical.hosts, &["NAME", "INTERFACE", "ADDRESS", "MAC"])
        .into_iter()
        .filter(|r| r.starts_with("vm/"))
        .collect();
    // 192.168.10.46 and .47 by the block of five, .48 the floating address (F18) on the leader; the other MACs are the next free ones.
    assert_eq!(
        vms,
        [
            "vm/cp-1 eth0 192.168.10.45/24,192.168.10.48/24 00:50:56:b3:29:f3",
            "vm/cp-1 eth1 10.244.0.2/28 04:50:56:00:d0:00",
            "vm/cp-2 eth0 192.168.10.46/24 00:50:56:00:00:00",
            "vm/cp-2 eth1 10.244.0.3/28 04:50:56:00:d0:01",
            "vm/cp-3 eth0 192.168.10.47/24 00:50:56:00:00:01",
            "vm/cp-3 eth1 10.244.0.4/28 04:50:56:00:d0:02",
        ]
    );
    // Unpinned the first has the article's MAC, too.
    let bare = realized(CLUSTER);
    let eth1 = |row: &&HostRow| row.name == "vm/cp-1" && row.interface.as_deref() == Some("eth1");
    let eth1 = bare.logical.hosts.iter().find(eth1).unwrap();
    assert_eq!(eth1.mac.as_deref(), Some("04:50:56:00:d0:00"));
}

#[test]
fn f19_hypervisors_and_what_they_run() {
    let lab = supervisor();
    let rows: Vec<&HostRow> = lab.logical.hosts.iter().filter(|r| r.interface.is_none()).collect();
    let names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["esx-1", "esx-2", "esx-3", "esx-4"]);
    // Each workload runs on one of them, and on the one that `get pods` says.
    let mut all: Vec<&str> = rows.iter().flat_map(|r| &r.workloads).map(String::as_str).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), count), (3 + lab.logical.pods.len(), 3 + lab.logical.pods.len()));
    for pod in &lab.logical.pods {
        let row = rows.iter().find(|r| r.name == pod.node).unwrap();
        let name = format!("pod/{}/{}", pod.namespace, pod.name);
        assert!(row.workloads.contains(&name), "{name} on {}", pod.node);
    }
    let cells = cells(&lab.logical.hosts, &["NAME", "WORKLOADS"]);
    for row in rows {
        let line = format!("{} {}", row.name, row.workloads.len());
        assert!(cells.contains(&line), "{line} is not in {cells:?}");
    }
    assert!(cells.contains(&"vm/cp-1 -".to_owned()));
}

#[test]
fn f16_what_is_not_the_clusters_goes_to_the_workload_dns() {
    let lab = supervisor();
    for vm in ["vm/cp-1", "vm/cp-2", "vm/cp-3"] {
        let vm = lab.hosts.iter().find(|h| h.config.name == vm).unwrap();
        let dns = vm.config.services.iter().find(|s| s.port == 53).unwrap();
        let ServiceKind::Dns(zone) = &dns.kind else { panic!("{dns:?}") };
        assert_eq!(zone.upstreams("nsx.lab.local"), ["192.168.10.10".parse().unwrap()]);
        for own in ["kube-dns.kube-system.svc.cluster.local", "nobody.cluster.local"] {
            assert!(zone.upstreams(own).is_empty(), "{own}");
        }
    }
}

/// The article's table, sorted by address, port and protocol.
const DISTRIBUTED: [&str; 28] = [
    "kubernetes 10.96.0.1 443 L4 TCP",
    "kube-dns 10.96.0.10 53 L4 TCP",
    "kube-dns 10.96.0.10 53 L4 UDP",
    "kube-dns 10.96.0.10 9153 L4 TCP",
    "tkg-vmware-system-tkg-webhook-service 10.96.0.57 443 L4 TCP",
    "vmop-webhook-service 10.96.0.70 443 L4 TCP",
    "capw-capw-controller-manager-metrics-service 10.96.0.72 9846 L4 TCP",
    "capw-capw-controller-webhook-service 10.96.0.168 443 L4 TCP",
    "kube-apiserver-lb-svc 10.96.0.186 443 L4 TCP",
    "kube-apiserver-lb-svc 10.96.0.186 6443 L4 TCP",
    "tkg-vmware-system-tkg-controller-manager-metrics-service 10.96.0.202 9847 L4 TCP",
    "vmop-controller-manager-metrics-service 10.96.0.204 9848 L4 TCP",
    "capw-capi-kubeadm-control-plane-webhook-service 10.96.0.235 443 L4 TCP",
    "capw-capi-kubeadm-bootstrap-webhook-service 10.96.1.44 443 L4 TCP",
    "capw-capi-controller-manager-metrics-service 10.96.1.45 9844 L4 TCP",
    "nsop-vmware-system-nsop-webhook-service 10.96.1.87 443 L4 TCP",
    "capw-capi-kubeadm-control-plane-controller-manager-metrics-service 10.96.1.95 9848 L4 TCP",
    "vmware-system-license-operator-webhook-service 10.96.1.112 443 L4 TCP",
    "capw-capi-kubeadm-bootstrap-controller-manager-metrics-service 10.96.1.136 9845 L4 TCP",
    "cert-manager-cert-manager 10.96.1.149 9402 L4 TCP",
    "psp-operator-webhook-service 10.96.1.150 443 L4 TCP",
    "capw-capi-webhook-service 10.96.1.163 443 L4 TCP",
    "docker-registry 10.96.1.170 5000 L4 TCP",
    "apiserver-authproxy 10.96.1.173 8443 L4 TCP",
    "csi-vsphere-csi-controller 10.96.1.208 2112 L4 TCP",
    "csi-vsphere-csi-controller 10.96.1.208 2113 L4 TCP",
    "tkg-tkgs-plugin-service 10.96.1.245 8099 L4 TCP",
    "cert-manager-cert-manager-webhook 10.96.1.252 443 L4 TCP",
];

#[test]
fn f4_f6_the_distributed_load_balancer() {
    let lab = supervisor();
    let rows: Vec<String> = cells(
        &lab.logical.virtual_servers,
        &["BALANCER", "NAMESPACE", "SERVICE", "ADDRESS", "PORT", "PROTOCOL"],
    )
    .into_iter()
    .filter_map(|row| row.strip_prefix("distributed ").map(str::to_owned))
    .filter(|row| !row.starts_with("banking ") && !row.starts_with("shop "))
    .map(|row| row.split_once(' ').unwrap().1.to_owned())
    // Printed with the end of its namespace's name in front, which is longer than a name may be.
    .map(|row| {
        if row.starts_with("capi-kubeadm-control-plane-controller-manager") {
            format!("capw-{row}")
        } else {
            row
        }
    })
    .collect();
    assert_eq!(rows, DISTRIBUTED);
    let addresses: std::collections::BTreeSet<&str> =
        rows.iter().map(|r| r.split(' ').nth(1).unwrap()).collect();
    assert_eq!(addresses.len(), 24);
    // Every system service is the three control-plane VMs.
    for server in lab.network.distributed_balancer.servers() {
        if !server.name.starts_with("banking/") && !server.name.starts_with("shop/") {
            let members: Vec<&str> = server.members.iter().map(|m| m.name.as_str()).collect();
            assert_eq!(members, ["vm/cp-1", "vm/cp-2", "vm/cp-3"], "{}", server.name);
        }
    }
}

#[test]
fn f5_f7_f8_the_server_load_balancer() {
    let lab = supervisor();
    let rows: Vec<String> =
        cells(&lab.logical.virtual_servers, &["BALANCER", "SERVICE", "ADDRESS", "PORT", "SNAT"])
            .into_iter()
            .filter(|row| row.starts_with("server "))
            .collect();
    assert_eq!(
        rows,
        [
            "server csi-vsphere-csi-controller 172.16.1.1 2112 automap 100.64.0.1",
            "server csi-vsphere-csi-controller 172.16.1.1 2113 automap 100.64.0.1",
            "server kube-apiserver-lb-svc 172.16.1.2 443 automap 100.64.0.1",
            "server kube-apiserver-lb-svc 172.16.1.2 6443 automap 100.64.0.1",
            "server web 172.16.1.3 80 automap 100.64.0.1",
            "server store 172.16.1.4 80 automap 100.64.0.1",
        ]
    );
    let vm = lab.hosts.iter().find(|h| h.config.name == "vm/cp-2").unwrap();
    for port in [443, 6443] {
        assert!(vm.config.services.iter().any(|s| {
            s.port == port && s.kind == ServiceKind::Talk { identity: "vm cp-2".into() }
        }));
    }
    for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp] {
        let dns =
            vm.config.services.iter().find(|s| s.port == 53 && s.protocol == protocol).unwrap();
        let ServiceKind::Dns(zone) = &dns.kind else { panic!("{dns:?}") };
        assert_eq!(
            zone.lookup("kube-dns.kube-system.svc.cluster.local").unwrap(),
            ["10.96.0.10".parse().unwrap()]
        );
    }
}

fn nat_rows(rows: &[NatRow]) -> Vec<String> {
    cells(rows, &["ACTION", "SOURCE", "DESTINATION", "TRANSLATION"])
}

#[test]
fn f9_f10_nat() {
    assert_eq!(
        nat_rows(&supervisor().logical.nat),
        [
            "No SNAT 10.244.0.0/20 172.16.2.0/24 Any",
            "No SNAT 10.244.0.0/20 10.244.0.0/20 Any",
            "SNAT 10.244.0.16/28 Any 172.16.2.2",
            "SNAT 10.244.0.32/28 Any 172.16.2.3",
            "SNAT Any Any 172.16.2.1",
        ]
    );
    assert_eq!(
        nat_rows(&realized(CLUSTER).logical.nat),
        [
            "No SNAT 10.244.0.0/20 172.16.2.0/24 Any",
            "No SNAT 10.244.0.0/20 10.244.0.0/20 Any",
            "SNAT Any Any 172.16.2.1"
        ]
    );
}

#[test]
fn f9_the_table_as_printed_in_every_order() {
    let rules = [
        "{action: SNAT, translated: 172.16.2.1}",
        "{action: NO_SNAT, source: 10.244.0.0/20, destination: 10.244.0.0/20, translated: Any}",
        "{action: NO_SNAT, source: 10.244.0.0/20, destination: 172.16.2.0/24}",
    ];
    let mut seen = None;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let list: Vec<&str> = order.iter().map(|i| rules[*i]).collect();
        let text = documents(&[
            &format!(
                "{{kind: SupervisorCluster, metadata: {{name: s}}, spec: {{tier1: {{natRules: [{}]}}}}}}",
                list.join(", ")
            ),
            &namespace("banking"),
        ]);
        let lab = realized(&text);
        assert_eq!(
            nat_rows(&lab.logical.nat),
            [
                "No SNAT 10.244.0.0/20 172.16.2.0/24 Any",
                "No SNAT 10.244.0.0/20 10.244.0.0/20 Any",
                "SNAT Any Any 172.16.2.1"
            ]
        );
        // The whole table is the user's: everybody leaves with its address.
        assert_eq!(lab.names.snat("banking").unwrap(), "172.16.2.1".parse().unwrap());
        let first = seen.get_or_insert_with(|| lab.allocations.clone());
        assert_eq!(*first, lab.allocations);
    }
}

#[test]
fn f10_an_egress_address_a_namespace() {
    let lab = supervisor();
    for (namespace, address) in [
        ("kube-system", "172.16.2.1"),
        ("vmware-system-tkg", "172.16.2.1"),
        ("banking", "172.16.2.2"),
        ("shop", "172.16.2.3"),
    ] {
        assert_eq!(lab.names.snat(namespace).unwrap(), address.parse().unwrap(), "{namespace}");
    }
}

#[test]
fn f16_policy_routing_of_the_control_plane() {
    let lab = supervisor();
    let vm = lab.hosts.iter().find(|h| h.config.name == "vm/cp-1").unwrap();
    let rules: Vec<String> = vm.config.routing.rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        [
            "0: from all lookup local",
            "0: from all to 192.168.10.10 lookup 200",
            "0: from all to 172.16.1.0/24 lookup 200",
            "0: from all to 10.244.0.0/20 lookup 200",
            "0: from 10.244.0.2 lookup 200",
            "0: from all to 100.64.0.0/16 lookup 200",
            "0: from all to 10.96.0.0/23 lookup 200",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    );
    let way = |dst: &str, oif: Option<usize>| {
        let query = Query { dst: dst.parse().unwrap(), src: None, oif, iif: None };
        match vm.config.routing.lookup(&query, 2, |_| false, |_| {}) {
            RouteOutcome::Unicast { dev, next_hop, .. } => format!("dev {dev} via {next_hop}"),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(way("192.168.10.10", None), "dev 1 via 10.244.0.1");
    assert_eq!(way("192.168.10.10", Some(1)), "dev 1 via 10.244.0.1");
    assert_eq!(way("10.244.0.3", None), "dev 1 via 10.244.0.3");
    assert_eq!(way("10.244.0.18", None), "dev 1 via 10.244.0.1");
    assert_eq!(way("8.8.8.8", None), "dev 0 via 192.168.10.254");
}

#[test]
fn f15_f17_the_tier1() {
    let lab = supervisor();
    let routes = cells(&lab.logical.routes, &["ROUTER", "PREFIX", "SOURCE", "NEXT-HOP"]);
    let tier1: Vec<&str> =
        routes.iter().filter_map(|r| r.strip_prefix("tier1/supervisor ")).collect();
    assert_eq!(
        tier1,
        [
            "0.0.0.0/0 static via 100.64.0.0 dev uplink",
            "10.244.0.0/28 connected dev seg-control-plane",
            "10.244.0.16/28 connected dev seg-banking-0",
            "10.244.0.32/28 connected dev seg-shop-0",
            "100.64.0.0/31 connected dev uplink",
            "192.168.10.0/24 static unreachable",
        ]
    );
    let tier0: Vec<&str> = routes.iter().filter_map(|r| r.strip_prefix("tier0/tier0 ")).collect();
    assert_eq!(
        tier0,
        [
            "0.0.0.0/0 static via 192.168.101.1 dev uplink-1, via 192.168.102.1 dev uplink-2",
            "10.96.0.0/23 summary blackhole",
            "10.244.0.0/20 summary blackhole",
            "10.244.0.0/28 tier1-connected via 100.64.0.1 dev tier1/supervisor",
            "10.244.0.16/28 tier1-connected via 100.64.0.1 dev tier1/supervisor",
            "10.244.0.32/28 tier1-connected via 100.64.0.1 dev tier1/supervisor",
            "100.64.0.0/16 summary blackhole",
            "100.64.0.0/31 connected dev tier1/supervisor",
            "172.16.1.0/24 summary blackhole",
            "172.16.1.1/32 tier1-lb-vip via 100.64.0.1 dev tier1/supervisor",
            "172.16.1.2/32 tier1-lb-vip via 100.64.0.1 dev tier1/supervisor",
            "172.16.1.3/32 tier1-lb-vip via 100.64.0.1 dev tier1/supervisor",
            "172.16.1.4/32 tier1-lb-vip via 100.64.0.1 dev tier1/supervisor",
            "172.16.2.0/24 summary blackhole",
            "172.16.2.1/32 tier1-nat via 100.64.0.1 dev tier1/supervisor",
            "172.16.2.2/32 tier1-nat via 100.64.0.1 dev tier1/supervisor",
            "172.16.2.3/32 tier1-nat via 100.64.0.1 dev tier1/supervisor",
            "192.168.101.0/24 connected dev uplink-1",
            "192.168.102.0/24 connected dev uplink-2",
        ]
    );
}
