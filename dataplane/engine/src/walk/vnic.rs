//! The vNIC of a workload: SpoofGuard, segment security, and the distributed services.
//!
//! The Ethernet category of the firewall comes before everything that keeps state, for all frames.

use super::{Stop, Walk};
use crate::drops::{DropReason, Stage};
use crate::network::{Port, PortId, SegmentSecurity, Vnic};
use crate::session::Direction;
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::{Icmp, IcmpMessage, Ip, Mac, Payload, Transport, protocol};

/// IEEE 802.1D reserved addresses, 01:80:c2:00:00:00 to :0f: bridge protocols, never forwarded.
fn is_bridge_protocol(mac: Mac) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f < 0x10
}

/// ICMPv6 router advertisement (RFC 4861, 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// UDP port of DHCP servers and relays (RFC 2131).
const DHCP_SERVER_PORT: u16 = 67;
/// UDP port of DHCPv6 servers and relays (RFC 8415, 7.2).
const DHCPV6_SERVER_PORT: u16 = 547;

/// Why segment security refuses an IP packet from a workload, if it does.
fn refused_packet(ip: &Ip, security: &SegmentSecurity) -> Option<DropReason> {
    let server = if ip.is_v4() { DHCP_SERVER_PORT } else { DHCPV6_SERVER_PORT };
    match ip.transport {
        Transport::Udp(u) if ip.protocol == protocol::UDP => {
            if security.dhcp_server_block && u.src_port == server {
                Some(DropReason::DhcpServer)
            } else if security.dhcp_client_block && u.dst_port == server {
                Some(DropReason::DhcpClient)
            } else {
                None
            }
        }
        Transport::Icmp(Icmp { kind: ROUTER_ADVERTISEMENT, .. })
            if ip.protocol == protocol::ICMPV6 && security.ra_guard =>
        {
            Some(DropReason::RouterAdvertisement)
        }
        _ => None,
    }
}

impl<O: Observer> Walk<'_, O> {
    pub(super) fn workload_sends(&mut self, port: &Port, vnic: &Vnic) -> Stop<()> {
        self.plan.tenant = Some(vnic.tenant);
        self.segment_security(port, &vnic.security)?;
        if vnic.spoof_guard {
            self.spoof_guard(port, vnic)?;
        }
        self.ethernet(self.ingress, port, vnic, false)?;
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
        self.ethernet(id, port, vnic, true)?;
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
        self.answers_what_was_sent(port)
    }

    /// Drops an answer that is not what the workload's own flow began with: a balancer, or the gateway of
    /// a hairpin, has forgotten the flow before the firewall did, and the workload would meet the other
    /// side by its own address, of which it knows nothing.
    fn answers_what_was_sent(&mut self, port: &Port) -> Stop<()> {
        let began = match &self.session {
            Some((session, Direction::Reply)) => self.sessions.initiating(session.id),
            _ => return Ok(()),
        };
        if self.tuple() == began.map(Tuple::reversed) {
            return Ok(());
        }
        let error = self.is_icmp_error();
        let reason = if error { DropReason::IcmpUnmatched } else { DropReason::NoSession };
        Err(self.drop(Stage::Dlb, reason, &port.name, None))
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

    fn segment_security(&mut self, port: &Port, security: &SegmentSecurity) -> Stop<()> {
        let refused = if is_bridge_protocol(self.headers.dst_mac) {
            // NSX's non-IP block lets bridge protocols pass: they have a switch of their own.
            security.bpdu_filter.then_some(DropReason::Bpdu)
        } else {
            match &self.headers.payload {
                Payload::Other => security.non_ip_block.then_some(DropReason::NonIp),
                Payload::Arp(_) => None,
                Payload::Ip(ip) => refused_packet(ip, security),
            }
        };
        match refused {
            Some(reason) => Err(self.drop(Stage::Vnic, reason, &port.name, None)),
            None => Ok(()),
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
