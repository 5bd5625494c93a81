//! What a hostile sender, or bad luck, could get past the engine: one test a way, each found by reading
//! the code against design.md, reliability.md and the RFCs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Node, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{FrameBuilder, Icmp, IcmpErrorKind, Mac, Time, Transport, tcp_flags::*};
use std::time::Duration;

fn reasons(b: &Bench) -> Vec<(Stage, DropReason, String)> {
    b.worker.drops().keys().map(|k| (k.stage, k.reason, k.object.clone())).collect()
}

// ---- a routed packet whose next hop's port is unknown (MAC table 300 s, ARP table 1200 s) ----

/// The host outside has been silent for 301 s: the Tier-0 knows its MAC, the switch no longer its port.
fn silent_host(net: Network) -> Bench {
    let mut b = Bench::new(net);
    b.introduce_all();
    b.advance(Time::from_secs(301));
    b
}

#[test]
fn a_flooded_routed_packet_commits_its_session() {
    let mut b = silent_host(lab());
    let tx = b.go(A, from(A, H1).udp(40000, 53));
    assert_eq!(tx.len(), 3, "unknown unicast goes to every port outside");
    for (_, frame) in &tx {
        assert_eq!(headers(frame).ip().unwrap().src, ip("172.16.2.2"));
    }
    assert_eq!(b.worker.sessions().len(), 1, "a packet that left by SNAT has a session");
    let reply = b.go(H1, from(H1, "172.16.2.2").udp(53, 40000));
    assert_eq!(seen(&reply), [(POD_A, format!("{H1}:53 > {A}:40000"))]);
}

#[test]
fn two_flooded_flows_never_share_a_nat_port() {
    let mut b = silent_host(lab());
    let first = b.go(A, from(A, H1).udp(40000, 53));
    let second = b.go(B, from(B, H1).udp(40000, 53));
    let port = |tx: &[(PortId, packet::Frame)]| headers(&tx[0].1).ip().unwrap().ports().0;
    assert_ne!(port(&first), port(&second));
}

#[test]
fn a_flooded_routed_packet_is_cut_to_the_mtu() {
    let mut net = lab();
    net.routers[0].interfaces[0].mtu = 1000;
    let mut b = silent_host(net);
    let tx = b.go(A, from(A, H1).udp(1, 2).payload(&[0; 1400]).dont_fragment(false));
    for (_, frame) in &tx {
        assert!(packet::parse(&frame.bytes).unwrap().ip().unwrap().total_len <= 1000);
    }
}

#[test]
fn a_flooded_icmp_error_quotes_no_pod_address() {
    let mut b = Bench::new(balanced(PoolSnat::Automap(ip(AUTO))));
    b.introduce_all();
    let request = b.go(H1, from(H1, VIP).udp(5000, 53));
    let (port, frame) = &request[0];
    assert_eq!(*port, POD_A);
    let error =
        packet::icmp_error(frame, &headers(frame), IcmpErrorKind::PortUnreachable, ip(A)).unwrap();
    // The switch outside forgets its stations; the Tier-0 still knows the host's MAC.
    b.net.epoch += 1;
    b.net.timers.mac_age = Duration::from_secs(1);
    b.advance(Time::from_secs(2));
    let tx = b.send(POD_A, error);
    assert!(!tx.is_empty());
    for (_, frame) in &tx {
        let h = headers(frame);
        let e = h.ip().unwrap().embedded().unwrap();
        assert_eq!((e.src, e.dst), (ip(H1), ip(VIP)), "as the client sent it");
    }
}

// ---- addresses that must not leave (promise 7) ----

#[test]
fn outside_gets_no_echo_reply_from_a_private_or_transit_address() {
    for target in ["10.244.0.17", "10.244.0.33", "100.64.0.0", "100.64.0.1"] {
        let mut net = lab();
        // As the realization would: everything that must not be seen outside is private.
        net.routers[0].private =
            vec![prefix("10.244.0.0/20"), prefix("100.64.0.0/16"), prefix("10.96.0.0/23")];
        let mut b = Bench::new(net);
        b.introduce_all();
        let tx = b.go(H1, from(H1, target).echo_request(1, 1));
        assert!(tx.is_empty(), "ping of {target} from outside: {:?}", lines(&tx));
    }
}

#[test]
fn an_icmp_error_from_a_second_address_is_not_sent_out_untranslated() {
    let mut net = lab();
    vnic(&mut net, POD_A).addresses.push(ip("10.244.0.20"));
    let mut b = Bench::new(net);
    b.introduce_all();
    b.go(A, from(A, H1).udp(40000, 53));
    let reply = b.go(H1, from(H1, "172.16.2.2").udp(53, 40000));
    let (_, frame) = &reply[0];
    let error = packet::icmp_error(
        frame,
        &headers(frame),
        IcmpErrorKind::PortUnreachable,
        ip("10.244.0.20"),
    )
    .unwrap();
    for (_, frame) in b.send(POD_A, error) {
        assert!(!prefix("10.244.0.0/20").contains(headers(&frame).ip().unwrap().src));
    }
}

#[test]
fn an_any_any_snat_rule_leaves_ipv6_alone() {
    let mut net = lab();
    // The article's own rule is SNAT Any Any (F9).
    net.routers[1].nat = NatTable::new(vec![NatRule::new(
        1,
        "snat",
        1000,
        NatAction::Snat(AddressRange::host(ip("172.16.2.2"))),
    )]);
    let mut b = Bench::new(net);
    let host = ip("2001:db8:2::10");
    b.send(EXT, packet::neighbor_solicitation(M1, host, ip("2001:db8:2::1")));
    let frame =
        FrameBuilder::new(ip("2001:db8:a::12"), host).macs(mac(1), GATEWAY).udp(40000, 53).build();
    let h = only(&b.send(POD_A, frame), EXT);
    let out = h.ip().unwrap();
    assert_eq!((out.src, out.dst, out.ttl), (ip("2001:db8:a::12"), host, 62));
    for session in b.worker.sessions() {
        for r in &session.records {
            assert!(!r.after.src.is_v4(), "{}", r.after);
        }
    }
}

// ---- the firewall's blind spots ----

#[test]
fn routers_forward_no_neighbour_discovery() {
    let mut net = lab();
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
    vnic(&mut net, POD_B).rules_in = vec![0].into();
    let mut b = Bench::new(net);
    let target = ip("2001:db8:b::22");
    // A valid solicitation, hop limit 255, but to an address beyond the link.
    let mut body = vec![0; 0];
    body.extend_from_slice(&target.0.to_be_bytes());
    let frame = FrameBuilder::new(ip("2001:db8:a::12"), target)
        .macs(mac(1), GATEWAY)
        .ttl(255)
        .icmp(135, 0, [0; 4])
        .payload(&body)
        .build();
    let tx = b.send(POD_A, frame);
    assert!(tx.is_empty(), "past the firewall of pod/b: {:?}", lines(&tx));
}

#[test]
fn an_allowed_timestamp_query_stays_allowed() {
    let mut net = lab();
    let timestamp =
        Service { protocol: 1, ports: ServicePorts::Icmp(IcmpMatch { kind: 13, code: None }) };
    net.firewall.rules = vec![
        rule(1001, "any", "any", vec![timestamp], Action::Allow),
        rule(1002, "any", "any", Vec::new(), Action::Drop),
    ];
    vnic(&mut net, POD_B).rules_in = vec![0, 1].into();
    let mut b = Bench::new(net);
    let ask = || from(A, B).icmp(13, 0, [0, 7, 0, 1]).payload(&[0; 12]);
    only(&b.go(A, ask()), POD_B);
    only(&b.go(A, ask()), POD_B);
    let answer = from(B, A).icmp(14, 0, [0, 7, 0, 1]).payload(&[0; 12]);
    only(&b.go(B, answer), POD_A);
}

#[test]
fn an_echo_session_lets_no_timestamp_query_pass() {
    let mut net = lab();
    let echo =
        Service { protocol: 1, ports: ServicePorts::Icmp(IcmpMatch { kind: 8, code: Some(0) }) };
    net.firewall.rules = vec![
        rule(1001, "any", "any", vec![echo], Action::Allow),
        rule(1002, "any", "any", Vec::new(), Action::Drop),
    ];
    vnic(&mut net, POD_B).rules_in = vec![0, 1].into();
    let mut b = Bench::new(net);
    only(&b.go(A, from(A, B).echo_request(7, 1)), POD_B);
    let tx = b.go(A, from(A, B).icmp(13, 0, [0, 7, 0, 1]).payload(&[0; 12]));
    assert!(tx.is_empty(), "{:?}", lines(&tx));
}

// ---- address resolution ----

#[test]
fn no_neighbour_has_a_group_mac() {
    // RFC 1812, 3.3.2: a router must not believe an ARP message that claims so.
    for claimed in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), Mac::ZERO] {
        let mut b = Bench::new(lab());
        b.introduce_all();
        let mut frame = packet::arp_request(M1, ip(H1), ip("192.0.2.1"));
        frame.bytes[22..28].copy_from_slice(&claimed.0);
        b.send(EXT, frame);
        let h = only(&b.go(A, from(A, H1).udp(1, 2)), EXT);
        assert_eq!(h.dst_mac, M1, "claimed {claimed}");
    }
}

#[test]
fn a_station_that_moved_is_not_moved_back_by_a_late_report() {
    for cache in [true, false] {
        let mut b = Bench::with_cache(lab(), cache);
        b.audit = false;
        b.introduce_all();
        // H1 sends to H2 on the same network: cached, observations unreported.
        let f = || from(H1, H2).macs(M1, M2).udp(1, 2);
        for _ in 0..3 {
            only(&b.go(H1, f()), EXT2);
        }
        b.now = Time::from_secs(1);
        // H1's cable is put into another port.
        only(&b.send(EXT3, f().build()), EXT2);
        let _ = b.worker.accounting();
        let h = b.go(H2, from(H2, H1).macs(M2, M1).udp(2, 1));
        assert_eq!(h.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [EXT3], "cache {cache}");
    }
}

// ---- sessions and timers ----

#[test]
fn a_stage_that_comes_back_to_a_session_keeps_its_own_timer() {
    // The balancer remembers 300 s, the firewall of pod/a 30 s after the last of several datagrams.
    let mut b = Bench::new(balanced(PoolSnat::Automap(ip(AUTO))));
    b.introduce_all();
    let ask = || from(H1, VIP).udp(5000, 53);
    only(&b.go(H1, ask()), POD_A);
    b.advance(Time::from_secs(100));
    assert_eq!(b.worker.sessions()[0].records.len(), 1, "udp-first in the firewall: 60 s");
    only(&b.go(H1, ask()), POD_A);
    assert_eq!(b.worker.sessions()[0].records.len(), 2);
    b.advance(Time::from_secs(129));
    assert_eq!(b.worker.sessions()[0].records.len(), 2);
    b.advance(Time::from_secs(130));
    assert_eq!(b.worker.sessions()[0].records.len(), 1, "udp-single in the firewall: 30 s");
}

#[test]
fn a_balancer_port_reused_by_another_client_is_another_session() {
    // The balancer forgets an idle connection after 1,800 s, the member's firewall after 43,200 s.
    let mut b = Bench::new(balanced(PoolSnat::Automap(ip(AUTO))));
    b.introduce_all();
    only(&b.go(H1, from(H1, VIP).tcp(5000, 53, SYN)), POD_A);
    only(&b.go(A, from(A, AUTO).tcp(53, 5000, SYN | ACK)), EXT);
    only(&b.go(H1, from(H1, VIP).tcp(5000, 53, ACK)), POD_A);
    // pod/b takes the second, so that the third comes to pod/a again.
    only(&b.go(H1, from(H1, VIP).tcp(5001, 53, SYN)), POD_B);
    b.advance(Time::from_secs(1_801));
    // The stations outside have aged.
    b.introduce_all();
    only(&b.go(H2, from(H2, VIP).tcp(5000, 53, SYN)), POD_A);
    let sessions = b.worker.sessions();
    let own = sessions
        .iter()
        .find(|s| s.records.iter().any(|r| r.node == Node::Gateway(T1) && r.before.src == ip(H2)));
    let own = own.unwrap();
    assert_eq!(own.initiating.src, ip(H2), "the session is its client's own");
    assert_eq!(own.traffic[0].packets, 1, "and has not counted another's packets");
}

#[test]
fn a_pod_that_is_its_own_backend_may_use_the_service_port_as_its_source() {
    // Request and reply of A:53 > VIP:53 look alike unless the source port is translated.
    let mut net = lab();
    cluster_ips(
        &mut net,
        vec![server(CLUSTER, 17, 53, &[member(A, 53, Some(0))], PoolSnat::Transparent)],
    );
    // On a thread of its own, so that an engine that never returns fails this test and no other.
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut b = Bench::new(net);
        let there = b.go(A, from(A, CLUSTER).udp(53, 53));
        let port = there.first().map_or(0, |(_, f)| headers(f).ip().unwrap().ports().0);
        let back = b.go(A, from(A, CLUSTER).udp(53, port));
        done.send((seen(&there), port, seen(&back), reasons(&b))).unwrap();
    });
    let (there, port, back, dropped) =
        result.recv_timeout(Duration::from_secs(10)).expect("the engine returns");
    assert_eq!(there, [(POD_A, format!("{CLUSTER}:{port} > {A}:53"))], "{dropped:?}");
    assert_eq!(back, [(POD_A, format!("{CLUSTER}:53 > {A}:53"))]);
}

// ---- R19: a backend that has gone gets nothing more ----

#[test]
fn a_removed_member_gets_no_datagram_more() {
    for client in [A, H1] {
        let mut b = Bench::new(balanced(PoolSnat::Automap(ip(AUTO))));
        b.introduce_all();
        let vip = if client == A { CLUSTER } else { VIP };
        // The second flow of each balancer goes to pod/b.
        b.go(client, from(client, vip).udp(4000, 53));
        only(&b.go(client, from(client, vip).udp(4001, 53)), POD_B);
        let members = [member(C, 53, Some(1))];
        b.net.epoch += 1;
        cluster_ips(&mut b.net, vec![server(CLUSTER, 17, 53, &members, PoolSnat::Transparent)]);
        vips(&mut b.net, vec![server(VIP, 17, 53, &members, PoolSnat::Automap(ip(AUTO)))]);
        only(&b.go(client, from(client, vip).udp(4001, 53)), POD_C);
    }
}

// ---- fragments ----

#[test]
fn fragments_behind_a_first_one_that_waits_for_arp_are_not_lost() {
    let mut b = Bench::new(lab());
    let whole = from(A, H1).udp(1, 2).id(9).payload(&[7; 2000]).dont_fragment(false).build();
    let pieces =
        packet::fragment_ipv4(&whole, &packet::parse(&whole.bytes).unwrap(), 1500).unwrap();
    let mut out = 0;
    for piece in pieces {
        b.send(POD_A, piece);
    }
    let (port, m1, _) = place(H1);
    let request = packet::arp_request(m1, ip(H1), ip("192.0.2.1"));
    out += b.send(port, request).iter().filter(|(_, f)| headers(f).ip().is_some()).count();
    assert_eq!(out, 2, "{:?}", reasons(&b));
}

#[test]
fn one_port_cannot_fill_the_fragment_table_for_the_others() {
    let mut b = Bench::new(lab());
    b.audit = false;
    let first = |src: &str, id: u16| {
        let f = packet::Fragment { id: u32::from(id), offset: 0, more: true };
        from(src, B).udp(1, 2).payload(&[0; 8]).fragment(f)
    };
    for id in 0..5000 {
        b.go(A, first(A, id));
    }
    b.go(C, first(C, 1));
    let later = packet::Fragment { id: 1, offset: 16, more: false };
    let tx = b.go(C, from(C, B).protocol(17).payload(&[0; 8]).fragment(later));
    assert_eq!(tx.len(), 1, "{:?}", reasons(&b));
}

// ---- martians ----

#[test]
fn this_network_is_no_source() {
    // RFC 1812, 5.3.7 and 4.2.2.11: {0, host} is never a source.
    let mut b = Bench::new(balanced(PoolSnat::Automap(ip(AUTO))));
    let frame = FrameBuilder::new(ip("0.1.2.3"), ip(VIP)).macs(M1, UPLINK).udp(1, 53).build();
    assert!(b.send(EXT, frame).is_empty());
    assert_eq!(b.only_drop().1, DropReason::Martian);
}

#[test]
fn a_trace_says_what_happens_to_a_broken_icmp_error() {
    let mut b = Bench::new(lab());
    b.introduce_all();
    let tx = b.go(A, from(A, H1).udp(40000, 53));
    let (_, sent) = &tx[0];
    let mut error =
        packet::icmp_error(sent, &headers(sent), IcmpErrorKind::PortUnreachable, ip(H1)).unwrap();
    let last = error.bytes.len() - 1;
    error.bytes[last] ^= 1;
    let trace = b.worker.trace(&b.net, EXT, &error, b.now);
    let tx = b.send(EXT, error);
    assert!(tx.is_empty());
    let engine::TraceEnd::Dropped(drop) = trace.end else { panic!("{:?}", trace.end) };
    assert_eq!(drop.reason, DropReason::IcmpChecksum);
}

#[test]
fn reset_and_illegal_flags() {
    // R27: illegal flag sets are dropped: SYN with FIN or RST, no flag at all, FIN without ACK.
    for flags in [0, SYN | FIN, SYN | RST, SYN | FIN | RST, FIN, FIN | PSH | URG] {
        let mut b = Bench::new(lab());
        only(&b.go(A, from(A, B).tcp(4000, 80, SYN)), POD_B);
        only(&b.go(B, from(B, A).tcp(80, 4000, SYN | ACK)), POD_A);
        only(&b.go(A, from(A, B).tcp(4000, 80, ACK)), POD_B);
        let tx = b.go(A, from(A, B).tcp(4000, 80, flags));
        assert!(tx.is_empty(), "flags {flags:#04x}");
    }
}

#[test]
fn icmp_query_kinds_are_parsed_as_expected() {
    // Guards this file's own assumption about what a timestamp request is.
    let f = from(A, B).icmp(13, 0, [0, 7, 0, 1]).payload(&[0; 12]).build();
    let h = headers(&f);
    assert!(matches!(
        h.ip().unwrap().transport,
        Transport::Icmp(Icmp { kind: 13, message: packet::IcmpMessage::Query { id: 7, .. }, .. })
    ));
}

// ---- cached = walked: found by chaos.rs, made small ----

#[test]
fn an_action_is_not_cached_as_newer_than_its_own_walk() {
    // A station that sends to its own MAC moves in the very commit that its action is stored after.
    for cache in [true, false] {
        let mut b = Bench::with_cache(lab(), cache);
        b.send(EXT, from(H1, H2).macs(M1, M2).udp(1, 2).build());
        let own = || from(H1, H2).macs(M1, M1).udp(1, 2).build();
        only(&b.send(EXT3, own()), EXT);
        assert!(b.send(EXT3, own()).is_empty(), "the station is at this port now; cache {cache}");
    }
}

#[test]
fn what_the_cache_tells_a_connection_is_not_what_it_was_stored_with() {
    let state = |cache| {
        let mut b = Bench::with_cache(lab(), cache);
        let go = |b: &mut Bench, f: FrameBuilder| only(&b.go(A, f), POD_B);
        let ask = |flags| from(A, B).tcp(1, 2, flags).seq(100);
        go(&mut b, ask(SYN));
        only(&b.go(B, from(B, A).tcp(2, 1, SYN).seq(500).ack(101)), POD_A);
        only(&b.go(B, from(B, A).tcp(2, 1, ACK).seq(501).ack(101)), POD_A);
        // The first segment of this direction that is stored is a retransmitted SYN.
        go(&mut b, ask(SYN));
        go(&mut b, ask(ACK).seq(101).ack(501));
        b.worker.sessions().remove(0).progress
    };
    assert_eq!(state(true), state(false));
}

#[test]
fn a_land_packet_is_dropped_at_the_vnic() {
    // Source and destination alike (R24), switched to a neighbour: its reply would look like itself.
    // On a thread of its own, so that an engine that never returns fails this test and no other.
    for kind in 0..2 {
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut b = Bench::new(lab());
            let f = from(A, A).macs(mac(1), MC);
            let f = if kind == 0 { f.echo_request(7, 1) } else { f.udp(53, 53) };
            let left = b.go(A, f);
            done.send((seen(&left), reasons(&b))).unwrap();
        });
        let (left, dropped) =
            result.recv_timeout(Duration::from_secs(10)).expect("the engine returns");
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(dropped, [(Stage::Vnic, DropReason::Martian, "pod/a".into())]);
    }
}
