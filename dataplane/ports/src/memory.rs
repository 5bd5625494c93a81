//! A pair of ports joined back to back in memory, for tests and for frames from a thread of this
//! process. Two bounded queues, one each way; a full queue drops the new frame and counts it, as a
//! device's receive ring does.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use packet::Frame;

/// What one end of a pair has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    /// Frames taken from the other end.
    pub received: u64,
    /// Frames put in the queue to the other end.
    pub sent: u64,
    /// Frames dropped because that queue was full.
    pub dropped_full: u64,
    /// Frames dropped because the other end is gone.
    pub dropped_gone: u64,
}

/// One end of a pair.
#[derive(Debug)]
pub struct MemoryPort {
    outbound: SyncSender<Frame>,
    inbound: Receiver<Frame>,
    counters: MemoryCounters,
}

/// Two ports, each receiving what the other sends. `capacity`: frames each queue holds; 0 counts as 1,
/// since a port never waits for its reader.
#[must_use]
pub fn memory_pair(capacity: usize) -> (MemoryPort, MemoryPort) {
    let capacity = capacity.max(1);
    let (left_out, right_in) = sync_channel(capacity);
    let (right_out, left_in) = sync_channel(capacity);
    let end =
        |outbound, inbound| MemoryPort { outbound, inbound, counters: MemoryCounters::default() };
    (end(left_out, left_in), end(right_out, right_in))
}

impl MemoryPort {
    /// Takes the next frame into `frame`; `false` if none waits.
    ///
    /// # Errors
    /// None: the result type is that of every port.
    pub fn recv(&mut self, frame: &mut Frame) -> io::Result<bool> {
        match self.inbound.try_recv() {
            Ok(next) => {
                *frame = next;
                self.counters.received += 1;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Hands a copy of `frame` to the other end, or drops and counts it.
    ///
    /// # Errors
    /// None: a full queue or a lost peer is counted, as on a wire.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        match self.outbound.try_send(frame.clone()) {
            Ok(()) => self.counters.sent += 1,
            Err(TrySendError::Full(_)) => self.counters.dropped_full += 1,
            Err(TrySendError::Disconnected(_)) => self.counters.dropped_gone += 1,
        }
        Ok(())
    }

    /// What this end has done so far.
    #[must_use]
    pub fn counters(&self) -> MemoryCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn frames_cross_in_order_with_their_offload_state() {
        let (mut left, mut right) = memory_pair(4);
        let mut large = Frame::new(vec![1; 60]);
        large.checksum = packet::ChecksumState::Verified;
        left.send(&large).unwrap();
        left.send(&Frame::new(vec![2; 60])).unwrap();
        let mut frame = Frame::default();
        assert!(right.recv(&mut frame).unwrap());
        assert_eq!(frame, large);
        assert!(right.recv(&mut frame).unwrap());
        assert_eq!(frame, Frame::new(vec![2; 60]));
        assert!(!right.recv(&mut frame).unwrap());
        assert!(!left.recv(&mut frame).unwrap(), "nothing comes back");
    }

    #[test]
    fn a_full_queue_and_a_lost_peer_are_counted() {
        let (mut left, right) = memory_pair(2);
        for _ in 0..3 {
            left.send(&Frame::new(vec![0; 60])).unwrap();
        }
        drop(right);
        left.send(&Frame::new(vec![0; 60])).unwrap();
        let expected = MemoryCounters { received: 0, sent: 2, dropped_full: 1, dropped_gone: 1 };
        assert_eq!(left.counters(), expected);
    }
}
