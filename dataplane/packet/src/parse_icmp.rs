//! Reads ICMP (RFC 792), ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and the packet quoted in an
//! error (RFC 5508, 4.2).
//!
//! A message that is truncated or breaks a rule of its own type is no parse error: it is
//! [`IcmpMessage::Other`], which starts no session, finds none, and answers no neighbour question.

use crate::checksum::sum;
use crate::octets::{array_at, u16_at};
use crate::parse::{Chain, ipv6_addresses};
use crate::{Addr, Embedded, Icmp, IcmpMessage, Mac, nd, protocol};

/// Octets of the ICMP header in front of a quoted packet.
const HEADER: usize = 8;

/// An ICMP message and what its reading depends on.
pub(crate) struct Message<'a> {
    /// From the type octet to the end of the IP packet.
    pub(crate) octets: &'a [u8],
    /// Where it starts, octets from the start of the frame.
    pub(crate) l4: u16,
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) hop_limit: u8,
}

/// Reads a message; `None` if its 8-octet header is truncated.
#[inline(never)]
pub(crate) fn icmp(message: &Message<'_>) -> Option<Icmp> {
    let &[kind, code, _, _, i0, i1, s0, s1] = message.octets.first_chunk::<HEADER>()?;
    let id = u16::from_be_bytes([i0, i1]);
    let seq = u16::from_be_bytes([s0, s1]);
    let about = |v4| embedded(message, v4).map_or(IcmpMessage::Other, IcmpMessage::Error);
    let read = if message.src.is_v4() {
        match kind {
            8 | 13 => IcmpMessage::Query { id, seq },
            0 | 14 => IcmpMessage::Reply { id, seq },
            3 | 4 | 11 | 12 => about(true),
            _ => IcmpMessage::Other,
        }
    } else {
        match kind {
            128 => IcmpMessage::Query { id, seq },
            129 => IcmpMessage::Reply { id, seq },
            1..=4 => about(false),
            nd::SOLICITATION | nd::ADVERTISEMENT if code == 0 => {
                neighbor(message, kind).unwrap_or(IcmpMessage::Other)
            }
            _ => IcmpMessage::Other,
        }
    };
    Some(Icmp { kind, code, message: read })
}

/// The quoted packet: its network header and at least 8 octets more.
fn embedded(message: &Message<'_>, v4: bool) -> Option<Embedded> {
    let quote = message.octets.get(HEADER..)?;
    let (src, dst, protocol, header_len) = if v4 { quoted_v4(quote)? } else { quoted_v6(quote)? };
    let upper: &[u8; 8] = array_at(quote, header_len)?;
    let (src_port, dst_port) = match protocol {
        protocol::TCP | protocol::UDP => {
            (u16::from_be_bytes([upper[0], upper[1]]), u16::from_be_bytes([upper[2], upper[3]]))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            // Nobody sends an error about an error.
            let is_query = match upper[0] {
                0 | 8 | 13 | 14 => v4 && protocol == protocol::ICMP,
                128 | 129 => !v4 && protocol == protocol::ICMPV6,
                _ => false,
            };
            let id = u16::from_be_bytes([upper[4], upper[5]]);
            is_query.then_some((id, id))?
        }
        _ => (0, 0),
    };
    let l3 = message.l4.checked_add(HEADER as u16)?;
    let l4 = l3.checked_add(u16::try_from(header_len).ok()?)?;
    Some(Embedded { src, dst, protocol, src_port, dst_port, l3, l4 })
}

/// Source, destination, protocol and header length of a quoted IPv4 packet. A wrong header checksum
/// disqualifies it (RFC 5508, REQ-3 a), and so does a later fragment, about which no error is sent.
fn quoted_v4(quote: &[u8]) -> Option<(Addr, Addr, u8, usize)> {
    let h: &[u8; 20] = quote.first_chunk()?;
    let header_len = usize::from(h[0] & 0x0f) * 4;
    let header = quote.get(..header_len)?;
    let offset = u16::from_be_bytes([h[6], h[7]]) & 0x1fff;
    if h[0] >> 4 != 4 || header_len < 20 || offset != 0 || sum(header) != 0xffff {
        return None;
    }
    let src = Addr::v4(u32::from_be_bytes([h[12], h[13], h[14], h[15]]));
    let dst = Addr::v4(u32::from_be_bytes([h[16], h[17], h[18], h[19]]));
    Some((src, dst, h[9], header_len))
}

/// The same of a quoted IPv6 packet, extension headers counted as header.
fn quoted_v6(quote: &[u8]) -> Option<(Addr, Addr, u8, usize)> {
    if quote.first()? >> 4 != 6 {
        return None;
    }
    let (src, dst) = ipv6_addresses(quote)?;
    let chain = Chain::walk(quote).ok()?;
    if chain.fragment.is_some_and(|f| f.offset != 0) {
        return None;
    }
    Some((src, dst, chain.protocol, chain.end))
}

/// Neighbour solicitation or advertisement, if it passes the checks of RFC 4861, 7.1.
fn neighbor(message: &Message<'_>, kind: u8) -> Option<IcmpMessage> {
    let target = Addr(u128::from_be_bytes(*array_at(message.octets, 8)?));
    // A packet from beyond the link has a smaller hop limit.
    if message.hop_limit != 255 || target.is_multicast() || target.is_v4() {
        return None;
    }
    let solicitation = kind == nd::SOLICITATION;
    let wanted = if solicitation { nd::OPTION_SOURCE_MAC } else { nd::OPTION_TARGET_MAC };
    let mac = link_layer_option(message.octets.get(24..)?, wanted)?;
    if solicitation {
        if message.src.is_unspecified()
            && (mac.is_some() || message.dst != nd::solicited_node_addr(target))
        {
            return None;
        }
        return Some(IcmpMessage::NeighborSolicitation { target, source_mac: mac });
    }
    let solicited = u16_at(message.octets, 4)? & 0x4000 != 0;
    if solicited && message.dst.is_multicast() {
        return None;
    }
    Some(IcmpMessage::NeighborAdvertisement { target, target_mac: mac })
}

/// The Ethernet address in the option of type `wanted`; the outer `None` if an option is malformed
/// (length zero, truncated, a group address as a station's).
fn link_layer_option(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, length] = options.first_chunk()?;
        let option = options.get(..usize::from(length) * 8)?;
        if kind == wanted {
            let mac = Mac(*array_at(option, 2)?);
            if mac.is_group() || length != 1 {
                return None;
            }
            found = found.or(Some(mac));
        }
        if option.is_empty() {
            return None;
        }
        options = options.get(option.len()..)?;
    }
    Some(found)
}
