//! The fields of a frame that a test can name, and how they are read.

use definitions::own::{IcmpType, SaveField, TcpFlags};
use packet::{Arp, Embedded, Headers, Icmp, IcmpMessage, Ip, Mac, Payload, Transport, protocol};
use std::fmt;

/// Octets of a payload that a message shows.
const SHOWN_OCTETS: usize = 64;

/// A field, named `layer.field` as in the test's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Protocol,
    EthSrc,
    EthDst,
    ArpOp,
    ArpSha,
    ArpSpa,
    ArpTha,
    ArpTpa,
    IpSrc,
    IpDst,
    IpTtl,
    IpTos,
    IpDf,
    IpId,
    FragmentOffset,
    FragmentMore,
    TcpSport,
    TcpDport,
    TcpFlags,
    TcpSeq,
    TcpAck,
    TcpWindow,
    UdpSport,
    UdpDport,
    UdpChecksum,
    IcmpType,
    IcmpCode,
    IcmpId,
    IcmpSeq,
    IcmpMtu,
    EmbeddedProtocol,
    EmbeddedSrc,
    EmbeddedDst,
    EmbeddedSport,
    EmbeddedDport,
    Payload,
}

impl Field {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Field::Protocol => "protocol",
            Field::EthSrc => "eth.src",
            Field::EthDst => "eth.dst",
            Field::ArpOp => "arp.op",
            Field::ArpSha => "arp.sha",
            Field::ArpSpa => "arp.spa",
            Field::ArpTha => "arp.tha",
            Field::ArpTpa => "arp.tpa",
            Field::IpSrc => "ip.src",
            Field::IpDst => "ip.dst",
            Field::IpTtl => "ip.ttl",
            Field::IpTos => "ip.tos",
            Field::IpDf => "ip.df",
            Field::IpId => "ip.id",
            Field::FragmentOffset => "ip.fragment.offset",
            Field::FragmentMore => "ip.fragment.more",
            Field::TcpSport => "tcp.sport",
            Field::TcpDport => "tcp.dport",
            Field::TcpFlags => "tcp.flags",
            Field::TcpSeq => "tcp.seq",
            Field::TcpAck => "tcp.ack",
            Field::TcpWindow => "tcp.window",
            Field::UdpSport => "udp.sport",
            Field::UdpDport => "udp.dport",
            Field::UdpChecksum => "udp.checksum",
            Field::IcmpType => "icmp.type",
            Field::IcmpCode => "icmp.code",
            Field::IcmpId => "icmp.id",
            Field::IcmpSeq => "icmp.seq",
            Field::IcmpMtu => "icmp.mtu",
            Field::EmbeddedProtocol => "icmp.embedded.protocol",
            Field::EmbeddedSrc => "icmp.embedded.src",
            Field::EmbeddedDst => "icmp.embedded.dst",
            Field::EmbeddedSport => "icmp.embedded.sport",
            Field::EmbeddedDport => "icmp.embedded.dport",
            Field::Payload => "payload",
        }
    }

    /// The field that a `save` names.
    pub(super) const fn saved(field: SaveField) -> Field {
        match field {
            SaveField::EthSrc => Field::EthSrc,
            SaveField::EthDst => Field::EthDst,
            SaveField::ArpSha => Field::ArpSha,
            SaveField::ArpSpa => Field::ArpSpa,
            SaveField::IpSrc => Field::IpSrc,
            SaveField::IpDst => Field::IpDst,
            SaveField::IpTtl => Field::IpTtl,
            SaveField::IpId => Field::IpId,
            SaveField::TcpSrc => Field::TcpSport,
            SaveField::TcpDst => Field::TcpDport,
            SaveField::TcpSeq => Field::TcpSeq,
            SaveField::TcpAck => Field::TcpAck,
            SaveField::UdpSrc => Field::UdpSport,
            SaveField::UdpDst => Field::UdpDport,
            SaveField::IcmpId => Field::IcmpId,
            SaveField::IcmpSeq => Field::IcmpSeq,
            SaveField::IcmpMtu => Field::IcmpMtu,
        }
    }

    /// What the frame says; `None` where it has no such field. `bytes` are the whole frame,
    /// `headers` its own.
    pub(super) fn read(self, bytes: &[u8], headers: &Headers) -> Option<Value> {
        let number = |n: u32| Some(Value::Number(n));
        match self {
            Field::Protocol => Some(Value::Word(protocol_word(headers))),
            Field::EthSrc => Some(Value::Mac(headers.src_mac)),
            Field::EthDst => Some(Value::Mac(headers.dst_mac)),
            Field::ArpOp | Field::ArpSha | Field::ArpSpa | Field::ArpTha | Field::ArpTpa => {
                match &headers.payload {
                    Payload::Arp(arp) => self.read_arp(arp),
                    Payload::Ip(_) | Payload::Other => None,
                }
            }
            Field::Payload => payload(bytes, headers).map(|p| Value::Octets(p.to_vec())),
            Field::IpId => {
                headers.ip().filter(|ip| ip.is_v4())?;
                number(u16_at(bytes, usize::from(headers.l3) + 4)?.into())
            }
            _ => self.read_ip(bytes, headers.ip()?),
        }
    }

    fn read_arp(self, arp: &Arp) -> Option<Value> {
        Some(match self {
            Field::ArpOp => match arp.operation {
                1 => Value::Word("request"),
                2 => Value::Word("reply"),
                other => Value::Number(other.into()),
            },
            Field::ArpSha => Value::Mac(arp.sender_mac),
            Field::ArpSpa => Value::Addr(arp.sender),
            Field::ArpTha => Value::Mac(arp.target_mac),
            Field::ArpTpa => Value::Addr(arp.target),
            _ => return None,
        })
    }

    fn read_ip(self, bytes: &[u8], ip: &Ip) -> Option<Value> {
        match self {
            Field::IpSrc => return Some(Value::Addr(ip.src)),
            Field::IpDst => return Some(Value::Addr(ip.dst)),
            Field::IpTtl => return Some(Value::Number(ip.ttl.into())),
            Field::IpTos => return Some(Value::Number(ip.traffic_class.into())),
            Field::IpDf => return ip.is_v4().then_some(Value::Flag(ip.dont_fragment)),
            Field::FragmentOffset => return Some(Value::Number(ip.fragment?.offset.into())),
            Field::FragmentMore => return Some(Value::Flag(ip.fragment?.more)),
            _ => {}
        }
        match ip.transport {
            Transport::Tcp(tcp) => Some(match self {
                Field::TcpSport => Value::Number(tcp.src_port.into()),
                Field::TcpDport => Value::Number(tcp.dst_port.into()),
                Field::TcpFlags => Value::TcpFlags(tcp.flags),
                Field::TcpSeq => Value::Number(tcp.seq),
                Field::TcpAck => Value::Number(tcp.ack),
                Field::TcpWindow => Value::Number(tcp.window.into()),
                _ => return None,
            }),
            Transport::Udp(udp) => Some(match self {
                Field::UdpSport => Value::Number(udp.src_port.into()),
                Field::UdpDport => Value::Number(udp.dst_port.into()),
                Field::UdpChecksum => Value::Number(u16_at(bytes, usize::from(ip.l4) + 6)?.into()),
                _ => return None,
            }),
            Transport::Icmp(icmp) => self.read_icmp(bytes, ip, &icmp),
            Transport::Other | Transport::LaterFragment => None,
        }
    }

    fn read_icmp(self, bytes: &[u8], ip: &Ip, icmp: &Icmp) -> Option<Value> {
        let l4 = usize::from(ip.l4);
        let identified = match icmp.message {
            IcmpMessage::Query { id, seq } | IcmpMessage::Reply { id, seq } => Some((id, seq)),
            _ => None,
        };
        Some(match self {
            Field::IcmpType => Value::Icmp { kind: icmp.kind, code: icmp.code, v4: ip.is_v4() },
            Field::IcmpCode => Value::Number(icmp.code.into()),
            Field::IcmpId => Value::Number(identified?.0.into()),
            Field::IcmpSeq => Value::Number(identified?.1.into()),
            // RFC 1191, 4: the low 16 bits; RFC 4443, 3.2: all 32.
            Field::IcmpMtu if ip.is_v4() => {
                let has_mtu = icmp.kind == 3 && icmp.code == 4;
                Value::Number(u16_at(bytes, l4 + 6).filter(|_| has_mtu)?.into())
            }
            Field::IcmpMtu => {
                let octets = bytes.get(l4 + 4..)?.first_chunk().filter(|_| icmp.kind == 2)?;
                Value::Number(u32::from_be_bytes(*octets))
            }
            _ => return self.read_embedded(ip.embedded()?),
        })
    }

    fn read_embedded(self, quoted: &Embedded) -> Option<Value> {
        Some(match self {
            Field::EmbeddedProtocol => Value::Word(flow_word(quoted.protocol)),
            Field::EmbeddedSrc => Value::Addr(quoted.src),
            Field::EmbeddedDst => Value::Addr(quoted.dst),
            Field::EmbeddedSport => Value::Number(quoted.src_port.into()),
            Field::EmbeddedDport => Value::Number(quoted.dst_port.into()),
            _ => return None,
        })
    }
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Mac(Mac),
    Addr(packet::Addr),
    Number(u32),
    Flag(bool),
    Word(&'static str),
    TcpFlags(u8),
    Octets(Vec<u8>),
    /// Type and code as they are in a frame.
    Icmp {
        kind: u8,
        code: u8,
        v4: bool,
    },
    /// Type, and code where its name says one, as a test wants it.
    IcmpType(IcmpType),
}

impl Value {
    /// Whether a frame's value is the one wanted.
    pub(super) fn admits(&self, seen: &Value) -> bool {
        match (self, seen) {
            (Value::IcmpType(wanted), Value::Icmp { kind, code, v4 }) => {
                let (wanted_kind, wanted_code) = if *v4 { wanted.v4() } else { wanted.v6() };
                wanted_kind == *kind && wanted_code.is_none_or(|wanted| wanted == *code)
            }
            _ => self == seen,
        }
    }

    /// The wanted value in the words of the family that was seen.
    pub(super) fn beside(&self, seen: Option<&Value>) -> String {
        let v4 = !matches!(seen, Some(Value::Icmp { v4: false, .. }));
        match self {
            Value::IcmpType(wanted) => match if v4 { wanted.v4() } else { wanted.v6() } {
                (kind, Some(code)) => format!("type {kind} code {code}"),
                (kind, None) => format!("type {kind}"),
            },
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Mac(mac) => write!(f, "{mac}"),
            Value::Addr(addr) => write!(f, "{addr}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Flag(set) => write!(f, "{set}"),
            Value::Word(word) => f.write_str(word),
            Value::TcpFlags(0) => f.write_str("none"),
            Value::TcpFlags(bits) => {
                // The letters that a test is written with.
                const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];
                LETTERS
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| bits & 1 << bit != 0)
                    .try_for_each(|(_, letter)| write!(f, "{letter}"))
            }
            Value::Octets(octets) => {
                let shown = octets.get(..SHOWN_OCTETS).unwrap_or(octets);
                write!(f, "\"{}\"", shown.escape_ascii())?;
                match octets.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} octets more"),
                }
            }
            Value::Icmp { kind, code, .. } => write!(f, "type {kind} code {code}"),
            Value::IcmpType(_) => f.write_str(&self.beside(None)),
        }
    }
}

impl From<TcpFlags> for Value {
    fn from(flags: TcpFlags) -> Value {
        Value::TcpFlags(flags.bits())
    }
}

/// What the frame is, in the words of a test's layers.
fn protocol_word(headers: &Headers) -> &'static str {
    match &headers.payload {
        Payload::Arp(_) => "arp",
        Payload::Other => "not ip",
        Payload::Ip(ip) => match ip.transport {
            Transport::Tcp(_) => "tcp",
            Transport::Udp(_) => "udp",
            Transport::Icmp(_) => "icmp",
            Transport::Other => "ip",
            Transport::LaterFragment => "a later fragment",
        },
    }
}

/// The word that a test has for a flow's protocol.
pub(super) fn flow_word(number: u8) -> &'static str {
    match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP | protocol::ICMPV6 => "icmp",
        _ => "ip",
    }
}

/// Data after the innermost header, without Ethernet padding.
fn payload<'b>(bytes: &'b [u8], headers: &Headers) -> Option<&'b [u8]> {
    let ip = headers.ip()?;
    let header = match ip.transport {
        Transport::Tcp(tcp) => usize::from(tcp.header_len),
        Transport::Udp(_) | Transport::Icmp(_) => 8,
        Transport::Other | Transport::LaterFragment => 0,
    };
    bytes.get(usize::from(ip.l4) + header..headers.l3_end())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use packet::{FrameBuilder, parse, tcp_flags};

    fn packet(src: &str, dst: &str) -> FrameBuilder {
        FrameBuilder::new(src.parse().unwrap(), dst.parse().unwrap())
    }

    fn read(field: Field, builder: FrameBuilder) -> Option<Value> {
        let frame = builder.build();
        field.read(&frame.bytes, &parse(&frame.bytes).unwrap())
    }

    #[test]
    fn the_mtu_of_an_error_is_where_its_family_has_it() {
        let v4 = || packet("10.0.0.1", "10.0.0.2");
        let v6 = || packet("fd00::1", "fd00::2");
        // RFC 1191, 4: octets 6 and 7. RFC 4443, 3.2: octets 4 to 7.
        for (builder, expected) in [
            (v4().icmp(3, 4, [0xff, 0xff, 0x05, 0x14]), Some(1300)),
            (v6().icmp(2, 0, [0, 1, 0, 0]), Some(65_536)),
            (v4().icmp(3, 1, [0, 0, 0x05, 0x14]), None),
            (v4().echo_request(1, 2), None),
            (v6().icmp(1, 0, [0, 0, 5, 0]), None),
        ] {
            assert_eq!(read(Field::IcmpMtu, builder), expected.map(Value::Number));
        }
    }

    #[test]
    fn a_payload_has_no_padding_and_no_header() {
        let octets = |text: &str| Some(Value::Octets(text.as_bytes().to_vec()));
        let v4 = || packet("10.0.0.1", "10.0.0.2").payload(b"hi");
        assert_eq!(read(Field::Payload, v4().udp(1, 2)), octets("hi"));
        let options = v4().tcp(1, 2, tcp_flags::ACK).tcp_options(&[1, 1, 1, 1]);
        assert_eq!(read(Field::Payload, options), octets("hi"));
        assert_eq!(read(Field::Payload, v4().echo_reply(1, 2)), octets("hi"));
        assert_eq!(read(Field::Payload, v4().protocol(253)), octets("hi"));
        let mut frame = v4().udp(1, 2).build();
        frame.bytes.resize(60, 0xaa);
        let headers = parse(&frame.bytes).unwrap();
        assert_eq!(Field::Payload.read(&frame.bytes, &headers), octets("hi"));
    }

    #[test]
    fn a_named_icmp_type_means_its_number_in_the_family_seen() {
        let wanted = Value::IcmpType(IcmpType::HostUnreachable);
        let seen = |kind, code, v4| Value::Icmp { kind, code, v4 };
        assert!(wanted.admits(&seen(3, 1, true)));
        assert!(wanted.admits(&seen(1, 3, false)));
        assert!(!wanted.admits(&seen(3, 3, true)));
        assert!(!wanted.admits(&seen(3, 1, false)));
        assert_eq!(wanted.beside(Some(&seen(3, 0, false))), "type 1 code 3");
        // A number leaves the code open.
        assert!(Value::IcmpType(IcmpType::Number(3)).admits(&seen(3, 9, true)));
    }

    #[test]
    fn values_in_words() {
        let flags = Value::TcpFlags(tcp_flags::SYN | tcp_flags::ACK | tcp_flags::CWR);
        assert_eq!(flags.to_string(), "SAC");
        assert_eq!(Value::TcpFlags(0).to_string(), "none");
        assert_eq!(Value::Octets(b"a\n\xff".to_vec()).to_string(), "\"a\\n\\xff\"");
        let long = Value::Octets(vec![b'x'; 70]).to_string();
        assert!(long.ends_with("x\" and 6 octets more"), "{long}");
    }
}
