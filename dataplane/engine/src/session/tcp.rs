//! The TCP connection of a session, as a middlebox sees it (RFC 9293; state names as in pf).

use super::Direction;
use super::timers::TimerState;
use packet::Tcp;
use packet::tcp_flags::{ACK, FIN, RST, SYN};

/// What a segment, or a run of plain ones, tells about its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// TCP flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Sequence number after the last octet, SYN and FIN counted.
    pub end: u32,
    /// Acknowledgment number; meaningful with ACK.
    pub ack: u32,
}

impl Segment {
    /// What a TCP header tells.
    #[must_use]
    pub fn of(tcp: &Tcp) -> Segment {
        let control = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
        Segment {
            flags: tcp.flags,
            seq: tcp.seq,
            end: tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(control),
            ack: tcp.ack,
        }
    }

    /// Whether it changes nothing but how far its sender is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.flags & (SYN | FIN | RST) == 0 && self.flags & ACK != 0
    }

    /// Takes a later segment of the same sender into account.
    pub fn extend(&mut self, later: Segment) {
        if is_after(later.end, self.end) {
            self.end = later.end;
        }
        if is_after(later.ack, self.ack) {
            self.ack = later.ack;
        }
    }
}

/// Whether some TCP sends segments with these flags (RFC 9293, 3.10): no SYN with FIN or RST, no FIN
/// with RST, and ACK on everything but a SYN or a RST.
#[must_use]
pub fn legal(flags: u8) -> bool {
    let pairs = [SYN | FIN, SYN | RST, FIN | RST];
    flags & (SYN | RST | ACK) != 0 && !pairs.iter().any(|pair| flags & pair == *pair)
}

/// Whether sequence number `a` comes after `b` (RFC 9293, 3.4: modulo 2^32).
fn is_after(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sender {
    syn: bool,
    fin: bool,
    /// First sequence number, once seen.
    first: Option<u32>,
    /// Sequence number after the last octet seen.
    next: u32,
    /// Highest acknowledgment sent.
    acked: Option<u32>,
}

/// A connection in few words. A sender's first sequence number is only asked for until the other has
/// acknowledged something, so that both have one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedTcp {
    /// What has been seen, 10 bits.
    pub(super) bits: u32,
    /// Of each sender the sequence number after the last octet; then the first one, or what the other has
    /// acknowledged.
    pub(super) words: [u32; PackedTcp::WORDS],
}

impl PackedTcp {
    /// Words beside the bits.
    pub(super) const WORDS: usize = 4;
}

/// What has been seen of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpState {
    senders: [Sender; 2],
    acknowledged: bool,
    reset: bool,
}

impl TcpState {
    /// A connection of which the handshake was not seen.
    #[must_use]
    pub fn under_way() -> TcpState {
        let sender = Sender { syn: true, ..Sender::default() };
        TcpState { senders: [sender; 2], acknowledged: true, reset: false }
    }

    /// The state in few words.
    pub(super) fn pack(&self) -> PackedTcp {
        let [a, b] = &self.senders;
        let seen = |s: &Sender| {
            u32::from(s.syn)
                | u32::from(s.fin) << 1
                | u32::from(s.first.is_some()) << 2
                | u32::from(s.acked.is_some()) << 3
        };
        let bits = seen(a) | seen(b) << 4;
        let low = |own: &Sender, other: &Sender| other.acked.or(own.first).unwrap_or(0);
        PackedTcp {
            bits: bits | u32::from(self.acknowledged) << 8 | u32::from(self.reset) << 9,
            words: [a.next, low(a, b), b.next, low(b, a)],
        }
    }

    /// The state again. Once the other has acknowledged something a sender's first sequence number is
    /// only known to have been seen.
    pub(super) fn unpack(packed: PackedTcp) -> TcpState {
        let PackedTcp { bits, words: [a_next, a_low, b_next, b_low] } = packed;
        let bit = |at: u32| bits >> at & 1 != 0;
        let sender = |at: u32, next: u32, own_low: u32, other_low: u32| Sender {
            syn: bit(at),
            fin: bit(at + 1),
            first: bit(at + 2).then_some(own_low),
            next,
            acked: bit(at + 3).then_some(other_low),
        };
        TcpState {
            senders: [sender(0, a_next, a_low, b_low), sender(4, b_next, b_low, a_low)],
            acknowledged: bit(8),
            reset: bit(9),
        }
    }

    fn pair(&self, direction: Direction) -> (&Sender, &Sender) {
        let [forward, reply] = &self.senders;
        match direction {
            Direction::Forward => (forward, reply),
            Direction::Reply => (reply, forward),
        }
    }

    /// Takes a segment into account; a reset only if [`TcpState::takes_reset`].
    pub fn observe(&mut self, direction: Direction, segment: Segment) {
        let [forward, reply] = &mut self.senders;
        let (own, other) = match direction {
            Direction::Forward => (forward, reply),
            Direction::Reply => (reply, forward),
        };
        if segment.flags & RST != 0 {
            self.reset = true;
            return;
        }
        own.syn |= segment.flags & SYN != 0;
        if segment.flags & FIN != 0 {
            own.fin = true;
        }
        match own.first {
            None => (own.first, own.next) = (Some(segment.seq), segment.end),
            Some(_) if is_after(segment.end, own.next) => own.next = segment.end,
            Some(_) => {}
        }
        if segment.flags & ACK != 0 && own.acked.is_none_or(|a| is_after(segment.ack, a)) {
            own.acked = Some(segment.ack);
        }
        // Both SYNs are acknowledged; of a simultaneous open by two segments with SYN (RFC 9293, figure 7).
        self.acknowledged |= own.syn && other.syn && own.acked.is_some() && other.acked.is_some();
    }

    /// Whether the receiver of a reset would take it: its sequence number lies between what the
    /// receiver has acknowledged and what the sender has sent. A reset that answers a SYN must
    /// acknowledge it (RFC 9293, 3.10.7.3).
    #[must_use]
    pub fn takes_reset(&self, direction: Direction, reset: Segment) -> bool {
        let (own, other) = self.pair(direction);
        let Some(first) = own.first else {
            return reset.flags & ACK != 0 && other.first.is_some() && reset.ack == other.next;
        };
        let lowest = other.acked.unwrap_or(first);
        !is_after(lowest, reset.seq) && !is_after(reset.seq, own.next)
    }

    /// The state that the timers go by.
    #[must_use]
    pub fn timer_state(self) -> TimerState {
        let [forward, reply] = self.senders;
        if self.reset {
            TimerState::TcpClosed
        } else if forward.fin && reply.fin {
            TimerState::TcpFinWait
        } else if forward.fin || reply.fin {
            TimerState::TcpClosing
        } else if self.acknowledged {
            TimerState::TcpEstablished
        } else if reply.syn {
            TimerState::TcpOpening
        } else {
            TimerState::TcpFirst
        }
    }

    /// Whether the connection is over, so that a SYN with the same tuple begins another one.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self.timer_state(), TimerState::TcpClosed | TimerState::TcpFinWait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reply};

    fn segment(flags: u8, seq: u32, len: u32, ack: u32) -> Segment {
        let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        Segment { flags, seq, end: seq.wrapping_add(len + control), ack }
    }

    fn after(segments: &[(Direction, u8)]) -> TcpState {
        let mut tcp = TcpState::default();
        for (direction, flags) in segments {
            tcp.observe(*direction, segment(*flags, 1, 0, 1));
        }
        tcp
    }

    fn state(segments: &[(Direction, u8)]) -> TimerState {
        after(segments).timer_state()
    }

    #[test]
    fn a_connection_from_first_to_last() {
        let mut seen = vec![(Forward, SYN)];
        assert_eq!(state(&seen), TimerState::TcpFirst);
        seen.push((Forward, SYN));
        assert_eq!(state(&seen), TimerState::TcpFirst, "a retransmitted SYN changes nothing");
        seen.push((Reply, SYN | ACK));
        assert_eq!(state(&seen), TimerState::TcpOpening);
        seen.push((Reply, SYN | ACK));
        assert_eq!(state(&seen), TimerState::TcpOpening);
        seen.push((Forward, ACK));
        assert_eq!(state(&seen), TimerState::TcpEstablished);
        seen.push((Reply, ACK));
        assert_eq!(state(&seen), TimerState::TcpEstablished);
        seen.push((Reply, FIN | ACK));
        assert_eq!(state(&seen), TimerState::TcpClosing);
        assert!(!after(&seen).is_over());
        seen.push((Forward, FIN | ACK));
        assert_eq!(state(&seen), TimerState::TcpFinWait);
        assert!(after(&seen).is_over());
    }

    #[test]
    fn a_reset_closes_at_once() {
        assert_eq!(state(&[(Forward, SYN), (Reply, RST | ACK)]), TimerState::TcpClosed);
    }

    #[test]
    fn simultaneous_open_is_established() {
        // RFC 9293, 3.5, figure 7.
        let mut seen = vec![(Forward, SYN), (Reply, SYN), (Forward, SYN | ACK)];
        assert_eq!(state(&seen), TimerState::TcpOpening);
        seen.push((Reply, SYN | ACK));
        assert_eq!(state(&seen), TimerState::TcpEstablished);
    }

    #[test]
    fn an_ack_without_the_others_syn_establishes_nothing() {
        assert_eq!(state(&[(Forward, SYN), (Forward, ACK)]), TimerState::TcpFirst);
    }

    #[test]
    fn flags_that_no_tcp_sends() {
        use packet::tcp_flags::{ECE, PSH, URG};
        for good in [
            SYN,
            SYN | ACK,
            ACK,
            RST,
            RST | ACK,
            FIN | ACK,
            PSH | ACK,
            SYN | ECE,
            FIN | PSH | ACK | URG,
        ] {
            assert!(legal(good), "{good:#x}");
        }
        for bad in
            [0, FIN, PSH, URG, FIN | PSH | URG, SYN | FIN, SYN | RST, FIN | RST, SYN | FIN | ACK]
        {
            assert!(!legal(bad), "{bad:#x}");
        }
    }

    /// A connection: initiator's data 1000..1100, responder's 5000..5050, both acknowledged but the
    /// responder's last 20 octets. Numbers of the second run wrap around.
    fn open(a: u32, b: u32) -> TcpState {
        let mut tcp = TcpState::default();
        tcp.observe(Forward, segment(SYN, a.wrapping_sub(1), 0, 0));
        tcp.observe(Reply, segment(SYN | ACK, b.wrapping_sub(1), 0, a));
        tcp.observe(Forward, segment(ACK, a, 100, b));
        tcp.observe(Reply, segment(ACK, b, 30, a.wrapping_add(100)));
        tcp.observe(Forward, segment(ACK, a.wrapping_add(100), 0, b.wrapping_add(30)));
        tcp.observe(Reply, segment(ACK, b.wrapping_add(30), 20, a.wrapping_add(100)));
        tcp
    }

    #[test]
    fn a_connection_in_few_words_goes_on_as_the_whole_one() {
        let flags = [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK];
        // A fixed multiplicative generator: the same segments in every run.
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..500 {
            let mut whole = TcpState::default();
            let mut packed = whole.pack();
            for _ in 0..12 {
                let direction = if draw(2) == 0 { Forward } else { Reply };
                let flags = flags[usize::try_from(draw(6)).unwrap_or(0)];
                let number = |n: u64| u32::try_from(n).unwrap_or(0);
                let s = segment(flags, number(draw(8)), number(draw(3)), number(draw(8)));
                let mut again = TcpState::unpack(packed);
                assert_eq!(whole.timer_state(), again.timer_state());
                assert_eq!(whole.takes_reset(direction, s), again.takes_reset(direction, s));
                whole.observe(direction, s);
                again.observe(direction, s);
                packed = again.pack();
                assert_eq!(whole.pack(), packed);
            }
        }
    }

    #[test]
    fn a_reset_must_be_in_the_window() {
        for (a, b) in [(1_000, 5_000), (u32::MAX - 50, u32::MAX - 10)] {
            let tcp = open(a, b);
            let rst = |direction, seq: u32| tcp.takes_reset(direction, segment(RST, seq, 0, 0));
            assert!(rst(Forward, a.wrapping_add(100)));
            assert!(!rst(Forward, a.wrapping_add(99)));
            assert!(!rst(Forward, a.wrapping_add(101)));
            assert!(rst(Reply, b.wrapping_add(30)));
            assert!(rst(Reply, b.wrapping_add(50)));
            assert!(!rst(Reply, b.wrapping_add(29)));
            assert!(!rst(Reply, b.wrapping_add(51)));
        }
    }

    #[test]
    fn a_reset_that_answers_a_syn_acknowledges_it() {
        let mut tcp = TcpState::default();
        tcp.observe(Forward, segment(SYN, 77, 0, 0));
        assert!(tcp.takes_reset(Reply, segment(RST | ACK, 0, 0, 78)));
        assert!(!tcp.takes_reset(Reply, segment(RST | ACK, 0, 0, 79)));
        assert!(!tcp.takes_reset(Reply, segment(RST, 0, 0, 78)));
        // The initiator gives up.
        assert!(tcp.takes_reset(Forward, segment(RST, 78, 0, 0)));
        assert!(!tcp.takes_reset(Forward, segment(RST, 79, 0, 0)));
    }
}
