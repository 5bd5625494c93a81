//! The network of the table: one lab under two sets of policies, and the same in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use definitions::model::ObjectName;
use definitions::{Input, load};
use engine::network::{
    AddressRange, AddressSet, Fib, NatAction, NatTable, Network, PoolSnat, PortId, Prefix,
    RouteTarget, Side, Tier, VirtualServers,
};
use packet::Addr;
use realization::{Allocations, Names, realize};

use crate::table::{Family, Policy};
use crate::wire::Mac;

/// Client, backend, and a pod that is its own service's backend; two hosts outside, one of them behind a NO_SNAT rule.
const LAB: &str = r#"
kind: SupervisorCluster
metadata: {name: pairs}
spec:
  hosts: 2
  controlPlane: {replicas: 1}
  isolation: none
  tier1: {noSnat: [{source: 10.244.0.0/20, destination: 192.0.2.77}]}
---
{kind: ExternalNetwork, metadata: {name: outside}}
---
kind: Tier0Gateway
metadata: {name: t0}
spec: {uplinks: [{name: up, network: outside, addresses: [192.0.2.1/24]}]}
---
{kind: ExternalHost, metadata: {name: far}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.0.2.10/24]}]}}
---
{kind: ExternalHost, metadata: {name: partner}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.0.2.77/24]}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: blue}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: red}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: blue, labels: {app: server}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: red, labels: {app: client}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: self, namespace: red, labels: {app: self}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: blue}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  loadBalancerIP: 172.16.1.80
  selector: {app: server}
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: open, namespace: blue, annotations: {ncp/transparent-lb: "true"}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.81
  loadBalancerIP: 172.16.1.81
  selector: {app: server}
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: self, namespace: red}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.82
  loadBalancerIP: 172.16.1.82
  selector: {app: self}
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: red}
spec:
  clusterIP: 10.96.0.83
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: far, namespace: red, labels: {kubernetes.io/service-name: far}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.10]}]
ports: [{name: tcp, port: 8080}, {name: udp, port: 5353, protocol: UDP}]
"#;

/// Everything in the table is allowed, each by a rule that says so.
const ALLOWED: &str = r#"
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: blue}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - {namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}
    - {ipBlock: {cidr: 100.64.0.0/16}}
    - {ipBlock: {cidr: 192.0.2.0/24}}
    ports: [{port: 8080}, {port: 5353, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: red}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}, {ipBlock: {cidr: 172.16.1.0/24}}]
  - to: [{ipBlock: {cidr: 192.0.2.0/24}}]
    ports: [{port: 8080}, {port: 5353, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: self, namespace: red}
spec:
  podSelector: {matchLabels: {app: self}}
  policyTypes: [Ingress]
  ingress: [{from: [{ipBlock: {cidr: 100.64.0.0/16}}]}]
"#;

/// Everything in the table is denied: at the destination where that is a pod, else at the source.
const DENIED: &str = r#"
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: blue}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: red}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}, {ipBlock: {cidr: 172.16.1.0/24}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: self, namespace: red}
spec: {podSelector: {matchLabels: {app: self}}, policyTypes: [Ingress], ingress: []}
"#;

/// An end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
    Itself,
    Far,
    Partner,
}

impl End {
    /// The name of its port.
    pub fn port(self) -> &'static str {
        match self {
            End::Client => "pod/red/client",
            End::Server => "pod/blue/server",
            End::Itself => "pod/red/self",
            End::Far => "host/far:eth0",
            End::Partner => "host/partner:eth0",
        }
    }

    pub fn is_pod(self) -> bool {
        matches!(self, End::Client | End::Server | End::Itself)
    }
}

/// An address of the lab, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Of(End),
    ClusterIp(&'static str, &'static str),
    Vip(&'static str, &'static str),
    /// Egress address of a namespace.
    Snat(&'static str),
    /// The Tier-1's end of the transit link, which automap uses: a /31 from 100.64.0.0, the Tier-0's end first.
    Automap,
}

/// Both networks of a family.
pub struct Lab {
    family: Family,
    names: Names,
    pub allowed: Network,
    pub denied: Network,
}

/// Where the lab's IPv4 addresses are in IPv6: the low 32 bits of this /96, as RFC 6052 embeds them.
const PREFIX: u128 = 0x2001_0db8_0064_0000_0000_0000_0000_0000;

impl Lab {
    pub fn new(family: Family) -> Lab {
        let (allowed, allocations, names) = realized(ALLOWED, &Allocations::default());
        let (denied, _, _) = realized(DENIED, &allocations);
        let adapt = |net: Network, epoch| Network {
            epoch,
            seed: 7,
            ..if family == Family::V6 { in_ipv6(net) } else { net }
        };
        Lab { family, names, allowed: adapt(allowed, 1), denied: adapt(denied, 2) }
    }

    pub fn under(&self, policy: Policy) -> &Network {
        match policy {
            Policy::Allowed => &self.allowed,
            Policy::Denied => &self.denied,
        }
    }

    pub fn port(&self, end: End) -> PortId {
        self.names.port(end.port()).unwrap().1.port
    }

    pub fn name(&self, port: PortId) -> &str {
        &self.allowed.ports[port.0 as usize].name
    }

    /// The MAC of an end, and of the gateway that its packets go to.
    pub fn macs(&self, end: End) -> (Mac, Mac) {
        let own = self.names.port(end.port()).unwrap().1.mac.0;
        let (tier, side) =
            if end.is_pod() { (Tier::Tier1, Side::Downlink) } else { (Tier::Tier0, Side::Uplink) };
        let gateway = self.allowed.routers.iter().find(|r| r.tier == tier).unwrap();
        let interface = gateway.interfaces.iter().find(|i| i.side == side).unwrap();
        (own, interface.mac.0)
    }

    pub fn address(&self, address: Address) -> IpAddr {
        let name = |namespace, service| ObjectName::new(namespace, service);
        let v4 = match address {
            Address::Of(end) => self.names.address_of(end.port()).unwrap(),
            Address::ClusterIp(namespace, service) => {
                self.names.cluster_ip(&name(namespace, service)).unwrap()
            }
            Address::Vip(namespace, service) => self.names.vip(&name(namespace, service)).unwrap(),
            Address::Snat(namespace) => self.names.snat(namespace).unwrap(),
            Address::Automap => Ipv4Addr::new(100, 64, 0, 1).into(),
        };
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(v4.low32())),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(PREFIX | u128::from(v4.low32()))),
        }
    }
}

fn realized(policies: &str, kept: &Allocations) -> (Network, Allocations, Names) {
    let loaded = load(&[Input::text("pairs.yaml", format!("{LAB}{policies}"))]);
    let definitions = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).definitions;
    let realized = realize(&definitions, kept).unwrap_or_else(|faults| panic!("{faults:#?}"));
    (realized.network, realized.allocations, realized.names)
}

fn six(address: Addr) -> Addr {
    if address.is_v4() { Addr(PREFIX | u128::from(address.low32())) } else { address }
}

fn six_prefix(prefix: Prefix) -> Prefix {
    if !prefix.first().is_v4() {
        return prefix;
    }
    Prefix::new(six(prefix.first()), prefix.prefix_len() + 96)
}

fn six_set(set: &AddressSet) -> AddressSet {
    if set.is_any() {
        return set.clone();
    }
    AddressSet::from_ranges(set.ranges().iter().map(|(first, last)| (six(*first), six(*last))))
}

fn six_servers(servers: &VirtualServers) -> VirtualServers {
    let mapped = servers.servers().iter().cloned().map(|mut server| {
        server.address = six(server.address);
        for member in &mut server.members {
            member.address = six(member.address);
        }
        server.source_ranges = server.source_ranges.into_iter().map(six_prefix).collect();
        server.snat = match server.snat {
            PoolSnat::Automap(address) => PoolSnat::Automap(six(address)),
            PoolSnat::Pool(pool) => PoolSnat::Pool(pool.into_iter().map(six).collect()),
            PoolSnat::Transparent => PoolSnat::Transparent,
        };
        server
    });
    let reserved = servers.reserved.iter().copied().map(six_prefix).collect();
    VirtualServers::new(mapped.collect(), reserved)
}

/// The same network with every IPv4 address in IPv6. Manifests give services and egress addresses in IPv4 only; the engine
/// treats both families alike, and this is how it is held to that.
fn in_ipv6(mut net: Network) -> Network {
    for vnic in net.ports.iter_mut().filter_map(|port| port.vnic.as_mut()) {
        vnic.addresses = vnic.addresses.iter().copied().map(six).collect();
    }
    for segment in &mut net.segments {
        segment.neighbors = segment.neighbors.iter().map(|(a, mac)| (six(*a), *mac)).collect();
    }
    for router in &mut net.routers {
        for interface in &mut router.interfaces {
            for (address, length) in interface.addresses.iter_mut().filter(|(a, _)| a.is_v4()) {
                (*address, *length) = (six(*address), *length + 96);
            }
        }
        let routes = router.fib.routes().into_iter().cloned().map(|mut route| {
            route.prefix = six_prefix(route.prefix);
            if let RouteTarget::NextHops(hops) = &mut route.target {
                for hop in hops {
                    hop.gateway = hop.gateway.map(six);
                }
            }
            route
        });
        router.fib = Fib::build(routes.collect(), 8);
        let rules = router.nat.rules().iter().cloned().map(|mut rule| {
            rule.source = rule.source.map(|set| set.into_iter().map(six_prefix).collect());
            rule.destination = rule.destination.map(six_prefix);
            if let NatAction::Snat(to) = &mut rule.action {
                *to = AddressRange::host(six(to.first()));
            }
            rule
        });
        router.nat = NatTable::new(rules.collect());
        router.balancer = six_servers(&router.balancer);
        router.local = router.local.iter().copied().map(six).collect();
        router.private = router.private.iter().copied().map(six_prefix).collect();
    }
    net.distributed_balancer = six_servers(&net.distributed_balancer);
    for rule in &mut net.firewall.rules {
        rule.source = six_set(&rule.source);
        rule.destination = six_set(&rule.destination);
    }
    net
}
