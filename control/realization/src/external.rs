//! Whose the addresses are that NAT rules use outside.
//!
//! An address has one meaning: what a NAT rule translates from or to must be no interface's, no host's, no virtual
//! server's, of no pool of the inside, and of no other gateway's rules.

use definitions::model::Definitions;
use definitions::own::NatRule;
use engine::network::Prefix;
use packet::Addr;

use crate::addressing::{Addressing, Cluster, SYSTEM, prefix4};
use crate::fault::{Messages, Subject};
use crate::nat::prefix_of;
use crate::routes::external_networks;
use crate::topology::{Topology, tier0_name};

/// Addresses that somebody has.
struct Owner {
    prefix: Prefix,
    /// `uplink of Tier0Gateway edge`.
    what: String,
}

/// Faults of NAT rules that use addresses of others.
pub(crate) fn check(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    topology: &Topology,
    messages: &mut Messages,
) {
    let gateways = gateways(definitions, addressing);
    if gateways.iter().all(|g| g.rules.is_empty()) {
        return;
    }
    let mut owners = stations(definitions, topology);
    if let Some(cluster) = &addressing.cluster {
        owners.extend(inside(cluster));
    }
    for gateway in &gateways {
        for (at, rule) in gateway.rules.iter().enumerate() {
            for net in external_networks(rule).into_iter().map(prefix_of) {
                let elsewhere = gateways.iter().filter(|other| other.name != gateway.name);
                let others = elsewhere.flat_map(Gateway::external);
                let taken = owners.iter().chain(&gateway.served).find(|o| overlap(o.prefix, net));
                let what = taken.map(|o| o.what.clone()).or_else(|| {
                    others.into_iter().find(|o| overlap(o.prefix, net)).map(|o| o.what)
                });
                if let Some(what) = what {
                    let message = format!("natRules[{at}]: {} {net} is also {what}", rule.action);
                    let subject = gateway.subject.at_line(rule.line);
                    messages.fault(&subject, message, "give the rule addresses of its own");
                    break;
                }
            }
        }
    }
}

fn overlap(a: Prefix, b: Prefix) -> bool {
    a.contains(b.first()) || b.contains(a.first())
}

/// A gateway with the rules that its definition states.
struct Gateway<'a> {
    name: String,
    subject: Subject,
    rules: &'a [NatRule],
    /// Addresses that it serves by other means.
    served: Vec<Owner>,
}

impl Gateway<'_> {
    /// What its rules use outside, and what it serves.
    fn external(&self) -> Vec<Owner> {
        let mut all = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let what = format!("that of natRules[{at}] of {}", self.subject.object);
            let nets = external_networks(rule).into_iter().map(prefix_of);
            all.extend(nets.map(|prefix| Owner { prefix, what: what.clone() }));
        }
        let served = self.served.iter();
        all.extend(served.map(|o| Owner { prefix: o.prefix, what: o.what.clone() }));
        all
    }
}

fn gateways<'a>(definitions: &'a Definitions, addressing: &'a Addressing<'_>) -> Vec<Gateway<'a>> {
    let mut all = Vec::new();
    for tier0 in definitions.tier0_gateways.values() {
        all.push(Gateway {
            name: tier0_name(&tier0.meta.name),
            subject: Subject::new("Tier0Gateway", &tier0.meta),
            rules: &tier0.spec.nat_rules,
            served: Vec::new(),
        });
    }
    if let Some(cluster) = &addressing.cluster {
        let rules = cluster.spec().tier1.nat_rules.as_deref();
        all.push(Gateway {
            name: cluster.tier1(),
            subject: Subject::new("SupervisorCluster", &cluster.object.meta),
            rules: rules.unwrap_or_default(),
            served: served(cluster, rules.is_some()),
        });
    }
    all
}

/// Addresses outside that a cluster serves by other means than its stated rules.
fn served(cluster: &Cluster<'_>, stated: bool) -> Vec<Owner> {
    let owner = |address: &Addr, what| Owner { prefix: Prefix::host(*address), what };
    let vips = cluster.vips.iter();
    let mut all: Vec<Owner> =
        vips.map(|(name, a)| owner(a, format!("the virtual address of Service {name}"))).collect();
    all.extend(
        cluster
            .balancer_pool()
            .iter()
            .map(|a| owner(a, "one of spec.loadBalancer.pool".to_owned())),
    );
    if !stated {
        all.extend(cluster.snat.iter().map(|(of, address)| {
            let of = if of == SYSTEM { "the system" } else { of };
            owner(address, format!("the egress address of {of}"))
        }));
    }
    all
}

/// Everybody who has an address of his own on some link: gateways, then hosts outside.
fn stations(definitions: &Definitions, topology: &Topology) -> Vec<Owner> {
    let mut all = Vec::new();
    for router in &topology.routers {
        for interface in &router.interfaces {
            all.extend(interface.addresses.iter().map(|(address, _)| Owner {
                prefix: Prefix::host(*address),
                what: format!("the address of {}, interface {}", router.name, interface.name),
            }));
        }
    }
    for host in definitions.external_hosts.values() {
        for interface in &host.spec.interfaces {
            all.extend(interface.addresses.iter().map(|address| Owner {
                prefix: Prefix::host(address.addr().into()),
                what: format!("the address of ExternalHost {}", host.meta.name),
            }));
        }
    }
    all
}

/// The networks of the inside, and the control plane's addresses in the management network.
fn inside(cluster: &Cluster<'_>) -> Vec<Owner> {
    let spec = cluster.spec();
    let mut all: Vec<Owner> = [
        ("podCIDR", *spec.pod_cidr),
        ("serviceCIDR", *spec.service_cidr),
        ("transitCIDR", *spec.transit_cidr),
    ]
    .into_iter()
    .map(|(field, net)| Owner {
        prefix: prefix4(net),
        what: format!("of the inside: {field} {net}"),
    })
    .collect();
    if let Some(net) = spec.pod_cidr_v6 {
        let prefix = prefix_of(ipnet::IpNet::V6(*net));
        all.push(Owner { prefix, what: format!("of the inside: podCIDRv6 {net}") });
    }
    let management = spec.control_plane.management.addresses.addresses().iter();
    all.extend(management.map(|address| Owner {
        prefix: Prefix::host((*address).into()),
        what: "of the control plane in the management network".to_owned(),
    }));
    all
}
