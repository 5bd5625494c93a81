//! What every host answers: ARP, ping, closed ports, its services. IPv4 and IPv6.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{Net, addr, config, mac};
use hosts::{
    DnsOptions, Endpoint, Failure, HostConfig, HostDrop, HostMode, OperationResult, PingEvent,
    PingOptions, ReadUntil, RecordType, ResponseCode, ServiceConfig, ServiceKind, ServiceProtocol,
    TcpEnd, TcpOptions, UdpOptions, Zone, ping_output,
};
use packet::Time;

fn pair() -> Net {
    Net::pair(config("a", 1, "10.0.0.1/24", ""), config("b", 2, "10.0.0.2/24", ""))
}

fn pair_v6() -> Net {
    Net::pair(config("a", 1, "fd00::1/64", ""), config("b", 2, "fd00::2/64", ""))
}

fn service(config: &mut HostConfig, protocol: ServiceProtocol, port: u16, kind: ServiceKind) {
    config.services.push(ServiceConfig { protocol, port, kind });
}

fn server() -> HostConfig {
    let mut b = config("pod/banking/web", 2, "10.0.0.2/24", "");
    let mut zone = Zone::new(5);
    zone.add("web.banking.svc.cluster.local", addr("10.96.0.57"));
    for i in 0..40 {
        zone.add("many", packet::Addr::v4(0x0a00_0100 + i));
    }
    let zone = Arc::new(zone);
    for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp] {
        service(&mut b, protocol, 7, ServiceKind::Echo);
        service(&mut b, protocol, 9, ServiceKind::Discard);
        service(&mut b, protocol, 53, ServiceKind::Dns(zone.clone()));
    }
    let identity = "pod banking/web".to_owned();
    service(&mut b, ServiceProtocol::Tcp, 80, ServiceKind::Http { identity });
    b
}

fn with_server() -> Net {
    Net::pair(config("a", 1, "10.0.0.1/24", ""), server())
}

fn ping(net: &mut Net, to: &str, options: PingOptions) -> hosts::PingReport {
    let to = addr(to);
    match net.complete(0, |h, now, out| h.start_ping(to, options, now, out)) {
        OperationResult::Ping(report) => report,
        other => panic!("{other:?}"),
    }
}

fn tcp(
    net: &mut Net,
    to: &str,
    port: u16,
    options: TcpOptions,
) -> Result<hosts::TcpReply, Failure> {
    let to = addr(to);
    match net.complete(0, |h, now, out| h.start_tcp(to, port, options, now, out)) {
        OperationResult::Tcp(result) => result,
        other => panic!("{other:?}"),
    }
}

fn udp(net: &mut Net, to: &str, port: u16, data: &[u8]) -> Result<hosts::UdpReply, Failure> {
    let (to, data) = (addr(to), data.to_vec());
    match net
        .complete(0, |h, now, out| h.start_udp(to, port, data, UdpOptions::default(), now, out))
    {
        OperationResult::Udp(result) => result,
        other => panic!("{other:?}"),
    }
}

fn dns(net: &mut Net, name: &str, options: DnsOptions) -> Result<hosts::DnsReply, Failure> {
    let options = DnsOptions { server: Some(addr("10.0.0.2")), ..options };
    match net.complete(0, |h, now, out| h.start_dns_query(name, options, now, out)) {
        OperationResult::Dns(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ping_is_two_arp_and_two_icmp_frames() {
    let mut net = pair();
    let report = ping(&mut net, "10.0.0.2", PingOptions::default());
    assert_eq!(
        report.events,
        [PingEvent::Reply {
            from: addr("10.0.0.2"),
            seq: 1,
            ttl: 64,
            bytes: 64,
            rtt: Duration::ZERO,
            duplicate: false
        }]
    );
    // Who asked is known to the one asked: no ARP for the way back.
    assert_eq!(net.log.len(), 4, "{}", net.transcript());
    assert_eq!(
        ping_output::render(&report),
        "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\
         64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.000 ms\n\
         \n\
         --- 10.0.0.2 ping statistics ---\n\
         1 packets transmitted, 1 received, 0% packet loss, time 0ms\n\
         rtt min/avg/max/mdev = 0.000/0.000/0.000/0.000 ms\n"
    );
    assert_eq!(net.hosts[0].next_timeout(), None, "nothing is left behind");
    assert_eq!(net.hosts[1].next_timeout(), None);
}

#[test]
fn every_frame_is_valid_to_an_independent_parser() {
    let mut net = with_server();
    ping(&mut net, "10.0.0.2", PingOptions::default());
    udp(&mut net, "10.0.0.2", 7, b"hello").unwrap();
    udp(&mut net, "10.0.0.2", 4, b"closed").unwrap_err();
    tcp(&mut net, "10.0.0.2", 4, TcpOptions::default()).unwrap_err();
    for (_, _, _, frame) in &net.log {
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(&frame.bytes).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = parsed.net else {
            continue;
        };
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        let payload = parsed.payload.slice();
        match parsed.transport.unwrap() {
            etherparse::TransportHeader::Udp(u) => {
                assert_eq!(u.calc_checksum_ipv4(&ip, payload).unwrap(), u.checksum);
            }
            etherparse::TransportHeader::Tcp(t) => {
                assert_eq!(t.calc_checksum_ipv4(&ip, payload).unwrap(), t.checksum);
            }
            etherparse::TransportHeader::Icmpv4(i) => {
                assert_eq!(i.icmp_type.calc_checksum(payload), i.checksum);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_windows_like_host_has_ttl_128() {
    let mut b = config("dns", 2, "10.0.0.2/24", "");
    b.ttl = 128;
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), b);
    let report = ping(&mut net, "10.0.0.2", PingOptions::default());
    assert!(matches!(report.events[..], [PingEvent::Reply { ttl: 128, .. }]));
}

#[test]
fn several_requests_keep_their_interval() {
    let mut net = pair();
    let report = ping(&mut net, "10.0.0.2", PingOptions { count: 4, ..PingOptions::default() });
    assert_eq!((report.transmitted, report.received()), (4, 4));
    assert_eq!(report.elapsed, Duration::from_secs(3));
    assert_eq!(net.now, Time::from_secs(3));
}

#[test]
fn ipv6_ping_tcp_and_closed_ports() {
    let mut b = config("b", 2, "fd00::2/64", "");
    service(&mut b, ServiceProtocol::Tcp, 80, ServiceKind::Http { identity: "b".to_owned() });
    let mut net = Net::pair(config("a", 1, "fd00::1/64", ""), b);
    let report = ping(&mut net, "fd00::2", PingOptions::default());
    assert_eq!((report.received(), net.log.len()), (1, 4), "{}", net.transcript());
    assert_eq!(
        tcp(&mut net, "fd00::2", 81, TcpOptions::default()),
        Err(Failure::Refused { from: addr("fd00::2") })
    );
    assert_eq!(udp(&mut net, "fd00::2", 81, b"x"), Err(Failure::Refused { from: addr("fd00::2") }));
    let options = TcpOptions { source_port: Some(40_001), ..TcpOptions::default() };
    let server = Endpoint { addr: addr("fd00::2"), port: 80 };
    let result =
        net.complete(0, |h, now, out| h.start_http_get(server, "b", "/", options, now, out));
    let OperationResult::Http(Ok(reply)) = result else { panic!("{result:?}") };
    assert_eq!(reply.response.body, b"b on fd00::2 sees client [fd00::1]:40001\n");
}

#[test]
fn ipv6_neighbour_that_does_not_answer() {
    let mut net = pair_v6();
    let report = ping(&mut net, "fd00::9", PingOptions::default());
    let [PingEvent::Error { seq: 1, report }] = report.events[..] else { panic!("{report:?}") };
    assert_eq!((report.from, report.kind, report.code), (addr("fd00::1"), 1, 3));
    assert_eq!(net.log.len(), 3, "three solicitations");
}

#[test]
fn a_host_pings_and_serves_itself() {
    let mut net = Net::default();
    net.add(server());
    let report = ping(&mut net, "10.0.0.2", PingOptions::default());
    assert_eq!(report.received(), 1);
    let send = b"to myself".to_vec();
    let options = TcpOptions { until: ReadUntil::Octets(9), send, ..TcpOptions::default() };
    assert_eq!(tcp(&mut net, "10.0.0.2", 7, options).unwrap().data, b"to myself");
    assert!(net.log.is_empty());
}

#[test]
fn closed_ports_answer_or_not() {
    let mut net = pair();
    let refused = Failure::Refused { from: addr("10.0.0.2") };
    assert_eq!(tcp(&mut net, "10.0.0.2", 80, TcpOptions::default()), Err(refused));
    assert_eq!(udp(&mut net, "10.0.0.2", 80, b"x"), Err(refused));
    assert_eq!(net.now, Time::ZERO);

    let mut b = config("b", 2, "10.0.0.2/24", "");
    b.answer_closed = false;
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), b);
    assert_eq!(tcp(&mut net, "10.0.0.2", 80, TcpOptions::default()), Err(Failure::Timeout));
    assert_eq!(net.now, Time::from_secs(10));
    assert_eq!(udp(&mut net, "10.0.0.2", 80, b"x"), Err(Failure::Timeout));
    assert_eq!(net.now, Time::from_secs(15));
    // SYN at 0, and again after 1, 3 and 7 s; and the datagram.
    assert_eq!(net.hosts[1].counters().dropped[&HostDrop::ClosedPort], 5);
    assert_eq!(net.hosts[0].connection_count(), 0);
}

#[test]
fn tcp_echo_of_100_kilobytes() {
    let mut net = with_server();
    let send: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let options = TcpOptions {
        send: send.clone(),
        until: ReadUntil::Octets(100_000),
        ..TcpOptions::default()
    };
    let reply = tcp(&mut net, "10.0.0.2", 7, options).unwrap();
    assert_eq!(reply.end, TcpEnd::Complete);
    assert!(reply.data == send);
    assert_eq!(reply.local.port, 32_768);
    net.run(30);
    assert_eq!((net.hosts[0].connection_count(), net.hosts[1].connection_count()), (0, 0));
    assert_eq!((net.hosts[0].next_timeout(), net.hosts[1].next_timeout()), (None, None));
}

#[test]
fn tcp_survives_loss() {
    let mut net = with_server();
    net.lose = 10;
    let send: Vec<u8> = (0..50_000u32).map(|i| (i % 253) as u8).collect();
    let options = TcpOptions {
        send: send.clone(),
        until: ReadUntil::Octets(50_000),
        timeout: Duration::from_secs(120),
        ..TcpOptions::default()
    };
    let reply = tcp(&mut net, "10.0.0.2", 7, options).unwrap();
    assert!(reply.end == TcpEnd::Complete && reply.data == send);
    net.run(200);
    assert_eq!((net.hosts[0].connection_count(), net.hosts[1].connection_count()), (0, 0));
}

#[test]
fn tcp_discard_reads_and_says_nothing() {
    let mut net = with_server();
    let options = TcpOptions { send: vec![1; 200_000], ..TcpOptions::default() };
    let reply = tcp(&mut net, "10.0.0.2", 9, options).unwrap();
    assert_eq!((reply.data.len(), reply.end), (0, TcpEnd::TimedOut));
}

#[test]
fn more_than_the_limit_is_not_read() {
    let mut net = with_server();
    let options = TcpOptions {
        send: vec![1; 1000],
        until: ReadUntil::Octets(1000),
        limit: 100,
        ..TcpOptions::default()
    };
    let reply = tcp(&mut net, "10.0.0.2", 7, options).unwrap();
    assert_eq!((reply.data.len(), reply.end), (100, TcpEnd::TooMuch));
}

#[test]
fn http_says_who_it_is_and_whom_it_sees() {
    let mut net = with_server();
    let server = Endpoint { addr: addr("10.0.0.2"), port: 80 };
    let options = TcpOptions { source_port: Some(40_001), ..TcpOptions::default() };
    let result =
        net.complete(0, |h, now, out| h.start_http_get(server, "web", "/", options, now, out));
    let OperationResult::Http(Ok(reply)) = result else { panic!("{result:?}") };
    assert_eq!(reply.response.status, 200);
    assert_eq!(
        String::from_utf8(reply.response.body).unwrap(),
        "pod banking/web on 10.0.0.2 sees client 10.0.0.1:40001\n"
    );
}

#[test]
fn http_from_a_server_that_speaks_something_else() {
    let mut net = with_server();
    let server = Endpoint { addr: addr("10.0.0.2"), port: 7 };
    let options = TcpOptions { timeout: Duration::from_secs(2), ..TcpOptions::default() };
    let result =
        net.complete(0, |h, now, out| h.start_http_get(server, "web", "/", options, now, out));
    assert_eq!(result, OperationResult::Http(Err(Failure::Timeout)));
}

#[test]
fn dns_over_udp_and_tcp() {
    let mut net = with_server();
    for tcp in [false, true] {
        let reply = dns(
            &mut net,
            "web.banking.svc.cluster.local",
            DnsOptions { tcp, ..DnsOptions::default() },
        )
        .unwrap();
        assert_eq!(reply.answer.addresses, [addr("10.96.0.57")]);
        assert_eq!(reply.tcp, tcp);
        let none =
            dns(&mut net, "nobody.local", DnsOptions { tcp, ..DnsOptions::default() }).unwrap();
        assert_eq!(none.answer.code, ResponseCode::NxDomain);
    }
    let options = DnsOptions { record: RecordType::Aaaa, ..DnsOptions::default() };
    let v6 = dns(&mut net, "web.banking.svc.cluster.local", options).unwrap();
    assert_eq!((v6.answer.code, v6.answer.addresses.len()), (ResponseCode::NoError, 0));
}

#[test]
fn a_truncated_dns_answer_is_asked_again_over_tcp() {
    let mut net = with_server();
    let reply = dns(&mut net, "many", DnsOptions::default()).unwrap();
    assert_eq!((reply.tcp, reply.answer.addresses.len()), (true, 40));
}

#[test]
fn dns_without_a_server() {
    let mut net = pair();
    let refused = dns(&mut net, "a.b", DnsOptions::default());
    assert_eq!(refused, Err(Failure::Refused { from: addr("10.0.0.2") }));
    let id = net.start(0, |h, now, out| h.start_dns_query("a.b", DnsOptions::default(), now, out));
    let result = net.hosts[0].take_result(id);
    assert_eq!(
        result,
        Some(OperationResult::Dns(Err(Failure::Invalid("the host has no resolver"))))
    );
    assert!(dns(&mut net, "a..b", DnsOptions::default()).is_err());
}

#[test]
fn udp_echo_and_discard() {
    let mut net = with_server();
    let reply = udp(&mut net, "10.0.0.2", 7, b"hello").unwrap();
    assert_eq!((reply.data, reply.local.port), (b"hello".to_vec(), 32_768));
    assert_eq!(udp(&mut net, "10.0.0.2", 9, b"hello"), Err(Failure::Timeout));
}

#[test]
fn listen_all_echoes_on_every_port() {
    let mut b = config("b", 2, "10.0.0.2/24", "");
    b.listen_all = true;
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), b);
    let options =
        TcpOptions { send: b"x".to_vec(), until: ReadUntil::Octets(1), ..TcpOptions::default() };
    assert_eq!(tcp(&mut net, "10.0.0.2", 12_345, options).unwrap().data, b"x");
    assert_eq!(udp(&mut net, "10.0.0.2", 54_321, b"y").unwrap().data, b"y");
}

#[test]
fn a_passive_host_answers_arp_only_and_a_silent_one_nothing() {
    let mut net = pair();
    net.hosts[1].set_mode(HostMode::Passive);
    let report = ping(
        &mut net,
        "10.0.0.2",
        PingOptions { timeout: Duration::from_secs(1), ..PingOptions::default() },
    );
    assert_eq!((report.received(), report.errors()), (0, 0));
    assert_eq!(net.log.len(), 3, "request, ARP reply, echo request");

    let mut net = pair_v6();
    net.hosts[1].set_mode(HostMode::Passive);
    ping(
        &mut net,
        "fd00::2",
        PingOptions { timeout: Duration::from_secs(1), ..PingOptions::default() },
    );
    assert_eq!(net.log.len(), 3);

    let mut net = pair();
    net.hosts[1].set_mode(HostMode::Silent);
    let report = ping(&mut net, "10.0.0.2", PingOptions::default());
    assert_eq!(
        ping_output::render(&report),
        "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\
         From 10.0.0.1 icmp_seq=1 Destination Host Unreachable\n\
         \n\
         --- 10.0.0.2 ping statistics ---\n\
         1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n"
    );
    assert_eq!(net.log.len(), 3, "three ARP requests");
    assert_eq!(net.now, Time::from_secs(3));
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let mut net = pair();
    let report = ping(&mut net, "192.0.2.1", PingOptions::default());
    assert_eq!(ping_output::render(&report), "ping: connect: Network is unreachable\n");
    let no_route = Err(Failure::NoRoute(hosts::RouteError::NetworkUnreachable));
    assert_eq!(tcp(&mut net, "192.0.2.1", 80, TcpOptions::default()), no_route);
    assert_eq!(
        tcp(
            &mut net,
            "10.0.0.2",
            80,
            TcpOptions { source: Some(addr("10.9.9.9")), ..TcpOptions::default() }
        ),
        Err(Failure::Invalid("the source is not an address of this host"))
    );
    assert!(tcp(&mut net, "10.0.0.2", 0, TcpOptions::default()).is_err());
    assert!(udp(&mut net, "255.255.255.255", 1, b"").is_err());
    assert!(udp(&mut net, "127.0.0.1", 1, b"").is_err());
    assert!(udp(&mut net, "10.0.0.2", 1, &[0; 65_530]).is_err());
    let long = PingOptions { size: 1473, dont_fragment: true, ..PingOptions::default() };
    let text = ping_output::render(&ping(&mut net, "10.0.0.2", long));
    assert!(text.contains("ping: sendmsg: message too long, mtu=1500\n"), "{text}");
    assert!(
        text.contains("1 packets transmitted, 0 received, +1 errors, 100% packet loss"),
        "{text}"
    );
    assert!(net.log.is_empty(), "nothing was sent");
}

#[test]
fn a_floating_address_moves() {
    let mut net = Net::default();
    let (a, b, c) = (
        net.add(config("a", 1, "10.0.0.1/24", "")),
        net.add(config("b", 2, "10.0.0.2/24", "")),
        net.add(config("c", 3, "10.0.0.3/24", "")),
    );
    net.segment(&[(a, 0), (b, 0), (c, 0)]);
    let vip = addr("10.0.0.100");
    let known = |net: &Net| {
        net.hosts[0].neighbors().find(|((_, addr), _)| *addr == vip).and_then(|(_, mac)| mac)
    };
    let move_to = |net: &mut Net, host: usize| {
        net.start(host, |h, now, out| {
            h.add_address(0, vip, 24, out);
            // Only the frames are wanted here.
            h.start_udp(vip, 9, Vec::new(), UdpOptions::default(), now, &mut Vec::new())
        });
        net.run(1);
    };
    move_to(&mut net, b);
    assert_eq!(known(&net), None, "an announcement creates no entry");
    assert_eq!(ping(&mut net, "10.0.0.100", PingOptions::default()).received(), 1);
    assert_eq!(known(&net), Some(mac(2)));
    net.hosts[b].remove_address(0, vip);
    move_to(&mut net, c);
    assert_eq!(known(&net), Some(mac(3)), "but updates one");
    assert_eq!(ping(&mut net, "10.0.0.100", PingOptions::default()).received(), 1);
    assert_eq!(net.hosts[b].counters().dropped.get(&HostDrop::Martian), None);
}

#[test]
fn two_runs_are_the_same_octet_for_octet() {
    let run = || {
        let mut net = with_server();
        ping(&mut net, "10.0.0.2", PingOptions { count: 2, ..PingOptions::default() });
        let options = TcpOptions {
            send: vec![7; 5000],
            until: ReadUntil::Octets(5000),
            ..TcpOptions::default()
        };
        tcp(&mut net, "10.0.0.2", 7, options).unwrap();
        dns(&mut net, "many", DnsOptions::default()).unwrap();
        net.run(60);
        net.log
    };
    assert!(run() == run());
}

#[test]
fn a_port_that_talks_answers_http_in_http_and_echoes_the_rest() {
    let mut b = config("b", 2, "10.0.0.2/24", "");
    for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp] {
        service(&mut b, protocol, 9100, ServiceKind::Talk { identity: "pod x/y".to_owned() });
    }
    let mut net = Net::pair(config("a", 1, "10.0.0.1/24", ""), b);
    let page = net.complete(0, |h, now, out| {
        let server = Endpoint { addr: addr("10.0.0.2"), port: 9100 };
        h.start_http_get(server, "b", "/", TcpOptions::default(), now, out)
    });
    let OperationResult::Http(Ok(page)) = page else { panic!("{page:?}") };
    let body = String::from_utf8(page.response.body).unwrap();
    let client = page.local;
    assert_eq!(body, format!("pod x/y on 10.0.0.2 sees client {client}\n"));
    let mut echoed = |data: &[u8]| {
        let until = ReadUntil::Octets(data.len());
        let options = TcpOptions { send: data.to_vec(), until, ..TcpOptions::default() };
        let reply = tcp(&mut net, "10.0.0.2", 9100, options).unwrap();
        assert_eq!((reply.data.as_slice(), reply.end), (data, TcpEnd::Complete));
    };
    echoed(b"hello there");
    echoed(b"GETTING / HTTP/1.1\r\n\r\n");
    echoed(&vec![b'x'; 200_000]);
    assert_eq!(udp(&mut net, "10.0.0.2", 9100, b"GET / HTTP/1.1").unwrap().data, b"GET / HTTP/1.1");
    // Who neither speaks on nor goes away is waited for.
    let options = TcpOptions {
        send: b"GET".to_vec(),
        until: ReadUntil::Octets(3),
        timeout: Duration::from_secs(1),
        ..TcpOptions::default()
    };
    assert_eq!(tcp(&mut net, "10.0.0.2", 9100, options).unwrap().end, TcpEnd::TimedOut);
}
