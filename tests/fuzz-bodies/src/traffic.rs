//! Frames from decisions: packets of hosts that exist, answers to what came out, errors about it, pieces, forgeries.

use std::collections::BTreeMap;

use engine::network::PortId;
use packet::{
    Addr, Frame, FrameBuilder, IcmpErrorKind, IcmpMessage, Mac, Transport, parse, tcp_flags::*,
};

use crate::input::Input;
use crate::lab::Station;
use crate::oracles::MARKER;
use crate::rig::Rig;

const SRC_PORTS: [u16; 6] = [4000, 4001, 53, 8080, 1, 65_535];
const DST_PORTS: [u16; 7] = [53, 8080, 54, 4000, 4001, 67, 33_434];
/// What a TCP sends; anything else comes as a random octet.
const FLAGS: [u8; 9] =
    [SYN, SYN | ACK, ACK, ACK | PSH, ACK, FIN | ACK, RST, RST | ACK, SYN | ECE | CWR];
const ERRORS: [IcmpErrorKind; 6] = [
    IcmpErrorKind::PortUnreachable,
    IcmpErrorKind::TimeExceeded,
    IcmpErrorKind::FragmentationNeeded { mtu: 1280 },
    IcmpErrorKind::HostUnreachable,
    IcmpErrorKind::AdminProhibited,
    IcmpErrorKind::ReassemblyTimeExceeded,
];

/// What datagrams in pieces are told apart by: sender, destination, protocol, ports, length.
type Datagram = (PortId, Addr, Kind, (u16, u16), usize);

/// Makes frames, with a number in each packet by which it is recognized when it leaves.
#[derive(Debug, Default)]
pub struct Traffic {
    serial: u32,
    /// Datagrams in pieces, each with four identifications of its own: two datagrams under one cannot be told apart, and behind
    /// a translation not even those of different senders (RFC 3022, 5.2). That is not what is looked for here.
    datagrams: BTreeMap<Datagram, u16>,
    /// The identification that was used last.
    last: u16,
}

/// What a flow is made of.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub from: &'static Station,
    pub to: Addr,
    pub kind: Kind,
    pub ports: (u16, u16),
}

/// Its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tcp,
    Udp,
    Echo,
    Gre,
}

impl Flow {
    /// A flow that an input chooses. `None` only if the lab is empty.
    pub fn choose(rig: &Rig, input: &mut Input<'_>) -> Option<Flow> {
        let from = rig.lab.stations.get(input.below(rig.lab.stations.len()))?;
        let to = input.pick(&rig.lab.targets)?;
        let kind =
            input.pick(&[Kind::Tcp, Kind::Udp, Kind::Echo, Kind::Udp, Kind::Tcp, Kind::Gre])?;
        let ports = (input.pick(&SRC_PORTS)?, input.pick(&DST_PORTS)?);
        Some(Flow { from, to, kind, ports })
    }

    fn source(&self) -> Addr {
        if self.to.is_v4() { self.from.v4 } else { self.from.v6 }
    }

    fn builder(&self) -> FrameBuilder {
        FrameBuilder::new(self.source(), self.to).macs(self.from.mac, first_hop(self.from, self.to))
    }

    fn transport(&self, frame: FrameBuilder, flags: u8) -> FrameBuilder {
        match self.kind {
            Kind::Tcp => with_flags(frame, self.ports, flags),
            Kind::Udp => frame.udp(self.ports.0, self.ports.1),
            Kind::Echo => frame.echo_request(self.ports.0, 1),
            Kind::Gre => frame.protocol(47),
        }
    }
}

/// A segment that its receiver takes for the next.
fn with_flags(frame: FrameBuilder, ports: (u16, u16), flags: u8) -> FrameBuilder {
    let frame = frame.tcp(ports.0, ports.1, flags).seq(if flags & SYN == 0 { 101 } else { 100 });
    if flags & ACK == 0 { frame } else { frame.ack(101) }
}

/// The MAC that a packet goes to: a group's own, a station's on the same link, else the gateway's.
fn first_hop(from: &Station, to: Addr) -> Mac {
    if to == Addr::BROADCAST_V4 {
        return Mac::BROADCAST;
    }
    if to.is_multicast() {
        return if to.is_v4() { Mac([1, 0, 0x5e, 0, 0, 0xfb]) } else { packet::multicast_mac(to) };
    }
    from.gateway
}

impl Traffic {
    fn payload(&mut self, length: usize) -> Vec<u8> {
        self.serial += 1;
        let mut payload = vec![0x5a; length];
        payload.extend_from_slice(&MARKER.to_be_bytes());
        payload.extend_from_slice(&self.serial.to_be_bytes());
        payload
    }

    /// One packet of a flow.
    pub fn packet(&mut self, flow: &Flow, flags: u8, length: usize) -> (PortId, Frame) {
        let frame = flow.transport(flow.builder(), flags);
        (flow.from.port, frame.payload(&self.payload(length)).build())
    }

    /// One packet of a flow, with what an input makes of its fields.
    pub fn odd_packet(&mut self, flow: &Flow, input: &mut Input<'_>) -> (PortId, Frame) {
        let flags = flags(input);
        let how = input.octet();
        let length =
            if how & 1 == 0 { usize::from(input.octet()) } else { 1300 + input.below(200) };
        let ttl = if how & 6 == 6 { input.octet() % 6 } else { 64 };
        let mut frame = flow.builder().ttl(ttl).dont_fragment(how & 8 == 0);
        if how & 0x30 == 0x30 {
            frame = frame.options(input.take(8));
        }
        // A station on the same link is sent to directly.
        if how & 0xc0 == 0x40 {
            frame = frame.macs(flow.from.mac, flow.from.mac);
        }
        frame = flow.transport(frame, flags);
        if how & 0xc0 == 0x80 && flow.kind == Kind::Udp {
            frame = frame.no_udp_checksum();
        }
        (flow.from.port, frame.payload(&self.payload(length)).build())
    }

    fn identification(&mut self, flow: &Flow, length: usize, input: &mut Input<'_>) -> u16 {
        let next = u16::try_from(self.datagrams.len()).unwrap_or(0) << 2;
        let key = (flow.from.port, flow.to, flow.kind, flow.ports, length);
        self.last = *self.datagrams.entry(key).or_insert(next) | u16::from(input.octet() % 4);
        self.last
    }

    /// A datagram in pieces, as the sender's host cuts it; `None` for IPv6, whose pieces [`Traffic::piece`] makes.
    pub fn pieces(&mut self, flow: &Flow, input: &mut Input<'_>) -> Option<Vec<(PortId, Frame)>> {
        let length = 600 + usize::from(input.octet()) * 8;
        let id = self.identification(flow, length, input);
        let frame = flow.builder().id(id).dont_fragment(false);
        let whole = flow.transport(frame, ACK).payload(&vec![0x5a; length]).build();
        let headers = parse(&whole.bytes).ok()?;
        let mut pieces = packet::fragment_ipv4(&whole, &headers, 596)?;
        match input.below(5) {
            0 => pieces.reverse(),
            1 => {
                pieces.truncate(1);
            }
            2 => {
                let by = input.below(pieces.len());
                pieces.rotate_left(by);
            }
            3 => {
                let at = input.below(pieces.len());
                let twice = pieces.get(at).cloned();
                pieces.extend(twice);
            }
            _ => {}
        }
        Some(pieces.into_iter().map(|frame| (flow.from.port, frame)).collect())
    }

    /// Any piece of any datagram.
    pub fn piece(&mut self, flow: &Flow, input: &mut Input<'_>) -> (PortId, Frame) {
        let fragment = packet::Fragment {
            id: u32::from(if input.once_in(2) {
                self.last
            } else {
                self.identification(flow, 0, input)
            }),
            offset: u16::from(input.octet() % 16) * 8,
            more: !input.once_in(3),
        };
        let length = 8 * (1 + input.below(8));
        let frame = flow.transport(flow.builder(), ACK).fragment(fragment);
        let payload = self.payload(length - 8);
        (flow.from.port, frame.payload(&payload).build())
    }

    /// The answer of whoever got a frame.
    pub fn reply(
        &mut self,
        rig: &Rig,
        got: &(PortId, Frame),
        flags: u8,
        length: usize,
    ) -> Option<(PortId, Frame)> {
        let station = rig.station(got.0)?;
        let headers = parse(&got.1.bytes).ok()?;
        let heard = headers.ip()?;
        let frame = FrameBuilder::new(heard.dst, heard.src).macs(station.mac, headers.src_mac);
        let frame = match heard.transport {
            Transport::Tcp(t) => with_flags(frame, (t.dst_port, t.src_port), flags),
            Transport::Udp(u) => frame.udp(u.dst_port, u.src_port),
            Transport::Icmp(icmp) => match icmp.message {
                IcmpMessage::Query { id, seq } => frame.echo_reply(id, seq),
                IcmpMessage::Reply { id, seq } => frame.echo_request(id, seq),
                _ => return None,
            },
            Transport::LaterFragment => return None,
            Transport::Other => frame.protocol(heard.protocol),
        };
        Some((got.0, frame.payload(&self.payload(length)).build()))
    }

    /// An ICMP error about a frame that somebody got, or that he claims to have got.
    pub fn error(
        &mut self,
        rig: &Rig,
        got: &(PortId, Frame),
        input: &mut Input<'_>,
    ) -> Option<(PortId, Frame)> {
        let (port, frame) = got;
        let station = rig.station(*port)?;
        let headers = parse(&frame.bytes).ok()?;
        let how = input.octet();
        let source = match how % 8 {
            0 if headers.ip()?.is_v4() => "192.0.2.200".parse().ok()?,
            1 => input
                .pick(&rig.lab.targets)
                .filter(|a| a.is_v4() == headers.ip().is_some_and(packet::Ip::is_v4))?,
            _ => headers.ip()?.dst,
        };
        let mut error = packet::icmp_error(frame, &headers, input.pick(&ERRORS)?, source)?;
        error.bytes.get_mut(6..12)?.copy_from_slice(&station.mac.0);
        match how / 8 % 8 {
            // A wrong checksum, which must not be made right.
            0 => *error.bytes.last_mut()? ^= 1,
            // Another type and code, or another quote: with a right checksum, so that it gets further.
            1 => {
                let l4 = usize::from(parse(&error.bytes).ok()?.ip()?.l4);
                *error.bytes.get_mut(l4)? = input.octet();
                *error.bytes.get_mut(l4 + 1)? = input.octet();
                mend(&mut error);
            }
            2 => {
                let l4 = usize::from(parse(&error.bytes).ok()?.ip()?.l4);
                for _ in 0..1 + input.below(4) {
                    let at = l4 + 8 + input.below(48);
                    let value = input.octet();
                    if let Some(octet) = error.bytes.get_mut(at) {
                        *octet = value;
                    }
                }
                mend(&mut error);
            }
            _ => {}
        }
        Some((*port, error))
    }

    /// Address resolution: a request, a reply, an announcement, with a MAC and an address that are claimed.
    pub fn resolution(&mut self, rig: &Rig, input: &mut Input<'_>) -> Option<(PortId, Frame)> {
        let station = rig.lab.stations.get(input.below(rig.lab.stations.len()))?;
        let sender = if input.once_in(2) { station.v4 } else { input.pick(&rig.lab.targets)? };
        let target = input.pick(&rig.lab.targets)?;
        let claimed =
            input.pick(&[station.mac, station.gateway, Mac::BROADCAST, Mac([2, 9, 9, 9, 9, 9])])?;
        let mut frame = if target.is_v4() {
            packet::arp_request(station.mac, sender, target)
        } else {
            let own = if sender.is_v4() { station.v6 } else { sender };
            packet::neighbor_solicitation(station.mac, own, target)
        };
        if target.is_v4() && input.once_in(2) {
            frame.bytes.get_mut(22..28)?.copy_from_slice(&claimed.0);
            *frame.bytes.get_mut(21)? = 1 + input.octet() % 3;
        }
        Some((station.port, frame))
    }
}

/// TCP flags: what a TCP sends, and sometimes anything.
pub fn flags(input: &mut Input<'_>) -> u8 {
    let at = input.below(FLAGS.len() + 1);
    FLAGS.get(at).copied().unwrap_or_else(|| input.octet())
}

/// Makes the checksum of an ICMP message right again.
fn mend(frame: &mut Frame) {
    let Ok(headers) = parse(&frame.bytes) else { return };
    let Some(ip) = headers.ip().copied() else { return };
    let (l4, end) = (usize::from(ip.l4), headers.l3_end());
    let Some([high, low]) = frame.bytes.get_mut(l4 + 2..l4 + 4) else { return };
    (*high, *low) = (0, 0);
    let Some(message) = frame.bytes.get(l4..end) else { return };
    let mut bytes = Vec::new();
    if !ip.is_v4() {
        // RFC 8200, 8.1.
        let length = u32::try_from(message.len()).unwrap_or(0);
        bytes.extend_from_slice(&ip.src.0.to_be_bytes());
        bytes.extend_from_slice(&ip.dst.0.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, ip.protocol]);
    }
    bytes.extend_from_slice(message);
    let sum = packet::checksum(&bytes).to_be_bytes();
    if let Some(field) = frame.bytes.get_mut(l4 + 2..l4 + 4) {
        field.copy_from_slice(&sum);
    }
}

/// Makes the header checksum of an IPv4 frame right again, so that a change gets further.
pub fn mend_ipv4(frame: &mut Frame) {
    if frame.bytes.get(12..14) != Some(&[8, 0]) || frame.bytes.len() < 34 {
        return;
    }
    let length = usize::from(frame.bytes.get(14).copied().unwrap_or(0) & 0xf) * 4;
    if let Some(field) = frame.bytes.get_mut(24..26) {
        field.fill(0);
    }
    let Some(sum) = frame.bytes.get(14..14 + length).map(packet::checksum) else { return };
    if let Some(field) = frame.bytes.get_mut(24..26) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}
