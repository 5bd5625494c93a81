//! `expectTable` of a packet test: rows that tables of the running lab have, or have not.
//!
//! A row of the lab is as expected if it has all that is stated; what is not stated is not compared.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AddressExpr, FlowProtocol, NumberExpr, PortRef};
use crate::text::Span;

/// `expectTable`: for one or several tables the rows expected there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExpectTable {
    /// Sessions.
    pub sessions: Vec<SessionRow>,
    /// Rules with what they let through, translated or dropped: firewall, NAT, virtual servers.
    pub rules: Vec<RuleRow>,
    /// Translations that gateways remember.
    pub nat: Vec<BindingRow>,
    /// Drops by cause, since the test began.
    pub drops: Vec<DropRow>,
    /// Traffic of ports, since the test began.
    pub ports: Vec<PortRow>,
    /// Routes of gateways.
    pub routes: Vec<RouteRow>,
}

/// Both ends of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ends {
    /// Source address.
    pub src: Option<AddressExpr>,
    /// Source port; of an ICMP query its identifier.
    pub sport: Option<NumberExpr>,
    /// Destination address.
    pub dst: Option<AddressExpr>,
    /// Destination port; of an ICMP query its identifier.
    pub dport: Option<NumberExpr>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionRow {
    /// Protocol.
    pub protocol: Option<FlowProtocol>,
    /// The flow as its initiator sent it.
    pub initiating: Option<Ends>,
    /// The flow as its responder got it.
    pub terminating: Option<Ends>,
    /// Timer state, such as `tcp-established`.
    pub state: Option<String>,
    /// Packets, forward and reply.
    pub packets: Option<[u64; 2]>,
    /// Octets of their frames, forward and reply.
    pub bytes: Option<[u64; 2]>,
    /// All stages that remember it, in the order of the path: `dlb PORT`, `dfw PORT`, or a gateway's name.
    pub stages: Option<Vec<String>>,
    /// How many rows are as stated; left out: at least one.
    pub count: Option<usize>,
    /// No row is as stated.
    pub absent: bool,
}

/// A rule and its hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleRow {
    /// Its number, its name, or the object that it was made from.
    pub rule: Option<String>,
    /// Packets that it let through, translated or dropped.
    pub packets: Option<u64>,
    /// Octets of their frames.
    pub bytes: Option<u64>,
    /// Sessions that began by it.
    pub sessions: Option<u64>,
    /// Virtual time from the begin of the test to its last hit.
    pub last_hit: Option<Span>,
    /// How many rows are as stated; left out: at least one.
    pub count: Option<usize>,
    /// No row is as stated.
    pub absent: bool,
}

/// A translation that a gateway remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BindingRow {
    /// The NAT rule's number or name; of a virtual server its name.
    pub rule: Option<String>,
    /// Protocol.
    pub protocol: Option<FlowProtocol>,
    /// The flow as it comes to the gateway.
    pub before: Option<Ends>,
    /// The flow as it leaves it.
    pub after: Option<Ends>,
    /// How many rows are as stated; left out: at least one.
    pub count: Option<usize>,
    /// No row is as stated.
    pub absent: bool,
}

/// A cause of drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DropRow {
    /// The stage, such as `t1-nat`.
    pub stage: Option<String>,
    /// The drop reason, such as `no-session`.
    pub reason: Option<String>,
    /// The rule's number or name, or the object that it was made from.
    pub rule: Option<String>,
    /// The port, segment or gateway where.
    pub object: Option<String>,
    /// Packets.
    pub packets: Option<u64>,
    /// Octets of their frames.
    pub bytes: Option<u64>,
    /// How many rows are as stated; left out: at least one.
    pub count: Option<usize>,
    /// No row is as stated.
    pub absent: bool,
}

/// Packets and octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CounterRow {
    /// Packets.
    pub packets: Option<u64>,
    /// Octets of their frames.
    pub bytes: Option<u64>,
}

/// A port and its traffic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRow {
    /// The port.
    pub port: PortRef,
    /// From the port into the network.
    #[serde(default)]
    pub rx: CounterRow,
    /// From the network to the port.
    #[serde(default)]
    pub tx: CounterRow,
}

/// A route of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteRow {
    /// The gateway, such as `tier0/NAME` or `tier1/NAME`.
    pub router: Option<String>,
    /// Destinations, such as `172.16.2.2/32`.
    pub prefix: Option<String>,
    /// Where it comes from, as `get routes` says: `connected`, `static` and so on.
    pub source: Option<String>,
    /// One of its next hops.
    pub via: Option<AddressExpr>,
    /// How many rows are as stated; left out: at least one.
    pub count: Option<usize>,
    /// No row is as stated.
    pub absent: bool,
}
