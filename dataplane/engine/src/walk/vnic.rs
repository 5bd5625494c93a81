//! The vNIC of a workload: SpoofGuard, segment security, and the distributed services.

use super::{Stop, Walk};
use crate::drops::{DropReason, Stage};
use crate::network::{Port, PortId, Vnic};
use crate::trace::Observer;
use crate::tuple::Node;
use packet::{Icmp, IcmpMessage, Mac, Payload, Transport, protocol};

/// IEEE 802.1D reserved addresses, 01:80:c2:00:00:00 to :0f: bridge protocols, never forwarded.
fn is_bridge_protocol(mac: Mac) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f < 0x10
}

/// ICMPv6 router advertisement (RFC 4861, 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// UDP port of DHCP servers (RFC 2131).
const DHCP_SERVER_PORT: u16 = 67;

impl<O: Observer> Walk<'_, O> {
    pub(super) fn workload_sends(&mut self, port: &Port, vnic: &Vnic) -> Stop<()> {
        self.plan.tenant = Some(vnic.tenant);
        self.segment_security(port)?;
        if vnic.spoof_guard {
            self.spoof_guard(port, vnic)?;
        }
        if !self.is_stateful() {
            return Ok(());
        }
        self.legal_flags(Stage::Vnic, &port.name)?;
        if self.ip().is_some_and(|ip| ip.src == ip.dst) {
            // Land: its reply would look like itself.
            return Err(self.drop(Stage::Vnic, DropReason::Martian, &port.name, None));
        }
        self.distributed_balancer(self.ingress, port, vnic)?;
        self.firewall(self.ingress, port, vnic, false)
    }

    pub(super) fn workload_receives(&mut self, id: PortId, port: &Port, vnic: &Vnic) -> Stop<()> {
        self.plan.tenant = self.plan.tenant.or(Some(vnic.tenant));
        if !self.is_stateful() {
            return Ok(());
        }
        self.firewall(id, port, vnic, true)?;
        // Un-DNAT: only a flow that the balancer at this vNIC translated is known there.
        if let Some((record, direction)) =
            self.recall(Stage::Dlb, &port.name, Node::Balancer(id))?
        {
            self.follow(&record, direction);
            self.note(Stage::Dlb, &port.name, || {
                "reply of a ClusterIP: translated back".to_owned()
            });
        }
        Ok(())
    }

    /// Whether firewall and balancer look at the packet: IP, but not neighbour discovery, which is
    /// the segment's business.
    pub(super) fn is_stateful(&self) -> bool {
        self.ip().is_some_and(|ip| {
            !matches!(
                ip.transport,
                Transport::Icmp(Icmp {
                    message: IcmpMessage::NeighborSolicitation { .. }
                        | IcmpMessage::NeighborAdvertisement { .. },
                    ..
                })
            )
        })
    }

    fn segment_security(&mut self, port: &Port) -> Stop<()> {
        if is_bridge_protocol(self.headers.dst_mac) {
            return Err(self.drop(Stage::Vnic, DropReason::Bpdu, &port.name, None));
        }
        match &self.headers.payload {
            Payload::Other => Err(self.drop(Stage::Vnic, DropReason::NonIp, &port.name, None)),
            Payload::Arp(_) => Ok(()),
            Payload::Ip(ip) => match ip.transport {
                Transport::Udp(u)
                    if u.src_port == DHCP_SERVER_PORT && ip.protocol == protocol::UDP =>
                {
                    Err(self.drop(Stage::Vnic, DropReason::DhcpServer, &port.name, None))
                }
                Transport::Icmp(Icmp { kind: ROUTER_ADVERTISEMENT, .. })
                    if ip.protocol == protocol::ICMPV6 =>
                {
                    Err(self.drop(Stage::Vnic, DropReason::RouterAdvertisement, &port.name, None))
                }
                _ => Ok(()),
            },
        }
    }

    fn spoof_guard(&mut self, port: &Port, vnic: &Vnic) -> Stop<()> {
        let mut honest = self.headers.src_mac == vnic.mac;
        match &self.headers.payload {
            Payload::Arp(arp) => {
                // 0.0.0.0 probes for a duplicate address (RFC 5227).
                honest &= arp.sender_mac == vnic.mac
                    && (vnic.addresses.contains(&arp.sender) || arp.sender.is_unspecified());
            }
            Payload::Ip(ip) => {
                // `::` solicits during duplicate address detection (RFC 4862, 5.4.2).
                let probing = ip.src.is_unspecified() && !ip.is_v4() && !self.is_stateful();
                honest &= vnic.addresses.contains(&ip.src) || probing;
                if let Transport::Icmp(Icmp {
                    message: IcmpMessage::NeighborAdvertisement { target, target_mac },
                    ..
                }) = ip.transport
                {
                    honest &= vnic.addresses.contains(&target)
                        && target_mac.is_none_or(|mac| mac == vnic.mac);
                }
                if let Transport::Icmp(Icmp {
                    message: IcmpMessage::NeighborSolicitation { source_mac: Some(mac), .. },
                    ..
                }) = ip.transport
                {
                    honest &= mac == vnic.mac;
                }
            }
            Payload::Other => {}
        }
        if honest {
            Ok(())
        } else {
            Err(self.drop(Stage::Vnic, DropReason::SpoofGuard, &port.name, None))
        }
    }
}
