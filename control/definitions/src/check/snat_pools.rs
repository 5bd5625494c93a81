//! SNAT pools: names, and addresses that are nobody else's.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::nat::is_unicast;
use super::{SYSTEM_NAMESPACES, SYSTEM_PREFIX};
use crate::diagnostic::Subject;
use crate::model::Definitions;
use crate::node::{Node, excerpt};
use crate::own::{AddressRange, SupervisorClusterSpec};
use crate::text::{is_dns_label, is_label_value};

/// The most pools of a cluster.
const MAX_POOLS: usize = 1024;
/// The most ranges of one pool.
const MAX_RANGES: usize = 1024;

/// Checks the pools alone and against the cluster's own `networks`. `at` is the list's place.
///
/// Two pools of one name are no fault here, as in NSX: the Service that asks for them is told (`IP_POOL_NOT_UNIQUE`).
pub(super) fn check(
    spec: &SupervisorClusterSpec,
    networks: &[(&str, IpNet)],
    subject: &mut Subject<'_>,
    at: &Node,
) {
    if spec.snat_pools.len() > MAX_POOLS {
        return subject.error(at, format!("a cluster has at most {MAX_POOLS} SNAT pools"));
    }
    let mut all: Vec<(&AddressRange, &Node)> = Vec::new();
    for (index, pool) in spec.snat_pools.iter().enumerate() {
        let at = at.item(index);
        if pool.name.is_empty() || !is_label_value(&pool.name) {
            subject.error(
                at.at("name"),
                format!(
                    "'{}' is not a pool's name: 1 to 63 of letters, digits, '-', '_', '.'",
                    excerpt(&pool.name)
                ),
            );
        }
        if !(1..=MAX_RANGES).contains(&pool.addresses.len()) {
            subject.error(at.at("addresses"), format!("a pool has 1 to {MAX_RANGES} ranges"));
            continue;
        }
        for (index, name) in pool.namespaces.iter().enumerate() {
            if !is_dns_label(name) {
                subject.error(
                    at.at("namespaces").item(index),
                    format!("'{}' is not a DNS label (RFC 1123)", excerpt(name)),
                );
            }
        }
        for (index, range) in pool.addresses.iter().enumerate() {
            let at = at.at("addresses").item(index);
            if !is_unicast(range.first().into()) || !is_unicast(range.last().into()) {
                subject.error(at, format!("{range} has addresses that no host can have"));
                continue;
            }
            match networks.iter().find(|(_, net)| overlaps(range, net)) {
                Some((field, net)) => {
                    subject.error(at, format!("{range} overlaps {field} {net}"));
                }
                None => all.push((range, at)),
            }
        }
    }
    all.sort_by_key(|(range, at)| (range.first(), range.last(), at.line, at.column));
    let mut highest: Option<&AddressRange> = None;
    for (range, at) in all {
        match highest {
            Some(before) if range.first() <= before.last() => {
                subject.error(at, format!("{range} overlaps {before}, of this pool or another"));
            }
            _ => highest = Some(range),
        }
    }
}

fn overlaps(range: &AddressRange, net: &IpNet) -> bool {
    let bounds: (Ipv4Addr, Ipv4Addr) = match net {
        IpNet::V4(net) => (net.network(), net.broadcast()),
        IpNet::V6(_) => return false,
    };
    range.first() <= bounds.1 && bounds.0 <= range.last()
}

/// A fault for each pool that has addresses of `net`, which is `what`.
pub(super) fn apart(
    spec: &SupervisorClusterSpec,
    net: IpNet,
    what: &str,
    subject: &mut Subject<'_>,
    at: &Node,
) {
    for (index, pool) in spec.snat_pools.iter().enumerate() {
        if let Some(range) = pool.addresses.iter().find(|r| overlaps(r, &net)) {
            subject
                .error(at.item(index).at("addresses"), format!("{range} overlaps {net}, {what}"));
        }
    }
}

/// Tells of namespaces that nobody has defined: the pool waits for them in vain.
pub(super) fn known(
    spec: &SupervisorClusterSpec,
    definitions: &Definitions,
    subject: &mut Subject<'_>,
    at: &Node,
) {
    for (index, pool) in spec.snat_pools.iter().enumerate() {
        for (place, name) in pool.namespaces.iter().enumerate() {
            // The system's are there without anyone writing them.
            let is_known = definitions.namespaces.contains_key(name)
                || SYSTEM_NAMESPACES.contains(&name.as_str())
                || name.starts_with(SYSTEM_PREFIX)
                || spec.system_namespaces.contains(name);
            if is_dns_label(name) && !is_known {
                let message = format!(
                    "SNAT pool '{}' is for namespace '{}', which is not defined",
                    excerpt(&pool.name),
                    excerpt(name)
                );
                subject.notice(at.item(index).at("namespaces").item(place), message);
            }
        }
    }
}
