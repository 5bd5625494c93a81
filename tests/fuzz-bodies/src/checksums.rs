//! An independent view of a frame: etherparse's.

use etherparse::err::Layer;
use etherparse::{LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};

/// Whether etherparse reads the frame and finds each of its checksums right; of a fragment only the IP header's.
///
/// # Errors
/// What is wrong.
pub fn right(bytes: &[u8], transport_too: bool) -> Result<(), String> {
    let packet = match SlicedPacket::from_ethernet(bytes) {
        Ok(packet) => packet,
        Err(_) if is_for_hosts(bytes) => return Ok(()),
        Err(error) => return Err(format!("etherparse: {error}")),
    };
    let (header, transport) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let (src, dst) = (ip.header().source(), ip.header().destination());
            let ok = match &packet.transport {
                Some(TransportSlice::Tcp(t)) => {
                    Some(t.checksum()) == t.calc_checksum_ipv4(src, dst).ok()
                }
                Some(TransportSlice::Udp(u)) => {
                    u.checksum() == 0
                        || Some(u.checksum())
                            == u.to_header().calc_checksum_ipv4_raw(src, dst, u.payload()).ok()
                }
                Some(TransportSlice::Icmpv4(i)) => sums_up(i.slice()),
                _ => true,
            };
            (sums_up(ip.header().slice()), ok)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let (src, dst) = (ip.header().source(), ip.header().destination());
            let ok = match &packet.transport {
                Some(TransportSlice::Tcp(t)) => {
                    Some(t.checksum()) == t.calc_checksum_ipv6(src, dst).ok()
                }
                Some(TransportSlice::Udp(u)) => {
                    Some(u.checksum())
                        == u.to_header().calc_checksum_ipv6_raw(src, dst, u.payload()).ok()
                }
                Some(TransportSlice::Icmpv6(i)) => i.is_checksum_valid(src, dst),
                _ => true,
            };
            (true, ok)
        }
        _ => (true, true),
    };
    if !header {
        return Err("the IPv4 header checksum is wrong".into());
    }
    if transport_too && !transport {
        return Err("the transport checksum is wrong".into());
    }
    Ok(())
}

/// Whether the ones' complement sum of all words is all ones (RFC 1071, 1). etherparse computes checksums of what it understands,
/// and leaves out IPv4's reserved flag and what is unused in an ICMP error.
fn sums_up(bytes: &[u8]) -> bool {
    let word = |pair: &[u8]| {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        u64::from(u16::from_be_bytes([high, low]))
    };
    let sum: u64 = bytes.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

/// Whether etherparse stops only because an ICMP message is shorter than its type says, or an authentication header than it says
/// itself: that is between the hosts, and no network that passes it on can tell.
fn is_for_hosts(bytes: &[u8]) -> bool {
    const LAYERS: [Layer; 5] = [
        Layer::Icmpv4,
        Layer::Icmpv4Timestamp,
        Layer::Icmpv4TimestampReply,
        Layer::Icmpv6,
        Layer::IpAuthHeader,
    ];
    let stop = LaxSlicedPacket::from_ethernet(bytes).ok().and_then(|packet| packet.stop_err);
    stop.is_some_and(|(_, layer)| LAYERS.contains(&layer))
}
