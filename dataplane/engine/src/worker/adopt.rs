//! A new snapshot: what has gone takes its sessions with it.
//!
//! Ports, addresses and numbers are used again. A workload that gets the index or the address of one that
//! has gone must never inherit its sessions: they would carry it past rules that it was never judged by. So
//! with virtual servers and translations: who gets the address next gets none of the flows. A firewall rule
//! that has gone ends nothing by itself (the next packet is judged again), but what it has counted is
//! nobody's.

use super::Worker;
use crate::network::{NatAction, Network, PortId, RouterId, VirtualServers};
use crate::session::{RuleKey, Session};
use crate::tuple::{Node, Tuple};
use packet::Addr;
use std::collections::{BTreeMap, BTreeSet};

/// What a worker has seen that may go: workloads with name and addresses by port, rules by what counts them.
#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: Option<u64>,
    workloads: BTreeMap<PortId, (String, Vec<Addr>)>,
    rules: BTreeMap<RuleKey, Rule>,
}

/// What makes a rule the same one in another snapshot.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    /// Of a NAT rule: flows that it translated otherwise have no binding any more.
    action: Option<NatAction>,
}

impl Known {
    fn of(net: &Network) -> Known {
        let workloads = (0u32..)
            .zip(&net.ports)
            .filter_map(|(i, port)| {
                let vnic = port.vnic.as_ref()?;
                Some((PortId(i), (port.name.clone(), vnic.addresses.clone())))
            })
            .collect();
        Known { epoch: Some(net.epoch), workloads, rules: rules(net) }
    }
}

/// All rules that count what they let through or drop.
fn rules(net: &Network) -> BTreeMap<RuleKey, Rule> {
    let named = |key, name: &String| (key, Rule { name: name.clone(), action: None });
    let ethernet = net.firewall.ethernet.iter().map(|rule| (rule.id, &rule.name));
    let firewall = net.firewall.rules.iter().map(|rule| (rule.id, &rule.name));
    let mut all: BTreeMap<RuleKey, Rule> =
        ethernet.chain(firewall).map(|(id, name)| named(RuleKey::Firewall(id), name)).collect();
    all.extend(servers(None, &net.distributed_balancer));
    for (router, id) in net.routers.iter().zip((0..).map(RouterId)) {
        all.extend(servers(Some(id), &router.balancer));
        let firewall = router.gateway_firewall.rules().iter();
        all.extend(firewall.map(|rule| named(RuleKey::GatewayFirewall(id, rule.id), &rule.name)));
        all.extend(router.nat.rules().iter().map(|rule| {
            let known = Rule { name: rule.name.clone(), action: Some(rule.action.clone()) };
            (RuleKey::Nat(id, rule.id), known)
        }));
    }
    all
}

fn servers(
    router: Option<RouterId>,
    table: &VirtualServers,
) -> impl Iterator<Item = (RuleKey, Rule)> {
    table.servers().iter().map(move |server| {
        let key = RuleKey::Server(router, server.address, server.protocol, server.port);
        (key, Rule { name: server.name.clone(), action: None })
    })
}

impl Worker {
    /// Ends the sessions of workloads that the new snapshot no longer has at the same port with the
    /// same addresses, of virtual servers that it no longer has, and of translations that it makes otherwise.
    pub(super) fn adopt(&mut self, net: &Network) {
        if self.known.epoch == Some(net.epoch) {
            return;
        }
        let before = std::mem::replace(&mut self.known, Known::of(net));
        let now = &self.known.workloads;
        let mut ports: BTreeSet<PortId> = BTreeSet::new();
        let mut addresses: BTreeSet<Addr> = BTreeSet::new();
        for (port, (name, had)) in before.workloads {
            match now.get(&port) {
                Some((same, has)) if *same == name => {
                    addresses.extend(had.into_iter().filter(|a| !has.contains(a)));
                }
                _ => {
                    ports.insert(port);
                    addresses.extend(had);
                }
            }
        }
        let gone_rules = self.forget_rules(before.rules);
        if ports.is_empty() && addresses.is_empty() && gone_rules.is_empty() {
            return;
        }
        let gone = |tuple: &Tuple| addresses.contains(&tuple.src) || addresses.contains(&tuple.dst);
        let over = |session: &Session| {
            session.records.iter().any(|r| {
                let at = match r.node {
                    Node::Balancer(port) | Node::Firewall(port) => ports.contains(&port),
                    Node::Gateway(_) | Node::GatewayFirewall(_) => false,
                };
                let rule = r.rule_key().is_some_and(|rule| gone_rules.contains(&rule));
                at || rule || gone(&r.before) || gone(&r.after)
            })
        };
        let ended: Vec<_> =
            self.sessions.list().into_iter().filter(over).map(|session| session.id).collect();
        for id in ended {
            self.end(id);
        }
    }

    /// The NAT rules and virtual servers of before that are no more, or translate otherwise. What rules that are
    /// no more have counted is forgotten: their numbers are given to others. Drops stay counted, by nobody's rule.
    fn forget_rules(&mut self, before: BTreeMap<RuleKey, Rule>) -> BTreeSet<RuleKey> {
        let now = &self.known.rules;
        let is_same =
            |key: &RuleKey, name: &str| now.get(key).is_some_and(|rule| rule.name == name);
        let (mut gone, mut translations) = (BTreeSet::new(), BTreeSet::new());
        for (key, rule) in before {
            if !is_same(&key, &rule.name) {
                gone.insert(key);
            }
            let judges = matches!(key, RuleKey::Firewall(_) | RuleKey::GatewayFirewall(..));
            if !judges && now.get(&key) != Some(&rule) {
                translations.insert(key);
            }
        }
        if !gone.is_empty() {
            // What the caches know of them first.
            self.collect();
            self.tables.forget_rules(&gone);
        }
        translations
    }
}
