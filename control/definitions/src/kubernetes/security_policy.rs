//! SecurityPolicy: the validation of nsx-operator's CRD and of its builder (`pkg/nsx/services/securitypolicy`).
//!
//! What nsx-operator refuses when it realizes a policy (no `appliedTo` anywhere, `podSelector` beside `vmSelector`)
//! is refused here. So is what it ignores but what makes a rule wider than it reads: `destinations` of an ingress
//! rule, `sources` of an egress rule. The sizes that NSX groups are limited to are not checked.
//!
//! VMs of the VM Service are not emulated and control-plane VMs have no labels, so that a `vmSelector` selects
//! nothing; a notice says so.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::meta::{Scope, digest_meta};
use super::policy::ports;
use super::selector::selector;
use crate::diagnostic::Subject;
use crate::model::{
    Meta, PolicyCategory, PolicyPeer, SecurityAction, SecurityDirection, SecurityPolicy,
    SecurityRule, Selector, annotation,
};
use crate::node::{Fault, Node, excerpt, suggestion};

/// The kind.
pub(crate) const SECURITY_POLICY: &str = "SecurityPolicy";

/// The highest `spec.priority`.
const MAX_PRIORITY: u16 = 1000;
/// The longest name of a rule, characters: NSX's limit of a display name.
const MAX_NAME: usize = 255;

/// The manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    spec: Option<Spec>,
    /// What a cluster says of it in a dump.
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    priority: Option<i64>,
    applied_to: Option<Vec<Target>>,
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    action: Option<String>,
    applied_to: Option<Vec<Target>>,
    direction: Option<String>,
    sources: Option<Vec<Peer>>,
    destinations: Option<Vec<Peer>>,
    ports: Option<Vec<NetworkPolicyPort>>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    vm_selector: Option<LabelSelector>,
    pod_selector: Option<LabelSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Peer {
    vm_selector: Option<LabelSelector>,
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_blocks: Option<Vec<Block>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Block {
    cidr: String,
}

/// Checks and digests a SecurityPolicy.
pub(crate) fn security_policy(
    subject: &mut Subject<'_>,
    document: &Node,
    object: Manifest,
) -> Option<SecurityPolicy> {
    let before = subject.report.errors();
    let meta = digest_meta(
        subject,
        document,
        object.metadata,
        Scope::NamespacedSubdomain,
        &annotation::SECURITY_POLICY,
    )?;
    let category = category(subject, document, &meta);
    let Some(spec) = object.spec else {
        subject.error(document, "spec is missing");
        return None;
    };
    let at = document.at("spec");
    let stated = spec.priority.unwrap_or(0);
    let priority = u16::try_from(stated).ok().filter(|priority| *priority <= MAX_PRIORITY);
    if priority.is_none() {
        let message = format!("priority {stated} is not in 0..{MAX_PRIORITY}");
        subject.error(at.at("priority"), message);
    }
    let policy_level = targets(subject, at.at("appliedTo"), spec.applied_to);
    let rules = spec.rules.unwrap_or_default().into_iter().enumerate();
    let rules: Vec<SecurityRule> = rules
        .filter_map(|(index, rule)| {
            self::rule(subject, at.at("rules").item(index), rule, policy_level.as_deref())
        })
        .collect();
    (subject.report.errors() == before).then_some(SecurityPolicy {
        meta,
        category,
        priority: priority?,
        rules,
    })
}

/// The category, by annotation or label; both may be there if they agree.
fn category(subject: &mut Subject<'_>, document: &Node, meta: &Meta) -> PolicyCategory {
    let mut chosen = None;
    for (field, map) in [("annotations", &meta.annotations), ("labels", &meta.labels)] {
        let Some(text) = map.get(annotation::CATEGORY) else { continue };
        let place = document.at("metadata").at(field).at(annotation::CATEGORY);
        let Ok(category) = text.parse::<PolicyCategory>() else {
            let names = PolicyCategory::ALL.map(|c| c.to_string());
            let help = suggestion(text, names.iter().map(String::as_str));
            let message = format!("unknown category '{}'", excerpt(text));
            subject.fault(Fault { help, ..Fault::at(place, message) });
            continue;
        };
        if chosen.is_some_and(|other| other != category) {
            let key = annotation::CATEGORY;
            subject.error(place, format!("annotation and label {key} differ"));
        }
        chosen = Some(category);
    }
    chosen.unwrap_or_default()
}

fn rule(
    subject: &mut Subject<'_>,
    at: &Node,
    rule: Rule,
    policy_level: Option<&[Selector]>,
) -> Option<SecurityRule> {
    let before = subject.report.errors();
    let action = word(subject, at, "action", rule.action, &ACTIONS);
    let direction = word(subject, at, "direction", rule.direction, &DIRECTIONS);
    let own = targets(subject, at.at("appliedTo"), rule.applied_to);
    let applied_to = match (policy_level, own) {
        (Some(policy), own) => {
            if own.is_some() {
                let message = "this appliedTo has no effect: that of the policy outranks it";
                subject.notice(at.at("appliedTo"), message);
            }
            policy.to_vec()
        }
        (None, Some(own)) => own,
        (None, None) => {
            let fault = Fault::at(at, "appliedTo is missing");
            subject.fault(fault.help(
                "state it for the policy or for each of its rules; every pod of the namespace is [{podSelector: {}}]",
            ));
            Vec::new()
        }
    };
    let name = rule.name.filter(|name| !name.is_empty());
    if let Some(name) = &name
        && (name.chars().count() > MAX_NAME || name.chars().any(char::is_control))
    {
        let message = format!("name '{}' is not 1 to 255 printable characters", excerpt(name));
        subject.error(at.at("name"), message);
    }
    let sources = rule.sources.filter(|list| !list.is_empty());
    let destinations = rule.destinations.filter(|list| !list.is_empty());
    let (field, stated, other, unusable) = match direction {
        Some(SecurityDirection::Out) => ("destinations", destinations, "sources", sources),
        _ => ("sources", sources, "destinations", destinations),
    };
    if let (Some(direction), Some(_)) = (direction, unusable) {
        let way = if direction == SecurityDirection::In { "ingress" } else { "egress" };
        subject.fault(
            Fault::at(at.at(other), format!("{other} of an {way} rule, which NSX would ignore"))
                .help(format!("the workloads of an {way} rule are chosen by appliedTo")),
        );
    }
    let peers = stated.map(|peers| self::peers(subject, at.at(field), peers));
    let ports = ports(subject, at.at("ports"), rule.ports.unwrap_or_default());
    let (action, direction) = (action?, direction?);
    (subject.report.errors() == before).then_some(SecurityRule {
        name,
        action,
        direction,
        applied_to,
        peers,
        ports,
    })
}

const ACTIONS: [(&str, SecurityAction); 3] = [
    ("Allow", SecurityAction::Allow),
    ("Drop", SecurityAction::Drop),
    ("Reject", SecurityAction::Reject),
];

const DIRECTIONS: [(&str, SecurityDirection); 4] = [
    ("In", SecurityDirection::In),
    ("Ingress", SecurityDirection::In),
    ("Out", SecurityDirection::Out),
    ("Egress", SecurityDirection::Out),
];

/// The meaning of a word, whose case does not matter.
fn word<T: Copy>(
    subject: &mut Subject<'_>,
    rule: &Node,
    field: &str,
    stated: Option<String>,
    known: &[(&str, T)],
) -> Option<T> {
    let Some(stated) = stated else {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let fault = Fault::at(rule, format!("field '{field}' is missing"));
        subject.fault(fault.help(format!("it is one of {}", names.join(", "))));
        return None;
    };
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(&stated));
    if found.is_none() {
        let message = format!("unknown {field} '{}'", excerpt(&stated));
        let help = suggestion(&stated, known.iter().map(|(name, _)| *name));
        subject.fault(Fault { help, ..Fault::at(rule.at(field), message) });
    }
    found.map(|(_, meaning)| *meaning)
}

/// The pod selectors of an `appliedTo`; `None` where it is absent or empty.
fn targets(
    subject: &mut Subject<'_>,
    at: &Node,
    targets: Option<Vec<Target>>,
) -> Option<Vec<Selector>> {
    let targets = targets.filter(|list| !list.is_empty())?;
    let mut selectors = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        let at = at.item(index);
        match (target.pod_selector, target.vm_selector) {
            (Some(_), Some(_)) => both_selectors(subject, at),
            (Some(pods), None) => selectors.push(selector(subject, at.at("podSelector"), pods)),
            (None, Some(vms)) => virtual_machines(subject, at, vms),
            (None, None) => subject
                .fault(Fault::at(at, "an empty target").help("state podSelector; every pod is {}")),
        }
    }
    Some(selectors)
}

/// What the entries of `sources` or `destinations` name: of each its workloads and its blocks.
fn peers(subject: &mut Subject<'_>, at: &Node, peers: Vec<Peer>) -> Vec<PolicyPeer> {
    let mut digested = Vec::new();
    for (index, peer) in peers.into_iter().enumerate() {
        let at = at.item(index);
        let blocks = peer.ip_blocks.unwrap_or_default();
        match (peer.namespace_selector, peer.pod_selector, peer.vm_selector) {
            (_, Some(_), Some(_)) => both_selectors(subject, at),
            (namespaces, None, Some(vms)) => {
                if let Some(namespaces) = namespaces {
                    selector(subject, at.at("namespaceSelector"), namespaces);
                }
                virtual_machines(subject, at, vms);
            }
            (None, None, None) if blocks.is_empty() => {
                let help = "state podSelector, namespaceSelector or ipBlocks; for everybody leave out the list";
                subject.fault(Fault::at(at, "an empty peer").help(help));
            }
            (None, None, None) => {}
            (namespaces, pods, None) => digested.push(PolicyPeer::Pods {
                namespaces: namespaces.map(|s| selector(subject, at.at("namespaceSelector"), s)),
                pods: pods.map(|s| selector(subject, at.at("podSelector"), s)),
            }),
        }
        for (index, block) in blocks.into_iter().enumerate() {
            let place = at.at("ipBlocks").item(index).at("cidr");
            // Host bits are allowed, as the API's own example has them.
            match block.cidr.parse::<IpNet>() {
                Ok(net) => {
                    digested.push(PolicyPeer::IpBlock { cidr: net.trunc(), except: Vec::new() });
                }
                Err(_) => subject.fault(
                    Fault::at(place, format!("'{}' is not a network", excerpt(&block.cidr)))
                        .help("write an address and a prefix length, for instance 192.0.2.1/32"),
                ),
            }
        }
    }
    digested
}

fn both_selectors(subject: &mut Subject<'_>, at: &Node) {
    let fault = Fault::at(at, "podSelector and vmSelector in one entry select nothing");
    subject.fault(fault.help("write two entries"));
}

/// Checks a selector over VMs, which selects none.
fn virtual_machines(subject: &mut Subject<'_>, at: &Node, vms: LabelSelector) {
    selector(subject, at.at("vmSelector"), vms);
    subject.notice(
        at.at("vmSelector"),
        "vmSelector selects nothing: control-plane VMs have no labels, and VMs of the VM Service are not emulated",
    );
}
