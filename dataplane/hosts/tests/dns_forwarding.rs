//! A name server that passes on what is not of its zone: CoreDNS of a cluster and the servers behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{Net, addr, config};
use hosts::dns_forward::MAX_FORWARDED;
use hosts::{
    DnsOptions, DnsReply, Failure, HostConfig, OperationResult, ResponseCode, ServiceConfig,
    ServiceKind, ServiceProtocol, Zone,
};
use packet::{Addr, Time};

/// A name server at 10.0.0.LAST.
fn server(last: u8, zone: Zone) -> HostConfig {
    let mut config = config("server", last, &format!("10.0.0.{last}/24"), "");
    let zone = Arc::new(zone);
    for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp] {
        let kind = ServiceKind::Dns(zone.clone());
        config.services.push(ServiceConfig { protocol, port: 53, kind });
    }
    config
}

/// Client .1, the cluster's server .2, which asks .4 (if `first` is there) and then .3.
fn lab(first: Option<HostConfig>) -> Net {
    let mut cluster = Zone::new(5);
    cluster.add("web.a.svc.cluster.local", addr("10.96.0.57"));
    cluster.alias("nsx.a.svc.cluster.local", "nsx.lab.local");
    cluster.alias("gone.a.svc.cluster.local", "vcenter.lab.local");
    cluster.alias("shop.a.svc.cluster.local", "web.a.svc.cluster.local");
    cluster.forward("cluster.local", vec![addr("10.0.0.4"), addr("10.0.0.3")]);
    let mut outside = Zone::new(5);
    outside.add("nsx.lab.local", addr("192.168.10.28"));
    let mut net = Net::default();
    net.add(config("client", 1, "10.0.0.1/24", ""));
    net.add(server(2, cluster));
    net.add(server(3, outside));
    let mut ports = vec![(0, 0), (1, 0), (2, 0)];
    if let Some(first) = first {
        ports.push((net.add(first), 0));
    }
    net.segment(&ports);
    net
}

fn options(timeout: u64) -> DnsOptions {
    DnsOptions {
        server: Some(addr("10.0.0.2")),
        timeout: Duration::from_secs(timeout),
        attempts: 1,
        ..DnsOptions::default()
    }
}

fn ask(net: &mut Net, name: &str, options: DnsOptions) -> Result<DnsReply, Failure> {
    match net.complete(0, |h, now, out| h.start_dns_query(name, options, now, out)) {
        OperationResult::Dns(result) => result,
        other => panic!("{other:?}"),
    }
}

fn answered(net: &mut Net, name: &str, options: DnsOptions) -> (ResponseCode, Vec<Addr>) {
    let reply = ask(net, name, options).unwrap();
    assert_eq!(reply.server.addr, addr("10.0.0.2"));
    (reply.answer.code, reply.answer.addresses)
}

#[test]
fn a_name_outside_is_asked_for_and_one_inside_is_not() {
    let mut net = lab(None);
    let nsx = answered(&mut net, "nsx.lab.local", options(5));
    assert_eq!(nsx, (ResponseCode::NoError, vec![addr("192.168.10.28")]));
    // .4 is not there: 2 s for its answer, then .3 at once.
    assert_eq!(net.now, Time::from_secs(2));
    let none = answered(&mut net, "vcenter.lab.local", options(5));
    assert_eq!(none, (ResponseCode::NxDomain, vec![]), "what .3 says");
    let before = net.log.len();
    let web = answered(&mut net, "web.a.svc.cluster.local", options(5));
    assert_eq!(web, (ResponseCode::NoError, vec![addr("10.96.0.57")]));
    let no = answered(&mut net, "db.a.svc.cluster.local", options(5));
    assert_eq!(no, (ResponseCode::NxDomain, vec![]));
    assert_eq!(net.log.len(), before + 4, "two questions, two answers");
}

#[test]
fn an_alias_is_answered_with_what_it_stands_for() {
    let mut net = lab(None);
    let nsx = answered(&mut net, "nsx.a.svc.cluster.local", options(5));
    assert_eq!(nsx, (ResponseCode::NoError, vec![addr("192.168.10.28")]));
    assert_eq!(net.now, Time::from_secs(2), ".4 was asked first");
    let gone = answered(&mut net, "gone.a.svc.cluster.local", options(5));
    assert_eq!(gone, (ResponseCode::NxDomain, vec![]), "what .3 says");
    let before = net.log.len();
    let shop = answered(&mut net, "shop.a.svc.cluster.local", options(5));
    assert_eq!(shop, (ResponseCode::NoError, vec![addr("10.96.0.57")]));
    assert_eq!(net.log.len(), before + 2, "nobody else is asked");
    // Over TCP nothing is passed on: the alias, and no address.
    let tcp = DnsOptions { tcp: true, ..options(5) };
    let alias = answered(&mut net, "nsx.a.svc.cluster.local", tcp);
    assert_eq!(alias, (ResponseCode::NoError, vec![]));
}

#[test]
fn the_first_server_that_answers_counts() {
    let mut zone = Zone::new(5);
    zone.add("nsx.lab.local", addr("10.9.9.9"));
    let mut net = lab(Some(server(4, zone)));
    assert_eq!(answered(&mut net, "nsx.lab.local", options(5)).1, [addr("10.9.9.9")]);
    assert_eq!(net.now, Time::ZERO);
    assert!(net.hosts[1].next_timeout().is_none(), "nothing is left behind");
    // A host without a name server there says so, which ends nothing: .3 is asked in its turn.
    let mut net = lab(Some(config("closed", 4, "10.0.0.4/24", "")));
    assert_eq!(answered(&mut net, "nsx.lab.local", options(5)).1, [addr("192.168.10.28")]);
    assert_eq!(net.now, Time::from_secs(2));
}

#[test]
fn without_an_answer_there_is_silence_and_over_tcp_a_refusal() {
    let mut silent = config("silent", 4, "10.0.0.4/24", "");
    silent.answer_closed = false;
    let mut net = lab(Some(silent));
    net.hosts[2].set_mode(hosts::HostMode::Silent);
    assert_eq!(ask(&mut net, "nsx.lab.local", options(6)), Err(Failure::Timeout));
    assert_eq!(net.now, Time::from_secs(6));
    assert!(net.hosts[1].next_timeout().is_none(), "nothing is left behind");
    let tcp = DnsOptions { tcp: true, ..options(5) };
    assert_eq!(answered(&mut net, "nsx.lab.local", tcp).0, ResponseCode::Refused);
}

#[test]
fn questions_under_way_are_bounded_and_each_client_gets_its_own_answer() {
    let mut net = lab(None);
    net.hosts[2].set_mode(hosts::HostMode::Silent);
    let ids: Vec<_> = (0..=MAX_FORWARDED)
        .map(|_| {
            net.start(0, |h, now, out| h.start_dns_query("nsx.lab.local", options(1), now, out))
        })
        .collect();
    net.run(2);
    let results: Vec<_> = ids.into_iter().map(|id| net.hosts[0].take_result(id).unwrap()).collect();
    let refused = |result: &OperationResult| matches!(result, OperationResult::Dns(Ok(r)) if r.answer.code == ResponseCode::Refused);
    assert_eq!(results.iter().filter(|r| refused(r)).count(), 1);
    let late = OperationResult::Dns(Err(Failure::Timeout));
    assert_eq!(results.iter().filter(|r| **r == late).count(), MAX_FORWARDED);

    // Two names at once, under the same identification at two clients' ports.
    net.hosts[2].set_mode(hosts::HostMode::Active);
    net.run(10);
    let names = ["nsx.lab.local", "vcenter.lab.local"];
    let ids =
        names.map(|name| net.start(0, |h, now, out| h.start_dns_query(name, options(5), now, out)));
    net.run(5);
    let codes = ids.map(|id| match net.hosts[0].take_result(id).unwrap() {
        OperationResult::Dns(Ok(reply)) => reply.answer.code,
        other => panic!("{other:?}"),
    });
    assert_eq!(codes, [ResponseCode::NoError, ResponseCode::NxDomain]);
}

#[test]
fn what_is_no_answer_to_the_question_is_not_passed_on() {
    // .4 echoes: a question is no answer, though identification and question are right.
    let mut echo = config("echo", 4, "10.0.0.4/24", "");
    let kind = ServiceKind::Echo;
    echo.services.push(ServiceConfig { protocol: ServiceProtocol::Udp, port: 53, kind });
    let mut net = lab(Some(echo));
    assert_eq!(answered(&mut net, "nsx.lab.local", options(5)).1, [addr("192.168.10.28")]);
    assert_eq!(net.now, Time::from_secs(2));
    assert_eq!(net.hosts[1].counters().dropped[&hosts::HostDrop::Malformed], 1);
}
