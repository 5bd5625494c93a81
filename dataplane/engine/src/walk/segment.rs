//! Switching in a segment.

use super::neighbor::gateways;
use super::{Place, Stop, Walk};
use crate::drops::{Drop, DropReason, Stage};
use crate::network::{Object, PortId, Segment, SegmentId};
use crate::plan::{Learned, Verdict};
use crate::trace::Observer;
use packet::Payload;

impl<O: Observer> Walk<'_, O> {
    /// A frame that came in by a port.
    pub(super) fn enter_segment(&mut self, id: SegmentId) -> Stop<Place> {
        let net = self.view.net;
        self.reads(Object::Segment(id));
        let Some(segment) = net.segment(id) else {
            return Err(self.drop(Stage::Segment, DropReason::UnknownPort, "segment", None));
        };
        for (router, interface) in &segment.gateways {
            self.reads(Object::Interface(*router, *interface));
        }
        let own = self.headers.src_mac;
        if gateways(net, segment).any(|(_, _, _, interface)| interface.mac == own) {
            return Err(self.drop(Stage::Segment, DropReason::BadSourceMac, &segment.name, None));
        }
        if segment.learning && !segment.stations.contains_key(&self.headers.src_mac) {
            self.plan.learned =
                Some(Learned { segment: id, mac: self.headers.src_mac, port: self.ingress });
        }
        self.resolve_here(segment)?;
        let dst = self.headers.dst_mac;
        if dst.is_group() {
            return Err(self.flood(segment));
        }
        let gateway = gateways(net, segment).find(|(_, _, _, interface)| interface.mac == dst);
        if let Some((router, interface, _, _)) = gateway {
            if !matches!(self.headers.payload, Payload::Ip(_)) {
                return Err(self.drop(Stage::Segment, DropReason::NonIp, &segment.name, None));
            }
            self.note(Stage::Segment, &segment.name, || "to the gateway".to_owned());
            return Ok(Place::Router(router, interface));
        }
        let out = self.station(id, segment)?;
        if out == self.ingress {
            return Err(self.drop(Stage::Segment, DropReason::SamePort, &segment.name, None));
        }
        self.note(Stage::Segment, &segment.name, || "switched".to_owned());
        Ok(Place::Port(out))
    }

    /// A packet that a router sent to a station.
    pub(super) fn reach_station(&mut self, id: SegmentId) -> Stop<Place> {
        self.reads(Object::Segment(id));
        let Some(segment) = self.view.net.segment(id) else {
            return Err(self.drop(Stage::Segment, DropReason::UnknownPort, "segment", None));
        };
        self.station(id, segment).map(Place::Port)
    }

    fn station(&mut self, id: SegmentId, segment: &Segment) -> Stop<PortId> {
        let mac = self.headers.dst_mac;
        let age = self.view.net.timers.mac_age;
        let known = segment
            .stations
            .get(&mac)
            .copied()
            .or_else(|| self.view.tables.station(id, mac, self.view.now, age));
        match known {
            Some(port) => Ok(port),
            None if segment.learning => Err(self.flood(segment)),
            None => Err(self.drop(Stage::Segment, DropReason::UnknownUnicast, &segment.name, None)),
        }
    }

    /// A copy to every port of the segment but the one it came from.
    fn flood(&mut self, segment: &Segment) -> Box<Verdict> {
        let net = self.view.net;
        let mut ports = Vec::new();
        let mut refused = Vec::new();
        let ingress = self.ingress;
        for id in segment.ports.iter().copied().filter(|id| *id != ingress) {
            let Some(port) = net.port(id) else { continue };
            if self.is_too_large_for(port) {
                refused.push(Drop {
                    stage: Stage::Port,
                    reason: DropReason::FragmentationNeeded,
                    object: port.name.clone(),
                    rule: None,
                    parse: None,
                });
                continue;
            }
            match self.refuses_copy(id, port) {
                None => ports.push(id),
                Some(drop) => refused.push(drop),
            }
        }
        if ports.is_empty() && refused.is_empty() {
            return self.drop(Stage::Segment, DropReason::NoRecipient, &segment.name, None);
        }
        self.note(Stage::Segment, &segment.name, || {
            format!("flooded to {} ports, {} refused", ports.len(), refused.len())
        });
        Box::new(Verdict::Flood { ports, refused })
    }
}
