//! Tier0Gateway, ExternalNetwork and ExternalHost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::supervisor::{MTU, in_range};
use super::{Spec, undefined};
use crate::diagnostic::Subject;
use crate::model::Definitions;
use crate::node::{Fault, Node, excerpt};
use crate::own::{
    ExternalHostSpec, ExternalNetworkSpec, HostServiceKind, RouteTarget, Tier0GatewaySpec,
    is_interface_name,
};
use crate::text::InterfaceAddress;

/// Addresses in external networks, each of which belongs to one object.
#[derive(Default)]
pub(super) struct Addresses {
    owners: BTreeMap<(String, IpAddr), String>,
}

impl Addresses {
    /// Gives `address` in `network` to the subject; a fault if it has another owner.
    pub fn claim(&mut self, subject: &mut Subject<'_>, at: &Node, network: &str, address: IpAddr) {
        let owner = subject.object.clone().unwrap_or_default();
        if let Some(first) = self.owners.insert((network.to_owned(), address), owner) {
            subject.error(
                at,
                format!("address {address} in network '{network}' is also that of {first}"),
            );
        }
    }
}

/// The most interfaces of one host or gateway.
const MAX_INTERFACES: usize = 64;

/// Checks interfaces of one host or gateway: how many, and that their names are different.
fn interfaces<'a>(
    subject: &mut Subject<'_>,
    at: &Node,
    interfaces: impl Iterator<Item = (&'a str, &'a [InterfaceAddress])>,
) {
    let mut names = BTreeSet::new();
    for (index, (name, addresses)) in interfaces.enumerate() {
        if index == MAX_INTERFACES || addresses.len() > MAX_INTERFACES {
            return subject.error(
                at.item(index),
                format!("more than {MAX_INTERFACES} interfaces, or addresses at one"),
            );
        }
        let at = at.item(index);
        if !is_interface_name(name) {
            subject.error(
                at.at("name"),
                format!(
                    "'{}' is not an interface's name: 1 to 15 letters, digits, '-', '_', '.'",
                    excerpt(name)
                ),
            );
        }
        if !names.insert(name) {
            subject.error(at.at("name"), format!("interface '{}' is defined twice", excerpt(name)));
        }
        if addresses.is_empty() {
            subject.error(at, "an interface needs at least one address");
        }
    }
}

/// Checks that an interface's network exists and that its addresses are of it.
fn in_network(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    network: &str,
    addresses: &[InterfaceAddress],
    claimed: &mut Addresses,
) {
    let Some(defined) = definitions.external_networks.get(network) else {
        return undefined(
            subject,
            at.at("network"),
            "ExternalNetwork",
            network,
            definitions.external_networks.keys(),
        );
    };
    for (index, address) in addresses.iter().enumerate() {
        let at = at.at("addresses").item(index);
        let cidr = match **address {
            IpNet::V4(_) => defined.spec.cidr.map(|net| IpNet::V4(*net)),
            IpNet::V6(_) => defined.spec.cidr_v6.map(|net| IpNet::V6(*net)),
        };
        if let Some(cidr) = cidr
            && address.trunc() != cidr
        {
            subject.error(
                at,
                format!("{address} is not in {cidr}, the addresses of network '{network}'"),
            );
        }
        claimed.claim(subject, at, network, address.addr());
    }
}

impl Spec for ExternalNetworkSpec {
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        if let Some(vlan) = self.vlan {
            in_range(subject, at.at("vlan"), "vlan", vlan, 1, 4094);
        }
        if let Some(mtu) = self.mtu {
            in_range(subject, at.at("mtu"), "mtu", mtu, MTU.0, MTU.1);
        }
    }
}

impl Spec for Tier0GatewaySpec {
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        let before = subject.report.errors();
        interfaces(
            subject,
            at.at("uplinks"),
            self.uplinks.iter().map(|u| (u.name.as_str(), u.addresses.as_slice())),
        );
        // What follows asks every interface about every route.
        if subject.report.errors() > before {
            return;
        }
        for (index, uplink) in self.uplinks.iter().enumerate() {
            if let Some(mtu) = uplink.mtu {
                in_range(subject, at.at("uplinks").item(index).at("mtu"), "mtu", mtu, MTU.0, MTU.1);
            }
        }
        in_range(subject, at.at("ecmp").at("maxPaths"), "maxPaths", self.ecmp.max_paths, 1, 8);
        for (index, route) in self.static_routes.iter().enumerate() {
            let at = at.at("staticRoutes").item(index);
            in_range(subject, at.at("distance"), "distance", route.distance, 1, 255);
            if route.blackhole != route.next_hops.is_empty() {
                subject.error(at, "a static route has either nextHops or blackhole: true");
            }
            let mut seen = BTreeSet::new();
            for (index, hop) in route.next_hops.iter().enumerate() {
                let place = at.at("nextHops").item(index);
                if !seen.insert(hop) {
                    subject.error(place, format!("next hop {hop} is listed twice"));
                } else if hop.is_ipv6() != matches!(*route.network, IpNet::V6(_)) {
                    subject
                        .error(place, format!("{hop} is not of the family of {}", route.network));
                } else if !self.uplinks.iter().flat_map(|u| &u.addresses).any(|a| a.contains(hop)) {
                    subject.error(place, format!("next hop {hop} is in no uplink's network"));
                }
            }
        }
        let ha = Some(self.ha_mode);
        super::nat::place_rules(at.at("natRules"), &mut self.nat_rules);
        super::nat::nat_rules(subject, at.at("natRules"), &self.nat_rules, ha);
        let firewall = at.at("gatewayFirewall");
        super::nat::gateway_firewall(subject, firewall, &self.gateway_firewall, ha);
        if let Some(bgp) = &self.bgp {
            let at = at.at("bgp");
            if bgp.local_as == 0 || bgp.neighbors.iter().any(|n| n.remote_as == 0) {
                subject.error(at, "AS number 0 is reserved (RFC 7607)");
            }
            for (index, neighbor) in bgp.neighbors.iter().enumerate() {
                // RFC 4271 4.2: zero, or at least three seconds.
                if matches!(neighbor.hold_time, 1 | 2) {
                    subject.error(
                        at.at("neighbors").item(index),
                        "holdTime is 0 or at least 3 s (RFC 4271)",
                    );
                }
            }
            subject.notice(at, "BGP is not emulated yet: state the routes as staticRoutes");
        }
        if let Some(bfd) = &self.bfd {
            let at = at.at("bfd");
            in_range(subject, at.at("interval"), "interval", bfd.interval, 50, 60_000);
            in_range(subject, at.at("multiplier"), "multiplier", bfd.multiplier, 2, 16);
            subject.notice(at, "BFD is not emulated yet");
        }
    }
}

impl Spec for ExternalHostSpec {
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        let before = subject.report.errors();
        if self.interfaces.is_empty() {
            subject.error(at.at("interfaces"), "a host needs at least one interface");
        }
        interfaces(
            subject,
            at.at("interfaces"),
            self.interfaces.iter().map(|i| (i.name.as_str(), i.addresses.as_slice())),
        );
        // What follows asks every interface about every route.
        if subject.report.errors() > before {
            return;
        }
        in_range(subject, at.at("ttl"), "ttl", self.ttl, 1, 255);
        let has = |name: &str| self.interfaces.iter().any(|i| i.name == name);
        for (index, route) in self.routes.iter().enumerate() {
            let at = at.at("routes").item(index);
            match (&route.via, &route.dev) {
                (None, None) => subject.error(at, "a route needs via, dev or both"),
                (Some(via), _) => {
                    let on_link = self
                        .interfaces
                        .iter()
                        .filter(|i| route.dev.as_ref().is_none_or(|dev| *dev == i.name))
                        .any(|i| i.addresses.iter().any(|a| a.contains(via)));
                    if !on_link {
                        subject.error(at.at("via"), format!("{via} is in no interface's network"));
                    }
                    if let RouteTarget::Network(net) = &route.to
                        && via.is_ipv6() != matches!(**net, IpNet::V6(_))
                    {
                        subject.error(at.at("via"), format!("{via} is not of the family of {net}"));
                    }
                }
                (None, Some(_)) => {}
            }
            if let Some(dev) = route.dev.as_deref().filter(|dev| !has(dev)) {
                subject.error(at.at("dev"), format!("interface '{}' is not defined", excerpt(dev)));
            }
            table(subject, at, route.table);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let at = at.at("rules").item(index);
            for (field, name) in [("iif", &rule.iif), ("oif", &rule.oif)] {
                if let Some(name) = name.as_deref().filter(|name| !has(name)) {
                    subject.error(
                        at.at(field),
                        format!("interface '{}' is not defined", excerpt(name)),
                    );
                }
            }
            table(subject, at, rule.table);
        }
        let mut listening = BTreeSet::new();
        for (index, service) in self.services.iter().enumerate() {
            let at = at.at("services").item(index);
            in_range(subject, at.at("port"), "port", service.port, 1, u16::MAX);
            if !listening.insert((service.port, service.protocol)) {
                subject.error(at.at("port"), format!("port {} is defined twice", service.port));
            }
            if service.kind != HostServiceKind::Dns && !service.records.is_empty() {
                subject.error(at.at("records"), "records have an effect only with kind: dns");
            }
            if service.kind == HostServiceKind::Http
                && service.protocol == crate::own::HostServiceProtocol::Udp
            {
                subject.error(at.at("protocol"), "HTTP is served over TCP");
            }
        }
    }
}

fn table(subject: &mut Subject<'_>, at: &Node, number: u32) {
    match number {
        0 => subject
            .error(at.at("table"), "table 0 is 'unspecified' in Linux; number your own from 1"),
        255 => subject.fault(
            Fault::at(at.at("table"), "table 255 is 'local', which the host keeps itself")
                .help("main is 254, your own are 1 to 252"),
        ),
        _ => {}
    }
}

/// Checks a gateway against the other objects.
pub(super) fn tier0(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    name: &str,
    addresses: &mut Addresses,
) {
    let Some(gateway) = definitions.tier0_gateways.get(name) else {
        return;
    };
    for (index, uplink) in gateway.spec.uplinks.iter().enumerate() {
        let at = at.at("uplinks").item(index);
        in_network(subject, at, definitions, &uplink.network, &uplink.addresses, addresses);
    }
}

/// Checks a host against the other objects.
pub(super) fn host(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    name: &str,
    addresses: &mut Addresses,
) {
    let Some(host) = definitions.external_hosts.get(name) else {
        return;
    };
    for (index, interface) in host.spec.interfaces.iter().enumerate() {
        let at = at.at("interfaces").item(index);
        in_network(subject, at, definitions, &interface.network, &interface.addresses, addresses);
    }
}
