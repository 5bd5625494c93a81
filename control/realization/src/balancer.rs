//! Virtual servers: every Service with a ClusterIP in the distributed load balancer, those of type LoadBalancer
//! on the server load balancer of the Tier-1 as well (F7).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use definitions::model::{
    Definitions, Endpoint, EndpointPort, EndpointSubset, ObjectName, Pod, Protocol, Service,
    ServicePort, ServiceType, TargetPort, TrafficPolicy,
};
use definitions::own::SnatMode;
use engine::network::{Member, NoMembers, PoolSnat, Prefix, VirtualServer, VirtualServers};
use packet::{Addr, protocol};

use crate::addressing::{Cluster, Vm, prefix4};
use crate::fault::{Messages, Subject};

/// Both load balancers.
#[derive(Debug, Default)]
pub(crate) struct Balancers {
    /// ClusterIPs, applied at every vNIC.
    pub(crate) distributed: VirtualServers,
    /// Addresses outside, on the Tier-1.
    pub(crate) server: VirtualServers,
    /// What each virtual server was made from, by its name.
    pub(crate) origins: BTreeMap<String, ObjectName>,
}

/// Who has an address.
#[derive(Debug)]
struct Holder {
    name: String,
    hypervisor: u32,
}

/// Looks up Services' backends.
pub(crate) struct Backends<'a> {
    definitions: &'a Definitions,
    cluster: &'a Cluster<'a>,
    holders: BTreeMap<Addr, Holder>,
}

impl<'a> Backends<'a> {
    /// Of all Services.
    pub(crate) fn new(definitions: &'a Definitions, cluster: &'a Cluster<'a>) -> Backends<'a> {
        let mut holders = BTreeMap::new();
        for (key, (_, workload)) in &cluster.pods {
            for (address, _) in &workload.addresses {
                holders.insert(
                    *address,
                    Holder { name: format!("pod/{key}"), hypervisor: workload.hypervisor },
                );
            }
        }
        for vm in &cluster.vms {
            let own = vm.eth1.addresses.iter().map(|(a, _)| *a).chain([Addr::from(vm.eth0)]);
            for address in own {
                holders.insert(
                    address,
                    Holder { name: format!("vm/{}", vm.name), hypervisor: vm.eth1.hypervisor },
                );
            }
        }
        Backends { definitions, cluster, holders }
    }

    /// The backends of one port of a Service, sorted by address and port. Ready ones; where there are none (in
    /// all, or on the host `per_host`, for a Service whose traffic stays local), those that still serve while
    /// they go away (kube-proxy's rule, KEP-1669).
    pub(crate) fn members(
        &self,
        service: &Service,
        port: &ServicePort,
        per_host: bool,
    ) -> Vec<Member> {
        let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
        match service.selector.as_ref().filter(|s| !s.is_empty()) {
            Some(_) => self.selected(service, port, &mut ready, &mut leaving),
            None => self.listed(service, port, &mut ready, &mut leaving),
        }
        let host = |address: Addr| self.holders.get(&address).map(|h| h.hypervisor);
        let ready_hosts: BTreeSet<Option<u32>> = ready.iter().map(|(a, _)| host(*a)).collect();
        leaving.retain(|(address, _)| match per_host {
            true => !ready_hosts.contains(&host(*address)),
            false => ready_hosts.is_empty(),
        });
        ready.append(&mut leaving);
        ready
            .into_iter()
            .map(|(address, port)| {
                let holder = self.holders.get(&address);
                Member {
                    address,
                    port,
                    name: holder.map_or_else(|| address.to_string(), |h| h.name.clone()),
                    hypervisor: holder.map(|h| h.hypervisor),
                }
            })
            .collect()
    }

    fn selected(
        &self,
        service: &Service,
        port: &ServicePort,
        ready: &mut BTreeSet<(Addr, u16)>,
        leaving: &mut BTreeSet<(Addr, u16)>,
    ) {
        let Some(selector) = service.pod_selector() else { return };
        for (key, pod) in &self.definitions.pods {
            if key.namespace != service.meta.namespace || !selector.matches(&pod.meta.labels) {
                continue;
            }
            let number = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => pod.named_port(name, port.protocol),
            };
            let (Some(address), Some(number)) = (self.address_of(key, pod), number) else {
                continue;
            };
            if !(pod.ready || service.publish_not_ready_addresses) {
                continue;
            }
            if pod.terminating && !service.publish_not_ready_addresses {
                leaving.insert((address, number));
            } else {
                ready.insert((address, number));
            }
        }
    }

    /// A pod's own address; on the host's network that of the control-plane VM it is on. A pod that has ended has
    /// none.
    fn address_of(&self, key: &ObjectName, pod: &Pod) -> Option<Addr> {
        if let Some((_, workload)) = self.cluster.pods.get(key) {
            return Some(workload.v4());
        }
        self.cluster.vms.iter().find(|vm| is_vm(pod, vm)).map(|vm| vm.eth1.v4())
    }

    fn listed(
        &self,
        service: &Service,
        port: &ServicePort,
        ready: &mut BTreeSet<(Addr, u16)>,
        leaving: &mut BTreeSet<(Addr, u16)>,
    ) {
        for subset in self.subsets(service) {
            for number in subset.ports.iter().filter_map(|p| endpoint_port(p, port)) {
                for endpoint in &subset.endpoints {
                    let into = if endpoint.ready || service.publish_not_ready_addresses {
                        &mut *ready
                    } else if endpoint.serving && endpoint.terminating {
                        &mut *leaving
                    } else {
                        continue;
                    };
                    into.extend(v4_of(endpoint).map(|a| (a, number)));
                }
            }
        }
    }

    fn subsets(&self, service: &Service) -> impl Iterator<Item = &EndpointSubset> {
        let key = service.meta.key();
        let own = self.definitions.endpoints.get(&key).into_iter().flat_map(|e| &e.subsets);
        let slices = self.definitions.endpoint_slices.values().filter(move |s| {
            s.meta.namespace == key.namespace && s.service.as_deref() == Some(key.name.as_str())
        });
        own.chain(slices.map(|s| &s.subset))
    }
}

/// The addresses of an endpoint that fit the (IPv4) virtual address.
fn v4_of(endpoint: &Endpoint) -> impl Iterator<Item = Addr> {
    endpoint.addresses.iter().filter(|a| a.is_ipv4()).map(|a| Addr::from(*a))
}

/// The number of an endpoint port that belongs to a Service port: name and protocol must be the same. A port
/// without number stands for all, hence for the Service's target.
fn endpoint_port(endpoint: &EndpointPort, port: &ServicePort) -> Option<u16> {
    let name = |n: &Option<String>| n.clone().unwrap_or_default();
    if name(&endpoint.name) != name(&port.name) || endpoint.protocol != port.protocol {
        return None;
    }
    endpoint.port.or(match port.target {
        TargetPort::Number(number) => Some(number),
        TargetPort::Name(_) => Some(port.port),
    })
}

/// IP protocol number of a Service port.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => protocol::SCTP,
    }
}

/// Makes the virtual servers of all Services.
pub(crate) fn build(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    backends: &Backends<'_>,
    messages: &mut Messages,
) -> Balancers {
    let (mut distributed, mut server) = (Vec::new(), Vec::new());
    let mut origins = BTreeMap::new();
    for (key, service) in &definitions.services {
        if service.kind == ServiceType::NodePort {
            let subject = Subject::new("Service", &service.meta);
            messages.notice(&subject, "node ports are not emulated; the ClusterIP is", "");
        }
        for port in &service.ports {
            let members = backends.members(service, port, false);
            warn_about_names(service, port, &members, messages);
            let make = |address: Addr| VirtualServer {
                name: format!("{key}:{}/{}", port.port, port.protocol),
                address,
                protocol: protocol_number(port.protocol),
                port: port.port,
                members: members.clone(),
                snat: PoolSnat::Transparent,
                local_only: false,
                affinity: service.affinity_seconds.map(|s| Duration::from_secs(u64::from(s))),
                source_ranges: Vec::new(),
                no_members: NoMembers::Reject,
            };
            if let Some(address) = cluster.cluster_ips.get(key) {
                let local_only = service.internal_traffic_policy == TrafficPolicy::Local;
                let members = backends.members(service, port, local_only);
                let made = VirtualServer { local_only, members, ..make(*address) };
                origins.insert(made.name.clone(), key.clone());
                distributed.push(made);
            }
            if let Some(address) = cluster.vips.get(key) {
                let source_ranges = service
                    .source_ranges
                    .iter()
                    .map(|n| Prefix::new(n.network().into(), n.prefix_len()));
                server.push(VirtualServer {
                    snat: pool_snat(cluster, service),
                    source_ranges: source_ranges.collect(),
                    ..make(*address)
                });
            }
        }
    }
    let by_address = |a: &VirtualServer, b: &VirtualServer| {
        (a.address, a.port, a.protocol).cmp(&(b.address, b.port, b.protocol))
    };
    distributed.sort_by(by_address);
    server.sort_by(by_address);
    let vips = cluster.vips.values().map(|a| Prefix::host(*a)).collect();
    Balancers {
        distributed: VirtualServers::new(distributed, vec![prefix4(*cluster.spec().service_cidr)]),
        server: VirtualServers::new(server, vips),
        origins,
    }
}

/// Whose address backends see. `ncp/transparent-lb` and `externalTrafficPolicy: Local` keep the client's.
fn pool_snat(cluster: &Cluster<'_>, service: &Service) -> PoolSnat {
    if service.transparent || service.external_traffic_policy == TrafficPolicy::Local {
        return PoolSnat::Transparent;
    }
    match cluster.spec().load_balancer.snat {
        SnatMode::Automap => PoolSnat::Automap(cluster.transit.1),
        SnatMode::Transparent => PoolSnat::Transparent,
        SnatMode::Pool => PoolSnat::Pool(cluster.balancer_pool()),
    }
}

/// A named target port that no selected pod has is the commonest reason for a Service without backends.
fn warn_about_names(
    service: &Service,
    port: &ServicePort,
    members: &[Member],
    messages: &mut Messages,
) {
    if let TargetPort::Name(name) = &port.target
        && members.is_empty()
        && service.selector.as_ref().is_some_and(|s| !s.is_empty())
    {
        let message = format!(
            "port {}: no ready pod it selects has a {} port named '{name}'",
            port.port, port.protocol
        );
        messages.notice(
            &Subject::new("Service", &service.meta),
            message,
            "connections to it will be refused",
        );
    }
}

/// Whether a control-plane VM stands for a pod: the pod is on the network of its host, which is that VM.
pub(crate) fn is_vm(pod: &Pod, vm: &Vm) -> bool {
    pod.host_network && !pod.terminal && pod.host.as_deref() == Some(vm.name.as_str())
}

/// The host names below a headless Service, with their addresses: of the StatefulSet's pods among its backends,
/// whose names stay theirs.
pub(crate) fn headless_hosts<'a>(
    backends: &Backends<'a>,
    service: &Service,
) -> Vec<(&'a str, Addr)> {
    let Some(selector) = service.pod_selector() else { return Vec::new() };
    let counted = headless_addresses(backends, service);
    let stateful = backends.cluster.pods.iter().filter(|(key, (pod, _))| {
        let owned = pod.owner.as_ref().is_some_and(|o| o.kind == "StatefulSet");
        owned && key.namespace == service.meta.namespace && selector.matches(&pod.meta.labels)
    });
    stateful
        .map(|(key, (_, workload))| (key.name.as_str(), workload.v4()))
        .filter(|(_, address)| counted.contains(address))
        .collect()
}

/// The addresses DNS gives for a headless Service: its ready backends', whatever their ports.
pub(crate) fn headless_addresses(backends: &Backends<'_>, service: &Service) -> BTreeSet<Addr> {
    let mut found: BTreeSet<Addr> = service
        .ports
        .iter()
        .flat_map(|p| backends.members(service, p, false))
        .map(|m| m.address)
        .collect();
    if service.ports.is_empty()
        && let Some(selector) = service.pod_selector().filter(|s| !s.is_empty())
    {
        found.extend(backends.cluster.pods.iter().filter_map(|(key, (pod, workload))| {
            let counts = pod.ready || service.publish_not_ready_addresses;
            let selected =
                key.namespace == service.meta.namespace && selector.matches(&pod.meta.labels);
            (counts && selected).then(|| workload.v4())
        }));
    }
    found.retain(|a| matches!(a.to_ip(), IpAddr::V4(_)));
    found
}
