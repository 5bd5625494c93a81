//! Random steps.

use std::net::IpAddr;
use std::time::Duration;

use model::packet::flag::{ACK, FIN, PSH, RST, SYN};
use model::packet::{Complaint, Content, Framed, Mac, Packet, protocol};
use model::{Station, wire};

use crate::bench::{Bench, gateway_of};
use crate::lab::EXTERNAL;

/// Sources and destinations behind the hosts outside.
const REMOTE: [&str; 4] = ["203.0.113.5", "203.0.113.70", "198.18.0.1", "198.51.100.77"];
const REMOTE6: [&str; 2] = ["2001:db8:ff::5", "2001:db8:ee::1"];
/// Addresses that nobody has: in the egress, ingress and pod pools, the balancer's, on an uplink, among the services.
const NOBODY: [&str; 6] =
    ["172.16.2.200", "172.16.1.200", "10.244.9.9", "172.16.3.2", "192.0.2.99", "10.96.1.250"];
const NOBODY6: [&str; 3] = ["fd00:244:0:99::5", "fd00:244:0:1::99", "2001:db8:1::99"];
/// Gateways' own addresses.
const GATEWAYS: [&str; 4] = ["100.64.0.0", "100.64.0.1", "192.0.2.1", "198.51.100.1"];
const GATEWAYS6: [&str; 2] = ["2001:db8:1::1", "2001:db8:2::1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where a packet is sent from.
struct Sender {
    station: Station,
    gateway_mac: Mac,
    outside: bool,
}

impl Bench {
    /// One step; an error is a difference.
    pub fn step(&mut self) -> Result<(), String> {
        let pause = Duration::from_millis(10 + u64::try_from(self.random.below(200)).unwrap());
        self.advance(pause)?;
        if self.random.chance(5) {
            self.audit()?;
        }
        if !self.unsent.is_empty() && self.random.chance(60) {
            return self.next_piece();
        }
        let wide = usize::from(self.lab.is_wide());
        match self.random.weighted(&[30, 40, 14, 8, 4, 7, 3, 5, 4 * wide]) {
            0 => self.new_flow(),
            1 => self.answer(),
            2 => self.again(),
            3 => self.error(),
            4 => self.spoof(),
            5 => self.jump(),
            6 => self.change(),
            7 => self.fragments(),
            _ => self.twin(),
        }
    }

    fn workload(&mut self) -> Sender {
        let count = self.atlas.pods.len();
        // The VM speaks seldom.
        let at = self.random.below(count * 4 + 1);
        let station = match self.atlas.pods.get(at % count) {
            Some((_, pod)) if at < count * 4 => pod.clone(),
            _ => self.atlas.vms[0].clone(),
        };
        Sender { station, gateway_mac: self.atlas.gateway_mac, outside: false }
    }

    fn sender(&mut self) -> Sender {
        if self.random.chance(65) {
            return self.workload();
        }
        let (network, station) = self.random.pick(&self.atlas.outside);
        let mac = self.atlas.uplink_macs.iter().find(|(n, _)| *n == network).unwrap().1;
        Sender { station, gateway_mac: mac, outside: true }
    }

    fn target(&mut self) -> IpAddr {
        let services = (self.atlas.cluster_ips.len(), self.atlas.vips.len());
        let by_hand = usize::from(self.lab.has_nat_rules());
        let weights =
            [8, services.0.min(1) * 6, services.1.min(1) * 8, 4, 3, 2, 2, 1, by_hand * 10];
        match self.random.weighted(&weights) {
            0 => self.random.pick(&self.atlas.pods).1.addresses[0],
            1 => self.random.pick(&self.atlas.cluster_ips).1,
            2 => self.random.pick(&self.atlas.vips).1,
            3 => ip(self.random.pick(&REMOTE)),
            4 => self.random.pick(&self.atlas.outside).1.addresses[0],
            5 => ip(self.random.pick(&NOBODY)),
            6 if self.random.chance(30) => {
                let pod = self.random.pick(&self.atlas.pods).1.addresses[0];
                gateway_of(&self.atlas, pod)
            }
            6 => ip(self.random.pick(&GATEWAYS)),
            8 => ip(self.random.pick(&EXTERNAL)),
            _ => match self.atlas.snat.is_empty() {
                true => self.atlas.vms[0].addresses[0],
                false => self.random.pick(&self.atlas.snat).1,
            },
        }
    }

    fn target6(&mut self) -> IpAddr {
        match self.random.weighted(&[8, 3, 2, 2, 1, 1]) {
            0 => self.random.pick(&self.atlas.pods).1.addresses[1],
            1 => ip(self.random.pick(&REMOTE6)),
            2 => self.random.pick(&self.atlas.outside).1.addresses[1],
            3 => ip(self.random.pick(&NOBODY6)),
            4 => gateway_of(&self.atlas, self.atlas.pods[0].1.addresses[1]),
            _ => ip(self.random.pick(&GATEWAYS6)),
        }
    }

    fn ttl(&mut self) -> u8 {
        match self.random.chance(8) {
            true => u8::try_from(1 + self.random.below(3)).unwrap(),
            false => 64,
        }
    }

    /// How much data there is: little, or around what a link holds.
    fn data(&mut self) -> u32 {
        match self.random.chance(75) {
            true => self.random.pick(&[0, 4, 100]),
            false => self.random.pick(&[1232, 1272, 1372, 1380, 1460, 1472, 1473, 1480, 2900]),
        }
    }

    /// Whether routers may cut a packet, and its identification then.
    fn cut(&mut self, src: IpAddr) -> Option<u16> {
        self.identification = self.identification.wrapping_add(1);
        (src.is_ipv4() && self.random.chance(40)).then_some(self.identification)
    }

    fn new_flow(&mut self) -> Result<(), String> {
        let (port, framed) = self.fresh();
        self.send(port, framed)
    }

    /// The first packet of a flow, perhaps of one that there is already.
    fn fresh(&mut self) -> (u32, Framed) {
        let sender = self.sender();
        let v6 = self.lab.v6() && self.random.chance(20);
        let mut src = sender.station.addresses[usize::from(v6)];
        if sender.outside && self.random.chance(50) {
            src = ip(if v6 { REMOTE6[0] } else { self.random.pick(&REMOTE) });
        }
        let mut dst = if v6 { self.target6() } else { self.target() };
        if src == dst && self.random.chance(90) {
            dst = ip(if v6 { REMOTE6[1] } else { REMOTE[0] });
        }
        // Few ports, so that flows meet.
        let src_port = self.random.pick(&[40_000, 40_001, 40_002, 700]);
        let content = match self.random.weighted(&[10, 8, 3]) {
            0 => {
                let flags = self.random.pick(&[
                    SYN,
                    SYN,
                    SYN,
                    SYN,
                    SYN,
                    SYN,
                    ACK,
                    ACK,
                    SYN | ACK,
                    RST,
                    FIN | ACK,
                    FIN,
                ]);
                let dst_port = self.random.pick(&[80, 80, 80, 8080, 81]);
                let ack = if flags & ACK != 0 { 7000 } else { 0 };
                Content::Tcp { src_port, dst_port, flags, seq: 1000, ack, len: 0 }
            }
            1 => {
                let dst_port = self.random.pick(&[53, 53, 53, 54]);
                Content::Udp { src_port, dst_port, len: self.data() }
            }
            _ => {
                let (reply, id) = (self.random.chance(10), self.random.pick(&[7, 8, 2000]));
                Content::Echo { reply, id, len: self.data() }
            }
        };
        let (ttl, cut) = (self.ttl(), self.cut(src));
        let packet = Packet { src, dst, ttl, cut, piece: None, content };
        let (src_mac, mut dst_mac) = (sender.station.mac, sender.gateway_mac);
        // Neighbours in the same segment are reached by their own MAC.
        let segment = self.atlas.blocks.iter().flat_map(|b| &b.nets).find(|n| n.contains(&src));
        let near = segment.is_some_and(|net| net.contains(&dst));
        let neighbor = self.atlas.pods.iter().find(|(_, s)| s.addresses.contains(&dst));
        if let Some(mac) = neighbor.map(|(_, s)| s.mac).filter(|_| near && !sender.outside)
            && self.random.chance(80)
        {
            dst_mac = mac;
        }
        (sender.station.port, Framed { src_mac, dst_mac, packet })
    }

    /// A datagram is sent in pieces, between other packets.
    fn fragments(&mut self) -> Result<(), String> {
        let (port, mut framed) = match self.sent.is_empty() || self.random.chance(40) {
            true => self.fresh(),
            false => {
                let at = self.random.below(self.sent.len());
                self.sent[at]
            }
        };
        if framed.packet.src.is_ipv6() || framed.packet.is_error() {
            return self.new_flow();
        }
        self.identification = self.identification.wrapping_add(1);
        framed.packet.cut = Some(self.identification);
        framed.packet.ttl = self.ttl();
        let much = self.random.pick(&[200, 1400, 3000]);
        match &mut framed.packet.content {
            Content::Tcp { len, .. } | Content::Udp { len, .. } | Content::Echo { len, .. } => {
                *len = much;
            }
            Content::Error { .. } | Content::Rest { .. } => {}
        }
        let whole = wire::build(&framed);
        let at = self.random.pick(&[&[64_u32][..], &[104, 160], &[24, 32, 176], &[1480]]);
        let mut pieces = wire::cut(&whole, at);
        if self.random.chance(25) {
            // In any order.
            for at in 1..pieces.len() {
                let other = self.random.below(at + 1);
                pieces.swap(at, other);
            }
        }
        if self.random.chance(8) {
            // One is lost.
            pieces.pop();
        }
        if self.random.chance(8)
            && let Some(first) = pieces.first().cloned()
        {
            // One comes twice, or overlaps others.
            let other = wire::cut(&whole, &[32]);
            pieces.push(self.random.pick(&[first, other[0].clone(), other[1].clone()]));
        }
        for piece in pieces {
            let framed = wire::read(&piece).unwrap();
            self.unsent.push_back((port, framed, piece));
        }
        self.next_piece()
    }

    fn next_piece(&mut self) -> Result<(), String> {
        let Some((port, framed, octets)) = self.unsent.pop_front() else { return Ok(()) };
        self.send_octets(port, framed, octets)
    }

    /// The receiver of a packet answers it.
    fn answer(&mut self) -> Result<(), String> {
        if self.delivered.is_empty() {
            return self.new_flow();
        }
        let recent = self.delivered.len().min(self.random.pick(&[2, 8, 48]));
        let at = self.delivered.len() - 1 - self.random.below(recent);
        let (port, got) = self.delivered[at];
        let content = match got.packet.content {
            Content::Tcp { src_port, dst_port, flags, seq, ack, len } => {
                let control = (flags & (SYN | FIN)).count_ones();
                let end = seq.wrapping_add(len).wrapping_add(control);
                let own = if flags & ACK != 0 { ack } else { 5000 };
                let reply = self.tcp_answer(flags);
                let seq = if self.random.chance(6) { own.wrapping_add(70_000) } else { own };
                let len = if reply & PSH != 0 { self.data() } else { 0 };
                Content::Tcp {
                    src_port: dst_port,
                    dst_port: src_port,
                    flags: reply,
                    seq,
                    ack: if reply & ACK != 0 { end } else { 0 },
                    len,
                }
            }
            Content::Udp { src_port, dst_port, .. } => {
                Content::Udp { src_port: dst_port, dst_port: src_port, len: self.data() }
            }
            Content::Echo { reply, id, len } => Content::Echo { reply: !reply, id, len },
            Content::Error { .. } | Content::Rest { .. } => return self.again(),
        };
        let (src, dst) = (got.packet.dst, got.packet.src);
        let (ttl, cut) = (self.ttl(), self.cut(src));
        let packet = Packet { src, dst, ttl, cut, piece: None, content };
        self.send(port, Framed { src_mac: got.dst_mac, dst_mac: got.src_mac, packet })
    }

    fn tcp_answer(&mut self, flags: u8) -> u8 {
        let choices: &[u8] = if flags & (SYN | ACK) == SYN {
            &[SYN | ACK, SYN | ACK, SYN | ACK, SYN | ACK, SYN | ACK, RST | ACK, SYN]
        } else if flags & SYN != 0 {
            &[ACK, ACK, ACK, ACK, PSH | ACK, RST]
        } else if flags & FIN != 0 {
            &[FIN | ACK, FIN | ACK, ACK, RST]
        } else {
            &[ACK, ACK, PSH | ACK, PSH | ACK, PSH | ACK, FIN | ACK, RST, RST | ACK]
        };
        self.random.pick(choices)
    }

    /// A packet is sent once more, as it was or with other flags.
    fn again(&mut self) -> Result<(), String> {
        if self.sent.is_empty() {
            return self.new_flow();
        }
        let at = self.random.below(self.sent.len());
        let (port, mut framed) = self.sent[at];
        if let Content::Tcp { flags, seq, .. } = &mut framed.packet.content
            && self.random.chance(40)
        {
            *flags =
                self.random.pick(&[SYN, ACK, FIN | ACK, RST, RST | ACK, PSH | ACK, SYN | FIN, 0]);
            *seq = seq.wrapping_add(u32::try_from(self.random.below(3)).unwrap());
        }
        framed.packet.ttl = self.ttl();
        self.send(port, framed)
    }

    /// Somebody outside sends by itself what came out of a translation, or is sent by its target what an answer looks like.
    fn twin(&mut self) -> Result<(), String> {
        let from_outside = |src: IpAddr| {
            let stations = self.atlas.outside.iter().flat_map(|(_, s)| &s.addresses);
            stations.copied().chain(REMOTE.map(ip)).any(|address| address == src)
        };
        let flows = self.delivered.iter().filter(|(_, got)| !got.packet.is_error());
        let translated: Vec<(u32, Framed)> =
            flows.filter(|(_, got)| from_outside(got.packet.src)).copied().collect();
        if translated.is_empty() {
            return self.new_flow();
        }
        let (port, got) = self.random.pick(&translated);
        let mut packet = got.packet;
        packet.ttl = self.ttl();
        packet.cut = self.cut(packet.src);
        if let Content::Tcp { flags, .. } = &mut packet.content {
            *flags = SYN;
        }
        if self.random.chance(30) {
            let flow = packet.flow().reversed();
            match &mut packet.content {
                Content::Tcp { src_port, dst_port, .. }
                | Content::Udp { src_port, dst_port, .. } => {
                    (*src_port, *dst_port) = (flow.src_port, flow.dst_port);
                }
                Content::Echo { .. } | Content::Error { .. } | Content::Rest { .. } => {}
            }
            (packet.src, packet.dst) = (flow.src, flow.dst);
            return self.send(port, Framed { src_mac: got.dst_mac, dst_mac: got.src_mac, packet });
        }
        let (network, station) = self.random.pick(&self.atlas.outside);
        let mac = self.atlas.uplink_macs.iter().find(|(n, _)| *n == network).unwrap().1;
        self.send(station.port, Framed { src_mac: station.mac, dst_mac: mac, packet })
    }

    /// An ICMP error about a packet, by its receiver, by a router on the way, or about a packet that never was.
    fn error(&mut self) -> Result<(), String> {
        if self.delivered.is_empty() {
            return self.new_flow();
        }
        let at = self.random.below(self.delivered.len());
        let (port, got) = self.delivered[at];
        if got.packet.is_error() {
            return self.new_flow();
        }
        let mut quote = got.packet.flow();
        if self.random.chance(15) {
            quote.src_port ^= 1;
            if quote.protocol == protocol::ICMP {
                // One identifier stands for both.
                quote.dst_port = quote.src_port;
            }
        }
        if self.lab.is_wide() && self.random.chance(6) {
            // About a packet of somebody else.
            quote.src =
                self.random.pick(&self.atlas.pods).1.addresses[usize::from(quote.src.is_ipv6())];
        }
        let complaint = self.random.pick(&[
            Complaint::PortUnreachable,
            Complaint::HostUnreachable,
            Complaint::TimeExceeded,
            Complaint::Prohibited,
            Complaint::TooBig(1300),
        ]);
        let outside = self.atlas.outside.iter().any(|(_, s)| s.port == port);
        let src = match outside && self.random.chance(40) {
            true if got.packet.dst.is_ipv6() => ip(REMOTE6[0]),
            true => ip(self.random.pick(&REMOTE)),
            false => got.packet.dst,
        };
        let content = Content::Error { complaint, quote };
        let packet = Packet::whole(src, got.packet.src, self.ttl(), content);
        self.send(port, Framed { src_mac: got.dst_mac, dst_mac: got.src_mac, packet })
    }

    /// A workload pretends to be somebody else.
    fn spoof(&mut self) -> Result<(), String> {
        let sender = self.workload();
        let other = self.workload();
        let (mut src, mut src_mac) = (sender.station.addresses[0], sender.station.mac);
        match self.random.below(3) {
            0 => src = other.station.addresses[0],
            1 => src_mac = other.station.mac,
            _ => src = ip(self.random.pick(&REMOTE)),
        }
        let content = Content::Udp { src_port: 40_000, dst_port: 53, len: 4 };
        let packet = Packet::whole(src, self.target(), 64, content);
        self.send(sender.station.port, Framed { src_mac, dst_mac: sender.gateway_mac, packet })
    }

    /// Time passes: to just before, at, or just behind some timer.
    fn jump(&mut self) -> Result<(), String> {
        let seconds = self.random.pick(&[
            1, 2, 4, 6, 8, 10, 20, 30, 30, 45, 60, 60, 120, 120, 300, 900, 1800, 1800, 7200, 7200,
            43_200,
        ]);
        let exact = Duration::from_secs(seconds);
        let by = match self.random.below(3) {
            0 => exact.saturating_sub(Duration::from_millis(300)),
            1 => exact,
            _ => exact + Duration::from_millis(300),
        };
        self.note(format!("{by:?} pass"));
        self.advance(by)
    }
}
