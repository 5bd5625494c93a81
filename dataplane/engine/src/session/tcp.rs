//! The TCP connection of a session, as a middlebox sees it (RFC 9293; state names as in pf).

use super::Direction;
use super::timers::TimerState;
use packet::tcp_flags::{ACK, FIN, RST, SYN};

/// What has been seen of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpState {
    syn: [bool; 2],
    fin: [bool; 2],
    acknowledged: bool,
    reset: bool,
}

impl TcpState {
    /// Takes a segment with these flags into account.
    pub fn observe(&mut self, direction: Direction, flags: u8) {
        let (own, other) = match direction {
            Direction::Forward => (0, 1),
            Direction::Reply => (1, 0),
        };
        if flags & RST != 0 {
            self.reset = true;
            return;
        }
        if flags & SYN != 0 {
            self.syn[own] = true;
        } else if flags & ACK != 0 && self.syn[other] && self.syn[own] {
            self.acknowledged = true;
        }
        if flags & FIN != 0 {
            self.fin[own] = true;
        }
    }

    /// The state that the timers go by.
    #[must_use]
    pub fn timer_state(self) -> TimerState {
        if self.reset {
            TimerState::TcpClosed
        } else if self.fin == [true, true] {
            TimerState::TcpFinWait
        } else if self.fin[0] || self.fin[1] {
            TimerState::TcpClosing
        } else if self.acknowledged {
            TimerState::TcpEstablished
        } else if self.syn[1] {
            TimerState::TcpOpening
        } else {
            TimerState::TcpFirst
        }
    }

    /// Whether the connection is over, so that a SYN with the same tuple begins another one.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.reset || self.fin == [true, true]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reply};

    fn after(segments: &[(Direction, u8)]) -> TimerState {
        let mut tcp = TcpState::default();
        for (direction, flags) in segments {
            tcp.observe(*direction, *flags);
        }
        tcp.timer_state()
    }

    #[test]
    fn a_connection_from_first_to_last() {
        let mut seen = vec![(Forward, SYN)];
        assert_eq!(after(&seen), TimerState::TcpFirst);
        seen.push((Forward, SYN));
        assert_eq!(after(&seen), TimerState::TcpFirst, "a retransmitted SYN changes nothing");
        seen.push((Reply, SYN | ACK));
        assert_eq!(after(&seen), TimerState::TcpOpening);
        seen.push((Reply, SYN | ACK));
        assert_eq!(after(&seen), TimerState::TcpOpening);
        seen.push((Forward, ACK));
        assert_eq!(after(&seen), TimerState::TcpEstablished);
        seen.push((Reply, ACK));
        assert_eq!(after(&seen), TimerState::TcpEstablished);
        seen.push((Reply, FIN | ACK));
        assert_eq!(after(&seen), TimerState::TcpClosing);
        seen.push((Forward, FIN | ACK));
        assert_eq!(after(&seen), TimerState::TcpFinWait);
    }

    #[test]
    fn a_reset_closes_at_once() {
        assert_eq!(after(&[(Forward, SYN), (Reply, RST | ACK)]), TimerState::TcpClosed);
    }

    #[test]
    fn simultaneous_open_is_established() {
        // RFC 9293, 3.5, figure 7.
        assert_eq!(
            after(&[
                (Forward, SYN),
                (Reply, SYN),
                (Forward, SYN | ACK),
                (Reply, SYN | ACK),
                (Reply, ACK)
            ]),
            TimerState::TcpEstablished
        );
    }

    #[test]
    fn an_ack_without_the_others_syn_establishes_nothing() {
        assert_eq!(after(&[(Forward, SYN), (Forward, ACK)]), TimerState::TcpFirst);
    }
}
