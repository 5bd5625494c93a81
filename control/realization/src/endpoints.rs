//! Emulated hosts: one for every pod, control-plane VM and external host.
//!
//! A pod listens on its container ports and on the numbers that Services send to it (`containerPort` is only
//! information in Kubernetes, and a lab whose Service has a backend that refuses helps nobody). Whatever a port's
//! name or number, it answers who speaks HTTP in HTTP and echoes the rest; only 53 is DNS. A control-plane VM has
//! the policy routing of the article (F16), and is the host of the pods that are on its network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use definitions::model::{
    ClusterIp, Definitions, ExternalHost, ObjectName, Pod, Protocol, ServiceType,
};
use definitions::own::{HostService, HostServiceKind, HostServiceProtocol, RouteTarget};
use engine::network::PortId;
use hosts::{
    HostConfig, HostSpec, InterfaceConfig, PolicyRouting, Prefix, Route, Rule, ServiceConfig,
    ServiceKind, ServiceProtocol, Zone,
};
use packet::{Addr, Mac};

use crate::addressing::{Addressing, Cluster, Vm, Workload};
use crate::balancer::{Backends, headless_addresses, headless_hosts, is_vm};
use crate::fault::{Messages, Subject};
use crate::topology::{Topology, network_mtu};

/// The routing table that the article's control-plane VMs use for `eth1`.
const TABLE_WORKLOAD: u32 = 200;
/// The cluster's domain.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// `options ndots:5` of every pod (Kubernetes, "DNS for Services and Pods").
const DNS_NDOTS: usize = 5;
/// Seconds that a cluster name may be remembered (CoreDNS' default).
const DNS_TTL: u32 = 5;
/// The port of name servers.
const DNS_PORT: u16 = 53;
/// Ports of the API server and of the download of the CLI tools (F8).
const API_PORTS: [u16; 2] = [6443, 443];

/// Makes all hosts, sorted by name.
pub(crate) fn build(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    backends: Option<&Backends<'_>>,
    topology: &Topology,
    messages: &mut Messages,
) -> Vec<HostSpec> {
    let mut hosts = Vec::new();
    for host in definitions.external_hosts.values() {
        hosts.push(external(definitions, host, addressing, messages));
    }
    if let (Some(cluster), Some(backends)) = (&addressing.cluster, backends) {
        let names = Arc::new(zone(definitions, cluster, backends));
        let listening = listening(definitions, backends);
        for vm in &cluster.vms {
            hosts.push(control_plane(definitions, cluster, vm, &listening, &names));
        }
        let resolver =
            cluster.cluster_ips.get(&ObjectName::new("kube-system", "kube-dns")).copied();
        for (key, (pod, workload)) in &cluster.pods {
            let mut config = pod_host(cluster, key, workload);
            config.resolver = resolver.into_iter().collect();
            if resolver.is_some() {
                config.search = search_list(&key.namespace);
                config.ndots = DNS_NDOTS;
            }
            let mut ports: BTreeSet<(ServiceProtocol, u16)> = container_ports(pod).collect();
            ports.extend(listening.get(&workload.v4()).into_iter().flatten());
            let identity = format!("pod {key}");
            config.services =
                ports.iter().map(|(t, p)| service(*t, *p, &identity, &names)).collect();
            hosts.push(config);
        }
    }
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts
        .into_iter()
        .map(|config| {
            let port = |interface: &InterfaceConfig| {
                let own = format!("{}:{}", config.name, interface.name);
                let found = topology
                    .index
                    .ports
                    .get(&config.name)
                    .or_else(|| topology.index.ports.get(&own));
                found.copied().unwrap_or(PortId(u32::MAX))
            };
            HostSpec { ports: config.interfaces.iter().map(port).collect(), config }
        })
        .collect()
}

fn transport(protocol: Protocol) -> Option<ServiceProtocol> {
    match protocol {
        Protocol::Tcp => Some(ServiceProtocol::Tcp),
        Protocol::Udp => Some(ServiceProtocol::Udp),
        Protocol::Sctp => None,
    }
}

/// The ports that a pod's containers say they listen on.
fn container_ports(pod: &Pod) -> impl Iterator<Item = (ServiceProtocol, u16)> + '_ {
    pod.ports.iter().filter_map(|p| Some((transport(p.protocol)?, p.port)))
}

/// What answers at a port: DNS at 53, else HTTP and an echo.
fn service(
    protocol: ServiceProtocol,
    port: u16,
    identity: &str,
    names: &Arc<Zone>,
) -> ServiceConfig {
    let kind = match protocol {
        _ if port == DNS_PORT => ServiceKind::Dns(names.clone()),
        ServiceProtocol::Tcp => ServiceKind::Talk { identity: identity.to_owned() },
        ServiceProtocol::Udp => ServiceKind::Echo,
    };
    ServiceConfig { protocol, port, kind }
}

/// The ports that Services send to, by backend.
fn listening(
    definitions: &Definitions,
    backends: &Backends<'_>,
) -> BTreeMap<Addr, BTreeSet<(ServiceProtocol, u16)>> {
    let mut all: BTreeMap<Addr, BTreeSet<(ServiceProtocol, u16)>> = BTreeMap::new();
    for service in definitions.services.values() {
        for port in &service.ports {
            let Some(protocol) = transport(port.protocol) else { continue };
            // All that some client may be sent to.
            for member in backends.members(service, port, true) {
                all.entry(member.address).or_default().insert((protocol, member.port));
            }
        }
    }
    all
}

/// The domains that a pod tries short names in.
fn search_list(namespace: &str) -> Vec<String> {
    let services = format!("svc.{CLUSTER_DOMAIN}");
    vec![format!("{namespace}.{services}"), services, CLUSTER_DOMAIN.to_owned()]
}

/// `SERVICE.NAMESPACE.svc.cluster.local`: the ClusterIP, the backends of a headless Service, or what an
/// ExternalName Service stands for. A StatefulSet's pods have names of their own below that of their headless
/// Service. What is not the cluster's goes to the workload DNS servers, as the article says of CoreDNS.
fn zone(definitions: &Definitions, cluster: &Cluster<'_>, backends: &Backends<'_>) -> Zone {
    let mut zone = Zone::new(DNS_TTL);
    for (key, service) in &definitions.services {
        let name = format!("{}.{}.svc.{CLUSTER_DOMAIN}", key.name, key.namespace);
        // The field means nothing to the other types.
        let target = service.external_name.as_ref();
        if let Some(target) = target.filter(|_| service.kind == ServiceType::ExternalName) {
            zone.alias(&name, target);
        } else if service.cluster_ip == ClusterIp::Headless {
            headless_addresses(backends, service).into_iter().for_each(|a| zone.add(&name, a));
            for (host, address) in headless_hosts(backends, service) {
                zone.add(&format!("{host}.{name}"), address);
            }
        } else if let Some(address) = cluster.cluster_ips.get(key) {
            zone.add(&name, *address);
        }
    }
    let upstreams = cluster.spec().dns.workload.iter().map(|a| Addr::from(*a)).collect();
    zone.forward(CLUSTER_DOMAIN, upstreams);
    zone
}

fn interface(name: &str, mac: Mac, addresses: Vec<(Addr, u8)>, mtu: u32) -> InterfaceConfig {
    InterfaceConfig { name: name.to_owned(), mac, mtu, addresses, static_neighbors: Vec::new() }
}

/// Default routes by the gateways of a workload's segment.
fn gateways(cluster: &Cluster<'_>, workload: &Workload, dev: usize) -> Vec<Route> {
    let block = cluster.blocks.get(workload.block);
    let gateways = block.map(|b| b.gateways()).unwrap_or_default();
    gateways
        .into_iter()
        .map(|(gateway, _)| Route::via(unspecified(gateway), 0, gateway, dev))
        .collect()
}

fn unspecified(like: Addr) -> Addr {
    if like.is_v4() { Addr::UNSPECIFIED_V4 } else { Addr::UNSPECIFIED_V6 }
}

fn pod_host(cluster: &Cluster<'_>, key: &ObjectName, workload: &Workload) -> HostConfig {
    let mut config = HostConfig::new(format!("pod/{key}"));
    let mtu = u32::from(cluster.spec().tier1.mtu);
    config.interfaces = vec![interface("eth0", workload.mac, workload.addresses.clone(), mtu)];
    for route in gateways(cluster, workload, 0) {
        config.routing.add_route(hosts::routing::TABLE_MAIN, route);
    }
    config
}

fn control_plane(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    vm: &Vm,
    listening: &BTreeMap<Addr, BTreeSet<(ServiceProtocol, u16)>>,
    names: &Arc<Zone>,
) -> HostConfig {
    let spec = cluster.spec();
    let management = &spec.control_plane.management;
    let mut config = HostConfig::new(format!("vm/{}", vm.name));
    let len = management.cidr.prefix_len();
    let eth0 = std::iter::once(vm.eth0).chain(vm.floating).map(|a| (Addr::from(a), len)).collect();
    let mtu = u32::from(spec.tier1.mtu);
    config.interfaces = vec![
        interface("eth0", vm.eth0_mac, eth0, network_mtu(definitions, spec.management_network())),
        interface("eth1", vm.eth1.mac, vm.eth1.addresses.clone(), mtu),
    ];
    config.resolver = spec.dns.management.iter().map(|a| Addr::from(*a)).collect();
    config.routing = article_routing(cluster, vm);

    let mut ports: BTreeSet<(ServiceProtocol, u16)> =
        API_PORTS.iter().map(|p| (ServiceProtocol::Tcp, *p)).collect();
    for address in [vm.eth1.v4(), vm.eth0.into()] {
        ports.extend(listening.get(&address).into_iter().flatten());
    }
    for pod in definitions.pods.values().filter(|p| is_vm(p, vm)) {
        ports.extend(container_ports(pod));
    }
    let identity = format!("vm {}", vm.name);
    config.services = ports.iter().map(|(t, p)| service(*t, *p, &identity, names)).collect();
    config
}

/// The rules and tables that `ip rule show` and `ip route show` print in the article, in its order.
fn article_routing(cluster: &Cluster<'_>, vm: &Vm) -> PolicyRouting {
    let spec = cluster.spec();
    let (eth0, eth1) = (0, 1);
    let mut routing = PolicyRouting::default();
    let net = |n: ipnet::Ipv4Net| Prefix::new(n.network().into(), n.prefix_len());
    for server in &spec.dns.workload {
        let len = if server.is_ipv4() { 32 } else { 128 };
        routing.add_rule(Rule::to(0, Prefix::new((*server).into(), len), TABLE_WORKLOAD));
    }
    routing.add_rule(Rule::to(0, net(*spec.ingress_cidr), TABLE_WORKLOAD));
    routing.add_rule(Rule::to(0, net(*spec.pod_cidr), TABLE_WORKLOAD));
    routing.add_rule(Rule::from(0, Prefix::new(vm.eth1.v4(), 32), TABLE_WORKLOAD));
    routing.add_rule(Rule::to(0, net(*spec.transit_cidr), TABLE_WORKLOAD));
    routing.add_rule(Rule::to(0, net(*spec.service_cidr), TABLE_WORKLOAD));
    for route in gateways(cluster, &vm.eth1, eth1).into_iter().filter(|r| r.to.is_v4()) {
        routing.add_route(TABLE_WORKLOAD, route);
    }
    if let Some((address, len)) = vm.eth1.addresses.first() {
        let link = engine::network::Prefix::new(*address, *len);
        routing.add_route(TABLE_WORKLOAD, Route::on_link(link.first(), *len, eth1));
    }
    let gateway = Addr::from(spec.control_plane.management.gateway);
    routing
        .add_route(hosts::routing::TABLE_MAIN, Route::via(Addr::UNSPECIFIED_V4, 0, gateway, eth0));
    for route in gateways(cluster, &vm.eth1, eth1).into_iter().filter(|r| !r.to.is_v4()) {
        routing.add_route(hosts::routing::TABLE_MAIN, route);
    }
    routing
}

fn external(
    definitions: &Definitions,
    host: &ExternalHost,
    addressing: &Addressing<'_>,
    messages: &mut Messages,
) -> HostConfig {
    let (spec, name) = (&host.spec, &host.meta.name);
    let subject = Subject::new("ExternalHost", &host.meta);
    let mut config = HostConfig::new(format!("host/{name}"));
    config.forwarding = spec.forwarding;
    config.ttl = spec.ttl;
    for i in &spec.interfaces {
        let mac =
            addressing.macs.get(&format!("host/{name}:{}", i.name)).copied().unwrap_or_default();
        let addresses = i.addresses.iter().map(|a| (a.addr().into(), a.prefix_len())).collect();
        config.interfaces.push(interface(
            &i.name,
            mac,
            addresses,
            network_mtu(definitions, &i.network),
        ));
    }
    let device = |wanted: &str| config.interfaces.iter().position(|i| i.name == wanted);
    let link_of = |gateway: Addr| {
        config.interfaces.iter().position(|i| {
            i.addresses
                .iter()
                .any(|(a, len)| engine::network::Prefix::new(*a, *len).contains(gateway))
        })
    };
    for route in &spec.routes {
        let via = route.via.map(Addr::from);
        let found = match (&route.dev, via) {
            (Some(dev), _) => device(dev),
            (None, Some(via)) => link_of(via),
            (None, None) => None,
        };
        let Some(dev) = found else {
            let message = format!("route to {}: no interface of it leads there", route.to);
            let help =
                "'via' must be in a network of one of its interfaces, 'dev' one of their names";
            messages.fault(&subject, message, help);
            continue;
        };
        let (to, len) = match route.to {
            RouteTarget::Default => (unspecified(via.unwrap_or(Addr::UNSPECIFIED_V4)), 0),
            RouteTarget::Network(net) => (net.network().into(), net.prefix_len()),
        };
        let made = match via {
            Some(via) => Route::via(to, len, via, dev),
            None => Route::on_link(to, len, dev),
        };
        config.routing.add_route(route.table, made);
    }
    for rule in &spec.rules {
        let block =
            |net: definitions::text::Cidr| Prefix::new(net.network().into(), net.prefix_len());
        let mut index = |wanted: &Option<String>| {
            let wanted = wanted.as_ref()?;
            let found = config.interfaces.iter().position(|i| i.name == *wanted);
            if found.is_none() {
                let message = format!("rule: it has no interface '{wanted}'");
                messages.fault(&subject, message, "name one of its interfaces");
            }
            found
        };
        let made = Rule {
            priority: rule.priority,
            from: rule.from.map(block),
            to: rule.to.map(block),
            oif: index(&rule.oif),
            iif: index(&rule.iif),
            table: rule.table,
        };
        config.routing.add_rule(made);
    }
    let identity = format!("host {name}");
    config.services = if spec.services.is_empty() {
        let talk = ServiceKind::Talk { identity };
        vec![
            ServiceConfig { protocol: ServiceProtocol::Tcp, port: 7, kind: talk.clone() },
            ServiceConfig { protocol: ServiceProtocol::Udp, port: 7, kind: ServiceKind::Echo },
            ServiceConfig { protocol: ServiceProtocol::Tcp, port: 80, kind: talk },
        ]
    } else {
        spec.services.iter().map(|s| host_service(s, &identity)).collect()
    };
    config
}

fn host_service(defined: &HostService, identity: &str) -> ServiceConfig {
    let protocol = match defined.protocol {
        HostServiceProtocol::Tcp => ServiceProtocol::Tcp,
        HostServiceProtocol::Udp => ServiceProtocol::Udp,
    };
    let kind = match defined.kind {
        HostServiceKind::Echo => ServiceKind::Echo,
        HostServiceKind::Discard => ServiceKind::Discard,
        HostServiceKind::Http => ServiceKind::Http { identity: identity.to_owned() },
        HostServiceKind::Dns => {
            let mut zone = Zone::new(DNS_TTL);
            for (name, addresses) in &defined.records {
                addresses.iter().for_each(|a: &IpAddr| zone.add(name, (*a).into()));
            }
            ServiceKind::Dns(Arc::new(zone))
        }
    };
    ServiceConfig { protocol, port: defined.port, kind }
}
