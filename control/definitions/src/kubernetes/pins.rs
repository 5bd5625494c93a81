//! Readers of the annotations that pin addresses: lists of addresses and networks, alone or by name.
//!
//! Each gives what was pinned, or what is wrong with the text; [`read`] adds the annotation's name and place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::diagnostic::Subject;
use crate::model::{ClusterPins, Labels, PinnedAddresses, PinnedNetworks, annotation};
use crate::node::{Node, excerpt};
use crate::text::{Cidr, Cidr4, MacAddress};

/// What `parse` reads in annotation `key`, if it is there and good.
pub(crate) fn read<T>(
    subject: &mut Subject<'_>,
    document: &Node,
    annotations: &Labels,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let parsed = parse(annotations.get(key)?);
    parsed
        .map_err(|message| {
            let place = document.at("metadata").at("annotations").at(key);
            subject.error(place, format!("annotation {key}: {message}"));
        })
        .ok()
}

/// The most parts of a list: the /28 blocks of a /16.
const MAX_PARTS: usize = 4096;

/// The parts of a list; none is empty.
fn parts(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    if text.split(',').nth(MAX_PARTS).is_some() {
        return Err(format!("it has more than {MAX_PARTS} parts"));
    }
    if text.split(',').any(|part| part.trim().is_empty()) {
        return Err(match text.trim() {
            "" => "it is empty".to_owned(),
            _ => format!("'{}' has an empty part", excerpt(text)),
        });
    }
    Ok(text.split(',').map(str::trim))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{}' is not an IP address", excerpt(text)))
}

/// One address of each family at most.
pub(crate) fn addresses(text: &str) -> Result<PinnedAddresses, String> {
    let mut all = PinnedAddresses::default();
    for part in parts(text)? {
        if !all.add(address(part)?) {
            return Err(format!("{part} is a second address of its family"));
        }
    }
    Ok(all)
}

/// An IPv4 address.
pub(crate) fn address_v4(text: &str) -> Result<Ipv4Addr, String> {
    text.trim().parse().map_err(|_| format!("'{}' is not an IPv4 address", excerpt(text)))
}

/// Networks of either family, each once.
pub(crate) fn networks(text: &str) -> Result<PinnedNetworks, String> {
    let mut all = PinnedNetworks::default();
    let mut seen = BTreeSet::new();
    for part in parts(text)? {
        let net: Cidr = excerpt(part).parse()?;
        if !seen.insert(net) {
            return Err(format!("{net} is listed twice"));
        }
        match *net {
            IpNet::V4(net) => all.v4.push(net),
            IpNet::V6(net) => all.v6.push(net),
        }
    }
    Ok(all)
}

/// One network of each family at most.
fn one_network(text: &str) -> Result<PinnedNetworks, String> {
    let all = networks(text)?;
    let second = all.v4.get(1).map(|n| n as &dyn Display).or(all.v6.get(1).map(|n| n as _));
    match second {
        Some(net) => Err(format!("{net} is a second network of its family; it has one")),
        None => Ok(all),
    }
}

/// `NAME=VALUE` pairs in written order.
fn pairs(text: &str) -> Result<impl Iterator<Item = Result<(&str, &str), String>>, String> {
    Ok(parts(text)?.map(|part| {
        let pair = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        pair.filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("'{}' is not NAME=ADDRESS", excerpt(part)))
    }))
}

/// Addresses by name: `0=10.244.0.20, 0=fd00::14`.
pub(crate) fn named_addresses(text: &str) -> Result<BTreeMap<String, PinnedAddresses>, String> {
    let mut all: BTreeMap<String, PinnedAddresses> = BTreeMap::new();
    for pair in pairs(text)? {
        let (name, value) = pair?;
        if !all.entry(name.to_owned()).or_default().add(address(value)?) {
            return Err(format!(
                "'{}' has a second address of this family, {value}",
                excerpt(name)
            ));
        }
    }
    Ok(all)
}

/// MAC addresses by name: `0=04:50:56:00:d1:00`.
pub(crate) fn named_macs(text: &str) -> Result<BTreeMap<String, packet::Mac>, String> {
    let mut all = BTreeMap::new();
    for pair in pairs(text)? {
        let (name, value) = pair?;
        let mac: MacAddress = excerpt(value).parse()?;
        if all.insert(name.to_owned(), *mac).is_some() {
            return Err(format!("'{}' has a second address, {value}", excerpt(name)));
        }
    }
    Ok(all)
}

/// A link between two routers: a /31 (RFC 3021).
fn link(text: &str) -> Result<Ipv4Net, String> {
    let net = *excerpt(text.trim()).parse::<Cidr4>()?;
    if net.prefix_len() == 31 {
        Ok(net)
    } else {
        Err(format!("{net} is not a /31, such as 100.64.0.2/31"))
    }
}

/// What a SupervisorCluster's annotations fix; `vms` are its control-plane VMs.
pub(crate) fn cluster(
    subject: &mut Subject<'_>,
    document: &Node,
    annotations: &Labels,
    vms: &[String],
) -> ClusterPins {
    let known = |text: &str| {
        let named = named_addresses(text)?;
        match named.keys().find(|name| !vms.contains(*name)) {
            Some(name) => Err(format!(
                "there is no control-plane VM '{}'; there are {}",
                excerpt(name),
                vms.join(", ")
            )),
            None => Ok(named),
        }
    };
    let control_plane =
        read(subject, document, annotations, annotation::CONTROL_PLANE_SUBNET, one_network);
    let vms = read(subject, document, annotations, annotation::CONTROL_PLANE_IPS, known);
    ClusterPins {
        control_plane: control_plane.unwrap_or_default(),
        vms: vms.unwrap_or_default(),
        snat_ip: read(subject, document, annotations, annotation::SNAT_IP, address_v4),
        transit: read(subject, document, annotations, annotation::TRANSIT_SUBNET, link),
    }
}
