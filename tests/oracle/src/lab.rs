//! The lab of the truth tables, after the network policy suite of Kubernetes' own end-to-end tests: namespaces `x`, `y` and `z`
//! (each labelled `ns: NAME`) with pods `a`, `b` and `c` (each labelled `pod: NAME`), and four container ports a pod.
//!
//! Names stand in quotes: to YAML 1.1, which Kubernetes reads, a bare `y` may be a boolean.
//!
//! Every address is pinned by annotation, so that the oracle knows it without asking the program it judges.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::cluster::{Isolation, Protocol};
use crate::table::Probe;

/// The namespaces.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// The pods of each namespace.
pub const PODS: [&str; 3] = ["a", "b", "c"];
/// The container ports of each pod: the name the suite gives it, its protocol and its number.
pub const PORTS: [(&str, Protocol, u16); 4] = [
    ("serve-80-tcp", Protocol::Tcp, 80),
    ("serve-81-tcp", Protocol::Tcp, 81),
    ("serve-80-udp", Protocol::Udp, 80),
    ("serve-81-udp", Protocol::Udp, 81),
];

/// What every pair of pods is asked: both ports of both protocols.
#[must_use]
pub fn probes() -> Vec<Probe> {
    PORTS.iter().map(|&(_, protocol, port)| Probe { protocol, port }).collect()
}

/// The address of the pod with these indices into [`NAMESPACES`] and [`PODS`]: x is 10.244.1.0/28, y 10.244.2.0/28 and z
/// 10.244.3.0/28; `.1` is the gateway, a is `.2`, b `.3` and c `.4`.
fn address(namespace: u8, pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, namespace + 1, pod + 2)
}

/// The nine pods as `(namespace, pod, address)`.
pub(crate) fn pods() -> impl Iterator<Item = (&'static str, &'static str, Ipv4Addr)> {
    (0u8..).zip(NAMESPACES).flat_map(|(n, namespace)| {
        (0u8..).zip(PODS).map(move |(p, pod)| (namespace, pod, address(n, p)))
    })
}

/// The address of every pod, by `namespace/name`.
#[must_use]
pub fn addresses() -> BTreeMap<String, IpAddr> {
    pods().map(|(namespace, pod, address)| (format!("{namespace}/{pod}"), address.into())).collect()
}

/// The whole lab as one YAML stream: the cluster in this isolation mode, the namespaces, the pods and `policies`.
#[must_use]
pub fn manifest(isolation: Isolation, policies: &str) -> String {
    let mut yaml = cluster(isolation);
    for namespace in NAMESPACES {
        yaml += &namespace_document(namespace, "");
    }
    for (namespace, name, address) in pods() {
        let ports: Vec<_> =
            PORTS.iter().map(|&(name, protocol, number)| (Some(name), protocol, number)).collect();
        yaml += &pod_document(namespace, name, address, "", &ports);
    }
    yaml + "---\n" + policies
}

/// A cluster without a way out; nothing here leaves the Tier-1.
pub(crate) fn cluster(isolation: Isolation) -> String {
    format!(
        r#"---
apiVersion: lab.tierlab.dev/v1alpha1
kind: SupervisorCluster
metadata: {{name: truth-table}}
spec:
  hosts: 3
  controlPlane:
    management: {{cidr: 192.168.10.0/24, gateway: 192.168.10.254, addresses: 192.168.10.45-192.168.10.49}}
  podCIDR: 10.244.0.0/20
  serviceCIDR: 10.96.0.0/23
  ingressCIDR: 172.16.1.0/24
  egressCIDR: 172.16.2.0/24
  detached: true
  isolation: {isolation}
"#
    )
}

/// A Namespace labelled `ns: NAME` and with `labels`, which is empty or begins with a comma.
pub(crate) fn namespace_document(name: &str, labels: &str) -> String {
    let index = NAMESPACES.iter().position(|&known| known == name).map_or(0, |index| index + 1);
    format!(
        r#"---
apiVersion: v1
kind: Namespace
metadata:
  name: "{name}"
  labels: {{ns: "{name}"{labels}}}
  annotations: {{lab.tierlab.dev/subnet: 10.244.{index}.0/28}}
"#
    )
}

/// A Pod labelled `pod: NAME` and with `labels`, which is empty or begins with a comma.
pub(crate) fn pod_document(
    namespace: &str,
    name: &str,
    address: Ipv4Addr,
    labels: &str,
    ports: &[(Option<&str>, Protocol, u16)],
) -> String {
    let mut yaml = format!(
        r#"---
apiVersion: v1
kind: Pod
metadata:
  name: "{name}"
  namespace: "{namespace}"
  labels: {{pod: "{name}"{labels}}}
  annotations: {{lab.tierlab.dev/ip: {address}}}
spec:
  containers:
  - name: agnhost
    image: registry.k8s.io/e2e-test-images/agnhost:2.53
    ports:
"#
    );
    for (name, protocol, number) in ports {
        let name = name.map(|name| format!("name: {name}, ")).unwrap_or_default();
        yaml += &format!("    - {{{name}containerPort: {number}, protocol: {protocol}}}\n");
    }
    yaml
}
