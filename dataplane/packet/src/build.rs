//! Builds frames from nothing: for emulated hosts, for the frames that a gateway originates, and for
//! tests, which also need wrong ones.
//!
//! RFC 791, 8200, 9293, 768, 792 and 4443. A frame that was not asked to be wrong has right lengths and
//! checksums, and parses to the values it was built from.

use crate::checksum::{nonzero, transport_checksum, write_ipv4_header};
use crate::octets::{clamp16, put};
use crate::{
    Addr, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Fragment, Frame, Mac, protocol, tcp_flags,
};

/// IPv6 next header: fragment header.
const IPV6_FRAGMENT: u8 = 44;
/// IPv6 next header: destination options.
const IPV6_DESTINATION_OPTIONS: u8 = 60;

/// What is behind the network header.
#[derive(Clone, Copy, Debug)]
enum Upper {
    Tcp { src_port: u16, dst_port: u16, flags: u8 },
    Udp { src_port: u16, dst_port: u16 },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(u8),
}

/// A frame in the making. Made by [`FrameBuilder::new`]; every method sets one thing; the last call is
/// [`FrameBuilder::build`].
///
/// Defaults: zero MACs, no tag, TTL 64, "don't fragment" set, no transport header but protocol 59
/// ("no next header"), empty payload.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    dst_mac: Mac,
    src_mac: Mac,
    vlan: Option<u16>,
    src: Addr,
    dst: Addr,
    ttl: u8,
    traffic_class: u8,
    id: u16,
    dont_fragment: bool,
    fragment: Option<Fragment>,
    options: Vec<u8>,
    upper: Upper,
    seq: u32,
    ack: u32,
    window: u16,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
    udp_checksum: bool,
    wrong_ip_checksum: bool,
    wrong_transport_checksum: bool,
}

impl FrameBuilder {
    /// A packet from `src` to `dst`. The family is that of `src`; of a `dst` of the other family its
    /// low bits are taken.
    #[must_use]
    pub fn new(src: Addr, dst: Addr) -> FrameBuilder {
        FrameBuilder {
            dst_mac: Mac::ZERO,
            src_mac: Mac::ZERO,
            vlan: None,
            src,
            dst,
            ttl: 64,
            traffic_class: 0,
            id: 0,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            upper: Upper::Other(59),
            seq: 0,
            ack: 0,
            window: 0xffff,
            tcp_options: Vec::new(),
            payload: Vec::new(),
            udp_checksum: true,
            wrong_ip_checksum: false,
            wrong_transport_checksum: false,
        }
    }

    /// Sending and destination station.
    #[must_use]
    pub fn macs(mut self, src: Mac, dst: Mac) -> FrameBuilder {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// An 802.1Q tag with this VLAN identifier (its low 12 bits), or none.
    #[must_use]
    pub fn vlan(mut self, id: Option<u16>) -> FrameBuilder {
        self.vlan = id;
        self
    }

    /// TTL or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> FrameBuilder {
        self.ttl = ttl;
        self
    }

    /// DSCP and ECN octet.
    #[must_use]
    pub fn traffic_class(mut self, traffic_class: u8) -> FrameBuilder {
        self.traffic_class = traffic_class;
        self
    }

    /// IPv4 identification. IPv6 has one in fragments only.
    #[must_use]
    pub fn id(mut self, id: u16) -> FrameBuilder {
        self.id = id;
        self
    }

    /// IPv4 "don't fragment". Without effect on IPv6.
    #[must_use]
    pub fn dont_fragment(mut self, set: bool) -> FrameBuilder {
        self.dont_fragment = set;
        self
    }

    /// Makes the packet a fragment; the identification is the fragment's. With an offset, only the
    /// payload follows the network header. [`crate::fragment_ipv4`] makes all fragments of a packet.
    #[must_use]
    pub fn fragment(mut self, fragment: Fragment) -> FrameBuilder {
        self.fragment = Some(fragment);
        self.dont_fragment = false;
        self
    }

    /// IPv4 options, filled up with zeros to a multiple of 4 and cut after 40 octets; for IPv6, the
    /// options of a destination options header, filled up with padding and cut after 254.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> FrameBuilder {
        self.options = options.to_vec();
        self
    }

    /// A TCP segment with these [`tcp_flags`].
    #[must_use]
    pub fn tcp(mut self, src_port: u16, dst_port: u16, flags: u8) -> FrameBuilder {
        self.upper = Upper::Tcp { src_port, dst_port, flags };
        self
    }

    /// TCP sequence number.
    #[must_use]
    pub fn seq(mut self, seq: u32) -> FrameBuilder {
        self.seq = seq;
        self
    }

    /// TCP acknowledgment number; sets the ACK flag if [`FrameBuilder::tcp`] was called before.
    #[must_use]
    pub fn ack(mut self, ack: u32) -> FrameBuilder {
        self.ack = ack;
        if let Upper::Tcp { flags, .. } = &mut self.upper {
            *flags |= tcp_flags::ACK;
        }
        self
    }

    /// TCP window, unscaled.
    #[must_use]
    pub fn window(mut self, window: u16) -> FrameBuilder {
        self.window = window;
        self
    }

    /// TCP options, filled up with zeros to a multiple of 4 and cut after 40 octets.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> FrameBuilder {
        self.tcp_options = options.to_vec();
        self
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(mut self, src_port: u16, dst_port: u16) -> FrameBuilder {
        self.upper = Upper::Udp { src_port, dst_port };
        self
    }

    /// An echo request of the packet's family.
    #[must_use]
    pub fn echo_request(self, id: u16, seq: u16) -> FrameBuilder {
        let kind = if self.src.is_v4() { 8 } else { 128 };
        self.echo(kind, id, seq)
    }

    /// An echo reply of the packet's family.
    #[must_use]
    pub fn echo_reply(self, id: u16, seq: u16) -> FrameBuilder {
        let kind = if self.src.is_v4() { 0 } else { 129 };
        self.echo(kind, id, seq)
    }

    fn echo(self, kind: u8, id: u16, seq: u16) -> FrameBuilder {
        let ([i0, i1], [s0, s1]) = (id.to_be_bytes(), seq.to_be_bytes());
        self.icmp(kind, 0, [i0, i1, s0, s1])
    }

    /// Any ICMP or ICMPv6 message; `rest` are octets 4 to 7 of its header.
    #[must_use]
    pub fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> FrameBuilder {
        self.upper = Upper::Icmp { kind, code, rest };
        self
    }

    /// Any protocol; the payload is all that follows the network header, and no checksum is computed.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> FrameBuilder {
        self.upper = Upper::Other(protocol);
        self
    }

    /// The octets behind the transport header. Lengths stop at what their 16-bit fields can say.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> FrameBuilder {
        self.payload = payload.to_vec();
        self
    }

    /// Sends a zero UDP checksum: "none", legal over IPv4.
    #[must_use]
    pub fn no_udp_checksum(mut self) -> FrameBuilder {
        self.udp_checksum = false;
        self
    }

    /// Makes the IPv4 header checksum wrong.
    #[must_use]
    pub fn bad_ip_checksum(mut self) -> FrameBuilder {
        self.wrong_ip_checksum = true;
        self
    }

    /// Makes the TCP, UDP or ICMP checksum wrong.
    #[must_use]
    pub fn bad_transport_checksum(mut self) -> FrameBuilder {
        self.wrong_transport_checksum = true;
        self
    }

    /// The frame. It is not padded to the 60 octets of an Ethernet wire.
    #[must_use]
    pub fn build(self) -> Frame {
        let segment = self.segment();
        let mut bytes = Vec::with_capacity(18 + 60 + segment.len());
        bytes.extend_from_slice(&self.dst_mac.0);
        bytes.extend_from_slice(&self.src_mac.0);
        if let Some(id) = self.vlan {
            bytes.extend_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
            bytes.extend_from_slice(&(id & 0x0fff).to_be_bytes());
        }
        if self.src.is_v4() {
            bytes.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            self.ipv4_header(&mut bytes, segment.len());
        } else {
            bytes.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            self.ipv6_header(&mut bytes, segment.len());
        }
        bytes.extend_from_slice(&segment);
        Frame::new(bytes)
    }

    fn protocol_number(&self) -> u8 {
        match self.upper {
            Upper::Tcp { .. } => protocol::TCP,
            Upper::Udp { .. } => protocol::UDP,
            Upper::Icmp { .. } if self.src.is_v4() => protocol::ICMP,
            Upper::Icmp { .. } => protocol::ICMPV6,
            Upper::Other(protocol) => protocol,
        }
    }

    /// Transport header and payload.
    fn segment(&self) -> Vec<u8> {
        if self.fragment.is_some_and(|f| f.offset != 0) {
            return self.payload.clone();
        }
        let mut segment = Vec::with_capacity(60 + self.payload.len());
        let field = match self.upper {
            Upper::Tcp { src_port, dst_port, flags } => {
                let options = padded(&self.tcp_options, 40, 4);
                segment.extend_from_slice(&src_port.to_be_bytes());
                segment.extend_from_slice(&dst_port.to_be_bytes());
                segment.extend_from_slice(&self.seq.to_be_bytes());
                segment.extend_from_slice(&self.ack.to_be_bytes());
                // 20 to 60 octets, counted in fours in the upper half of the octet.
                segment.extend_from_slice(&[(20 + options.len() as u8) << 2, flags]);
                segment.extend_from_slice(&self.window.to_be_bytes());
                // Checksum and urgent pointer.
                segment.extend_from_slice(&[0; 4]);
                segment.extend_from_slice(&options);
                16
            }
            Upper::Udp { src_port, dst_port } => {
                segment.extend_from_slice(&src_port.to_be_bytes());
                segment.extend_from_slice(&dst_port.to_be_bytes());
                segment.extend_from_slice(&clamp16(8 + self.payload.len()).to_be_bytes());
                segment.extend_from_slice(&[0; 2]);
                6
            }
            Upper::Icmp { kind, code, rest } => {
                segment.extend_from_slice(&[kind, code, 0, 0]);
                segment.extend_from_slice(&rest);
                2
            }
            Upper::Other(_) => return self.payload.clone(),
        };
        segment.extend_from_slice(&self.payload);
        let is_udp = matches!(self.upper, Upper::Udp { .. });
        if !is_udp || self.udp_checksum {
            let mut value =
                transport_checksum(self.src, self.dst, self.protocol_number(), &segment);
            if self.wrong_transport_checksum {
                // Flipping a bit always changes the residue modulo 65535, the complement may not.
                value ^= 0x0100;
            }
            if is_udp {
                value = nonzero(value);
            }
            put(&mut segment, field, value.to_be_bytes());
        }
        segment
    }

    fn ipv4_header(&self, bytes: &mut Vec<u8>, segment_len: usize) {
        let l3 = bytes.len();
        let options = padded(&self.options, 40, 4);
        let header_len = 20 + options.len();
        let (id, mut flags_offset) = match self.fragment {
            None => (self.id, 0),
            Some(f) => (f.id as u16, f.offset >> 3 | if f.more { 0x2000 } else { 0 }),
        };
        if self.dont_fragment {
            flags_offset |= 0x4000;
        }
        // 5 to 15 words of 4 octets.
        bytes.extend_from_slice(&[0x40 | (header_len / 4) as u8, self.traffic_class]);
        bytes.extend_from_slice(&clamp16(header_len + segment_len).to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&flags_offset.to_be_bytes());
        bytes.extend_from_slice(&[self.ttl, self.protocol_number(), 0, 0]);
        bytes.extend_from_slice(&self.src.low32().to_be_bytes());
        bytes.extend_from_slice(&self.dst.low32().to_be_bytes());
        bytes.extend_from_slice(&options);
        write_ipv4_header(bytes, l3, header_len);
        if self.wrong_ip_checksum
            && let Some(octet) = bytes.get_mut(l3 + 10)
        {
            *octet ^= 0x01;
        }
    }

    fn ipv6_header(&self, bytes: &mut Vec<u8>, segment_len: usize) {
        let mut next = self.protocol_number();
        let mut extensions = Vec::new();
        // Built from the inside out: destination options before the fragment header apply at every
        // stop, so they go outside.
        if let Some(f) = self.fragment {
            let fields = f.offset & 0xfff8 | u16::from(f.more);
            extensions.extend_from_slice(&[next, 0]);
            extensions.extend_from_slice(&fields.to_be_bytes());
            extensions.extend_from_slice(&f.id.to_be_bytes());
            next = IPV6_FRAGMENT;
        }
        if !self.options.is_empty() {
            let mut header = vec![next, 0];
            header.extend(self.options.iter().take(254));
            // Pad1 is a zero octet (RFC 8200, 4.2).
            let mut header = padded(&header, 256, 8);
            // In units of 8 octets, not counting the first; at most 31.
            let length = (header.len() / 8 - 1) as u8;
            put(&mut header, 1, [length]);
            header.append(&mut extensions);
            extensions = header;
            next = IPV6_DESTINATION_OPTIONS;
        }
        let length = clamp16(extensions.len() + segment_len);
        let class = u32::from(self.traffic_class) << 20;
        bytes.extend_from_slice(&(0x6000_0000 | class).to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[next, self.ttl]);
        bytes.extend_from_slice(&self.src.0.to_be_bytes());
        bytes.extend_from_slice(&self.dst.0.to_be_bytes());
        bytes.extend_from_slice(&extensions);
    }
}

/// At most `most` of the octets, filled up with zeros to a multiple of `unit`.
fn padded(octets: &[u8], most: usize, unit: usize) -> Vec<u8> {
    let mut all: Vec<u8> = octets.iter().take(most).copied().collect();
    all.resize(all.len().next_multiple_of(unit), 0);
    all
}
