//! NAT rules of a gateway, as NSX-T's Policy API has them.
//!
//! Source rules (SNAT, NO_SNAT) and destination rules (DNAT, NO_DNAT) are evaluated apart, each by ascending
//! priority; a REFLEXIVE rule is among both. A rule translates within one family.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use super::rule_service::{PortRange, RuleService};
use crate::text::Cidr;

/// A NO_SNAT rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatExemption {
    /// Packets from here.
    pub source: NatMatch,
    /// To here keep their source.
    pub destination: NatMatch,
}

/// A side of a NAT rule: a network or `Any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatMatch {
    /// Every address.
    #[default]
    Any,
    /// Addresses of this network.
    Network(Cidr),
}

impl fmt::Display for NatMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatMatch::Any => f.write_str("Any"),
            NatMatch::Network(net) => fmt::Display::fmt(net, f),
        }
    }
}

impl std::str::FromStr for NatMatch {
    type Err = String;
    fn from_str(text: &str) -> Result<NatMatch, String> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(NatMatch::Any);
        }
        // A single address is how NSX prints a /32.
        if let Ok(address) = text.parse::<IpAddr>() {
            return IpNet::from(address).to_string().parse().map(NatMatch::Network);
        }
        text.parse().map(NatMatch::Network)
    }
}

crate::text::text_type!(
    NatMatch,
    "NatMatch",
    "Any, an address or a network such as 10.244.0.0/20",
    "10.244.0.0/20"
);

impl NatMatch {
    /// The network, unless it is every address.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        match self {
            NatMatch::Any => None,
            NatMatch::Network(net) => Some(**net),
        }
    }
}

/// What a NAT rule translates to: nothing (`Any`, as NSX prints it), a network, or addresses in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatTranslated {
    /// Nothing.
    #[default]
    None,
    /// An address (/32 or /128) or a network.
    Network(Cidr),
    /// From the first to the last address, of one family.
    Range(IpAddr, IpAddr),
}

impl NatTranslated {
    /// The first and the last address.
    #[must_use]
    pub fn ends(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            NatTranslated::None => None,
            NatTranslated::Network(net) => Some((net.network(), net.broadcast())),
            NatTranslated::Range(first, last) => Some((*first, *last)),
        }
    }

    /// The network, unless it is a range or nothing.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        match self {
            NatTranslated::Network(net) => Some(**net),
            NatTranslated::None | NatTranslated::Range(..) => None,
        }
    }
}

impl fmt::Display for NatTranslated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatTranslated::None => f.write_str("Any"),
            NatTranslated::Network(net) => fmt::Display::fmt(net, f),
            NatTranslated::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl std::str::FromStr for NatTranslated {
    type Err = String;
    fn from_str(text: &str) -> Result<NatTranslated, String> {
        if text.contains('-') {
            let (first, last) = super::rule_service::parse_addresses(text)?;
            return Ok(NatTranslated::Range(first, last));
        }
        Ok(match text.parse::<NatMatch>()? {
            NatMatch::Any => NatTranslated::None,
            NatMatch::Network(net) => NatTranslated::Network(net),
        })
    }
}

crate::text::text_type!(
    NatTranslated,
    "NatTranslated",
    "an address, a network such as 172.16.2.0/28, or addresses such as 172.16.2.1-172.16.2.9",
    "172.16.2.1"
);

/// A rule of a NAT table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatRule {
    /// Its name in tables and drops, unique in the gateway; left out: what it does.
    pub name: Option<String>,
    /// What it does.
    pub action: NatAction,
    /// Packets from here. REFLEXIVE: the inside.
    #[serde(default)]
    pub source: NatMatch,
    /// To here. DNAT: the address or network outside; needed there, nothing for REFLEXIVE.
    #[serde(default)]
    pub destination: NatMatch,
    /// Of this service only; nothing for REFLEXIVE.
    pub service: Option<RuleService>,
    /// SNAT: the new source, or a pool of at most 1024. DNAT: the new destination, one address or a network of the
    /// destination's size. REFLEXIVE: what the outside sees, a network of the source's size. The NO_ rules have none
    /// (`Any`, as NSX prints it, is taken as none).
    #[serde(default)]
    pub translated: NatTranslated,
    /// DNAT: the new destination port, or a range as long as the service's.
    pub translated_port: Option<PortRange>,
    /// Which address the gateway firewall judges.
    #[serde(default)]
    pub firewall_match: FirewallMatch,
    /// Lower wins. Left out: NO_SNAT and NO_DNAT 100, SNAT of every source 2000, others 1000. Equal priorities: the
    /// longer match, then the name.
    pub priority: Option<u32>,
    /// The line that it stands at, from 1.
    #[serde(skip)]
    pub line: u32,
}

/// What a NAT rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum NatAction {
    /// Leave the source as it is, and look no further.
    #[serde(rename = "NO_SNAT")]
    NoSnat,
    /// Translate the source.
    #[serde(rename = "SNAT")]
    Snat,
    /// Leave the destination as it is, and look no further.
    #[serde(rename = "NO_DNAT")]
    NoDnat,
    /// Translate the destination.
    #[serde(rename = "DNAT")]
    Dnat,
    /// Translate one to one in both directions, without sessions.
    #[serde(rename = "REFLEXIVE")]
    Reflexive,
}

impl fmt::Display for NatAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NatAction::NoSnat => "NO_SNAT",
            NatAction::Snat => "SNAT",
            NatAction::NoDnat => "NO_DNAT",
            NatAction::Dnat => "DNAT",
            NatAction::Reflexive => "REFLEXIVE",
        })
    }
}

/// Which address of a translated flow the gateway firewall judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum FirewallMatch {
    /// The inside's: a destination after, a source before its translation.
    #[default]
    #[serde(rename = "MATCH_INTERNAL_ADDRESS")]
    Internal,
    /// The one that the outside sees.
    #[serde(rename = "MATCH_EXTERNAL_ADDRESS")]
    External,
    /// None: the flow passes by the firewall.
    #[serde(rename = "BYPASS")]
    Bypass,
}
