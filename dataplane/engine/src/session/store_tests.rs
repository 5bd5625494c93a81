//! What is stored comes back, to the bit, whatever it is; and sessions come due when they should.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::due::{Agenda, UNARMED};
use super::index::Index;
use super::store::{Beginning, Store};
use super::*;
use crate::network::PortId;
use packet::Mac;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn tuple() -> impl Strategy<Value = Tuple> {
    let addr = prop_oneof![
        6 => (0u32..4).prop_map(|n| Addr::v4(0x0a00_0000 + n)),
        1 => (0u128..3).prop_map(|n| Addr(0x2001_0db8 << 96 | n)),
        1 => any::<u128>().prop_map(Addr),
    ];
    let protocol = prop_oneof![9 => Just(17u8), 1 => any::<u8>()];
    (addr.clone(), addr, protocol, 0u16..3, 0u16..3).prop_map(
        |(src, dst, protocol, src_port, dst_port)| Tuple { src, dst, protocol, src_port, dst_port },
    )
}

fn record() -> impl Strategy<Value = StageRecord> {
    let node = prop_oneof![
        (0u32..3).prop_map(|n| Node::Balancer(PortId(n))),
        (0u32..3).prop_map(|n| Node::Firewall(PortId(n))),
        (0u32..3).prop_map(|n| Node::Gateway(RouterId(n))),
        (0u32..3).prop_map(|n| Node::GatewayFirewall(RouterId(n))),
    ];
    let rule = proptest::option::of(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]);
    let icmp = proptest::option::of(any::<(u8, u8)>());
    let kind = prop_oneof![
        (rule, any::<bool>(), tuple(), icmp).prop_map(|(rule, ingress, judged, icmp)| {
            RecordKind::Firewall { rule, ingress, judged, icmp }
        }),
        Just(RecordKind::SourcePort),
        Just(RecordKind::Untranslated),
        any::<u32>().prop_map(|rule| RecordKind::Nat { rule }),
        (tuple(), any::<u16>(), any::<bool>()).prop_map(|(t, port, hairpin)| {
            RecordKind::Balancer { server: t.dst, port, hairpin }
        }),
    ];
    let timers =
        prop_oneof![Just(TimerClass::Dfw), Just(TimerClass::Gateway), Just(TimerClass::Balancer)];
    (node, tuple(), tuple(), kind, timers).prop_map(|(node, before, after, kind, timers)| {
        StageRecord { node, before, after, kind, timers }
    })
}

fn records() -> impl Strategy<Value = Vec<StageRecord>> {
    proptest::collection::vec(record(), 1..=MAX_RECORDS)
}

fn beginning(initiating: Tuple, terminating: Tuple, tenant: Option<u32>) -> Beginning {
    Beginning {
        serial: 1,
        created: Time(5),
        tenant,
        initiating,
        terminating,
        progress: Progress::new(initiating.protocol),
        traffic: [Traffic { packets: 1, bytes: 60 }, Traffic::default()],
    }
}

fn observation(direction: Direction, packets: u64, bytes: u64, now: u64) -> Observation {
    Observation { direction, tcp: None, icmp_error: false, packets, bytes, now: Time(now) }
}

proptest! {
    #[test]
    fn what_is_stored_comes_back(
        (initiating, terminating) in (tuple(), tuple()),
        tenant in proptest::option::of(any::<u32>()),
        (first, second) in (records(), records()),
        keys in proptest::collection::vec((any::<bool>(), 0u32..3, any::<u8>(), tuple(), any::<u64>()), 0..4),
        traffic in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u64>()), 0..6),
    ) {
        let mut store = Store::default();
        let new = beginning(initiating, terminating, tenant);
        let other = store.insert(&beginning(terminating, initiating, None), &second).unwrap();
        let slot = store.insert(&new, &first).unwrap();
        let mut expected = Session {
            id: SessionId { index: slot, serial: 1 },
            created: new.created,
            last_seen: new.created,
            tenant,
            initiating,
            terminating,
            progress: new.progress,
            records: first.iter().copied().collect(),
            traffic: new.traffic,
            cached: [None; 2],
        };
        prop_assert_eq!(store.session(slot), Some(expected.clone()));
        for (is_reply, port, mac, tuple, workers) in keys {
            // A key of its own, of the session, or of the session reversed.
            let tuple = match mac % 3 {
                0 => initiating,
                1 => terminating.reversed(),
                _ => tuple,
            };
            let mac = Mac([2, 0, 0, 0, 0, mac]);
            let key = FlowKey::join(PortId(port), mac, tuple);
            let cached = Cached { key, workers: WorkerSet::from_bits(workers >> (workers % 64)) };
            let direction = if is_reply { Direction::Reply } else { Direction::Forward };
            store.set_cached(slot, direction, cached);
            expected.cached[direction.index()] = Some(cached);
            prop_assert_eq!(store.cached(slot), expected.cached);
        }
        for (is_reply, packets, bytes) in traffic {
            let direction = if is_reply { Direction::Reply } else { Direction::Forward };
            let o = observation(direction, u64::from(packets), bytes >> (bytes % 64), 9);
            store.observe(slot, &o).unwrap();
            expected.traffic[direction.index()].add(o.packets, o.bytes);
            expected.progress.observe(&o, expected.traffic);
            expected.last_seen = Time(9);
        }
        if initiating.protocol != 6 {
            prop_assert_eq!(store.session(slot), Some(expected.clone()));
        }
        store.set_records(slot, &second);
        expected.records = second.iter().copied().collect();
        let found = store.session(slot).unwrap();
        prop_assert_eq!((&found.records, found.cached), (&expected.records, expected.cached));
        prop_assert_eq!(found.traffic, expected.traffic);
        let rules: Vec<RuleKey> = second.iter().filter_map(StageRecord::rule_key).collect();
        prop_assert_eq!(store.rules(slot).to_vec(), rules);
        for record in &second {
            let forward = store.recall(slot, record.node, &record.before);
            prop_assert!(forward.is_some_and(|(at, _)| second[at].node == record.node));
            let reply = store.recall(slot, record.node, &record.after.reversed());
            prop_assert!(reply.is_some_and(|(at, _)| second[at].node == record.node));
        }
        prop_assert_eq!(store.record_count(other), second.len());
        store.remove(slot);
        prop_assert_eq!(store.len(), 1);
        prop_assert!(store.session(slot).is_none());
        prop_assert_eq!(store.insert(&new, &first), Some(slot));
        prop_assert_eq!(store.session(slot).unwrap().cached, [None; 2]);
    }

    /// The oracle is a map of what is linked.
    #[test]
    fn the_index_finds_what_was_entered(
        steps in proptest::collection::vec((any::<bool>(), record(), 0u32..40), 1..200),
    ) {
        let mut index = Index::new(7);
        let mut linked: BTreeMap<(Node, Tuple, u32), usize> = BTreeMap::new();
        for (enter, StageRecord { node, before, .. }, slot) in steps {
            let place = index.place(node, &before);
            prop_assert_eq!(place, index.place(node, &before.reversed()));
            let count = linked.entry((node, before, slot)).or_default();
            if enter {
                index.insert(node, place, slot);
                *count += 1;
            } else if *count > 0 {
                index.remove(node, place, slot);
                *count -= 1;
            }
        }
        for ((node, before, slot), count) in &linked {
            let place = index.place(*node, before);
            let found = index.find(place, |s| s == *slot).is_some();
            let reversed = linked.get(&(*node, before.reversed(), *slot)).copied().unwrap_or(0);
            prop_assert!(found || *count + reversed == 0);
            let any = linked.iter().any(|((n, ..), count)| n == node && *count > 0);
            prop_assert_eq!(index.has_any(*node), any);
        }
    }

    /// The oracle looks at every session: none is forgotten, and of all that have come due the first one
    /// comes first.
    #[test]
    fn sessions_come_due_in_order(
        steps in proptest::collection::vec((0u8..4, 0usize..12, 0u64..400_000), 1..120),
    ) {
        let (mut store, mut agenda) = (Store::default(), Agenda::default());
        let mut timers = TimerSettings::default();
        timers.overrides.set(TimerClass::Dfw, TimerState::UdpFirst, 60);
        let tuple = |n: usize| Tuple {
            src: Addr::v4(1),
            dst: Addr::v4(2),
            protocol: 17,
            src_port: u16::try_from(n).unwrap(),
            dst_port: 9,
        };
        let mut now = 0u64;
        let mut serial = 0;
        let mut live: Vec<u32> = Vec::new();
        for (step, which, millis) in steps {
            match step {
                // A new one.
                0 => {
                    serial += 1;
                    let before = tuple(which);
                    let record = StageRecord {
                        node: Node::Firewall(PortId(0)),
                        before,
                        after: before,
                        kind: RecordKind::Untranslated,
                        timers: TimerClass::Dfw,
                    };
                    let created = Time::from_millis(now);
                    let new = Beginning { serial, created, ..beginning(before, before, None) };
                    let slot = store.insert(&new, &[record]).unwrap();
                    let (at, armed) = store.due(slot, &timers).unwrap();
                    agenda.arm(slot, armed, at);
                    live.push(slot);
                }
                // One is refreshed, which its timer does not hear of.
                1 if !live.is_empty() => {
                    let slot = live[which % live.len()];
                    let at = Time::from_millis(now).0;
                    store.observe(slot, &observation(Direction::Forward, 0, 0, at)).unwrap();
                }
                // One ends early.
                2 if !live.is_empty() => store.remove(live.swap_remove(which % live.len())),
                _ => now += millis / 4,
            }
            let moment = Time::from_millis(now);
            let mut last = Time::ZERO;
            while let Some(slot) = agenda.take(moment, &mut store, &timers) {
                let (at, armed) = store.due(slot, &timers).unwrap();
                prop_assert!(at <= moment && at >= last && *armed == UNARMED);
                last = at;
                store.remove(slot);
                live.retain(|s| *s != slot);
            }
            for slot in &live {
                let (at, _) = store.due(*slot, &timers).unwrap();
                prop_assert!(at > moment);
                prop_assert!(agenda.first().is_some_and(|first| first <= at));
            }
            agenda.tidy(store.len(), |slot| store.armed(slot));
        }
    }
}

#[test]
fn a_session_that_expires_earlier_than_it_was_armed_for_is_armed_again() {
    let (mut store, mut agenda) = (Store::default(), Agenda::default());
    let timers = TimerSettings::default();
    let before =
        Tuple { src: Addr::v4(1), dst: Addr::v4(2), protocol: 17, src_port: 1, dst_port: 9 };
    let record = StageRecord {
        node: Node::Firewall(PortId(0)),
        before,
        after: before,
        kind: RecordKind::Untranslated,
        timers: TimerClass::Dfw,
    };
    let slot = store.insert(&beginning(before, before, None), &[record]).unwrap();
    let (_, armed) = store.due(slot, &timers).unwrap();
    for seconds in [100, 40, 60, 20, 20] {
        agenda.arm(slot, armed, Time(5) + Duration::from_secs(seconds));
    }
    assert_eq!(agenda.first(), Some(Time(5) + Duration::from_secs(20)));
    // It comes due after 60 seconds really: looked at after 20, and armed again.
    assert_eq!(agenda.take(Time::from_secs(59), &mut store, &timers), None);
    assert_eq!(agenda.take(Time(5) + Duration::from_secs(60), &mut store, &timers), Some(slot));
}

#[test]
fn what_left_its_slice_gives_its_place_back() {
    let mut agenda = Agenda::default();
    let mut armed = [UNARMED; 10];
    for round in (0..1_000u64).rev() {
        for slot in 0..10u32 {
            agenda.arm(slot, &mut armed[slot as usize], Time::from_secs(round));
            agenda.tidy(10, |slot| armed.get(slot as usize).copied());
        }
    }
    assert!(agenda.places() <= 2 * 10 + 1024 + 10, "{}", agenda.places());
}
