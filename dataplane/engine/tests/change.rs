//! Another snapshot under live flows: what has gone takes its sessions with it, what stays loses nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::RuleKey;
use engine::network::*;
use fixture::lab::*;
use fixture::*;
use packet::tcp_flags::{ACK, PSH, SYN};

fn bench(net: Network) -> Bench {
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn automap() -> PoolSnat {
    PoolSnat::Automap(ip(AUTO))
}

/// Publishes a change.
fn change(b: &mut Bench, what: impl FnOnce(&mut Network)) {
    what(&mut b.net);
    b.net.epoch += 1;
    b.advance(b.now);
}

#[test]
fn a_virtual_server_that_has_gone_takes_its_flows_along() {
    let mut b = bench(balanced(automap()));
    only(&b.go(C, from(C, CLUSTER).udp(5000, 53)), POD_A);
    only(&b.go(H1, from(H1, VIP).udp(5000, 53)), POD_A);
    only(&b.go(H1, from(H1, VIP).tcp(5000, 53, SYN)), POD_A);
    assert_eq!(b.worker.sessions().len(), 3);
    // The VIP's server of UDP alone: the same port of TCP is another.
    change(&mut b, |net| vips(net, vec![server(VIP, 6, 53, &[member(A, 53, None)], automap())]));
    let left: Vec<String> = b.worker.sessions().iter().map(|s| s.initiating.to_string()).collect();
    assert_eq!(left, [format!("UDP {C}:5000 > {CLUSTER}:53"), format!("TCP {H1}:5000 > {VIP}:53")]);
    change(&mut b, |net| cluster_ips(net, Vec::new()));
    assert_eq!(b.worker.sessions().len(), 1);
}

#[test]
fn a_virtual_server_in_anothers_place_gets_none_of_its_flows() {
    let mut b = bench(balanced(automap()));
    for _ in 0..3 {
        // The last ones from the cache.
        only(&b.go(C, from(C, CLUSTER).udp(5000, 53)), POD_A);
    }
    change(&mut b, |net| {
        let mut heir = server(CLUSTER, 17, 53, &[member(B, 53, Some(1))], PoolSnat::Transparent);
        heir.name = "heir".into();
        cluster_ips(net, vec![heir]);
    });
    only(&b.go(C, from(C, CLUSTER).udp(5000, 53)), POD_B);
    // What the one before had counted is not the heir's.
    let hits = b.worker.hits();
    let hit = hits[&RuleKey::Server(None, ip(CLUSTER), 17, 53)];
    assert_eq!((hit.traffic.packets, hit.sessions), (1, 1));
}

#[test]
fn a_member_that_leaves_keeps_its_connections() {
    let mut b = bench(balanced(automap()));
    only(&b.go(C, from(C, CLUSTER).tcp(5000, 53, SYN)), POD_A);
    change(&mut b, |net| {
        let members = [member(B, 53, Some(1))];
        let servers = [6, 17].map(|p| server(CLUSTER, p, 53, &members, PoolSnat::Transparent));
        cluster_ips(net, servers.to_vec());
    });
    only(&b.go(C, from(C, CLUSTER).tcp(5000, 53, ACK | PSH)), POD_A);
    only(&b.go(C, from(C, CLUSTER).tcp(5001, 53, SYN)), POD_B);
}

#[test]
fn a_translation_that_is_another_ends_what_had_the_old_one() {
    let mut b = bench(lab());
    let h = only(&b.go(A, from(A, H1).udp(5000, 53)), EXT);
    assert_eq!(h.ip().unwrap().src, ip("172.16.2.2"));
    // Others' rules may come and go.
    change(&mut b, |net| {
        let mut rules = net.routers[T1.0 as usize].nat.rules().to_vec();
        rules.push(NatRule {
            source: Some(vec![prefix("10.244.8.0/28")]),
            ..NatRule::new(99, "other", 1, NatAction::NoSnat)
        });
        net.routers[T1.0 as usize].nat = NatTable::new(rules);
    });
    assert_eq!(b.worker.sessions().len(), 1);
    // Another rule that gives the same address does as well, and counts from now on.
    change(&mut b, |net| {
        let mut rules = net.routers[T1.0 as usize].nat.rules().to_vec();
        for rule in rules.iter_mut().filter(|r| r.name == "snat") {
            (rule.id, rule.name, rule.priority) = (7, "again".into(), 500);
        }
        net.routers[T1.0 as usize].nat = NatTable::new(rules);
    });
    let h = only(&b.go(A, from(A, H1).udp(5000, 53)), EXT);
    assert_eq!(h.ip().unwrap().src, ip("172.16.2.2"));
    let hits = b.worker.hits();
    assert_eq!(hits[&RuleKey::Nat(T1, 7)].traffic.packets, 1);
    assert!(!hits.contains_key(&RuleKey::Nat(T1, 1)));
    change(&mut b, |net| {
        let mut rules = net.routers[T1.0 as usize].nat.rules().to_vec();
        for rule in rules
            .iter_mut()
            .filter(|r| r.action == NatAction::Snat(AddressRange::host(ip("172.16.2.2"))))
        {
            rule.action = NatAction::Snat(AddressRange::host(ip("172.16.2.3")));
        }
        net.routers[T1.0 as usize].nat = NatTable::new(rules);
    });
    assert_eq!(b.worker.sessions().len(), 0);
    let h = only(&b.go(A, from(A, H1).udp(5000, 53)), EXT);
    assert_eq!(h.ip().unwrap().src, ip("172.16.2.3"));
    assert!(b.go(H1, from(H1, "172.16.2.2").udp(53, 5000)).is_empty());
}

/// Sessions that are left when only these NAT rules are.
fn left_by(b: &mut Bench, rules: Vec<NatRule>) -> usize {
    change(b, |net| net.routers[T1.0 as usize].nat = NatTable::new(rules));
    b.worker.sessions().len()
}

/// SNAT to 172.16.2.2, and DNAT from 172.16.2.9 to a target.
fn translations(target: &str) -> (NatRule, NatRule) {
    let snat = NatAction::Snat(AddressRange::host(ip("172.16.2.2")));
    let dnat = NatAction::Dnat { to: prefix(target), ports: None };
    let dnat = NatRule {
        destination: Some(prefix("172.16.2.9/32")),
        ..NatRule::new(2, "dnat", 1000, dnat)
    };
    (NatRule::new(1, "snat", 1000, snat), dnat)
}

#[test]
fn what_exempts_keeps_no_translation_alive() {
    let exempt = |action| NatRule::new(7, "exempt", 3000, action);
    let (snat, dnat) = translations("10.244.0.34/32");
    let start = |rules: Vec<NatRule>| {
        let mut net = lab();
        net.routers[T1.0 as usize].nat = NatTable::new(rules);
        add_routes(&mut net, T0, vec![to("172.16.2.9/32", 1, None)]);
        bench(net)
    };
    // The address of an SNAT rule that has gone is another's, whatever NO_DNAT says of the destination.
    let mut b = start(vec![snat.clone(), exempt(NatAction::NoDnat)]);
    only(&b.go(A, from(A, H1).udp(5000, 53)), EXT);
    assert_eq!(left_by(&mut b, vec![exempt(NatAction::NoDnat)]), 0);
    // So of a DNAT rule and NO_SNAT.
    let mut b = start(vec![dnat.clone(), exempt(NatAction::NoSnat)]);
    only(&b.go(H1, from(H1, "172.16.2.9").udp(5000, 53)), POD_B);
    assert_eq!(left_by(&mut b, vec![exempt(NatAction::NoSnat)]), 0);
    // A hairpin has both translations, or ends.
    for (rules, left) in
        [(vec![dnat.clone(), snat.clone()], 1), (vec![dnat.clone()], 0), (vec![snat.clone()], 0)]
    {
        let mut b = start(vec![dnat.clone(), snat.clone()]);
        let h = only(&b.go(A, from(A, "172.16.2.9").udp(5000, 53)), POD_B);
        assert_eq!(h.ip().unwrap().src, ip("172.16.2.2"));
        assert_eq!(left_by(&mut b, rules), left);
    }
}

#[test]
fn a_ping_with_another_identifier_lives_through_a_rule_that_comes() {
    let (snat, dnat) = translations("10.244.0.18/32");
    let mut net = lab();
    net.routers[T1.0 as usize].nat = NatTable::new(vec![snat.clone(), dnat.clone()]);
    add_routes(&mut net, T0, vec![to("172.16.2.9/32", 1, None)]);
    let mut b = bench(net);
    let id = |h: packet::Headers| h.ip().unwrap().ports().0;
    assert_eq!(id(only(&b.go(A, from(A, H1).echo_request(5, 1)), EXT)), 5);
    // The second with one identifier gets another.
    let second = id(only(&b.go(B, from(B, H1).echo_request(5, 1)), EXT));
    assert_ne!(second, 5);
    let mut others = vec![snat, dnat];
    others.push(NatRule {
        source: Some(vec![prefix("10.244.9.0/24")]),
        ..NatRule::new(3, "another", 1000, NatAction::NoSnat)
    });
    let before = b.worker.sessions().len();
    assert_eq!(left_by(&mut b, others), before);
    let tx = b.go(H1, from(H1, "172.16.2.2").echo_reply(second, 1));
    assert_eq!(id(only(&tx, POD_B)), 5);
}

#[test]
fn a_rule_with_anothers_number_has_none_of_its_hits() {
    let mut net = lab();
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
    vnic(&mut net, POD_B).rules_in = vec![0].into();
    let mut b = bench(net);
    assert!(b.go(A, from(A, B).udp(1, 2)).is_empty());
    let key = RuleKey::Firewall(1001);
    assert_eq!(b.worker.hits()[&key].traffic.packets, 1);
    change(&mut b, |net| net.ports[0].mtu = 1400);
    assert_eq!(b.worker.hits()[&key].traffic.packets, 1, "an unchanged rule keeps what it counted");
    change(&mut b, |net| net.firewall.rules[0].name = "heir".into());
    assert!(!b.worker.hits().contains_key(&key));
    // The drop stays counted, and every frame accounted for.
    let drops: Vec<_> = b.worker.drops().iter().map(|(k, t)| (k.rule, t.packets)).collect();
    assert_eq!(drops, [(None, 1)]);
    assert!(b.worker.accounting().balances());
}
