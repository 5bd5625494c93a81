//! Routing and switching, worked out by hand: equal-cost paths, reverse path checks, discarding
//! routes, loops, and what a learning network outside does with its stations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Mac, Payload, Time, Transport, tcp_flags::*};
use std::collections::BTreeMap;
use std::time::Duration;

/// A destination behind the leaves.
const FAR: &str = "203.0.113.5";

/// The Tier-0 has `paths` leaves, 192.0.2.101 and on, all at host/ext's port, towards everything.
fn leaves(paths: usize, ecmp: EcmpHash) -> Bench {
    let mut net = lab();
    set_paths(&mut net, &(1..=paths).collect::<Vec<_>>());
    net.routers[0].ecmp = ecmp;
    let mut b = Bench::new(net);
    b.audit = false;
    introduce(&mut b);
    b
}

fn leaf(i: usize) -> (String, Mac) {
    (format!("192.0.2.{}", 100 + i), mac(100 + u8::try_from(i).unwrap()))
}

fn introduce(b: &mut Bench) {
    for i in 1..=8 {
        let (address, mac) = leaf(i);
        b.send(EXT, packet::arp_request(mac, ip(&address), ip("192.0.2.1")));
    }
}

fn set_paths(net: &mut Network, leaves: &[usize]) {
    let r = &mut net.routers[0];
    let mut all: Vec<Route> =
        r.fib.routes().into_iter().filter(|r| r.prefix != prefix("0.0.0.0/0")).cloned().collect();
    all.extend(leaves.iter().map(|i| to("0.0.0.0/0", 0, Some(&leaf(*i).0))));
    r.fib = Fib::build(all, 8);
}

/// Which leaf a flow takes: the one with the frame's destination MAC.
fn path(tx: &[(PortId, Frame)]) -> usize {
    let h = only(tx, EXT);
    (1..=8).find(|i| leaf(*i).1 == h.dst_mac).unwrap()
}

/// Flow number `i` of pod/a: 10,000 distinct five-tuples.
fn flow(i: u32) -> FrameBuilder {
    from(A, FAR)
        .udp(1_024 + u16::try_from(i % 5_000).unwrap(), 53 + u16::try_from(i / 5_000).unwrap())
}

// ---- equal-cost paths ----

#[test]
fn ten_thousand_flows_spread_evenly_and_stick() {
    for (paths, share) in [(2usize, 5_000usize), (4, 2_500), (8, 1_250)] {
        let mut b = leaves(paths, EcmpHash::FiveTuple);
        let mut count = vec![0usize; 9];
        let mut chosen = Vec::new();
        for i in 0..10_000 {
            let at = path(&b.go(A, flow(i)));
            count[at] += 1;
            chosen.push(at);
        }
        for (i, n) in count.iter().enumerate() {
            let expected = if (1..=paths).contains(&i) { share } else { 0 };
            // 3 percentage points of 10,000.
            assert!(n.abs_diff(expected) <= 300, "{paths} paths: {count:?}");
        }
        for i in (0..10_000).step_by(97) {
            for _ in 0..3 {
                assert_eq!(path(&b.go(A, flow(i))), chosen[i as usize], "a flow never moves");
            }
        }
    }
}

#[test]
fn only_the_flows_of_a_lost_path_move_and_they_spread_over_the_others() {
    let mut b = leaves(4, EcmpHash::FiveTuple);
    let before: Vec<usize> = (0..4_000).map(|i| path(&b.go(A, flow(i)))).collect();
    b.net.epoch += 1;
    set_paths(&mut b.net, &[1, 2, 4]);
    let mut moved = BTreeMap::new();
    for (i, was) in before.iter().enumerate() {
        let now = path(&b.go(A, flow(u32::try_from(i).unwrap())));
        if *was == 3 {
            *moved.entry(now).or_insert(0usize) += 1;
        } else {
            assert_eq!(now, *was, "flow {i}");
        }
    }
    let total: usize = moved.values().sum();
    assert_eq!(moved.len(), 3);
    assert!(moved.values().all(|n| n.abs_diff(total / 3) <= total / 10), "{moved:?}");
    // The path comes back: exactly its flows come back.
    b.net.epoch += 1;
    set_paths(&mut b.net, &[1, 2, 3, 4]);
    let after: Vec<usize> = (0..4_000).map(|i| path(&b.go(A, flow(i)))).collect();
    assert_eq!(after, before);
}

#[test]
fn two_tuple_hashing_looks_at_addresses_only() {
    let mut b = leaves(8, EcmpHash::TwoTuple);
    let first = path(&b.go(A, flow(0)));
    assert!((0..500).all(|i| path(&b.go(A, flow(i))) == first));
    // 400 destinations over 8 paths: every path is used.
    let mut used = std::collections::BTreeSet::new();
    for i in 0..400u32 {
        let dst = packet::Addr::v4(0xcb00_7000 + i);
        let f = FrameBuilder::new(ip(A), dst).macs(mac(1), GATEWAY).udp(1, 53);
        used.insert(path(&b.go(A, f)));
    }
    assert_eq!(used.len(), 8);
}

#[test]
fn the_order_in_which_paths_are_configured_does_not_matter() {
    let mut up = leaves(4, EcmpHash::FiveTuple);
    let mut down = leaves(4, EcmpHash::FiveTuple);
    set_paths(&mut down.net, &[4, 2, 3, 1]);
    for i in 0..200 {
        assert_eq!(path(&up.go(A, flow(i))), path(&down.go(A, flow(i))));
    }
}

// ---- reverse path check (RFC 3704) ----

/// The Tier-0 has a second uplink on a network of its own, where host/ext3 now is.
fn two_uplinks(first: Urpf, second: Urpf, routes: Vec<Route>) -> Bench {
    let mut net = lab();
    net.segments.push(Segment {
        name: "outside2".into(),
        ports: vec![EXT3],
        gateways: vec![(T0, InterfaceId(2))],
        learning: true,
        ..Segment::default()
    });
    net.segments[2].ports.retain(|p| *p != EXT3);
    net.ports[EXT3.0 as usize].segment = SegmentId(3);
    let mut uplink = net.routers[0].interfaces[0].clone();
    uplink.name = "uplink2".into();
    uplink.attachment = Attachment::Segment(SegmentId(3));
    uplink.addresses = vec![(ip("198.51.100.1"), 24)];
    uplink.mac = mac(200);
    uplink.urpf = second;
    net.routers[0].interfaces[0].urpf = first;
    net.routers[0].interfaces.push(uplink);
    let all = net.routers[0].fib.routes().into_iter().filter(|r| r.prefix != prefix("0.0.0.0/0"));
    let mut all: Vec<Route> = all.cloned().collect();
    all.push(to("198.51.100.0/24", 2, None));
    all.extend(routes);
    net.routers[0].fib = Fib::build(all, 8);
    vips(&mut net, vec![server(VIP, 17, 53, &[member(A, 53, None)], PoolSnat::Automap(ip(AUTO)))]);
    Bench::new(net)
}

/// A request from `src` that comes in by the first or the second uplink: does it reach the member?
fn arrives(b: &mut Bench, second: bool, src: &str) -> bool {
    let (port, own, gateway) = if second { (EXT3, M3, mac(200)) } else { (EXT, M1, UPLINK) };
    let f = FrameBuilder::new(ip(src), ip(VIP)).macs(own, gateway).udp(7, 53).build();
    let tx = b.send(port, f);
    if tx.is_empty() {
        let (drop, _) = b.worker.drops().pop_last().unwrap();
        assert_eq!((drop.stage, drop.reason), (Stage::T0Urpf, DropReason::Urpf));
    }
    !tx.is_empty()
}

#[test]
fn reverse_path_none_loose_and_strict() {
    // 203.0.113.0/24 is behind the first uplink, 198.18.0.0/24 discarded, nothing else known.
    let routes = || {
        vec![
            to("203.0.113.0/24", 0, Some("192.0.2.254")),
            route("198.18.0.0/24", RouteTarget::Blackhole),
        ]
    };
    let table = [
        // Mode, source, by the first uplink, by the second.
        (Urpf::None, FAR, true, true),
        (Urpf::None, "8.8.8.8", true, true),
        (Urpf::None, "198.18.0.9", true, true),
        (Urpf::Loose, FAR, true, true),
        (Urpf::Loose, "8.8.8.8", false, false),
        (Urpf::Loose, "198.18.0.9", false, false),
        (Urpf::Loose, A, true, true),
        (Urpf::Strict, FAR, true, false),
        (Urpf::Strict, "8.8.8.8", false, false),
        (Urpf::Strict, "198.18.0.9", false, false),
        (Urpf::Strict, H1, true, false),
        (Urpf::Strict, "198.51.100.9", false, true),
        (Urpf::Strict, A, false, false),
        (Urpf::Strict, "100.64.0.1", false, false),
    ];
    for (mode, source, first, second) in table {
        let mut b = two_uplinks(mode, mode, routes());
        assert_eq!(arrives(&mut b, false, source), first, "{mode:?} {source} by the first");
        let mut b = two_uplinks(mode, mode, routes());
        assert_eq!(arrives(&mut b, true, source), second, "{mode:?} {source} by the second");
    }
}

#[test]
fn a_default_route_counts_for_loose_and_an_equal_cost_path_for_strict() {
    let default = |interface, gateway| to("0.0.0.0/0", interface, Some(gateway));
    let one = || vec![default(0, "192.0.2.254")];
    assert!(arrives(&mut two_uplinks(Urpf::Loose, Urpf::Loose, one()), true, "8.8.8.8"));
    assert!(arrives(&mut two_uplinks(Urpf::Strict, Urpf::Strict, one()), false, "8.8.8.8"));
    assert!(!arrives(&mut two_uplinks(Urpf::Strict, Urpf::Strict, one()), true, "8.8.8.8"));
    let both = || vec![default(0, "192.0.2.254"), default(2, "198.51.100.254")];
    for second in [false, true] {
        assert!(arrives(&mut two_uplinks(Urpf::Strict, Urpf::Strict, both()), second, "8.8.8.8"));
    }
    // The mode is an interface's own.
    let mut b = two_uplinks(Urpf::Strict, Urpf::None, one());
    assert!(arrives(&mut b, true, "8.8.8.8"));
}

// ---- discarding routes, loops ----

#[test]
fn a_blackhole_is_silent_and_unreachable_tells() {
    for (target, reason, answer) in [
        (RouteTarget::Blackhole, DropReason::Blackhole, None),
        (RouteTarget::Unreachable, DropReason::UnreachableRoute, Some((3, 1))),
    ] {
        let mut net = lab();
        add_routes(&mut net, T0, vec![route("198.51.100.0/24", target)]);
        let mut b = Bench::new(net);
        b.introduce_all();
        for (src, from_address) in [(H1, "192.0.2.1"), (A, "100.64.0.0")] {
            let tx = b.go(src, from(src, "198.51.100.7").udp(1, 2));
            match answer {
                None => assert!(tx.is_empty()),
                Some((kind, code)) => {
                    let h = only(&tx, place(src).0);
                    let Transport::Icmp(icmp) = h.ip().unwrap().transport else { panic!("{h:?}") };
                    assert_eq!((icmp.kind, icmp.code), (kind, code));
                    assert_eq!(h.ip().unwrap().src, ip(from_address));
                }
            }
        }
        assert_eq!(b.only_drop(), (Stage::T0Route, reason, "t0".into()));
        assert!(b.worker.sessions().is_empty());
    }
}

#[test]
fn a_summary_stops_the_loop_of_an_unallocated_address() {
    // Without the summary the default route sends it back to where it came from.
    let looping = || {
        let mut b = Bench::new(lab());
        let leaf = packet::arp_request(M2, ip("192.0.2.254"), ip("192.0.2.1"));
        b.send(EXT2, leaf);
        b.introduce_all();
        b
    };
    let mut b = looping();
    assert_eq!(
        b.go(H1, from(H1, "172.16.2.200").udp(1, 2)).len(),
        1,
        "the loop that is to be stopped"
    );
    let mut b = looping();
    let summary =
        Route { source: RouteSource::Summary, ..route("172.16.0.0/16", RouteTarget::Blackhole) };
    add_routes(&mut b.net, T0, vec![summary]);
    b.net.epoch += 1;
    for dst in ["172.16.2.200", "172.16.3.1", "172.16.255.255"] {
        assert!(b.go(H1, from(H1, dst).udp(1, 2)).is_empty(), "{dst}");
        assert!(b.go(A, from(A, dst).udp(1, 2)).is_empty(), "{dst} from inside");
    }
    assert_eq!(b.only_drop(), (Stage::T0Route, DropReason::Blackhole, "t0".into()));
    // What is allocated is more specific.
    let tx = b.go(H1, from(H1, "172.16.2.2").udp(1, 2));
    assert!(tx.is_empty());
    assert_eq!(b.worker.drops().len(), 2);
}

#[test]
fn sixteen_hops_inside_and_no_more() {
    // Two routers that send each other a packet stop by the hop limit, whatever the TTL.
    let mut net = lab();
    add_routes(&mut net, T0, vec![to("198.51.100.0/24", 1, None)]);
    let mut b = Bench::new(net);
    assert!(b.go(A, from(A, "198.51.100.1").udp(1, 2).ttl(255)).is_empty());
    assert_eq!(b.only_drop(), (Stage::T1Route, DropReason::HopLimit, "t1".into()));
    // With TTL 16 the sixteenth router, the Tier-0, finds it used up first.
    let mut b2 = Bench::new(b.net.clone());
    let tx = b2.go(A, from(A, "198.51.100.1").udp(1, 2).ttl(16));
    assert_eq!(tx.len(), 1, "time exceeded");
    assert_eq!(b2.only_drop(), (Stage::T0Route, DropReason::TtlExpired, "t0".into()));
}

// ---- a learning network outside ----

fn outside() -> Bench {
    Bench::new(lab())
}

fn between(src: Mac, dst: Mac) -> FrameBuilder {
    FrameBuilder::new(ip(H1), ip(H2)).macs(src, dst).udp(1, 2)
}

fn left(tx: &[(PortId, Frame)]) -> Vec<PortId> {
    tx.iter().map(|(p, _)| *p).collect()
}

#[test]
fn an_unknown_station_is_flooded_to_and_a_known_one_is_not() {
    let mut b = outside();
    assert_eq!(left(&b.send(EXT, between(M1, M2).build())), [EXT2, EXT3]);
    let a = b.worker.accounting();
    assert_eq!((a.received, a.copies, a.delivered), (1, 1, 2));
    assert_eq!(left(&b.send(EXT2, between(M2, M1).build())), [EXT], "learned from the first");
    assert_eq!(left(&b.send(EXT, between(M1, M2).build())), [EXT2], "learned from the answer");
}

#[test]
fn a_station_that_moves_is_followed_and_none_reaches_itself() {
    for cache in [true, false] {
        let mut b = Bench::with_cache(lab(), cache);
        b.send(EXT, between(M1, M2).build());
        b.send(EXT2, between(M2, M1).build());
        for _ in 0..3 {
            assert_eq!(left(&b.send(EXT2, between(M2, M1).build())), [EXT]);
        }
        // M1 appears at the third port.
        assert_eq!(left(&b.send(EXT3, between(M1, M2).build())), [EXT2]);
        assert_eq!(left(&b.send(EXT2, between(M2, M1).build())), [EXT3], "cache {cache}");
        assert!(b.send(EXT3, between(M3, M1).build()).is_empty());
        assert_eq!(b.only_drop(), (Stage::Segment, DropReason::SamePort, "outside".into()));
    }
}

#[test]
fn a_silent_station_is_forgotten_after_exactly_300_seconds() {
    for cache in [true, false] {
        let mut b = Bench::with_cache(lab(), cache);
        b.send(EXT, between(M1, M2).build());
        b.send(EXT2, between(M2, M1).build());
        // M1 speaks again at 100 s, from the cache where there is one.
        b.advance(Time::from_secs(100));
        for _ in 0..3 {
            b.send(EXT, between(M1, M2).build());
        }
        b.advance(Time(299_999_999_999));
        assert_eq!(left(&b.send(EXT3, between(M3, M2).build())), [EXT2]);
        b.advance(Time::from_secs(300));
        assert_eq!(left(&b.send(EXT3, between(M3, M2).build())), [EXT, EXT2], "cache {cache}");
        b.advance(Time(399_999_999_999));
        assert_eq!(left(&b.send(EXT3, between(M3, M1).build())), [EXT], "cache {cache}");
        b.advance(Time::from_secs(400));
        assert_eq!(left(&b.send(EXT3, between(M3, M1).build())), [EXT, EXT2], "cache {cache}");
    }
}

#[test]
fn broadcast_and_multicast_reach_everybody_else_once() {
    for dst in [Mac::BROADCAST, Mac([0x01, 0, 0x5e, 0, 0, 0xfb]), Mac([0x33, 0x33, 0, 0, 0, 1])] {
        let mut b = outside();
        b.introduce_all();
        assert_eq!(left(&b.send(EXT2, between(M2, dst).build())), [EXT, EXT3]);
    }
}

#[test]
fn arp_is_flooded_where_the_segment_does_not_know_and_answered_where_it_does() {
    let mut b = outside();
    let ask = |target: &str| packet::arp_request(M1, ip(H1), ip(target));
    assert_eq!(left(&b.send(EXT, ask(H2))), [EXT2, EXT3]);
    let tx = b.send(EXT, ask("192.0.2.1"));
    let h = only(&tx, EXT);
    let Payload::Arp(arp) = h.payload else { panic!("{h:?}") };
    assert_eq!((arp.operation, arp.sender_mac, arp.sender), (2, UPLINK, ip("192.0.2.1")));
    // On an NSX segment the known neighbour is answered for, nothing is flooded.
    let tx = b.send(POD_A, packet::arp_request(mac(1), ip(A), ip(C)));
    let h = only(&tx, POD_A);
    let Payload::Arp(arp) = h.payload else { panic!("{h:?}") };
    assert_eq!((arp.sender_mac, arp.sender), (MC, ip(C)));
}

// ---- neighbours of the Tier-0 ----

#[test]
fn a_neighbour_is_asked_again_after_1200_seconds() {
    let mut b = outside();
    b.introduce_all();
    let out = |b: &mut Bench, port| b.go(A, from(A, H1).udp(port, 53));
    assert_eq!(left(&out(&mut b, 1)), [EXT]);
    b.advance(Time(1_199_999_999_999));
    // The switch has forgotten the port by now, the router not the MAC.
    assert!(out(&mut b, 2).iter().all(|(_, f)| headers(f).dst_mac == M1));
    b.advance(Time::from_secs(1_200));
    let asked = out(&mut b, 3);
    assert_eq!(left(&asked), [EXT, EXT2, EXT3]);
    assert!(matches!(headers(&asked[0].1).payload, Payload::Arp(a) if a.target == ip(H1)));
    let request = headers(&asked[0].1);
    let tx = b.send(EXT, packet::arp_reply(&request, M1).unwrap());
    assert_eq!(left(&tx), [EXT]);
    assert_eq!(headers(&tx[0].1).ip().unwrap().ports().1, 53);
    assert_eq!(b.worker.accounting().held, 0);
}

#[test]
fn a_neighbour_that_announces_another_mac_is_followed_from_the_cache_too() {
    for cache in [true, false] {
        let mut b = Bench::with_cache(lab(), cache);
        b.introduce_all();
        for _ in 0..3 {
            assert_eq!(only(&b.go(A, from(A, H1).udp(1, 53)), EXT).dst_mac, M1);
        }
        // The address moves to the second host's station (a floating address).
        let tx = b.send(EXT2, packet::gratuitous_arp(M2, ip(H1)));
        assert_eq!(left(&tx), [EXT, EXT3]);
        assert_eq!(only(&b.go(A, from(A, H1).udp(1, 53)), EXT2).dst_mac, M2, "cache {cache}");
    }
}

#[test]
fn an_announcement_of_a_stranger_teaches_nothing_and_of_a_gateway_changes_nothing() {
    let mut b = outside();
    b.send(EXT, packet::gratuitous_arp(M1, ip(H1)));
    let tx = b.go(A, from(A, H1).udp(1, 53));
    assert!(matches!(headers(&tx[0].1).payload, Payload::Arp(_)), "still asked for");
    // Somebody outside claims to be the Tier-0.
    b.send(EXT, packet::gratuitous_arp(M1, ip("192.0.2.1")));
    let tx = b.send(EXT2, packet::arp_request(M2, ip(H2), ip("192.0.2.1")));
    let h = only(&tx, EXT2);
    assert!(matches!(h.payload, Payload::Arp(a) if a.sender_mac == UPLINK));
}

#[test]
fn a_scan_of_absent_hosts_asks_each_three_times_and_holds_eight_packets_a_host() {
    let mut b = outside();
    let mut requests = 0;
    for host in 200..220 {
        for port in 0..10 {
            let tx = b.go(A, from(A, &format!("192.0.2.{host}")).tcp(1_000 + port, 80, SYN));
            requests += tx.len();
        }
    }
    assert_eq!(requests, 20 * 3, "one request a host, a copy a port");
    assert_eq!(b.worker.accounting().held, 20 * 8);
    let tx = b.advance(Time::from_secs(10));
    let arp = tx.iter().filter(|(_, f)| headers(f).ip().is_none()).count();
    assert_eq!(arp, 20 * 2 * 3, "two more each");
    assert_eq!(tx.len() - arp, 20 * 8, "host unreachable for every packet that waited");
    assert_eq!(b.worker.accounting().held, 0);
    assert!(b.worker.sessions().is_empty());
    assert!(b.worker.next_timeout(&b.net).is_none_or(|at| at > b.now + Duration::from_secs(1)));
}
