//! IPv4 packets by hand: made for the scenarios, and taken apart into fields that can be compared.
//!
//! Nothing of tierlab is used here, so that a fault of its builder or parser cannot hide itself.
//! RFC 791, 768, 9293 and 792.

use std::net::Ipv4Addr;

use crate::wire::{Label, Names};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// An address and a port.
pub type Endpoint = (Ipv4Addr, u16);

/// An IPv4 packet.
#[derive(Clone, Debug)]
pub struct Ip {
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In units of 8 octets.
    pub offset: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    /// A multiple of 4 octets.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

/// The identification of every packet that a scenario sends.
pub const SENT_ID: u16 = 0x4d2;

impl Ip {
    pub fn new(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: Vec<u8>) -> Ip {
        Ip {
            tos: 0,
            id: SENT_ID,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            ttl: 64,
            protocol,
            src,
            dst,
            options: Vec::new(),
            payload,
        }
    }

    pub fn udp(src: Endpoint, dst: Endpoint, data: &[u8]) -> Ip {
        let length = u16::try_from(8 + data.len()).unwrap();
        let mut payload = Vec::new();
        for field in [src.1, dst.1, length, 0] {
            payload.extend(field.to_be_bytes());
        }
        payload.extend(data);
        Ip::new(UDP, src.0, dst.0, payload).with_checksum(6)
    }

    /// A segment; a SYN has an MSS of 1,000.
    pub fn tcp(src: Endpoint, dst: Endpoint, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Ip {
        let options: &[u8] = if flags & SYN != 0 { &[2, 4, 0x03, 0xe8] } else { &[] };
        let words = u8::try_from(5 + options.len() / 4).unwrap();
        let mut payload = Vec::new();
        payload.extend([src.1, dst.1].map(u16::to_be_bytes).concat());
        payload.extend([seq, ack].map(u32::to_be_bytes).concat());
        payload.extend([words << 4, flags, 0x20, 0x00, 0, 0, 0, 0]);
        payload.extend(options);
        payload.extend(data);
        Ip::new(TCP, src.0, dst.0, payload).with_checksum(16)
    }

    pub fn echo(src: Ipv4Addr, dst: Ipv4Addr, kind: u8, id: u16, data: &[u8]) -> Ip {
        let mut payload = vec![kind, 0, 0, 0];
        payload.extend([id, 7].map(u16::to_be_bytes).concat());
        payload.extend(data);
        Ip::new(ICMP, src, dst, payload).with_checksum(2)
    }

    /// An error that quotes `quote`; `rest` are octets 4 to 7 of the ICMP header.
    pub fn error(
        src: Ipv4Addr,
        dst: Ipv4Addr,
        (kind, code): (u8, u8),
        rest: u32,
        quote: &[u8],
    ) -> Ip {
        let mut payload = vec![kind, code, 0, 0];
        payload.extend(rest.to_be_bytes());
        payload.extend(quote);
        Ip::new(ICMP, src, dst, payload).with_checksum(2)
    }

    pub fn ttl(self, ttl: u8) -> Ip {
        Ip { ttl, ..self }
    }

    pub fn tos(self, tos: u8) -> Ip {
        Ip { tos, ..self }
    }

    pub fn dont_fragment(self) -> Ip {
        Ip { dont_fragment: true, ..self }
    }

    /// Computes the transport checksum, which is at `at` in the payload.
    fn with_checksum(mut self, at: usize) -> Ip {
        self.payload[at..at + 2].copy_from_slice(&[0, 0]);
        let sum = self.transport_sum();
        // RFC 768: a computed zero is sent as all ones.
        let sum = if self.protocol == UDP && sum == 0 { 0xffff } else { sum };
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self
    }

    /// The complement of the sum over payload and pseudo header: zero if a checksum in it is right.
    fn transport_sum(&self) -> u16 {
        let mut summed = Vec::new();
        if self.protocol != ICMP {
            summed.extend([self.src.octets(), self.dst.octets()].concat());
            summed.extend([0, self.protocol]);
            summed.extend(u16::try_from(self.payload.len()).unwrap().to_be_bytes());
        }
        summed.extend(&self.payload);
        checksum(&summed)
    }

    /// The packet in pieces whose payloads begin at 0 and at each of `cuts`, multiples of 8 octets.
    pub fn fragments(&self, cuts: &[usize]) -> Vec<Ip> {
        let ends = cuts.iter().copied().chain([self.payload.len()]);
        let begins = [0].into_iter().chain(cuts.iter().copied());
        let piece = |(begin, end): (usize, usize)| Ip {
            offset: u16::try_from(begin / 8).unwrap(),
            more_fragments: end < self.payload.len(),
            payload: self.payload[begin..end].to_vec(),
            ..self.clone()
        };
        begins.zip(ends).map(piece).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let length = u16::try_from(header + self.payload.len()).unwrap();
        let flags = (u16::from(self.dont_fragment) << 14) | (u16::from(self.more_fragments) << 13);
        let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), self.tos];
        for field in [length, self.id, flags | self.offset] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend([self.src.octets(), self.dst.octets()].concat());
        bytes.extend(&self.options);
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads a packet, or as much of one as an ICMP error quotes.
    pub fn read(bytes: &[u8]) -> Ip {
        assert!(bytes.len() >= 20 && bytes[0] >> 4 == 4, "not IPv4: {bytes:02x?}");
        let header = usize::from(bytes[0] & 15) * 4;
        let end = usize::from(u16_at(bytes, 2)).min(bytes.len());
        let fragment = u16_at(bytes, 6);
        let address = |at: usize| Ipv4Addr::from(u32_at(bytes, at));
        Ip {
            tos: bytes[1],
            id: u16_at(bytes, 4),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            offset: fragment & 0x1fff,
            ttl: bytes[8],
            protocol: bytes[9],
            src: address(12),
            dst: address(16),
            options: bytes[20..header].to_vec(),
            payload: bytes[header..end].to_vec(),
        }
    }

    fn is_fragment(&self) -> bool {
        self.more_fragments || self.offset != 0
    }

    /// The source port, or the identifier of an echo.
    pub fn src_port(&self) -> u16 {
        u16_at(&self.payload, if self.protocol == ICMP { 4 } else { 0 })
    }

    /// The destination port.
    pub fn dst_port(&self) -> u16 {
        u16_at(&self.payload, 2)
    }

    pub fn from(&self) -> Endpoint {
        (self.src, self.src_port())
    }

    pub fn to(&self) -> Endpoint {
        (self.dst, self.dst_port())
    }

    /// The ports and identifiers in it.
    pub fn labels(&self) -> Vec<Label> {
        let first = self.offset == 0 && self.payload.len() >= 8;
        match self.protocol {
            TCP | UDP if first => [self.src_port(), self.dst_port()].map(Label::Port).into(),
            ICMP if first && matches!(self.payload[0], 0 | 8) => {
                vec![Label::EchoId(self.src_port())]
            }
            ICMP if first && self.payload.len() >= 36 => Ip::read(&self.payload[8..]).labels(),
            _ => Vec::new(),
        }
    }

    /// In few words, for instance `tcp SA` or `icmp 3/1`.
    pub fn summary(&self) -> String {
        let fragment = if self.is_fragment() { " fragment" } else { "" };
        let kind = match self.protocol {
            UDP => "udp".to_owned(),
            TCP if self.offset == 0 => format!("tcp {}", flags(self.payload[13])),
            ICMP if self.offset == 0 => format!("icmp {}/{}", self.payload[0], self.payload[1]),
            other => format!("protocol {other}"),
        };
        kind + fragment
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// TCP flags as letters.
fn flags(flags: u8) -> String {
    let letters = "FSRPAUEC".chars().enumerate();
    letters.filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, letter)| letter).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What was captured, field by field; ports and identifications that the other side chose are named,
/// not numbered.
pub fn fields(bytes: &[u8], names: &mut Names) -> Vec<(String, String)> {
    let mut out = Vec::new();
    take_apart(bytes, "", names, &mut out);
    out
}

fn take_apart(bytes: &[u8], place: &str, names: &mut Names, out: &mut Vec<(String, String)>) {
    let ip = Ip::read(bytes);
    let header = 20 + ip.options.len();
    let length = usize::from(u16_at(bytes, 2));
    let mut put = |name: &str, value: String| out.push((format!("{place}{name}"), value));
    let right = |right: bool| if right { "right" } else { "wrong" }.to_owned();
    put("ip.tos", format!("{:#04x}", ip.tos));
    put("ip.length", length.to_string());
    put("ip.id", names.id(ip.id));
    let bits = [(ip.dont_fragment, "DF"), (ip.more_fragments, "MF")];
    let bits: Vec<&str> = bits.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    put("ip.flags", if bits.is_empty() { "none".to_owned() } else { bits.join("+") });
    put("ip.offset", ip.offset.to_string());
    put("ip.ttl", ip.ttl.to_string());
    put("ip.protocol", ip.protocol.to_string());
    put("ip.checksum", right(checksum(&bytes[..header]) == 0));
    put("ip.src", names.address(ip.src));
    put("ip.dst", names.address(ip.dst));
    put("ip.options", hex(&ip.options));
    let whole = length == bytes.len() && !ip.is_fragment();
    let sum = if whole { right(ip.transport_sum() == 0) } else { "in part".to_owned() };
    let payload = &ip.payload;
    match ip.protocol {
        UDP if ip.offset == 0 => {
            put("udp.src", names.label(Label::Port(ip.src_port())));
            put("udp.dst", names.label(Label::Port(ip.dst_port())));
            put("udp.length", u16_at(payload, 4).to_string());
            let absent = u16_at(payload, 6) == 0;
            put("udp.checksum", if absent { "none".to_owned() } else { sum });
            put("data", hex(&payload[8..]));
        }
        TCP if ip.offset == 0 => {
            put("tcp.src", names.label(Label::Port(ip.src_port())));
            put("tcp.dst", names.label(Label::Port(ip.dst_port())));
            put("tcp.seq", u32_at(payload, 4).to_string());
            if payload.len() < 20 {
                return;
            }
            put("tcp.ack", u32_at(payload, 8).to_string());
            put("tcp.flags", flags(payload[13]));
            put("tcp.window", u16_at(payload, 14).to_string());
            put("tcp.checksum", sum);
            put("tcp.urgent", u16_at(payload, 18).to_string());
            let data = (usize::from(payload[12] >> 4) * 4).min(payload.len());
            put("tcp.options", hex(&payload[20..data]));
            put("data", hex(&payload[data..]));
        }
        ICMP if ip.offset == 0 => {
            let (kind, code) = (payload[0], payload[1]);
            put("icmp.type", kind.to_string());
            put("icmp.code", code.to_string());
            put("icmp.checksum", sum);
            if matches!(kind, 0 | 8) {
                put("icmp.id", names.label(Label::EchoId(u16_at(payload, 4))));
                put("icmp.seq", u16_at(payload, 6).to_string());
                put("data", hex(&payload[8..]));
            } else {
                put("icmp.rest", u32_at(payload, 4).to_string());
                put("quote.octets", (payload.len() - 8).to_string());
                take_apart(&payload[8..], &format!("{place}quote."), names, out);
            }
        }
        _ => put("data", hex(payload)),
    }
}
