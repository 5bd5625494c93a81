//! TCP connections on smoltcp, one small stack a connection.
//!
//! smoltcp does TCP (RFC 9293) and nothing else: it is fed IP packets of one connection and gives IP
//! packets back; ARP, routes, TTL and everything about other protocols are the host's. A stack of its
//! own for each connection keeps finding one a single map lookup, lets the path MTU be a
//! connection's own, and leaves nothing behind: a host without connections has no stack.
//!
//! Bounds: [`MAX_CONNECTIONS`] a host, [`BUFFER`] octets each way a connection, half-open and idle
//! connections end by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use packet::{Addr, Frame, Tcp, Time, tcp_flags};
use smoltcp::socket::tcp::State;

use crate::config::{ServiceKind, ServiceProtocol};
use crate::host::{Arrival, Host, HostDrop, Output};
use crate::operation::{
    Failure, Operation, OperationId, OperationResult, Purpose, TcpOptions, TcpReply,
};
use crate::services::echo::{Discard, Echo};
use crate::services::exchange::{Exchange, ReadUntil, TcpEnd};
use crate::services::http::Endpoint;
use crate::services::talk::Talk;
use crate::services::{dns, http};
use crate::stack::{App, Connection};
use crate::timers::Timers;

/// Connections a host has at most; a SYN beyond them is dropped and counted.
pub const MAX_CONNECTIONS: usize = 1024;
/// Octets of the send and of the receive buffer of a connection.
pub const BUFFER: usize = 64 * 1024;
/// A connection that is not established by then is given up (Linux: five SYN|ACK retries, 63 s).
pub const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(63);
/// A connection on which nothing arrives for so long is reset; as long as the distributed firewall
/// keeps an established connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(43_200);

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionKey {
    pub local: Endpoint,
    pub remote: Endpoint,
}

/// All connections of a host.
#[derive(Default)]
pub(crate) struct Connections {
    map: BTreeMap<ConnectionKey, Connection>,
    timers: Timers<ConnectionKey>,
    opened: u64,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn contains(&self, key: &ConnectionKey) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    fn insert(&mut self, key: ConnectionKey, connection: Connection) {
        self.opened += 1;
        self.map.insert(key, connection);
    }
}

impl Host {
    /// A seed for the next connection's initial sequence number: the host's, stepped by a constant
    /// that is odd, so that no two connections of a host share one (splitmix64).
    fn connection_seed(&self) -> u64 {
        let step = self.connections.opened.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed.wrapping_add(step);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn service_app(&self, key: &ConnectionKey) -> Option<App> {
        Some(match self.service(ServiceProtocol::Tcp, key.local.port)? {
            ServiceKind::Echo => App::Echo(Echo),
            ServiceKind::Discard => App::Discard(Discard),
            ServiceKind::Http { identity } => {
                App::Http(http::Server::new(identity, key.local, key.remote))
            }
            ServiceKind::Talk { identity } => App::Talk(Talk::new(identity, key.local, key.remote)),
            ServiceKind::Dns(zone) => App::Dns(dns::Server::new(zone.clone())),
        })
    }

    /// A segment to one of the host's addresses.
    pub(crate) fn receive_tcp(
        &mut self,
        arrival: &Arrival<'_>,
        tcp: &Tcp,
        now: Time,
        out: &mut Output,
    ) {
        let ip = arrival.ip;
        let key = ConnectionKey {
            local: Endpoint { addr: ip.dst, port: tcp.dst_port },
            remote: Endpoint { addr: ip.src, port: tcp.src_port },
        };
        let opening =
            tcp.flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN;
        // A new connection between the same ports ends TIME-WAIT early (RFC 9293, 3.6.1).
        let waiting = |c: &mut Connection| c.socket().state() == State::TimeWait;
        if opening && self.connections.map.get_mut(&key).is_some_and(waiting) {
            self.close_connection(&key);
        }
        if !self.connections.contains(&key) {
            let app = self.service_app(&key).filter(|_| opening);
            let Some(app) = app else {
                self.refuse_tcp(arrival, now, out);
                return;
            };
            if self.connections.len() >= MAX_CONNECTIONS {
                self.count(HostDrop::ConnectionsFull);
                return;
            }
            let mtu = self.mtu_towards(key.local.addr, key.remote.addr, None);
            let seed = self.connection_seed();
            let mut connection = Connection::new(key, app, mtu, self.config.ttl, seed, now);
            connection.bound = arrival.link_scope();
            if !connection.listen(key.local) {
                // Port 0 is no port.
                self.count(HostDrop::Malformed);
                return;
            }
            self.connections.insert(key, connection);
        }
        if let Some(connection) = self.connections.map.get_mut(&key) {
            connection.input(arrival.packet());
            let before = connection.socket().state();
            let mut frames = connection.run(now);
            let after = connection.socket().state();
            connection.reset_by_peer = tcp.flags & tcp_flags::RST != 0
                && before != State::Closed
                && after == State::Closed;
            self.send_segments(&key, &mut frames, now, out);
        }
    }

    fn refuse_tcp(&mut self, arrival: &Arrival<'_>, now: Time, out: &mut Output) {
        if !self.config.answer_closed {
            self.count(HostDrop::ClosedPort);
            return;
        }
        match packet::tcp_reset(arrival.frame, arrival.headers) {
            Some(reset) => self.reply(reset, arrival, now, out),
            None => self.count(HostDrop::ClosedPort),
        }
    }

    /// Lets due connections work.
    pub(crate) fn poll_connections(&mut self, now: Time, out: &mut Output) {
        while let Some(key) = self.connections.timers.pop_due(now) {
            if let Some(connection) = self.connections.map.get_mut(&key) {
                let mut frames = connection.run(now);
                self.send_segments(&key, &mut frames, now, out);
            }
        }
    }

    /// Sends what a connection produced, tells its operation, and removes it when it is over.
    fn send_segments(
        &mut self,
        key: &ConnectionKey,
        frames: &mut Vec<Frame>,
        now: Time,
        out: &mut Output,
    ) {
        let Some(connection) = self.connections.map.get_mut(key) else {
            return;
        };
        let bound = connection.bound;
        let verdict = connection.operation.and_then(|id| connection.verdict(key).map(|v| (id, v)));
        if verdict.is_some() {
            connection.operation = None;
        }
        if matches!(connection.socket().state(), State::Closed | State::Listen) {
            self.close_connection(key);
        } else if let Some(at) = connection.next(now) {
            self.connections.timers.arm(*key, at);
        } else {
            self.connections.timers.cancel(*key);
        }
        for frame in frames.drain(..) {
            // A route may be missing for a while; TCP retransmits.
            if let Err(failure) = self.transmit(frame, bound, now, out) {
                self.count(HostDrop::from(failure));
            }
        }
        if let Some((id, verdict)) = verdict {
            self.finish_connection(id, verdict);
        }
    }

    fn close_connection(&mut self, key: &ConnectionKey) {
        self.connections.timers.cancel(*key);
        self.connections.map.remove(key);
    }

    fn finish_connection(&mut self, id: OperationId, verdict: Result<TcpReply, Failure>) {
        let Some(Operation::Connection { purpose, .. }) = self.operations.remove(&id) else {
            return;
        };
        self.operation_timers.cancel(id);
        let result = match purpose {
            Purpose::Plain => OperationResult::Tcp(verdict),
            Purpose::Http => OperationResult::Http(verdict.and_then(Self::http_reply)),
            Purpose::Dns { asked, .. } => {
                OperationResult::Dns(verdict.and_then(|reply| Self::dns_reply_tcp(&reply, &asked)))
            }
        };
        self.finish(id, result);
    }

    /// Connects, sends and reads; see [`TcpOptions`]. The result is [`OperationResult::Tcp`].
    pub fn start_tcp(
        &mut self,
        dst: Addr,
        port: u16,
        options: TcpOptions,
        now: Time,
        out: &mut Output,
    ) -> OperationId {
        let id = self.new_operation();
        if let Err(failure) =
            self.connect(id, Endpoint { addr: dst, port }, options, Purpose::Plain, now, out)
        {
            self.finish(id, OperationResult::Tcp(Err(failure)));
        }
        self.deliver_loopback(now, out);
        id
    }

    /// Opens a connection for operation `id`. An error means that the operation has not begun.
    pub(crate) fn connect(
        &mut self,
        id: OperationId,
        remote: Endpoint,
        options: TcpOptions,
        purpose: Purpose,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Failure> {
        self.admit_operation()?;
        if self.connections.len() >= MAX_CONNECTIONS {
            return Err(Failure::Invalid("too many connections"));
        }
        let source = self.source_for(remote.addr, options.source, options.interface)?;
        let port = match options.source_port {
            Some(port) => port,
            None => self.ephemeral_port(ServiceProtocol::Tcp, source, remote)?,
        };
        let key = ConnectionKey { local: Endpoint { addr: source, port }, remote };
        if self.connections.contains(&key) {
            return Err(Failure::Invalid("address already in use"));
        }
        let exchange = Exchange::new(options.send, options.until, options.limit);
        let mtu = self.mtu_towards(source, remote.addr, options.interface);
        let seed = self.connection_seed();
        let mut connection =
            Connection::new(key, App::Exchange(exchange), mtu, self.config.ttl, seed, now);
        connection.bound = options.interface;
        connection.operation = Some(id);
        if !connection.connect(&key) {
            return Err(Failure::Invalid("cannot connect to that address and port"));
        }
        let mut frames = connection.run(now);
        self.connections.insert(key, connection);
        self.operations.insert(id, Operation::Connection { key, purpose });
        self.operation_timers.arm(id, now + options.timeout);
        self.send_segments(&key, &mut frames, now, out);
        Ok(())
    }

    /// The time of a connection's operation is over: reset it and report.
    pub(crate) fn connection_timed_out(
        &mut self,
        id: OperationId,
        key: &ConnectionKey,
        now: Time,
        out: &mut Output,
    ) {
        let Some(connection) = self.connections.map.get_mut(key) else {
            self.finish_connection(id, Err(Failure::Timeout));
            return;
        };
        connection.socket().abort();
        let mut frames = connection.run(now);
        if !connection.established {
            // Giving up an unanswered SYN is silent in Linux; smoltcp would reset.
            frames.clear();
        }
        self.send_segments(key, &mut frames, now, out);
    }

    /// An ICMP error about a segment of this connection. While connecting it ends the attempt, as in
    /// Linux; later it is a hint only (RFC 5927), but for the path MTU.
    pub(crate) fn connection_error(
        &mut self,
        key: &ConnectionKey,
        failure: Failure,
        mtu: Option<u32>,
        now: Time,
    ) {
        let Some(connection) = self.connections.map.get_mut(key) else {
            return;
        };
        if let Some(mtu) = mtu {
            connection.lower_mtu(mtu, now);
        } else if connection.socket().state() == State::SynSent
            && let Some(id) = connection.operation
        {
            self.close_connection(key);
            self.finish_connection(id, Err(failure));
        }
    }

    /// Gets a page over HTTP/1.1; `options.send` is the request that this method writes. The result
    /// is [`OperationResult::Http`].
    pub fn start_http_get(
        &mut self,
        server: Endpoint,
        host: &str,
        path: &str,
        options: TcpOptions,
        now: Time,
        out: &mut Output,
    ) -> OperationId {
        let id = self.new_operation();
        let options =
            TcpOptions { send: http::request(host, path), until: ReadUntil::Closed, ..options };
        if let Err(failure) = self.connect(id, server, options, Purpose::Http, now, out) {
            self.finish(id, OperationResult::Http(Err(failure)));
        }
        self.deliver_loopback(now, out);
        id
    }

    fn http_reply(reply: TcpReply) -> Result<crate::operation::HttpReply, Failure> {
        match reply.end {
            TcpEnd::Complete => {}
            TcpEnd::Reset | TcpEnd::PeerClosed => {
                return Err(Failure::Invalid("the server ended the connection early"));
            }
            TcpEnd::TimedOut => return Err(Failure::Timeout),
            TcpEnd::TooMuch => return Err(Failure::Invalid("the response is too large")),
        }
        let response = http::parse_response(&reply.data)
            .ok_or(Failure::Invalid("the response is not HTTP/1"))?;
        Ok(crate::operation::HttpReply { local: reply.local, remote: reply.remote, response })
    }
}
