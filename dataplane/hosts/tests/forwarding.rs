//! Hosts that forward: a chain of routers, the errors they send, and where those come from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod harness;

use std::time::Duration;

use harness::{Net, addr, config, mac};
use hosts::{
    HostDrop, InterfaceConfig, OperationResult, PingEvent, PingOptions, ReadUntil, Route,
    RouteKind, ServiceConfig, ServiceKind, ServiceProtocol, TcpOptions,
};

/// a - r1 - r2 - r3 - b on 10.0.1.0/24 to 10.0.4.0/24; routers have .1 to the left, .2 to the right
/// of each network. `mtu` is of the link between r2 and r3.
fn chain(mtu: u32) -> Net {
    let mut net = Net::default();
    let a = net.add(config("a", 1, "10.0.1.10/24", "10.0.1.1"));
    let mut routers = Vec::new();
    for i in 1..=3u8 {
        let mut r = config(&format!("r{i}"), 0x10 + i, &format!("10.0.{i}.1/24"), "");
        let right = format!("10.0.{}.2", i + 1);
        r.interfaces.push(InterfaceConfig::new("eth1", mac(0x20 + i), addr(&right), 24));
        r.forwarding = true;
        for n in 1..=4u8 {
            let to = addr(&format!("10.0.{n}.0"));
            if n < i {
                r.routing.add_route(254, Route::via(to, 24, addr(&format!("10.0.{i}.2")), 0));
            } else if n > i + 1 {
                r.routing.add_route(254, Route::via(to, 24, addr(&format!("10.0.{}.1", i + 1)), 1));
            }
        }
        if i == 2 {
            r.interfaces[1].mtu = mtu;
            r.routing.add_route(254, Route::refuse(addr("10.0.7.0"), 24, RouteKind::Prohibit));
            r.routing.add_route(254, Route::refuse(addr("10.0.8.0"), 24, RouteKind::Unreachable));
            r.routing.add_route(254, Route::refuse(addr("10.0.9.0"), 24, RouteKind::Blackhole));
        }
        if i == 3 {
            r.interfaces[0].mtu = mtu;
        }
        if i == 1 {
            r.routing.add_route(254, Route::via(addr("10.0.0.0"), 16, addr("10.0.2.1"), 1));
        }
        routers.push(net.add(r));
    }
    let mut b = config("b", 2, "10.0.4.10/24", "10.0.4.2");
    for (port, kind) in [(7, ServiceKind::Echo), (9, ServiceKind::Discard)] {
        b.services.push(ServiceConfig { protocol: ServiceProtocol::Tcp, port, kind });
    }
    let b = net.add(b);
    net.segment(&[(a, 0), (routers[0], 0)]);
    net.segment(&[(routers[0], 1), (routers[1], 0)]);
    net.segment(&[(routers[1], 1), (routers[2], 0)]);
    net.segment(&[(routers[2], 1), (b, 0)]);
    net
}

fn ping(net: &mut Net, to: &str, options: PingOptions) -> hosts::PingReport {
    let to = addr(to);
    match net.complete(0, |h, now, out| h.start_ping(to, options, now, out)) {
        OperationResult::Ping(report) => report,
        other => panic!("{other:?}"),
    }
}

/// (from, type, code) of the only event, an error.
fn error(net: &mut Net, to: &str, options: PingOptions) -> (String, u8, u8, Option<u32>) {
    let report = ping(net, to, options);
    let [PingEvent::Error { seq: 1, report }] = report.events[..] else { panic!("{report:?}") };
    (report.from.to_string(), report.kind, report.code, report.mtu)
}

#[test]
fn traceroute_names_every_router_by_its_near_side() {
    let mut net = chain(1500);
    for (ttl, from) in [(1, "10.0.1.1"), (2, "10.0.2.1"), (3, "10.0.3.1")] {
        let options = PingOptions { ttl: Some(ttl), ..PingOptions::default() };
        assert_eq!(error(&mut net, "10.0.4.10", options), (from.to_owned(), 11, 0, None));
    }
    let options = PingOptions { ttl: Some(4), ..PingOptions::default() };
    let report = ping(&mut net, "10.0.4.10", options);
    // Three routers on the way back.
    assert!(matches!(report.events[..], [PingEvent::Reply { ttl: 61, .. }]), "{report:?}");
}

#[test]
fn refusals_come_from_the_near_side() {
    let mut net = chain(1500);
    let from = || "10.0.2.1".to_owned();
    let default = PingOptions::default;
    assert_eq!(error(&mut net, "10.0.7.1", default()), (from(), 3, 13, None));
    assert_eq!(error(&mut net, "10.0.8.1", default()), (from(), 3, 1, None));
    assert_eq!(error(&mut net, "10.0.66.1", default()), (from(), 3, 0, None));
    let report =
        ping(&mut net, "10.0.9.1", PingOptions { timeout: Duration::from_secs(1), ..default() });
    assert_eq!(report.events, []);
}

#[test]
fn a_neighbour_that_does_not_answer_the_router() {
    let mut net = chain(1500);
    let before = net.now;
    let result = error(&mut net, "10.0.4.66", PingOptions::default());
    assert_eq!(result, ("10.0.3.1".to_owned(), 3, 1, None));
    assert_eq!(net.now.since(before), Duration::from_secs(3));
    assert_eq!(net.hosts[3].counters().dropped[&HostDrop::NeighborUnreachable], 1);
}

#[test]
fn the_oldest_packets_for_a_neighbour_make_room() {
    let mut net = chain(1500);
    // 1400 octets of data are a frame of 1442, which counts 1954: 212992 / 1954 = 109.003 wait.
    let options = PingOptions {
        count: 112,
        size: 1400,
        interval: Duration::from_millis(10),
        ..PingOptions::default()
    };
    let report = ping(&mut net, "10.0.4.66", options);
    let seqs: Vec<u16> = report
        .events
        .iter()
        .map(|e| match e {
            PingEvent::Error { seq, report } if report.code == 1 => *seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(seqs.iter().copied().eq(4..=112), "{seqs:?}: the oldest were pushed out");
    assert_eq!(net.hosts[3].counters().dropped[&HostDrop::NeighborUnreachable], 112);
}

#[test]
fn too_large_and_not_to_be_fragmented() {
    let mut net = chain(1000);
    let options = || PingOptions { size: 972, dont_fragment: true, ..PingOptions::default() };
    assert_eq!(ping(&mut net, "10.0.4.10", options()).received(), 1);
    let result = error(&mut net, "10.0.4.10", PingOptions { size: 973, ..options() });
    assert_eq!(result, ("10.0.2.1".to_owned(), 3, 4, Some(1000)));
}

#[test]
fn tcp_finds_a_smaller_path_mtu() {
    let mut net = chain(1000);
    let send = vec![5; 20_000];
    let options = TcpOptions {
        send: send.clone(),
        until: ReadUntil::Octets(20_000),
        ..TcpOptions::default()
    };
    let result =
        net.complete(0, |h, now, out| h.start_tcp(addr("10.0.4.10"), 7, options, now, out));
    let OperationResult::Tcp(Ok(reply)) = result else { panic!("{result:?}") };
    assert!(reply.data == send);
    assert!(net.hosts[2].counters().dropped[&HostDrop::TooLong] > 0, "the path was too narrow");
}

#[test]
fn what_a_router_must_not_forward() {
    use packet::{Frame, Mac};
    let mut net = chain(1500);
    // Each is an echo request with a good checksum, made by a host that is told to send it.
    let mut count = |src: &str, dst: &str, mac_to: Mac| {
        let mut sender = config("x", 9, &format!("{src}/24"), "");
        sender.interfaces[0].static_neighbors.push((addr(dst), mac_to));
        sender.routing.add_route(254, Route::on_link(addr("0.0.0.0"), 0, 0));
        let mut sender = hosts::Host::new(sender, 1);
        let mut out = Vec::new();
        sender.start_ping(addr(dst), PingOptions::default(), net.now, &mut out);
        let frame: Frame = out.pop().unwrap().1;
        let mut answers = Vec::new();
        let before = net.hosts[1].counters().dropped.get(&HostDrop::Martian).copied().unwrap_or(0);
        net.hosts[1].receive(0, &frame, net.now, &mut answers);
        assert!(answers.is_empty(), "{src} to {dst}: {answers:?}");
        net.hosts[1].counters().dropped.get(&HostDrop::Martian).copied().unwrap_or(0) - before
    };
    let router = mac(0x11);
    assert_eq!(count("10.0.1.10", "169.254.1.1", router), 1, "link-local destination");
    assert_eq!(count("169.254.1.1", "10.0.4.10", router), 1, "link-local source");
    assert_eq!(count("10.0.1.10", "10.0.2.255", router), 1, "directed broadcast");
    assert_eq!(count("240.0.0.1", "10.0.4.10", router), 1, "class E");
    assert_eq!(count("10.0.1.1", "10.0.4.10", router), 1, "its own address");
    assert_eq!(count("10.0.1.10", "10.0.4.10", Mac::BROADCAST), 0, "not for us, in silence");
}
