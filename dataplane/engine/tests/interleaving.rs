//! Two workers, and every order in which their steps can come (design.md, "Sessions and who may touch
//! what"). In each the promises must hold: one session for a flow, no port given twice or taken back by
//! a flow that had it, nothing through that a snapshot forbids once it is acknowledged, every frame
//! and every packet accounted for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, Received, RuleKey, TimerState};
use fixture::lab::*;
use fixture::team::*;
use fixture::*;
use packet::{Frame, Time, tcp_flags::*};
use std::time::Duration;

/// A datagram from one of the addresses of the lab, from port 4000 to port 53. Flows are told apart by
/// their last four octets.
fn ask(src: &str, dst: &str, flow: &[u8]) -> Frame {
    from(src, dst).udp(4000, 53).payload(flow).build()
}

/// A datagram from H1 to a port of the SNAT address.
fn answer(port: u16, flow: &[u8]) -> Frame {
    from(H1, "172.16.2.2").udp(53, port).payload(flow).build()
}

fn segment(src: &str, ports: (u16, u16), flags: u8, seq: u32, ack: u32, flow: &[u8]) -> Frame {
    let dst = if src == H1 { "172.16.2.2" } else { H1 };
    let frame = from(src, dst).tcp(ports.0, ports.1, flags).seq(seq);
    let frame = if flags & ACK == 0 { frame } else { frame.ack(ack) };
    frame.payload(flow).build()
}

/// pod/a may send, by rule 1001, which counts.
fn counted() -> Network {
    let mut net = lab();
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Allow)];
    for pod in [POD_A, POD_B, POD_C] {
        vnic(&mut net, pod).rules_out = vec![0].into();
    }
    net
}

fn denying(mut net: Network) -> Network {
    net.epoch += 1;
    // The other stays, though nothing gets to it: what a rule that has gone counted is forgotten.
    net.firewall.rules.insert(0, rule(1002, "any", "any", Vec::new(), Action::Drop));
    for pod in [POD_A, POD_B, POD_C] {
        vnic(&mut net, pod).rules_out = vec![0].into();
    }
    net
}

fn packets_of(world: &World, id: u32) -> u64 {
    world.shared.counters().hits.get(&RuleKey::Firewall(id)).map_or(0, |h| h.traffic.packets)
}

fn reasons(world: &World) -> Vec<DropReason> {
    world.shared.counters().drops.keys().map(|k| k.reason).collect()
}

fn steps(parts: Vec<Vec<Step>>) -> Vec<Step> {
    parts.concat()
}

/// A world in which pod/a's UDP flow to H1 is established, and cached by both workers both ways.
fn established(net: Network) -> World {
    let mut world = World::new(net);
    world.send(0, POD_A, ask(A, H1, b"old!"));
    world.send(0, EXT, answer(4000, b"old<"));
    for worker in [0, 1] {
        world.send(worker, POD_A, ask(A, H1, b"old!"));
        world.send(worker, EXT, answer(4000, b"old<"));
        assert_eq!(world.workers[worker].cached(), 2);
    }
    assert_eq!(world.shared.sessions().len(), 1);
    world.forget_past();
    world
}

#[test]
fn both_see_the_first_packet_of_a_flow() {
    let actor = batch(POD_A, ask(A, H1, b"flow"));
    let runs = every_order(
        &[actor.clone(), actor],
        || World::new(counted()),
        |world| {
            let sessions = world.shared.sessions();
            assert_eq!(sessions.len(), 1, "one wins, the other follows it");
            assert_eq!(sessions[0].traffic[0].packets, 2);
            assert_eq!(world.ports_of(b"flow"), [4000, 4000]);
            let hit = world.shared.counters().hits[&RuleKey::Firewall(1001)];
            assert_eq!((hit.traffic.packets, hit.sessions), (2, 1));
            assert_eq!(reasons(world), []);
        },
    );
    assert_eq!(runs, 70, "8 over 4");
}

#[test]
fn two_flows_race_for_one_snat_port() {
    let runs = every_order(
        &[
            steps(vec![batch(POD_A, ask(A, H1, b"fl-a")), pass(POD_A, ask(A, H1, b"fl-a"))]),
            steps(vec![batch(POD_B, ask(B, H1, b"fl-b")), pass(POD_B, ask(B, H1, b"fl-b"))]),
        ],
        || World::new(lab()),
        |world| {
            let (a, b) = (world.ports_of(b"fl-a"), world.ports_of(b"fl-b"));
            assert_eq!((a[0], b[0]), (a[1], b[1]), "a flow keeps its port");
            assert_ne!(a[0], b[0]);
            assert!(a[0] == 4000 || b[0] == 4000, "who came first has kept its own");
            assert_eq!(world.shared.sessions().len(), 2);
        },
    );
    assert_eq!(runs, 924, "12 over 6");
}

#[test]
fn the_answer_comes_to_the_other_worker() {
    let syn = segment(A, (4000, 53), SYN, 100, 0, b"syn!");
    let syn_ack = segment(H1, (53, 4000), SYN | ACK, 900, 101, b"s+a!");
    every_order(
        &[batch(POD_A, syn), batch(EXT, syn_ack)],
        || World::new(lab()),
        |world| {
            let answered = world.begun.iter().position(|(_, port, _)| *port == EXT).unwrap();
            let sent = world.wire.iter().find(|o| o.frame.bytes.ends_with(b"syn!")).unwrap();
            let passed = !world.left(POD_A, b"s+a!").is_empty();
            // No answer can precede the SYN on the wire; and none that follows it may be lost.
            assert!(passed || sent.begun > answered, "the session stood before the SYN left");
            let sessions = world.shared.sessions();
            assert_eq!(sessions.len(), 1);
            let state = sessions[0].progress.timer_state();
            assert_eq!(state == TimerState::TcpOpening, passed);
        },
    );
}

#[test]
fn a_balancer_moves_on_though_two_choose_at_once() {
    for vip in [false, true] {
        let setup = || {
            let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
            vnic(&mut net, POD_A).hypervisor = 1;
            World::new(net)
        };
        let (to, client) = if vip { (VIP, A) } else { (CLUSTER, C) };
        let first = batch(place(client).0, ask(client, to, b"fl-1"));
        let second = from(client, to).udp(4001, 53).payload(b"fl-2").build();
        every_order(&[first, batch(place(client).0, second)], setup, |world| {
            for port in [POD_A, POD_B] {
                let n = world.left(port, b"fl-1").len() + world.left(port, b"fl-2").len();
                assert_eq!(n, 1, "one each: {:?}", world.wire);
            }
        });
    }
}

#[test]
fn a_client_sticks_to_one_member_though_two_choose_at_once() {
    let setup = || {
        let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
        let mut sticky = server(
            VIP,
            17,
            53,
            &[member(A, 53, Some(0)), member(B, 53, Some(1))],
            PoolSnat::Automap(ip(AUTO)),
        );
        sticky.affinity = Some(Duration::from_secs(60));
        vips(&mut net, vec![sticky]);
        World::new(net)
    };
    // Another client's choice moves the rotation between the two.
    let first = steps(vec![batch(POD_B, ask(B, VIP, b"fl-0")), batch(POD_C, ask(C, VIP, b"fl-1"))]);
    let second = from(C, VIP).udp(4001, 53).payload(b"fl-2").build();
    every_order(&[first, batch(POD_C, second)], setup, |world| {
        let at =
            |flow: &[u8]| world.wire.iter().find(|o| o.frame.bytes.ends_with(flow)).unwrap().port;
        assert_eq!(at(b"fl-1"), at(b"fl-2"));
    });
}

#[test]
fn fragments_follow_a_first_one_that_came_to_the_other_worker() {
    let whole = from(A, H1).udp(4000, 53).id(7).dont_fragment(false).payload(&[9; 2000]).build();
    let h = packet::parse(&whole.bytes).unwrap();
    let pieces = packet::fragment_ipv4(&whole, &h, 1280).unwrap();
    assert_eq!(pieces.len(), 2);
    every_order(
        &[batch(POD_A, pieces[0].clone()), batch(POD_A, pieces[1].clone())],
        || World::new(lab()),
        |world| {
            assert_eq!(world.wire.len(), 2, "{:?}", reasons(world));
            for out in &world.wire {
                assert_eq!(headers(&out.frame).ip().unwrap().src, ip("172.16.2.2"));
            }
        },
    );
}

#[test]
fn packets_wait_for_a_neighbour_that_answers_the_other_worker() {
    let setup = || {
        let mut world = World::new(lab());
        world.send(0, POD_B, ask(B, "192.0.2.99", b"ask?"));
        world.forget_past();
        world
    };
    let mut reply = packet::arp_request(mac(99), ip("192.0.2.99"), ip("192.0.2.1"));
    reply.bytes[21] = 2;
    reply.bytes[..6].copy_from_slice(&UPLINK.0);
    every_order(
        &[batch(POD_A, ask(A, "192.0.2.99", b"wait")), batch(EXT, reply)],
        setup,
        |world| {
            for flow in [b"wait", b"ask?"] {
                assert_eq!(world.wire.iter().filter(|o| o.frame.bytes.ends_with(flow)).count(), 1);
            }
            assert_eq!(world.shared.sessions().len(), 2);
        },
    );
}

#[test]
fn a_policy_changes_between_walk_and_commit() {
    let frame = ask(A, H1, b"flow");
    every_order(
        &[
            steps(vec![
                batch(POD_A, frame.clone()),
                batch(POD_A, frame.clone()),
                batch(POD_A, frame),
            ]),
            vec![],
            vec![Step::Publish(Box::new(denying(counted())))],
        ],
        || World::new(counted()),
        |world| {
            for out in &world.returned {
                assert_eq!(out.epoch, 1, "denied by the new snapshot: {out:?}");
            }
            // Frames of a batch of the new snapshot found the old session, if any, and ended it.
            let denied = packets_of(world, 1002);
            assert_eq!(world.wire.len() as u64 + denied, 3);
            assert_eq!(packets_of(world, 1001), world.wire.len() as u64);
            assert!(denied == 0 || world.shared.sessions().is_empty());
        },
    );
}

#[test]
fn a_snapshot_is_published_while_a_worker_is_parked() {
    let frame = ask(A, H1, b"old!");
    every_order(
        &[
            batch(POD_A, frame.clone()),
            steps(vec![
                vec![Step::Batch],
                pass(POD_A, frame.clone()),
                vec![Step::Park],
                batch(POD_A, frame),
            ]),
            vec![Step::Publish(Box::new(denying(counted())))],
        ],
        || established(counted()),
        |world| {
            let acknowledged = world.acknowledged.unwrap();
            for out in &world.returned {
                assert!(out.begun <= acknowledged, "after apply has returned: {out:?}");
                assert_eq!(out.epoch, 1);
            }
            let denied = packets_of(world, 1002);
            // Six were sent in the setup, both ways.
            assert_eq!(packets_of(world, 1001), 6 + world.wire.len() as u64);
            assert_eq!(world.wire.len() as u64 + denied, 3);
        },
    );
}

#[test]
fn a_worker_takes_nothing_by_a_snapshot_that_is_no_longer_the_newest() {
    let mut world = World::new(counted());
    let old = world.net();
    let era = world.shared.publish(&denying(counted()));
    assert!(world.shared.has_passed(era), "both are parked");
    let frame = ask(A, H1, b"flow");
    let mut batch = vec![Received { port: POD_A, frame }];
    let mut tx = Vec::new();
    assert!(!world.workers[0].process(&old, &mut batch, Time::ZERO, &mut tx));
    assert_eq!((batch.len(), tx.len()), (1, 0), "it is still to be taken");
    assert!(world.workers[0].process(&denying(counted()), &mut batch, Time::ZERO, &mut tx));
    assert_eq!((batch.len(), tx.len()), (0, 0), "and denied");
}

/// pod/a has gone, and pod/x has its port, its address and its MAC.
fn replaced() -> Network {
    let mut net = lab();
    net.epoch += 1;
    net.ports[POD_A.0 as usize].name = "pod/x".into();
    net
}

#[test]
fn a_pod_that_gets_the_address_of_one_that_has_gone_inherits_nothing() {
    every_order(
        &[
            batch(POD_A, ask(A, H1, b"x>x>")),
            steps(vec![batch(EXT, answer(4000, b"old<")), batch(EXT, answer(4000, b"old<"))]),
            vec![Step::Publish(Box::new(replaced()))],
        ],
        || established(lab()),
        |world| {
            for session in world.shared.sessions() {
                assert!(session.id.serial > 1, "the old one is over");
            }
            for (i, out) in world.returned.iter().enumerate().filter(|(_, o)| o.port == POD_A) {
                // pod/x hears from H1 only what it asked for.
                let asked = |o: &Out| o.port == EXT && o.epoch == 2;
                assert!(
                    out.epoch == 1 || world.returned[..i].iter().any(asked),
                    "pod/x got {out:?}"
                );
            }
            for (i, out) in world.wire.iter().enumerate().filter(|(_, o)| o.port == POD_A) {
                let new = |o: &Out| o.epoch == 2;
                assert!(out.epoch == 2 || !world.wire[..i].iter().any(new), "late: {out:?}");
            }
        },
    );
}

#[test]
fn a_port_is_not_used_again_while_a_worker_may_still_use_it() {
    // One session fits: pod/b's takes the place of pod/a's, which nobody has answered and which the
    // other worker has cached. pod/c's then takes the place of pod/b's.
    let setup = || {
        let mut net = counted();
        net.timers.max_sessions = 1;
        let mut world = World::new(net);
        for _ in 0..3 {
            world.send(1, POD_A, ask(A, H1, b"fl-a"));
        }
        assert_eq!(world.workers[1].cached(), 1);
        world.forget_past();
        world
    };
    let first = ask(A, H1, b"fl-a");
    every_order(
        &[
            steps(vec![batch(POD_B, ask(B, H1, b"fl-b")), batch(POD_C, ask(C, H1, b"fl-c"))]),
            steps(vec![batch(POD_A, first.clone()), pass(POD_A, first)]),
        ],
        setup,
        |world| {
            let all = world.shared.counters();
            assert!(world.shared.sessions().len() <= 1);
            assert!(all.evicted >= 2);
            // Three of the setup; whatever left since was let through by the rule, and is counted.
            let left = world.wire.len() as u64;
            assert_eq!(packets_of(world, 1001), 3 + left, "{:?}", reasons(world));
        },
    );
}

/// When the gateway's record of pod/a's flow, last seen at 0, expires: udp-multiple, 30 s.
const DUE: Time = Time::from_secs(30);

#[test]
fn a_session_that_another_worker_saw_lately_does_not_expire() {
    // Worker 1 has a batch of a moment before the session is due; worker 0 finds it due.
    let before = Time(DUE.0 - 1);
    let late = Time(DUE.0 + 5_000_000_000);
    every_order(
        &[
            steps(vec![
                vec![Step::Clock(DUE)],
                batch(POD_B, ask(B, H1, b"fl-b")),
                vec![Step::Batch, Step::Clock(late), Step::Batch],
            ]),
            steps(vec![
                vec![Step::Begin(POD_A, ask(A, H1, b"old!")), Step::Finish],
                vec![Step::Batch],
                pass(POD_A, ask(A, H1, b"old!")),
            ]),
        ],
        || {
            let mut world = established(lab());
            world.step(1, Step::Clock(before));
            world.step(1, Step::Batch);
            world
        },
        |world| {
            let session = &world.shared.sessions()[0];
            assert_eq!(session.id.serial, 1, "it has never been quiet for 30 s");
            assert_eq!(session.records.len(), 2);
            assert_eq!(session.traffic[0].packets, 3 + 2);
            assert_eq!(world.ports_of(b"old!"), [4000, 4000]);
            assert_ne!(world.ports_of(b"fl-b")[0], 4000);
        },
    );
}

#[test]
fn a_session_that_nobody_saw_expires_and_its_port_is_used_again_when_all_have_heard() {
    // Worker 1 is in a batch of a moment at which the session still stood, and may use it late.
    let before = Time(DUE.0 - 1);
    let after = Time(DUE.0 + 29_000_000_000);
    let quiet = after + Duration::from_secs(31);
    every_order(
        &[
            steps(vec![
                vec![Step::Clock(quiet)],
                batch(POD_B, ask(B, H1, b"fl-b")),
                batch(POD_C, ask(C, H1, b"fl-c")),
            ]),
            vec![
                Step::Begin(POD_A, ask(A, H1, b"old!")),
                Step::Finish,
                Step::Batch,
                Step::Begin(EXT, answer(4000, b"old<")),
                Step::Finish,
            ],
        ],
        || {
            let mut world = established(lab());
            world.step(1, Step::Clock(before));
            world.step(1, Step::Batch);
            world
        },
        |world| {
            assert_eq!(world.shared.counters().accounting.held, 0);
            for session in world.shared.sessions() {
                // The firewall's record outlives the gateway's (60 s against 30).
                assert!(session.last_seen + Duration::from_secs(60) > world.now);
            }
        },
    );
}

/// A connection from pod/a, established and cached by worker 1.
fn connected() -> World {
    let mut world = World::new(lab());
    world.send(0, POD_A, segment(A, (4000, 53), SYN, 100, 0, b""));
    world.send(0, EXT, segment(H1, (53, 4000), SYN | ACK, 900, 101, b""));
    world.send(1, POD_A, segment(A, (4000, 53), ACK, 101, 901, b""));
    world.send(1, POD_A, segment(A, (4000, 53), ACK, 101, 901, b""));
    assert_eq!(world.workers[1].cached(), 1);
    world.forget_past();
    world
}

#[test]
fn a_reset_is_judged_by_what_every_worker_has_seen() {
    // 1,000 octets by worker 1's cache, then the reset behind them by worker 0.
    let data = from(A, H1).tcp(4000, 53, ACK).seq(101).ack(901).payload(&[1; 1000]).build();
    let reset = segment(A, (4000, 53), RST, 1_101, 0, b"");
    every_order(
        &[steps(vec![batch(POD_A, reset), vec![Step::Batch, Step::Batch]]), pass(POD_A, data)],
        || {
            let mut world = connected();
            world.step(1, Step::Batch);
            world
        },
        |world| {
            let sent = world.begun.iter().map(|(worker, ..)| *worker).collect::<Vec<_>>();
            let state = world.shared.sessions()[0].progress.timer_state();
            if sent == [1, 0] {
                assert_eq!(state, TimerState::TcpClosed, "{:?}", reasons(world));
                assert_eq!(world.wire.len(), 2);
            }
            assert_eq!(state == TimerState::TcpClosed, world.wire.len() == 2);
        },
    );
}

#[test]
fn a_connection_that_is_over_is_replaced_by_one() {
    // The SYN of the next connection, and its retransmission to the other worker.
    let setup = || {
        let mut world = connected();
        world.send(0, POD_A, segment(A, (4000, 53), RST, 101, 0, b""));
        world.forget_past();
        world
    };
    let syn = segment(A, (4000, 53), SYN, 5_000, 0, b"next");
    let actor = batch(POD_A, syn);
    every_order(&[actor.clone(), actor], setup, |world| {
        let sessions = world.shared.sessions();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].progress.timer_state(), TimerState::TcpFirst);
        assert_eq!(sessions[0].traffic[0].packets, 2);
        assert_eq!(world.ports_of(b"next"), [4000, 4000], "the flow that had it may take it again");
    });
}

#[test]
fn a_datagram_flow_goes_on_while_its_member_leaves() {
    let net = |epoch, members: &[Member]| {
        let mut net = lab();
        net.epoch = epoch;
        cluster_ips(&mut net, vec![server(CLUSTER, 17, 53, members, PoolSnat::Transparent)]);
        net
    };
    let (first, second) = (member(B, 53, Some(1)), member(C, 53, Some(1)));
    every_order(
        &[
            batch(POD_A, ask(A, CLUSTER, b"flow")),
            batch(POD_A, ask(A, CLUSTER, b"flow")),
            vec![Step::Publish(Box::new(net(2, std::slice::from_ref(&second))))],
        ],
        || {
            let mut world = World::new(net(1, std::slice::from_ref(&first)));
            for worker in [0, 1, 0, 1] {
                world.send(worker, POD_A, ask(A, CLUSTER, b"flow"));
            }
            world.forget_past();
            world
        },
        |world| {
            for out in &world.returned {
                let member = if out.epoch == 1 { POD_B } else { POD_C };
                assert_eq!(out.port, member);
            }
            assert_eq!(world.wire.len(), 2, "{:?}", reasons(world));
            assert_eq!(world.shared.sessions().len(), 1);
        },
    );
}
