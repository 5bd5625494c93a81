//! A packet as the model sees it: nothing but what decides its way.

use std::fmt;
use std::net::IpAddr;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6. In a [`Flow`](super::Flow) it is written as [`ICMP`]: the addresses tell them apart.
    pub const ICMP6: u8 = 58;
}

/// TCP flag bits (RFC 9293, 3.1).
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronize.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
}

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Addresses, protocol and ports. An ICMP query has its identifier for both ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Flow {
    /// Where it goes: address and port. A query's identifier is its sender's, and no part of this.
    #[must_use]
    pub fn target(self) -> (IpAddr, u16) {
        (self.dst, if self.protocol == protocol::ICMP { 0 } else { self.dst_port })
    }

    /// The flow of the answers.
    #[must_use]
    pub fn reversed(self) -> Flow {
        Flow {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..self
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            protocol::ICMP => "ICMP",
            protocol::TCP => "TCP",
            protocol::UDP => "UDP",
            _ => "IP",
        };
        write!(f, "{name} {}:{} > {}:{}", self.src, self.src_port, self.dst, self.dst_port)
    }
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A TCP segment.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Flags, see [`flag`].
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// Octets of data.
        len: u32,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Octets of data.
        len: u32,
    },
    /// An echo request or reply.
    Echo {
        /// A reply.
        reply: bool,
        /// Identifier.
        id: u16,
        /// Octets of data.
        len: u32,
    },
    /// An ICMP error.
    Error {
        /// What it says.
        complaint: Complaint,
        /// The flow of the packet it quotes.
        quote: Flow,
    },
    /// What a fragment behind the first one has: no header.
    Rest {
        /// IP protocol number.
        protocol: u8,
        /// Octets of data.
        len: u32,
    },
}

/// What an ICMP error says (RFC 792; RFC 4443 in brackets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// 3/1 (1/3).
    HostUnreachable,
    /// 3/3 (1/4).
    PortUnreachable,
    /// 3/13 (1/1).
    Prohibited,
    /// 3/4 with the MTU of RFC 1191 (2/0).
    TooBig(u16),
    /// 11/0 (3/0).
    TimeExceeded,
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Octets in front of it, the transport header included.
    pub offset: u32,
    /// Others follow.
    pub more: bool,
}

/// An IP packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Routers may cut it (IPv4 without DF). It has an identification then.
    pub cut: Option<u16>,
    /// It is a fragment.
    pub piece: Option<Piece>,
    /// The rest.
    pub content: Content,
}

impl Packet {
    /// A whole packet that nobody may cut, as a host sends it.
    #[must_use]
    pub fn whole(src: IpAddr, dst: IpAddr, ttl: u8, content: Content) -> Packet {
        Packet { src, dst, ttl, cut: None, piece: None, content }
    }

    /// Octets behind the IP header.
    #[must_use]
    pub fn payload(&self) -> u32 {
        match self.content {
            Content::Tcp { len, .. } => 20 + len,
            Content::Udp { len, .. } | Content::Echo { len, .. } => 8 + len,
            // ICMP header, the quoted IP header and eight octets of what it carried.
            Content::Error { .. } if self.src.is_ipv4() => 8 + 20 + 8,
            Content::Error { .. } => 8 + 40 + 8,
            Content::Rest { len, .. } => len,
        }
    }

    /// Octets with the IP header: what an MTU bounds.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.payload() + if self.src.is_ipv4() { 20 } else { 40 }
    }

    /// Whether it is a fragment that has no transport header.
    #[must_use]
    pub fn is_later_piece(&self) -> bool {
        self.piece.is_some_and(|piece| piece.offset > 0)
    }

    /// The flow that the packet belongs to. An ICMP error belongs to the flow of the packet it quotes, and goes against it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let (protocol, src_port, dst_port) = match self.content {
            Content::Tcp { src_port, dst_port, .. } => (protocol::TCP, src_port, dst_port),
            Content::Udp { src_port, dst_port, .. } => (protocol::UDP, src_port, dst_port),
            Content::Echo { id, .. } => (protocol::ICMP, id, id),
            Content::Error { quote, .. } => return quote.reversed(),
            Content::Rest { protocol, .. } => (protocol, 0, 0),
        };
        Flow { src: self.src, dst: self.dst, protocol, src_port, dst_port }
    }

    /// Whether it is an ICMP error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self.content, Content::Error { .. })
    }

    /// Whether it is an ICMP error about a packet that was not sent from where the error goes: it belongs to no flow.
    #[must_use]
    pub fn is_stray(&self) -> bool {
        matches!(self.content, Content::Error { quote, .. } if quote.src != self.dst)
    }

    /// Its TCP flags; 0 where there are none.
    #[must_use]
    pub fn flags(&self) -> u8 {
        match self.content {
            Content::Tcp { flags, .. } => flags,
            _ => 0,
        }
    }
}

/// `SAF` for SYN, ACK and FIN.
fn letters(flags: u8) -> String {
    [(flag::SYN, 'S'), (flag::ACK, 'A'), (flag::FIN, 'F'), (flag::RST, 'R'), (flag::PSH, 'P')]
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, letter)| *letter)
        .collect()
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Tcp { flags, seq, ack, len, .. } => {
                write!(f, "{:?} [{}] seq {seq} ack {ack} len {len}", self.flow(), letters(flags))?;
            }
            Content::Udp { len, .. } | Content::Rest { len, .. } => {
                write!(f, "{:?} len {len}", self.flow())?;
            }
            Content::Echo { reply, len, .. } => {
                let what = if reply { "reply" } else { "request" };
                write!(f, "{:?} {what} len {len}", self.flow())?;
            }
            Content::Error { complaint, quote } => {
                write!(f, "ICMP {} > {} {complaint:?} about ({quote:?})", self.src, self.dst)?;
            }
        }
        write!(f, " ttl {}", self.ttl)?;
        if let Some(id) = self.cut {
            write!(f, " id {id}")?;
        }
        match self.piece {
            Some(Piece { offset, more }) => {
                write!(f, " piece at {offset}{}", if more { ", more follow" } else { "" })
            }
            None => Ok(()),
        }
    }
}

/// A packet in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The station it says it comes from.
    pub src_mac: Mac,
    /// The station it is for.
    pub dst_mac: Mac,
    /// The packet.
    pub packet: Packet,
}

/// A packet that left by a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The port's number.
    pub port: u32,
    /// The packet.
    pub packet: Packet,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}: {:?}", self.port, self.packet)
    }
}
