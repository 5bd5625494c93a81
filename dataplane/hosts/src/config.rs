//! What a host is: its interfaces, its routes and what it serves.
//!
//! Plain data without behaviour, so that whoever realizes definitions can build it, compare it and
//! print it. A pod is a host with one interface and a default route; a control-plane VM has two
//! interfaces and policy routing; a leaf switch is a host with forwarding on.

use std::sync::Arc;

use packet::{Addr, Mac};

use crate::routing::PolicyRouting;
use crate::services::zone::Zone;

/// Everything about a host that does not change by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// Name for people, e.g. `pod/banking/web`; also part of the seed of its random numbers.
    pub name: String,
    /// Interfaces; their index is the one that [`crate::Host::receive`] and the routes name.
    pub interfaces: Vec<InterfaceConfig>,
    /// Rules and routes. The connected routes of [`InterfaceConfig::addresses`] are added by
    /// [`crate::Host::new`] to table main, as a kernel does.
    pub routing: PolicyRouting,
    /// Whether packets to other addresses are routed onwards (`net.ipv4.ip_forward`).
    pub forwarding: bool,
    /// TTL or hop limit of the packets that the host originates, 1 to 255: 64 for a Linux-like host,
    /// 128 for a Windows-like one.
    pub ttl: u8,
    /// Ports that answer.
    pub services: Vec<ServiceConfig>,
    /// Every port without a service of its own is an echo service.
    pub listen_all: bool,
    /// Closed ports answer, TCP with a reset and UDP with "port unreachable"; `false` is a host
    /// behind a firewall of its own that drops in silence.
    pub answer_closed: bool,
    /// Name servers, as in `/etc/resolv.conf`; the first is what a query without a server asks.
    pub resolver: Vec<Addr>,
    /// Domains that short names are tried in, as `search` in `/etc/resolv.conf`.
    pub search: Vec<String>,
    /// Dots from which on a name is tried as it is before it is tried in [`HostConfig::search`]
    /// (`options ndots:N`).
    pub ndots: usize,
}

impl HostConfig {
    /// A Linux-like host without interfaces: TTL 64, not forwarding, closed ports answer.
    #[must_use]
    pub fn new(name: impl Into<String>) -> HostConfig {
        HostConfig {
            name: name.into(),
            interfaces: Vec::new(),
            routing: PolicyRouting::default(),
            forwarding: false,
            ttl: 64,
            services: Vec::new(),
            listen_all: false,
            answer_closed: true,
            resolver: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        }
    }

    /// The names to ask for, one after the other until one exists, when `name` is looked up
    /// (resolv.conf(5)): a final dot makes a name complete, a name with enough dots is tried as it
    /// is first, another one last.
    #[must_use]
    pub fn search_names(&self, name: &str) -> Vec<String> {
        if let Some(complete) = name.strip_suffix('.') {
            return vec![complete.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let place = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(place, name.to_owned());
        names
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Name as in `ping -I`, e.g. `eth0`.
    pub name: String,
    /// Station address.
    pub mac: Mac,
    /// Largest IP packet in octets: 68 to 65535 (RFC 791), at least 1280 with IPv6 (RFC 8200).
    pub mtu: u32,
    /// Addresses with their prefix length in the address's own family: 0 to 32 or 0 to 128.
    pub addresses: Vec<(Addr, u8)>,
    /// Neighbour entries that are never learned over nor expire (`ip neigh ... nud permanent`).
    pub static_neighbors: Vec<(Addr, Mac)>,
}

impl InterfaceConfig {
    /// An interface with an MTU of 1500 octets and one address.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        mac: Mac,
        address: Addr,
        prefix_len: u8,
    ) -> InterfaceConfig {
        InterfaceConfig {
            name: name.into(),
            mac,
            mtu: 1500,
            addresses: vec![(address, prefix_len)],
            static_neighbors: Vec::new(),
        }
    }
}

/// Transport of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Transport.
    pub protocol: ServiceProtocol,
    /// Port, 1 to 65535.
    pub port: u16,
    /// What answers there.
    pub kind: ServiceKind,
}

/// What answers at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Sends back what it receives (RFC 862).
    Echo,
    /// Takes everything and answers nothing (RFC 863).
    Discard,
    /// HTTP/1.1 whose body says who it is and whom it sees as client (TCP only; over UDP the port
    /// is closed).
    Http {
        /// Who it says it is, e.g. `pod banking/web`.
        identity: String,
    },
    /// What the client begins decides: an HTTP request is answered as by [`ServiceKind::Http`], anything
    /// else as by [`ServiceKind::Echo`]. Over UDP an echo.
    Talk {
        /// Who it says it is over HTTP.
        identity: String,
    },
    /// An authoritative name server (RFC 1035), which may pass other questions on.
    Dns(Arc<Zone>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_as_resolv_conf_says() {
        let mut pod = HostConfig::new("pod/a/x");
        assert_eq!(pod.search_names("web"), ["web"]);
        pod.search = vec!["a.svc.cluster.local".to_owned(), "cluster.local".to_owned()];
        pod.ndots = 2;
        let short = ["web.b.a.svc.cluster.local", "web.b.cluster.local", "web.b"];
        assert_eq!(pod.search_names("web.b"), short);
        let long = ["web.b.svc", "web.b.svc.a.svc.cluster.local", "web.b.svc.cluster.local"];
        assert_eq!(pod.search_names("web.b.svc"), long);
        assert_eq!(pod.search_names("web."), ["web"]);
    }
}
