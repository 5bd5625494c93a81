//! `PacketTest`: frames sent, frames expected, time passing.
//!
//! A frame that leaves the lab at any port and is not expected by a step fails the test.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Apply, ArpFields, Delete, EthFields, ExpectTable, Hex, IcmpExpect, IcmpSend, IpFields,
    NumberExpr, PortRef, Target, TcpExpect, TcpSend, UdpExpect, UdpSend,
};
use crate::manifests::Change;
use crate::text::Span;

/// `spec` of a PacketTest.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PacketTestSpec {
    /// What it shows, for people.
    pub description: Option<String>,
    /// In order; at least one.
    pub steps: Vec<Step>,
    /// Line of each step in its file, from 1; filled by loading.
    #[serde(skip)]
    pub lines: Vec<u32>,
    /// What each `apply` and `delete` does, by the index of its step; filled by loading.
    #[serde(skip)]
    pub changes: BTreeMap<usize, Change>,
}

/// One step. Written as a mapping with the step's name as its only key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A frame enters the lab.
    Send(Box<Send>),
    /// A frame leaves the lab: the next one at that port that no step has claimed.
    Expect(Box<Expect>),
    /// The frame of the last `send` was dropped.
    ExpectDrop(ExpectDrop),
    /// Nothing left the lab since the last claimed frame.
    ExpectNothing(ExpectNothing),
    /// TCP's three-way handshake, both ends played by the test.
    Handshake(Handshake),
    /// Virtual time passes.
    Advance(Span),
    /// Manifests are applied to the running lab, as `kubectl apply` does.
    Apply(Apply),
    /// Objects are deleted from the running lab, as `kubectl delete` does.
    Delete(Delete),
    /// Tables of the running lab have, or have not, these rows.
    ExpectTable(Box<ExpectTable>),
}

/// `send`. Exactly one of `arp`, `tcp`, `udp`, `icmp`, `hex` says what the frame is; with `ip` alone it is a bare IP packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Send {
    /// Where it enters: the emulated endpoint there is the sender.
    pub from: PortRef,
    /// Ethernet addresses; the sender's and its next hop's unless stated.
    pub eth: Option<EthFields>,
    /// ARP.
    pub arp: Option<ArpFields>,
    /// IP header.
    pub ip: Option<IpFields>,
    /// TCP.
    pub tcp: Option<TcpSend>,
    /// UDP.
    pub udp: Option<UdpSend>,
    /// ICMP, or ICMPv6 where the addresses are IPv6.
    pub icmp: Option<IcmpSend>,
    /// Data after the innermost header, as text.
    pub payload: Option<String>,
    /// The whole frame, in hexadecimal; blanks between octets are ignored.
    pub hex: Option<Hex>,
    /// Only this piece of the packet is sent, as an IP fragment.
    pub piece: Option<Piece>,
}

/// A piece of a packet: a fragment's place in the data behind the IP header (RFC 791; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Piece {
    /// First octet, a multiple of 8.
    #[serde(default)]
    pub offset: u16,
    /// Octets, a multiple of 8 unless the packet ends there; left out: to its end. More fragments follow unless
    /// it reaches the end.
    pub length: Option<u16>,
}

/// `expect`. Only what is stated is compared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// Where it leaves.
    pub at: PortRef,
    /// Ethernet addresses.
    pub eth: Option<EthFields>,
    /// ARP.
    pub arp: Option<ArpFields>,
    /// IP header.
    pub ip: Option<IpFields>,
    /// TCP.
    pub tcp: Option<TcpExpect>,
    /// UDP.
    pub udp: Option<UdpExpect>,
    /// ICMP or ICMPv6.
    pub icmp: Option<IcmpExpect>,
    /// Data after the innermost header, as text.
    pub payload: Option<String>,
    /// Stores fields of the frame for later `${VARIABLE}`s.
    #[serde(default)]
    pub save: BTreeMap<String, SaveField>,
    /// How long virtual time may pass until it comes; left out: not at all.
    pub within: Option<Span>,
}

/// `expectDrop`. Only what is stated is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExpectDrop {
    /// The stage that dropped it, such as `t1-nat`.
    pub stage: Option<String>,
    /// The drop reason, such as `no-session`.
    pub reason: Option<String>,
    /// The rule or object responsible.
    pub rule: Option<String>,
}

/// `expectNothing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExpectNothing {
    /// At this port; left out: anywhere.
    pub at: Option<PortRef>,
}

/// `handshake`. With `from` and `to` the whole of it; with neither, what is left after the SYN of the last `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Handshake {
    /// The client.
    pub from: Option<PortRef>,
    /// What the client connects to.
    pub to: Option<Target>,
    /// The client's port; chosen unless stated.
    pub sport: Option<NumberExpr>,
}

/// A field that `save` can store; its text is `layer.field`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum SaveField {
    /// Source MAC address.
    #[serde(rename = "eth.src")]
    EthSrc,
    /// Destination MAC address.
    #[serde(rename = "eth.dst")]
    EthDst,
    /// ARP sender's hardware address.
    #[serde(rename = "arp.sha")]
    ArpSha,
    /// ARP sender's protocol address.
    #[serde(rename = "arp.spa")]
    ArpSpa,
    /// Source address.
    #[serde(rename = "ip.src")]
    IpSrc,
    /// Destination address.
    #[serde(rename = "ip.dst")]
    IpDst,
    /// TTL or hop limit.
    #[serde(rename = "ip.ttl")]
    IpTtl,
    /// IPv4 identification.
    #[serde(rename = "ip.id")]
    IpId,
    /// TCP source port.
    #[serde(rename = "tcp.src", alias = "tcp.sport")]
    TcpSrc,
    /// TCP destination port.
    #[serde(rename = "tcp.dst", alias = "tcp.dport")]
    TcpDst,
    /// TCP sequence number.
    #[serde(rename = "tcp.seq")]
    TcpSeq,
    /// TCP acknowledgement number.
    #[serde(rename = "tcp.ack")]
    TcpAck,
    /// UDP source port.
    #[serde(rename = "udp.src", alias = "udp.sport")]
    UdpSrc,
    /// UDP destination port.
    #[serde(rename = "udp.dst", alias = "udp.dport")]
    UdpDst,
    /// ICMP echo identifier.
    #[serde(rename = "icmp.id")]
    IcmpId,
    /// ICMP echo sequence number.
    #[serde(rename = "icmp.seq")]
    IcmpSeq,
    /// ICMP next-hop MTU.
    #[serde(rename = "icmp.mtu")]
    IcmpMtu,
}
