//! Everything that is allocated can be pinned: where it then is, what it takes from others, and what is refused.

use super::*;
use packet::Addr;

fn lab_of(cluster: &str, parts: &[String]) -> String {
    std::iter::once(cluster.to_owned())
        .chain(parts.iter().cloned())
        .collect::<Vec<_>>()
        .join("\n---\n")
}

fn cluster(annotations: &str, spec: &str) -> String {
    format!(
        "{{kind: SupervisorCluster, metadata: {{name: sup, annotations: {{{annotations}}}}}, spec: {{{spec}}}}}"
    )
}

/// IPv4 10.244.0.0/20 in /28s, IPv6 fd00::/48 in /64s.
fn dual() -> String {
    cluster("", "podCIDRv6: 'fd00::/48'")
}

fn ns(name: &str, annotations: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, annotations: {{{annotations}}}}}}}"
    )
}

fn pinned(namespace: &str, name: &str, ip: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: '{name}', namespace: {namespace}, annotations: {{lab.tierlab.dev/ip: '{ip}'}}}}, \
         spec: {{containers: [{{name: c, image: i}}]}}}}"
    )
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// All addresses at a port.
fn at(lab: &Realized, port: &str) -> Vec<String> {
    lab.names.port(port).unwrap().1.addresses.iter().map(ToString::to_string).collect()
}

fn networks(lab: &Realized) -> Vec<String> {
    cells(&lab.logical.segments, &["NAME", "NETWORK"])
        .into_iter()
        .filter(|row| row.starts_with("seg-"))
        .collect()
}

/// The only fault of a lab.
fn fault(text: &str) -> String {
    let mut all = faults(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Realizes a lab whose documents stand in both orders, to one result.
fn either_order(first: &str, parts: &[String]) -> Realized {
    let forward = realized(&lab_of(first, parts));
    let reversed: Vec<String> = parts.iter().rev().cloned().collect();
    let backward = realized(&lab_of(first, &reversed));
    assert_eq!(forward.allocations, backward.allocations);
    forward
}

#[test]
fn blocks_after_the_first() {
    let parts: Vec<String> =
        [ns("a", "lab.tierlab.dev/subnet: '10.244.0.64/28, 10.244.0.32/28'"), namespace("b")]
            .into_iter()
            .chain((0..14).map(|i| pod("a", &format!("p{i:02}"))))
            .collect();
    let lab = either_order(CLUSTER, &parts);
    assert_eq!(
        networks(&lab),
        [
            "seg-a-0 10.244.0.64/28",
            "seg-a-1 10.244.0.32/28",
            "seg-b-0 10.244.0.16/28",
            "seg-control-plane 10.244.0.0/28"
        ]
    );
    // The first block holds 13, in its order and not in that of the numbers.
    assert_eq!(at(&lab, "pod/a/p12"), ["10.244.0.78"]);
    assert_eq!(at(&lab, "pod/a/p13"), ["10.244.0.34"]);
    // Pinned blocks are there without need, as the first always is.
    let lab = realized(&lab_of(CLUSTER, &[parts[0].clone()]));
    assert_eq!(lab.names.gateway("a").unwrap(), addr("10.244.0.65"));
    assert_eq!(networks(&lab).len(), 3);
    // So is a system namespace's.
    let lab =
        realized(&lab_of(CLUSTER, &[ns("kube-system", "lab.tierlab.dev/subnet: 10.244.0.64/28")]));
    assert_eq!(networks(&lab)[1], "seg-kube-system-0 10.244.0.64/28");
}

#[test]
fn pinned_blocks_conflict() {
    let two = |a: &str, b: &str| {
        lab_of(
            &dual(),
            &[
                ns("a", &format!("lab.tierlab.dev/subnet: '{a}'")),
                ns("b", &format!("lab.tierlab.dev/subnet: '{b}'")),
            ],
        )
    };
    for (a, b, wanted) in [
        (
            "10.244.0.16/28",
            "10.244.0.32/28, 10.244.0.16/28",
            "block 10.244.0.16/28 belongs to namespace a",
        ),
        (
            "fd00:0:0:5::/64",
            "fd00:0:0:5::/64",
            "IPv6 network fd00:0:0:5::/64 belongs to namespace a",
        ),
        ("fd00:0:0:5::/64", "fd01::/64", "fd01::/64 is no /64 network of podCIDRv6 fd00::/48"),
        ("10.244.0.16/28", "fd00::/56", "fd00::/56 is no /64 network of podCIDRv6 fd00::/48"),
        // Block 2 goes with fd00:0:0:2::/64, which is a's.
        (
            "fd00:0:0:2::/64",
            "10.244.0.32/28",
            "IPv6 network fd00:0:0:2::/64 of block 10.244.0.32/28 belongs to namespace a",
        ),
        ("10.244.0.16/28", "10.244.0.0/28", "belongs to the control plane (SupervisorCluster sup)"),
        (
            "10.244.0.16/28",
            "10.244.0.32/27",
            "10.244.0.32/27 is no /28 block of podCIDR 10.244.0.0/20",
        ),
    ] {
        let said = fault(&two(a, b));
        assert!(said.contains("Namespace b: ") && said.contains(wanted), "{a} {b}: {said}");
    }
    let said = fault(&lab_of(CLUSTER, &[ns("a", "lab.tierlab.dev/subnet: 'fd00::/64'")]));
    assert!(
        said.contains("Namespace a: fd00::/64 is IPv6, which the cluster has none of"),
        "{said}"
    );
}

#[test]
fn ipv6_networks_of_blocks() {
    let parts: Vec<String> = [
        ns("a", "lab.tierlab.dev/subnet: 'fd00:0:0:2::/64, 10.244.0.48/28, fd00:0:0:ffff::/64'"),
        ns("b", ""),
        ns("c", ""),
        pod("a", "x"),
        pod("b", "y"),
    ]
    .into_iter()
    .chain((0..13).map(|i| pod("a", &format!("p{i:02}"))))
    .collect();
    let lab = either_order(&dual(), &parts);
    // a's second block takes its pinned network; blocks whose network is a's are passed over: block 2.
    assert_eq!(
        networks(&lab),
        [
            "seg-a-0 10.244.0.48/28,fd00:0:0:2::/64",
            "seg-a-1 10.244.0.16/28,fd00:0:0:ffff::/64",
            "seg-b-0 10.244.0.64/28,fd00:0:0:4::/64",
            "seg-c-0 10.244.0.80/28,fd00:0:0:5::/64",
            "seg-control-plane 10.244.0.0/28,fd00::/64"
        ]
    );
    assert_eq!(at(&lab, "pod/a/p00"), ["10.244.0.50", "fd00:0:0:2::2"]);
    assert_eq!(at(&lab, "pod/b/y"), ["10.244.0.66", "fd00:0:0:4::2"]);
}

#[test]
fn both_addresses_of_a_pod() {
    for ip in ["10.244.0.20, fd00:0:0:1::abcd", "fd00:0:0:1::abcd,10.244.0.20"] {
        let lab = realized(&lab_of(&dual(), &[namespace("a"), pinned("a", "x", ip)]));
        assert_eq!(at(&lab, "pod/a/x"), ["10.244.0.20", "fd00:0:0:1::abcd"]);
    }
    // One of them alone brings its block; the other goes with it, and belongs to nobody else.
    let parts = [
        namespace("a"),
        pinned("a", "x", "fd00:0:0:9::2"),
        pinned("a", "y", "fd00:0:0:9::9999"),
        pinned("a", "z", "10.244.0.147"),
        pod("a", "w"),
    ];
    let lab = either_order(&dual(), &parts);
    // Block 9 is 10.244.0.144/28.
    assert_eq!(at(&lab, "pod/a/x"), ["10.244.0.146", "fd00:0:0:9::2"]);
    assert_eq!(at(&lab, "pod/a/y"), ["10.244.0.148", "fd00:0:0:9::9999"]);
    assert_eq!(at(&lab, "pod/a/z"), ["10.244.0.147", "fd00:0:0:9::3"]);
    assert_eq!(at(&lab, "pod/a/w"), ["10.244.0.149", "fd00:0:0:9::5"]);
}

/// An IPv4 address is not given out while the IPv6 address that goes with it is somebody else's.
#[test]
fn a_pinned_ipv6_address_takes_a_number() {
    let lab = realized(&lab_of(
        &dual(),
        &[namespace("a"), pinned("a", "x", "10.244.0.30,fd00:0:0:1::2"), pod("a", "y")],
    ));
    assert_eq!(at(&lab, "pod/a/y"), ["10.244.0.19", "fd00:0:0:1::3"]);
    // 13 pods of which one takes a second number need a second block.
    let mut parts = vec![namespace("a"), pinned("a", "x", "10.244.0.30,fd00:0:0:1::2")];
    parts.extend((0..12).map(|i| pod("a", &format!("p{i:02}"))));
    let lab = realized(&lab_of(&dual(), &parts));
    assert_eq!(networks(&lab)[1], "seg-a-1 10.244.0.32/28,fd00:0:0:2::/64");
    assert_eq!(at(&lab, "pod/a/p11"), ["10.244.0.34", "fd00:0:0:2::2"]);
}

#[test]
fn pinned_addresses_of_pods_conflict() {
    let lab = |parts: &[String]| {
        let mut all = vec![namespace("a"), namespace("b")];
        all.extend(parts.iter().cloned());
        lab_of(&dual(), &all)
    };
    let x = |ip: &str| pinned("a", "x", ip);
    for (parts, wanted) in [
        (
            vec![x("fd00:0:0:1::")],
            "Pod a/x: fd00:0:0:1:: is no address for a pod in fd00:0:0:1::/64",
        ),
        (
            vec![x("fd00:0:0:1::1")],
            "Pod a/x: fd00:0:0:1::1 is no address for a pod in fd00:0:0:1::/64",
        ),
        (
            vec![x("10.244.0.20,fd00:0:0:2::5")],
            "fd00:0:0:2::5 is no address for a pod in fd00:0:0:1::/64",
        ),
        (vec![x("fe80::5")], "Pod a/x: fe80::5 is in no IPv6 network of its namespace"),
        (vec![x("fd00:0:0:1000::5")], "is in no IPv6 network of its namespace"),
        (vec![x("fd00::5")], "Pod a/x: block 10.244.0.0/28 belongs to the control plane"),
        (
            vec![x("10.244.0.20"), pinned("a", "y", "fd00:0:0:1::4")],
            "Pod a/x: fd00:0:0:1::4, which goes with 10.244.0.20, is pinned by pod a/y",
        ),
        (
            vec![x("fd00:0:0:1::4"), pinned("b", "y", "10.244.0.21")],
            "Pod b/y: block 10.244.0.16/28 belongs to namespace a",
        ),
    ] {
        let said = fault(&lab(&parts));
        assert!(said.contains(wanted), "{parts:?}: {said}");
    }
    let said = fault(&lab_of(CLUSTER, &[namespace("a"), pinned("a", "x", "fd00::5")]));
    assert!(said.contains("Pod a/x: fd00::5 is IPv6, which the cluster has none of"), "{said}");
}

#[test]
fn single_replicas() {
    let set = |annotations: &str, replicas: u32| {
        format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: web, namespace: a, annotations: {{{annotations}}}}}, \
             spec: {{serviceName: web, replicas: {replicas}, selector: {{matchLabels: {{app: web}}}}, \
             template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
        )
    };
    let pins = "lab.tierlab.dev/ips: '2=10.244.0.18, 0=10.244.0.30, 0=fd00:0:0:1::99', lab.tierlab.dev/macs: '1=04:50:56:00:aa:aa'";
    let lab = realized(&lab_of(&dual(), &[namespace("a"), set(pins, 4)]));
    assert_eq!(at(&lab, "pod/a/web-0"), ["10.244.0.30", "fd00:0:0:1::99"]);
    assert_eq!(at(&lab, "pod/a/web-1"), ["10.244.0.19", "fd00:0:0:1::3"]);
    assert_eq!(at(&lab, "pod/a/web-2"), ["10.244.0.18", "fd00:0:0:1::2"]);
    assert_eq!(at(&lab, "pod/a/web-3"), ["10.244.0.20", "fd00:0:0:1::4"]);
    assert_eq!(lab.names.port("pod/a/web-1").unwrap().1.mac.to_string(), "04:50:56:00:aa:aa");
    // What a replica holds, a new pin of another does not take; its own pin moves it.
    let first = realized(&lab_of(&dual(), &[namespace("a"), set("", 3)]));
    let all = faults_with(
        &lab_of(&dual(), &[namespace("a"), set("lab.tierlab.dev/ips: '2=10.244.0.18'", 3)]),
        &first.allocations,
    );
    assert!(
        all[0].contains("Pod a/web-0: 10.244.0.18 is held by it and pinned by pod a/web-2"),
        "{all:?}"
    );
    let moved = realized_with(
        &lab_of(&dual(), &[namespace("a"), set("lab.tierlab.dev/ips: '2=10.244.0.28'", 3)]),
        &first.allocations,
    );
    assert_eq!(at(&moved, "pod/a/web-2"), ["10.244.0.28", "fd00:0:0:1::c"]);
    assert_eq!(at(&moved, "pod/a/web-1"), at(&first, "pod/a/web-1"));
}

#[test]
fn the_control_plane() {
    let sup = cluster(
        "lab.tierlab.dev/control-plane-subnet: '10.244.1.0/28,fd00:0:0:77::/64', \
         lab.tierlab.dev/control-plane-ips: 'cp-2=10.244.1.2, cp-3=fd00:0:0:77::abc', \
         lab.tierlab.dev/snat-ip: 172.16.2.200, lab.tierlab.dev/transit-subnet: 100.64.8.6/31",
        "podCIDRv6: 'fd00::/48'",
    );
    let lab = either_order(&sup, &[namespace("a"), pod("a", "x")]);
    assert_eq!(
        networks(&lab),
        ["seg-a-0 10.244.0.0/28,fd00::/64", "seg-control-plane 10.244.1.0/28,fd00:0:0:77::/64"]
    );
    // The third VM, part of which is pinned, comes before the first.
    assert_eq!(at(&lab, "vm/cp-1"), ["10.244.1.4", "fd00:0:0:77::4"]);
    assert_eq!(at(&lab, "vm/cp-2"), ["10.244.1.2", "fd00:0:0:77::2"]);
    assert_eq!(at(&lab, "vm/cp-3"), ["10.244.1.3", "fd00:0:0:77::abc"]);
    assert_eq!(at(&lab, "pod/a/x"), ["10.244.0.2", "fd00::2"]);
    assert_eq!(lab.names.snat("kube-system").ok(), None, "no such namespace is defined");
    assert_eq!(lab.names.snat("a").unwrap(), addr("172.16.2.1"));
    let nat = cells(&lab.logical.nat, &["SOURCE", "TRANSLATION"]);
    assert!(nat.contains(&"Any 172.16.2.200".to_owned()), "{nat:?}");
    // The rule of ip rule that F16 prints names the VM's own address.
    let rules = cells(&lab.logical.hosts, &["NAME", "RULES"]);
    assert!(
        rules.iter().any(|r| r.starts_with("vm/cp-2 ") && r.contains("from 10.244.1.2 lookup 200")),
        "{rules:?}"
    );
    assert_eq!(lab.allocations.transit["tier1/sup"].to_string(), "100.64.8.6");
    // Without the pins everything stays where it was.
    let kept = realized_with(&lab_of(&dual(), &[namespace("a"), pod("a", "x")]), &lab.allocations);
    assert_eq!(kept.allocations, lab.allocations);
}

#[test]
fn pins_of_the_cluster_are_checked() {
    let sup = |annotations: &str| lab_of(&cluster(annotations, ""), &[namespace("a")]);
    for (annotations, wanted) in [
        (
            "lab.tierlab.dev/control-plane-subnet: 10.245.0.0/28",
            "SupervisorCluster sup: 10.245.0.0/28 is no /28 block of podCIDR 10.244.0.0/20",
        ),
        (
            "lab.tierlab.dev/control-plane-ips: cp-1=10.244.0.20",
            "10.244.0.20 of cp-1 is not in the control plane's block, 10.244.0.0/28",
        ),
        (
            "lab.tierlab.dev/control-plane-ips: cp-1=10.244.0.1",
            "10.244.0.1 is no address for a control-plane VM in podCIDR 10.244.0.0/20",
        ),
        (
            "lab.tierlab.dev/control-plane-ips: 'cp-1=10.244.0.9,cp-3=10.244.0.9'",
            "10.244.0.9 is asked for twice: control-plane VM cp-1 has it",
        ),
        (
            "lab.tierlab.dev/snat-ip: 172.16.3.1",
            "172.16.3.1 is no egress address of egressCIDR 172.16.2.0/24 (ncp/snat_ip_status: IP_NOT_IN_POOL)",
        ),
        (
            "lab.tierlab.dev/transit-subnet: 100.65.0.0/31",
            "100.65.0.0/31 is no link of transitCIDR 100.64.0.0/16",
        ),
    ] {
        let said = fault(&sup(annotations));
        assert!(said.contains("SupervisorCluster sup: ") && said.contains(wanted), "{said}");
    }
    let both = lab_of(
        &cluster("lab.tierlab.dev/snat-ip: 172.16.2.7", ""),
        &[ns("a", "lab.tierlab.dev/snat-ip: 172.16.2.7")],
    );
    assert!(
        fault(&both).contains(
            "Namespace a: 172.16.2.7 is asked for twice: SupervisorCluster sup has it (ncp/snat_ip_status: SNAT_PROCESS_FAILED)"
        ),
        "{}",
        fault(&both)
    );
    let both = lab_of(
        &cluster("lab.tierlab.dev/control-plane-subnet: 10.244.0.32/28", ""),
        &[ns("a", "lab.tierlab.dev/subnet: 10.244.0.32/28")],
    );
    assert!(
        fault(&both).contains(
            "Namespace a: block 10.244.0.32/28 belongs to the control plane (SupervisorCluster sup)"
        ),
        "{}",
        fault(&both)
    );
}

#[test]
fn what_is_held_is_not_taken_by_a_pin() {
    let parts = [namespace("a"), namespace("b"), pod("a", "x"), pod("b", "y")];
    let first = realized(&lab_of(&dual(), &parts));
    assert_eq!(at(&first, "pod/a/x"), ["10.244.0.18", "fd00:0:0:1::2"]);
    let with = |part: String| {
        let mut all = parts.to_vec();
        all.retain(|p| {
            !part.contains("Namespace") || !p.contains("Namespace, metadata: {name: 'b'}")
        });
        all.push(part);
        let all = faults_with(&lab_of(&dual(), &all), &first.allocations);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    };
    for (part, wanted) in [
        (
            ns("b", "lab.tierlab.dev/subnet: 10.244.0.16/28"),
            "Namespace a: block 10.244.0.16/28 is held by it and pinned by namespace b",
        ),
        (
            ns("b", "lab.tierlab.dev/subnet: 'fd00:0:0:1::/64'"),
            "Namespace a: IPv6 network fd00:0:0:1::/64 of block 10.244.0.16/28 is held by it and pinned by namespace b",
        ),
        (
            pinned("a", "z", "fd00:0:0:1::2"),
            "Pod a/x: fd00:0:0:1::2 is held by it and pinned by pod a/z",
        ),
        (
            pinned("a", "z", "10.244.0.18"),
            "Pod a/x: 10.244.0.18 is held by it and pinned by pod a/z",
        ),
    ] {
        let said = with(part);
        assert!(said.contains(wanted), "{said}");
    }
}

/// Pins that are taken away leave what they gave.
#[test]
fn what_was_pinned_is_kept() {
    let with = [
        ns("a", "lab.tierlab.dev/subnet: '10.244.0.64/28, fd00:0:0:40::/64'"),
        pinned("a", "x", "10.244.0.70, fd00:0:0:40::cafe"),
    ];
    let first = realized(&lab_of(&dual(), &with));
    let second =
        realized_with(&lab_of(&dual(), &[namespace("a"), pod("a", "x")]), &first.allocations);
    assert_eq!(at(&second, "pod/a/x"), ["10.244.0.70", "fd00:0:0:40::cafe"]);
    assert_eq!(second.allocations, first.allocations);
}

/// A file of allocations that was tampered with costs what it kept and nothing else.
#[test]
fn a_hostile_file_costs_kept_addresses_alone() {
    let text = lab_of(&dual(), &[namespace("a"), namespace("b"), pod("a", "x"), pod("b", "y")]);
    let fresh = realized(&text);
    let mut kept = fresh.allocations.clone();
    for (key, net) in [("b/0", "10.244.0.16/28"), ("@control-plane/3", "10.244.0.64/28")] {
        kept.blocks.insert(key.into(), net.parse().unwrap());
    }
    kept.blocks_v6.insert("b/0".into(), "::/0".parse().unwrap());
    kept.pods.insert("b/y".into(), "10.244.0.18".parse().unwrap());
    for key in ["a/x", "b/y", "@control-plane/cp-1", "@control-plane/cp-2"] {
        kept.pods_v6.insert(key.into(), "fd00::2".parse().unwrap());
    }
    let lab = realized_with(&text, &kept);
    assert_eq!(at(&lab, "pod/a/x"), ["10.244.0.18", "fd00:0:0:1::2"]);
    assert_eq!(at(&lab, "pod/b/y"), ["10.244.0.34", "fd00:0:0:2::2"]);
    assert_eq!(at(&lab, "vm/cp-1"), ["10.244.0.2", "fd00::2"]);
    assert_ne!(at(&lab, "vm/cp-2")[1], "fd00::2");
}
