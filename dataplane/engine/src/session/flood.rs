//! Flood protection: how many flows a vNIC may have at a time.
//!
//! NSX's flood protection profile (features.md 3.F) bounds, a workload, connections whose handshake is
//! not complete, and active flows of UDP, ICMP and everything else. Beyond a limit a new flow is dropped,
//! those that exist are left alone (RFC 4987 calls this filtering by backlog). A flow counts at a vNIC
//! exactly as long as the distributed firewall there remembers it, so the counts follow the stage
//! records: whoever adds, removes or moves on a session tells [`Flows`].
//!
//! Without limits a flood still pays for itself: a full share gives up its oldest half-open sessions first.

use super::{Progress, StageRecord, TimerState};
use crate::network::PortId;
use crate::tuple::Node;
use packet::protocol;
use std::collections::BTreeMap;

/// What a flow counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowClass {
    /// A TCP connection whose handshake is not complete (RFC 4987: half-open).
    TcpHalfOpen,
    /// UDP datagrams.
    Udp,
    /// ICMP or ICMPv6 queries.
    Icmp,
    /// Another protocol.
    Other,
}

impl FlowClass {
    /// What a flow of the protocol `number` counts as; `None` where nothing limits it: a connection that
    /// was established or has ended.
    #[must_use]
    pub fn of(number: u8, progress: Progress) -> Option<FlowClass> {
        match progress {
            Progress::Tcp(tcp) => {
                matches!(tcp.timer_state(), TimerState::TcpFirst | TimerState::TcpOpening)
                    .then_some(FlowClass::TcpHalfOpen)
            }
            Progress::Icmp => Some(FlowClass::Icmp),
            Progress::Datagram { .. } if number == protocol::UDP => Some(FlowClass::Udp),
            Progress::Datagram { .. } => Some(FlowClass::Other),
        }
    }
}

/// Most flows of each class that a vNIC may have at a time; `None` is no limit, which is NSX's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodLimits {
    /// Connections whose handshake is not complete.
    pub tcp_half_open: Option<u32>,
    /// UDP flows.
    pub udp: Option<u32>,
    /// ICMP queries.
    pub icmp: Option<u32>,
    /// Flows of other protocols.
    pub other: Option<u32>,
}

impl FloodLimits {
    /// The limit of a class.
    #[must_use]
    pub fn limit(&self, class: FlowClass) -> Option<u32> {
        match class {
            FlowClass::TcpHalfOpen => self.tcp_half_open,
            FlowClass::Udp => self.udp,
            FlowClass::Icmp => self.icmp,
            FlowClass::Other => self.other,
        }
    }
}

/// Flows by vNIC and class. A vNIC without flows of a class has no entry.
#[derive(Debug, Default)]
pub(super) struct Flows {
    counts: BTreeMap<(PortId, FlowClass), usize>,
}

impl Flows {
    /// The vNICs at which records count, once for each record.
    fn ports(records: &[StageRecord]) -> impl Iterator<Item = PortId> {
        records.iter().filter_map(|r| match r.node {
            Node::Firewall(port) => Some(port),
            _ => None,
        })
    }

    /// The firewalls of `records` now remember a flow of `class`.
    pub(super) fn enter(&mut self, class: Option<FlowClass>, records: &[StageRecord]) {
        let Some(class) = class else { return };
        for port in Flows::ports(records) {
            *self.counts.entry((port, class)).or_default() += 1;
        }
    }

    /// The firewalls of `records` no longer remember a flow of `class`.
    pub(super) fn leave(&mut self, class: Option<FlowClass>, records: &[StageRecord]) {
        let Some(class) = class else { return };
        for port in Flows::ports(records) {
            if let Some(count) = self.counts.get_mut(&(port, class)) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&(port, class));
                }
            }
        }
    }

    /// A flow has become one of another class.
    pub(super) fn reclass(
        &mut self,
        before: Option<FlowClass>,
        after: Option<FlowClass>,
        records: &[StageRecord],
    ) {
        if before != after {
            self.leave(before, records);
            self.enter(after, records);
        }
    }

    /// How many flows of `class` the vNIC has.
    pub(super) fn count(&self, port: PortId, class: FlowClass) -> usize {
        self.counts.get(&(port, class)).copied().unwrap_or(0)
    }
}
