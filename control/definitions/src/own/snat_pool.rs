//! `spec.snatPools`: NSX's IP pools that NCP takes a Service's egress address from (annotation `ncp/snat_pool`).
//!
//! NCP finds a pool by its name and lets only the namespaces use it that the pool's owner tags name ("Configuring SNAT",
//! NCP documentation). As in NSX two pools may have one name; who asks for it then gets neither.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv4Subnets};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::text::{Cidr4, text_type};

/// A pool of egress addresses for Services.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnatPool {
    /// What `ncp/snat_pool` calls it: at most 63 of letters, digits, '-', '_' and '.'.
    pub name: String,
    /// Its addresses: networks, ranges and single ones, searched in this order; no two overlap.
    #[schemars(length(min = 1))]
    pub addresses: Vec<AddressRange>,
    /// The namespaces whose Services may use it; left out: all.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// Addresses of a pool: a network, of which as of every network here the first and the last address are not given out
/// (unless `egressUseEdgeAddresses`), a range, which is given out whole, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRange {
    /// A network.
    Network(Ipv4Net),
    /// First and last address; the same for a single one.
    Range(Ipv4Addr, Ipv4Addr),
}

text_type!(
    AddressRange,
    "AddressRange",
    "an IPv4 network, a range such as 172.16.3.10-172.16.3.20, or an address",
    "172.16.3.0/28"
);

impl AddressRange {
    /// The lowest address, given out or not.
    #[must_use]
    pub fn first(&self) -> Ipv4Addr {
        match self {
            AddressRange::Network(net) => net.network(),
            AddressRange::Range(first, _) => *first,
        }
    }

    /// The highest address, given out or not.
    #[must_use]
    pub fn last(&self) -> Ipv4Addr {
        match self {
            AddressRange::Network(net) => net.broadcast(),
            AddressRange::Range(_, last) => *last,
        }
    }

    /// The fewest networks that have these addresses and no other.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Net> {
        Ipv4Subnets::new(self.first(), self.last(), 0)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressRange::Network(net) => write!(f, "{net}"),
            AddressRange::Range(first, last) if first == last => write!(f, "{first}"),
            AddressRange::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;
    fn from_str(text: &str) -> Result<AddressRange, String> {
        let fail = || {
            format!(
                "'{text}' is not an address, a network or a range; write for instance 172.16.3.0/28 or \
                 172.16.3.10-172.16.3.20"
            )
        };
        if text.contains('/') {
            return text.parse::<Cidr4>().map(|net| AddressRange::Network(*net));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| fail());
        let (first, last) = (address(first)?, address(last)?);
        if first > last {
            return Err(format!("'{text}' ends before it begins"));
        }
        Ok(AddressRange::Range(first, last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn networks(text: &str) -> Vec<String> {
        text.parse::<AddressRange>().unwrap().networks().map(|n| n.to_string()).collect()
    }

    #[test]
    fn what_a_range_covers() {
        assert_eq!(networks("172.16.3.0/28"), ["172.16.3.0/28"]);
        assert_eq!(networks("172.16.3.9"), ["172.16.3.9/32"]);
        // 10 and 11; 12 to 15; 16 to 19; 20.
        assert_eq!(
            networks("172.16.3.10 - 172.16.3.20"),
            ["172.16.3.10/31", "172.16.3.12/30", "172.16.3.16/30", "172.16.3.20/32"]
        );
        assert_eq!(networks("0.0.0.0-255.255.255.255"), ["0.0.0.0/0"]);
    }

    #[test]
    fn what_is_no_range() {
        for text in
            ["", "x", "172.16.3.0/33", "172.16.3.1/28", "172.16.3.9-172.16.3.8", "a-b", "fd00::/64"]
        {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }
}
