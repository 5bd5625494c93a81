//! Addresses and routes: which address a packet gets, where it goes, and addresses that move.

use packet::Addr;

use crate::host::{Host, Output};
use crate::operation::Failure;
use crate::routing::{Prefix, Query, Route, RouteDecision, RouteOutcome, RuleStep, TABLE_MAIN};

impl Host {
    /// Tells the links the host's addresses (gratuitous ARP, RFC 5227, 3), as on interface up.
    pub fn announce(&self, out: &mut Output) {
        for (dev, interface) in self.config.interfaces.iter().enumerate() {
            for (addr, _) in interface.addresses.iter().filter(|(a, _)| a.is_v4()) {
                out.push((dev, packet::gratuitous_arp(interface.mac, *addr)));
            }
        }
    }

    /// Adds an address, with its connected route, and announces it: a floating address that moves
    /// here. Nothing happens if `interface` does not exist or has it already.
    pub fn add_address(&mut self, interface: usize, addr: Addr, prefix_len: u8, out: &mut Output) {
        let Some(config) = self.config.interfaces.get_mut(interface) else {
            return;
        };
        if config.addresses.contains(&(addr, prefix_len)) {
            return;
        }
        config.addresses.push((addr, prefix_len));
        if addr.is_v4() {
            out.push((interface, packet::gratuitous_arp(config.mac, addr)));
        }
        self.config.routing.add_route(TABLE_MAIN, Route::on_link(addr, prefix_len, interface));
    }

    /// Removes an address and its connected route.
    pub fn remove_address(&mut self, interface: usize, addr: Addr) {
        if let Some(config) = self.config.interfaces.get_mut(interface) {
            config.addresses.retain(|(a, _)| *a != addr);
        }
        self.config
            .routing
            .remove_routes(TABLE_MAIN, |r| r.to == addr && r.dev == interface && r.via.is_none());
    }

    /// Looks a destination up as `ip route get` does, with every rule that was asked and why it did
    /// or did not decide.
    #[must_use]
    pub fn explain_route(&self, dst: Addr, src: Option<Addr>, oif: Option<usize>) -> RouteDecision {
        let mut steps = Vec::new();
        let query = Query { dst, src, oif, iif: None };
        let outcome = self.lookup_with(&query, |step| steps.push(step));
        let source = src.or_else(|| self.implied_source(dst, &outcome));
        let devices = self.config.interfaces.iter().map(|i| i.name.clone()).collect();
        RouteDecision { dst, src, oif, steps, outcome, source, devices }
    }

    fn lookup_with(&self, query: &Query, observe: impl FnMut(RuleStep)) -> RouteOutcome {
        let devices = self.config.interfaces.len();
        self.config.routing.lookup(query, devices, |addr| self.is_local(addr), observe)
    }

    pub(crate) fn lookup(&self, query: &Query) -> RouteOutcome {
        self.lookup_with(query, |_| {})
    }

    /// Whether `addr` is one of the host's own.
    pub(crate) fn is_local(&self, addr: Addr) -> bool {
        addr.is_loopback()
            || self.config.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == addr))
    }

    /// The source address that a route implies: of the device's addresses the one that shares the
    /// next hop's network, else its first of that family, else the first of any device
    /// (`inet_select_addr`).
    pub(crate) fn implied_source(&self, dst: Addr, outcome: &RouteOutcome) -> Option<Addr> {
        let (dev, next_hop) = match outcome {
            RouteOutcome::Local => return Some(dst),
            RouteOutcome::Unicast { dev, next_hop, .. } => (*dev, *next_hop),
            RouteOutcome::Error(_) => return None,
        };
        let interfaces = &self.config.interfaces;
        let usable = |(addr, _): &&(Addr, u8)| {
            addr.is_v4() == dst.is_v4()
                && (dst.is_v4() || addr.is_link_local() == dst.is_link_local())
        };
        let own = || interfaces.get(dev).into_iter().flat_map(|i| &i.addresses).filter(usable);
        let any = || interfaces.iter().flat_map(|i| &i.addresses).filter(usable);
        own()
            .find(|(addr, len)| Prefix::new(*addr, *len).contains(next_hop))
            .or_else(|| own().next())
            .or_else(|| any().next())
            .map(|(addr, _)| *addr)
    }

    /// The source address of an operation, or why it cannot be sent.
    pub(crate) fn source_for(
        &self,
        dst: Addr,
        source: Option<Addr>,
        bound: Option<usize>,
    ) -> Result<Addr, Failure> {
        if dst.is_unspecified() || dst.is_multicast() || dst == Addr::BROADCAST_V4 {
            return Err(Failure::Invalid("the destination is not a unicast address"));
        }
        if dst.is_loopback() {
            return Err(Failure::Invalid("loopback addresses are not emulated"));
        }
        if bound.is_some_and(|i| i >= self.config.interfaces.len()) {
            return Err(Failure::Invalid("no such interface"));
        }
        if let Some(source) = source {
            if source.is_v4() != dst.is_v4() || !self.is_local(source) {
                return Err(Failure::Invalid("the source is not an address of this host"));
            }
            return Ok(source);
        }
        let outcome = self.lookup(&Query { dst, src: None, oif: bound, iif: None });
        if let RouteOutcome::Error(error) = outcome {
            return Err(Failure::NoRoute(error));
        }
        self.implied_source(dst, &outcome)
            .ok_or(Failure::Invalid("the host has no address of that family"))
    }

    /// MTU of the first link towards `dst`, octets.
    pub(crate) fn mtu_towards(&self, src: Addr, dst: Addr, bound: Option<usize>) -> u32 {
        match self.lookup(&Query { dst, src: Some(src), oif: bound, iif: None }) {
            RouteOutcome::Unicast { dev, .. } => self.mtu(dev),
            // Loopback, or no route yet.
            _ => 1500,
        }
    }

    /// MTU of an interface: what its family of packets needs at least, whatever was configured.
    pub(crate) fn mtu(&self, dev: usize) -> u32 {
        self.config.interfaces.get(dev).map_or(1500, |i| i.mtu.clamp(68, 65_535))
    }
}
