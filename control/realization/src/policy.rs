//! NetworkPolicy and namespace isolation as firewall rules.
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
//! Control-plane VMs have no rules. Pods on the host's network have no vNIC, hence no rules, and are no peers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use definitions::model::{
    Definitions, NetworkPolicy, ObjectName, Operator, Pod, PolicyPeer, PolicyRule, PortMatch,
    Protocol, Selector,
};
use definitions::own::{Isolation, SnatMode};
use engine::network::{
    Action, AddressSet, Category, Direction, PoolSnat, Prefix, Rule, Service, ServicePorts,
    VirtualServers,
};
use ipnet::IpNet;
use packet::{Addr, protocol};

use crate::addressing::{CONTROL_PLANE, Cluster, Workload, prefix4};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};

/// The first number of a rule, as in NSX.
const FIRST_RULE: u64 = 1001;

/// All rules, and for every pod the indices of its own.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// Rules in the order of evaluation.
    pub(crate) rules: Vec<Rule>,
    /// Indices into `rules` towards and from each pod. Pods with the same rules share the lists: a
    /// namespace with thousands of both must not cost their product.
    pub(crate) applied: BTreeMap<ObjectName, (Arc<[u32]>, Arc<[u32]>)>,
}

/// Pods by their place in [`Cluster::pods`], ascending. Rules of one policy share it.
type PodSet = Rc<[u32]>;

/// A rule with the pods it is applied to.
struct Draft {
    rule: Rule,
    pods: PodSet,
}

/// Rules of one set of pods, and so of every pod in it.
#[derive(Default)]
struct Section {
    into: Vec<u32>,
    out: Vec<u32>,
}

/// For every pod the rules of all sets that it is in.
fn apply(
    cluster: &Cluster<'_>,
    sections: &BTreeMap<PodSet, Section>,
) -> BTreeMap<ObjectName, (Arc<[u32]>, Arc<[u32]>)> {
    let sets: Vec<&Section> = sections.values().collect();
    let mut member_of: Vec<Vec<u32>> = vec![Vec::new(); cluster.pods.len()];
    for (number, pods) in (0..).zip(sections.keys()) {
        for pod in pods.iter() {
            if let Some(own) = member_of.get_mut(*pod as usize) {
                own.push(number);
            }
        }
    }
    // Pods that are in the same sets have the same rules; different sets may come to the same.
    let mut lists: BTreeSet<Arc<[u32]>> = BTreeSet::new();
    let mut shared = |of: &dyn Fn(&Section) -> &[u32], member_of: &[u32]| -> Arc<[u32]> {
        let own = member_of.iter().filter_map(|s| sets.get(*s as usize)).flat_map(|s| of(s));
        let mut list: Vec<u32> = own.copied().collect();
        list.sort_unstable();
        if let Some(known) = lists.get(&*list) {
            return Arc::clone(known);
        }
        let list: Arc<[u32]> = list.into();
        lists.insert(Arc::clone(&list));
        list
    };
    let mut classes: BTreeMap<&[u32], (Arc<[u32]>, Arc<[u32]>)> = BTreeMap::new();
    let mut applied = BTreeMap::new();
    for (key, member_of) in cluster.pods.keys().zip(&member_of) {
        if member_of.is_empty() {
            continue;
        }
        let rules = classes
            .entry(member_of)
            .or_insert_with(|| (shared(&|s| &s.into, member_of), shared(&|s| &s.out, member_of)));
        applied.insert(key.clone(), rules.clone());
    }
    applied
}

/// Makes the rules; their numbers are kept by their names.
pub(crate) fn compile(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    server: &VirtualServers,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Compiled {
    let (mut drafts, mut isolation) = (Vec::new(), Vec::new());
    let places = Places::new(cluster);
    for policy in definitions.network_policies.values() {
        let compiler = PolicyCompiler::new(definitions, cluster, &places, policy);
        let allow = compiler.allow_section();
        let subject = Subject::new("NetworkPolicy", &policy.meta);
        for rule in allow.iter().map(|d| &d.rule) {
            if let Some((why, help)) = never_matches(cluster, server, rule) {
                let place = if rule.direction == Direction::In {
                    &rule.source_text
                } else {
                    &rule.destination_text
                };
                messages.notice(&subject, format!("{place}: this can never match, {why}"), help);
            }
        }
        drafts.extend(allow);
        isolation.extend(compiler.isolation_section());
    }
    drafts.append(&mut isolation);
    drafts.extend(namespace_sections(definitions, cluster, &places));

    let pool = Pool {
        what: "number",
        name: "the firewall".to_owned(),
        bands: vec![FIRST_RULE..=u64::from(u32::MAX)],
        reserved: BTreeMap::new(),
        open: false,
        show: |n| n.to_string(),
    };
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    let requests: Vec<Request> = drafts
        .iter()
        .map(|d| Request { owner: d.rule.name.clone(), pin: None, subject: subject.clone() })
        .collect();
    let numbers =
        assign(&pool, &requests, |k| kept.firewall_rules.get(k).copied().map(u64::from), messages);
    let mut compiled = Compiled::default();
    let mut sections: BTreeMap<PodSet, Section> = BTreeMap::new();
    for draft in drafts {
        let Draft { mut rule, pods } = draft;
        let at = u32::try_from(compiled.rules.len()).unwrap_or(u32::MAX);
        rule.id = numbers.get(&rule.name).and_then(|n| u32::try_from(*n).ok()).unwrap_or(0);
        next.firewall_rules.insert(rule.name.clone(), rule.id);
        let section = sections.entry(pods).or_default();
        if rule.direction != Direction::Out {
            section.into.push(at);
        }
        if rule.direction != Direction::In {
            section.out.push(at);
        }
        compiled.rules.push(rule);
    }
    compiled.applied = apply(cluster, &sections);
    compiled
}

fn addresses<'a>(workloads: impl IntoIterator<Item = &'a Workload>) -> AddressSet {
    let all = workloads.into_iter().flat_map(|w| w.addresses.iter().map(|(a, _)| (*a, *a)));
    AddressSet::from_ranges(all)
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => protocol::SCTP,
    }
}

/// A selector in kubectl's words: `app=web,tier in (a,b),!old`.
fn selector_text(selector: &Selector) -> String {
    let list =
        |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let parts: Vec<String> = selector
        .requirements
        .iter()
        .map(|r| match &r.operator {
            Operator::In(values) if values.len() == 1 => format!("{}={}", r.key, list(values)),
            Operator::In(values) => format!("{} in ({})", r.key, list(values)),
            Operator::NotIn(values) => format!("{} notin ({})", r.key, list(values)),
            Operator::Exists => r.key.clone(),
            Operator::DoesNotExist => format!("!{}", r.key),
        })
        .collect();
    parts.join(",")
}

fn pods_text(selector: &Selector, namespace: &str) -> String {
    if selector.is_empty() {
        format!("ns {namespace}")
    } else {
        format!("pods {} in {namespace}", selector_text(selector))
    }
}

fn block_range(net: IpNet) -> (Addr, Addr) {
    let prefix = Prefix::new(net.network().into(), net.prefix_len());
    (prefix.first(), prefix.last())
}

/// The pods by namespace, with their places in [`Cluster::pods`].
struct Places<'a> {
    pods: Vec<(&'a ObjectName, &'a Pod, &'a Workload)>,
    namespaces: BTreeMap<&'a str, Range<usize>>,
}

impl<'a> Places<'a> {
    fn new(cluster: &'a Cluster<'a>) -> Places<'a> {
        let pods: Vec<_> = cluster.pods.iter().map(|(k, (p, w))| (k, *p, w)).collect();
        let mut namespaces: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        // They are sorted by namespace first.
        for (place, (key, ..)) in pods.iter().enumerate() {
            namespaces.entry(&key.namespace).or_insert(place..place).end = place + 1;
        }
        Places { pods, namespaces }
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = (u32, &'a Pod, &'a Workload)> {
        let range = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let first = u32::try_from(range.start).unwrap_or(u32::MAX);
        let pods = self.pods.get(range).unwrap_or_default();
        (first..).zip(pods).map(|(place, (_, pod, workload))| (place, *pod, *workload))
    }

    fn workload(&self, place: u32) -> Option<&'a Workload> {
        self.pods.get(place as usize).map(|(.., workload)| *workload)
    }
}

/// One policy at work.
struct PolicyCompiler<'a> {
    definitions: &'a Definitions,
    cluster: &'a Cluster<'a>,
    policy: &'a NetworkPolicy,
    key: ObjectName,
    places: &'a Places<'a>,
    /// The pods it selects, with their places.
    selected: Vec<(u32, &'a Pod)>,
    /// The same, places only.
    all_selected: PodSet,
    applied_text: String,
}

impl<'a> PolicyCompiler<'a> {
    fn new(
        definitions: &'a Definitions,
        cluster: &'a Cluster<'a>,
        places: &'a Places<'a>,
        policy: &'a NetworkPolicy,
    ) -> PolicyCompiler<'a> {
        let key = policy.meta.key();
        let selected: Vec<(u32, &Pod)> = places
            .of(&key.namespace)
            .filter(|(_, pod, _)| policy.pod_selector.matches(&pod.meta.labels))
            .map(|(place, pod, _)| (place, pod))
            .collect();
        let all_selected = selected.iter().map(|(place, _)| *place).collect();
        let applied_text = pods_text(&policy.pod_selector, &key.namespace);
        PolicyCompiler {
            definitions,
            cluster,
            policy,
            key,
            places,
            selected,
            all_selected,
            applied_text,
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

    fn allow_section(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (direction, rules) in
            [(Direction::In, &self.policy.ingress), (Direction::Out, &self.policy.egress)]
        {
            for (i, rule) in rules.iter().flatten().enumerate() {
                drafts.extend(self.allow(direction, i, rule));
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
                drafts.push(Draft { rule, pods: self.all_selected.clone() });
            }
        }
        drafts
    }

    /// The firewall rules of one policy rule: one for everything but named ports, and one for each number that
    /// a named port has at some pod, because that is a matter of the destination.
    fn allow(&self, direction: Direction, at: usize, rule: &PolicyRule) -> Vec<Draft> {
        let (peers, peers_text) = self.peers(rule);
        let base = format!("{}.allow-{}-{at}", self.name(), word(direction));
        let towards = |name: String| {
            let mut made = self.rule(name, "allow", direction, Action::Allow);
            if direction == Direction::In {
                made.source = peers.clone();
                made.source_text.clone_from(&peers_text);
            } else {
                made.destination = peers.clone();
                made.destination_text.clone_from(&peers_text);
            }
            made
        };
        let mut drafts = Vec::new();
        let services = numeric_services(rule);
        if rule.ports.is_empty() || !services.is_empty() {
            let mut made = towards(base.clone());
            made.services = services;
            drafts.push(Draft { rule: made, pods: self.all_selected.clone() });
        }
        let named: BTreeSet<(Protocol, &str)> = rule
            .ports
            .iter()
            .filter_map(|p| match &p.port {
                PortMatch::Name(name) => Some((p.protocol, name.as_str())),
                PortMatch::Any | PortMatch::Number(_) | PortMatch::Range(..) => None,
            })
            .collect();
        for (protocol, name) in named {
            for (number, pods) in self.named(direction, protocol, name, &peers) {
                let mut made = towards(format!("{base}.{protocol}-{name}-{number}"));
                made.services = vec![Service {
                    protocol: protocol_number(protocol),
                    ports: ServicePorts::Destination(vec![(number, number)]),
                }];
                let note = format!("with port {name}={number}");
                if direction == Direction::In {
                    made.applied_to_text = format!("{} {note}", self.applied_text);
                    drafts.push(Draft { rule: made, pods });
                } else {
                    let holders = pods.iter().filter_map(|place| self.places.workload(*place));
                    // Of a pod's addresses only those that a peer names.
                    made.destination = intersection(&addresses(holders), &peers);
                    made.destination_text = format!("{peers_text}, {note}");
                    drafts.push(Draft { rule: made, pods: self.all_selected.clone() });
                }
            }
        }
        drafts
    }

    /// The pods at which the port `name` has some number: of the selected ones inwards, of the peers outwards.
    fn named(
        &self,
        direction: Direction,
        protocol: Protocol,
        name: &str,
        peers: &AddressSet,
    ) -> BTreeMap<u16, PodSet> {
        let mut found: BTreeMap<u16, BTreeSet<u32>> = BTreeMap::new();
        let mut look = |place: u32, pod: &Pod| {
            for port in &pod.ports {
                if port.protocol == protocol && port.name.as_deref() == Some(name) {
                    found.entry(port.port).or_default().insert(place);
                }
            }
        };
        if direction == Direction::In {
            self.selected.iter().for_each(|(place, pod)| look(*place, pod));
        } else {
            for (place, (pod, workload)) in (0..).zip(self.cluster.pods.values()) {
                if workload.addresses.iter().any(|(a, _)| peers.contains(*a)) {
                    look(place, pod);
                }
            }
        }
        found.into_iter().map(|(number, pods)| (number, pods.into_iter().collect())).collect()
    }

    fn peers(&self, rule: &PolicyRule) -> (AddressSet, String) {
        if rule.peers.is_empty() {
            return (AddressSet::any(), "any".to_owned());
        }
        let mut set = AddressSet::default();
        let mut texts = Vec::new();
        for peer in &rule.peers {
            let (more, text) = self.peer(peer);
            set = set.union(&more);
            texts.push(text);
        }
        (set, texts.join(", "))
    }

    fn peer(&self, peer: &PolicyPeer) -> (AddressSet, String) {
        match peer {
            PolicyPeer::IpBlock { cidr, except } => {
                let holes = AddressSet::from_ranges(except.iter().map(|n| block_range(*n)));
                let set = AddressSet::from_ranges([block_range(*cidr)]).without(&holes);
                let mut text = cidr.to_string();
                if !except.is_empty() {
                    let list: Vec<String> = except.iter().map(ToString::to_string).collect();
                    text = format!("{text} except {}", list.join(" and "));
                }
                (set, text)
            }
            PolicyPeer::Pods { namespaces, pods } => {
                let own = || vec![self.key.namespace.as_str()];
                let chosen = namespaces.as_ref().map_or_else(own, |selector| {
                    let all = self.definitions.namespaces.iter();
                    all.filter(|(_, n)| selector.matches(&n.meta.labels))
                        .map(|(name, _)| name.as_str())
                        .collect()
                });
                let chosen = chosen
                    .into_iter()
                    .flat_map(|namespace| self.places.of(namespace))
                    .filter(|(_, p, _)| pods.as_ref().is_none_or(|s| s.matches(&p.meta.labels)));
                let set = addresses(chosen.map(|(_, _, workload)| workload));
                let place = match namespaces {
                    None => {
                        return (
                            set,
                            pods_text(
                                pods.as_ref().unwrap_or(&Selector::default()),
                                &self.key.namespace,
                            ),
                        );
                    }
                    Some(selector) if selector.is_empty() => "all namespaces".to_owned(),
                    Some(selector) => format!("namespaces {}", selector_text(selector)),
                };
                let text = match pods {
                    Some(selector) if !selector.is_empty() => {
                        format!("pods {} in {place}", selector_text(selector))
                    }
                    _ => place,
                };
                (set, text)
            }
        }
    }
}

/// Why a rule can never match: the firewall judges addresses as they are on the wire at the vNIC, where what came
/// through the load balancer has its address, and a ClusterIP has become a backend.
fn never_matches(
    cluster: &Cluster<'_>,
    server: &VirtualServers,
    rule: &Rule,
) -> Option<(String, String)> {
    if rule.direction == Direction::Out {
        let services = prefix4(*cluster.spec().service_cidr);
        let services = AddressSet::from_ranges([(services.first(), services.last())]);
        let rest = rule.destination.without(&services);
        return (rest.is_empty() && !rule.destination.is_empty()).then(|| {
            let why = "a ClusterIP has become a backend before the firewall sees it".to_owned();
            (why, "name the backends' pods instead".to_owned())
        });
    }
    let transparent = cluster.spec().load_balancer.snat == SnatMode::Transparent
        || server.servers().iter().any(|s| s.snat == PoolSnat::Transparent);
    if !cluster.nat || transparent || rule.source.is_empty() {
        return None;
    }
    let inside = addresses(
        cluster.pods.values().map(|(_, w)| w).chain(cluster.vms.iter().map(|vm| &vm.eth1)),
    );
    let balancer = cluster.balancer_addresses().into_iter().map(|a| (a, a));
    let possible = inside.union(&AddressSet::from_ranges(balancer));
    intersection(&rule.source, &possible).is_empty().then(|| {
        let list: Vec<String> = cluster.balancer_addresses().iter().map(ToString::to_string).collect();
        let why = format!("who comes from outside has the load balancer's address, {}", list.join(" or "));
        (why, "name that address, or keep the client's with 'ncp/transparent-lb: \"true\"' on the Service".to_owned())
    })
}

fn intersection(a: &AddressSet, b: &AddressSet) -> AddressSet {
    a.without(&a.without(b))
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "ingress",
        Direction::Out => "egress",
        Direction::InOut => "both",
    }
}

/// The services of a rule's numeric ports, one a protocol.
fn numeric_services(rule: &PolicyRule) -> Vec<Service> {
    let mut by_protocol: BTreeMap<Protocol, Option<Vec<(u16, u16)>>> = BTreeMap::new();
    for port in &rule.ports {
        let range = match port.port {
            PortMatch::Name(_) => continue,
            PortMatch::Any => {
                by_protocol.insert(port.protocol, None);
                continue;
            }
            PortMatch::Number(number) => (number, number),
            PortMatch::Range(first, last) => (first, last),
        };
        // `None` is every port already.
        if let Some(ranges) = by_protocol.entry(port.protocol).or_insert_with(|| Some(Vec::new())) {
            ranges.push(range);
        }
    }
    by_protocol
        .into_iter()
        .map(|(protocol, ranges)| Service {
            protocol: protocol_number(protocol),
            ports: ranges.map_or(ServicePorts::Any, |mut ranges| {
                ranges.sort_unstable();
                ranges.dedup();
                ServicePorts::Destination(ranges)
            }),
        })
        .collect()
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
        let pods: PodSet = places.of(namespace).map(|(place, _, _)| place).collect();
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
                drafts.push(Draft { rule, pods: pods.clone() });
            }
        }
    }
    drafts
}
