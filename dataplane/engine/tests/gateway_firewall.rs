//! The firewall of a gateway: what it judges, what it remembers, and where it stands among NAT and load
//! balancing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Node, RuleKey, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{IcmpErrorKind, IcmpMessage, Time, Transport, tcp_flags::*};

/// An external address that is forwarded to pod/a.
const E: &str = "198.51.100.7";
const SNAT: &str = "172.16.2.2";

fn set(text: &str) -> AddressSet {
    let p = prefix(text);
    AddressSet::from_ranges([(p.first(), p.last())])
}

fn allow(id: u32, direction: Direction) -> GatewayRule {
    gateway_rule(id, direction, Action::Allow)
}

fn deny(id: u32) -> GatewayRule {
    gateway_rule(id, Direction::InOut, Action::Drop)
}

fn stateless(rule: GatewayRule) -> GatewayRule {
    GatewayRule { stateful: false, ..rule }
}

/// The lab with DNAT of [`E`] to pod/a, SNAT, and these rules at the Tier-1.
fn net(rules: Vec<GatewayRule>) -> Network {
    let mut net = lab();
    add_routes(&mut net, T0, vec![to("198.51.100.0/24", 1, None)]);
    net.routers[1].nat = NatTable::new(vec![dnat(FirewallMatch::Internal), snat()]);
    net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
    net
}

fn dnat(firewall_match: FirewallMatch) -> NatRule {
    let ports = Some(PortMap { original: 80, translated: (8080, 8080) });
    let action = NatAction::Dnat { to: prefix("10.244.0.18/32"), ports };
    NatRule {
        destination: Some(prefix("198.51.100.7/32")),
        service: Some(Service { protocol: 6, ports: ServicePorts::Destination(vec![(80, 80)]) }),
        firewall_match,
        ..NatRule::new(9, "dnat", 100, action)
    }
}

fn snat() -> NatRule {
    let action = NatAction::Snat(AddressRange::host(ip(SNAT)));
    let source = Some(vec![prefix("10.244.0.0/20")]);
    NatRule { source, ..NatRule::new(1, "snat", 1000, action) }
}

fn bench(rules: Vec<GatewayRule>) -> Bench {
    let mut b = Bench::new(net(rules));
    b.introduce_all();
    b
}

fn with(edit: impl FnOnce(&mut Network)) -> Bench {
    let mut net = net(Vec::new());
    edit(&mut net);
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn change(b: &mut Bench, rules: Vec<GatewayRule>) {
    b.net.epoch += 1;
    b.net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
}

fn firewall_records(b: &mut Bench) -> usize {
    let sessions = b.worker.sessions();
    let records = sessions.iter().flat_map(|s| &s.records);
    records.filter(|r| matches!(r.node, Node::GatewayFirewall(_))).count()
}

fn refused(b: &Bench, id: u32) {
    assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::Firewall, "t1".into()));
    let rule = b.worker.drops().keys().next().unwrap().rule;
    assert_eq!(rule, Some(RuleKey::GatewayFirewall(T1, id)));
}

#[test]
fn replies_pass_by_the_session_in_both_directions() {
    for cache in [true, false] {
        // Outwards everything, inwards nothing that was not asked for.
        let mut b = Bench::with_cache(net(vec![allow(1, Direction::Out), deny(2)]), cache);
        b.introduce_all();
        assert_eq!(seen(&b.go(A, from(A, H1).tcp(5, 80, SYN).seq(1))).len(), 1);
        let tx = b.go(H1, from(H1, SNAT).tcp(80, 5, SYN | ACK).seq(9).ack(2));
        assert_eq!(seen(&tx), [(POD_A, "192.0.2.10:80 > 10.244.0.18:5".into())]);
        for _ in 0..3 {
            assert_eq!(b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10)).len(), 1);
            assert_eq!(b.go(H1, from(H1, SNAT).tcp(80, 5, ACK).seq(10).ack(2)).len(), 1);
        }
        assert_eq!(b.worker.cached() > 0, cache);
        assert_eq!(firewall_records(&mut b), 1);
        let hit = b.worker.hits()[&RuleKey::GatewayFirewall(T1, 1)];
        assert_eq!((hit.sessions, hit.traffic.packets), (1, 8));
        assert!(b.go(H1, from(H1, E).tcp(5, 80, SYN)).is_empty());
        refused(&b, 2);
    }
}

#[test]
fn it_judges_only_what_crosses_the_uplink() {
    let mut b = bench(vec![deny(1)]);
    assert_eq!(b.go(A, from(A, B).udp(1, 2)).len(), 1, "between segments");
    // Hairpin: turned around at the gateway.
    let mut b = with(|net| {
        let action = NatAction::Dnat { to: prefix("10.244.0.34/32"), ports: None };
        let destination = Some(prefix("198.51.100.7/32"));
        let rule = NatRule { destination, ..NatRule::new(9, "dnat", 1, action) };
        net.routers[1].nat = NatTable::new(vec![rule, snat()]);
        net.routers[1].gateway_firewall = GatewayFirewall::new(true, vec![deny(1)]);
    });
    assert_eq!(b.go(A, from(A, E).udp(1, 2)).len(), 1);
    assert!(b.worker.drops().is_empty());
}

#[test]
fn no_rules_no_record() {
    let mut b = bench(Vec::new());
    b.go(A, from(A, H1).udp(1, 2));
    assert_eq!(firewall_records(&mut b), 0);
}

#[test]
fn a_session_begins_with_a_syn() {
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK] {
        // Pods are routed and their own firewall picks up in mid-stream: the gateway is strict.
        let mut b = with(|net| {
            net.firewall.rules =
                vec![Rule { strict: false, ..rule(1, "any", "any", Vec::new(), Action::Allow) }];
            vnic(net, POD_A).rules_in = vec![0].into();
            net.routers[1].nat = NatTable::default();
            net.routers[1].private.clear();
            net.routers[1].gateway_firewall =
                GatewayFirewall::new(true, vec![allow(1, Direction::InOut)]);
        });
        assert!(b.go(H1, from(H1, A).tcp(5, 80, flags)).is_empty());
        assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::NotSyn, "t1".into()));
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn a_nat_rule_says_which_address_it_sees() {
    let internal = GatewayRule { destination: set("10.244.0.18/32"), ..deny(1) };
    let external = GatewayRule { destination: set("198.51.100.7/32"), ..deny(2) };
    for (firewall_match, rules, passes) in [
        (FirewallMatch::Internal, vec![internal.clone()], false),
        (FirewallMatch::Internal, vec![external.clone()], true),
        (FirewallMatch::External, vec![internal.clone()], true),
        (FirewallMatch::External, vec![external.clone()], false),
        (FirewallMatch::Bypass, vec![internal, external], true),
    ] {
        let mut b = with(|net| {
            net.routers[1].nat = NatTable::new(vec![dnat(firewall_match), snat()]);
            net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
        });
        let tx = b.go(H1, from(H1, E).tcp(5, 80, SYN).seq(1));
        assert_eq!(!tx.is_empty(), passes, "{firewall_match:?}");
        if passes {
            let tx = b.go(A, from(A, H1).tcp(8080, 5, SYN | ACK).seq(1).ack(2));
            assert_eq!(seen(&tx), [(EXT, "198.51.100.7:80 > 192.0.2.10:5".into())]);
        }
    }
    // The same of a source.
    let internal = GatewayRule { source: set("10.244.0.18/32"), ..deny(1) };
    let external = GatewayRule { source: set("172.16.2.2/32"), ..deny(2) };
    for (firewall_match, rules, passes) in [
        (FirewallMatch::Internal, vec![internal.clone()], false),
        (FirewallMatch::Internal, vec![external.clone()], true),
        (FirewallMatch::External, vec![internal.clone()], true),
        (FirewallMatch::External, vec![external.clone()], false),
        (FirewallMatch::Bypass, vec![internal, external], true),
    ] {
        let mut b = with(|net| {
            net.routers[1].nat = NatTable::new(vec![NatRule { firewall_match, ..snat() }]);
            net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
        });
        let tx = b.go(A, from(A, H1).udp(5, 53));
        assert_eq!(!tx.is_empty(), passes, "source, {firewall_match:?}");
        if passes {
            let tx = b.go(H1, from(H1, SNAT).udp(53, 5));
            assert_eq!(seen(&tx), [(POD_A, "192.0.2.10:53 > 10.244.0.18:5".into())]);
        }
    }
}

#[test]
fn the_internal_port_of_a_forwarded_one_is_the_translated() {
    let port = |n| vec![Service { protocol: 6, ports: ServicePorts::Destination(vec![(n, n)]) }];
    let only = |n| vec![GatewayRule { services: port(n), ..allow(1, Direction::In) }, deny(2)];
    let mut b = bench(only(8080));
    assert_eq!(b.go(H1, from(H1, E).tcp(5, 80, SYN)).len(), 1);
    let mut b = bench(only(80));
    assert!(b.go(H1, from(H1, E).tcp(5, 80, SYN)).is_empty());
    refused(&b, 2);
}

#[test]
fn a_virtual_servers_flow_is_judged_by_the_address_that_the_client_used() {
    let lab = |rules| {
        let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
        net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
        let mut b = Bench::new(net);
        b.introduce_all();
        b
    };
    let vip = GatewayRule { destination: set("172.16.1.1/32"), ..deny(1) };
    let member = GatewayRule { destination: set("10.244.0.0/20"), ..deny(1) };
    let mut b = lab(vec![vip]);
    assert!(b.go(H1, from(H1, VIP).udp(5, 53)).is_empty());
    refused(&b, 1);
    let mut b = lab(vec![member]);
    let tx = b.go(H1, from(H1, VIP).udp(5, 53));
    assert_eq!(seen(&tx), [(POD_A, "100.64.0.1:5 > 10.244.0.18:53".into())]);
    let tx = b.go(A, from(A, AUTO).udp(53, 5));
    assert_eq!(seen(&tx), [(EXT, "172.16.1.1:53 > 192.0.2.10:5".into())]);
    // From inside it does not cross the uplink.
    let mut b = lab(vec![GatewayRule { destination: set("172.16.1.1/32"), ..deny(1) }]);
    assert_eq!(b.go(C, from(C, VIP).udp(5, 53)).len(), 1);
}

#[test]
fn reject_answers_from_the_address_that_the_sender_used() {
    let reject = || vec![gateway_rule(1, Direction::InOut, Action::Reject)];
    let mut b = bench(reject());
    let tx = b.go(H1, from(H1, E).tcp(5, 80, SYN).seq(100));
    assert_eq!(seen(&tx), [(EXT, "198.51.100.7:80 > 192.0.2.10:5".into())]);
    let tcp = only(&tx, EXT).ip().unwrap().tcp().copied().unwrap();
    assert_eq!((tcp.flags, tcp.ack), (RST | ACK, 101));
    let mut b = bench(reject());
    let h = only(&b.go(A, from(A, H1).udp(5, 53)), POD_A);
    let ip4 = h.ip().unwrap();
    let Transport::Icmp(icmp) = ip4.transport else { panic!("{h:?}") };
    // Administratively prohibited, from the server that was asked, about the packet as it was sent.
    assert_eq!((icmp.kind, icmp.code, ip4.src), (3, 13, ip(H1)));
    let IcmpMessage::Error(quoted) = icmp.message else { panic!("{h:?}") };
    assert_eq!((quoted.src, quoted.src_port), (ip(A), 5));
    refused(&b, 1);
}

#[test]
fn a_stateless_rule_remembers_nothing() {
    let mut b = bench(vec![stateless(allow(1, Direction::Out)), deny(2)]);
    assert_eq!(b.go(A, from(A, H1).udp(5, 53)).len(), 1);
    assert_eq!(firewall_records(&mut b), 0);
    // The reply is judged by itself.
    assert!(b.go(H1, from(H1, SNAT).udp(53, 5)).is_empty());
    refused(&b, 2);
    let both =
        vec![stateless(allow(1, Direction::Out)), stateless(allow(2, Direction::In)), deny(3)];
    let mut b = bench(both);
    b.go(A, from(A, H1).udp(5, 53));
    assert_eq!(b.go(H1, from(H1, SNAT).udp(53, 5)).len(), 1);
}

/// What passes by a stateless rule is not repeated from the cache past the session that its answer begins.
#[test]
fn an_answer_to_what_a_stateless_rule_let_pass_may_begin_a_session() {
    let to_port =
        |port| vec![Service { protocol: 17, ports: ServicePorts::Destination(vec![(port, port)]) }];
    let mut b = with(|net| {
        let dns = GatewayRule { services: to_port(53), ..allow(1, Direction::In) };
        let rules = vec![stateless(dns), allow(2, Direction::In)];
        net.routers[0].gateway_firewall = GatewayFirewall::new(true, rules);
    });
    let query = |b: &mut Bench| b.go(H1, from(H1, H2).udp(40, 53)).len();
    assert_eq!((query(&mut b), query(&mut b)), (1, 1));
    assert_eq!(firewall_records(&mut b), 0);
    assert_eq!(b.go(H2, from(H2, H1).udp(53, 40)).len(), 1);
    assert_eq!(firewall_records(&mut b), 1);
    // From now on it is a packet of that session, which counts and refreshes it.
    assert_eq!(query(&mut b), 1);
    assert_eq!(b.worker.hits()[&RuleKey::GatewayFirewall(T0, 2)].traffic.packets, 2);
}

/// Nor is what it let pass where the Tier-0 has a record of the session only since that packet: the next one is known at the Tier-1.
#[test]
fn what_makes_a_session_known_further_out_is_not_repeated_from_the_cache() {
    let mut b = with(|net| {
        net.routers[0].gateway_firewall = GatewayFirewall::new(true, vec![allow(1, Direction::In)]);
        let rules = vec![stateless(allow(1, Direction::In)), allow(2, Direction::Out)];
        net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules);
        net.routers[1].nat = NatTable::default();
        net.routers[1].private.clear();
    });
    b.go(A, from(A, H1).udp(5, 53));
    // The gateways forget the flow, the distributed firewall does not.
    b.advance(Time::from_secs(35));
    assert_eq!(firewall_records(&mut b), 0);
    let reply = |b: &mut Bench| b.go(H1, from(H1, A).udp(53, 5)).len();
    assert_eq!(reply(&mut b), 1);
    assert_eq!(firewall_records(&mut b), 1);
    assert_eq!(reply(&mut b), 1);
    assert_eq!(firewall_records(&mut b), 2);
}

#[test]
fn a_stateless_rule_counts_each_packet() {
    for cache in [true, false] {
        let rules =
            vec![stateless(allow(1, Direction::Out)), stateless(allow(2, Direction::In)), deny(3)];
        let mut b = Bench::with_cache(net(rules), cache);
        b.introduce_all();
        let mut octets = [0, 0];
        for second in 1..=4 {
            b.advance(Time::from_secs(second));
            let out = from(A, H1).udp(5, 53).payload(&[7; 100]);
            octets[0] += out.clone().build().bytes.len() as u64;
            assert_eq!(b.go(A, out).len(), 1);
            let back = from(H1, SNAT).udp(53, 5);
            octets[1] += back.clone().build().bytes.len() as u64;
            assert_eq!(b.go(H1, back).len(), 1);
        }
        assert_eq!(b.worker.cached() > 0, cache);
        // An error about the flow is a packet like any other.
        let sent = b.go(A, from(A, H1).udp(5, 53)).remove(0).1;
        octets[0] += from(A, H1).udp(5, 53).build().bytes.len() as u64;
        let kind = IcmpErrorKind::PortUnreachable;
        let error = packet::icmp_error(&sent, &headers(&sent), kind, ip(H1)).unwrap();
        octets[1] += error.bytes.len() as u64;
        only(&b.send(EXT, error), POD_A);
        let hits = b.worker.hits();
        for (rule, octets) in [(1, octets[0]), (2, octets[1])] {
            let hit = hits[&RuleKey::GatewayFirewall(T1, rule)];
            assert_eq!((hit.traffic.packets, hit.traffic.bytes, hit.sessions), (5, octets, 0));
            assert_eq!(hit.last, Some(Time::from_secs(4)));
        }
        assert!(!hits.contains_key(&RuleKey::GatewayFirewall(T1, 3)));
    }
}

#[test]
fn a_rule_that_changes_takes_effect_on_live_flows() {
    let mut b = bench(vec![allow(1, Direction::InOut)]);
    b.go(A, from(A, H1).udp(5, 53));
    assert_eq!(b.go(H1, from(H1, SNAT).udp(53, 5)).len(), 1);
    // Another rule allows it now: it keeps its port, and counts there.
    change(&mut b, vec![allow(7, Direction::Out), deny(8)]);
    let tx = b.go(H1, from(H1, SNAT).udp(53, 5));
    assert_eq!(seen(&tx), [(POD_A, "192.0.2.10:53 > 10.244.0.18:5".into())]);
    assert_eq!(b.worker.hits()[&RuleKey::GatewayFirewall(T1, 7)].traffic.packets, 1);
    // None does: whichever side's packet comes, the session ends.
    change(&mut b, vec![deny(8)]);
    assert!(b.go(H1, from(H1, SNAT).udp(53, 5)).is_empty());
    refused(&b, 8);
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn an_established_flow_survives_the_first_rules() {
    let mut b = bench(Vec::new());
    b.go(A, from(A, H1).tcp(5, 80, SYN).seq(1));
    b.go(H1, from(H1, SNAT).tcp(80, 5, SYN | ACK).seq(9).ack(2));
    b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10));
    // Judged as it began, though it is the reply that comes.
    change(&mut b, vec![allow(1, Direction::Out), deny(2)]);
    assert_eq!(b.go(H1, from(H1, SNAT).tcp(80, 5, ACK).seq(10).ack(2)).len(), 1);
    assert_eq!(firewall_records(&mut b), 1);
    assert_eq!(b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10)).len(), 1);
    // And one that they deny does not.
    let mut b = bench(Vec::new());
    b.go(A, from(A, H1).udp(5, 53));
    change(&mut b, vec![deny(2)]);
    assert!(b.go(H1, from(H1, SNAT).udp(53, 5)).is_empty());
    refused(&b, 2);
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn it_forgets_by_the_gateways_timers() {
    // Routed pods: the distributed firewall remembers a connection 12 h, the gateway 2 h.
    let mut b = with(|net| {
        net.routers[1].nat = NatTable::default();
        net.routers[1].private.clear();
        net.routers[1].gateway_firewall =
            GatewayFirewall::new(true, vec![allow(1, Direction::InOut)]);
    });
    b.go(A, from(A, H1).tcp(5, 80, SYN).seq(1));
    b.go(H1, from(H1, A).tcp(80, 5, SYN | ACK).seq(9).ack(2));
    b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10));
    b.advance(Time::from_secs(7_199));
    b.introduce_all();
    assert_eq!(b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10)).len(), 1);
    b.advance(Time::from_secs(7_199 + 7_200));
    assert!(b.go(A, from(A, H1).tcp(5, 80, ACK).seq(2).ack(10)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::NotSyn, "t1".into()));
}

#[test]
fn an_icmp_error_passes_with_its_flow_and_not_alone() {
    let mut b = bench(vec![allow(1, Direction::Out), deny(2)]);
    let out = b.go(A, from(A, H1).udp(5, 53));
    let error = |frame: &packet::Frame| {
        let kind = packet::IcmpErrorKind::PortUnreachable;
        packet::icmp_error(frame, &headers(frame), kind, ip(H1)).unwrap()
    };
    assert_eq!(b.send(EXT, error(&out[0].1)).len(), 1);
    // Routed, about nothing.
    let mut b = with(|net| {
        net.routers[1].nat = NatTable::default();
        net.routers[1].private.clear();
        net.routers[1].gateway_firewall =
            GatewayFirewall::new(true, vec![allow(1, Direction::InOut)]);
    });
    let forged = packet::FrameBuilder::new(ip(A), ip(H1)).macs(UPLINK, M1).udp(5, 6).build();
    assert!(b.send(EXT, error(&forged)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Firewall, DropReason::IcmpUnmatched, "t1".into()));
}

#[test]
fn switched_off_it_takes_nat_with_it_unless_bypassed() {
    let off = |firewall_match| {
        with(|net| {
            let rules = vec![dnat(firewall_match), NatRule { firewall_match, ..snat() }];
            net.routers[1].nat = NatTable::new(rules);
            net.routers[1].gateway_firewall = GatewayFirewall::new(false, vec![deny(1)]);
        })
    };
    let reason = DropReason::GatewayFirewallDisabled;
    let mut b = off(FirewallMatch::Internal);
    assert!(b.go(A, from(A, H1).udp(5, 53)).is_empty());
    assert!(b.go(H1, from(H1, E).tcp(5, 80, SYN)).is_empty());
    let drops: Vec<_> = b.worker.drops().keys().map(|d| (d.stage, d.reason, d.rule)).collect();
    assert_eq!(drops, [1, 9].map(|id| (Stage::T1Firewall, reason, Some(RuleKey::Nat(T1, id)))));
    let mut b = off(FirewallMatch::Bypass);
    assert_eq!(b.go(A, from(A, H1).udp(5, 53)).len(), 1);
    assert_eq!(b.go(H1, from(H1, E).tcp(5, 80, SYN)).len(), 1);
    // Of what DNAT sends back outside, the rule about its source says so, in both directions.
    let forward = |source: FirewallMatch| {
        with(|net| {
            let action = NatAction::Dnat { to: prefix("192.0.2.20/32"), ports: None };
            let dnat = NatRule { service: None, action, ..dnat(FirewallMatch::Bypass) };
            let rules = vec![dnat, NatRule { firewall_match: source, ..snat() }];
            net.routers[1].nat = NatTable::new(rules);
            net.routers[1].gateway_firewall = GatewayFirewall::new(false, Vec::new());
        })
    };
    let mut b = forward(FirewallMatch::Internal);
    assert!(b.go(A, from(A, E).udp(5, 53)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Firewall, reason, "t1".into()));
    let mut b = forward(FirewallMatch::Bypass);
    assert_eq!(b.go(A, from(A, E).udp(5, 53)).len(), 1);
    assert_eq!(b.go(H2, from(H2, SNAT).udp(53, 5)).len(), 1);
    // A session from before stops too.
    let mut b = bench(Vec::new());
    b.go(A, from(A, H1).udp(5, 53));
    b.net.epoch += 1;
    b.net.routers[1].gateway_firewall = GatewayFirewall::new(false, Vec::new());
    assert!(b.go(H1, from(H1, SNAT).udp(53, 5)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Firewall, reason, "t1".into()));
    // What no rule translates passes: a virtual server's, and NO_SNAT.
    let mut b = with(|net| {
        net.routers[1].nat = NatTable::new(vec![NatRule::new(1, "keep", 1, NatAction::NoSnat)]);
        net.routers[1].gateway_firewall = GatewayFirewall::new(false, Vec::new());
    });
    assert_eq!(b.go(A, from(A, H1).udp(5, 53)).len(), 1);
}

#[test]
fn tier0_and_tier1_each_have_their_own() {
    let mut b = with(|net| {
        net.routers[1].gateway_firewall =
            GatewayFirewall::new(true, vec![allow(1, Direction::Out), deny(2)]);
        // The Tier-0 sees what the Tier-1 has translated.
        let seen = GatewayRule { source: set("172.16.2.2/32"), ..allow(1, Direction::Out) };
        net.routers[0].gateway_firewall = GatewayFirewall::new(true, vec![seen, deny(2)]);
    });
    assert_eq!(b.go(A, from(A, H1).udp(5, 53)).len(), 1);
    assert_eq!(firewall_records(&mut b), 2);
    assert_eq!(b.go(H1, from(H1, SNAT).udp(53, 5)).len(), 1);
    // To the gateway itself, too.
    assert!(b.go(H1, from(H1, "192.0.2.1").echo_request(1, 1)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T0Firewall, DropReason::Firewall, "t0".into()));
}

#[test]
fn a_reflexive_flow_is_one_flow_in_both_directions() {
    for (firewall_match, seen_as) in
        [(FirewallMatch::Internal, "10.244.0.18/32"), (FirewallMatch::External, "198.51.100.18/32")]
    {
        let only = GatewayRule { source: set(seen_as), ..allow(1, Direction::Out) };
        let mut b = with(|net| {
            let action = NatAction::Reflexive {
                internal: prefix("10.244.0.18/32"),
                external: prefix("198.51.100.18/32"),
            };
            let rule = NatRule { firewall_match, ..NatRule::new(9, "r", 1, action) };
            net.routers[1].nat = NatTable::new(vec![rule]);
            net.routers[1].gateway_firewall = GatewayFirewall::new(true, vec![only, deny(2)]);
        });
        let tx = b.go(A, from(A, H1).udp(5, 53));
        assert_eq!(seen(&tx), [(EXT, "198.51.100.18:5 > 192.0.2.10:53".into())]);
        let tx = b.go(H1, from(H1, "198.51.100.18").udp(53, 5));
        assert_eq!(seen(&tx), [(POD_A, "192.0.2.10:53 > 10.244.0.18:5".into())]);
        assert!(b.go(H2, from(H2, "198.51.100.18").udp(53, 5)).is_empty());
        refused(&b, 2);
    }
}
