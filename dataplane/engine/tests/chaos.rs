//! Anything, in any order: valid flows and their replies, errors about real and forged flows,
//! fragments, address resolution, mutated and random octets, time, and changes of policy, NAT and
//! balancers, through a worker that caches, one that caches next to nothing, two that take turns, and one
//! that walks every packet. Oracles of reliability.md R22 and the design's promises after every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropKey, FloodLimits, Session, TimerProfile, TraceEnd, Worker, WorkerConfig};
use fixture::lab::*;
use fixture::*;
use packet::{
    Frame, FrameBuilder, Headers, IcmpErrorKind, IcmpMessage, Mac, Time, Transport, protocol,
    tcp_flags::*,
};
use proptest::prelude::*;
use std::time::Duration;

const PORTS: [PortId; 6] = [POD_A, POD_B, POD_C, EXT, EXT2, EXT3];
const SOURCES: [&str; 6] = [A, B, C, H1, H2, H3];
/// The destination under a NO_SNAT rule.
const PARTNER: &str = "192.0.2.77";
const TARGETS: [&str; 17] = [
    A,
    B,
    C,
    H1,
    H2,
    PARTNER,
    CLUSTER,
    VIP,
    "172.16.2.2",
    AUTO,
    "10.244.0.17",
    "10.244.0.50",
    "203.0.113.9",
    "192.0.2.99",
    FORWARDED,
    MIRRORED,
    "172.16.2.9",
];
/// Forwarded to pod/b, port 53 of UDP to 54.
const FORWARDED: &str = "198.51.100.7";
/// What pod/c is outside under a reflexive rule.
const MIRRORED: &str = "198.51.100.19";
/// Most frames that one frame can cause: a flood, what waited for a neighbour (8) or a first
/// fragment (45), each in two pieces, and requests.
const FAN_OUT: usize = 128;

#[derive(Clone, Debug)]
enum Event {
    /// A packet of a host; `kind`: TCP, UDP, echo, GRE.
    Flow {
        src: usize,
        dst: usize,
        kind: u8,
        ports: (u8, u8),
        flags: u8,
        ttl: u8,
        len: usize,
        df: bool,
    },
    /// The receiver of an earlier frame answers it.
    Reply { back: usize, flags: u8 },
    /// An ICMP error about an earlier frame, from its receiver or from elsewhere.
    Error { back: usize, kind: u8, elsewhere: bool, broken: bool },
    /// A datagram in pieces, in one of several orders.
    Fragments { src: usize, dst: usize, id: u16, order: u8 },
    /// IPv6 between the two dual-stack pods and the host outside: UDP, echo, solicitation.
    Six { src: u8, dst: u8, kind: u8, port: u8, ttl: u8 },
    /// Address resolution: request, reply, announcement, with a claimed MAC.
    Arp { port: usize, kind: u8, sender: usize, target: usize, claimed: u8 },
    /// An earlier frame with octets changed, by any port.
    Mutated { back: usize, port: usize, changes: Vec<(u16, u8)> },
    /// Random octets.
    Garbage { port: usize, bytes: Vec<u8> },
    /// Seconds pass.
    Wait(u64),
    /// A new snapshot: policy, NAT, balancers, gateway firewalls, and what is set beside them (see [`set`]).
    Change { policy: u8, nat: u8, members: u8, gateway: u8, settings: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let flags = || {
        prop_oneof![4 => Just(SYN), 4 => Just(ACK), 3 => Just(SYN | ACK), 1 => Just(ACK | PSH),
            2 => Just(FIN | ACK), 1 => Just(RST), 1 => Just(RST | ACK), 1 => any::<u8>()]
    };
    let ttl = || prop_oneof![10 => Just(64u8), 1 => 0u8..5];
    let len = prop_oneof![8 => 0usize..64, 1 => 1400usize..1473];
    let ports = (0u8..3, 0u8..3);
    prop_oneof![
        16 => (0usize..6, 0usize..17, 0u8..4, ports, flags(), ttl(), len, any::<bool>())
            .prop_map(|(src, dst, kind, ports, flags, ttl, len, df)| Event::Flow { src, dst, kind, ports, flags, ttl, len, df }),
        14 => (0usize..6, flags()).prop_map(|(back, flags)| Event::Reply { back, flags }),
        4 => (0usize..8, 0u8..4, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(back, kind, elsewhere, broken)| Event::Error { back, kind, elsewhere, broken }),
        2 => (0usize..6, prop_oneof![3 => 0usize..8, 1 => 14usize..16], 0u16..4, 0u8..4).prop_map(|(src, dst, id, order)| Event::Fragments { src, dst, id, order }),
        3 => (0u8..3, 0u8..3, 0u8..3, 0u8..2, ttl()).prop_map(|(src, dst, kind, port, ttl)| Event::Six { src, dst, kind, port, ttl }),
        2 => (0usize..6, 0u8..3, 0usize..14, 0usize..14, 0u8..5)
            .prop_map(|(port, kind, sender, target, claimed)| Event::Arp { port, kind, sender, target, claimed }),
        3 => (0usize..8, 0usize..6, prop::collection::vec((0u16..120, any::<u8>()), 1..4))
            .prop_map(|(back, port, changes)| Event::Mutated { back, port, changes }),
        1 => (0usize..6, prop::collection::vec(any::<u8>(), 0..128)).prop_map(|(port, bytes)| Event::Garbage { port, bytes }),
        3 => prop_oneof![4 => 0u64..4, 3 => 5u64..130, 1 => 200u64..2_000, 1 => 6_000u64..50_000].prop_map(Event::Wait),
        2 => (0u8..3, 0u8..6, 0u8..4, 0u8..6, 0u8..16)
            .prop_map(|(policy, nat, members, gateway, settings)| Event::Change { policy, nat, members, gateway, settings }),
    ]
}

fn chaos_lab() -> Network {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    net.routers[0].interfaces[0].urpf = Urpf::Strict;
    net.routers[0].interfaces[0].mtu = 1480;
    let hidden = ["10.244.0.0/20", "10.96.0.0/23", "100.64.0.0/16"];
    net.routers[0].private = hidden.map(prefix).to_vec();
    let summaries =
        hidden.iter().chain(&["172.16.0.0/16"]).map(|p| route(p, RouteTarget::Blackhole));
    add_routes(&mut net, T0, summaries.collect());
    add_routes(&mut net, T0, vec![to("198.51.100.0/24", 1, None), to("172.16.2.8/29", 1, None)]);
    configure(&mut net, 0, 1, 0, 0, 0);
    net
}

/// Settings as bits: sessions are kept; flood protection, of gateways too; Ethernet rules and rate limits; what segment
/// security blocks passes, and timers are the RFCs'.
fn set(net: &mut Network, settings: u8) {
    let bit = |n: u8| settings & (1 << n) != 0;
    net.firewall.on_change = if bit(0) { PolicyChange::Keep } else { PolicyChange::Reevaluate };
    let limit = bit(1).then_some(2);
    net.firewall.flood =
        FloodLimits { tcp_half_open: limit, udp: limit, icmp: limit, other: limit, nat: None };
    let rule = |id, source, ether_types, action| EthernetRule {
        id,
        name: format!("eth.{id}"),
        origin: "test".into(),
        direction: Direction::InOut,
        source,
        destination: MacSet::any(),
        ether_types,
        applied_to_text: "test".into(),
        action,
    };
    net.firewall.ethernet = vec![
        rule(2001, MacSet::only([mac(1), mac(2)]), Vec::new(), EthernetAction::Allow),
        rule(2002, MacSet::any(), vec![0x0806, 0x86dd], EthernetAction::Drop),
        rule(2003, MacSet::except([GATEWAY]), Vec::new(), EthernetAction::Allow),
    ];
    let rate = bit(2).then_some(2);
    net.timers.profile = if bit(3) { TimerProfile::Rfc } else { TimerProfile::Nsx };
    for port in [POD_A, POD_B, POD_C] {
        let list: std::sync::Arc<[u32]> = if bit(2) { [0, 1, 2].into() } else { [].into() };
        let vnic = vnic(net, port);
        (vnic.ethernet_in, vnic.ethernet_out) = (list.clone(), list);
        vnic.security = SegmentSecurity {
            bpdu_filter: !bit(3),
            dhcp_server_block: !bit(3),
            dhcp_client_block: bit(3),
            ra_guard: !bit(3),
            non_ip_block: !bit(3),
            rates: GroupRates {
                rx_broadcast: rate,
                tx_broadcast: rate,
                rx_multicast: rate,
                tx_multicast: rate,
            },
        };
    }
}

/// Sets what [`Event::Change`] changes.
fn configure(net: &mut Network, policy: u8, nat: u8, members: u8, gateway: u8, settings: u8) {
    set(net, settings);
    let udp = vec![Service { protocol: 17, ports: ServicePorts::Any }];
    let action = [Action::Allow, Action::Drop, Action::Reject][usize::from(policy)];
    net.firewall.rules = vec![rule(1001, "any", "any", udp, action)];
    vnic(net, POD_B).rules_in = vec![0].into();
    vnic(net, POD_C).rules_out = vec![0].into();
    let mut rules = nat_rules(nat);
    if members == 3 {
        rules.push(NatRule {
            source: Some(vec![Prefix::host(ip(A))]),
            ..NatRule::new(30, "withheld", 600, NatAction::NoAddress)
        });
    }
    net.routers[1].nat = NatTable::new(rules);
    let flood = FloodLimits { nat: net.firewall.flood.udp.map(|n| n + 1), ..net.firewall.flood };
    let [lower, upper] = gateway_firewalls(gateway).map(|firewall| firewall.with_flood(flood));
    net.routers[1].gateway_firewall = lower;
    net.routers[0].gateway_firewall = upper;
    let all = [member(A, 53, Some(0)), member(B, 53, Some(1)), member(C, 53, Some(1))];
    let members = &all[..usize::from(members.min(3))];
    let snat = PoolSnat::Automap(ip(AUTO));
    cluster_ips(
        net,
        [6, 17].map(|p| server(CLUSTER, p, 53, members, PoolSnat::Transparent)).to_vec(),
    );
    vips(net, [6, 17].map(|p| server(VIP, p, 53, members, snat.clone())).to_vec());
}

/// NAT of the Tier-1: none but NO_SNAT; SNAT; with DNAT; with a reflexive rule; with all of these and a
/// pool; where the firewall is bypassed or sees the outside.
fn nat_rules(kind: u8) -> Vec<NatRule> {
    let pods = Some(vec![prefix("10.244.0.0/20")]);
    let forwarded = Some(prefix("198.51.100.7/32"));
    let mut rules = vec![NatRule {
        source: pods,
        destination: Some(prefix("192.0.2.77/32")),
        ..NatRule::new(2, "no-snat-partner", 100, NatAction::NoSnat)
    }];
    if kind >= 1 {
        let source = match kind {
            4 => AddressRange::new(ip("172.16.2.8"), ip("172.16.2.11")).unwrap(),
            _ => AddressRange::host(ip("172.16.2.2")),
        };
        let firewall_match =
            if kind == 5 { FirewallMatch::External } else { FirewallMatch::Internal };
        let snat = NatRule::new(1, "snat", 1000, NatAction::Snat(source));
        rules.push(NatRule { firewall_match, ..snat });
    }
    if kind >= 2 && kind != 3 {
        let ports = Some(PortMap { original: 53, translated: (54, 54) });
        let udp = Service { protocol: 17, ports: ServicePorts::Destination(vec![(53, 53)]) };
        let to = prefix("10.244.0.34/32");
        let firewall_match =
            if kind == 5 { FirewallMatch::Bypass } else { FirewallMatch::Internal };
        rules.push(NatRule {
            destination: forwarded,
            service: Some(udp),
            firewall_match,
            ..NatRule::new(3, "forward", 100, NatAction::Dnat { to, ports })
        });
        rules.push(NatRule {
            destination: forwarded,
            source: Some(vec![prefix("192.0.2.30/32")]),
            ..NatRule::new(4, "no-dnat", 50, NatAction::NoDnat)
        });
        rules.push(NatRule {
            destination: forwarded,
            ..NatRule::new(5, "dnat", 200, NatAction::Dnat { to, ports: None })
        });
    }
    if kind >= 3 {
        let action = NatAction::Reflexive {
            internal: prefix("10.244.0.19/32"),
            external: prefix("198.51.100.19/32"),
        };
        rules.push(NatRule::new(6, "reflexive", 20, action));
    }
    rules
}

/// Firewalls of Tier-1 and Tier-0.
fn gateway_firewalls(kind: u8) -> [GatewayFirewall; 2] {
    let none = GatewayFirewall::default;
    let out = || gateway_rule(1, Direction::Out, Action::Allow);
    let everything = |action| gateway_rule(9, Direction::InOut, action);
    let stateless = |rule: GatewayRule| GatewayRule { stateful: false, ..rule };
    match kind {
        1 => [GatewayFirewall::new(true, vec![out(), everything(Action::Drop)]), none()],
        2 => [
            GatewayFirewall::new(true, vec![everything(Action::Allow)]),
            GatewayFirewall::new(true, vec![out(), everything(Action::Reject)]),
        ],
        3 => [none(), GatewayFirewall::new(true, vec![stateless(everything(Action::Allow))])],
        4 => {
            [GatewayFirewall::new(true, vec![stateless(out()), everything(Action::Allow)]), none()]
        }
        5 => [GatewayFirewall::new(false, Vec::new()), none()],
        _ => [none(), none()],
    }
}

/// The port that a station is at.
fn port_of(index: usize) -> PortId {
    PORTS[index]
}

fn host_of(port: PortId) -> Option<(&'static str, Mac, Mac)> {
    let at = PORTS.iter().position(|p| *p == port)?;
    let (_, own, gateway) = place(SOURCES[at]);
    Some((SOURCES[at], own, gateway))
}

/// What earlier frames an event may refer to.
#[derive(Default)]
struct Past {
    /// Frames that came in, with their ports.
    sent: Vec<(PortId, Frame)>,
    /// Frames that left.
    left: Vec<(PortId, Frame)>,
}

fn last(list: &[(PortId, Frame)], back: usize) -> Option<&(PortId, Frame)> {
    list.get(list.len().checked_sub(1 + back)?)
}

impl Past {
    /// The frames of an event.
    fn frames(&self, event: &Event, marker: u64) -> Vec<(PortId, Frame)> {
        self.build(event, marker).unwrap_or_default()
    }

    fn build(&self, event: &Event, marker: u64) -> Option<Vec<(PortId, Frame)>> {
        const SPORTS: [u16; 3] = [4000, 4001, 53];
        const DPORTS: [u16; 3] = [53, 54, 4000];
        Some(match event {
            Event::Flow { src, dst, kind, ports, flags, ttl, len, df } => {
                let (port, _, _) = place(SOURCES[*src]);
                let (s, d) = (SPORTS[usize::from(ports.0)], DPORTS[usize::from(ports.1)]);
                let mut payload = vec![0x5a; *len];
                payload.extend_from_slice(&marker.to_be_bytes());
                let f = from(SOURCES[*src], TARGETS[*dst]).ttl(*ttl).dont_fragment(*df);
                let f = match kind {
                    0 => f.tcp(s, d, *flags).seq(100).ack_if(*flags),
                    1 => f.udp(s, d),
                    2 => f.echo_request(s, 1),
                    _ => f.protocol(47),
                };
                vec![(port, f.payload(&payload).build())]
            }
            Event::Reply { back, flags } => {
                let (port, frame) = last(&self.left, *back)?;
                let (_, own, _) = host_of(*port)?;
                let h = packet::parse(&frame.bytes).ok()?;
                let heard = h.ip()?;
                let f = FrameBuilder::new(heard.dst, heard.src).macs(own, h.src_mac);
                let f = match heard.transport {
                    Transport::Tcp(t) => {
                        f.tcp(t.dst_port, t.src_port, *flags).seq(t.ack).ack_if(*flags)
                    }
                    Transport::Udp(u) => f.udp(u.dst_port, u.src_port),
                    Transport::Icmp(i) => match i.message {
                        IcmpMessage::Query { id, seq } => f.echo_reply(id, seq),
                        IcmpMessage::Reply { id, seq } => f.echo_request(id, seq),
                        _ => return None,
                    },
                    _ => f.protocol(heard.protocol),
                };
                vec![(*port, f.payload(&marker.to_be_bytes()).build())]
            }
            Event::Error { back, kind, elsewhere, broken } => {
                let (port, frame) = last(&self.left, *back)?;
                let h = packet::parse(&frame.bytes).ok()?;
                let kind = [
                    IcmpErrorKind::PortUnreachable,
                    IcmpErrorKind::TimeExceeded,
                    IcmpErrorKind::FragmentationNeeded { mtu: 1400 },
                    IcmpErrorKind::HostUnreachable,
                ][usize::from(*kind)];
                let source = if *elsewhere { ip("192.0.2.200") } else { h.ip()?.dst };
                let mut f = packet::icmp_error(frame, &h, kind, source)?;
                let (_, own, _) = host_of(*port)?;
                f.bytes[6..12].copy_from_slice(&own.0);
                if *broken {
                    *f.bytes.last_mut()? ^= 1;
                }
                vec![(*port, f)]
            }
            Event::Fragments { src, dst, id, order } => {
                let (port, _, _) = place(SOURCES[*src]);
                let whole = from(SOURCES[*src], TARGETS[*dst])
                    .udp(4000, 53)
                    .id(*id)
                    .dont_fragment(false)
                    .payload(&[7; 3000])
                    .build();
                let h = packet::parse(&whole.bytes).ok()?;
                let mut pieces = packet::fragment_ipv4(&whole, &h, 1280)?;
                match order {
                    0 => {}
                    1 => pieces.reverse(),
                    2 => pieces.truncate(1),
                    _ => pieces.rotate_left(1),
                }
                pieces.into_iter().map(|f| (port, f)).collect()
            }
            Event::Six { src, dst, kind, port: number, ttl } => {
                let ends = [
                    ("2001:db8:a::12", POD_A, mac(1), GATEWAY),
                    ("2001:db8:b::22", POD_B, mac(2), GATEWAY),
                    ("2001:db8:2::10", EXT, M1, UPLINK),
                ];
                let (own, port, own_mac, gateway) = ends[usize::from(*src)];
                let to = ends[usize::from(*dst)].0;
                let f = FrameBuilder::new(ip(own), ip(to)).macs(own_mac, gateway).ttl(*ttl);
                let number = 4000 + u16::from(*number);
                let frame = match kind {
                    0 => f.udp(number, 53).payload(&marker.to_be_bytes()).build(),
                    1 => f.echo_request(number, 1).payload(&marker.to_be_bytes()).build(),
                    _ => packet::neighbor_solicitation(own_mac, ip(own), ip(to)),
                };
                vec![(port, frame)]
            }
            Event::Arp { port, kind, sender, target, claimed } => {
                let port = port_of(*port);
                let (_, own, gateway) = host_of(port)?;
                let claimed = [own, own, Mac::BROADCAST, gateway, mac(99)][usize::from(*claimed)];
                let sender = ip(TARGETS[*sender]);
                let target = if *kind == 2 { sender } else { ip(TARGETS[*target]) };
                let mut f = packet::arp_request(own, sender, target);
                f.bytes[22..28].copy_from_slice(&claimed.0);
                if *kind == 1 {
                    f.bytes[21] = 2;
                    f.bytes[..6].copy_from_slice(&gateway.0);
                }
                vec![(port, f)]
            }
            Event::Mutated { back, port, changes } => {
                let (_, frame) = last(&self.sent, *back)?;
                let mut f = frame.clone();
                for (at, value) in changes {
                    if let Some(octet) = f.bytes.get_mut(usize::from(*at)) {
                        *octet = *value;
                    }
                }
                // Half of them with a header checksum that lets the change get further.
                if marker.is_multiple_of(2) && f.bytes.len() >= 34 {
                    f.bytes[24..26].fill(0);
                    let sum = packet::checksum(&f.bytes[14..34]);
                    f.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                vec![(port_of(*port), f)]
            }
            Event::Garbage { port, bytes } => vec![(port_of(*port), Frame::new(bytes.clone()))],
            Event::Wait(_) | Event::Change { .. } => Vec::new(),
        })
    }
}

/// An acknowledgment number where the flags say that there is one.
trait AckIf {
    fn ack_if(self, flags: u8) -> Self;
}

impl AckIf for FrameBuilder {
    fn ack_if(self, flags: u8) -> FrameBuilder {
        if flags & ACK == 0 { self } else { self.ack(101) }
    }
}

fn is_outside(port: PortId) -> bool {
    [EXT, EXT2, EXT3].contains(&port)
}

fn is_icmp_error(h: &Headers) -> bool {
    matches!(h.ip().map(|ip| ip.transport), Some(Transport::Icmp(i)) if matches!(i.kind, 3 | 11))
}

/// R22 (a): nothing leaves by the Tier-0's uplink with an inside source.
fn no_leak(out: &[(PortId, Frame)], sent: Option<&Headers>) -> Result<(), TestCaseError> {
    if sent.is_some_and(|h| h.src_mac == UPLINK) {
        // Somebody outside plays the Tier-0 on his own network.
        return Ok(());
    }
    for (port, frame) in out.iter().filter(|(port, _)| is_outside(*port)) {
        let Ok(h) = packet::parse(&frame.bytes) else { continue };
        let Some(ip4) = h.ip().filter(|_| h.src_mac == UPLINK) else { continue };
        let inside = ["10.244.0.0/20", "10.96.0.0/23", "100.64.0.0/16"]
            .iter()
            .any(|p| prefix(p).contains(ip4.src));
        let own_error = is_icmp_error(&h)
            && ["10.244.0.17", "10.244.0.33", AUTO, "100.64.0.0"].iter().any(|a| ip(a) == ip4.src);
        let no_snat = ip4.dst == ip(PARTNER);
        prop_assert!(!inside || own_error || no_snat, "{:?} {}", port, packet::describe(&h));
    }
    Ok(())
}

/// R22 (d): what leaves parses (IPv4 header checksum included) and, unless somebody sent it broken,
/// has a right transport checksum.
fn right_checksums(out: &[(PortId, Frame)], tainted: bool) -> Result<(), TestCaseError> {
    for (_, frame) in out {
        let h = packet::parse(&frame.bytes);
        prop_assert!(h.is_ok(), "{h:?}");
        let h = h.unwrap();
        if !tainted {
            prop_assert!(
                packet::verify_transport(&frame.bytes, &h),
                "transport checksum of {}",
                packet::describe(&h)
            );
        }
    }
    Ok(())
}

/// R22 (e): the TTL of a routed packet is strictly smaller. Packets carry a marker as their last octets.
fn smaller_ttl(
    out: &[(PortId, Frame)],
    frame: &Frame,
    sent: &Headers,
) -> Result<(), TestCaseError> {
    let Some(before) = sent.ip() else { return Ok(()) };
    if matches!(before.protocol, protocol::ICMP | protocol::ICMPV6) || before.fragment.is_some() {
        return Ok(());
    }
    let Some(marker) = frame.bytes.last_chunk::<8>() else { return Ok(()) };
    for (_, left) in out {
        let Ok(h) = packet::parse(&left.bytes) else { continue };
        let Some(after) = h.ip() else { continue };
        let same =
            after.protocol == before.protocol && left.bytes.last_chunk::<8>() == Some(marker);
        if same && [GATEWAY, UPLINK].contains(&h.src_mac) && sent.src_mac != h.src_mac {
            prop_assert!(after.ttl < before.ttl, "{} after {}", after.ttl, before.ttl);
        }
    }
    Ok(())
}

/// Promise 3: a trace says what then happens.
fn as_traced(
    end: &TraceEnd,
    out: &[(PortId, Frame)],
    before: &std::collections::BTreeMap<DropKey, engine::Traffic>,
    worker: &Worker,
) -> Result<(), TestCaseError> {
    match end {
        TraceEnd::Delivered(port, frame) => {
            let large = packet::parse(&frame.bytes)
                .is_ok_and(|h| h.ip().is_some_and(|ip| ip.total_len > 1480));
            prop_assert!(
                large || out.iter().any(|(p, f)| p == port && f == frame),
                "traced {:?}, left {:?}",
                lines(&[(*port, frame.clone())]),
                lines(out)
            );
        }
        TraceEnd::Flooded(ports) => {
            for port in ports {
                prop_assert!(out.iter().any(|(p, _)| p == port), "{port:?} got no copy");
            }
        }
        TraceEnd::Dropped(drop) => {
            let key = DropKey {
                stage: drop.stage,
                reason: drop.reason,
                object: drop.object.clone(),
                rule: drop.rule,
                detail: drop.parse.map(|p| p.to_string()),
            };
            let count = |m: &std::collections::BTreeMap<DropKey, engine::Traffic>| {
                m.get(&key).map_or(0, |t| t.packets)
            };
            prop_assert!(count(&worker.drops()) > count(before), "traced as dropped: {drop:?}");
        }
        TraceEnd::Consumed(_) | TraceEnd::Held => {}
    }
    Ok(())
}

fn visible(mut session: Session) -> Session {
    session.cached = [None; 2];
    // Of sessions that end at the same moment either may give its slot back first.
    session.id.index = 0;
    session
}

fn same_state(a: &mut Bench, b: &mut Bench) -> Result<(), TestCaseError> {
    let sessions = |bench: &mut Bench| -> Vec<Session> {
        bench.worker.sessions().into_iter().map(visible).collect()
    };
    prop_assert_eq!(sessions(a), sessions(b));
    prop_assert_eq!(a.worker.accounting(), b.worker.accounting());
    prop_assert_eq!(a.worker.hits(), b.worker.hits());
    prop_assert_eq!(a.worker.port_traffic(), b.worker.port_traffic());
    prop_assert_eq!(a.worker.drops(), b.worker.drops());
    Ok(())
}

/// After every session has expired nothing holds a NAT port: a new flow keeps its own.
fn nothing_leaked(bench: &mut Bench) -> Result<(), TestCaseError> {
    bench.net.epoch += 1;
    configure(&mut bench.net, 0, 1, 0, 0, 0);
    bench.advance(bench.now + Duration::from_secs(100_000));
    prop_assert_eq!(bench.worker.sessions().len(), 0);
    prop_assert_eq!(bench.worker.accounting().held, 0);
    bench.introduce_all();
    for port in [53, 4000, 4001] {
        for f in [
            from(A, H1).udp(port, 53),
            from(A, H1).tcp(port, 53, SYN),
            from(A, H1).echo_request(port, 1),
        ] {
            let tx = bench.send(POD_A, f.build());
            prop_assert_eq!(tx.len(), 1);
            let h = packet::parse(&tx[0].1.bytes).unwrap();
            let own = h.ip().unwrap();
            prop_assert_eq!((own.src, own.ports().0), (ip("172.16.2.2"), port));
        }
    }
    Ok(())
}

fn run(events: &[Event]) -> Result<(), TestCaseError> {
    let mut walked = Bench::with_cache(chaos_lab(), false);
    let mut cached = Bench::with_cache(chaos_lab(), true);
    let mut tiny = Bench::with_cache(chaos_lab(), true);
    let mut two = Bench::of_two(chaos_lab());
    tiny.worker = Worker::new(WorkerConfig { seed: tiny.net.seed, cache: true, cache_entries: 2 });
    for bench in [&mut walked, &mut cached, &mut tiny, &mut two] {
        bench.audit = false;
        bench.introduce_all();
    }
    let mut past = Past::default();
    let mut tainted = false;
    for (i, event) in events.iter().enumerate() {
        if let Event::Wait(seconds) = event {
            let until = walked.now + Duration::from_secs(*seconds);
            let out = walked.advance(until);
            prop_assert_eq!(lines(&out), lines(&cached.advance(until)));
            prop_assert_eq!(lines(&out), lines(&tiny.advance(until)));
            prop_assert_eq!(lines(&out), lines(&two.advance(until)));
            right_checksums(&out, tainted)?;
            no_leak(&out, None)?;
        }
        if let Event::Change { policy, nat, members, gateway, settings } = event {
            for bench in [&mut walked, &mut cached, &mut tiny, &mut two] {
                bench.net.epoch += 1;
                configure(&mut bench.net, *policy, *nat, *members, *gateway, *settings);
            }
        }
        for (port, frame) in past.frames(event, i as u64) {
            let sent = packet::parse(&frame.bytes).ok();
            let broken = sent.as_ref().is_none_or(|h| !packet::verify_transport(&frame.bytes, h));
            let fragment = sent.and_then(|h| h.ip().and_then(|ip| ip.fragment)).is_some();
            // A trace runs no timers: an ICMP error may just have brought one forward.
            let now = walked.now;
            let due = walked.advance(now);
            prop_assert_eq!(&due, &cached.advance(now));
            prop_assert_eq!(&due, &tiny.advance(now));
            prop_assert_eq!(&due, &two.advance(now));
            let before = walked.worker.accounting();
            let sessions = walked.worker.sessions().len();
            let drops = walked.worker.drops();
            let trace = walked.worker.trace(&walked.net, port, &frame, walked.now);
            prop_assert_eq!(walked.worker.accounting(), before, "a trace counts nothing");
            let out = walked.send(port, frame.clone());
            let other = cached.send(port, frame.clone());
            prop_assert_eq!(lines(&out), lines(&other));
            prop_assert_eq!(&out, &other);
            prop_assert_eq!(&out, &tiny.send(port, frame.clone()));
            prop_assert_eq!(&out, &two.send(port, frame.clone()));
            let after = walked.worker.accounting();
            prop_assert!(after.balances(), "{:?}", after);
            prop_assert!(out.len() <= FAN_OUT, "{} frames for one", out.len());
            tainted = broken || (tainted && before.held > 0);
            right_checksums(&out, tainted)?;
            no_leak(&out, sent.as_ref())?;
            if let Some(sent) = &sent {
                smaller_ttl(&out, &frame, sent)?;
            }
            if !fragment {
                as_traced(&trace.end, &out, &drops, &walked.worker)?;
            }
            if matches!(trace.end, TraceEnd::Dropped(_)) && before.held == after.held {
                prop_assert!(walked.worker.sessions().len() <= sessions, "denied, and a session");
            }
            tainted |= broken && after.held > before.held;
            past.sent.push((port, frame));
            past.left.extend(out);
        }
        if i % 24 == 23 || i + 1 == events.len() {
            same_state(&mut walked, &mut cached)?;
            same_state(&mut walked, &mut tiny)?;
            same_state(&mut walked, &mut two)?;
        }
    }
    for bench in [&mut walked, &mut cached, &mut tiny, &mut two] {
        nothing_leaked(bench)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks(events in prop::collection::vec(event(), 1..100)) {
        run(&events)?;
    }

    #[test]
    fn random_octets_on_every_port(frames in prop::collection::vec((0u32..8, prop::collection::vec(any::<u8>(), 0..200)), 1..50)) {
        let mut bench = Bench::new(chaos_lab());
        for (port, bytes) in frames {
            bench.send(PortId(port), Frame::new(bytes));
        }
        bench.advance(Time::from_secs(1_000));
        prop_assert_eq!(bench.worker.accounting().held, 0);
    }

    /// Random octets behind an Ethernet header that every port takes further.
    #[test]
    fn random_packets_on_every_port(frames in prop::collection::vec((0usize..6, 0u8..3, prop::collection::vec(any::<u8>(), 20..120)), 1..50)) {
        let mut bench = Bench::new(chaos_lab());
        bench.introduce_all();
        for (at, kind, mut packet) in frames {
            let (source, own, gateway) = host_of(PORTS[at]).unwrap();
            let ether: u16 = match kind {
                0 => {
                    packet[0] = 0x45;
                    let length = u16::try_from(packet.len()).unwrap();
                    packet[2..4].copy_from_slice(&length.to_be_bytes());
                    packet[6] &= 0x40;
                    packet[7] = 0;
                    packet[12..16].copy_from_slice(&ip(source).low32().to_be_bytes());
                    packet[10..12].fill(0);
                    let sum = packet::checksum(&packet[..20]);
                    packet[10..12].copy_from_slice(&sum.to_be_bytes());
                    0x0800
                }
                1 => 0x86dd,
                _ => 0x0806,
            };
            let mut bytes = [gateway.0, own.0].concat();
            bytes.extend_from_slice(&ether.to_be_bytes());
            bytes.extend_from_slice(&packet);
            bench.send(PORTS[at], Frame::new(bytes));
        }
    }
}

/// A reflexive rule goes while an answer is under way, and another rule translates the answer: the gateway meets
/// the flow in a reply, and must know it by that.
#[test]
fn a_flow_that_its_gateway_first_met_in_a_reply() {
    let flow = |src, dst| Event::Flow {
        src,
        dst,
        kind: 1,
        ports: (0, 0),
        flags: 2,
        ttl: 64,
        len: 0,
        df: false,
    };
    let change = |nat, gateway| Event::Change { policy: 0, nat, members: 0, gateway, settings: 0 };
    let reply = |back| Event::Reply { back, flags: 2 };
    let events =
        [change(3, 3), flow(3, 15), reply(0), change(1, 4), reply(1), reply(2), flow(0, 0)];
    run(&events).unwrap();
}
