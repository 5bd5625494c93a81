//! Who gets what, and keeps it.

use super::*;
use packet::Addr;

fn pods(namespace: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| pod(namespace, &format!("p{i:02}"))).collect()
}

fn lab_of(parts: &[String]) -> String {
    let mut all = vec![CLUSTER.to_owned()];
    all.extend(parts.iter().cloned());
    all.join("\n---\n")
}

fn address(lab: &Realized, port: &str) -> Addr {
    lab.names.address_of(port).unwrap()
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

#[test]
fn the_fourteenth_pod_opens_a_second_block() {
    let mut parts = vec![namespace("a"), namespace("b"), pod("b", "only")];
    parts.extend(pods("a", 14));
    let lab = realized(&lab_of(&parts));
    // Block 0 is the control plane's; a has 1 and 2, b has 3.
    assert_eq!(address(&lab, "pod/a/p00"), addr("10.244.0.18"));
    assert_eq!(address(&lab, "pod/a/p12"), addr("10.244.0.30"));
    assert_eq!(address(&lab, "pod/a/p13"), addr("10.244.0.34"));
    assert_eq!(address(&lab, "pod/b/only"), addr("10.244.0.50"));
    // One egress address for both blocks, and one firewall section that takes both as its own.
    let nat = cells(&lab.logical.nat, &["SOURCE", "TRANSLATION"]);
    assert!(nat.contains(&"10.244.0.16/28,10.244.0.32/28 172.16.2.2".to_owned()), "{nat:?}");
    let own =
        lab.network.firewall.rules.iter().find(|r| r.name == "ns.a.ingress-namespace").unwrap();
    assert!(own.source.contains(addr("10.244.0.18")) && own.source.contains(addr("10.244.0.34")));
    assert!(!own.source.contains(addr("10.244.0.50")));
    let in_second = lab.network.port(lab.names.port("pod/a/p13").unwrap().1.port).unwrap();
    let in_first = lab.network.port(lab.names.port("pod/a/p00").unwrap().1.port).unwrap();
    assert_ne!(in_first.segment, in_second.segment);
    assert_eq!(in_first.vnic.as_ref().unwrap().rules_in, in_second.vnic.as_ref().unwrap().rules_in);
}

#[test]
fn the_order_of_documents_does_not_matter() {
    let mut parts =
        vec![namespace("b"), namespace("a"), pod("b", "x"), pod("a", "z"), pod("a", "y")];
    let forward = realized(&lab_of(&parts));
    parts.reverse();
    let backward = realized(&lab_of(&parts));
    assert_eq!(forward.allocations, backward.allocations);
    assert_eq!(format!("{:?}", forward.network.ports), format!("{:?}", backward.network.ports));
    assert_eq!(format!("{:?}", forward.network.routers), format!("{:?}", backward.network.routers));
    assert_eq!(forward.network.firewall.rules, backward.network.firewall.rules);
}

#[test]
fn what_lives_keeps_everything_and_what_is_gone_frees_it() {
    let first = realized(&lab_of(&[
        namespace("b"),
        namespace("c"),
        pod("b", "m"),
        pod("b", "n"),
        pod("c", "o"),
    ]));
    // a sorts before all, m is gone, b/k is new.
    let text = lab_of(&[
        namespace("a"),
        namespace("b"),
        namespace("c"),
        pod("a", "q"),
        pod("b", "k"),
        pod("b", "n"),
        pod("c", "o"),
    ]);
    let second = realized_with(&text, &first.allocations);
    for port in ["pod/b/n", "pod/c/o", "vm/cp-1", "vm/cp-3:eth0"] {
        assert_eq!(first.names.port(port).unwrap(), second.names.port(port).unwrap(), "{port}");
    }
    for namespace in ["b", "c", "kube-system"] {
        assert_eq!(first.names.snat(namespace).ok(), second.names.snat(namespace).ok());
    }
    // What m had: address, index and MAC. k sorts after a/q, which takes the free MAC and index first.
    assert_eq!(address(&second, "pod/b/k"), address(&first, "pod/b/m"));
    let freed = first.names.port("pod/b/m").unwrap().1;
    let taken = second.names.port("pod/a/q").unwrap().1;
    assert_eq!((freed.port, freed.mac), (taken.port, taken.mac));
    assert_eq!(second.names.snat("a").unwrap(), addr("172.16.2.4"));
    assert_eq!(address(&second, "pod/a/q"), addr("10.244.0.50"));
    // Rules of b keep their numbers.
    let id = |lab: &Realized| {
        lab.logical.dfw.iter().find(|r| r.name == "ns.b.ingress-others").unwrap().id
    };
    assert_eq!(id(&first), id(&second));
}

#[test]
fn the_place_of_what_is_gone_is_inert() {
    let first = realized(&lab_of(&[namespace("a"), namespace("b"), pod("a", "x"), pod("b", "y")]));
    let second = realized_with(&lab_of(&[namespace("b"), pod("b", "y")]), &first.allocations);
    let hole = first.names.port("pod/a/x").unwrap().1.port;
    let unused = second.network.port(hole).unwrap();
    assert_eq!(unused.name, format!("unused/{}", hole.0));
    assert!(second.network.segment(unused.segment).is_none());
    assert!(second.network.segments.iter().all(|s| !s.ports.contains(&hole)));
    let gone = first.network.segments.iter().position(|s| s.name == "seg-a-0").unwrap();
    let segment = &second.network.segments[gone];
    assert!(segment.ports.is_empty() && segment.gateways.is_empty() && segment.stations.is_empty());
    let y = |lab: &Realized| lab.names.port("pod/b/y").unwrap().1.clone();
    assert_eq!(y(&first), y(&second));
    // Its interface at the Tier-1 is a hole as well, and has no route.
    let tier1 = &second.network.routers[0];
    assert_eq!(tier1.interfaces.iter().filter(|i| i.name.starts_with("unused/")).count(), 1);
    assert!(tier1.fib.lookup(addr("10.244.0.18")).is_none());
}

#[test]
fn a_second_realization_of_the_same_changes_nothing() {
    let mut parts = vec![namespace("a")];
    parts.extend(pods("a", 20));
    let first = realized(&lab_of(&parts));
    let second = realized_with(&lab_of(&parts), &first.allocations);
    assert_eq!(first.allocations, second.allocations);
    assert_eq!(first.statuses[0].value, "IP_ALLOCATED_SUCCESSFULLY");
    assert_eq!(second.statuses[0].value, "IP_ALREADY_ALLOCATED");
    // A second block goes when its pods do, and then another namespace may have it.
    let fewer: Vec<String> = parts.iter().take(3).cloned().chain([namespace("b")]).collect();
    let third = realized_with(&lab_of(&fewer), &second.allocations);
    assert_eq!(third.names.gateway("b").unwrap(), addr("10.244.0.33"));
}

#[test]
fn kept_allocations_survive_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("allocations.yaml");
    let lab = realized(&lab_of(&[namespace("a"), pod("a", "x")]));
    lab.allocations.save(&path).unwrap();
    assert_eq!(Allocations::load(&path).unwrap(), lab.allocations);
}

#[test]
fn pins_outrank_everything_and_conflicts_are_faults() {
    let pinned = |name: &str, ip: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: '{name}', namespace: a, annotations: {{lab.tierlab.dev/ip: {ip}}}}}, \
             spec: {{containers: [{{name: c, image: i}}]}}}}"
        )
    };
    // A pinned address brings its block; the unpinned pod uses it too.
    let lab = realized(&lab_of(&[namespace("a"), pinned("x", "10.244.1.5"), pod("a", "y")]));
    assert_eq!(address(&lab, "pod/a/x"), addr("10.244.1.5"));
    assert_eq!(address(&lab, "pod/a/y"), addr("10.244.1.2"));
    for (ip, why) in [
        ("10.244.0.5", "belongs to the control plane"),
        ("10.244.0.17", "is no address for a pod"),
        ("10.244.0.31", "is no address for a pod"),
        ("10.245.0.5", "is no address for a pod"),
    ] {
        let all = faults(&lab_of(&[namespace("a"), pinned("x", ip)]));
        assert!(
            all.len() == 1 && all[0].contains(why) && all[0].contains("Pod a/x"),
            "{ip}: {all:?}"
        );
    }
    // What y holds cannot be taken from it while it lives.
    let first = realized(&lab_of(&[namespace("a"), pod("a", "y")]));
    let all = faults_with(
        &lab_of(&[namespace("a"), pinned("x", "10.244.0.18"), pod("a", "y")]),
        &first.allocations,
    );
    assert!(
        all.len() == 1
            && all[0].contains("Pod a/y: 10.244.0.18 is held by it and pinned by pod a/x"),
        "{all:?}"
    );
    // Its own new pin moves an object.
    let moved =
        realized_with(&lab_of(&[namespace("a"), pinned("y", "10.244.0.20")]), &first.allocations);
    assert_eq!(address(&moved, "pod/a/y"), addr("10.244.0.20"));
}

#[test]
fn namespaces_pin_blocks_and_egress_addresses() {
    let ns = |name: &str, annotations: &str| {
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, annotations: {{{annotations}}}}}}}"
        )
    };
    let lab = realized(&lab_of(&[
        ns("b", "lab.tierlab.dev/subnet: 10.244.0.16/28, lab.tierlab.dev/snat-ip: 172.16.2.1"),
        namespace("a"),
    ]));
    assert_eq!(lab.names.gateway("b").unwrap(), addr("10.244.0.17"));
    assert_eq!(lab.names.gateway("a").unwrap(), addr("10.244.0.33"));
    assert_eq!(lab.names.snat("b").unwrap(), addr("172.16.2.1"));
    assert_eq!(lab.names.snat("a").unwrap(), addr("172.16.2.3"));
    let all = faults(&lab_of(&[ns("b", "lab.tierlab.dev/subnet: 10.244.0.0/28")]));
    assert!(all[0].contains("belongs to the control plane"), "{all:?}");
    let all = faults(&lab_of(&[ns("b", "ncp/static_snat_ip: 172.16.3.1")]));
    assert!(all[0].contains("is no egress address of egressCIDR 172.16.2.0/24"), "{all:?}");
}

/// R42: the limits, each exact, and the first beyond each a clear error.
#[test]
fn pools_end_where_they_end() {
    let small = |spec: &str| {
        format!("{{kind: SupervisorCluster, metadata: {{name: s}}, spec: {{{spec}}}}}")
    };
    let with = |cluster: &str, count: usize, make: &dyn Fn(usize) -> String| {
        let mut parts = vec![cluster.to_owned()];
        parts.extend((0..count).map(make));
        parts.join("\n---\n")
    };
    let ns = |i: usize| namespace(&format!("n{i:03}"));
    // 254 egress addresses: the system and 253 namespaces.
    assert_eq!(realized(&with(CLUSTER, 253, &ns)).logical.segments.len(), 255);
    let all = faults(&with(CLUSTER, 254, &ns));
    assert!(
        all.len() == 1
            && all[0].contains("Namespace n253")
            && all[0].contains("all 254 are in use"),
        "{all:?}"
    );
    // 256 blocks: the control plane's and 255 namespaces, with the edge addresses of the egress pool.
    let edges = small("egressUseEdgeAddresses: true");
    assert_eq!(realized(&with(&edges, 255, &ns)).names.snat("n254").unwrap(), addr("172.16.2.255"));
    let all = faults(&with(&edges, 256, &ns));
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].contains("Namespace n255") && all[1].contains("no /28 block left"), "{all:?}");
    // 510 ClusterIPs of a /23, from above the static band first.
    let service = |kind: &'static str| {
        move |i: usize| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: s{i:03}}}, spec: {{type: {kind}, ports: [{{port: 80}}]}}}}"
            )
        }
    };
    let lab = realized(&with(CLUSTER, 510, &service("ClusterIP")));
    let ip = |name: &str| {
        lab.names.cluster_ip(&definitions::model::ObjectName::new("default", name)).unwrap()
    };
    assert_eq!(ip("s000"), addr("10.96.0.33"));
    assert_eq!(ip("s477"), addr("10.96.1.254"));
    assert_eq!(ip("s478"), addr("10.96.0.1"));
    assert_eq!(ip("s509"), addr("10.96.0.32"));
    let all = faults(&with(CLUSTER, 511, &service("ClusterIP")));
    assert!(
        all.len() == 1 && all[0].contains("Service default/s510") && all[0].contains("all 510"),
        "{all:?}"
    );
    // 254 addresses outside.
    assert_eq!(
        realized(&with(CLUSTER, 254, &service("LoadBalancer"))).network.routers[0]
            .balancer
            .servers()
            .len(),
        254
    );
    let all = faults(&with(CLUSTER, 255, &service("LoadBalancer")));
    assert!(
        all.len() == 1
            && all[0].contains("Service default/s254")
            && all[0].contains("ingressCIDR 172.16.1.0/24"),
        "{all:?}"
    );
}

#[test]
fn a_hostile_file_of_allocations_costs_nothing_but_itself() {
    let text = lab_of(&[namespace("a"), pod("a", "x"), pod("a", "y")]);
    let fresh = realized(&text);
    let mut kept = fresh.allocations.clone();
    kept.ports.insert("pod/a/x".into(), u32::MAX);
    kept.pods.insert("a/y".into(), "8.8.8.8".parse().unwrap());
    kept.pods.insert("a/x".into(), "10.244.0.3".parse().unwrap());
    kept.blocks.insert("a/7".into(), "10.0.0.0/8".parse().unwrap());
    kept.macs.insert("pod/a/x".into(), "ff:ff:ff:ff:ff:ff".into());
    kept.macs.insert("pod/a/y".into(), "not a mac".into());
    kept.placements.insert("a/x".into(), "nowhere".into());
    kept.snat.insert("a".into(), "0.0.0.0".parse().unwrap());
    kept.transit.insert("tier1/sup".into(), "255.255.255.255".parse().unwrap());
    assert_eq!(realized_with(&text, &kept).allocations, fresh.allocations);
}

#[test]
fn pods_spread_over_hosts_and_stay() {
    let first = realized(&lab_of(&[
        namespace("a"),
        pod("a", "p"),
        pod("a", "q"),
        pod("a", "r"),
        pod("a", "s"),
        pod("a", "t"),
    ]));
    let nodes = |lab: &Realized| cells(&lab.logical.pods, &["NAME", "NODE"]);
    assert_eq!(nodes(&first), ["p esx-1", "q esx-2", "r esx-3", "s esx-4", "t esx-1"]);
    let second = realized_with(
        &lab_of(&[namespace("a"), pod("a", "a"), pod("a", "q"), pod("a", "t")]),
        &first.allocations,
    );
    assert_eq!(nodes(&second), ["a esx-3", "q esx-2", "t esx-1"]);
}
