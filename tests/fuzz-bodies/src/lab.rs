//! The network that frames are thrown at: two namespaces with IPv4 and IPv6, distributed and server load balancing, SNAT and
//! NO_SNAT, a firewall; and what becomes of it when somebody applies changes.

use std::sync::OnceLock;

use definitions::{Input, load};
use engine::network::{Network, PortId, Side, Tier};
use packet::{Addr, Mac};
use realization::{Allocations, Names, realize};

/// Who is at a port.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    pub port: PortId,
    pub mac: Mac,
    /// Where it sends what is not on its link.
    pub gateway: Mac,
    pub v4: Addr,
    pub v6: Addr,
    pub outside: bool,
}

/// The lab, and every configuration that it may have.
#[derive(Debug)]
pub struct Lab {
    pub networks: Vec<Network>,
    pub stations: Vec<Station>,
    /// The MACs of the Tier-1 on segments and of the Tier-0 outside.
    pub gateway: Mac,
    pub uplink: Mac,
    /// The Tier-0's addresses outside.
    pub tier0: [Addr; 2],
    /// Destinations, IPv4 and IPv6: stations, services, gateways, and nobody.
    pub targets: Vec<Addr>,
    /// Addresses that the gateways send ICMP errors from.
    pub gateways: Vec<Addr>,
}

/// Stations, by their place in [`Lab::stations`].
pub const CLIENT: usize = 0;
pub const VAULT: usize = 1;
pub const WEB: usize = 2;
/// Its address is under a NO_SNAT rule.
pub const PARTNER: usize = 5;
const NAMES: [&str; 6] = [
    "pod/red/client",
    "pod/red/vault",
    "pod/blue/web",
    "pod/blue/db",
    "host/far:eth0",
    "host/partner:eth0",
];
/// The only port of the vault, and only the client may use it; the vault itself may begin nothing.
pub const VAULT_PORT: u16 = 8080;
/// The configuration in which the pod `web` may neither be reached nor begin anything.
pub const SEALED: usize = 1;
/// Pods, services and transit links: nothing outside may see such a source.
pub const HIDDEN: [&str; 4] = ["10.244.0.0/20", "10.96.0.0/23", "100.64.0.0/16", "2001:db8:f::/48"];

/// What is the same in every configuration.
const COMMON: &str = r#"
{kind: ExternalNetwork, metadata: {name: outside}}
---
kind: Tier0Gateway
metadata: {name: t0}
spec:
  uplinks: [{name: up, network: outside, addresses: [192.0.2.1/24, "2001:db8:2::1/64"]}]
  staticRoutes: [{network: 203.0.113.0/24, nextHops: [192.0.2.10]}]
---
{kind: ExternalHost, metadata: {name: far}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.0.2.10/24, "2001:db8:2::10/64"]}]}}
---
{kind: ExternalHost, metadata: {name: partner}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.0.2.77/24, "2001:db8:2::77/64"]}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: blue}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: red}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: red, labels: {app: client}, annotations: {lab.tierlab.dev/host: esx-1}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: vault, namespace: red, labels: {app: vault}, annotations: {lab.tierlab.dev/host: esx-2}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: blue, labels: {app: web}, annotations: {lab.tierlab.dev/host: esx-1}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: vault, namespace: red}
spec:
  podSelector: {matchLabels: {app: vault}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: 8080}, {port: 8080, protocol: UDP}]
"#;

const DB: &str = r#"
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: blue, labels: {app: db}, annotations: {lab.tierlab.dev/host: esx-2}}, spec: {containers: [{name: c, image: i}]}}
"#;

const SEAL: &str = r#"
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: sealed, namespace: blue}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress]}
"#;

/// RSTs and ICMP errors instead of silence.
const REJECTS: &str = r#"
---
apiVersion: nsx.vmware.com/v1alpha1
kind: SecurityPolicy
metadata: {name: rejects, namespace: blue}
spec:
  priority: 10
  appliedTo: [{podSelector: {matchLabels: {app: db}}}]
  rules:
  - {name: in, direction: In, action: Reject, sources: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: red}}}]}
  - {name: out, direction: Out, action: Reject, ports: [{port: 54, protocol: UDP}]}
"#;

/// A configuration: its balancer's SNAT mode, whom its services select, and what else there is.
fn manifest(snat: &str, app: &str, more: &[&str]) -> String {
    let service = |name: &str, number: u8, app: &str| {
        format!(
            "\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: blue}}, spec: {{type: \
             LoadBalancer, clusterIP: 10.96.0.{number}, loadBalancerIP: 172.16.1.{number}, selector: {{app: {app}}}, \
             ports: [{{name: tcp, port: 53}}, {{name: udp, port: 53, protocol: UDP}}, {{name: web, port: 54, \
             targetPort: 4000, protocol: UDP}}]}}}}"
        )
    };
    format!(
        "kind: SupervisorCluster\nmetadata: {{name: fuzz}}\nspec:\n  hosts: 2\n  controlPlane: {{replicas: 1}}\n  \
         podCIDRv6: 2001:db8:f::/48\n  isolation: none\n  loadBalancer: {{snat: {snat}}}\n  tier1: {{mtu: 1400, noSnat: \
         [{{source: 10.244.0.0/20, destination: 192.0.2.77}}]}}\n---{COMMON}{}{}{}",
        service("web", 80, app),
        service("nobody", 81, "nobody"),
        more.concat()
    )
}

fn realized(manifest: &str, kept: &Allocations) -> Result<(Network, Allocations, Names), String> {
    let loaded =
        load(&[Input::text("fuzz.yaml", manifest)]).map_err(|faults| format!("{faults:#?}"))?;
    let realized = realize(&loaded.definitions, kept).map_err(|faults| format!("{faults:#?}"))?;
    Ok((realized.network, realized.allocations, realized.names))
}

fn build() -> Result<Lab, String> {
    let configurations = [
        manifest("automap", "web", &[DB]),
        manifest("automap", "db", &[DB, SEAL]),
        manifest("transparent", "web", &[DB]),
        manifest("automap", "nobody", &[DB, REJECTS]),
        manifest("transparent", "db", &[DB, REJECTS]),
        // Without one of the pods, and then with it again.
        manifest("automap", "web", &[]),
    ];
    let (_, allocations, names) = realized(&configurations[0], &Allocations::default())?;
    let mut networks = Vec::new();
    for configuration in &configurations {
        let (network, ..) = realized(configuration, &allocations)?;
        networks.push(Network { seed: 11, ..network });
    }
    let mac = |tier, side| {
        let routers = networks.first().into_iter().flat_map(|net| &net.routers);
        let mut interfaces = routers.filter(|r| r.tier == tier).flat_map(|r| &r.interfaces);
        interfaces.find(|i| i.side == side).map(|i| i.mac).ok_or("no such interface")
    };
    let gateway = mac(Tier::Tier1, Side::Downlink)?;
    let uplink = mac(Tier::Tier0, Side::Uplink)?;
    let mut stations = Vec::new();
    for name in NAMES {
        let (_, place) = names.port(name).map_err(|e| e.to_string())?;
        let [v4, v6, ..] = place.addresses[..] else {
            return Err(format!("{name} has one family only"));
        };
        let outside = name.starts_with("host/");
        let first_hop = if outside { uplink } else { gateway };
        stations.push(Station {
            port: place.port,
            mac: place.mac,
            gateway: first_hop,
            v4,
            v6,
            outside,
        });
    }
    let gateways = networks.iter().flat_map(|net| &net.routers).flat_map(|r| &r.interfaces);
    let gateways: Vec<Addr> = gateways.flat_map(|i| i.addresses.iter().map(|(a, _)| *a)).collect();
    let snat = |namespace| names.snat(namespace).map_err(|e| e.to_string());
    let mut targets: Vec<Addr> = stations.iter().flat_map(|s| [s.v4, s.v6]).collect();
    targets.extend([snat("red")?, snat("blue")?]);
    let others = [
        "10.96.0.80",
        "10.96.0.81",
        "172.16.1.80",
        "172.16.1.81",
        "10.96.0.99",
        "172.16.1.99",
        "10.244.0.200",
        "203.0.113.9",
        "192.0.2.99",
        "192.0.2.1",
        "100.64.0.1",
        "255.255.255.255",
        "224.0.0.251",
        "2001:db8:9::9",
        "ff02::1",
    ];
    for other in others {
        targets.push(other.parse().map_err(|_| format!("{other} is no address"))?);
    }
    let mut own: Vec<Addr> = gateways.clone();
    own.sort_unstable();
    own.dedup();
    targets.extend(own.iter().filter(|a| !a.is_link_local()));
    let address = |text: &str| text.parse::<Addr>().map_err(|_| format!("{text} is no address"));
    let tier0 = [address("192.0.2.1")?, address("2001:db8:2::1")?];
    Ok(Lab { networks, stations, gateway, uplink, tier0, targets, gateways: own })
}

/// The lab, made once a process.
///
/// # Errors
/// Its manifest is refused: nothing can be fuzzed then.
pub fn lab() -> Result<&'static Lab, String> {
    static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
    LAB.get_or_init(build).as_ref().map_err(Clone::clone)
}
