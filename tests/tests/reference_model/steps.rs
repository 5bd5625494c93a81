//! Random steps.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::Station;
use model::packet::flag::{ACK, FIN, PSH, RST, SYN};
use model::packet::{Content, Framed, Mac, Packet, protocol};

use crate::bench::Bench;

/// Sources and destinations behind the hosts outside.
const REMOTE: [&str; 4] = ["203.0.113.5", "203.0.113.70", "198.18.0.1", "198.51.100.77"];
/// Addresses that nobody has: in the egress, ingress and pod pools, on an uplink, among the services.
const NOBODY: [&str; 5] =
    ["172.16.2.200", "172.16.1.200", "10.244.9.9", "192.0.2.99", "10.96.1.250"];
/// Gateways' own addresses.
const GATEWAYS: [&str; 5] = ["100.64.0.0", "100.64.0.1", "192.0.2.1", "198.51.100.1", "10.244.0.1"];

fn ip(text: &str) -> Ipv4Addr {
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
        match self.random.weighted(&[30, 40, 14, 8, 4, 7, 3]) {
            0 => self.new_flow(),
            1 => self.answer(),
            2 => self.again(),
            3 => self.error(),
            4 => self.spoof(),
            5 => self.jump(),
            _ => self.change(),
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

    fn target(&mut self) -> Ipv4Addr {
        let services = (self.atlas.cluster_ips.len(), self.atlas.vips.len());
        let weights = [8, services.0.min(1) * 6, services.1.min(1) * 8, 4, 3, 2, 2, 1];
        match self.random.weighted(&weights) {
            0 => self.random.pick(&self.atlas.pods).1.address,
            1 => self.random.pick(&self.atlas.cluster_ips).1,
            2 => self.random.pick(&self.atlas.vips).1,
            3 => ip(self.random.pick(&REMOTE)),
            4 => self.random.pick(&self.atlas.outside).1.address,
            5 => ip(self.random.pick(&NOBODY)),
            6 => ip(self.random.pick(&GATEWAYS)),
            _ => match self.atlas.snat.is_empty() {
                true => self.atlas.vms[0].address,
                false => self.random.pick(&self.atlas.snat).1,
            },
        }
    }

    fn ttl(&mut self) -> u8 {
        match self.random.chance(8) {
            true => u8::try_from(1 + self.random.below(3)).unwrap(),
            false => 64,
        }
    }

    fn new_flow(&mut self) -> Result<(), String> {
        let sender = self.sender();
        let mut src = sender.station.address;
        if sender.outside && self.random.chance(50) {
            src = ip(self.random.pick(&REMOTE));
        }
        let mut dst = self.target();
        if src == dst && self.random.chance(90) {
            dst = ip(REMOTE[0]);
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
                    SYN | ACK,
                    RST,
                    FIN | ACK,
                    FIN,
                ]);
                let dst_port = self.random.pick(&[80, 80, 80, 8080, 81]);
                Content::Tcp { src_port, dst_port, flags, seq: 1000, ack: 0, len: 0 }
            }
            1 => {
                let dst_port = self.random.pick(&[53, 53, 53, 54]);
                Content::Udp { src_port, dst_port }
            }
            _ => {
                Content::Echo { reply: self.random.chance(10), id: self.random.pick(&[7, 8, 2000]) }
            }
        };
        let packet = Packet { src, dst, ttl: self.ttl(), content };
        let (src_mac, mut dst_mac) = (sender.station.mac, sender.gateway_mac);
        // Neighbours in the same segment are reached by their own MAC.
        let neighbor = self.atlas.pods.iter().find(|(_, s)| s.address == dst).map(|(_, s)| s.mac);
        if let Some(mac) = neighbor.filter(|_| !sender.outside)
            && sender.station.address.octets()[..3] == dst.octets()[..3]
            && sender.station.address.octets()[3] >> 4 == dst.octets()[3] >> 4
            && self.random.chance(80)
        {
            dst_mac = mac;
        }
        self.send(sender.station.port, Framed { src_mac, dst_mac, packet })
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
                let len = if reply & PSH != 0 { 100 } else { 0 };
                Content::Tcp {
                    src_port: dst_port,
                    dst_port: src_port,
                    flags: reply,
                    seq,
                    ack: if reply & ACK != 0 { end } else { 0 },
                    len,
                }
            }
            Content::Udp { src_port, dst_port } => {
                Content::Udp { src_port: dst_port, dst_port: src_port }
            }
            Content::Echo { reply, id } => Content::Echo { reply: !reply, id },
            Content::Error { .. } => return self.again(),
        };
        let packet = Packet { src: got.packet.dst, dst: got.packet.src, ttl: self.ttl(), content };
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
        let (kind, code) = self.random.pick(&[(3, 3), (3, 1), (11, 0), (3, 13)]);
        let outside = self.atlas.outside.iter().any(|(_, s)| s.port == port);
        let src = match outside && self.random.chance(40) {
            true => ip(self.random.pick(&REMOTE)),
            false => got.packet.dst,
        };
        let content = Content::Error { kind, code, quote };
        let packet = Packet { src, dst: got.packet.src, ttl: self.ttl(), content };
        self.send(port, Framed { src_mac: got.dst_mac, dst_mac: got.src_mac, packet })
    }

    /// A workload pretends to be somebody else.
    fn spoof(&mut self) -> Result<(), String> {
        let sender = self.workload();
        let other = self.workload();
        let (mut src, mut src_mac) = (sender.station.address, sender.station.mac);
        match self.random.below(3) {
            0 => src = other.station.address,
            1 => src_mac = other.station.mac,
            _ => src = ip(self.random.pick(&REMOTE)),
        }
        let content = Content::Udp { src_port: 40_000, dst_port: 53 };
        let packet = Packet { src, dst: self.target(), ttl: 64, content };
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
