//! Frames that routers and segments make themselves: answers, errors, resets, requests for neighbours.
//!
//! They pass no stateful firewall, but at a vNIC the stateless checks see every frame, these too: a
//! workload whose Ethernet rules let no ARP in gets no ARP reply.

use super::Worker;
use crate::drops::Drop;
use crate::network::{GroupTraffic, Network, PortId};
use crate::session::{StatelessRule, Traffic};
use crate::walk::check_ethernet;
use packet::{Frame, Time, parse};

impl Worker {
    /// Sends one frame of the network's own.
    pub(super) fn originate(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        self.counters.accounting.originated += 1;
        self.send_own(net, port, frame, now, tx);
    }

    /// Sends a frame of the network's own, or a copy of one, that is accounted for already.
    pub(super) fn send_own(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let bytes = frame.bytes.len() as u64;
        match self.check_own(net, port, &frame, now) {
            Err(drop) => self.counters.count_drop(&drop, bytes, now),
            Ok((rule, metered)) => {
                if let Some(traffic) = metered {
                    self.shared.tables.meter(port, traffic, now);
                }
                if let Some(rule) = rule {
                    self.counters.count_passed(rule, Traffic { packets: 1, bytes }, now);
                }
                self.send(port, frame, tx);
            }
        }
    }

    /// What the vNIC at `port` says of a frame of the network's own: the Ethernet rule that lets it pass
    /// and how rate limits count it, or why it is refused. External hosts have no vNIC.
    pub(super) fn check_own(
        &self,
        net: &Network,
        port: PortId,
        frame: &Frame,
        now: Time,
    ) -> Result<(Option<StatelessRule>, Option<GroupTraffic>), Drop> {
        let Some((at, vnic)) = net.port(port).and_then(|p| Some((p, p.vnic.as_ref()?))) else {
            return Ok((None, None));
        };
        let Ok(headers) = parse(&frame.bytes) else { return Ok((None, None)) };
        let checked =
            check_ethernet(net, &self.shared.tables, (port, at, vnic), &headers, true, now);
        match checked.refused {
            Some(drop) => Err(drop),
            None => {
                let rule = checked.rule.map(|rule| StatelessRule::Ethernet(rule.id));
                Ok((rule, checked.metered))
            }
        }
    }
}
