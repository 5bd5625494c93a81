//! A Tier-0 or Tier-1 gateway.
//!
//! Order: sanity of addresses (RFC 1812, 5.3.7), reverse path check (RFC 3704), known flow, virtual
//! server, NAT of the destination, the gateway's firewall if it came by an uplink, local delivery, TTL,
//! route, firewall and NAT of the source if it leaves by an uplink, flood protection, MTU. ICMP errors carry the address
//! of the interface that the packet came in by.

use super::nat::Translation;
use super::{MAX_HOPS, Place, Stop, Walk, nat_stage, route_stage};
use crate::cache::wire_len;
use crate::drops::{Drop, DropReason, Stage};
use crate::hash::hash_of;
use crate::network::{
    Attachment, EcmpHash, Interface, InterfaceId, NextHop, Object, Route, RouteTarget, Router,
    RouterId, SegmentId, Side, Urpf,
};
use crate::plan::{Solicitation, Verdict};
use crate::session::{Direction, StageRecord};
use crate::tables::NeighborKey;
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::{
    Addr, Icmp, IcmpErrorKind, IcmpMessage, Mac, Transport, arp_request, echo_reply,
    neighbor_solicitation,
};

impl<O: Observer> Walk<'_, O> {
    pub(super) fn route(&mut self, id: RouterId, from: InterfaceId) -> Stop<Place> {
        let net = self.view.net;
        self.reads(Object::Router(id));
        self.reads(Object::Interface(id, from));
        let Some((router, entry)) = net.router(id).and_then(|r| r.interface(from).map(|i| (r, i)))
        else {
            return Err(self.drop(Stage::Segment, DropReason::NoRoute, "router", None));
        };
        let stage = route_stage(router);
        self.hops += 1;
        if self.hops > MAX_HOPS {
            return Err(self.drop(stage, DropReason::HopLimit, &router.name, None));
        }
        self.sane(stage, router, entry)?;
        self.reverse_path(router, from, entry)?;
        if router.keeps_state() {
            self.legal_flags(nat_stage(router), &router.name)?;
        }
        let way = self.translate_on_entry(id, router, entry)?;
        let Some(dst) = self.ip().map(|ip| ip.dst) else {
            return Err(self.drop(stage, DropReason::NonIp, &router.name, None));
        };
        if entry.side == Side::Uplink {
            if !way.is_admitted() && router.private.iter().any(|p| p.contains(dst)) {
                let reason = DropReason::PrivateDestination;
                return Err(self.drop(nat_stage(router), reason, &router.name, None));
            }
            self.cross(id, router, &way, true, None)?;
        }
        self.asks(dst);
        if router.owns(dst) {
            return Err(self.local(router));
        }
        self.time_to_live(stage, router, entry)?;
        let hop = self.lookup(stage, router, entry)?;
        self.reads(Object::Interface(id, hop.interface));
        let Some(exit) = router.interface(hop.interface) else {
            return Err(self.drop(stage, DropReason::NoRoute, &router.name, None));
        };
        match (entry.side, exit.side) {
            (_, Side::Uplink) => {
                self.leave_by_uplink(id, router, entry, &way)?;
                self.keeps_private(router, way.known.as_ref().map(|(record, _)| record))?;
            }
            (Side::Uplink, Side::Downlink) => self.settle_inward(id, router, &way)?,
            (Side::Downlink, Side::Downlink) => {
                self.turn_around(id, router, hop.interface == from, &way)?;
            }
        }
        self.flood_protection_at_gateway(id, router)?;
        self.fits(stage, router, entry, exit)?;
        let next = match exit.attachment {
            Attachment::Router(next, interface) => Place::Router(next, interface),
            Attachment::Segment(segment) => {
                self.reach_neighbor(id, router, entry, hop, exit, segment)?
            }
        };
        self.passed += 1;
        Ok(next)
    }

    /// Addresses that never appear on a wire.
    fn sane(&mut self, stage: Stage, router: &Router, entry: &Interface) -> Stop<()> {
        let Some(ip) = self.ip() else {
            return Err(self.drop(stage, DropReason::NonIp, &router.name, None));
        };
        // A fragment header is no option: the fragments were judged by their first one.
        let options = ip.options && (ip.is_v4() || ip.fragment.is_none());
        let (src, dst) = (ip.src, ip.dst);
        let martian = is_martian(src) || is_martian(dst);
        let spoofs_router = entry.addresses.iter().any(|(a, _)| *a == src);
        let link_local = (src.is_link_local() || dst.is_link_local()) && !router.owns(dst);
        if martian || spoofs_router || src == dst || link_local {
            return Err(self.drop(stage, DropReason::Martian, &router.name, None));
        }
        if !self.is_stateful() {
            // Neighbour discovery is the link's business and was never meant to be routed.
            return Err(self.drop(stage, DropReason::Martian, &router.name, None));
        }
        if options {
            return Err(self.drop(stage, DropReason::Options, &router.name, None));
        }
        Ok(())
    }

    fn reverse_path(&mut self, router: &Router, from: InterfaceId, entry: &Interface) -> Stop<()> {
        let Some(src) = self.ip().map(|ip| ip.src) else {
            return Ok(());
        };
        if entry.urpf != Urpf::None {
            self.asks(src);
        }
        let passes = match (entry.urpf, router.fib.lookup(src)) {
            (Urpf::None, _) => true,
            (Urpf::Loose, Some(Route { target: RouteTarget::NextHops(_), .. })) => true,
            (Urpf::Strict, Some(Route { target: RouteTarget::NextHops(hops), .. })) => {
                hops.iter().any(|h| h.interface == from)
            }
            _ => false,
        };
        if passes {
            return Ok(());
        }
        Err(self.drop(Stage::T0Urpf, DropReason::Urpf, &router.name, None))
    }

    /// Follows what the gateway remembers of the packet's flow.
    fn known_flow(
        &mut self,
        id: RouterId,
        router: &Router,
    ) -> Stop<Option<(StageRecord, Direction)>> {
        let stage = nat_stage(router);
        let Some((record, direction)) = self.recall(stage, &router.name, Node::Gateway(id))? else {
            return Ok(None);
        };
        self.follow(&record, direction);
        self.note(stage, &router.name, || {
            format!("known session: {} became {}", record.before, record.after)
        });
        Ok(Some((record, direction)))
    }

    /// What comes to a gateway is translated by what it remembers of the flow, else by a virtual
    /// server, else by a NAT rule.
    fn translate_on_entry<'n>(
        &mut self,
        id: RouterId,
        router: &'n Router,
        entry: &Interface,
    ) -> Stop<Translation<'n>> {
        let Some(came) = self.tuple() else {
            return Err(self.drop(route_stage(router), DropReason::NonIp, &router.name, None));
        };
        let known = self.known_flow(id, router)?;
        let served = known.is_none() && self.server_balancer(id, router)?;
        let destination = if known.is_none() && !served {
            self.destination_nat(id, router, entry, came)?
        } else {
            None
        };
        Ok(Translation { came, known, served, destination })
    }

    /// An ICMP error has a source of its own, which its flow's translation does not reach: a private
    /// one stays inside, unless the flow itself goes out untranslated.
    fn keeps_private(&mut self, router: &Router, known: Option<&StageRecord>) -> Stop<()> {
        let untranslated = known.is_some_and(|r| r.before == r.after);
        let leaks = self.is_icmp_error()
            && !untranslated
            && self.ip().is_some_and(|ip| router.private.iter().any(|p| p.contains(ip.src)));
        if leaks {
            return Err(self.drop(nat_stage(router), DropReason::NoNatRule, &router.name, None));
        }
        Ok(())
    }

    /// The packet is for the router itself, or for an address that it translates.
    fn local(&mut self, router: &Router) -> Box<Verdict> {
        let stage = route_stage(router);
        let Some(ip) = self.ip().copied() else {
            return self.drop(stage, DropReason::NonIp, &router.name, None);
        };
        let own = router.is_interface_address(ip.dst);
        let pingable = own || router.balancer.has_server(ip.dst);
        match ip.transport {
            Transport::Icmp(Icmp { message: IcmpMessage::Query { .. }, kind: 8 | 128, .. })
                if pingable && ip.fragment.is_none() =>
            {
                let reply = echo_reply(self.frame, &self.original);
                self.answer(reply);
                self.note(stage, &router.name, || "answered the ping".to_owned());
                Box::new(Verdict::Consume(stage))
            }
            Transport::Icmp(Icmp { message: IcmpMessage::Error(_), .. }) => {
                self.drop(nat_stage(router), DropReason::IcmpUnmatched, &router.name, None)
            }
            _ if !own => self.drop(nat_stage(router), DropReason::NoSession, &router.name, None),
            Transport::Udp(_) => {
                // What traceroute waits for at the last hop.
                let source = self.original.ip().map(|o| o.dst);
                self.answer_error(IcmpErrorKind::PortUnreachable, source);
                self.drop(stage, DropReason::RouterClosed, &router.name, None)
            }
            _ => self.drop(stage, DropReason::RouterClosed, &router.name, None),
        }
    }

    fn time_to_live(&mut self, stage: Stage, router: &Router, entry: &Interface) -> Stop<()> {
        let Some(ip) = self.headers.ip_mut() else {
            return Ok(());
        };
        if ip.ttl > 1 {
            ip.ttl -= 1;
            return Ok(());
        }
        let source = self.own_address(entry);
        self.answer_error(IcmpErrorKind::TimeExceeded, source);
        Err(self.drop(stage, DropReason::TtlExpired, &router.name, None))
    }

    /// The address that the router's errors to the packet's sender come from.
    fn own_address(&self, entry: &Interface) -> Option<Addr> {
        entry.address_like(self.original.ip()?.src)
    }

    /// The way on: longest prefix, then the path that the flow hashes to.
    fn lookup(&mut self, stage: Stage, router: &Router, entry: &Interface) -> Stop<NextHop> {
        let Some(tuple) = self.tuple() else {
            return Err(self.drop(stage, DropReason::NonIp, &router.name, None));
        };
        let Some(dst) = self.ip().map(|ip| ip.dst) else {
            return Err(self.drop(stage, DropReason::NonIp, &router.name, None));
        };
        let source = self.own_address(entry);
        let Some(route) = router.fib.lookup(dst) else {
            // The article's `Destination Host Unreachable` is code 1, not code 0 (F15).
            self.answer_error(IcmpErrorKind::HostUnreachable, source);
            return Err(self.drop(stage, DropReason::NoRoute, &router.name, None));
        };
        let hops = match &route.target {
            RouteTarget::NextHops(hops) => hops,
            RouteTarget::Blackhole => {
                return Err(self.drop(stage, DropReason::Blackhole, &router.name, None));
            }
            RouteTarget::Unreachable => {
                self.answer_error(IcmpErrorKind::HostUnreachable, source);
                return Err(self.drop(stage, DropReason::UnreachableRoute, &router.name, None));
            }
        };
        if route.prefix.is_broadcast(dst) && hops.iter().any(|h| h.gateway.is_none()) {
            return Err(self.drop(stage, DropReason::Martian, &router.name, None));
        }
        let Some(hop) = self.choose_path(router, tuple, hops) else {
            return Err(self.drop(stage, DropReason::NoRoute, &router.name, None));
        };
        self.note(stage, &router.name, || {
            let name = router.interface(hop.interface).map_or("?", |i| i.name.as_str());
            let paths = if hops.len() > 1 {
                format!(", one of {} paths", hops.len())
            } else {
                String::new()
            };
            match hop.gateway {
                Some(gw) => {
                    format!("route {} {} via {gw} by {name}{paths}", route.prefix, route.source)
                }
                None => format!("route {} {} by {name}{paths}", route.prefix, route.source),
            }
        });
        Ok(hop)
    }

    /// Rendezvous hashing: every path gets a score for the flow, the best wins. When a path goes,
    /// only its own flows move (features.md 3.D, resilient hashing).
    fn choose_path(&self, router: &Router, tuple: Tuple, hops: &[NextHop]) -> Option<NextHop> {
        if let [only] = hops {
            return Some(*only);
        }
        let seed = self.view.net.seed;
        hops.iter()
            .max_by_key(|hop| {
                let path = (hop.interface.0, hop.gateway);
                let score = match router.ecmp {
                    EcmpHash::FiveTuple => hash_of(seed, 4, &(tuple, path)),
                    EcmpHash::TwoTuple => hash_of(seed, 4, &(tuple.src, tuple.dst, path)),
                };
                (score, std::cmp::Reverse(**hop))
            })
            .copied()
    }

    fn fits(
        &mut self,
        stage: Stage,
        router: &Router,
        entry: &Interface,
        exit: &Interface,
    ) -> Stop<()> {
        self.mtu = self.mtu.min(exit.mtu);
        let Some(ip) = self.ip() else { return Ok(()) };
        let keeps_whole = ip.dont_fragment || !ip.is_v4();
        if wire_len(self.frame, &self.headers, ip) <= exit.mtu {
            return Ok(());
        }
        if keeps_whole {
            let source = self.own_address(entry);
            self.answer_error(IcmpErrorKind::FragmentationNeeded { mtu: exit.mtu }, source);
            return Err(self.drop(stage, DropReason::FragmentationNeeded, &router.name, None));
        }
        self.fragment_to = Some(self.fragment_to.map_or(exit.mtu, |to| to.min(exit.mtu)));
        Ok(())
    }

    /// Sends on to a station of a segment: its MAC is known, or asked for while the packet waits.
    fn reach_neighbor(
        &mut self,
        id: RouterId,
        router: &Router,
        entry: &Interface,
        hop: NextHop,
        exit: &Interface,
        segment: SegmentId,
    ) -> Stop<Place> {
        let Some(dst) = self.ip().map(|ip| ip.dst) else {
            return Err(self.drop(Stage::Neighbor, DropReason::NonIp, &router.name, None));
        };
        let address = hop.gateway.unwrap_or(dst);
        let key = NeighborKey { router: id, interface: hop.interface, address };
        if let Some(mac) = self.neighbor(segment, key) {
            self.headers.dst_mac = mac;
            self.headers.src_mac = exit.mac;
            return Ok(Place::Leaving(segment));
        }
        let source = exit.address_like(address).unwrap_or(address);
        let frame = if address.is_v4() {
            arp_request(exit.mac, source, address)
        } else {
            neighbor_solicitation(exit.mac, source, address)
        };
        let own = self.own_address(entry);
        self.answer_error(IcmpErrorKind::HostUnreachable, own);
        self.hold = Some(Box::new((
            Solicitation { segment, frame },
            Drop {
                stage: Stage::Neighbor,
                reason: DropReason::NeighborUnresolved,
                object: router.name.clone(),
                rule: None,
                parse: None,
            },
        )));
        self.note(Stage::Neighbor, &router.name, || format!("waits: who has {address}?"));
        Err(Box::new(Verdict::Hold(key)))
    }

    fn neighbor(&self, segment: SegmentId, key: NeighborKey) -> Option<Mac> {
        if let Some(mac) =
            self.view.net.segment(segment).and_then(|s| s.neighbors.get(&key.address))
        {
            return Some(*mac);
        }
        self.view.tables.neighbor(key, self.view.now)
    }
}

/// Whether an address never appears on a wire between routers: of IPv4 0.0.0.0/8, 127.0.0.0/8, groups and
/// what is reserved above them, the limited broadcast included; of IPv6 `::`, `::1` and groups.
fn is_martian(addr: Addr) -> bool {
    if addr.is_v4() {
        !matches!(addr.low32() >> 24, 1..=126 | 128..=223)
    } else {
        addr.is_unspecified() || addr.is_loopback() || addr.is_multicast()
    }
}
