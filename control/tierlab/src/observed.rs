//! What a lab has done so far, taken from it for a table.

use crate::args::Kind;
use crate::live::jobs::{Desk, LabEnding};
use engine::network::{Network, PortId};
use engine::{DropKey, Hit, NeighborEntry, PortTraffic, RuleKey, Session, Traffic};
use hosts::Lab;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sessions taken from a running lab at a time: a millisecond's work.
const SESSIONS_AT_A_TIME: usize = 4_096;
/// The most sessions of a running lab that a table shows.
const MAX_SESSIONS_SHOWN: usize = 65_536;

/// What rules have counted, by their keys.
pub type Hits = BTreeMap<RuleKey, Hit>;

/// What one table needs; the rest is empty.
#[derive(Debug, Default)]
pub struct Observed {
    /// The network at that moment.
    pub network: Arc<Network>,
    /// Hits of rules, NAT rules and virtual servers.
    pub hits: Hits,
    /// Sessions, oldest first.
    pub sessions: Vec<Session>,
    /// Traffic of ports.
    pub ports: BTreeMap<PortId, PortTraffic>,
    /// Neighbours of gateways.
    pub neighbors: Vec<NeighborEntry>,
    /// Drops by cause.
    pub drops: BTreeMap<DropKey, Traffic>,
    /// Whether there are more sessions than these.
    more: bool,
}

impl Observed {
    /// Looks at a lab.
    pub fn of(lab: &mut Lab, kind: Kind) -> Observed {
        let sessions = match kind {
            Kind::Sessions => lab.worker().sessions(),
            _ => Vec::new(),
        };
        Observed { sessions, ..Observed::without_sessions(lab, kind) }
    }

    /// Looks at a running lab. Sessions are taken in portions, between which it goes on: each is shown as it was at
    /// some moment, and none twice.
    ///
    /// # Errors
    /// The lab is ending.
    pub fn of_running(desk: &mut Desk, kind: Kind) -> Result<Observed, LabEnding> {
        let mut observed =
            desk.ask(move |running| Observed::without_sessions(running.lab, kind))?;
        if kind != Kind::Sessions {
            return Ok(observed);
        }
        loop {
            let after = observed.sessions.last().map_or(0, |session| session.id.serial);
            let portion = desk.ask(move |running| {
                running.lab.worker().sessions_after(after, SESSIONS_AT_A_TIME)
            })?;
            let last = portion.len() < SESSIONS_AT_A_TIME;
            observed.sessions.extend(portion);
            observed.more = !last && observed.sessions.len() >= MAX_SESSIONS_SHOWN;
            if last || observed.more {
                return Ok(observed);
            }
        }
    }

    fn without_sessions(lab: &mut Lab, kind: Kind) -> Observed {
        let mut observed = Observed { network: Arc::clone(lab.network()), ..Observed::default() };
        let worker = lab.worker();
        match kind {
            Kind::Virtualservers | Kind::Nat | Kind::Dfw | Kind::Gatewayfirewall => {
                observed.hits = worker.hits()
            }
            Kind::Ports => observed.ports = worker.port_traffic(),
            Kind::Neighbors => observed.neighbors = worker.neighbors(),
            Kind::Drops => observed.drops = worker.drops(),
            Kind::Namespaces
            | Kind::Segments
            | Kind::Pods
            | Kind::Hosts
            | Kind::Services
            | Kind::Routes
            | Kind::Sessions => {}
        }
        observed
    }

    /// What the user should know of it.
    pub fn notice(&self) -> Option<String> {
        self.more.then(|| {
            format!("there are more sessions; these are the {} oldest", self.sessions.len())
        })
    }
}
