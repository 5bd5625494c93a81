//! Forwarding table: longest prefix match over both families at once.
//!
//! IPv4 prefixes live under `::ffff:0:0/96`, so one table of at most 129 lengths serves both, and a
//! lookup costs one probe a length in use, however many routes there are.

use super::InterfaceId;
use crate::hash::{SeededState, seeded};
use hashbrown::HashMap;
use packet::Addr;
use std::fmt;
use std::str::FromStr;

/// An address prefix. The length counts the family's own bits: 0 to 32, or 0 to 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: Addr,
    len: u8,
}

impl Prefix {
    /// The prefix of `len` bits that holds `addr`; host bits are cleared. A length beyond the
    /// family's width is taken as the full width.
    #[must_use]
    pub fn new(addr: Addr, len: u8) -> Prefix {
        let width = if addr.is_v4() { 32 } else { 128 };
        let len = len.min(width);
        let mask = mask(len + (128 - width));
        Prefix { addr: Addr(addr.0 & mask), len }
    }

    /// The single address `addr`.
    #[must_use]
    pub fn host(addr: Addr) -> Prefix {
        Prefix::new(addr, 128)
    }

    /// First address.
    #[must_use]
    pub fn first(self) -> Addr {
        self.addr
    }

    /// Last address.
    #[must_use]
    pub fn last(self) -> Addr {
        Addr(self.addr.0 | !mask(self.mapped_len()))
    }

    /// Length in the family's own bits.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// Whether `addr` is inside; addresses of the other family never are.
    #[must_use]
    pub fn contains(self, addr: Addr) -> bool {
        addr.is_v4() == self.addr.is_v4() && addr.0 & mask(self.mapped_len()) == self.addr.0
    }

    /// Whether this is the subnet-directed broadcast address of the prefix (IPv4 up to /30).
    #[must_use]
    pub fn is_broadcast(self, addr: Addr) -> bool {
        self.addr.is_v4() && self.len <= 30 && addr == self.last()
    }

    fn mapped_len(self) -> u8 {
        if self.addr.is_v4() { self.len + 96 } else { self.len }
    }
}

const fn mask(bits: u8) -> u128 {
    if bits == 0 { 0 } else { u128::MAX << (128 - bits as u32) }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.addr, self.len))
    }
}

/// Parses `10.244.0.0/20`; host bits are cleared.
impl FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Prefix, String> {
        let fail = || format!("'{text}' is not a prefix such as 10.244.0.0/20");
        let (addr, len) = text.split_once('/').ok_or_else(fail)?;
        let addr: Addr = addr.parse().map_err(|_| fail())?;
        let len: u8 = len.parse().map_err(|_| fail())?;
        if len > if addr.is_v4() { 32 } else { 128 } {
            return Err(fail());
        }
        Ok(Prefix::new(addr, len))
    }
}

/// Where a route came from, with NSX's administrative distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteSource {
    /// A subnet of an own interface.
    Connected,
    /// Configured; distance 1 unless said otherwise.
    Static,
    /// A connected segment that a Tier-1 advertises.
    Tier1Connected,
    /// A NAT address that a Tier-1 advertises.
    Tier1Nat,
    /// A virtual server address that a Tier-1 advertises.
    Tier1LbVip,
    /// A load balancer source address that a Tier-1 advertises.
    Tier1LbSnat,
    /// A static route that a Tier-1 advertises.
    Tier1Static,
    /// Discards what a summary covers and nothing more specific does.
    Summary,
    /// Learned from an external BGP peer.
    Ebgp,
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RouteSource::Connected => "connected",
            RouteSource::Static => "static",
            RouteSource::Tier1Connected => "tier1-connected",
            RouteSource::Tier1Nat => "tier1-nat",
            RouteSource::Tier1LbVip => "tier1-lb-vip",
            RouteSource::Tier1LbSnat => "tier1-lb-snat",
            RouteSource::Tier1Static => "tier1-static",
            RouteSource::Summary => "summary",
            RouteSource::Ebgp => "ebgp",
        })
    }
}

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Interface to leave by.
    pub interface: InterfaceId,
    /// Router to send to; `None` where the destination is on the link.
    pub gateway: Option<Addr>,
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Send on by one of at most eight equal-cost ways.
    NextHops(Vec<NextHop>),
    /// Discard in silence.
    Blackhole,
    /// Discard and tell the sender (ICMP host unreachable).
    Unreachable,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub prefix: Prefix,
    /// Where it came from.
    pub source: RouteSource,
    /// Administrative distance, 0 to 255; lower wins.
    pub distance: u8,
    /// What it does.
    pub target: RouteTarget,
}

/// The forwarding table of a router.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// One map a prefix length in use, longest first; lengths count mapped bits (IPv4 /0 is 96).
    lengths: Vec<(u8, HashMap<u128, Route, SeededState>)>,
}

impl PartialEq for Fib {
    fn eq(&self, other: &Fib) -> bool {
        self.lengths.len() == other.lengths.len()
            && self.lengths.iter().zip(&other.lengths).all(|((a, of_a), (b, of_b))| {
                a == b
                    && of_a.len() == of_b.len()
                    && of_a.iter().all(|(key, route)| of_b.get(key) == Some(route))
            })
    }
}

impl Fib {
    /// Makes the table from all candidate routes: for each prefix the lowest distance wins; equal
    /// ones merge their next hops, up to `max_paths` in sorted order.
    #[must_use]
    pub fn build(mut routes: Vec<Route>, max_paths: usize) -> Fib {
        routes.sort_by(|a, b| {
            (a.prefix, a.distance, a.source).cmp(&(b.prefix, b.distance, b.source))
        });
        let mut fib = Fib::default();
        let mut best: Vec<Route> = Vec::new();
        for route in routes {
            match best.last_mut() {
                Some(last) if last.prefix == route.prefix => {
                    if last.distance == route.distance
                        && let (RouteTarget::NextHops(have), RouteTarget::NextHops(more)) =
                            (&mut last.target, &route.target)
                    {
                        have.extend(more);
                    }
                }
                _ => best.push(route),
            }
        }
        for mut route in best {
            if let RouteTarget::NextHops(hops) = &mut route.target {
                hops.sort_unstable();
                hops.dedup();
                hops.truncate(max_paths.max(1));
            }
            fib.insert(route);
        }
        fib
    }

    fn insert(&mut self, route: Route) {
        let len = route.prefix.mapped_len();
        let at = match self.lengths.binary_search_by(|(l, _)| len.cmp(l)) {
            Ok(at) => at,
            Err(at) => {
                self.lengths.insert(at, (len, HashMap::with_hasher(seeded(0, u64::from(len)))));
                at
            }
        };
        if let Some((_, map)) = self.lengths.get_mut(at) {
            map.insert(route.prefix.first().0, route);
        }
    }

    /// The most specific route to `dst`.
    #[must_use]
    pub fn lookup(&self, dst: Addr) -> Option<&Route> {
        let v4 = dst.is_v4();
        for (len, map) in &self.lengths {
            // A short IPv6 prefix such as ::/0 covers the mapped IPv4 space in bits, not in meaning.
            if v4 && *len < 96 {
                return None;
            }
            if let Some(route) = map.get(&(dst.0 & mask(*len)))
                && route.prefix.first().is_v4() == v4
            {
                return Some(route);
            }
        }
        None
    }

    /// All routes, sorted by prefix.
    #[must_use]
    pub fn routes(&self) -> Vec<&Route> {
        let mut all: Vec<&Route> = self.lengths.iter().flat_map(|(_, m)| m.values()).collect();
        all.sort_by_key(|r| r.prefix);
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn via(prefix: &str, distance: u8, gateway: &str) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            source: RouteSource::Static,
            distance,
            target: RouteTarget::NextHops(vec![NextHop {
                interface: InterfaceId(0),
                gateway: Some(gateway.parse().unwrap()),
            }]),
        }
    }

    fn gateway_of(fib: &Fib, dst: &str) -> Option<String> {
        match &fib.lookup(dst.parse().unwrap())?.target {
            RouteTarget::NextHops(h) => h.first()?.gateway.map(|g| g.to_string()),
            _ => Some("none".into()),
        }
    }

    #[test]
    fn longest_prefix_wins_whatever_the_order() {
        let routes = vec![
            via("0.0.0.0/0", 1, "192.0.2.1"),
            via("10.0.0.0/8", 1, "192.0.2.2"),
            via("10.1.0.0/16", 1, "192.0.2.3"),
            via("10.1.2.3/32", 1, "192.0.2.4"),
        ];
        for fib in
            [Fib::build(routes.clone(), 8), Fib::build(routes.into_iter().rev().collect(), 8)]
        {
            assert_eq!(gateway_of(&fib, "11.0.0.1").unwrap(), "192.0.2.1");
            assert_eq!(gateway_of(&fib, "10.2.0.1").unwrap(), "192.0.2.2");
            assert_eq!(gateway_of(&fib, "10.1.9.9").unwrap(), "192.0.2.3");
            assert_eq!(gateway_of(&fib, "10.1.2.3").unwrap(), "192.0.2.4");
            assert_eq!(gateway_of(&fib, "10.1.2.4").unwrap(), "192.0.2.3");
        }
    }

    #[test]
    fn lower_distance_wins_and_equal_ones_are_paths() {
        let fib = Fib::build(
            vec![
                via("10.0.0.0/8", 20, "192.0.2.9"),
                via("10.0.0.0/8", 1, "192.0.2.2"),
                via("10.0.0.0/8", 1, "192.0.2.1"),
            ],
            8,
        );
        let RouteTarget::NextHops(hops) = &fib.lookup("10.0.0.1".parse().unwrap()).unwrap().target
        else {
            panic!("no next hops");
        };
        let gateways: Vec<String> = hops.iter().map(|h| h.gateway.unwrap().to_string()).collect();
        assert_eq!(gateways, ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn paths_are_bounded() {
        let routes = (1..=12).map(|i| via("10.0.0.0/8", 1, &format!("192.0.2.{i}"))).collect();
        let fib = Fib::build(routes, 8);
        let RouteTarget::NextHops(hops) = &fib.lookup("10.0.0.1".parse().unwrap()).unwrap().target
        else {
            panic!("no next hops");
        };
        assert_eq!(hops.len(), 8);
    }

    #[test]
    fn families_do_not_mix() {
        let fib = Fib::build(vec![via("::/0", 1, "2001:db8::1")], 8);
        assert_eq!(gateway_of(&fib, "10.0.0.1"), None);
        assert_eq!(gateway_of(&fib, "2001:db8:9::1").unwrap(), "2001:db8::1");
        let fib = Fib::build(vec![via("0.0.0.0/0", 1, "192.0.2.1")], 8);
        assert_eq!(gateway_of(&fib, "2001:db8::1"), None);
        assert_eq!(gateway_of(&fib, "203.0.113.9").unwrap(), "192.0.2.1");
        assert_eq!(gateway_of(&Fib::default(), "203.0.113.9"), None);
    }

    #[test]
    fn prefix_bounds() {
        let p: Prefix = "10.244.0.16/28".parse().unwrap();
        assert_eq!(p.first().to_string(), "10.244.0.16");
        assert_eq!(p.last().to_string(), "10.244.0.31");
        assert!(p.contains("10.244.0.31".parse().unwrap()));
        assert!(!p.contains("10.244.0.32".parse().unwrap()));
        assert!(!p.contains("::1".parse().unwrap()));
        assert!(p.is_broadcast("10.244.0.31".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert!("10.0.0.0".parse::<Prefix>().is_err());
        assert!("x/8".parse::<Prefix>().is_err());
    }
}
