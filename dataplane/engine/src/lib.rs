//! The pure core of tierlab.
//!
//! The engine takes a batch of frames and `now`, and returns frames. It reads no clock, opens no
//! socket, starts no thread and draws no random number (promise 1). The first packet of a flow
//! *walks* the logical network; what came of it is committed as a session and compiled to a cached
//! action that later packets repeat (promise 2).
//!
//! Start reading at [`Worker`], then the `walk` module.

mod cache;
mod drops;
mod fragments;
mod hash;
pub mod network;
mod plan;
mod session;
mod tables;
mod trace;
mod tuple;
mod walk;
mod worker;
mod workers;

pub use cache::FlowKey;
pub use drops::{Drop, DropReason, Stage};
pub use hash::{SeededState, hash_of, seeded};
pub use session::{
    Cached, Direction, FloodLimits, FlowClass, FlowPlace, Progress, RecordKind, RuleKey, Session,
    SessionId, StageRecord, TcpState, TimerClass, TimerOverrides, TimerProfile, TimerSettings,
    TimerState, Traffic,
};
pub use tables::{
    Accounting, BalancerScope, Counters, DropKey, Hit, NeighborEntry, PortTraffic, ServerKey,
};
pub use trace::{Observer, Recorder, Step};
pub use tuple::{Node, Tuple, protocol_name};
pub use worker::{Pending, Received, Recorded, Shared, Trace, TraceEnd, Worker, WorkerConfig};
pub use workers::{Era, MAX_WORKERS, Slot, WorkerSet};
