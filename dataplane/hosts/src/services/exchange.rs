//! The client's side of a connection: send some octets, read until enough came back.

use smoltcp::socket::tcp;

use super::{Application, peer_finished, read_into, write_from};

/// When a TCP exchange is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadUntil {
    /// As soon as the connection stands and everything is handed over for sending.
    Connected,
    /// After so many octets were read.
    Octets(usize),
    /// When the peer closes.
    #[default]
    Closed,
    /// When a DNS message with its length prefix (RFC 1035, 4.2.2) has been read.
    DnsMessage,
}

/// How an exchange over a connection that stood ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEnd {
    /// What was waited for came.
    Complete,
    /// The peer closed before that; for [`ReadUntil::Closed`] that is `Complete`.
    PeerClosed,
    /// The peer reset the connection.
    Reset,
    /// Time ran out.
    TimedOut,
    /// The peer sent more than was to be read at most.
    TooMuch,
}

/// Octets to send and what came back.
#[derive(Debug)]
pub(crate) struct Exchange {
    send: Vec<u8>,
    sent: usize,
    until: ReadUntil,
    limit: usize,
    /// Whether the connection was ever established.
    pub connected: bool,
    /// Octets read so far.
    pub received: Vec<u8>,
    /// Set once, when the exchange is over.
    pub end: Option<TcpEnd>,
}

impl Exchange {
    /// An exchange that sends `send` and reads at most `limit` octets.
    pub(crate) fn new(send: Vec<u8>, until: ReadUntil, limit: usize) -> Exchange {
        Exchange { send, sent: 0, until, limit, connected: false, received: Vec::new(), end: None }
    }

    fn complete(&self) -> bool {
        match self.until {
            ReadUntil::Connected => self.sent == self.send.len(),
            ReadUntil::Octets(n) => self.received.len() >= n,
            ReadUntil::Closed => false,
            ReadUntil::DnsMessage => match self.received.first_chunk::<2>() {
                Some(prefix) => self.received.len() - 2 >= usize::from(u16::from_be_bytes(*prefix)),
                None => false,
            },
        }
    }
}

impl Application for Exchange {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        if !self.connected {
            if !socket.may_send() && !socket.may_recv() {
                return false;
            }
            self.connected = true;
        }
        if self.end.is_some() {
            // The result is out; the rest is read away so that the peer can close.
            return socket.recv(|data| (data.len(), data.len())).unwrap_or(0) > 0;
        }
        let wrote = write_from(socket, &self.send, &mut self.sent);
        let room = self.limit - self.received.len().min(self.limit);
        let read = read_into(socket, &mut self.received, room);
        if self.complete() {
            self.end = Some(TcpEnd::Complete);
        } else if room == read && socket.can_recv() {
            self.end = Some(TcpEnd::TooMuch);
        } else if peer_finished(socket) {
            let closed = self.until == ReadUntil::Closed;
            self.end = Some(if closed { TcpEnd::Complete } else { TcpEnd::PeerClosed });
        }
        if self.end.is_some() {
            socket.close();
            return true;
        }
        wrote || read > 0
    }
}
