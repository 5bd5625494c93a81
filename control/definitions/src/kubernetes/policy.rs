//! NetworkPolicy: the API server's validation and defaulting (`pkg/apis/networking`).

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy as KubernetesPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::{Scope, digest_meta};
use super::selector::selector;
use super::service::named_port;
use super::{port, protocol};
use crate::diagnostic::Subject;
use crate::model::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule, PortMatch};
use crate::node::{Fault, Node, excerpt};
use crate::text::{Cidr, named};

/// Checks and digests a NetworkPolicy.
pub(crate) fn network_policy(
    subject: &mut Subject<'_>,
    document: &Node,
    object: KubernetesPolicy,
) -> Option<NetworkPolicy> {
    let before = subject.report.errors();
    let meta = digest_meta(subject, document, object.metadata, Scope::NamespacedSubdomain, &[])?;
    let at = document.at("spec");
    let Some(spec) = object.spec else {
        subject.fault(
            Fault::at(document, "spec is missing")
                .help("a policy over every pod is written as spec: {podSelector: {}}"),
        );
        return None;
    };
    let pod_selector =
        selector(subject, at.at("podSelector"), spec.pod_selector.unwrap_or_default());
    let ingress = spec.ingress.unwrap_or_default();
    let egress = spec.egress.unwrap_or_default();

    let types = spec.policy_types.unwrap_or_default();
    for (index, name) in types.iter().enumerate() {
        if !matches!(name.as_str(), "Ingress" | "Egress") {
            subject.error(
                at.at("policyTypes").item(index),
                format!("unknown policy type '{}'; it is Ingress or Egress", excerpt(name)),
            );
        }
    }
    // Without policyTypes a policy is about ingress, and about egress only if it has egress rules.
    let (is_ingress, is_egress) = if types.is_empty() {
        (true, !egress.is_empty())
    } else {
        let has = |name: &str| types.iter().any(|t| t == name);
        (has("Ingress"), has("Egress"))
    };
    for (stated, field, rules) in
        [(is_ingress, "ingress", ingress.len()), (is_egress, "egress", egress.len())]
    {
        if !stated && rules > 0 {
            subject.notice(
                at.at(field),
                format!(
                    "the {field} rules have no effect: policyTypes does not name that direction"
                ),
            );
        }
    }

    let ingress: Vec<PolicyRule> = ingress
        .into_iter()
        .enumerate()
        .map(|(index, rule)| {
            let at = at.at("ingress").item(index);
            PolicyRule {
                peers: peers(subject, at.at("from"), rule.from.unwrap_or_default()),
                ports: ports(subject, at.at("ports"), rule.ports.unwrap_or_default()),
            }
        })
        .collect();
    let egress: Vec<PolicyRule> = egress
        .into_iter()
        .enumerate()
        .map(|(index, rule)| {
            let at = at.at("egress").item(index);
            PolicyRule {
                peers: peers(subject, at.at("to"), rule.to.unwrap_or_default()),
                ports: ports(subject, at.at("ports"), rule.ports.unwrap_or_default()),
            }
        })
        .collect();
    (subject.report.errors() == before).then_some(NetworkPolicy {
        meta,
        pod_selector,
        ingress: is_ingress.then_some(ingress),
        egress: is_egress.then_some(egress),
    })
}

fn peers(subject: &mut Subject<'_>, at: &Node, peers: Vec<NetworkPolicyPeer>) -> Vec<PolicyPeer> {
    let mut digested = Vec::new();
    for (index, peer) in peers.into_iter().enumerate() {
        let at = at.item(index);
        match peer {
            NetworkPolicyPeer {
                ip_block: Some(block),
                namespace_selector: None,
                pod_selector: None,
            } => digested.extend(ip_block(subject, at.at("ipBlock"), block)),
            NetworkPolicyPeer {
                ip_block: Some(_), ..
            } => subject.fault(
                Fault::at(at, "a peer with ipBlock has no selectors").help("write two peers"),
            ),
            NetworkPolicyPeer {
                namespace_selector: None,
                pod_selector: None,
                ..
            } => subject.fault(Fault::at(at, "an empty peer").help(
                "state podSelector, namespaceSelector or ipBlock; for everybody leave out the list",
            )),
            NetworkPolicyPeer {
                namespace_selector,
                pod_selector,
                ..
            } => digested.push(PolicyPeer::Pods {
                namespaces: namespace_selector
                    .map(|s| selector(subject, at.at("namespaceSelector"), s)),
                pods: pod_selector.map(|s| selector(subject, at.at("podSelector"), s)),
            }),
        }
    }
    digested
}

fn ip_block(subject: &mut Subject<'_>, at: &Node, block: IPBlock) -> Option<PolicyPeer> {
    let cidr = subject.check(at.at("cidr"), named("cidr", block.cidr.parse::<Cidr>()))?;
    let mut except = Vec::new();
    for (index, text) in block.except.unwrap_or_default().into_iter().enumerate() {
        let place = at.at("except").item(index);
        let hole = subject.check(place, named("except", text.parse::<Cidr>()))?;
        // contains() is false between families; an exception as large as the block would leave nothing.
        if !cidr.contains(&*hole) || *hole == *cidr {
            subject.error(place, format!("{hole} does not lie inside {cidr}"));
            return None;
        }
        except.push(*hole);
    }
    Some(PolicyPeer::IpBlock { cidr: *cidr, except })
}

/// The ports of a rule; nsx-operator's SecurityPolicy writes them alike.
pub(super) fn ports(
    subject: &mut Subject<'_>,
    at: &Node,
    ports: Vec<NetworkPolicyPort>,
) -> Vec<PolicyPort> {
    let mut digested = Vec::new();
    for (index, entry) in ports.into_iter().enumerate() {
        let at = at.item(index);
        let Some(protocol) = protocol(subject, at.at("protocol"), entry.protocol.as_deref()) else {
            continue;
        };
        let matched = match (entry.port, entry.end_port) {
            (None, None) => Some(PortMatch::Any),
            (None, Some(_)) => {
                subject.error(at.at("endPort"), "endPort without port");
                None
            }
            (Some(IntOrString::String(name)), None) => {
                named_port(subject, at.at("port"), name).map(PortMatch::Name)
            }
            (Some(IntOrString::String(_)), Some(_)) => {
                subject.error(at.at("endPort"), "endPort with a named port; port must be a number");
                None
            }
            (Some(IntOrString::Int(first)), None) => {
                port(subject, at.at("port"), first).map(PortMatch::Number)
            }
            (Some(IntOrString::Int(first)), Some(last)) => {
                let first = port(subject, at.at("port"), first);
                let last = port(subject, at.at("endPort"), last);
                match (first, last) {
                    (Some(first), Some(last)) if last < first => {
                        subject.error(
                            at.at("endPort"),
                            format!("endPort {last} is below port {first}"),
                        );
                        None
                    }
                    (Some(first), Some(last)) => Some(PortMatch::Range(first, last)),
                    _ => None,
                }
            }
        };
        digested.extend(matched.map(|port| PolicyPort { protocol, port }));
    }
    digested
}
