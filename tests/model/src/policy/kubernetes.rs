//! NetworkPolicy and isolation, evaluated straight from the definitions: no rules, no address sets.

use definitions::model::{NetworkPolicy, PolicyRule};
use definitions::own::Isolation;

use super::peers::{is_peer, is_port, selects};
use crate::network::{Network, Workload};
use crate::packet::Flow;

/// Whether the workload's firewall lets a flow into it (or out of it), and by which object's rule, if there is one.
pub(super) fn allows(
    network: &Network,
    workload: &Workload,
    namespace: &str,
    flow: Flow,
    into: bool,
) -> (bool, Option<String>) {
    let mut isolated = None;
    for policy in network.definitions.network_policies.values() {
        let selected =
            policy.meta.namespace == namespace && selects(&policy.pod_selector, &workload.labels);
        let rules = if into { &policy.ingress } else { &policy.egress };
        let Some(rules) = rules.as_ref().filter(|_| selected) else { continue };
        let by = format!("NetworkPolicy {}", policy.meta.key());
        if rules.iter().any(|rule| admits(network, policy, rule, flow, into)) {
            return (true, Some(by));
        }
        // Of those that isolate, the first one drops.
        isolated = isolated.or(Some(by));
    }
    if isolated.is_some() {
        return (false, isolated);
    }
    let isolates = match network.isolation {
        Isolation::None => false,
        Isolation::Ingress => into,
        Isolation::Full => true,
    };
    let other = if into { flow.src } else { flow.dst };
    if !isolates {
        return (true, None);
    }
    let inside = network.vms().any(|vm| vm.addresses.contains(&other))
        || network
            .blocks
            .iter()
            .any(|block| block.namespace == workload.namespace && block.holds(other));
    (inside, Some(format!("Namespace {namespace}")))
}

fn admits(
    network: &Network,
    policy: &NetworkPolicy,
    rule: &PolicyRule,
    flow: Flow,
    into: bool,
) -> bool {
    let other = if into { flow.src } else { flow.dst };
    let peer = rule.peers.is_empty()
        || rule.peers.iter().any(|peer| is_peer(network, &policy.meta.namespace, peer, other));
    let port = rule.ports.is_empty() || rule.ports.iter().any(|port| is_port(network, port, flow));
    peer && port
}
