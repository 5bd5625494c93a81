//! SecurityPolicy: ordered rules, the first match decides.

use definitions::model::{SecurityAction, SecurityDirection, SecurityPolicy, SecurityRule};

use super::Judgement;
use super::peers::{is_peer, is_port, selects};
use crate::network::{Network, Workload};
use crate::packet::Flow;

/// What the first matching rule says, and whose it is; `None`: none matches.
pub(super) fn judge(
    network: &Network,
    workload: &Workload,
    namespace: &str,
    flow: Flow,
    into: bool,
) -> Option<(Judgement, String)> {
    let mut policies: Vec<&SecurityPolicy> =
        network.definitions.security_policies.values().collect();
    policies.sort_by_key(|p| (p.category, p.priority, &p.meta.namespace, &p.meta.name));
    for policy in policies {
        // It is applied to pods of its own namespace.
        if policy.meta.namespace != namespace {
            continue;
        }
        for rule in &policy.rules {
            let applies = rule.applied_to.iter().any(|s| selects(s, &workload.labels));
            let way = (rule.direction == SecurityDirection::In) == into;
            if applies && way && matches(network, policy, rule, flow, into) {
                let judgement = match rule.action {
                    SecurityAction::Allow => Judgement::Passes { loose: true },
                    SecurityAction::Drop => Judgement::Drops,
                    SecurityAction::Reject => Judgement::Rejects,
                };
                return Some((judgement, format!("SecurityPolicy {}", policy.meta.key())));
            }
        }
    }
    None
}

fn matches(
    network: &Network,
    policy: &SecurityPolicy,
    rule: &SecurityRule,
    flow: Flow,
    into: bool,
) -> bool {
    let other = if into { flow.src } else { flow.dst };
    let namespace = &policy.meta.namespace;
    let peer = rule
        .peers
        .as_ref()
        .is_none_or(|peers| peers.iter().any(|peer| is_peer(network, namespace, peer, other)));
    let port = rule.ports.is_empty() || rule.ports.iter().any(|port| is_port(network, port, flow));
    peer && port
}
