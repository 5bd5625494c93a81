//! Answers made from a received frame: ICMP errors, echo replies, TCP resets.
//!
//! RFC 792, RFC 1812, 4.3 (ICMP in routers), RFC 1122, 3.2.2.6 (echo), RFC 4443 (ICMPv6), RFC 1191
//! (next-hop MTU), RFC 9293, 3.10.7.1 (resets).
//!
//! Every answer goes back to the station that the frame came from, in its VLAN, with a TTL of 64, and is
//! not itself something that could be answered by an error to a group: no answer to frames or packets
//! to a group, nor to sources that name no single host. Limiting their rate is the caller's part.

use crate::checksum::{complete, verify_transport};
use crate::octets::u16_at;
use crate::{
    Addr, ChecksumState, Frame, FrameBuilder, Headers, Icmp, IcmpMessage, Ip, Mac, Transport,
    parse, segment, tcp_flags,
};
use std::borrow::Cow;

/// Largest IPv4 packet with an error, octets (RFC 1812, 4.3.2.3).
const LARGEST_IPV4: usize = 576;
/// Largest IPv6 packet with an error, octets: the minimum IPv6 MTU (RFC 4443, 2.4 c).
const LARGEST_IPV6: usize = 1280;
/// Precedence "internetwork control" of errors (RFC 1812, 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// What an ICMP error says, in either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpErrorKind {
    /// The next hop does not answer: IPv4 3/1, IPv6 1/3 (address unreachable).
    HostUnreachable,
    /// No route: IPv4 3/0, IPv6 1/0.
    NetUnreachable,
    /// Nobody listens on the port: IPv4 3/3, IPv6 1/4.
    PortUnreachable,
    /// A filter forbids it: IPv4 3/13, IPv6 1/1.
    AdminProhibited,
    /// A filter forbids it, told as "host administratively prohibited": IPv4 3/10, IPv6 1/1.
    HostProhibited,
    /// TTL or hop limit exceeded in transit: IPv4 11/0, IPv6 3/0.
    TimeExceeded,
    /// Fragments missing for too long: IPv4 11/1, IPv6 3/1.
    ReassemblyTimeExceeded,
    /// Too large for the next link and not to be fragmented: IPv4 3/4, IPv6 2/0.
    FragmentationNeeded {
        /// MTU of the next link, octets of an IP packet. IPv4 can tell 65535 at most.
        mtu: u32,
    },
}

impl IcmpErrorKind {
    /// Type, code and octets 4 to 7 of the ICMP header.
    #[must_use]
    pub fn header(self, v4: bool) -> (u8, u8, [u8; 4]) {
        let (kind, code) = match (self, v4) {
            (IcmpErrorKind::HostUnreachable, true) => (3, 1),
            (IcmpErrorKind::HostUnreachable, false) => (1, 3),
            (IcmpErrorKind::NetUnreachable, true) => (3, 0),
            (IcmpErrorKind::NetUnreachable, false) => (1, 0),
            (IcmpErrorKind::PortUnreachable, true) => (3, 3),
            (IcmpErrorKind::PortUnreachable, false) => (1, 4),
            (IcmpErrorKind::AdminProhibited, true) => (3, 13),
            (IcmpErrorKind::HostProhibited, true) => (3, 10),
            (IcmpErrorKind::AdminProhibited | IcmpErrorKind::HostProhibited, false) => (1, 1),
            (IcmpErrorKind::TimeExceeded, true) => (11, 0),
            (IcmpErrorKind::TimeExceeded, false) => (3, 0),
            (IcmpErrorKind::ReassemblyTimeExceeded, true) => (11, 1),
            (IcmpErrorKind::ReassemblyTimeExceeded, false) => (3, 1),
            (IcmpErrorKind::FragmentationNeeded { .. }, true) => (3, 4),
            (IcmpErrorKind::FragmentationNeeded { .. }, false) => (2, 0),
        };
        let rest = match self {
            IcmpErrorKind::FragmentationNeeded { mtu } if v4 => mtu.min(0xffff).to_be_bytes(),
            IcmpErrorKind::FragmentationNeeded { mtu } => mtu.to_be_bytes(),
            _ => [0; 4],
        };
        (kind, code, rest)
    }
}

/// The ICMP error about `original`, to send out of the port that `original` came in by: from `source`
/// to the source of `original`, MACs swapped. `headers` are those of `original` as parsed.
///
/// The quote is as much as keeps an IPv4 packet within 576 octets and an IPv6 packet within 1,280, with
/// its checksum completed; of a frame with segmentation the first segment is quoted.
///
/// `None` where an error must not be sent (RFC 1812, 4.3.2.7; RFC 4443, 2.4 e): about an ICMP error or
/// redirect, a fragment with an offset, a frame or packet to a group or broadcast address, or a source
/// that is unspecified, loopback, a group, or class E. Neither is there one about what is no IP packet,
/// nor from a `source` of the other family.
#[must_use]
pub fn icmp_error(
    original: &Frame,
    headers: &Headers,
    kind: IcmpErrorKind,
    source: Addr,
) -> Option<Frame> {
    let ip = answerable(headers)?;
    let v4 = ip.is_v4();
    if source.is_v4() != v4 || is_later_fragment(ip) || is_icmp_error(ip) {
        return None;
    }
    let wire = as_on_the_wire(original)?;
    let (largest, header_len) = if v4 { (LARGEST_IPV4, 20) } else { (LARGEST_IPV6, 40) };
    let start = usize::from(headers.l3);
    // The first segment of a large frame has a length of its own.
    let end = match original.segmentation {
        None => headers.l3_end(),
        Some(_) => parse(&wire.bytes).ok()?.l3_end(),
    };
    let end = end.min(start + largest - header_len - 8);
    let quote = wire.bytes.get(start..end)?;
    let (kind, code, rest) = kind.header(v4);
    let error = answer(headers, source, ip.src)
        .traffic_class(INTERNETWORK_CONTROL)
        .icmp(kind, code, rest)
        .payload(quote)
        .build();
    Some(error)
}

/// The frame as a receiver would have seen it: checksum completed, the first segment of a large one.
fn as_on_the_wire(original: &Frame) -> Option<Cow<'_, Frame>> {
    if original.segmentation.is_some() {
        return segment(original.clone()).into_iter().next().map(Cow::Owned);
    }
    if let ChecksumState::Partial { .. } = original.checksum {
        let mut completed = original.clone();
        complete(&mut completed);
        return Some(Cow::Owned(completed));
    }
    Some(Cow::Borrowed(original))
}

/// The answer to an echo request: MACs and addresses swapped, TTL 64, identifier, sequence number and
/// data kept, checksum made anew, IP options left out. `headers` are those of `original` as parsed.
///
/// `None` if `original` is no echo request, is a fragment, has a wrong checksum (RFC 1122, 3.2.2), or
/// goes to or comes from an address that is not one host's.
#[must_use]
pub fn echo_reply(original: &Frame, headers: &Headers) -> Option<Frame> {
    let ip = answerable(headers)?;
    let Transport::Icmp(Icmp { kind: 8 | 128, code: 0, message: IcmpMessage::Query { id, seq } }) =
        ip.transport
    else {
        return None;
    };
    if ip.fragment.is_some() || !is_intact(original) {
        return None;
    }
    let data = original.bytes.get(usize::from(ip.l4) + 8..headers.l3_end())?;
    // Without "don't fragment" the identification counts; the requester's is as unique as any.
    let identification =
        if ip.is_v4() { u16_at(&original.bytes, usize::from(headers.l3) + 4)? } else { 0 };
    let reply = answer(headers, ip.dst, ip.src)
        .traffic_class(ip.traffic_class)
        .dont_fragment(ip.dont_fragment)
        .id(identification)
        .echo_reply(id, seq)
        .payload(data)
        .build();
    Some(reply)
}

/// The reset that a closed port sends for `original` (RFC 9293, 3.10.7.1): MACs, addresses and ports
/// swapped, TTL 64. `headers` are those of `original` as parsed; a frame with segmentation counts with
/// all its data.
///
/// With ACK set, the reset has that acknowledgment number as its sequence number and no ACK; without,
/// sequence number zero, and it acknowledges everything the segment holds.
///
/// `None` for a reset, a fragment, a wrong checksum, what is no TCP, and for groups and broadcasts.
#[must_use]
pub fn tcp_reset(original: &Frame, headers: &Headers) -> Option<Frame> {
    let ip = answerable(headers)?;
    let tcp = ip.tcp()?;
    if ip.fragment.is_some() || tcp.flags & tcp_flags::RST != 0 || !is_intact(original) {
        return None;
    }
    let reset = answer(headers, ip.dst, ip.src).window(0);
    let reset = if tcp.flags & tcp_flags::ACK != 0 {
        reset.tcp(tcp.dst_port, tcp.src_port, tcp_flags::RST).seq(tcp.ack)
    } else {
        let controls = (tcp.flags & (tcp_flags::SYN | tcp_flags::FIN)).count_ones();
        let end = tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(controls);
        reset.tcp(tcp.dst_port, tcp.src_port, tcp_flags::RST).ack(end)
    };
    Some(reset.build())
}

/// Whether the transport checksum is right, or was vouched for by the port. A receiver silently drops
/// what is not (RFC 9293, MUST-3; RFC 1122, 3.2.2). Judged by the frame's own addresses, so that a walk
/// may ask with headers that it has edited.
fn is_intact(original: &Frame) -> bool {
    original.checksum != ChecksumState::Unknown
        || parse(&original.bytes).is_ok_and(|own| verify_transport(&original.bytes, &own))
}

/// The beginning of every answer.
fn answer(headers: &Headers, src: Addr, dst: Addr) -> FrameBuilder {
    FrameBuilder::new(src, dst).macs(headers.dst_mac, headers.src_mac).vlan(headers.vlan)
}

/// The IP header, if its packet may be answered at all: from one host to one host, on the link too.
fn answerable(headers: &Headers) -> Option<&Ip> {
    let ip = headers.ip()?;
    let stations =
        !headers.dst_mac.is_group() && !headers.src_mac.is_group() && headers.src_mac != Mac::ZERO;
    let from_one = !(ip.src.is_unspecified()
        || ip.src.is_loopback()
        || ip.src.is_multicast()
        || is_this_network(ip.src)
        || is_class_e(ip.src));
    let to_one = !(ip.dst.is_multicast() || ip.dst == Addr::BROADCAST_V4);
    (stations && from_one && to_one).then_some(ip)
}

/// 0.0.0.0/8 (RFC 1812, 5.3.7).
fn is_this_network(addr: Addr) -> bool {
    addr.is_v4() && addr.low32() >> 24 == 0
}

/// 240.0.0.0/4, the limited broadcast included.
fn is_class_e(addr: Addr) -> bool {
    addr.is_v4() && addr.low32() >> 28 == 0xf
}

fn is_later_fragment(ip: &Ip) -> bool {
    ip.fragment.is_some_and(|f| f.offset != 0)
}

/// ICMP errors by their type, whether or not the quote parses; redirects and types nobody has defined
/// count as errors, as they might be.
fn is_icmp_error(ip: &Ip) -> bool {
    let Transport::Icmp(icmp) = &ip.transport else {
        return false;
    };
    if ip.is_v4() {
        !matches!(icmp.kind, 0 | 8 | 9 | 10 | 13..=18)
    } else {
        const REDIRECT: u8 = 137;
        icmp.kind < 128 || icmp.kind == REDIRECT
    }
}
