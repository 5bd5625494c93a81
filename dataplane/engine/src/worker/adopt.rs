//! A new snapshot: what has gone takes its sessions with it.
//!
//! Ports, addresses and numbers are used again. A workload that gets the index or the address of one that
//! has gone must never inherit its sessions: they would carry it past rules that it was never judged by. So
//! with virtual servers and translations: who gets the address next gets none of the flows. A firewall rule
//! that has gone ends nothing by itself (the next packet is judged again), but what it has counted is
//! nobody's.

use super::Worker;
use crate::network::{NatRule, Network, PortId, RouterId, VirtualServers};
use crate::session::{RecordKind, RuleKey, StageRecord};
use crate::tuple::{Node, Tuple};
use packet::Addr;
use std::collections::{BTreeMap, BTreeSet};

/// What a worker has seen that may go: workloads with name and addresses by port, NAT tables, and the names of
/// all that counts.
#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: Option<u64>,
    workloads: BTreeMap<PortId, (String, Vec<Addr>)>,
    nat: BTreeMap<RouterId, Vec<NatRule>>,
    rules: BTreeMap<RuleKey, String>,
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
        let routers = (0..).map(RouterId).zip(&net.routers);
        let nat = routers.map(|(id, router)| (id, router.nat.rules().to_vec())).collect();
        Known { epoch: Some(net.epoch), workloads, nat, rules: rules(net) }
    }

    /// The rule that now gives a flow the translation that it had by `rule`: the same one, else the first that does.
    fn giver(&self, before: &Known, record: &StageRecord, rule: u32) -> Option<u32> {
        let Node::Gateway(router) = record.node else { return None };
        let (then, now) = (before.nat.get(&router)?, self.nat.get(&router)?);
        let name = then.iter().find(|r| r.id == rule).map(|r| r.name.as_str());
        let mut givers = now.iter().filter(|r| r.gives(&record.before, &record.after));
        let first = givers.next()?;
        let is_same = |r: &&NatRule| r.id == rule && Some(r.name.as_str()) == name;
        Some(std::iter::once(first).chain(givers).find(is_same).unwrap_or(first).id)
    }
}

/// The names of all rules that count what they let through or drop.
fn rules(net: &Network) -> BTreeMap<RuleKey, String> {
    let ethernet = net.firewall.ethernet.iter().map(|rule| (rule.id, &rule.name));
    let firewall = net.firewall.rules.iter().map(|rule| (rule.id, &rule.name));
    let mut all: BTreeMap<RuleKey, String> =
        ethernet.chain(firewall).map(|(id, name)| (RuleKey::Firewall(id), name.clone())).collect();
    all.extend(servers(None, &net.distributed_balancer));
    for (id, router) in (0..).map(RouterId).zip(&net.routers) {
        all.extend(servers(Some(id), &router.balancer));
        let nat = router.nat.rules().iter();
        all.extend(nat.map(|rule| (RuleKey::Nat(id, rule.id), rule.name.clone())));
        let firewall = router.gateway_firewall.rules().iter();
        all.extend(firewall.map(|rule| (RuleKey::GatewayFirewall(id, rule.id), rule.name.clone())));
    }
    all
}

fn servers(
    router: Option<RouterId>,
    table: &VirtualServers,
) -> impl Iterator<Item = (RuleKey, String)> {
    table.servers().iter().map(move |server| {
        let key = RuleKey::Server(router, server.address, server.protocol, server.port);
        (key, server.name.clone())
    })
}

impl Worker {
    /// Ends the sessions of workloads that the new snapshot no longer has at the same port with the
    /// same addresses, of virtual servers that it no longer has, and of translations that no rule of it gives.
    pub(super) fn adopt(&mut self, net: &Network) {
        if self.known.epoch == Some(net.epoch) {
            return;
        }
        let before = std::mem::replace(&mut self.known, Known::of(net));
        let now = &self.known.workloads;
        let mut ports: BTreeSet<PortId> = BTreeSet::new();
        let mut addresses: BTreeSet<Addr> = BTreeSet::new();
        for (port, (name, had)) in &before.workloads {
            match now.get(port) {
                Some((same, has)) if same == name => {
                    addresses.extend(had.iter().filter(|a| !has.contains(a)));
                }
                _ => {
                    ports.insert(*port);
                    addresses.extend(had);
                }
            }
        }
        let gone_rules = self.forget_rules(&before);
        let nat_changed = before.nat != self.known.nat;
        if ports.is_empty() && addresses.is_empty() && gone_rules.is_empty() && !nat_changed {
            return;
        }
        let gone = |tuple: &Tuple| addresses.contains(&tuple.src) || addresses.contains(&tuple.dst);
        for session in self.sessions.list() {
            let mut givers: Vec<(Node, u32)> = Vec::new();
            let over = session.records.iter().any(|r| {
                let at = match r.node {
                    Node::Balancer(port) | Node::Firewall(port) => ports.contains(&port),
                    Node::Gateway(_) | Node::GatewayFirewall(_) => false,
                };
                let by = match r.kind {
                    RecordKind::Nat { rule } => match self.known.giver(&before, r, rule) {
                        Some(giver) if giver != rule => {
                            givers.push((r.node, giver));
                            false
                        }
                        giver => giver.is_none(),
                    },
                    RecordKind::Balancer { .. } => {
                        r.rule_key().is_some_and(|server| gone_rules.contains(&server))
                    }
                    RecordKind::Firewall { .. }
                    | RecordKind::SourcePort
                    | RecordKind::Untranslated => false,
                };
                at || by || gone(&r.before) || gone(&r.after)
            });
            if over {
                self.end(session.id);
            } else {
                for (node, rule) in givers {
                    self.sessions.give(session.id, node, rule);
                }
            }
        }
    }

    /// The rules of before that are no more. What they have counted is forgotten: their numbers are given to
    /// others. Drops stay counted, by nobody's rule.
    fn forget_rules(&mut self, before: &Known) -> BTreeSet<RuleKey> {
        let is_gone = |(key, name): &(&RuleKey, &String)| self.known.rules.get(key) != Some(*name);
        let gone: BTreeSet<RuleKey> =
            before.rules.iter().filter(is_gone).map(|(key, _)| *key).collect();
        if !gone.is_empty() {
            // What the caches know of them first.
            self.collect();
            self.tables.forget_rules(&gone);
        }
        gone
    }
}
