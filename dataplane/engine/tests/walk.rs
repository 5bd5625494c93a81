//! Packets through the network of step (a), each expected value worked out by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Stage};
use fixture::*;
use packet::{FrameBuilder, IcmpMessage, Payload, Time, Transport, tcp_flags::*};
use std::time::Duration;

fn udp(src: &str, dst: &str, from: packet::Mac) -> FrameBuilder {
    FrameBuilder::new(ip(src), ip(dst)).macs(from, GATEWAY).udp(4000, 53).payload(b"question")
}

/// From pod/a to the host outside.
fn out(flags: u8) -> packet::Frame {
    FrameBuilder::new(ip("10.244.0.18"), ip("192.0.2.10"))
        .macs(mac(1), GATEWAY)
        .tcp(40000, 443, flags)
        .build()
}

/// From the host outside to the SNAT address.
fn back(flags: u8, port: u16) -> packet::Frame {
    FrameBuilder::new(ip("192.0.2.10"), ip("172.16.2.2"))
        .macs(mac(9), UPLINK)
        .tcp(443, port, flags)
        .build()
}

#[test]
fn pods_of_two_segments_reach_each_other_by_the_tier_1() {
    let mut b = Bench::new(network());
    let tx = b.send(POD_A, udp("10.244.0.18", "10.244.0.34", mac(1)).build());
    let h = only(&tx, POD_B);
    assert_eq!((h.dst_mac, h.src_mac), (mac(2), GATEWAY));
    let ip4 = h.ip().unwrap();
    assert_eq!((ip4.src, ip4.dst, ip4.ttl), (ip("10.244.0.18"), ip("10.244.0.34"), 63));
    assert_eq!(ip4.ports(), (4000, 53));
    let a = b.worker.accounting();
    assert_eq!((a.received, a.delivered, a.originated, a.copies), (1, 1, 0, 0));
    assert_eq!(b.worker.sessions().len(), 1);
}

#[test]
fn the_gateway_answers_arp_and_floods_nothing() {
    let mut b = Bench::new(network());
    let tx = b.send(POD_A, packet::arp_request(mac(1), ip("10.244.0.18"), ip("10.244.0.17")));
    let h = only(&tx, POD_A);
    let Payload::Arp(arp) = h.payload else { panic!("{h:?}") };
    assert_eq!((arp.operation, arp.sender, arp.sender_mac), (2, ip("10.244.0.17"), GATEWAY));
    assert_eq!((h.dst_mac, arp.target_mac, arp.target), (mac(1), mac(1), ip("10.244.0.18")));
    // Another segment's gateway is none of this segment's.
    assert!(
        b.send(POD_A, packet::arp_request(mac(1), ip("10.244.0.18"), ip("10.244.0.33"))).is_empty()
    );
}

#[test]
fn snat_keeps_the_port_and_takes_the_reply_back() {
    let mut b = Bench::new(network());
    // The Tier-0 does not know the host outside yet: the packet waits while it asks.
    let tx = b.send(POD_A, out(SYN));
    let Payload::Arp(arp) = only(&tx, EXT).payload else { panic!("no request") };
    assert_eq!((arp.operation, arp.sender, arp.target), (1, ip("192.0.2.1"), ip("192.0.2.10")));
    assert_eq!(b.worker.accounting().held, 1);
    assert!(b.worker.sessions().is_empty(), "a waiting packet has made no session");
    let request = packet::parse(&tx[0].1.bytes).unwrap();
    let tx = b.send(EXT, packet::arp_reply(&request, mac(9)).unwrap());
    let h = only(&tx, EXT);
    let ip4 = h.ip().unwrap();
    assert_eq!((ip4.src, ip4.dst, ip4.ttl), (ip("172.16.2.2"), ip("192.0.2.10"), 62));
    assert_eq!(ip4.ports(), (40000, 443));
    assert_eq!((h.dst_mac, h.src_mac), (mac(9), UPLINK));
    assert_eq!(b.worker.accounting().held, 0);

    let h = only(&b.send(EXT, back(SYN | ACK, 40000)), POD_A);
    let ip4 = h.ip().unwrap();
    assert_eq!((ip4.src, ip4.dst, ip4.ttl), (ip("192.0.2.10"), ip("10.244.0.18"), 62));
    assert_eq!(ip4.ports(), (443, 40000));
    assert_eq!((h.dst_mac, h.src_mac), (mac(1), GATEWAY));
}

#[test]
fn a_taken_port_is_never_given_to_a_second_client() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    assert_eq!(only(&b.send(POD_A, out(SYN)), EXT).ip().unwrap().ports().0, 40000);
    let second = FrameBuilder::new(ip("10.244.0.34"), ip("192.0.2.10"))
        .macs(mac(2), GATEWAY)
        .tcp(40000, 443, SYN)
        .build();
    let other = only(&b.send(POD_B, second), EXT).ip().unwrap().ports().0;
    assert_ne!(other, 40000);
    assert!(other >= 1024);
    // Replies find their way apart.
    assert_eq!(only(&b.send(EXT, back(SYN | ACK, 40000)), POD_A).ip().unwrap().ports().1, 40000);
    let h = only(&b.send(EXT, back(SYN | ACK, other)), POD_B);
    assert_eq!((h.ip().unwrap().dst, h.ip().unwrap().ports().1), (ip("10.244.0.34"), 40000));
}

#[test]
fn no_snat_outranks_snat_and_remembers_the_flow() {
    let mut b = Bench::new(network());
    b.send(EXT, packet::arp_request(mac(9), ip("192.0.2.77"), ip("192.0.2.1")));
    let h = only(&b.send(POD_A, udp("10.244.0.18", "192.0.2.77", mac(1)).build()), EXT);
    assert_eq!(h.ip().unwrap().src, ip("10.244.0.18"));
    let reply = FrameBuilder::new(ip("192.0.2.77"), ip("10.244.0.18"))
        .macs(mac(9), UPLINK)
        .udp(53, 4000)
        .build();
    assert_eq!(only(&b.send(EXT, reply), POD_A).ip().unwrap().src, ip("192.0.2.77"));
}

#[test]
fn outside_cannot_begin_a_flow_to_a_private_address() {
    let mut b = Bench::new(network());
    let frame = FrameBuilder::new(ip("192.0.2.10"), ip("10.244.0.18"))
        .macs(mac(9), UPLINK)
        .udp(1, 2)
        .build();
    assert!(b.send(EXT, frame).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::PrivateDestination, "t1".into()));
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn an_unsolicited_packet_to_the_snat_address_is_dropped() {
    let mut b = Bench::new(network());
    assert!(b.send(EXT, back(SYN, 40000)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NoSession, "t1".into()));
}

#[test]
fn nat_begins_with_a_syn_only() {
    for flags in [ACK, SYN | ACK, RST, FIN | ACK, RST | ACK] {
        let mut b = Bench::new(network());
        b.introduce_ext();
        assert!(b.send(POD_A, out(flags)).is_empty());
        assert_eq!(b.only_drop(), (Stage::DfwOut, DropReason::NotSyn, "pod/a".into()), "{flags:x}");
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn spoofed_sources_are_dropped() {
    let frames = [
        udp("10.244.0.34", "10.244.0.34", mac(1)).build(),
        udp("10.244.0.18", "10.244.0.34", mac(2)).build(),
        packet::arp_request(mac(1), ip("10.244.0.17"), ip("10.244.0.18")),
        packet::gratuitous_arp(mac(1), ip("10.244.0.17")),
    ];
    for frame in frames {
        let mut b = Bench::new(network());
        assert!(b.send(POD_A, frame).is_empty());
        assert_eq!(b.only_drop(), (Stage::Vnic, DropReason::SpoofGuard, "pod/a".into()));
    }
}

#[test]
fn ttl_expires_at_the_right_router_with_the_right_address() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    for (ttl, from) in [(1, "10.244.0.17"), (2, "100.64.0.0")] {
        let frame = udp("10.244.0.18", "192.0.2.10", mac(1)).ttl(ttl).build();
        let h = only(&b.send(POD_A, frame), POD_A);
        let ip4 = h.ip().unwrap();
        assert_eq!((ip4.src, ip4.dst), (ip(from), ip("10.244.0.18")));
        let Transport::Icmp(icmp) = ip4.transport else { panic!("{h:?}") };
        assert_eq!((icmp.kind, icmp.code), (11, 0));
        // The sender sees the packet that it sent, not what NAT made of it.
        let IcmpMessage::Error(e) = icmp.message else { panic!("{icmp:?}") };
        assert_eq!(
            (e.src, e.dst, e.src_port, e.dst_port),
            (ip("10.244.0.18"), ip("192.0.2.10"), 4000, 53)
        );
    }
    assert!(b.worker.sessions().is_empty(), "a packet that died on the way left no session");
    let h = only(&b.send(POD_A, udp("10.244.0.18", "192.0.2.10", mac(1)).ttl(3).build()), EXT);
    assert_eq!(h.ip().unwrap().ttl, 1);
}

#[test]
fn too_large_with_df_is_told_the_mtu_and_without_df_cut() {
    let mut net = network();
    net.routers[0].interfaces[0].mtu = 1000;
    let big = |df| {
        FrameBuilder::new(ip("10.244.0.18"), ip("192.0.2.10"))
            .macs(mac(1), GATEWAY)
            .udp(4000, 53)
            .payload(&[7; 1400])
            .dont_fragment(df)
            .build()
    };
    let mut b = Bench::new(net);
    b.introduce_ext();
    let h = only(&b.send(POD_A, big(true)), POD_A);
    let ip4 = h.ip().unwrap();
    let Transport::Icmp(icmp) = ip4.transport else { panic!("{h:?}") };
    assert_eq!((icmp.kind, icmp.code, ip4.src), (3, 4, ip("100.64.0.0")));
    let frame = b.send(POD_A, big(true));
    assert_eq!(&frame[0].1.bytes[14 + 20 + 6..14 + 20 + 8], &1000u16.to_be_bytes(), "next-hop MTU");
    let tx = b.send(POD_A, big(false));
    assert_eq!(tx.len(), 2, "1428 octets in pieces of at most 1000");
    for (port, frame) in &tx {
        assert_eq!(*port, EXT);
        let h = packet::parse(&frame.bytes).unwrap();
        assert!(h.ip().unwrap().total_len <= 1000);
        assert_eq!(h.ip().unwrap().src, ip("172.16.2.2"));
    }
    let a = b.worker.accounting();
    assert!(a.balances());
}

#[test]
fn an_absent_neighbour_is_asked_three_times_and_then_reported() {
    let mut b = Bench::new(network());
    let asked = b.send(POD_A, udp("10.244.0.18", "192.0.2.99", mac(1)).build());
    assert_eq!(asked.len(), 1);
    assert_eq!(b.advance(Time::from_millis(2_999)).len(), 2, "again after 1 s and 2 s");
    let tx = b.advance(Time::from_secs(3));
    let h = only(&tx, POD_A);
    let ip4 = h.ip().unwrap();
    let Transport::Icmp(icmp) = ip4.transport else { panic!("{h:?}") };
    assert_eq!((icmp.kind, icmp.code, ip4.src), (3, 1, ip("100.64.0.0")));
    assert_eq!(b.only_drop(), (Stage::Neighbor, DropReason::NeighborUnresolved, "t0".into()));
    assert_eq!(b.worker.accounting().held, 0);
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn no_route_is_host_unreachable_from_the_gateway() {
    let mut net = network();
    net.routers[1].fib = Fib::default();
    let mut b = Bench::new(net);
    let h = only(&b.send(POD_A, udp("10.244.0.18", "192.168.10.10", mac(1)).build()), POD_A);
    let ip4 = h.ip().unwrap();
    let Transport::Icmp(icmp) = ip4.transport else { panic!("{h:?}") };
    // F15: From 10.244.0.17, type 3 code 1.
    assert_eq!((icmp.kind, icmp.code, ip4.src), (3, 1, ip("10.244.0.17")));
}

#[test]
fn an_icmp_error_from_outside_is_translated_inside_and_out() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    let sent = b.send(POD_A, udp("10.244.0.18", "192.0.2.10", mac(1)).build());
    let h = only(&sent, EXT);
    // A router on the way says: too large, 1400.
    let error = packet::icmp_error(
        &sent[0].1,
        &h,
        packet::IcmpErrorKind::FragmentationNeeded { mtu: 1400 },
        ip("192.0.2.200"),
    )
    .unwrap();
    let h = only(&b.send(EXT, error), POD_A);
    let ip4 = h.ip().unwrap();
    assert_eq!((ip4.src, ip4.dst), (ip("192.0.2.200"), ip("10.244.0.18")));
    let e = ip4.embedded().unwrap();
    assert_eq!(
        (e.src, e.dst, e.src_port, e.dst_port),
        (ip("10.244.0.18"), ip("192.0.2.10"), 4000, 53)
    );
    // One about a packet that nobody sent is dropped.
    let forged = FrameBuilder::new(ip("172.16.2.2"), ip("192.0.2.10"))
        .macs(UPLINK, mac(9))
        .udp(4001, 53)
        .build();
    let forged = packet::icmp_error(
        &forged,
        &packet::parse(&forged.bytes).unwrap(),
        packet::IcmpErrorKind::PortUnreachable,
        ip("192.0.2.10"),
    )
    .unwrap();
    assert!(b.send(EXT, forged).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::IcmpUnmatched, "t1".into()));
}

#[test]
fn the_gateway_answers_ping_and_the_reply_needs_no_session() {
    let mut b = Bench::new(network());
    for target in ["10.244.0.17", "100.64.0.0", "192.0.2.1"] {
        let frame = FrameBuilder::new(ip("10.244.0.18"), ip(target))
            .macs(mac(1), GATEWAY)
            .echo_request(9, 1)
            .payload(b"abc")
            .build();
        let h = only(&b.send(POD_A, frame), POD_A);
        assert_eq!((h.ip().unwrap().src, h.ip().unwrap().dst), (ip(target), ip("10.244.0.18")));
    }
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn a_denied_packet_leaves_nothing_and_names_its_rule() {
    let mut net = network();
    net.firewall.rules = vec![
        rule(1001, "10.244.0.18/32", "any", tcp(80), Action::Allow),
        rule(1002, "any", "any", Vec::new(), Action::Drop),
    ];
    net.ports[1].vnic.as_mut().unwrap().rules_in = vec![0, 1].into();
    let mut b = Bench::new(net);
    let to_b = |port, flags| {
        FrameBuilder::new(ip("10.244.0.18"), ip("10.244.0.34"))
            .macs(mac(1), GATEWAY)
            .tcp(40000, port, flags)
            .build()
    };
    assert!(b.send(POD_A, to_b(81, SYN)).is_empty());
    assert_eq!(b.only_drop(), (Stage::DfwIn, DropReason::Firewall, "pod/b".into()));
    let key = b.worker.drops().keys().next().unwrap().rule;
    assert_eq!(key, Some(engine::RuleKey::Firewall(1002)));
    assert!(b.worker.sessions().is_empty());
    only(&b.send(POD_A, to_b(80, SYN)), POD_B);
    // The reply needs no rule: the session lets it pass, though pod/b has no rule that would.
    let reply = FrameBuilder::new(ip("10.244.0.34"), ip("10.244.0.18"))
        .macs(mac(2), GATEWAY)
        .tcp(80, 40000, SYN | ACK)
        .build();
    only(&b.send(POD_B, reply), POD_A);
}

#[test]
fn reject_answers_as_the_host_would_have_been_addressed() {
    let mut net = network();
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Reject)];
    net.ports[1].vnic.as_mut().unwrap().rules_in = vec![0].into();
    let mut b = Bench::new(net);
    let syn = FrameBuilder::new(ip("10.244.0.18"), ip("10.244.0.34"))
        .macs(mac(1), GATEWAY)
        .tcp(40000, 80, SYN)
        .seq(77)
        .build();
    let h = only(&b.send(POD_A, syn), POD_A);
    let tcp = h.ip().unwrap().tcp().unwrap();
    assert_eq!(
        (h.ip().unwrap().src, tcp.flags, tcp.seq, tcp.ack),
        (ip("10.244.0.34"), RST | ACK, 0, 78)
    );
    let h = only(&b.send(POD_A, udp("10.244.0.18", "10.244.0.34", mac(1)).build()), POD_A);
    let Transport::Icmp(icmp) = h.ip().unwrap().transport else { panic!("{h:?}") };
    assert_eq!((icmp.kind, icmp.code, h.ip().unwrap().src), (3, 13, ip("10.244.0.34")));
}

#[test]
fn each_stage_forgets_by_its_own_timer() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    b.send(POD_A, out(SYN));
    b.send(EXT, back(SYN | ACK, 40000));
    b.send(POD_A, out(ACK));
    // features.md 4: gateway 7200 s, distributed firewall 43200 s.
    b.advance(Time::from_secs(7_199));
    assert_eq!(b.worker.sessions()[0].records.len(), 2);
    b.advance(Time::from_secs(7_200));
    let left = b.worker.sessions();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].records.len(), 1, "the NAT binding has gone, the firewall remembers");
    assert!(b.send(EXT, back(ACK, 40000)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NoSession, "t1".into()));
    b.advance(Time::from_secs(43_199));
    assert_eq!(b.worker.sessions().len(), 1);
    b.advance(Time::from_secs(43_200));
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn ipv6_ping_takes_the_same_way() {
    let mut b = Bench::new(network());
    let tx = b.send(
        POD_A,
        packet::neighbor_solicitation(mac(1), ip("2001:db8:a::12"), ip("2001:db8:a::1")),
    );
    let h = only(&tx, POD_A);
    assert!(matches!(
        h.ip().unwrap().transport,
        Transport::Icmp(packet::Icmp {
            message: IcmpMessage::NeighborAdvertisement { target_mac: Some(GATEWAY), .. },
            ..
        })
    ));
    let ping = FrameBuilder::new(ip("2001:db8:a::12"), ip("2001:db8:b::22"))
        .macs(mac(1), GATEWAY)
        .echo_request(5, 1)
        .payload(b"six")
        .build();
    let h = only(&b.send(POD_A, ping), POD_B);
    assert_eq!((h.dst_mac, h.ip().unwrap().ttl), (mac(2), 63));
    let pong = FrameBuilder::new(ip("2001:db8:b::22"), ip("2001:db8:a::12"))
        .macs(mac(2), GATEWAY)
        .echo_reply(5, 1)
        .payload(b"six")
        .build();
    only(&b.send(POD_B, pong), POD_A);
    let expired = FrameBuilder::new(ip("2001:db8:a::12"), ip("2001:db8:b::22"))
        .macs(mac(1), GATEWAY)
        .ttl(1)
        .echo_request(6, 1)
        .build();
    let h = only(&b.send(POD_A, expired), POD_A);
    let Transport::Icmp(icmp) = h.ip().unwrap().transport else { panic!("{h:?}") };
    assert_eq!((icmp.kind, icmp.code, h.ip().unwrap().src), (3, 0, ip("2001:db8:a::1")));
}

#[test]
fn later_packets_come_from_the_cache_and_guards_hold() {
    let mut b = Bench::new(network());
    let frame = udp("10.244.0.18", "10.244.0.34", mac(1)).build();
    for _ in 0..3 {
        only(&b.send(POD_A, frame.clone()), POD_B);
    }
    assert_eq!(b.worker.cached(), 1);
    // Another source MAC on the same flow is a spoof, cache or not.
    assert!(b.send(POD_A, udp("10.244.0.18", "10.244.0.34", mac(2)).build()).is_empty());
    // A TTL that runs out is answered, cache or not.
    let h = only(&b.send(POD_A, udp("10.244.0.18", "10.244.0.34", mac(1)).ttl(1).build()), POD_A);
    assert_eq!(h.ip().unwrap().src, ip("10.244.0.17"));
    assert_eq!(b.worker.sessions()[0].traffic[0].packets, 3);
}

#[test]
fn a_rule_that_changes_takes_effect_on_a_live_flow() {
    let mut b = Bench::new(network());
    let frame = udp("10.244.0.18", "10.244.0.34", mac(1)).build();
    for _ in 0..3 {
        only(&b.send(POD_A, frame.clone()), POD_B);
    }
    b.net.epoch += 1;
    b.net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
    b.net.ports[1].vnic.as_mut().unwrap().rules_in = vec![0].into();
    assert!(b.send(POD_A, frame).is_empty());
    assert_eq!(b.only_drop().1, DropReason::Firewall);
    assert!(b.worker.sessions().is_empty());
    b.advance(b.now + Duration::from_secs(1));
}

/// The network with a ClusterIP, 10.96.0.10:53, whose only member is pod/b.
fn with_dns() -> Network {
    let mut net = network();
    let member =
        Member { address: ip("10.244.0.34"), port: 53, name: "pod/b".into(), hypervisor: None };
    net.distributed_balancer = VirtualServers::new(
        vec![VirtualServer {
            name: "dns".into(),
            address: ip("10.96.0.10"),
            protocol: 17,
            port: 53,
            members: vec![member],
            snat: PoolSnat::Transparent,
            local_only: false,
            affinity: None,
            source_ranges: Vec::new(),
            no_members: NoMembers::Reject,
        }],
        Vec::new(),
    );
    net
}

#[test]
fn a_clusterip_flow_beside_a_direct_one_from_the_same_port_gets_another() {
    let mut b = Bench::new(with_dns());
    let direct = udp("10.244.0.18", "10.244.0.34", mac(1)).build();
    let service = udp("10.244.0.18", "10.96.0.10", mac(1)).build();
    assert_eq!(only(&b.send(POD_A, direct), POD_B).ip().unwrap().ports(), (4000, 53));
    let (port, _) = only(&b.send(POD_A, service), POD_B).ip().unwrap().ports();
    assert_ne!(port, 4000);
    let reply = |to| {
        FrameBuilder::new(ip("10.244.0.34"), ip("10.244.0.18"))
            .macs(mac(2), GATEWAY)
            .udp(53, to)
            .build()
    };
    let h = only(&b.send(POD_B, reply(4000)), POD_A);
    assert_eq!((h.ip().unwrap().src, h.ip().unwrap().ports()), (ip("10.244.0.34"), (53, 4000)));
    let h = only(&b.send(POD_B, reply(port)), POD_A);
    assert_eq!((h.ip().unwrap().src, h.ip().unwrap().ports()), (ip("10.96.0.10"), (53, 4000)));
}

#[test]
fn illegal_flags_and_blind_resets_are_dropped() {
    let segment = |from: &str, to: &str, own, ports: (u16, u16), flags, seq, ack| {
        let f = FrameBuilder::new(ip(from), ip(to))
            .macs(own, GATEWAY)
            .tcp(ports.0, ports.1, flags)
            .seq(seq);
        if flags & ACK != 0 { f.ack(ack).build() } else { f.build() }
    };
    let to_b = |flags, seq, ack| {
        segment("10.244.0.18", "10.244.0.34", mac(1), (40000, 80), flags, seq, ack)
    };
    let to_a = |flags, seq, ack| {
        segment("10.244.0.34", "10.244.0.18", mac(2), (80, 40000), flags, seq, ack)
    };
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | PSH | URG] {
        let mut b = Bench::new(network());
        assert!(b.send(POD_A, to_b(flags, 1, 0)).is_empty());
        assert_eq!(b.only_drop(), (Stage::Vnic, DropReason::TcpFlags, "pod/a".into()));
    }
    for cache in [true, false] {
        let mut b = Bench::with_cache(network(), cache);
        only(&b.send(POD_A, to_b(SYN, 99, 0)), POD_B);
        only(&b.send(POD_B, to_a(SYN | ACK, 499, 100)), POD_A);
        // The last two of these come from the cache.
        for seq in [100, 100, 100] {
            only(&b.send(POD_A, to_b(ACK, seq, 500)), POD_B);
            only(&b.send(POD_B, to_a(ACK, 500, seq)), POD_A);
        }
        assert!(b.send(POD_B, to_a(RST, 4_000_000, 0)).is_empty());
        assert_eq!(b.only_drop(), (Stage::DfwOut, DropReason::TcpWindow, "pod/b".into()));
        only(&b.send(POD_A, to_b(ACK, 100, 500)), POD_B);
        only(&b.send(POD_B, to_a(RST, 500, 0)), POD_A);
        assert_eq!(b.worker.sessions()[0].progress.timer_state(), engine::TimerState::TcpClosed);
    }
}

#[test]
fn a_rule_that_is_not_strict_picks_a_connection_up() {
    let with = |strict| {
        let mut net = network();
        let mut allow = rule(1001, "any", "any", Vec::new(), Action::Allow);
        allow.strict = strict;
        net.firewall.rules = vec![allow];
        for port in [0, 1] {
            let vnic = net.ports[port].vnic.as_mut().unwrap();
            (vnic.rules_in, vnic.rules_out) = ([0].into(), [0].into());
        }
        Bench::new(net)
    };
    let to_b = |flags| {
        let f = FrameBuilder::new(ip("10.244.0.18"), ip("10.244.0.34")).macs(mac(1), GATEWAY);
        f.tcp(40000, 80, flags).ack(9).build()
    };
    let mut b = with(false);
    for flags in [FIN | ACK, RST | ACK, SYN | ACK] {
        assert!(b.send(POD_A, to_b(flags)).is_empty(), "{flags:x}");
    }
    only(&b.send(POD_A, to_b(ACK)), POD_B);
    assert_eq!(b.worker.sessions()[0].progress.timer_state(), engine::TimerState::TcpEstablished);
    let mut b = with(true);
    assert!(b.send(POD_A, to_b(ACK)).is_empty());
    assert_eq!(b.only_drop().1, DropReason::NotSyn);
}

#[test]
fn what_a_router_answers_passes_the_routers_before_it() {
    let mut b = Bench::new(network());
    b.introduce_ext();
    // Time exceeded at the Tier-0: the Tier-1 takes one from the answer's TTL, and took one from the
    // packet that is quoted (RFC 1812, 4.3.2.3: as the router received it).
    let expired = udp("10.244.0.18", "192.0.2.10", mac(1)).ttl(2).build();
    let tx = b.send(POD_A, expired);
    assert_eq!(only(&tx, POD_A).ip().unwrap().ttl, 63);
    assert_eq!(tx[0].1.bytes[14 + 20 + 8 + 8], 1, "TTL in the quote");
    // The quote's own header checksum is right.
    let quote = &tx[0].1.bytes[14 + 20 + 8..14 + 20 + 8 + 20];
    assert_eq!(etherparse::Ipv4Header::from_slice(quote).unwrap().0.calc_header_checksum(), {
        u16::from_be_bytes([quote[10], quote[11]])
    });
    let expired = udp("10.244.0.18", "192.0.2.10", mac(1)).ttl(1).build();
    assert_eq!(only(&b.send(POD_A, expired), POD_A).ip().unwrap().ttl, 64);
    let ping = |to: &str| {
        let f = FrameBuilder::new(ip("10.244.0.18"), ip(to)).macs(mac(1), GATEWAY);
        f.echo_request(1, 1).build()
    };
    assert_eq!(only(&b.send(POD_A, ping("10.244.0.17")), POD_A).ip().unwrap().ttl, 64);
    assert_eq!(only(&b.send(POD_A, ping("192.0.2.1")), POD_A).ip().unwrap().ttl, 63);
    // A reset in the name of a pod behind the Tier-1.
    let mut net = network();
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Reject)];
    net.ports[1].vnic.as_mut().unwrap().rules_in = [0].into();
    let mut b = Bench::new(net);
    let syn = FrameBuilder::new(ip("10.244.0.18"), ip("10.244.0.34")).macs(mac(1), GATEWAY);
    let syn = syn.tcp(40000, 80, SYN).build();
    assert_eq!(only(&b.send(POD_A, syn), POD_A).ip().unwrap().ttl, 63);
}

#[test]
fn a_direct_flow_beside_a_clusterip_one_from_the_same_port_gets_another() {
    let mut b = Bench::new(with_dns());
    let service = udp("10.244.0.18", "10.96.0.10", mac(1)).build();
    let direct = udp("10.244.0.18", "10.244.0.34", mac(1)).build();
    only(&b.send(POD_A, service.clone()), POD_B);
    for _ in 0..3 {
        let (port, _) = only(&b.send(POD_A, direct.clone()), POD_B).ip().unwrap().ports();
        assert_ne!(port, 4000);
        let reply = FrameBuilder::new(ip("10.244.0.34"), ip("10.244.0.18")).macs(mac(2), GATEWAY);
        let h = only(&b.send(POD_B, reply.udp(53, port).build()), POD_A);
        assert_eq!((h.ip().unwrap().src, h.ip().unwrap().ports()), (ip("10.244.0.34"), (53, 4000)));
    }
    assert_eq!(only(&b.send(POD_A, service), POD_B).ip().unwrap().ports().0, 4000);
    assert_eq!(b.worker.sessions().len(), 2);
}

#[test]
fn a_workload_that_takes_a_place_over_inherits_no_session() {
    let closed = |net: &mut Network| {
        net.epoch += 1;
        net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
        net.ports[1].vnic.as_mut().unwrap().rules_in = [0].into();
    };
    // The same address and port index, another pod: what the old one was answered is not the new one's.
    let mut b = Bench::new(network());
    only(&b.send(POD_A, udp("10.244.0.18", "10.244.0.34", mac(1)).build()), POD_B);
    b.net.ports[0].name = "pod/another".into();
    b.net.epoch += 1;
    let reply = FrameBuilder::new(ip("10.244.0.34"), ip("10.244.0.18")).macs(mac(2), GATEWAY);
    let reply = reply.udp(53, 4000).build();
    only(&b.send(POD_B, reply), POD_A);
    assert_eq!(b.worker.sessions().len(), 1);
    assert_eq!(b.worker.sessions()[0].initiating.src, ip("10.244.0.34"), "a session of its own");
    // An unchanged workload keeps what it has, also when others go.
    let mut b = Bench::new(network());
    b.introduce_ext();
    only(&b.send(POD_B, udp("10.244.0.34", "192.0.2.10", mac(2)).build()), EXT);
    only(&b.send(POD_A, udp("10.244.0.18", "192.0.2.10", mac(1)).build()), EXT);
    b.net.ports[0].name = "pod/another".into();
    closed(&mut b.net);
    let back = FrameBuilder::new(ip("192.0.2.10"), ip("172.16.2.2")).macs(mac(9), UPLINK);
    only(&b.send(EXT, back.udp(53, 4000).build()), POD_B);
    assert_eq!(b.worker.sessions().len(), 1);
}
