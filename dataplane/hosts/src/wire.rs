//! Octets of the packets that a host originates, and the few header fields it looks at itself.

use packet::{Addr, Embedded, Frame, FrameBuilder, Headers, Ip, Mac};

use crate::host::Arrival;
use crate::services::http::Endpoint;

/// Octets of an untagged Ethernet header.
const ETHERNET: usize = 14;
const IPV4_HEADER: usize = 20;

/// Headers of an IP frame; `None` for anything else.
pub(crate) fn ip_headers(frame: &Frame) -> Option<(Headers, Ip)> {
    let headers = packet::parse(&frame.bytes).ok()?;
    let ip = *headers.ip()?;
    Some((headers, ip))
}

/// Writes the link-layer addresses.
pub(crate) fn set_macs(frame: &mut Frame, dst: Mac, src: Mac) {
    if let Some(field) = frame.bytes.get_mut(..6) {
        field.copy_from_slice(&dst.0);
    }
    if let Some(field) = frame.bytes.get_mut(6..12) {
        field.copy_from_slice(&src.0);
    }
}

/// Writes the TTL or hop limit of an untagged IP frame, and IPv4's header checksum.
pub(crate) fn set_ttl(frame: &mut Frame, ttl: u8) {
    let Some((_, packet)) = frame.bytes.split_at_mut_checked(ETHERNET) else {
        return;
    };
    let version_ihl = packet.first().copied().unwrap_or(0);
    if version_ihl >> 4 == 6 {
        if let Some(field) = packet.get_mut(7) {
            *field = ttl;
        }
    } else if let Some(header) = packet.get_mut(..usize::from(version_ihl & 15) * 4) {
        if let Some(field) = header.get_mut(8) {
            *field = ttl;
        }
        set_ipv4_checksum(header);
    }
}

/// Makes an untagged IPv4 frame say that it is a whole packet: total length from the frame's own
/// length, no fragment fields. `None` if it is not IPv4 or too long.
pub(crate) fn clear_fragment(frame: &mut Frame) -> Option<()> {
    let packet = frame.bytes.get_mut(ETHERNET..)?;
    let total = u16::try_from(packet.len()).ok()?;
    let header_len = usize::from(packet.first()? & 15) * 4;
    let header = packet.get_mut(..header_len)?;
    header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    header.get_mut(6..8)?.fill(0);
    set_ipv4_checksum(header);
    Some(())
}

fn set_ipv4_checksum(header: &mut [u8]) {
    if let Some(field) = header.get_mut(10..12) {
        field.fill(0);
    }
    let checksum = packet::checksum(header);
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A datagram without link-layer addresses. `id` is the IPv4 identification; the packet may be
/// fragmented. `None` if it is longer than IP can say.
pub(crate) fn udp(
    local: Endpoint,
    remote: Endpoint,
    ttl: u8,
    id: u16,
    payload: &[u8],
) -> Option<Frame> {
    fits(local.addr, payload.len())?;
    let builder = FrameBuilder::new(local.addr, remote.addr).ttl(ttl).id(id);
    let builder = builder.dont_fragment(false).udp(local.port, remote.port);
    Some(builder.payload(payload).build())
}

/// An echo request without link-layer addresses. Without an IPv4 identification it must not be
/// fragmented. `None` if it is longer than IP can say.
pub(crate) fn echo_request(
    (src, dst): (Addr, Addr),
    (id, seq): (u16, u16),
    ttl: u8,
    ip_id: Option<u16>,
    size: u16,
) -> Option<Frame> {
    fits(src, usize::from(size))?;
    // The pattern of ping: each octet is its own position.
    let pattern: Vec<u8> = (0..size).map(|i| i as u8).collect();
    let builder = FrameBuilder::new(src, dst).ttl(ttl).id(ip_id.unwrap_or(0));
    let builder = builder.dont_fragment(ip_id.is_none()).echo_request(id, seq);
    Some(builder.payload(&pattern).build())
}

/// Whether IP can say the length of a packet with so many octets behind a UDP or ICMP header. IPv6
/// does not count its own header.
fn fits(src: Addr, octets: usize) -> Option<u16> {
    let headers = if src.is_v4() { IPV4_HEADER + 8 } else { 8 };
    u16::try_from(headers + octets).ok()
}

/// Data of an arrived datagram; `None` if its length field and its packet disagree.
pub(crate) fn udp_payload<'a>(arrival: &'a Arrival<'_>) -> Option<&'a [u8]> {
    let at = usize::from(arrival.ip.l4);
    let bytes = &arrival.frame.bytes;
    let length = usize::from(u16::from_be_bytes(*bytes.get(at + 4..)?.first_chunk::<2>()?));
    let end = usize::from(arrival.headers.l3) + arrival.ip.total_len as usize;
    bytes.get(at + 8..(at + length).min(end))
}

/// The MTU in "fragmentation needed" (RFC 1191, low half of the second word) or "packet too big"
/// (RFC 4443, the whole word); `None` for the zero of routers before RFC 1191.
pub(crate) fn error_mtu(arrival: &Arrival<'_>) -> Option<u32> {
    let at = usize::from(arrival.ip.l4) + 4;
    let word = u32::from_be_bytes(*arrival.frame.bytes.get(at..)?.first_chunk::<4>()?);
    let mtu = if arrival.ip.is_v4() { word & 0xffff } else { word };
    (mtu > 0).then_some(mtu)
}

/// Sequence number of a quoted echo request; 0 if the quote does not reach so far.
pub(crate) fn quoted_echo_sequence(arrival: &Arrival<'_>, quote: &Embedded) -> u16 {
    let at = usize::from(quote.l4) + 6;
    let field = arrival.frame.bytes.get(at..).and_then(|b| b.first_chunk::<2>());
    field.map_or(0, |b| u16::from_be_bytes(*b))
}
