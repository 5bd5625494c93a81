//! Named network namespaces, and the interface of an attached machine inside one.
//!
//! A namespace has a name as `ip netns` knows it: a bind mount in `/run/netns`. It is created and
//! removed through [`crate::Inventory`] only, which writes down what is about to be made.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;
use packet::Mac;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::ip::{Ip, IpError};
use crate::tun::MAX_NAME as MAX_INTERFACE_NAME;

/// Where `ip netns` keeps the names.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Octets of the longest namespace name: so that names derived from it still fit a file name.
const MAX_NETNS_NAME: usize = 200;

/// A text that cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' cannot name {what}: use 1 to {max} letters, digits, '-', '_' or '.', beginning with a \
     letter or digit"
)]
pub struct NameError {
    text: String,
    what: &'static str,
    max: usize,
}

/// Letters, digits, `-`, `_`, `.`, first a letter or digit: never a path, an option or a pattern.
fn check(text: &str, what: &'static str, max: usize) -> Result<(), NameError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= max && text.bytes().all(inner) {
        return Ok(());
    }
    Err(NameError { text: text.to_owned(), what, max })
}

/// The name of a network interface: at most 15 octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is empty, too long or has other characters than letters, digits, `-`, `_`, `.`.
    pub fn new(text: &str) -> Result<InterfaceName, NameError> {
        check(text, "an interface", MAX_INTERFACE_NAME)?;
        Ok(InterfaceName(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<InterfaceName, NameError> {
        InterfaceName::new(text)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a network namespace: at most 200 octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetnsName(String);

impl NetnsName {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is empty, too long or has other characters than letters, digits, `-`, `_`, `.`.
    pub fn new(text: &str) -> Result<NetnsName, NameError> {
        check(text, "a network namespace", MAX_NETNS_NAME)?;
        Ok(NetnsName(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NetnsName {
    type Error = NameError;
    fn try_from(text: String) -> Result<NetnsName, NameError> {
        NetnsName::new(&text)
    }
}

impl From<NetnsName> for String {
    fn from(name: NetnsName) -> String {
        name.0
    }
}

impl FromStr for NetnsName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<NetnsName, NameError> {
        NetnsName::new(text)
    }
}

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A route of an attached machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// Next hop, on the interface's own network.
    pub via: IpAddr,
}

/// The interface as the attached machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name there, usually `eth0`.
    pub name: InterfaceName,
    /// Ethernet address; the kernel draws one if absent.
    pub mac: Option<Mac>,
    /// Octets of the longest IP packet; 1500 if absent.
    pub mtu: Option<u16>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Routes, set in this order.
    pub routes: Vec<Route>,
}

impl InterfaceConfig {
    /// Gives the interface `current` of the namespace (`None`: the caller's own) this configuration
    /// and brings it up. Without an IPv6 address in it the interface makes none of its own, so that
    /// the machine sends nothing but what it is asked to.
    ///
    /// # Errors
    /// What `ip` refuses: for instance a next hop on no connected network.
    pub fn apply(
        &self,
        ip: &Ip,
        netns: Option<&NetnsName>,
        current: &InterfaceName,
    ) -> Result<(), IpError> {
        let within = |arguments: &[&str]| {
            let prefix: &[&str] = match netns {
                Some(netns) => &["-n", netns.as_str()],
                None => &[],
            };
            ip.run(&[prefix, arguments].concat()).map(drop)
        };
        let name = self.name.as_str();
        if *current != self.name {
            within(&["link", "set", "dev", current.as_str(), "name", name])?;
        }
        if let Some(mac) = self.mac {
            within(&["link", "set", "dev", name, "address", &mac.to_string()])?;
        }
        if let Some(mtu) = self.mtu {
            within(&["link", "set", "dev", name, "mtu", &mtu.to_string()])?;
        }
        let has_ipv6 = self.addresses.iter().any(|a| a.addr().is_ipv6());
        if !has_ipv6 && Path::new("/proc/sys/net/ipv6").exists() {
            within(&["link", "set", "dev", name, "addrgenmode", "none"])?;
        }
        for address in &self.addresses {
            let text = address.to_string();
            let mut arguments = vec!["address", "add", &text, "dev", name];
            if address.addr().is_ipv6() {
                // The lab allocates addresses; nobody else can have this one.
                arguments.push("nodad");
            }
            within(&arguments)?;
        }
        within(&["link", "set", "dev", name, "up"])?;
        for route in &self.routes {
            let (destination, via) = (route.destination.to_string(), route.via.to_string());
            within(&["route", "add", &destination, "via", &via, "dev", name])?;
        }
        Ok(())
    }
}

/// Why a namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The namespace does not exist or may not be entered.
    #[error("cannot enter the network namespace '{name}': {source}")]
    Enter {
        /// The namespace.
        name: NetnsName,
        /// The system's answer.
        source: io::Error,
    },
    /// The thread for it could not be started, or panicked.
    #[error("the thread for the network namespace '{0}' was lost")]
    Thread(NetnsName),
}

/// A namespace that [`crate::Inventory::create_netns`] made. Dropping this handle leaves the
/// namespace; the inventory removes it.
#[derive(Debug)]
pub struct Netns {
    pub(crate) name: NetnsName,
}

impl Netns {
    /// Its name, as for `ip netns exec NAME`.
    #[must_use]
    pub fn name(&self) -> &NetnsName {
        &self.name
    }

    /// Moves the interface `device` of the caller's namespace into this one, configures it and
    /// brings it and the loopback interface up.
    ///
    /// # Errors
    /// What `ip` refuses. The interface may then be on either side; closing its TAP removes it.
    pub fn attach(&self, ip: &Ip, device: &str, config: &InterfaceConfig) -> Result<(), IpError> {
        let (name, inside) = (self.name.as_str(), config.name.as_str());
        // Renamed by the same request: the name may be in use out here.
        ip.run(&["link", "set", "dev", device, "netns", name, "name", inside])?;
        ip.run(&["-n", name, "link", "set", "dev", "lo", "up"])?;
        config.apply(ip, Some(&self.name), &config.name)
    }
}

/// Runs `work` on a thread of its own inside the namespace: sockets it opens belong there for good.
///
/// # Errors
/// If the namespace cannot be entered (then `work` did not run), or `work` panicked.
pub fn in_netns<T: Send>(
    name: &NetnsName,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    let enter = |source| NetnsError::Enter { name: name.clone(), source };
    let netns = File::open(Path::new(NETNS_DIR).join(name.as_str())).map_err(enter)?;
    // Entering concerns only the calling thread and is not undone, so that thread ends here.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        let thread = thread.map_err(|_| NetnsError::Thread(name.clone()))?;
        match thread.join() {
            Ok(result) => result.map_err(|error: rustix::io::Errno| enter(error.into())),
            Err(_) => Err(NetnsError::Thread(name.clone())),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_never_paths_options_or_patterns() {
        for good in ["a", "eth0", "web-1", "ns_a.b", "9", "fifteen-octets-"] {
            assert_eq!(InterfaceName::new(good).unwrap().as_str(), good);
            assert_eq!(NetnsName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-n", "a/b", "a b", "a\n", "tl%d", "ü", "_a", "a:b", "$x"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad}");
            assert!(NetnsName::new(bad).is_err(), "{bad}");
        }
        assert!(InterfaceName::new("sixteen-octets--").is_err());
        assert!(NetnsName::new(&"a".repeat(200)).is_ok());
        assert!(NetnsName::new(&"a".repeat(201)).is_err());
        assert!(serde_json::from_str::<NetnsName>("\"../../etc\"").is_err());
    }

    #[test]
    fn a_namespace_that_is_not_there_is_an_error_and_nothing_runs() {
        let name = NetnsName::new("tierlab-no-such-namespace").unwrap();
        let mut ran = false;
        let error = in_netns(&name, || ran = true).unwrap_err();
        assert!(error.to_string().contains("tierlab-no-such-namespace"), "{error}");
        assert!(!ran);
    }
}
