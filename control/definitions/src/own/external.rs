//! `ExternalNetwork` and `ExternalHost`: what lies outside of the cluster.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::text::{Cidr, Cidr4, Cidr6, InterfaceAddress, MacAddress, text_type};

/// `spec` of an ExternalNetwork: one layer-2 network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalNetworkSpec {
    /// Its IPv4 addresses; where stated, interfaces in it must fit.
    pub cidr: Option<Cidr4>,
    /// Its IPv6 addresses; where stated, interfaces in it must fit.
    #[serde(rename = "cidrV6")]
    pub cidr_v6: Option<Cidr6>,
    /// 802.1Q tag of its frames, 1 to 4094; left out: untagged.
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// Bytes, 576 to 9000; 1500 unless stated.
    #[schemars(range(min = 576, max = 9000))]
    pub mtu: Option<u16>,
}

/// `spec` of an ExternalHost. A router or leaf switch is one with `forwarding`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalHostSpec {
    /// Its interfaces, at least one; their names are different.
    pub interfaces: Vec<HostInterface>,
    /// Static routes beside those of its interfaces.
    #[serde(default)]
    pub routes: Vec<HostRoute>,
    /// Policy-routing rules, as of `ip rule`; at equal priority in this order.
    #[serde(default)]
    pub rules: Vec<HostRule>,
    /// It passes on packets that are not for it.
    #[serde(default)]
    pub forwarding: bool,
    /// TTL or hop limit of packets it makes, 1 to 255.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 1))]
    pub ttl: u8,
    /// What listens on it.
    #[serde(default)]
    pub services: Vec<HostService>,
}

fn default_ttl() -> u8 {
    64
}

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostInterface {
    /// Its name, unique in the host, at most 15 characters.
    pub name: String,
    /// The ExternalNetwork it is in.
    pub network: String,
    /// Its addresses, at least one.
    pub addresses: Vec<InterfaceAddress>,
    /// Its MAC address; generated unless stated.
    pub mac: Option<MacAddress>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// Everywhere, in the family of `via`.
    Default,
    /// To this network.
    Network(Cidr),
}

text_type!(
    RouteTarget,
    "RouteTarget",
    "default or a network such as 172.16.0.0/16",
    "172.16.0.0/16"
);

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteTarget::Default => f.write_str("default"),
            RouteTarget::Network(net) => fmt::Display::fmt(net, f),
        }
    }
}

impl FromStr for RouteTarget {
    type Err = String;
    fn from_str(text: &str) -> Result<RouteTarget, String> {
        if text == "default" {
            return Ok(RouteTarget::Default);
        }
        text.parse().map(RouteTarget::Network)
    }
}

/// A static route of a host; `via`, `dev`, or both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRoute {
    /// Where to.
    pub to: RouteTarget,
    /// The next router; left out: the network is on the link.
    pub via: Option<IpAddr>,
    /// The interface; left out: the one whose network holds `via`.
    pub dev: Option<String>,
    /// The routing table, 1 to 4294967295; 254 (main) unless stated.
    #[serde(default = "main_table")]
    #[schemars(range(min = 1))]
    pub table: u32,
}

fn main_table() -> u32 {
    254
}

/// A policy-routing rule, as of Linux' `ip rule`. What is left out matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRule {
    /// Source addresses.
    pub from: Option<Cidr>,
    /// Destination addresses.
    pub to: Option<Cidr>,
    /// The packet came in by this interface.
    pub iif: Option<String>,
    /// The packet's socket is bound to this interface.
    pub oif: Option<String>,
    /// The table to look in.
    #[schemars(range(min = 1))]
    pub table: u32,
    /// Lower comes first; `local` is before all, `main` at 32766, `default` at 32767.
    #[serde(default)]
    pub priority: u32,
}

/// Something that listens on a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostService {
    /// 1 to 65535.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// TCP unless stated.
    #[serde(default)]
    pub protocol: HostServiceProtocol,
    /// What it answers.
    pub kind: HostServiceKind,
    /// With `kind: dns`: addresses by name.
    #[serde(default)]
    pub records: BTreeMap<String, Vec<IpAddr>>,
}

/// The protocol of a [`HostService`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum HostServiceProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP", alias = "tcp")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP", alias = "udp")]
    Udp,
}

/// What a [`HostService`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostServiceKind {
    /// What it received.
    Echo,
    /// An HTTP response that says who it is and whom it sees as client.
    Http,
    /// DNS answers from `records`.
    Dns,
    /// Nothing (RFC 863).
    Discard,
}
