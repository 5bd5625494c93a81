//! Definitions to logical objects to an engine [`Network`].
//!
//! [`realize`] is a pure function of the definitions and of what was allocated before: no clock, no file, no order
//! of documents goes into it. It either gives a whole lab or says everything that is wrong and changes nothing.
//!
//! The steps, a module each: `checks` (what the definitions together get wrong), `addressing` with `blocks` and
//! `allocate` (who has which address, MAC, host), `topology` with `routes` (ports, segments, gateways), `nat` with
//! `external` (whose addresses the rules use), `gateway_firewall`, `balancer`, `policy` with `security_policy`, `rules`, `pod_sets` and `unmatched` (the firewall), `endpoints` (emulated
//! hosts), `tables` and [`names`] (what people see and write).

mod addressing;
mod allocate;
mod allocations;
mod balancer;
mod blocks;
mod checks;
mod egress;
mod endpoints;
mod external;
mod fault;
mod gateway_firewall;
mod grid;
pub mod logical;
mod macs;
pub mod names;
mod nat;
mod pod_sets;
mod policy;
mod routes;
mod rules;
mod seats;
mod security;
mod security_policy;
mod snat_pool;
mod tables;
mod topology;
mod unmatched;

#[cfg(test)]
mod tests;

pub use allocations::{Allocations, AllocationsError};
pub use hosts::HostSpec;
pub use logical::Logical;
pub use names::Names;

use std::sync::Arc;

use definitions::own::SupervisorClusterSpec;
use definitions::{Definitions, Diagnostic};
use engine::network::{Firewall, Network, VirtualServers};

use addressing::Addressing;
use balancer::{Backends, Balancers};
use fault::{Messages, Subject};
use policy::Compiled;
use topology::Topology;

/// A condition that NCP would write to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Status {
    /// `Namespace banking`, `Service banking/teller`.
    pub object: String,
    /// `ncp/snat_ip_status`, or where it is an error of a Service `ncp/error.snat`.
    pub key: String,
    /// `IP_ALLOCATED_SUCCESSFULLY`, `IP_ALREADY_ALLOCATED` or NCP's name for what went wrong.
    pub value: String,
}

impl Status {
    /// Whether the object has what it asks for.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.value.as_str(), "IP_ALLOCATED_SUCCESSFULLY" | "IP_ALREADY_ALLOCATED")
    }
}

/// A lab ready to run.
#[derive(Clone, Debug)]
pub struct Realized {
    /// What the engine runs. `epoch` and `seed` are 0: the lab sets them.
    pub network: Network,
    /// Everything that was given out, to be kept for the next realization.
    pub allocations: Allocations,
    /// The emulated hosts, sorted by name: `pod/NS/NAME`, `vm/NAME` or `host/NAME`.
    pub hosts: Vec<HostSpec>,
    /// Worth knowing.
    pub notices: Vec<Diagnostic>,
    /// Conditions of objects, sorted.
    pub statuses: Vec<Status>,
    /// Tables for people.
    pub logical: Logical,
    /// Names for people and packet tests.
    pub names: Names,
}

/// Realizes definitions. `kept` is what was allocated before; empty allocates afresh.
///
/// # Errors
/// Everything that is wrong, sorted by place: exhausted pools, pins that conflict, addresses that do not fit
/// their network, next hops that are nobody's neighbour. Nothing has changed then.
pub fn realize(definitions: &Definitions, kept: &Allocations) -> Result<Realized, Vec<Diagnostic>> {
    let mut messages = Messages::default();
    checks::check(definitions, &mut messages);
    // What follows may rely on the checks.
    messages.finish()?;
    let mut next = Allocations::default();
    let addressing = addressing::address(definitions, kept, &mut next, &mut messages);
    // The rest would only repeat, object by object, that an address is missing.
    messages.finish()?;
    let mut topology = topology::build(definitions, &addressing, kept, &mut next, &mut messages);
    let backends = addressing.cluster.as_ref().map(|c| Backends::new(definitions, c));
    let mut balancers = Balancers::default();
    let mut compiled = Compiled::default();
    if let (Some(cluster), Some(backends)) = (&addressing.cluster, &backends) {
        balancers = balancer::build(definitions, cluster, backends, &mut messages);
        compiled =
            policy::compile(definitions, cluster, &balancers, kept, &mut next, &mut messages);
        let nat = nat::table(cluster, kept, &mut next, &mut messages);
        let firewall = gateway_firewall::of_tier1(cluster, kept, &mut next, &mut messages);
        if let Some(router) = topology.routers.iter_mut().find(|r| r.name == cluster.tier1()) {
            router.nat = nat;
            router.gateway_firewall = firewall;
            router.balancer = balancers.server.clone();
        }
        apply_rules(&mut topology, &compiled);
        notice_unplaced(definitions, cluster, &mut messages);
    }
    for tier0 in definitions.tier0_gateways.values() {
        let nat = nat::tier0_table(tier0, kept, &mut next, &mut messages);
        let firewall = gateway_firewall::of_tier0(tier0, kept, &mut next, &mut messages);
        let name = topology::tier0_name(&tier0.meta.name);
        if let Some(router) = topology.routers.iter_mut().find(|r| r.name == name) {
            router.nat = nat;
            router.gateway_firewall = firewall;
        }
    }
    external::check(definitions, &addressing, &topology, &mut messages);
    let hosts =
        endpoints::build(definitions, &addressing, backends.as_ref(), &topology, &mut messages);
    messages.finish()?;
    let names = Names::build(definitions, &addressing, &topology);
    let spec = addressing.cluster.as_ref().map(|c| c.spec());
    let network = network(topology, &balancers.distributed, compiled, spec);
    let statuses = statuses(definitions, &addressing, kept);
    let tables = tables::Tables {
        statuses: &statuses,
        definitions,
        addressing: &addressing,
        network: &network,
        hosts: &hosts,
        balancers: &balancers,
    };
    let logical = tables.fill();
    Ok(Realized {
        logical,
        statuses,
        notices: messages.into_notices(),
        allocations: next,
        network,
        hosts,
        names,
    })
}

fn network(
    topology: Topology,
    distributed: &VirtualServers,
    compiled: Compiled,
    spec: Option<&SupervisorClusterSpec>,
) -> Network {
    Network {
        epoch: 0,
        seed: 0,
        ports: topology.ports,
        segments: topology.segments,
        routers: topology.routers,
        firewall: Firewall {
            ethernet: compiled.ethernet,
            rules: compiled.rules,
            on_change: spec.map(security::policy_change).unwrap_or_default(),
            flood: spec.map(security::flood_limits).unwrap_or_default(),
            ..Firewall::default()
        },
        distributed_balancer: distributed.clone(),
        timers: spec.map(security::timers).unwrap_or_default(),
        changes: None,
    }
}

/// Hangs the firewall's rules onto the vNICs, which share their lists as the pods do.
fn apply_rules(topology: &mut Topology, compiled: &Compiled) {
    for (pod, (into, out)) in &compiled.applied {
        if let Some(vnic) = topology.vnic(pod) {
            vnic.rules_in = Arc::clone(into);
            vnic.rules_out = Arc::clone(out);
        }
    }
    for (pod, (into, out)) in &compiled.applied_ethernet {
        if let Some(vnic) = topology.vnic(pod) {
            vnic.ethernet_in = Arc::clone(into);
            vnic.ethernet_out = Arc::clone(out);
        }
    }
}

/// Pods on the host's network have no address of their own; ESXi hosts have none in the lab.
fn notice_unplaced(
    definitions: &Definitions,
    cluster: &addressing::Cluster<'_>,
    messages: &mut Messages,
) {
    for pod in definitions.pods.values().filter(|p| p.host_network && !p.terminal) {
        if !cluster.vms.iter().any(|vm| balancer::is_vm(pod, vm)) {
            let message = "hostNetwork: it has no address of its own and is not emulated";
            let help =
                "place it on a control-plane VM (nodeName: cp-1) to have that VM stand for it";
            messages.notice(&Subject::new("Pod", &pod.meta), message, help);
        }
    }
}

fn statuses(
    definitions: &Definitions,
    addressing: &Addressing<'_>,
    kept: &Allocations,
) -> Vec<Status> {
    let Some(cluster) = &addressing.cluster else { return Vec::new() };
    let mut all: Vec<Status> = egress::statuses(definitions, cluster, kept).collect();
    all.extend(snat_pool::statuses(cluster));
    all.sort();
    all
}
