//! F4 to F10 and F24: the tables of virtual servers and NAT rules, as the article prints them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::support::{Desk, csv, documents, fields, table, topology};

/// Namespaces of the lab's own tenants; the article's services are all the others.
const TENANTS: [&str; 2] = ["banking", "shop"];

/// The article's table of distributed load balancers, its 28 rows in its order.
const DISTRIBUTED: &str = "\
kubernetes | 10.96.0.1 | 443 | L4 TCP
kube-dns | 10.96.0.10 | 53 | L4 TCP
kube-dns | 10.96.0.10 | 53 | L4 UDP
kube-dns | 10.96.0.10 | 9153 | L4 TCP
tkg-vmware-system-tkg-webhook-service | 10.96.0.57 | 443 | L4 TCP
vmop-webhook-service | 10.96.0.70 | 443 | L4 TCP
capw-capw-controller-manager-metrics-service | 10.96.0.72 | 9846 | L4 TCP
capw-capw-controller-webhook-service | 10.96.0.168 | 443 | L4 TCP
kube-apiserver-lb-svc | 10.96.0.186 | 443 | L4 TCP
kube-apiserver-lb-svc | 10.96.0.186 | 6443 | L4 TCP
tkg-vmware-system-tkg-controller-manager-metrics-service | 10.96.0.202 | 9847 | L4 TCP
vmop-controller-manager-metrics-service | 10.96.0.204 | 9848 | L4 TCP
capw-capi-kubeadm-bootstrap-webhook-service | 10.96.1.44 | 443 | L4 TCP
capw-capi-controller-manager-metrics-service | 10.96.1.45 | 9844 | L4 TCP
nsop-vmware-system-nsop-webhook-service | 10.96.1.87 | 443 | L4 TCP
capw-capi-kubeadm-control-plane-controller-manager-metrics-service | 10.96.1.95 | 9848 | L4 TCP
vmware-system-license-operator-webhook-service | 10.96.1.112 | 443 | L4 TCP
capw-capi-kubeadm-bootstrap-controller-manager-metrics-service | 10.96.1.136 | 9845 | L4 TCP
cert-manager-cert-manager | 10.96.1.149 | 9402 | L4 TCP
psp-operator-webhook-service | 10.96.1.150 | 443 | L4 TCP
capw-capi-webhook-service | 10.96.1.163 | 443 | L4 TCP
docker-registry | 10.96.1.170 | 5000 | L4 TCP
apiserver-authproxy | 10.96.1.173 | 8443 | L4 TCP
csi-vsphere-csi-controller | 10.96.1.208 | 2112 | L4 TCP
csi-vsphere-csi-controller | 10.96.1.208 | 2113 | L4 TCP
capw-capi-kubeadm-control-plane-webhook-service | 10.96.0.235 | 443 | L4 TCP
tkg-tkgs-plugin-service | 10.96.1.245 | 8099 | L4 TCP
cert-manager-cert-manager-webhook | 10.96.1.252 | 443 | L4 TCP";

/// Columns of a CSV table by name, of the rows that `keep` wants.
fn columns(
    arguments: &[&str],
    names: &[&str],
    keep: impl Fn(&dyn Fn(&str) -> String) -> bool,
) -> Vec<Vec<String>> {
    let rows = csv(&Desk::new().ok(arguments));
    let (header, rows) = rows.split_first().unwrap();
    let index = |name: &str| {
        header
            .iter()
            .position(|h| h == name)
            .unwrap_or_else(|| panic!("no column {name} in {header:?}"))
    };
    rows.iter()
        .filter(|row| keep(&|name: &str| row[index(name)].clone()))
        .map(|row| names.iter().map(|name| row[index(name)].clone()).collect())
        .collect()
}

/// The system's virtual servers of one balancer: service, address, port, protocol.
fn virtual_servers(balancer: &str) -> Vec<Vec<String>> {
    columns(
        &["get", "virtualservers", "-f", &topology("supervisor"), "-o", "csv"],
        &["service", "address", "port", "protocol"],
        |of| of("balancer") == balancer && !TENANTS.contains(&of("namespace").as_str()),
    )
}

fn printed(rows: &str) -> BTreeSet<Vec<String>> {
    rows.lines().map(|row| row.split(" | ").map(str::to_owned).collect()).collect()
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn f4_and_f6_the_distributed_virtual_servers() {
    let rows = virtual_servers("distributed");
    assert_eq!(rows.len(), 28);
    assert_eq!(rows.iter().map(|row| &row[1]).collect::<BTreeSet<_>>().len(), 24, "ClusterIPs");
    assert_eq!(rows.iter().filter(|row| row[3] == "L4 TCP").count(), 27);
    assert_eq!(rows.iter().filter(|row| row[3] == "L4 UDP").count(), 1);
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), printed(DISTRIBUTED));
    // One of these names, of 66 characters, no Service can have: it is that Service's display name.
    let long = "capw-capi-kubeadm-control-plane-controller-manager-metrics-service";
    let rows = table("virtualservers", &[&topology("supervisor")]);
    let row = rows.iter().find(|row| row["service"] == long).unwrap();
    assert_eq!(
        row["origin"],
        "Service vmware-system-capw/capi-kubeadm-control-plane-controller-manager-metrics-service"
    );

    // All in 10.96.0.0/23. Of its static band, .0 to .32, only .1 and .10 are taken: what nobody chose comes from above it.
    let all = table("services", &[&topology("supervisor")]);
    for row in &all {
        let [namespace, ip]: [String; 2] =
            fields(row, &["namespace", "clusterIp"]).try_into().unwrap();
        let number = u32::from(address(&ip));
        assert!((0x0a60_0000..0x0a60_0200).contains(&number), "{ip}");
        let in_band = number <= u32::from(address("10.96.0.32"));
        assert_eq!(in_band, ["10.96.0.1", "10.96.0.10"].contains(&ip.as_str()), "{ip}");
        if TENANTS.contains(&namespace.as_str()) {
            assert!(number >= u32::from(address("10.96.0.33")), "{ip}");
        }
    }
}

#[test]
fn f5_and_f8_the_server_virtual_servers() {
    let printed = printed(
        "csi-vsphere-csi-controller | 172.16.1.1 | 2112 | L4 TCP
csi-vsphere-csi-controller | 172.16.1.1 | 2113 | L4 TCP
kube-apiserver-lb-svc | 172.16.1.2 | 6443 | L4 TCP
kube-apiserver-lb-svc | 172.16.1.2 | 443 | L4 TCP",
    );
    let rows = virtual_servers("server");
    assert_eq!(rows.len(), 4);
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), printed);

    // "Two VS – one for the KubeAPI and the other for downloading the CLI tools", both served by the control-plane VMs.
    for port in [6443, 443] {
        let url = format!("http://172.16.1.2:{port}/");
        let said = Desk::new().ok(&["curl", "host/client", &url, "-f", &topology("supervisor")]);
        assert!(said.starts_with("vm cp-") && said.contains(" sees client 100.64."), "{said}");
    }
}

#[test]
fn f7_a_load_balancer_service_has_both_and_with_the_same_ports() {
    for (service, cluster_ip, vip, ports) in [
        ("kube-apiserver-lb-svc", "10.96.0.186", "172.16.1.2", ["443", "6443"]),
        ("csi-vsphere-csi-controller", "10.96.1.208", "172.16.1.1", ["2112", "2113"]),
    ] {
        for (balancer, expected) in [("distributed", cluster_ip), ("server", vip)] {
            let mut rows = virtual_servers(balancer);
            rows.retain(|row| row[0] == service);
            rows.sort_by_key(|row| row[2].parse::<u16>().unwrap());
            let seen: Vec<_> = rows.iter().map(|row| (row[1].as_str(), row[2].as_str())).collect();
            assert_eq!(seen, ports.map(|port| (expected, port)), "{service} {balancer}");
        }
    }
}

/// The rules of a lab's NAT table in the order of evaluation: action, source, destination, translation.
fn nat(paths: &[&str]) -> Vec<String> {
    table("nat", paths)
        .iter()
        .map(|row| fields(row, &["action", "source", "destination", "translation"]).join(" | "))
        .collect()
}

#[test]
fn f9_the_nat_table_in_any_order() {
    let lab = std::fs::read_to_string(topology("nat-as-printed") + "/lab.yaml").unwrap();
    let rules: Vec<&str> = lab.lines().filter(|line| line.starts_with("    - {action: ")).collect();
    assert_eq!(rules.len(), 3);
    // No SNAT first, or SNAT Any Any would leave nothing to the others. Between the two, the longer destination first.
    let evaluated = [
        "No SNAT | 10.244.0.0/20 | 172.16.2.0/24 | Any",
        "No SNAT | 10.244.0.0/20 | 10.244.0.0/20 | Any",
        "SNAT | Any | Any | 172.16.2.1",
    ];
    assert_eq!(nat(&[&topology("nat-as-printed")]), evaluated);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let shuffled = order.map(|i| rules[i]).join("\n");
        let desk = Desk::with(lab.replace(&rules.join("\n"), &shuffled));
        let path = desk.path().display().to_string();
        assert_eq!(nat(&[&path]), evaluated, "{order:?}");
        // What leaves is translated; between namespaces, and towards the egress network, nothing is.
        let said =
            desk.ok(&["curl", "pod/banking/teller", "http://192.168.100.1/", "-f", "lab.yaml"]);
        assert!(said.contains("sees client 172.16.2.1:"), "{order:?}: {said}");
        for (to, rule) in [("pod/shop/cart", None), ("172.16.2.77", Some("172.16.2.0/24"))] {
            let said = desk.ok(&["trace", "pod/banking/teller", to, "-f", "lab.yaml"]);
            assert!(!said.contains("172.16.2.1 >"), "{order:?}: {said}");
            if let Some(rule) = rule {
                let applied =
                    said.lines().find(|l| l.contains("t1-nat")).unwrap_or_else(|| panic!("{said}"));
                assert!(applied.contains("NO_SNAT") && applied.contains(rule), "{said}");
            }
        }
    }
}

#[test]
fn f9_the_order_of_documents_and_files_means_nothing() {
    let lab = topology("nat-as-printed");
    let text = std::fs::read_to_string(format!("{lab}/lab.yaml")).unwrap();
    let expected = nat(&[&lab]);
    let mut documents = documents(&text);
    for _ in 0..documents.len() {
        documents.rotate_left(1);
        let desk = Desk::with(documents.join("---\n"));
        assert_eq!(nat(&[&desk.path().display().to_string()]), expected);
        // And each in a file of its own, given backwards.
        let names: Vec<String> = (0..documents.len()).map(|i| format!("{i}.yaml")).collect();
        let desk = Desk::new();
        for (name, document) in names.iter().zip(&documents) {
            desk.write(name, document);
        }
        let paths: Vec<String> =
            names.iter().rev().map(|name| desk.path().join(name).display().to_string()).collect();
        assert_eq!(nat(&paths.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }
}

#[test]
fn f9_and_f10_the_supervisors_table_has_the_three_rules_and_one_for_each_namespace() {
    assert_eq!(
        nat(&[&topology("supervisor")]),
        [
            "No SNAT | 10.244.0.0/20 | 172.16.2.0/24 | Any",
            "No SNAT | 10.244.0.0/20 | 10.244.0.0/20 | Any",
            "SNAT | 10.244.0.16/28 | Any | 172.16.2.2",
            "SNAT | 10.244.0.32/28 | Any | 172.16.2.3",
            "SNAT | Any | Any | 172.16.2.1",
        ]
    );
    for (from, address) in [
        ("vm/cp-1:eth1", "172.16.2.1"),
        ("pod/banking/teller", "172.16.2.2"),
        ("pod/shop/cart", "172.16.2.3"),
    ] {
        let said = Desk::new().ok(&[
            "curl",
            from,
            "http://192.168.20.100/",
            "-f",
            &topology("supervisor"),
        ]);
        assert!(said.contains(&format!(" sees client {address}:")), "{from}: {said}");
    }
}

/// A supervisor and `count` namespaces, from line 5 on three lines each after their `---`.
fn namespaces(count: usize, egress: &str) -> String {
    let mut text = format!(
        "apiVersion: lab.tierlab.dev/v1alpha1\nkind: SupervisorCluster\nmetadata: {{name: s}}\nspec: {{egressCIDR: {egress}}}\n"
    );
    for i in 0..count {
        text += &format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n{i:03}}}\n");
    }
    text
}

#[test]
fn f1_and_f10_as_many_namespaces_as_there_are_blocks_and_egress_addresses() {
    // 172.16.2.1 to .254, of which the system has the first.
    let desk = Desk::with(namespaces(253, "172.16.2.0/24"));
    let nat = desk.ok(&["get", "nat", "-f", "lab.yaml", "-o", "csv"]);
    assert!(nat.contains(",172.16.2.254,"), "{nat}");
    let said =
        Desk::with(namespaces(254, "172.16.2.0/24")).fails(2, &["validate", "-f", "lab.yaml"]);
    assert!(
        said.starts_with("lab.yaml:1018: Namespace n253: ") && said.contains("172.16.2.0/24"),
        "{said}"
    );

    // With addresses enough, 10.244.0.0/20 has 256 blocks of /28: the control plane's and 255 more.
    let desk = Desk::with(namespaces(255, "172.16.2.0/23"));
    let segments = desk.ok(&["get", "segments", "-f", "lab.yaml", "-o", "csv"]);
    assert!(segments.contains("seg-n254-0,overlay,10.244.15.240/28,10.244.15.241,"), "{segments}");
    let said =
        Desk::with(namespaces(256, "172.16.2.0/23")).fails(2, &["validate", "-f", "lab.yaml"]);
    assert!(
        said.starts_with("lab.yaml:1026: Namespace n255: ") && said.contains("10.244.0.0/20"),
        "{said}"
    );
}

#[test]
fn f24_what_looks_odd_is_as_printed() {
    // Among the 10.96.1.x of the article, and yet .0.235.
    let rows = virtual_servers("distributed");
    let odd = "capw-capi-kubeadm-control-plane-webhook-service";
    assert!(rows.iter().any(|row| row[0] == odd && row[1] == "10.96.0.235"));
    // The egress network where one would expect the ingress network.
    for lab in ["nat-as-printed", "supervisor"] {
        let rules = nat(&[&topology(lab)]);
        assert!(rules.iter().any(|rule| rule == "No SNAT | 10.244.0.0/20 | 172.16.2.0/24 | Any"));
        assert!(!rules.iter().any(|rule| rule.contains("172.16.1.0/24")), "{rules:?}");
    }
    // Not representable: `10-eth1.network` says DNS = 10.244.0.2, a line without effect, since eth0 has the resolver.
}
