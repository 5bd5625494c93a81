//! What rules of a gateway match by: services, ports, addresses.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::text::Cidr;

/// A protocol, and perhaps its destination ports or ICMP type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleService {
    /// The protocol.
    pub protocol: RuleProtocol,
    /// TCP and UDP: destination ports, `80` or `8000-8010`; none is all.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// ICMP and ICMPv6: the type.
    #[serde(rename = "type")]
    pub kind: Option<u8>,
    /// ICMP and ICMPv6: the code of that type.
    pub code: Option<u8>,
}

/// `TCP/80,443-445`, `ICMP/8:0`.
impl fmt::Display for RuleService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.protocol, f)?;
        for (i, range) in self.ports.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { '/' } else { ',' })?;
        }
        if let Some(kind) = self.kind {
            write!(f, "/{kind}")?;
        }
        if let Some(code) = self.code {
            write!(f, ":{code}")?;
        }
        Ok(())
    }
}

/// An IP protocol by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleProtocol(pub u8);

/// The protocols that have names.
const PROTOCOLS: [(&str, u8); 5] = [
    ("TCP", packet::protocol::TCP),
    ("UDP", packet::protocol::UDP),
    ("SCTP", packet::protocol::SCTP),
    ("ICMP", packet::protocol::ICMP),
    ("ICMPv6", packet::protocol::ICMPV6),
];

impl RuleProtocol {
    /// Whether rules can tell its ports: TCP and UDP.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self.0, packet::protocol::TCP | packet::protocol::UDP)
    }

    /// Whether it has types and codes: ICMP and ICMPv6.
    #[must_use]
    pub fn is_icmp(self) -> bool {
        matches!(self.0, packet::protocol::ICMP | packet::protocol::ICMPV6)
    }
}

impl fmt::Display for RuleProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOLS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "IP-{}", self.0),
        }
    }
}

/// A number, or text that is one or a range.
struct NumberOrText<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for NumberOrText<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl FromStr for RuleProtocol {
    type Err = String;
    fn from_str(text: &str) -> Result<RuleProtocol, String> {
        let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, number)| *number).or_else(|| text.parse().ok()).map(RuleProtocol).ok_or_else(
            || {
                format!(
                    "'{}' is not a protocol; write TCP, UDP, SCTP, ICMP, ICMPv6 or a number",
                    crate::node::excerpt(text)
                )
            },
        )
    }
}

impl<'de> Deserialize<'de> for RuleProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RuleProtocol, D::Error> {
        let expecting = "TCP, UDP, SCTP, ICMP, ICMPv6 or an IP protocol's number";
        deserializer.deserialize_any(NumberOrText(expecting, std::marker::PhantomData))
    }
}

impl JsonSchema for RuleProtocol {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "RuleProtocol".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "TCP, UDP, SCTP, ICMP, ICMPv6 or an IP protocol's number",
            "oneOf": [
                {"enum": ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"]},
                {"type": "integer", "minimum": 0, "maximum": 255}
            ]
        })
    }
}

/// Ports in a row, both ends included, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The first port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<PortRange, String> {
        let fail = || {
            let shown = crate::node::excerpt(text);
            format!("'{shown}' is not a port or range of ports; write 80 or 8000-8010")
        };
        let port = |text: &str| {
            let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(fail)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("'{text}' ends before it begins"));
        }
        Ok(PortRange { first, last })
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PortRange, D::Error> {
        let expecting = "a port such as 80 or a range such as 8000-8010";
        deserializer.deserialize_any(NumberOrText(expecting, std::marker::PhantomData))
    }
}

impl JsonSchema for PortRange {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, or a range FIRST-LAST",
            "examples": [80, "8000-8010"],
            "oneOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string"}
            ]
        })
    }
}

/// First and last address of `FIRST-LAST`, of one family.
pub(super) fn parse_addresses(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let fail = || {
        format!(
            "'{}' is not a range of addresses; write the first and the last, for instance 172.16.2.1-172.16.2.9",
            crate::node::excerpt(text)
        )
    };
    let (first, last) = text.split_once('-').ok_or_else(fail)?;
    let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| fail());
    let (first, last) = (parse(first)?, parse(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(format!("'{text}' mixes IPv4 and IPv6"));
    }
    if first > last {
        return Err(format!("'{text}' ends before it begins"));
    }
    Ok((first, last))
}

/// Addresses that a rule matches, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleAddresses {
    /// A network; an address is one of its own.
    Network(Cidr),
    /// From the first to the last.
    Range(IpAddr, IpAddr),
}

impl RuleAddresses {
    /// The first and the last address.
    #[must_use]
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match self {
            RuleAddresses::Network(net) => (net.network(), net.broadcast()),
            RuleAddresses::Range(first, last) => (*first, *last),
        }
    }
}

impl fmt::Display for RuleAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAddresses::Network(net) => fmt::Display::fmt(net, f),
            RuleAddresses::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl FromStr for RuleAddresses {
    type Err = String;
    fn from_str(text: &str) -> Result<RuleAddresses, String> {
        if text.contains('-') {
            return parse_addresses(text).map(|(first, last)| RuleAddresses::Range(first, last));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return IpNet::from(address).to_string().parse().map(RuleAddresses::Network);
        }
        text.parse().map(RuleAddresses::Network)
    }
}

crate::text::text_type!(
    RuleAddresses,
    "RuleAddresses",
    "an address, a network such as 10.244.0.0/20, or addresses such as 10.244.0.1-10.244.0.9",
    "10.244.0.0/20"
);
