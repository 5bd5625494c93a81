//! Tables of what a lab has done: sessions, traffic, drops.

use crate::observed::Hits;
use engine::network::{Network, PortId, RouterId};
use engine::{
    DropKey, Hit, NeighborEntry, Node, PortTraffic, RecordKind, RuleKey, Session, Traffic,
};
use hosts::Lab;
use packet::Time;
use realization::Realized;
use realization::logical::{
    Column, FirewallRow, GatewayFirewallRow, HitCounts, NatRow, PortRow, Row, VirtualServerRow,
};
use serde::Serialize;
use std::collections::BTreeMap;

const fn col(name: &'static str) -> Column {
    Column { name, wide: false }
}

const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// Serial number.
    pub id: u64,
    /// The flow as its initiator sent it.
    pub initiating: String,
    /// The flow as its responder got it.
    pub terminating: String,
    /// Timer state.
    pub state: String,
    /// Packets, forward and reply.
    pub packets: [u64; 2],
    /// Octets, forward and reply.
    pub bytes: [u64; 2],
    /// Seconds from the start of the lab to the first packet.
    pub created: f64,
    /// Seconds from the start of the lab to the last packet.
    pub last_seen: f64,
    /// What each stage remembers.
    pub stages: Vec<String>,
}

impl Row for SessionRow {
    const COLUMNS: &'static [Column] = &[
        col("ID"),
        col("INITIATING"),
        col("TERMINATING"),
        col("STATE"),
        col("PACKETS"),
        wide("BYTES"),
        wide("CREATED"),
        wide("LAST-SEEN"),
        wide("STAGES"),
    ];
    fn cells(&self) -> Vec<String> {
        let pair = |p: [u64; 2]| format!("{}/{}", p[0], p[1]);
        vec![
            self.id.to_string(),
            self.initiating.clone(),
            self.terminating.clone(),
            self.state.clone(),
            pair(self.packets),
            pair(self.bytes),
            format!("{}s", self.created),
            format!("{}s", self.last_seen),
            self.stages.join("; "),
        ]
    }
}

/// Sessions of a network, in their order.
pub fn sessions(network: &Network, sessions: &[Session]) -> Vec<SessionRow> {
    sessions
        .iter()
        .map(|s| SessionRow {
            id: s.id.serial,
            initiating: s.initiating.to_string(),
            terminating: s.terminating.to_string(),
            state: s.progress.timer_state().to_string(),
            packets: s.traffic.map(|t| t.packets),
            bytes: s.traffic.map(|t| t.bytes),
            created: seconds(s.created),
            last_seen: seconds(s.last_seen),
            stages: s.records.iter().map(|r| stage(network, r)).collect(),
        })
        .collect()
}

/// Seconds from the start of the lab.
fn seconds(at: Time) -> f64 {
    at.0 as f64 / 1e9
}

fn stage(network: &Network, record: &engine::StageRecord) -> String {
    let place = match record.node {
        Node::Balancer(port) => format!("dlb {}", port_name(network, port)),
        Node::Firewall(port) => format!("dfw {}", port_name(network, port)),
        Node::Gateway(router) => router_name(network, router),
        Node::GatewayFirewall(router) => format!("gfw {}", router_name(network, router)),
    };
    match record.kind {
        RecordKind::Firewall { rule: Some(rule), .. } => format!("{place} rule {rule}"),
        RecordKind::Firewall { rule: None, .. } => format!("{place} no rule"),
        RecordKind::Untranslated => format!("{place} not translated"),
        RecordKind::SourcePort => format!("{place} source port: {}", record.after),
        RecordKind::Nat { rule } => format!("{place} NAT rule {rule}: {}", record.after),
        RecordKind::Balancer { server, port, .. } => {
            format!("{place} {server}:{port}: {}", record.after)
        }
    }
}

fn router_name(network: &Network, id: RouterId) -> String {
    network.router(id).map_or_else(|| "gateway".to_owned(), |r| r.name.clone())
}

fn port_name(network: &Network, port: PortId) -> String {
    network.port(port).map_or_else(|| "port".to_owned(), |p| p.name.clone())
}

/// A cause of drops.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DropRow {
    /// Where.
    pub stage: &'static str,
    /// Why.
    pub reason: &'static str,
    /// At which object.
    pub object: String,
    /// By which rule.
    pub rule: Option<String>,
    /// What was wrong with the bytes.
    pub detail: Option<String>,
    /// Frames.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

impl Row for DropRow {
    const COLUMNS: &'static [Column] = &[
        col("STAGE"),
        col("REASON"),
        col("OBJECT"),
        col("RULE"),
        col("PACKETS"),
        wide("BYTES"),
        wide("DETAIL"),
    ];
    fn cells(&self) -> Vec<String> {
        let or_dash = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.stage.to_owned(),
            self.reason.to_owned(),
            self.object.clone(),
            or_dash(&self.rule),
            self.packets.to_string(),
            self.bytes.to_string(),
            or_dash(&self.detail),
        ]
    }
}

/// All drops of a lab by cause.
pub fn drops(lab: &mut Lab) -> Vec<DropRow> {
    let network = lab.network().clone();
    drops_of(&network, &lab.worker().drops())
}

/// Drops by cause, as rows.
pub fn drops_of(network: &Network, drops: &BTreeMap<DropKey, Traffic>) -> Vec<DropRow> {
    drops
        .iter()
        .map(|(key, traffic)| {
            let DropKey { stage, reason, object, rule, detail } = key;
            DropRow {
                stage: stage.name(),
                reason: reason.name(),
                object: object.clone(),
                rule: rule.map(|r| rule_name(network, r)),
                detail: detail.clone(),
                packets: traffic.packets,
                bytes: traffic.bytes,
            }
        })
        .collect()
}

/// A rule as people know it: its number, name and the object it was made from.
pub fn rule_name(network: &Network, key: RuleKey) -> String {
    match key {
        RuleKey::Firewall(id) => network
            .firewall
            .identity(id)
            .map_or_else(|| id.to_string(), |(name, origin)| format!("{id} {name} ({origin})")),
        RuleKey::GatewayFirewall(router, id) => network
            .router(router)
            .and_then(|r| r.gateway_firewall.rules().iter().find(|n| n.id == id))
            .map_or_else(|| id.to_string(), |n| format!("{id} {}", n.name)),
        RuleKey::Nat(router, id) => network
            .router(router)
            .and_then(|r| r.nat.rule(id))
            .map_or_else(|| id.to_string(), |n| format!("{id} {}", n.name)),
        RuleKey::Server(router, address, protocol, port) => {
            let servers = match router.and_then(|r| network.router(r)) {
                Some(r) => &r.balancer,
                None => &network.distributed_balancer,
            };
            servers
                .lookup(address, protocol, port)
                .map_or_else(|| format!("{address}:{port}"), |(_, s)| s.name.clone())
        }
    }
}

/// A neighbour of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighborRow {
    /// The gateway.
    pub router: String,
    /// Its interface.
    pub interface: String,
    /// The neighbour's address.
    pub address: String,
    /// Its MAC; `null` while it is asked for.
    pub mac: Option<String>,
    /// `reachable`, or `incomplete` while it is asked for.
    pub state: &'static str,
    /// Seconds from the start of the lab until it is asked again.
    pub until: f64,
    /// Packets that wait for it.
    pub waiting: usize,
}

impl Row for NeighborRow {
    const COLUMNS: &'static [Column] = &[
        col("ROUTER"),
        col("INTERFACE"),
        col("ADDRESS"),
        col("MAC"),
        col("STATE"),
        wide("UNTIL"),
        wide("WAITING"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.router.clone(),
            self.interface.clone(),
            self.address.clone(),
            self.mac.clone().unwrap_or_else(|| "-".to_owned()),
            self.state.to_owned(),
            format!("{}s", self.until),
            self.waiting.to_string(),
        ]
    }
}

/// The neighbours of all gateways, as rows.
pub fn neighbors(network: &Network, neighbors: &[NeighborEntry]) -> Vec<NeighborRow> {
    let named = |entry: &NeighborEntry| {
        let router = network.router(entry.router)?;
        Some((router.name.clone(), router.interface(entry.interface)?.name.clone()))
    };
    let row = |entry: &NeighborEntry| {
        let (router, interface) = named(entry)?;
        Some(NeighborRow {
            router,
            interface,
            address: entry.address.to_string(),
            mac: entry.mac.map(|mac| mac.to_string()),
            state: if entry.mac.is_some() { "reachable" } else { "incomplete" },
            until: seconds(entry.due),
            waiting: entry.waiting,
        })
    };
    neighbors.iter().filter_map(row).collect()
}

fn hit_counts(hits: &Hits, key: Option<RuleKey>) -> HitCounts {
    let Some(Hit { traffic, sessions, last }) = key.and_then(|key| hits.get(&key).copied()) else {
        return HitCounts::default();
    };
    HitCounts {
        packets: traffic.packets,
        bytes: traffic.bytes,
        sessions,
        last_hit: last.map(seconds),
    }
}

/// The distributed firewall's rules with what they have counted.
pub fn firewall_rules(realized: &Realized, hits: &Hits) -> Vec<FirewallRow> {
    let rows = realized.logical.dfw.iter().cloned();
    rows.map(|row| {
        let key = RuleKey::Firewall(row.id);
        FirewallRow { hits: hit_counts(hits, Some(key)), ..row }
    })
    .collect()
}

/// The gateway that rows name.
fn router_id(realized: &Realized, name: &str) -> Option<RouterId> {
    let mut routers = (0..).map(RouterId).zip(&realized.network.routers);
    routers.find(|(_, router)| router.name == name).map(|(id, _)| id)
}

/// The NAT rules with what they have counted.
pub fn nat_rules(realized: &Realized, hits: &Hits) -> Vec<NatRow> {
    let rows = realized.logical.nat.iter().cloned();
    rows.map(|row| {
        let key = router_id(realized, &row.router).map(|router| RuleKey::Nat(router, row.id));
        NatRow { hits: hit_counts(hits, key), ..row }
    })
    .collect()
}

/// The gateways' firewall rules with what they have counted.
pub fn gateway_rules(realized: &Realized, hits: &Hits) -> Vec<GatewayFirewallRow> {
    let rows = realized.logical.gateway_firewall.iter().cloned();
    rows.map(|row| {
        let router = router_id(realized, &row.router);
        let key = router.map(|router| RuleKey::GatewayFirewall(router, row.id));
        GatewayFirewallRow { hits: hit_counts(hits, key), ..row }
    })
    .collect()
}

/// The virtual servers of both load balancers with what they have counted.
pub fn virtual_servers(realized: &Realized, hits: &Hits) -> Vec<VirtualServerRow> {
    // What a key lacks is the balancer that a row names: the gateways' on one side, every vNIC's on the other.
    let counted: BTreeMap<(bool, String, u16, String), RuleKey> = hits
        .keys()
        .filter_map(|key| match key {
            RuleKey::Server(router, address, protocol, port) => {
                let name = engine::protocol_name(*protocol);
                Some(((router.is_none(), address.to_string(), *port, name), *key))
            }
            _ => None,
        })
        .collect();
    let rows = realized.logical.virtual_servers.iter().cloned();
    rows.map(|row| {
        let distributed = row.balancer == "distributed";
        let wanted = (distributed, row.address.clone(), row.port, row.protocol.to_owned());
        let key = counted.get(&wanted);
        VirtualServerRow { hits: hit_counts(hits, key.copied()), ..row }
    })
    .collect()
}

/// A port with its traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTrafficRow {
    /// The port.
    #[serde(flatten)]
    pub port: PortRow,
    /// Packets from the port into the network.
    pub rx_packets: u64,
    /// Packets from the network to the port.
    pub tx_packets: u64,
    /// Octets from the port into the network.
    pub rx_bytes: u64,
    /// Octets from the network to the port.
    pub tx_bytes: u64,
}

impl Row for PortTrafficRow {
    const COLUMNS: &'static [Column] = &[
        col("PORT"),
        col("SEGMENT"),
        col("MAC"),
        col("ADDRESS"),
        col("RX"),
        col("TX"),
        wide("RX-BYTES"),
        wide("TX-BYTES"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.port.name.clone(),
            self.port.segment.clone(),
            self.port.mac.clone(),
            self.port.addresses.join(","),
            self.rx_packets.to_string(),
            self.tx_packets.to_string(),
            self.rx_bytes.to_string(),
            self.tx_bytes.to_string(),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        self.port.namespace()
    }
}

/// All ports with their traffic.
pub fn port_traffic(
    realized: &Realized,
    traffic: &BTreeMap<PortId, PortTraffic>,
) -> Vec<PortTrafficRow> {
    realized
        .logical
        .ports
        .iter()
        .map(|row| {
            let t = realized
                .network
                .port_named(&row.name)
                .and_then(|id| traffic.get(&id).copied())
                .unwrap_or_default();
            PortTrafficRow {
                port: row.clone(),
                rx_packets: t.rx.packets,
                tx_packets: t.tx.packets,
                rx_bytes: t.rx.bytes,
                tx_bytes: t.tx.bytes,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::open;
    use definitions::Input;
    use hosts::TcpOptions;
    use packet::Addr;
    use realization::Allocations;
    use std::time::Duration;

    const SERVICE: &str = "
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: 10.96.0.50, selector: {app: db}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {containers: [{name: c, image: i}]}}
";

    /// IP packets that reached some ports, and their octets.
    fn arrived(lab: &mut Lab, ports: &[&str]) -> (u64, u64) {
        let wanted: Vec<PortId> =
            ports.iter().map(|name| lab.network().port_named(name).unwrap()).collect();
        let frames = lab.take_watched().into_iter().filter(|d| wanted.contains(&d.port));
        let sizes = frames
            .filter(|d| packet::parse(&d.frame.bytes).is_ok_and(|h| h.ip().is_some()))
            .map(|d| d.frame.bytes.len() as u64);
        sizes.fold((0, 0), |(packets, bytes), size| (packets + 1, bytes + size))
    }

    /// Has `front` open five connections and be answered.
    fn connect(lab: &mut Lab, to: Addr, port: u16) {
        let front = lab.host_named("pod/shop/front").unwrap();
        for _ in 0..5 {
            let options =
                TcpOptions { send: b"GET / HTTP/1.0\r\n\r\n".to_vec(), ..TcpOptions::default() };
            lab.with_host(front, |h, now, out| h.start_tcp(to, port, options, now, out));
        }
        lab.advance(Duration::from_secs(5));
    }

    #[test]
    fn hits_add_up_to_what_the_ports_saw() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies/first-lab");
        let inputs = [Input::Path(path.into()), Input::text("service.yaml", SERVICE)];
        let opened = open::realize(&inputs, &Allocations::default()).unwrap();
        let realized = &opened.realized;
        let mut lab = open::lab(realized);
        assert!(
            nat_rules(realized, &lab.worker().hits())
                .iter()
                .all(|r| r.hits == HitCounts::default())
        );
        lab.watch(true);
        // Through SNAT: each packet of both directions arrives at one of the two ports.
        connect(&mut lab, "192.168.100.1".parse().unwrap(), 80);
        let (packets, bytes) = arrived(&mut lab, &["pod/shop/front", "host/server:eth0"]);
        assert!(packets >= 5 * 8, "{packets} packets are no five connections");
        let rows = nat_rules(realized, &lab.worker().hits());
        let used: Vec<&NatRow> = rows.iter().filter(|r| r.hits.packets > 0).collect();
        assert_eq!(
            used.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
            ["snat-namespace-shop"]
        );
        let hits = used[0].hits;
        assert_eq!((hits.packets, hits.bytes, hits.sessions), (packets, bytes, 5));
        assert!(hits.last_hit.is_some_and(|at| at <= 5.0), "{hits:?}");
        // Through the firewall of the pod next to it, by the rule of the namespace's own pods.
        let before: u64 =
            firewall_rules(realized, &lab.worker().hits()).iter().map(|r| r.hits.packets).sum();
        assert_eq!(before, 0, "no rule is applied to what leaves");
        connect(&mut lab, "10.244.0.18".parse().unwrap(), 6379);
        let (packets, bytes) = arrived(&mut lab, &["pod/shop/front", "pod/shop/back"]);
        let rows = firewall_rules(realized, &lab.worker().hits());
        let used: Vec<&FirewallRow> = rows.iter().filter(|r| r.hits.packets > 0).collect();
        assert_eq!(used.len(), 1, "{used:?}");
        assert_eq!(used[0].name, "ns.shop.ingress-namespace");
        let hits = used[0].hits;
        assert_eq!((hits.packets, hits.bytes, hits.sessions), (packets, bytes, 5));
        // Through the distributed load balancer.
        connect(&mut lab, "10.96.0.50".parse().unwrap(), 80);
        let (packets, bytes) = arrived(&mut lab, &["pod/shop/front", "pod/shop/db"]);
        let rows = virtual_servers(realized, &lab.worker().hits());
        let row = rows.iter().find(|r| r.service == "db").unwrap();
        assert_eq!((row.hits.packets, row.hits.bytes, row.hits.sessions), (packets, bytes, 5));
    }
}
