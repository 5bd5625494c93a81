//! ARP, neighbour discovery, ICMP errors, echo replies and resets: octets by hand, and what must not be
//! answered.

use super::checksum::make_partial;
use super::{GATEWAY, POD, addr, assert_checksums, hex, parse};
use crate::{
    Addr, Embedded, Fragment, Frame, FrameBuilder, IcmpErrorKind, IcmpMessage, Mac, Payload,
    Segmentation, SegmentationKind, Transport, arp_reply, arp_request, echo_reply, gratuitous_arp,
    icmp_error, multicast_mac, neighbor_advertisement, neighbor_solicitation, solicited_node_addr,
    tcp_flags, tcp_reset, verify_transport,
};
use etherparse::{NetSlice, SlicedPacket};

fn v4() -> FrameBuilder {
    FrameBuilder::new(addr("10.244.0.2"), addr("192.168.10.10")).macs(POD, GATEWAY)
}

fn v6() -> FrameBuilder {
    FrameBuilder::new(addr("fd00::2"), addr("fd00:1::10")).macs(POD, GATEWAY)
}

fn message(frame: &Frame) -> (u8, u8, IcmpMessage) {
    match parse(frame).ip().unwrap().transport {
        Transport::Icmp(icmp) => (icmp.kind, icmp.code, icmp.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn arp_octets() {
    let (a, b) = (addr("10.244.0.2"), addr("10.244.0.1"));
    let request = arp_request(POD, a, b);
    let mut expected = hex("
        ffff ffff ffff 0450 5600 0001 0806
        0001 0800 06 04 0001 0450 5600 0001 0af4 0002 0000 0000 0000 0af4 0001");
    expected.resize(60, 0);
    assert_eq!(request.bytes, expected);

    let reply = arp_reply(&parse(&request), GATEWAY).unwrap();
    let mut expected = hex("
        0450 5600 0001 0250 5600 0002 0806
        0001 0800 06 04 0002 0250 5600 0002 0af4 0001 0450 5600 0001 0af4 0002");
    expected.resize(60, 0);
    assert_eq!(reply.bytes, expected);

    let Payload::Arp(arp) = parse(&gratuitous_arp(POD, a)).payload else {
        panic!("not ARP");
    };
    assert_eq!((arp.operation, arp.sender, arp.target, arp.sender_mac), (1, a, a, POD));
}

#[test]
fn arp_that_is_not_answered() {
    let request = arp_request(POD, addr("10.0.0.1"), addr("10.0.0.2"));
    let reply = arp_reply(&parse(&request), GATEWAY).unwrap();
    assert_eq!(arp_reply(&parse(&reply), POD), None);
    let group = arp_request(Mac::BROADCAST, addr("10.0.0.1"), addr("10.0.0.2"));
    assert_eq!(arp_reply(&parse(&group), GATEWAY), None);
    let nobody = arp_request(Mac::ZERO, addr("10.0.0.1"), addr("10.0.0.2"));
    assert_eq!(arp_reply(&parse(&nobody), GATEWAY), None);
    assert_eq!(arp_reply(&parse(&v4().build()), GATEWAY), None);
    let mut tagged = parse(&request);
    tagged.vlan = Some(1);
    assert_eq!(arp_reply(&tagged, GATEWAY), None);
}

/// The example of RFC 4291, 2.7.1, and its Ethernet address after RFC 2464, 7.
#[test]
fn solicited_node_group() {
    let group = solicited_node_addr(addr("4037::1:800:200e:8c6c"));
    assert_eq!(group, addr("ff02::1:ff0e:8c6c"));
    assert_eq!(multicast_mac(group), Mac([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
}

#[test]
fn neighbor_discovery_octets() {
    let ask = neighbor_solicitation(POD, addr("fd00::1"), addr("fd00::2"));
    let expected = hex("
        3333 ff00 0002 0450 5600 0001 86dd
        6000 0000 0020 3a ff fd00 0000 0000 0000 0000 0000 0000 0001
        ff02 0000 0000 0000 0000 0001 ff00 0002
        87 00 0000 0000 0000 fd00 0000 0000 0000 0000 0000 0000 0002
        01 01 0450 5600 0001");
    let mut without = ask.bytes.clone();
    without[56..58].fill(0);
    assert_eq!(without, expected);
    assert_checksums(&ask.bytes);

    let answer = neighbor_advertisement(&parse(&ask), GATEWAY, true).unwrap();
    let expected = hex("
        0450 5600 0001 0250 5600 0002 86dd
        6000 0000 0020 3a ff fd00 0000 0000 0000 0000 0000 0000 0002
        fd00 0000 0000 0000 0000 0000 0000 0001
        88 00 0000 e000 0000 fd00 0000 0000 0000 0000 0000 0000 0002
        02 01 0250 5600 0002");
    let mut without = answer.bytes.clone();
    without[56..58].fill(0);
    assert_eq!(without, expected);
    assert_checksums(&answer.bytes);
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let probe = neighbor_solicitation(POD, Addr::UNSPECIFIED_V6, addr("fd00::2"));
    assert_eq!(probe.bytes.len(), 14 + 40 + 24);
    assert_checksums(&probe.bytes);
    let answer = neighbor_advertisement(&parse(&probe), GATEWAY, false).unwrap();
    let headers = parse(&answer);
    assert_eq!(headers.dst_mac, Mac([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(headers.ip().unwrap().dst, addr("ff02::1"));
    // Override only.
    assert_eq!(answer.bytes[58], 0x20);
    assert_checksums(&answer.bytes);
    // An advertisement is not answered.
    assert_eq!(neighbor_advertisement(&headers, POD, false), None);
    assert_eq!(neighbor_advertisement(&parse(&v6().build()), POD, false), None);
}

/// Fact F15: "From 10.244.0.1 icmp_seq=1 Destination Host Unreachable", all octets by hand but the sums.
#[test]
fn host_unreachable_octets() {
    let ping = v4().dont_fragment(false).echo_request(1, 1).payload(b"ab").build();
    let error =
        icmp_error(&ping, &parse(&ping), IcmpErrorKind::HostUnreachable, addr("10.244.0.1"))
            .unwrap();
    assert_checksums(&error.bytes);
    let mut octets = error.bytes;
    octets[24..26].fill(0);
    octets[36..38].fill(0);
    let mut expected = hex("
        0450 5600 0001 0250 5600 0002 0800
        45c0 003a 0000 4000 4001 0000 0af4 0001 0af4 0002
        03 01 0000 0000 0000");
    expected.extend_from_slice(&ping.bytes[14..]);
    assert_eq!(octets, expected);
}

#[test]
fn types_and_codes_of_both_families() {
    use IcmpErrorKind as K;
    let mtu = K::FragmentationNeeded { mtu: 1400 };
    let table = [
        (K::HostUnreachable, (3, 1), (1, 3)),
        (K::NetUnreachable, (3, 0), (1, 0)),
        (K::PortUnreachable, (3, 3), (1, 4)),
        (K::AdminProhibited, (3, 13), (1, 1)),
        (K::HostProhibited, (3, 10), (1, 1)),
        (K::TimeExceeded, (11, 0), (3, 0)),
        (K::ReassemblyTimeExceeded, (11, 1), (3, 1)),
        (mtu, (3, 4), (2, 0)),
    ];
    for (kind, four, six) in table {
        for (builder, source, expected) in [(v4(), "10.244.0.1", four), (v6(), "fd00::1", six)] {
            let frame = builder.vlan(Some(5)).udp(1000, 53).payload(b"x").build();
            let headers = parse(&frame);
            let error = icmp_error(&frame, &headers, kind, addr(source)).unwrap();
            assert_checksums(&error.bytes);
            let (kind, code, message) = message(&error);
            assert_eq!((kind, code), expected);
            let IcmpMessage::Error(Embedded { src, dst, src_port, dst_port, .. }) = message else {
                panic!("no quote");
            };
            let ip = headers.ip().unwrap();
            assert_eq!((src, dst, src_port, dst_port), (ip.src, ip.dst, 1000, 53));
            let back = parse(&error);
            assert_eq!((back.src_mac, back.dst_mac, back.vlan), (GATEWAY, POD, Some(5)));
            let it = back.ip().unwrap();
            assert_eq!((it.src, it.dst, it.ttl), (addr(source), ip.src, 64));
        }
    }
    // Octets 4 to 7: RFC 1191 has the MTU in the last two, RFC 4443 in all four.
    assert_eq!(mtu.header(true).2, [0, 0, 5, 0x78]);
    assert_eq!(mtu.header(false).2, [0, 0, 5, 0x78]);
    let huge = K::FragmentationNeeded { mtu: 100_000 };
    assert_eq!(huge.header(true).2, [0, 0, 0xff, 0xff]);
    assert_eq!(huge.header(false).2, [0, 1, 0x86, 0xa0]);
}

#[test]
fn quotes_are_limited_and_without_padding() {
    let kind = IcmpErrorKind::TimeExceeded;
    for (builder, source, largest) in [(v4(), "10.244.0.1", 576), (v6(), "fd00::1", 1280)] {
        let frame = builder.clone().udp(1, 2).payload(&[7; 2000]).build();
        let error = icmp_error(&frame, &parse(&frame), kind, addr(source)).unwrap();
        assert_eq!(error.bytes.len(), 14 + largest);
        assert_checksums(&error.bytes);
        let mut padded = builder.udp(1, 2).build();
        let length = padded.bytes.len();
        padded.bytes.resize(length + 30, 0xee);
        let error = icmp_error(&padded, &parse(&padded), kind, addr(source)).unwrap();
        let header = if source.contains(':') { 48 } else { 28 };
        assert_eq!(error.bytes.len(), length + header);
    }
}

/// The quote is what the receiver of the error knows: a completed checksum, a segment of wire size.
#[test]
fn quotes_are_as_on_the_wire() {
    let whole = v4().tcp(1, 2, tcp_flags::ACK).payload(&[7; 300]).build();
    let kind = IcmpErrorKind::FragmentationNeeded { mtu: 100 };
    let mut partial = whole.clone();
    make_partial(&mut partial);
    let error = icmp_error(&partial, &parse(&partial), kind, addr("10.244.0.1")).unwrap();
    assert_eq!(error.bytes[42..], whole.bytes[14..]);

    let mut large = partial;
    large.segmentation = Some(Segmentation { kind: SegmentationKind::Tcp, size: 100 });
    let first = v4().tcp(1, 2, tcp_flags::ACK).payload(&[7; 100]).build();
    let error = icmp_error(&large, &parse(&large), kind, addr("10.244.0.1")).unwrap();
    assert_eq!(error.bytes[42..], first.bytes[14..]);
}

#[test]
fn errors_that_must_not_be_sent() {
    let refused = |frame: Frame, source: &str| {
        let kind = IcmpErrorKind::HostUnreachable;
        let sent = icmp_error(&frame, &parse(&frame), kind, addr(source));
        assert_eq!(sent, None, "{}", crate::describe(&parse(&frame)));
    };
    let from_to4 = |src: &str, dst: &str| {
        FrameBuilder::new(addr(src), addr(dst)).macs(POD, GATEWAY).udp(1, 2).build()
    };
    // About an ICMP error, with and without a usable quote; a redirect; an unknown type.
    let quote = v4().udp(1, 2).build().bytes.split_off(14);
    refused(v4().icmp(3, 1, [0; 4]).payload(&quote).build(), "10.244.0.1");
    for kind in [3, 4, 5, 11, 12, 42] {
        refused(v4().icmp(kind, 0, [0; 4]).build(), "10.244.0.1");
    }
    for kind in [1, 2, 3, 4, 100, 137] {
        refused(v6().icmp(kind, 0, [0; 4]).build(), "fd00::1");
    }
    // A fragment with an offset.
    let later = Fragment { id: 1, offset: 16, more: false };
    refused(v4().udp(1, 2).fragment(later).payload(b"x").build(), "10.244.0.1");
    refused(v6().udp(1, 2).fragment(later).payload(b"x").build(), "fd00::1");
    // Groups, on the link and in IP.
    refused(v4().macs(POD, Mac::BROADCAST).udp(1, 2).build(), "10.244.0.1");
    refused(v4().macs(Mac::BROADCAST, GATEWAY).udp(1, 2).build(), "10.244.0.1");
    refused(from_to4("10.0.0.1", "224.0.0.5"), "10.244.0.1");
    refused(from_to4("10.0.0.1", "255.255.255.255"), "10.244.0.1");
    refused(from_to4("fd00::1", "ff02::1"), "fd00::1");
    // Sources that are not one host's.
    for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        refused(from_to4(src, "10.0.0.1"), "10.244.0.1");
    }
    for src in ["::", "::1", "ff02::1"] {
        refused(from_to4(src, "fd00::1"), "fd00::1");
    }
    // Another family, and no IP.
    refused(v4().udp(1, 2).build(), "fd00::1");
    refused(arp_request(POD, addr("10.0.0.1"), addr("10.0.0.2")), "10.244.0.1");
}

#[test]
fn errors_that_may_be_sent() {
    let first = Fragment { id: 1, offset: 0, more: true };
    for frame in [
        v4().udp(1, 2).fragment(first).payload(&[0; 8]).build(),
        v4().echo_request(1, 1).build(),
        v4().echo_reply(1, 1).build(),
        v4().protocol(132).build(),
    ] {
        let kind = IcmpErrorKind::NetUnreachable;
        assert!(icmp_error(&frame, &parse(&frame), kind, addr("10.244.0.1")).is_some());
    }
}

#[test]
fn echo_replies() {
    let ping = v4()
        .ttl(9)
        .id(0x77)
        .traffic_class(8)
        .dont_fragment(false)
        .options(&[1])
        .vlan(Some(3))
        .echo_request(0x1234, 5)
        .payload(b"abc");
    let mut frame = ping.build();
    frame.bytes.resize(90, 0xee);
    let reply = echo_reply(&frame, &parse(&frame)).unwrap();
    let expected = FrameBuilder::new(addr("192.168.10.10"), addr("10.244.0.2"))
        .macs(GATEWAY, POD)
        .vlan(Some(3))
        .ttl(64)
        .id(0x77)
        .traffic_class(8)
        .dont_fragment(false)
        .echo_reply(0x1234, 5)
        .payload(b"abc")
        .build();
    assert_eq!(reply, expected);
    assert_checksums(&reply.bytes);

    let frame = v6().echo_request(0x1234, 5).payload(b"abc").build();
    let reply = echo_reply(&frame, &parse(&frame)).unwrap();
    assert_eq!(message(&reply), (129, 0, IcmpMessage::Reply { id: 0x1234, seq: 5 }));
    assert_checksums(&reply.bytes);
}

#[test]
fn pings_that_are_not_answered() {
    let first = Fragment { id: 1, offset: 0, more: true };
    let frames = [
        v4().echo_reply(1, 1).build(),
        v4().icmp(13, 0, [0; 4]).payload(&[0; 12]).build(),
        v4().icmp(8, 1, [0; 4]).build(),
        v4().echo_request(1, 1).bad_transport_checksum().build(),
        v6().echo_request(1, 1).bad_transport_checksum().build(),
        v4().echo_request(1, 1).fragment(first).payload(&[0; 8]).build(),
        v4().macs(POD, Mac::BROADCAST).echo_request(1, 1).build(),
        FrameBuilder::new(addr("10.0.0.1"), addr("224.0.0.1"))
            .macs(POD, GATEWAY)
            .echo_request(1, 1)
            .build(),
        v4().udp(8, 8).build(),
    ];
    for frame in frames {
        assert_eq!(echo_reply(&frame, &parse(&frame)), None);
    }
}

/// RFC 9293, 3.10.7.1, one line a case: flags, data octets; then flags, seq and ack of the reset.
#[test]
fn resets() {
    use tcp_flags::{ACK, FIN, PSH, RST, SYN};
    let cases = [
        (SYN, 0, (RST | ACK, 0, 1001)),
        (SYN, 10, (RST | ACK, 0, 1011)),
        (FIN, 10, (RST | ACK, 0, 1011)),
        (SYN | FIN, 0, (RST | ACK, 0, 1002)),
        (PSH, 3, (RST | ACK, 0, 1003)),
        (0, 0, (RST | ACK, 0, 1000)),
        (ACK, 10, (RST, 5000, 0)),
        (SYN | ACK, 0, (RST, 5000, 0)),
        (FIN | ACK, 1, (RST, 5000, 0)),
    ];
    for builder in [v4(), v6()] {
        for (flags, length, expected) in cases {
            let builder = builder.clone().seq(1000).ack(5000).tcp(40000, 80, flags);
            let frame = builder.payload(&vec![0; length]).vlan(Some(3)).build();
            let headers = parse(&frame);
            let reset = tcp_reset(&frame, &headers).unwrap();
            assert_checksums(&reset.bytes);
            let back = parse(&reset);
            assert_eq!((back.src_mac, back.dst_mac, back.vlan), (GATEWAY, POD, Some(3)));
            let (ip, of) = (back.ip().unwrap(), headers.ip().unwrap());
            assert_eq!((ip.src, ip.dst, ip.ttl, ip.ports()), (of.dst, of.src, 64, (80, 40000)));
            let tcp = ip.tcp().unwrap();
            assert_eq!((tcp.flags, tcp.seq, tcp.ack), expected, "flags {flags:#x}");
            assert_eq!((tcp.window, tcp.header_len, tcp.payload_len), (0, 20, 0));
        }
    }
}

#[test]
fn reset_wraps_around() {
    let frame = v4().seq(u32::MAX).tcp(1, 2, tcp_flags::SYN).payload(b"ab").build();
    let reset = tcp_reset(&frame, &parse(&frame)).unwrap();
    assert_eq!(parse(&reset).ip().unwrap().tcp().unwrap().ack, 2);
}

/// A walk judges with edited headers: the checksum is still that of the frame.
#[test]
fn reset_from_edited_headers() {
    let frame = v4().tcp(1, 2, tcp_flags::SYN).build();
    let mut headers = parse(&frame);
    headers.ip_mut().unwrap().dst = addr("10.244.0.9");
    let reset = tcp_reset(&frame, &headers).unwrap();
    assert_eq!(parse(&reset).ip().unwrap().src, addr("10.244.0.9"));
    assert_checksums(&reset.bytes);
}

#[test]
fn segments_that_are_not_reset() {
    let first = Fragment { id: 1, offset: 0, more: true };
    let frames = [
        v4().tcp(1, 2, tcp_flags::RST).build(),
        v4().tcp(1, 2, tcp_flags::RST | tcp_flags::ACK).build(),
        v4().tcp(1, 2, tcp_flags::SYN).bad_transport_checksum().build(),
        v4().tcp(1, 2, tcp_flags::ACK).fragment(first).payload(&[0; 4]).build(),
        v4().macs(POD, Mac::BROADCAST).tcp(1, 2, tcp_flags::SYN).build(),
        v4().udp(1, 2).build(),
    ];
    for frame in frames {
        let Ok(headers) = crate::parse(&frame.bytes) else {
            panic!("{:02x?}", frame.bytes);
        };
        assert_eq!(tcp_reset(&frame, &headers), None);
    }
}

/// A sanity check that does not use our own parser.
#[test]
fn an_error_as_etherparse_sees_it() {
    let frame = v4().udp(1, 2).build();
    let kind = IcmpErrorKind::PortUnreachable;
    let error = icmp_error(&frame, &parse(&frame), kind, addr("10.244.0.1")).unwrap();
    let packet = SlicedPacket::from_ethernet(&error.bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = packet.net else {
        panic!("not IPv4");
    };
    assert_eq!(ip.header().destination(), [10, 244, 0, 2]);
    assert!(verify_transport(&error.bytes, &parse(&error)));
}
