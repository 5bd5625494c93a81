//! All rules of the firewall; NetworkPolicy and namespace isolation as rules.
//!
//! The order is that of categories, and in the category Application: SecurityPolicy (priorities 0 to 1000, see
//! `security_policy`), then NetworkPolicy.
//!
//! Each policy becomes an *allow* section and an *isolation* section (NCP). All allow sections (priority 2010)
//! come before all isolation sections (2090), so that what passes a pod is the union of its policies' rules,
//! and nothing else does in the directions that some policy of its isolates. Behind them, in the default
//! category, stands what the cluster's `isolation` says of pods that no policy selects:
//!
//! | isolation | ingress | egress |
//! |---|---|---|
//! | `ingress` | control plane, own namespace | everything |
//! | `full` | control plane, own namespace | control plane, own namespace |
//! | `none` | everything | everything |
//!
//! A policy isolates to the letter: neither the control plane nor the pod's own namespace passes it unasked.
//! Control-plane VMs have no rules, nor have pods on the exclude list. Pods on the host's network have no vNIC, hence no rules, and are no peers.

use std::collections::BTreeMap;
use std::rc::Rc;

use definitions::model::{Definitions, NetworkPolicy, ObjectName, PolicyRule};
use definitions::own::Isolation;
use engine::network::{Action, AddressSet, Category, Direction, EthernetRule, Rule};

use crate::addressing::{CONTROL_PLANE, Cluster};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::balancer::Balancers;
use crate::fault::{Messages, Subject};
use crate::pod_sets::{Applied, Places, PodSet, Section, apply};
use crate::rules::{Author, Compiler, Draft, Written, addresses, pods_text};
use crate::{security, security_policy, unmatched};

/// The first number of a rule, as in NSX.
const FIRST_RULE: u64 = 1001;

/// All rules, and for every pod the indices of its own.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// Rules of the category Ethernet in the order of evaluation.
    pub(crate) ethernet: Vec<EthernetRule>,
    /// Indices into `ethernet` towards and from each pod.
    pub(crate) applied_ethernet: BTreeMap<ObjectName, Applied>,
    /// All other rules in the order of evaluation.
    pub(crate) rules: Vec<Rule>,
    /// Indices into `rules` towards and from each pod.
    pub(crate) applied: BTreeMap<ObjectName, Applied>,
}

/// Makes the rules; their numbers are kept by their names.
pub(crate) fn compile(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    balancers: &Balancers,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Compiled {
    let places = Places::new(cluster);
    let compiler = Compiler { definitions, places: &places };
    let mut drafts = security_policy::sections(&compiler, messages);
    let mut isolation = Vec::new();
    for policy in definitions.network_policies.values() {
        let compiler = PolicyCompiler::new(&compiler, policy);
        drafts.extend(compiler.allow_section(messages));
        isolation.extend(compiler.isolation_section());
    }
    drafts.append(&mut isolation);
    drafts.extend(namespace_sections(definitions, cluster, &places));

    let mut ethernet = security::ethernet_rules(definitions, cluster, &places, messages);
    let names = ethernet.iter().map(|d| &d.rule.name).chain(drafts.iter().map(|d| &d.rule.name));
    let numbers = number(names, cluster, kept, next, messages);
    let number = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let mut layer2: BTreeMap<PodSet, Section> = BTreeMap::new();
    for (at, draft) in (0..).zip(&mut ethernet) {
        draft.rule.id = number(&draft.rule.name);
        layer2.entry(draft.pods.clone()).or_default().add(at, draft.rule.direction);
    }
    let mut sections: BTreeMap<PodSet, Section> = BTreeMap::new();
    for (at, draft) in (0..).zip(&mut drafts) {
        draft.rule.id = number(&draft.rule.name);
        sections.entry(draft.pods.clone()).or_default().add(at, draft.rule.direction);
    }
    let excluded =
        |key: &ObjectName| cluster.pods.get(key).is_some_and(|(pod, _)| pod.firewall_excluded);
    let mut applied_ethernet = apply(cluster, &layer2);
    applied_ethernet.retain(|key, _| !excluded(key));
    let mut applied = apply(cluster, &sections);
    applied.retain(|key, _| !excluded(key));
    let vnics = unmatched::Vnics { places: &places, drafts: &drafts, applied: &applied };
    unmatched::notice_rewritten(definitions, cluster, balancers, vnics, messages);
    unmatched::notice_shadowed(vnics, messages);
    Compiled {
        ethernet: ethernet.into_iter().map(|draft| draft.rule).collect(),
        applied_ethernet,
        rules: drafts.into_iter().map(|draft| draft.rule).collect(),
        applied,
    }
}

/// Numbers for rules, by name. A rule keeps its number; one that is gone leaves it to nobody, as in NSX:
/// sessions that it let begin may live on, and count for it.
fn number<'n>(
    names: impl Iterator<Item = &'n String>,
    cluster: &Cluster<'_>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> BTreeMap<String, u32> {
    let most = u64::from(u32::MAX);
    let last = u64::from(kept.last_firewall_rule);
    let unused = FIRST_RULE.max(last + 1);
    let pool = Pool {
        what: "number",
        name: "the firewall".to_owned(),
        // Only when all others are used up, those of rules that are gone.
        bands: vec![unused..=most, FIRST_RULE..=unused - 1],
        reserved: BTreeMap::new(),
        open: false,
        show: |n| n.to_string(),
    };
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    let requests: Vec<Request> = names
        .map(|name| Request { owner: name.clone(), pin: None, subject: subject.clone() })
        .collect();
    let held = |name: &str| kept.firewall_rules.get(name).copied().map(u64::from);
    let given = assign(&pool, &requests, held, messages);
    let numbers: BTreeMap<String, u32> =
        given.into_iter().filter_map(|(name, n)| Some((name, u32::try_from(n).ok()?))).collect();
    next.last_firewall_rule = numbers.values().copied().fold(kept.last_firewall_rule, u32::max);
    next.firewall_rules.clone_from(&numbers);
    numbers
}

/// One policy at work.
struct PolicyCompiler<'a> {
    compiler: &'a Compiler<'a>,
    policy: &'a NetworkPolicy,
    key: ObjectName,
    subject: Rc<Subject>,
    /// The pods it selects.
    selected: PodSet,
    applied_text: String,
}

impl<'a> PolicyCompiler<'a> {
    fn new(compiler: &'a Compiler<'a>, policy: &'a NetworkPolicy) -> PolicyCompiler<'a> {
        let key = policy.meta.key();
        let selected = compiler
            .places
            .selected(&key.namespace, |pod| policy.pod_selector.matches(&pod.meta.labels));
        PolicyCompiler {
            compiler,
            policy,
            subject: Rc::new(Subject::new("NetworkPolicy", &policy.meta)),
            selected,
            applied_text: pods_text(&policy.pod_selector, &key.namespace),
            key,
        }
    }

    fn name(&self) -> String {
        // A dot cannot be in a namespace's name, so that no two policies share a name.
        format!("np.{}.{}", self.key.namespace, self.key.name)
    }

    fn rule(&self, name: String, section: &str, direction: Direction, action: Action) -> Rule {
        Rule {
            id: 0,
            name,
            section: format!("{} {section}", self.name()),
            origin: format!("NetworkPolicy {}", self.key),
            category: Category::Application,
            direction,
            source: AddressSet::any(),
            source_text: "any".to_owned(),
            destination: AddressSet::any(),
            destination_text: "any".to_owned(),
            services: Vec::new(),
            strict: true,
            applied_to_text: self.applied_text.clone(),
            action,
        }
    }

    fn allow_section(&self, messages: &mut Messages) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (direction, rules) in
            [(Direction::In, &self.policy.ingress), (Direction::Out, &self.policy.egress)]
        {
            for (i, rule) in rules.iter().flatten().enumerate() {
                drafts.extend(self.allow(direction, i, rule, messages));
            }
        }
        drafts
    }

    fn isolation_section(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (direction, rules) in
            [(Direction::In, &self.policy.ingress), (Direction::Out, &self.policy.egress)]
        {
            if rules.is_some() {
                let name = format!("{}.isolate-{}", self.name(), word(direction));
                let rule = self.rule(name, "isolation", direction, Action::Drop);
                drafts.push(Draft { rule, pods: self.selected.clone(), author: None });
            }
        }
        drafts
    }

    fn allow(
        &self,
        direction: Direction,
        at: usize,
        rule: &PolicyRule,
        messages: &mut Messages,
    ) -> Vec<Draft> {
        let base = format!("{}.allow-{}-{at}", self.name(), word(direction));
        let written = Written {
            template: self.rule(String::new(), "allow", direction, Action::Allow),
            name: &|port| format!("{base}{port}"),
            namespace: &self.key.namespace,
            peers: Some(rule.peers.as_slice()).filter(|peers| !peers.is_empty()),
            ports: &rule.ports,
            applied: self.selected.clone(),
            author: Author { subject: self.subject.clone(), rule: at },
        };
        self.compiler.compile(&written, messages)
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "ingress",
        Direction::Out => "egress",
        Direction::InOut => "both",
    }
}

/// What holds for the pods of each namespace that no policy selects.
fn namespace_sections(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    places: &Places<'_>,
) -> Vec<Draft> {
    let directions: &[Direction] = match cluster.spec().isolation {
        Isolation::Ingress => &[Direction::In],
        Isolation::Full => &[Direction::In, Direction::Out],
        Isolation::None => &[],
    };
    let control_plane = addresses(cluster.vms.iter().map(|vm| &vm.eth1));
    let mut drafts = Vec::new();
    for namespace in definitions.namespaces.keys() {
        let mut blocks =
            cluster.blocks_of(namespace).filter(|b| b.owner != CONTROL_PLANE).peekable();
        if blocks.peek().is_none() {
            continue;
        }
        let own = AddressSet::from_ranges(blocks.flat_map(|b| b.ranges().collect::<Vec<_>>()));
        let pods = places.selected(namespace, |_| true);
        for direction in directions {
            let peers = [
                ("control-plane", &control_plane, "control plane".to_owned(), Action::Allow),
                ("namespace", &own, format!("ns {namespace}"), Action::Allow),
                ("others", &AddressSet::any(), "any".to_owned(), Action::Drop),
            ];
            for (name, peer, text, action) in peers {
                let mut rule = Rule {
                    id: 0,
                    name: format!("ns.{namespace}.{}-{name}", word(*direction)),
                    section: format!("ns.{namespace} isolation"),
                    origin: format!("Namespace {namespace}"),
                    category: Category::Default,
                    direction: *direction,
                    source: AddressSet::any(),
                    source_text: "any".to_owned(),
                    destination: AddressSet::any(),
                    destination_text: "any".to_owned(),
                    services: Vec::new(),
                    strict: true,
                    applied_to_text: format!("ns {namespace}"),
                    action,
                };
                if *direction == Direction::In {
                    rule.source = peer.clone();
                    rule.source_text = text;
                } else {
                    rule.destination = peer.clone();
                    rule.destination_text = text;
                }
                drafts.push(Draft { rule, pods: pods.clone(), author: None });
            }
        }
    }
    drafts
}
