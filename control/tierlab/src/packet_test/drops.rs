//! The drop counters as a test sees them: what was counted since the last send.

use definitions::own::ExpectDrop;
use engine::network::Network;
use engine::{DropKey, DropReason, RuleKey, Stage, Worker, protocol_name};
use std::collections::BTreeMap;

/// Remembers what no longer counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    settled: BTreeMap<DropKey, u64>,
}

impl Ledger {
    /// Everything counted so far no longer counts.
    pub(super) fn settle(&mut self, worker: &Worker) {
        self.settled = worker.drops().iter().map(|(key, t)| (key.clone(), t.packets)).collect();
    }

    /// What was counted since, in the order of stages.
    pub(super) fn counted(&self, worker: &Worker) -> Vec<(DropKey, u64)> {
        let since = |key: &DropKey, packets: u64| {
            packets.saturating_sub(self.settled.get(key).copied().unwrap_or(0))
        };
        worker
            .drops()
            .iter()
            .map(|(key, traffic)| (key.clone(), since(key, traffic.packets)))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    /// Takes what a step named out of the account.
    pub(super) fn claim(&mut self, key: DropKey, packets: u64) {
        *self.settled.entry(key).or_default() += packets;
    }
}

/// Whether stage and reason exist.
///
/// # Errors
/// The one that does not, and all that do.
pub(super) fn check(expect: &ExpectDrop) -> Result<(), String> {
    if let Some(stage) = &expect.stage {
        known("stage", stage, &Stage::ALL.iter().map(|s| s.name()).collect::<Vec<_>>())?;
    }
    if let Some(reason) = &expect.reason {
        known(
            "drop reason",
            reason,
            &DropReason::ALL.iter().map(|r| r.name()).collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

pub(super) fn known(what: &str, name: &str, all: &[&str]) -> Result<(), String> {
    if all.contains(&name) {
        return Ok(());
    }
    Err(format!("'{name}' is no {what}; there are {}", all.join(", ")))
}

/// Whether a counter is the one that a step names.
pub(super) fn admits(expect: &ExpectDrop, key: &DropKey, network: &Network) -> bool {
    expect.stage.as_ref().is_none_or(|stage| stage == key.stage.name())
        && expect.reason.as_ref().is_none_or(|reason| reason == key.reason.name())
        && expect.rule.as_ref().is_none_or(|rule| {
            key.rule.is_some_and(|key| names(network, key).iter().any(|name| name == rule))
        })
}

/// What a step names, for people.
pub(super) fn wanted(expect: &ExpectDrop) -> String {
    let parts: Vec<String> =
        [("stage", &expect.stage), ("reason", &expect.reason), ("rule", &expect.rule)]
            .into_iter()
            .filter_map(|(what, name)| name.as_ref().map(|name| format!("{what} {name}")))
            .collect();
    if parts.is_empty() { "any drop".to_owned() } else { parts.join(", ") }
}

/// A counter in one line.
pub(super) fn describe(key: &DropKey, packets: u64, network: &Network) -> String {
    let mut text = format!("{packets} x {} {} at {}", key.stage, key.reason, key.object);
    if let Some(rule) = key.rule {
        text.push_str(&format!(", rule {}", names(network, rule).join(", ")));
    }
    if let Some(detail) = &key.detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

/// All that a rule may be called: its number, its name, the object it was made from.
pub(super) fn names(network: &Network, key: RuleKey) -> Vec<String> {
    match key {
        RuleKey::Firewall(id) => {
            let identity = network.firewall.identity(id).into_iter();
            let texts = identity.flat_map(|(name, origin)| [name.to_owned(), origin.to_owned()]);
            std::iter::once(id.to_string()).chain(texts).collect()
        }
        RuleKey::GatewayFirewall(router, id) => {
            let firewall = network.router(router).map(|r| &r.gateway_firewall);
            let rules = firewall.map(|f| f.rules()).unwrap_or_default();
            let name = rules.iter().find(|rule| rule.id == id).map(|rule| rule.name.clone());
            std::iter::once(id.to_string()).chain(name).collect()
        }
        RuleKey::Nat(router, id) => {
            let rule = network.router(router).and_then(|r| r.nat.rule(id));
            let name = rule.map(|rule| rule.name.clone());
            std::iter::once(id.to_string()).chain(name).collect()
        }
        RuleKey::Server(router, address, protocol, port) => {
            let table = match router {
                Some(router) => network.router(router).map(|r| &r.balancer),
                None => Some(&network.distributed_balancer),
            };
            let server = table.and_then(|table| table.lookup(address, protocol, port));
            let name = server.map(|(_, server)| server.name.clone());
            let place = format!("{} {address}:{port}", protocol_name(protocol));
            name.into_iter().chain(std::iter::once(place)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::fixture::{Names, addr, bed};
    use super::*;
    use engine::network::{NoMembers, PoolSnat, RouterId, VirtualServer, VirtualServers};
    use packet::protocol;

    #[test]
    fn every_kind_of_rule_has_its_names() {
        let lab = Names::new();
        let mut network = bed(&lab).network.as_ref().clone();
        let server = VirtualServer {
            name: "bank/web:80/TCP".to_owned(),
            address: addr("10.96.0.9"),
            protocol: protocol::TCP,
            port: 80,
            members: Vec::new(),
            snat: PoolSnat::Transparent,
            local_only: false,
            affinity: None,
            source_ranges: Vec::new(),
            no_members: NoMembers::Reject,
        };
        network.distributed_balancer = VirtualServers::new(vec![server], Vec::new());
        let at = |router| RuleKey::Server(router, addr("10.96.0.9"), protocol::TCP, 80);
        for (key, expected) in [
            (RuleKey::Firewall(7), vec!["7", "np-bank-db-isolate", "NetworkPolicy bank/db"]),
            (RuleKey::Firewall(8), vec!["8"]),
            (RuleKey::Nat(RouterId(0), 11), vec!["11", "snat-bank"]),
            (RuleKey::Nat(RouterId(9), 11), vec!["11"]),
            (RuleKey::GatewayFirewall(RouterId(0), 3), vec!["3"]),
            (at(None), vec!["bank/web:80/TCP", "TCP 10.96.0.9:80"]),
            (at(Some(RouterId(0))), vec!["TCP 10.96.0.9:80"]),
        ] {
            assert_eq!(names(&network, key), expected);
        }
    }
}
