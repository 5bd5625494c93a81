//! Tests across modules. `etherparse` is the independent parser and checksum oracle; expected octets are
//! written by hand or rebuilt from scratch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod answers;
mod checksum;
mod cut;
mod describe;
mod hostile;
mod parse;
mod plain;
mod rewrite;

use crate::{Addr, Frame, FrameBuilder, Headers, Mac};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

pub const POD: Mac = Mac([0x04, 0x50, 0x56, 0, 0, 1]);
pub const GATEWAY: Mac = Mac([0x02, 0x50, 0x56, 0, 0, 2]);

pub fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub fn parse(frame: &Frame) -> Headers {
    crate::parse(&frame.bytes).unwrap()
}

/// Hexadecimal digits, white space ignored.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// Whether etherparse finds every checksum of the frame right, and lengths that fit.
#[track_caller]
pub fn assert_checksums(bytes: &[u8]) {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let (src, dst) = (header.source, header.destination);
            match packet.transport {
                Some(TransportSlice::Tcp(t)) => {
                    assert_eq!(t.checksum(), t.calc_checksum_ipv4(src, dst).unwrap());
                }
                Some(TransportSlice::Udp(u)) => {
                    let right = u.to_header().calc_checksum_ipv4_raw(src, dst, u.payload());
                    assert!(u.checksum() == 0 || u.checksum() == right.unwrap());
                }
                Some(TransportSlice::Icmpv4(i)) => {
                    assert_eq!(i.checksum(), i.icmp_type().calc_checksum(i.payload()));
                }
                _ => {}
            }
        }
        NetSlice::Ipv6(ip) => {
            let (src, dst) = (ip.header().source(), ip.header().destination());
            match packet.transport {
                Some(TransportSlice::Tcp(t)) => {
                    assert_eq!(t.checksum(), t.calc_checksum_ipv6(src, dst).unwrap());
                }
                Some(TransportSlice::Udp(u)) => {
                    let right = u.to_header().calc_checksum_ipv6_raw(src, dst, u.payload());
                    assert_eq!(u.checksum(), right.unwrap());
                }
                Some(TransportSlice::Icmpv6(i)) => assert!(i.is_checksum_valid(src, dst)),
                _ => {}
            }
        }
        NetSlice::Arp(_) => {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    UdpWithoutChecksum,
    EchoRequest,
    EchoReply,
    Other,
}

/// What a packet of a flow is made of; two of them that differ in rewritable fields are the input and the
/// expected output of a rewrite.
#[derive(Clone, Debug)]
pub struct Packet {
    pub macs: (Mac, Mac),
    pub vlan: Option<u16>,
    pub src: Addr,
    pub dst: Addr,
    pub ports: (u16, u16),
    pub ttl: u8,
    pub id: u16,
    pub kind: Kind,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn builder(&self) -> FrameBuilder {
        let (a, b) = self.ports;
        let builder = FrameBuilder::new(self.src, self.dst)
            .macs(self.macs.0, self.macs.1)
            .vlan(self.vlan)
            .ttl(self.ttl)
            .traffic_class(self.flags)
            .id(self.id)
            .options(&self.options)
            .payload(&self.payload);
        match self.kind {
            Kind::Tcp => builder.tcp(a, b, self.flags).seq(0xffff_fff0).tcp_options(&self.options),
            Kind::Udp => builder.udp(a, b),
            Kind::UdpWithoutChecksum if self.src.is_v4() => builder.udp(a, b).no_udp_checksum(),
            Kind::UdpWithoutChecksum => builder.udp(a, b),
            Kind::EchoRequest => builder.echo_request(a, 7),
            Kind::EchoReply => builder.echo_reply(a, 7),
            Kind::Other => builder.protocol(47),
        }
    }

    pub fn frame(&self) -> Frame {
        self.builder().build()
    }

    /// The packet as `to` would have it, with the TTL `decrement` lower.
    pub fn rewritten(&self, to: &Packet, decrement: u8) -> Packet {
        Packet {
            macs: to.macs,
            src: to.src,
            dst: to.dst,
            ports: to.ports,
            ttl: self.ttl - decrement,
            ..self.clone()
        }
    }
}

/// Edits the headers to what `to` has.
pub fn edit(headers: &Headers, to: &Packet, decrement: u8) -> Headers {
    let mut after = *headers;
    (after.src_mac, after.dst_mac) = to.macs;
    let ip = after.ip_mut().unwrap();
    (ip.src, ip.dst) = (to.src, to.dst);
    ip.ttl -= decrement;
    // The identifier of either ICMP kind is the first one.
    let (a, b) = to.ports;
    let icmp = matches!(ip.transport, crate::Transport::Icmp(_));
    ip.set_ports(a, if icmp { a } else { b });
    after
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<u64>().prop_map(|v| Mac::from_u64(v & 0xfeff_ffff_ffff))
}

fn address(v4: bool) -> impl Strategy<Value = Addr> {
    any::<u128>().prop_map(move |v| {
        let addr = Addr(v | 1 << 127);
        if v4 { Addr::v4(v as u32) } else { addr }
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Tcp),
        3 => Just(Kind::Udp),
        1 => Just(Kind::UdpWithoutChecksum),
        1 => Just(Kind::EchoRequest),
        1 => Just(Kind::EchoReply),
        1 => Just(Kind::Other),
    ]
}

/// NOPs and an end: legal as IPv4 and TCP options; as IPv6 options, `01 00` is an empty PadN.
fn options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(vec![]), 1 => Just(vec![1, 0]), 1 => Just([1, 0].repeat(15))]
}

pub fn packet_of(v4: bool) -> impl Strategy<Value = Packet> {
    let link = (mac(), mac(), prop::option::weighted(0.2, 0..4096u16));
    let network = (address(v4), address(v4), 2..=255u8, any::<u16>(), options());
    let upper =
        (kind(), any::<(u16, u16)>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..200));
    (link, network, upper).prop_map(
        |((from, to, vlan), (src, dst, ttl, id, options), (kind, ports, flags, payload))| Packet {
            macs: (from, to),
            vlan,
            src,
            dst,
            ports,
            ttl,
            id,
            kind,
            flags,
            options,
            payload,
        },
    )
}

/// Two packets of one family.
pub fn pair() -> impl Strategy<Value = (Packet, Packet)> {
    any::<bool>().prop_flat_map(|v4| (packet_of(v4), packet_of(v4)))
}

pub fn packet() -> impl Strategy<Value = Packet> {
    any::<bool>().prop_flat_map(packet_of)
}
