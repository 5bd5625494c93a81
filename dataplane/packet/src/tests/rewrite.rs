//! Rewriting: what the increments give is what building the packet anew gives.

use super::checksum::make_partial;
use super::{GATEWAY, Kind, POD, Packet, addr, edit, packet_of, pair, parse};
use crate::{
    EmbeddedRewrite, Fragment, Frame, FrameBuilder, Headers, Rewrite, Segmentation,
    SegmentationKind, complete, fragment_ipv4, rewrite, segment, tcp_flags, verify_transport,
};
use proptest::prelude::*;

/// Applies the difference to `to` and gives the octets.
fn apply(frame: &Frame, to: &Packet, decrement: u8) -> Frame {
    let before = parse(frame);
    let mut frame = frame.clone();
    Rewrite::between(&before, &edit(&before, to, decrement)).apply(&mut frame, &before);
    frame
}

fn udp() -> Packet {
    Packet {
        macs: (POD, GATEWAY),
        vlan: None,
        src: addr("10.244.0.18"),
        dst: addr("10.96.0.10"),
        ports: (40000, 53),
        ttl: 64,
        id: 1,
        kind: Kind::Udp,
        flags: 0,
        options: vec![],
        payload: b"query".to_vec(),
    }
}

#[test]
fn is_small() {
    assert!(size_of::<Rewrite>() <= 64);
}

#[test]
fn identity_changes_nothing() {
    let frame = udp().frame();
    let headers = parse(&frame);
    let rewrite = Rewrite::between(&headers, &headers);
    assert!(rewrite.is_identity());
    assert_eq!(rewrite.ttl_decrement(), 0);
    let mut same = frame.clone();
    rewrite.apply(&mut same, &headers);
    assert_eq!(same, frame);
    assert_eq!(EmbeddedRewrite::between(&headers, &headers), None);
}

#[test]
fn every_single_field_counts_as_a_change() {
    let headers = parse(&udp().frame());
    let edits: [fn(&mut Headers); 7] = [
        |h| h.src_mac = GATEWAY,
        |h| h.dst_mac = POD,
        |h| h.ip_mut().unwrap().src = addr("1.1.1.1"),
        |h| h.ip_mut().unwrap().dst = addr("1.1.1.1"),
        |h| h.ip_mut().unwrap().ttl -= 1,
        |h| h.ip_mut().unwrap().set_ports(1, 53),
        |h| h.ip_mut().unwrap().set_ports(40000, 1),
    ];
    for edit in edits {
        let mut after = headers;
        edit(&mut after);
        assert!(!Rewrite::between(&headers, &after).is_identity());
    }
}

#[test]
fn a_growing_ttl_and_another_family_are_no_change() {
    let headers = parse(&udp().frame());
    let mut after = headers;
    after.ip_mut().unwrap().ttl = 65;
    assert!(Rewrite::between(&headers, &after).is_identity());
    after = headers;
    after.ip_mut().unwrap().src = addr("fd00::1");
    assert!(Rewrite::between(&headers, &after).is_identity());
}

/// A TTL that is too small must not come out as 255.
#[test]
fn ttl_below_the_decrement_kills_the_packet() {
    let frame = udp().frame();
    let before = parse(&frame);
    let mut after = before;
    after.ip_mut().unwrap().ttl -= 3;
    let rewrite = Rewrite::between(&before, &after);
    assert_eq!(rewrite.ttl_decrement(), 3);
    let mut low = Packet { ttl: 2, ..udp() }.frame();
    let headers = parse(&low);
    rewrite.apply(&mut low, &headers);
    assert_eq!(low.bytes[22], 0);
    assert_eq!(crate::parse(&low.bytes), Err(crate::ParseError::Ipv4Checksum));
}

#[test]
fn later_fragment_changes_in_the_ip_header_only() {
    let fragment = Fragment { id: 9, offset: 1480, more: false };
    let frame = |src, dst, ttl| {
        FrameBuilder::new(addr(src), addr(dst))
            .macs(POD, GATEWAY)
            .ttl(ttl)
            .udp(1, 2)
            .fragment(fragment)
            .payload(&[0x5a; 60])
            .build()
    };
    for (src, dst, new) in
        [("10.0.0.1", "10.0.0.2", "192.168.7.7"), ("fd00::1", "fd00::2", "fd00::7:7")]
    {
        let mut one = frame(src, dst, 64);
        let before = parse(&one);
        let mut after = before;
        let ip = after.ip_mut().unwrap();
        (ip.src, ip.ttl) = (addr(new), 63);
        rewrite(&mut one, &before, &after);
        assert_eq!(one.bytes, frame(new, dst, 63).bytes);
    }
}

/// An ICMP error about `inner`, of which `quoted` octets behind the network header are quoted.
fn error(outer: &Packet, inner: &Packet, quoted: usize) -> Frame {
    let frame = inner.frame();
    let headers = parse(&frame);
    let l4 = usize::from(headers.ip().unwrap().l4);
    let quote = &frame.bytes[usize::from(headers.l3)..frame.bytes.len().min(l4 + quoted)];
    let kind = if outer.src.is_v4() { 3 } else { 1 };
    outer.builder().icmp(kind, 1, [0; 4]).payload(quote).build()
}

fn reply_to(packet: &Packet) -> Packet {
    Packet { src: packet.dst, dst: packet.src, ..packet.clone() }
}

proptest! {
    #[test]
    fn increments_equal_building_anew((from, to) in pair(), decrement in 0..=1u8) {
        let frame = apply(&from.frame(), &to, decrement);
        let expected = from.rewritten(&to, decrement).frame();
        prop_assert_eq!(&frame.bytes, &expected.bytes);
        super::assert_checksums(&frame.bytes);
    }

    /// One rewrite serves every packet of the flow, whatever TTL, payload, flags and identification.
    #[test]
    fn one_rewrite_serves_the_flow(
        (from, to) in pair(),
        payload in prop::collection::vec(any::<u8>(), 0..50),
        ttl in 2..=255u8, id in any::<u16>(), flags in any::<u8>(),
    ) {
        let first = parse(&from.frame());
        let compiled = Rewrite::between(&first, &edit(&first, &to, 1));
        let next = Packet { payload, ttl, id, flags, ..from };
        let mut frame = next.frame();
        let headers = parse(&frame);
        compiled.apply(&mut frame, &headers);
        prop_assert_eq!(frame.bytes, next.rewritten(&to, 1).frame().bytes);
    }

    #[test]
    fn partial_checksums_stay_partial((from, to) in pair()) {
        prop_assume!(from.kind != Kind::UdpWithoutChecksum && from.kind != Kind::Other);
        let mut frame = from.frame();
        make_partial(&mut frame);
        let state = frame.checksum;
        let mut frame = apply(&frame, &to, 1);
        prop_assert_eq!(frame.checksum, state);
        complete(&mut frame);
        prop_assert_eq!(frame.bytes, from.rewritten(&to, 1).frame().bytes);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong((from, to) in pair()) {
        prop_assume!(from.kind != Kind::UdpWithoutChecksum && from.kind != Kind::Other);
        let frame = apply(&from.builder().bad_transport_checksum().build(), &to, 1);
        prop_assert!(!verify_transport(&frame.bytes, &parse(&frame)));
    }

    #[test]
    fn there_and_back_is_where_it_was((from, to) in pair()) {
        let frame = from.frame();
        let there = apply(&frame, &to, 0);
        prop_assert_eq!(apply(&there, &from, 0), frame);
    }

    #[test]
    fn quoted_packets_are_rewritten_with_all_checksums(
        (outers, (inner, inner_to)) in any::<bool>().prop_flat_map(|v4| {
            ((packet_of(v4), packet_of(v4)), (packet_of(v4), packet_of(v4)))
        }),
        quoted in 8..120usize,
    ) {
        let (outer, outer_to) = outers;
        prop_assume!(inner.kind != Kind::Other || inner.payload.len() >= 8);
        // One octet of a checksum cannot be updated without the other; nobody can check it either.
        prop_assume!(inner.kind != Kind::Tcp || quoted != 17);
        let outer = Packet { payload: vec![], ..outer };
        let mut frame = error(&outer, &inner, quoted);
        let before = parse(&frame);
        let mut after = edit(&before, &outer_to, 1);
        let about = after.ip_mut().unwrap().embedded_mut().unwrap();
        prop_assert_eq!((about.src, about.dst), (inner.src, inner.dst));
        (about.src, about.dst) = (inner_to.src, inner_to.dst);
        (about.src_port, about.dst_port) = match inner.kind {
            Kind::EchoRequest | Kind::EchoReply => (inner_to.ports.0, inner_to.ports.0),
            Kind::Other => (0, 0),
            _ => inner_to.ports,
        };
        rewrite(&mut frame, &before, &after);
        let expected =
            error(&outer.rewritten(&outer_to, 1), &inner.rewritten(&inner_to, 0), quoted);
        prop_assert_eq!(&frame.bytes, &expected.bytes);
        prop_assert!(verify_transport(&frame.bytes, &parse(&frame)));
    }

    #[test]
    fn rewrite_then_segment_equals_segment_then_rewrite(
        (from, to) in pair(), size in 1..300u16, length in 0..3000usize,
    ) {
        let kind = match from.kind {
            Kind::Tcp => SegmentationKind::Tcp,
            Kind::Udp | Kind::UdpWithoutChecksum => SegmentationKind::Udp,
            _ => return Ok(()),
        };
        let large = Packet { payload: (0..length).map(|i| i as u8).collect(), ..from };
        let mut frame = large.frame();
        frame.segmentation = Some(Segmentation { kind, size });
        let segments_first: Vec<Frame> =
            segment(frame.clone()).iter().map(|piece| apply(piece, &to, 1)).collect();
        prop_assert!(!segments_first.is_empty());
        prop_assert_eq!(&segment(apply(&frame, &to, 1)), &segments_first);
        if large.kind != Kind::UdpWithoutChecksum {
            make_partial(&mut frame);
            prop_assert_eq!(&segment(apply(&frame, &to, 1)), &segments_first);
        }
    }

    #[test]
    fn rewrite_then_fragment_equals_fragment_then_rewrite(
        (from, to) in (packet_of(true), packet_of(true)), mtu in 68..400u32,
    ) {
        prop_assume!(from.kind != Kind::Other);
        let whole = from.builder().dont_fragment(false).build();
        let rewritten = apply(&whole, &to, 1);
        let cut_last = fragment_ipv4(&rewritten, &parse(&rewritten), mtu).unwrap();
        let compiled = {
            let before = parse(&whole);
            Rewrite::between(&before, &edit(&before, &to, 1))
        };
        let mut cut_first = fragment_ipv4(&whole, &parse(&whole), mtu).unwrap();
        for piece in &mut cut_first {
            // Without its header in the first piece, the packet is a tiny fragment and refused.
            let Ok(headers) = crate::parse(&piece.bytes) else {
                return Ok(());
            };
            compiled.apply(piece, &headers);
        }
        prop_assert_eq!(cut_first, cut_last);
    }
}

/// RFC 768: a UDP checksum that comes out as zero is sent as ones. The new source port makes the sum of
/// the whole datagram 0xffff.
#[test]
fn udp_result_zero_becomes_ones() {
    let packet = Packet {
        src: addr("10.0.0.1"),
        dst: addr("10.0.0.2"),
        ports: (1, 0),
        payload: vec![],
        ..udp()
    };
    // Pseudo header 0x141c and length 8.
    let ports = (0xffff - 0x141c - 8, 0);
    let to = Packet { ports, ..packet.clone() };
    let frame = apply(&packet.frame(), &to, 0);
    assert_eq!(frame.bytes[40..42], [0xff, 0xff]);
    assert_eq!(frame.bytes, to.frame().bytes);
}

/// A quote that ends before the TCP checksum: only what is there changes, padding is left alone.
#[test]
fn padding_behind_a_short_quote_is_not_taken_for_a_checksum() {
    let inner = Packet { kind: Kind::Tcp, flags: tcp_flags::ACK, ..udp() };
    let outer = reply_to(&inner);
    let outer = Packet { payload: vec![], ..outer };
    let mut frame = error(&outer, &inner, 8);
    frame.bytes.extend_from_slice(&[0x77; 20]);
    let before = parse(&frame);
    let mut after = before;
    after.ip_mut().unwrap().embedded_mut().unwrap().src = addr("172.16.1.1");
    rewrite(&mut frame, &before, &after);
    assert!(frame.bytes.ends_with(&[0x77; 20]));
    assert!(verify_transport(&frame.bytes, &parse(&frame)));
}
