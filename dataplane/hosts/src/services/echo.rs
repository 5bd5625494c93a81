//! Echo (RFC 862) and discard (RFC 863) over TCP. Over UDP they are one line each, in `udp.rs`.

use smoltcp::socket::tcp;

use super::{Application, peer_finished, read_into, send_space, write_from};

/// Sends back what it receives and closes when the peer has.
#[derive(Debug, Default)]
pub(crate) struct Echo;

impl Application for Echo {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let mut chunk = Vec::new();
        // Reads only what can be written back: the peer's window closes when it does not read.
        let space = send_space(socket);
        if read_into(socket, &mut chunk, space) > 0 {
            return write_from(socket, &chunk, &mut 0);
        }
        close_after_peer(socket)
    }
}

/// Reads everything, answers nothing and closes when the peer has.
#[derive(Debug, Default)]
pub(crate) struct Discard;

impl Application for Discard {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let dropped = socket.recv(|data| (data.len(), data.len())).unwrap_or(0);
        dropped > 0 || close_after_peer(socket)
    }
}

fn close_after_peer(socket: &mut tcp::Socket<'_>) -> bool {
    let close = peer_finished(socket) && socket.may_send();
    if close {
        socket.close();
    }
    close
}
