//! Neighbour discovery messages that a station sends: RFC 4861 (messages), RFC 4291, 2.7.1
//! (solicited-node addresses), RFC 2464, 7 (multicast on Ethernet).
//!
//! Hop limit 255 in all of them: a receiver takes no other.

use crate::{Addr, Frame, FrameBuilder, Headers, IcmpMessage, Mac, Transport};

/// ICMPv6 type of a solicitation.
pub(crate) const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub(crate) const ADVERTISEMENT: u8 = 136;
/// Option: the sender's Ethernet address.
pub(crate) const OPTION_SOURCE_MAC: u8 = 1;
/// Option: the target's Ethernet address.
pub(crate) const OPTION_TARGET_MAC: u8 = 2;

/// `ff02::1`, all nodes of the link.
const ALL_NODES: Addr = Addr(0xff02_0000_0000_0000_0000_0000_0000_0001);

/// The solicited-node multicast address of `addr`: `ff02::1:ff` and its last 24 bits.
#[must_use]
pub const fn solicited_node_addr(addr: Addr) -> Addr {
    Addr(0xff02_0000_0000_0000_0000_0001_ff00_0000 | addr.0 & 0x00ff_ffff)
}

/// The Ethernet address that an IPv6 multicast address is sent to: `33:33` and its last 32 bits.
#[must_use]
pub const fn multicast_mac(group: Addr) -> Mac {
    let [a, b, c, d] = group.low32().to_be_bytes();
    Mac([0x33, 0x33, a, b, c, d])
}

/// "Who has `target`?", to its solicited-node group. The sender's MAC is told unless `src` is `::`,
/// which asks whether the address is taken (RFC 4862, 5.4.2).
#[must_use]
pub fn neighbor_solicitation(src_mac: Mac, src: Addr, target: Addr) -> Frame {
    let group = solicited_node_addr(target);
    let told = (!src.is_unspecified()).then_some((OPTION_SOURCE_MAC, src_mac));
    let packet = FrameBuilder::new(src, group).macs(src_mac, multicast_mac(group));
    message(packet, SOLICITATION, [0; 4], target, told)
}

/// "The target of the solicitation `to` is at `mac`", override flag set; `router` if the sender
/// forwards packets. Solicited and to the asker alone, or, where the solicitation came from `::`, to all
/// nodes. The VLAN tag is kept.
///
/// `None` if `to` is no valid neighbour solicitation.
#[must_use]
pub fn neighbor_advertisement(to: &Headers, mac: Mac, router: bool) -> Option<Frame> {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let ip = to.ip()?;
    let Transport::Icmp(icmp) = &ip.transport else {
        return None;
    };
    let IcmpMessage::NeighborSolicitation { target, source_mac } = icmp.message else {
        return None;
    };
    let (dst, dst_mac, solicited) = if ip.src.is_unspecified() {
        (ALL_NODES, multicast_mac(ALL_NODES), 0)
    } else {
        (ip.src, source_mac.unwrap_or(to.src_mac), SOLICITED)
    };
    let flags = OVERRIDE | solicited | if router { ROUTER } else { 0 };
    let packet = FrameBuilder::new(target, dst).macs(mac, dst_mac).vlan(to.vlan);
    let told = Some((OPTION_TARGET_MAC, mac));
    Some(message(packet, ADVERTISEMENT, [flags, 0, 0, 0], target, told))
}

fn message(
    packet: FrameBuilder,
    kind: u8,
    flags: [u8; 4],
    target: Addr,
    told: Option<(u8, Mac)>,
) -> Frame {
    let mut body = target.0.to_be_bytes().to_vec();
    if let Some((option, mac)) = told {
        // Length in units of 8 octets.
        body.extend_from_slice(&[option, 1]);
        body.extend_from_slice(&mac.0);
    }
    packet.ttl(255).icmp(kind, 0, flags).payload(&body).build()
}
