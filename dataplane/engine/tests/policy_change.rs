//! What becomes of live sessions when rules change: judged again (default), or kept until they end
//! (features.md 3.F; OVN's `persist-established`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, RuleKey};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Time, tcp_flags::*};

fn ask() -> FrameBuilder {
    from(A, B).tcp(4000, 80, ACK).ack(1).seq(1)
}

fn answer() -> FrameBuilder {
    from(B, A).tcp(80, 4000, ACK).ack(1).seq(1)
}

/// Rules at pod/b, towards it.
fn rules(b: &mut Bench, rules: Vec<Rule>) {
    b.net.epoch += 1;
    let list: Vec<u32> = (0..rules.len() as u32).collect();
    b.net.firewall.rules = rules;
    vnic(&mut b.net, POD_B).rules_in = list.into();
}

/// A connection from pod/a to pod/b, allowed by rule 1001, that has been used in both directions.
fn connected(cache: bool, change: PolicyChange) -> Bench {
    let mut b = Bench::with_cache(lab(), cache);
    b.net.firewall.on_change = change;
    rules(&mut b, vec![rule(1001, "any", "any", tcp(80), Action::Allow)]);
    only(&b.go(A, from(A, B).tcp(4000, 80, SYN).seq(0)), POD_B);
    only(&b.go(B, from(B, A).tcp(80, 4000, SYN | ACK).seq(0).ack(1)), POD_A);
    for _ in 0..3 {
        only(&b.go(A, ask()), POD_B);
        only(&b.go(B, answer()), POD_A);
    }
    assert_eq!(b.worker.cached() > 0, cache);
    b
}

fn deny() -> Vec<Rule> {
    vec![rule(1002, "any", "any", Vec::new(), Action::Drop)]
}

#[test]
fn judged_again_a_refused_connection_stops_whoever_speaks() {
    for cache in [true, false] {
        for client in [true, false] {
            let mut b = connected(cache, PolicyChange::Reevaluate);
            rules(&mut b, deny());
            let tx = if client { b.go(A, ask()) } else { b.go(B, answer()) };
            assert!(tx.is_empty());
            assert_eq!(b.only_drop().1, DropReason::Firewall);
            assert!(b.worker.sessions().is_empty());
        }
    }
}

#[test]
fn kept_it_goes_on_in_both_directions_and_new_ones_are_refused() {
    for cache in [true, false] {
        let mut b = connected(cache, PolicyChange::Keep);
        rules(&mut b, deny());
        for _ in 0..3 {
            only(&b.go(A, ask()), POD_B);
            only(&b.go(B, answer()), POD_A);
        }
        assert!(b.go(A, from(A, B).tcp(4001, 80, SYN)).is_empty());
        assert_eq!(b.only_drop().1, DropReason::Firewall);
        // Its segments count for the rule that it began with, which is gone; nothing of them for the new.
        let hits = b.worker.hits();
        assert_eq!(hits[&RuleKey::Firewall(1001)].traffic.packets, 2 + 6 + 6, "cache {cache}");
        assert_eq!(hits[&RuleKey::Firewall(1002)].traffic.packets, 1, "cache {cache}");
        // A rule in the place of the old one, allowing it too, does not inherit it.
        rules(&mut b, vec![rule(1003, "any", "any", Vec::new(), Action::Allow)]);
        only(&b.go(A, ask()), POD_B);
        let hits = b.worker.hits();
        assert_eq!(hits[&RuleKey::Firewall(1001)].traffic.packets, 15);
        assert!(!hits.contains_key(&RuleKey::Firewall(1003)));
    }
}

#[test]
fn kept_ends_when_the_session_ends() {
    // With a reset.
    let mut b = connected(true, PolicyChange::Keep);
    rules(&mut b, deny());
    only(&b.go(A, from(A, B).tcp(4000, 80, RST | ACK).seq(1).ack(1)), POD_B);
    assert!(b.go(A, from(A, B).tcp(4000, 80, SYN).seq(9)).is_empty(), "another connection");
    assert_eq!(b.only_drop().1, DropReason::Firewall);
    // By its timer: 43,200 s in the distributed firewall.
    let mut b = connected(true, PolicyChange::Keep);
    rules(&mut b, deny());
    b.advance(Time::from_secs(43_199));
    only(&b.go(A, ask()), POD_B);
    b.advance(Time::from_secs(43_199 + 43_200));
    assert!(b.go(A, ask()).is_empty());
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn datagrams_are_kept_until_they_pause() {
    let mut b = Bench::new(lab());
    b.net.firewall.on_change = PolicyChange::Keep;
    let query = || from(A, B).udp(4000, 53);
    only(&b.go(A, query()), POD_B);
    rules(&mut b, deny());
    b.advance(Time::from_secs(59));
    only(&b.go(A, query()), POD_B);
    // udp-single: 30 s.
    b.advance(Time::from_secs(59 + 30));
    assert!(b.go(A, query()).is_empty());
    assert_eq!(b.only_drop().1, DropReason::Firewall);
}

#[test]
fn back_to_judging_again_stops_what_was_kept() {
    let mut b = connected(true, PolicyChange::Keep);
    rules(&mut b, deny());
    only(&b.go(A, ask()), POD_B);
    b.net.epoch += 1;
    b.net.firewall.on_change = PolicyChange::Reevaluate;
    assert!(b.go(B, answer()).is_empty());
    assert!(b.worker.sessions().is_empty());
}

#[test]
fn nobody_inherits_a_kept_session() {
    let mut b = connected(true, PolicyChange::Keep);
    rules(&mut b, deny());
    b.net.ports[1].name = "pod/another".into();
    b.net.epoch += 1;
    assert!(b.go(A, ask()).is_empty());
    assert!(b.worker.sessions().is_empty());
    let tx: Vec<(PortId, Frame)> = b.go(B, answer());
    assert!(tx.is_empty(), "a bare segment begins nothing");
}

#[test]
fn a_trace_says_that_it_was_kept() {
    let mut b = connected(true, PolicyChange::Keep);
    rules(&mut b, deny());
    let trace = b.worker.trace(&b.net, POD_A, &ask().build(), b.now);
    assert!(trace.steps.iter().any(|s| s.text == "known session, kept by rule 1001"), "{trace:?}");
}
