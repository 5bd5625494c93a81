//! An independent view of a frame: etherparse's.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Whether etherparse reads the frame and finds each of its checksums right; of a fragment only the IP header's.
///
/// # Errors
/// What is wrong.
pub fn right(bytes: &[u8], transport_too: bool) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(bytes).map_err(|e| format!("etherparse: {e}"))?;
    let (header, transport) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            let (src, dst) = (header.source, header.destination);
            let ok = match &packet.transport {
                Some(TransportSlice::Tcp(t)) => {
                    Some(t.checksum()) == t.calc_checksum_ipv4(src, dst).ok()
                }
                Some(TransportSlice::Udp(u)) => {
                    u.checksum() == 0
                        || Some(u.checksum())
                            == u.to_header().calc_checksum_ipv4_raw(src, dst, u.payload()).ok()
                }
                Some(TransportSlice::Icmpv4(i)) => {
                    i.checksum() == i.icmp_type().calc_checksum(i.payload())
                }
                _ => true,
            };
            (header.header_checksum == header.calc_header_checksum(), ok)
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
