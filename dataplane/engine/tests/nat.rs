//! Every kind of NAT rule, in both directions: DNAT, NO_DNAT, SNAT to a pool, REFLEXIVE, hairpin.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Node, RecordKind, RuleKey, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, IcmpErrorKind, Time, tcp_flags::*};

/// External addresses of the inside, routed to the Tier-1.
const E: &str = "198.51.100.7";
const SNAT: &str = "172.16.2.2";

fn dnat(id: u32, destination: &str, to: &str) -> NatRule {
    let action = NatAction::Dnat { to: prefix(to), ports: None };
    NatRule {
        destination: Some(prefix(destination)),
        ..NatRule::new(id, format!("dnat-{id}"), 100, action)
    }
}

fn port_forward(id: u32, protocol: u8, ports: (u16, u16), to: &str, new: (u16, u16)) -> NatRule {
    NatRule {
        destination: Some(prefix("198.51.100.7/32")),
        service: Some(Service { protocol, ports: ServicePorts::Destination(vec![ports]) }),
        ..NatRule::new(
            id,
            format!("forward-{id}"),
            100,
            NatAction::Dnat {
                to: prefix(to),
                ports: Some(PortMap { original: ports.0, translated: new }),
            },
        )
    }
}

fn reflexive(id: u32, internal: &str, external: &str) -> NatRule {
    let action = NatAction::Reflexive { internal: prefix(internal), external: prefix(external) };
    NatRule::new(id, format!("reflexive-{id}"), 50, action)
}

fn snat() -> NatRule {
    let action = NatAction::Snat(AddressRange::host(ip(SNAT)));
    NatRule { source: Some(vec![prefix("10.244.0.0/20")]), ..NatRule::new(1, "snat", 1000, action) }
}

/// The lab with these rules beside the SNAT rule at the Tier-1.
fn net(rules: impl IntoIterator<Item = NatRule>) -> Network {
    let mut net = lab();
    add_routes(&mut net, T0, vec![to("198.51.100.0/24", 1, None)]);
    add_routes(&mut net, T0, vec![to("2001:db8:e::/64", 1, None)]);
    add_routes(&mut net, T0, vec![to("2001:db8:f::/64", 1, None)]);
    net.routers[1].nat = NatTable::new(rules.into_iter().chain([snat()]).collect());
    net
}

fn bench(rules: impl IntoIterator<Item = NatRule>) -> Bench {
    let mut b = Bench::new(net(rules));
    b.introduce_all();
    b
}

/// `port src:port > dst:port` of the only frame.
fn one(tx: &[(PortId, Frame)]) -> (PortId, String) {
    let mut all = seen(tx);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn gateway_records(b: &mut Bench) -> Vec<(String, String)> {
    let sessions = b.worker.sessions();
    let records = sessions.iter().flat_map(|s| &s.records);
    let own = records.filter(|r| matches!(r.node, Node::Gateway(_)));
    own.map(|r| (r.before.to_string(), r.after.to_string())).collect()
}

#[test]
fn a_forwarded_port_is_translated_in_both_directions() {
    for cache in [true, false] {
        let mut b = Bench::with_cache(
            net([port_forward(9, 6, (80, 80), "10.244.0.18/32", (8080, 8080))]),
            cache,
        );
        b.introduce_all();
        let tx = b.go(H1, from(H1, E).tcp(40_000, 80, SYN).seq(1));
        assert_eq!(one(&tx), (POD_A, "192.0.2.10:40000 > 10.244.0.18:8080".into()));
        assert_eq!(only(&tx, POD_A).ip().unwrap().ttl, 62);
        let tx = b.go(A, from(A, H1).tcp(8080, 40_000, SYN | ACK).seq(7).ack(2));
        assert_eq!(one(&tx), (EXT, "198.51.100.7:80 > 192.0.2.10:40000".into()));
        for _ in 0..3 {
            let tx = b.go(H1, from(H1, E).tcp(40_000, 80, ACK).seq(2).ack(8));
            assert_eq!(one(&tx), (POD_A, "192.0.2.10:40000 > 10.244.0.18:8080".into()));
        }
        assert_eq!(b.worker.cached() > 0, cache);
        let rule = RuleKey::Nat(T1, 9);
        let hits = b.worker.hits();
        assert_eq!((hits[&rule].sessions, hits[&rule].traffic.packets), (1, 5));
    }
}

#[test]
fn a_forwarded_connection_begins_with_a_syn() {
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        let mut b = bench([dnat(9, "198.51.100.7/32", "10.244.0.18/32")]);
        assert!(b.go(H1, from(H1, E).tcp(40_000, 80, flags)).is_empty());
        assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NotSyn, "t1".into()));
        assert_eq!(b.worker.drops().keys().next().unwrap().rule, Some(RuleKey::Nat(T1, 9)));
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn what_no_rule_forwards_ends_at_the_gateway() {
    let mut b = bench([port_forward(9, 6, (80, 80), "10.244.0.18/32", (8080, 8080))]);
    assert!(b.go(H1, from(H1, E).tcp(40_000, 81, SYN)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NoSession, "t1".into()));
    let mut b = bench([port_forward(9, 6, (80, 80), "10.244.0.18/32", (8080, 8080))]);
    assert!(b.go(H1, from(H1, E).udp(40_000, 80)).is_empty());
    assert!(b.go(H1, from(H1, E).echo_request(1, 1)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NoSession, "t1".into()));
}

#[test]
fn port_ranges_and_networks_are_translated_by_offset() {
    let mut b = bench([
        port_forward(8, 17, (5000, 5009), "10.244.0.34/32", (6000, 6009)),
        dnat(9, "198.51.100.16/28", "10.244.0.16/28"),
    ]);
    let tx = b.go(H1, from(H1, E).udp(40_000, 5007));
    assert_eq!(one(&tx), (POD_B, "192.0.2.10:40000 > 10.244.0.34:6007".into()));
    let tx = b.go(B, from(B, H1).udp(6007, 40_000));
    assert_eq!(one(&tx), (EXT, "198.51.100.7:5007 > 192.0.2.10:40000".into()));
    // .19 is the fourth address of both networks.
    let tx = b.go(H1, from(H1, "198.51.100.19").udp(40_000, 53));
    assert_eq!(one(&tx), (POD_C, "192.0.2.10:40000 > 10.244.0.19:53".into()));
    let tx = b.go(C, from(C, H1).udp(53, 40_000));
    assert_eq!(one(&tx), (EXT, "198.51.100.19:53 > 192.0.2.10:40000".into()));
}

#[test]
fn no_dnat_stops_the_search() {
    let exempt = NatRule {
        source: Some(vec![prefix("192.0.2.20/32")]),
        ..NatRule::new(8, "exempt", 10, NatAction::NoDnat)
    };
    let rules = [exempt, dnat(9, "198.51.100.7/32", "10.244.0.18/32")];
    let mut b = bench(rules.clone());
    assert_eq!(one(&b.go(H1, from(H1, E).udp(1, 2))).0, POD_A);
    assert!(b.go(H2, from(H2, E).udp(1, 2)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NoSession, "t1".into()));
    // It lets nobody in to a private address either.
    let mut b = bench(rules);
    assert!(b.go(H2, from(H2, A).udp(1, 2)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::PrivateDestination, "t1".into()));
}

#[test]
fn pings_and_errors_go_through_a_dnat_rule() {
    let mut b = bench([dnat(9, "198.51.100.7/32", "10.244.0.18/32")]);
    let tx = b.go(H1, from(H1, E).echo_request(77, 1));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:77 > 10.244.0.18:77".into()));
    let tx = b.go(A, from(A, H1).echo_reply(77, 1));
    assert_eq!(one(&tx), (EXT, "198.51.100.7:77 > 192.0.2.10:77".into()));
    // The target says port unreachable: outer source and quoted destination are the external ones.
    let inside = b.go(H1, from(H1, E).udp(40_000, 9));
    let error = |frame: &Frame, kind, source: &str| {
        packet::icmp_error(frame, &headers(frame), kind, ip(source)).unwrap()
    };
    let unreachable = error(&inside[0].1, IcmpErrorKind::PortUnreachable, A);
    let h = only(&b.send(POD_A, unreachable), EXT);
    let (outer, quoted) = (h.ip().unwrap(), h.ip().unwrap().embedded().unwrap());
    assert_eq!((outer.src, outer.dst), (ip(E), ip(H1)));
    assert_eq!((quoted.src, quoted.dst, quoted.dst_port), (ip(H1), ip(E), 9));
    // And one from outside about the answer.
    let answer = b.go(A, from(A, H1).udp(9, 40_000));
    let too_large = error(&answer[0].1, IcmpErrorKind::FragmentationNeeded { mtu: 1400 }, H2);
    let h = only(&b.send(EXT2, too_large), POD_A);
    let (outer, quoted) = (h.ip().unwrap(), h.ip().unwrap().embedded().unwrap());
    assert_eq!((outer.src, outer.dst), (ip(H2), ip(A)));
    assert_eq!((quoted.src, quoted.dst, quoted.src_port), (ip(A), ip(H1), 9));
    // An error about nothing that was ever sent.
    let forged = FrameBuilder::new(ip(E), ip(H1)).macs(UPLINK, M1).udp(5, 6).build();
    let forged = error(&forged, IcmpErrorKind::PortUnreachable, H1);
    assert!(b.send(EXT, forged).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::IcmpUnmatched, "t1".into()));
}

#[test]
fn two_ways_to_one_target_never_share_a_reply() {
    let mut b = bench([
        dnat(8, "198.51.100.7/32", "10.244.0.18/32"),
        dnat(9, "198.51.100.8/32", "10.244.0.18/32"),
    ]);
    let first = one(&b.go(H1, from(H1, E).udp(40_000, 53)));
    assert_eq!(first, (POD_A, "192.0.2.10:40000 > 10.244.0.18:53".into()));
    let tx = b.go(H1, from(H1, "198.51.100.8").udp(40_000, 53));
    let h = only(&tx, POD_A);
    let (port, _) = h.ip().unwrap().ports();
    assert_eq!(h.ip().unwrap().src, ip(H1));
    assert_ne!(port, 40_000);
    for (to, source) in [(40_000, E), (port, "198.51.100.8")] {
        let tx = b.go(A, from(A, H1).udp(53, to));
        assert_eq!(one(&tx), (EXT, format!("{source}:53 > 192.0.2.10:40000")));
    }
    // Without ports there is nothing to tell them apart by.
    let mut b = bench([
        dnat(8, "198.51.100.7/32", "10.244.0.18/32"),
        dnat(9, "198.51.100.8/32", "10.244.0.18/32"),
    ]);
    b.go(H1, from(H1, E).protocol(47).payload(&[0; 8]));
    assert!(b.go(H1, from(H1, "198.51.100.8").protocol(47).payload(&[0; 8])).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NatPortExhausted, "t1".into()));
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut b = bench([
        dnat(8, "198.51.100.7/32", "10.244.0.18/32"),
        reflexive(9, "10.244.0.34/32", "198.51.100.34/32"),
    ]);
    for target in [E, "198.51.100.34"] {
        let tx = b.go(H1, from(H1, target).udp(1, 2).no_udp_checksum());
        assert_eq!(tx.len(), 1);
        // Ethernet 14, IPv4 20, checksum at 6 of UDP.
        assert_eq!(tx[0].1.bytes[40..42], [0, 0]);
    }
}

#[test]
fn a_pool_gives_a_host_one_address_and_the_next_when_it_is_used_up() {
    let range = AddressRange::new(ip("172.16.2.10"), ip("172.16.2.13")).unwrap();
    let pool = NatRule::new(9, "pool", 10, NatAction::Snat(range));
    let mut net = net([pool]);
    add_routes(&mut net, T0, vec![to("172.16.2.0/24", 1, None)]);
    let mut b = Bench::new(net);
    b.introduce_all();
    let source = |b: &mut Bench, frame: FrameBuilder| {
        let src = frame.build();
        let h = only(&b.send(POD_A, src), EXT);
        h.ip().unwrap().src
    };
    let first = source(&mut b, from(A, H1).udp(1, 2));
    assert!((range.first()..=range.last()).contains(&first));
    assert_eq!(source(&mut b, from(A, H1).udp(3, 4)), first, "a host has one address");
    // GRE has no ports: one flow of it to a host uses an address up.
    let mut used = Vec::new();
    for src in [A, C, B] {
        let tx = b.go(src, from(src, H1).protocol(47).payload(&[0; 8]));
        used.push(only(&tx, EXT).ip().unwrap().src);
    }
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 3, "{used:?}");
    // The replies find their way.
    for src in used {
        let tx = b.go(H1, from(H1, &src.to_string()).protocol(47).payload(&[0; 8]));
        assert_eq!(tx.len(), 1);
    }
}

#[test]
fn what_came_in_untranslated_is_answered_untranslated() {
    // Pods are routed, and yet a rule translates what they begin themselves.
    let mut net = net([]);
    net.routers[1].private.clear();
    let mut b = Bench::new(net);
    b.introduce_all();
    let tx = b.go(H1, from(H1, A).tcp(40_000, 80, SYN).seq(1));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:40000 > 10.244.0.18:80".into()));
    let tx = b.go(A, from(A, H1).tcp(80, 40_000, SYN | ACK).seq(1).ack(2));
    assert_eq!(one(&tx), (EXT, "10.244.0.18:80 > 192.0.2.10:40000".into()));
    assert_eq!(one(&b.go(A, from(A, H1).udp(5, 6))).1, "172.16.2.2:5 > 192.0.2.10:6");
    let kinds: Vec<RecordKind> = b.worker.sessions()[0]
        .records
        .iter()
        .filter(|r| r.node == Node::Gateway(T1))
        .map(|r| r.kind)
        .collect();
    assert_eq!(kinds, [RecordKind::Untranslated]);
}

#[test]
fn a_reflexive_rule_translates_both_directions_without_a_session() {
    // The Tier-0 is active-active: nothing but reflexive NAT. The pods are routed below it.
    let mut net = lab();
    net.routers[1].nat = NatTable::default();
    net.routers[1].private.clear();
    net.routers[0].nat = NatTable::new(vec![reflexive(9, "10.244.0.16/28", "198.51.100.16/28")]);
    // Mid-stream, where the pod's firewall picks up.
    net.firewall.rules =
        vec![Rule { strict: false, ..rule(1, "any", "any", Vec::new(), Action::Allow) }];
    vnic(&mut net, POD_A).rules_in = vec![0].into();
    vnic(&mut net, POD_A).rules_out = vec![0].into();
    let mut b = Bench::new(net);
    b.introduce_all();
    let tx = b.go(H1, from(H1, "198.51.100.18").tcp(40_000, 80, ACK).seq(5).ack(5));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:40000 > 10.244.0.18:80".into()));
    let tx = b.go(A, from(A, H1).tcp(80, 40_000, ACK).seq(5).ack(5));
    assert_eq!(one(&tx), (EXT, "198.51.100.18:80 > 192.0.2.10:40000".into()));
    let tx = b.go(A, from(A, H2).udp(1, 2));
    assert_eq!(one(&tx), (EXT2, "198.51.100.18:1 > 192.0.2.20:2".into()));
    let tx = b.go(H2, from(H2, "198.51.100.18").echo_request(3, 1));
    assert_eq!(one(&tx), (POD_A, "192.0.2.20:3 > 10.244.0.18:3".into()));
    assert!(gateway_records(&mut b).is_empty());
    // Outside of its network it does nothing: pod/b leaves as it is.
    assert_eq!(one(&b.go(B, from(B, H1).udp(1, 2))).1, "10.244.0.34:1 > 192.0.2.10:2");
}

#[test]
fn a_reflexive_rule_counts_each_packet_that_it_translates() {
    for cache in [true, false] {
        let rules = [
            reflexive(8, "10.244.0.18/32", "198.51.100.18/32"),
            reflexive(9, "10.244.0.34/32", "198.51.100.34/32"),
        ];
        let mut b = Bench::with_cache(net(rules), cache);
        b.introduce_all();
        let mut octets = 0;
        for second in 1..=3 {
            b.advance(Time::from_secs(second));
            let (out, back) = (from(A, H1).udp(5, 53), from(H1, "198.51.100.18").udp(53, 5));
            for (src, frame) in [(A, out.payload(&[7; 300])), (H1, back)] {
                octets += frame.clone().build().bytes.len() as u64;
                assert_eq!(b.go(src, frame).len(), 1);
            }
        }
        assert_eq!(b.worker.cached() > 0, cache);
        let hit = b.worker.hits()[&RuleKey::Nat(T1, 8)];
        assert_eq!((hit.traffic.packets, hit.traffic.bytes, hit.sessions), (6, octets, 0));
        assert_eq!(hit.last, Some(Time::from_secs(3)));
        assert!(!b.worker.hits().contains_key(&RuleKey::Nat(T1, 9)));
        // Between two external addresses both rules translate.
        for _ in 0..3 {
            assert_eq!(b.go(A, from(A, "198.51.100.34").udp(1, 2)).len(), 1);
        }
        let packets =
            |b: &mut Bench, rule| b.worker.hits()[&RuleKey::Nat(T1, rule)].traffic.packets;
        assert_eq!((packets(&mut b, 8), packets(&mut b, 9)), (9, 3));
        // What a record translates counts once, by the record; a packet that does not arrive counts nowhere.
        for _ in 0..3 {
            assert_eq!(b.go(C, from(C, "198.51.100.34").udp(1, 2)).len(), 1);
        }
        assert_eq!((packets(&mut b, 8), packets(&mut b, 9)), (9, 6));
        assert_eq!(b.worker.hits()[&RuleKey::Nat(T1, 9)].sessions, 1);
        b.go(A, from(A, H1).udp(5, 53).ttl(2));
        assert_eq!(packets(&mut b, 8), 9);
    }
}

#[test]
fn errors_and_fragments_pass_a_reflexive_rule() {
    let mut b = bench([reflexive(9, "10.244.0.18/32", "198.51.100.18/32")]);
    let out = b.go(A, from(A, H1).udp(40_000, 9));
    assert_eq!(one(&out), (EXT, "198.51.100.18:40000 > 192.0.2.10:9".into()));
    let error = |frame: &Frame, source: &str| {
        let kind = IcmpErrorKind::PortUnreachable;
        packet::icmp_error(frame, &headers(frame), kind, ip(source)).unwrap()
    };
    let h = only(&b.send(EXT, error(&out[0].1, H1)), POD_A);
    let (outer, quoted) = (h.ip().unwrap(), h.ip().unwrap().embedded().unwrap());
    assert_eq!((outer.src, outer.dst), (ip(H1), ip(A)));
    assert_eq!((quoted.src, quoted.dst), (ip(A), ip(H1)));
    let inside = b.go(H1, from(H1, "198.51.100.18").udp(9, 40_000));
    let h = only(&b.send(POD_A, error(&inside[0].1, A)), EXT);
    let (outer, quoted) = (h.ip().unwrap(), h.ip().unwrap().embedded().unwrap());
    assert_eq!((outer.src, outer.dst), (ip("198.51.100.18"), ip(H1)));
    assert_eq!((quoted.src, quoted.dst), (ip(H1), ip("198.51.100.18")));
    // A datagram in two pieces, the second one first.
    let whole = from(H1, "198.51.100.18").udp(9, 40_000).id(5).dont_fragment(false);
    let whole = whole.payload(&[7; 1200]).build();
    let pieces = packet::fragment_ipv4(&whole, &headers(&whole), 800).unwrap();
    assert!(b.send(EXT, pieces[1].clone()).is_empty());
    let tx = b.send(EXT, pieces[0].clone());
    assert_eq!(tx.len(), 2);
    for (port, frame) in &tx {
        let h = packet::parse(&frame.bytes).unwrap();
        assert_eq!((*port, h.ip().unwrap().dst), (POD_A, ip(A)));
    }
    // An error that quotes another host's packet than the one it is sent to.
    let other = FrameBuilder::new(ip("198.51.100.99"), ip(H1)).macs(UPLINK, M1).udp(5, 6).build();
    let mut stray = error(&other, H1);
    stray.bytes[30..34].copy_from_slice(&ip("198.51.100.18").low32().to_be_bytes());
    stray.bytes[24..26].fill(0);
    let sum = packet::checksum(&stray.bytes[14..34]);
    stray.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(b.send(EXT, stray).is_empty());
}

#[test]
fn hairpin_shows_the_external_source_and_comes_back() {
    // Inside host to its own gateway's external address; target in another and in the same segment,
    // and the host itself.
    for (target, port, reply_from) in [(B, POD_B, B), (C, POD_C, C), (A, POD_A, A)] {
        let mut b = bench([dnat(9, "198.51.100.7/32", &format!("{target}/32"))]);
        let tx = b.go(A, from(A, E).tcp(40_000, 80, SYN).seq(1));
        assert_eq!(one(&tx), (port, format!("{SNAT}:40000 > {target}:80")));
        let tx = b.go(reply_from, from(reply_from, SNAT).tcp(80, 40_000, SYN | ACK).seq(1).ack(2));
        assert_eq!(one(&tx), (POD_A, format!("{E}:80 > {A}:40000")));
        let tx = b.go(A, from(A, E).tcp(40_000, 80, ACK).seq(2).ack(2));
        assert_eq!(one(&tx), (port, format!("{SNAT}:40000 > {target}:80")));
        assert_eq!(
            gateway_records(&mut b),
            [(format!("TCP {A}:40000 > {E}:80"), format!("TCP {SNAT}:40000 > {target}:80"))],
            "one record"
        );
    }
}

#[test]
fn hairpin_of_a_ping_and_of_its_error() {
    let mut b = bench([dnat(9, "198.51.100.7/32", "10.244.0.34/32")]);
    let tx = b.go(A, from(A, E).echo_request(5, 1));
    assert_eq!(one(&tx), (POD_B, "172.16.2.2:5 > 10.244.0.34:5".into()));
    let tx = b.go(B, from(B, SNAT).echo_reply(5, 1));
    assert_eq!(one(&tx), (POD_A, "198.51.100.7:5 > 10.244.0.18:5".into()));
    let inside = b.go(A, from(A, E).udp(40_000, 9));
    let error = packet::icmp_error(
        &inside[0].1,
        &headers(&inside[0].1),
        IcmpErrorKind::PortUnreachable,
        ip(B),
    );
    let h = only(&b.send(POD_B, error.unwrap()), POD_A);
    let (outer, quoted) = (h.ip().unwrap(), h.ip().unwrap().embedded().unwrap());
    assert_eq!((outer.src, outer.dst), (ip(E), ip(A)));
    assert_eq!((quoted.src, quoted.dst, quoted.dst_port), (ip(A), ip(E), 9));
}

#[test]
fn hairpin_between_reflexive_addresses_needs_no_record() {
    let mut b = bench([
        reflexive(8, "10.244.0.18/32", "198.51.100.18/32"),
        reflexive(9, "10.244.0.34/32", "198.51.100.34/32"),
    ]);
    let tx = b.go(A, from(A, "198.51.100.34").udp(1, 2));
    assert_eq!(one(&tx), (POD_B, "198.51.100.18:1 > 10.244.0.34:2".into()));
    let tx = b.go(B, from(B, "198.51.100.18").udp(2, 1));
    assert_eq!(one(&tx), (POD_A, "198.51.100.34:2 > 10.244.0.18:1".into()));
    assert!(gateway_records(&mut b).is_empty());
    // A host that leaves by SNAT reaches one too, by a record.
    let tx = b.go(C, from(C, "198.51.100.34").udp(1, 2));
    assert_eq!(one(&tx), (POD_B, "172.16.2.2:1 > 10.244.0.34:2".into()));
    let tx = b.go(B, from(B, SNAT).udp(2, 1));
    assert_eq!(one(&tx), (POD_C, "198.51.100.34:2 > 10.244.0.19:1".into()));
    assert_eq!(gateway_records(&mut b).len(), 1);
}

#[test]
fn a_host_can_tell_its_own_question_from_its_answer() {
    let mut b = bench([reflexive(9, "10.244.0.18/32", "198.51.100.18/32")]);
    let h = only(&b.go(A, from(A, "198.51.100.18").echo_request(5, 1)), POD_A);
    let ip4 = h.ip().unwrap();
    assert_eq!((ip4.src, ip4.dst), (ip("198.51.100.18"), ip(A)));
    // Source and destination have changed places: with the same identifier both would be one tuple.
    let (id, _) = ip4.ports();
    assert_ne!(id, 5);
    let tx = b.go(A, from(A, "198.51.100.18").echo_reply(id, 1));
    assert_eq!(one(&tx), (POD_A, "198.51.100.18:5 > 10.244.0.18:5".into()));
}

#[test]
fn hairpin_without_an_external_source() {
    let keep = NatRule::new(7, "keep", 10, NatAction::NoSnat);
    let rules = |target: &str| [keep.clone(), dnat(9, "198.51.100.7/32", target)];
    // In another segment the answer comes back by the gateway anyway.
    let mut b = bench(rules("10.244.0.34/32"));
    let tx = b.go(A, from(A, E).udp(1, 2));
    assert_eq!(one(&tx), (POD_B, "10.244.0.18:1 > 10.244.0.34:2".into()));
    let tx = b.go(B, from(B, A).udp(2, 1));
    assert_eq!(one(&tx), (POD_A, "198.51.100.7:2 > 10.244.0.18:1".into()));
    // In the same one only if the address that was asked for stands in for the client.
    let mut b = bench(rules("10.244.0.19/32"));
    let tx = b.go(A, from(A, E).udp(1, 2));
    assert_eq!(one(&tx), (POD_C, "198.51.100.7:1 > 10.244.0.19:2".into()));
    let tx = b.go(C, from(C, E).udp(2, 1));
    assert_eq!(one(&tx), (POD_A, "198.51.100.7:2 > 10.244.0.18:1".into()));
}

#[test]
fn an_answer_that_the_gateway_has_forgotten_is_translated_or_does_not_arrive() {
    for cache in [true, false] {
        let keep = NatRule::new(7, "keep", 10, NatAction::NoSnat);
        let mut b =
            Bench::with_cache(net([keep, dnat(9, "198.51.100.7/32", "10.244.0.34/32")]), cache);
        b.introduce_all();
        b.go(A, from(A, E).udp(1, 2));
        let answer = || from(B, A).udp(2, 1);
        assert_eq!(one(&b.go(B, answer())).1, "198.51.100.7:2 > 10.244.0.18:1");
        // Behind 30 s the gateway has forgotten what both firewalls still know for 60.
        b.advance(Time::from_secs(31));
        for _ in 0..3 {
            // Of 10.244.0.34 pod/a knows nothing.
            assert!(b.go(B, answer()).is_empty());
            assert_eq!(b.only_drop(), (Stage::Dlb, DropReason::NoSession, "pod/a".into()));
        }
        assert_eq!(one(&b.go(A, from(A, E).udp(1, 2))).0, POD_B);
        assert_eq!(one(&b.go(B, answer())).1, "198.51.100.7:2 > 10.244.0.18:1");
    }
}

#[test]
fn a_virtual_servers_connection_meets_no_rule() {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    net.routers[1].nat = NatTable::new(vec![dnat(9, "172.16.1.1/32", "10.244.0.19/32"), snat()]);
    let mut b = Bench::new(net);
    b.introduce_all();
    let tx = b.go(H1, from(H1, VIP).udp(40_000, 53));
    assert_eq!(one(&tx), (POD_A, "100.64.0.1:40000 > 10.244.0.18:53".into()));
    let tx = b.go(A, from(A, AUTO).udp(53, 40_000));
    assert_eq!(one(&tx), (EXT, "172.16.1.1:53 > 192.0.2.10:40000".into()));
}

#[test]
fn ipv6_is_translated_by_the_same_rules() {
    let six = "2001:db8:a::12";
    let mut b = bench([
        dnat(8, "2001:db8:e::7/128", "2001:db8:a::12/128"),
        reflexive(9, "2001:db8:b::/64", "2001:db8:f::/64"),
    ]);
    let host = ip("2001:db8:2::10");
    b.send(EXT, packet::neighbor_solicitation(M1, host, ip("2001:db8:2::1")));
    let to = |dst: &str| FrameBuilder::new(host, ip(dst)).macs(M1, UPLINK);
    let tx = b.send(EXT, to("2001:db8:e::7").tcp(1, 2, SYN).build());
    assert_eq!(one(&tx), (POD_A, format!("2001:db8:2::10:1 > {six}:2")));
    let answer = FrameBuilder::new(ip(six), host).macs(mac(1), GATEWAY).tcp(2, 1, SYN | ACK);
    let tx = b.send(POD_A, answer.ack(1).build());
    assert_eq!(one(&tx), (EXT, "2001:db8:e::7:2 > 2001:db8:2::10:1".into()));
    let tx = b.send(EXT, to("2001:db8:f::22").udp(1, 2).build());
    assert_eq!(one(&tx), (POD_B, "2001:db8:2::10:1 > 2001:db8:b::22:2".into()));
    let answer = FrameBuilder::new(ip("2001:db8:b::22"), host).macs(mac(2), GATEWAY).udp(2, 1);
    let tx = b.send(POD_B, answer.build());
    assert_eq!(one(&tx), (EXT, "2001:db8:f::22:2 > 2001:db8:2::10:1".into()));
    // The families never mix: an IPv4 rule for everything leaves IPv6 alone.
    let v4_only =
        NatRule::new(7, "any", 1, NatAction::Dnat { to: prefix("10.244.0.19/32"), ports: None });
    let table = NatTable::new(vec![v4_only]);
    let flow = engine::Tuple { src: host, dst: ip(six), protocol: 6, src_port: 1, dst_port: 2 };
    assert!(table.destination_rule(flow, None).is_none());
}

#[test]
fn the_tier0_answers_arp_for_its_own_external_addresses() {
    let mut net = lab();
    net.routers[1].nat = NatTable::default();
    net.routers[1].private.clear();
    net.routers[0].nat = NatTable::new(vec![dnat(9, "192.0.2.50/32", "10.244.0.18/32")]);
    let mut b = Bench::new(net);
    b.introduce_all();
    let tx = b.send(EXT, packet::arp_request(M1, ip(H1), ip("192.0.2.50")));
    assert_eq!(tx.len(), 1);
    assert_eq!((tx[0].0, &tx[0].1.bytes[22..28]), (EXT, &UPLINK.0[..]));
    let tx = b.go(H1, from(H1, "192.0.2.50").udp(1, 2));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:1 > 10.244.0.18:2".into()));
    let tx = b.go(A, from(A, H1).udp(2, 1));
    assert_eq!(one(&tx), (EXT, "192.0.2.50:2 > 192.0.2.10:1".into()));
}

#[test]
fn a_session_of_dnat_expires_by_the_gateways_timers() {
    let mut b = bench([dnat(9, "198.51.100.7/32", "10.244.0.18/32")]);
    b.go(H1, from(H1, E).udp(40_000, 53));
    b.go(A, from(A, H1).udp(53, 40_000));
    // UDP, both directions: 30 s at a gateway (features.md 4).
    b.advance(Time(29_999_999_999));
    assert_eq!(gateway_records(&mut b).len(), 1);
    b.advance(Time::from_secs(30));
    assert!(gateway_records(&mut b).is_empty());
    // What the target sends now is its own flow.
    let tx = b.go(A, from(A, H1).udp(53, 40_000));
    assert_eq!(one(&tx), (EXT, "172.16.2.2:53 > 192.0.2.10:40000".into()));
}

/// One client port to a routed pod directly, and to an address that a rule translates to the same pod: behind
/// the gateway the two must differ, or one's answers would be taken for the other's.
#[test]
fn direct_and_translated_flows_to_one_target_are_told_apart() {
    let routed = || {
        let mut net = net([]);
        for router in &mut net.routers {
            router.private.clear();
        }
        // No rule is about sources: pods are routed.
        net.routers[1].nat = NatTable::new(vec![dnat(9, "198.51.100.7/32", "10.244.0.18/32")]);
        let mut b = Bench::new(net);
        b.introduce_all();
        b
    };
    let mut b = routed();
    let direct = b.go(H1, from(H1, A).udp(4000, 53));
    assert_eq!(one(&direct), (POD_A, "192.0.2.10:4000 > 10.244.0.18:53".into()));
    let tx = b.go(H1, from(H1, E).udp(4000, 53));
    let (_, other) = only(&tx, POD_A).ip().map(|ip| (ip.src, ip.ports().0)).unwrap();
    assert_ne!(other, 4000);
    let tx = b.go(A, from(A, H1).udp(53, 4000));
    assert_eq!(one(&tx), (EXT, "10.244.0.18:53 > 192.0.2.10:4000".into()));
    let tx = b.go(A, from(A, H1).udp(53, other));
    assert_eq!(one(&tx), (EXT, "198.51.100.7:53 > 192.0.2.10:4000".into()));
    // The other way round the direct flow's tuple is taken, and nothing may change a source that no rule names.
    let mut b = routed();
    let tx = b.go(H1, from(H1, E).udp(4000, 53));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:4000 > 10.244.0.18:53".into()));
    assert!(b.go(H1, from(H1, A).udp(4000, 53)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Nat, DropReason::NatPortExhausted, "t1".into()));
    let tx = b.go(A, from(A, H1).udp(53, 4000));
    assert_eq!(one(&tx), (EXT, "198.51.100.7:53 > 192.0.2.10:4000".into()));
    // What the target itself has begun is told apart too.
    let mut b = routed();
    let tx = b.go(A, from(A, H1).udp(53, 4000));
    assert_eq!(one(&tx), (EXT, "10.244.0.18:53 > 192.0.2.10:4000".into()));
    let tx = b.go(H1, from(H1, E).udp(4000, 53));
    let (_, other) = only(&tx, POD_A).ip().map(|ip| (ip.src, ip.ports().0)).unwrap();
    assert_ne!(other, 4000);
    let tx = b.go(H1, from(H1, A).udp(4000, 53));
    assert_eq!(one(&tx), (POD_A, "192.0.2.10:4000 > 10.244.0.18:53".into()));
    let tx = b.go(A, from(A, H1).udp(53, 4000));
    assert_eq!(one(&tx), (EXT, "10.244.0.18:53 > 192.0.2.10:4000".into()));
}
