//! Annotations that pin addresses, SNAT pools and display names: what is read, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{definitions, errors, one_fault};
use definitions::model::{ObjectName, PinnedAddresses};

fn namespace(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  annotations: {{{annotations}}}\n"
    )
}

fn pod(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {{{annotations}}}\nspec: {{containers: []}}\n"
    )
}

fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  annotations: {{{annotations}}}\nspec: {{selector: {{a: b}}, ports: [{{port: 80}}]}}\n"
    )
}

fn cluster(annotations: &str, spec: &str) -> String {
    format!(
        "kind: SupervisorCluster\nmetadata:\n  name: c\n  annotations: {{{annotations}}}\nspec: {{{spec}}}\n"
    )
}

fn workload(kind: &str, annotations: &str, spec: &str) -> String {
    let spec = if kind == "DaemonSet" { String::new() } else { format!("{spec}, ") };
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: w\n  annotations: {{{annotations}}}\n\
         spec: {{{spec}selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: []}}}}}}\n"
    )
}

fn ips(v4: &str, v6: &str) -> PinnedAddresses {
    PinnedAddresses { v4: v4.parse().ok(), v6: v6.parse().ok() }
}

#[test]
fn a_namespaces_networks() {
    let d = definitions(&namespace(
        "lab.tierlab.dev/subnet: '10.244.0.64/28, fd00::/64 ,10.244.0.16/28,fd00:0:0:1::/64'",
    ));
    let subnets = &d.namespaces["a"].pins.subnets;
    let shown: Vec<String> = subnets.v4.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.244.0.64/28", "10.244.0.16/28"]);
    let shown: Vec<String> = subnets.v6.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["fd00::/64", "fd00:0:0:1::/64"]);
    let many: Vec<String> = (0..4097).map(|i| format!("fd00:0:0:{i:x}::/64")).collect();
    for (text, part) in [
        (many.join(",").as_str(), "it has more than 4096 parts"),
        ("", "it is empty"),
        ("10.244.0.16/28,", "has an empty part"),
        ("10.244.0.17/28", "has host bits set"),
        ("10.244.0.16", "is not a network"),
        ("10.244.0.16/28, 10.244.0.16/28", "10.244.0.16/28 is listed twice"),
    ] {
        let lab = namespace(&format!("lab.tierlab.dev/subnet: '{text}'"));
        one_fault(&lab, "t.yaml:5: Namespace a: annotation lab.tierlab.dev/subnet: ", part);
    }
}

#[test]
fn a_pods_addresses() {
    for text in ["10.244.0.20, fd00::5", "fd00::5,10.244.0.20"] {
        let d = definitions(&pod(&format!("lab.tierlab.dev/ip: '{text}'")));
        assert_eq!(d.pods[&ObjectName::new("default", "p")].pins.ip, ips("10.244.0.20", "fd00::5"));
    }
    for (text, part) in [
        ("10.244.0.20, 10.244.0.21", "10.244.0.21 is a second address of its family"),
        ("10.244.0.20/28", "'10.244.0.20/28' is not an IP address"),
        (",", "has an empty part"),
    ] {
        let lab = pod(&format!("lab.tierlab.dev/ip: '{text}'"));
        one_fault(&lab, "t.yaml:5: Pod default/p: annotation lab.tierlab.dev/ip: ", part);
    }
    // Two pods with one address, be it the second of one of them.
    let two = format!(
        "{}---\n{}",
        pod("lab.tierlab.dev/ip: '10.244.0.20, fd00::5'"),
        pod("lab.tierlab.dev/ip: 'fd00::5'").replace("name: p", "name: q")
    );
    one_fault(
        &two,
        "t.yaml:",
        "Pod default/q: its pinned address fd00::5 is also that of pod default/p; give each its own",
    );
}

#[test]
fn replicas_by_ordinal_or_host() {
    let text = workload(
        "StatefulSet",
        "lab.tierlab.dev/ips: '5=10.244.0.20, 7=fd00::7, 7=10.244.0.22', lab.tierlab.dev/macs: '6=04:50:56:00:aa:01'",
        "serviceName: w, replicas: 3, ordinals: {start: 5}",
    );
    let d = definitions(&text);
    let pins = |name: &str| d.pods[&ObjectName::new("default", name)].pins;
    assert_eq!(pins("w-5").ip, ips("10.244.0.20", ""));
    assert_eq!(pins("w-6").ip, PinnedAddresses::default());
    assert_eq!(pins("w-6").mac, "04:50:56:00:aa:01".parse().ok());
    assert_eq!(pins("w-7").ip, ips("10.244.0.22", "fd00::7"));
    let d = definitions(&format!(
        "{}---\n{}",
        cluster("", "hosts: [left, right]"),
        workload("DaemonSet", "lab.tierlab.dev/ips: right=10.244.0.20", "")
    ));
    assert_eq!(d.pods[&ObjectName::new("default", "w-right")].pins.ip, ips("10.244.0.20", ""));
    assert_eq!(d.pods[&ObjectName::new("default", "w-left")].pins.ip, PinnedAddresses::default());
}

#[test]
fn replicas_that_there_are_not() {
    for (kind, key, value, part) in [
        (
            "Deployment",
            "ips",
            "2=10.244.0.20",
            "an address is pinned for replica '2'; its replicas are 0 to 1",
        ),
        ("Deployment", "macs", "00=04:50:56:00:aa:01", "for replica '00'; its replicas are 0 to 1"),
        ("Deployment", "ips", "+1=10.244.0.20", "for replica '+1'"),
        ("Deployment", "ips", "=10.244.0.20", "'=10.244.0.20' is not NAME=ADDRESS"),
        ("Deployment", "ips", "10.244.0.20", "'10.244.0.20' is not NAME=ADDRESS"),
        ("Deployment", "ips", "0=x", "'x' is not an IP address"),
        (
            "Deployment",
            "ips",
            "0=10.244.0.20,0=10.244.0.21",
            "'0' has a second address of this family, 10.244.0.21",
        ),
        ("Deployment", "macs", "0=01:00:5e:00:00:01", "is not a station's (unicast) MAC address"),
        (
            "Deployment",
            "macs",
            "0=04:50:56:00:aa:01,0=04:50:56:00:aa:02",
            "'0' has a second address, 04:50:56:00:aa:02",
        ),
        (
            "DaemonSet",
            "ips",
            "0=10.244.0.20",
            "for replica '0'; its replicas are esx-1, esx-2, esx-3, esx-4",
        ),
    ] {
        let text = workload(kind, &format!("lab.tierlab.dev/{key}: '{value}'"), "replicas: 2");
        one_fault(&text, &format!("t.yaml:5: {kind} default/w: "), part);
    }
    let none = workload("Deployment", "lab.tierlab.dev/ips: 0=10.244.0.20", "replicas: 0");
    one_fault(&none, "t.yaml:5: Deployment default/w: ", "it has none");
    // Two replicas with one address, and pins in both places.
    let twice =
        workload("Deployment", "lab.tierlab.dev/ips: '0=10.244.0.20,1=10.244.0.20'", "replicas: 2");
    one_fault(
        &twice,
        "t.yaml:",
        "Pod default/w-1: its pinned address 10.244.0.20 is also that of pod default/w-0",
    );
    let both = workload("Deployment", "lab.tierlab.dev/ips: 0=10.244.0.20", "replicas: 1").replace(
        "template: {metadata: {",
        "template: {metadata: {annotations: {lab.tierlab.dev/ip: 10.244.0.21}, ",
    );
    one_fault(
        &both,
        "t.yaml:5: Deployment default/w: ",
        "pinned here and in the template; leave out one",
    );
    let several = workload("Deployment", "", "replicas: 2").replace(
        "template: {metadata: {",
        "template: {metadata: {annotations: {lab.tierlab.dev/ip: 10.244.0.21}, ",
    );
    one_fault(
        &several,
        "t.yaml:6: ",
        "cannot belong to several replicas; pin each by its ordinal with lab.tierlab.dev/ips",
    );
}

#[test]
fn a_clusters_pins() {
    let d = definitions(&cluster(
        "lab.tierlab.dev/control-plane-subnet: 'fd00::/64, 10.244.0.16/28', \
         lab.tierlab.dev/control-plane-ips: 'cp-2=10.244.0.20, cp-2=fd00::9', \
         lab.tierlab.dev/snat-ip: 172.16.2.9, lab.tierlab.dev/transit-subnet: 100.64.0.4/31",
        "podCIDRv6: 'fd00::/48'",
    ));
    let pins = &d.supervisor().unwrap().spec.pins;
    assert_eq!(pins.control_plane.v4, ["10.244.0.16/28".parse().unwrap()]);
    assert_eq!(pins.control_plane.v6, ["fd00::/64".parse().unwrap()]);
    assert_eq!(pins.vms.len(), 1);
    assert_eq!(pins.vms["cp-2"], ips("10.244.0.20", "fd00::9"));
    assert_eq!(pins.snat_ip, "172.16.2.9".parse().ok());
    assert_eq!(pins.transit, "100.64.0.4/31".parse().ok());
    for (key, value, part) in [
        (
            "control-plane-subnet",
            "10.244.0.0/28, 10.244.0.16/28",
            "10.244.0.16/28 is a second network of its family",
        ),
        (
            "control-plane-ips",
            "cp-4=10.244.0.2",
            "there is no control-plane VM 'cp-4'; there are cp-1, cp-2, cp-3",
        ),
        ("control-plane-ips", "10.244.0.2", "'10.244.0.2' is not NAME=ADDRESS"),
        ("snat-ip", "fd00::1", "'fd00::1' is not an IPv4 address"),
        ("transit-subnet", "100.64.0.4/30", "100.64.0.4/30 is not a /31, such as 100.64.0.2/31"),
        ("transit-subnet", "100.64.0.5/31", "has host bits set; the network is 100.64.0.4/31"),
        ("transit-subnet", "fd00::/127", "an IPv4 network is needed here"),
    ] {
        let text = cluster(&format!("lab.tierlab.dev/{key}: '{value}'"), "");
        let start = format!("t.yaml:4: SupervisorCluster c: annotation lab.tierlab.dev/{key}: ");
        one_fault(&text, &start, part);
    }
}

#[test]
fn annotations_belong_to_their_kinds() {
    for (text, part) in [
        (pod("lab.tierlab.dev/ips: '0=10.244.0.2'"), "it belongs to a workload itself"),
        (pod("lab.tierlab.dev/transit-subnet: 100.64.0.4/31"), "it belongs to a SupervisorCluster"),
        (
            pod("lab.tierlab.dev/snat-ip: 172.16.2.9"),
            "it belongs to a Namespace or a Service or a SupervisorCluster",
        ),
        (workload("Deployment", "lab.tierlab.dev/ip: 10.244.0.2", "replicas: 1"), "it belongs to a Pod, or to a workload's template"),
        (cluster("lab.tierlab.dev/subnet: 10.244.0.0/28", ""), "it belongs to a Namespace"),
        (cluster("lab.tierlab.dev/control-plane-ip: cp-1=10.244.0.2", ""), "did you mean 'lab.tierlab.dev/control-plane-ips'?"),
        // A kind without any.
        ("kind: ExternalNetwork\nmetadata:\n  name: n\n  annotations: {lab.tierlab.dev/subnet: 10.0.0.0/8}\n".to_owned(), "is not one of this kind"),
    ] {
        let all = errors(&text);
        assert!(all.len() == 1 && all[0].contains(part), "{part}: {all:?}");
    }
}

#[test]
fn a_services_pool_and_display_name() {
    let d = definitions(&service(
        "ncp/snat_pool: ' out , other', lab.tierlab.dev/snat-ip: 172.16.3.4, lab.tierlab.dev/display-name: 'A name: with blanks'",
    ));
    let service_of = |d: &definitions::Definitions| d.services.values().next().unwrap().clone();
    let s = service_of(&d);
    assert_eq!(s.snat_pools, ["out", "other"]);
    assert_eq!(s.snat_ip, "172.16.3.4".parse().ok());
    assert_eq!(s.display_name.as_deref(), Some("A name: with blanks"));
    let long = "é".repeat(255);
    let d = definitions(&service(&format!("lab.tierlab.dev/display-name: {long}")));
    assert_eq!(service_of(&d).display_name, Some(long));
    for (annotations, part) in [
        ("ncp/snat_pool: ''", "annotation ncp/snat_pool names no pool; write the name of one"),
        ("ncp/snat_pool: 'a,,b'", "annotation ncp/snat_pool names no pool"),
        (
            "lab.tierlab.dev/snat-ip: 172.16.3.4",
            "fixes an address of no pool; name the pool with ncp/snat_pool",
        ),
        ("ncp/snat_pool: out, lab.tierlab.dev/snat-ip: x", "'x' is not an IPv4 address"),
        ("lab.tierlab.dev/display-name: ''", "a display name has 1 to 255 characters"),
        ("lab.tierlab.dev/display-name: ' a'", "blanks at an end"),
        ("lab.tierlab.dev/display-name: \"a\\x1b[31m\"", "control characters"),
    ] {
        one_fault(&service(annotations), "t.yaml:5: Service default/s: ", part);
    }
    let long = format!("lab.tierlab.dev/display-name: {}", "x".repeat(256));
    one_fault(&service(&long), "t.yaml:5: Service default/s: ", "1 to 255 characters");
}

#[test]
fn snat_pools() {
    let pools = |pools: &str| cluster("", &format!("snatPools: [{pools}]"));
    let d = definitions(&pools(
        "{name: A.b_c, addresses: [172.16.3.0/28, 172.16.4.1-172.16.4.9, 172.16.5.5], namespaces: [a]}, {name: A.b_c, addresses: [172.16.6.0/30]}",
    ));
    let spec = &d.supervisor().unwrap().spec;
    let shown: Vec<String> = spec.snat_pools[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["172.16.3.0/28", "172.16.4.1-172.16.4.9", "172.16.5.5"]);
    assert!(spec.snat_pools[1].namespaces.is_empty());
    for (text, part) in [
        ("{name: '', addresses: [172.16.3.1]}", "'' is not a pool's name"),
        ("{name: 'a,b', addresses: [172.16.3.1]}", "'a,b' is not a pool's name"),
        ("{name: a, addresses: []}", "a pool has 1 to 1024 ranges"),
        ("{name: a}", "addresses"),
        ("{name: a, addresses: [172.16.3.1/28]}", "has host bits set"),
        ("{name: a, addresses: [172.16.3.9-172.16.3.1]}", "ends before it begins"),
        ("{name: a, addresses: ['fd00::/64']}", "an IPv4 network is needed here"),
        ("{name: a, addresses: [224.0.0.0/4]}", "224.0.0.0/4 has addresses that no host can have"),
        ("{name: a, addresses: [127.0.0.1]}", "127.0.0.1 has addresses that no host can have"),
        ("{name: a, addresses: [223.0.0.1-240.0.0.1]}", "has addresses that no host can have"),
        ("{name: a, addresses: [0.0.0.0-9.0.0.1]}", "has addresses that no host can have"),
        ("{name: a, addresses: [x]}", "'x' is not an address, a network or a range"),
        ("{name: a, addresses: [172.16.3.1], namespaces: [A]}", "'A' is not a DNS label"),
        ("{name: a, addresses: [172.16.3.1], namespace: [a]}", "did you mean 'namespaces'?"),
        (
            "{name: a, addresses: [172.16.2.250-172.16.3.4]}",
            "172.16.2.250-172.16.3.4 overlaps egressCIDR 172.16.2.0/24",
        ),
        ("{name: a, addresses: [10.244.3.0/24]}", "10.244.3.0/24 overlaps podCIDR 10.244.0.0/20"),
        (
            "{name: a, addresses: [172.16.3.0/28, 172.16.3.15]}",
            "172.16.3.15 overlaps 172.16.3.0/28, of this pool or another",
        ),
        (
            "{name: a, addresses: [172.16.3.0-172.16.3.9]}, {name: b, addresses: [172.16.3.9-172.16.3.20]}",
            "172.16.3.9-172.16.3.20 overlaps 172.16.3.0-172.16.3.9, of this pool or another",
        ),
    ] {
        one_fault(&pools(text), "t.yaml:5: SupervisorCluster c: ", part);
    }
    let outside = format!(
        "{}---\nkind: ExternalNetwork\nmetadata: {{name: n}}\nspec: {{cidr: 172.16.3.0/24}}\n",
        pools("{name: a, addresses: [172.16.3.9]}")
    );
    one_fault(
        &outside,
        "t.yaml:5: SupervisorCluster c: ",
        "172.16.3.9 overlaps 172.16.3.0/24, the addresses of ExternalNetwork 'n'",
    );
}
