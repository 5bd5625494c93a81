//! Fragments (RFC 791; RFC 4787, REQ-14; RFC 5722): later ones follow their first one, in any order, and stay fragments; one that
//! overlaps another condemns the datagram.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::{Content, Framed, Packet, Piece, protocol};

/// How long the fragments of a datagram may trickle in (docs/reference.md, "Limits").
const PATIENCE: Duration = Duration::from_secs(30);

/// What tells datagrams apart: ingress port, addresses, identification, protocol.
type Key = (u32, IpAddr, IpAddr, u16, u8);

/// What became of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// It has not come, or waits for a neighbour.
    Awaited,
    /// It passed; later ones have its transport header.
    Passed(Content),
    /// The datagram is lost.
    Refused,
}

#[derive(Clone, Debug)]
struct Datagram {
    key: Key,
    until: Duration,
    first: First,
    waiting: Vec<Framed>,
    /// From where to where, and whether others follow.
    pieces: Vec<(u32, u32, bool)>,
}

/// All datagrams under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fragments(Vec<Datagram>);

fn key(port: u32, packet: &Packet) -> Key {
    let number = match packet.content {
        Content::Tcp { .. } => protocol::TCP,
        Content::Udp { .. } => protocol::UDP,
        Content::Echo { .. } | Content::Error { .. } => protocol::ICMP,
        Content::Rest { protocol, .. } => protocol,
    };
    (port, packet.src, packet.dst, packet.cut.unwrap_or(0), number)
}

impl Fragments {
    pub(crate) fn age(&mut self, now: Duration) {
        self.0.retain(|d| d.until > now);
    }

    /// A fragment has come. Says what is known of the first one; `None`: it overlaps another one.
    pub(crate) fn comes(
        &mut self,
        port: u32,
        packet: &Packet,
        piece: Piece,
        now: Duration,
    ) -> Option<First> {
        let key = key(port, packet);
        let (from, to) = (piece.offset, piece.offset + packet.payload());
        let Some(datagram) = self.0.iter_mut().find(|d| d.key == key) else {
            self.0.push(Datagram {
                key,
                until: now + PATIENCE,
                first: First::Awaited,
                waiting: Vec::new(),
                pieces: vec![(from, to, piece.more)],
            });
            return Some(First::Awaited);
        };
        if datagram.first == First::Refused {
            return Some(First::Refused);
        }
        if datagram.pieces.iter().any(|(start, end, _)| from < *end && *start < to) {
            datagram.first = First::Refused;
            datagram.waiting.clear();
            return None;
        }
        datagram.pieces.push((from, to, piece.more));
        Some(datagram.first)
    }

    /// A later fragment waits for its first one.
    pub(crate) fn waits(&mut self, port: u32, frame: &Framed) {
        let key = key(port, &frame.packet);
        if let Some(datagram) = self.0.iter_mut().find(|d| d.key == key) {
            datagram.waiting.push(*frame);
        }
    }

    /// What became of the first fragment; those that waited for it.
    pub(crate) fn settles(&mut self, port: u32, packet: &Packet, first: First) -> Vec<Framed> {
        let key = key(port, packet);
        let Some(datagram) = self.0.iter_mut().find(|d| d.key == key) else { return Vec::new() };
        datagram.first = first;
        std::mem::take(&mut datagram.waiting)
    }

    /// A datagram that is complete is forgotten.
    pub(crate) fn forget_complete(&mut self) {
        self.0.retain(|d| {
            let mut pieces = d.pieces.clone();
            pieces.sort_unstable();
            let mut reached = Some(0);
            for (from, to, more) in pieces {
                reached = reached.filter(|at| *at == from).map(|_| to);
                if !more && reached.is_some() && matches!(d.first, First::Passed(_)) {
                    return false;
                }
            }
            true
        });
    }
}

/// Cuts a packet, perhaps a fragment itself, into pieces that fit (RFC 791, 3.2).
pub(crate) fn cut(packet: Packet, mtu: u16) -> Vec<Packet> {
    if packet.size() <= u32::from(mtu) {
        return vec![packet];
    }
    let most = u32::from(mtu).saturating_sub(20) / 8 * 8;
    let (number, header) = match packet.content {
        Content::Tcp { .. } => (protocol::TCP, 20),
        Content::Udp { .. } => (protocol::UDP, 8),
        Content::Echo { .. } | Content::Error { .. } => (protocol::ICMP, 8),
        Content::Rest { protocol, .. } => (protocol, 0),
    };
    let Piece { offset, more } = packet.piece.unwrap_or(Piece { offset: 0, more: false });
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < packet.payload() && most > 0 {
        let to = packet.payload().min(from + most);
        let piece = Some(Piece { offset: offset + from, more: more || to < packet.payload() });
        let mut content = Content::Rest { protocol: number, len: to - from };
        if from == 0 {
            content = shortened(packet.content, to - header);
        }
        pieces.push(Packet { piece, content, ..packet });
        from = to;
    }
    pieces
}

/// The same header with less data.
fn shortened(content: Content, data: u32) -> Content {
    match content {
        Content::Tcp { src_port, dst_port, flags, seq, ack, .. } => {
            Content::Tcp { src_port, dst_port, flags, seq, ack, len: data }
        }
        Content::Udp { src_port, dst_port, .. } => Content::Udp { src_port, dst_port, len: data },
        Content::Echo { reply, id, .. } => Content::Echo { reply, id, len: data },
        Content::Rest { protocol, .. } => Content::Rest { protocol, len: data },
        error @ Content::Error { .. } => error,
    }
}
