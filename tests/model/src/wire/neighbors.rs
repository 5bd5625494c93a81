//! Address resolution: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ARP, IPV6, get, get32, get128, icmp6_checksum, put};
use crate::packet::{Mac, protocol};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;

/// Asks who has `target`: by ARP, or by a neighbor solicitation to its solicited-node group.
#[must_use]
pub fn request(mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    match (sender, target) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => arp_request(mac, sender, target),
        (IpAddr::V6(sender), IpAddr::V6(target)) => solicitation(mac, sender, target),
        _ => Vec::new(),
    }
}

fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend(ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn solicitation(mac: Mac, sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from(
        (0xff02 << 112) | (0x1_ff << 24) | (u128::from(u32::from_be_bytes([0, a, b, c]))),
    );
    let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(target.octets());
    body.extend([SOURCE_LINK_LAYER, 1]);
    body.extend(mac);
    let sum = icmp6_checksum(sender, group, &body);
    put(&mut body, 2, sum);
    let mut frame = [[0x33, 0x33, 0xff, a, b, c], mac].concat();
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0, 0, 32, protocol::ICMP6, 255]);
    frame.extend(sender.octets());
    frame.extend(group.octets());
    frame.extend(body);
    frame
}

/// Who says that it has which address.
#[must_use]
pub fn answer(frame: &[u8]) -> Option<(Mac, IpAddr)> {
    if !is_resolution(frame) {
        return None;
    }
    if frame.get(12..14)? == ARP {
        let mac: Mac = frame.get(22..28)?.try_into().ok()?;
        let sender = Ipv4Addr::from(get32(frame, 28)?);
        return (get(frame, 20)? == 2).then_some((mac, IpAddr::V4(sender)));
    }
    let mac: Mac = frame.get(6..12)?.try_into().ok()?;
    let target = Ipv6Addr::from(get128(frame, 14 + 40 + 8)?);
    (frame.get(14 + 40)? == &ADVERTISEMENT).then_some((mac, IpAddr::V6(target)))
}

/// Whether the frame asks for or tells of neighbours.
#[must_use]
pub fn is_resolution(frame: &[u8]) -> bool {
    let kind = frame.get(12..14);
    let solicits = || {
        frame.get(14 + 6) == Some(&protocol::ICMP6) && matches!(frame.get(14 + 40), Some(133..=137))
    };
    kind == Some(&ARP[..]) || (kind == Some(&IPV6[..]) && solicits())
}
