//! NetworkPolicy and isolation, evaluated straight from the definitions: no rules, no address sets.

use std::net::Ipv4Addr;

use definitions::model::{
    Labels, NetworkPolicy, Operator, PolicyPeer, PolicyPort, PolicyRule, PortMatch, Protocol,
    Selector,
};
use definitions::own::Isolation;
use ipnet::IpNet;

use crate::network::{Network, Workload};
use crate::packet::{Flow, protocol};

/// Whether labels meet a selector (apimachinery's LabelSelector).
pub(crate) fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|requirement| {
        let value = labels.get(&requirement.key);
        match (&requirement.operator, value) {
            (Operator::In(set), Some(value)) => set.contains(value),
            (Operator::NotIn(set), Some(value)) => !set.contains(value),
            (Operator::Exists, Some(_))
            | (Operator::DoesNotExist, None)
            | (Operator::NotIn(_), None) => true,
            (Operator::In(_) | Operator::Exists, None) | (Operator::DoesNotExist, Some(_)) => false,
        }
    })
}

/// Whether the workload's firewall lets a flow into it (or out of it).
pub(crate) fn allows(network: &Network, workload: &Workload, flow: Flow, into: bool) -> bool {
    // Control-plane VMs have no rules.
    let Some(namespace) = &workload.namespace else { return true };
    let mut isolated = false;
    for policy in network.definitions.network_policies.values() {
        let selected =
            policy.meta.namespace == *namespace && selects(&policy.pod_selector, &workload.labels);
        let rules = if into { &policy.ingress } else { &policy.egress };
        let Some(rules) = rules.as_ref().filter(|_| selected) else { continue };
        isolated = true;
        if rules.iter().any(|rule| admits(network, policy, rule, flow, into)) {
            return true;
        }
    }
    if isolated {
        return false;
    }
    let isolates = match network.isolation {
        Isolation::None => false,
        Isolation::Ingress => into,
        Isolation::Full => true,
    };
    let other = if into { flow.src } else { flow.dst };
    !isolates
        || network.vms().any(|vm| vm.address == other)
        || network
            .blocks
            .iter()
            .any(|block| block.namespace == workload.namespace && block.net.contains(&other))
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
        || rule.peers.iter().any(|peer| is_peer(network, policy, peer, other));
    let port = rule.ports.is_empty() || rule.ports.iter().any(|port| is_port(network, port, flow));
    peer && port
}

fn is_peer(
    network: &Network,
    policy: &NetworkPolicy,
    peer: &PolicyPeer,
    address: Ipv4Addr,
) -> bool {
    match peer {
        PolicyPeer::IpBlock { cidr, except } => {
            let within = |net: &IpNet| net.contains(&std::net::IpAddr::V4(address));
            within(cidr) && !except.iter().any(within)
        }
        PolicyPeer::Pods { namespaces, pods } => {
            let Some(pod) = network.workload_with(address) else { return false };
            let Some(namespace) = &pod.namespace else { return false };
            let right_namespace = match namespaces {
                None => policy.meta.namespace == *namespace,
                Some(selector) => network
                    .definitions
                    .namespaces
                    .get(namespace)
                    .is_some_and(|n| selects(selector, &n.meta.labels)),
            };
            right_namespace && pods.as_ref().is_none_or(|s| selects(s, &pod.labels))
        }
    }
}

fn is_port(network: &Network, port: &PolicyPort, flow: Flow) -> bool {
    let number = match port.protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => 132,
    };
    if number != flow.protocol {
        return false;
    }
    match &port.port {
        PortMatch::Any => true,
        PortMatch::Number(wanted) => *wanted == flow.dst_port,
        PortMatch::Range(first, last) => (*first..=*last).contains(&flow.dst_port),
        // A name is a matter of the destination.
        PortMatch::Name(name) => network.workload_with(flow.dst).is_some_and(|pod| {
            pod.ports.iter().any(|p| {
                p.name.as_deref() == Some(name)
                    && p.protocol == port.protocol
                    && p.port == flow.dst_port
            })
        }),
    }
}
