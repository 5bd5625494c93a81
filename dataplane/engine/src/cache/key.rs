//! Under what a flow is cached.

use crate::network::PortId;
use packet::{Flow, Headers};

/// Cache key of either family: only what [`packet::flow4`] and [`packet::flow6`] read is cached. The place of a flow
/// is the port that it comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowKey {
    /// IPv4.
    V4(Flow<1>),
    /// IPv6.
    V6(Flow<4>),
}

impl FlowKey {
    /// The key of a packet, or `None` where packets of its kind are never cached.
    #[must_use]
    pub fn of(port: PortId, headers: &Headers) -> Option<FlowKey> {
        let v4 = || Flow::of(port.0, headers).map(FlowKey::V4);
        v4().or_else(|| Flow::of(port.0, headers).map(FlowKey::V6))
    }
}
