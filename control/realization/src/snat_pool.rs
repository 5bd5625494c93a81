//! Egress addresses of Services: `ncp/snat_pool` ("Configuring SNAT", NCP documentation).
//!
//! A Service with that annotation gets one address of the pool (`spec.snatPools`) that it names, and its pods leave with
//! it; the rule outranks the namespace's. What goes wrong is no fault of the definitions: NCP writes its name to the Service
//! (`ncp/error.snat`), and so does the status here. Such a Service has no address, no route and no translation, and its pods'
//! flows are dropped at the uplink instead of leaving with an address that the user did not mean (promise 7), unless another
//! Service has an address for them.
//!
//! The order among Services: who holds an address keeps it, the others by name. Only pods with an address of their own
//! count; one on a control-plane VM's network leaves as the VM does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use definitions::model::{Definitions, ObjectName, Pod, Service, ServiceType, SupervisorCluster};
use definitions::own::{AddressRange, SnatPool};
use engine::network::{AddressRange as SourceRange, NatAction, NatRule, Prefix};
use packet::Addr;

use crate::Status;
use crate::addressing::{Cluster, Workload, show_v4, to_v4, v4_band, v4_number};
use crate::allocate::{Failure, Pool, Request, tell, try_assign};
use crate::allocations::Allocations;
use crate::egress;
use crate::fault::{Messages, Subject};

/// Priority of the rules: behind NO_SNAT, before the namespaces' own.
const SNAT_SERVICE: u32 = 500;
/// Priority of the rules that stand where an address is missing: behind those that have one for the same pod.
const WITHOUT_ADDRESS: u32 = 600;

/// What the name of a Service's rule begins with; no other rule's does.
const SERVICE_RULE: &str = "snat-service-";

/// The annotation that NCP writes an error to.
const ERROR_KEY: &str = "ncp/error.snat";

/// NCP's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnatError {
    PoolNotFound,
    PoolExhausted,
    PoolNotUnique,
    RuleOverlapped,
    AccessDenied,
}

impl SnatError {
    /// The name that NCP writes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SnatError::PoolNotFound => "IP_POOL_NOT_FOUND",
            SnatError::PoolExhausted => "IP_POOL_EXHAUSTED",
            SnatError::PoolNotUnique => "IP_POOL_NOT_UNIQUE",
            SnatError::RuleOverlapped => "SNAT_RULE_OVERLAPPED",
            SnatError::AccessDenied => "POOL_ACCESS_DENIED",
        }
    }
}

/// What became of a Service's pool.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSnat {
    /// The pods that it selects and that have an address, sorted, with that address. Of Services without an address each
    /// has those that no other of them has.
    pub(crate) pods: Vec<(ObjectName, Addr)>,
    /// Its address, or what is wrong.
    pub(crate) address: Result<Addr, SnatError>,
    /// It had the address before.
    kept: bool,
}

impl ServiceSnat {
    /// The word for it.
    pub(crate) fn status(&self) -> &'static str {
        match self.address {
            Ok(_) if self.kept => "IP_ALREADY_ALLOCATED",
            Ok(_) => "IP_ALLOCATED_SUCCESSFULLY",
            Err(error) => error.name(),
        }
    }
}

/// A Service on its way to an address.
struct Candidate<'a> {
    key: &'a ObjectName,
    service: &'a Service,
    pods: Vec<(ObjectName, Addr)>,
    /// The pool's number in the cluster's list, or what is wrong, in NCP's word and ours.
    pool: Result<usize, (SnatError, String)>,
    /// The address it had, as far as it is one of the pool.
    held: Option<Ipv4Addr>,
}

/// Gives Services the addresses that they ask for. What is wrong with a pin is a fault, all else a notice.
pub(crate) fn allocate(
    definitions: &Definitions,
    object: &SupervisorCluster,
    pods: &BTreeMap<ObjectName, (&Pod, Workload)>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> BTreeMap<ObjectName, ServiceSnat> {
    if object.spec.tier1.nat_rules.is_some() {
        // That they have no effect has been told.
        return BTreeMap::new();
    }
    let pools = &object.spec.snat_pools;
    let edges = object.spec.egress_use_edge_addresses;
    let mut all: Vec<Candidate<'_>> = Vec::new();
    for (key, service) in definitions.services.iter().filter(|(_, s)| !s.snat_pools.is_empty()) {
        let found = resolve(pools, service);
        let held = kept.service_snat.get(&key.to_string()).copied().filter(|held| {
            let pool = found.as_ref().ok().and_then(|at| pools.get(*at));
            pool.is_some_and(|p| bands(p, edges).any(|band| band.contains(&v4_number(*held))))
        });
        if service.pod_selector().is_none() || service.kind == ServiceType::ExternalName {
            let help = "only pods that a Service selects leave with an address of its SNAT pool";
            let subject = Subject::new("Service", &service.meta);
            messages.notice(&subject, "it has an SNAT pool and selects no pods", help);
            continue;
        }
        all.push(Candidate { key, service, pods: Vec::new(), pool: found, held });
    }
    select(&mut all, pods);
    let mut result = BTreeMap::new();
    for (at, pool) in pools.iter().enumerate() {
        let own: Vec<&Candidate<'_>> = all.iter().filter(|c| c.pool == Ok(at)).collect();
        let given = assign_pool(pool, edges, &own, messages);
        for (candidate, given) in own.into_iter().zip(given) {
            let kept = candidate.held.is_some_and(|held| given == Ok(held.into()));
            let outcome = ServiceSnat { pods: candidate.pods.clone(), address: given, kept };
            result.insert(candidate.key.clone(), outcome);
        }
    }
    for candidate in all {
        let why = match (&candidate.pool, result.get(candidate.key)) {
            (Err((error, why)), _) => {
                let pods = candidate.pods;
                let outcome = ServiceSnat { pods, address: Err(*error), kept: false };
                result.insert(candidate.key.clone(), outcome);
                Some((*error, why.clone()))
            }
            (Ok(at), Some(ServiceSnat { address: Err(error), .. })) => {
                let name = pools.get(*at).map(|p| p.name.as_str()).unwrap_or_default();
                Some((*error, format!("all addresses of pool '{name}' are in use")))
            }
            _ => None,
        };
        if let Some((error, why)) = why {
            let message = format!("{ERROR_KEY}: {}: {why}", error.name());
            let help = "until that is set right, what its pods send out of the cluster is dropped";
            messages.notice(&Subject::new("Service", &candidate.service.meta), message, help);
        }
    }
    let addresses = result.iter().filter_map(|(key, snat)| Some((key, snat.address.ok()?)));
    next.service_snat
        .extend(addresses.map(|(key, address)| (key.to_string(), Ipv4Addr::from(address.low32()))));
    result
}

/// The pool that a Service means.
fn resolve(pools: &[SnatPool], service: &Service) -> Result<usize, (SnatError, String)> {
    let [name] = service.snat_pools.as_slice() else {
        let named = service.snat_pools.len();
        return Err((SnatError::PoolNotUnique, format!("{named} pools are named, one is meant")));
    };
    let mut found = pools.iter().enumerate().filter(|(_, p)| p.name == *name);
    let Some((at, pool)) = found.next() else {
        let mut known: Vec<&str> = pools.iter().map(|p| p.name.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        let more = if known.len() > 8 { " and more" } else { "" };
        known.truncate(8);
        let known = match known.as_slice() {
            [] => "the cluster has no snatPools".to_owned(),
            _ => format!("there are {}{more}", known.join(", ")),
        };
        return Err((SnatError::PoolNotFound, format!("no pool is called '{name}'; {known}")));
    };
    if found.next().is_some() {
        return Err((SnatError::PoolNotUnique, format!("several pools are called '{name}'")));
    }
    if !pool.namespaces.is_empty() && !pool.namespaces.contains(&service.meta.namespace) {
        let why = format!("pool '{name}' is for {}", pool.namespaces.join(", "));
        return Err((SnatError::AccessDenied, why));
    }
    Ok(at)
}

/// The pods with an address that a Service selects, ready or not: readiness is about what comes in.
fn selected(
    service: &Service,
    pods: &BTreeMap<ObjectName, (&Pod, Workload)>,
) -> Vec<(ObjectName, Addr)> {
    let Some(selector) = service.pod_selector() else { return Vec::new() };
    let first = ObjectName::new(&*service.meta.namespace, "");
    pods.range(first..)
        .take_while(|(key, _)| key.namespace == service.meta.namespace)
        .filter(|(_, (pod, _))| selector.matches(&pod.meta.labels))
        .map(|(key, (_, workload))| (key.clone(), workload.v4()))
        .collect()
}

/// Says whose pods are whose: of Services that have a pool and a pod in common all but one get none. A pod is in one list
/// of Services with a pool at most, and in one of those without.
fn select(all: &mut [Candidate<'_>], pods: &BTreeMap<ObjectName, (&Pod, Workload)>) {
    let mut order: Vec<usize> = (0..all.len()).collect();
    // Stable: by name among those that hold an address, and among the others.
    order.sort_by_key(|at| all.get(*at).is_none_or(|c| c.held.is_none()));
    let mut behind: BTreeMap<ObjectName, ObjectName> = BTreeMap::new();
    let mut without: BTreeSet<ObjectName> = BTreeSet::new();
    for at in order {
        let Some(candidate) = all.get_mut(at) else { continue };
        let mut own = selected(candidate.service, pods);
        let taken = own.iter().find_map(|(pod, _)| Some((pod, behind.get(pod)?)));
        if let (Ok(_), Some((pod, other))) = (&candidate.pool, taken) {
            let why = format!("pod {} is behind the pool of Service {other}", pod.name);
            candidate.pool = Err((SnatError::RuleOverlapped, why));
        }
        if candidate.pool.is_ok() {
            behind.extend(own.iter().map(|(pod, _)| (pod.clone(), candidate.key.clone())));
        } else {
            own.retain(|(pod, _)| without.insert(pod.clone()));
        }
        candidate.pods = own;
    }
}

fn bands(pool: &SnatPool, edges: bool) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> + '_ {
    pool.addresses.iter().map(move |range| match range {
        AddressRange::Network(net) => v4_band(*net, edges),
        AddressRange::Range(first, last) => v4_number(*first)..=v4_number(*last),
    })
}

/// The addresses of Services that share a pool, in their order.
fn assign_pool(
    pool: &SnatPool,
    edges: bool,
    own: &[&Candidate<'_>],
    messages: &mut Messages,
) -> Vec<Result<Addr, SnatError>> {
    let numbers = Pool {
        what: "address",
        name: format!("SNAT pool '{}'", pool.name),
        bands: bands(pool, edges).collect(),
        reserved: BTreeMap::new(),
        open: false,
        show: show_v4,
    };
    let requests: Vec<Request> = own
        .iter()
        .map(|c| Request {
            owner: c.key.to_string(),
            pin: c.service.snat_ip.map(v4_number),
            subject: Subject::new("Service", &c.service.meta),
        })
        .collect();
    let held: BTreeMap<String, u64> =
        own.iter().filter_map(|c| Some((c.key.to_string(), v4_number(c.held?)))).collect();
    let mut assigned = try_assign(&numbers, &requests, |key| held.get(key).copied());
    assigned.failed.retain(|(_, failure)| *failure != Failure::Exhausted);
    tell(&numbers, &requests, &assigned.failed, |_| None, messages);
    let address = |r: &Request| assigned.given.get(&r.owner).map(|n| Addr::v4(to_v4(*n)));
    requests.iter().map(|r| address(r).ok_or(SnatError::PoolExhausted)).collect()
}

/// The Services' NAT rules.
pub(crate) fn rules<'a>(cluster: &'a Cluster<'_>) -> impl Iterator<Item = NatRule> + 'a {
    cluster.service_snat.iter().filter(|(_, snat)| !snat.pods.is_empty()).map(|(key, snat)| {
        let (priority, action) = match snat.address {
            Ok(address) => (SNAT_SERVICE, NatAction::Snat(SourceRange::host(address))),
            Err(_) => (WITHOUT_ADDRESS, NatAction::NoAddress),
        };
        let source = snat.pods.iter().map(|(_, address)| Prefix::host(*address)).collect();
        let name = format!("{SERVICE_RULE}{key}");
        NatRule { source: Some(source), ..NatRule::new(0, name, priority, action) }
    })
}

/// The namespace of the Service whose rule this is.
pub(crate) fn namespace_of(rule: &NatRule) -> Option<&str> {
    let (namespace, _) = rule.name.strip_prefix(SERVICE_RULE)?.split_once('/')?;
    Some(namespace)
}

/// The addresses that Services' pods leave with.
pub(crate) fn addresses<'a>(
    cluster: &'a Cluster<'_>,
) -> impl Iterator<Item = (&'a ObjectName, Addr)> {
    cluster.service_snat.iter().filter_map(|(key, snat)| Some((key, snat.address.ok()?)))
}

/// What pods behind a pool leave with; `None` for those whose flows are dropped.
pub(crate) fn of_pods<'a>(cluster: &'a Cluster<'_>) -> BTreeMap<&'a ObjectName, Option<Addr>> {
    let mut pods: BTreeMap<&ObjectName, Option<Addr>> = BTreeMap::new();
    for snat in cluster.service_snat.values() {
        for (pod, _) in &snat.pods {
            let entry = pods.entry(pod).or_default();
            *entry = entry.or(snat.address.ok());
        }
    }
    pods
}

/// What NCP would write to the Services: an error under its own name; it has none for what went well, which has here the
/// name that namespaces use.
pub(crate) fn statuses<'a>(cluster: &'a Cluster<'_>) -> impl Iterator<Item = Status> + 'a {
    cluster.service_snat.iter().map(|(key, snat)| Status {
        object: format!("Service {key}"),
        key: if snat.address.is_ok() { egress::STATUS_KEY } else { ERROR_KEY }.to_owned(),
        value: snat.status().to_owned(),
    })
}
