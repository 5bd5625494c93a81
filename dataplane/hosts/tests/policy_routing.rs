//! Policy routing after features.md F15 to F18: the control-plane VM of the articles, its two
//! interfaces and its table 200; and the dual-homed DNS server at the other end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod harness;

use harness::{Net, addr, config, mac};
use hosts::routing::{RuleStep, Selector};
use hosts::{
    Host, HostConfig, InterfaceConfig, OperationResult, PingEvent, PingOptions, Prefix, Route,
    RouteError, RouteKind, RouteOutcome, Rule, RuleResult, TcpOptions, ping_output,
};

fn prefix(text: &str) -> Prefix {
    let (a, len) = text.split_once('/').unwrap();
    Prefix::new(addr(a), len.parse().unwrap())
}

/// The VM of seeds/deploying-tanzu-with-nsx-t.txt, lines 77 to 120; `dns` is the workload DNS.
fn control_plane_vm(dns: &str) -> HostConfig {
    let mut config = HostConfig::new("vm/cp-1");
    config.interfaces = vec![
        InterfaceConfig::new(
            "eth0",
            "00:50:56:b3:29:f3".parse().unwrap(),
            addr("192.168.10.45"),
            24,
        ),
        InterfaceConfig::new("eth1", "04:50:56:00:d0:00".parse().unwrap(), addr("10.244.0.2"), 28),
    ];
    let any = addr("0.0.0.0");
    config.routing.add_route(254, Route::via(any, 0, addr("192.168.10.254"), 0));
    config.routing.add_route(200, Route::via(any, 0, addr("10.244.0.1"), 1));
    config.routing.add_route(200, Route::on_link(addr("10.244.0.0"), 28, 1));
    let dns = format!("{dns}/32");
    for to in [dns.as_str(), "172.16.1.0/24", "10.244.0.0/20"] {
        config.routing.add_rule(Rule::to(0, prefix(to), 200));
    }
    config.routing.add_rule(Rule::from(0, prefix("10.244.0.2/32"), 200));
    for to in ["100.64.0.0/16", "10.96.0.0/23"] {
        config.routing.add_rule(Rule::to(0, prefix(to), 200));
    }
    config
}

fn vm(dns: &str) -> Host {
    Host::new(control_plane_vm(dns), 1)
}

/// (device, next hop) of a lookup.
fn goes(host: &Host, dst: &str, src: Option<&str>, oif: Option<usize>) -> (usize, String) {
    match host.explain_route(addr(dst), src.map(addr), oif).outcome {
        RouteOutcome::Unicast { dev, next_hop, .. } => (dev, next_hop.to_string()),
        other => panic!("{dst}: {other:?}"),
    }
}

#[test]
fn the_rules_are_in_the_articles_order() {
    let config = control_plane_vm("192.168.10.10");
    let shown: Vec<String> = config.routing.rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "0: from all lookup local",
            "0: from all to 192.168.10.10 lookup 200",
            "0: from all to 172.16.1.0/24 lookup 200",
            "0: from all to 10.244.0.0/20 lookup 200",
            "0: from 10.244.0.2 lookup 200",
            "0: from all to 100.64.0.0/16 lookup 200",
            "0: from all to 10.96.0.0/23 lookup 200",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    );
}

#[test]
fn where_the_articles_destinations_go() {
    let host = vm("192.168.10.10");
    let gateway = || (1, "10.244.0.1".to_owned());
    assert_eq!(goes(&host, "192.168.10.10", None, None), gateway());
    assert_eq!(goes(&host, "192.168.10.10", None, Some(0)), (0, "192.168.10.10".to_owned()));
    assert_eq!(goes(&host, "192.168.10.10", None, Some(1)), gateway());
    for dst in ["172.16.1.2", "10.244.15.9", "100.64.3.1", "10.96.1.170"] {
        assert_eq!(goes(&host, dst, None, None), gateway(), "{dst}");
    }
    assert_eq!(goes(&host, "10.244.0.3", None, None), (1, "10.244.0.3".to_owned()));
    for (dst, hop) in [
        ("192.168.10.28", "192.168.10.28"),
        ("8.8.8.8", "192.168.10.254"),
        ("10.96.2.1", "192.168.10.254"),
    ] {
        assert_eq!(goes(&host, dst, None, None), (0, hop.to_owned()), "{dst}");
    }
    assert_eq!(goes(&host, "8.8.8.8", Some("10.244.0.2"), None), gateway());
    assert_eq!(host.explain_route(addr("10.244.0.2"), None, None).outcome, RouteOutcome::Local);
}

#[test]
fn the_cure_moves_one_address() {
    let host = vm("192.168.10.11");
    assert_eq!(goes(&host, "192.168.10.10", None, None), (0, "192.168.10.10".to_owned()));
    assert_eq!(goes(&host, "192.168.10.11", None, None), (1, "10.244.0.1".to_owned()));
}

#[test]
fn the_explanation_names_every_rule_asked() {
    let host = vm("192.168.10.10");
    let decision = host.explain_route(addr("192.168.10.10"), None, Some(0));
    let results: Vec<RuleResult> = decision.steps.iter().map(|s: &RuleStep| s.result).collect();
    let by_eth1 = Route::via(addr("0.0.0.0"), 0, addr("10.244.0.1"), 1);
    assert_eq!(results[..2], [RuleResult::NoRoute, RuleResult::OtherDevice(by_eth1)]);
    assert_eq!(results[2], RuleResult::NotMatched(Selector::To));
    assert_eq!(results[4], RuleResult::NotMatched(Selector::From));
    assert_eq!(results.len(), 8, "default is not asked");
    assert_eq!(decision.source, Some(addr("192.168.10.45")));
    let text = decision.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "192.168.10.10 dev eth0 table main src 192.168.10.45");
    assert_eq!(
        lines[2],
        "    0: from all to 192.168.10.10 lookup 200: route 0.0.0.0/0 is by eth1, but the sender is bound to eth0, next rule"
    );
    assert_eq!(lines[5], "    0: from 10.244.0.2 lookup 200: no match, source not chosen yet");
    assert_eq!(lines[8], "    32766: from all lookup main: route 192.168.10.45/24");
}

#[test]
fn refusing_routes_end_the_lookup() {
    let mut config = config("a", 1, "10.0.0.1/24", "10.0.0.254");
    for (net, kind) in [
        ("10.1.0.0", RouteKind::Unreachable),
        ("10.2.0.0", RouteKind::Prohibit),
        ("10.3.0.0", RouteKind::Blackhole),
    ] {
        config.routing.add_route(100, Route::refuse(addr(net), 16, kind));
    }
    config.routing.add_rule(Rule::all(10, 100));
    let host = Host::new(config, 1);
    let outcome = |dst: &str, oif| host.explain_route(addr(dst), None, oif).outcome;
    assert_eq!(outcome("10.1.0.1", None), RouteOutcome::Error(RouteError::HostUnreachable));
    assert_eq!(outcome("10.2.0.1", None), RouteOutcome::Error(RouteError::Prohibited));
    assert_eq!(outcome("10.3.0.1", None), RouteOutcome::Error(RouteError::Blackhole));
    assert_eq!(goes(&host, "10.4.0.1", None, None), (0, "10.0.0.254".to_owned()));
    // A bound device overrides even that: Linux assumes the destination on link.
    assert_eq!(
        outcome("10.1.0.1", Some(0)),
        RouteOutcome::Unicast { dev: 0, next_hop: addr("10.1.0.1"), route: None }
    );
}

#[test]
fn prefix_then_metric_then_insertion() {
    let mut config = config("a", 1, "10.0.0.1/24", "");
    let route = |to: &str, len, via: &str, metric| Route {
        metric,
        ..Route::via(addr(to), len, addr(via), 0)
    };
    for r in [
        route("10.5.0.0", 16, "10.0.0.2", 10),
        route("10.5.0.0", 16, "10.0.0.3", 5),
        route("10.5.0.0", 16, "10.0.0.4", 5),
        route("10.5.5.0", 24, "10.0.0.5", 99),
        route("10.6.0.0", 16, "10.0.0.6", 0),
    ] {
        config.routing.add_route(254, r);
    }
    // A route by a device that does not exist is as none.
    config.routing.add_route(254, Route::via(addr("10.6.1.0"), 24, addr("10.0.0.7"), 9));
    let host = Host::new(config, 1);
    assert_eq!(goes(&host, "10.5.1.1", None, None).1, "10.0.0.3");
    assert_eq!(goes(&host, "10.5.5.1", None, None).1, "10.0.0.5");
    assert_eq!(goes(&host, "10.6.1.1", None, None).1, "10.0.0.6");
    assert_eq!(
        host.explain_route(addr("10.7.0.1"), None, None).outcome,
        RouteOutcome::Error(RouteError::NetworkUnreachable)
    );
    assert_eq!(
        host.explain_route(addr("fd00::1"), None, Some(0)).outcome,
        RouteOutcome::Error(RouteError::NetworkUnreachable)
    );
}

#[test]
fn prefixes_of_both_families() {
    assert!(prefix("0.0.0.0/0").contains(addr("255.255.255.255")));
    assert!(!prefix("0.0.0.0/0").contains(addr("::")));
    assert!(prefix("::/0").contains(addr("ffff::")));
    assert!(!prefix("::/0").contains(addr("10.0.0.1")));
    assert!(prefix("10.244.0.0/20").contains(addr("10.244.15.255")));
    assert!(!prefix("10.244.0.0/20").contains(addr("10.244.16.0")));
    assert!(prefix("fd00::1/128").contains(addr("fd00::1")));
    assert!(!prefix("fd00::1/128").contains(addr("fd00::2")));
}

/// Segment 0 is the management network, segment 1 the cluster network with a gateway that has no
/// route to the DNS server, as a Tier-1 profile `linux` would answer.
fn article() -> Net {
    let mut net = Net::default();
    let vm = net.add(control_plane_vm("192.168.10.10"));
    let mut dns = config("dns", 10, "192.168.10.10/24", "192.168.10.254");
    dns.ttl = 128;
    let dns = net.add(dns);
    let mut gateway = config("t1", 20, "10.244.0.1/28", "");
    gateway.forwarding = true;
    gateway.routing.add_route(254, Route::refuse(addr("0.0.0.0"), 0, RouteKind::Unreachable));
    let gateway = net.add(gateway);
    net.segment(&[(vm, 0), (dns, 0)]);
    net.segment(&[(vm, 1), (gateway, 0)]);
    net
}

fn ping(net: &mut Net, interface: Option<usize>) -> hosts::PingReport {
    let options = PingOptions { interface, ..PingOptions::default() };
    let result =
        net.complete(0, |h, now, out| h.start_ping(addr("192.168.10.10"), options, now, out));
    let OperationResult::Ping(report) = result else { panic!("{result:?}") };
    report
}

/// F15, word for word but for the time.
#[test]
fn the_articles_pings() {
    let mut net = article();
    assert_eq!(
        ping_output::render(&ping(&mut net, Some(0))),
        "PING 192.168.10.10 (192.168.10.10) from 192.168.10.45 eth0: 56(84) bytes of data.\n\
         64 bytes from 192.168.10.10: icmp_seq=1 ttl=128 time=0.000 ms\n\
         \n\
         --- 192.168.10.10 ping statistics ---\n\
         1 packets transmitted, 1 received, 0% packet loss, time 0ms\n\
         rtt min/avg/max/mdev = 0.000/0.000/0.000/0.000 ms\n"
    );
    assert_eq!(
        ping_output::render(&ping(&mut net, Some(1))),
        "PING 192.168.10.10 (192.168.10.10) from 10.244.0.2 eth1: 56(84) bytes of data.\n\
         From 10.244.0.1 icmp_seq=1 Destination Host Unreachable\n\
         \n\
         --- 192.168.10.10 ping statistics ---\n\
         1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n"
    );
    // Without -I the rule decides: eth1.
    let report = ping(&mut net, None);
    assert!(matches!(report.events[..], [PingEvent::Error { .. }]), "{report:?}");
}

#[test]
fn a_connection_refused_by_a_router_is_unreachable() {
    let mut net = article();
    let result = net.complete(0, |h, now, out| {
        h.start_tcp(addr("192.168.10.10"), 53, TcpOptions::default(), now, out)
    });
    let OperationResult::Tcp(Err(hosts::Failure::Unreachable(report))) = result else {
        panic!("{result:?}")
    };
    assert_eq!(report.to_string(), "From 10.244.0.1: Destination Host Unreachable");
}

/// Line 124 of the article: the DNS server answers by its default gateway unless it has a route to
/// 172.16.0.0/16 by the router that is BGP peer. Its answer must really take that way.
#[test]
fn the_answer_of_a_dual_homed_host_takes_its_own_routes() {
    let run = |with_route: bool| {
        let mut net = Net::default();
        let client = net.add(config("client", 1, "172.16.2.1/24", "172.16.2.254"));
        let mut leaf = config("leaf", 2, "172.16.2.254/24", "");
        leaf.interfaces.push(InterfaceConfig::new("eth1", mac(3), addr("192.168.20.1"), 24));
        leaf.forwarding = true;
        leaf.routing.add_route(254, Route::via(addr("192.168.10.0"), 24, addr("192.168.20.10"), 1));
        let leaf = net.add(leaf);
        let mut dns = config("dns", 10, "192.168.10.10/24", "192.168.10.254");
        dns.interfaces.push(InterfaceConfig::new("eth1", mac(11), addr("192.168.20.10"), 24));
        if with_route {
            dns.routing.add_route(254, Route::via(addr("172.16.0.0"), 16, addr("192.168.20.1"), 1));
        }
        let dns = net.add(dns);
        let other = net.add(config("other-gateway", 30, "192.168.10.254/24", ""));
        net.segment(&[(client, 0), (leaf, 0)]);
        net.segment(&[(leaf, 1), (dns, 1)]);
        net.segment(&[(dns, 0), (other, 0)]);
        let report = ping(&mut net, None);
        let by_eth0 =
            net.log.iter().filter(|(_, host, port, _)| (*host, *port) == (dns, 0)).count();
        (report.received(), report.errors(), by_eth0)
    };
    assert_eq!(run(true), (1, 0, 0));
    // A timeout, not an unreachable; the reply left by eth0, behind its ARP request.
    assert_eq!(run(false), (0, 0, 2));
}
