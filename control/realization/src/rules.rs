//! From a rule as it is written to rules of the firewall, for every kind of policy.
//!
//! A written rule names peers by labels and ports by name. What it becomes names addresses and numbers: one rule
//! for all numeric ports, and one for each number that a named port has at some pod.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use definitions::model::{
    Definitions, Operator, Pod, PolicyPeer, PolicyPort, PortMatch, Protocol, Selector,
};
use engine::network::{AddressSet, Direction, Prefix, Rule, Service, ServicePorts};
use ipnet::IpNet;
use packet::{Addr, protocol};

use crate::addressing::Workload;
use crate::fault::{Messages, Subject};
use crate::pod_sets::{Places, PodSet};

/// Who wrote a rule, and where.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    /// The policy.
    pub(crate) subject: Rc<Subject>,
    /// Which of its rules in this direction.
    pub(crate) rule: usize,
}

/// A rule with the pods it is applied to.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The rule; it has no number yet.
    pub(crate) rule: Rule,
    /// The pods.
    pub(crate) pods: PodSet,
    /// Who wrote it; none of what follows from a policy or namespace as a whole.
    pub(crate) author: Option<Author>,
}

/// A rule as it is written.
pub(crate) struct Written<'r> {
    /// All that peers and ports do not say; both of its sides are anybody.
    pub(crate) template: Rule,
    /// Its name, given `` or the part that tells the rule of a named port, `.TCP-http-80`.
    pub(crate) name: &'r dyn Fn(&str) -> String,
    /// The policy's namespace.
    pub(crate) namespace: &'r str,
    /// The other side; `None`: everybody, empty: nobody.
    pub(crate) peers: Option<&'r [PolicyPeer]>,
    /// Ports at the destination; empty: all of every protocol.
    pub(crate) ports: &'r [PolicyPort],
    /// The pods that it is applied to.
    pub(crate) applied: PodSet,
    /// Who wrote it.
    pub(crate) author: Author,
}

/// What labels and names mean in this cluster.
pub(crate) struct Compiler<'a> {
    /// Namespaces and their labels.
    pub(crate) definitions: &'a Definitions,
    /// All pods.
    pub(crate) places: &'a Places<'a>,
}

impl Compiler<'_> {
    /// The firewall's rules for a written one: none if it has only named ports that no pod has, which is noticed.
    pub(crate) fn compile(&self, written: &Written<'_>, messages: &mut Messages) -> Vec<Draft> {
        let direction = written.template.direction;
        let (peers, peers_text) = self.peers(written);
        let towards = |suffix: &str| {
            let mut made = Rule { name: (written.name)(suffix), ..written.template.clone() };
            if direction == Direction::In {
                made.source = peers.clone();
                made.source_text.clone_from(&peers_text);
            } else {
                made.destination = peers.clone();
                made.destination_text.clone_from(&peers_text);
            }
            made
        };
        let draft = |rule, pods| Draft { rule, pods, author: Some(written.author.clone()) };
        let mut drafts = Vec::new();
        let services = numeric_services(written.ports);
        if written.ports.is_empty() || !services.is_empty() {
            let mut made = towards("");
            made.services = services;
            drafts.push(draft(made, written.applied.clone()));
        }
        let named: BTreeSet<(Protocol, &str)> = written
            .ports
            .iter()
            .filter_map(|p| match &p.port {
                PortMatch::Name(name) => Some((p.protocol, name.as_str())),
                PortMatch::Any | PortMatch::Number(_) | PortMatch::Range(..) => None,
            })
            .collect();
        for (protocol, name) in named {
            let numbers = self.named(written, protocol, name, &peers);
            // What selects no pod at all is meant for pods to come.
            if numbers.is_empty() && !written.applied.is_empty() && !peers.is_empty() {
                let message = format!(
                    "{}: none of its destinations has a {protocol} port named '{name}'",
                    (written.name)("")
                );
                let help = "until one has, the rule says nothing about that port";
                messages.notice(&written.author.subject, message, help);
            }
            for (number, pods) in numbers {
                let mut made = towards(&format!(".{protocol}-{name}-{number}"));
                made.services = vec![Service {
                    protocol: protocol_number(protocol),
                    ports: ServicePorts::Destination(vec![(number, number)]),
                }];
                let note = format!("with port {name}={number}");
                let holders = pods.iter().filter_map(|place| self.places.get(*place));
                let held = addresses(holders.map(|(.., workload)| workload));
                if direction == Direction::In {
                    // The name is of the pods' own addresses, also where a frame for another one reaches their vNIC.
                    made.destination = held;
                    made.applied_to_text = format!("{} {note}", written.template.applied_to_text);
                    made.destination_text.clone_from(&made.applied_to_text);
                    drafts.push(draft(made, pods));
                } else {
                    // Of a pod's addresses only those that a peer names.
                    made.destination = intersection(&held, &peers);
                    made.destination_text = format!("{peers_text}, {note}");
                    drafts.push(draft(made, written.applied.clone()));
                }
            }
        }
        drafts
    }

    /// The pods at which the port `name` has some number: of the selected ones inwards, of the peers outwards.
    fn named(
        &self,
        written: &Written<'_>,
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
        if written.template.direction == Direction::In {
            let applied = written.applied.iter();
            for (place, (_, pod, _)) in applied.filter_map(|at| Some((*at, self.places.get(*at)?)))
            {
                look(place, pod);
            }
        } else {
            for (place, (_, pod, workload)) in (0..).zip(self.places.all()) {
                if workload.addresses.iter().any(|(a, _)| peers.contains(*a)) {
                    look(place, pod);
                }
            }
        }
        found.into_iter().map(|(number, pods)| (number, pods.into_iter().collect())).collect()
    }

    fn peers(&self, written: &Written<'_>) -> (AddressSet, String) {
        let peers = match written.peers {
            None => return (AddressSet::any(), "any".to_owned()),
            Some([]) => return (AddressSet::default(), "nobody".to_owned()),
            Some(peers) => peers,
        };
        let mut set = AddressSet::default();
        let mut texts = Vec::new();
        for peer in peers {
            let (more, text) = self.peer(written.namespace, peer);
            set = set.union(&more);
            texts.push(text);
        }
        (set, texts.join(", "))
    }

    fn peer(&self, namespace: &str, peer: &PolicyPeer) -> (AddressSet, String) {
        match peer {
            PolicyPeer::IpBlock { cidr, except } => {
                let set = except.iter().fold(block(*cidr), |set, hole| set.without(&block(*hole)));
                let mut text = cidr.to_string();
                if !except.is_empty() {
                    let list: Vec<String> = except.iter().map(ToString::to_string).collect();
                    text = format!("{text} except {}", list.join(" and "));
                }
                (set, text)
            }
            PolicyPeer::Pods { namespaces, pods } => {
                let own = || vec![namespace];
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
                            pods_text(pods.as_ref().unwrap_or(&Selector::default()), namespace),
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

/// The addresses of workloads.
pub(crate) fn addresses<'a>(workloads: impl IntoIterator<Item = &'a Workload>) -> AddressSet {
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
pub(crate) fn selector_text(selector: &Selector) -> String {
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

/// Pods of a namespace, for people: `ns a`, `pods app=web in a`.
pub(crate) fn pods_text(selector: &Selector, namespace: &str) -> String {
    if selector.is_empty() {
        format!("ns {namespace}")
    } else {
        format!("pods {} in {namespace}", selector_text(selector))
    }
}

/// The addresses of a network. A short IPv6 prefix such as `::/0` covers the mapped IPv4 space in bits, not in meaning.
fn block(net: IpNet) -> AddressSet {
    let range = (Addr::from(net.network()), Addr::from(net.broadcast()));
    let all = AddressSet::from_ranges([range]);
    match net {
        IpNet::V4(_) => all,
        IpNet::V6(_) => {
            let ipv4 = Prefix::new(Addr::UNSPECIFIED_V4, 0);
            all.without(&AddressSet::from_ranges([(ipv4.first(), ipv4.last())]))
        }
    }
}

/// What is in both.
pub(crate) fn intersection(a: &AddressSet, b: &AddressSet) -> AddressSet {
    a.without(&a.without(b))
}

/// The services of numeric ports, one a protocol.
fn numeric_services(ports: &[PolicyPort]) -> Vec<Service> {
    let mut by_protocol: BTreeMap<Protocol, Option<Vec<(u16, u16)>>> = BTreeMap::new();
    for port in ports {
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
