//! Frames of the model's packets, octet by octet, and back. Ethernet II, IPv4 without options (RFC 791), IPv6 without extension
//! headers (RFC 8200), UDP (RFC 768), TCP without options (RFC 9293), ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443).

pub mod neighbors;
mod pieces;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use pieces::{cut, join};

use crate::packet::{Complaint, Content, Flow, Framed, Mac, Packet, Piece, protocol};

pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ARP: [u8; 2] = [0x08, 0x06];
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
/// Where the IP header begins.
const IP: usize = 14;

/// The Internet checksum (RFC 1071): 0 over what contains a right one.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn put(octets: &mut [u8], at: usize, value: u16) {
    if let Some(place) = octets.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn get(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]))
}

fn get32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(get(octets, at)?) << 16 | u32::from(get(octets, at + 2)?))
}

fn get128(octets: &[u8], at: usize) -> Option<u128> {
    octets.get(at..at + 16)?.try_into().ok().map(u128::from_be_bytes)
}

/// The checksum with the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
fn transport_checksum(src: IpAddr, dst: IpAddr, number: u8, segment: &[u8]) -> u16 {
    let len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let mut all = Vec::new();
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => all.extend(address.octets()),
            IpAddr::V6(address) => all.extend(address.octets()),
        }
    }
    all.extend(len.to_be_bytes());
    all.extend([0, 0, 0, number]);
    all.extend(segment);
    checksum(&all)
}

fn icmp6_checksum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    transport_checksum(src.into(), dst.into(), protocol::ICMP6, message)
}

/// The header of a packet: `cut` as in [`Packet`].
fn ip_header(
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    number: u8,
    payload: usize,
    cut: Option<u16>,
) -> Vec<u8> {
    let (src, dst) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => (src, dst),
        (src, dst) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, number, ttl];
            put(&mut header, 4, u16::try_from(payload).unwrap_or(u16::MAX));
            for address in [src, dst] {
                if let IpAddr::V6(address) = address {
                    header.extend(address.octets());
                }
            }
            return header;
        }
    };
    let len = u16::try_from(20 + payload).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, number, 0, 0];
    header.extend(src.octets());
    header.extend(dst.octets());
    put(&mut header, 2, len);
    if let Some(id) = cut {
        put(&mut header, 4, id);
        put(&mut header, 6, 0);
    }
    let sum = checksum(&header);
    put(&mut header, 10, sum);
    header
}

/// The protocol number on the wire.
fn wire_number(number: u8, v4: bool) -> u8 {
    match number {
        protocol::ICMP if !v4 => protocol::ICMP6,
        _ => number,
    }
}

fn echo_type(reply: bool, v4: bool) -> u8 {
    match (reply, v4) {
        (false, true) => 8,
        (true, true) => 0,
        (false, false) => 128,
        (true, false) => 129,
    }
}

/// IP header and first eight octets of a packet of a flow, as errors quote it.
fn quoted(quote: Flow) -> Vec<u8> {
    let v4 = quote.src.is_ipv4();
    let number = wire_number(quote.protocol, v4);
    let mut octets = ip_header(quote.src, quote.dst, 1, number, 8, None);
    if quote.protocol == protocol::ICMP {
        octets.extend([echo_type(false, v4), 0, 0, 0]);
        octets.extend(quote.src_port.to_be_bytes());
        octets.extend([0, 1]);
    } else {
        octets.extend(quote.src_port.to_be_bytes());
        octets.extend(quote.dst_port.to_be_bytes());
        // A UDP length and no checksum; of TCP a sequence number.
        octets.extend([0, 8, 0, 0]);
    }
    octets
}

/// Type, code and the 32 bits behind the checksum.
fn error_header(complaint: Complaint, v4: bool) -> (u8, u8, u32) {
    match (complaint, v4) {
        (Complaint::HostUnreachable, true) => (3, 1, 0),
        (Complaint::HostUnreachable, false) => (1, 3, 0),
        (Complaint::PortUnreachable, true) => (3, 3, 0),
        (Complaint::PortUnreachable, false) => (1, 4, 0),
        (Complaint::Prohibited, true) => (3, 13, 0),
        (Complaint::Prohibited, false) => (1, 1, 0),
        (Complaint::TooBig(mtu), true) => (3, 4, u32::from(mtu)),
        (Complaint::TooBig(mtu), false) => (2, 0, u32::from(mtu)),
        (Complaint::TimeExceeded, true) => (11, 0, 0),
        (Complaint::TimeExceeded, false) => (3, 0, 0),
    }
}

fn data(len: u32) -> impl Iterator<Item = u8> {
    // Not all the same, so that octets in the wrong place are noticed.
    (0..len).map(|at| u8::try_from(at % 251).unwrap_or(0))
}

/// The frame of a packet that is no fragment.
#[must_use]
pub fn build(framed: &Framed) -> Vec<u8> {
    let packet = &framed.packet;
    let v4 = packet.src.is_ipv4();
    let (number, sum_at, mut body) = match packet.content {
        Content::Tcp { src_port, dst_port, flags, seq, ack, len } => {
            let mut body = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
            body.extend(seq.to_be_bytes());
            body.extend(ack.to_be_bytes());
            body.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            body.extend(data(len));
            (protocol::TCP, 16, body)
        }
        Content::Udp { src_port, dst_port, len } => {
            let mut body = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
            body.extend(u16::try_from(8 + len).unwrap_or(u16::MAX).to_be_bytes());
            body.extend([0, 0]);
            body.extend(data(len));
            (protocol::UDP, 6, body)
        }
        Content::Echo { reply, id, len } => {
            let mut body = vec![echo_type(reply, v4), 0, 0, 0];
            body.extend(id.to_be_bytes());
            body.extend([0, 1]);
            body.extend(data(len));
            (wire_number(protocol::ICMP, v4), 2, body)
        }
        Content::Error { complaint, quote } => {
            let (kind, code, rest) = error_header(complaint, v4);
            let mut body = vec![kind, code, 0, 0];
            body.extend(rest.to_be_bytes());
            body.extend(quoted(quote));
            (wire_number(protocol::ICMP, v4), 2, body)
        }
        Content::Rest { protocol, len } => (protocol, usize::MAX - 2, data(len).collect()),
    };
    let sum = match number {
        protocol::ICMP => checksum(&body),
        _ => transport_checksum(packet.src, packet.dst, number, &body),
    };
    put(&mut body, sum_at, sum);
    let mut frame = [framed.dst_mac, framed.src_mac].concat();
    frame.extend(if v4 { IPV4 } else { IPV6 });
    frame.extend(ip_header(packet.src, packet.dst, packet.ttl, number, body.len(), packet.cut));
    frame.extend(body);
    frame
}

/// Reads an IP frame. Every length and checksum must be right, also those of what an error quotes; but for the transport checksum
/// of a fragment, which only the whole has.
///
/// # Errors
/// What is wrong with it.
pub fn read(frame: &[u8]) -> Result<Framed, String> {
    let short = || format!("a short frame of {} octets", frame.len());
    let mac = |at: usize| -> Option<Mac> { frame.get(at..at + 6)?.try_into().ok() };
    let (dst_mac, src_mac) = (mac(0).ok_or_else(short)?, mac(6).ok_or_else(short)?);
    let bytes = frame.get(IP..).ok_or_else(short)?;
    let ip = match frame.get(12..14) {
        Some(kind) if kind == IPV4 => read_ipv4(bytes, true).ok_or("a wrong IPv4 header")?,
        Some(kind) if kind == IPV6 => read_ipv6(bytes, true).ok_or("a wrong IPv6 header")?,
        _ => return Err("no IP".to_owned()),
    };
    let content = match ip.piece {
        Some(Piece { offset: 1.., .. }) => {
            let len = u32::try_from(ip.body.len()).unwrap_or(u32::MAX);
            Content::Rest { protocol: ip.number, len }
        }
        _ => read_content(&ip)?,
    };
    let Ip { src, dst, ttl, cut, piece, .. } = ip;
    Ok(Framed { src_mac, dst_mac, packet: Packet { src, dst, ttl, cut, piece, content } })
}

struct Ip<'a> {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    number: u8,
    cut: Option<u16>,
    piece: Option<Piece>,
    body: &'a [u8],
}

fn read_ipv4(ip: &[u8], whole: bool) -> Option<Ip<'_>> {
    let header = ip.get(..20)?;
    if header.first() != Some(&0x45) || checksum(header) != 0 {
        return None;
    }
    let len = usize::from(get(header, 2)?);
    let bits = get(header, 6)?;
    let (more, offset) = (bits & 0x2000 != 0, u32::from(bits & 0x1fff) * 8);
    Some(Ip {
        src: Ipv4Addr::from(get32(header, 12)?).into(),
        dst: Ipv4Addr::from(get32(header, 16)?).into(),
        ttl: *header.get(8)?,
        number: *header.get(9)?,
        cut: if bits & 0x4000 == 0 { Some(get(header, 4)?) } else { None },
        piece: (more || offset > 0).then_some(Piece { offset, more }),
        body: if whole { ip.get(20..len)? } else { ip.get(20..)? },
    })
}

fn read_ipv6(ip: &[u8], whole: bool) -> Option<Ip<'_>> {
    let header = ip.get(..40)?;
    if header.first()? >> 4 != 6 {
        return None;
    }
    let len = usize::from(get(header, 4)?);
    Some(Ip {
        src: Ipv6Addr::from(get128(header, 8)?).into(),
        dst: Ipv6Addr::from(get128(header, 24)?).into(),
        ttl: *header.get(7)?,
        number: *header.get(6)?,
        cut: None,
        piece: None,
        body: if whole { ip.get(40..40 + len)? } else { ip.get(40..)? },
    })
}

fn read_content(ip: &Ip<'_>) -> Result<Content, String> {
    let short = || "a short transport header".to_owned();
    let port = |at: usize| get(ip.body, at).ok_or_else(short);
    let data = |header: u32| {
        u32::try_from(ip.body.len()).unwrap_or(0).checked_sub(header).ok_or_else(short)
    };
    let v4 = ip.src.is_ipv4();
    let sum = match ip.number {
        protocol::ICMP => checksum(ip.body),
        _ => transport_checksum(ip.src, ip.dst, ip.number, ip.body),
    };
    if ip.piece.is_none() && sum != 0 {
        return Err("a wrong transport checksum".to_owned());
    }
    match ip.number {
        protocol::TCP => Ok(Content::Tcp {
            src_port: port(0)?,
            dst_port: port(2)?,
            flags: ip.body.get(13).copied().ok_or_else(short)?,
            seq: get32(ip.body, 4).ok_or_else(short)?,
            ack: get32(ip.body, 8).ok_or_else(short)?,
            len: data(20)?,
        }),
        protocol::UDP => Ok(Content::Udp { src_port: port(0)?, dst_port: port(2)?, len: data(8)? }),
        protocol::ICMP | protocol::ICMP6 => {
            let (kind, code, rest) = match (ip.body.get(..2), get32(ip.body, 4)) {
                (Some([kind, code]), Some(rest)) => (*kind, *code, rest),
                _ => return Err(short()),
            };
            if let Some(reply) = [false, true].into_iter().find(|r| echo_type(*r, v4) == kind) {
                return Ok(Content::Echo { reply, id: port(4)?, len: data(8)? });
            }
            let quote = read_quote(ip.body.get(8..).ok_or_else(short)?, v4)?;
            let complaint = read_complaint(kind, code, rest, v4);
            let complaint = complaint.ok_or_else(|| format!("ICMP {kind}/{code} {rest:#x}"))?;
            Ok(Content::Error { complaint, quote })
        }
        other => Err(format!("IP protocol {other}")),
    }
}

fn read_complaint(kind: u8, code: u8, rest: u32, v4: bool) -> Option<Complaint> {
    [
        Complaint::HostUnreachable,
        Complaint::PortUnreachable,
        Complaint::Prohibited,
        Complaint::TooBig(u16::try_from(rest).ok()?),
        Complaint::TimeExceeded,
    ]
    .into_iter()
    .find(|complaint| error_header(*complaint, v4) == (kind, code, rest))
}

fn read_quote(octets: &[u8], v4: bool) -> Result<Flow, String> {
    let ip = if v4 { read_ipv4(octets, false) } else { read_ipv6(octets, false) };
    let ip = ip.ok_or("an error with a wrong quote")?;
    let at = |at: usize| get(ip.body, at).ok_or("a short quote".to_owned());
    let (protocol, (src_port, dst_port)) = match ip.number {
        protocol::ICMP | protocol::ICMP6 => (protocol::ICMP, (at(4)?, at(4)?)),
        other => (other, (at(0)?, at(2)?)),
    };
    Ok(Flow { src: ip.src, dst: ip.dst, protocol, src_port, dst_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_rfc() {
        // RFC 1071, 3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn what_is_built_is_read_and_what_is_broken_is_not() {
        let v4: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let v6: [IpAddr; 2] =
            [[0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 2].into()];
        for [src, dst] in [v4, v6] {
            let quote =
                Flow { src: dst, dst: src, protocol: protocol::UDP, src_port: 1, dst_port: 2 };
            for content in [
                Content::Tcp { src_port: 1, dst_port: 2, flags: 0x12, seq: 3, ack: 4, len: 5 },
                Content::Udp { src_port: 1, dst_port: 2, len: 9 },
                Content::Echo { reply: false, id: 7, len: 0 },
                Content::Error { complaint: Complaint::PortUnreachable, quote },
                Content::Error { complaint: Complaint::TooBig(1280), quote },
            ] {
                let packet = Packet::whole(src, dst, 9, content);
                let framed = Framed { src_mac: [2; 6], dst_mac: [4; 6], packet };
                let mut frame = build(&framed);
                assert_eq!(read(&frame), Ok(framed));
                // Every octet of an IPv4 packet is under some checksum; of an IPv6 header some are not.
                let first = if src.is_ipv4() { IP } else { IP + 40 };
                for at in first..frame.len() {
                    if let Some(octet) = frame.get_mut(at) {
                        *octet ^= 0x40;
                    }
                    assert!(read(&frame).is_err(), "octet {at} of {packet:?}");
                    if let Some(octet) = frame.get_mut(at) {
                        *octet ^= 0x40;
                    }
                }
            }
        }
    }
}
