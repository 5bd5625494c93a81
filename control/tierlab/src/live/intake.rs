//! How frames are taken from ports: in turns, as many at a time as pays.
//!
//! A port that is asked for one frame more than it has costs a call of the kernel for nothing; one that is not asked waits for
//! another round. So each port has a [`Turn`] whose bound follows its traffic: one frame at a time where a request comes now
//! and then, doubling while the port has more in every round, up to [`MOST_FRAMES`] under load. What does not fit into a turn
//! is reported again by the poller, which is level triggered.
//!
//! Octets are bounded as well: what is taken is in the processor's cache when it is handed out, if it is not too much.

use crate::live::port::LivePort;
use engine::Received;
use packet::Frame;
use ports::Buffers;

/// Frames that a port hands over at most before the others have their turn.
pub const MOST_FRAMES: usize = 64;

/// Octets after which a turn ends: two of the largest frames, a fraction of a second-level cache.
const MOST_OCTETS: usize = 128 * 1_024;

/// How many frames a port may hand over in a round.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    bound: usize,
    /// The last round in which the port had all that it might hand over.
    filled: u64,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { bound: 1, filled: 0 }
    }
}

impl Turn {
    /// A port has handed over `taken` frames in `round`; `dry` if it was asked for another and had none.
    fn took(&mut self, round: u64, taken: usize, dry: bool) {
        if dry {
            self.bound = taken.max(1);
            return;
        }
        if round == self.filled + 1 {
            self.bound = (self.bound * 2).min(MOST_FRAMES);
        }
        self.filled = round;
    }
}

/// Gives a port its turn in `round`, which counts up by one.
pub fn take(port: &mut LivePort, round: u64, batch: &mut Vec<Received>, buffers: &mut Buffers) {
    let (mut taken, mut octets, mut dry) = (0, 0, false);
    while taken < port.turn.bound && octets < MOST_OCTETS {
        let mut frame = Frame::new(buffers.take(port.last_len));
        match port.recv(&mut frame) {
            Ok(true) => {
                port.last_len = frame.bytes.len();
                octets += frame.bytes.len();
                buffers.fit(&mut frame.bytes);
                batch.push(Received { port: port.id, frame });
                taken += 1;
            }
            // An error that lasts is reported by the poller; one that does not was this frame's.
            Ok(false) | Err(_) => {
                buffers.put(frame.bytes);
                dry = true;
                break;
            }
        }
    }
    port.turn.took(round, taken, dry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_grows_under_load_and_shrinks_to_what_there_is() {
        let mut turn = Turn::default();
        // Now and then: never asked for more than one.
        for round in [3, 5, 9, 20] {
            turn.took(round, 1, false);
            assert_eq!(turn.bound, 1);
        }
        // In every round.
        for (round, bound) in [(21, 2), (22, 4), (23, 8), (24, 16), (25, 32), (26, 64), (27, 64)] {
            turn.took(round, turn.bound, false);
            assert_eq!(turn.bound, bound);
        }
        turn.took(28, 5, true);
        assert_eq!(turn.bound, 5);
        turn.took(29, 0, true);
        assert_eq!(turn, Turn { bound: 1, filled: 27 });
    }
}
