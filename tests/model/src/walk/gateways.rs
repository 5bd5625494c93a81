//! The gateways: load balancer, NAT and routes of the Tier-1; reverse path, routes and equal paths of the Tier-0.

use std::net::Ipv4Addr;

use definitions::own::UrpfMode;

use super::{End, Entry, Scope, Stop, Walk, gone, server};
use crate::memory::{Deed, Place};
use crate::network::Target;
use crate::packet::{Content, Flow};

impl Walk<'_> {
    // The Tier-1.

    pub(super) fn tier1(&mut self, entry: Entry) -> Stop<u32> {
        let network = self.network;
        let hidden = |a: Ipv4Addr| network.private.iter().any(|net| net.contains(&a));
        self.martians(&entry)?;
        self.legal_flags()?;
        let known = self.recall(Place::Tier1)?;
        if let Some((memory, way)) = &known {
            self.follow(memory, *way);
        }
        let owned = known.is_some() || self.virtual_server()?;
        let dst = self.done.packet.dst;
        if !owned && entry.uplink && hidden(dst) {
            return gone("a private destination");
        }
        let is_vip = network.outer_servers.iter().any(|s| s.address == dst);
        let has_interface =
            dst == network.transit.1 || network.blocks.iter().any(|b| b.gateway == dst);
        if has_interface || network.tier1_addresses.contains(&dst) {
            let taken = network.tier1_addresses.contains(&dst);
            return self.local(!taken || is_vip, !taken);
        }
        self.time_to_live(&entry)?;
        if let Some(block) = network.block_of(dst) {
            if dst == block.net.broadcast() {
                return gone("a broadcast address");
            }
            return match network.workload_with(dst) {
                Some(workload) => self.reaches_workload(workload),
                None => {
                    self.error(3, 1, entry.address);
                    Err(End::Asks(dst))
                }
            };
        }
        if !owned {
            self.source_nat(hidden(self.done.packet.flow().src))?;
        }
        let memory = known.as_ref().map(|(memory, _)| memory);
        self.keeps_private(hidden(self.done.packet.src), memory)?;
        self.passed += 1;
        self.tier0(Entry { address: network.transit.0, uplink: false })
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
        let client = std::net::IpAddr::V4(flow.src);
        if !server.clients.is_empty() && !server.clients.iter().any(|net| net.contains(&client)) {
            return gone("a client that the VIP does not serve");
        }
        let member = self.choose(server, Scope::Tier1, flow, None)?;
        let src = server.source.unwrap_or(flow.src);
        let wanted = Flow { src, dst: member.address, dst_port: member.port, ..flow };
        let went = match server.source {
            Some(_) => self.allocate(&[Place::Tier1], wanted),
            None => self.stays(wanted, flow),
        };
        let Some(went) = went else { return gone("no port is free") };
        let service = (server.address, server.port);
        let deed = Deed::Balanced { service, to_itself: false };
        self.remember(Place::Tier1, flow, went, deed);
        self.rewrite(flow, went);
        Ok(true)
    }

    /// A flow that keeps its source, if its answers are nobody else's.
    fn stays(&self, wanted: Flow, own: Flow) -> Option<Flow> {
        let taken = wanted.reversed() == own
            || self.model.memories.is_known(Place::Tier1, wanted.reversed(), &self.done.superseded);
        (!taken).then_some(wanted)
    }

    fn source_nat(&mut self, private: bool) -> Stop<()> {
        let flow = self.done.packet.flow();
        let rule = self.network.nat_rules.iter().find(|rule| {
            rule.from.is_none_or(|net| net.contains(&flow.src))
                && rule.to.is_none_or(|net| net.contains(&flow.dst))
        });
        let Some(rule) = rule else {
            return if private { gone("a private source without a NAT rule") } else { Ok(()) };
        };
        if !self.may_begin() {
            return gone("cannot begin a conversation at NAT");
        }
        let went = match rule.becomes {
            Some(src) => self.allocate(&[Place::Tier1], Flow { src, ..flow }),
            None => {
                let taken = self.model.memories.is_known(
                    Place::Tier1,
                    flow.reversed(),
                    &self.done.superseded,
                );
                (!taken).then_some(flow)
            }
        };
        let Some(went) = went else { return gone("no port is free") };
        self.remember(Place::Tier1, flow, went, Deed::Natted);
        self.rewrite(flow, went);
        Ok(())
    }

    // The Tier-0.

    /// RFC 3704; any member of an equal-cost set counts, a default route counts, a blackhole does not.
    pub(super) fn urpf(&self, link: &str, mode: UrpfMode, own: Ipv4Addr) -> Stop<()> {
        self.martians(&Entry { address: own, uplink: true })?;
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

    pub(super) fn tier0(&mut self, entry: Entry) -> Stop<u32> {
        let network = self.network;
        self.martians(&entry)?;
        let dst = self.done.packet.dst;
        if entry.uplink && network.transit_net.contains(&dst) {
            return gone("a transit address");
        }
        if dst == network.transit.0 || network.uplinks.iter().any(|u| u.address == dst) {
            return self.local(true, true);
        }
        self.time_to_live(&entry)?;
        let Some(route) = network.route(dst) else {
            self.error(3, 1, entry.address);
            return gone("no route");
        };
        match &route.target {
            Target::Down => {
                self.passed += 1;
                self.tier1(Entry { address: network.transit.1, uplink: true })
            }
            Target::Blackhole => gone("blackhole"),
            Target::Link(at) => {
                let broadcast = network.uplinks.get(*at).map(|u| u.net.broadcast());
                if broadcast == Some(dst) {
                    return gone("a broadcast address");
                }
                self.leaves(&entry, dst)
            }
            Target::Neighbors(hops) => {
                let hop = self.path(hops)?;
                self.leaves(&entry, hop)
            }
        }
    }

    /// One of equal paths: the one that the flow took before, else the one that was observed.
    fn path(&mut self, hops: &[Ipv4Addr]) -> Stop<Ipv4Addr> {
        if let [only] = hops {
            return Ok(*only);
        }
        let flow = self.done.packet.flow();
        let taken = self.model.paths.iter().find(|(f, hop)| *f == flow && hops.contains(hop));
        if let Some((_, hop)) = taken {
            return Ok(*hop);
        }
        let observed = hops.iter().find(|hop| {
            let station = self.network.outside.iter().find(|(_, s)| s.address == **hop);
            station.is_some_and(|(_, s)| self.observed.iter().any(|seen| seen.port == s.port))
        });
        let Some(hop) = observed.or(hops.first()) else { return gone("no path") };
        self.done.path = Some((flow, *hop));
        Ok(*hop)
    }

    fn leaves(&mut self, entry: &Entry, neighbor: Ipv4Addr) -> Stop<u32> {
        let network = self.network;
        self.keeps_private(network.transit_net.contains(&self.done.packet.src), None)?;
        if network.transit_net.contains(&self.done.packet.flow().src) {
            return gone("a transit address would leave");
        }
        let station = network.outside.iter().find(|(_, s)| s.address == neighbor);
        match station {
            Some((_, station)) => Ok(station.port),
            None => {
                self.error(3, 1, entry.address);
                Err(End::Asks(neighbor))
            }
        }
    }
}
