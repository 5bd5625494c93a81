//! Load balancing, every vector worked out by hand: ClusterIPs at the client's vNIC, virtual servers
//! at the Tier-1.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Icmp, IcmpErrorKind, Time, Transport, tcp_flags::*};
use std::time::Duration;

type Out = Vec<(PortId, Frame)>;

fn bench(net: Network) -> Bench {
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn automap() -> PoolSnat {
    PoolSnat::Automap(ip(AUTO))
}

/// One frame, one line of addresses and ports.
fn line(port: PortId, text: &str) -> Vec<(PortId, String)> {
    vec![(port, text.to_owned())]
}

fn ports_of(list: &[Out]) -> Vec<PortId> {
    list.iter().map(|tx| tx.first().map_or(PortId(u32::MAX), |(p, _)| *p)).collect()
}

fn icmp(tx: &Out) -> (PortId, u8, u8, packet::Addr) {
    let (port, frame) = &tx[0];
    let h = headers(frame);
    let Transport::Icmp(Icmp { kind, code, .. }) = h.ip().unwrap().transport else {
        panic!("{h:?}")
    };
    (*port, kind, code, h.ip().unwrap().src)
}

// ---- ClusterIP ----

#[test]
fn a_cluster_ip_becomes_a_member_at_the_clients_vnic_and_the_source_stays() {
    let mut b = bench(balanced(automap()));
    // pod/c is not a member; its hypervisor starts with the first one.
    let tx = b.go(C, from(C, CLUSTER).udp(5000, 53));
    assert_eq!(seen(&tx), line(POD_A, &format!("{C}:5000 > {A}:53")));
    // On the same segment, but sent to the gateway: routed once.
    assert_eq!(headers(&tx[0].1).ip().unwrap().ttl, 63);
    // pod/a answers its neighbour directly; the client's vNIC translates back.
    let back = b.go(A, from(A, C).macs(mac(1), MC).udp(53, 5000));
    assert_eq!(seen(&back), line(POD_C, &format!("{CLUSTER}:53 > {C}:5000")));
    assert_eq!(b.worker.sessions().len(), 1);
    // Later packets of the flow stay at their member.
    for _ in 0..3 {
        let tx = b.go(C, from(C, CLUSTER).udp(5000, 53));
        assert_eq!(seen(&tx), line(POD_A, &format!("{C}:5000 > {A}:53")));
    }
}

#[test]
fn every_hypervisor_has_its_own_rotation() {
    let mut net = balanced(automap());
    let members = [member(A, 53, Some(0)), member(B, 53, Some(1)), member(C, 53, Some(1))];
    cluster_ips(&mut net, vec![server(CLUSTER, 17, 53, &members, PoolSnat::Transparent)]);
    // Clients of one tenant on two hypervisors.
    vnic(&mut net, POD_C).hypervisor = 1;
    let mut b = bench(net);
    let a: Vec<Out> = (0..4).map(|i| b.go(A, from(A, CLUSTER).udp(5000 + i, 53))).collect();
    assert_eq!(ports_of(&a), [POD_A, POD_B, POD_C, POD_A]);
    // Hypervisor 1 knows nothing of that.
    let c: Vec<Out> = (0..4).map(|i| b.go(C, from(C, CLUSTER).udp(6000 + i, 53))).collect();
    assert_eq!(ports_of(&c), [POD_A, POD_B, POD_C, POD_A]);
}

#[test]
fn tcp_and_udp_of_one_address_rotate_apart() {
    let mut b = bench(balanced(automap()));
    let first = b.go(C, from(C, CLUSTER).udp(5000, 53));
    let second = b.go(C, from(C, CLUSTER).tcp(5000, 53, SYN));
    let third = b.go(C, from(C, CLUSTER).tcp(5001, 53, SYN));
    assert_eq!(ports_of(&[first, second, third]), [POD_A, POD_A, POD_B]);
}

#[test]
fn a_member_may_listen_on_another_port() {
    let mut net = lab();
    cluster_ips(&mut net, vec![server(CLUSTER, 6, 443, &[member(B, 8443, None)], automap())]);
    let mut b = bench(net);
    let tx = b.go(A, from(A, CLUSTER).tcp(5000, 443, SYN));
    assert_eq!(seen(&tx), line(POD_B, &format!("{A}:5000 > {B}:8443")));
    let tx = b.go(B, from(B, A).tcp(8443, 5000, SYN | ACK));
    assert_eq!(seen(&tx), line(POD_A, &format!("{CLUSTER}:443 > {A}:5000")));
}

#[test]
fn a_pod_reaches_itself_by_its_service_whatever_the_policy() {
    for denied in [false, true] {
        let mut net = lab();
        cluster_ips(&mut net, vec![server(CLUSTER, 6, 80, &[member(A, 8080, Some(0))], automap())]);
        if denied {
            net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
            vnic(&mut net, POD_A).rules_in = vec![0].into();
            vnic(&mut net, POD_A).rules_out = vec![0].into();
        }
        let mut b = bench(net);
        let tx = b.go(A, from(A, CLUSTER).tcp(5000, 80, SYN));
        assert_eq!(seen(&tx), line(POD_A, &format!("{CLUSTER}:5000 > {A}:8080")));
        let tx = b.go(A, from(A, CLUSTER).tcp(8080, 5000, SYN | ACK));
        assert_eq!(seen(&tx), line(POD_A, &format!("{CLUSTER}:80 > {A}:5000")));
        let tx = b.go(A, from(A, CLUSTER).tcp(5000, 80, ACK));
        assert_eq!(seen(&tx), line(POD_A, &format!("{CLUSTER}:5000 > {A}:8080")));
        // What comes from elsewhere is judged.
        let other = b.go(C, from(C, A).macs(MC, mac(1)).tcp(1, 8080, SYN));
        assert_eq!(other.is_empty(), denied);
    }
}

#[test]
fn a_policy_judges_the_member_and_not_the_cluster_ip() {
    let mut net = balanced(automap());
    net.firewall.rules = vec![
        rule(1001, "any", &format!("{CLUSTER}/32"), Vec::new(), Action::Allow),
        rule(1002, "any", &format!("{A}/32"), Vec::new(), Action::Drop),
    ];
    vnic(&mut net, POD_C).rules_out = vec![0, 1].into();
    let mut b = bench(net);
    // The first goes to pod/a, which the egress policy denies; the rotation has not moved then.
    for port in [5000, 5001] {
        assert!(b.go(C, from(C, CLUSTER).udp(port, 53)).is_empty());
    }
    assert_eq!(b.only_drop(), (Stage::DfwOut, DropReason::Firewall, "pod/c".into()));
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn local_only_uses_members_of_the_clients_hypervisor() {
    let mut net = lab();
    let mut s =
        server(CLUSTER, 17, 53, &[member(A, 53, Some(0)), member(B, 53, Some(1))], automap());
    s.local_only = true;
    cluster_ips(&mut net, vec![s]);
    let mut b = bench(net);
    let a: Vec<Out> = (0..3).map(|i| b.go(A, from(A, CLUSTER).udp(5000 + i, 53))).collect();
    assert_eq!(ports_of(&a), [POD_A; 3]);
    let c: Vec<Out> = (0..3).map(|i| b.go(C, from(C, CLUSTER).udp(5000 + i, 53))).collect();
    assert_eq!(ports_of(&c), [POD_B; 3]);
    vnic(&mut b.net, POD_C).hypervisor = 2;
    b.net.epoch += 1;
    let tx = b.go(C, from(C, CLUSTER).udp(6000, 53));
    assert_eq!(icmp(&tx), (POD_C, 3, 3, ip(CLUSTER)));
    assert_eq!(b.only_drop(), (Stage::Dlb, DropReason::NoMember, "pod/c".into()));
}

// ---- server load balancer ----

#[test]
fn a_vip_from_outside_by_automap() {
    let mut b = bench(balanced(automap()));
    let tx = b.go(H1, from(H1, VIP).tcp(5000, 53, SYN));
    assert_eq!(seen(&tx), line(POD_A, &format!("{AUTO}:5000 > {A}:53")));
    assert_eq!(headers(&tx[0].1).ip().unwrap().ttl, 62, "Tier-0 and Tier-1");
    let tx = b.go(A, from(A, AUTO).tcp(53, 5000, SYN | ACK));
    assert_eq!(seen(&tx), line(EXT, &format!("{VIP}:53 > {H1}:5000")));
    // Another client with the same port, to the same member: another port of the same address.
    b.go(H2, from(H2, VIP).tcp(5000, 53, SYN));
    let tx = b.go(H3, from(H3, VIP).tcp(5000, 53, SYN));
    let h = only(&tx, POD_A);
    let (port, _) = h.ip().unwrap().ports();
    assert_eq!(h.ip().unwrap().src, ip(AUTO));
    assert!(port >= 1024 && port != 5000);
    let tx = b.go(A, from(A, AUTO).tcp(53, port, SYN | ACK));
    assert_eq!(seen(&tx), line(EXT3, &format!("{VIP}:53 > {H3}:5000")));
}

#[test]
fn a_vip_from_outside_by_pool_and_transparent() {
    let pool = PoolSnat::Pool(vec![ip("172.16.3.1"), ip("172.16.3.2")]);
    for (snat, source) in [(pool, "172.16.3.1"), (PoolSnat::Transparent, H1)] {
        let mut net = balanced(snat);
        net.routers[1].local.insert(ip("172.16.3.1"));
        net.routers[1].local.insert(ip("172.16.3.2"));
        let mut b = bench(net);
        let tx = b.go(H1, from(H1, VIP).udp(5000, 53));
        assert_eq!(seen(&tx), line(POD_A, &format!("{source}:5000 > {A}:53")));
        let tx = b.go(A, from(A, source).udp(53, 5000));
        assert_eq!(seen(&tx), line(EXT, &format!("{VIP}:53 > {H1}:5000")));
    }
}

#[test]
fn its_own_member_behind_a_transparent_vip_sees_the_vip() {
    for cache in [true, false] {
        let mut net = lab();
        vips(&mut net, vec![server(VIP, 17, 53, &[member(A, 53, None)], PoolSnat::Transparent)]);
        let mut b = Bench::with_cache(net, cache);
        b.introduce_all();
        for _ in 0..3 {
            let tx = b.go(A, from(A, VIP).udp(5000, 53));
            assert_eq!(seen(&tx), line(POD_A, &format!("{VIP}:5000 > {A}:53")));
            let tx = b.go(A, from(A, VIP).udp(53, 5000));
            assert_eq!(seen(&tx), line(POD_A, &format!("{VIP}:53 > {A}:5000")));
        }
        assert_eq!(b.worker.sessions().len(), 1);
        // A client that is no member keeps its address.
        let tx = b.go(B, from(B, VIP).udp(5000, 53));
        assert_eq!(seen(&tx), line(POD_A, &format!("{B}:5000 > {A}:53")));
        // Asked from the service's own port, question and answer would be one tuple.
        let tx = b.go(A, from(A, VIP).udp(53, 53));
        let (source, _) = headers(&tx[0].1).ip().unwrap().ports();
        assert_ne!(source, 53);
        let tx = b.go(A, from(A, VIP).udp(53, source));
        assert_eq!(seen(&tx), line(POD_A, &format!("{VIP}:53 > {A}:53")));
    }
}

#[test]
fn an_answer_does_not_come_untranslated_when_the_balancer_has_forgotten() {
    for cache in [true, false] {
        let mut net = lab();
        cluster_ips(
            &mut net,
            vec![server(CLUSTER, 6, 80, &[member(B, 80, None)], PoolSnat::Transparent)],
        );
        let mut b = Bench::with_cache(net, cache);
        b.introduce_all();
        b.go(C, from(C, CLUSTER).tcp(4000, 80, SYN).seq(0));
        b.go(B, from(B, C).tcp(80, 4000, SYN | ACK).seq(0).ack(1));
        let sent = b.go(C, from(C, CLUSTER).tcp(4000, 80, ACK).seq(1).ack(1)).remove(0).1;
        let answer = || from(B, C).tcp(80, 4000, ACK | PSH).seq(1).ack(1).payload(b"x");
        assert_eq!(seen(&b.go(B, answer())), line(POD_C, &format!("{CLUSTER}:80 > {C}:4000")));
        let timers = b.net.timers;
        let established = engine::TimerState::TcpEstablished;
        let [balancer, firewall] = [engine::TimerClass::Balancer, engine::TimerClass::Dfw]
            .map(|class| timers.timeout(class, established));
        assert!(balancer < firewall);
        b.advance(b.now + balancer);
        assert_eq!(b.worker.sessions().len(), 1, "the firewall remembers");
        assert!(b.go(B, answer()).is_empty());
        assert_eq!(b.only_drop(), (Stage::Dlb, DropReason::NoSession, "pod/c".into()));
        // An error about what the member got is one about nothing that the client sent.
        let kind = IcmpErrorKind::PortUnreachable;
        let error = packet::icmp_error(&sent, &headers(&sent), kind, ip(B)).unwrap();
        assert!(b.send(POD_B, error).is_empty());
        assert!(b.worker.drops().keys().any(|d| d.stage == Stage::Dlb
            && d.reason == DropReason::IcmpUnmatched
            && d.object == "pod/c"));
        // The client begins anew, and is answered.
        let tx = b.go(C, from(C, CLUSTER).tcp(4001, 80, SYN).seq(0));
        assert_eq!(seen(&tx), line(POD_B, &format!("{C}:4001 > {B}:80")));
        let tx = b.go(B, from(B, C).tcp(80, 4001, SYN | ACK).seq(0).ack(1));
        assert_eq!(seen(&tx), line(POD_C, &format!("{CLUSTER}:80 > {C}:4001")));
    }
}

#[test]
fn a_vip_from_a_pod_takes_the_pools_source_and_no_nat_rule() {
    let mut b = bench(balanced(automap()));
    let tx = b.go(C, from(C, VIP).udp(5000, 53));
    assert_eq!(seen(&tx), line(POD_A, &format!("{AUTO}:5000 > {A}:53")));
    let tx = b.go(A, from(A, AUTO).udp(53, 5000));
    assert_eq!(seen(&tx), line(POD_C, &format!("{VIP}:53 > {C}:5000")));
    let gateway: Vec<_> = b.worker.sessions()[0]
        .records
        .iter()
        .filter(|r| r.node == engine::Node::Gateway(T1))
        .map(|r| matches!(r.kind, engine::RecordKind::Balancer { .. }))
        .collect();
    assert_eq!(gateway, [true]);
    // A member may use the VIP and be chosen itself: automap makes that work.
    b.go(B, from(B, VIP).udp(7000, 53));
    let tx = b.go(A, from(A, VIP).udp(7000, 53));
    assert_eq!(seen(&tx), line(POD_A, &format!("{AUTO}:7000 > {A}:53")));
}

#[test]
fn affinity_holds_a_client_for_its_time_after_the_last_connection_began() {
    for client in [C, H1] {
        let mut net = lab();
        let members = [member(A, 53, Some(0)), member(B, 53, Some(1))];
        let sticky = |address: &str| {
            let mut s = server(address, 17, 53, &members, automap());
            s.affinity = Some(Duration::from_secs(100));
            s
        };
        cluster_ips(&mut net, vec![sticky(CLUSTER)]);
        vips(&mut net, vec![sticky(VIP)]);
        let mut b = bench(net);
        let vip = if client == C { CLUSTER } else { VIP };
        let mut next = 5000;
        let mut go = |b: &mut Bench| {
            next += 1;
            ports_of(&[b.go(client, from(client, vip).udp(next, 53))])[0]
        };
        assert_eq!(go(&mut b), POD_A);
        assert_eq!(go(&mut b), POD_A, "sticks, though it is pod/b's turn");
        b.advance(Time::from_secs(99));
        assert_eq!(go(&mut b), POD_A);
        // 100 s after the connection at 99 s.
        b.advance(Time(198_999_999_999));
        assert_eq!(go(&mut b), POD_A);
        b.advance(Time::from_secs(298));
        assert_eq!(go(&mut b), POD_A, "99 s and 1 ns after the last");
        b.advance(Time::from_secs(398));
        assert_eq!(go(&mut b), POD_B, "exactly 100 s after the last");
    }
}

#[test]
fn affinity_of_a_member_that_has_gone_is_over() {
    let mut net = lab();
    let sticky = |members: &[Member]| {
        let mut s = server(VIP, 17, 53, members, automap());
        s.affinity = Some(Duration::from_secs(10_800));
        vec![s]
    };
    vips(&mut net, sticky(&[member(A, 53, Some(0)), member(B, 53, Some(1))]));
    let mut b = bench(net);
    only(&b.go(H1, from(H1, VIP).udp(5000, 53)), POD_A);
    b.net.epoch += 1;
    vips(&mut b.net, sticky(&[member(B, 53, Some(1))]));
    only(&b.go(H1, from(H1, VIP).udp(5001, 53)), POD_B);
}

#[test]
fn source_ranges_drop_everybody_else_in_silence() {
    let mut net = lab();
    let mut s = server(VIP, 6, 53, &[member(A, 53, None)], automap());
    s.source_ranges = vec![prefix("192.0.2.20/30"), prefix("10.244.0.18/32")];
    vips(&mut net, vec![s]);
    let mut b = bench(net);
    only(&b.go(H2, from(H2, VIP).tcp(1, 53, SYN)), POD_A);
    only(&b.go(A, from(A, VIP).tcp(1, 53, SYN)), POD_A);
    for client in [H1, H3, C] {
        assert!(b.go(client, from(client, VIP).tcp(1, 53, SYN)).is_empty(), "{client}");
    }
    assert_eq!(b.only_drop(), (Stage::T1Lb, DropReason::SourceRange, "t1".into()));
}

// ---- no members, no port, ping ----

#[test]
fn without_members_a_client_is_refused_from_the_address_it_used() {
    for (client, vip, stage) in
        [(A, CLUSTER, Stage::Dlb), (H1, VIP, Stage::T1Lb), (C, VIP, Stage::T1Lb)]
    {
        let mut net = lab();
        let both = |a: &str| [6, 17].map(|p| server(a, p, 53, &[], automap())).to_vec();
        cluster_ips(&mut net, both(CLUSTER));
        vips(&mut net, both(VIP));
        let mut b = bench(net);
        let (port, _, _) = place(client);
        // RFC 9293, 3.10.7.1: RST, sequence number 0, acknowledges the SYN.
        let h = only(&b.go(client, from(client, vip).tcp(5000, 53, SYN).seq(77)), port);
        let t = h.ip().unwrap().tcp().unwrap();
        assert_eq!((h.ip().unwrap().src, t.flags, t.seq, t.ack), (ip(vip), RST | ACK, 0, 78));
        assert_eq!((t.src_port, t.dst_port), (53, 5000));
        let tx = b.go(client, from(client, vip).udp(5000, 53));
        assert_eq!(icmp(&tx), (port, 3, 3, ip(vip)));
        for key in b.worker.drops().keys() {
            assert_eq!((key.stage, key.reason), (stage, DropReason::NoMember));
        }
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn without_members_and_with_drop_nothing_is_said() {
    let mut net = lab();
    let both = |a: &str| {
        [6, 17]
            .map(|p| VirtualServer {
                no_members: NoMembers::Drop,
                ..server(a, p, 53, &[], automap())
            })
            .to_vec()
    };
    cluster_ips(&mut net, both(CLUSTER));
    vips(&mut net, both(VIP));
    let mut b = bench(net);
    for (client, vip) in [(A, CLUSTER), (H1, VIP)] {
        assert!(b.go(client, from(client, vip).tcp(1, 53, SYN)).is_empty());
        assert!(b.go(client, from(client, vip).udp(1, 53)).is_empty());
    }
}

#[test]
fn an_unknown_port_of_a_service_address_leaks_nowhere() {
    for protocol in [6u8, 17, 47, 132] {
        for (client, vip, stage) in
            [(A, CLUSTER, Stage::Dlb), (H1, VIP, Stage::T1Lb), (C, VIP, Stage::T1Lb)]
        {
            let mut b = bench(balanced(automap()));
            let f = from(client, vip);
            let f = match protocol {
                6 => f.tcp(5000, 54, SYN),
                17 => f.udp(5000, 54),
                _ => f.protocol(protocol).payload(&[0; 32]),
            };
            assert!(b.go(client, f).is_empty());
            let drop = b.only_drop();
            assert_eq!((drop.0, drop.1), (stage, DropReason::VipNoPort), "{protocol} {vip}");
        }
    }
    // An address of the service prefix that no service has.
    let mut b = bench(balanced(automap()));
    assert!(b.go(A, from(A, "10.96.1.77").udp(1, 53)).is_empty());
    assert_eq!(b.only_drop(), (Stage::Dlb, DropReason::VipNoPort, "pod/a".into()));
}

#[test]
fn a_vip_answers_ping_and_a_cluster_ip_does_not() {
    let mut b = bench(balanced(automap()));
    for client in [H1, A] {
        let (port, _, _) = place(client);
        let tx = b.go(client, from(client, VIP).echo_request(9, 1).payload(b"abc"));
        assert_eq!(icmp(&tx), (port, 0, 0, ip(VIP)));
    }
    assert!(b.worker.drops().is_empty());
    assert!(b.go(A, from(A, CLUSTER).echo_request(9, 1)).is_empty());
    assert_eq!(b.only_drop().0, Stage::Dlb);
    assert!(b.worker.sessions().is_empty());
}

// ---- ICMP errors through translations ----

/// An error of the member about the request that it got.
fn refuse(request: &Out, from: &str) -> Frame {
    let (_, frame) = &request[0];
    packet::icmp_error(frame, &headers(frame), IcmpErrorKind::PortUnreachable, ip(from)).unwrap()
}

#[test]
fn an_icmp_error_comes_back_with_the_addresses_that_the_client_knows() {
    for (client, vip) in [(C, CLUSTER), (C, VIP), (H1, VIP)] {
        let mut b = bench(balanced(automap()));
        let (port, _, _) = place(client);
        let request = b.go(client, from(client, vip).udp(5000, 53).payload(b"question"));
        assert_eq!(request[0].0, POD_A);
        let mut error = refuse(&request, A);
        // On the same segment the member answers the client directly.
        if client == C && vip == CLUSTER {
            error.bytes[..6].copy_from_slice(&MC.0);
        }
        let h = only(&b.send(POD_A, error), port);
        let outer = h.ip().unwrap();
        assert_eq!((outer.src, outer.dst), (ip(vip), ip(client)), "{client} by {vip}");
        let e = outer.embedded().unwrap();
        assert_eq!(
            (e.src, e.dst, e.src_port, e.dst_port),
            (ip(client), ip(vip), 5000, 53),
            "{client} by {vip}"
        );
        // RFC 5508, REQ-10: the error does not end the session.
        assert_eq!(b.worker.sessions().len(), 1);
    }
}

#[test]
fn an_icmp_error_of_the_client_reaches_the_member() {
    let mut b = bench(balanced(automap()));
    b.go(H1, from(H1, VIP).udp(5000, 53));
    let reply = b.go(A, from(A, AUTO).udp(53, 5000).payload(b"answer"));
    assert_eq!(reply[0].0, EXT);
    let h = only(&b.send(EXT, refuse(&reply, H1)), POD_A);
    let outer = h.ip().unwrap();
    assert_eq!((outer.src, outer.dst), (ip(AUTO), ip(A)));
    let e = outer.embedded().unwrap();
    assert_eq!((e.src, e.dst, e.src_port, e.dst_port), (ip(A), ip(AUTO), 53, 5000));
}

// ---- connections that end ----

#[test]
fn a_syn_after_both_fins_selects_anew_and_an_early_one_does_not() {
    for (client, vip, back) in [(C, CLUSTER, C), (H1, VIP, AUTO)] {
        let mut net = lab();
        let members = [member(B, 80, Some(1)), member(A, 80, Some(0))];
        cluster_ips(&mut net, vec![server(CLUSTER, 6, 80, &members, PoolSnat::Transparent)]);
        vips(&mut net, vec![server(VIP, 6, 80, &members, automap())]);
        let mut b = bench(net);
        let (home, _, _) = place(client);
        let ask = |flags, seq| from(client, vip).tcp(5000, 80, flags).seq(seq);
        let answer = |flags, seq, ack| from(B, back).tcp(80, 5000, flags).seq(seq).ack(ack);
        only(&b.go(client, ask(SYN, 100)), POD_B);
        only(&b.go(B, answer(SYN, 500, 101)), home);
        only(&b.go(client, ask(ACK, 101).ack(501)), POD_B);
        // A retransmitted SYN of a live connection stays.
        only(&b.go(client, ask(SYN, 100)), POD_B);
        only(&b.go(client, ask(FIN, 101).ack(501)), POD_B);
        only(&b.go(client, ask(SYN, 100)), POD_B);
        only(&b.go(B, answer(FIN, 501, 102)), home);
        only(&b.go(client, ask(ACK, 102).ack(502)), POD_B);
        // Over: the same tuple is another connection, and it is pod/a's turn.
        only(&b.go(client, ask(SYN, 9_000)), POD_A);
        let sessions = b.worker.sessions();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].traffic[0].packets, 1);
    }
}

#[test]
fn three_members_share_nine_hundred_flows_equally() {
    let mut net = lab();
    let members = [member(A, 53, None), member(B, 53, None), member(C, 53, None)];
    vips(&mut net, vec![server(VIP, 17, 53, &members, automap())]);
    let mut b = bench(net);
    b.audit = false;
    let mut count = [0; 3];
    for port in 1..=900 {
        let tx = b.go(H1, from(H1, VIP).udp(port, 53));
        let at = [POD_A, POD_B, POD_C].iter().position(|p| *p == tx[0].0).unwrap();
        count[at] += 1;
    }
    assert_eq!(count, [300; 3]);
}

#[test]
fn a_spoofed_vip_source_gets_nothing() {
    // Land attack on the VIP (R24).
    let mut b = bench(balanced(automap()));
    let f = FrameBuilder::new(ip(VIP), ip(VIP)).macs(M1, UPLINK).udp(53, 53).build();
    assert!(b.send(EXT, f).is_empty());
    assert_eq!(b.only_drop().1, DropReason::Martian);
}
