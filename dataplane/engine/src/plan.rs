//! What a walk found: a verdict, and a plan of the state that committing it creates.

use crate::drops::{Drop, DropReason, Stage};
use crate::network::{GroupTraffic, PortId, Reads, SegmentId};
use crate::session::{Direction, Records, SessionId, StatelessRule};
use crate::tables::{NeighborKey, ServerKey};
use crate::tuple::{Node, Tuple};
use packet::{Addr, Frame, Headers, Mac};
use smallvec::SmallVec;

/// What becomes of the frame.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It leaves by this port.
    Deliver(PortId),
    /// It leaves by several; some copies may be refused on the way.
    Flood {
        /// Ports that get a copy.
        ports: Vec<PortId>,
        /// Copies that a firewall refused.
        refused: Vec<Drop>,
    },
    /// It ends here, with a reason.
    Drop(Drop),
    /// It ends here as it should: it was for a router, or was answered.
    Consume(Stage),
    /// It waits until the next hop's MAC is known.
    Hold(NeighborKey),
}

/// A station learned from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Where.
    pub segment: SegmentId,
    /// The station.
    pub mac: Mac,
    /// Its port.
    pub port: PortId,
}

/// A neighbour's MAC learned from ARP or neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The neighbour.
    pub key: NeighborKey,
    /// Its MAC.
    pub mac: Mac,
    /// Only if the neighbour is known or asked for already (gratuitous announcements).
    pub update_only: bool,
}

/// A balancer's choice: its rotation moves once the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The server.
    pub server: ServerKey,
    /// Index of the chosen member.
    pub member: usize,
    /// The position that the choice started from.
    pub position: usize,
    /// The member that the client stuck to before, eligible or not.
    pub stuck: Option<(Addr, u16)>,
    /// Client and member to remember, and for how long, in nanoseconds.
    pub affinity: Option<(Addr, (Addr, u16), u64)>,
    /// Whether rotation moves: not where affinity decided.
    pub rotate: bool,
}

/// Everything that committing a walk changes. A walk itself changes nothing (promise 3).
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The session that the packet belongs to, and which way it goes.
    pub session: Option<(SessionId, Direction)>,
    /// The tenant whose share of the session table a new session takes.
    pub tenant: Option<u32>,
    /// The new session is a TCP connection that is under way already.
    pub picked_up: bool,
    /// New stage records, oriented as the packet goes.
    pub records: Records,
    /// The tuple as the packet came.
    pub initiating: Option<Tuple>,
    /// The tuple as it leaves.
    pub terminating: Option<Tuple>,
    /// Finished sessions that this packet's connection takes the place of.
    pub replaces: SmallVec<[SessionId; 2]>,
    /// The walk asked when the session was last seen, which caches may know better.
    pub timed: bool,
    /// A session that is no longer allowed.
    pub kill: Option<SessionId>,
    /// Firewall records that another rule now allows, by node and the tuple that was judged: a session
    /// may have two at one node.
    pub rejudged: Vec<(Node, Tuple, Option<u32>)>,
    /// Balancer choices.
    pub choices: Vec<Choice>,
    /// Rules without state that let the frame pass, or translated it; an Ethernet rule once for each copy.
    pub stateless: SmallVec<[StatelessRule; 2]>,
    /// Group-addressed frames that rate limits count.
    pub metered: Vec<(PortId, GroupTraffic)>,
    /// What of the snapshot it was made by.
    pub reads: Reads,
    /// A station learned.
    pub learned: Option<Learned>,
    /// A neighbour resolved.
    pub resolved: Vec<Resolved>,
}

impl Plan {
    /// Whether tuples are linked, sessions replaced, or a balancer's rotation moved by it.
    #[must_use]
    pub fn enters_session(&self) -> bool {
        !self.records.is_empty() || !self.replaces.is_empty() || !self.choices.is_empty()
    }
}

/// A request for a neighbour's MAC that a router wants to send.
#[derive(Clone, Debug)]
pub struct Solicitation {
    /// On which segment.
    pub segment: SegmentId,
    /// The request.
    pub frame: Frame,
}

/// The result of a walk.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What becomes of the frame.
    pub verdict: Verdict,
    /// Its headers at the end.
    pub headers: Headers,
    /// A frame to send back out of the port it came from.
    pub answer: Option<Frame>,
    /// Whether the answer is an error or a reset, which are rate limited.
    pub answer_is_error: bool,
    /// Set if the frame has to be cut into IPv4 fragments of at most this size, octets.
    pub fragment_to: Option<u32>,
    /// Smallest MTU on the way, octets.
    pub mtu: u32,
    /// State to create.
    pub plan: Box<Plan>,
    /// For [`Verdict::Hold`]: the request to send, and what happens if nobody answers.
    pub hold: Option<Box<(Solicitation, Drop)>>,
    /// State of the learned tables that the walk looked at.
    pub generation: u64,
    /// Whether later packets of the flow may repeat the result.
    pub cacheable: bool,
}

impl Outcome {
    /// Whether the walk met tuples of different sessions.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(&self.verdict, Verdict::Drop(drop) if drop.reason == DropReason::SessionConflict)
    }
}
