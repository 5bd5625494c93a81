//! What rules, virtual servers and ports have counted, compared (R40).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::network::{
    NatAction, NatRule, Network, PortId, Prefix, RouterId, VirtualServer, VirtualServers,
};
use engine::{RuleKey, Traffic, Worker};
use ipnet::IpNet;
use model::{Count, Counter, NatKind, Pool};

/// Which counter a number stands for. A number may be given to another rule when its own has gone, and what that one
/// had counted goes with it.
#[derive(Default)]
pub struct Numbers {
    all: BTreeMap<RuleKey, BTreeSet<Counter>>,
    /// Rules of the latest network, by number, with their names.
    now: BTreeMap<RuleKey, (String, Counter)>,
    /// Counters of which some rule has gone: the model's go on.
    gone: BTreeSet<Counter>,
}

fn net(prefix: Prefix) -> IpNet {
    IpNet::new(prefix.first().to_ip(), prefix.prefix_len()).unwrap()
}

fn server_counter(gateway: bool, address: packet::Addr, protocol: u8, port: u16) -> Counter {
    Counter::Server { gateway, address: address.to_ip(), protocol, port }
}

/// Rules that the generator wrote have names that begin so.
pub const WRITTEN: &str = "by-hand-";

fn nat_counter(rule: &NatRule) -> Counter {
    if rule.name.starts_with(WRITTEN) {
        return Counter::NatByName(rule.name.clone());
    }
    if rule.name.starts_with("snat-service-") {
        return Counter::NatByName(rule.name.clone());
    }
    let own = rule.name.starts_with("snat-namespace-");
    let from = rule.source.as_ref().filter(|_| !own).map(|nets| net(nets[0]));
    let kind = match rule.action {
        NatAction::NoSnat => NatKind::NoSnat,
        NatAction::Snat(to) => {
            NatKind::Snat(Pool { first: to.first().to_ip(), last: to.last().to_ip() })
        }
        ref other => panic!("{other} is never generated"),
    };
    Counter::Nat { priority: rule.priority, from, to: rule.destination.map(net), kind }
}

impl Numbers {
    /// Learns the numbers of a network.
    pub fn learn(&mut self, network: &Network) {
        let now = Numbers::of(network);
        for (key, (name, counter)) in &self.now {
            if now.get(key).is_none_or(|(same, _)| same != name) {
                self.gone.insert(counter.clone());
            }
        }
        for (key, (_, counter)) in &now {
            self.all.entry(*key).or_default().insert(counter.clone());
        }
        self.now = now;
    }

    fn of(network: &Network) -> BTreeMap<RuleKey, (String, Counter)> {
        let mut now = BTreeMap::new();
        for rule in &network.firewall.ethernet {
            let counter = Counter::Ethernet(rule.name.clone());
            now.insert(RuleKey::Firewall(rule.id), (rule.name.clone(), counter));
        }
        for rule in &network.firewall.rules {
            let counter = Counter::Policy(rule.origin.clone());
            now.insert(RuleKey::Firewall(rule.id), (rule.name.clone(), counter));
        }
        let servers = |router: Option<RouterId>, table: &VirtualServers| {
            let server = |s: &VirtualServer| {
                let key = RuleKey::Server(router, s.address, s.protocol, s.port);
                (
                    key,
                    (
                        s.name.clone(),
                        server_counter(router.is_some(), s.address, s.protocol, s.port),
                    ),
                )
            };
            table.servers().iter().map(server).collect::<Vec<_>>()
        };
        now.extend(servers(None, &network.distributed_balancer));
        for (at, router) in network.routers.iter().enumerate() {
            let id = RouterId(u32::try_from(at).unwrap());
            now.extend(servers(Some(id), &router.balancer));
            for rule in router.gateway_firewall.rules() {
                let tier = match router.tier {
                    engine::network::Tier::Tier0 => model::Tier::Tier0,
                    engine::network::Tier::Tier1 => model::Tier::Tier1,
                };
                let counter = Counter::Gateway(tier, rule.name.clone());
                now.insert(RuleKey::GatewayFirewall(id, rule.id), (rule.name.clone(), counter));
            }
            for rule in router.nat.rules() {
                let counter = nat_counter(rule);
                now.insert(RuleKey::Nat(id, rule.id), (rule.name.clone(), counter));
            }
        }
        now
    }

    fn counters(&self, key: RuleKey) -> BTreeSet<Counter> {
        match key {
            RuleKey::Server(router, address, protocol, port) => {
                BTreeSet::from([server_counter(router.is_some(), address, protocol, port)])
            }
            _ => self.all.get(&key).cloned().unwrap_or_default(),
        }
    }

    /// Compares what the engine's numbers have counted with what the model has.
    pub fn compare(&self, worker: &mut Worker, model: Vec<(Counter, Count)>) -> Result<(), String> {
        let mut engine: BTreeMap<Counter, Count> = BTreeMap::new();
        let mut reused: BTreeSet<Counter> = self.gone.clone();
        for counters in self.all.values().filter(|counters| counters.len() > 1) {
            reused.extend(counters.iter().cloned());
        }
        for (key, hit) in worker.hits() {
            let counters = self.counters(key);
            let Some(counter) = counters.first() else {
                return Err(format!("{key:?} is no rule that there ever was"));
            };
            if matches!(counter, Counter::Ethernet(_)) {
                continue;
            }
            let count = engine.entry(counter.clone()).or_default();
            count.packets += hit.traffic.packets;
            count.octets += hit.traffic.bytes;
            count.sessions += hit.sessions;
            count.last = count.last.max(hit.last.map(|time| Duration::from_nanos(time.0)));
        }
        let mut model: BTreeMap<Counter, Count> = model.into_iter().collect();
        for counter in &reused {
            engine.remove(counter);
            model.remove(counter);
        }
        if engine == model {
            return Ok(());
        }
        let all: BTreeSet<&Counter> = engine.keys().chain(model.keys()).collect();
        let differing: Vec<String> = all
            .into_iter()
            .filter(|counter| engine.get(counter) != model.get(counter))
            .map(|counter| {
                format!(
                    "{counter:?}: engine {:?}, model {:?}",
                    engine.get(counter),
                    model.get(counter)
                )
            })
            .collect();
        Err(format!("they counted differently: {differing:#?}"))
    }
}

/// What went in and out by each port, counted by who sent and received it.
#[derive(Default)]
pub struct Ports(BTreeMap<PortId, (Traffic, Traffic)>);

impl Ports {
    /// A frame went in.
    pub fn sent(&mut self, port: PortId, octets: usize) {
        self.0.entry(port).or_default().0.add(1, u64::try_from(octets).unwrap());
    }

    /// A frame came out.
    pub fn received(&mut self, port: PortId, octets: usize) {
        self.0.entry(port).or_default().1.add(1, u64::try_from(octets).unwrap());
    }

    /// Compares with what the engine counted.
    pub fn compare(&self, worker: &mut Worker) -> Result<(), String> {
        let counted = worker.port_traffic();
        for (port, own) in &self.0 {
            let theirs = counted.get(port).map(|t| (t.rx, t.tx));
            if theirs != Some(*own) {
                return Err(format!("{port:?} carried {own:?}, the engine counted {theirs:?}"));
            }
        }
        let known = |port: &PortId| self.0.contains_key(port);
        match counted.keys().find(|port| !known(port)) {
            None => Ok(()),
            Some(port) => Err(format!("nothing ever passed {port:?}, the engine counted traffic")),
        }
    }
}
