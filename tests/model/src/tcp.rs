//! A TCP connection as seen from the middle (RFC 9293; resets as RFC 5961, 3).

use crate::packet::flag::{ACK, FIN, RST, SYN};
use crate::timers::State;

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) len: u32,
}

impl Segment {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number behind its last octet; SYN and FIN count one each.
    fn end(self) -> u32 {
        let end = self.seq.wrapping_add(self.len);
        end.wrapping_add(u32::from(self.has(SYN))).wrapping_add(u32::from(self.has(FIN)))
    }
}

/// Whether any TCP sends these flags: one of SYN, FIN and RST at most, and an ACK on all but SYN and RST.
pub(crate) fn is_legal(flags: u8) -> bool {
    let control = (flags & (SYN | FIN | RST)).count_ones();
    control <= 1 && flags & (SYN | RST | ACK) != 0
}

/// Whether `a` is at or behind `b` on the circle of sequence numbers.
fn reaches(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// What one end has sent.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    syn: bool,
    fin: bool,
    /// From its first octet to behind its last one.
    sent: Option<(u32, u32)>,
    acknowledged: Option<u32>,
}

/// A connection; end 0 began it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    ends: [End; 2],
    open: bool,
    reset: bool,
}

impl Connection {
    /// A connection that was under way when it was first seen counts as established (docs/choices.md).
    pub(crate) fn under_way() -> Connection {
        let end = End { syn: true, ..End::default() };
        Connection { ends: [end, end], open: true, reset: false }
    }

    fn end(&self, sender: usize) -> End {
        self.ends.get(sender).copied().unwrap_or_default()
    }

    pub(crate) fn see(&mut self, sender: usize, segment: Segment) {
        if segment.has(RST) {
            self.reset = true;
            return;
        }
        let Some(own) = self.ends.get_mut(sender) else { return };
        own.syn |= segment.has(SYN);
        own.fin |= segment.has(FIN);
        own.sent = Some(match own.sent {
            None => (segment.seq, segment.end()),
            Some((first, end)) if reaches(segment.end(), end) => (first, segment.end()),
            Some(unchanged) => unchanged,
        });
        if segment.has(ACK) && own.acknowledged.is_none_or(|before| reaches(segment.ack, before)) {
            own.acknowledged = Some(segment.ack);
        }
        // Each has acknowledged the other's SYN; where both opened at once, by a SYN of its own.
        self.open |= self.ends.iter().all(|end| end.syn && end.acknowledged.is_some());
    }

    /// Whether the receiver would believe a reset: it lies between what the receiver has acknowledged and what its sender has
    /// sent; from a sender of whom nothing was seen, it acknowledges exactly what the other has sent.
    pub(crate) fn believes(&self, sender: usize, reset: Segment) -> bool {
        let (own, other) = (self.end(sender), self.end(1 - sender));
        match own.sent {
            Some((first, end)) => {
                let from = other.acknowledged.unwrap_or(first);
                reaches(reset.seq, from) && reaches(end, reset.seq)
            }
            None => reset.has(ACK) && other.sent.is_some_and(|(_, end)| end == reset.ack),
        }
    }

    pub(crate) fn state(&self) -> State {
        let fins = self.ends.iter().filter(|end| end.fin).count();
        match (self.reset, fins) {
            (true, _) => State::TcpClosed,
            (_, 2) => State::TcpFinWait,
            (_, 1) => State::TcpClosing,
            _ if self.open => State::TcpEstablished,
            _ if self.end(1).syn => State::TcpOpening,
            _ => State::TcpFirst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, ack: u32) -> Segment {
        Segment { flags, seq, ack, len: 0 }
    }

    #[test]
    fn a_handshake_a_close_and_a_reset() {
        let mut tcp = Connection::default();
        tcp.see(0, segment(SYN, 10, 0));
        assert_eq!(tcp.state(), State::TcpFirst);
        // Who has sent nothing yet must acknowledge the SYN to refuse it.
        assert!(tcp.believes(1, segment(RST | ACK, 0, 11)));
        assert!(!tcp.believes(1, segment(RST | ACK, 0, 12)));
        tcp.see(1, segment(SYN | ACK, 90, 11));
        assert_eq!(tcp.state(), State::TcpOpening);
        tcp.see(0, segment(ACK, 11, 91));
        assert_eq!(tcp.state(), State::TcpEstablished);
        assert!(tcp.believes(1, segment(RST, 91, 0)));
        assert!(!tcp.believes(1, segment(RST, 92, 0)));
        tcp.see(1, segment(FIN | ACK, 91, 11));
        assert_eq!(tcp.state(), State::TcpClosing);
        tcp.see(0, segment(FIN | ACK, 11, 92));
        assert_eq!(tcp.state(), State::TcpFinWait);
        tcp.see(0, segment(RST, 12, 0));
        assert_eq!(tcp.state(), State::TcpClosed);
    }

    #[test]
    fn flags_that_some_tcp_sends() {
        for good in [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK] {
            assert!(is_legal(good), "{good:#x}");
        }
        for bad in [0, FIN, SYN | FIN, SYN | RST, FIN | RST | ACK] {
            assert!(!is_legal(bad), "{bad:#x}");
        }
    }
}
