//! Plain packets: what nearly all traffic consists of, read and rewritten in one pass.
//!
//! A packet is plain if it is untagged, whole, without IPv4 options or IPv6 extension headers, and carries
//! TCP or UDP. RFC 894 (framing), RFC 791 and 8200 (IP), RFC 9293 (TCP), RFC 768 (UDP), RFC 1624 (checksums).
//!
//! Invariants: a frame that [`flow4`] or [`flow6`] reads is one that [`crate::parse`] accepts, with the same
//! values; whatever they do not read is for `parse` to judge. A [`PlainRewrite`] does to a plain packet
//! what the [`Rewrite`] that it was made from does. Both are held to by property tests. Nothing is allocated,
//! and nothing is read twice.

use crate::checksum::{Delta, add, sum};
use crate::octets::{array_at, array_at_mut};
use crate::{Addr, ChecksumState, Headers, Mac, Rewrite, Transport, protocol};
use std::hash::{Hash, Hasher};

/// Octets of an Ethernet header without a tag.
const ETHERNET: usize = 14;
/// Octets before the transport header over IPv4.
const L4_V4: usize = ETHERNET + 20;
/// Octets before the transport header over IPv6.
const L4_V6: usize = ETHERNET + 40;
/// Octets of a UDP header.
const UDP: usize = 8;
/// Octets of a TCP header without options.
const TCP: usize = 20;

/// What tells the flows of plain packets apart, in few words to hash and to compare. `W` is the 64-bit words of both
/// addresses: 1 for IPv4, 4 for IPv6. Addresses and ports are as on the wire: only good to compare and to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<const W: usize> {
    addresses: [u64; W],
    /// Where the packet came in, a number of the reader's; below it source and destination port.
    ports: u64,
    /// Destination station and protocol.
    link: u64,
}

impl<const W: usize> Flow<W> {
    /// The flow of a packet that came in at `place`; `None` unless it is whole and without tag, options or extension
    /// headers, carries TCP or UDP, and is of the family with `W` words.
    #[must_use]
    pub fn of(place: u32, headers: &Headers) -> Option<Flow<W>> {
        let ip = headers.ip()?;
        let whole = !ip.options && ip.fragment.is_none() && headers.vlan.is_none();
        if !whole
            || ip.is_v4() != (W == 1)
            || !matches!(ip.transport, Transport::Tcp(_) | Transport::Udp(_))
        {
            return None;
        }
        Some(Flow::between(place, headers.dst_mac, ip.protocol, (ip.src, ip.dst), ip.ports()))
    }

    /// The flow of TCP or UDP, by its number, between two addresses and ports, source first, that comes in at `place`
    /// for the station `dst_mac`. Both addresses have to be of the family with `W` words.
    #[must_use]
    pub fn between(
        place: u32,
        dst_mac: Mac,
        protocol: u8,
        (src, dst): (Addr, Addr),
        (src_port, dst_port): (u16, u16),
    ) -> Flow<W> {
        Flow {
            addresses: words_of(src, dst),
            ports: u64::from(place) << 32 | u64::from(ports_of(src_port, dst_port)),
            link: dst_mac.to_u64() << 8 | u64::from(protocol),
        }
    }

    /// Source and destination address.
    #[must_use]
    pub fn endpoints(&self) -> (Addr, Addr) {
        let mut wire = [0; 32];
        for (to, word) in wire.chunks_exact_mut(8).zip(self.addresses) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        if W == 1 {
            return (Addr::v4(number32(&wire, 0)), Addr::v4(number32(&wire, 4)));
        }
        let address =
            |at| Addr(u128::from(number64(&wire, at)) << 64 | u128::from(number64(&wire, at + 8)));
        (address(0), address(16))
    }

    /// Source and destination port.
    #[must_use]
    pub fn port_numbers(&self) -> (u16, u16) {
        let wire = self.ports().to_ne_bytes();
        (number16(&wire, 0), number16(&wire, 2))
    }

    /// Destination station.
    #[must_use]
    pub fn dst_mac(&self) -> Mac {
        Mac::from_u64(self.link >> 8)
    }

    /// IP protocol.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.link as u8
    }

    /// The flow that comes in at `place` over `link`.
    #[must_use]
    pub const fn at(addresses: [u64; W], ports: u32, place: u32, link: u64) -> Flow<W> {
        Flow { addresses, ports: (place as u64) << 32 | ports as u64, link }
    }

    /// Both addresses, as on the wire.
    #[must_use]
    #[inline]
    pub const fn addresses(&self) -> [u64; W] {
        self.addresses
    }

    /// Both ports, as on the wire.
    #[must_use]
    #[inline]
    pub const fn ports(&self) -> u32 {
        self.ports as u32
    }

    /// Destination station and protocol, in one word.
    #[must_use]
    #[inline]
    pub const fn link(&self) -> u64 {
        self.link
    }

    /// Where its packets come in.
    #[must_use]
    #[inline]
    pub const fn place(&self) -> u32 {
        (self.ports >> 32) as u32
    }

    /// Whether it is TCP; otherwise UDP.
    #[must_use]
    #[inline]
    pub const fn is_tcp(&self) -> bool {
        self.link as u8 == protocol::TCP
    }
}

impl<const W: usize> Hash for Flow<W> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.addresses {
            state.write_u64(word);
        }
        state.write_u64(self.ports);
        state.write_u64(self.link);
    }
}

/// What a cached action needs to know of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<const W: usize> {
    /// Its flow.
    pub flow: Flow<W>,
    /// Sending station, in the lower 48 bits.
    pub src_mac: u64,
    /// Octets of the IP packet, header included.
    pub total_len: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// From its transport header.
    pub upper: Upper,
}

/// What [`Plain`] has from the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// TCP: sequence number of the octet after the segment's last, not counting SYN and FIN.
    pub end: u32,
    /// TCP: acknowledgment number.
    pub ack: u32,
    /// TCP: flag bits, see [`crate::tcp_flags`].
    pub flags: u8,
    /// Octets of the header.
    pub header_len: u8,
}

impl<const W: usize> Plain<W> {
    /// Octets of the headers from IP to transport: what each segment of a large packet repeats.
    #[must_use]
    #[inline]
    pub const fn headers_len(&self) -> u32 {
        let network = if W == 1 { 20 } else { 40 };
        network + self.upper.header_len as u32
    }
}

/// 16 bits of a header, as a number.
#[inline]
fn number16(h: &[u8], at: usize) -> u16 {
    array_at(h, at).map_or(0, |b| u16::from_be_bytes(*b))
}

/// 32 bits of a header, as a number.
#[inline]
fn number32(h: &[u8], at: usize) -> u32 {
    array_at(h, at).map_or(0, |b| u32::from_be_bytes(*b))
}

/// 64 bits of a header, as a number.
#[inline]
fn number64(h: &[u8], at: usize) -> u64 {
    array_at(h, at).map_or(0, |b| u64::from_be_bytes(*b))
}

/// 32 bits as they are on the wire.
#[inline]
fn word32(h: &[u8], at: usize) -> u32 {
    array_at(h, at).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// 64 bits as they are on the wire.
#[inline]
fn word64(h: &[u8], at: usize) -> u64 {
    array_at(h, at).map_or(0, |b| u64::from_ne_bytes(*b))
}

/// Whether the checksum of the 20 octets at `at`, not all zero, is right (RFC 1071; the order of octets does not
/// matter, and wide words may be summed as well as narrow ones).
#[inline]
fn is_header_right(h: &[u8], at: usize) -> bool {
    let (a, b, c) = (word64(h, at), word64(h, at + 8), word32(h, at + 16));
    let (sum, carry) = a.overflowing_add(b);
    // Two words of 64 bits and one of 32 cannot carry twice.
    let (sum, further) = sum.overflowing_add(u64::from(c) + u64::from(carry));
    let sum = sum.wrapping_add(u64::from(further));
    // A sum of all ones, in 16 bits, is what is divided by them without a rest.
    sum.is_multiple_of(0xffff)
}

/// The flow of a plain IPv4 packet that came in at `place`. `None` is no verdict: the frame may be of another kind, or
/// wrong.
#[must_use]
#[inline(always)]
pub fn flow4(place: u32, bytes: &[u8]) -> Option<Flow<1>> {
    let h: &[u8; L4_V4 + UDP] = bytes.first_chunk()?;
    let total = usize::from(number16(h, 16));
    // EtherType, version and header length; More Fragments and the offset.
    if number32(h, 12) >> 8 != 0x08_00_45
        || number16(h, 20) & 0x3fff != 0
        || ETHERNET + total > bytes.len()
        || !is_header_right(h, ETHERNET)
        || !is_upper_right(bytes, h[23], L4_V4, (ETHERNET + total).checked_sub(L4_V4)?)
    {
        return None;
    }
    Some(flow4_of(place, h))
}

/// The flow of a plain IPv6 packet that came in at `place`. `None` is no verdict, as with [`flow4`].
#[must_use]
#[inline]
pub fn flow6(place: u32, bytes: &[u8]) -> Option<Flow<4>> {
    let h: &[u8; L4_V6 + UDP] = bytes.first_chunk()?;
    let payload = usize::from(number16(h, 18));
    // EtherType and version.
    if number32(h, 12) >> 12 != 0x8_6dd6 || L4_V6 + payload > bytes.len() {
        return None;
    }
    let address = |at| array_at(h, at).map(|b| Addr(u128::from_be_bytes(*b)));
    // An address that would pass for IPv4 is for `parse` to refuse.
    if address(22)?.is_v4() || address(38)?.is_v4() || !is_upper_right(bytes, h[20], L4_V6, payload)
    {
        return None;
    }
    Some(flow6_of(place, h))
}

#[inline]
fn flow4_of(place: u32, h: &[u8; L4_V4 + UDP]) -> Flow<1> {
    Flow {
        addresses: [word64(h, 26)],
        ports: u64::from(place) << 32 | u64::from(word32(h, L4_V4)),
        link: number64(h, 0) >> 16 << 8 | u64::from(h[23]),
    }
}

#[inline]
fn flow6_of(place: u32, h: &[u8; L4_V6 + UDP]) -> Flow<4> {
    Flow {
        addresses: [word64(h, 22), word64(h, 30), word64(h, 38), word64(h, 46)],
        ports: u64::from(place) << 32 | u64::from(word32(h, L4_V6)),
        link: number64(h, 0) >> 16 << 8 | u64::from(h[20]),
    }
}

/// What there is to know of a packet that [`flow4`] has read. Of any other the values mean nothing.
#[must_use]
#[inline(always)]
pub fn plain4(place: u32, bytes: &[u8]) -> Plain<1> {
    let h: &[u8; L4_V4 + UDP] = bytes.first_chunk().unwrap_or(&[0; L4_V4 + UDP]);
    let flow = flow4_of(place, h);
    let total_len = u32::from(number16(h, 16));
    Plain {
        src_mac: number64(h, 4) & 0xffff_ffff_ffff,
        total_len,
        ttl: h[22],
        upper: Upper::of(flow.is_tcp(), bytes, L4_V4, total_len.wrapping_sub(20)),
        flow,
    }
}

/// What there is to know of a packet that [`flow6`] has read. Of any other the values mean nothing.
#[must_use]
#[inline]
pub fn plain6(place: u32, bytes: &[u8]) -> Plain<4> {
    let h: &[u8; L4_V6 + UDP] = bytes.first_chunk().unwrap_or(&[0; L4_V6 + UDP]);
    let flow = flow6_of(place, h);
    let payload = u32::from(number16(h, 18));
    Plain {
        src_mac: number64(h, 4) & 0xffff_ffff_ffff,
        total_len: 40 + payload,
        ttl: h[21],
        upper: Upper::of(flow.is_tcp(), bytes, L4_V6, payload),
        flow,
    }
}

/// Whether there is a right header of TCP or UDP at `at`, where `len` octets of the packet are left.
#[inline]
fn is_upper_right(bytes: &[u8], number: u8, at: usize, len: usize) -> bool {
    match number {
        protocol::UDP => {
            let length = usize::from(number16(bytes, at + 4));
            length >= UDP && length <= len
        }
        protocol::TCP => array_at::<TCP>(bytes, at).is_some_and(|h| {
            let header_len = usize::from(h[12] >> 4) * 4;
            header_len >= TCP && header_len <= len
        }),
        _ => false,
    }
}

impl Upper {
    /// Reads a header of a packet that has `len` octets behind its IP header.
    #[inline(always)]
    fn of(tcp: bool, bytes: &[u8], at: usize, len: u32) -> Upper {
        let header = if tcp { array_at::<TCP>(bytes, at) } else { None };
        let Some(h) = header else {
            return Upper { end: 0, ack: 0, flags: 0, header_len: UDP as u8 };
        };
        let header_len = (h[12] >> 4) * 4;
        let data = len.wrapping_sub(u32::from(header_len));
        Upper {
            end: number32(h, 4).wrapping_add(data),
            ack: number32(h, 8),
            flags: h[13],
            header_len,
        }
    }
}

/// The part of a [`Rewrite`] that is a plain packet's own: addresses, ports and what they change in checksums.
///
/// It writes every field, changed or not: the packets it is applied to agree in all of them with the packet
/// that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainRewrite<const W: usize> {
    /// Both addresses afterwards, as on the wire.
    pub addresses: [u64; W],
    /// Both ports afterwards, as on the wire.
    pub ports: u32,
    /// Change of the IPv4 header checksum.
    pub header: Delta,
    /// Change of a whole transport checksum.
    pub transport: Delta,
}

/// The part of a [`Rewrite`] that all flows of one path through the network share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkRewrite {
    /// Destination MAC and the beginning of the source's, as on the wire.
    macs: u64,
    /// The rest of the source MAC.
    mac: u32,
    ttl_decrement: u8,
}

impl LinkRewrite {
    /// The same change for plain packets.
    #[must_use]
    pub fn new(r: &Rewrite) -> LinkRewrite {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&r.dst_mac.0);
        macs[6..].copy_from_slice(&r.src_mac.0);
        LinkRewrite {
            macs: word64(&macs, 0),
            mac: word32(&macs, 8),
            ttl_decrement: r.ttl_decrement,
        }
    }

    /// By how much the TTL or hop limit falls; see [`Rewrite::ttl_decrement`].
    #[must_use]
    #[inline]
    pub const fn ttl_decrement(&self) -> u8 {
        self.ttl_decrement
    }
}

impl<const W: usize> PlainRewrite<W> {
    /// The same change for plain packets of the family whose addresses have `W` words together.
    #[must_use]
    pub fn new(r: &Rewrite) -> PlainRewrite<W> {
        PlainRewrite {
            addresses: words_of(r.src, r.dst),
            ports: ports_of(r.src_port, r.dst_port),
            header: r.header,
            transport: r.transport,
        }
    }

    /// Rewrites a frame that [`flow4`] or [`flow6`] has read as `flow`, in place; `state` is the frame's.
    #[inline(always)]
    pub fn apply(
        &self,
        link: &LinkRewrite,
        flow: &Flow<W>,
        bytes: &mut [u8],
        state: ChecksumState,
    ) {
        let (ttl, addresses, l4) = if W == 1 { (22, 26, L4_V4) } else { (21, 22, L4_V6) };
        // Up to the end of the shortest transport header, so that all of it is checked to be there once.
        let Some(h) = bytes.get_mut(..l4 + UDP) else { return };
        h[..8].copy_from_slice(&link.macs.to_ne_bytes());
        h[8..12].copy_from_slice(&link.mac.to_ne_bytes());
        h[ttl] = h[ttl].saturating_sub(link.ttl_decrement);
        if W == 1 {
            let checksum = self.header.update(u16::from_be_bytes([h[24], h[25]]));
            h[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
        for (i, word) in self.addresses.iter().enumerate() {
            let at = addresses + 8 * i;
            h[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        h[l4..l4 + 4].copy_from_slice(&self.ports.to_ne_bytes());
        let tcp = flow.is_tcp();
        let Some(field) = array_at_mut::<2>(bytes, l4 + if tcp { 16 } else { 6 }) else { return };
        let old = u16::from_be_bytes(*field);
        let partial =
            matches!(state, ChecksumState::Partial { start, .. } if usize::from(start) == l4);
        let new = if partial {
            self.pseudo(flow).update_sum(old)
        } else if tcp {
            self.transport.update(old)
        } else {
            self.transport.update_udp(old)
        };
        *field = new.to_be_bytes();
    }

    /// Change of a pseudo header's sum, for [`ChecksumState::Partial`].
    fn pseudo(&self, flow: &Flow<W>) -> Delta {
        let sum_of = |words: &[u64; W]| {
            words.iter().fold(0, |total, word| add(total, sum(&word.to_ne_bytes())))
        };
        Delta::of(sum_of(&flow.addresses), sum_of(&self.addresses))
    }
}

/// Both ports as they are on the wire.
fn ports_of(src: u16, dst: u16) -> u32 {
    let ([s0, s1], [d0, d1]) = (src.to_be_bytes(), dst.to_be_bytes());
    u32::from_ne_bytes([s0, s1, d0, d1])
}

/// Both addresses as they are on the wire.
fn words_of<const W: usize>(src: Addr, dst: Addr) -> [u64; W] {
    let mut wire = [0; 32];
    if W == 1 {
        wire[..4].copy_from_slice(&src.low32().to_be_bytes());
        wire[4..8].copy_from_slice(&dst.low32().to_be_bytes());
    } else {
        wire[..16].copy_from_slice(&src.0.to_be_bytes());
        wire[16..].copy_from_slice(&dst.0.to_be_bytes());
    }
    std::array::from_fn(|i| word64(&wire, 8 * i))
}
