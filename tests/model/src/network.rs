//! What the definitions come to, as plain lists.

use std::net::Ipv4Addr;

use definitions::model::{
    ContainerPort, Definitions, Labels, ObjectName, Protocol, Service, TargetPort, TrafficPolicy,
};
use definitions::own::{Isolation, NatMatch, NatMode, SnatMode, UrpfMode};
use ipnet::{IpNet, Ipv4Net};

use crate::packet::{Mac, protocol};

/// An interface that realization gave a port, a MAC and an address.
#[derive(Clone, Debug)]
pub struct Station {
    /// Number of its port.
    pub port: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Everything that was allocated: the only thing that the model takes from the program it judges.
#[derive(Clone, Debug, Default)]
pub struct Atlas {
    /// Pods.
    pub pods: Vec<(ObjectName, Station)>,
    /// Control-plane VMs in order, by their interface in the cluster network.
    pub vms: Vec<Station>,
    /// Hosts outside: the ExternalNetwork they are in, and themselves.
    pub outside: Vec<(String, Station)>,
    /// ClusterIPs.
    pub cluster_ips: Vec<(ObjectName, Ipv4Addr)>,
    /// Addresses outside, of Services of type LoadBalancer.
    pub vips: Vec<(ObjectName, Ipv4Addr)>,
    /// The egress address of each namespace.
    pub snat: Vec<(String, Ipv4Addr)>,
    /// The gateway of each namespace's segment.
    pub gateways: Vec<(String, Ipv4Addr)>,
    /// The MAC that gateways answer ARP with in segments.
    pub gateway_mac: Mac,
    /// The same on each uplink of the Tier-0, by its ExternalNetwork.
    pub uplink_macs: Vec<(String, Mac)>,
}

/// A pod or a control-plane VM.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) port: u32,
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    pub(crate) host: String,
    /// A VM has none.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<ContainerPort>,
}

/// A segment.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) net: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    /// The control plane's has none.
    pub(crate) namespace: Option<String>,
}

/// Where a virtual server sends.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) host: String,
}

/// One port of a Service at one of its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) members: Vec<Member>,
    pub(crate) local_only: bool,
    pub(crate) sticky_seconds: Option<u32>,
    /// Towards members from this address; `None`: the client's own.
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) clients: Vec<IpNet>,
}

/// A NAT rule of the Tier-1.
#[derive(Clone, Debug)]
pub(crate) struct NatRule {
    pub(crate) from: Option<Ipv4Net>,
    pub(crate) to: Option<Ipv4Net>,
    /// `None`: stays.
    pub(crate) becomes: Option<Ipv4Addr>,
}

/// An interface of the Tier-0 to the outside.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    pub(crate) network: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) net: Ipv4Net,
    pub(crate) mac: Mac,
    pub(crate) urpf: UrpfMode,
}

/// Where a route of the Tier-0 leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the Tier-1.
    Down,
    /// Onto the link of this uplink.
    Link(usize),
    /// To one of these neighbours.
    Neighbors(Vec<Ipv4Addr>),
    /// To nobody.
    Blackhole,
}

/// A route of the Tier-0.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) net: Ipv4Net,
    pub(crate) distance: u8,
    pub(crate) target: Target,
}

/// One state of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) definitions: Definitions,
    pub(crate) isolation: Isolation,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) cluster_servers: Vec<Server>,
    pub(crate) service_net: Ipv4Net,
    pub(crate) outer_servers: Vec<Server>,
    pub(crate) nat_rules: Vec<NatRule>,
    /// Addresses that the Tier-1 has without an interface.
    pub(crate) tier1_addresses: Vec<Ipv4Addr>,
    /// What nobody outside may use or see, at the Tier-1.
    pub(crate) private: Vec<Ipv4Net>,
    /// The link between the tiers: its network, the Tier-0's end, the Tier-1's.
    pub(crate) transit_net: Ipv4Net,
    pub(crate) transit: (Ipv4Addr, Ipv4Addr),
    pub(crate) uplinks: Vec<Uplink>,
    pub(crate) routes: Vec<Route>,
    pub(crate) outside: Vec<(String, Station)>,
    pub(crate) gateway_mac: Mac,
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => 132,
    }
}

fn v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net.trunc()),
        IpNet::V6(_) => None,
    }
}

fn find<'a, T>(list: &'a [(ObjectName, T)], key: &ObjectName) -> Option<&'a T> {
    list.iter().find(|(k, _)| k == key).map(|(_, t)| t)
}

impl Network {
    /// Reads definitions. Errors name what the model does not know.
    pub(crate) fn new(definitions: &Definitions, atlas: &Atlas) -> Result<Network, String> {
        let cluster = definitions.supervisor().ok_or("no supervisor cluster")?;
        let spec = &cluster.spec;
        let tier0 = definitions.tier0_of(cluster).ok_or("no Tier-0 above the cluster")?;
        let transit_net = spec.transit_cidr.trunc();
        // The first link of the pool: the Tier-0 has the even address (section 3.C).
        let even = transit_net.network();
        let transit = (even, Ipv4Addr::from(u32::from(even) + 1));
        let mut network = Network {
            definitions: definitions.clone(),
            isolation: spec.isolation,
            workloads: workloads(definitions, atlas)?,
            blocks: Vec::new(),
            cluster_servers: Vec::new(),
            service_net: spec.service_cidr.trunc(),
            outer_servers: Vec::new(),
            nat_rules: Vec::new(),
            tier1_addresses: Vec::new(),
            private: Vec::new(),
            transit_net,
            transit,
            uplinks: Vec::new(),
            routes: Vec::new(),
            outside: atlas.outside.clone(),
            gateway_mac: atlas.gateway_mac,
        };
        network.add_blocks(spec.namespace_prefix, atlas)?;
        network.add_servers(atlas)?;
        let nat = spec.nat_mode == NatMode::Nat;
        let system = spec.egress_cidr.hosts().next();
        network.add_nat(nat, system, atlas)?;
        if nat {
            let pods = spec.pod_cidr.trunc();
            network.private = vec![pods, network.service_net, transit_net];
            network.tier1_addresses.extend(system);
            network.tier1_addresses.extend(atlas.snat.iter().map(|(_, a)| *a));
        }
        network.tier1_addresses.extend(atlas.vips.iter().map(|(_, a)| *a));
        for uplink in &tier0.spec.uplinks {
            let Some(IpNet::V4(address)) = uplink.addresses.first().map(|a| **a) else {
                return Err(format!("uplink {} without an IPv4 address", uplink.name));
            };
            let mac = atlas.uplink_macs.iter().find(|(n, _)| *n == uplink.network);
            network.uplinks.push(Uplink {
                network: uplink.network.clone(),
                address: address.addr(),
                net: address.trunc(),
                mac: mac.map(|(_, mac)| *mac).ok_or("an uplink without a MAC")?,
                urpf: uplink.urpf_mode.unwrap_or(tier0.spec.urpf_mode),
            });
        }
        for route in &tier0.spec.static_routes {
            let hops: Vec<Ipv4Addr> = route
                .next_hops
                .iter()
                .filter_map(|hop| match hop {
                    std::net::IpAddr::V4(hop) => Some(*hop),
                    std::net::IpAddr::V6(_) => None,
                })
                .collect();
            let target = if route.blackhole { Target::Blackhole } else { Target::Neighbors(hops) };
            if let Some(net) = v4(*route.network) {
                network.routes.push(Route { net, distance: route.distance, target });
            }
        }
        network.add_routes();
        for net in [
            spec.pod_cidr,
            spec.service_cidr,
            spec.ingress_cidr,
            spec.egress_cidr,
            spec.transit_cidr,
        ] {
            network.routes.push(Route {
                net: net.trunc(),
                distance: 255,
                target: Target::Blackhole,
            });
        }
        Ok(network)
    }

    fn add_blocks(&mut self, len: u8, atlas: &Atlas) -> Result<(), String> {
        let block = |address: Ipv4Addr, namespace: Option<&String>| {
            let net = Ipv4Net::new(address, len).map_err(|e| e.to_string())?.trunc();
            // F2: the gateway has the first address.
            let gateway = net.hosts().next().ok_or("a block without hosts")?;
            Ok::<_, String>(Block { net, gateway, namespace: namespace.cloned() })
        };
        if let Some(vm) = atlas.vms.first() {
            self.blocks.push(block(vm.address, None)?);
        }
        for (namespace, gateway) in &atlas.gateways {
            self.blocks.push(block(*gateway, Some(namespace))?);
        }
        Ok(())
    }

    fn add_servers(&mut self, atlas: &Atlas) -> Result<(), String> {
        let cluster = self.definitions.supervisor().ok_or("no supervisor cluster")?;
        let automap = match cluster.spec.load_balancer.snat {
            SnatMode::Automap => Some(self.transit.1),
            SnatMode::Transparent => None,
            SnatMode::Pool => return Err("the model knows no balancer pool".to_owned()),
        };
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (key, service) in &self.definitions.services {
            for (at, port) in service.ports.iter().enumerate() {
                let server = |address: Ipv4Addr| Server {
                    address,
                    protocol: protocol_number(port.protocol),
                    port: port.port,
                    members: self.members(service, at),
                    local_only: false,
                    sticky_seconds: service.affinity_seconds,
                    source: None,
                    clients: Vec::new(),
                };
                if let Some(address) = find(&atlas.cluster_ips, key) {
                    let local_only = service.internal_traffic_policy == TrafficPolicy::Local;
                    inner.push(Server { local_only, ..server(*address) });
                }
                if let Some(address) = find(&atlas.vips, key) {
                    let keeps = service.transparent
                        || service.external_traffic_policy == TrafficPolicy::Local;
                    outer.push(Server {
                        source: automap.filter(|_| !keeps),
                        clients: service.source_ranges.clone(),
                        ..server(*address)
                    });
                }
            }
        }
        (self.cluster_servers, self.outer_servers) = (inner, outer);
        Ok(())
    }

    /// The pods behind a port of a Service, in the order of their addresses. All of the model's pods are ready.
    fn members(&self, service: &Service, at: usize) -> Vec<Member> {
        let (Some(selector), Some(port)) = (&service.selector, service.ports.get(at)) else {
            return Vec::new();
        };
        let mut members: Vec<Member> = self
            .workloads
            .iter()
            .filter(|pod| pod.namespace.as_ref() == Some(&service.meta.namespace))
            .filter(|pod| selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)))
            .filter_map(|pod| {
                let number = match &port.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => pod
                        .ports
                        .iter()
                        .find(|p| p.protocol == port.protocol && p.name.as_ref() == Some(name))
                        .map(|p| p.port),
                };
                let host = pod.host.clone();
                number.map(|port| Member { address: pod.address, port, host })
            })
            .collect();
        members.sort_by_key(|m| (m.address, m.port));
        members
    }

    /// F9 and F10 in the order of their priorities: NO_SNAT, namespaces, everything else.
    fn add_nat(
        &mut self,
        nat: bool,
        system: Option<Ipv4Addr>,
        atlas: &Atlas,
    ) -> Result<(), String> {
        let cluster = self.definitions.supervisor().ok_or("no supervisor cluster")?;
        let spec = &cluster.spec;
        if spec.tier1.nat_rules.is_some() {
            return Err("the model knows no table of NAT rules".to_owned());
        }
        let mut rules = Vec::new();
        let pods = spec.pod_cidr.trunc();
        if nat {
            for to in [pods, spec.egress_cidr.trunc()] {
                rules.push(NatRule { from: Some(pods), to: Some(to), becomes: None });
            }
        }
        for exemption in &spec.tier1.no_snat {
            let side = |side: NatMatch| match side {
                NatMatch::Any => None,
                NatMatch::Network(net) => v4(*net),
            };
            rules.push(NatRule {
                from: side(exemption.source),
                to: side(exemption.destination),
                becomes: None,
            });
        }
        if nat {
            for (namespace, address) in &atlas.snat {
                for block in self.blocks.iter().filter(|b| b.namespace.as_ref() == Some(namespace))
                {
                    let from = Some(block.net);
                    rules.push(NatRule { from, to: None, becomes: Some(*address) });
                }
            }
            rules.push(NatRule { from: None, to: None, becomes: system });
        }
        self.nat_rules = rules;
        Ok(())
    }

    /// What the Tier-0 knows by itself and from the Tier-1. All of it is better than a static route to the same network or
    /// there is none.
    fn add_routes(&mut self) {
        for (at, uplink) in self.uplinks.iter().enumerate() {
            self.routes.push(Route { net: uplink.net, distance: 0, target: Target::Link(at) });
        }
        let link = Ipv4Net::new(self.transit.0, 31).into_iter();
        let blocks = self.blocks.iter().map(|b| b.net);
        let hosts = self.tier1_addresses.iter().map(|a| Ipv4Net::from(*a));
        for net in link.chain(blocks).chain(hosts) {
            self.routes.push(Route { net, distance: 3, target: Target::Down });
        }
    }

    /// The best route of the Tier-0: the longest prefix, then the lowest distance.
    pub(crate) fn route(&self, address: Ipv4Addr) -> Option<&Route> {
        let fitting = self.routes.iter().filter(|r| r.net.contains(&address));
        fitting.max_by_key(|r| (r.net.prefix_len(), std::cmp::Reverse(r.distance)))
    }

    pub(crate) fn vms(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(|w| w.namespace.is_none())
    }

    pub(crate) fn workload_at(&self, port: u32) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.port == port)
    }

    pub(crate) fn workload_with(&self, address: Ipv4Addr) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.address == address)
    }

    /// The segment of an address.
    pub(crate) fn block_of(&self, address: Ipv4Addr) -> Option<&Block> {
        self.blocks.iter().find(|b| b.net.contains(&address))
    }

    /// The uplink whose link holds an address.
    pub(crate) fn uplink_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.uplinks.iter().position(|u| u.net.contains(&address))
    }
}

fn workloads(definitions: &Definitions, atlas: &Atlas) -> Result<Vec<Workload>, String> {
    let cluster = definitions.supervisor().ok_or("no supervisor cluster")?;
    let hosts = cluster.spec.hosts.names();
    let mut all = Vec::new();
    // VMs are spread over the hosts in order.
    for (vm, host) in atlas.vms.iter().zip(hosts.iter().cycle()) {
        all.push(Workload {
            name: format!("vm on port {}", vm.port),
            port: vm.port,
            mac: vm.mac,
            address: vm.address,
            host: host.clone(),
            namespace: None,
            labels: Labels::new(),
            ports: Vec::new(),
        });
    }
    for (key, pod) in &definitions.pods {
        let station = find(&atlas.pods, key).ok_or_else(|| format!("pod {key} has no address"))?;
        all.push(Workload {
            name: key.to_string(),
            port: station.port,
            mac: station.mac,
            address: station.address,
            host: pod.host.clone().ok_or_else(|| format!("pod {key} states no host"))?,
            namespace: Some(key.namespace.clone()),
            labels: pod.meta.labels.clone(),
            ports: pod.ports.clone(),
        });
    }
    Ok(all)
}
