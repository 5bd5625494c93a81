//! A service for every client: HTTP to who asks in HTTP, an echo (RFC 862) to everyone else.
//!
//! Emulated workloads have no program that would say what their ports speak, and a port's name or number
//! does not either. The client always speaks first here, so what it begins with decides, once a connection:
//! a method and a space (RFC 9112, 3) make an HTTP request. Octets that may still become that are waited
//! for, unless the client has nothing more to send.

use smoltcp::socket::tcp;

use super::Application;
use super::echo::Echo;
use super::http::{Endpoint, Server};

/// The beginnings of request lines: the methods of RFC 9110, 9.3 and RFC 5789. Methods are case-sensitive.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
];
/// The length of the longest of them, octets.
const LONGEST: usize = 8;

/// The server's side of one connection.
#[derive(Debug)]
pub(crate) enum Talk {
    /// The client has not said enough; the server is what answers if it speaks HTTP.
    Undecided(Server),
    Http(Server),
    Echo(Echo),
}

impl Talk {
    pub(crate) fn new(identity: &str, local: Endpoint, client: Endpoint) -> Talk {
        Talk::Undecided(Server::new(identity, local, client))
    }
}

impl Application for Talk {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        if matches!(self, Talk::Undecided(_)) {
            // Nothing was read yet, so the ring's beginning is in one piece.
            let first = socket.peek(LONGEST).unwrap_or_default();
            let is_http = speaks_http(first).or_else(|| peer_closed(socket).then_some(false));
            let Some(is_http) = is_http else { return false };
            let before = std::mem::replace(self, Talk::Echo(Echo));
            if let (Talk::Undecided(server), true) = (before, is_http) {
                *self = Talk::Http(server);
            }
        }
        match self {
            Talk::Undecided(_) => false,
            Talk::Http(server) => server.step(socket),
            Talk::Echo(echo) => echo.step(socket),
        }
    }
}

/// Whether the peer has closed its side; octets may be left to read.
fn peer_closed(socket: &tcp::Socket<'_>) -> bool {
    use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
    matches!(socket.state(), CloseWait | Closing | LastAck | TimeWait)
}

/// Whether what a client begins with is an HTTP request; `None` while it may become one.
fn speaks_http(first: &[u8]) -> Option<bool> {
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return Some(true);
    }
    let may_become = METHODS.iter().any(|method| method.starts_with(first));
    (!may_become).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_and_a_space_make_a_request() {
        for first in ["GET / HTTP/1.1", "HEAD /", "OPTIONS *", "CONNECT a:1", "PATCH x", "GET "] {
            assert_eq!(speaks_http(first.as_bytes()), Some(true), "{first}");
        }
        for first in ["get / ", "hello", "GETX / ", "GET\t/", "G E", "\0", " GET /", "PINGED "] {
            assert_eq!(speaks_http(first.as_bytes()), Some(false), "{first}");
        }
        for first in ["", "G", "GET", "P", "PO", "CONNECT"] {
            assert_eq!(speaks_http(first.as_bytes()), None, "{first}");
        }
    }

    #[test]
    fn the_longest_beginning_is_looked_at() {
        assert_eq!(METHODS.iter().map(|m| m.len()).max(), Some(LONGEST));
    }
}
