//! F1 to F3 and F19 to F23: segments and addresses of workloads, isolation, guests.

use crate::support::{Desk, fields, table, topology};

/// Rows of a `get` table of a lab by these fields, those that begin with `prefix`.
fn rows(kind: &str, names: &[&str], prefix: &str) -> Vec<String> {
    table(kind, &[&topology("supervisor")])
        .iter()
        .map(|row| fields(row, names).join(" "))
        .filter(|row| row.starts_with(prefix))
        .collect()
}

#[test]
fn f1_and_f2_a_segment_for_the_control_plane_and_each_namespace() {
    assert_eq!(
        rows("segments", &["name", "networks", "gateways"], "seg-"),
        [
            "seg-banking-0 10.244.0.16/28 10.244.0.17",
            "seg-control-plane 10.244.0.0/28 10.244.0.1",
            "seg-shop-0 10.244.0.32/28 10.244.0.33",
        ]
    );
}

#[test]
fn f2_thirteen_pods_in_a_block_and_the_next_in_another() {
    let pods = |count: usize| {
        let desk = Desk::with(format!(
            "kind: SupervisorCluster\nmetadata: {{name: s}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: a}}\nspec:\n  replicas: {count}\n  selector: {{matchLabels: {{app: d}}}}\n  template:\n    metadata: {{labels: {{app: d}}}}\n    spec: {{containers: [{{name: c, image: i}}]}}\n"
        ));
        let mut pods: Vec<String> = table("pods", &[&desk.path().display().to_string()])
            .iter()
            .map(|row| fields(row, &["addresses", "segment", "snat"]).join(" "))
            .collect();
        pods.sort_by_key(|row| {
            row.split(' ').next().unwrap().parse::<std::net::Ipv4Addr>().unwrap()
        });
        pods
    };
    let thirteen = pods(13);
    assert_eq!(thirteen.first().unwrap(), "10.244.0.18 seg-a-0 172.16.2.2");
    assert_eq!(thirteen.last().unwrap(), "10.244.0.30 seg-a-0 172.16.2.2");
    assert!(thirteen.iter().all(|row| row.contains(" seg-a-0 ")));
    // Another segment, the same egress address.
    assert_eq!(pods(14).last().unwrap(), "10.244.0.34 seg-a-1 172.16.2.2");
}

#[test]
fn f2_and_f3_the_addresses_of_the_first_control_plane_vm() {
    assert_eq!(
        rows("hosts", &["name", "interface", "segment", "addresses", "mac"], "vm/cp-1 eth1"),
        ["vm/cp-1 eth1 seg-control-plane 10.244.0.2/28 04:50:56:00:d0:00"]
    );
    let [eth0] = rows("hosts", &["name", "interface", "mac"], "vm/cp-1 eth0").try_into().unwrap();
    assert_eq!(eth0, "vm/cp-1 eth0 00:50:56:b3:29:f3");
    // What vCenter assigns is 00:50:56, what NCP assigns 04:50:56:00; no address twice.
    let mut macs = rows("pods", &["mac"], "");
    assert!(macs.iter().all(|mac| mac.starts_with("04:50:56:00:")), "{macs:?}");
    // A hypervisor has no interface in the lab.
    macs.extend(rows("hosts", &["mac"], "").into_iter().filter(|mac| mac != "-"));
    assert!(
        macs.iter().all(|mac| mac.starts_with("04:50:56:00:") || mac.starts_with("00:50:56:")),
        "{macs:?}"
    );
    let count = macs.len();
    macs.sort();
    macs.dedup();
    assert_eq!(macs.len(), count);
}

#[test]
fn f19_three_control_plane_vms_and_four_hosts() {
    let vms = rows("hosts", &["name", "interface"], "vm/");
    assert_eq!(
        vms,
        [
            "vm/cp-1 eth0",
            "vm/cp-1 eth1",
            "vm/cp-2 eth0",
            "vm/cp-2 eth1",
            "vm/cp-3 eth0",
            "vm/cp-3 eth1"
        ]
    );
    let mut nodes = rows("pods", &["node"], "");
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["esx-1", "esx-2", "esx-3", "esx-4"]);
}

/// `count` guest clusters in a namespace.
fn guests(namespace: &str, count: usize) -> String {
    let guests: String = (0..count)
        .map(|i| {
            format!(
                "---\napiVersion: run.tanzu.vmware.com/v1alpha1\nkind: TanzuKubernetesCluster\nmetadata: {{name: g-{i:03}, namespace: {namespace}}}\nspec: {{distribution: {{version: v1.17.8}}}}\n"
            )
        })
        .collect();
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n{guests}---\n")
}

#[test]
fn f20_93_guest_clusters_in_a_namespace_and_190_in_a_supervisor() {
    let full = guests("a", 93) + &guests("b", 93) + &guests("c", 4);
    Desk::with(&full).ok(&["validate", "-f", "lab.yaml"]);
    let said = Desk::with(guests("a", 94)).fails(2, &["validate", "-f", "lab.yaml"]);
    assert!(
        said.contains("TanzuKubernetesCluster a/g-093: ") && said.contains("the limit is 93"),
        "{said}"
    );
    let said = Desk::with(full + &guests("d", 1)).fails(2, &["validate", "-f", "lab.yaml"]);
    assert!(
        said.contains("TanzuKubernetesCluster d/g-000: ") && said.contains("the limit is 190"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn f23_a_guest_cluster_is_recognised_in_both_spellings_and_skipped_with_one_notice() {
    for version in [
        "v1.17.8+vmware.1-tkg.1.5417466",
        "ob-16551547-photon-3-k8s-v1.17.8---vmware.1-tkg.1.5417466",
    ] {
        let desk = Desk::with(format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: namespace001}}\n---\napiVersion: run.tanzu.vmware.com/v1alpha1\nkind: TanzuKubernetesCluster\nmetadata: {{name: guest-cluster-01, namespace: namespace001}}\nspec:\n  topology:\n    controlPlane: {{count: 1, class: best-effort-small, storageClass: vsan}}\n    workers: {{count: 2, class: best-effort-small, storageClass: vsan}}\n  distribution: {{version: {version}}}\n  settings: {{network: {{cni: {{name: antrea}}}}}}\n"
        ));
        let done = desk.run(&["validate", "-f", "lab.yaml"]);
        assert!(done.status.success());
        assert_eq!(
            done.stderr,
            "lab.yaml:5: TanzuKubernetesCluster namespace001/guest-cluster-01: skipped: guest clusters (v1.17.8+vmware.1-tkg.1.5417466) are not emulated yet\n"
        );
    }
}

/// A namespace with a pod behind a Tier-0, and a host outside that knows the way to pods and to what they are translated to.
fn one_namespace(spec: &str) -> Desk {
    Desk::with(format!(
        "kind: SupervisorCluster
metadata: {{name: s}}
spec: {spec}
---
kind: ExternalNetwork
metadata: {{name: outside}}
spec: {{cidr: 192.168.100.0/24}}
---
kind: Tier0Gateway
metadata: {{name: tier0}}
spec:
  uplinks:
  - {{name: uplink, network: outside, addresses: [192.168.100.2/24]}}
---
kind: ExternalHost
metadata: {{name: server}}
spec:
  interfaces:
  - {{name: eth0, network: outside, addresses: [192.168.100.1/24]}}
  routes:
  - {{to: 172.16.0.0/16, via: 192.168.100.2}}
  - {{to: 10.244.0.0/20, via: 192.168.100.2}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: a}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: a}}
spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 80}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: s, namespace: a, labels: {{}}}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s, namespace: a, labels: {{kubernetes.io/service-name: s}}}}
addressType: IPv4
endpoints: [{{addresses: [10.244.0.18]}}]
ports: [{{port: 80}}]
"
    ))
}

/// A policy that opens the pod.
const OPEN: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: open, namespace: a}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}\n";

#[test]
fn f21_no_ingress_until_a_policy_allows_it() {
    for (isolation, out, into) in
        [("ingress", true, false), ("full", false, false), ("none", true, true)]
    {
        let desk = one_namespace(&format!("{{isolation: {isolation}}}"));
        let try_both = |files: &[&str]| {
            let go = |from: &str, to: &str| {
                let mut arguments = vec!["curl", from, to];
                arguments.extend(files.iter().flat_map(|file| ["-f", file]));
                desk.run(&arguments).status.code()
            };
            (go("pod/a/p", "http://192.168.100.1/"), go("host/server", "http://172.16.1.1/"))
        };
        let code = |works: bool| Some(i32::from(!works));
        assert_eq!(try_both(&["lab.yaml"]), (code(out), code(into)), "{isolation}");
        desk.write("open.yaml", OPEN);
        assert_eq!(try_both(&["lab.yaml", "open.yaml"]), (Some(0), Some(0)), "{isolation}");
    }
    // "These appear as DFW rules": the one of the namespace is what drops.
    let desk = one_namespace("{}");
    let said = desk.ok(&["trace", "host/server", "172.16.1.1:80", "-f", "lab.yaml"]);
    assert!(said.contains("dropped at dfw-in of pod/a/p: firewall, rule "), "{said}");
    assert!(said.contains("ns.a.ingress-others"), "{said}");
}

#[test]
fn f22_without_nat_pods_are_seen_outside_as_they_are() {
    for spec in ["{profile: vsphere-7.0u3-nonat}", "{natMode: no-nat}", "{natMode: false}"] {
        let desk = one_namespace(spec);
        assert_eq!(desk.ok(&["get", "nat", "-f", "lab.yaml", "-o", "json"]).trim(), "[]", "{spec}");
        let said = desk.ok(&["curl", "pod/a/p", "http://192.168.100.1/", "-f", "lab.yaml"]);
        assert!(said.contains(" sees client 10.244.0.18:"), "{spec}: {said}");
        let routes = desk.ok(&["get", "routes", "-f", "lab.yaml", "-o", "csv"]);
        assert!(!routes.contains("tier1-nat"), "{spec}: {routes}");
        assert!(routes.contains("tier0/tier0,10.244.0.16/28,tier1-connected,"), "{spec}: {routes}");
    }
}
