//! Flood protection (NSX's flood protection profiles; RFC 4987): limits a vNIC and a gateway on half-open
//! connections and on flows of UDP, ICMP and other protocols, at a gateway also on translated ones; and what
//! holds without any setting.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{
    DropReason, FloodLimits, FlowClass, FlowPlace, Node, RecordKind, Stage, TimerSettings,
};
use fixture::lab::*;
use fixture::*;
use packet::{FrameBuilder, Time, tcp_flags::*};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const CLASSES: [FlowClass; 5] =
    [FlowClass::TcpHalfOpen, FlowClass::Udp, FlowClass::Icmp, FlowClass::Other, FlowClass::Nat];

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

fn all(tcp_half_open: u32, udp: u32, icmp: u32, other: u32) -> FloodLimits {
    FloodLimits {
        tcp_half_open: Some(tcp_half_open),
        udp: Some(udp),
        icmp: Some(icmp),
        other: Some(other),
        nat: None,
    }
}

/// The Tier-1 and the Tier-0 with these limits; the firewall of the Tier-1 lets everything pass, that of the
/// Tier-0 has no rules.
fn at_gateways(tier1: FloodLimits, tier0: FloodLimits) -> Network {
    let mut net = lab();
    let rule = gateway_rule(1, Direction::InOut, Action::Allow);
    net.routers[1].gateway_firewall = GatewayFirewall::new(true, vec![rule]).with_flood(tier1);
    net.routers[0].gateway_firewall = GatewayFirewall::default().with_flood(tier0);
    net
}

fn limited_gateway(flood: FloodLimits) -> Bench {
    let mut b = Bench::new(at_gateways(flood, FloodLimits::default()));
    b.introduce_all();
    b
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
    let flood = all(1, 2, 3, 1);
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
    assert_eq!(CLASSES.map(|class| b.worker.flows(POD_A, class)), [1, 2, 3, 1, 0]);
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

#[test]
fn all_workloads_behind_a_gateway_share_its_limit() {
    let mut b = limited_gateway(half_open(2));
    only(&b.go(A, syn(A, H1, 1)), EXT);
    only(&b.go(C, syn(C, H2, 2)), EXT2);
    assert!(!passes(&mut b, A, syn(A, H1, 3)));
    assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::FloodProtection, "t1".into()));
    assert_eq!(b.worker.flows(T1, FlowClass::TcpHalfOpen), 2);
    assert_eq!(b.worker.sessions().len(), 2, "the dropped one left nothing");
    // From outside they count too; what does not cross the uplink does not.
    let rule = NatAction::Dnat { to: prefix("10.244.0.34/32"), ports: None };
    let mut rules = b.net.routers[1].nat.rules().to_vec();
    let destination = Some(prefix("172.16.1.7/32"));
    rules.push(NatRule { destination, ..NatRule::new(9, "dnat", 1, rule) });
    b.net.routers[1].nat = NatTable::new(rules);
    b.net.epoch += 1;
    assert!(!passes(&mut b, H1, syn(H1, "172.16.1.7", 5)));
    only(&b.go(A, syn(A, B, 5)), POD_B);
    // The SYN of one that is counted may come again, and its handshake makes room.
    only(&b.go(A, syn(A, H1, 1)), EXT);
    only(&b.go(H1, from(H1, "172.16.2.2").tcp(80, 1, SYN | ACK).seq(0).ack(1)), POD_A);
    only(&b.go(A, from(A, H1).tcp(1, 80, ACK).seq(1).ack(1)), EXT);
    assert_eq!(b.worker.flows(T1, FlowClass::TcpHalfOpen), 1);
    only(&b.go(H1, syn(H1, "172.16.1.7", 5)), POD_B);
    // An established one is left alone.
    only(&b.go(A, from(A, H1).tcp(1, 80, ACK | PSH).seq(1).ack(1)), EXT);
}

#[test]
fn every_class_of_a_gateway_has_its_own_limit() {
    let mut b = limited_gateway(all(1, 2, 3, 1));
    let passed = |b: &mut Bench, make: &dyn Fn(u16) -> FrameBuilder| {
        (1..=5).filter(|port| passes(b, A, make(*port))).count()
    };
    assert_eq!(passed(&mut b, &|port| syn(A, H1, port)), 1);
    assert_eq!(passed(&mut b, &|port| from(A, H1).udp(port, 53)), 2);
    assert_eq!(passed(&mut b, &|port| from(A, H1).echo_request(port, 1)), 3);
    let targets = [H1, H2, H3, H1, H2];
    let gre = |at: u16| from(A, targets[usize::from(at) - 1]).protocol(47).payload(&[0; 8]);
    // Its first flow twice: it is one.
    assert_eq!(passed(&mut b, &gre), 2);
    // One of the firewall and one of NAT remember each of them: it is one flow, and a translated one.
    assert_eq!(CLASSES.map(|class| b.worker.flows(T1, class)), [1, 2, 3, 1, 7]);
    assert_eq!(CLASSES.map(|class| b.worker.flows(T0, class)), [0; 5]);
    only(&b.go(H1, from(H1, "172.16.2.2").udp(53, 2)), POD_A);
    only(&b.go(H1, from(H1, "172.16.2.2").echo_reply(3, 1)), POD_A);
    // icmp-first: 20 s at a gateway, where 30 s have been the last of them all.
    b.advance(Time::from_secs(30));
    assert_eq!(b.worker.flows(T1, FlowClass::Icmp), 0);
    only(&b.go(A, from(A, H1).echo_request(9, 1)), EXT);
}

#[test]
fn translated_flows_have_a_limit_of_their_own() {
    let nat = FloodLimits { nat: Some(2), ..FloodLimits::default() };
    let mut b = limited_gateway(nat);
    only(&b.go(A, syn(A, H1, 1)), EXT);
    only(&b.go(A, from(A, H1).udp(1, 53)), EXT);
    assert!(!passes(&mut b, A, from(A, H1).echo_request(1, 1)));
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::FloodProtection, "t1".into()));
    // An established connection still is one; what NO_SNAT lets out is none.
    only(&b.go(H1, from(H1, "172.16.2.2").tcp(80, 1, SYN | ACK).seq(0).ack(1)), POD_A);
    only(&b.go(A, from(A, H1).tcp(1, 80, ACK).seq(1).ack(1)), EXT);
    assert!(!passes(&mut b, A, from(A, H1).echo_request(1, 1)));
    let mut rules = b.net.routers[1].nat.rules().to_vec();
    let destination = Some(prefix("192.0.2.20/32"));
    rules.push(NatRule { destination, ..NatRule::new(9, "keep", 1, NatAction::NoSnat) });
    b.net.routers[1].nat = NatTable::new(rules);
    b.net.epoch += 1;
    only(&b.go(A, from(A, H2).echo_request(1, 1)), EXT2);
    assert_eq!(b.worker.flows(T1, FlowClass::Nat), 2);
    // The datagram's flow is forgotten after 30 s; the connection is not.
    b.advance(Time::from_secs(60));
    assert_eq!(b.worker.flows(T1, FlowClass::Nat), 1);
    only(&b.go(A, from(A, H1).echo_request(1, 1)), EXT);
}

#[test]
fn a_virtual_servers_flows_count_at_its_gateway() {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    net.routers[1].gateway_firewall = GatewayFirewall::default().with_flood(FloodLimits {
        udp: Some(1),
        nat: Some(1),
        ..FloodLimits::default()
    });
    let mut b = Bench::new(net);
    b.introduce_all();
    assert!(passes(&mut b, H1, from(H1, VIP).udp(1, 53)));
    assert!(!passes(&mut b, H1, from(H1, VIP).udp(2, 53)));
    assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::FloodProtection, "t1".into()));
    assert_eq!(b.worker.flows(T1, FlowClass::Nat), 0, "a balancer is no NAT rule");
}

#[test]
fn each_gateway_has_its_own_count_and_ipv6_counts_too() {
    let udp = |most| FloodLimits { udp: Some(most), ..FloodLimits::default() };
    let mut net = at_gateways(udp(3), udp(2));
    let rule = gateway_rule(1, Direction::InOut, Action::Allow);
    net.routers[0].gateway_firewall = GatewayFirewall::new(true, vec![rule]).with_flood(udp(2));
    let mut b = Bench::new(net);
    b.introduce_all();
    let host = ip("2001:db8:2::10");
    b.send(EXT, packet::neighbor_solicitation(M1, host, ip("2001:db8:2::1")));
    let six = |port| {
        FrameBuilder::new(ip("2001:db8:a::12"), host).macs(mac(1), GATEWAY).udp(port, 53).build()
    };
    only(&b.send(POD_A, six(1)), EXT);
    only(&b.go(A, from(A, H1).udp(1, 53)), EXT);
    assert!(b.send(POD_A, six(2)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T0Firewall, DropReason::FloodProtection, "t0".into()));
    assert_eq!((b.worker.flows(T0, FlowClass::Udp), b.worker.flows(T1, FlowClass::Udp)), (2, 2));
    // The Tier-0 lets more pass: then it is the Tier-1 that has three.
    b.net.epoch += 1;
    b.net.routers[0].gateway_firewall = GatewayFirewall::default();
    only(&b.send(POD_A, six(2)), EXT);
    assert!(b.send(POD_A, six(3)).is_empty());
    assert!(b.worker.drops().keys().any(|d| d.stage == Stage::T1Firewall && d.object == "t1"));
}

#[test]
fn a_firewall_that_is_switched_off_protects_nothing() {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    net.routers[1].gateway_firewall =
        GatewayFirewall::new(false, Vec::new()).with_flood(all(1, 1, 1, 1));
    let mut b = Bench::new(net);
    b.introduce_all();
    assert!((1..5).all(|port| passes(&mut b, H1, from(H1, VIP).udp(port, 53))));
}

/// What the table holds, counted anew.
fn recount(b: &mut Bench) -> BTreeMap<(FlowPlace, FlowClass), usize> {
    let mut counts = BTreeMap::new();
    for session in b.worker.sessions() {
        let mut gateways = BTreeSet::new();
        for record in &session.records {
            match record.node {
                Node::Firewall(port) => {
                    if let Some(class) = session.flow_class() {
                        *counts.entry((port.into(), class)).or_default() += 1;
                    }
                }
                Node::Gateway(router) | Node::GatewayFirewall(router) => {
                    gateways.extend(session.flow_class().map(|class| (router, class)));
                    if matches!(record.kind, RecordKind::Nat { .. })
                        && record.before != record.after
                    {
                        gateways.insert((router, FlowClass::Nat));
                    }
                }
                Node::Balancer(_) => {}
            }
        }
        for (router, class) in gateways {
            *counts.entry((router.into(), class)).or_default() += 1;
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
        net.firewall.flood = all(3, 3, 2, 1);
        let gateway = FloodLimits { nat: Some(4), ..all(2, 2, 2, 1) };
        let rule = gateway_rule(1, Direction::InOut, Action::Allow);
        net.routers[1].gateway_firewall = GatewayFirewall::new(true, vec![rule]).with_flood(gateway);
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
            let places = [POD_A, POD_B, POD_C].map(|port| (FlowPlace::from(port), most));
            for (place, limits) in places.into_iter().chain([(T1.into(), gateway)]) {
                for class in CLASSES {
                    let count = b.worker.flows(place, class);
                    prop_assert_eq!(count, counts.get(&(place, class)).copied().unwrap_or(0));
                    prop_assert!(count <= limits.limit(class).map_or(0, |most| most as usize));
                }
            }
        }
    }
}
