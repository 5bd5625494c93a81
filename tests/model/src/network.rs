//! What the definitions come to, as plain lists.

mod gateway;
mod nat;
mod routes;
mod services;

use std::net::IpAddr;

use definitions::model::{ContainerPort, Definitions, Labels, ObjectName};
use definitions::own::{HaMode, Isolation, NatMode, OnPolicyChange, TimerProfile, UrpfMode};
use ipnet::IpNet;

use crate::packet::Mac;

pub(crate) use gateway::{Firewall, GatewayRule};
pub use nat::{NatKind, NatRule, Pool, Service};
pub(crate) use routes::{Lost, Route, Target};
pub(crate) use services::{Member, Server, Source, protocol_number};

/// An interface that realization gave a port, a MAC and addresses.
#[derive(Clone, Debug)]
pub struct Station {
    /// Number of its port.
    pub port: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// A segment that realization made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its namespace; the control plane's has none.
    pub namespace: Option<String>,
    /// Its networks, IPv4 first.
    pub nets: Vec<IpNet>,
}

impl Block {
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// F2: the gateway has the first address.
    pub(crate) fn gateway(&self, like: IpAddr) -> Option<IpAddr> {
        let net = self.nets.iter().find(|net| net.addr().is_ipv4() == like.is_ipv4())?;
        Some(match net {
            IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) + 1).into()),
            IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + 1).into()),
        })
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.nets.iter().filter_map(|net| self.gateway(net.addr()))
    }

    /// Whether it is the broadcast address of the segment.
    pub(crate) fn is_broadcast(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| is_broadcast(*net, address))
    }
}

/// Whether it is the broadcast address of the network; IPv6 has none.
pub(crate) fn is_broadcast(net: IpNet, address: IpAddr) -> bool {
    net.addr().is_ipv4() && net.broadcast() == address
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
    pub cluster_ips: Vec<(ObjectName, IpAddr)>,
    /// Addresses outside, of Services of type LoadBalancer.
    pub vips: Vec<(ObjectName, IpAddr)>,
    /// The egress address of each namespace.
    pub snat: Vec<(String, IpAddr)>,
    /// The address that a Service has of its SNAT pool.
    pub service_snat: Vec<(ObjectName, IpAddr)>,
    /// The cluster's segments.
    pub blocks: Vec<Block>,
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
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) host: String,
    /// A VM has none.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<ContainerPort>,
    /// On the firewall's exclude list.
    pub(crate) excluded: bool,
    /// A ready endpoint, and one that is going away.
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
}

/// An interface of the Tier-0 to the outside.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    pub(crate) network: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) nets: Vec<IpNet>,
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
    pub(crate) urpf: UrpfMode,
}

/// One state of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) definitions: Definitions,
    pub(crate) isolation: Isolation,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) cluster_servers: Vec<Server>,
    pub(crate) service_net: IpNet,
    pub(crate) outer_servers: Vec<Server>,
    pub(crate) nat_rules: Vec<NatRule>,
    pub(crate) gateway_firewall: Firewall,
    pub(crate) tier0_firewall: Firewall,
    pub(crate) timers: TimerProfile,
    /// What became of live sessions when the distributed firewall's rules changed.
    pub(crate) on_policy_change: OnPolicyChange,
    /// Addresses that the Tier-1 has without an interface: of NAT, of virtual servers, of the balancer's pool.
    pub(crate) tier1_addresses: Vec<IpNet>,
    /// What nobody outside may use or see, at the Tier-1.
    pub(crate) private: Vec<IpNet>,
    /// The link between the tiers: its network, the Tier-0's end, the Tier-1's.
    pub(crate) transit_net: IpNet,
    pub(crate) transit: (IpAddr, IpAddr),
    /// Of segments and of the link between the tiers.
    pub(crate) inner_mtu: u16,
    pub(crate) uplinks: Vec<Uplink>,
    pub(crate) routes: Vec<Route>,
    /// Routes of the Tier-1 beside its segments and the way out: what goes there is lost, in silence or not.
    pub(crate) lost: Vec<Lost>,
    pub(crate) outside: Vec<(String, Station)>,
    pub(crate) gateway_mac: Mac,
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
        let even = u32::from(transit_net.network());
        let transit = (IpAddr::V4(even.into()), IpAddr::V4((even + 1).into()));
        let service_net = IpNet::V4(spec.service_cidr.trunc());
        let nat = spec.nat_mode == NatMode::Nat;
        let mut network = Network {
            definitions: definitions.clone(),
            isolation: spec.isolation,
            workloads: workloads(definitions, atlas)?,
            blocks: atlas.blocks.clone(),
            cluster_servers: Vec::new(),
            service_net,
            outer_servers: Vec::new(),
            nat_rules: nat::rules(definitions, spec, nat, atlas)?,
            gateway_firewall: Firewall::new(&spec.tier1.gateway_firewall, true),
            tier0_firewall: Firewall::new(
                &tier0.spec.gateway_firewall,
                tier0.spec.ha_mode == HaMode::ActiveStandby,
            ),
            timers: spec.sessions.timers,
            on_policy_change: spec.distributed_firewall.on_policy_change,
            tier1_addresses: Vec::new(),
            private: Vec::new(),
            transit_net: IpNet::V4(transit_net),
            transit,
            inner_mtu: spec.tier1.mtu,
            uplinks: Vec::new(),
            routes: Vec::new(),
            lost: routes::lost(spec)?,
            outside: atlas.outside.clone(),
            gateway_mac: atlas.gateway_mac,
        };
        services::add(&mut network, spec, atlas)?;
        if nat {
            let pods = IpNet::V4(spec.pod_cidr.trunc());
            network.private = vec![pods, service_net, network.transit_net];
        }
        // No IPv6 network leads out of the cluster, with NAT or without.
        network.private.extend(spec.pod_cidr_v6.map(|net| IpNet::V6(net.trunc())));
        for rule in &network.nat_rules {
            network.tier1_addresses.extend(rule.external());
        }
        network.tier1_addresses.extend(atlas.vips.iter().map(|(_, a)| IpNet::from(*a)));
        for uplink in &tier0.spec.uplinks {
            let mac = atlas.uplink_macs.iter().find(|(n, _)| *n == uplink.network);
            let link = definitions.external_networks.get(&uplink.network);
            let mtu = uplink.mtu.or(link.and_then(|link| link.spec.mtu)).unwrap_or(1500);
            network.uplinks.push(Uplink {
                network: uplink.network.clone(),
                addresses: uplink.addresses.iter().map(|a| a.addr()).collect(),
                nets: uplink.addresses.iter().map(|a| a.trunc()).collect(),
                mac: mac.map(|(_, mac)| *mac).ok_or("an uplink without a MAC")?,
                mtu,
                urpf: uplink.urpf_mode.unwrap_or(tier0.spec.urpf_mode),
            });
        }
        routes::add(&mut network, spec, &tier0.spec);
        Ok(network)
    }

    /// The best route of the Tier-0: the longest prefix, then the lowest distance.
    pub(crate) fn route(&self, address: IpAddr) -> Option<&Route> {
        let fitting = self.routes.iter().filter(|r| r.net.contains(&address));
        fitting.max_by_key(|r| (r.net.prefix_len(), std::cmp::Reverse(r.distance)))
    }

    pub(crate) fn vms(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(|w| w.namespace.is_none())
    }

    pub(crate) fn workload_at(&self, port: u32) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.port == port)
    }

    pub(crate) fn workload_with(&self, address: IpAddr) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.addresses.contains(&address))
    }

    /// The MTU of the network that a port is in.
    pub(crate) fn port_mtu(&self, port: u32) -> u16 {
        let link = self.outside.iter().find(|(_, station)| station.port == port);
        let Some((link, _)) = link else { return self.inner_mtu };
        let link = self.definitions.external_networks.get(link);
        link.and_then(|link| link.spec.mtu).unwrap_or(1500)
    }

    /// The segment of an address.
    pub(crate) fn block_of(&self, address: IpAddr) -> Option<&Block> {
        self.blocks.iter().find(|b| b.holds(address))
    }

    /// The uplink whose link holds an address.
    pub(crate) fn uplink_of(&self, address: IpAddr) -> Option<usize> {
        self.uplinks.iter().position(|u| u.nets.iter().any(|net| net.contains(&address)))
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
            addresses: vm.addresses.clone(),
            host: host.clone(),
            namespace: None,
            labels: Labels::new(),
            ports: Vec::new(),
            excluded: false,
            ready: true,
            terminating: false,
        });
    }
    for (key, pod) in &definitions.pods {
        let station = find(&atlas.pods, key).ok_or_else(|| format!("pod {key} has no address"))?;
        all.push(Workload {
            name: key.to_string(),
            port: station.port,
            mac: station.mac,
            addresses: station.addresses.clone(),
            host: pod.host.clone().ok_or_else(|| format!("pod {key} states no host"))?,
            namespace: Some(key.namespace.clone()),
            labels: pod.meta.labels.clone(),
            ports: pod.ports.clone(),
            excluded: pod.firewall_excluded,
            ready: pod.ready,
            terminating: pod.terminating,
        });
    }
    Ok(all)
}
