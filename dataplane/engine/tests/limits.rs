//! Full tables: who gives way, who stays, and that everything stays accounted for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::{DropReason, TimerState};
use fixture::*;
use packet::{Frame, FrameBuilder, tcp_flags::*};

fn syn(from: &str, own: packet::Mac, port: u16) -> Frame {
    FrameBuilder::new(ip(from), ip("192.0.2.10")).macs(own, GATEWAY).tcp(port, 443, SYN).build()
}

fn limited(all: usize, each: usize) -> Bench {
    let mut net = network();
    net.timers.max_sessions = all;
    net.timers.max_tenant_sessions = each;
    let mut b = Bench::new(net);
    b.introduce_ext();
    b
}

/// Opens a connection from pod/a all the way.
fn establish(b: &mut Bench, port: u16) {
    only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    let answer = FrameBuilder::new(ip("192.0.2.10"), ip("172.16.2.2"))
        .macs(mac(9), UPLINK)
        .tcp(443, port, SYN | ACK)
        .ack(1)
        .build();
    only(&b.send(EXT, answer), POD_A);
    let ack = FrameBuilder::new(ip("10.244.0.18"), ip("192.0.2.10"))
        .macs(mac(1), GATEWAY)
        .tcp(port, 443, ACK)
        .ack(1)
        .build();
    only(&b.send(POD_A, ack), EXT);
}

fn ports(b: &mut Bench) -> Vec<u16> {
    b.worker.sessions().iter().map(|s| s.initiating.src_port).collect()
}

#[test]
fn the_oldest_half_open_connection_gives_way() {
    let mut b = limited(3, 100);
    establish(&mut b, 1);
    for port in [2, 3, 4, 5] {
        only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    }
    assert_eq!(ports(&mut b), [1, 4, 5]);
    assert_eq!(b.worker.evicted(), 2);
    assert_eq!(b.worker.sessions()[0].progress.timer_state(), TimerState::TcpEstablished);
    // What was evicted left no NAT port behind: the same flow gets its own port again.
    assert_eq!(only(&b.send(POD_A, syn("10.244.0.18", mac(1), 2)), EXT).ip().unwrap().ports().0, 2);
}

#[test]
fn established_connections_never_give_way_to_a_new_one() {
    let mut b = limited(2, 100);
    establish(&mut b, 1);
    establish(&mut b, 2);
    assert!(b.send(POD_A, syn("10.244.0.18", mac(1), 3)).is_empty());
    assert_eq!(b.only_drop().1, DropReason::SessionTableFull);
    assert_eq!(ports(&mut b), [1, 2]);
    assert_eq!(b.worker.evicted(), 0);
}

#[test]
fn a_connection_that_is_ending_gives_way() {
    let mut b = limited(2, 100);
    establish(&mut b, 1);
    establish(&mut b, 2);
    let fin = FrameBuilder::new(ip("10.244.0.18"), ip("192.0.2.10"))
        .macs(mac(1), GATEWAY)
        .tcp(1, 443, FIN | ACK)
        .ack(1)
        .build();
    only(&b.send(POD_A, fin), EXT);
    only(&b.send(POD_A, syn("10.244.0.18", mac(1), 3)), EXT);
    assert_eq!(ports(&mut b), [2, 3]);
}

#[test]
fn a_tenant_that_floods_pays_itself() {
    let mut b = limited(100, 3);
    only(&b.send(POD_B, syn("10.244.0.34", mac(2), 900)), EXT);
    for port in 1..=50 {
        only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    }
    assert_eq!(ports(&mut b), [900, 48, 49, 50]);
    // With nothing of its own to give up it is refused, and the other tenant is not.
    let mut b = limited(100, 1);
    establish(&mut b, 1);
    assert!(b.send(POD_A, syn("10.244.0.18", mac(1), 2)).is_empty());
    assert_eq!(b.only_drop().1, DropReason::SessionShare);
    only(&b.send(POD_B, syn("10.244.0.34", mac(2), 3)), EXT);
}

#[test]
fn the_tenant_with_most_gives_way_when_the_table_is_full() {
    let mut b = limited(5, 100);
    only(&b.send(POD_B, syn("10.244.0.34", mac(2), 900)), EXT);
    for port in 1..=20 {
        only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    }
    assert_eq!(ports(&mut b), [900, 17, 18, 19, 20]);
}

#[test]
fn snat_ports_run_out_for_one_destination_only() {
    let mut b = limited(1_000_000, 1_000_000);
    // 64,512 ports from 1024 up, and those below that were free as they came: 65,535 in all.
    for port in 1..=u16::MAX {
        assert_eq!(b.send_quietly(POD_A, syn("10.244.0.18", mac(1), port)).len(), 1);
    }
    assert!(b.send(POD_B, syn("10.244.0.34", mac(2), 5)).is_empty());
    assert_eq!(b.only_drop().1, DropReason::NatPortExhausted);
    // Another destination has all ports of its own.
    b.send(EXT, packet::arp_request(mac(9), ip("192.0.2.11"), ip("192.0.2.1")));
    let other = FrameBuilder::new(ip("10.244.0.34"), ip("192.0.2.11"))
        .macs(mac(2), GATEWAY)
        .tcp(5, 443, SYN)
        .build();
    assert_eq!(only(&b.send(POD_B, other), EXT).ip().unwrap().ports().0, 5);
}

#[test]
fn a_large_table_is_listed_in_portions() {
    let mut b = limited(100, 100);
    for port in 1..=7 {
        only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    }
    // A slot that is used again does not bring its session to the front.
    for port in 20..=21 {
        only(&b.send(POD_A, syn("10.244.0.18", mac(1), port)), EXT);
    }
    let all = b.worker.sessions();
    let (mut portions, mut after) = (Vec::new(), 0);
    loop {
        let portion = b.worker.sessions_after(after, 4);
        assert!(portion.len() <= 4);
        let Some(last) = portion.last() else { break };
        after = last.id.serial;
        portions.extend(portion);
    }
    assert_eq!(portions, all);
    assert!(b.worker.sessions_after(0, 0).is_empty());
}

#[test]
fn neighbours_are_listed_while_they_are_asked_and_when_they_have_answered() {
    let mut b = Bench::new(network());
    b.send_quietly(POD_A, syn("10.244.0.18", mac(1), 1));
    b.send_quietly(POD_A, syn("10.244.0.18", mac(1), 2));
    let asked = b.worker.neighbors();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].address, asked[0].mac, asked[0].waiting), (ip("192.0.2.10"), None, 2));
    let mut b = Bench::new(network());
    b.introduce_ext();
    let known = b.worker.neighbors();
    assert_eq!((known.len(), known[0].mac, known[0].waiting), (1, Some(mac(9)), 0), "{known:?}");
}
