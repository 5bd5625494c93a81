//! ARP (RFC 826) and neighbour discovery (RFC 4861) in a segment.
//!
//! Gateways answer for their addresses. For stations that the segment knows, the segment answers
//! itself and floods nothing (NSX: ARP suppression). Routers learn from what is sent to them.

use super::{Stop, Walk};
use crate::drops::Stage;
use crate::network::{Interface, InterfaceId, Network, Prefix, Router, RouterId, Segment};
use crate::plan::{Resolved, Verdict};
use crate::tables::NeighborKey;
use crate::trace::Observer;
use packet::{
    Addr, Arp, Icmp, IcmpMessage, Ip, Mac, Payload, Transport, arp_reply, neighbor_advertisement,
};

const REQUEST: u16 = 1;

impl<O: Observer> Walk<'_, O> {
    /// Takes address resolution out of the frame's way; other frames pass.
    pub(super) fn resolve_here(&mut self, segment: &Segment) -> Stop<()> {
        match self.headers.payload {
            Payload::Arp(arp) => self.arp(segment, &arp),
            Payload::Ip(Ip { src, transport, .. }) => match transport {
                Transport::Icmp(Icmp {
                    message: IcmpMessage::NeighborSolicitation { target, source_mac },
                    ..
                }) => {
                    if let Some(mac) = source_mac
                        && !src.is_unspecified()
                    {
                        self.learn_neighbor(segment, src, mac, target);
                    }
                    self.answer_for(segment, target)
                }
                Transport::Icmp(Icmp {
                    message: IcmpMessage::NeighborAdvertisement { target, target_mac: Some(mac) },
                    ..
                }) => self.heard(segment, target, mac),
                _ => Ok(()),
            },
            Payload::Other => Ok(()),
        }
    }

    fn arp(&mut self, segment: &Segment, arp: &Arp) -> Stop<()> {
        if arp.operation != REQUEST {
            return self.heard(segment, arp.sender, arp.sender_mac);
        }
        if arp.sender == arp.target {
            // Gratuitous: an announcement (RFC 5227). Routers that know the sender take it over.
            self.update_neighbors(segment, arp.sender, arp.sender_mac);
            return Ok(());
        }
        if !arp.sender.is_unspecified() {
            self.learn_neighbor(segment, arp.sender, arp.sender_mac, arp.target);
        }
        self.answer_for(segment, arp.target)
    }

    /// Answers a request for `target` if a gateway or the segment can; the request then ends here.
    fn answer_for(&mut self, segment: &Segment, target: Addr) -> Stop<()> {
        let gateway = gateways(self.view.net, segment)
            .find(|(_, _, router, interface)| {
                interface.addresses.iter().any(|(a, _)| *a == target)
                    // A VIP or NAT address is answered for only where it is on-link.
                    || (router.is_service_address(target)
                        && interface.addresses.iter().any(|(a, l)| Prefix::new(*a, *l).contains(target)))
            })
            .map(|(_, _, _, interface)| (interface.mac, true));
        let known = segment
            .neighbors
            .get(&target)
            .filter(|mac| **mac != self.headers.src_mac)
            .map(|mac| (*mac, false));
        let Some((mac, is_router)) = gateway.or(known) else {
            return Ok(());
        };
        self.answer = match self.headers.payload {
            Payload::Arp(_) => arp_reply(&self.original, mac),
            _ => neighbor_advertisement(&self.original, mac, is_router),
        };
        self.note(Stage::Segment, &segment.name, || format!("answered: {target} is at {mac}"));
        Err(Box::new(Verdict::Consume(Stage::Segment)))
    }

    /// A reply or advertisement: ends at the router that it is addressed to.
    fn heard(&mut self, segment: &Segment, address: Addr, mac: Mac) -> Stop<()> {
        let dst = self.headers.dst_mac;
        self.update_neighbors(segment, address, mac);
        if gateways(self.view.net, segment).any(|(_, _, _, interface)| interface.mac == dst) {
            self.note(Stage::Segment, &segment.name, || format!("heard: {address} is at {mac}"));
            return Err(Box::new(Verdict::Consume(Stage::Segment)));
        }
        Ok(())
    }

    /// Who asks a router for its address will be answered, and sent packets: the router learns it.
    fn learn_neighbor(&mut self, segment: &Segment, sender: Addr, mac: Mac, target: Addr) {
        if mac.is_group() || mac == Mac::ZERO || segment.neighbors.contains_key(&sender) {
            return;
        }
        for (router, interface, _, config) in gateways(self.view.net, segment) {
            let on_link =
                config.addresses.iter().any(|(a, l)| Prefix::new(*a, *l).contains(sender));
            // Who claims the router's own MAC would have it send its packets to itself.
            if on_link && config.mac != mac && config.addresses.iter().any(|(a, _)| *a == target) {
                let key = NeighborKey { router, interface, address: sender };
                self.plan.resolved.push(Resolved { key, mac, update_only: false });
            }
        }
    }

    /// Routers that know `address`, or are asking for it, take its MAC over. Stations of the segment
    /// are never overwritten.
    fn update_neighbors(&mut self, segment: &Segment, address: Addr, mac: Mac) {
        if mac.is_group() || mac == Mac::ZERO || segment.neighbors.contains_key(&address) {
            return;
        }
        for (router, interface, _, config) in gateways(self.view.net, segment) {
            if config.mac != mac {
                let key = NeighborKey { router, interface, address };
                self.plan.resolved.push(Resolved { key, mac, update_only: true });
            }
        }
    }
}

/// The router interfaces in a segment.
pub(super) fn gateways<'n>(
    net: &'n Network,
    segment: &'n Segment,
) -> impl Iterator<Item = (RouterId, InterfaceId, &'n Router, &'n Interface)> {
    segment.gateways.iter().filter_map(move |(r, i)| {
        let router = net.router(*r)?;
        Some((*r, *i, router, router.interface(*i)?))
    })
}
