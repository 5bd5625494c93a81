//! Cached = walked (promises 2 and 4): the same packets through a worker that caches, through two that
//! cache and take turns, and through one that walks every packet give the same frames, sessions, expiry
//! times, counters and drops.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{FloodLimits, Session, TimerProfile, TimerSettings};
use fixture::*;
use packet::{Frame, FrameBuilder, Time, tcp_flags::*};
use proptest::prelude::*;
use std::time::Duration;

/// Forwarded to pod/a.
const FORWARDED: &str = "198.51.100.7";
/// What pod/b is outside.
const MIRRORED: &str = "198.51.100.34";

#[derive(Clone, Debug)]
enum Event {
    /// From pod/a (false) or pod/b (true) to the other pod, the ClusterIP, or outside.
    FromPod { b: bool, to: u8, proto: u8, port: u16, flags: u8, ttl: u8, len: usize },
    /// From outside to the SNAT address, or to one that a NAT rule forwards or mirrors.
    FromOutside { proto: u8, port: u16, flags: u8, to: u8 },
    /// The clock moves.
    Wait(u64),
    /// A new snapshot: with the rule that drops UDP to pod/b, or without; sessions kept or judged again;
    /// a set of Ethernet rules; flood protection; the RFCs' timers.
    Policy { drop: bool, keep: bool, ethernet: u8, flood: bool, rfc: bool },
    /// A new snapshot; the Tier-1's firewall has no rules, lets out, lets all pass, or is stateless outwards,
    /// with a way back by state or without; then it lets one flow of a kind and two translated ones live.
    Gateway(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop_oneof![
        5 => Just(ACK), 3 => Just(SYN), 3 => Just(SYN | ACK), 2 => Just(ACK | PSH), 1 => Just(FIN | ACK), 1 => Just(RST)
    ];
    let ttl = prop_oneof![8 => Just(64u8), 1 => Just(1u8), 1 => Just(2u8), 1 => Just(3u8)];
    let wait = prop_oneof![4 => 0u64..2, 2 => 5u64..70, 1 => 100u64..2_000, 1 => 6_000u64..50_000];
    prop_oneof![
        10 => (any::<bool>(), 0u8..6, 0u8..3, 0u16..3, flags.clone(), ttl, prop_oneof![6 => 0usize..64, 1 => 1400usize..1473])
            .prop_map(|(b, to, proto, port, flags, ttl, len)| Event::FromPod { b, to, proto, port, flags, ttl, len }),
        6 => (0u8..3, 0u16..3, flags, 0u8..3).prop_map(|(proto, port, flags, to)| Event::FromOutside { proto, port, flags, to }),
        3 => wait.prop_map(Event::Wait),
        1 => (any::<bool>(), any::<bool>(), 0u8..4, any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(drop, keep, ethernet, flood, rfc)| Event::Policy { drop, keep, ethernet, flood, rfc }),
        1 => (0u8..6).prop_map(Event::Gateway),
    ]
}

fn bench(cache: bool) -> Bench {
    Bench::with_cache(net(), cache)
}

fn net() -> Network {
    let mut net = network();
    net.distributed_balancer = VirtualServers::new(
        [6, 17]
            .map(|protocol| VirtualServer {
                name: format!("web/{protocol}"),
                address: ip("10.96.0.10"),
                protocol,
                port: 53,
                members: [("10.244.0.34", "pod/b"), ("10.244.0.18", "pod/a")]
                    .map(|(a, name)| Member {
                        address: ip(a),
                        port: 53,
                        name: name.into(),
                        hypervisor: Some(0),
                    })
                    .to_vec(),
                snat: PoolSnat::Transparent,
                local_only: false,
                affinity: None,
                source_ranges: Vec::new(),
                no_members: NoMembers::Reject,
            })
            .to_vec(),
        vec!["10.96.0.0/23".parse().unwrap()],
    );
    net.routers[0].interfaces[0].mtu = 1480;
    lab::add_routes(&mut net, T0, vec![lab::to("198.51.100.0/24", 1, None)]);
    let forward = NatAction::Dnat { to: lab::prefix("10.244.0.18/32"), ports: None };
    let mirror = NatAction::Reflexive {
        internal: lab::prefix("10.244.0.34/32"),
        external: lab::prefix("198.51.100.34/32"),
    };
    let mut rules = net.routers[1].nat.rules().to_vec();
    rules.push(NatRule {
        destination: Some(lab::prefix("198.51.100.7/32")),
        ..NatRule::new(7, "forward", 10, forward)
    });
    rules.push(NatRule::new(8, "mirror", 10, mirror));
    net.routers[1].nat = NatTable::new(rules);
    net.timers = TimerSettings { mac_age: Duration::from_secs(300), ..TimerSettings::default() };
    net
}

fn gateway_firewall(kind: u8) -> GatewayFirewall {
    let out = lab::gateway_rule(1, Direction::Out, Action::Allow);
    let all = |action| lab::gateway_rule(2, Direction::InOut, action);
    let rules = match kind {
        0 => Vec::new(),
        1 => vec![out, all(Action::Drop)],
        2 => vec![all(Action::Allow)],
        3 => vec![GatewayRule { stateful: false, ..out }, all(Action::Allow)],
        4 => vec![GatewayRule { stateful: false, ..all(Action::Allow) }],
        _ => vec![all(Action::Allow)],
    };
    let limit = (kind == 5).then_some(1);
    GatewayFirewall::new(true, rules).with_flood(FloodLimits {
        tcp_half_open: limit,
        udp: limit,
        icmp: limit,
        other: limit,
        nat: limit.map(|most| most + 1),
    })
}

fn frame(event: &Event) -> Option<(PortId, Frame)> {
    match *event {
        Event::FromPod { b, to, proto, port, flags, ttl, len } => {
            let (own, other, own_mac, id) = if b {
                ("10.244.0.34", "10.244.0.18", mac(2), POD_B)
            } else {
                ("10.244.0.18", "10.244.0.34", mac(1), POD_A)
            };
            let all = [other, "10.96.0.10", "192.0.2.10", "203.0.113.1", FORWARDED, MIRRORED];
            let dst = all[usize::from(to)];
            let f = FrameBuilder::new(ip(own), ip(dst))
                .macs(own_mac, GATEWAY)
                .ttl(ttl)
                .dont_fragment(port == 1);
            // Replies of one pod have the ports of the other's requests turned around.
            let (src_port, dst_port) = if b { (53, 4000 + port) } else { (4000 + port, 53) };
            let f = match proto {
                0 => f.tcp(src_port, dst_port, flags),
                1 => f.udp(src_port, dst_port),
                _ if b => f.echo_reply(port, 1),
                _ => f.echo_request(port, 1),
            };
            Some((id, f.payload(&vec![1; len]).build()))
        }
        Event::FromOutside { proto, port, flags, to } => {
            let dst = ["172.16.2.2", FORWARDED, MIRRORED][usize::from(to)];
            let f = FrameBuilder::new(ip("192.0.2.10"), ip(dst)).macs(mac(9), UPLINK);
            let f = match proto {
                0 => f.tcp(53, 4000 + port, flags),
                1 => f.udp(53, 4000 + port),
                _ if to == 1 => f.echo_request(port, 1),
                _ => f.echo_reply(port, 1),
            };
            Some((EXT, f.build()))
        }
        Event::Wait(_) | Event::Policy { .. } | Event::Gateway(_) => None,
    }
}

/// Sets what [`Event::Policy`] sets beside the rule about UDP.
fn configure(net: &mut Network, keep: bool, ethernet: u8, flood: bool, rfc: bool) {
    net.firewall.on_change = if keep { PolicyChange::Keep } else { PolicyChange::Reevaluate };
    let limit = flood.then_some(1);
    net.firewall.flood =
        FloodLimits { tcp_half_open: limit, udp: limit, icmp: limit, other: limit, nat: None };
    net.timers.profile = if rfc { TimerProfile::Rfc } else { TimerProfile::Nsx };
    let rule = |id, source, ether_type, action| EthernetRule {
        id,
        name: format!("eth.{id}"),
        origin: "test".into(),
        direction: Direction::InOut,
        source,
        destination: MacSet::any(),
        ether_types: vec![ether_type],
        applied_to_text: "test".into(),
        action,
    };
    let (allow, deny) = (EthernetAction::Allow, EthernetAction::Drop);
    net.firewall.ethernet = match ethernet {
        0 => Vec::new(),
        1 => vec![rule(2001, MacSet::any(), 0x0800, allow)],
        2 => vec![
            rule(2002, MacSet::only([mac(1)]), 0x0800, allow),
            rule(2003, MacSet::any(), 0x86dd, deny),
        ],
        // pod/b gets nothing that a router sent.
        _ => vec![
            rule(2004, MacSet::only([GATEWAY]), 0x0800, deny),
            rule(2005, MacSet::any(), 0x0800, allow),
        ],
    };
    for port in [0, 1] {
        let vnic = net.ports[port].vnic.as_mut().unwrap();
        let list: std::sync::Arc<[u32]> = (0..net.firewall.ethernet.len() as u32).collect();
        vnic.ethernet_out = list.clone();
        vnic.ethernet_in = if ethernet < 3 || port == 1 { list } else { Default::default() };
    }
}

/// What must be the same; where a worker keeps its cache is its own business.
fn visible(mut session: Session) -> Session {
    session.cached = [None; 2];
    // Of sessions that end at the same moment either may give its slot back first.
    session.id.index = 0;
    session
}

/// Lets an event happen; returns what left.
fn act(bench: &mut Bench, event: &Event) -> Vec<(PortId, Frame)> {
    match event {
        Event::Wait(seconds) => bench.advance(bench.now + Duration::from_secs(*seconds)),
        Event::Policy { drop, keep, ethernet, flood, rfc } => {
            bench.net.epoch += 1;
            let timers = bench.net.timers;
            configure(&mut bench.net, *keep, *ethernet, *flood, *rfc);
            let udp = vec![Service { protocol: 17, ports: ServicePorts::Any }];
            let action = if *drop { Action::Drop } else { Action::Allow };
            bench.net.firewall.rules = vec![rule(1001, "any", "any", udp, action)];
            bench.net.ports[1].vnic.as_mut().unwrap().rules_in = vec![0].into();
            // With other timers a session may be due at once. Of several workers one asks the others first,
            // and until they have come by the session counts as alive.
            if bench.net.timers == timers { Vec::new() } else { bench.advance(bench.now) }
        }
        Event::Gateway(kind) => {
            bench.net.epoch += 1;
            bench.net.routers[1].gateway_firewall = gateway_firewall(*kind);
            Vec::new()
        }
        _ => {
            let (port, frame) = frame(event).unwrap();
            bench.send(port, frame)
        }
    }
}

fn same_state(cached: &mut Bench, walked: &mut Bench) -> Result<(), TestCaseError> {
    let sessions = |bench: &mut Bench| -> Vec<Session> {
        bench.worker.sessions().into_iter().map(visible).collect()
    };
    prop_assert_eq!(sessions(cached), sessions(walked));
    prop_assert_eq!(cached.worker.accounting(), walked.worker.accounting());
    prop_assert_eq!(cached.worker.hits(), walked.worker.hits());
    prop_assert_eq!(cached.worker.port_traffic(), walked.worker.port_traffic());
    prop_assert_eq!(cached.worker.drops(), walked.worker.drops());
    prop_assert!(cached.worker.accounting().balances());
    Ok(())
}

/// 300 runs, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig { cases: if told { default.cases } else { 300 }, ..default }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn cached_is_walked(events in prop::collection::vec(event(), 1..120)) {
        let mut walked = bench(false);
        let mut others = [bench(true), Bench::of_two(net())];
        for bench in others.iter_mut().chain([&mut walked]) {
            bench.introduce_ext();
            bench.audit = false;
        }
        for (i, event) in events.iter().enumerate() {
            let out = act(&mut walked, event);
            for other in &mut others {
                let same = act(other, event);
                prop_assert_eq!(lines(&same), lines(&out));
                prop_assert_eq!(same, out.clone());
            }
            // Asking makes the cache report, so most of the time nobody asks.
            if i % 16 == 15 || i + 1 == events.len() {
                for other in &mut others {
                    same_state(other, &mut walked)?;
                }
            }
        }
        prop_assert_eq!(walked.worker.cached(), 0);
    }
}

#[test]
fn expiry_is_exact_though_the_cache_saw_the_last_packet() {
    for cache in [true, false] {
        let mut b = bench(cache);
        let ask = FrameBuilder::new(ip("10.244.0.18"), ip("10.244.0.34"))
            .macs(mac(1), GATEWAY)
            .udp(4000, 53)
            .build();
        let answer = FrameBuilder::new(ip("10.244.0.34"), ip("10.244.0.18"))
            .macs(mac(2), GATEWAY)
            .udp(53, 4000)
            .build();
        b.send(POD_A, ask.clone());
        b.send(POD_B, answer);
        b.send(POD_A, ask.clone());
        b.advance(Time::from_secs(50));
        b.send(POD_A, ask.clone());
        assert_eq!(b.worker.cached() > 0, cache);
        // udp-multiple in the distributed firewall: 60 s after the last packet, at 110 s.
        b.advance(Time(109_999_999_999));
        assert_eq!(b.worker.sessions().len(), 1, "cache {cache}");
        b.advance(Time::from_secs(110));
        assert_eq!(b.worker.sessions().len(), 0, "cache {cache}");
    }
}
