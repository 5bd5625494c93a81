//! Expressions in packet tests: values that are known only when the lab is built or a step has run.
//!
//! Grammar:
//! ```text
//! address = IP | snat(NS) | snat(NS/SVC) | gateway(NS) | vip(NS/SVC) | clusterip(NS/SVC)
//!         | pod(NS/NAME) | host(NAME[:IF]) | vm(NAME[:ethN]) | PORT | ${VARIABLE}
//! mac     = MAC | mac(PORT) | mac(gateway(NS)) | ${VARIABLE}
//! number  = DECIMAL | ${VARIABLE} | ${VARIABLE}+N | ${VARIABLE}-N
//! target  = address:number            an IPv6 literal stands in [brackets]
//! PORT    = pod/NS/NAME | host/NAME[:IF] | ext/NAME[:IF] | vm/NAME[:ethN]
//! ```

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use packet::Mac;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::PortRef;
use crate::model::ObjectName;
use crate::text::{is_dns_label, is_dns_subdomain, text_type};

/// An IP address to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressExpr {
    /// A literal.
    Ip(IpAddr),
    /// The egress address of a namespace.
    Snat(String),
    /// The address that a Service's pods leave with, from its SNAT pool.
    ServiceSnat(ObjectName),
    /// The gateway's address on a namespace's first segment.
    Gateway(String),
    /// The address outside of a LoadBalancer Service.
    Vip(ObjectName),
    /// The address inside of a Service.
    ClusterIp(ObjectName),
    /// The address of a pod, of an external host's or of a VM's interface.
    Port(PortRef),
    /// What an earlier `save` stored.
    Variable(String),
}

text_type!(
    AddressExpr,
    "AddressExpr",
    "an address: a literal, snat(NS), snat(NS/SVC), gateway(NS), vip(NS/SVC), clusterip(NS/SVC), pod(NS/NAME), host(NAME), vm(NAME), a port or ${VARIABLE}",
    "snat(bank)"
);

/// The name in `${name}`, where `text` is exactly that.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    is_variable_name(name).then_some(name)
}

/// Whether `name` may name a variable: letters, digits and `_`, not beginning with a digit.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Function and argument of `function(argument)`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (function, rest) = text.split_once('(')?;
    Some((function, rest.strip_suffix(')')?))
}

fn namespace(text: &str) -> Option<String> {
    is_dns_label(text).then(|| text.to_owned())
}

fn object(text: &str) -> Option<ObjectName> {
    let (namespace, name) = text.split_once('/')?;
    (is_dns_label(namespace) && is_dns_subdomain(name)).then(|| ObjectName::new(namespace, name))
}

impl FromStr for AddressExpr {
    type Err = String;
    fn from_str(text: &str) -> Result<AddressExpr, String> {
        let fail = || {
            format!(
                "'{text}' is not an address; write a literal, snat(NS), snat(NS/SVC), gateway(NS), vip(NS/SVC), clusterip(NS/SVC), \
                 pod(NS/NAME), host(NAME), vm(NAME) or ${{VARIABLE}}"
            )
        };
        if let Ok(ip) = text.parse() {
            return Ok(AddressExpr::Ip(ip));
        }
        if let Some(name) = variable(text) {
            return Ok(AddressExpr::Variable(name.to_owned()));
        }
        if let Some((function, argument)) = call(text) {
            return match function {
                "snat" => namespace(argument)
                    .map(AddressExpr::Snat)
                    .or_else(|| object(argument).map(AddressExpr::ServiceSnat)),
                "gateway" => namespace(argument).map(AddressExpr::Gateway),
                "vip" => object(argument).map(AddressExpr::Vip),
                "clusterip" => object(argument).map(AddressExpr::ClusterIp),
                "pod" | "host" | "vm" => {
                    return format!("{function}/{argument}").parse().map(AddressExpr::Port);
                }
                _ => None,
            }
            .ok_or_else(fail);
        }
        text.parse().map(AddressExpr::Port).map_err(|_| fail())
    }
}

impl fmt::Display for AddressExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressExpr::Ip(ip) => write!(f, "{ip}"),
            AddressExpr::Snat(namespace) => write!(f, "snat({namespace})"),
            AddressExpr::ServiceSnat(service) => write!(f, "snat({service})"),
            AddressExpr::Gateway(namespace) => write!(f, "gateway({namespace})"),
            AddressExpr::Vip(service) => write!(f, "vip({service})"),
            AddressExpr::ClusterIp(service) => write!(f, "clusterip({service})"),
            AddressExpr::Port(port) => write!(f, "{port}"),
            AddressExpr::Variable(name) => write!(f, "${{{name}}}"),
        }
    }
}

/// An Ethernet address to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacExpr {
    /// A literal; group addresses too.
    Mac(Mac),
    /// The address of the interface at a port.
    Port(PortRef),
    /// The gateway's address on a namespace's segments.
    Gateway(String),
    /// What an earlier `save` stored.
    Variable(String),
}

text_type!(
    MacExpr,
    "MacExpr",
    "a MAC address: a literal, mac(PORT), mac(gateway(NS)) or ${VARIABLE}",
    "mac(pod/bank/web)"
);

impl FromStr for MacExpr {
    type Err = String;
    fn from_str(text: &str) -> Result<MacExpr, String> {
        let fail = || {
            format!(
                "'{text}' is not a MAC address; write six octets, mac(PORT), mac(gateway(NS)) or ${{VARIABLE}}"
            )
        };
        if let Ok(mac) = text.parse() {
            return Ok(MacExpr::Mac(mac));
        }
        if let Some(name) = variable(text) {
            return Ok(MacExpr::Variable(name.to_owned()));
        }
        let Some(("mac", argument)) = call(text) else {
            return Err(fail());
        };
        match argument.parse::<AddressExpr>() {
            Ok(AddressExpr::Port(port)) => Ok(MacExpr::Port(port)),
            Ok(AddressExpr::Gateway(namespace)) => Ok(MacExpr::Gateway(namespace)),
            _ => Err(fail()),
        }
    }
}

/// An unsigned number to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberExpr {
    /// A literal.
    Literal(u32),
    /// What an earlier `save` stored, plus `offset`, modulo the field's width (`${seq}+1`).
    Variable {
        /// The variable.
        name: String,
        /// Added to it.
        offset: i64,
    },
}

impl FromStr for NumberExpr {
    type Err = String;
    fn from_str(text: &str) -> Result<NumberExpr, String> {
        let fail = || {
            format!(
                "'{text}' is not a number; write decimal digits, ${{VARIABLE}} or ${{VARIABLE}}+1"
            )
        };
        if let Ok(number) = text.parse() {
            return Ok(NumberExpr::Literal(number));
        }
        let end = text.find('}').ok_or_else(fail)? + 1;
        let (name, rest) = text.split_at(end);
        let name = variable(name).ok_or_else(fail)?.to_owned();
        let offset = if rest.is_empty() {
            0
        } else if rest.starts_with(['+', '-']) {
            let offset: i32 = rest.parse().map_err(|_| fail())?;
            i64::from(offset)
        } else {
            return Err(fail());
        };
        Ok(NumberExpr::Variable { name, offset })
    }
}

impl<'de> Deserialize<'de> for NumberExpr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NumberExpr, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = NumberExpr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or ${VARIABLE}")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<NumberExpr, E> {
                u32::try_from(number)
                    .map(NumberExpr::Literal)
                    .map_err(|_| E::custom(format!("{number} does not fit in 32 bits")))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<NumberExpr, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl JsonSchema for NumberExpr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "NumberExpr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, ${VARIABLE} or ${VARIABLE}+N",
            "oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]
        })
    }
}

/// Where a TCP or UDP step goes: address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: AddressExpr,
    /// The port; a literal is 1 to 65535.
    pub port: NumberExpr,
}

text_type!(
    Target,
    "Target",
    "ADDRESS:PORT such as 172.16.1.2:443, vip(bank/web):80 or ext/leaf1:443",
    "ext/leaf1:443"
);

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Target, String> {
        let (address, port) = text.rsplit_once(':').ok_or_else(|| {
            format!("'{text}' has no port; write ADDRESS:PORT, for instance 172.16.1.2:443")
        })?;
        let address: AddressExpr = match address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(literal) => AddressExpr::Ip(IpAddr::V6(
                literal.parse().map_err(|_| format!("'{literal}' is not an IPv6 address"))?,
            )),
            None if address.contains(':') && address.parse::<IpAddr>().is_ok() => {
                return Err(format!(
                    "'{text}': an IPv6 address before a port stands in brackets, [{address}]:{port}"
                ));
            }
            None => address.parse()?,
        };
        let port: NumberExpr = port.parse()?;
        if let NumberExpr::Literal(number) = port
            && !(1..=65535).contains(&number)
        {
            return Err(format!("'{text}': port {number} is not in 1..65535"));
        }
        Ok(Target { address, port })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses() {
        let name = |ns: &str, n: &str| ObjectName::new(ns, n);
        for (text, expected) in [
            ("10.0.0.1", AddressExpr::Ip("10.0.0.1".parse().unwrap())),
            ("fd00::1", AddressExpr::Ip("fd00::1".parse().unwrap())),
            ("snat(bank)", AddressExpr::Snat("bank".into())),
            ("gateway(bank)", AddressExpr::Gateway("bank".into())),
            ("vip(bank/web)", AddressExpr::Vip(name("bank", "web"))),
            ("clusterip(a/b)", AddressExpr::ClusterIp(name("a", "b"))),
            ("pod(bank/web-0)", AddressExpr::Port(PortRef::Pod(name("bank", "web-0")))),
            (
                "ext/leaf1",
                AddressExpr::Port(PortRef::Host { name: "leaf1".into(), interface: None }),
            ),
            (
                "vm(cp-1:eth0)",
                AddressExpr::Port(PortRef::Vm {
                    name: "cp-1".into(),
                    interface: Some("eth0".into()),
                }),
            ),
            ("${x_1}", AddressExpr::Variable("x_1".into())),
        ] {
            assert_eq!(text.parse::<AddressExpr>(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "10.0.0",
            "snat()",
            "snat(Bank)",
            "snat(bank",
            "vip(web)",
            "nat(bank)",
            "${}",
            "${1x}",
            "pod(web)",
            "10.0.0.256",
            "vm(cp-1:eth7)",
        ] {
            assert!(text.parse::<AddressExpr>().is_err(), "{text}");
        }
    }

    #[test]
    fn targets() {
        let literal = |address: &str, port| Target {
            address: address.parse().unwrap(),
            port: NumberExpr::Literal(port),
        };
        assert_eq!("10.0.0.1:443".parse(), Ok(literal("10.0.0.1", 443)));
        assert_eq!("[fd00::1]:80".parse(), Ok(literal("fd00::1", 80)));
        assert_eq!("ext/leaf1:443".parse(), Ok(literal("host/leaf1", 443)));
        assert_eq!("host/leaf1:eth0:443".parse(), Ok(literal("host/leaf1:eth0", 443)));
        assert_eq!(
            "172.16.2.2:${nat_port}".parse(),
            Ok(Target {
                address: "172.16.2.2".parse().unwrap(),
                port: NumberExpr::Variable { name: "nat_port".into(), offset: 0 }
            })
        );
        for text in [
            "10.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "fd00::1:80",
            "[10.0.0.1]:80",
            ":80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_macs() {
        let variable = |offset| NumberExpr::Variable { name: "seq".into(), offset };
        assert_eq!("7".parse(), Ok(NumberExpr::Literal(7)));
        assert_eq!("${seq}".parse(), Ok(variable(0)));
        assert_eq!("${seq}+1".parse(), Ok(variable(1)));
        assert_eq!("${seq}-5".parse(), Ok(variable(-5)));
        for text in ["", "-1", "4294967296", "${seq}1", "${seq}+", "${seq", "seq"] {
            assert!(text.parse::<NumberExpr>().is_err(), "{text}");
        }
        assert_eq!("mac(gateway(bank))".parse(), Ok(MacExpr::Gateway("bank".into())));
        assert_eq!(
            "mac(host/dns:eth0)".parse(),
            Ok(MacExpr::Port("host/dns:eth0".parse().unwrap()))
        );
        assert_eq!("ff:ff:ff:ff:ff:ff".parse(), Ok(MacExpr::Mac(Mac::BROADCAST)));
        for text in ["mac(10.0.0.1)", "mac(snat(bank))", "00:00", "gateway(bank)"] {
            assert!(text.parse::<MacExpr>().is_err(), "{text}");
        }
    }
}
