//! Frames of the model's packets, octet by octet, and back. Ethernet II, IPv4 without options (RFC 791), UDP (RFC 768), TCP without
//! options (RFC 9293), ICMP (RFC 792).

use std::net::Ipv4Addr;

use crate::packet::{Content, Flow, Framed, Mac, Packet, protocol};

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

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

/// The checksum with the pseudo header (RFC 9293, 3.1).
fn transport_checksum(src: Ipv4Addr, dst: Ipv4Addr, number: u8, segment: &[u8]) -> u16 {
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let mut all = [src.octets(), dst.octets()].concat();
    all.extend([0, number]);
    all.extend(len.to_be_bytes());
    all.extend(segment);
    checksum(&all)
}

fn ip_header(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, number: u8, payload: usize) -> Vec<u8> {
    let len = u16::try_from(20 + payload).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, number, 0, 0];
    header.extend(src.octets());
    header.extend(dst.octets());
    put(&mut header, 2, len);
    let sum = checksum(&header);
    put(&mut header, 10, sum);
    header
}

/// IP header and first eight octets of a packet of a flow, as errors quote it.
fn quoted(quote: Flow) -> Vec<u8> {
    let mut octets = ip_header(quote.src, quote.dst, 1, quote.protocol, 8);
    match quote.protocol {
        protocol::ICMP => octets.extend([8, 0, 0, 0]),
        _ => {
            octets.extend(quote.src_port.to_be_bytes());
            octets.extend(quote.dst_port.to_be_bytes());
        }
    }
    if quote.protocol == protocol::ICMP {
        octets.extend(quote.src_port.to_be_bytes());
        octets.extend([0, 1]);
    } else {
        // A UDP length and no checksum; of TCP a sequence number.
        octets.extend([0, 8, 0, 0]);
    }
    octets
}

/// The frame of a packet.
#[must_use]
pub fn build(framed: &Framed) -> Vec<u8> {
    let packet = &framed.packet;
    let mut sum_at = 0;
    let (number, mut body) = match packet.content {
        Content::Tcp { src_port, dst_port, flags, seq, ack, len } => {
            let mut body = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
            body.extend(seq.to_be_bytes());
            body.extend(ack.to_be_bytes());
            body.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            body.extend(std::iter::repeat_n(b'x', usize::try_from(len).unwrap_or(0)));
            sum_at = 16;
            (protocol::TCP, body)
        }
        Content::Udp { src_port, dst_port } => {
            let mut body = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
            body.extend([0, 12, 0, 0]);
            body.extend(*b"data");
            sum_at = 6;
            (protocol::UDP, body)
        }
        Content::Echo { reply, id } => {
            let mut body = vec![if reply { 0 } else { 8 }, 0, 0, 0];
            body.extend(id.to_be_bytes());
            body.extend([0, 1]);
            body.extend(*b"ping");
            (protocol::ICMP, body)
        }
        Content::Error { kind, code, quote } => {
            let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
            body.extend(quoted(quote));
            (protocol::ICMP, body)
        }
    };
    let sum = match number {
        protocol::ICMP => checksum(&body),
        _ => transport_checksum(packet.src, packet.dst, number, &body),
    };
    put(&mut body, if number == protocol::ICMP { 2 } else { sum_at }, sum);
    let mut frame = [framed.dst_mac, framed.src_mac].concat();
    frame.extend(IPV4);
    frame.extend(ip_header(packet.src, packet.dst, packet.ttl, number, body.len()));
    frame.extend(body);
    frame
}

/// An ARP request (RFC 826).
#[must_use]
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend(ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The sender's MAC and address and the target's address of an ARP packet, and whether it is a reply.
#[must_use]
pub fn read_arp(frame: &[u8]) -> Option<(Mac, Ipv4Addr, Ipv4Addr, bool)> {
    if frame.get(12..14)? != ARP {
        return None;
    }
    let mac: Mac = frame.get(22..28)?.try_into().ok()?;
    let (sender, target) = (get32(frame, 28)?, get32(frame, 38)?);
    Some((mac, sender.into(), target.into(), get(frame, 20)? == 2))
}

/// Reads an IPv4 frame. Every length and checksum must be right, also those of what an error quotes.
///
/// # Errors
/// What is wrong with it.
pub fn read(frame: &[u8]) -> Result<Framed, String> {
    let short = || format!("a short frame of {} octets", frame.len());
    let mac = |at: usize| -> Option<Mac> { frame.get(at..at + 6)?.try_into().ok() };
    let (dst_mac, src_mac) = (mac(0).ok_or_else(short)?, mac(6).ok_or_else(short)?);
    if frame.get(12..14) != Some(&IPV4[..]) {
        return Err("neither IPv4 nor ARP".to_owned());
    }
    let ip = frame.get(14..).ok_or_else(short)?;
    let (src, dst, ttl, number, body) = read_ip(ip, true).ok_or("a wrong IPv4 header")?;
    let content = read_content(src, dst, number, body)?;
    Ok(Framed { src_mac, dst_mac, packet: Packet { src, dst, ttl, content } })
}

type IpParts<'a> = (Ipv4Addr, Ipv4Addr, u8, u8, &'a [u8]);

fn read_ip(ip: &[u8], whole: bool) -> Option<IpParts<'_>> {
    let header = ip.get(..20)?;
    if header.first() != Some(&0x45) || checksum(header) != 0 {
        return None;
    }
    let len = usize::from(get(header, 2)?);
    let body = if whole { ip.get(20..len)? } else { ip.get(20..)? };
    let (src, dst) = (get32(header, 12)?, get32(header, 16)?);
    Some((src.into(), dst.into(), *header.get(8)?, *header.get(9)?, body))
}

fn read_content(src: Ipv4Addr, dst: Ipv4Addr, number: u8, body: &[u8]) -> Result<Content, String> {
    let short = || "a short transport header".to_owned();
    let port = |at: usize| get(body, at).ok_or_else(short);
    match number {
        protocol::TCP | protocol::UDP if transport_checksum(src, dst, number, body) != 0 => {
            Err("a wrong transport checksum".to_owned())
        }
        protocol::TCP => {
            let len = u32::try_from(body.len()).unwrap_or(0).checked_sub(20).ok_or_else(short)?;
            Ok(Content::Tcp {
                src_port: port(0)?,
                dst_port: port(2)?,
                flags: body.get(13).copied().ok_or_else(short)?,
                seq: get32(body, 4).ok_or_else(short)?,
                ack: get32(body, 8).ok_or_else(short)?,
                len,
            })
        }
        protocol::UDP => Ok(Content::Udp { src_port: port(0)?, dst_port: port(2)? }),
        protocol::ICMP if checksum(body) != 0 => Err("a wrong ICMP checksum".to_owned()),
        protocol::ICMP => match (body.first(), body.get(1)) {
            (Some(kind @ (0 | 8)), Some(0)) => {
                Ok(Content::Echo { reply: *kind == 0, id: port(4)? })
            }
            (Some(kind), Some(code)) => {
                let quote = body.get(8..).ok_or_else(short)?;
                let (src, dst, _, protocol, rest) =
                    read_ip(quote, false).ok_or("an error with a wrong quote")?;
                let at = |at: usize| get(rest, at).ok_or_else(short);
                let (src_port, dst_port) = match protocol {
                    protocol::ICMP => (at(4)?, at(4)?),
                    _ => (at(0)?, at(2)?),
                };
                let quote = Flow { src, dst, protocol, src_port, dst_port };
                Ok(Content::Error { kind: *kind, code: *code, quote })
            }
            _ => Err(short()),
        },
        other => Err(format!("IP protocol {other}")),
    }
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
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let quote = Flow { src: dst, dst: src, protocol: protocol::UDP, src_port: 1, dst_port: 2 };
        for content in [
            Content::Tcp { src_port: 1, dst_port: 2, flags: 0x12, seq: 3, ack: 4, len: 5 },
            Content::Udp { src_port: 1, dst_port: 2 },
            Content::Echo { reply: false, id: 7 },
            Content::Error { kind: 3, code: 3, quote },
        ] {
            let packet = Packet { src, dst, ttl: 9, content };
            let framed = Framed { src_mac: [2; 6], dst_mac: [4; 6], packet };
            let mut frame = build(&framed);
            assert_eq!(read(&frame), Ok(framed));
            // Behind the MACs and the type, every octet is under some checksum.
            for at in 14..frame.len() {
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
