//! What entering a session takes for granted, and what comes of it.

use super::{Cached, Progress, RuleKey, SessionId, StageRecord};
use crate::cache::FlowKey;
use crate::tuple::{Node, Tuple};
use smallvec::SmallVec;

/// Why a new session could not be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The tenant has its share of the table.
    ShareUsed,
    /// Another session took one of the tuples since the walk looked, or the session has gone.
    Conflict,
    /// A newer snapshot has been published since the walk began.
    Stale,
    /// The table is full.
    Full,
    /// More stages would remember it than a session has room for.
    TooManyRecords,
}

/// What a new snapshot makes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is over.
    Over,
    /// It goes on; at these gateways other NAT rules now give its translations.
    Given(SmallVec<[(Node, u32); 1]>),
}

/// What a plan takes for granted; it is void if that no longer holds.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// Epoch of the snapshot that was walked.
    pub epoch: u64,
    /// [`Sessions::links`](super::Sessions::links) when the walk began.
    pub links: u64,
    /// Sessions that this one takes the place of. They end when it is entered.
    pub replaces: &'a [SessionId],
}

/// A session that was entered.
#[derive(Debug)]
pub struct Entered {
    /// Its identity.
    pub id: SessionId,
    /// Sessions that ended for it: replaced ones, and one that was evicted for want of room.
    pub ended: SmallVec<[Outline; 1]>,
    /// Whether one was evicted.
    pub evicted: bool,
    /// Its progress after its first packet.
    pub progress: Progress,
}

/// A session as caches see it.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// Its identity.
    pub id: SessionId,
    /// Where each direction may be cached.
    pub cached: [Option<Cached>; 2],
}

/// What became of an observation.
#[derive(Debug)]
pub struct Observed {
    /// The rules that count the session's packets.
    pub rules: SmallVec<[RuleKey; 4]>,
    /// The session afterwards; `None` if it has ended lately.
    pub progress: Option<Progress>,
}

/// Whether an action of a session may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It may.
    Welcome,
    /// It may; what the worker has under this other key must be forgotten.
    Moved(FlowKey),
    /// The session has ended.
    Gone,
}

/// What a session is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// Stage records.
    pub records: &'a [StageRecord],
    /// The tuple as the initiator sent it.
    pub initiating: Tuple,
    /// The tuple as the responder got it.
    pub terminating: Tuple,
    /// Whose share it takes.
    pub tenant: Option<u32>,
    /// It is a TCP connection that is under way already.
    pub picked_up: bool,
}
