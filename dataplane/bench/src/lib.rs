//! What an emulated network costs a packet: flows are found that do the work that is to be measured,
//! established in both directions, kept going by frames that are copied in and out of the engine as a
//! port would, and checked.
//!
//! - [`find`] looks in a network, whatever it is, for ends between which a [`Work`] is done;
//! - [`enlarge`] adds rules, servers and routes that match nothing, and raises limits;
//! - a [`Generator`] opens [`Flows`] through a worker and repeats their packets;
//! - [`rate`], [`latency`] and [`zero_loss`] (RFC 2544, 26.1) measure a team of them.
//!
//! Nothing is believed unseen. A figure is taken between two rounds in which every flow's packet is read
//! in both directions by etherparse, which is not the engine's parser: addresses, ports, TTL, payload
//! and all checksums have to be what the definitions say, and in between as many frames have to come
//! out as went in.

mod changes;
mod enlarge;
mod flows;
mod frames;
mod generator;
mod latency;
mod neighbors;
mod rates;
mod search;
mod verify;

pub use changes::{Snapshots, change_during};
pub use enlarge::{Extras, enlarge};
pub use flows::{Flow, Flows, Pool, Protocol, Size, Source};
pub use generator::{Generator, Opening, Setup, generators};
pub use latency::{Latency, latency};
pub use neighbors::{Station, Stations};
pub use rates::{Rate, ZeroLoss, rate, zero_loss};
pub use search::{Missing, find};
pub use verify::{Fault, Seen, read};

use std::fmt;

/// Frames a batch, as the live lab takes them from a port.
pub const BATCH: usize = 64;

/// What is measured: one feature, or all of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Between two stations of one segment.
    L2,
    /// Between two segments, through their gateway, untranslated.
    Route,
    /// Between two workloads, by a rule of the distributed firewall at one of them at least.
    Dfw,
    /// From a workload to the outside, with another source address.
    Snat,
    /// From a workload to a ClusterIP.
    Dlb,
    /// From outside to a virtual address of the server load balancer.
    Slb,
    /// Distributed firewall, SNAT (or else a virtual server), Tier-1 and Tier-0 at once.
    Chain,
}

impl Work {
    /// All of them.
    pub const ALL: [Work; 7] =
        [Work::L2, Work::Route, Work::Dfw, Work::Snat, Work::Dlb, Work::Slb, Work::Chain];

    /// Its name, as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Work::L2 => "l2",
            Work::Route => "route",
            Work::Dfw => "dfw",
            Work::Snat => "snat",
            Work::Dlb => "dlb",
            Work::Slb => "slb",
            Work::Chain => "chain",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why nothing was measured, or why what was measured is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// More flows than the ends' addresses and ports can tell apart.
    #[error("{wanted} flows: between these ends there are no more than {most}")]
    TooManyFlows {
        /// Asked for.
        wanted: u64,
        /// Possible.
        most: u64,
    },
    /// The first packets of a flow did not come out.
    #[error("flow {number} ({flow}) does not get through in both directions")]
    Blocked {
        /// Its number, from 0.
        number: u32,
        /// Its addresses and ports.
        flow: Flow,
    },
    /// A packet of an established flow did not come out.
    #[error("{sent} packets of established flows went in and {came} came out")]
    Lost {
        /// Into the engine.
        sent: u64,
        /// Out of it.
        came: u64,
    },
    /// A packet came out wrong.
    #[error("flow {number}, {direction}: {fault}")]
    Wrong {
        /// The flow's number, from 0.
        number: u32,
        /// `first packets` or `replies`.
        direction: &'static str,
        /// What is wrong.
        fault: Fault,
    },
}
