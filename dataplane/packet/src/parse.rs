//! From octets to [`Headers`].
//!
//! RFC 894 and IEEE 802.1Q (framing), RFC 826 (ARP), RFC 791 and 1812, 5.2.2 (IPv4), RFC 8200 (IPv6),
//! RFC 9293 (TCP), RFC 768 (UDP), RFC 1858 and 3128 (tiny fragments), RFC 7112 (IPv6 header chains).
//! ICMP is read by `parse_icmp.rs`.
//!
//! Invariants: nothing is allocated or copied; lengths come from the IP header, so that Ethernet
//! padding is never taken for data; every offset in the result lies within the frame; an address that
//! looks like IPv4 comes from IPv4. The common case, untagged IPv4 without options carrying TCP or
//! UDP, runs straight through; the rest is kept out of line.

use crate::checksum::sum;
use crate::octets::{array_at, u16_at, u32_at};
use crate::parse_icmp::{Message, icmp};
use crate::{
    Addr, Arp, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Fragment, Headers,
    Ip, Mac, Payload, Tcp, Transport, Udp, protocol,
};

/// EtherType of an IEEE 802.1ad service tag.
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
/// Most IPv6 extension headers that are walked. RFC 8504, 5.3 asks for a limit and suggests 8.
const MAX_EXTENSION_HEADERS: usize = 8;
/// Octets of the fixed IPv6 header.
const IPV6_HEADER: usize = 40;

/// Why a frame does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum ParseError {
    /// The frame ends within the Ethernet header, the tag or the fixed IP header.
    #[error("frame ends within the Ethernet, VLAN or IP header")]
    Runt,
    /// A second VLAN tag behind the first: a way to hop VLANs, and never expected here.
    #[error("more than one VLAN tag")]
    VlanStacked,
    /// EtherType IPv4, but the version field is not 4.
    #[error("IPv4 version field is not 4")]
    Ipv4Version,
    /// IHL below 5, or the header does not fit the frame.
    #[error("IPv4 header length below 20 octets or beyond the frame")]
    Ipv4HeaderLength,
    /// Total length below the header length or beyond the frame.
    #[error("IPv4 total length below the header length or beyond the frame")]
    Ipv4TotalLength,
    /// The header checksum is wrong.
    #[error("IPv4 header checksum is wrong")]
    Ipv4Checksum,
    /// EtherType IPv6, but the version field is not 6.
    #[error("IPv6 version field is not 6")]
    Ipv6Version,
    /// Payload length beyond the frame.
    #[error("IPv6 payload length beyond the frame")]
    Ipv6PayloadLength,
    /// An IPv4-mapped address (`::ffff:0:0/96`) on an IPv6 wire, where it would pass for IPv4.
    #[error("IPv4-mapped address in an IPv6 header")]
    Ipv6MappedAddress,
    /// More than 8 extension headers, one that does not fit the packet, or a hop-by-hop header that is
    /// not the first.
    #[error("IPv6 extension headers: more than 8, truncated or out of order")]
    ExtensionHeaders,
    /// The packet ends within the transport header.
    #[error("packet ends within the transport header")]
    TransportTruncated,
    /// TCP data offset below 5, or the header does not fit the packet.
    #[error("TCP header length below 20 octets or beyond the packet")]
    TcpHeaderLength,
    /// UDP length below 8 or beyond the packet.
    #[error("UDP length below 8 octets or beyond the packet")]
    UdpLength,
    /// ARP for IPv4 over Ethernet that is truncated or has other address lengths than 6 and 4.
    #[error("ARP packet truncated or with wrong address lengths")]
    ArpMalformed,
    /// A first fragment without the whole transport header, or a TCP fragment at offset 8, which
    /// would overwrite flags (RFC 1858, RFC 3128).
    #[error("tiny fragment")]
    TinyFragment,
    /// A fragment that is not the last and not a multiple of 8 octets, a later one without data, or
    /// one that ends beyond 65,535 octets.
    #[error("fragment length not a multiple of 8, zero, or ending beyond 65535 octets")]
    FragmentLength,
}

/// Reads all headers of an Ethernet frame (no preamble, no FCS).
///
/// The IPv4 header checksum is verified, transport checksums are not (see
/// [`crate::verify_transport`]). EtherTypes other than ARP, IPv4 and IPv6, and ARP for other address
/// families, give [`Payload::Other`].
///
/// # Errors
/// One [`ParseError`] a cause; the first found counts, outermost header first.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Headers, ParseError> {
    let h: &[u8; 14] = bytes.first_chunk().ok_or(ParseError::Runt)?;
    let mut ether_type = u16::from_be_bytes([h[12], h[13]]);
    let (mut vlan, mut l3) = (None, 14u16);
    if ether_type == ETHERTYPE_VLAN {
        let (id, inner) = tag(bytes)?;
        (vlan, ether_type, l3) = (Some(id), inner, 18);
    }
    let payload = match ether_type {
        ETHERTYPE_IPV4 => Payload::Ip(ipv4(bytes, l3)?),
        ETHERTYPE_IPV6 => Payload::Ip(ipv6(bytes, l3)?),
        ETHERTYPE_ARP => arp(bytes, l3)?,
        _ => Payload::Other,
    };
    Ok(Headers {
        dst_mac: Mac([h[0], h[1], h[2], h[3], h[4], h[5]]),
        src_mac: Mac([h[6], h[7], h[8], h[9], h[10], h[11]]),
        vlan,
        ether_type,
        l3,
        payload,
    })
}

/// VLAN identifier and the EtherType behind the tag.
#[cold]
fn tag(bytes: &[u8]) -> Result<(u16, u16), ParseError> {
    let &[t0, t1, e0, e1] = array_at(bytes, 14).ok_or(ParseError::Runt)?;
    let inner = u16::from_be_bytes([e0, e1]);
    if inner == ETHERTYPE_VLAN || inner == ETHERTYPE_SERVICE_VLAN {
        return Err(ParseError::VlanStacked);
    }
    Ok((u16::from_be_bytes([t0, t1]) & 0x0fff, inner))
}

#[inline(never)]
fn arp(bytes: &[u8], l3: u16) -> Result<Payload, ParseError> {
    let l3 = usize::from(l3);
    let h: &[u8; 8] = array_at(bytes, l3).ok_or(ParseError::ArpMalformed)?;
    // Ethernet, IPv4.
    if h[..4] != [0, 1, 8, 0] {
        return Ok(Payload::Other);
    }
    if h[4..6] != [6, 4] {
        return Err(ParseError::ArpMalformed);
    }
    let read = || {
        Some(Arp {
            operation: u16::from_be_bytes([h[6], h[7]]),
            sender_mac: Mac(*array_at(bytes, l3 + 8)?),
            sender: Addr::v4(u32_at(bytes, l3 + 14)?),
            target_mac: Mac(*array_at(bytes, l3 + 18)?),
            target: Addr::v4(u32_at(bytes, l3 + 24)?),
        })
    };
    read().map(Payload::Arp).ok_or(ParseError::ArpMalformed)
}

#[inline]
fn ipv4(bytes: &[u8], l3: u16) -> Result<Ip, ParseError> {
    let at = usize::from(l3);
    let h: &[u8; 20] = array_at(bytes, at).ok_or(ParseError::Runt)?;
    let header_len = if h[0] == 0x45 {
        if sum(h) != 0xffff {
            return Err(ParseError::Ipv4Checksum);
        }
        20
    } else {
        ipv4_header_with_options(bytes, at, h[0])?
    };
    let total_len = u16::from_be_bytes([h[2], h[3]]);
    let packet = bytes.get(at..at + usize::from(total_len)).ok_or(ParseError::Ipv4TotalLength)?;
    let payload = packet.get(usize::from(header_len)..).ok_or(ParseError::Ipv4TotalLength)?;
    let src = Addr::v4(u32::from_be_bytes([h[12], h[13], h[14], h[15]]));
    let dst = Addr::v4(u32::from_be_bytes([h[16], h[17], h[18], h[19]]));
    let (protocol, ttl, l4) = (h[9], h[8], l3 + header_len);
    let flags_offset = u16::from_be_bytes([h[6], h[7]]);
    let fragment = if flags_offset & 0x3fff == 0 {
        None
    } else {
        let id = u32::from(u16::from_be_bytes([h[4], h[5]]));
        let more = flags_offset & 0x2000 != 0;
        Some(fragment(id, flags_offset << 3, more, protocol, header_len, payload)?)
    };
    let upper = Upper { protocol, l4, fragment, src, dst, ttl, payload };
    Ok(Ip {
        src,
        dst,
        protocol,
        ttl,
        traffic_class: h[1],
        dont_fragment: flags_offset & 0x4000 != 0,
        options: header_len != 20,
        fragment,
        l4,
        total_len: u32::from(total_len),
        transport: transport(&upper)?,
    })
}

/// Header length in octets of an IPv4 header whose first octet is not the usual 0x45.
#[cold]
fn ipv4_header_with_options(bytes: &[u8], at: usize, first: u8) -> Result<u16, ParseError> {
    if first >> 4 != 4 {
        return Err(ParseError::Ipv4Version);
    }
    let header_len = u16::from(first & 0x0f) * 4;
    if header_len < 20 {
        return Err(ParseError::Ipv4HeaderLength);
    }
    let header = bytes.get(at..at + usize::from(header_len)).ok_or(ParseError::Ipv4HeaderLength)?;
    if sum(header) != 0xffff {
        return Err(ParseError::Ipv4Checksum);
    }
    Ok(header_len)
}

/// Checks the fields of a fragment. `header_len` counts what precedes the payload in the packet that
/// is reassembled: nothing for IPv6, whose limit is on the payload.
#[cold]
fn fragment(
    id: u32,
    offset: u16,
    more: bool,
    protocol: u8,
    header_len: u16,
    payload: &[u8],
) -> Result<Fragment, ParseError> {
    let end = usize::from(header_len) + usize::from(offset) + payload.len();
    if (more && !payload.len().is_multiple_of(8))
        || (offset != 0 && payload.is_empty())
        || end > 0xffff
    {
        return Err(ParseError::FragmentLength);
    }
    // RFC 3128: a first fragment always reaches beyond octet 8, so this one can only overwrite it.
    if offset == 8 && protocol == protocol::TCP {
        return Err(ParseError::TinyFragment);
    }
    Ok(Fragment { id, offset, more })
}

#[inline(never)]
fn ipv6(bytes: &[u8], l3: u16) -> Result<Ip, ParseError> {
    let at = usize::from(l3);
    let h: &[u8; IPV6_HEADER] = array_at(bytes, at).ok_or(ParseError::Runt)?;
    if h[0] >> 4 != 6 {
        return Err(ParseError::Ipv6Version);
    }
    let total_len = IPV6_HEADER + usize::from(u16::from_be_bytes([h[4], h[5]]));
    let packet = bytes.get(at..at + total_len).ok_or(ParseError::Ipv6PayloadLength)?;
    let (src, dst) = ipv6_addresses(h).ok_or(ParseError::Ipv6MappedAddress)?;
    let chain = Chain::walk(packet)?;
    let payload = packet.get(chain.end..).ok_or(ParseError::ExtensionHeaders)?;
    // At most 8 headers of 2,048 octets: always fits.
    let l4 = u16::try_from(at + chain.end).map_err(|_| ParseError::ExtensionHeaders)?;
    let fragment = match chain.fragment {
        // RFC 6946: an atomic fragment is a whole packet.
        None | Some(Fragment { offset: 0, more: false, .. }) => None,
        Some(f) => Some(fragment(f.id, f.offset, f.more, chain.protocol, 0, payload)?),
    };
    let upper = Upper { protocol: chain.protocol, l4, fragment, src, dst, ttl: h[7], payload };
    Ok(Ip {
        src,
        dst,
        protocol: chain.protocol,
        ttl: h[7],
        traffic_class: h[0] << 4 | h[1] >> 4,
        dont_fragment: true,
        options: chain.end != IPV6_HEADER,
        fragment,
        l4,
        // 40 + 65,535 at most.
        total_len: total_len as u32,
        transport: transport(&upper)?,
    })
}

/// Source and destination of a fixed IPv6 header; `None` if one of them would pass for IPv4.
pub(crate) fn ipv6_addresses(header: &[u8]) -> Option<(Addr, Addr)> {
    let src = Addr(u128::from_be_bytes(*array_at(header, 8)?));
    let dst = Addr(u128::from_be_bytes(*array_at(header, 24)?));
    (!src.is_v4() && !dst.is_v4()).then_some((src, dst))
}

/// The extension headers of an IPv6 packet (RFC 8200, 4), up to the transport header or to the payload
/// of a later fragment.
pub(crate) struct Chain {
    /// What follows the last one.
    pub(crate) protocol: u8,
    /// Where it follows, octets from the start of the IPv6 header.
    pub(crate) end: usize,
    /// Fields of the fragment header, also of an atomic one.
    pub(crate) fragment: Option<Fragment>,
}

impl Chain {
    /// `packet` begins with the fixed header and ends with the packet, or with what is quoted of it.
    pub(crate) fn walk(packet: &[u8]) -> Result<Chain, ParseError> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION_OPTIONS: u8 = 60;
        const MOBILITY: u8 = 135;
        const HIP: u8 = 139;
        const SHIM6: u8 = 140;
        let mut chain = Chain {
            protocol: *packet.get(6).ok_or(ParseError::Runt)?,
            end: IPV6_HEADER,
            fragment: None,
        };
        for count in 0..=MAX_EXTENSION_HEADERS {
            let &[next, length] = match chain.protocol {
                HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
                | MOBILITY | HIP | SHIM6 => {
                    array_at(packet, chain.end).ok_or(ParseError::ExtensionHeaders)?
                }
                _ => return Ok(chain),
            };
            if count == MAX_EXTENSION_HEADERS || (chain.protocol == HOP_BY_HOP && count != 0) {
                break;
            }
            let octets = match chain.protocol {
                FRAGMENT => {
                    // A second fragment header would hide which one counts.
                    if chain.fragment.is_some() {
                        break;
                    }
                    let fields =
                        u16_at(packet, chain.end + 2).ok_or(ParseError::ExtensionHeaders)?;
                    let id = u32_at(packet, chain.end + 4).ok_or(ParseError::ExtensionHeaders)?;
                    chain.fragment =
                        Some(Fragment { id, offset: fields & 0xfff8, more: fields & 1 != 0 });
                    8
                }
                AUTHENTICATION => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            chain.protocol = next;
            chain.end += octets;
            if chain.end > packet.len() {
                break;
            }
            if chain.fragment.is_some_and(|f| f.offset != 0) {
                return Ok(chain);
            }
        }
        Err(ParseError::ExtensionHeaders)
    }
}

/// What the transport header is read from.
struct Upper<'a> {
    protocol: u8,
    l4: u16,
    fragment: Option<Fragment>,
    src: Addr,
    dst: Addr,
    ttl: u8,
    /// From the transport header to the end of the packet.
    payload: &'a [u8],
}

#[inline]
fn transport(upper: &Upper<'_>) -> Result<Transport, ParseError> {
    if upper.fragment.is_some_and(|f| f.offset != 0) {
        return Ok(Transport::LaterFragment);
    }
    match upper.protocol {
        protocol::TCP => tcp(upper),
        protocol::UDP => udp(upper),
        protocol::ICMP | protocol::ICMPV6 => {
            // Each belongs to one family only.
            if (upper.protocol == protocol::ICMP) != upper.src.is_v4() {
                return Ok(Transport::Other);
            }
            let message = Message {
                octets: upper.payload,
                l4: upper.l4,
                src: upper.src,
                dst: upper.dst,
                hop_limit: upper.ttl,
            };
            icmp(&message)
                .map(Transport::Icmp)
                .ok_or_else(|| truncated(upper, ParseError::TransportTruncated))
        }
        _ => Ok(Transport::Other),
    }
}

/// A missing piece of a transport header: an attack where a first fragment lacks it.
#[cold]
fn truncated(upper: &Upper<'_>, otherwise: ParseError) -> ParseError {
    if upper.fragment.is_some() { ParseError::TinyFragment } else { otherwise }
}

#[inline]
fn tcp(upper: &Upper<'_>) -> Result<Transport, ParseError> {
    let Some(h) = upper.payload.first_chunk::<20>() else {
        return Err(truncated(upper, ParseError::TransportTruncated));
    };
    let header_len = (h[12] >> 4) * 4;
    if header_len < 20 {
        return Err(ParseError::TcpHeaderLength);
    }
    let Some(data) = upper.payload.get(usize::from(header_len)..) else {
        return Err(truncated(upper, ParseError::TcpHeaderLength));
    };
    Ok(Transport::Tcp(Tcp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        flags: h[13],
        window: u16::from_be_bytes([h[14], h[15]]),
        header_len,
        // The IP packet has at most 65,575 octets.
        payload_len: data.len() as u32,
    }))
}

#[inline]
fn udp(upper: &Upper<'_>) -> Result<Transport, ParseError> {
    let Some(h) = upper.payload.first_chunk::<8>() else {
        return Err(truncated(upper, ParseError::TransportTruncated));
    };
    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
    // The length of a fragmented datagram goes beyond its first fragment. A datagram shorter than
    // the packet is legal: surplus octets (RFC 9868).
    if length < 8 || (length > upper.payload.len() && upper.fragment.is_none()) {
        return Err(ParseError::UdpLength);
    }
    Ok(Transport::Udp(Udp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        has_checksum: h[6] != 0 || h[7] != 0,
    }))
}
