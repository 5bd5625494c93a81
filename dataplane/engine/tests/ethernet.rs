//! The category Ethernet of the distributed firewall (features.md 3.G): stateless, both directions, every
//! frame at a vNIC, first match, before the other categories.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, RuleKey, Stage, TraceEnd, Traffic};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, FrameBuilder, Mac, Payload, tcp_flags::*};

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const LLDP: u16 = 0x88cc;

fn l2(id: u32, direction: Direction, action: EthernetAction) -> EthernetRule {
    EthernetRule {
        id,
        name: format!("eth.{id}"),
        origin: "SupervisorCluster test".into(),
        direction,
        source: MacSet::any(),
        destination: MacSet::any(),
        ether_types: Vec::new(),
        applied_to_text: "test".into(),
        action,
    }
}

/// Hangs rules onto a vNIC, in order, as realization does.
fn hang(net: &mut Network, port: PortId, rules: Vec<EthernetRule>) {
    let at = |wanted: Direction| -> std::sync::Arc<[u32]> {
        (0..)
            .zip(&rules)
            .filter(|(_, r)| [wanted, Direction::InOut].contains(&r.direction))
            .map(|(i, _)| i)
            .collect()
    };
    let (into, out) = (at(Direction::In), at(Direction::Out));
    let vnic = vnic(net, port);
    (vnic.ethernet_in, vnic.ethernet_out) = (into, out);
    net.firewall.ethernet = rules;
}

fn with(port: PortId, rules: Vec<EthernetRule>) -> Bench {
    let mut net = lab();
    hang(&mut net, port, rules);
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

fn drops(b: &Bench) -> Vec<(Stage, DropReason, String, Option<RuleKey>)> {
    b.worker.drops().keys().map(|k| (k.stage, k.reason, k.object.clone(), k.rule)).collect()
}

fn dropped(stage: Stage, at: &str, rule: u32) -> (Stage, DropReason, String, Option<RuleKey>) {
    (stage, DropReason::EthernetRule, at.into(), Some(RuleKey::Firewall(rule)))
}

/// pod/a to pod/c in the segment, without a router.
fn a_to_c() -> FrameBuilder {
    from(A, C).macs(mac(1), MC)
}

#[test]
fn a_request_that_the_segment_would_answer_is_judged_first() {
    let rule =
        EthernetRule { ether_types: vec![ARP], ..l2(7, Direction::Out, EthernetAction::Drop) };
    let mut b = with(POD_A, vec![rule]);
    assert!(b.send(POD_A, packet::arp_request(mac(1), ip(A), ip(C))).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwOut, "pod/a", 7)]);
    assert_eq!(b.worker.hits()[&RuleKey::Firewall(7)].traffic.packets, 1);
    // Only ARP, and only from there.
    only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
    only(&b.send(POD_C, packet::arp_request(MC, ip(C), ip(A))), POD_C);
}

#[test]
fn what_the_segment_answers_is_judged_where_it_goes() {
    let rule =
        EthernetRule { ether_types: vec![ARP], ..l2(7, Direction::In, EthernetAction::Drop) };
    let mut b = with(POD_A, vec![rule]);
    let request = packet::arp_request(mac(1), ip(A), ip("10.244.0.17"));
    let trace = b.worker.trace(&b.net, POD_A, &request, b.now);
    assert_eq!((trace.end, trace.answer), (TraceEnd::Consumed(Stage::Segment), None));
    assert!(b.send(POD_A, request).is_empty(), "the gateway's reply does not get in");
    assert_eq!(drops(&b), [dropped(Stage::DfwIn, "pod/a", 7)]);
}

#[test]
fn a_routers_own_request_for_a_neighbour_is_judged() {
    // The Tier-1 looks for an address of seg-a that nobody has.
    let rule =
        EthernetRule { ether_types: vec![ARP], ..l2(7, Direction::In, EthernetAction::Drop) };
    let mut b = with(POD_A, vec![rule]);
    let tx = b.go(B, from(B, "10.244.0.29").udp(1, 2));
    only(&tx, POD_C);
    assert_eq!(drops(&b), [dropped(Stage::DfwIn, "pod/a", 7)]);
}

#[test]
fn neighbour_discovery_is_a_frame_too() {
    let rule =
        EthernetRule { ether_types: vec![IPV6], ..l2(7, Direction::Out, EthernetAction::Drop) };
    let mut b = with(POD_A, vec![rule]);
    let ask = packet::neighbor_solicitation(mac(1), ip("2001:db8:a::12"), ip("2001:db8:a::1"));
    assert!(b.send(POD_A, ask).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwOut, "pod/a", 7)]);
    only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
}

#[test]
fn the_first_match_decides_and_nothing_matched_passes() {
    let allow = EthernetRule {
        source: MacSet::only([mac(1)]),
        ether_types: vec![IPV4],
        ..l2(1, Direction::In, EthernetAction::Allow)
    };
    let deny =
        EthernetRule { ether_types: vec![IPV4], ..l2(2, Direction::In, EthernetAction::Drop) };
    let mut b = with(POD_C, vec![allow, deny]);
    only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
    // From the gateway, not from pod/a's MAC.
    assert!(b.go(B, from(B, C).udp(1, 2)).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwIn, "pod/c", 2)]);
    let hits = b.worker.hits();
    assert_eq!(hits[&RuleKey::Firewall(1)].traffic.packets, 1);
    assert_eq!(hits[&RuleKey::Firewall(1)].sessions, 0, "stateless");
    assert_eq!(hits[&RuleKey::Firewall(2)].traffic.packets, 1);
    assert_eq!(b.worker.sessions().len(), 1);
}

#[test]
fn a_receivers_rule_sees_the_source_mac_that_arrives() {
    // pod/b's packets come to pod/c from the gateway's MAC: a rule about pod/b's own does not see them.
    let by = |mac| {
        let source = MacSet::only([mac]);
        vec![EthernetRule { source, ..l2(3, Direction::In, EthernetAction::Drop) }]
    };
    let mut b = with(POD_C, by(mac(2)));
    for _ in 0..4 {
        only(&b.go(B, from(B, C).udp(1, 2)), POD_C);
    }
    assert!(b.worker.cached() > 0);
    let mut b = with(POD_C, by(GATEWAY));
    assert!(b.go(B, from(B, C).udp(1, 2)).is_empty());
    only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
    // All but pod/a.
    let except = EthernetRule {
        source: MacSet::except([mac(1)]),
        ..l2(3, Direction::In, EthernetAction::Drop)
    };
    let mut b = with(POD_C, vec![except]);
    only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
    assert!(b.go(B, from(B, C).udp(1, 2)).is_empty());
}

#[test]
fn a_cached_flow_stops_at_once_whatever_becomes_of_sessions() {
    for change in [PolicyChange::Reevaluate, PolicyChange::Keep] {
        let mut b = with(POD_C, Vec::new());
        b.net.firewall.on_change = change;
        for _ in 0..4 {
            only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
        }
        assert!(b.worker.cached() > 0);
        hang(&mut b.net, POD_C, vec![l2(9, Direction::In, EthernetAction::Drop)]);
        b.net.epoch += 1;
        assert!(b.send(POD_A, a_to_c().udp(1, 2).build()).is_empty());
        assert_eq!(drops(&b), [dropped(Stage::DfwIn, "pod/c", 9)]);
        // The session was not refused by anything that keeps state: it lives.
        assert_eq!(b.worker.sessions().len(), 1);
        hang(&mut b.net, POD_C, Vec::new());
        b.net.epoch += 1;
        only(&b.send(POD_A, a_to_c().udp(1, 2).build()), POD_C);
    }
}

#[test]
fn an_established_connection_has_no_privilege() {
    let mut b = with(POD_C, Vec::new());
    let back = |f| from(C, A).macs(MC, mac(1)).tcp(80, 4000, f).ack(1).build();
    only(&b.send(POD_A, a_to_c().tcp(4000, 80, SYN).build()), POD_C);
    only(&b.send(POD_C, back(SYN | ACK)), POD_A);
    only(&b.send(POD_A, a_to_c().tcp(4000, 80, ACK).ack(1).build()), POD_C);
    hang(&mut b.net, POD_A, vec![l2(9, Direction::In, EthernetAction::Drop)]);
    b.net.epoch += 1;
    assert!(b.send(POD_C, back(ACK)).is_empty(), "the answer is a frame like any other");
    only(&b.send(POD_A, a_to_c().tcp(4000, 80, ACK).ack(1).build()), POD_C);
}

#[test]
fn every_copy_of_a_flood_is_judged_for_its_receiver() {
    let rule = EthernetRule {
        destination: MacSet::only([Mac::BROADCAST]),
        ..l2(4, Direction::In, EthernetAction::Drop)
    };
    let mut b = with(POD_C, vec![rule]);
    assert!(b.send(POD_A, packet::gratuitous_arp(mac(1), ip(A))).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwIn, "pod/c", 4)]);
    // A rule that lets copies pass counts each.
    let allow = l2(5, Direction::In, EthernetAction::Allow);
    let mut b = with(POD_C, vec![allow]);
    let frame = packet::gratuitous_arp(mac(1), ip(A));
    only(&b.send(POD_A, frame.clone()), POD_C);
    let expected = Traffic { packets: 1, bytes: frame.bytes.len() as u64 };
    assert_eq!(b.worker.hits()[&RuleKey::Firewall(5)].traffic, expected);
}

/// An Ethernet frame of pod/a with 46 octets in it.
fn raw(dst: Mac, ether_type: u16) -> Frame {
    let mut bytes = [dst.0, mac(1).0].concat();
    bytes.extend_from_slice(&ether_type.to_be_bytes());
    bytes.extend_from_slice(&[0; 46]);
    Frame::new(bytes)
}

#[test]
fn other_protocols_by_their_number() {
    let rule =
        EthernetRule { ether_types: vec![LLDP], ..l2(7, Direction::Out, EthernetAction::Drop) };
    let mut b = with(POD_A, vec![rule]);
    vnic(&mut b.net, POD_A).security.non_ip_block = false;
    assert!(b.send(POD_A, raw(MC, LLDP)).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwOut, "pod/a", 7)]);
    // EtherCAT, and a length in the place of an EtherType.
    for ether_type in [0x88a4, 0x0026] {
        let h = only(&b.send(POD_A, raw(MC, ether_type)), POD_C);
        assert_eq!((h.payload, h.ether_type), (Payload::Other, ether_type));
    }
}

#[test]
fn spoofguard_comes_first_and_layer_3_after() {
    let mut b = with(POD_A, vec![l2(7, Direction::Out, EthernetAction::Drop)]);
    assert!(b.send(POD_A, from(A, C).macs(mac(2), MC).udp(1, 2).build()).is_empty());
    assert_eq!(b.only_drop().1, DropReason::SpoofGuard);
    let mut b = with(POD_A, vec![l2(7, Direction::Out, EthernetAction::Drop)]);
    b.net.firewall.rules = vec![rule(8, "any", "any", Vec::new(), Action::Drop)];
    vnic(&mut b.net, POD_A).rules_out = [0].into();
    assert!(b.send(POD_A, a_to_c().udp(1, 2).build()).is_empty());
    assert_eq!(drops(&b), [dropped(Stage::DfwOut, "pod/a", 7)]);
    // Allowed by the first category is not yet allowed.
    let mut b = with(POD_A, vec![l2(7, Direction::Out, EthernetAction::Allow)]);
    b.net.firewall.rules = vec![rule(8, "any", "any", Vec::new(), Action::Drop)];
    vnic(&mut b.net, POD_A).rules_out = [0].into();
    assert!(b.send(POD_A, a_to_c().udp(1, 2).build()).is_empty());
    assert_eq!(b.only_drop().1, DropReason::Firewall);
}

#[test]
fn hits_of_cached_frames_are_those_of_walked_ones() {
    let rules = || {
        vec![
            EthernetRule {
                ether_types: vec![IPV4],
                ..l2(1, Direction::InOut, EthernetAction::Allow)
            },
            l2(2, Direction::InOut, EthernetAction::Drop),
        ]
    };
    let mut all = Vec::new();
    for cache in [true, false] {
        let mut net = lab();
        hang(&mut net, POD_C, rules());
        let mut b = Bench::with_cache(net, cache);
        b.introduce_all();
        for _ in 0..10 {
            only(&b.send_quietly(POD_A, a_to_c().udp(1, 2).build()), POD_C);
            let answer = from(C, A).macs(MC, mac(1)).udp(2, 1).build();
            only(&b.send_quietly(POD_C, answer), POD_A);
        }
        assert_eq!(b.worker.cached() > 0, cache);
        all.push(b.worker.hits());
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0][&RuleKey::Firewall(1)].traffic.packets, 20, "ten in, ten out");
}

#[test]
fn a_trace_names_the_rule_and_changes_nothing() {
    let mut b = with(POD_C, vec![l2(7, Direction::In, EthernetAction::Drop)]);
    let trace = b.worker.trace(&b.net, POD_A, &a_to_c().udp(1, 2).build(), b.now);
    let step = trace.steps.iter().find(|s| s.text.contains("Ethernet")).unwrap();
    assert_eq!((step.stage, step.object.as_str()), (Stage::DfwIn, "pod/c"));
    assert_eq!(step.text, "DROP by Ethernet rule 7 'eth.7' (SupervisorCluster test)");
    assert!(matches!(trace.end, TraceEnd::Dropped(d) if d.rule == Some(RuleKey::Firewall(7))));
    assert!(b.worker.drops().is_empty() && b.worker.hits().is_empty());
}
