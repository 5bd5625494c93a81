//! `Tier0Gateway`: the edge of the lab.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::gateway_firewall::GatewayFirewall;
use super::nat::NatRule;
use crate::text::{Cidr, InterfaceAddress, MacAddress};

/// `spec` of a Tier0Gateway.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier0GatewaySpec {
    /// How its service routers share the work.
    #[serde(default)]
    pub ha_mode: HaMode,
    /// Interfaces to the outside; their names are different.
    #[serde(default)]
    pub uplinks: Vec<UplinkInterface>,
    /// Reverse-path check of uplinks that do not state their own.
    #[serde(default)]
    pub urpf_mode: UrpfMode,
    /// Static routes.
    #[serde(default)]
    pub static_routes: Vec<Tier0Route>,
    /// NAT of what crosses an uplink. Active-active: REFLEXIVE only.
    #[serde(default)]
    pub nat_rules: Vec<NatRule>,
    /// Its firewall, for what crosses an uplink. Active-active: rules that are not stateful only.
    #[serde(default)]
    pub gateway_firewall: GatewayFirewall,
    /// Equal-cost paths.
    #[serde(default)]
    pub ecmp: Ecmp,
    /// BGP. Checked, not emulated yet.
    pub bgp: Option<Bgp>,
    /// BFD of the neighbours. Checked, not emulated yet.
    pub bfd: Option<Bfd>,
}

/// `spec.haMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HaMode {
    /// All forward.
    #[default]
    ActiveActive,
    /// One forwards.
    ActiveStandby,
}

/// Reverse-path check (RFC 3704) of packets that enter by an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UrpfMode {
    /// A best route back to the source must leave by this interface; any member of an equal-cost set counts.
    #[default]
    Strict,
    /// Some route back must exist.
    Loose,
    /// No check.
    None,
}

/// An interface of the Tier-0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UplinkInterface {
    /// Its name, unique in the gateway.
    pub name: String,
    /// The ExternalNetwork it is in.
    pub network: String,
    /// Its addresses, at least one.
    pub addresses: Vec<InterfaceAddress>,
    /// Its MAC address; generated unless stated.
    pub mac: Option<MacAddress>,
    /// Bytes, 576 to 9000; the network's unless stated.
    #[schemars(range(min = 576, max = 9000))]
    pub mtu: Option<u16>,
    /// Its own reverse-path check.
    pub urpf_mode: Option<UrpfMode>,
}

/// A static route; next hops or `blackhole`, not both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier0Route {
    /// Where to.
    pub network: Cidr,
    /// Next routers; several share the flows.
    #[serde(default)]
    pub next_hops: Vec<IpAddr>,
    /// Administrative distance, 1 to 255; lower wins.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub distance: u8,
    /// Drop in silence.
    #[serde(default)]
    pub blackhole: bool,
}

fn one() -> u8 {
    1
}

/// `spec.ecmp`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ecmp {
    /// False: of equal paths only the first is used.
    pub enabled: bool,
    /// Most paths in use, 1 to 8.
    #[schemars(range(min = 1, max = 8))]
    pub max_paths: u8,
    /// What a flow is told by.
    pub hash: EcmpHash,
}

impl Default for Ecmp {
    fn default() -> Ecmp {
        Ecmp { enabled: true, max_paths: 8, hash: EcmpHash::default() }
    }
}

/// Which fields choose among equal paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EcmpHash {
    /// Addresses, protocol and ports.
    #[default]
    #[serde(rename = "5-tuple")]
    FiveTuple,
    /// Addresses.
    #[serde(rename = "2-tuple")]
    TwoTuple,
}

/// `spec.bgp`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bgp {
    /// Our AS number (RFC 6793: 4 octets).
    #[schemars(range(min = 1))]
    pub local_as: u32,
    /// Peers.
    #[serde(default)]
    pub neighbors: Vec<BgpNeighbor>,
    /// Summaries to announce.
    #[serde(default)]
    pub aggregates: Vec<BgpAggregate>,
}

/// A BGP peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpNeighbor {
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    #[schemars(range(min = 1))]
    pub remote_as: u32,
    /// Seconds between keepalives.
    #[serde(default = "keepalive")]
    pub keep_alive: u16,
    /// Seconds until the session is down.
    #[serde(default = "hold")]
    pub hold_time: u16,
    /// Watched by BFD.
    #[serde(default)]
    pub bfd: bool,
}

fn keepalive() -> u16 {
    60
}

fn hold() -> u16 {
    180
}

/// A BGP summary.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpAggregate {
    /// The summary.
    pub network: Cidr,
    /// Its parts are not announced.
    #[serde(default = "yes")]
    pub summary_only: bool,
}

fn yes() -> bool {
    true
}

/// `spec.bfd` (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bfd {
    /// Interval in milliseconds, 50 to 60000.
    #[schemars(range(min = 50, max = 60_000))]
    pub interval: u32,
    /// Lost packets until the session is down, 2 to 16.
    #[schemars(range(min = 2, max = 16))]
    pub multiplier: u8,
}

impl Default for Bfd {
    fn default() -> Bfd {
        Bfd { interval: 500, multiplier: 3 }
    }
}
