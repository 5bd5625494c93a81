//! What labels, blocks and ports of any policy match.

use std::net::IpAddr;

use definitions::model::{Labels, Operator, PolicyPeer, PolicyPort, PortMatch, Selector};
use ipnet::IpNet;

use crate::network::{Network, protocol_number};
use crate::packet::Flow;

/// Whether labels meet a selector (apimachinery's LabelSelector).
pub(super) fn selects(selector: &Selector, labels: &Labels) -> bool {
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

/// Whether an address is one of a policy's peers.
pub(super) fn is_peer(
    network: &Network,
    policy_namespace: &str,
    peer: &PolicyPeer,
    address: IpAddr,
) -> bool {
    match peer {
        PolicyPeer::IpBlock { cidr, except } => {
            let within = |net: &IpNet| net.contains(&address);
            within(cidr) && !except.iter().any(within)
        }
        PolicyPeer::Pods { namespaces, pods } => {
            let Some(pod) = network.workload_with(address) else { return false };
            let Some(namespace) = &pod.namespace else { return false };
            let right_namespace = match namespaces {
                None => policy_namespace == namespace,
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

/// Whether a flow goes to such a port.
pub(super) fn is_port(network: &Network, port: &PolicyPort, flow: Flow) -> bool {
    if protocol_number(port.protocol) != flow.protocol {
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
