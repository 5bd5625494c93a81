//! Parsing: fields of frames written by hand, every error by a frame of its own, and agreement with
//! etherparse.

use super::{GATEWAY, POD, addr, hex, packet};
use crate::checksum::write_ipv4_header;
use crate::{
    Arp, Embedded, Fragment, Frame, FrameBuilder, Headers, Icmp, IcmpMessage, Ip, Mac, ParseError,
    Payload, Tcp, Transport, Udp, neighbor_solicitation, protocol, tcp_flags,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

fn parse(bytes: &[u8]) -> Result<Headers, ParseError> {
    crate::parse(bytes)
}

fn ip(bytes: &[u8]) -> Ip {
    *parse(bytes).unwrap().ip().unwrap()
}

fn v4() -> FrameBuilder {
    FrameBuilder::new(addr("10.0.0.1"), addr("10.0.0.2")).macs(POD, GATEWAY)
}

fn v6() -> FrameBuilder {
    FrameBuilder::new(addr("fd00::1"), addr("fd00::2")).macs(POD, GATEWAY)
}

/// Puts one octet and makes the IPv4 header checksum right again.
fn with_octet(frame: Frame, at: usize, value: u8) -> Vec<u8> {
    let mut bytes = frame.bytes;
    bytes[at] = value;
    let header_len = usize::from(bytes[14] & 0xf) * 4;
    write_ipv4_header(&mut bytes, 14, header_len);
    bytes
}

/// A SYN with an MSS option, octet by octet (header checksum 0x26ca: the sum of the others is 0xd935).
#[test]
fn tcp_syn_by_hand() {
    let bytes = hex("
        0250 5600 0002 0450 5600 0001 0800
        4500 002c 0000 4000 4006 26ca 0a00 0001 0a00 0002
        9c40 0050 0102 0304 0000 0000 6002 fa00 0000 0000 0204 05b4
        0000");
    let expected = Headers {
        dst_mac: GATEWAY,
        src_mac: POD,
        vlan: None,
        ether_type: 0x0800,
        l3: 14,
        payload: Payload::Ip(Ip {
            src: addr("10.0.0.1"),
            dst: addr("10.0.0.2"),
            protocol: 6,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: true,
            options: false,
            fragment: None,
            l4: 34,
            total_len: 44,
            transport: Transport::Tcp(Tcp {
                src_port: 40000,
                dst_port: 80,
                seq: 0x0102_0304,
                ack: 0,
                flags: tcp_flags::SYN,
                window: 64000,
                header_len: 24,
                payload_len: 0,
            }),
        }),
    };
    assert_eq!(parse(&bytes), Ok(expected));
}

#[test]
fn arp_by_hand() {
    let bytes = hex("
        ffff ffff ffff 0450 5600 0001 0806
        0001 0800 06 04 0001 0450 5600 0001 0af4 0002 0000 0000 0000 0af4 0001");
    let Payload::Arp(arp) = parse(&bytes).unwrap().payload else {
        panic!("not ARP");
    };
    let expected = Arp {
        operation: 1,
        sender_mac: POD,
        sender: addr("10.244.0.2"),
        target_mac: Mac::ZERO,
        target: addr("10.244.0.1"),
    };
    assert_eq!(arp, expected);
}

/// Solicitation for fd00::2 with the source link-layer address option (checksum not parsed).
#[test]
fn neighbor_solicitation_by_hand() {
    let bytes = hex("
        3333 ff00 0002 0450 5600 0001 86dd
        6000 0000 0020 3a ff fd00 0000 0000 0000 0000 0000 0000 0001
        ff02 0000 0000 0000 0000 0001 ff00 0002
        87 00 0000 0000 0000 fd00 0000 0000 0000 0000 0000 0000 0002
        01 01 0450 5600 0001");
    let Transport::Icmp(icmp) = ip(&bytes).transport else {
        panic!("not ICMPv6");
    };
    let expected =
        IcmpMessage::NeighborSolicitation { target: addr("fd00::2"), source_mac: Some(POD) };
    assert_eq!(icmp, Icmp { kind: 135, code: 0, message: expected });
}

#[test]
fn vlan_tag_with_priority() {
    let mut frame = v4().vlan(Some(100)).udp(1, 2).build();
    frame.bytes[14] |= 0xe0;
    let headers = parse(&frame.bytes).unwrap();
    assert_eq!((headers.vlan, headers.l3, headers.ether_type), (Some(100), 18, 0x0800));
    assert_eq!(headers.ip().unwrap().l4, 38);
}

#[test]
fn unknown_ethertypes_are_other() {
    // LLDP, an 802.3 length, 802.1ad, ARP for IPv6, ARP on another hardware.
    for text in
        ["88cc", "0026", "88a8 0001 0800", "0806 0001 86dd 0610 0001", "0806 0006 0800 0604 0001"]
    {
        let mut bytes = hex("0180 c200 000e 0450 5600 0001");
        bytes.extend(hex(text));
        bytes.resize(60, 0);
        assert_eq!(parse(&bytes).map(|h| h.payload), Ok(Payload::Other), "{text}");
    }
}

#[test]
fn ethernet_padding_is_not_data() {
    let mut frame = v4().tcp(1, 2, tcp_flags::ACK).build();
    frame.bytes.resize(60, 0xee);
    let ip = ip(&frame.bytes);
    assert_eq!(ip.tcp().unwrap().payload_len, 0);
    assert_eq!(ip.total_len, 40);
}

#[test]
fn ipv4_options_move_the_transport_header() {
    let ip = ip(&v4().options(&[0x94, 4, 0, 0, 1]).udp(7, 8).build().bytes);
    assert!(ip.options);
    assert_eq!((ip.l4, ip.ports()), (14 + 28, (7, 8)));
}

#[test]
fn extension_headers_are_walked() {
    let ip = ip(&v6().options(&[1, 4, 0, 0, 0, 0]).udp(7, 8).build().bytes);
    assert!(ip.options && ip.dont_fragment);
    assert_eq!((ip.l4, ip.protocol, ip.ports()), (14 + 48, protocol::UDP, (7, 8)));
}

#[test]
fn protocols_without_ports_and_of_the_other_family_are_other() {
    for (builder, number) in [(v4(), 132), (v4(), 58), (v6(), 1), (v6(), 59), (v6(), 50)] {
        let ip = ip(&builder.protocol(number).payload(&[0; 4]).build().bytes);
        assert_eq!((ip.protocol, ip.transport), (number, Transport::Other));
    }
}

#[test]
fn fragments() {
    for (builder, header) in [(v4(), 20), (v6(), 48)] {
        let first = Fragment { id: 0x1234, offset: 0, more: true };
        let data = [0; 16];
        let it = ip(&builder.clone().udp(7, 8).fragment(first).payload(&data).build().bytes);
        assert_eq!((it.fragment, it.ports(), it.l4), (Some(first), (7, 8), 14 + header));
        let later = Fragment { id: 0x1234, offset: 24, more: false };
        let it = ip(&builder.udp(7, 8).fragment(later).payload(&[0; 5]).build().bytes);
        assert_eq!((it.fragment, it.transport), (Some(later), Transport::LaterFragment));
        assert_eq!((it.protocol, it.ports()), (protocol::UDP, (0, 0)));
    }
}

/// A datagram in two fragments: the first has the length of all of it.
#[test]
fn udp_length_of_a_first_fragment_goes_beyond_it() {
    let whole = v4().dont_fragment(false).udp(7, 8).payload(&[1; 100]).build();
    let pieces = crate::fragment_ipv4(&whole, &parse(&whole.bytes).unwrap(), 68).unwrap();
    assert_eq!(ip(&pieces[0].bytes).ports(), (7, 8));
    // Without the fragment bits the same datagram is cut off.
    let cut = with_octet(pieces[0].clone(), 20, 0);
    assert_eq!(parse(&cut), Err(ParseError::UdpLength));
}

/// RFC 6946: a fragment header that says "all of it".
#[test]
fn atomic_fragment_is_a_whole_packet() {
    let atomic = Fragment { id: 1, offset: 0, more: false };
    let ip = ip(&v6().udp(7, 8).fragment(atomic).build().bytes);
    assert_eq!((ip.fragment, ip.options, ip.ports()), (None, true, (7, 8)));
}

fn message(bytes: &[u8]) -> IcmpMessage {
    match ip(bytes).transport {
        Transport::Icmp(icmp) => icmp.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn icmp_kinds() {
    let (id, seq) = (0x0102, 0x0304);
    let of = |b: FrameBuilder, kind| message(&b.icmp(kind, 0, [1, 2, 3, 4]).build().bytes);
    for kind in [8, 13] {
        assert_eq!(of(v4(), kind), IcmpMessage::Query { id, seq });
    }
    for kind in [0, 14] {
        assert_eq!(of(v4(), kind), IcmpMessage::Reply { id, seq });
    }
    assert_eq!(of(v6(), 128), IcmpMessage::Query { id, seq });
    assert_eq!(of(v6(), 129), IcmpMessage::Reply { id, seq });
    // Errors without a quote, redirects, what nobody asked for, and kinds of the other family.
    for kind in [3, 4, 5, 9, 10, 11, 12, 128, 135, 255] {
        assert_eq!(of(v4(), kind), IcmpMessage::Other, "{kind}");
    }
    for kind in [0, 1, 2, 3, 4, 8, 133, 134, 135, 136, 137] {
        assert_eq!(of(v6(), kind), IcmpMessage::Other, "{kind}");
    }
}

#[test]
fn ports_of_a_query_are_its_identifier() {
    assert_eq!(ip(&v4().echo_request(9, 1).build().bytes).ports(), (9, 9));
    assert_eq!(ip(&v6().echo_reply(9, 1).build().bytes).ports(), (9, 9));
}

/// The packet quoted by errors in these tests, without Ethernet header.
fn quote(builder: FrameBuilder) -> Vec<u8> {
    builder.build().bytes.split_off(14)
}

#[test]
fn quoted_packets() {
    let quoted = quote(v4().options(&[1]).tcp(1000, 80, tcp_flags::SYN));
    let expected = Embedded {
        src: addr("10.0.0.1"),
        dst: addr("10.0.0.2"),
        protocol: protocol::TCP,
        src_port: 1000,
        dst_port: 80,
        l3: 42,
        l4: 66,
    };
    for kind in [3, 4, 11, 12] {
        let frame = v4().icmp(kind, 0, [0; 4]).payload(&quoted[..32]).build();
        assert_eq!(message(&frame.bytes), IcmpMessage::Error(expected));
    }
    let redirect = v4().icmp(5, 0, [0; 4]).payload(&quoted).build();
    assert_eq!(message(&redirect.bytes), IcmpMessage::Other);

    let quoted = quote(v6().echo_request(77, 1));
    let expected = Embedded {
        src: addr("fd00::1"),
        dst: addr("fd00::2"),
        protocol: protocol::ICMPV6,
        src_port: 77,
        dst_port: 77,
        l3: 62,
        l4: 102,
    };
    for kind in 1..=4 {
        let frame = v6().icmp(kind, 0, [0; 4]).payload(&quoted).build();
        assert_eq!(message(&frame.bytes), IcmpMessage::Error(expected));
    }
}

#[test]
fn quotes_that_cannot_be_trusted_are_other() {
    let whole = quote(v4().udp(1, 2));
    let later = Fragment { id: 1, offset: 8, more: false };
    let four = [
        whole[..27].to_vec(),
        quote(v4().udp(1, 2).bad_ip_checksum()),
        quote(v4().udp(1, 2).fragment(later).payload(&[0; 8])),
        // An error about an error.
        quote(v4().icmp(3, 1, [0; 4]).payload(&whole)),
        // The other family, and its ICMP.
        quote(v6().udp(1, 2)),
        quote(v4().protocol(58).payload(&[128, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for bytes in four {
        let frame = v4().icmp(3, 1, [0; 4]).payload(&bytes).build();
        assert_eq!(message(&frame.bytes), IcmpMessage::Other, "{bytes:02x?}");
    }
    let mapped = FrameBuilder::new(addr("fd00::1"), addr("10.0.0.1")).udp(1, 2);
    let six = [
        quote(v6().udp(1, 2))[..47].to_vec(),
        quote(v6().udp(1, 2).fragment(later).payload(&[0; 8])),
        quote(v6().icmp(1, 0, [0; 4]).payload(&[0; 8])),
        quote(mapped),
        whole,
    ];
    for bytes in six {
        let frame = v6().icmp(1, 0, [0; 4]).payload(&bytes).build();
        assert_eq!(message(&frame.bytes), IcmpMessage::Other, "{bytes:02x?}");
    }
}

/// RFC 4861, 7.1: each rule broken once.
#[test]
fn invalid_neighbor_messages_are_other() {
    let good = neighbor_solicitation(POD, addr("fd00::1"), addr("fd00::2")).bytes;
    assert!(matches!(message(&good), IcmpMessage::NeighborSolicitation { .. }));
    // Offset and value: hop limit 254, code 1, a group as target, option length 0, and 9 units.
    for (at, value) in [(21, 254), (55, 1), (62, 0xff), (79, 0), (79, 9), (80, 1)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(message(&bytes), IcmpMessage::Other, "octet {at}");
    }
    // From `::` with a link-layer address, and from `::` to a host.
    let ask = |src, dst, body: &str| {
        let body = hex(body);
        let frame = FrameBuilder::new(addr(src), addr(dst)).ttl(255).icmp(135, 0, [0; 4]);
        message(&frame.payload(&body).build().bytes)
    };
    let target = "fd00 0000 0000 0000 0000 0000 0000 0002";
    let told = format!("{target} 01 01 0450 5600 0001");
    assert_eq!(ask("::", "ff02::1:ff00:2", &told), IcmpMessage::Other);
    assert_eq!(ask("::", "fd00::2", target), IcmpMessage::Other);
    let valid = IcmpMessage::NeighborSolicitation { target: addr("fd00::2"), source_mac: None };
    assert_eq!(ask("::", "ff02::1:ff00:2", target), valid);
    // An advertisement to a group that claims to be solicited.
    let tell = |flags| {
        let frame = FrameBuilder::new(addr("fd00::2"), addr("ff02::1")).ttl(255);
        message(&frame.icmp(136, 0, [flags, 0, 0, 0]).payload(&hex(target)).build().bytes)
    };
    assert_eq!(tell(0x60), IcmpMessage::Other);
    let valid = IcmpMessage::NeighborAdvertisement { target: addr("fd00::2"), target_mac: None };
    assert_eq!(tell(0x20), valid);
}

#[test]
fn every_error() {
    use ParseError as E;
    let udp4 = || v4().udp(1, 2).payload(&[0; 4]).build();
    let udp6 = || v6().udp(1, 2).payload(&[0; 4]).build();
    let tcp4 = || v4().tcp(1, 2, 0).build();
    let short = |frame: Frame, length: usize| frame.bytes[..length].to_vec();
    let octet = |frame: Frame, at: usize, value: u8| {
        let mut bytes = frame.bytes;
        bytes[at] = value;
        bytes
    };
    let arp = || crate::arp_request(POD, addr("10.0.0.1"), addr("10.0.0.2"));
    let first = Fragment { id: 1, offset: 0, more: true };
    let at_8 = Fragment { id: 1, offset: 8, more: false };
    let piece =
        |b: FrameBuilder, f: Fragment, n: usize| b.fragment(f).payload(&vec![0; n]).build().bytes;
    let mut stacked = v4().vlan(Some(1)).udp(1, 2).build().bytes;
    stacked[16..18].copy_from_slice(&[0x81, 0]);
    let chain = |count: usize, last: u8| {
        let mut body = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        let end = body.len() - 8;
        body[end] = last;
        body.extend_from_slice(&[0; 8]);
        v6().protocol(60).payload(&body).build().bytes
    };
    assert_eq!(parse(&chain(8, 59)).map(|h| h.ip().unwrap().options), Ok(true));
    let cases = [
        (vec![], E::Runt),
        (short(udp4(), 13), E::Runt),
        (short(udp4(), 33), E::Runt),
        (short(udp6(), 53), E::Runt),
        (short(v4().vlan(Some(1)).build(), 17), E::Runt),
        (stacked, E::VlanStacked),
        (with_octet(udp4(), 14, 0x55), E::Ipv4Version),
        (with_octet(udp4(), 14, 0x44), E::Ipv4HeaderLength),
        (octet(udp4(), 14, 0x4f), E::Ipv4HeaderLength),
        (with_octet(udp4(), 17, 19), E::Ipv4TotalLength),
        (with_octet(udp4(), 17, 33), E::Ipv4TotalLength),
        (short(udp4(), 45), E::Ipv4TotalLength),
        (v4().udp(1, 2).bad_ip_checksum().build().bytes, E::Ipv4Checksum),
        (v4().udp(1, 2).options(&[1]).bad_ip_checksum().build().bytes, E::Ipv4Checksum),
        (octet(udp6(), 14, 0x40), E::Ipv6Version),
        (short(udp6(), 65), E::Ipv6PayloadLength),
        (FrameBuilder::new(addr("fd00::1"), addr("10.0.0.1")).build().bytes, E::Ipv6MappedAddress),
        (chain(9, 59), E::ExtensionHeaders),
        (chain(1, 0), E::ExtensionHeaders),
        (v6().protocol(60).payload(&[59]).build().bytes, E::ExtensionHeaders),
        (v6().protocol(60).payload(&[59, 1, 0, 0, 0, 0, 0, 0]).build().bytes, E::ExtensionHeaders),
        (v4().protocol(6).payload(&[0; 19]).build().bytes, E::TransportTruncated),
        (v4().protocol(17).payload(&[0; 7]).build().bytes, E::TransportTruncated),
        (v4().protocol(1).payload(&[0; 7]).build().bytes, E::TransportTruncated),
        (v6().protocol(58).payload(&[0; 7]).build().bytes, E::TransportTruncated),
        (octet(tcp4(), 46, 0x40), E::TcpHeaderLength),
        (octet(tcp4(), 46, 0x60), E::TcpHeaderLength),
        (octet(udp4(), 39, 7), E::UdpLength),
        (octet(udp4(), 39, 13), E::UdpLength),
        (short(arp(), 41), E::ArpMalformed),
        (short(arp(), 20), E::ArpMalformed),
        (octet(arp(), 18, 8), E::ArpMalformed),
        (octet(arp(), 19, 16), E::ArpMalformed),
        (piece(v4().protocol(6), first, 16), E::TinyFragment),
        (piece(v4().protocol(17), first, 0), E::TinyFragment),
        (piece(v4().protocol(1), first, 0), E::TinyFragment),
        (piece(v6().protocol(6), first, 16), E::TinyFragment),
        (piece(v4().protocol(6), at_8, 64), E::TinyFragment),
        (piece(v6().protocol(6), at_8, 64), E::TinyFragment),
        (piece(v4().udp(1, 2), first, 1), E::FragmentLength),
        (piece(v4().udp(1, 2), Fragment { offset: 80, ..at_8 }, 0), E::FragmentLength),
        (piece(v4().udp(1, 2), Fragment { offset: 65528, ..at_8 }, 8), E::FragmentLength),
        (piece(v6().udp(1, 2), Fragment { offset: 65528, ..at_8 }, 8), E::FragmentLength),
    ];
    for (number, (bytes, error)) in cases.into_iter().enumerate() {
        assert_eq!(parse(&bytes), Err(error), "case {number}: {bytes:02x?}");
    }
}

#[test]
fn a_fragment_at_8_of_another_protocol_is_none_of_our_business() {
    let later = Fragment { id: 1, offset: 8, more: false };
    let ip = ip(&v4().udp(1, 2).fragment(later).payload(&[0; 64]).build().bytes);
    assert_eq!(ip.transport, Transport::LaterFragment);
}

proptest! {
    #[test]
    fn agrees_with_etherparse(packet in packet(), padding in 0..20usize) {
        let mut bytes = packet.frame().bytes;
        bytes.resize(bytes.len() + padding, 0xcc);
        let headers = parse(&bytes).unwrap();
        let ours = headers.ip().unwrap();
        let theirs = SlicedPacket::from_ethernet(&bytes).unwrap();
        prop_assert_eq!((headers.src_mac, headers.dst_mac, headers.vlan), (
            packet.macs.0, packet.macs.1, packet.vlan));
        match theirs.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let h = ip.header();
                prop_assert_eq!(ours.src, h.source_addr().into());
                prop_assert_eq!(ours.dst, h.destination_addr().into());
                prop_assert_eq!((ours.ttl, ours.protocol), (h.ttl(), h.protocol().0));
                prop_assert_eq!(ours.total_len, u32::from(h.total_len()));
                prop_assert_eq!(ours.options, !h.options().is_empty());
                prop_assert_eq!(ours.traffic_class, h.dcp().value() << 2 | h.ecn().value());
            }
            NetSlice::Ipv6(ip) => {
                let h = ip.header();
                prop_assert_eq!(ours.src, h.source_addr().into());
                prop_assert_eq!(ours.dst, h.destination_addr().into());
                prop_assert_eq!((ours.ttl, ours.protocol), (h.hop_limit(), ip.payload().ip_number.0));
                prop_assert_eq!(ours.total_len, 40 + u32::from(h.payload_length()));
                prop_assert_eq!(ours.traffic_class, h.traffic_class());
            }
            NetSlice::Arp(_) => prop_assert!(false),
        }
        match (ours.transport, theirs.transport) {
            (Transport::Tcp(t), Some(TransportSlice::Tcp(s))) => {
                prop_assert_eq!(ours.ports(), (s.source_port(), s.destination_port()));
                prop_assert_eq!((t.seq, t.ack, t.window), (
                    s.sequence_number(), s.acknowledgment_number(), s.window_size()));
                prop_assert_eq!(usize::try_from(t.payload_len).unwrap(), s.payload().len());
                prop_assert_eq!(usize::from(t.header_len), s.header_len());
                let bits = [s.fin(), s.syn(), s.rst(), s.psh(), s.ack(), s.urg(), s.ece(), s.cwr()];
                let flags = bits.iter().rev().fold(0, |all, bit| all << 1 | u8::from(*bit));
                prop_assert_eq!(t.flags, flags);
            }
            (Transport::Udp(Udp { has_checksum, .. }), Some(TransportSlice::Udp(s))) => {
                prop_assert_eq!(ours.ports(), (s.source_port(), s.destination_port()));
                prop_assert_eq!(has_checksum, s.checksum() != 0);
            }
            (Transport::Icmp(i), Some(TransportSlice::Icmpv4(s))) => {
                prop_assert_eq!((i.kind, i.code), (s.type_u8(), s.code_u8()));
            }
            (Transport::Icmp(i), Some(TransportSlice::Icmpv6(s))) => {
                prop_assert_eq!((i.kind, i.code), (s.type_u8(), s.code_u8()));
            }
            (Transport::Other, None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} is not {theirs:?}"),
        }
    }
}
