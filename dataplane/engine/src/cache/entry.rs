//! A cached action: key, what to do, and what has been seen since it was last asked.

use super::path::{Known, Path, PathId, Terms};
use crate::network::{PortId, SegmentId};
use crate::session::{Direction, Segment, SessionId, StatelessRule};
use packet::{Flow, Frame, Mac, Plain, PlainRewrite, Segmentation, Time, tcp_flags};
use smallvec::SmallVec;

/// Flags that a segment of an established connection may have without telling its session.
const PLAIN_FLAGS: u8 =
    tcp_flags::ACK | tcp_flags::PSH | tcp_flags::URG | tcp_flags::ECE | tcp_flags::CWR;

/// Frames that an entry counts before it has to report.
const FULL: u16 = u16::MAX;

/// In [`Entry::session`]: the flow goes against its session's first packet.
const REPLY: u32 = 1 << 31;
/// In [`Entry::session`]: the flow has none.
const NO_SESSION: u32 = REPLY - 1;

/// What an action is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a, const W: usize> {
    /// What it has in common with other flows.
    pub path: Path,
    /// What else.
    pub terms: Terms<'a>,
    /// How far the sender of a TCP connection is: the next sequence number, and the last acknowledgment.
    pub tcp: Option<(u32, u32)>,
    /// Header changes.
    pub rewrite: PlainRewrite<W>,
    /// Whose packets these are.
    pub session: Option<(SessionId, Direction)>,
}

/// A session as an entry remembers it: the place in the table and the lower half of the serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// As [`SessionId::index`].
    pub index: u32,
    /// The lower 32 bits of [`SessionId::serial`].
    pub serial: u32,
}

/// What an action has seen and not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where packets came in.
    pub port: PortId,
    /// Where they left.
    pub out: PortId,
    /// Their sender.
    pub src_mac: Mac,
    /// Whose packets they are.
    pub session: Option<(Owner, Direction)>,
    /// The segment whose learned station the sender is.
    pub learned: Option<SegmentId>,
    /// Rules without state that count the packets.
    pub stateless: SmallVec<[StatelessRule; 2]>,
    /// How far the sender of a TCP connection is.
    pub tcp: Option<Segment>,
    /// Frames.
    pub frames: u64,
    /// Packets on the wire.
    pub packets: u64,
    /// Octets of the frames.
    pub bytes: u64,
    /// When the last one came.
    pub last_seen: Time,
}

/// What came of trying to repeat an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The frame is rewritten, and leaves by this port.
    Sent(PortId),
    /// The action does not hold for this packet; the frame is as it was.
    Refused,
    /// The entry can count no more until it has reported; the frame is as it was.
    Full,
}

/// A cached action. One cache line for IPv4, two for IPv6.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Entry<const W: usize> {
    addresses: [u64; W],
    rewritten: [u64; W],
    last_seen: Time,
    ports: u32,
    rewritten_ports: u32,
    path: PathId,
    session: u32,
    serial: u32,
    bytes: u32,
    end: u32,
    ack: u32,
    header: packet::Delta,
    transport: packet::Delta,
    frames: u16,
    /// Packets on the wire beyond one a frame.
    further: u16,
}

/// The path of an entry that is not in use.
const NO_PATH: PathId = PathId(u32::MAX);

impl<const W: usize> Entry<W> {
    pub(super) fn new(key: &Flow<W>, path: PathId, new: &NewEntry<'_, W>) -> Entry<W> {
        let (end, ack) = new.tcp.unwrap_or_default();
        let (session, serial) = match new.session {
            None => (NO_SESSION, 0),
            Some((id, Direction::Forward)) => (id.index, id.serial as u32),
            Some((id, Direction::Reply)) => (id.index | REPLY, id.serial as u32),
        };
        Entry {
            addresses: key.addresses(),
            rewritten: new.rewrite.addresses,
            last_seen: Time::ZERO,
            ports: key.ports(),
            rewritten_ports: new.rewrite.ports,
            path,
            session,
            serial,
            bytes: 0,
            end,
            ack,
            header: new.rewrite.header,
            transport: new.rewrite.transport,
            frames: 0,
            further: 0,
        }
    }

    /// One that is not in use.
    pub(super) const EMPTY: Entry<W> = Entry {
        addresses: [0; W],
        rewritten: [0; W],
        last_seen: Time::ZERO,
        ports: 0,
        rewritten_ports: 0,
        path: NO_PATH,
        session: NO_SESSION,
        serial: 0,
        bytes: 0,
        end: 0,
        ack: 0,
        header: packet::Delta::ZERO,
        transport: packet::Delta::ZERO,
        frames: 0,
        further: 0,
    };

    /// Its path. There is none with this number if the entry is not in use.
    #[inline]
    pub(super) const fn path(&self) -> PathId {
        self.path
    }

    /// Whether it is the action for `key`, if `path` is its path.
    #[inline]
    pub(super) fn is_for(&self, key: &Flow<W>, path: &Path) -> bool {
        self.addresses == key.addresses()
            && self.ports == key.ports()
            && path.link == key.link()
            && path.place.0 == key.place()
    }

    /// The key that it is under.
    pub(super) fn key(&self, path: &Path) -> Flow<W> {
        Flow::at(self.addresses, self.ports, path.place.0, path.link)
    }

    /// Repeats the action, if all that a stage reads and that is not in the key is as it was.
    // Part of the loop over a batch, as all that it calls: calls would cost a hit a tenth.
    #[inline(always)]
    pub(super) fn repeat(
        &mut self,
        path: &Path,
        plain: &Plain<W>,
        frame: &mut Frame,
        now: Time,
    ) -> Repeat {
        let (size, further) = match &frame.segmentation {
            None => (plain.total_len, 0),
            Some(s) => on_the_wire(plain, s),
        };
        let tcp = plain.flow.is_tcp();
        if tcp && (plain.upper.flags & !PLAIN_FLAGS != 0 || plain.upper.flags & tcp_flags::ACK == 0)
            || plain.src_mac != path.src_mac
            || plain.ttl <= path.rewrite.ttl_decrement()
            || size > path.mtu
        {
            return Repeat::Refused;
        }
        let (bytes, further) =
            (self.bytes.checked_add(frame.bytes.len() as u32), self.further.checked_add(further));
        let (Some(bytes), Some(further), true) = (bytes, further, self.frames < FULL) else {
            return Repeat::Full;
        };
        self.bytes = bytes;
        self.frames += 1;
        self.further = further;
        self.last_seen = now;
        if tcp {
            self.end = later(self.end, plain.upper.end);
            self.ack = later(self.ack, plain.upper.ack);
        }
        let rewrite = PlainRewrite {
            addresses: self.rewritten,
            ports: self.rewritten_ports,
            header: self.header,
            transport: self.transport,
        };
        rewrite.apply(&path.rewrite, &plain.flow, &mut frame.bytes, frame.checksum);
        Repeat::Sent(path.out)
    }

    /// What has been seen since the last call.
    pub(super) fn take_seen(&mut self, known: &Known) -> Seen {
        let path = &known.path;
        let direction =
            if self.session & REPLY != 0 { Direction::Reply } else { Direction::Forward };
        let index = self.session & !REPLY;
        let owned = index != NO_SESSION;
        let tcp = owned && self.key(path).is_tcp();
        let seen = Seen {
            port: path.place,
            out: path.out,
            src_mac: Mac::from_u64(path.src_mac),
            session: owned.then_some((Owner { index, serial: self.serial }, direction)),
            learned: path.learned,
            stateless: known.stateless.iter().copied().collect(),
            tcp: tcp.then_some(Segment {
                flags: tcp_flags::ACK,
                seq: self.end,
                end: self.end,
                ack: self.ack,
            }),
            frames: u64::from(self.frames),
            packets: u64::from(self.frames) + u64::from(self.further),
            bytes: u64::from(self.bytes),
            last_seen: self.last_seen,
        };
        (self.frames, self.further, self.bytes) = (0, 0, 0);
        seen
    }

    /// Whether there is something to report.
    #[inline]
    pub(super) const fn has_seen(&self) -> bool {
        self.frames > 0
    }
}

/// The later of two sequence numbers (RFC 9293, 3.4: modulo 2^32).
#[inline]
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

/// Size of the largest packet that a large frame becomes, and the number of packets beyond the first.
#[cold]
fn on_the_wire<const W: usize>(plain: &Plain<W>, s: &Segmentation) -> (u32, u16) {
    let headers = plain.headers_len();
    let data = plain.total_len.saturating_sub(headers);
    let size = u32::from(s.size);
    let packets = data.div_ceil(size.max(1)).max(1);
    // No frame has more octets than 65,575, of which 28 are headers.
    let further = u16::try_from(packets - 1).unwrap_or(u16::MAX);
    (plain.total_len.min(headers + size), further)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!((size_of::<Entry<1>>(), size_of::<Entry<4>>()), (64, 128));
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(later(5, 9), 9);
        assert_eq!(later(9, 5), 9);
        assert_eq!(later(u32::MAX, 3), 3);
        assert_eq!(later(3, u32::MAX), 3);
    }
}
