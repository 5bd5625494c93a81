//! The tuple by which sessions are found, and the nodes that scope it.

use crate::network::{PortId, RouterId};
use packet::{Addr, Ip, protocol};
use std::fmt;

/// Addresses, protocol and ports of a flow at some place in the network. For ICMP queries both
/// ports are the identifier; for protocols without ports both are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Tuple {
    /// The tuple of a packet. An ICMP error belongs to the flow of the packet it quotes, and goes
    /// against it: its tuple is the quoted one reversed.
    #[must_use]
    pub fn of(ip: &Ip) -> Tuple {
        if let Some(e) = ip.embedded() {
            return Tuple {
                src: e.dst,
                dst: e.src,
                protocol: e.protocol,
                src_port: e.dst_port,
                dst_port: e.src_port,
            };
        }
        let (src_port, dst_port) = ip.ports();
        Tuple { src: ip.src, dst: ip.dst, protocol: ip.protocol, src_port, dst_port }
    }

    /// The tuple of the other direction.
    #[must_use]
    pub fn reversed(self) -> Tuple {
        Tuple {
            src: self.dst,
            dst: self.src,
            protocol: self.protocol,
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }

    /// Where it goes: destination and its port. An ICMP identifier is no port of the destination; it goes with
    /// the source.
    #[must_use]
    pub fn target(self) -> (Addr, u16) {
        (self.dst, if self.is_icmp() { 0 } else { self.dst_port })
    }

    /// Whether the protocol's "port" is an ICMP identifier, one number for both directions.
    #[must_use]
    pub fn is_icmp(self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

/// The name that people use for an IP protocol number.
#[must_use]
pub fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::ICMP => "ICMP".to_owned(),
        protocol::ICMPV6 => "ICMPv6".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        other => format!("IP-{other}"),
    }
}

/// `TCP 10.244.0.18:40000 > 10.96.0.10:53`; ICMP shows its identifier once.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = protocol_name(self.protocol);
        if self.is_icmp() {
            return write!(f, "{name} {} > {} id {}", self.src, self.dst, self.src_port);
        }
        let end = |addr: Addr, port: u16| {
            if addr.is_v4() { format!("{addr}:{port}") } else { format!("[{addr}]:{port}") }
        };
        write!(f, "{name} {} > {}", end(self.src, self.src_port), end(self.dst, self.dst_port))
    }
}

/// A place that remembers flows. Tuples are looked up within a node, never globally: the same tuple
/// in two tenants is two sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The distributed load balancer at a client's vNIC.
    Balancer(PortId),
    /// The distributed firewall at a vNIC.
    Firewall(PortId),
    /// NAT and server load balancer of a gateway.
    Gateway(RouterId),
    /// The firewall of a gateway, at its uplink.
    GatewayFirewall(RouterId),
}
