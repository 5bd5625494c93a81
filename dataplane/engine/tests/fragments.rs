//! Fragments through NAT, balancer and firewall: every piece gets what the first one got.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::DropReason;
use engine::network::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Time};

/// A datagram of 3,000 octets from pod/a, in pieces that fit 1,000.
fn pieces(dst: &str) -> Vec<Frame> {
    let whole = FrameBuilder::new(ip("10.244.0.18"), ip(dst))
        .macs(mac(1), GATEWAY)
        .id(77)
        .udp(4000, 53)
        .payload(&(0..2972u32).map(|i| (i % 251) as u8).collect::<Vec<_>>())
        .dont_fragment(false)
        .build();
    let headers = packet::parse(&whole.bytes).unwrap();
    packet::fragment_ipv4(&whole, &headers, 1000).unwrap()
}

/// Puts fragments together again: an independent reading of RFC 791.
fn reassemble(frames: &[(PortId, Frame)]) -> Vec<u8> {
    let mut data = vec![0u8; 2980];
    for (_, f) in frames {
        let b = &f.bytes[14..];
        let offset = usize::from(u16::from_be_bytes([b[6], b[7]]) & 0x1fff) * 8;
        let len = usize::from(u16::from_be_bytes([b[2], b[3]])) - 20;
        data[offset..offset + len].copy_from_slice(&b[20..20 + len]);
    }
    data
}

fn udp_checksum_is_right(src: &str, dst: &str, datagram: &[u8]) -> bool {
    let octets = |a: &str| a.parse::<std::net::Ipv4Addr>().unwrap().octets();
    etherparse::UdpHeader::from_slice(datagram).is_ok_and(|(header, payload)| {
        header.calc_checksum_ipv4_raw(octets(src), octets(dst), payload) == Ok(header.checksum)
    })
}

#[test]
fn every_order_is_translated_alike() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        let mut b = Bench::new(network());
        b.introduce_ext();
        let all = pieces("192.0.2.10");
        assert_eq!(all.len(), 4);
        let mut out = Vec::new();
        for i in order {
            out.extend(b.send(POD_A, all[i].clone()));
        }
        assert_eq!(out.len(), 4, "{order:?}");
        for (port, frame) in &out {
            assert_eq!(*port, EXT);
            let h = packet::parse(&frame.bytes).unwrap();
            assert_eq!((h.ip().unwrap().src, h.ip().unwrap().ttl), (ip("172.16.2.2"), 62));
        }
        let datagram = reassemble(&out);
        assert!(udp_checksum_is_right("172.16.2.2", "192.0.2.10", &datagram), "{order:?}");
        assert_eq!(b.worker.sessions().len(), 1);
        assert_eq!(b.worker.sessions()[0].traffic[0].packets, 4);
        assert_eq!(b.worker.accounting().held, 0);
    }
}

#[test]
fn fragments_wait_for_the_neighbour_too() {
    let mut b = Bench::new(network());
    let mut arps = Vec::new();
    for piece in pieces("192.0.2.10") {
        arps.extend(b.send(POD_A, piece));
    }
    assert_eq!(arps.len(), 1, "one request, four pieces that wait");
    assert_eq!(b.worker.accounting().held, 4);
    let request = packet::parse(&arps[0].1.bytes).unwrap();
    let out = b.send(EXT, packet::arp_reply(&request, mac(9)).unwrap());
    assert_eq!(out.len(), 4);
    assert!(udp_checksum_is_right("172.16.2.2", "192.0.2.10", &reassemble(&out)));
}

#[test]
fn a_refused_datagram_is_refused_in_every_piece() {
    let mut net = network();
    let udp = vec![Service { protocol: 17, ports: ServicePorts::Destination(vec![(53, 53)]) }];
    net.firewall.rules = vec![rule(1001, "any", "any", udp, Action::Drop)];
    net.ports[1].vnic.as_mut().unwrap().rules_in = vec![0].into();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
        let mut b = Bench::new(net.clone());
        for i in order {
            assert!(b.send(POD_A, pieces("10.244.0.34")[i].clone()).is_empty());
        }
        let reasons: Vec<_> = b.worker.drops().iter().map(|(k, t)| (k.reason, t.packets)).collect();
        assert!(reasons.contains(&(DropReason::Firewall, 1)), "{reasons:?}");
        assert!(reasons.contains(&(DropReason::Fragment, 3)), "{reasons:?}");
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn a_first_fragment_that_never_comes_is_waited_for_half_a_minute() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    assert!(b.send(POD_A, pieces("192.0.2.10")[1].clone()).is_empty());
    b.advance(Time(29_999_999_999));
    assert_eq!(b.worker.accounting().held, 1);
    b.advance(Time::from_secs(30));
    assert_eq!((b.worker.accounting().held, b.worker.accounting().dropped), (0, 1));
    assert_eq!(b.only_drop().1, DropReason::Fragment);
}

#[test]
fn an_overlap_drops_what_is_left_of_the_datagram() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    let all = pieces("192.0.2.10");
    assert_eq!(b.send(POD_A, all[0].clone()).len(), 1);
    // A piece that begins 8 octets before the first one ends (RFC 1858).
    let mut overlap = all[1].clone();
    let at = u16::from_be_bytes([overlap.bytes[20], overlap.bytes[21]]) - 1;
    overlap.bytes[20..22].copy_from_slice(&at.to_be_bytes());
    let sum = u16::from_be_bytes([overlap.bytes[24], overlap.bytes[25]]);
    // One less in the header is one more in its checksum (RFC 1624).
    overlap.bytes[24..26].copy_from_slice(&(sum + 1).to_be_bytes());
    assert!(b.send(POD_A, overlap).is_empty());
    assert!(b.send(POD_A, all[2].clone()).is_empty());
    let reasons: Vec<_> = b.worker.drops().keys().map(|k| k.reason).collect();
    assert_eq!(reasons, [DropReason::Fragment, DropReason::FragmentOverlap]);
}
