//! The gateways: load balancer and routes of the Tier-1; reverse path, routes and equal paths of the Tier-0.

use std::net::IpAddr;

use definitions::own::UrpfMode;

use super::balancer::{counter_of, server};
use super::{End, Entry, Scope, Stop, Walk, gone};
use crate::memory::{Deed, Memory, Place};
use crate::network::{NatKind, Source, Target, is_broadcast};
use crate::packet::{Complaint, Content, Flow};

impl Walk<'_> {
    // The Tier-1.

    pub(super) fn tier1(&mut self, entry: &Entry) -> Stop<u32> {
        let network = self.network;
        let hidden = |a: IpAddr| network.private.iter().any(|net| net.contains(&a));
        self.martians(entry)?;
        self.legal_flags()?;
        let came = self.done.packet.flow();
        let known = self.recall(Place::Tier1)?;
        if let Some((memory, way)) = &known {
            self.follow(memory, *way);
        }
        let served = known.is_some() || self.virtual_server()?;
        let by = if served { None } else { self.destination_nat(entry.uplink)? };
        let moved = by.as_ref().is_some_and(|rule| rule.kind != NatKind::NoDnat);
        let owned = served || moved;
        let dst = self.done.packet.dst;
        if !owned && entry.uplink && hidden(dst) {
            return gone("a private destination");
        }
        if entry.uplink {
            self.cross(true, came, known.as_ref(), by.as_ref(), came)?;
        }
        let is_vip = network.outer_servers.iter().any(|s| s.address == dst);
        let has_interface = dst == network.transit.1
            || network.blocks.iter().flat_map(crate::network::Block::gateways).any(|g| g == dst);
        let taken = network.tier1_addresses.iter().any(|net| net.contains(&dst));
        if has_interface || taken {
            return self.local(!taken || is_vip, !taken);
        }
        self.time_to_live(entry)?;
        let lost = network.lost.iter().filter(|route| route.net.contains(&dst));
        let block = network.block_of(dst);
        let near = block.and_then(|b| b.nets.iter().find(|net| net.contains(&dst)));
        if let Some(lost) = lost.max_by_key(|route| route.net.prefix_len())
            && near.is_none_or(|net| net.prefix_len() < lost.net.prefix_len())
        {
            if lost.told {
                self.complains(Complaint::HostUnreachable, entry);
            }
            return gone("a route of the Tier-1 that leads nowhere");
        }
        if let Some(block) = block {
            match &by {
                Some(rule) if moved && entry.uplink => self.ends_inside(rule, came),
                Some(rule) if moved => self.turns_around(rule, came)?,
                _ if entry.uplink && !served => self.lets_in()?,
                _ => {}
            }
            if block.is_broadcast(dst) {
                return gone("a broadcast address");
            }
            self.fits(network.inner_mtu, entry)?;
            return match network.workload_with(dst) {
                Some(workload) => {
                    self.passed += 1;
                    self.reaches_workload(workload)
                }
                None => {
                    self.complains(Complaint::HostUnreachable, entry);
                    Err(End::Asks(dst))
                }
            };
        }
        if dst.is_ipv6() {
            // No IPv6 leads out of the cluster.
            self.complains(Complaint::HostUnreachable, entry);
            return gone("no route");
        }
        let src = self.done.packet.flow().src;
        if !served {
            let dnat = by.as_ref().filter(|_| moved);
            self.source_nat(came, dnat, hidden(src), !entry.uplink)?;
        } else if !entry.uplink {
            let now = self.done.packet.flow();
            self.cross(false, came, known.as_ref(), None, now)?;
        }
        let memory = known.as_ref().map(|(memory, _)| memory);
        self.keeps_private(hidden(self.done.packet.src), memory)?;
        self.fits(network.inner_mtu, entry)?;
        self.passed += 1;
        self.tier0(&Entry { addresses: vec![network.transit.0], uplink: false })
    }

    /// Whether a virtual server takes the packet.
    fn virtual_server(&mut self) -> Stop<bool> {
        let flow = self.done.packet.flow();
        let network = self.network;
        let is_vip = network.outer_servers.iter().any(|s| s.address == flow.dst);
        let icmp = matches!(self.done.packet.content, Content::Echo { .. } | Content::Error { .. });
        if !is_vip || icmp {
            return Ok(false);
        }
        let Some(server) = server(&network.outer_servers, flow) else {
            return gone("a port that the VIP does not have");
        };
        // Until it has passed here, it is this server that drops it.
        self.done.blamed = Some(counter_of(server, true));
        if !server.clients.is_empty() && !server.clients.iter().any(|net| net.contains(&flow.src)) {
            return gone("a client that the VIP does not serve");
        }
        let member = self.choose(server, Scope::Tier1, flow, None)?;
        let wanted = Flow { dst: member.address, dst_port: member.port, ..flow };
        let went = match server.source {
            Source::OneOf(pool) => self.one_of(pool, flow, wanted),
            // Its own member: it sees the service's address.
            Source::Client if wanted.src == wanted.dst => {
                self.allocate(&[Place::Tier1], flow, Flow { src: server.address, ..wanted })
            }
            Source::Client => self.stays(wanted, flow),
        };
        let Some(went) = went else { return gone("no port is free") };
        self.done.blamed = None;
        let service = (server.address, server.port);
        let deed = Deed::Balanced { service, to_itself: false };
        self.remember(Place::Tier1, (flow, went), deed, Some(counter_of(server, true)));
        self.rewrite(flow, went);
        Ok(true)
    }

    /// The source becomes an address of the pool: the one that was observed, else any.
    fn one_of(&self, pool: ipnet::IpNet, came: Flow, wanted: Flow) -> Option<Flow> {
        let seen = self.observed.iter().map(|seen| seen.packet.flow().src);
        seen.chain(pool.hosts())
            .filter(|src| pool.contains(src))
            .find_map(|src| self.allocate(&[Place::Tier1], came, Flow { src, ..wanted }))
    }

    /// A flow that keeps its source, if its answers are nobody else's.
    pub(super) fn stays(&self, wanted: Flow, own: Flow) -> Option<Flow> {
        let taken = wanted.reversed() == own
            || self.model.memories.is_known(Place::Tier1, wanted.reversed(), &self.done.superseded);
        (!taken).then_some(wanted)
    }

    /// An error's own source is no flow's: a private one stays inside, unless its flow goes out as it is.
    fn keeps_private(&self, private: bool, memory: Option<&Memory>) -> Stop<()> {
        let plain = memory.is_some_and(|m| m.came == m.went);
        if self.done.packet.is_error() && private && !plain {
            return gone("an error from a private address");
        }
        Ok(())
    }

    // The Tier-0.

    /// RFC 3704; any member of an equal-cost set counts, a default route counts, a blackhole does not.
    pub(super) fn urpf(&self, link: &str, mode: UrpfMode, entry: &Entry) -> Stop<()> {
        self.martians(entry)?;
        let network = self.network;
        let target = network.route(self.done.packet.src).map(|r| &r.target);
        let on_this_link = |uplink: Option<usize>| {
            uplink.and_then(|u| network.uplinks.get(u)).is_some_and(|u| u.network == link)
        };
        let passes = match (mode, target) {
            (UrpfMode::None, _) => true,
            (_, None | Some(Target::Blackhole)) => false,
            (UrpfMode::Loose, _) => true,
            (UrpfMode::Strict, Some(Target::Down)) => false,
            (UrpfMode::Strict, Some(Target::Link(uplink))) => on_this_link(Some(*uplink)),
            (UrpfMode::Strict, Some(Target::Neighbors(hops))) => {
                hops.iter().any(|hop| on_this_link(network.uplink_of(*hop)))
            }
        };
        if passes { Ok(()) } else { gone("reverse path") }
    }

    pub(super) fn tier0(&mut self, entry: &Entry) -> Stop<u32> {
        let network = self.network;
        self.martians(entry)?;
        if network.tier0_firewall.remembers() {
            self.legal_flags()?;
        }
        let dst = self.done.packet.dst;
        if entry.uplink && network.transit_net.contains(&dst) {
            return gone("a transit address");
        }
        if entry.uplink {
            self.cross_tier0(true)?;
        }
        if dst == network.transit.0 || network.uplinks.iter().any(|u| u.addresses.contains(&dst)) {
            return self.local(true, true);
        }
        self.time_to_live(entry)?;
        let Some(route) = network.route(dst) else {
            self.complains(Complaint::HostUnreachable, entry);
            return gone("no route");
        };
        match &route.target {
            Target::Down => {
                self.fits(network.inner_mtu, entry)?;
                self.passed += 1;
                self.tier1(&Entry { addresses: vec![network.transit.1], uplink: true })
            }
            Target::Blackhole => gone("blackhole"),
            Target::Link(at) => {
                let uplink = network.uplinks.get(*at);
                let nets = uplink.map(|uplink| uplink.nets.as_slice()).unwrap_or_default();
                self.leaves(entry, dst, nets.iter().any(|net| is_broadcast(*net, dst)))
            }
            Target::Neighbors(hops) => {
                let hop = self.path(hops)?;
                self.leaves(entry, hop, false)
            }
        }
    }

    /// One of equal paths: the one that the flow took before, else the one that was observed.
    fn path(&mut self, hops: &[IpAddr]) -> Stop<IpAddr> {
        if let [only] = hops {
            return Ok(*only);
        }
        let flow = self.done.packet.flow();
        let taken = self.model.paths.iter().find(|(f, hop)| *f == flow && hops.contains(hop));
        if let Some((_, hop)) = taken {
            return Ok(*hop);
        }
        let observed = hops.iter().find(|hop| self.shows(**hop));
        let Some(hop) = observed.or(hops.first()) else { return gone("no path") };
        self.done.path = Some((flow, *hop));
        Ok(*hop)
    }

    /// Whether what was observed, if anything, is what becomes of the packet on the way by this neighbour: it came out there, was
    /// too big for the link, or was lost because the neighbour's own network carries less.
    fn shows(&self, hop: IpAddr) -> bool {
        let network = self.network;
        let mut outside = network.outside.iter().map(|(_, station)| station);
        let port = outside.find(|station| station.addresses.contains(&hop)).map(|s| s.port);
        let uplink = network.uplink_of(hop).and_then(|at| network.uplinks.get(at));
        let own = self.frame.packet.flow();
        let refused = self.observed.iter().find_map(|seen| match seen.packet.content {
            Content::Error { complaint: Complaint::TooBig(mtu), quote } if quote == own => {
                Some(mtu)
            }
            _ => None,
        });
        if let Some(mtu) = refused.filter(|_| !self.frame.packet.is_error()) {
            return uplink.is_some_and(|uplink| uplink.mtu == mtu);
        }
        match self.observed {
            [] => port.map(|port| network.port_mtu(port)).is_some_and(|mtu| {
                self.size > u32::from(mtu) && uplink.is_some_and(|uplink| uplink.mtu > mtu)
            }),
            seen => seen.iter().any(|seen| Some(seen.port) == port),
        }
    }

    fn leaves(&mut self, entry: &Entry, neighbor: IpAddr, broadcast: bool) -> Stop<u32> {
        let network = self.network;
        if network.transit_net.contains(&self.done.packet.flow().src) {
            return gone("a transit address would leave");
        }
        if !entry.uplink {
            self.cross_tier0(false)?;
        }
        self.keeps_private(network.transit_net.contains(&self.done.packet.src), None)?;
        if broadcast {
            return gone("a broadcast address");
        }
        let uplink = network.uplink_of(neighbor).and_then(|at| network.uplinks.get(at));
        if let Some(uplink) = uplink {
            self.fits(uplink.mtu, entry)?;
        }
        let station = network.outside.iter().find(|(_, s)| s.addresses.contains(&neighbor));
        match station {
            Some((_, station)) => Ok(station.port),
            None => {
                self.complains(Complaint::HostUnreachable, entry);
                Err(End::Asks(neighbor))
            }
        }
    }
}
