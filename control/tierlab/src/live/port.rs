//! A port with something real in the place of its emulated endpoint.

use crate::live::intake::Turn;
use crate::live::packet_socket::PacketSocket;
use engine::network::PortId;
use packet::{Frame, Time};
use ports::{PcapWriter, Tap, wire_frames};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What carries the port's frames.
#[derive(Debug)]
pub enum Carrier {
    /// A TAP.
    Tap(Tap),
    /// An interface that exists.
    Socket(PacketSocket),
    /// A capture file, or nothing where frames are only read from one.
    Capture(Option<PcapWriter>),
}

/// A live port.
#[derive(Debug)]
pub struct LivePort {
    /// Full name of the port.
    pub name: String,
    /// The port.
    pub id: PortId,
    carrier: Carrier,
    /// How much it may hand over at a time.
    pub turn: Turn,
    /// Octets of the last frame that it handed over: what the next one is probably like.
    pub last_len: usize,
    /// What came out of the carrier, or of a capture, and went into the lab.
    pub received: u64,
    /// What left the lab and was taken by the carrier.
    pub sent: u64,
    /// What left the lab and was not.
    pub unsent: u64,
}

impl LivePort {
    /// A port of which nothing has been heard.
    pub fn new(name: String, id: PortId, carrier: Carrier) -> LivePort {
        let turn = Turn::default();
        LivePort { name, id, carrier, turn, last_len: 0, received: 0, sent: 0, unsent: 0 }
    }

    /// What can be waited for.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.carrier {
            Carrier::Tap(tap) => Some(tap.as_fd()),
            Carrier::Socket(socket) => Some(socket.as_fd()),
            Carrier::Capture(_) => None,
        }
    }

    /// The name of the TAP, as it was when it was made.
    pub fn tap_name(&self) -> Option<&str> {
        match &self.carrier {
            Carrier::Tap(tap) => Some(tap.name()),
            Carrier::Socket(_) | Carrier::Capture(_) => None,
        }
    }

    /// Frames that came and were too broken or too long to be taken.
    pub fn refused(&self) -> u64 {
        match &self.carrier {
            Carrier::Tap(tap) => tap.counters().refused + tap.counters().oversize,
            Carrier::Socket(socket) => socket.oversize(),
            Carrier::Capture(_) => 0,
        }
    }

    /// Takes the next frame into `frame`; `false` if none waits.
    pub fn recv(&mut self, frame: &mut Frame) -> io::Result<bool> {
        let received = match &mut self.carrier {
            Carrier::Tap(tap) => tap.recv(frame)?,
            Carrier::Socket(socket) => socket.recv(frame)?,
            Carrier::Capture(_) => false,
        };
        self.received += u64::from(received);
        Ok(received)
    }

    /// Whether an error state that the poller reports is for good. A deleted TAP does not come back;
    /// a packet socket says once that its interface went down, and hears again when it is up.
    pub fn is_lost(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::Tap(_) => true,
            Carrier::Socket(socket) => {
                socket.clear_error();
                false
            }
            Carrier::Capture(_) => false,
        }
    }

    /// Hands a frame over. What cannot be delivered is counted; a capture file that cannot be
    /// written is given up, and standard error says so once.
    pub fn send(&mut self, now: Time, frame: &Frame) {
        let sent = match &mut self.carrier {
            Carrier::Tap(tap) => tap.send(frame).is_ok(),
            Carrier::Socket(socket) => socket.send(frame).is_ok(),
            // Nobody asked what leaves here.
            Carrier::Capture(None) => true,
            Carrier::Capture(Some(writer)) => match write(writer, now, frame) {
                Ok(()) => true,
                Err(error) => {
                    eprintln!("{}: the capture ends here: {error}", self.name);
                    self.carrier = Carrier::Capture(None);
                    false
                }
            },
        };
        if sent {
            self.sent += 1;
        } else {
            self.unsent += 1;
        }
    }

    /// Closes the carrier. An error says what is not complete.
    pub fn close(self) -> Result<(), String> {
        match self.carrier {
            Carrier::Capture(Some(writer)) => writer.finish().map_err(|e| e.to_string()),
            Carrier::Tap(_) | Carrier::Socket(_) | Carrier::Capture(None) => Ok(()),
        }
    }
}

/// Writes a frame as a wire would have carried it.
fn write(writer: &mut PcapWriter, now: Time, frame: &Frame) -> Result<(), String> {
    for frame in wire_frames(frame).map_err(|e| e.to_string())? {
        writer.write(now, &frame.bytes).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use ports::PcapReader;

    #[test]
    fn a_capture_has_what_was_sent_and_nothing_comes_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.pcap");
        let writer = PcapWriter::create(&path).unwrap();
        let mut port = LivePort::new("pod/a/b".into(), PortId(3), Carrier::Capture(Some(writer)));
        assert!(port.descriptor().is_none());
        assert!(!port.recv(&mut Frame::default()).unwrap());
        let frame = Frame::new(vec![0x5a; 60]);
        port.send(Time::from_millis(1_500), &frame);
        assert_eq!((port.received, port.sent, port.unsent), (0, 1, 0));
        port.close().unwrap();
        let read: Vec<_> = PcapReader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [(1_500_000_000, frame.bytes)]);
    }

    #[test]
    fn a_frame_that_cannot_be_written_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let writer = PcapWriter::create(directory.path().join("out.pcap")).unwrap();
        let mut port = LivePort::new("pod/a/b".into(), PortId(3), Carrier::Capture(Some(writer)));
        // Past 2106 the format has no seconds.
        port.send(Time::NEVER, &Frame::new(vec![0; 60]));
        assert_eq!((port.sent, port.unsent), (0, 1));
    }
}
