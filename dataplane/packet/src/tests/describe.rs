//! Descriptions, word for word.

use super::{GATEWAY, POD, addr, parse};
use crate::{
    Fragment, Frame, FrameBuilder, IcmpErrorKind, arp_reply, arp_request, gratuitous_arp,
    icmp_error, neighbor_advertisement, neighbor_solicitation, tcp_flags,
};

fn line(frame: &Frame) -> String {
    crate::describe(&parse(frame))
}

fn between(src: &str, dst: &str) -> FrameBuilder {
    FrameBuilder::new(addr(src), addr(dst)).macs(POD, GATEWAY)
}

#[test]
fn udp_and_tcp() {
    let udp = between("10.244.0.18", "10.96.0.10").udp(40000, 53).payload(&[0; 32]);
    assert_eq!(
        line(&udp.clone().build()),
        "10.244.0.18.40000 > 10.96.0.10.53: UDP, length 32, ttl 64"
    );
    assert_eq!(
        line(&udp.vlan(Some(7)).build()),
        "vlan 7, 10.244.0.18.40000 > 10.96.0.10.53: UDP, length 32, ttl 64"
    );
    let tcp = between("fd00::1", "fd00::2").seq(7).window(500);
    assert_eq!(
        line(&tcp.clone().tcp(40000, 80, tcp_flags::SYN).build()),
        "fd00::1.40000 > fd00::2.80: Flags [S], seq 7, win 500, length 0, ttl 64"
    );
    assert_eq!(
        line(&tcp.clone().tcp(80, 40000, tcp_flags::SYN).ack(8).payload(b"hi").build()),
        "fd00::1.80 > fd00::2.40000: Flags [S.], seq 7, ack 8, win 500, length 2, ttl 64"
    );
    assert!(line(&tcp.clone().tcp(1, 2, 0xff).build()).contains("Flags [FSRP.UEW],"));
    assert!(line(&tcp.tcp(1, 2, 0).build()).contains("Flags [none],"));
}

#[test]
fn arp() {
    let (a, b) = (addr("10.244.0.2"), addr("10.244.0.1"));
    let request = arp_request(POD, a, b);
    assert_eq!(line(&request), "ARP, who-has 10.244.0.1 tell 10.244.0.2");
    let reply = arp_reply(&parse(&request), GATEWAY).unwrap();
    assert_eq!(line(&reply), "ARP, 10.244.0.1 is-at 02:50:56:00:00:02");
    assert_eq!(line(&gratuitous_arp(POD, a)), "ARP, announce 10.244.0.2 is-at 04:50:56:00:00:01");
}

#[test]
fn icmp() {
    let ping = between("10.244.0.2", "192.168.10.10").echo_request(1, 2).payload(&[0; 56]).build();
    assert_eq!(
        line(&ping),
        "10.244.0.2 > 192.168.10.10: ICMP echo request, id 1, seq 2, length 64, ttl 64"
    );
    let error = |frame: &Frame, kind, source| {
        line(&icmp_error(frame, &parse(frame), kind, addr(source)).unwrap())
    };
    assert_eq!(
        error(&ping, IcmpErrorKind::HostUnreachable, "10.244.0.1"),
        "10.244.0.1 > 10.244.0.2: ICMP host unreachable (10.244.0.2 > 192.168.10.10 ICMP)"
    );
    let six = between("fd00::1", "fd00::2").udp(1, 53).build();
    let mtu = IcmpErrorKind::FragmentationNeeded { mtu: 1280 };
    assert_eq!(
        error(&six, mtu, "fd00::ff"),
        "fd00::ff > fd00::1: ICMP6 packet too big (fd00::1.1 > fd00::2.53 UDP)"
    );
    assert_eq!(
        error(&six, IcmpErrorKind::NetUnreachable, "fd00::ff"),
        "fd00::ff > fd00::1: ICMP6 no route (fd00::1.1 > fd00::2.53 UDP)"
    );
    let odd = between("10.0.0.1", "10.0.0.2").icmp(42, 7, [0; 4]).build();
    assert_eq!(line(&odd), "10.0.0.1 > 10.0.0.2: ICMP type 42 code 7, length 8, ttl 64");
    let without_quote = between("10.0.0.1", "10.0.0.2").icmp(3, 6, [0; 4]).build();
    assert_eq!(line(&without_quote), "10.0.0.1 > 10.0.0.2: ICMP unreachable, length 8, ttl 64");
}

#[test]
fn neighbor_discovery() {
    let ask = neighbor_solicitation(POD, addr("fd00::1"), addr("fd00::2"));
    assert_eq!(
        line(&ask),
        "fd00::1 > ff02::1:ff00:2: ICMP6 neighbor solicitation, who has fd00::2, ttl 255"
    );
    let tell = neighbor_advertisement(&parse(&ask), GATEWAY, false).unwrap();
    assert_eq!(
        line(&tell),
        "fd00::2 > fd00::1: ICMP6 neighbor advertisement, fd00::2 is-at 02:50:56:00:00:02, ttl 255"
    );
}

#[test]
fn fragments_and_others() {
    let udp = between("10.0.0.1", "10.0.0.2").udp(1, 2);
    let first = Fragment { id: 9, offset: 0, more: true };
    assert_eq!(
        line(&udp.clone().fragment(first).payload(&[0; 16]).build()),
        "10.0.0.1.1 > 10.0.0.2.2: UDP, length 16, fragment id 9 offset 0+, ttl 64"
    );
    let last = Fragment { id: 9, offset: 24, more: false };
    assert_eq!(
        line(&udp.fragment(last).payload(&[0; 5]).build()),
        "10.0.0.1 > 10.0.0.2: UDP, length 5, fragment id 9 offset 24, ttl 64"
    );
    let gre = between("10.0.0.1", "10.0.0.2").protocol(47).payload(&[0; 5]).build();
    assert_eq!(line(&gre), "10.0.0.1 > 10.0.0.2: protocol 47, length 5, ttl 64");
    let mut lldp = gre.bytes;
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(line(&Frame::new(lldp)), "04:50:56:00:00:01 > 02:50:56:00:00:02, ethertype 0x88cc");
}
