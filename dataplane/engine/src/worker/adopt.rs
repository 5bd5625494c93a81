//! What a new snapshot takes away.
//!
//! Ports, addresses and numbers are used again. A workload that gets the index or the address of one that
//! has gone must never inherit its sessions: they would carry it past rules that it was never judged by. So
//! with virtual servers and translations: who gets the address next gets none of the flows. A firewall rule
//! that has gone ends nothing by itself (the next packet is judged again), but what it has counted is
//! nobody's.

use crate::network::{NatAction, NatRule, Network, PolicyChange, PortId, RouterId, VirtualServers};
use crate::session::{Fate, RecordKind, RuleKey, StageRecord, TimerSettings};
use crate::tuple::{Node, Tuple};
use packet::Addr;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// What a snapshot has that may go.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// All ports: name, and a workload's addresses.
    ports: BTreeMap<PortId, (String, Vec<Addr>)>,
    pub(super) nat: BTreeMap<RouterId, Vec<NatRule>>,
    /// The names of all that counts.
    rules: BTreeMap<RuleKey, String>,
    /// How long sessions live.
    pub(super) timers: TimerSettings,
    /// Sessions go on by rules that have gone.
    keeps: bool,
}

impl Known {
    pub(super) fn of(net: &Network) -> Known {
        let ports = (0u32..).zip(&net.ports).map(|(i, port)| {
            let addresses = port.vnic.as_ref().map(|v| v.addresses.clone());
            (PortId(i), (port.name.clone(), addresses.unwrap_or_default()))
        });
        let routers = (0..).map(RouterId).zip(&net.routers);
        let nat = routers.map(|(id, router)| (id, router.nat.rules().to_vec()));
        Known {
            ports: ports.collect(),
            nat: nat.collect(),
            rules: rules(net),
            timers: net.timers,
            keeps: net.firewall.on_change == PolicyChange::Keep,
        }
    }

    /// The rule that now gives a flow the translation that it had by `rule`: the same one, else the first
    /// that does.
    fn giver(&self, before: &Known, record: &StageRecord, rule: u32) -> Option<u32> {
        let Node::Gateway(router) = record.node else { return None };
        let (then, now) = (before.nat.get(&router)?, self.nat.get(&router)?);
        let name = then.iter().find(|r| r.id == rule).map(|r| r.name.as_str());
        let (came, went) = (&record.before, &record.after);
        let is_same = |r: &NatRule| r.id == rule && Some(r.name.as_str()) == name;
        let moves = went.target() != came.target();
        let is_source = |r: &NatRule| matches!(r.action, NatAction::Snat(_) | NatAction::NoSnat);
        let is_target = |r: &NatRule| !(moves && is_source(r)) && r.gives(came, went);
        // Where both sides changed, both have to be given; the address that was asked for may stand in as source.
        let moves_source = moves && ![came.src, came.dst].contains(&went.src);
        if !now.iter().any(is_target)
            || moves_source && !now.iter().any(|r| r.gives_source(came, went))
        {
            return None;
        }
        let mut givers = now.iter().filter(|r| is_target(r) || is_same(r) && r.gives(came, went));
        let first = givers.next()?;
        Some(std::iter::once(first).chain(givers).find(|r| is_same(r)).unwrap_or(first).id)
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

/// What is no more after a snapshot that had it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) ports: BTreeSet<PortId>,
    addresses: BTreeSet<Addr>,
    /// Rules that have gone. Their numbers may be others' already.
    pub(super) rules: BTreeSet<RuleKey>,
    /// Somebody else has some of the ports or addresses already.
    pub(super) again: bool,
}

impl Gone {
    pub(super) fn between(before: &Known, now: &Known) -> Gone {
        let mut gone = Gone::default();
        for (port, (name, had)) in &before.ports {
            match now.ports.get(port) {
                Some((same, has)) if same == name => {
                    gone.addresses.extend(had.iter().filter(|a| !has.contains(a)));
                }
                other => {
                    gone.again |= other.is_some();
                    gone.ports.insert(*port);
                    gone.addresses.extend(had);
                }
            }
        }
        gone.again |=
            now.ports.values().any(|(_, has)| has.iter().any(|a| gone.addresses.contains(a)));
        // A kept session goes on counting for its own rule.
        let is_kept = |key: &RuleKey| now.keeps && matches!(key, RuleKey::Firewall(_));
        let is_gone =
            |(key, name): &(&RuleKey, &String)| now.rules.get(key) != Some(*name) && !is_kept(key);
        gone.rules = before.rules.iter().filter(is_gone).map(|(key, _)| *key).collect();
        gone
    }

    /// Whether no session can be touched by it: nothing of what they depend on has gone, and translations are
    /// given as before.
    pub(super) fn leaves_all(&self, before: &Known, now: &Known) -> bool {
        self.ports.is_empty()
            && self.addresses.is_empty()
            && !self.rules.iter().any(|rule| matches!(rule, RuleKey::Server(..)))
            && before.nat == now.nat
    }

    /// What becomes of a session, by what its stages remember: it ends with its workloads, its virtual server, or when no rule gives its
    /// translation any more.
    pub(super) fn fate(&self, before: &Known, now: &Known, records: &[StageRecord]) -> Fate {
        let gone = |t: &Tuple| self.addresses.contains(&t.src) || self.addresses.contains(&t.dst);
        let mut given = SmallVec::new();
        for r in records {
            let at = match r.node {
                Node::Balancer(port) | Node::Firewall(port) => self.ports.contains(&port),
                Node::Gateway(_) | Node::GatewayFirewall(_) => false,
            };
            if at || gone(&r.before) || gone(&r.after) || !lives(self, before, now, r, &mut given) {
                return Fate::Over;
            }
        }
        Fate::Given(given)
    }
}

/// Whether what a stage decided still has who decided it; notes where that is another rule now.
fn lives(
    gone: &Gone,
    before: &Known,
    now: &Known,
    record: &StageRecord,
    given: &mut SmallVec<[(Node, u32); 1]>,
) -> bool {
    match record.kind {
        RecordKind::Nat { rule } => match now.giver(before, record, rule) {
            Some(giver) => {
                if giver != rule {
                    given.push((record.node, giver));
                }
                true
            }
            None => false,
        },
        RecordKind::Balancer { .. } => {
            !record.rule_key().is_some_and(|server| gone.rules.contains(&server))
        }
        RecordKind::Firewall { .. } | RecordKind::SourcePort | RecordKind::Untranslated => true,
    }
}
