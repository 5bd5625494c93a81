//! Sessions: the truth about every flow (promise 4).
//!
//! A [`Session`] is one end-to-end connection. Each stage that remembers it has a [`StageRecord`]:
//! the tuple as the stage saw it come and as it let it go. A packet finds its session node by node,
//! by the tuple it has there; a reply matches a record's outgoing tuple reversed. The flow cache
//! only copies what follows from here.

mod departed;
mod due;
mod entering;
mod flood;
mod index;
mod pool;
mod store;
#[cfg(test)]
mod store_tests;
mod table;
mod tcp;
mod timers;

pub use entering::{Basis, Caching, CommitError, Fate, NewSession, Outline};
pub(crate) use flood::counted;
pub use flood::{FloodLimits, FlowClass, FlowPlace};
pub use store::Known;
pub use table::{Reading, Sessions};
pub use tcp::{Segment, TcpState, legal as legal_tcp_flags};
pub use timers::{TimerClass, TimerOverrides, TimerProfile, TimerSettings, TimerState};

use crate::cache::FlowKey;
use crate::network::RouterId;
use crate::tuple::{Node, Tuple};
use crate::workers::WorkerSet;
use packet::{Addr, Time, protocol};
use smallvec::SmallVec;

/// Which way a packet goes in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// As the packet that began it.
    Forward,
    /// Against it.
    Reply,
}

impl Direction {
    /// 0 for forward, 1 for reply.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Direction::Forward => 0,
            Direction::Reply => 1,
        }
    }
}

/// A session's place in the table; never reused for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Slot.
    pub index: u32,
    /// Serial number of the session in the lab, from 1.
    pub serial: u64,
}

/// A rule or object that counts what it let through or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKey {
    /// Distributed firewall rule, by its number.
    Firewall(u32),
    /// Rule of a gateway's own firewall, by its number.
    GatewayFirewall(RouterId, u32),
    /// NAT rule of a gateway, by its number.
    Nat(RouterId, u32),
    /// Virtual server, of a gateway or distributed.
    Server(Option<RouterId>, Addr, u8, u16),
}

/// A rule without state: what it lets pass it counts packet by packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatelessRule {
    /// Rule of the distributed firewall's category Ethernet, by its number.
    Ethernet(u32),
    /// Rule of a gateway's own firewall, by its number.
    GatewayFirewall(RouterId, u32),
    /// REFLEXIVE rule of a gateway, by its number.
    Nat(RouterId, u32),
}

impl From<StatelessRule> for RuleKey {
    fn from(rule: StatelessRule) -> RuleKey {
        match rule {
            StatelessRule::Ethernet(id) => RuleKey::Firewall(id),
            StatelessRule::GatewayFirewall(router, id) => RuleKey::GatewayFirewall(router, id),
            StatelessRule::Nat(router, id) => RuleKey::Nat(router, id),
        }
    }
}

/// What a stage remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A firewall let the flow pass.
    Firewall {
        /// The rule; `None` is the default, allow.
        rule: Option<u32>,
        /// Judged as traffic to (true) or from the workload, or the inside of a gateway.
        ingress: bool,
        /// The tuple that was judged.
        judged: Tuple,
        /// ICMP type and code that were judged.
        icmp: Option<(u8, u8)>,
    },
    /// The balancer at the vNIC gave a direct flow another source port: with its own, its replies
    /// would be taken for those of a ClusterIP's flow to the same backend.
    SourcePort,
    /// A gateway let the flow cross its uplink untranslated, though a NAT rule would meet its replies.
    Untranslated,
    /// A NAT rule decided; with NO_SNAT and NO_DNAT the tuple stays.
    Nat {
        /// The rule's number.
        rule: u32,
    },
    /// A virtual server chose a member.
    Balancer {
        /// The server's address.
        server: Addr,
        /// The server's port.
        port: u16,
        /// The member is the client itself: a workload never blocks itself.
        hairpin: bool,
    },
}

/// One stage's memory of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageRecord {
    /// The stage.
    pub node: Node,
    /// The forward tuple as it came to the stage.
    pub before: Tuple,
    /// The forward tuple as it left.
    pub after: Tuple,
    /// What the stage decided.
    pub kind: RecordKind,
    /// Whose timers it follows.
    pub timers: TimerClass,
}

impl StageRecord {
    /// The record as seen from the other direction: for a stage that met the flow first in a reply.
    #[must_use]
    pub fn flipped(self) -> StageRecord {
        StageRecord { before: self.after.reversed(), after: self.before.reversed(), ..self }
    }

    /// The rule that counts this session's packets.
    #[must_use]
    pub fn rule_key(&self) -> Option<RuleKey> {
        match self.kind {
            RecordKind::Firewall { rule, .. } => rule.map(|rule| match self.node {
                Node::GatewayFirewall(router) => RuleKey::GatewayFirewall(router, rule),
                _ => RuleKey::Firewall(rule),
            }),
            RecordKind::SourcePort | RecordKind::Untranslated => None,
            RecordKind::Nat { rule } => match self.node {
                Node::Gateway(router) => Some(RuleKey::Nat(router, rule)),
                _ => None,
            },
            RecordKind::Balancer { server, port, .. } => {
                let router = match self.node {
                    Node::Gateway(router) => Some(router),
                    _ => None,
                };
                Some(RuleKey::Server(router, server, self.before.protocol, port))
            }
        }
    }
}

/// Stage records of a session, at most [`MAX_RECORDS`].
pub type Records = SmallVec<[StageRecord; 2]>;

/// Most stages that may remember one session.
pub const MAX_RECORDS: usize = 8;

/// Progress of the session's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A TCP connection.
    Tcp(TcpState),
    /// Datagrams; protocols without ports count as such.
    Datagram {
        /// More than one forward.
        several: bool,
        /// Something came back.
        answered: bool,
    },
    /// An ICMP query, answered or not.
    Icmp,
}

impl Progress {
    /// The progress of a flow of `protocol` of which nothing has been observed.
    #[must_use]
    pub fn new(number: u8) -> Progress {
        match number {
            protocol::TCP => Progress::Tcp(TcpState::default()),
            protocol::ICMP | protocol::ICMPV6 => Progress::Icmp,
            _ => Progress::Datagram { several: false, answered: false },
        }
    }

    /// The state that the timers go by.
    #[must_use]
    pub fn timer_state(self) -> TimerState {
        match self {
            Progress::Tcp(tcp) => tcp.timer_state(),
            Progress::Datagram { answered: true, .. } => TimerState::UdpMultiple,
            Progress::Datagram { several: true, .. } => TimerState::UdpSingle,
            Progress::Datagram { .. } => TimerState::UdpFirst,
            Progress::Icmp => TimerState::IcmpFirst,
        }
    }

    /// Whether a packet that could begin a flow begins another one, because this one is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Progress::Tcp(tcp) if tcp.is_over())
    }

    /// Whether further packets of this direction change nothing but counters and the time last
    /// seen, so that the flow cache may repeat them.
    #[must_use]
    pub fn is_steady(self, direction: Direction) -> bool {
        match self {
            Progress::Tcp(tcp) => tcp.timer_state() == TimerState::TcpEstablished,
            Progress::Datagram { several, answered } => {
                answered || (direction == Direction::Forward && several)
            }
            Progress::Icmp => true,
        }
    }
}

impl Progress {
    /// Takes a packet into account; `traffic` counts it already.
    fn observe(&mut self, o: &Observation, traffic: [Traffic; 2]) {
        match self {
            Progress::Tcp(tcp) => {
                if let Some(segment) = o.tcp {
                    tcp.observe(o.direction, segment);
                }
            }
            Progress::Datagram { several, answered } => match o.direction {
                Direction::Forward => *several |= traffic[0].packets > 1,
                Direction::Reply => *answered = true,
            },
            Progress::Icmp => {}
        }
    }
}

/// What one packet tells its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which way it goes.
    pub direction: Direction,
    /// The TCP segment, or the last state of a run of plain ones.
    pub tcp: Option<Segment>,
    /// It is an ICMP error about the session: counted, but it neither refreshes nor ends it
    /// (RFC 5508, REQ-10).
    pub icmp_error: bool,
    /// Packets on the wire that the frame stands for.
    pub packets: u64,
    /// Octets of the frame.
    pub bytes: u64,
    /// When.
    pub now: Time,
}

/// Packets and octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets on the wire.
    pub packets: u64,
    /// Octets of their frames.
    pub bytes: u64,
}

impl Traffic {
    /// Adds to both.
    pub fn add(&mut self, packets: u64, bytes: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// One end-to-end connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its identity.
    pub id: SessionId,
    /// When it began.
    pub created: Time,
    /// When a packet last passed all of its stages.
    pub last_seen: Time,
    /// Whose share of the table it takes: the tenant of the initiating workload, else of the
    /// responding one.
    pub tenant: Option<u32>,
    /// The tuple as the initiator sent it.
    pub initiating: Tuple,
    /// The tuple as the responder got it.
    pub terminating: Tuple,
    /// Protocol state.
    pub progress: Progress,
    /// Live stage records, in the order of the path.
    pub records: Records,
    /// Traffic, by [`Direction::index`].
    pub traffic: [Traffic; 2],
    /// Where each direction may be cached.
    pub cached: [Option<Cached>; 2],
}

/// Where one direction of a session may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Under which key.
    pub key: FlowKey,
    /// By which workers: all that have it, and perhaps some that have forgotten it.
    pub workers: WorkerSet,
}

impl Session {
    /// What it counts as for flood protection.
    #[must_use]
    pub fn flow_class(&self) -> Option<FlowClass> {
        FlowClass::of(self.initiating.protocol, self.progress)
    }
}
