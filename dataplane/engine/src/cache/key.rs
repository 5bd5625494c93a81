//! Under what a flow is cached.

use crate::network::PortId;
use crate::tuple::Tuple;
use packet::{Flow, Headers, Mac};

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
    /// The port and the station that the flow comes in by, and the rest of the key.
    #[must_use]
    pub fn split(self) -> (PortId, Mac, Tuple) {
        fn parts<const W: usize>(flow: &Flow<W>) -> (PortId, Mac, Tuple) {
            let ((src, dst), (src_port, dst_port)) = (flow.endpoints(), flow.port_numbers());
            let tuple = Tuple { src, dst, protocol: flow.protocol(), src_port, dst_port };
            (PortId(flow.place()), flow.dst_mac(), tuple)
        }
        match &self {
            FlowKey::V4(flow) => parts(flow),
            FlowKey::V6(flow) => parts(flow),
        }
    }

    /// The key that [`FlowKey::split`] makes these of.
    #[must_use]
    pub fn join(port: PortId, mac: Mac, tuple: Tuple) -> FlowKey {
        fn whole<const W: usize>(port: PortId, mac: Mac, t: Tuple) -> Flow<W> {
            Flow::between(port.0, mac, t.protocol, (t.src, t.dst), (t.src_port, t.dst_port))
        }
        if tuple.src.is_v4() {
            FlowKey::V4(whole(port, mac, tuple))
        } else {
            FlowKey::V6(whole(port, mac, tuple))
        }
    }

    /// The key of a packet, or `None` where packets of its kind are never cached.
    #[must_use]
    pub fn of(port: PortId, headers: &Headers) -> Option<FlowKey> {
        let v4 = || Flow::of(port.0, headers).map(FlowKey::V4);
        v4().or_else(|| Flow::of(port.0, headers).map(FlowKey::V6))
    }
}
