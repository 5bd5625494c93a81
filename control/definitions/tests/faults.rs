//! One fault, one message, with the right file, line and object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
use common::{errors, loaded, one_fault};
use definitions::{Input, load};

/// A Service on lines 1 to 4 with these lines as its spec from line 5 on.
fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n{spec}")
}

/// A NetworkPolicy with these lines in its spec from line 5 on.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec:\n{spec}"
    )
}

/// An object of one of our kinds with these lines in its spec from line 5 on.
fn own(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: lab.tierlab.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n{spec}"
    )
}

#[test]
fn services() {
    for (spec, line, part) in [
        ("  ports: [{port: 0}]", 5, "port 0 is not in 1..65535"),
        ("  ports:\n  - port: 80\n  - {port: 81, name: b}", 6, "a port without name"),
        (
            "  ports:\n  - {name: a, port: 80}\n  - {port: 70000, name: b}",
            7,
            "port 70000 is not in 1..65535",
        ),
        ("  ports:\n  - port: \"80\"", 6, "the string '80' stands where"),
        ("  ports: [{port: 80, protocol: ICMP}]", 5, "unknown protocol 'ICMP'"),
        ("  ports: [{port: 80, protocol: tcp}]", 5, "unknown protocol 'tcp'"),
        ("  ports: [{port: 80, targetPort: \"8080\"}]", 5, "a number is written without quotes"),
        (
            "  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 80}",
            7,
            "port 80/TCP is defined twice",
        ),
        (
            "  ports:\n  - {name: a, port: 80}\n  - {name: a, port: 81}",
            7,
            "port name 'a' is used twice",
        ),
        (
            "  selecter: {app: web}\n  ports: [{port: 80}]",
            5,
            "unknown field 'selecter'; did you mean 'selector'?",
        ),
        ("  ports:\n  - port: 80\n    targetport: 8080", 7, "did you mean 'targetPort'?"),
        ("  selector: {app: true}\n  ports: [{port: 80}]", 5, "put it in quotes"),
        ("  selector: {app: 'a b'}\n  ports: [{port: 80}]", 5, "'a b' is not a label's value"),
        ("  type: Loadbalancer\n  ports: [{port: 80}]", 5, "did you mean 'LoadBalancer'?"),
        (
            "  clusterIP: 10.96.0\n  ports: [{port: 80}]",
            5,
            "clusterIP '10.96.0' is not an IP address or None",
        ),
        (
            "  clusterIP: None\n  type: LoadBalancer\n  ports: [{port: 80}]",
            5,
            "clusterIP: None needs type ClusterIP",
        ),
        (
            "  loadBalancerSourceRanges: [10.0.0.1/8]\n  ports: [{port: 80}]",
            5,
            "the network is 10.0.0.0/8",
        ),
        (
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}\n  ports: [{port: 80}]",
            6,
            "not in 1..86400",
        ),
        ("  externalTrafficPolicy: local\n  ports: [{port: 80}]", 5, "did you mean 'Local'?"),
        ("  selector: {app: web}", 5, "spec.ports is missing"),
        ("  type: ExternalName", 5, "needs spec.externalName"),
        (
            "  ports: [{port: 80}]\n  ports: [{port: 81}]",
            6,
            "key 'ports' stands twice in one mapping",
        ),
        ("  ports:\n  - port: 80\n  - port: 81\n  - port: 82", 6, "a port without name"),
    ] {
        let text = service(spec);
        let found = errors(&text);
        let start = format!("t.yaml:{line}: Service default/web: ");
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{spec}\n{}", found[0]);
    }
}

#[test]
fn policies() {
    for (spec, line, part) in [
        ("  podSelectr: {}", 5, "unknown field 'podSelectr'; did you mean 'podSelector'?"),
        ("  podSelector: {matchlabels: {a: b}}", 5, "did you mean 'matchLabels'?"),
        ("  podSelector: {matchLabels: {a: }}", 5, "nothing stands where a string is needed"),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}",
            5,
            "did you mean 'In'?",
        ),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: In}]}",
            5,
            "operator In needs values",
        ),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}",
            5,
            "operator NotIn needs values",
        ),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            5,
            "takes no values",
        ),
        (
            "  podSelector: {matchExpressions: [{key: -a, operator: Exists}]}",
            5,
            "'-a' is not a label's key",
        ),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: In, values: ['b c']}]}",
            5,
            "'b c' is not a label's value",
        ),
        ("  podSelector: {}\n  policyTypes: [ingress]", 6, "unknown policy type 'ingress'"),
        ("  podSelector: {}\n  ingress:\n  - from: [{}]", 7, "an empty peer"),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8}\n      podSelector: {}",
            8,
            "a peer with ipBlock has no selectors",
        ),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.1/8}",
            8,
            "the network is 10.0.0.0/8",
        ),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: everywhere}",
            8,
            "'everywhere' is not a network",
        ),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except:\n        - 10.1.0.0/16\n        - 11.0.0.0/16",
            12,
            "11.0.0.0/16 does not lie inside 10.0.0.0/8",
        ),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}",
            8,
            "does not lie inside",
        ),
        (
            "  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}",
            8,
            "does not lie inside",
        ),
        ("  podSelector: {}\n  egress:\n  - ports: [{endPort: 90}]", 7, "endPort without port"),
        (
            "  podSelector: {}\n  egress:\n  - ports: [{port: 100, endPort: 90}]",
            7,
            "endPort 90 is below port 100",
        ),
        (
            "  podSelector: {}\n  egress:\n  - ports: [{port: http, endPort: 90}]",
            7,
            "endPort with a named port",
        ),
        ("  podSelector: {}\n  egress:\n  - ports: [{port: 0}]", 7, "port 0 is not in 1..65535"),
        (
            "  podSelector: {}\n  egress:\n  - ports: [{port: 80, endPort: 65536}]",
            7,
            "port 65536 is not in 1..65535",
        ),
        (
            "  podSelector: {}\n  egress:\n  - ports: [{port: 80, protocol: HTTP}]",
            7,
            "unknown protocol 'HTTP'",
        ),
        (
            "  podSelector: {}\n  egress:\n  - ports: [{port: Web}]",
            7,
            "port name 'Web' is not valid",
        ),
        ("  podSelector: {}\n  ingress: {from: []}", 6, "a mapping stands where a list is needed"),
        ("  podSelector: {}\n  ingress:\n  - form: []", 7, "did you mean 'from'?"),
    ] {
        let text = policy(spec);
        let found = errors(&text);
        let start = format!("t.yaml:{line}: NetworkPolicy default/p: ");
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{spec}\n{}", found[0]);
    }
}

#[test]
fn workloads_and_pods() {
    let deployment = |spec: &str| {
        format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n{spec}")
    };
    one_fault(
        &deployment(
            "  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: b}}\n    spec: {containers: []}",
        ),
        "t.yaml:5: Deployment default/web: ",
        "does not match the labels of the template",
    );
    one_fault(
        &deployment(
            "  replicas: 2000000000\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec: {}",
        ),
        "t.yaml:5: Deployment default/web: ",
        "replicas 2000000000 is not in 0..10000",
    );
    one_fault(
        &deployment("  selector: {}\n  template:\n    metadata: {labels: {app: a}}\n    spec: {}"),
        "t.yaml:5: Deployment default/web: ",
        "the selector is empty",
    );
    one_fault(
        &deployment(
            "  selector: {matchLabels: {app: a}}\n  template:\n    metadata:\n      labels: {app: a}\n    spec:\n      container: []",
        ),
        "t.yaml:10: Deployment default/web: ",
        "did you mean 'containers'?",
    );
    let pod = |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n{rest}");
    one_fault(
        &pod("spec:\n  containers:\n  - name: a\n    ports:\n    - containerPort: 99999\n"),
        "t.yaml:9: Pod default/web: ",
        "port 99999 is not in 1..65535",
    );
    one_fault(
        &pod("  annotations:\n    lab.tierlab.dev/ipp: 10.244.0.20\nspec: {containers: []}"),
        "t.yaml:6: Pod default/web: ",
        "did you mean 'lab.tierlab.dev/ip'?",
    );
    one_fault(
        &pod("  annotations:\n    lab.tierlab.dev/mac: 01:00:5e:00:00:01\nspec: {containers: []}"),
        "t.yaml:6: Pod default/web: ",
        "is not a unicast MAC address",
    );
    one_fault(
        &pod("  lables: {a: b}\nspec: {}"),
        "t.yaml:5: Pod default/web: ",
        "did you mean 'labels'?",
    );
    one_fault(
        &pod("  annotations:\n    lab.tierlab.dev/vip: 172.16.1.9\nspec: {containers: []}"),
        "t.yaml:6: Pod default/web: ",
        "is not one of this kind",
    );
    one_fault(&pod(""), "t.yaml:1: Pod default/web: ", "spec is missing");
    one_fault(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Web_1}\nspec: {}\n",
        "t.yaml:3: Pod default/Web_1: ",
        "RFC 1123",
    );
    one_fault(
        "apiVersion: v1\nkind: Pod\nmetadata: {generateName: web-}\nspec: {}\n",
        "t.yaml:3: Pod: ",
        "metadata.name is missing",
    );
}

#[test]
fn objects_against_each_other() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: bank}\nspec: {}\n";
    one_fault(pod, "t.yaml:1: Pod bank/web: ", "namespace 'bank' is not defined; add a Namespace");
    one_fault(
        &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: banc}}\n---\n{pod}"),
        "t.yaml:5: Pod bank/web: ",
        "did you mean 'banc'?",
    );
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bank}\n---\n";
    one_fault(
        &format!("{namespace}{pod}---\n{pod}"),
        "t.yaml:10: Pod bank/web: ",
        "is already defined at t.yaml:5",
    );
    let cluster =
        "---\napiVersion: lab.tierlab.dev/v1alpha1\nkind: SupervisorCluster\nmetadata: {name: s}\n";
    let placed = |metadata: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web{metadata}}}\nspec: {spec}\n{cluster}"
        )
    };
    one_fault(
        &placed(", annotations: {lab.tierlab.dev/host: esx-9}", "{}"),
        "t.yaml:1: Pod default/web: ",
        "host 'esx-9', which the cluster does not have; defined are esx-1",
    );
    // A manifest dumped from a real cluster names that cluster's nodes.
    let dumped = loaded(&placed("", "{nodeName: worker-3}"));
    assert_eq!(dumped.notices.len(), 1);
    assert!(dumped.definitions.pods.values().all(|pod| pod.host.is_none()));
    one_fault(
        &format!("{}---\n{cluster}", cluster.replace("name: s}", "name: r}")),
        "t.yaml:7: SupervisorCluster s: ",
        "a second cluster: 'r' is defined at t.yaml:2",
    );
    // The workload's pod has the name of another pod.
    one_fault(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\nspec: {}\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {}}\n",
        "t.yaml:6: StatefulSet default/web: ",
        "its pod 'web-1' is already defined at t.yaml:1",
    );
    // One message for the workload, not one for each of its pods.
    one_fault(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: nope}\nspec:\n  replicas: 5\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {}}\n",
        "t.yaml:1: Deployment nope/web: ",
        "namespace 'nope' is not defined",
    );
    let system = "apiVersion: v1\nkind: Pod\nmetadata: {name: ncp, namespace: vmware-system-nsx}\nspec: {}\n";
    let namespaces = loaded(system).definitions.namespaces;
    assert!(namespaces["vmware-system-nsx"].implicit);
    assert_eq!(namespaces.len(), 1);
}

#[test]
fn two_files() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {}\n";
    let found = load(&[Input::text("b.yaml", pod), Input::text("a.yaml", pod)]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "b.yaml:1: Pod default/web: is already defined at a.yaml:1; remove one of the two or rename it"
    );
}

#[test]
fn documents() {
    one_fault("- a\n- b\n", "t.yaml:1: ", "not an object");
    one_fault(
        "kind: Pod\nmetadata: {name: a}\n",
        "t.yaml:1: Pod default/a: ",
        "apiVersion is missing",
    );
    one_fault("apiVersion: v1\nmetadata: {name: a}\n", "t.yaml:1: ", "kind is missing");
    one_fault(
        &own("PacketTset", "  steps: []"),
        "t.yaml:2: PacketTset x: ",
        "did you mean 'PacketTest'?",
    );
    one_fault(
        "apiVersion: lab.tierlab.dev/v2\nkind: PacketTest\nmetadata: {name: x}\n",
        "t.yaml:1: PacketTest x: ",
        "unknown version; it is lab.tierlab.dev/v1alpha1",
    );
    // A policy in a version that is not read must not be skipped: it would fail open.
    one_fault(
        "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n",
        "t.yaml:1: NetworkPolicy default/p: ",
        "is read as networking.k8s.io/v1",
    );
    one_fault("a: [1, 2\nb: 3\n", "t.yaml:", "not readable as YAML");
}

#[test]
fn several_faults_are_all_told_in_order_of_place() {
    let found = errors(&service(
        "  selecter: {a: b}\n  ports:\n  - {name: a, prt: 80}\n  - {name: b, port: 81, target: 8}",
    ));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("t.yaml:5: ") && found[0].contains("selecter"));
    assert!(found[1].starts_with("t.yaml:7: ") && found[1].contains("'prt'; did you mean 'port'?"));
    assert!(found[2].starts_with("t.yaml:8: ") && found[2].contains("'target'"));
}

#[test]
fn supervisors() {
    for (spec, line, part) in [
        (
            "  podCIDR: 10.244.0.1/20",
            5,
            "'10.244.0.1/20' has host bits set; the network is 10.244.0.0/20",
        ),
        ("  podCIDR: 10.244.0.0/33", 5, "is not a network"),
        ("  podCIDR: fd00::/64", 5, "an IPv4 network is needed"),
        ("  podCIDR: 10.96.0.0/16", 5, "podCIDR 10.96.0.0/16"),
        (
            "  ingressCIDR: 172.16.2.128/25",
            5,
            "egressCIDR 172.16.2.0/24 overlaps ingressCIDR 172.16.2.128/25",
        ),
        ("  egressCIDR: 192.168.0.0/16", 5, "overlaps"),
        ("  podCIDRs: 10.0.0.0/8", 5, "did you mean 'podCIDR'?"),
        ("  profile: vsphere-7.0u1c", 5, "not emulated yet; use vsphere-7.0ga"),
        ("  profile: vsphere-8", 5, "unknown value 'vsphere-8'"),
        ("  profile: vsphere-7.0u3-nonat\n  natMode: nat", 6, "has no NAT"),
        ("  namespacePrefix: 31", 5, "namespacePrefix 31 is not in 16..30"),
        ("  namespacePrefix: 18\n  podCIDR: 10.244.0.0/20", 5, "does not fit in podCIDR"),
        ("  hosts: 0", 5, "a cluster has 1 to 64"),
        ("  hosts: [a, a]", 5, "host 'a' is listed twice"),
        ("  hosts: four", 5, "the string 'four' stands where a number of hosts"),
        ("  isolation: egress", 5, "unknown value 'egress'"),
        ("  controlPlane: {replicas: 9}", 5, "replicas 9 is not in 1..5"),
        (
            "  controlPlane:\n    management: {gateway: 10.0.0.1}",
            6,
            "gateway 10.0.0.1 is not a host's address",
        ),
        (
            "  controlPlane:\n    management: {addresses: 192.168.10.45-192.168.10.46}",
            6,
            "2 addresses for 3 VMs",
        ),
        (
            "  controlPlane:\n    management: {addresses: 192.168.10.49-192.168.10.45}",
            6,
            "ends before it begins",
        ),
        (
            "  controlPlane:\n    management: {addresses: [192.168.10.1, 192.168.10.2, 192.168.10.3, 10.0.0.1]}",
            6,
            "10.0.0.1 is not a host's address",
        ),
        (
            "  controlPlane:\n    management: {network: nowhere}",
            6,
            "ExternalNetwork 'nowhere' is not defined",
        ),
        ("  controlPlane: {macs: [{eth1: '01:00:00:00:00:01'}]}", 5, "unicast"),
        ("  tier0: t0", 5, "Tier0Gateway 't0' is not defined; none is defined"),
        ("  dns: {management: [192.168.10.300]}", 5, "'192.168.10.300' is not an IP address"),
        ("  loadBalancer: {snat: pool}", 5, "needs a pool"),
        ("  tier1: {mtu: 100}", 5, "mtu 100 is not in 576..9000"),
        (
            "  tier1: {staticRoutes: [{network: 10.0.0.0/8}]}",
            5,
            "exactly one of nextHop, blackhole and unreachable",
        ),
        ("  tier1: {natRules: [{action: SNAT}]}", 5, "needs translated"),
        ("  tier1: {natRules: [{action: DNAT}]}", 5, "needs destination"),
        ("  tier1: {natRules: [{action: PAT}]}", 5, "unknown value 'PAT'"),
        ("  systemNamespaces: [Sys]", 5, "'Sys' is not a DNS label"),
    ] {
        let found = errors(&own("SupervisorCluster", spec));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        let start = format!("t.yaml:{line}: SupervisorCluster x: ");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{spec}\n{}", found[0]);
    }
}

#[test]
fn outside() {
    let network = "---\napiVersion: lab.tierlab.dev/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: net}\nspec: {cidr: 192.168.100.0/24}\n";
    for (kind, spec, line, part) in [
        (
            "Tier0Gateway",
            "  uplinks:\n  - {name: u, network: nte, addresses: [192.168.100.2/24]}",
            6,
            "ExternalNetwork 'nte' is not defined; did you mean 'net'?",
        ),
        (
            "Tier0Gateway",
            "  uplinks:\n  - {name: u, network: net, addresses: [192.168.101.2/24]}",
            6,
            "is not in 192.168.100.0/24",
        ),
        (
            "Tier0Gateway",
            "  uplinks:\n  - {name: u, network: net, addresses: [192.168.100.2]}",
            6,
            "write an address and a prefix length",
        ),
        (
            "Tier0Gateway",
            "  uplinks:\n  - {name: u, network: net, addresses: [192.168.100.255/24]}",
            6,
            "is the broadcast address",
        ),
        ("Tier0Gateway", "  urpfMode: loos", 5, "did you mean 'loose'?"),
        ("Tier0Gateway", "  ecmp: {maxPaths: 9}", 5, "maxPaths 9 is not in 1..8"),
        (
            "Tier0Gateway",
            "  staticRoutes: [{network: 0.0.0.0/0, nextHops: [10.0.0.1]}]",
            5,
            "next hop 10.0.0.1 is in no uplink's network",
        ),
        (
            "Tier0Gateway",
            "  staticRoutes: [{network: 0.0.0.0/0}]",
            5,
            "either nextHops or blackhole",
        ),
        (
            "Tier0Gateway",
            "  staticRoutes: [{network: 0.0.0.0/0, blackhole: true, distance: 0}]",
            5,
            "distance 0 is not in 1..255",
        ),
        (
            "Tier0Gateway",
            "  staticRoutes: [{network: 0.0.0.0/0, blackhole: true, distance: 256}]",
            5,
            "256 is out of range",
        ),
        ("ExternalHost", "  interfaces: []", 5, "at least one interface"),
        ("ExternalHost", "  forwarding: true", 5, "field 'interfaces' is missing"),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  routes: [{to: default, via: 10.0.0.1}]",
            6,
            "10.0.0.1 is in no interface's network",
        ),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  routes: [{to: default}]",
            6,
            "needs via, dev or both",
        ),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  rules: [{oif: eth1, table: 200}]",
            6,
            "interface 'eth1' is not defined",
        ),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  rules: [{table: 255}]",
            6,
            "table 255 is 'local'",
        ),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  ttl: 0",
            6,
            "ttl 0 is not in 1..255",
        ),
        (
            "ExternalHost",
            "  interfaces: [{name: eth0, network: net, addresses: [192.168.100.9/24]}]\n  services: [{port: 53, kind: dsn}]",
            6,
            "did you mean 'dns'?",
        ),
        (
            "ExternalHost",
            "  interfaces:\n  - {name: eth0, network: net, addresses: [192.168.100.9/24]}\n  - {name: eth0, network: net, addresses: [192.168.100.8/24]}",
            7,
            "interface 'eth0' is defined twice",
        ),
        (
            "ExternalHost",
            "  interfaces:\n  - {name: eth0, network: net, addresses: [192.168.100.9/24]}\n  - {name: eth1, network: net, addresses: [192.168.100.9/24]}",
            7,
            "address 192.168.100.9 in network 'net' is also that of ExternalHost x",
        ),
        ("ExternalNetwork", "  vlan: 4095", 5, "vlan 4095 is not in 1..4094"),
        ("Attachment", "  port: pod/bank/web\n  tap: {}", 5, "pod 'bank/web' is not defined"),
        ("Attachment", "  port: host/web", 5, "exactly one of tap, pcap and interface"),
        ("Attachment", "  port: web\n  tap: {}", 5, "'web' is not a port"),
    ] {
        let found = errors(&format!("{}\n{network}", own(kind, spec)));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        let start = format!("t.yaml:{line}: {kind} x: ");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{spec}\n{}", found[0]);
    }
}

#[test]
fn packet_tests() {
    let host = "---\napiVersion: lab.tierlab.dev/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: net}\n---\napiVersion: lab.tierlab.dev/v1alpha1\nkind: ExternalHost\nmetadata: {name: h}\nspec: {interfaces: [{name: eth0, network: net, addresses: [10.0.0.1/24]}]}\n";
    for (step, line, part) in [
        ("  - sned: {}", 6, "did you mean 'send'?"),
        ("  - send: {}\n    expect: {}", 7, "'expect' is a second key"),
        ("  - send: {from: host/h, tcp: {to: '10.0.0.2:0'}}", 6, "port 0 is not in 1..65535"),
        ("  - send: {from: host/h}", 6, "nothing to send"),
        (
            "  - send: {from: host/h, tcp: {to: '10.0.0.2:1'}, udp: {}}",
            6,
            "tcp and udp cannot be one frame",
        ),
        ("  - send: {from: host/h, tcp: {}}", 6, "the destination is stated once"),
        (
            "  - send: {from: host/h, tcp: {to: '10.0.0.2:1', flags: SX}}",
            6,
            "'SX' are not TCP flags",
        ),
        (
            "  - send: {from: host/x, icmp: {to: 10.0.0.2}}",
            6,
            "host 'x' is not defined; defined are h",
        ),
        (
            "  - send: {from: 'host/h:eth9', icmp: {to: 10.0.0.2}}",
            6,
            "interface 'eth9' is not defined",
        ),
        ("  - send: {from: host/h, icmp: {to: vip(a/b)}}", 6, "Service 'a/b' is not defined"),
        ("  - send: {from: host/h, icmp: {to: snat(a)}}", 6, "namespace 'a' is not defined"),
        (
            "  - send: {from: host/h, icmp: {to: '${x}'}}",
            6,
            "variable 'x' is not saved by an earlier step",
        ),
        ("  - send: {from: host/h, hex: 'ff'}", 6, "14 to 65535 octets"),
        ("  - send: {from: host/h, hex: 'fg'}", 6, "hexadecimal"),
        ("  - expect: {at: host/h, save: {x: tcp.port}}", 6, "unknown value 'tcp.port'"),
        ("  - expect: {at: host/h, icmp: {type: unreachable}}", 6, "is not an ICMP type"),
        ("  - expectDrop: {}", 6, "about the last send"),
        ("  - handshake: {}", 6, "completes the SYN"),
        ("  - advance: 3 hours", 6, "is not a length of time"),
        ("  - advance: 3", 6, "the number 3 stands where a length of time"),
        ("  - advance: 1m1h", 6, "is not a length of time"),
        ("  - apply: {}", 6, "nothing to apply"),
        ("  - delete: {kind: Pod}", 6, "named by kind and name"),
        ("  - delete: {kind: PacketTest, name: x}", 6, "is no kind that can be deleted"),
        ("  - expectTable: {}", 6, "no row is stated"),
        (
            "  - expectTable: {routes: [{absent: true, count: 1}]}",
            6,
            "either absent or has a count",
        ),
        (
            "  - expectTable: {sessions: [{initiating: {src: pod/a/b}}]}",
            6,
            "pod 'a/b' is not defined",
        ),
        (
            "  - send: {from: host/h, icmp: {to: 10.0.0.2}, piece: {offset: 4}}",
            6,
            "begins at a multiple of 8",
        ),
        (
            "  - send: {from: host/h, ip: {fragment: {offset: 8}}, icmp: {to: 10.0.0.2}}",
            6,
            "a fragment is sent by piece",
        ),
        ("    []", 6, "at least one step"),
    ] {
        let found = errors(&format!("{}\n{host}", own("PacketTest", &format!("  steps:\n{step}"))));
        assert_eq!(found.len(), 1, "{step}: {found:?}");
        let start = format!("t.yaml:{line}: PacketTest x: ");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{step}\n{}", found[0]);
    }
}

#[test]
fn inputs_that_cannot_be_read() {
    let missing = load(&[Input::Path("/no/such/file.yaml".into())]).unwrap_err();
    assert!(missing[0].to_string().starts_with("/no/such/file.yaml: cannot be read: no such file"));
    let directory = tempfile::tempdir().unwrap();
    let empty = load(&[Input::Path(directory.path().to_owned())]).unwrap_err();
    assert!(empty[0].to_string().contains("no *.yaml, *.yml or *.json file"));
    assert!(load(&[]).unwrap().definitions == definitions::Definitions::default());
}

/// `count` guest clusters `g-000`, `g-001`, … of six lines each.
fn guests(namespace: &str, count: usize) -> String {
    (0..count)
        .map(|i| {
            format!(
                "---\napiVersion: run.tanzu.vmware.com/v1alpha1\nkind: TanzuKubernetesCluster\nmetadata: {{name: g-{i:03}, namespace: {namespace}}}\nspec:\n  distribution: {{version: v1.17}}\n"
            )
        })
        .collect()
}

#[test]
fn more_guest_clusters_than_a_namespace_or_a_supervisor_takes() {
    let namespaces: String = ["a", "b", "c"]
        .iter()
        .map(|n| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {n}}}\n"))
        .collect();
    let full = format!("{}{}{}", guests("a", 93), guests("b", 93), guests("c", 4));
    assert_eq!(loaded(&format!("{full}{namespaces}")).definitions.guest_clusters.len(), 190);
    // The 94th begins after 93 times six lines and its own `---`.
    one_fault(
        &format!("{}{namespaces}", guests("a", 94)),
        "t.yaml:560: TanzuKubernetesCluster a/g-093: ",
        "namespace 'a' has 94 Tanzu Kubernetes clusters; the limit is 93 in a namespace",
    );
    one_fault(
        &format!("{}{}{}{namespaces}", guests("a", 93), guests("b", 93), guests("c", 5)),
        "t.yaml:1142: TanzuKubernetesCluster c/g-004: ",
        "the Supervisor Cluster has 191 Tanzu Kubernetes clusters; the limit is 190",
    );
}

#[test]
fn guest_clusters() {
    let guest = |rest: &str| {
        format!(
            "apiVersion: run.tanzu.vmware.com/v1alpha1\nkind: TanzuKubernetesCluster\nmetadata: {{name: g}}\n{rest}"
        )
    };
    for (rest, line, part) in [
        (
            "spec:\n  distribution:\n    version: 1.17.8\n",
            6,
            "is not the version of a Tanzu Kubernetes release",
        ),
        ("spec:\n  distribution: {version: 1.17}\n", 5, "is not a string"),
        ("spec:\n  distribution: {}\n", 5, "spec.distribution.version is missing"),
        ("spec: {}\n", 4, "spec.distribution.version is missing"),
    ] {
        one_fault(
            &guest(rest),
            &format!("t.yaml:{line}: TanzuKubernetesCluster default/g: "),
            part,
        );
    }
    let elsewhere = guest("spec: {distribution: {version: v1.17}}\n")
        .replace("name: g", "name: g, namespace: nowhere");
    one_fault(
        &elsewhere,
        "t.yaml:1: TanzuKubernetesCluster nowhere/g: ",
        "namespace 'nowhere' is not defined",
    );
    let good = guest("spec: {distribution: {version: v1.17}}\n");
    one_fault(
        &format!("{good}---\n{good}"),
        "t.yaml:6: TanzuKubernetesCluster default/g: ",
        "is already defined at t.yaml:1",
    );
}

#[test]
fn a_misspelt_kind_is_no_foreign_kind() {
    let object = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    };
    for (version, kind, meant) in [
        ("networking.k8s.io/v1", "NetworkPolicyy", "NetworkPolicy"),
        ("networking.k8s.io/v1", "networkpolicy", "NetworkPolicy"),
        ("apps/v1", "Deploymnet", "Deployment"),
        ("v1", "Pods", "Pod"),
        ("nsx.vmware.com/v1alpha1", "SecurityPolice", "SecurityPolicy"),
    ] {
        one_fault(
            &object(version, kind),
            "t.yaml:2: ",
            &format!("unknown kind '{kind}' in {version}; did you mean '{meant}'?"),
        );
    }
    for (version, kind) in [
        ("v1", "Node"),
        ("v1", "Secret"),
        ("networking.k8s.io/v1", "Ingress"),
        ("apps/v1", "ControllerRevision"),
        ("crd.projectcalico.org/v1", "NetworkPolicyy"),
    ] {
        let notices = loaded(&object(version, kind)).notices;
        assert!(notices[0].message.starts_with("skipped: "), "{notices:?}");
    }
}

#[test]
fn nothing_is_an_error() {
    for text in ["", "\n", "# only a comment\n", "---\n---\n"] {
        assert_eq!(errors(text), ["t.yaml: there is nothing in it"], "{text:?}");
    }
    // Beside something it is a file like any other, and a list may be empty.
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n";
    load(&[Input::text("a", ""), Input::text("b", namespace)]).unwrap();
    loaded("apiVersion: v1\nkind: List\nitems: []\n");
    let both = load(&[Input::text("b", "#"), Input::text("a", "")]).unwrap_err();
    assert_eq!(both[0].to_string(), "a: there is nothing in it, nor in 1 further files");
}

#[test]
fn messages_about_networks_name_their_field() {
    for (text, line, part) in [
        (
            own("SupervisorCluster", "  podCIDR: 10.244.0.0/33"),
            5,
            "podCIDR: '10.244.0.0/33' is not",
        ),
        (
            own("SupervisorCluster", "  serviceCIDR: 10.96.0.1/24"),
            5,
            "serviceCIDR: '10.96.0.1/24' has host bits",
        ),
        (own("ExternalNetwork", "  cidr: 10.0.0.0"), 5, "cidr: '10.0.0.0' is not a network"),
        (
            policy("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]"),
            6,
            "cidr: '10.0.0.1/8'",
        ),
        (
            policy(
                "  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}]",
            ),
            6,
            "except: 'x' is not a network",
        ),
        (
            service(
                "  type: LoadBalancer\n  loadBalancerSourceRanges: [10.0.0.0/99]\n  ports: [{port: 80}]",
            ),
            6,
            "loadBalancerSourceRanges: '10.0.0.0/99'",
        ),
    ] {
        one_fault(&text, &format!("t.yaml:{line}: "), part);
    }
}

#[test]
fn a_pin_on_the_wrong_kind_says_whose_it_is() {
    let own_kind =
        "kind: ExternalNetwork\nmetadata: {name: x, annotations: {lab.tierlab.dev/mac: a}}\n";
    one_fault(own_kind, "t.yaml:2: ", "it belongs to a Pod, or to a workload's template");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {lab.tierlab.dev/subnet: a}}\nspec: {containers: []}\n";
    one_fault(pod, "t.yaml:3: ", "it belongs to a Namespace");
}
