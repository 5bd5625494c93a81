//! Tables of what a lab has done: sessions, traffic, drops.

use engine::network::{Network, PortId};
use engine::{DropKey, Node, RecordKind, RuleKey};
use hosts::Lab;
use realization::Realized;
use realization::logical::{Column, PortRow, Row};
use serde::Serialize;

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

/// All sessions, oldest first.
pub fn sessions(lab: &mut Lab) -> Vec<SessionRow> {
    let network = lab.network().clone();
    lab.worker()
        .sessions()
        .into_iter()
        .map(|s| SessionRow {
            id: s.id.serial,
            initiating: s.initiating.to_string(),
            terminating: s.terminating.to_string(),
            state: s.progress.timer_state().to_string(),
            packets: s.traffic.map(|t| t.packets),
            bytes: s.traffic.map(|t| t.bytes),
            created: s.created.0 as f64 / 1e9,
            last_seen: s.last_seen.0 as f64 / 1e9,
            stages: s.records.iter().map(|r| stage(&network, r)).collect(),
        })
        .collect()
}

fn stage(network: &Network, record: &engine::StageRecord) -> String {
    let place = match record.node {
        Node::Balancer(port) => format!("dlb {}", port_name(network, port)),
        Node::Firewall(port) => format!("dfw {}", port_name(network, port)),
        Node::Gateway(router) => {
            network.router(router).map_or_else(|| "gateway".to_owned(), |r| r.name.clone())
        }
    };
    match record.kind {
        RecordKind::Firewall { rule: Some(rule), .. } => format!("{place} rule {rule}"),
        RecordKind::Firewall { rule: None, .. } => format!("{place} no rule"),
        RecordKind::SourcePort => format!("{place} source port: {}", record.after),
        RecordKind::Nat { rule } => format!("{place} NAT rule {rule}: {}", record.after),
        RecordKind::Balancer { server, port, .. } => {
            format!("{place} {server}:{port}: {}", record.after)
        }
    }
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

/// All drops by cause.
pub fn drops(lab: &mut Lab) -> Vec<DropRow> {
    let network = lab.network().clone();
    lab.worker()
        .drops()
        .iter()
        .map(|(key, traffic)| {
            let DropKey { stage, reason, object, rule, detail } = key;
            DropRow {
                stage: stage.name(),
                reason: reason.name(),
                object: object.clone(),
                rule: rule.map(|r| rule_name(&network, r)),
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
        RuleKey::Nat(router, id) => network
            .router(router)
            .and_then(|r| r.nat.rules().iter().find(|n| n.id == id))
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
pub fn port_traffic(realized: &Realized, lab: &mut Lab) -> Vec<PortTrafficRow> {
    let traffic = lab.worker().port_traffic();
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
