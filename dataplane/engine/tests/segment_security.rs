//! SpoofGuard and segment security (features.md 3.A): each switch on and off, rate limits, and what a
//! workload may claim to be (reliability.md R23).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Mac, Time};

/// pod/a's segment security is `edit`ed.
fn bench(edit: impl FnOnce(&mut SegmentSecurity)) -> Bench {
    let mut net = lab();
    edit(&mut vnic(&mut net, POD_A).security);
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn raw(dst: Mac, ether_type: u16) -> Frame {
    let mut bytes = [dst.0, mac(1).0].concat();
    bytes.extend_from_slice(&ether_type.to_be_bytes());
    bytes.extend_from_slice(&[0x42; 46]);
    Frame::new(bytes)
}

/// What becomes of a frame of pod/a: nothing, or a reason.
fn fate(mut b: Bench, frame: Frame) -> Option<DropReason> {
    b.send(POD_A, frame);
    let drops: Vec<_> = b.worker.drops().keys().map(|k| (k.stage, k.reason)).collect();
    match drops[..] {
        [] => None,
        [(Stage::Vnic, reason)] => Some(reason),
        _ => panic!("{drops:?}"),
    }
}

fn v6(dst: &str, group: Mac) -> FrameBuilder {
    FrameBuilder::new(ip("2001:db8:a::12"), ip(dst)).macs(mac(1), group)
}

const BPDU: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0]);
const LLDP: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0x0e]);
const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const DHCP_SERVERS: Mac = Mac([0x33, 0x33, 0, 1, 0, 2]);

#[test]
fn bridge_protocols() {
    for frame in [raw(BPDU, 0x0026), raw(LLDP, 0x88cc)] {
        assert_eq!(fate(bench(|_| ()), frame.clone()), Some(DropReason::Bpdu));
        // Its own switch; the non-IP block does not mean them (NSX: "IPv4, IPv6, ARP and BPDU").
        assert_eq!(fate(bench(|s| s.bpdu_filter = false), frame), None);
    }
    // The first address behind the reserved ones is an ordinary group's.
    let beyond = raw(Mac([1, 0x80, 0xc2, 0, 0, 0x10]), 0x88cc);
    assert_eq!(fate(bench(|s| s.bpdu_filter = false), beyond), Some(DropReason::NonIp));
}

#[test]
fn protocols_other_than_arp_and_ip() {
    assert_eq!(fate(bench(|_| ()), raw(MC, 0x88a4)), Some(DropReason::NonIp));
    let mut b = bench(|s| s.non_ip_block = false);
    let frame = raw(MC, 0x88a4);
    assert_eq!(b.send(POD_A, frame.clone()), [(POD_C, frame)]);
    // A router still has nothing to do with it.
    assert!(b.send(POD_A, raw(GATEWAY, 0x88a4)).is_empty());
    assert_eq!(b.only_drop(), (Stage::Segment, DropReason::NonIp, "seg-a".into()));
}

#[test]
fn dhcp() {
    let server = || from(A, C).macs(mac(1), MC).udp(67, 68).build();
    let client = || from(A, "255.255.255.255").macs(mac(1), Mac::BROADCAST).udp(68, 67).build();
    let server6 = || v6("2001:db8:a::13", MC).udp(547, 546).build();
    let client6 = || v6("ff02::1:2", DHCP_SERVERS).udp(546, 547).build();
    for server in [server(), server6()] {
        assert_eq!(fate(bench(|_| ()), server.clone()), Some(DropReason::DhcpServer));
        assert_eq!(fate(bench(|s| s.dhcp_server_block = false), server), None);
    }
    for client in [client(), client6()] {
        assert_eq!(fate(bench(|_| ()), client.clone()), None, "not blocked unless asked for");
        let asked = bench(|s| s.dhcp_client_block = true);
        assert_eq!(fate(asked, client), Some(DropReason::DhcpClient));
    }
    // TCP from that port is nobody's DHCP.
    let tcp = from(A, C).macs(mac(1), MC).tcp(67, 80, packet::tcp_flags::SYN).build();
    assert_eq!(fate(bench(|_| ()), tcp), None);
}

#[test]
fn router_advertisements() {
    let advertisement =
        || v6("ff02::1", ALL_NODES).ttl(255).icmp(134, 0, [64, 0, 7, 8]).payload(&[0; 8]).build();
    assert_eq!(fate(bench(|_| ()), advertisement()), Some(DropReason::RouterAdvertisement));
    let mut b = bench(|s| s.ra_guard = false);
    only(&b.send(POD_A, advertisement()), POD_C);
}

#[test]
fn broadcasts_and_multicasts_a_second() {
    let announce = || packet::gratuitous_arp(mac(1), ip(A));
    let multicast = || {
        from(A, "224.0.0.251").macs(mac(1), Mac([1, 0, 0x5e, 0, 0, 0xfb])).udp(5353, 5353).build()
    };
    let passed = |b: &mut Bench, make: &dyn Fn() -> Frame| {
        (0..10).filter(|_| !b.send(POD_A, make()).is_empty()).count()
    };
    let mut b = bench(|s| {
        s.rates =
            GroupRates { tx_broadcast: Some(3), tx_multicast: Some(5), ..GroupRates::default() }
    });
    for second in 0..3 {
        b.advance(Time::from_secs(second));
        assert_eq!(passed(&mut b, &announce), 3);
        assert_eq!(passed(&mut b, &multicast), 5);
    }
    let drops: Vec<_> = b.worker.drops().into_iter().collect();
    let [(key, traffic)] = &drops[..] else { panic!("{drops:?}") };
    assert_eq!(
        (key.stage, key.reason, key.object.as_str()),
        (Stage::Vnic, DropReason::RateLimit, "pod/a")
    );
    assert_eq!(traffic.packets, 3 * (7 + 5));
    // Unicast is not limited.
    only(&b.send(POD_A, from(A, C).macs(mac(1), MC).udp(1, 2).build()), POD_C);
    // The receiver's limit is its own.
    let mut net = lab();
    vnic(&mut net, POD_C).security.rates.rx_broadcast = Some(2);
    let mut b = Bench::new(net);
    assert_eq!(passed(&mut b, &announce), 2);
    assert_eq!(b.only_drop(), (Stage::Vnic, DropReason::RateLimit, "pod/c".into()));
    assert_eq!(passed(&mut b, &multicast), 10);
    // A router's request for a neighbour is a broadcast too.
    assert_eq!(b.go(B, from(B, "10.244.0.29").udp(1, 2)).len(), 1, "pod/a gets it");
}

#[test]
fn a_trace_takes_nothing_from_a_rate() {
    let mut b = bench(|s| s.rates.tx_broadcast = Some(1));
    let frame = packet::gratuitous_arp(mac(1), ip(A));
    for _ in 0..3 {
        b.worker.trace(&b.net, POD_A, &frame, b.now);
    }
    only(&b.send(POD_A, frame), POD_C);
}

/// Frames of pod/a that claim to be somebody else's.
fn spoofed(n: u32) -> Frame {
    let other = Mac([2, 0, 0, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    let address = packet::Addr::from(std::net::Ipv4Addr::from(0x0af4_0000 + n % 4096));
    let address = if address == ip(A) { ip(C) } else { address };
    let forged_reply = |sender, claimed: Mac| {
        let mut f = packet::arp_request(mac(1), sender, ip("10.244.0.17"));
        f.bytes[..6].copy_from_slice(&GATEWAY.0);
        f.bytes[21] = 2;
        f.bytes[22..28].copy_from_slice(&claimed.0);
        f
    };
    match n % 8 {
        // Another's address, inside and outside of the cluster.
        0 => FrameBuilder::new(address, ip(H1)).macs(mac(1), GATEWAY).udp(1, 2).build(),
        1 => FrameBuilder::new(ip(H2), ip(C)).macs(mac(1), MC).udp(1, 2).build(),
        // Another's MAC.
        2 => FrameBuilder::new(ip(A), ip(H1)).macs(other, GATEWAY).udp(1, 2).build(),
        // Forged ARP: request, reply.
        3 => packet::arp_request(mac(1), address, ip("10.244.0.17")),
        4 => forged_reply(address, mac(1)),
        5 => forged_reply(ip(A), other),
        // Gratuitous ARP for the gateway.
        6 => packet::gratuitous_arp(mac(1), ip("10.244.0.17")),
        // IPv6: another's address.
        _ => FrameBuilder::new(ip("2001:db8:a::bad"), ip("2001:db8:2::10"))
            .macs(mac(1), GATEWAY)
            .udp(1, 2)
            .build(),
    }
}

#[test]
fn of_100_000_spoofed_frames_none_is_forwarded_or_learned_and_all_are_counted() {
    let mut b = bench(|_| ());
    let learned = b.go(B, from(B, H1).udp(9, 9));
    assert_eq!(learned.len(), 1);
    let before = b.worker.accounting();
    for n in 0..100_000 {
        assert!(b.send_quietly(POD_A, spoofed(n)).is_empty(), "frame {n}");
    }
    let after = b.worker.accounting();
    assert!(after.balances());
    assert_eq!(after.received - before.received, 100_000);
    assert_eq!(after.dropped - before.dropped, 100_000);
    assert_eq!(after.originated, before.originated, "nothing was answered");
    assert_eq!(b.only_drop(), (Stage::Vnic, DropReason::SpoofGuard, "pod/a".into()));
    assert_eq!(b.worker.sessions().len(), 1);
    // Nobody believes any of it: pod/c and the gateway find pod/a where it is.
    only(&b.send(POD_C, from(C, A).macs(MC, mac(1)).udp(1, 2).build()), POD_A);
    only(&b.go(B, from(B, A).udp(1, 2)), POD_A);
    only(&b.send(POD_C, packet::arp_request(MC, ip(C), ip("10.244.0.17"))), POD_C);
}

#[test]
fn without_spoofguard_an_address_is_no_matter_and_stations_still_do_not_move() {
    let mut net = lab();
    vnic(&mut net, POD_A).spoof_guard = false;
    let mut b = Bench::new(net);
    b.introduce_all();
    let claim = FrameBuilder::new(ip("10.244.0.30"), ip(C)).macs(mac(1), MC).udp(1, 2).build();
    assert_eq!(only(&b.send(POD_A, claim), POD_C).ip().unwrap().src, ip("10.244.0.30"));
    // With pod/c's MAC as its own: what is sent to pod/c still goes to pod/c.
    b.send(POD_A, FrameBuilder::new(ip(C), ip(B)).macs(MC, GATEWAY).udp(1, 2).build());
    only(&b.go(B, from(B, C).udp(5, 5)), POD_C);
}
