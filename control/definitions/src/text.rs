//! Scalars that the user writes as text: networks, addresses with a prefix, MAC addresses, durations, names.
//!
//! Each is a type whose only way in is its parser, so that a value inside the model has been checked. The parser's
//! error says what is wrong and how it is written.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use packet::Mac;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads a string and parses it; a number or boolean is refused, as the Kubernetes API does.
pub(crate) fn parse_text<'de, D, T>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(expecting, std::marker::PhantomData))
}

/// Names the field in the message of a text that could not be parsed.
pub(crate) fn named<T>(field: &str, parsed: Result<T, String>) -> Result<T, String> {
    parsed.map_err(|message| format!("{field}: {message}"))
}

/// Gives a `FromStr` type its serde and JSON Schema sides.
macro_rules! text_type {
    ($type:ty, $name:literal, $expecting:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                $crate::text::parse_text(deserializer, $expecting)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $expecting, "examples": [$example]})
            }
        }
    };
}
pub(crate) use text_type;

/// Gives a newtype `Deref` to what it holds, and its `Display`.
macro_rules! transparent {
    ($type:ident, $inner:ty) => {
        impl Deref for $type {
            type Target = $inner;
            fn deref(&self) -> &$inner {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

/// An IP network; no host bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);
transparent!(Cidr, IpNet);
text_type!(Cidr, "Cidr", "a network such as 10.244.0.0/20", "10.244.0.0/20");

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Cidr, String> {
        let net: IpNet = text.parse().map_err(|_| {
            format!("'{text}' is not a network; write an address and a prefix length, for instance 10.244.0.0/20")
        })?;
        if net.addr() != net.network() {
            return Err(format!("'{text}' has host bits set; the network is {}", net.trunc()));
        }
        Ok(Cidr(net))
    }
}

/// An IPv4 network; no host bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr4(Ipv4Net);
transparent!(Cidr4, Ipv4Net);
text_type!(Cidr4, "Cidr4", "an IPv4 network such as 10.244.0.0/20", "10.244.0.0/20");

impl FromStr for Cidr4 {
    type Err = String;
    fn from_str(text: &str) -> Result<Cidr4, String> {
        match *text.parse::<Cidr>()? {
            IpNet::V4(net) => Ok(Cidr4(net)),
            IpNet::V6(_) => Err(format!("'{text}' is IPv6; an IPv4 network is needed here")),
        }
    }
}

impl From<Ipv4Net> for Cidr4 {
    fn from(net: Ipv4Net) -> Cidr4 {
        Cidr4(net.trunc())
    }
}

/// An IPv6 network; no host bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr6(Ipv6Net);
transparent!(Cidr6, Ipv6Net);
text_type!(Cidr6, "Cidr6", "an IPv6 network such as fd00:244::/48", "fd00:244::/48");

impl FromStr for Cidr6 {
    type Err = String;
    fn from_str(text: &str) -> Result<Cidr6, String> {
        match *text.parse::<Cidr>()? {
            IpNet::V6(net) => Ok(Cidr6(net)),
            IpNet::V4(_) => Err(format!("'{text}' is IPv4; an IPv6 network is needed here")),
        }
    }
}

/// An address on a link with its prefix length, `192.168.10.10/24`; neither the network's own nor its broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(IpNet);
transparent!(InterfaceAddress, IpNet);
text_type!(
    InterfaceAddress,
    "InterfaceAddress",
    "an address with its prefix length such as 192.168.10.10/24",
    "192.168.10.10/24"
);

impl FromStr for InterfaceAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<InterfaceAddress, String> {
        let net: IpNet = text.parse().map_err(|_| {
            format!("'{text}' is not an interface address; write an address and a prefix length, for instance 192.168.10.10/24")
        })?;
        let address = net.addr();
        if address.is_unspecified() || address.is_multicast() || is_broadcast(address) {
            return Err(format!("'{text}' is not a unicast address"));
        }
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
            && (v4.addr() == v4.network() || v4.addr() == v4.broadcast())
        {
            return Err(format!(
                "'{text}' is the {} address of {}, not a host's",
                if v4.addr() == v4.network() { "network" } else { "broadcast" },
                v4.trunc()
            ));
        }
        Ok(InterfaceAddress(net))
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// A unicast Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(Mac);
transparent!(MacAddress, Mac);
text_type!(
    MacAddress,
    "MacAddress",
    "a unicast MAC address such as 04:50:56:00:d0:00",
    "04:50:56:00:d0:00"
);

impl FromStr for MacAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<MacAddress, String> {
        let mac: Mac = text.parse().map_err(|e: <Mac as FromStr>::Err| e.to_string())?;
        if mac == Mac::ZERO || mac.is_group() {
            return Err(format!("'{text}' is not a station's (unicast) MAC address"));
        }
        Ok(MacAddress(mac))
    }
}

/// An Ethernet address of a station or a group, as a rule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacOrGroup(Mac);
transparent!(MacOrGroup, Mac);
text_type!(
    MacOrGroup,
    "MacOrGroup",
    "a MAC address such as 04:50:56:00:d0:00 or ff:ff:ff:ff:ff:ff",
    "04:50:56:00:d0:00"
);

impl FromStr for MacOrGroup {
    type Err = String;
    fn from_str(text: &str) -> Result<MacOrGroup, String> {
        let mac: Mac = text.parse().map_err(|e: <Mac as FromStr>::Err| e.to_string())?;
        if mac == Mac::ZERO {
            return Err(format!("'{text}' is nobody's MAC address"));
        }
        Ok(MacOrGroup(mac))
    }
}

/// A length of time: numbers with units `d`, `h`, `m`, `s`, `ms`, `us`, largest first: `3h`, `1h30m`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);
impl Deref for Span {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}
text_type!(Span, "Span", "a length of time such as 500ms, 45s, 3h or 1h30m", "1h30m");

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Span, String> {
        const UNITS: [(&str, u64); 6] = [
            ("d", 86_400_000_000),
            ("h", 3_600_000_000),
            ("m", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1_000),
            ("us", 1),
        ];
        let fail = || {
            format!("'{text}' is not a length of time; write for instance 500ms, 45s, 3h or 1h30m")
        };
        let mut rest = text;
        let mut micros: u64 = 0;
        // The units still allowed: each may appear once, in falling order.
        let mut allowed = UNITS.as_slice();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| fail())?;
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let at = allowed.iter().position(|(name, _)| *name == unit).ok_or_else(fail)?;
            let (found, later) = allowed.split_at(at + 1);
            let factor = found.last().map_or(0, |(_, factor)| *factor);
            allowed = later;
            micros = number
                .checked_mul(factor)
                .and_then(|more| micros.checked_add(more))
                .ok_or_else(fail)?;
            rest = tail;
        }
        // A century: beyond it the virtual clock itself would run out.
        if text.is_empty() || micros > 100 * 365 * 86_400_000_000 {
            return Err(fail());
        }
        Ok(Span(Duration::from_micros(micros)))
    }
}

/// Addresses in a row, both ends included: `192.168.10.45-192.168.10.49`.
///
/// # Errors
/// What is wrong with the text, or more than `limit` addresses.
pub(crate) fn parse_range(text: &str, limit: usize) -> Result<Vec<Ipv4Addr>, String> {
    let fail = || {
        format!(
            "'{text}' is not a block of addresses; write the first and the last, for instance 192.168.10.45-192.168.10.49"
        )
    };
    let (first, last) = text.split_once('-').ok_or_else(fail)?;
    let first: Ipv4Addr = first.trim().parse().map_err(|_| fail())?;
    let last: Ipv4Addr = last.trim().parse().map_err(|_| fail())?;
    let (low, high) = (u32::from(first), u32::from(last));
    if low > high {
        return Err(format!("'{text}' ends before it begins"));
    }
    if high as usize - low as usize >= limit {
        return Err(format!("'{text}' has more than {limit} addresses"));
    }
    Ok((low..=high).map(Ipv4Addr::from).collect())
}

/// Whether `text` is an RFC 1123 label: 1 to 63 of `a-z`, `0-9`, `-`, beginning and ending with a letter or digit.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
        && bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric)
}

/// Whether `text` is an RFC 1123 subdomain: labels joined by dots, at most 253 characters.
///
/// As in Kubernetes, the parts between dots may exceed 63 characters.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
                && bytes.first().copied().is_some_and(alphanumeric)
                && bytes.last().copied().is_some_and(alphanumeric)
        })
}

/// Whether `text` is a port name (RFC 6335 service name): at most 15 of `a-z`, `0-9`, `-`, with a letter, no
/// hyphen at an end or beside another.
#[must_use]
pub fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// Whether `text` may be a label's value: empty, or at most 63 of letters, digits, `-`, `_`, `.`, beginning and
/// ending with a letter or digit.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

/// Whether `text` may be a label's or annotation's key: a name like [`is_label_value`]'s, not empty, after an
/// optional `subdomain/`.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_qualified_part(name),
        None => is_qualified_part(text),
    }
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn networks() {
        assert_eq!("10.244.0.0/20".parse::<Cidr4>().unwrap().to_string(), "10.244.0.0/20");
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok());
        assert!("fd00::/64".parse::<Cidr6>().is_ok());
        for text in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.1/24", "fd00::1/64", " 10.0.0.0/8"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!("fd00::/64".parse::<Cidr4>().is_err());
        assert!("10.0.0.0/8".parse::<Cidr6>().is_err());
    }

    #[test]
    fn interface_addresses() {
        for text in ["192.168.10.10/24", "10.0.0.0/31", "10.0.0.1/31", "10.0.0.1/32", "fd00::/127"]
        {
            assert!(text.parse::<InterfaceAddress>().is_ok(), "{text}");
        }
        for text in [
            "192.168.10.0/24",
            "192.168.10.255/24",
            "192.168.10.10",
            "224.0.0.1/4",
            "0.0.0.0/0",
            "255.255.255.255/32",
        ] {
            assert!(text.parse::<InterfaceAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, micros) in [
            ("500ms", 500_000),
            ("45s", 45_000_000),
            ("3h", 10_800_000_000),
            ("1h30m", 5_400_000_000),
            ("1d1us", 86_400_000_001),
            ("0s", 0),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().as_micros(), micros, "{text}");
        }
        for text in
            ["", "3", "h", "3 h", "-1s", "1.5h", "1m1h", "1s1s", "99999999999999999999s", "40000d"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        assert!(is_dns_label("a-1") && is_dns_label(&"a".repeat(63)));
        for text in ["", "A", "-a", "a-", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_dns_label(text), "{text}");
        }
        assert!(is_dns_subdomain("a.b-c.1"));
        for text in ["", ".", "a..b", "a.", "a.-b", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(text), "{text}");
        }
        assert!(is_port_name("http2") && is_port_name("a-b"));
        for text in ["", "80", "a--b", "-a", "a-", "HTTP", "sixteen-letters-"] {
            assert!(!is_port_name(text), "{text}");
        }
        assert!(is_label_key("app.kubernetes.io/name") && is_label_key("A_b.c-d"));
        for text in ["", "/a", "a/", "a/b/c", "-a", "Upper.Case/a", &"a".repeat(64)] {
            assert!(!is_label_key(text), "{text}");
        }
        assert!(is_label_value("") && is_label_value("v1.2_x-Y"));
        for text in ["a b", "-a", "a-", &"a".repeat(64)] {
            assert!(!is_label_value(text), "{text}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(parse_range("10.0.0.1-10.0.0.3", 3).unwrap().len(), 3);
        for text in
            ["10.0.0.1", "10.0.0.1-10.0.0.4", "10.0.0.2-10.0.0.1", "0.0.0.0-255.255.255.255", "-"]
        {
            assert!(parse_range(text, 3).is_err(), "{text}");
        }
    }
}
