//! Flood protection: how many flows a vNIC or a gateway may have at a time.
//!
//! NSX's flood protection profiles (features.md 3.F) bound, a workload or a gateway, connections whose
//! handshake is not complete, and active flows of UDP, ICMP and everything else; at a gateway also
//! connections that NAT translates. Beyond a limit a new flow is dropped, those that exist are left
//! alone (RFC 4987 calls this filtering by backlog). A flow counts at a vNIC exactly as long as the
//! distributed firewall there remembers it, at a gateway as long as its NAT, balancer or firewall does,
//! so the counts follow the stage records: whoever adds, removes or moves on a session tells [`Flows`].
//!
//! Without limits a flood still pays for itself: a full share gives up its oldest half-open sessions first.

use super::{Progress, RecordKind, StageRecord, TimerState};
use crate::network::{PortId, RouterId};
use crate::tuple::Node;
use packet::protocol;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Where flows count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowPlace {
    /// A vNIC.
    Vnic(PortId),
    /// A gateway.
    Gateway(RouterId),
}

impl From<PortId> for FlowPlace {
    fn from(port: PortId) -> FlowPlace {
        FlowPlace::Vnic(port)
    }
}

impl From<RouterId> for FlowPlace {
    fn from(router: RouterId) -> FlowPlace {
        FlowPlace::Gateway(router)
    }
}

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
    /// A flow of whichever protocol that a NAT rule of a gateway translates; beside its other class.
    Nat,
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

/// Most flows of each class that a vNIC or a gateway may have at a time; `None` is no limit.
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
    /// Flows that NAT translates; none ever count at a vNIC.
    pub nat: Option<u32>,
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
            FlowClass::Nat => self.nat,
        }
    }
}

/// The router whose NAT, balancer or firewall a record is of.
fn gateway_of(record: &StageRecord) -> Option<RouterId> {
    match record.node {
        Node::Gateway(router) | Node::GatewayFirewall(router) => Some(router),
        Node::Balancer(_) | Node::Firewall(_) => None,
    }
}

/// Where a flow of `class` with these records counts, and as what: at a vNIC once for each record of its
/// firewall, at a gateway once for all that it remembers.
pub(crate) fn counted<'r>(
    class: Option<FlowClass>,
    records: impl IntoIterator<Item = &'r StageRecord>,
) -> SmallVec<[(FlowPlace, FlowClass); 6]> {
    let mut all = SmallVec::new();
    for record in records {
        if let Node::Firewall(port) = record.node {
            all.extend(class.map(|class| (port.into(), class)));
        }
        let Some(router) = gateway_of(record) else { continue };
        let translates =
            matches!(record.kind, RecordKind::Nat { .. }) && record.before != record.after;
        let classes = class.into_iter().chain(translates.then_some(FlowClass::Nat));
        for counts in classes.map(|class| (router.into(), class)) {
            if !all.contains(&counts) {
                all.push(counts);
            }
        }
    }
    all
}

/// Flows by place and class. A place without flows of a class has no entry.
#[derive(Debug, Default)]
pub(super) struct Flows {
    counts: BTreeMap<(FlowPlace, FlowClass), usize>,
}

impl Flows {
    /// A flow of `class` is now remembered by all of `records`.
    pub(super) fn enter(&mut self, class: Option<FlowClass>, records: &[StageRecord]) {
        for key in counted(class, records) {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    /// A flow of `class` that all of `records` remembered is to be counted no more.
    pub(super) fn leave(&mut self, class: Option<FlowClass>, records: &[StageRecord]) {
        for key in counted(class, records) {
            if let Some(count) = self.counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
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

    /// How many flows of `class` the place has.
    pub(super) fn count(&self, place: FlowPlace, class: FlowClass) -> usize {
        self.counts.get(&(place, class)).copied().unwrap_or(0)
    }
}
