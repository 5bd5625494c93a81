//! Layers of a frame in a packet test: what a `send` states and an `expect` compares.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{AddressExpr, MacExpr, NumberExpr, Target};
use crate::text::text_type;

/// Ethernet addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EthFields {
    /// Source.
    pub src: Option<MacExpr>,
    /// Destination.
    pub dst: Option<MacExpr>,
}

/// ARP (RFC 826), by its own field names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArpFields {
    /// Operation; `send`: request unless stated.
    pub op: Option<ArpOperation>,
    /// Sender's hardware address.
    pub sha: Option<MacExpr>,
    /// Sender's protocol address.
    pub spa: Option<AddressExpr>,
    /// Target's hardware address.
    pub tha: Option<MacExpr>,
    /// Target's protocol address.
    pub tpa: Option<AddressExpr>,
}

/// ARP's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArpOperation {
    /// 1.
    Request,
    /// 2.
    Reply,
}

/// IP header, of either version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IpFields {
    /// Source.
    pub src: Option<AddressExpr>,
    /// Destination.
    pub dst: Option<AddressExpr>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Type of service (DSCP and ECN) or traffic class.
    pub tos: Option<u8>,
    /// Don't fragment (IPv4).
    pub df: Option<bool>,
    /// Identification (IPv4).
    pub id: Option<NumberExpr>,
    /// Fragmentation, of an `expect`; a `send` has `piece`.
    pub fragment: Option<FragmentFields>,
}

/// Where a fragment lies in its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FragmentFields {
    /// Octets before it.
    pub offset: Option<u16>,
    /// Whether more follow.
    pub more: Option<bool>,
}

/// TCP of a `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpSend {
    /// Destination address and port.
    pub to: Option<Target>,
    /// Source port; chosen unless stated.
    #[serde(alias = "src")]
    pub sport: Option<NumberExpr>,
    /// Destination port, where `to` is not stated.
    #[serde(alias = "dst")]
    pub dport: Option<NumberExpr>,
    /// Flags; `S` unless stated.
    pub flags: Option<TcpFlags>,
    /// Sequence number.
    pub seq: Option<NumberExpr>,
    /// Acknowledgement number.
    pub ack: Option<NumberExpr>,
    /// Window.
    pub window: Option<u16>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// TCP of an `expect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpExpect {
    /// Source port.
    #[serde(alias = "src")]
    pub sport: Option<NumberExpr>,
    /// Destination port.
    #[serde(alias = "dst")]
    pub dport: Option<NumberExpr>,
    /// Exactly these flags.
    pub flags: Option<TcpFlags>,
    /// Sequence number.
    pub seq: Option<NumberExpr>,
    /// Acknowledgement number.
    pub ack: Option<NumberExpr>,
    /// Window.
    pub window: Option<u16>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// UDP of a `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UdpSend {
    /// Destination address and port.
    pub to: Option<Target>,
    /// Source port; chosen unless stated.
    #[serde(alias = "src")]
    pub sport: Option<NumberExpr>,
    /// Destination port, where `to` is not stated.
    #[serde(alias = "dst")]
    pub dport: Option<NumberExpr>,
    /// Checksum, as it stands in the header: 0 is none (RFC 768). The right one unless stated.
    pub checksum: Option<u16>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// UDP of an `expect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UdpExpect {
    /// Source port.
    #[serde(alias = "src")]
    pub sport: Option<NumberExpr>,
    /// Destination port.
    #[serde(alias = "dst")]
    pub dport: Option<NumberExpr>,
    /// Checksum, as it stands in the header: 0 is none (RFC 768).
    pub checksum: Option<u16>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// ICMP of a `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IcmpSend {
    /// Destination address.
    pub to: Option<AddressExpr>,
    /// Type; echo request unless stated.
    #[serde(rename = "type")]
    pub kind: Option<IcmpType>,
    /// Code, where the type's name does not say it; else 0.
    pub code: Option<u8>,
    /// Echo identifier.
    pub id: Option<NumberExpr>,
    /// Echo sequence number.
    pub seq: Option<NumberExpr>,
    /// Next-hop MTU of fragmentation needed or packet too big.
    pub mtu: Option<u32>,
    /// The packet that an error quotes: its IP header and 8 octets (RFC 792), with IPv6 all of its headers.
    pub embedded: Option<EmbeddedFields>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// ICMP of an `expect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IcmpExpect {
    /// Type, and code where the type's name says it.
    #[serde(rename = "type")]
    pub kind: Option<IcmpType>,
    /// Code.
    pub code: Option<u8>,
    /// Echo identifier.
    pub id: Option<NumberExpr>,
    /// Echo sequence number.
    pub seq: Option<NumberExpr>,
    /// Next-hop MTU of fragmentation needed or packet too big.
    pub mtu: Option<u32>,
    /// The packet that an error quotes.
    pub embedded: Option<EmbeddedFields>,
    /// Data, as text.
    pub payload: Option<String>,
}

/// The packet quoted in an ICMP error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmbeddedFields {
    /// Source address.
    pub src: Option<AddressExpr>,
    /// Destination address.
    pub dst: Option<AddressExpr>,
    /// Protocol; `send`: TCP unless stated.
    pub protocol: Option<FlowProtocol>,
    /// Source port; of an ICMP query its identifier.
    pub sport: Option<NumberExpr>,
    /// Destination port; of an ICMP query its identifier.
    pub dport: Option<NumberExpr>,
}

/// The protocol of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6 where the addresses are IPv6.
    Icmp,
}

/// TCP flags as letters: F, S, R, P, A, U, E (ECE), C (CWR); each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    const LETTERS: &'static str = "FSRPAUEC";

    /// The flags octet of the TCP header (RFC 9293 and RFC 3168).
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl FromStr for TcpFlags {
    type Err = String;
    fn from_str(text: &str) -> Result<TcpFlags, String> {
        let mut bits = 0;
        for letter in text.chars() {
            let bit = TcpFlags::LETTERS
                .find(letter)
                .map(|position| 1u8 << position)
                .filter(|bit| bits & bit == 0)
                .ok_or_else(|| {
                    format!("'{text}' are not TCP flags; write letters of F S R P A U E C, each once, for instance SA")
                })?;
            bits |= bit;
        }
        Ok(TcpFlags(bits))
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TcpFlags::LETTERS
            .chars()
            .enumerate()
            .filter(|(position, _)| self.0 & 1 << position != 0)
            .try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

text_type!(TcpFlags, "TcpFlags", "TCP flags as letters of F S R P A U E C", "SA");

/// Octets in hexadecimal; blanks are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(Vec<u8>);

impl Hex {
    /// The octets; at least an Ethernet header's 14.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Hex {
    type Err = String;
    fn from_str(text: &str) -> Result<Hex, String> {
        const MAX: usize = 65_535;
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or("a raw frame is written in hexadecimal digits")?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a raw frame has an even number of hexadecimal digits".to_owned());
        }
        if !(14..=MAX).contains(&pairs.len()) {
            return Err(format!("a raw frame has 14 to {MAX} octets, this one {}", pairs.len()));
        }
        Ok(Hex(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

text_type!(
    Hex,
    "Hex",
    "an Ethernet frame in hexadecimal",
    "ffffffffffff 045056000001 0806 0001 0800 06 04 0001 045056000001 0af40002 000000000000 0af40001"
);

/// An ICMP type by name or number. A name stands for a type and, for errors, a code, in either version of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpType {
    /// The type's number in the packet's own version of ICMP.
    Number(u8),
    /// Echo request: 8, or 128.
    EchoRequest,
    /// Echo reply: 0, or 129.
    EchoReply,
    /// 3/0, or 1/0 (no route).
    NetworkUnreachable,
    /// 3/1, or 1/3 (address unreachable).
    HostUnreachable,
    /// 3/3, or 1/4.
    PortUnreachable,
    /// 3/4, or packet too big 2/0.
    FragmentationNeeded,
    /// 3/10 (host administratively prohibited), or 1/1.
    HostProhibited,
    /// 3/13 (communication administratively prohibited), or 1/1.
    AdminProhibited,
    /// 11/0, or 3/0: in transit.
    TimeExceeded,
    /// 11/1, or 3/1: in reassembly.
    ReassemblyTimeExceeded,
}

impl IcmpType {
    const NAMES: [(&'static str, IcmpType); 10] = [
        ("echo-request", IcmpType::EchoRequest),
        ("echo-reply", IcmpType::EchoReply),
        ("network-unreachable", IcmpType::NetworkUnreachable),
        ("host-unreachable", IcmpType::HostUnreachable),
        ("port-unreachable", IcmpType::PortUnreachable),
        ("fragmentation-needed", IcmpType::FragmentationNeeded),
        ("host-prohibited", IcmpType::HostProhibited),
        ("admin-prohibited", IcmpType::AdminProhibited),
        ("time-exceeded", IcmpType::TimeExceeded),
        ("reassembly-time-exceeded", IcmpType::ReassemblyTimeExceeded),
    ];

    /// Type and, where the name says one, code in ICMP (RFC 792).
    #[must_use]
    pub fn v4(self) -> (u8, Option<u8>) {
        match self {
            IcmpType::Number(number) => (number, None),
            IcmpType::EchoRequest => (8, Some(0)),
            IcmpType::EchoReply => (0, Some(0)),
            IcmpType::NetworkUnreachable => (3, Some(0)),
            IcmpType::HostUnreachable => (3, Some(1)),
            IcmpType::PortUnreachable => (3, Some(3)),
            IcmpType::FragmentationNeeded => (3, Some(4)),
            IcmpType::HostProhibited => (3, Some(10)),
            IcmpType::AdminProhibited => (3, Some(13)),
            IcmpType::TimeExceeded => (11, Some(0)),
            IcmpType::ReassemblyTimeExceeded => (11, Some(1)),
        }
    }

    /// Type and, where the name says one, code in ICMPv6 (RFC 4443).
    #[must_use]
    pub fn v6(self) -> (u8, Option<u8>) {
        match self {
            IcmpType::Number(number) => (number, None),
            IcmpType::EchoRequest => (128, Some(0)),
            IcmpType::EchoReply => (129, Some(0)),
            IcmpType::NetworkUnreachable => (1, Some(0)),
            IcmpType::HostUnreachable => (1, Some(3)),
            IcmpType::PortUnreachable => (1, Some(4)),
            IcmpType::FragmentationNeeded => (2, Some(0)),
            IcmpType::HostProhibited | IcmpType::AdminProhibited => (1, Some(1)),
            IcmpType::TimeExceeded => (3, Some(0)),
            IcmpType::ReassemblyTimeExceeded => (3, Some(1)),
        }
    }
}

impl<'de> Deserialize<'de> for IcmpType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<IcmpType, D::Error> {
        struct TypeVisitor;
        impl Visitor<'_> for TypeVisitor {
            type Value = IcmpType;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ICMP type's name or number")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<IcmpType, E> {
                u8::try_from(number)
                    .map(IcmpType::Number)
                    .map_err(|_| E::custom(format!("ICMP type {number} is not in 0..255")))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<IcmpType, E> {
                IcmpType::NAMES
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map(|(_, kind)| *kind)
                    .ok_or_else(|| {
                        let names: Vec<&str> = IcmpType::NAMES.iter().map(|(n, _)| *n).collect();
                        E::custom(format!(
                            "'{text}' is not an ICMP type; it is a number or one of {}",
                            names.join(", ")
                        ))
                    })
            }
        }
        deserializer.deserialize_any(TypeVisitor)
    }
}

impl JsonSchema for IcmpType {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "IcmpType".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = IcmpType::NAMES.iter().map(|(name, _)| *name).collect();
        json_schema!({
            "description": "An ICMP type by name (with its code) or number",
            "oneOf": [{"enum": names}, {"type": "integer", "minimum": 0, "maximum": 255}]
        })
    }
}
