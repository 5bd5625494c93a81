//! The host itself: frames in, frames out, and the time.
//!
//! A host is a pure state machine: it reads no clock, opens no socket and draws no random number;
//! the same configuration, seed, frames and times give the same frames. It never panics on a frame.
//! Nothing is unbounded: see the constants of this module, of `neighbor.rs` and of `tcp.rs`. A host
//! that nobody talks to holds its configuration and little else.
//!
//! The order within [`Host::receive`]: mode, link-layer destination, ARP, checksums, then whose
//! packet it is: the host's own (ICMP, TCP, UDP) or, on a forwarding host, someone else's.
//! Addresses belong to the host, not to an interface (the weak end system model, RFC 1122,
//! 3.3.4.2, as Linux), but ARP answers only for the interface it came in by (`arp_ignore=1`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use packet::{
    Addr, ChecksumState, Frame, Headers, IcmpErrorKind, IcmpMessage, Ip, Mac, Payload, Time,
    Transport,
};

use crate::config::{HostConfig, ServiceConfig, ServiceKind, ServiceProtocol};
use crate::neighbor::{Due, NeighborCache, Pending};
use crate::operation::{Failure, Operation, OperationId, OperationResult};
use crate::reassembly::{Reassembled, Reassembly};
use crate::routing::{Query, Route, RouteOutcome, TABLE_MAIN};
use crate::services::http::Endpoint;
use crate::tcp::Connections;
use crate::timers::Timers;
use crate::wire;

/// Operations under way, at most.
pub const MAX_OPERATIONS: usize = 1024;
/// Results not yet taken, at most; a further one pushes out the oldest.
pub const MAX_RESULTS: usize = 4096;
/// Packets that a host has sent to itself and not yet received, at most.
pub const MAX_LOOPBACK: usize = 256;
/// Packets a host delivers to itself within one call, at most: what remains waits for the next.
const LOOPBACK_BUDGET: usize = 4096;

/// Frames to send, each with the index of the interface it leaves by.
pub type Output = Vec<(usize, Frame)>;

/// How much of the host is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostMode {
    /// Everything.
    #[default]
    Active,
    /// It answers ARP and neighbour solicitations and nothing else, so that what a test or a replay
    /// sends in its name can be answered to it.
    Passive,
    /// It answers nothing: the cable is out.
    Silent,
}

/// Why a host threw a packet away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostDrop {
    /// Not a well-formed frame.
    Malformed,
    /// A wrong checksum.
    BadChecksum,
    /// An 802.1Q tag; hosts have no VLAN interfaces.
    Tagged,
    /// Sent to another station, or to another address and the host does not forward.
    NotForUs,
    /// A source or destination that no such packet may have (RFC 1812, 5.3.7).
    Martian,
    /// A fragment that does not fit the others, or a datagram whose fragments never all came.
    Fragment,
    /// A protocol or message the host does not speak.
    Unsupported,
    /// A closed port on a host that does not answer for those.
    ClosedPort,
    /// No room for a further connection.
    ConnectionsFull,
    /// Its neighbour does not answer, or too many packets waited for it.
    NeighborUnreachable,
    /// No route, or a blackhole.
    NoRoute,
    /// Its TTL ran out here.
    TtlExpired,
    /// Larger than the MTU and not to be fragmented.
    TooLong,
    /// No ICMP error may be sent about it (RFC 1812, 4.3.2.7).
    ErrorSuppressed,
    /// The host is passive or silent.
    Mode,
}

impl From<Failure> for HostDrop {
    fn from(failure: Failure) -> HostDrop {
        match failure {
            Failure::TooLong { .. } => HostDrop::TooLong,
            Failure::NoRoute(_) => HostDrop::NoRoute,
            Failure::Unreachable(_) | Failure::Refused { .. } => HostDrop::NeighborUnreachable,
            Failure::Timeout | Failure::Invalid(_) => HostDrop::Malformed,
        }
    }
}

/// What a host counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets thrown away, by reason.
    pub dropped: BTreeMap<HostDrop, u64>,
}

/// An IP packet as it came in.
pub(crate) struct Arrival<'a> {
    /// The interface; for a packet the host sent to itself, any.
    pub interface: usize,
    pub frame: &'a Frame,
    pub headers: &'a Headers,
    pub ip: &'a Ip,
}

impl Arrival<'_> {
    /// The IP packet's octets, without link-layer padding.
    pub(crate) fn packet(&self) -> &[u8] {
        let start = usize::from(self.headers.l3);
        let end = start + self.ip.total_len as usize;
        self.frame.bytes.get(start..end).unwrap_or_default()
    }

    /// The interface that an answer is bound to because the peer's address means nothing without.
    pub(crate) fn link_scope(&self) -> Option<usize> {
        (!self.ip.is_v4() && self.ip.src.is_link_local()).then_some(self.interface)
    }
}

/// An emulated endpoint: a pod, a VM, an external host, a leaf switch.
pub struct Host {
    pub(crate) config: HostConfig,
    pub(crate) seed: u64,
    pub(crate) mode: HostMode,
    pub(crate) neighbors: NeighborCache,
    pub(crate) connections: Connections,
    pub(crate) datagrams: BTreeMap<(Endpoint, Endpoint), OperationId>,
    pub(crate) pings: BTreeMap<u16, OperationId>,
    pub(crate) operations: BTreeMap<OperationId, Operation>,
    pub(crate) operation_timers: Timers<OperationId>,
    results: BTreeMap<OperationId, OperationResult>,
    operations_started: u64,
    pub(crate) next_port: u16,
    pub(crate) next_icmp_id: u16,
    ip_id: u16,
    reassembly: Reassembly,
    /// Packets for the host itself that did not come from a link: its own, and reassembled ones.
    loopback: VecDeque<(usize, Frame)>,
    pub(crate) counters: HostCounters,
}

/// The name and what was counted: the state of a TCP stack says nothing to a reader.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.config.name)
            .field("mode", &self.mode)
            .field("connections", &self.connections.len())
            .field("operations", &self.operations.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host that has not sent anything yet. `seed` is the lab's: with the host's name it decides
    /// the initial sequence numbers of TCP.
    #[must_use]
    pub fn new(mut config: HostConfig, seed: u64) -> Host {
        let mut neighbors = NeighborCache::default();
        for (dev, interface) in config.interfaces.iter().enumerate() {
            for (addr, mac) in &interface.static_neighbors {
                neighbors.fix((dev, *addr), *mac);
            }
        }
        connect(&mut config);
        // FNV-1a over the name, so that hosts of one lab do not share sequence numbers.
        let seed = config.name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Host {
            config,
            seed,
            mode: HostMode::Active,
            neighbors,
            connections: Connections::default(),
            datagrams: BTreeMap::new(),
            pings: BTreeMap::new(),
            operations: BTreeMap::new(),
            operation_timers: Timers::default(),
            results: BTreeMap::new(),
            operations_started: 0,
            next_port: crate::udp::FIRST_EPHEMERAL_PORT,
            next_icmp_id: 1,
            ip_id: 0,
            reassembly: Reassembly::default(),
            loopback: VecDeque::new(),
            counters: HostCounters::default(),
        }
    }

    /// Takes over a configuration that has the same interfaces: what it serves and where it routes to. Its
    /// connections and what it has learned live on.
    pub(crate) fn reconfigure(&mut self, config: HostConfig) {
        let interfaces = std::mem::take(&mut self.config.interfaces);
        self.config = HostConfig { interfaces, ..config };
        connect(&mut self.config);
    }

    /// What the host was made from, connected routes and moved addresses included.
    #[must_use]
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// What the host counted since it was made.
    #[must_use]
    pub fn counters(&self) -> &HostCounters {
        &self.counters
    }

    /// TCP connections at the moment, closing ones included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Neighbours by interface and address, with the station address where it is known: the static
    /// entries, then the learned ones.
    pub fn neighbors(&self) -> impl Iterator<Item = ((usize, Addr), Option<Mac>)> {
        self.neighbors.iter()
    }

    /// How much of the host is alive.
    #[must_use]
    pub fn mode(&self) -> HostMode {
        self.mode
    }

    /// Changes how much of the host is alive. What is under way stays as it is.
    pub fn set_mode(&mut self, mode: HostMode) {
        self.mode = mode;
    }

    /// [`HostMode::Passive`] or, with `false`, [`HostMode::Active`].
    pub fn set_passive(&mut self, passive: bool) {
        self.mode = if passive { HostMode::Passive } else { HostMode::Active };
    }

    /// Takes what came of an operation; `None` while it is under way, or if it was taken.
    pub fn take_result(&mut self, id: OperationId) -> Option<OperationResult> {
        self.results.remove(&id)
    }

    /// Whether the operation is under way.
    #[must_use]
    pub fn is_running(&self, id: OperationId) -> bool {
        self.operations.contains_key(&id)
    }

    /// Takes a frame that came in by `interface` and appends what it is answered with to `out`.
    pub fn receive(&mut self, interface: usize, frame: &Frame, now: Time, out: &mut Output) {
        self.counters.received += 1;
        let Some(mac) = self.config.interfaces.get(interface).map(|i| i.mac) else {
            self.count(HostDrop::NotForUs);
            return;
        };
        if self.mode == HostMode::Silent {
            self.count(HostDrop::Mode);
            return;
        }
        // Frames from shared memory may be large or lack their checksum; from here on none is.
        if frame.segmentation.is_some() {
            for segment in packet::segment(frame.clone()) {
                self.receive_one(interface, mac, &segment, now, out);
            }
        } else if matches!(frame.checksum, ChecksumState::Partial { .. }) {
            let mut completed = frame.clone();
            packet::complete(&mut completed);
            self.receive_one(interface, mac, &completed, now, out);
        } else {
            self.receive_one(interface, mac, frame, now, out);
        }
        self.deliver_loopback(now, out);
    }

    /// Does what is due at `now`.
    pub fn poll(&mut self, now: Time, out: &mut Output) {
        while let Some(due) = self.neighbors.due(now) {
            match due {
                Due::Probe((interface, addr)) => self.solicit(interface, addr, None, out),
                Due::Failed(packets) => self.undeliverable(packets, now, out),
            }
        }
        while let Some(first) = self.reassembly.expire(now) {
            self.reassembly_expired(first, now, out);
        }
        self.poll_connections(now, out);
        while let Some(id) = self.operation_timers.pop_due(now) {
            match self.operations.get(&id) {
                Some(Operation::Ping(_)) => self.continue_ping(id, now, out),
                Some(Operation::Datagram(_)) => self.send_again(id, now, out),
                Some(Operation::Forwarded(_)) => self.ask_next_upstream(id, now, out),
                Some(Operation::Connection { key, .. }) => {
                    let key = *key;
                    self.connection_timed_out(id, &key, now, out);
                }
                None => {}
            }
        }
        self.deliver_loopback(now, out);
    }

    /// When [`Host::poll`] has something to do; `None` if only a frame can change anything.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let timers = [
            self.neighbors.next_timeout(),
            self.connections.next_timeout(),
            self.operation_timers.next(),
            self.reassembly.next_timeout(),
            // Left over from a budget: due at once.
            (!self.loopback.is_empty()).then_some(Time::ZERO),
        ];
        timers.into_iter().flatten().min()
    }

    /// What listens at a port.
    pub(crate) fn service(&self, protocol: ServiceProtocol, port: u16) -> Option<&ServiceKind> {
        let found = self
            .config
            .services
            .iter()
            .find(|ServiceConfig { protocol: p, port: n, .. }| (*p, *n) == (protocol, port));
        match found {
            Some(service) => Some(&service.kind),
            None if self.config.listen_all && port != 0 => Some(&ServiceKind::Echo),
            None => None,
        }
    }

    pub(crate) fn count(&mut self, reason: HostDrop) {
        *self.counters.dropped.entry(reason).or_default() += 1;
    }

    pub(crate) fn new_operation(&mut self) -> OperationId {
        self.operations_started += 1;
        OperationId(self.operations_started)
    }

    pub(crate) fn admit_operation(&self) -> Result<(), Failure> {
        if self.operations.len() >= MAX_OPERATIONS {
            return Err(Failure::Invalid("too many operations"));
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self, id: OperationId, result: OperationResult) {
        if self.results.len() >= MAX_RESULTS {
            self.results.pop_first();
        }
        self.results.insert(id, result);
    }

    pub(crate) fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }

    fn receive_one(
        &mut self,
        interface: usize,
        mac: Mac,
        frame: &Frame,
        now: Time,
        out: &mut Output,
    ) {
        let Ok(headers) = packet::parse(&frame.bytes) else {
            self.count(HostDrop::Malformed);
            return;
        };
        if headers.vlan.is_some() {
            self.count(HostDrop::Tagged);
        } else if headers.dst_mac != mac && !headers.dst_mac.is_group() {
            self.count(HostDrop::NotForUs);
        } else {
            match &headers.payload {
                Payload::Arp(arp) => self.receive_arp(interface, &headers, arp, now, out),
                Payload::Ip(ip) => {
                    let arrival = Arrival { interface, frame, headers: &headers, ip };
                    self.receive_ip(&arrival, now, out);
                }
                Payload::Other => self.count(HostDrop::Unsupported),
            }
        }
    }

    fn receive_ip(&mut self, arrival: &Arrival<'_>, now: Time, out: &mut Output) {
        let Arrival { interface, frame, headers, ip } = *arrival;
        if let Transport::Icmp(icmp) = ip.transport
            && let IcmpMessage::NeighborSolicitation { .. }
            | IcmpMessage::NeighborAdvertisement { .. } = icmp.message
        {
            if packet::verify_transport(&frame.bytes, headers) {
                self.receive_nd(interface, headers, ip, &icmp.message, now, out);
            } else {
                self.count(HostDrop::BadChecksum);
            }
            return;
        }
        if self.mode == HostMode::Passive {
            self.count(HostDrop::Mode);
        } else if martian_source(ip.src) || self.is_local(ip.src) || ip.dst.is_loopback() {
            self.count(HostDrop::Martian);
        } else if self.is_local(ip.dst) {
            self.deliver(arrival, now, out);
        } else if self.config.forwarding && !headers.dst_mac.is_group() {
            self.forward(arrival, now, out);
        } else {
            self.count(HostDrop::NotForUs);
        }
    }

    /// Gives a packet to the transport it is for.
    fn deliver(&mut self, arrival: &Arrival<'_>, now: Time, out: &mut Output) {
        let Arrival { frame, headers, ip, .. } = *arrival;
        if let Some(fragment) = ip.fragment {
            match self.reassembly.add(arrival, fragment, now) {
                Reassembled::Incomplete => {}
                Reassembled::Refused => self.count(HostDrop::Fragment),
                Reassembled::Complete(whole) => self.loopback.push_back((arrival.interface, whole)),
            }
            return;
        }
        if !packet::verify_transport(&frame.bytes, headers) {
            self.count(HostDrop::BadChecksum);
            return;
        }
        match &ip.transport {
            Transport::Icmp(icmp) => self.receive_icmp(arrival, icmp, now, out),
            Transport::Tcp(tcp) if !headers.dst_mac.is_group() => {
                self.receive_tcp(arrival, tcp, now, out);
            }
            Transport::Udp(udp) => self.receive_udp(arrival, udp, now, out),
            _ => self.count(HostDrop::Unsupported),
        }
    }

    /// A datagram whose fragments never all came: an error if the first did (RFC 1122, 3.3.2).
    fn reassembly_expired(&mut self, first: Option<(usize, Frame)>, now: Time, out: &mut Output) {
        self.count(HostDrop::Fragment);
        let Some((interface, frame)) = first else {
            return;
        };
        if let Some((headers, ip)) = wire::ip_headers(&frame) {
            let arrival = Arrival { interface, frame: &frame, headers: &headers, ip: &ip };
            self.icmp_error(&arrival, IcmpErrorKind::ReassemblyTimeExceeded, ip.dst, now, out);
        }
    }

    /// Delivers what the host has sent to itself.
    pub(crate) fn deliver_loopback(&mut self, now: Time, out: &mut Output) {
        for _ in 0..LOOPBACK_BUDGET {
            let Some((interface, frame)) = self.loopback.pop_front() else {
                return;
            };
            let Ok(headers) = packet::parse(&frame.bytes) else {
                self.count(HostDrop::Malformed);
                continue;
            };
            if let Some(ip) = headers.ip() {
                let arrival = Arrival { interface, frame: &frame, headers: &headers, ip };
                self.deliver(&arrival, now, out);
            }
        }
    }

    /// Answers an arrived packet: with the host's TTL, by whatever interface the routes say.
    pub(crate) fn reply(
        &mut self,
        mut answer: Frame,
        arrival: &Arrival<'_>,
        now: Time,
        out: &mut Output,
    ) {
        wire::set_ttl(&mut answer, self.config.ttl.max(1));
        if let Err(failure) = self.transmit(answer, arrival.link_scope(), now, out) {
            self.count(HostDrop::from(failure));
        }
    }

    /// Sends a packet of the host's own; its link-layer addresses are filled in on the way.
    pub(crate) fn transmit(
        &mut self,
        mut frame: Frame,
        bound: Option<usize>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let Some((headers, ip)) = wire::ip_headers(&frame) else {
            return Err(Failure::Invalid("not an IP packet"));
        };
        let query = Query { dst: ip.dst, src: Some(ip.src), oif: bound, iif: None };
        match self.lookup(&query) {
            RouteOutcome::Local => {
                if self.loopback.len() >= MAX_LOOPBACK {
                    return Err(Failure::Invalid("too many packets of the host to itself"));
                }
                // A frame from nobody would not be answered.
                let mac = self.config.interfaces.first().map_or(Mac::ZERO, |i| i.mac);
                wire::set_macs(&mut frame, mac, mac);
                self.loopback.push_back((0, frame));
                Ok(())
            }
            RouteOutcome::Unicast { dev, next_hop, .. } => {
                let mtu = self.mtu(dev);
                if ip.total_len <= mtu {
                    self.send_via(dev, next_hop, Pending { frame, ingress: None }, now, out);
                    return Ok(());
                }
                let fragments = packet::fragment_ipv4(&frame, &headers, mtu);
                for frame in fragments.ok_or(Failure::TooLong { mtu })? {
                    self.send_via(dev, next_hop, Pending { frame, ingress: None }, now, out);
                }
                Ok(())
            }
            RouteOutcome::Error(error) => Err(Failure::NoRoute(error)),
        }
    }
}

/// Sources that no packet from a link has. The unspecified address is one too; the messages that
/// may have it (ARP probes, duplicate address detection) are handled before.
pub(crate) fn martian_source(addr: Addr) -> bool {
    let class_e = addr.is_v4() && addr.low32() >= 0xf000_0000;
    let this_network = addr.is_v4() && addr.low32() >> 24 == 0;
    addr.is_multicast() || addr.is_loopback() || addr.is_unspecified() || class_e || this_network
}

/// Adds the connected routes of the interfaces' addresses to table main, as a kernel does.
fn connect(config: &mut HostConfig) {
    for (dev, interface) in config.interfaces.iter().enumerate() {
        for (addr, len) in &interface.addresses {
            config.routing.add_route(TABLE_MAIN, Route::on_link(*addr, *len, dev));
        }
    }
}
