//! Flood protection (NSX's flood protection profile; RFC 4987): limits a vNIC on half-open connections and
//! on flows of UDP, ICMP and other protocols; and what holds without any setting.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, FloodLimits, FlowClass, Node, Stage, TimerSettings};
use fixture::lab::*;
use fixture::*;
use packet::{FrameBuilder, Time, tcp_flags::*};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CLASSES: [FlowClass; 4] =
    [FlowClass::TcpHalfOpen, FlowClass::Udp, FlowClass::Icmp, FlowClass::Other];

fn limited(flood: FloodLimits) -> Bench {
    let mut net = lab();
    net.firewall.flood = flood;
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn half_open(most: u32) -> FloodLimits {
    FloodLimits { tcp_half_open: Some(most), ..FloodLimits::default() }
}

fn syn(src: &str, dst: &str, port: u16) -> FrameBuilder {
    from(src, dst).tcp(port, 80, SYN).seq(0)
}

/// The rest of the handshake from pod/a's `port` to pod/b.
fn complete(b: &mut Bench, port: u16) {
    only(&b.go(B, from(B, A).tcp(80, port, SYN | ACK).seq(0).ack(1)), POD_A);
    only(&b.go(A, from(A, B).tcp(port, 80, ACK).seq(1).ack(1)), POD_B);
}

fn passes(b: &mut Bench, src: &str, f: FrameBuilder) -> bool {
    !b.go(src, f).is_empty()
}

#[test]
fn half_open_connections_are_limited_at_the_senders_vnic() {
    let mut b = limited(half_open(2));
    only(&b.go(A, syn(A, B, 1)), POD_B);
    only(&b.go(A, syn(A, H1, 2)), EXT);
    assert!(!passes(&mut b, A, syn(A, B, 3)));
    assert_eq!(b.only_drop(), (Stage::DfwOut, DropReason::FloodProtection, "pod/a".into()));
    assert_eq!(b.worker.flows(POD_A, FlowClass::TcpHalfOpen), 2);
    assert_eq!(b.worker.sessions().len(), 2, "the dropped one left nothing");
    // The SYN of one that is counted may come again, and its handshake makes room.
    only(&b.go(A, syn(A, B, 1)), POD_B);
    complete(&mut b, 1);
    assert_eq!(b.worker.flows(POD_A, FlowClass::TcpHalfOpen), 1);
    only(&b.go(A, syn(A, B, 3)), POD_B);
    // Others have their own count, and other protocols are not limited.
    only(&b.go(C, syn(C, H1, 9)), EXT);
    only(&b.go(A, from(A, B).udp(7, 7)), POD_B);
}

#[test]
fn half_open_connections_are_limited_at_the_receivers_vnic() {
    let mut b = limited(half_open(3));
    for (port, src) in [(1, A), (2, A), (3, C)] {
        only(&b.go(src, syn(src, B, port)), POD_B);
    }
    assert!(!passes(&mut b, C, syn(C, B, 4)));
    assert_eq!(b.only_drop(), (Stage::DfwIn, DropReason::FloodProtection, "pod/b".into()));
    // Elsewhere they are free to go.
    only(&b.go(C, syn(C, H1, 4)), EXT);
}

#[test]
fn established_connections_are_left_alone() {
    let mut b = limited(half_open(1));
    for port in 1..=5 {
        only(&b.go(A, syn(A, B, port)), POD_B);
        complete(&mut b, port);
    }
    only(&b.go(A, syn(A, B, 6)), POD_B);
    assert!(!passes(&mut b, A, syn(A, B, 7)));
    for port in 1..=5 {
        only(&b.go(A, from(A, B).tcp(port, 80, ACK | PSH).seq(1).ack(1)), POD_B);
        only(&b.go(B, from(B, A).tcp(80, port, ACK).seq(1).ack(1)), POD_A);
    }
}

#[test]
fn a_connection_that_is_refused_or_times_out_is_half_open_no_more() {
    let mut b = limited(half_open(1));
    only(&b.go(A, syn(A, B, 1)), POD_B);
    only(&b.go(B, from(B, A).tcp(80, 1, RST | ACK).ack(1)), POD_A);
    only(&b.go(A, syn(A, B, 2)), POD_B);
    assert!(!passes(&mut b, A, syn(A, B, 3)));
    // tcp-first: 120 s in the distributed firewall.
    b.advance(Time::from_secs(119));
    assert!(!passes(&mut b, A, syn(A, B, 3)));
    b.advance(Time::from_secs(120));
    only(&b.go(A, syn(A, B, 3)), POD_B);
}

#[test]
fn a_tuple_that_is_used_again_counts_once() {
    let mut b = limited(half_open(1));
    only(&b.go(A, syn(A, B, 1)), POD_B);
    only(&b.go(B, from(B, A).tcp(80, 1, RST | ACK).ack(1)), POD_A);
    only(&b.go(A, syn(A, B, 1)), POD_B);
    assert_eq!(b.worker.flows(POD_A, FlowClass::TcpHalfOpen), 1);
    assert!(!passes(&mut b, A, syn(A, B, 2)));
}

#[test]
fn every_class_has_its_own_limit() {
    let flood = FloodLimits { tcp_half_open: Some(1), udp: Some(2), icmp: Some(3), other: Some(1) };
    let mut b = limited(flood);
    let passed = |b: &mut Bench, make: &dyn Fn(u16) -> FrameBuilder| {
        (1..=5).filter(|port| passes(b, A, make(*port))).count()
    };
    assert_eq!(passed(&mut b, &|port| syn(A, B, port)), 1);
    assert_eq!(passed(&mut b, &|port| from(A, B).udp(port, 53)), 2);
    assert_eq!(passed(&mut b, &|port| from(A, B).echo_request(port, 1)), 3);
    // Protocols without ports: one flow between two addresses.
    let targets = [B, C, H1, H2, H3];
    let gre = |at: u16| from(A, targets[usize::from(at) - 1]).protocol(47).payload(&[0; 8]);
    assert_eq!(passed(&mut b, &gre), 1);
    assert_eq!(CLASSES.map(|class| b.worker.flows(POD_A, class)), [1, 2, 3, 1]);
    // Answers of what passed pass, answers of what did not are no answers.
    only(&b.go(B, from(B, A).udp(53, 2)), POD_A);
    only(&b.go(B, from(B, A).echo_reply(3, 1)), POD_A);
}

#[test]
fn a_datagram_flow_that_chooses_again_takes_its_own_place() {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    net.firewall.flood = FloodLimits { udp: Some(1), ..FloodLimits::default() };
    let mut b = Bench::new(net);
    only(&b.go(C, from(C, CLUSTER).udp(4000, 53)), POD_A);
    // Its member leaves the service.
    b.net.epoch += 1;
    cluster_ips(
        &mut b.net,
        vec![server(CLUSTER, 17, 53, &[member(B, 53, Some(1))], PoolSnat::Transparent)],
    );
    only(&b.go(C, from(C, CLUSTER).udp(4000, 53)), POD_B);
    assert_eq!(b.worker.flows(POD_C, FlowClass::Udp), 1);
    assert!(!passes(&mut b, C, from(C, CLUSTER).udp(4001, 53)));
}

#[test]
fn a_picked_up_connection_is_not_half_open() {
    let mut b = limited(half_open(1));
    let loose = Rule { strict: false, ..rule(1001, "any", "any", Vec::new(), Action::Allow) };
    b.net.firewall.rules = vec![loose];
    for port in [POD_A, POD_C] {
        let vnic = vnic(&mut b.net, port);
        (vnic.rules_in, vnic.rules_out) = ([0].into(), [0].into());
    }
    only(&b.go(A, syn(A, C, 1).macs(mac(1), MC)), POD_C);
    only(&b.go(A, from(A, C).macs(mac(1), MC).tcp(2, 80, ACK).seq(5).ack(5)), POD_C);
}

#[test]
fn without_a_setting_a_flood_pays_for_itself() {
    // A quarter of the table is the most that a namespace can take.
    let default = TimerSettings::default();
    assert!(default.max_tenant_sessions * 4 <= default.max_sessions);
    let mut b = limited(FloodLimits::default());
    (b.net.timers.max_sessions, b.net.timers.max_tenant_sessions) = (400, 100);
    // pod/a and pod/b are of different namespaces; both have a connection outside.
    let open = |b: &mut Bench, src: &'static str| {
        let port = place(src).0;
        only(&b.go(src, from(src, H1).tcp(5000, 443, SYN).seq(0)), EXT);
        let sport =
            if src == A { 5000 } else { b.worker.sessions().last().unwrap().terminating.src_port };
        only(&b.go(H1, from(H1, "172.16.2.2").tcp(443, sport, SYN | ACK).seq(0).ack(1)), port);
        only(&b.go(src, from(src, H1).tcp(5000, 443, ACK).seq(1).ack(1)), EXT);
    };
    open(&mut b, A);
    open(&mut b, B);
    for port in 6000..16_000 {
        assert!(passes(&mut b, A, syn(A, H2, port)), "a new one takes the place of its own oldest");
    }
    let sessions = b.worker.sessions();
    assert_eq!(sessions.len(), 101);
    assert_eq!(b.worker.evicted(), 10_000 - 99);
    for src in [A, B] {
        only(&b.go(src, from(src, H1).tcp(5000, 443, ACK | PSH).seq(1).ack(1)), EXT);
    }
    only(&b.go(B, syn(B, H2, 7000)), EXT2);
    assert!(b.worker.drops().is_empty());
}

/// What the table holds, counted anew.
fn recount(b: &mut Bench) -> BTreeMap<(PortId, FlowClass), usize> {
    let mut counts = BTreeMap::new();
    for session in b.worker.sessions() {
        let Some(class) = session.flow_class() else { continue };
        for record in &session.records {
            if let Node::Firewall(port) = record.node {
                *counts.entry((port, class)).or_default() += 1;
            }
        }
    }
    counts
}

#[derive(Clone, Debug)]
enum Event {
    Send { src: usize, dst: usize, kind: u8, port: u16, flags: u8, back: bool },
    Wait(u64),
    Members(u8),
    Replace,
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop_oneof![6 => Just(SYN), 4 => Just(SYN | ACK), 4 => Just(ACK), 1 => Just(FIN | ACK), 1 => Just(RST | ACK)];
    prop_oneof![
        12 => (0usize..4, 0usize..5, 0u8..4, 1u16..5, flags, any::<bool>())
            .prop_map(|(src, dst, kind, port, flags, back)| Event::Send { src, dst, kind, port, flags, back }),
        2 => (0u64..130).prop_map(Event::Wait),
        1 => (1u8..3).prop_map(Event::Members),
        1 => Just(Event::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The counts are what a recount says, under closing, expiry, eviction, reuse of tuples, members and
    /// workloads that change; and no vNIC has more than it may.
    #[test]
    fn the_count_equals_a_recount(events in prop::collection::vec(event(), 1..150)) {
        let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
        net.firewall.flood = FloodLimits { tcp_half_open: Some(3), udp: Some(3), icmp: Some(2), other: Some(1) };
        net.timers.max_sessions = 14;
        net.timers.max_tenant_sessions = 8;
        let most = net.firewall.flood;
        let mut b = Bench::new(net);
        b.introduce_all();
        b.audit = false;
        for event in events {
            match event {
                Event::Send { src, dst, kind, port, flags, back } => {
                    let src = [A, B, C, H1][src];
                    let dst = [A, B, C, H1, CLUSTER][dst];
                    let (s, d) = if back { (53, 4000 + port) } else { (4000 + port, 53) };
                    let f = from(src, dst);
                    let f = match kind {
                        0 if flags & ACK == 0 => f.tcp(s, d, flags).seq(0),
                        0 => f.tcp(s, d, flags).seq(0).ack(1),
                        1 => f.udp(s, d),
                        2 if back => f.echo_reply(d, 1),
                        2 => f.echo_request(s, 1),
                        _ => f.protocol(47).payload(&[0; 8]),
                    };
                    b.go(src, f);
                }
                Event::Wait(seconds) => {
                    b.advance(b.now + std::time::Duration::from_secs(seconds));
                }
                Event::Members(members) => {
                    b.net.epoch += 1;
                    let all = [member(A, 53, Some(0)), member(B, 53, Some(1))];
                    let members = &all[..usize::from(members)];
                    let servers = [6, 17].map(|p| server(CLUSTER, p, 53, members, PoolSnat::Transparent));
                    cluster_ips(&mut b.net, servers.to_vec());
                }
                Event::Replace => {
                    b.net.epoch += 1;
                    let epoch = b.net.epoch;
                    b.net.ports[0].name = format!("pod/a{epoch}");
                }
            }
            let counts = recount(&mut b);
            for port in [POD_A, POD_B, POD_C] {
                for class in CLASSES {
                    let count = b.worker.flows(port, class);
                    prop_assert_eq!(count, counts.get(&(port, class)).copied().unwrap_or(0));
                    prop_assert!(count <= most.limit(class).unwrap() as usize);
                }
            }
        }
    }
}
