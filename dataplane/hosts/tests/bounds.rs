//! What floods, nonsense and time do to a host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod harness;

use std::time::Duration;

use harness::{Net, addr, config, mac};
use hosts::{
    Failure, Host, HostConfig, HostDrop, HostMode, OperationResult, PingOptions, ReadUntil,
    ServiceConfig, ServiceKind, ServiceProtocol, TcpOptions, UdpOptions,
};
use packet::{Addr, Frame, Time};
use proptest::prelude::*;

fn echo_server() -> HostConfig {
    let mut b = config("b", 2, "10.0.0.2/24", "");
    for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp] {
        b.services.push(ServiceConfig { protocol, port: 7, kind: ServiceKind::Echo });
    }
    b
}

/// The first frame that a host with `src` sends for `begin`, the neighbour being known.
fn frame_of(src: &str, begin: impl FnOnce(&mut Host, &mut hosts::Output)) -> Frame {
    let mut config = config("x", 9, &format!("{src}/24"), "");
    config.interfaces[0].static_neighbors.push((addr("10.0.0.2"), mac(2)));
    let mut host = Host::new(config, 3);
    let mut out = Vec::new();
    begin(&mut host, &mut out);
    out.swap_remove(0).1
}

#[test]
fn a_syn_beyond_the_limit_is_dropped_and_half_open_connections_end() {
    let mut server = Host::new(echo_server(), 1);
    let mut out = Vec::new();
    for i in 0..hosts::tcp::MAX_CONNECTIONS as u16 + 10 {
        let options = TcpOptions { source_port: Some(1000 + i), ..TcpOptions::default() };
        let syn = frame_of("10.0.0.1", |h, out| {
            h.start_tcp(addr("10.0.0.2"), 7, options, Time::ZERO, out);
        });
        server.receive(0, &syn, Time::ZERO, &mut out);
    }
    assert_eq!(server.connection_count(), 1024);
    assert_eq!(server.counters().dropped[&HostDrop::ConnectionsFull], 10);
    while let Some(due) = server.next_timeout().filter(|t| *t <= Time::from_secs(70)) {
        server.poll(due, &mut out);
    }
    assert_eq!(server.connection_count(), 0, "half-open ones last 63 s");
}

#[test]
fn operations_are_bounded() {
    let mut host = Host::new(config("a", 1, "10.0.0.1/24", ""), 1);
    let mut out = Vec::new();
    let start = |host: &mut Host, out: &mut hosts::Output| {
        host.start_udp(addr("10.0.0.2"), 9, Vec::new(), UdpOptions::default(), Time::ZERO, out)
    };
    for _ in 0..hosts::MAX_OPERATIONS {
        let id = start(&mut host, &mut out);
        assert!(host.is_running(id));
    }
    let id = start(&mut host, &mut out);
    let refused = OperationResult::Udp(Err(Failure::Invalid("too many operations")));
    assert_eq!(host.take_result(id), Some(refused));
    assert_eq!(host.take_result(id), None, "taken once");
    assert_eq!(out.len(), 1, "one ARP request for all of them");
}

#[test]
fn the_neighbour_cache_keeps_the_most_recently_used() {
    let mut host = Host::new(config("a", 1, "10.0.0.1/16", ""), 1);
    let mut out = Vec::new();
    for i in 0..2000u32 {
        let sender = Addr::v4(0x0a00_1000 + i);
        let request = packet::arp_request(mac(7), sender, addr("10.0.0.1"));
        host.receive(0, &request, Time::ZERO, &mut out);
    }
    assert_eq!(out.len(), 2000, "all are answered");
    let known: Vec<Addr> = host.neighbors().map(|((_, addr), _)| addr).collect();
    assert_eq!(known.len(), hosts::neighbor::MAX_ENTRIES);
    assert_eq!(
        (known[0], known[1023]),
        (Addr::v4(0x0a00_1000 + 976), Addr::v4(0x0a00_1000 + 1999))
    );
    assert_eq!(host.next_timeout(), None);
}

#[test]
fn what_arp_does_not_teach() {
    let mut host = Host::new(config("a", 1, "10.0.0.1/24", ""), 1);
    let mut out = Vec::new();
    let own = addr("10.0.0.1");
    let question = |sender: &str| packet::arp_request(mac(7), addr(sender), own);
    // Its own address, an impossible one, a question to someone else, an announcement, an answer
    // to a question that was never asked.
    host.receive(0, &question("10.0.0.1"), Time::ZERO, &mut out);
    host.receive(0, &question("224.0.0.1"), Time::ZERO, &mut out);
    let other = packet::arp_request(mac(7), addr("10.0.0.8"), addr("10.0.0.9"));
    host.receive(0, &other, Time::ZERO, &mut out);
    host.receive(0, &packet::gratuitous_arp(mac(7), addr("10.0.0.8")), Time::ZERO, &mut out);
    assert!(out.is_empty(), "{out:?}");
    let asked = packet::parse(&packet::arp_request(mac(1), own, addr("10.0.0.8")).bytes).unwrap();
    let answer = packet::arp_reply(&asked, mac(8)).unwrap();
    host.receive(0, &answer, Time::ZERO, &mut out);
    assert_eq!(host.neighbors().count(), 0);
    // A probe is answered (RFC 5227, 2.1.1) and teaches nothing.
    host.receive(0, &question("0.0.0.0"), Time::ZERO, &mut out);
    assert_eq!((out.len(), host.neighbors().count()), (1, 0));
}

#[test]
fn arp_is_answered_only_where_the_address_is() {
    let mut config = config("a", 1, "10.0.0.1/24", "");
    config.interfaces.push(hosts::InterfaceConfig::new("eth1", mac(2), addr("10.1.0.1"), 24));
    let mut host = Host::new(config, 1);
    let mut out = Vec::new();
    let request = packet::arp_request(mac(7), addr("10.1.0.9"), addr("10.1.0.1"));
    host.receive(0, &request, Time::ZERO, &mut out);
    assert!(out.is_empty());
    host.receive(1, &request, Time::ZERO, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_stale_neighbour_is_asked_again_while_it_is_used() {
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), echo_server());
    let ping = |net: &mut Net| {
        let options = PingOptions { timeout: Duration::from_secs(1), ..PingOptions::default() };
        match net.complete(0, |h, now, out| h.start_ping(addr("10.0.0.2"), options, now, out)) {
            OperationResult::Ping(report) => (report.received(), report.errors()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ping(&mut net), (1, 0));
    net.run(59);
    let before = net.log.len();
    assert_eq!(ping(&mut net), (1, 0));
    assert_eq!(net.log.len() - before, 2, "no ARP");
    net.run(61);
    let before = net.log.len();
    assert_eq!(ping(&mut net), (1, 0));
    net.run(10);
    assert_eq!(net.log.len() - before, 6, "both ask:\n{}", net.transcript());
    net.hosts[1].set_mode(HostMode::Silent);
    net.run(61);
    assert_eq!(ping(&mut net), (0, 0), "sent to where it was");
    net.run(10);
    assert_eq!(net.hosts[0].neighbors().count(), 0, "then forgotten");
}

#[test]
fn checksums_addresses_and_tags_are_looked_at() {
    let ping = frame_of("10.0.0.1", |h, out| {
        h.start_ping(addr("10.0.0.2"), PingOptions::default(), Time::ZERO, out);
    });
    let drops = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut host = Host::new(echo_server(), 1);
        let mut frame = ping.clone();
        change(&mut frame.bytes);
        let mut out = Vec::new();
        host.receive(0, &frame, Time::ZERO, &mut out);
        assert!(out.is_empty());
        host.counters().dropped.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(drops(&|b| b[50] ^= 1), [HostDrop::BadChecksum]);
    assert_eq!(drops(&|b| b[24] ^= 1), [HostDrop::Malformed]);
    assert_eq!(drops(&|b| b[5] ^= 1), [HostDrop::NotForUs]);
    assert_eq!(drops(&|b| drop(b.splice(12..12, [0x81, 0, 0, 5]))), [HostDrop::Tagged]);
    assert_eq!(drops(&|b| b.truncate(20)), [HostDrop::Malformed]);
}

#[test]
fn checksums_and_segments_that_a_kernel_left_to_others() {
    use packet::{ChecksumState, Segmentation, SegmentationKind, pseudo_header_sum};
    let datagram = |size: usize| {
        frame_of("10.0.0.1", |h, out| {
            h.start_udp(addr("10.0.0.2"), 7, vec![3; size], UdpOptions::default(), Time::ZERO, out);
        })
    };
    let answers = |frame: &Frame| {
        let mut config = echo_server();
        config.interfaces[0].static_neighbors.push((addr("10.0.0.1"), mac(9)));
        let mut host = Host::new(config, 1);
        let mut out = Vec::new();
        host.receive(0, frame, Time::ZERO, &mut out);
        out.into_iter().map(|(_, f)| f.bytes.len()).collect::<Vec<_>>()
    };
    let mut partial = datagram(100);
    let sum = pseudo_header_sum(addr("10.0.0.1"), addr("10.0.0.2"), 17, 108);
    partial.bytes[40..42].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(answers(&partial), [0; 0], "as it stands the checksum is wrong");
    partial.checksum = ChecksumState::Partial { start: 34, offset: 6 };
    assert_eq!(answers(&partial), [14 + 20 + 108]);

    let mut large = datagram(1000);
    large.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 400 });
    assert_eq!(answers(&large), [442, 442, 242]);
}

#[test]
fn large_packets_cross_in_fragments() {
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), echo_server());
    let options = PingOptions { size: 65_507, ..PingOptions::default() };
    let result = net.complete(0, |h, now, out| h.start_ping(addr("10.0.0.2"), options, now, out));
    let OperationResult::Ping(report) = result else { panic!("{result:?}") };
    // All 45 fragments wait for the neighbour.
    assert_eq!(report.received(), 1);
    net.run(60);
    for size in [1473, 20_000, 65_507] {
        let options = PingOptions { size, ..PingOptions::default() };
        let result =
            net.complete(0, |h, now, out| h.start_ping(addr("10.0.0.2"), options, now, out));
        let OperationResult::Ping(report) = result else { panic!("{result:?}") };
        assert_eq!(report.received(), 1, "{size}");
    }
    let data: Vec<u8> = (0..9000).map(|i| i as u8).collect();
    let sent = data.clone();
    let result = net.complete(0, |h, now, out| {
        h.start_udp(addr("10.0.0.2"), 7, sent, UdpOptions::default(), now, out)
    });
    let OperationResult::Udp(Ok(reply)) = result else { panic!("{result:?}") };
    assert!(reply.data == data);
}

/// Fragments of a 4000 octet ping from 10.0.0.1: 1480, 1480 and 1048 octets.
fn fragments(id_of: u16) -> Vec<Frame> {
    let mut config = config("x", 9, "10.0.0.1/24", "");
    config.interfaces[0].static_neighbors.push((addr("10.0.0.2"), mac(2)));
    let mut host = Host::new(config, 3);
    let mut out = Vec::new();
    for _ in 0..id_of {
        out.clear();
        let options = PingOptions { size: 4000, ..PingOptions::default() };
        host.start_ping(addr("10.0.0.2"), options, Time::ZERO, &mut out);
    }
    out.into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn fragments_in_any_order_but_not_overlapping() {
    let parts = fragments(1);
    assert_eq!(parts.len(), 3);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut host = Host::new(echo_server(), 1);
        let mut out = Vec::new();
        host.receive(
            0,
            &packet::arp_request(mac(9), addr("10.0.0.1"), addr("10.0.0.2")),
            Time::ZERO,
            &mut out,
        );
        out.clear();
        for i in order {
            assert!(out.is_empty());
            host.receive(0, &parts[i], Time::ZERO, &mut out);
        }
        assert_eq!(out.len(), 3, "{order:?}");
        assert_eq!(host.next_timeout(), None);
    }
    let mut host = Host::new(echo_server(), 1);
    let mut out = Vec::new();
    for i in [0, 1, 1, 2] {
        host.receive(0, &parts[i], Time::ZERO, &mut out);
    }
    assert_eq!((out.len(), host.counters().dropped[&HostDrop::Fragment]), (0, 1));
}

#[test]
fn incomplete_datagrams_are_bounded_and_end() {
    let mut host = Host::new(echo_server(), 1);
    let mut out = Vec::new();
    for i in 1..=40 {
        host.receive(0, &fragments(i)[0], Time::from_secs(u64::from(i)), &mut out);
    }
    assert_eq!(host.next_timeout(), Some(Time::from_secs(25 + 30)), "the last 16 of 40 are kept");
    host.poll(Time::from_secs(100), &mut out);
    // The sender is told of each (11/1), once its station address is known.
    host.receive(
        0,
        &packet::arp_request(mac(9), addr("10.0.0.1"), addr("10.0.0.2")),
        Time::from_secs(100),
        &mut out,
    );
    let errors =
        out.iter().filter(|(_, f)| f.bytes[12..14] == [8, 0] && f.bytes[34..36] == [11, 1]);
    assert_eq!(errors.count(), 16, "all of them waited for their neighbour");
    assert_eq!(host.next_timeout(), None);
    assert_eq!(host.counters().dropped[&HostDrop::Fragment], 16);
}

fn conversation() -> Vec<Frame> {
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), echo_server());
    let options =
        TcpOptions { send: vec![1; 3000], until: ReadUntil::Octets(3000), ..TcpOptions::default() };
    net.complete(0, |h, now, out| h.start_tcp(addr("10.0.0.2"), 7, options, now, out));
    net.complete(0, |h, now, out| h.start_ping(addr("10.0.0.2"), PingOptions::default(), now, out));
    net.complete(0, |h, now, out| {
        h.start_udp(addr("10.0.0.2"), 5, vec![1], UdpOptions::default(), now, out)
    });
    net.log.into_iter().map(|(_, _, _, frame)| frame).chain(fragments(1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No frame makes a host panic, and none makes it send more than a handful.
    #[test]
    fn hostile_frames(
        picks in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<bool>()), 1..40),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let frames = conversation();
        let mut b = echo_server();
        b.forwarding = true;
        let mut host = Host::new(b, 1);
        let mut now = Time::ZERO;
        for (pick, changes, repair) in picks {
            let mut frame = frames[pick.index(frames.len())].clone();
            for (at, value) in changes {
                let at = at.index(frame.bytes.len());
                frame.bytes[at] = value;
            }
            if repair {
                frame.bytes[..6].copy_from_slice(&mac(2).0);
            }
            let mut out = Vec::new();
            host.receive(0, &frame, now, &mut out);
            prop_assert!(out.len() <= 64, "{} frames", out.len());
            now = now + Duration::from_millis(300);
            host.poll(now, &mut Vec::new());
        }
        host.receive(0, &Frame::new(noise), now, &mut Vec::new());
    }
}
