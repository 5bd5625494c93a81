//! Forwarding: what a host with `ip_forward` on does with other hosts' packets (RFC 1812).
//!
//! Errors come from the address of the interface that the packet came in by, which is what makes a
//! traceroute readable. Codes are those of Linux: net unreachable without a route, host unreachable
//! for an `unreachable` route or a neighbour that does not answer.

use packet::{Addr, IcmpErrorKind, Time};

use crate::host::{Arrival, Host, HostDrop, Output};
use crate::neighbor::Pending;
use crate::routing::{Query, RouteError, RouteOutcome};
use crate::wire;

impl Host {
    /// Sends someone else's packet onwards (RFC 1812, 5.2 and 5.3).
    pub(crate) fn forward(&mut self, arrival: &Arrival<'_>, now: Time, out: &mut Output) {
        let Arrival { interface, frame, headers, ip } = *arrival;
        if ip.dst.is_multicast()
            || ip.dst.is_unspecified()
            || ip.dst.is_link_local()
            || ip.src.is_link_local()
            || ip.src.is_unspecified()
            || self.is_broadcast(ip.dst)
        {
            self.count(HostDrop::Martian);
            return;
        }
        if ip.ttl <= 1 {
            self.count(HostDrop::TtlExpired);
            self.error_from_ingress(arrival, IcmpErrorKind::TimeExceeded, now, out);
            return;
        }
        let query = Query { dst: ip.dst, src: Some(ip.src), oif: None, iif: Some(interface) };
        let (dev, next_hop) = match self.lookup(&query) {
            RouteOutcome::Unicast { dev, next_hop, .. } => (dev, next_hop),
            RouteOutcome::Local => return self.count(HostDrop::Martian),
            RouteOutcome::Error(error) => {
                self.count(HostDrop::NoRoute);
                let kind = match error {
                    RouteError::NetworkUnreachable => IcmpErrorKind::NetUnreachable,
                    RouteError::HostUnreachable => IcmpErrorKind::HostUnreachable,
                    RouteError::Prohibited => IcmpErrorKind::AdminProhibited,
                    RouteError::Blackhole => return,
                };
                self.error_from_ingress(arrival, kind, now, out);
                return;
            }
        };
        let mtu = self.mtu(dev);
        let mut onward = frame.clone();
        wire::set_ttl(&mut onward, ip.ttl - 1);
        let packets = if ip.total_len <= mtu {
            vec![onward]
        } else if let Some(fragments) = packet::fragment_ipv4(&onward, headers, mtu) {
            fragments
        } else {
            self.count(HostDrop::TooLong);
            self.error_from_ingress(arrival, IcmpErrorKind::FragmentationNeeded { mtu }, now, out);
            return;
        };
        self.counters.forwarded += 1;
        for frame in packets {
            self.send_via(dev, next_hop, Pending { frame, ingress: Some(interface) }, now, out);
        }
    }

    fn is_broadcast(&self, addr: Addr) -> bool {
        let directed = |(own, len): &(Addr, u8)| {
            let host_bits = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
            own.is_v4() && *len < 31 && addr == Addr::v4(own.low32() | host_bits)
        };
        addr.is_v4()
            && (addr == Addr::BROADCAST_V4
                || self.config.interfaces.iter().any(|i| i.addresses.iter().any(directed)))
    }

    /// An ICMP error from the address of the interface that the packet came in by.
    pub(crate) fn error_from_ingress(
        &mut self,
        arrival: &Arrival<'_>,
        kind: IcmpErrorKind,
        now: Time,
        out: &mut Output,
    ) {
        let source = self.address_on(arrival.interface, arrival.ip.src);
        match source {
            Some(source) => self.icmp_error(arrival, kind, source, now, out),
            None => self.count(HostDrop::ErrorSuppressed),
        }
    }
}
