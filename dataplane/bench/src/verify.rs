//! Reads a frame that came out with etherparse, and says what is wrong with it.
//!
//! Lengths, the IPv4 header checksum (RFC 791) and the transport checksum with its pseudo header
//! (RFC 768, 9293, 8200) are recomputed from the octets. Nothing of the engine or of its packet crate
//! takes part, but for the types that addresses are compared as.

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use packet::{Addr, Mac, protocol};

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no Ethernet frame with IP and UDP or TCP, whole and untagged.
    #[error("the frame cannot be read: {0}")]
    Unreadable(String),
    /// A checksum is not what the octets add up to.
    #[error("the {layer} checksum is {found:#06x} where {right:#06x} is right")]
    Checksum {
        /// `IPv4`, `UDP` or `TCP`.
        layer: &'static str,
        /// In the frame.
        found: u16,
        /// By the octets.
        right: u16,
    },
    /// A field is not what it has to be.
    #[error("{field} is {found} where {right} is right")]
    Field {
        /// Which.
        field: &'static str,
        /// In the frame.
        found: String,
        /// By the definitions.
        right: String,
    },
}

/// What was read of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Sending station.
    pub from: Mac,
    /// Destination station.
    pub to: Mac,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// What the transport header carries.
    pub payload: &'a [u8],
}

/// Reads a frame and recomputes its checksums.
///
/// # Errors
/// [`Fault::Unreadable`] and [`Fault::Checksum`].
pub fn read(bytes: &[u8]) -> Result<Seen<'_>, Fault> {
    let unreadable = |what: &dyn ToString| Fault::Unreadable(what.to_string());
    let sliced = SlicedPacket::from_ethernet(bytes).map_err(|e| unreadable(&e))?;
    let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link else {
        return Err(unreadable(&"it is not Ethernet II"));
    };
    if !sliced.link_exts.is_empty() {
        return Err(unreadable(&"it is tagged"));
    }
    let (src, dst, ttl): (Addr, Addr, u8) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            same("IPv4", header.header_checksum(), ipv4_checksum(header.slice()))?;
            if usize::from(header.total_len()) + 14 > bytes.len() {
                return Err(unreadable(&"it is shorter than its IP packet"));
            }
            (header.source_addr().into(), header.destination_addr().into(), header.ttl())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), header.hop_limit())
        }
        _ => return Err(unreadable(&"it carries no IP")),
    };
    let (protocol, src_port, dst_port, payload) = match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let right = if src.is_v4() {
                header.calc_checksum_ipv4_raw(octets4(src), octets4(dst), udp.payload())
            } else {
                header.calc_checksum_ipv6_raw(
                    src.0.to_be_bytes(),
                    dst.0.to_be_bytes(),
                    udp.payload(),
                )
            };
            same("UDP", udp.checksum(), right.map_err(|e| unreadable(&e))?)?;
            (protocol::UDP, udp.source_port(), udp.destination_port(), udp.payload())
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let right = if src.is_v4() {
                tcp.calc_checksum_ipv4(octets4(src), octets4(dst))
            } else {
                tcp.calc_checksum_ipv6(src.0.to_be_bytes(), dst.0.to_be_bytes())
            };
            same("TCP", tcp.checksum(), right.map_err(|e| unreadable(&e))?)?;
            (protocol::TCP, tcp.source_port(), tcp.destination_port(), tcp.payload())
        }
        _ => return Err(unreadable(&"it carries neither UDP nor TCP")),
    };
    let (from, to) = (Mac(ethernet.source()), Mac(ethernet.destination()));
    Ok(Seen { from, to, src, dst, protocol, ttl, src_port, dst_port, payload })
}

/// The checksum of an IPv4 header (RFC 791) by its octets: etherparse's own is of the fields that it knows, which the
/// reserved flag is none of.
fn ipv4_checksum(header: &[u8]) -> u16 {
    const FIELD: usize = 10;
    let words = header.chunks(2).zip((0..).step_by(2)).filter(|(_, at)| *at != FIELD);
    let sum: u32 = words
        .map(|(word, _)| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

fn octets4(address: Addr) -> [u8; 4] {
    address.low32().to_be_bytes()
}

fn same(layer: &'static str, found: u16, right: u16) -> Result<(), Fault> {
    if found == right { Ok(()) } else { Err(Fault::Checksum { layer, found, right }) }
}

/// Compares a field.
///
/// # Errors
/// [`Fault::Field`].
pub fn field<T: PartialEq + std::fmt::Debug>(
    field: &'static str,
    found: T,
    right: T,
) -> Result<(), Fault> {
    if found == right {
        return Ok(());
    }
    Err(Fault::Field { field, found: format!("{found:?}"), right: format!("{right:?}") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A frame written by hand: 192.0.2.1:1000 > 192.0.2.2:9, UDP, two octets `hi`.
    fn by_hand() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
        // 0x4500 + 0x001e + 0x0000 + 0x4000 + 0x4011 + 0xc000 + 0x0201 + 0xc000 + 0x0202 = 0x24932;
        // folded 0x4934, complemented 0xb6cb.
        frame.extend([0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xcb]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        // Pseudo header 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 10 = 0x1841e; header 0x03e8 + 0x0009 +
        // 0x000a = 0x03fb; "hi" 0x6869: 0x1f082; folded 0xf083, complemented 0x0f7c.
        frame.extend([0x03, 0xe8, 0, 9, 0, 10, 0x0f, 0x7c, b'h', b'i']);
        frame
    }

    #[test]
    fn a_right_frame_is_read() {
        let frame = by_hand();
        let seen = read(&frame).unwrap();
        assert_eq!(seen.src.to_string(), "192.0.2.1");
        assert_eq!(
            (seen.src_port, seen.dst_port, seen.ttl, seen.payload),
            (1000, 9, 64, &b"hi"[..])
        );
        assert_eq!(seen.from, Mac([2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn every_broken_bit_behind_the_macs_is_found() {
        let right = by_hand();
        for at in 12 * 8..right.len() * 8 {
            let mut frame = right.clone();
            *frame.get_mut(at / 8).unwrap() ^= 1 << (at % 8);
            let wrong = read(&frame);
            assert!(wrong.is_err(), "bit {at}: {wrong:?}");
        }
        assert!(matches!(read(&right[..43]), Err(Fault::Unreadable(_))));
    }

    #[test]
    fn a_field_that_differs_is_named() {
        let error = field("TTL", 63, 62).unwrap_err();
        assert_eq!(error.to_string(), "TTL is 63 where 62 is right");
    }
}
