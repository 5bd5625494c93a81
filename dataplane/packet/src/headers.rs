//! The editable view of a frame's headers: what the walk reads and changes.

use crate::{Addr, Mac};

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an IEEE 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;

/// IP protocol numbers (IANA) that the core knows by name.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// TCP flag bits, as in octet 13 of the TCP header.
pub mod tcp_flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// Urgent pointer field is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// All headers of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Destination station.
    pub dst_mac: Mac,
    /// Sending station.
    pub src_mac: Mac,
    /// VLAN identifier of the outermost 802.1Q tag, 0 to 4095; `None` when untagged.
    pub vlan: Option<u16>,
    /// EtherType behind the tag.
    pub ether_type: u16,
    /// Where the network header starts, octets from the start of the frame: 14, or 18 with a tag.
    pub l3: u16,
    /// What the frame carries.
    pub payload: Payload,
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Something this core switches but does not look into.
    Other,
}

/// An ARP packet (RFC 826), IPv4 over Ethernet only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender: Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target: Addr,
}

/// The network header and what is above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source; its family is the packet's.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Protocol of the transport header, behind any IPv6 extension header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN octet.
    pub traffic_class: u8,
    /// IPv4 "don't fragment"; always true for IPv6.
    pub dont_fragment: bool,
    /// IPv4 options or IPv6 extension headers are present.
    pub options: bool,
    /// Set on every fragment, also the first.
    pub fragment: Option<Fragment>,
    /// Where the transport header starts, octets from the start of the frame.
    pub l4: u16,
    /// Octets of the whole IP packet, header included (IPv4 total length; IPv6 payload length + 40).
    /// For a frame with [`crate::Segmentation`] this is the large packet.
    pub total_len: u32,
    /// The transport header.
    pub transport: Transport,
}

/// Fragmentation fields (RFC 791; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Octets before this fragment.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp(Tcp),
    /// RFC 768.
    Udp(Udp),
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// A protocol without ports, or one this core does not look into.
    Other,
    /// A fragment with an offset: its ports are in the first fragment.
    LaterFragment,
}

/// TCP header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flag bits, see [`tcp_flags`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Octets of the header, 20 to 60.
    pub header_len: u8,
    /// Octets of data.
    pub payload_len: u32,
}

/// UDP header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Whether the sender computed a checksum (IPv4 may send zero, RFC 768).
    pub has_checksum: bool,
}

/// ICMP, either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type octet.
    pub kind: u8,
    /// Code octet.
    pub code: u8,
    /// What the type says the message is.
    pub message: IcmpMessage,
}

/// ICMP messages by what the core does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpMessage {
    /// Echo or timestamp request, which may begin a session.
    Query {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Answer to a query.
    Reply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// An error about another packet.
    Error(Embedded),
    /// Neighbour solicitation (RFC 4861, 4.3).
    NeighborSolicitation {
        /// Address asked for.
        target: Addr,
        /// Source link-layer address option.
        source_mac: Option<Mac>,
    },
    /// Neighbour advertisement (RFC 4861, 4.4).
    NeighborAdvertisement {
        /// Address advertised.
        target: Addr,
        /// Target link-layer address option.
        target_mac: Option<Mac>,
    },
    /// Anything else.
    Other,
}

/// The packet quoted in an ICMP error, as far as it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Source of the quoted packet.
    pub src: Addr,
    /// Destination of the quoted packet.
    pub dst: Addr,
    /// Its protocol.
    pub protocol: u8,
    /// Source port; the identifier for an ICMP query.
    pub src_port: u16,
    /// Destination port; the identifier for an ICMP query.
    pub dst_port: u16,
    /// Where the quoted network header starts, octets from the start of the frame.
    pub l3: u16,
    /// Where the quoted transport header starts, octets from the start of the frame.
    pub l4: u16,
}

impl Headers {
    /// The IP header, where there is one.
    #[must_use]
    pub fn ip(&self) -> Option<&Ip> {
        match &self.payload {
            Payload::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// The IP header to edit, where there is one.
    pub fn ip_mut(&mut self) -> Option<&mut Ip> {
        match &mut self.payload {
            Payload::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// Where the IP packet ends, octets from the start of the frame; what follows is Ethernet padding.
    /// The start of the payload where there is no IP header.
    #[must_use]
    pub fn l3_end(&self) -> usize {
        let length = self.ip().map_or(0, |ip| ip.total_len);
        usize::from(self.l3).saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

impl Ip {
    /// Whether this is IPv4.
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.src.is_v4()
    }

    /// Source and destination port. For an ICMP query or reply both are its identifier; (0, 0)
    /// where the protocol has none or the ports are in another fragment.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        match self.transport {
            Transport::Tcp(t) => (t.src_port, t.dst_port),
            Transport::Udp(u) => (u.src_port, u.dst_port),
            Transport::Icmp(Icmp {
                message: IcmpMessage::Query { id, .. } | IcmpMessage::Reply { id, .. },
                ..
            }) => (id, id),
            _ => (0, 0),
        }
    }

    /// Edits the ports. The identifier of an ICMP query becomes `src_port`, that of a reply
    /// `dst_port`: who asks owns it. Without effect where the protocol has no ports.
    pub fn set_ports(&mut self, src_port: u16, dst_port: u16) {
        match &mut self.transport {
            Transport::Tcp(t) => (t.src_port, t.dst_port) = (src_port, dst_port),
            Transport::Udp(u) => (u.src_port, u.dst_port) = (src_port, dst_port),
            Transport::Icmp(icmp) => match &mut icmp.message {
                IcmpMessage::Query { id, .. } => *id = src_port,
                IcmpMessage::Reply { id, .. } => *id = dst_port,
                _ => {}
            },
            Transport::Other | Transport::LaterFragment => {}
        }
    }

    /// The TCP header, where there is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&Tcp> {
        match &self.transport {
            Transport::Tcp(t) => Some(t),
            _ => None,
        }
    }

    /// The packet that this one is an ICMP error about.
    #[must_use]
    pub fn embedded(&self) -> Option<&Embedded> {
        match &self.transport {
            Transport::Icmp(Icmp { message: IcmpMessage::Error(e), .. }) => Some(e),
            _ => None,
        }
    }

    /// The packet that this one is an ICMP error about, to edit.
    pub fn embedded_mut(&mut self) -> Option<&mut Embedded> {
        match &mut self.transport {
            Transport::Icmp(Icmp { message: IcmpMessage::Error(e), .. }) => Some(e),
            _ => None,
        }
    }
}
