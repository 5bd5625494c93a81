//! Names of ports: where frames enter and leave the lab.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use crate::model::ObjectName;
use crate::text::{is_dns_label, is_dns_subdomain, text_type};

/// A port: `pod/NS/NAME`, `host/NAME[:IF]` (also written `ext/NAME`) or `vm/NAME[:ethN]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// A pod's only interface.
    Pod(ObjectName),
    /// An interface of an external host; `None`: its first.
    Host {
        /// The ExternalHost.
        name: String,
        /// The interface's name.
        interface: Option<String>,
    },
    /// An interface of a control-plane VM; `None`: `eth1`, the one in the cluster network.
    Vm {
        /// The VM, see [`SupervisorClusterSpec::control_plane_vms`](super::SupervisorClusterSpec::control_plane_vms).
        name: String,
        /// `eth0` (management) or `eth1` (cluster network).
        interface: Option<String>,
    },
}

text_type!(
    PortRef,
    "PortRef",
    "a port: pod/NS/NAME, host/NAME[:IF] or vm/NAME[:ethN]",
    "pod/bank/web"
);

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name, interface) = match self {
            PortRef::Pod(pod) => return write!(f, "pod/{pod}"),
            PortRef::Host { name, interface } => ("host", name, interface),
            PortRef::Vm { name, interface } => ("vm", name, interface),
        };
        write!(f, "{kind}/{name}")?;
        match interface {
            Some(interface) => write!(f, ":{interface}"),
            None => Ok(()),
        }
    }
}

/// Whether `text` may name a network interface: 1 to 15 of what Linux and we both take.
pub(crate) fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text != "."
        && text != ".."
}

impl FromStr for PortRef {
    type Err = String;
    fn from_str(text: &str) -> Result<PortRef, String> {
        let fail = || {
            format!(
                "'{text}' is not a port; write pod/NAMESPACE/NAME, host/NAME[:INTERFACE] or vm/NAME[:ethN]"
            )
        };
        let (kind, rest) = text.split_once('/').ok_or_else(fail)?;
        if kind == "pod" {
            let (namespace, name) = rest.split_once('/').ok_or_else(fail)?;
            if !is_dns_label(namespace) || !is_dns_subdomain(name) {
                return Err(fail());
            }
            return Ok(PortRef::Pod(ObjectName::new(namespace, name)));
        }
        let (name, interface) = match rest.split_once(':') {
            Some((name, interface)) => (name, Some(interface.to_owned())),
            None => (rest, None),
        };
        if !is_dns_subdomain(name) || interface.as_deref().is_some_and(|i| !is_interface_name(i)) {
            return Err(fail());
        }
        let name = name.to_owned();
        match kind {
            "host" | "ext" => Ok(PortRef::Host { name, interface }),
            "vm" => match interface.as_deref() {
                None | Some("eth0" | "eth1") => Ok(PortRef::Vm { name, interface }),
                Some(other) => {
                    Err(format!("'{text}': a control-plane VM has eth0 and eth1, no '{other}'"))
                }
            },
            _ => Err(fail()),
        }
    }
}
