//! What only the definitions together can get wrong: addresses outside, networks that overlap, missing parts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use definitions::model::{Definitions, ExternalNetwork, SupervisorCluster};
use definitions::own::SnatMode;
use ipnet::{IpNet, Ipv4Net};

use crate::fault::{Messages, Subject};

/// An address in an external network.
struct Station<'a> {
    /// For messages: `interface eth0`.
    what: String,
    subject: Subject,
    network: &'a str,
    address: IpNet,
}

/// Faults of the definitions as a whole.
pub(crate) fn check(definitions: &Definitions, messages: &mut Messages) {
    if let Some(second) = definitions.supervisor_clusters.values().nth(1) {
        let message = "a second SupervisorCluster: manifests do not say which cluster they are for";
        messages.fault(
            &Subject::new("SupervisorCluster", &second.meta),
            message,
            "define one a lab",
        );
    }
    if definitions.supervisor().is_none() {
        without_cluster(definitions, messages);
    }
    let stations = stations(definitions);
    check_stations(definitions, &stations, messages);
    if let Some(cluster) = definitions.supervisor() {
        check_pools(definitions, cluster, &stations, messages);
    }
}

/// Pods and Services mean nothing without a cluster; one message says so.
fn without_cluster(definitions: &Definitions, messages: &mut Messages) {
    let pod = definitions.pods.values().next().map(|p| Subject::new("Pod", &p.meta));
    let service = || definitions.services.values().next().map(|s| Subject::new("Service", &s.meta));
    if let Some(subject) = pod.or_else(service) {
        let help = "add a document with 'kind: SupervisorCluster'; all of its fields have defaults";
        messages.fault(&subject, "there is no SupervisorCluster for it to be in", help);
    }
}

fn stations(definitions: &Definitions) -> Vec<Station<'_>> {
    let mut all = Vec::new();
    for host in definitions.external_hosts.values() {
        for interface in &host.spec.interfaces {
            all.extend(interface.addresses.iter().map(|a| Station {
                what: format!("interface {}", interface.name),
                subject: Subject::new("ExternalHost", &host.meta),
                network: &interface.network,
                address: **a,
            }));
        }
    }
    for tier0 in definitions.tier0_gateways.values() {
        for uplink in &tier0.spec.uplinks {
            all.extend(uplink.addresses.iter().map(|a| Station {
                what: format!("uplink {}", uplink.name),
                subject: Subject::new("Tier0Gateway", &tier0.meta),
                network: &uplink.network,
                address: **a,
            }));
        }
    }
    if let Some(cluster) = definitions.supervisor() {
        let management = &cluster.spec.control_plane.management;
        let length = management.cidr.prefix_len();
        for (i, address) in management.addresses.addresses().iter().enumerate() {
            let what = match cluster.spec.control_plane_vms().get(i) {
                Some(vm) => format!("eth0 of {vm}"),
                None => "an address reserved for the control plane".to_owned(),
            };
            let Ok(net) = Ipv4Net::new(*address, length) else { continue };
            all.push(Station {
                what,
                subject: Subject::new("SupervisorCluster", &cluster.meta),
                network: cluster.spec.management_network(),
                address: net.into(),
            });
        }
    }
    all
}

fn check_stations(definitions: &Definitions, stations: &[Station<'_>], messages: &mut Messages) {
    let mut seen: BTreeMap<(&str, IpAddr), &Station<'_>> = BTreeMap::new();
    for station in stations {
        let Station { what, subject, network, address } = station;
        let Some(defined) = definitions.external_networks.get(*network) else {
            let known: Vec<&str> =
                definitions.external_networks.keys().map(String::as_str).collect();
            let help = if known.is_empty() {
                format!("define an ExternalNetwork '{network}'")
            } else {
                format!("the networks defined are {}", known.join(", "))
            };
            messages.fault(
                subject,
                format!("{what}: there is no ExternalNetwork '{network}'"),
                help,
            );
            continue;
        };
        if !fits(defined, *address) {
            let message = format!("{what}: {address} does not fit into network '{network}'");
            let cidrs: Vec<String> = cidrs(defined).iter().map(ToString::to_string).collect();
            messages.fault(subject, message, format!("'{network}' is {}", cidrs.join(" and ")));
        }
        if let Some(other) = seen.insert((network, address.addr()), station) {
            let message = format!(
                "{what}: {} is in network '{network}' already: {}, {}",
                address.addr(),
                other.subject.object,
                other.what
            );
            messages.fault(subject, message, "give each its own");
        }
    }
}

fn cidrs(network: &ExternalNetwork) -> Vec<IpNet> {
    let v4 = network.spec.cidr.map(|n| IpNet::V4(*n));
    let v6 = network.spec.cidr_v6.map(|n| IpNet::V6(*n));
    v4.into_iter().chain(v6).collect()
}

/// Whether an interface's subnet is the network's; a network that does not state one takes all.
fn fits(network: &ExternalNetwork, address: IpNet) -> bool {
    match address {
        IpNet::V4(_) => network.spec.cidr.is_none_or(|n| IpNet::V4(*n) == address.trunc()),
        IpNet::V6(_) => network.spec.cidr_v6.is_none_or(|n| IpNet::V6(*n) == address.trunc()),
    }
}

/// The cluster's pools must be nobody else's.
fn check_pools(
    definitions: &Definitions,
    cluster: &SupervisorCluster,
    stations: &[Station<'_>],
    messages: &mut Messages,
) {
    let spec = &cluster.spec;
    let pools = [
        ("podCIDR", *spec.pod_cidr),
        ("serviceCIDR", *spec.service_cidr),
        ("ingressCIDR", *spec.ingress_cidr),
        ("egressCIDR", *spec.egress_cidr),
        ("transitCIDR", *spec.transit_cidr),
    ];
    let mut networks: BTreeMap<&str, Vec<IpNet>> =
        definitions.external_networks.values().map(|n| (n.meta.name.as_str(), cidrs(n))).collect();
    for station in stations {
        networks.entry(station.network).or_default().push(station.address.trunc());
    }
    let subject = Subject::new("SupervisorCluster", &cluster.meta);
    for (name, nets) in networks {
        for (field, pool) in pools {
            let pool = IpNet::V4(pool);
            if let Some(net) = nets.iter().find(|n| n.contains(&pool) || pool.contains(*n)) {
                let message = format!("{field} {pool} overlaps ExternalNetwork '{name}', {net}");
                messages.fault(&subject, message, "choose another range for one of the two");
            }
        }
    }
    check_snat_pools(definitions, cluster, stations, messages);
    let balancer = &spec.load_balancer;
    match balancer.pool {
        None if balancer.snat == SnatMode::Pool => {
            messages.fault(
                &subject,
                "loadBalancer: snat 'pool' without a pool",
                "state loadBalancer.pool",
            );
        }
        Some(pool) if pool.prefix_len() < 24 => {
            let message = format!("loadBalancer.pool {pool} has more than 256 addresses");
            messages.fault(&subject, message, "use a /24 or less");
        }
        _ => {}
    }
    for (i, (field, pool)) in pools.iter().enumerate() {
        for (other_field, other) in pools.iter().skip(i + 1) {
            if pool.contains(other) || other.contains(pool) {
                let message = format!("{field} {pool} overlaps {other_field} {other}");
                messages.fault(&subject, message, "choose another range for one of the two");
            }
        }
    }
}

/// SNAT pools have no address that a network outside has. Against the cluster's own they were checked when loaded.
fn check_snat_pools(
    definitions: &Definitions,
    cluster: &SupervisorCluster,
    stations: &[Station<'_>],
    messages: &mut Messages,
) {
    let stated = definitions
        .external_networks
        .values()
        .flat_map(|n| cidrs(n).into_iter().map(|net| (n.meta.name.as_str(), net)));
    let used = stations.iter().map(|s| (s.network, s.address.trunc()));
    let outside: Vec<(&str, Ipv4Net)> = stated
        .chain(used)
        .filter_map(|(name, net)| match net {
            IpNet::V4(net) => Some((name, net)),
            IpNet::V6(_) => None,
        })
        .collect();
    let subject = Subject::new("SupervisorCluster", &cluster.meta);
    for pool in &cluster.spec.snat_pools {
        for range in &pool.addresses {
            let overlaps =
                |net: &Ipv4Net| range.first() <= net.broadcast() && net.network() <= range.last();
            if let Some((name, net)) = outside.iter().find(|(_, net)| overlaps(net)) {
                let pool = &pool.name;
                let message =
                    format!("SNAT pool '{pool}': {range} overlaps ExternalNetwork '{name}', {net}");
                messages.fault(&subject, message, "choose another range for one of the two");
            }
        }
    }
}
