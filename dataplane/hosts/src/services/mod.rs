//! What listens on an emulated host's ports, and the other end of it.
//!
//! A service sees a connection as [`tcp::Socket`] and is asked to `step` whenever
//! something may have changed; it reads and writes what fits and says whether it did anything. It
//! never blocks, keeps bounded buffers and reads no clock.

pub mod dns;
mod dns_message;
pub(crate) mod echo;
pub(crate) mod exchange;
pub mod http;
pub(crate) mod talk;
pub mod zone;

use smoltcp::socket::tcp;

/// What runs on one TCP connection.
pub(crate) trait Application {
    /// Reads and writes what can be read and written now; `true` if it did anything.
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool;
}

/// Whether the peer will send nothing more and everything it sent has been read.
pub(crate) fn peer_finished(socket: &tcp::Socket<'_>) -> bool {
    use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
    // may_recv() stays true while received data is unread. CLOSED is not among the states: that may
    // be a reset, which finishes nothing.
    !socket.may_recv() && matches!(socket.state(), CloseWait | LastAck | Closing | TimeWait)
}

/// Free space in the send buffer, octets.
pub(crate) fn send_space(socket: &tcp::Socket<'_>) -> usize {
    if socket.may_send() { socket.send_capacity() - socket.send_queue() } else { 0 }
}

/// Reads at most `limit` octets into `buffer`; how many it read.
pub(crate) fn read_into(socket: &mut tcp::Socket<'_>, buffer: &mut Vec<u8>, limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    socket
        .recv(|data| {
            let n = data.len().min(limit);
            buffer.extend(data.iter().take(n));
            (n, n)
        })
        .unwrap_or(0)
}

/// Writes what fits of `data` from `sent` on and moves `sent`; whether it wrote anything.
pub(crate) fn write_from(socket: &mut tcp::Socket<'_>, data: &[u8], sent: &mut usize) -> bool {
    let rest = data.get(*sent..).unwrap_or_default();
    if rest.is_empty() || !socket.may_send() {
        return false;
    }
    let n = socket.send_slice(rest).unwrap_or(0);
    *sent += n;
    n > 0
}
