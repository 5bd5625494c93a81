//! The frames of flows: built once, copied into the engine again and again.
//!
//! The payload begins with a tag: the flow's number, the direction, a mark. So every frame that comes
//! out tells whose it is, and a frame of another flow can never be taken for it. What is behind the
//! tag is zeros.

use crate::flows::{Flow, Protocol, Source};
use engine::Tuple;
use engine::network::PortId;
use packet::{Delta, Frame, FrameBuilder, Headers, Mac, Transport, tcp_flags};

/// Octets of a frame that are kept: Ethernet, IPv6 and TCP headers and the tag.
const HEAD: usize = 80;
/// Octets of the shortest frame, without FCS.
const SHORTEST: usize = 60;
/// Octets of the tag.
pub const TAG: usize = 6;
/// The tag's last octet.
const MARK: u8 = 0xb5;
/// TTL of frames as they are sent.
pub const TTL: u8 = 64;
/// Sequence number of a responder's SYN. An initiator's is the flow's number.
const RESPONDER_SEQUENCE: u32 = 0x1000_0000;

/// Which way a frame goes: 0 from the initiator, 1 from the responder.
pub type Way = u8;

/// From the initiator.
pub const ASK: Way = 0;
/// From the responder.
pub const ANSWER: Way = 1;

/// A frame and where it goes in. All of the frame that is not zeros is in place: a batch reads
/// templates one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Where it goes in.
    pub port: PortId,
    /// Its flow.
    pub flow: u32,
    /// Its way.
    pub way: Way,
    kept: u8,
    octets: u16,
    head: [u8; HEAD],
}

impl Template {
    /// Memory that is written to, so that it is there before it is used.
    pub const BLANK: Template =
        Template { port: PortId(0), flow: 0, way: ASK, kept: 1, octets: 1, head: [0xff; HEAD] };

    /// Keeps a frame whose octets behind the tag are zeros.
    pub fn of(port: PortId, flow: u32, way: Way, bytes: &[u8]) -> Template {
        let mut head = [0; HEAD];
        let kept = bytes.len().min(HEAD);
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = *from;
        }
        // Frames have 60 to 1514 octets.
        Template { port, flow, way, kept: kept as u8, octets: bytes.len() as u16, head }
    }

    /// Writes the frame into a buffer.
    #[inline]
    pub fn copy_to(&self, bytes: &mut Vec<u8>) {
        if self.octets == SHORTEST as u16
            && let Ok(to) = <&mut [u8; SHORTEST]>::try_from(bytes.as_mut_slice())
            && let Some(from) = self.head.first_chunk()
        {
            // The frames that rates are about, by moves of a known length.
            *to = *from;
            return;
        }
        bytes.clear();
        bytes.extend_from_slice(self.head.get(..usize::from(self.kept)).unwrap_or(&self.head));
        if self.octets > u16::from(self.kept) {
            bytes.resize(usize::from(self.octets), 0);
        }
    }

    /// Octets of the frame, without FCS.
    pub fn octets(&self) -> usize {
        usize::from(self.octets)
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.octets());
        self.copy_to(&mut bytes);
        bytes
    }
}

/// Copies a frame to the beginning of `to`.
#[inline]
pub fn copy_out(bytes: &[u8], to: &mut [u8]) {
    if let (Ok(from), Some(to)) =
        (<&[u8; SHORTEST]>::try_from(bytes), to.first_chunk_mut::<SHORTEST>())
    {
        *to = *from;
    } else if let Some(to) = to.get_mut(..bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

/// The tag of a frame.
pub fn tag(flow: u32, way: Way) -> [u8; TAG] {
    let [a, b, c, d] = flow.to_be_bytes();
    [a, b, c, d, way, MARK]
}

/// The stations of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Where it goes in.
    pub port: PortId,
    /// The sender.
    pub from: Mac,
    /// The next hop.
    pub to: Mac,
}

impl Link {
    /// Of an initiator's frames.
    pub fn of(source: &Source) -> Link {
        Link { port: source.port, from: source.mac, to: source.hop }
    }
}

/// A packet of an established flow, `octets` long, or as long as its headers and tag need.
pub fn data(link: Link, tuple: Tuple, flow: u32, way: Way, octets: usize) -> Template {
    let network = if tuple.src.is_v4() { 20 } else { 40 };
    let builder = FrameBuilder::new(tuple.src, tuple.dst).macs(link.from, link.to).ttl(TTL);
    let (transport, builder) = match Protocol::of(tuple.protocol) {
        Some(Protocol::Tcp) => {
            let after = |sequence: u32| sequence.wrapping_add(1);
            let (initiator, responder) = (after(flow), after(RESPONDER_SEQUENCE));
            let (seq, ack) =
                if way == ASK { (initiator, responder) } else { (responder, initiator) };
            let tcp = builder.tcp(tuple.src_port, tuple.dst_port, tcp_flags::ACK | tcp_flags::PSH);
            (20, tcp.seq(seq).ack(ack))
        }
        _ => (8, builder.udp(tuple.src_port, tuple.dst_port)),
    };
    let mut payload = tag(flow, way).to_vec();
    payload.resize(octets.saturating_sub(14 + network + transport).max(TAG), 0);
    Template::of(link.port, flow, way, &builder.payload(&payload).build().bytes)
}

/// The first packet of a flow: over UDP any, over TCP a SYN.
pub fn first(source: &Source, flow: &Flow, number: u32, octets: usize) -> Template {
    let (link, tuple) = (Link::of(source), flow.tuple);
    if Protocol::of(tuple.protocol) != Some(Protocol::Tcp) {
        return data(link, tuple, number, ASK, octets);
    }
    let syn = FrameBuilder::new(tuple.src, tuple.dst)
        .macs(link.from, link.to)
        .ttl(TTL)
        .tcp(tuple.src_port, tuple.dst_port, tcp_flags::SYN)
        .seq(number)
        .build();
    Template::of(link.port, number, ASK, &syn.bytes)
}

/// Whose first packet or first answer a frame is.
pub fn whose(bytes: &[u8], headers: &Headers) -> Option<(u32, Way)> {
    let ip = headers.ip()?;
    if let Transport::Tcp(tcp) = ip.transport {
        return match (tcp.flags & tcp_flags::SYN != 0, tcp.flags & tcp_flags::ACK != 0) {
            (true, false) => Some((tcp.seq, ASK)),
            (true, true) => Some((tcp.ack.wrapping_sub(1), ANSWER)),
            _ => None,
        };
    }
    let at = usize::from(ip.l4) + 8;
    let [a, b, c, d, way, mark] = *bytes.get(at..at + TAG)?.first_chunk::<TAG>()?;
    (mark == MARK && way <= ANSWER).then_some((u32::from_be_bytes([a, b, c, d]), way))
}

/// Makes a first packet that came out the responder's answer to it, in place. Checksums follow by
/// RFC 1624, as in a host's stack that answers at once.
pub fn turn(frame: &mut Frame, headers: &Headers) -> Option<()> {
    let ip = headers.ip()?;
    let (l3, l4) = (usize::from(headers.l3), usize::from(ip.l4));
    let bytes = &mut frame.bytes;
    swap(bytes, 0, 6, 6)?;
    let (addresses, width) = if ip.is_v4() { (l3 + 12, 4) } else { (l3 + 8, 16) };
    swap(bytes, addresses, addresses + width, width)?;
    swap(bytes, l4, l4 + 2, 2)?;
    if ip.is_v4() {
        let lived = edit(bytes, l3 + 8, |word| u16::from(TTL) << 8 | word & 0xff)?;
        edit(bytes, l3 + 10, |sum| lived.update(sum))?;
    } else {
        *bytes.get_mut(l3 + 7)? = TTL;
    }
    match ip.transport {
        Transport::Tcp(tcp) => {
            let seq = replace(bytes, l4 + 4, RESPONDER_SEQUENCE)?;
            let ack = replace(bytes, l4 + 8, tcp.seq.wrapping_add(1))?;
            let flags = edit(bytes, l4 + 12, |word| word | u16::from(tcp_flags::ACK))?;
            edit(bytes, l4 + 16, |sum| (seq + ack + flags).update(sum))?;
        }
        _ => {
            let way = edit(bytes, l4 + 8 + 4, |word| u16::from(ANSWER) << 8 | word & 0xff)?;
            edit(bytes, l4 + 6, |sum| way.update_udp(sum))?;
        }
    }
    Some(())
}

fn swap(bytes: &mut [u8], a: usize, b: usize, len: usize) -> Option<()> {
    let (left, right) = bytes.split_at_mut_checked(b)?;
    left.get_mut(a..a + len)?.swap_with_slice(right.get_mut(..len)?);
    Some(())
}

/// Changes a word; returns what that does to a checksum over it.
fn edit(bytes: &mut [u8], at: usize, change: impl Fn(u16) -> u16) -> Option<Delta> {
    let word = bytes.get_mut(at..)?.first_chunk_mut::<2>()?;
    let before = u16::from_be_bytes(*word);
    let after = change(before);
    *word = after.to_be_bytes();
    Some(Delta::of(before, after))
}

fn replace(bytes: &mut [u8], at: usize, value: u32) -> Option<Delta> {
    let high = edit(bytes, at, |_| (value >> 16) as u16)?;
    let low = edit(bytes, at + 2, |_| value as u16)?;
    Some(high + low)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::flows::Pool;
    use crate::verify::read;
    use packet::parse;

    fn source(address: &str) -> Source {
        Source {
            port: PortId(3),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            hop: Mac([2, 0, 0, 0, 0, 2]),
            addresses: Pool::one(address.parse().unwrap()),
        }
    }

    fn flow(src: &str, dst: &str, protocol: Protocol) -> Flow {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let tuple = Tuple { src, dst, protocol: protocol.number(), src_port: 1024, dst_port: 9 };
        Flow { source: 0, tuple }
    }

    const ENDS: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];

    #[test]
    fn an_answer_has_right_checksums_and_the_ends_the_other_way_round() {
        for (a, b) in ENDS {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                for number in [0, 1, 0xffff, 0x0001_0000, 3_999_999] {
                    let template = first(&source(a), &flow(a, b, protocol), number, 60);
                    let mut frame = Frame::new(template.bytes());
                    let headers = parse(&frame.bytes).unwrap();
                    assert_eq!(whose(&frame.bytes, &headers), Some((number, ASK)));
                    turn(&mut frame, &headers).unwrap();
                    let headers = parse(&frame.bytes).unwrap();
                    assert_eq!(whose(&frame.bytes, &headers), Some((number, ANSWER)));
                    let seen = read(&frame.bytes).unwrap();
                    assert_eq!((seen.src.to_string(), seen.dst.to_string()), (b.into(), a.into()));
                    assert_eq!((seen.src_port, seen.dst_port, seen.ttl), (9, 1024, TTL));
                    assert_eq!(
                        (seen.from, seen.to),
                        (Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
                    );
                }
            }
        }
    }

    #[test]
    fn frames_have_the_size_that_was_asked_for_unless_headers_need_more() {
        for (protocol, a, b, shortest) in [
            (Protocol::Udp, ENDS[0].0, ENDS[0].1, 60),
            (Protocol::Tcp, ENDS[0].0, ENDS[0].1, 60),
            (Protocol::Udp, ENDS[1].0, ENDS[1].1, 68),
            (Protocol::Tcp, ENDS[1].0, ENDS[1].1, 80),
        ] {
            for (octets, want) in [(60, shortest), (590, 590), (1_514, 1_514)] {
                let link = Link::of(&source(a));
                let template = data(link, flow(a, b, protocol).tuple, 7, ANSWER, octets);
                let bytes = template.bytes();
                assert_eq!(bytes.len(), want, "{protocol:?} {a}");
                let seen = read(&bytes).unwrap();
                assert_eq!(seen.payload.get(..TAG), Some(tag(7, ANSWER).as_slice()));
                assert!(seen.payload.iter().skip(TAG).all(|octet| *octet == 0));
            }
        }
    }
}
