//! Frames: the parser, everything that takes a frame or its headers, and an independent parser beside them.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::{
    Addr, ChecksumState, Frame, Headers, IcmpErrorKind, Ip, Mac, Segmentation, SegmentationKind,
    Transport, arp_reply, complete, describe, echo_reply, fragment_ipv4, icmp_error,
    neighbor_advertisement, parse, rewrite, segment, tcp_reset, verify_transport,
};

use crate::{Outcome, checksums};

/// The first octets say how the frame came (offloads), the others are the frame.
///
/// # Errors
/// An offset outside the frame, a difference from etherparse, padding that is taken for data, or an answer whose checksum is wrong.
pub fn run(bytes: &[u8]) -> Outcome {
    let Some((&[how, a, b], bytes)) = bytes.split_first_chunk::<3>() else { return Ok(1) };
    let frame = Frame {
        bytes: bytes.to_vec(),
        checksum: match how % 4 {
            0 => ChecksumState::Partial { start: u16::from(a), offset: u16::from(b) % 32 },
            1 => ChecksumState::Verified,
            _ => ChecksumState::Unknown,
        },
        segmentation: match how / 4 % 4 {
            0 => Some(Segmentation { kind: SegmentationKind::Tcp, size: u16::from(b) }),
            1 => Some(Segmentation { kind: SegmentationKind::Udp, size: u16::from(b) }),
            _ => None,
        },
    };
    let _ = segment(frame.clone());
    complete(&mut frame.clone());
    let Ok(headers) = parse(bytes) else { return Ok(1) };
    let _ = describe(&headers);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let _ = (arp_reply(&headers, mac), neighbor_advertisement(&headers, mac, true));
    let Some(ip) = headers.ip() else { return Ok(1) };
    inside(bytes, &headers, ip)?;
    agrees(bytes, ip)?;
    answers(&frame, &headers)?;
    // What follows the packet is padding, whatever it is.
    let mut padded = bytes.get(..headers.l3_end()).unwrap_or_default().to_vec();
    padded.extend_from_slice(&[how; 7]);
    match parse(&padded) {
        Ok(other) if other == headers => {}
        other => return Err(format!("other padding, other headers: {headers:?}, {other:?}")),
    }
    rewritten(&frame, &headers)?;
    Ok(1)
}

fn inside(bytes: &[u8], headers: &Headers, ip: &Ip) -> Result<(), String> {
    let end = headers.l3_end();
    let l4 = usize::from(ip.l4);
    let quoted = ip.embedded().map_or(0, |quote| usize::from(quote.l4) + 8);
    let header = ip.tcp().map_or(0, |tcp| usize::from(tcp.header_len));
    if end > bytes.len() || l4 > end || quoted > end || l4 + header > end {
        return Err(format!("offsets beyond the frame of {}: {headers:?}", bytes.len()));
    }
    if ip.src.is_v4() != ip.dst.is_v4() {
        return Err(format!("two families: {headers:?}"));
    }
    Ok(())
}

/// What both accept, both read the same way. What only one accepts is its own strictness: ours drops more (RFC 1858, 7112).
fn agrees(bytes: &[u8], ours: &Ip) -> Result<(), String> {
    let Ok(theirs) = SlicedPacket::from_ethernet(bytes) else { return Ok(()) };
    let differs =
        |what: &str| Err(format!("etherparse reads another {what}: {ours:?}, {theirs:?}"));
    match &theirs.net {
        Some(NetSlice::Ipv4(ip)) => {
            let h = ip.header();
            if (ours.src, ours.dst)
                != (Addr::from(h.source_addr()), Addr::from(h.destination_addr()))
            {
                return differs("address");
            }
            let fragment = ours.fragment.map_or((0, false), |f| (f.offset, f.more));
            if (ours.ttl, ours.protocol, ours.total_len)
                != (h.ttl(), h.protocol().0, u32::from(h.total_len()))
                || fragment != (h.fragments_offset().value() * 8, h.more_fragments())
            {
                return differs("IPv4 field");
            }
        }
        Some(NetSlice::Ipv6(ip)) => {
            let h = ip.header();
            if (ours.src, ours.dst)
                != (Addr::from(h.source_addr()), Addr::from(h.destination_addr()))
            {
                return differs("address");
            }
            if (ours.ttl, ours.total_len) != (h.hop_limit(), 40 + u32::from(h.payload_length())) {
                return differs("IPv6 field");
            }
        }
        _ => return differs("network header"),
    }
    match (&ours.transport, &theirs.transport) {
        (Transport::Tcp(t), Some(TransportSlice::Tcp(s)))
            if (t.src_port, t.dst_port, t.seq, t.ack)
                != (
                    s.source_port(),
                    s.destination_port(),
                    s.sequence_number(),
                    s.acknowledgment_number(),
                ) =>
        {
            differs("TCP field")
        }
        (Transport::Udp(u), Some(TransportSlice::Udp(s)))
            if (u.src_port, u.dst_port) != (s.source_port(), s.destination_port()) =>
        {
            differs("UDP port")
        }
        (
            Transport::Tcp(_) | Transport::Udp(_),
            Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)),
        )
        | (Transport::Icmp(_), Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_))) => {
            differs("transport")
        }
        _ => Ok(()),
    }
}

/// What is made from a frame parses, with right checksums; where a port says how a frame is to be finished, as the port says.
fn answers(frame: &Frame, headers: &Headers) -> Result<(), String> {
    let source = if headers.ip().is_some_and(Ip::is_v4) { "192.0.2.1" } else { "2001:db8::1" };
    let source: Addr = source.parse().map_err(|_| "address")?;
    let made = [
        icmp_error(frame, headers, IcmpErrorKind::TimeExceeded, source),
        icmp_error(frame, headers, IcmpErrorKind::FragmentationNeeded { mtu: 1280 }, source),
        tcp_reset(frame, headers),
        echo_reply(frame, headers),
    ];
    let mtus = [0, 68, 576, u32::MAX];
    let pieces = mtus.map(|mtu| fragment_ipv4(frame, headers, mtu));
    if is_unfinished(frame) {
        return Ok(());
    }
    for answer in made.into_iter().flatten() {
        parse(&answer.bytes).map_err(|e| format!("an answer does not parse: {e}"))?;
        checksums::right(&answer.bytes, true)
            .map_err(|e| format!("an answer: {e}: {:02x?}", answer.bytes))?;
    }
    for piece in pieces.into_iter().flatten().flatten() {
        checksums::right(&piece.bytes, false).map_err(|e| format!("a piece: {e}"))?;
    }
    Ok(())
}

/// Whether the frame's port left its checksum, or cutting it, to whoever sends it on. What the port says of that comes from a
/// kernel, not from the wire.
fn is_unfinished(frame: &Frame) -> bool {
    frame.segmentation.is_some() || matches!(frame.checksum, ChecksumState::Partial { .. })
}

/// A translation keeps right checksums right, and wrong ones wrong.
fn rewritten(frame: &Frame, headers: &Headers) -> Result<(), String> {
    if is_unfinished(frame) {
        rewrite(&mut frame.clone(), headers, headers);
        return Ok(());
    }
    let mut after = *headers;
    let Some(ip) = after.ip_mut() else { return Ok(()) };
    if ip.ttl < 2 {
        return Ok(());
    }
    ip.ttl -= 1;
    ip.src.0 ^= 0x1234_5678;
    let (src_port, dst_port) = ip.ports();
    ip.set_ports(src_port ^ 0x5aa5, dst_port);
    let right = verify_transport(&frame.bytes, headers);
    let mut changed = frame.clone();
    rewrite(&mut changed, headers, &after);
    let read =
        parse(&changed.bytes).map_err(|e| format!("a translated frame does not parse: {e}"))?;
    if verify_transport(&changed.bytes, &read) != right {
        return Err(format!(
            "a translation made a checksum {}: {headers:?}",
            if right { "wrong" } else { "right" }
        ));
    }
    Ok(())
}
