//! SupervisorCluster: ranges, and pools that do not overlap.

use std::net::IpAddr;

use ipnet::IpNet;

use super::outside::Addresses;
use super::{Spec, nat, security, snat_pools, undefined};
use crate::diagnostic::Subject;
use crate::kubernetes::cluster_pins;
use crate::model::{Definitions, Labels, annotation};
use crate::node::{Fault, Node, excerpt};
use crate::own::{NatMode, Profile, SnatMode, SupervisorClusterSpec, Tier1};
use crate::text::is_dns_label;

/// Whether `value` is in a range; a fault if not.
pub(super) fn in_range<T: PartialOrd + std::fmt::Display>(
    subject: &mut Subject<'_>,
    at: &Node,
    what: &str,
    value: T,
    low: T,
    high: T,
) {
    if value < low || value > high {
        subject.error(at, format!("{what} {value} is not in {low}..{high}"));
    }
}

/// The smallest MTU that every IPv4 host takes (RFC 791), and the largest that NSX has.
pub(super) const MTU: (u16, u16) = (576, 9000);

impl Spec for SupervisorClusterSpec {
    const ANNOTATIONS: &'static [&'static str] = &annotation::SUPERVISOR_CLUSTER;

    fn pin(&mut self, subject: &mut Subject<'_>, document: &Node, annotations: &Labels) {
        self.pins = cluster_pins(subject, document, annotations, &self.control_plane_vms());
    }

    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        match self.profile {
            Profile::V70U1c => subject.fault(
                Fault::at(at.at("profile"), "profile vsphere-7.0u1c is not emulated yet")
                    .help("use vsphere-7.0ga (one Tier-1 for all namespaces)"),
            ),
            Profile::V70U3NoNat if at.get("natMode").is_none() => self.nat_mode = NatMode::NoNat,
            Profile::V70U3NoNat if self.nat_mode == NatMode::Nat => subject.fault(
                Fault::at(at.at("natMode"), "profile vsphere-7.0u3-nonat has no NAT")
                    .help("leave out natMode or use profile vsphere-7.0ga"),
            ),
            _ => {}
        }
        in_range(
            subject,
            at.at("namespacePrefix"),
            "namespacePrefix",
            self.namespace_prefix,
            16,
            30,
        );
        if self.namespace_prefix < self.pod_cidr.prefix_len() {
            subject.error(
                at.at("namespacePrefix"),
                format!(
                    "a /{} block does not fit in podCIDR {}",
                    self.namespace_prefix, self.pod_cidr
                ),
            );
        }
        if self.pod_cidr_v6.is_some_and(|net| net.prefix_len() > 64) {
            subject.error(at.at("podCIDRv6"), "podCIDRv6 has no room for a /64");
        }
        for (index, name) in self.system_namespaces.iter().enumerate() {
            if !is_dns_label(name) {
                subject.error(
                    at.at("systemNamespaces").item(index),
                    format!("'{}' is not a DNS label (RFC 1123)", excerpt(name)),
                );
            }
        }
        if self.detached && self.tier0.is_some() {
            subject.error(
                at.at("detached"),
                "a detached cluster has no Tier-0: leave out one of detached and tier0",
            );
        }
        control_plane(self, subject, at.at("controlPlane"));
        overlaps(self, subject, at);
        snat_pools::check(self, &networks(self), subject, at.at("snatPools"));
        let rules = self.tier1.nat_rules.as_deref_mut().unwrap_or_default();
        nat::place_rules(at.at("tier1").at("natRules"), rules);
        tier1(&self.tier1, subject, at.at("tier1"));
        let firewall = &self.distributed_firewall;
        security::distributed_firewall(firewall, subject, at.at("distributedFirewall"));
        let rates = at.at("segmentSecurity").at("rateLimits");
        security::rate_limits(&self.segment_security.rate_limits, subject, rates);
        security::sessions(&self.sessions, subject, at.at("sessions"));
        let balancer = at.at("loadBalancer");
        match (self.load_balancer.snat, self.load_balancer.pool) {
            (SnatMode::Pool, None) => {
                subject.error(balancer, "snat: pool needs a pool of addresses")
            }
            (SnatMode::Automap | SnatMode::Transparent, Some(_)) => {
                subject.error(balancer.at("pool"), "a pool has an effect only with snat: pool");
            }
            _ => {}
        }
    }
}

fn control_plane(spec: &SupervisorClusterSpec, subject: &mut Subject<'_>, at: &Node) {
    let plane = &spec.control_plane;
    in_range(subject, at.at("replicas"), "replicas", plane.replicas, 1, 5);
    if plane.macs.len() > usize::from(plane.replicas) {
        subject.error(at.at("macs"), format!("more entries than the {} VMs", plane.replicas));
    }
    // Network, gateway and broadcast are nobody's; a prefix out of range has its own message.
    let fits = 1u32
        .checked_shl(32 - u32::from(spec.namespace_prefix.min(32)))
        .is_none_or(|size| u32::from(plane.replicas) + 3 <= size);
    if !fits && spec.namespace_prefix <= 30 && plane.replicas <= 5 {
        subject.error(
            at.at("replicas"),
            format!("{} VMs do not fit in a /{} segment", plane.replicas, spec.namespace_prefix),
        );
    }
    let management = &plane.management;
    let at = at.at("management");
    let inside = |address: &std::net::Ipv4Addr| {
        management.cidr.contains(address)
            && *address != management.cidr.network()
            && *address != management.cidr.broadcast()
    };
    if !inside(&management.gateway) {
        subject.error(
            at.at("gateway"),
            format!(
                "gateway {} is not a host's address in {}",
                management.gateway, management.cidr
            ),
        );
    }
    let addresses = management.addresses.addresses();
    for address in addresses {
        if !inside(address) || *address == management.gateway {
            subject.error(
                at.at("addresses"),
                if *address == management.gateway {
                    format!("{address} is the gateway's address")
                } else {
                    format!("{address} is not a host's address in {}", management.cidr)
                },
            );
            break;
        }
    }
    if plane.replicas <= 5 && addresses.len() <= usize::from(plane.replicas) {
        subject.fault(
            Fault::at(
                at.at("addresses"),
                format!(
                    "{} addresses for {} VMs and the floating address",
                    addresses.len(),
                    plane.replicas
                ),
            )
            .help("vSphere asks for a block of five"),
        );
    }
}

/// The cluster's networks by the field that sets them.
fn networks(spec: &SupervisorClusterSpec) -> Vec<(&'static str, IpNet)> {
    let mut networks = vec![
        ("podCIDR", IpNet::V4(*spec.pod_cidr)),
        ("serviceCIDR", IpNet::V4(*spec.service_cidr)),
        ("ingressCIDR", IpNet::V4(*spec.ingress_cidr)),
    ];
    // Without NAT nothing is allocated from the egress pool.
    if spec.nat_mode == NatMode::Nat {
        networks.push(("egressCIDR", IpNet::V4(*spec.egress_cidr)));
    }
    networks.push(("transitCIDR", IpNet::V4(*spec.transit_cidr)));
    networks.push(("controlPlane.management.cidr", IpNet::V4(*spec.control_plane.management.cidr)));
    if let Some(pool) = spec.load_balancer.pool {
        networks.push(("loadBalancer.pool", IpNet::V4(*pool)));
    }
    networks
}

/// The place of a field with dots in its name.
fn place<'a>(at: &'a Node, field: &str) -> &'a Node {
    field.split('.').fold(at, Node::at)
}

/// Whether two networks have an address in common.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn overlaps(spec: &SupervisorClusterSpec, subject: &mut Subject<'_>, at: &Node) {
    let networks = networks(spec);
    for (index, (field, net)) in networks.iter().enumerate() {
        // One message for each network: the first of the earlier ones that it touches.
        let earlier = networks.iter().take(index).find(|(_, other)| overlap(other, net));
        if let Some((other_field, other)) = earlier {
            // Of two fields, point at one that was written.
            let field_at = if std::ptr::eq(place(at, field), at) {
                place(at, other_field)
            } else {
                place(at, field)
            };
            subject.error(field_at, format!("{field} {net} overlaps {other_field} {other}"));
        }
    }
}

fn tier1(tier1: &Tier1, subject: &mut Subject<'_>, at: &Node) {
    in_range(subject, at.at("mtu"), "mtu", tier1.mtu, MTU.0, MTU.1);
    for (index, route) in tier1.static_routes.iter().enumerate() {
        let at = at.at("staticRoutes").item(index);
        let said = u8::from(route.next_hop.is_some())
            + u8::from(route.blackhole)
            + u8::from(route.unreachable);
        if said != 1 {
            subject
                .error(at, "a static route has exactly one of nextHop, blackhole and unreachable");
        } else if let Some(hop) = route.next_hop
            && hop.is_ipv6() != matches!(*route.network, IpNet::V6(_))
        {
            subject.error(
                at.at("nextHop"),
                format!("{hop} is not of the family of {}", route.network),
            );
        }
    }
    nat::nat_rules(
        subject,
        at.at("natRules"),
        tier1.nat_rules.as_deref().unwrap_or_default(),
        None,
    );
    nat::gateway_firewall(subject, at.at("gatewayFirewall"), &tier1.gateway_firewall, None);
}

/// Checks a cluster against the other objects.
pub(super) fn together(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    name: &str,
    addresses: &mut Addresses,
) {
    let Some(cluster) = definitions.supervisor_clusters.get(name) else {
        return;
    };
    if let Some(first) = definitions.supervisor()
        && first.meta.name != name
    {
        return subject.fault(
            Fault::at(
                at,
                format!(
                    "a second cluster: '{}' is defined at {}",
                    first.meta.name, first.meta.source
                ),
            )
            .help("a lab has one, because manifests do not say which cluster they are for"),
        );
    }
    let spec = &cluster.spec;
    match &spec.tier0 {
        Some(tier0) if !definitions.tier0_gateways.contains_key(tier0) => {
            undefined(
                subject,
                at.at("tier0"),
                "Tier0Gateway",
                tier0,
                definitions.tier0_gateways.keys(),
            );
        }
        None if !spec.detached && definitions.tier0_gateways.len() > 1 => {
            subject.fault(Fault::at(at, "there are several Tier-0 gateways").help(format!(
                "name one in spec.tier0; {}",
                super::listed(definitions.tier0_gateways.keys())
            )))
        }
        _ => {}
    }
    let management = &spec.control_plane.management;
    let place = at.at("controlPlane").at("management");
    let network = spec.management_network();
    match definitions.external_networks.get(network) {
        None => undefined(
            subject,
            place.at("network"),
            "ExternalNetwork",
            network,
            definitions.external_networks.keys(),
        ),
        Some(defined) => {
            if let Some(cidr) = defined.spec.cidr
                && *cidr != *management.cidr
            {
                subject.error(
                    place.at("cidr"),
                    format!(
                        "{} is not {cidr}, the addresses of network '{network}'",
                        management.cidr
                    ),
                );
            }
        }
    }
    for address in management.addresses.addresses() {
        addresses.claim(subject, place.at("addresses"), network, IpAddr::V4(*address));
    }
    for (other, defined) in &definitions.external_networks {
        let Some(cidr) = defined.spec.cidr else {
            continue;
        };
        let cidr = IpNet::V4(*cidr);
        let found = networks(spec).into_iter().find(|(field, net)| {
            !(other == network && *field == "controlPlane.management.cidr") && overlap(net, &cidr)
        });
        if let Some((field, net)) = found {
            subject.error(
                self::place(at, field),
                format!(
                    "{field} {net} overlaps {cidr}, the addresses of ExternalNetwork '{other}'"
                ),
            );
        }
        let what = format!("the addresses of ExternalNetwork '{other}'");
        snat_pools::apart(spec, cidr, &what, subject, at.at("snatPools"));
    }
    snat_pools::known(spec, definitions, subject, at.at("snatPools"));
}
