//! What a host is asked to do, and what came of it.
//!
//! An operation is started by one of the `start_` methods of [`crate::Host`], runs while frames and
//! time are handed to the host, and leaves exactly one [`OperationResult`] to be taken.

use std::fmt;
use std::time::Duration;

use packet::{Addr, Time};

use crate::routing::RouteError;
use crate::services::dns::{DnsAnswer, RecordType};
use crate::services::exchange::{ReadUntil, TcpEnd};
use crate::services::http::{Endpoint, HttpResponse};

/// Names one operation of one host; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub(crate) u64);

/// How to ping; the defaults are those of iputils, with `-c 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingOptions {
    /// Device to bind to (`-I eth0`), by index.
    pub interface: Option<usize>,
    /// Source address (`-I 10.0.0.1`); must be one of the host's own.
    pub source: Option<Addr>,
    /// Requests to send (`-c`), 1 to 65535.
    pub count: u32,
    /// Time between requests (`-i`).
    pub interval: Duration,
    /// How long to wait for answers after the last request (`-W`).
    pub timeout: Duration,
    /// Octets of data behind the ICMP header (`-s`), 0 to 65507.
    pub size: u16,
    /// TTL or hop limit (`-t`); the host's own if `None`. 1 to 255.
    pub ttl: Option<u8>,
    /// Forbid fragmentation (`-M do`). IPv6 packets are never fragmented here.
    pub dont_fragment: bool,
}

impl Default for PingOptions {
    fn default() -> PingOptions {
        PingOptions {
            interface: None,
            source: None,
            count: 1,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            size: 56,
            ttl: None,
            dont_fragment: false,
        }
    }
}

/// How to connect and what to exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Source port; from the ephemeral range if `None`.
    pub source_port: Option<u16>,
    /// Source address; must be one of the host's own. Chosen by the route if `None`.
    pub source: Option<Addr>,
    /// Device to bind to, by index.
    pub interface: Option<usize>,
    /// Octets to send once connected.
    pub send: Vec<u8>,
    /// When the exchange is complete.
    pub until: ReadUntil,
    /// Octets to read at most.
    pub limit: usize,
    /// Time for the whole exchange, connecting included.
    pub timeout: Duration,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            source_port: None,
            source: None,
            interface: None,
            send: Vec::new(),
            until: ReadUntil::Closed,
            limit: 1 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

/// How to send a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Source port; from the ephemeral range if `None`.
    pub source_port: Option<u16>,
    /// Source address; must be one of the host's own. Chosen by the route if `None`.
    pub source: Option<Addr>,
    /// Device to bind to, by index.
    pub interface: Option<usize>,
    /// How long to wait for an answer to each datagram sent.
    pub timeout: Duration,
    /// Times the datagram is sent until an answer comes, at least 1.
    pub attempts: u32,
}

impl Default for UdpOptions {
    fn default() -> UdpOptions {
        UdpOptions {
            source_port: None,
            source: None,
            interface: None,
            timeout: Duration::from_secs(5),
            attempts: 1,
        }
    }
}

/// An ICMP or ICMPv6 error that concerned an operation, or the host's own equivalent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// Who sent it; the host's own address if no frame was involved (neighbour not found).
    pub from: Addr,
    /// Type: of ICMP if `from` is IPv4, else of ICMPv6.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Next-hop MTU in octets, of "fragmentation needed" and "packet too big".
    pub mtu: Option<u32>,
    /// The host found out by itself.
    pub local: bool,
}

/// As ping prints it, e.g. `From 10.244.0.1: Destination Host Unreachable`.
impl fmt::Display for IcmpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "From {}: {}", self.from, crate::ping_output::icmp_text(self))
    }
}

/// Why an operation has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Refused by the port: a TCP reset or an ICMP "port unreachable", from this address.
    #[error("connection refused by {from}")]
    Refused {
        /// Source of the packet that refused.
        from: Addr,
    },
    /// An ICMP error.
    #[error("{0}")]
    Unreachable(IcmpReport),
    /// Nothing came in time.
    #[error("timed out")]
    Timeout,
    /// The host has no route.
    #[error("{0}")]
    NoRoute(RouteError),
    /// The packet is larger than the link takes and must not be fragmented.
    #[error("message too long, mtu={mtu}")]
    TooLong {
        /// MTU of the link, octets.
        mtu: u32,
    },
    /// The host cannot do it: what is missing or wrong.
    #[error("{0}")]
    Invalid(&'static str),
}

/// What a ping saw, in the order it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingEvent {
    /// An echo reply.
    Reply {
        /// Who answered.
        from: Addr,
        /// Sequence number, from 1.
        seq: u16,
        /// TTL or hop limit of the reply as it arrived.
        ttl: u8,
        /// Octets of the ICMP message.
        bytes: u32,
        /// From request to reply.
        rtt: Duration,
        /// Not the first reply to this request.
        duplicate: bool,
    },
    /// An ICMP error about a request.
    Error {
        /// Sequence number of the request.
        seq: u16,
        /// The error.
        report: IcmpReport,
    },
    /// A request that could not be sent.
    Unsent {
        /// Sequence number of the request.
        seq: u16,
        /// Why.
        failure: Failure,
    },
}

/// Everything that `ping` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingReport {
    /// Destination.
    pub dst: Addr,
    /// Source address of the requests; `None` if there was no route.
    pub source: Option<Addr>,
    /// Name of the device bound to.
    pub interface: Option<String>,
    /// Whether the source was asked for, by address or device.
    pub source_given: bool,
    /// Octets of data in a request.
    pub size: u16,
    /// What happened.
    pub events: Vec<PingEvent>,
    /// Requests sent.
    pub transmitted: u32,
    /// From the first request to the last.
    pub elapsed: Duration,
    /// Why nothing was sent at all.
    pub failure: Option<Failure>,
}

impl PingReport {
    /// First replies.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.count(|e| matches!(e, PingEvent::Reply { duplicate: false, .. }))
    }

    /// Replies beyond the first to a request.
    #[must_use]
    pub fn duplicates(&self) -> u32 {
        self.count(|e| matches!(e, PingEvent::Reply { duplicate: true, .. }))
    }

    /// ICMP errors and requests that could not be sent.
    #[must_use]
    pub fn errors(&self) -> u32 {
        self.count(|e| matches!(e, PingEvent::Error { .. } | PingEvent::Unsent { .. }))
    }

    fn count(&self, which: impl Fn(&PingEvent) -> bool) -> u32 {
        let n = self.events.iter().filter(|e| which(e)).count();
        u32::try_from(n).unwrap_or(u32::MAX)
    }
}

/// What came over a TCP connection that stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpReply {
    /// Own end.
    pub local: Endpoint,
    /// Peer, as the host addressed it.
    pub remote: Endpoint,
    /// Octets read.
    pub data: Vec<u8>,
    /// How it ended.
    pub end: TcpEnd,
}

/// The datagram that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpReply {
    /// Own end.
    pub local: Endpoint,
    /// Who answered.
    pub remote: Endpoint,
    /// Data.
    pub data: Vec<u8>,
}

/// An HTTP response and between whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// Own end.
    pub local: Endpoint,
    /// Server, as the host addressed it.
    pub remote: Endpoint,
    /// The response.
    pub response: HttpResponse,
}

/// A name server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsReply {
    /// Server asked.
    pub server: Endpoint,
    /// Whether the answer came over TCP.
    pub tcp: bool,
    /// The answer.
    pub answer: DnsAnswer,
}

/// A query for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Server; the host's first resolver if `None`.
    pub server: Option<Addr>,
    /// Port of the server.
    pub port: u16,
    /// Records wanted.
    pub record: RecordType,
    /// Ask over TCP from the start; a truncated answer over UDP is always asked again over TCP.
    pub tcp: bool,
    /// Device to bind to, by index.
    pub interface: Option<usize>,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// Times to ask over UDP, at least 1.
    pub attempts: u32,
}

/// As the resolver of glibc: 5 s, two attempts.
impl Default for DnsOptions {
    fn default() -> DnsOptions {
        DnsOptions {
            server: None,
            port: 53,
            record: RecordType::A,
            tcp: false,
            interface: None,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// Of [`crate::Host::start_ping`].
    Ping(PingReport),
    /// Of [`crate::Host::start_tcp`].
    Tcp(Result<TcpReply, Failure>),
    /// Of [`crate::Host::start_udp`].
    Udp(Result<UdpReply, Failure>),
    /// Of [`crate::Host::start_http_get`].
    Http(Result<HttpReply, Failure>),
    /// Of [`crate::Host::start_dns_query`].
    Dns(Result<DnsReply, Failure>),
}

/// What an exchange over UDP or TCP is for, and so what its result becomes.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// The octets themselves.
    Plain,
    /// An HTTP response.
    Http,
    /// A DNS answer to this query; `options` to ask again over TCP.
    Dns { asked: Vec<u8>, options: DnsOptions },
}

/// A ping under way.
#[derive(Clone, Debug)]
pub(crate) struct Ping {
    pub options: PingOptions,
    pub source: Addr,
    pub id: u16,
    /// When each request was sent, the one with sequence number 1 first.
    pub sent: Vec<Time>,
    /// Sequence numbers that are settled by a reply or an error.
    pub answered: std::collections::BTreeSet<u16>,
    pub settled: u32,
    pub report: PingReport,
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub local: Endpoint,
    pub remote: Endpoint,
    pub bound: Option<usize>,
    pub payload: Vec<u8>,
    pub timeout: Duration,
    pub attempts_left: u32,
    pub purpose: Purpose,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Ping(Box<Ping>),
    Datagram(Box<Datagram>),
    /// A client's question on its way to another name server; it has no result.
    Forwarded(Box<crate::dns_forward::Forwarded>),
    Connection {
        key: crate::tcp::ConnectionKey,
        purpose: Purpose,
    },
}
