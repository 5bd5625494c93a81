//! Fills the tables of [`Logical`] from what was realized.

use std::collections::{BTreeMap, BTreeSet};

use definitions::model::{Definitions, ObjectName, ServiceType};
use definitions::own::EthernetProtocol;
use engine::network::{
    FirewallMatch, Interface, NatAction, NatRule, Network, PoolSnat, Prefix, Route, RouteTarget,
    Router, Service, VirtualServer,
};
use hosts::HostSpec;
use packet::{Addr, Mac, protocol};

use crate::Status;
use crate::addressing::{Addressing, Block, CONTROL_PLANE, Cluster, SYSTEM, is_system, prefix4};
use crate::balancer::Balancers;
use crate::logical::{
    FirewallRow, GatewayFirewallRow, HitCounts, HostRow, Logical, NamespaceRow, NatRow, PodRow,
    PortRow, RouteRow, SegmentRow, ServiceRow, VirtualServerRow,
};
use crate::nat;
use crate::snat_pool;
use crate::topology::external_segment;

/// What tables are made from.
pub(crate) struct Tables<'a> {
    pub(crate) definitions: &'a Definitions,
    pub(crate) addressing: &'a Addressing<'a>,
    pub(crate) network: &'a Network,
    pub(crate) hosts: &'a [HostSpec],
    pub(crate) balancers: &'a Balancers,
    pub(crate) statuses: &'a [Status],
}

impl Tables<'_> {
    /// All tables.
    pub(crate) fn fill(&self) -> Logical {
        Logical {
            namespaces: self.namespaces(),
            segments: self.segments(),
            pods: self.pods(),
            hosts: self.hosts(),
            services: self.services(),
            virtual_servers: self.virtual_servers(),
            nat: self.nat(),
            dfw: self.firewall(),
            gateway_firewall: self.gateway_firewall(),
            routes: self.routes(),
            ports: self.ports(),
        }
    }

    fn cluster(&self) -> Option<&Cluster<'_>> {
        self.addressing.cluster.as_ref()
    }

    fn node(&self, hypervisor: u32) -> Option<String> {
        self.cluster()?.spec().hosts.names().get(hypervisor as usize).cloned()
    }

    /// The word of NCP for an object.
    fn status(&self, object: &str) -> Option<String> {
        self.statuses.iter().find(|s| s.object == object).map(|s| s.value.clone())
    }

    fn namespaces(&self) -> Vec<NamespaceRow> {
        let Some(cluster) = self.cluster() else { return Vec::new() };
        let mut pods: BTreeMap<&str, usize> = BTreeMap::new();
        for key in cluster.pods.keys() {
            *pods.entry(&key.namespace).or_default() += 1;
        }
        self.definitions
            .namespaces
            .keys()
            .map(|name| NamespaceRow {
                name: name.clone(),
                system: is_system(cluster.spec(), name),
                segments: cluster.blocks_of(name).map(|b| b.segment()).collect(),
                networks: cluster.blocks_of(name).flat_map(block_networks).collect(),
                snat: cluster.egress_address(name).map(|a| a.to_string()),
                pods: pods.get(name.as_str()).copied().unwrap_or(0),
                status: self.status(&format!("Namespace {name}")),
            })
            .collect()
    }

    fn segments(&self) -> Vec<SegmentRow> {
        let row = |name: &str| {
            let found = self.network.segments.iter().find(|s| s.name == name);
            let gateways: Vec<&Interface> = found
                .iter()
                .flat_map(|s| &s.gateways)
                .filter_map(|(router, interface)| {
                    self.network.router(*router)?.interface(*interface)
                })
                .collect();
            let macs: BTreeSet<Mac> = gateways.iter().map(|i| i.mac).collect();
            let addresses = gateways.iter().flat_map(|i| &i.addresses).map(|(a, _)| a);
            SegmentRow {
                name: name.to_owned(),
                kind: "overlay",
                namespace: None,
                networks: Vec::new(),
                gateways: addresses
                    .filter(|a| !a.is_link_local())
                    .map(ToString::to_string)
                    .collect(),
                gateway_macs: macs.iter().map(ToString::to_string).collect(),
                vlan: found.and_then(|s| s.vlan),
                ports: found.map_or(0, |s| s.ports.len()),
                origin: String::new(),
            }
        };
        let mut rows = Vec::new();
        for block in self.cluster().iter().flat_map(|c| &c.blocks) {
            let own = block.owner != CONTROL_PLANE;
            rows.push(SegmentRow {
                namespace: own.then(|| block.owner.clone()),
                networks: block_networks(block).collect(),
                origin: if own {
                    format!("Namespace {}", block.owner)
                } else {
                    "control plane".to_owned()
                },
                ..row(&block.segment())
            });
        }
        for network in self.definitions.external_networks.values() {
            let name = &network.meta.name;
            let v4 = network.spec.cidr.map(|n| n.to_string());
            rows.push(SegmentRow {
                kind: "external",
                networks: v4
                    .into_iter()
                    .chain(network.spec.cidr_v6.map(|n| n.to_string()))
                    .collect(),
                origin: format!("ExternalNetwork {name}"),
                ..row(&external_segment(name))
            });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn pods(&self) -> Vec<PodRow> {
        let Some(cluster) = self.cluster() else { return Vec::new() };
        let behind = snat_pool::of_pods(cluster);
        let snat = |key: &ObjectName| match behind.get(key) {
            Some(address) => *address,
            None => cluster.egress_address(&key.namespace),
        };
        cluster
            .pods
            .iter()
            .map(|(key, (pod, workload))| PodRow {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                addresses: workload.addresses.iter().map(|(a, _)| a.to_string()).collect(),
                mac: workload.mac.to_string(),
                node: self.node(workload.hypervisor).unwrap_or_default(),
                segment: cluster
                    .blocks
                    .get(workload.block)
                    .map(|b| b.segment())
                    .unwrap_or_default(),
                ready: pod.ready && !pod.terminating,
                snat: snat(key).map(|a| a.to_string()),
                labels: pod.meta.labels.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            })
            .collect()
    }

    fn hosts(&self) -> Vec<HostRow> {
        let mut rows = self.hypervisors();
        for host in self.hosts.iter().filter(|h| !h.config.name.starts_with("pod/")) {
            for (interface, port) in host.config.interfaces.iter().zip(&host.ports) {
                let segment =
                    self.network.port(*port).and_then(|p| self.network.segment(p.segment));
                rows.push(HostRow {
                    name: host.config.name.clone(),
                    interface: Some(interface.name.clone()),
                    segment: segment.map(|s| s.name.clone()),
                    addresses: interface
                        .addresses
                        .iter()
                        .map(|(a, len)| format!("{a}/{len}"))
                        .collect(),
                    mac: Some(interface.mac.to_string()),
                    forwarding: host.config.forwarding,
                    rules: host.config.routing.rules().iter().map(ToString::to_string).collect(),
                    workloads: Vec::new(),
                });
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// The ESXi hosts with what they run: what one balances, it balances for all of these.
    fn hypervisors(&self) -> Vec<HostRow> {
        let Some(cluster) = self.cluster() else { return Vec::new() };
        let mut rows: Vec<HostRow> = cluster
            .spec()
            .hosts
            .names()
            .iter()
            .map(|name| HostRow {
                name: name.clone(),
                interface: None,
                segment: None,
                addresses: Vec::new(),
                mac: None,
                forwarding: false,
                rules: Vec::new(),
                workloads: Vec::new(),
            })
            .collect();
        let vms = cluster.vms.iter().map(|vm| (vm.eth1.hypervisor, format!("vm/{}", vm.name)));
        let pods = cluster.pods.iter().map(|(key, (_, w))| (w.hypervisor, format!("pod/{key}")));
        for (hypervisor, workload) in vms.chain(pods) {
            if let Some(row) = rows.get_mut(hypervisor as usize) {
                row.workloads.push(workload);
            }
        }
        rows
    }

    fn services(&self) -> Vec<ServiceRow> {
        let Some(cluster) = self.cluster() else { return Vec::new() };
        let mut endpoints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for server in self.balancers.distributed.servers() {
            if let Some(key) = self.balancers.origins.get(&server.name) {
                endpoints.entry(key.to_string()).or_default().extend(members(server));
            }
        }
        self.definitions
            .services
            .iter()
            .map(|(key, service)| ServiceRow {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                kind: match service.kind {
                    ServiceType::ClusterIp => "ClusterIP",
                    ServiceType::NodePort => "NodePort",
                    ServiceType::LoadBalancer => "LoadBalancer",
                    ServiceType::ExternalName => "ExternalName",
                },
                cluster_ip: cluster.cluster_ips.get(key).map(ToString::to_string),
                external_ip: cluster.vips.get(key).map(ToString::to_string),
                ports: service.ports.iter().map(|p| format!("{}/{}", p.port, p.protocol)).collect(),
                endpoints: endpoints.remove(&key.to_string()).unwrap_or_default(),
                snat: cluster
                    .service_snat
                    .get(key)
                    .and_then(|snat| Some(snat.address.ok()?.to_string())),
                status: self.status(&format!("Service {key}")),
            })
            .collect()
    }

    fn virtual_servers(&self) -> Vec<VirtualServerRow> {
        let row = |balancer, server: &VirtualServer| {
            let origin = self.balancers.origins.get(&server.name);
            let service = origin.and_then(|key| self.definitions.services.get(key));
            let shown = service.map(|s| s.display_name.as_ref().unwrap_or(&s.meta.name));
            VirtualServerRow {
                balancer,
                namespace: origin.map(|k| k.namespace.clone()).unwrap_or_default(),
                service: shown.cloned().unwrap_or_default(),
                origin: origin.map(|k| format!("Service {k}")).unwrap_or_default(),
                address: server.address.to_string(),
                port: server.port,
                protocol: protocol_name(server.protocol),
                members: members(server).collect(),
                snat: match &server.snat {
                    PoolSnat::Transparent => "transparent".to_owned(),
                    PoolSnat::Automap(address) => format!("automap {address}"),
                    PoolSnat::Pool(pool) => format!("pool of {}", pool.len()),
                },
                affinity_seconds: server.affinity.map(|d| d.as_secs()),
                hits: HitCounts::default(),
            }
        };
        let distributed =
            self.balancers.distributed.servers().iter().map(|s| row("distributed", s));
        distributed
            .chain(self.balancers.server.servers().iter().map(|s| row("server", s)))
            .collect()
    }

    fn nat(&self) -> Vec<NatRow> {
        let routers = self.network.routers.iter();
        routers.flat_map(|r| r.nat.rules().iter().map(|rule| nat_row(&r.name, rule))).collect()
    }

    fn gateway_firewall(&self) -> Vec<GatewayFirewallRow> {
        let mut routers: Vec<&Router> = self.network.routers.iter().collect();
        routers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut rows = Vec::new();
        for router in routers {
            let enabled = !router.gateway_firewall.is_disabled();
            rows.extend(router.gateway_firewall.rules().iter().map(|rule| GatewayFirewallRow {
                router: router.name.clone(),
                id: rule.id,
                name: rule.name.clone(),
                category: rule.category.to_string(),
                sequence: rule.sequence,
                direction: rule.direction.to_string(),
                source: rule.source_text.clone(),
                destination: rule.destination_text.clone(),
                services: services(&rule.services),
                action: rule.action.to_string(),
                stateful: rule.stateful,
                enabled: enabled && !rule.disabled,
                hits: HitCounts::default(),
            }));
        }
        rows
    }

    /// The namespace whose segment, egress address or Service's address outside a prefix is.
    fn prefix_owners(&self) -> BTreeMap<Prefix, String> {
        let mut owners = BTreeMap::new();
        let Some(cluster) = self.cluster() else { return owners };
        for block in cluster.blocks.iter().filter(|b| b.owner != CONTROL_PLANE) {
            let v6 = block.v6.map(|n| Prefix::new(n.network().into(), n.prefix_len()));
            for prefix in std::iter::once(prefix4(block.net)).chain(v6) {
                owners.insert(prefix, block.owner.clone());
            }
        }
        for (namespace, address) in cluster.snat.iter().filter(|(n, _)| *n != SYSTEM) {
            owners.insert(Prefix::host(*address), namespace.clone());
        }
        for (service, address) in snat_pool::addresses(cluster) {
            owners.insert(Prefix::host(address), service.namespace.clone());
        }
        for (service, address) in &cluster.vips {
            owners.insert(Prefix::host(*address), service.namespace.clone());
        }
        owners
    }

    fn firewall(&self) -> Vec<FirewallRow> {
        let ethernet = self.network.firewall.ethernet.iter().map(|rule| FirewallRow {
            id: rule.id,
            category: "Ethernet".to_owned(),
            section: "ethernet".to_owned(),
            namespace: None,
            direction: rule.direction.to_string(),
            source: rule.source.to_string(),
            destination: rule.destination.to_string(),
            services: ether_types(&rule.ether_types),
            applied_to: rule.applied_to_text.clone(),
            action: rule.action.to_string(),
            origin: rule.origin.clone(),
            name: rule.name.clone(),
            hits: HitCounts::default(),
        });
        let rules = self.network.firewall.rules.iter();
        let layer3 = rules.map(|rule| {
            // `NetworkPolicy NS/NAME` or `Namespace NS`.
            let object = rule.origin.split_once(' ').map(|(_, object)| object);
            let namespace = object.map(|o| o.split_once('/').map_or(o, |(ns, _)| ns).to_owned());
            FirewallRow {
                id: rule.id,
                category: rule.category.to_string(),
                section: rule.section.clone(),
                namespace,
                direction: rule.direction.to_string(),
                source: rule.source_text.clone(),
                destination: rule.destination_text.clone(),
                services: services(&rule.services),
                applied_to: rule.applied_to_text.clone(),
                action: rule.action.to_string(),
                origin: rule.origin.clone(),
                name: rule.name.clone(),
                hits: HitCounts::default(),
            }
        });
        ethernet.chain(layer3).collect()
    }

    fn routes(&self) -> Vec<RouteRow> {
        let mut routers: Vec<&Router> = self.network.routers.iter().collect();
        routers.sort_by(|a, b| a.name.cmp(&b.name));
        let owners = self.prefix_owners();
        let mut rows = Vec::new();
        for router in routers {
            rows.extend(router.fib.routes().into_iter().map(|route| RouteRow {
                router: router.name.clone(),
                prefix: route.prefix.to_string(),
                source: route.source.to_string(),
                distance: route.distance,
                next_hops: next_hops(router, route),
                namespace: owners.get(&route.prefix).cloned(),
            }));
        }
        rows
    }

    fn ports(&self) -> Vec<PortRow> {
        let mut outside: BTreeMap<u32, (Mac, Vec<Addr>)> = BTreeMap::new();
        for host in self.hosts {
            for (interface, port) in host.config.interfaces.iter().zip(&host.ports) {
                let addresses = interface.addresses.iter().map(|(a, _)| *a).collect();
                outside.insert(port.0, (interface.mac, addresses));
            }
        }
        let mut rows = Vec::new();
        for (i, port) in self.network.ports.iter().enumerate() {
            let id = u32::try_from(i).unwrap_or(u32::MAX);
            // The place of a port that is gone has no host and no segment.
            let Some(segment) = self.network.segment(port.segment) else { continue };
            let (mac, addresses) = match &port.vnic {
                Some(vnic) => (vnic.mac, vnic.addresses.clone()),
                None => outside.remove(&id).unwrap_or_default(),
            };
            let pod = port.name.strip_prefix("pod/").and_then(|p| p.split_once('/'));
            rows.push(PortRow {
                name: port.name.clone(),
                id,
                namespace: pod.map(|(namespace, _)| namespace.to_owned()),
                segment: segment.name.clone(),
                mac: mac.to_string(),
                addresses: addresses.iter().map(ToString::to_string).collect(),
                mtu: port.mtu,
                node: port.vnic.as_ref().and_then(|v| self.node(v.hypervisor)),
                rules: port.vnic.as_ref().map_or((0, 0), |v| (v.rules_in.len(), v.rules_out.len())),
            });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

/// EtherTypes as the definition names them.
fn ether_types(ether_types: &[u16]) -> String {
    if ether_types.is_empty() {
        return "any".to_owned();
    }
    let names: Vec<String> =
        ether_types.iter().map(|number| EthernetProtocol::text(*number)).collect();
    names.join(" ")
}

/// The networks of a block, IPv4 first.
fn block_networks(block: &Block) -> impl Iterator<Item = String> + use<> {
    std::iter::once(block.net.to_string()).chain(block.v6.map(|net| net.to_string()))
}

fn services(services: &[Service]) -> String {
    if services.is_empty() {
        return "any".to_owned();
    }
    services.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn nat_row(router: &str, rule: &NatRule) -> NatRow {
    let any = || "Any".to_owned();
    let list = |p: &Vec<Prefix>| p.iter().map(Prefix::to_string).collect::<Vec<_>>().join(",");
    let mut source = rule.source.as_ref().map_or_else(any, list);
    let (action, translation) = match rule.action {
        NatAction::Snat(range) => ("SNAT", range.to_string()),
        NatAction::NoAddress => ("SNAT", "-".to_owned()),
        NatAction::NoSnat => ("No SNAT", any()),
        NatAction::NoDnat => ("No DNAT", any()),
        NatAction::Dnat { to, ports } => {
            let address =
                if to.first() == to.last() { to.first().to_string() } else { to.to_string() };
            let translation = match ports.map(|p| p.translated) {
                None => address,
                Some((first, last)) if first == last => format!("{address} port {first}"),
                Some((first, last)) => format!("{address} ports {first}-{last}"),
            };
            ("DNAT", translation)
        }
        NatAction::Reflexive { internal, external } => {
            source = internal.to_string();
            ("Reflexive", external.to_string())
        }
    };
    NatRow {
        router: router.to_owned(),
        id: rule.id,
        priority: rule.priority,
        action,
        source,
        destination: rule.destination.map_or_else(any, |p| p.to_string()),
        service: rule.service.as_ref().map_or_else(any, ToString::to_string),
        translation,
        firewall: match rule.firewall_match {
            FirewallMatch::Internal => "internal",
            FirewallMatch::External => "external",
            FirewallMatch::Bypass => "bypass",
        },
        name: rule.name.clone(),
        namespace: nat::namespace_of(rule).map(str::to_owned),
        hits: HitCounts::default(),
    }
}

fn members(server: &VirtualServer) -> impl Iterator<Item = String> + '_ {
    server.members.iter().map(|m| format!("{}:{}", m.address, m.port))
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        _ => "SCTP",
    }
}

fn next_hops(router: &Router, route: &Route) -> Vec<String> {
    match &route.target {
        RouteTarget::Blackhole => vec!["blackhole".to_owned()],
        RouteTarget::Unreachable => vec!["unreachable".to_owned()],
        RouteTarget::NextHops(hops) => hops
            .iter()
            .map(|hop| {
                let dev = router.interface(hop.interface).map_or("?", |i| i.name.as_str());
                match hop.gateway {
                    Some(gateway) => format!("via {gateway} dev {dev}"),
                    None => format!("dev {dev}"),
                }
            })
            .collect(),
    }
}
