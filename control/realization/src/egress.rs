//! Egress addresses: one a namespace (F10), one that system namespaces share, and what NCP would say about each.
//!
//! NCP writes the outcome to the namespace (`ncp/snat_ip_status`). Where it would be an error nothing is realized here:
//! the fault has NCP's name for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use definitions::model::{Definitions, SupervisorCluster};
use definitions::own::{NatAction, NatMatch, NatTranslated};
use packet::Addr;

use crate::Status;
use crate::addressing::{Cluster, SYSTEM, is_system, to_v4, v4_number, v4_pool};
use crate::allocate::{Failure, Request, tell, try_assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};

/// The annotation that NCP writes what became of an address to.
pub(crate) const STATUS_KEY: &str = "ncp/snat_ip_status";

/// Egress addresses: the system's, then one a namespace. A NAT table that the user wrote stands for itself: no
/// address is given out, and what it translates every source to is the system's.
pub(crate) fn allocate(
    definitions: &Definitions,
    object: &SupervisorCluster,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> BTreeMap<String, Addr> {
    let spec = &object.spec;
    if let Some(rules) = &spec.tier1.nat_rules {
        let general =
            rules.iter().find_map(|rule| match (rule.action, rule.source, rule.translated) {
                (NatAction::Snat, NatMatch::Any, NatTranslated::Network(net))
                    if net.prefix_len() == net.max_prefix_len() =>
                {
                    Some(Addr::from(net.addr()))
                }
                _ => None,
            });
        without_effect(definitions, object, "spec.tier1.natRules is the whole NAT table", messages);
        return general.map(|a| (SYSTEM.to_owned(), a)).into_iter().collect();
    }
    let pool =
        v4_pool("egress address", "egressCIDR", *spec.egress_cidr, spec.egress_use_edge_addresses);
    let subject = Subject::new("SupervisorCluster", &object.meta);
    let pin = spec.pins.snat_ip.map(v4_number);
    let mut requests = vec![Request { owner: SYSTEM.to_owned(), pin, subject }];
    for namespace in definitions.namespaces.values() {
        let pin = namespace.pins.snat_ip;
        if pin.is_none() && is_system(spec, &namespace.meta.name) {
            continue;
        }
        requests.push(Request {
            owner: namespace.meta.name.clone(),
            pin: pin.map(v4_number),
            subject: Subject::new("Namespace", &namespace.meta),
        });
    }
    let assigned = try_assign(&pool, &requests, |k| kept.snat.get(k).copied().map(v4_number));
    let status = |failure: &Failure| Some(format!("{STATUS_KEY}: {}", status_of(failure)));
    tell(&pool, &requests, &assigned.failed, status, messages);
    let given = assigned.given;
    next.snat.extend(given.iter().map(|(k, n)| (k.clone(), Ipv4Addr::from(to_v4(*n)))));
    given.into_iter().map(|(k, n)| (k, Addr::v4(to_v4(n)))).collect()
}

/// NCP's name for a failure.
fn status_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::Outside => "IP_NOT_IN_POOL",
        Failure::Exhausted => "IP_POOL_EXHAUSTED",
        Failure::Reserved(_) | Failure::Twice(_) | Failure::Pinned(_) => "SNAT_PROCESS_FAILED",
    }
}

/// Tells whose egress addresses are pinned or asked for in vain.
pub(crate) fn without_effect(
    definitions: &Definitions,
    object: &SupervisorCluster,
    why: &str,
    messages: &mut Messages,
) {
    let mut say = |subject: &Subject, what: &str| {
        messages.notice(subject, format!("{what} has no effect"), why);
    };
    if object.spec.pins.snat_ip.is_some() {
        say(&Subject::new("SupervisorCluster", &object.meta), "its egress address");
    }
    for namespace in definitions.namespaces.values().filter(|n| n.pins.snat_ip.is_some()) {
        say(&Subject::new("Namespace", &namespace.meta), "its egress address");
    }
    for service in definitions.services.values().filter(|s| !s.snat_pools.is_empty()) {
        say(&Subject::new("Service", &service.meta), "its SNAT pool");
    }
}

/// What NCP would write to the namespaces.
pub(crate) fn statuses<'a>(
    definitions: &'a Definitions,
    cluster: &'a Cluster<'_>,
    kept: &'a Allocations,
) -> impl Iterator<Item = Status> + 'a {
    let given_out = cluster.nat && cluster.spec().tier1.nat_rules.is_none();
    definitions.namespaces.iter().filter_map(move |(name, namespace)| {
        let value = if namespace.pins.snat_ip.is_some() && !given_out {
            "IP_NOT_REALIZED"
        } else {
            let address = cluster.egress_address(name)?;
            let holder = if cluster.snat.contains_key(name) { name } else { SYSTEM };
            let before = kept.snat.get(holder).is_some_and(|a| Addr::from(*a) == address);
            if before { "IP_ALREADY_ALLOCATED" } else { "IP_ALLOCATED_SUCCESSFULLY" }
        };
        Some(Status {
            object: format!("Namespace {name}"),
            key: STATUS_KEY.to_owned(),
            value: value.to_owned(),
        })
    })
}
