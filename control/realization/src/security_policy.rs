//! SecurityPolicy as firewall rules.
//!
//! A policy is one section, its rules in the order in which they are written. Sections stand by category
//! (Emergency, Infrastructure, Environment, Application), then by `spec.priority`, then by namespace and name; NSX
//! leaves the order of equal priorities open. All of them come before the sections of NetworkPolicy.
//!
//! These rules are not TCP strict, as NSX's own are not by default: a connection that is under way is picked up.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use definitions::model::{
    PolicyCategory, SecurityAction, SecurityDirection, SecurityPolicy, SecurityRule, Selector,
};
use engine::network::{Action, AddressSet, Category, Direction, Rule};

use crate::fault::{Messages, Subject};
use crate::pod_sets::PodSet;
use crate::rules::{Author, Compiler, Draft, Written, pods_text};

/// The pods by namespace and selectors. Most rules of a policy share theirs, which are thousands perhaps.
type Targets<'p> = BTreeMap<(&'p str, &'p [Selector]), PodSet>;

/// The rules of all policies, in the order of evaluation.
pub(crate) fn sections(compiler: &Compiler<'_>, messages: &mut Messages) -> Vec<Draft> {
    let mut policies: Vec<&SecurityPolicy> =
        compiler.definitions.security_policies.values().collect();
    // They are sorted by namespace and name.
    policies.sort_by_key(|policy| (policy.category, policy.priority));
    let mut targets = Targets::default();
    policies
        .into_iter()
        .flat_map(|policy| section(compiler, policy, &mut targets, messages))
        .collect()
}

fn section<'p>(
    compiler: &Compiler<'_>,
    policy: &'p SecurityPolicy,
    targets: &mut Targets<'p>,
    messages: &mut Messages,
) -> Vec<Draft> {
    let subject = Rc::new(Subject::new("SecurityPolicy", &policy.meta));
    let rules = policy.rules.iter().enumerate();
    // Most rules of a policy are applied to the same pods: that is told once.
    let mut told = BTreeSet::new();
    rules
        .flat_map(|(at, rule)| {
            let author = Author { subject: Rc::clone(&subject), rule: at };
            let name = |port: &str| name(policy, at, port);
            let namespace = policy.meta.namespace.as_str();
            let applied = targets.entry((namespace, &rule.applied_to)).or_insert_with(|| {
                compiler.places.selected(namespace, |pod| {
                    rule.applied_to.iter().any(|selector| selector.matches(&pod.meta.labels))
                })
            });
            if applied.is_empty() && !rule.applied_to.is_empty() && told.insert(&rule.applied_to) {
                let message = format!("rules[{at}]: appliedTo selects no pod");
                messages.notice(&subject, message, "until there is one, the rule has no effect");
            }
            let written = Written {
                template: template(policy, rule),
                name: &name,
                namespace,
                peers: rule.peers.as_deref(),
                ports: &rule.ports,
                applied: applied.clone(),
                author,
            };
            compiler.compile(&written, messages)
        })
        .collect()
}

/// The name by which a rule keeps its number: by the user's name for it, so that it survives a rule that is put
/// before it, or else by its place.
fn name(policy: &SecurityPolicy, at: usize, port: &str) -> String {
    // A dot cannot be in a namespace's name, nor a colon or a capital in a policy's: no two rules share a name.
    let base = format!("sp.{}.{}{port}", policy.meta.namespace, policy.meta.name);
    let own = policy.rules.get(at).and_then(|rule| rule.name.as_deref());
    let shares = |name: &str| {
        policy.rules.iter().filter(|rule| rule.name.as_deref() == Some(name)).count() > 1
    };
    match own.filter(|name| !shares(name)) {
        Some(name) => format!("{base}:{name}"),
        None => format!("{base}.{at}"),
    }
}

/// The rule without its other side and ports.
fn template(policy: &SecurityPolicy, rule: &SecurityRule) -> Rule {
    let namespace = &policy.meta.namespace;
    let applied: Vec<String> =
        rule.applied_to.iter().map(|selector| pods_text(selector, namespace)).collect();
    Rule {
        id: 0,
        name: String::new(),
        section: format!("sp.{namespace}.{}", policy.meta.name),
        origin: format!("SecurityPolicy {}", policy.meta.key()),
        category: match policy.category {
            PolicyCategory::Emergency => Category::Emergency,
            PolicyCategory::Infrastructure => Category::Infrastructure,
            PolicyCategory::Environment => Category::Environment,
            PolicyCategory::Application => Category::Application,
        },
        direction: match rule.direction {
            SecurityDirection::In => Direction::In,
            SecurityDirection::Out => Direction::Out,
        },
        source: AddressSet::any(),
        source_text: "any".to_owned(),
        destination: AddressSet::any(),
        destination_text: "any".to_owned(),
        services: Vec::new(),
        strict: false,
        applied_to_text: if applied.is_empty() { "nothing".to_owned() } else { applied.join(", ") },
        action: match rule.action {
            SecurityAction::Allow => Action::Allow,
            SecurityAction::Drop => Action::Drop,
            SecurityAction::Reject => Action::Reject,
        },
    }
}
