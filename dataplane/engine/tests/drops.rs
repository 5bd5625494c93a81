//! Every drop reason is reached by real frames, at the stage and the object that it names (promise 6).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{DropReason, FloodLimits, Stage};
use fixture::lab::*;
use fixture::*;
use packet::{Fragment, FrameBuilder, IcmpErrorKind, Mac, Time, tcp_flags::*};
use std::collections::BTreeSet;

/// One way to a reason: the network, what is sent, and where the last frame must end. Frames before it
/// may be delivered; nothing else may be dropped.
struct Case {
    reason: DropReason,
    stage: Stage,
    object: &'static str,
    run: fn() -> Bench,
}

fn bench() -> Bench {
    let mut b = Bench::new(lab());
    b.introduce_all();
    b
}

fn edited(edit: impl FnOnce(&mut Network)) -> Bench {
    let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
    edit(&mut net);
    let mut b = Bench::new(net);
    b.introduce_all();
    b
}

/// Sends frames of a source one after the other.
fn sends(mut b: Bench, src: &str, frames: impl IntoIterator<Item = FrameBuilder>) -> Bench {
    for frame in frames {
        b.go(src, frame);
    }
    b
}

fn raw(dst: Mac, src: Mac, ether_type: u16, payload: &[u8]) -> packet::Frame {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&dst.0);
    bytes.extend_from_slice(&src.0);
    bytes.extend_from_slice(&ether_type.to_be_bytes());
    bytes.extend_from_slice(payload);
    packet::Frame::new(bytes)
}

fn sent(mut b: Bench, port: PortId, frame: packet::Frame) -> Bench {
    b.send(port, frame);
    b
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use DropReason as R;
    use Stage as S;
    let case = |reason, stage, object, run| Case { reason, stage, object, run };
    vec![
        case(R::Malformed, S::Port, "pod/a", || sends(bench(), A, [from(A, B).udp(1, 2).bad_ip_checksum()])),
        case(R::BadSourceMac, S::Port, "host/ext", || sends(bench(), H1, [from(H1, H2).macs(Mac::BROADCAST, UPLINK).udp(1, 2)])),
        case(R::BadSourceMac, S::Port, "pod/a", || sends(bench(), A, [from(A, B).macs(Mac::ZERO, GATEWAY).udp(1, 2)])),
        case(R::SpoofGuard, S::Vnic, "pod/a", || sends(bench(), A, [from(A, B).macs(mac(2), GATEWAY).udp(1, 2)])),
        case(R::Bpdu, S::Vnic, "pod/a", || sent(bench(), POD_A, raw(Mac([1, 0x80, 0xc2, 0, 0, 0]), mac(1), 0x26, &[0x42; 38]))),
        case(R::DhcpServer, S::Vnic, "pod/a", || sends(bench(), A, [from(A, C).udp(67, 68)])),
        case(R::DhcpClient, S::Vnic, "pod/a", || {
            sends(edited(|net| vnic(net, POD_A).security.dhcp_client_block = true), A, [from(A, C).udp(68, 67)])
        }),
        case(R::RateLimit, S::Vnic, "pod/a", || {
            let b = edited(|net| vnic(net, POD_A).security.rates.tx_broadcast = Some(1));
            let b = sent(b, POD_A, packet::gratuitous_arp(mac(1), ip(A)));
            sent(b, POD_A, packet::gratuitous_arp(mac(1), ip(A)))
        }),
        case(R::RateLimit, S::Vnic, "pod/c", || {
            let b = edited(|net| vnic(net, POD_C).security.rates.rx_broadcast = Some(1));
            let b = sent(b, POD_A, packet::gratuitous_arp(mac(1), ip(A)));
            sent(b, POD_A, packet::gratuitous_arp(mac(1), ip(A)))
        }),
        case(R::EthernetRule, S::DfwOut, "pod/a", || sends(edited(|net| no_ethernet(net, POD_A, false)), A, [from(A, B).udp(1, 2)])),
        case(R::EthernetRule, S::DfwIn, "pod/b", || sends(edited(|net| no_ethernet(net, POD_B, true)), A, [from(A, B).udp(1, 2)])),
        case(R::FloodProtection, S::DfwOut, "pod/a", || {
            sends(edited(|net| net.firewall.flood.udp = Some(1)), A, [from(A, B).udp(1, 2), from(A, B).udp(2, 2)])
        }),
        case(R::FloodProtection, S::DfwIn, "pod/b", || {
            let b = sends(edited(|net| net.firewall.flood.tcp_half_open = Some(1)), A, [from(A, B).tcp(1, 2, SYN)]);
            sends(b, C, [from(C, B).tcp(1, 2, SYN)])
        }),
        case(R::FloodProtection, S::T1Firewall, "t1", || {
            let flood = FloodLimits { udp: Some(1), ..FloodLimits::default() };
            let b = edited(|net| net.routers[1].gateway_firewall = GatewayFirewall::default().with_flood(flood));
            sends(b, A, [from(A, H1).udp(1, 2), from(A, H1).udp(2, 2)])
        }),
        case(R::FloodProtection, S::T1Nat, "t1", || {
            let flood = FloodLimits { nat: Some(1), ..FloodLimits::default() };
            let b = edited(|net| net.routers[1].gateway_firewall = GatewayFirewall::default().with_flood(flood));
            sends(b, A, [from(A, H1).udp(1, 2), from(A, H1).tcp(2, 2, SYN)])
        }),
        case(R::NoSession, S::Dlb, "pod/c", || {
            let b = edited(|net| cluster_ips(net, vec![server(CLUSTER, 6, 80, &[member(B, 80, None)], PoolSnat::Transparent)]));
            let mut b = sends(b, C, [from(C, CLUSTER).tcp(4000, 80, SYN).seq(0)]);
            b = sends(b, B, [from(B, C).tcp(80, 4000, SYN | ACK).seq(0).ack(1)]);
            b = sends(b, C, [from(C, CLUSTER).tcp(4000, 80, ACK).seq(1).ack(1)]);
            // tcp-established: the firewall remembers longer than the balancer.
            b.advance(Time::from_secs(20_000));
            sends(b, B, [from(B, C).tcp(80, 4000, ACK).seq(1).ack(1)])
        }),
        case(R::RouterAdvertisement, S::Vnic, "pod/a", || {
            let f = FrameBuilder::new(ip("2001:db8:a::12"), ip("ff02::1")).macs(mac(1), Mac([0x33, 0x33, 0, 0, 0, 1]));
            sent(bench(), POD_A, f.ttl(255).icmp(134, 0, [64, 0, 7, 8]).payload(&[0; 8]).build())
        }),
        case(R::NonIp, S::Vnic, "pod/a", || sent(bench(), POD_A, raw(MC, mac(1), 0x88cc, &[0; 46]))),
        case(R::NonIp, S::Segment, "outside", || sent(bench(), EXT, raw(UPLINK, M1, 0x88cc, &[0; 46]))),
        case(R::VlanTagged, S::Port, "pod/a", || sends(bench(), A, [from(A, B).vlan(Some(7)).udp(1, 2)])),
        case(R::UnknownPort, S::Port, "port", || sent(bench(), PortId(99), from(A, B).udp(1, 2).build())),
        case(R::UnknownPort, S::Segment, "segment", || {
            sends(edited(|net| net.ports[0].segment = SegmentId(99)), A, [from(A, B).udp(1, 2)])
        }),
        case(R::UnknownUnicast, S::Segment, "seg-a", || sends(bench(), A, [from(A, B).macs(mac(1), mac(77)).udp(1, 2)])),
        case(R::NoRecipient, S::Segment, "seg-b", || sent(bench(), POD_B, packet::gratuitous_arp(mac(2), ip(B)))),
        case(R::SamePort, S::Segment, "seg-a", || sends(bench(), A, [from(A, B).macs(mac(1), mac(1)).udp(1, 2)])),
        case(R::Martian, S::T0Route, "t0", || sent(bench(), EXT, FrameBuilder::new(ip("127.0.0.1"), ip(VIP)).macs(M1, UPLINK).udp(1, 2).build())),
        case(R::Martian, S::T1Route, "t1", || sends(bench(), A, [from(A, "10.244.0.47").udp(1, 2)])),
        case(R::Options, S::T1Route, "t1", || sends(bench(), A, [from(A, B).options(&[0x83, 3, 4]).udp(1, 2)])),
        case(R::Fragment, S::Port, "pod/a", || {
            // Its first fragment never comes.
            let mut b = sends(bench(), A, [piece(1, 64, 8, false)]);
            b.advance(Time::from_secs(30));
            b
        }),
        case(R::FragmentOverlap, S::Port, "pod/a", || sends(bench(), A, [piece(1, 0, 24, true), piece(1, 16, 8, false)])),
        case(R::FragmentLimit, S::Port, "pod/a", || sends(bench(), A, (0..513).map(|id| piece(id, 0, 8, true)))),
        case(R::TtlExpired, S::T1Route, "t1", || sends(bench(), A, [from(A, B).ttl(1).udp(1, 2)])),
        case(R::TtlExpired, S::T0Route, "t0", || sends(bench(), A, [from(A, H1).ttl(2).udp(1, 2)])),
        case(R::HopLimit, S::T1Route, "t1", || {
            // The Tier-0 sends back what the Tier-1 sends up.
            sends(edited(|net| add_routes(net, T0, vec![to("198.51.100.0/24", 1, None)])), A, [from(A, "198.51.100.1").udp(1, 2)])
        }),
        case(R::NoRoute, S::T1Route, "t1", || sends(edited(|net| net.routers[1].fib = Fib::default()), A, [from(A, B).udp(1, 2)])),
        case(R::Blackhole, S::T0Route, "t0", || {
            sends(edited(|net| add_routes(net, T0, vec![route("172.16.0.0/16", RouteTarget::Blackhole)])), H1, [from(H1, "172.16.9.9").udp(1, 2)])
        }),
        case(R::UnreachableRoute, S::T0Route, "t0", || {
            sends(edited(|net| add_routes(net, T0, vec![route("172.16.0.0/16", RouteTarget::Unreachable)])), H1, [from(H1, "172.16.9.9").udp(1, 2)])
        }),
        case(R::FragmentationNeeded, S::T1Route, "t1", || {
            sends(edited(|net| net.routers[1].interfaces[2].mtu = 1000), A, [from(A, B).udp(1, 2).payload(&[0; 1400])])
        }),
        case(R::FragmentationNeeded, S::Port, "pod/c", || {
            sends(edited(|net| net.ports[3].mtu = 1000), A, [from(A, C).macs(mac(1), MC).udp(1, 2).payload(&[0; 1400])])
        }),
        case(R::Urpf, S::T0Urpf, "t0", || {
            let b = edited(|net| net.routers[0].interfaces[0].urpf = Urpf::Strict);
            sent(b, EXT, FrameBuilder::new(ip(A), ip(VIP)).macs(M1, UPLINK).udp(1, 53).build())
        }),
        case(R::NoNatRule, S::T1Nat, "t1", || sends(edited(|net| net.routers[1].nat = NatTable::default()), A, [from(A, H1).udp(1, 2)])),
        case(R::NoNatRule, S::T1Nat, "t1", || {
            // A rule without an address ends the search: the rule of every source behind it is not asked.
            let b = edited(|net| {
                let mut rules = net.routers[1].nat.rules().to_vec();
                rules.push(NatRule {
                    source: Some(vec![Prefix::host(ip(A))]),
                    ..NatRule::new(9, "withheld", 600, NatAction::NoAddress)
                });
                net.routers[1].nat = NatTable::new(rules);
            });
            sends(b, A, [from(A, H1).udp(1, 2)])
        }),
        case(R::PrivateDestination, S::T1Nat, "t1", || sends(bench(), H1, [from(H1, A).udp(1, 2)])),
        case(R::NoSession, S::T1Nat, "t1", || sends(bench(), H1, [from(H1, "172.16.2.2").tcp(1, 2, SYN)])),
        case(R::NoSession, S::DfwOut, "pod/a", || sends(bench(), A, [from(A, B).echo_reply(1, 1)])),
        case(R::NotSyn, S::DfwOut, "pod/a", || sends(bench(), A, [from(A, B).tcp(1, 2, ACK)])),
        case(R::NotSyn, S::T1Lb, "t1", || sends(edited(|_| ()), H1, [from(H1, VIP).tcp(1, 53, ACK)])),
        case(R::TcpFlags, S::Vnic, "pod/a", || sends(bench(), A, [from(A, B).tcp(1, 2, SYN | FIN)])),
        case(R::TcpWindow, S::DfwOut, "pod/a", || {
            // A reset beyond what its sender has sent (RFC 5961, 3).
            sends(bench(), A, [from(A, B).tcp(1, 2, SYN).seq(100), from(A, B).tcp(1, 2, RST).seq(9_000)])
        }),
        case(R::IcmpUnmatched, S::DfwOut, "pod/a", || sent(bench(), POD_A, forged(false))),
        case(R::IcmpChecksum, S::Port, "pod/a", || sent(bench(), POD_A, forged(true))),
        case(R::Firewall, S::DfwIn, "pod/b", || {
            let b = edited(|net| {
                net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Drop)];
                vnic(net, POD_B).rules_in = vec![0].into();
            });
            sends(b, A, [from(A, B).udp(1, 2)])
        }),
        case(R::Firewall, S::DfwOut, "pod/a", || {
            let b = edited(|net| {
                net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), Action::Reject)];
                vnic(net, POD_A).rules_out = vec![0].into();
            });
            sends(b, A, [from(A, B).udp(1, 2)])
        }),
        case(R::Firewall, S::T1Firewall, "t1", || {
            let rules = vec![gateway_rule(1, Direction::Out, Action::Drop)];
            sends(edited(|net| net.routers[1].gateway_firewall = GatewayFirewall::new(true, rules)), A, [from(A, H1).udp(1, 2)])
        }),
        case(R::Firewall, S::T0Firewall, "t0", || {
            let rules = vec![gateway_rule(1, Direction::In, Action::Drop)];
            sends(edited(|net| net.routers[0].gateway_firewall = GatewayFirewall::new(true, rules)), H1, [from(H1, VIP).udp(1, 53)])
        }),
        case(R::GatewayFirewallDisabled, S::T1Firewall, "t1", || {
            sends(edited(|net| net.routers[1].gateway_firewall = GatewayFirewall::new(false, Vec::new())), A, [from(A, H1).udp(1, 2)])
        }),
        case(R::SessionRecords, S::Session, "pod/a", || sends(edited(chained), A, [from(A, H1).udp(1, 2)])),
        case(R::VipNoPort, S::Dlb, "pod/a", || sends(edited(|_| ()), A, [from(A, CLUSTER).udp(1, 54)])),
        case(R::VipNoPort, S::T1Lb, "t1", || sends(edited(|_| ()), H1, [from(H1, VIP).udp(1, 54)])),
        case(R::NoMember, S::T1Lb, "t1", || {
            sends(edited(|net| vips(net, vec![server(VIP, 17, 53, &[], PoolSnat::Transparent)])), H1, [from(H1, VIP).udp(1, 53)])
        }),
        case(R::NoMember, S::Dlb, "pod/a", || {
            sends(edited(|net| cluster_ips(net, vec![server(CLUSTER, 6, 53, &[], PoolSnat::Transparent)])), A, [from(A, CLUSTER).tcp(1, 53, SYN)])
        }),
        case(R::SourceRange, S::T1Lb, "t1", || {
            let mut s = server(VIP, 17, 53, &[member(A, 53, None)], PoolSnat::Transparent);
            s.source_ranges = vec![prefix("192.0.2.20/32")];
            sends(edited(move |net| vips(net, vec![s])), H1, [from(H1, VIP).udp(1, 53)])
        }),
        // A protocol without ports: the SNAT address has one flow of it towards a host.
        case(R::NatPortExhausted, S::T1Nat, "t1", || {
            let b = sends(bench(), A, [from(A, H1).protocol(47).payload(&[0; 8])]);
            sends(b, B, [from(B, H1).protocol(47).payload(&[0; 8])])
        }),
        // A flow that was answered is not expendable.
        case(R::SessionTableFull, S::Session, "pod/a", || {
            let b = sends(edited(|net| net.timers.max_sessions = 1), A, [from(A, B).udp(1, 2)]);
            sends(sends(b, B, [from(B, A).udp(2, 1)]), A, [from(A, B).udp(2, 2)])
        }),
        case(R::SessionShare, S::Session, "pod/a", || {
            let b = sends(edited(|net| net.timers.max_tenant_sessions = 1), A, [from(A, B).udp(1, 2)]);
            sends(sends(b, B, [from(B, A).udp(2, 1)]), A, [from(A, B).udp(2, 2)])
        }),
        // The virtual server's record (300 s) outlives the firewall's (60 s); the client then speaks to the
        // member itself from the same port, which makes a second session at the firewalls, and
        // comes back to the virtual server: its gateway knows one session, the member's firewall the other.
        case(R::SessionConflict, S::DfwIn, "pod/c", || {
            let s = server(VIP, 17, 53, &[member(C, 53, None)], PoolSnat::Transparent);
            let mut b = sends(edited(move |net| vips(net, vec![s])), A, [from(A, VIP).udp(4000, 53)]);
            b.advance(Time::from_secs(61));
            sends(b, A, [from(A, C).macs(mac(1), MC).udp(4000, 53), from(A, VIP).udp(4000, 53)])
        }),
        case(R::RouterClosed, S::T1Route, "t1", || sends(bench(), A, [from(A, "10.244.0.17").udp(1, 2)])),
        case(R::NeighborUnresolved, S::Neighbor, "t0", || {
            let mut b = sends(bench(), A, [from(A, "192.0.2.99").udp(1, 2)]);
            b.advance(Time::from_secs(3));
            b
        }),
        case(R::NeighborQueueFull, S::Neighbor, "t0", || {
            sends(bench(), A, (0..9).map(|port| from(A, "192.0.2.99").udp(port, 2)))
        }),
    ]
}

/// An Ethernet rule at a vNIC that lets nothing in, or out.
fn no_ethernet(net: &mut Network, port: PortId, ingress: bool) {
    net.firewall.ethernet = vec![EthernetRule {
        id: 1001,
        name: "eth.nothing".into(),
        origin: "test".into(),
        direction: Direction::InOut,
        source: MacSet::any(),
        destination: MacSet::any(),
        ether_types: Vec::new(),
        applied_to_text: "test".into(),
        action: EthernetAction::Drop,
    }];
    let vnic = vnic(net, port);
    if ingress { vnic.ethernet_in = [0].into() } else { vnic.ethernet_out = [0].into() }
}

/// Three more gateways between Tier-1 and Tier-0, each with NAT and a firewall: with the pod's own
/// firewall ten stages would remember a flow.
fn chained(net: &mut Network) {
    let remembering = |router: &mut Router| {
        router.nat = NatTable::new(vec![NatRule::new(1, "keep", 1, NatAction::NoSnat)]);
        let rules = vec![gateway_rule(1, Direction::InOut, Action::Allow)];
        router.gateway_firewall = GatewayFirewall::new(true, rules);
        router.private.clear();
    };
    let first = net.routers.len() as u32;
    for i in 0..3 {
        let id = first + i;
        let mut router = net.routers[1].clone();
        remembering(&mut router);
        router.name = format!("between-{i}");
        let up =
            if i == 2 { (RouterId(0), InterfaceId(1)) } else { (RouterId(id + 1), InterfaceId(1)) };
        router.interfaces[0].attachment = Attachment::Router(up.0, up.1);
        router.fib = Fib::build(vec![to("0.0.0.0/0", 0, None)], 1);
        net.routers.push(router);
    }
    remembering(&mut net.routers[1]);
    net.routers[1].interfaces[0].attachment = Attachment::Router(RouterId(first), InterfaceId(1));
    remembering(&mut net.routers[0]);
}

/// A fragment of a UDP datagram from pod/a to pod/b, with `len` octets behind the IP header.
fn piece(id: u32, offset: u16, len: usize, more: bool) -> FrameBuilder {
    let f = from(A, B).fragment(Fragment { id, offset, more });
    match offset {
        0 => f.udp(1, 2).payload(&vec![0; len - 8]),
        _ => f.protocol(17).payload(&vec![0; len]),
    }
}

/// An ICMP error about a packet that nobody has sent.
fn forged(broken: bool) -> packet::Frame {
    let quoted = FrameBuilder::new(ip(B), ip(A)).macs(GATEWAY, mac(1)).udp(7, 8).build();
    let h = packet::parse(&quoted.bytes).unwrap();
    let mut f = packet::icmp_error(&quoted, &h, IcmpErrorKind::PortUnreachable, ip(A)).unwrap();
    if broken {
        let last = f.bytes.len() - 1;
        f.bytes[last] ^= 1;
    }
    f
}

#[test]
fn every_reason_is_reached_where_it_says() {
    let mut reached = BTreeSet::new();
    for case in cases() {
        let b = (case.run)();
        assert_eq!(b.only_drop(), (case.stage, case.reason, case.object.into()), "{}", case.reason);
        let (_, traffic) = b.worker.drops().pop_first().unwrap();
        assert_eq!(traffic.packets, 1, "{}: exactly one frame", case.reason);
        reached.insert(case.reason);
    }
    let missing: Vec<&str> =
        DropReason::ALL.iter().filter(|r| !reached.contains(r)).map(|r| r.name()).collect();
    assert!(missing.is_empty(), "no frame reaches {missing:?}");
}

#[test]
fn a_dropped_frame_leaves_no_session() {
    for case in cases() {
        let mut b = (case.run)();
        let dropped = b.worker.accounting().dropped;
        assert_eq!(dropped, 1, "{}", case.reason);
        let denied = [
            DropReason::Firewall,
            DropReason::EthernetRule,
            DropReason::NoMember,
            DropReason::TtlExpired,
        ];
        if denied.contains(&case.reason) {
            assert!(b.worker.sessions().is_empty(), "{}", case.reason);
        }
    }
}
