//! ARP packets that a station sends: RFC 826, announcements after RFC 5227, 3.
//!
//! All are untagged and padded to the 60 octets of a shortest Ethernet frame (without FCS), because
//! other equipment drops shorter ones.

use crate::{Addr, Arp, ETHERTYPE_ARP, Frame, Headers, Mac, Payload};

/// ARP operation: who has?
const REQUEST: u16 = 1;
/// ARP operation: is at.
const REPLY: u16 = 2;
/// Shortest Ethernet frame without FCS, octets.
const SHORTEST_FRAME: usize = 60;

/// "Who has `target`? Tell `src`", to everybody. Both are IPv4 addresses.
#[must_use]
pub fn arp_request(src_mac: Mac, src: Addr, target: Addr) -> Frame {
    let arp =
        Arp { operation: REQUEST, sender_mac: src_mac, sender: src, target_mac: Mac::ZERO, target };
    frame(Mac::BROADCAST, src_mac, &arp)
}

/// "The target of `request` is at `mac`", to the requester alone.
///
/// `None` if it is no ARP request, carries a VLAN tag, or its sender has no station address.
#[must_use]
pub fn arp_reply(request: &Headers, mac: Mac) -> Option<Frame> {
    let Payload::Arp(asked) = &request.payload else {
        return None;
    };
    let nobody = asked.sender_mac.is_group() || asked.sender_mac == Mac::ZERO;
    if asked.operation != REQUEST || request.vlan.is_some() || nobody {
        return None;
    }
    let arp = Arp {
        operation: REPLY,
        sender_mac: mac,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    Some(frame(asked.sender_mac, mac, &arp))
}

/// Announces to everybody that the IPv4 address `addr` is at `mac` (RFC 5227, 3: a request for one's
/// own address).
#[must_use]
pub fn gratuitous_arp(mac: Mac, addr: Addr) -> Frame {
    arp_request(mac, addr, addr)
}

fn frame(dst_mac: Mac, src_mac: Mac, arp: &Arp) -> Frame {
    let mut bytes = Vec::with_capacity(SHORTEST_FRAME);
    bytes.extend_from_slice(&dst_mac.0);
    bytes.extend_from_slice(&src_mac.0);
    bytes.extend_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    // Ethernet, IPv4, their address lengths.
    bytes.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    bytes.extend_from_slice(&arp.operation.to_be_bytes());
    bytes.extend_from_slice(&arp.sender_mac.0);
    bytes.extend_from_slice(&arp.sender.low32().to_be_bytes());
    bytes.extend_from_slice(&arp.target_mac.0);
    bytes.extend_from_slice(&arp.target.low32().to_be_bytes());
    bytes.resize(SHORTEST_FRAME, 0);
    Frame::new(bytes)
}
