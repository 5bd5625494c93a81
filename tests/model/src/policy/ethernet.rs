//! The category Ethernet: stateless rules about frames, first of all at a vNIC (features.md 3.G).

use definitions::own::{EthernetAction, EthernetRule, EthernetTarget, RuleDirection};

use crate::network::{Network, Workload};
use crate::packet::{Mac, Packet};

/// EtherTypes of IPv4 and IPv6 (IEEE 802 numbers).
const ETHER_TYPES: (u16, u16) = (0x0800, 0x86dd);

/// Whether a frame passes the vNIC into the workload, or out of it.
pub(crate) fn passes(
    network: &Network,
    workload: &Workload,
    (src, dst): (Mac, Mac),
    packet: &Packet,
    into: bool,
) -> bool {
    let Some(namespace) = workload.namespace.as_ref().filter(|_| !workload.excluded) else {
        return true;
    };
    let Some(cluster) = network.definitions.supervisor() else { return true };
    let mut rules: Vec<&EthernetRule> =
        cluster.spec.distributed_firewall.ethernet_rules.iter().collect();
    rules.sort_by_key(|rule| (rule.priority, &rule.name));
    let carries = if packet.src.is_ipv4() { ETHER_TYPES.0 } else { ETHER_TYPES.1 };
    let applies = |target: &EthernetTarget| {
        let labels = |selector: &definitions::own::LabelSelector,
                      labels: &definitions::model::Labels| {
            selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let of = network.definitions.namespaces.get(namespace);
        target
            .namespace_selector
            .as_ref()
            .is_none_or(|s| of.is_some_and(|of| labels(s, &of.meta.labels)))
            && target.pod_selector.as_ref().is_none_or(|s| labels(s, &workload.labels))
    };
    let first = rules.into_iter().find(|rule| {
        let way = match rule.direction {
            RuleDirection::In => into,
            RuleDirection::Out => !into,
            RuleDirection::InOut => true,
        };
        let holds = |set: &[definitions::text::MacOrGroup], excluded: bool, mac: Mac| {
            set.is_empty() || set.iter().any(|wanted| (**wanted).0 == mac) != excluded
        };
        way && (rule.applied_to.is_empty() || rule.applied_to.iter().any(applies))
            && holds(&rule.sources, rule.sources_excluded, src)
            && holds(&rule.destinations, rule.destinations_excluded, dst)
            && (rule.protocols.is_empty()
                || rule.protocols.iter().any(|p| p.ether_type() == carries))
    });
    first.is_none_or(|rule| rule.action == EthernetAction::Allow)
}
