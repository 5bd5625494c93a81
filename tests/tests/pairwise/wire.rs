//! Packets as the test writes them, made by etherparse alone: what goes in and what must come out are both built from scratch
//! and compared octet for octet, so that every length and checksum is checked with them.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};

/// Octets of the IP payload in each fragment but the last.
const PIECE: usize = 512;
/// Identification of every packet.
const ID: u16 = 0x1234;
/// What a host sends with.
pub const TTL: u8 = 64;

pub type Mac = [u8; 6];

/// Which TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Syn,
    SynAck,
    Ack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp {
        ports: (u16, u16),
        segment: Segment,
        seq: u32,
        ack: u32,
        data: usize,
    },
    Udp {
        ports: (u16, u16),
        data: usize,
    },
    /// "Port unreachable" about a packet, quoted from its IP header on.
    Unreachable {
        quote: Vec<u8>,
    },
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub body: Body,
}

/// Octets that tell where they are, so that pieces that change places are noticed.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

impl Packet {
    fn protocol(&self) -> IpNumber {
        match (&self.body, self.src) {
            (Body::Tcp { .. }, _) => IpNumber::TCP,
            (Body::Udp { .. }, _) => IpNumber::UDP,
            (Body::Unreachable { .. }, IpAddr::V4(_)) => IpNumber::ICMP,
            (Body::Unreachable { .. }, IpAddr::V6(_)) => IpNumber::IPV6_ICMP,
        }
    }

    /// What follows the network header, checksum included.
    fn payload(&self) -> Vec<u8> {
        match &self.body {
            Body::Tcp { ports, segment, seq, ack, data: length } => {
                let payload = data(*length);
                let mut header = TcpHeader::new(ports.0, ports.1, *seq, 4096);
                header.syn = *segment != Segment::Ack;
                header.ack = *segment != Segment::Syn;
                header.psh = *length > 0;
                header.acknowledgment_number = if header.ack { *ack } else { 0 };
                header.checksum = match (self.src, self.dst) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => {
                        header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload).unwrap()
                    }
                    (IpAddr::V6(src), IpAddr::V6(dst)) => {
                        header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &payload).unwrap()
                    }
                    _ => panic!("two families"),
                };
                [header.to_bytes().as_slice(), &payload].concat()
            }
            Body::Udp { ports, data: length } => {
                let payload = data(*length);
                let mut header = UdpHeader {
                    source_port: ports.0,
                    destination_port: ports.1,
                    length: u16::try_from(payload.len() + 8).unwrap(),
                    checksum: 0,
                };
                header.checksum = match (self.src, self.dst) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => {
                        header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload).unwrap()
                    }
                    (IpAddr::V6(src), IpAddr::V6(dst)) => {
                        header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &payload).unwrap()
                    }
                    _ => panic!("two families"),
                };
                [header.to_bytes().as_slice(), &payload].concat()
            }
            Body::Unreachable { quote } => match (self.src, self.dst) {
                (IpAddr::V4(_), _) => {
                    let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: 3, bytes5to8: [0; 4] };
                    let header = Icmpv4Header::with_checksum(kind, quote);
                    [header.to_bytes().as_slice(), quote].concat()
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    let kind = Icmpv6Type::Unknown { type_u8: 1, code_u8: 4, bytes5to8: [0; 4] };
                    let (src, dst) = (src.octets(), dst.octets());
                    let header = Icmpv6Header::with_checksum(kind, src, dst, quote).unwrap();
                    [header.to_bytes().as_slice(), quote].concat()
                }
                _ => panic!("two families"),
            },
        }
    }

    /// The packet, or a piece of its payload: from which octet, and whether more follow.
    fn network(&self, piece: &[u8], place: Option<(usize, bool)>) -> Vec<u8> {
        let offset = |at: usize| IpFragOffset::try_new(u16::try_from(at / 8).unwrap()).unwrap();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let length = u16::try_from(piece.len()).unwrap();
                let mut header =
                    Ipv4Header::new(length, self.ttl, self.protocol(), src.octets(), dst.octets())
                        .unwrap();
                header.identification = ID;
                header.dont_fragment = place.is_none();
                if let Some((at, more)) = place {
                    (header.fragment_offset, header.more_fragments) = (offset(at), more);
                }
                header.header_checksum = header.calc_header_checksum();
                [header.to_bytes().as_slice(), piece].concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let fragment = place.map(|(at, more)| {
                    Ipv6FragmentHeader::new(self.protocol(), offset(at), more, u32::from(ID))
                        .to_bytes()
                        .to_vec()
                });
                let next = if place.is_some() {
                    IpNumber::IPV6_FRAGMENTATION_HEADER
                } else {
                    self.protocol()
                };
                let fragment = fragment.unwrap_or_default();
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: u16::try_from(fragment.len() + piece.len()).unwrap(),
                    next_header: next,
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                };
                [header.to_bytes().as_slice(), &fragment, piece].concat()
            }
            _ => panic!("two families"),
        }
    }

    /// From the IP header on: the whole, or its fragments in order.
    pub fn packets(&self, fragmented: bool) -> Vec<Vec<u8>> {
        let payload = self.payload();
        if !fragmented {
            return vec![self.network(&payload, None)];
        }
        let pieces: Vec<&[u8]> = payload.chunks(PIECE).collect();
        assert!(pieces.len() > 2, "too short to be cut");
        let last = pieces.len() - 1;
        let cut = pieces.iter().enumerate();
        cut.map(|(i, piece)| self.network(piece, Some((i * PIECE, i < last)))).collect()
    }

    /// Frames from one station to another.
    pub fn frames(&self, macs: (Mac, Mac), fragmented: bool) -> Vec<Vec<u8>> {
        let ether_type: [u8; 2] = if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        let (src, dst) = macs;
        let packets = self.packets(fragmented).into_iter();
        packets.map(|packet| [&dst[..], &src, &ether_type, &packet].concat()).collect()
    }

    /// What an ICMP error about it quotes: as much of its first fragment as fits 576 octets (RFC 1812, 4.3.2.3).
    pub fn quoted(&self, fragmented: bool) -> Vec<u8> {
        let mut first = self.packets(fragmented).remove(0);
        first.truncate(548);
        first
    }
}
