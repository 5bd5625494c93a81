//! Forwarding table: longest prefix match over both families at once.
//!
//! Prefixes nest or are disjoint, so together they cut the addresses into intervals that each have one
//! most specific route: a lookup is one binary search, whatever lengths are in use.

use super::InterfaceId;
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

/// Routes of one family by intervals of addresses in which no prefix begins or ends.
#[derive(Clone, Debug, Default)]
struct Ways<K> {
    /// Where each interval begins, ascending.
    starts: Vec<K>,
    /// The most specific route there: a place in [`Fib::routes`], or [`NO_ROUTE`].
    routes: Vec<u32>,
}

/// Nothing leads there.
const NO_ROUTE: u32 = u32::MAX;

impl<K: Copy + Ord> Ways<K> {
    /// Of the routes of one family in the order of their prefixes, where a prefix comes before those inside
    /// it. `key` is an address of the family.
    fn new<'r>(
        routes: impl Iterator<Item = (u32, &'r Route)>,
        key: impl Fn(u128) -> Option<K>,
    ) -> Ways<K> {
        let mut ways = Ways { starts: Vec::new(), routes: Vec::new() };
        // The prefixes that hold the place that has been come to, the most specific last.
        let mut open: Vec<(Addr, u32)> = Vec::new();
        for (place, route) in routes {
            ways.leave(&mut open, Some(route.prefix.first()), &key);
            ways.begin(key(route.prefix.first().0), place);
            open.push((route.prefix.last(), place));
        }
        ways.leave(&mut open, None, &key);
        ways
    }

    /// Leaves the prefixes that end before `next`, or all.
    fn leave(
        &mut self,
        open: &mut Vec<(Addr, u32)>,
        next: Option<Addr>,
        key: &impl Fn(u128) -> Option<K>,
    ) {
        while let Some((last, _)) = open.last().copied()
            && next.is_none_or(|next| last < next)
        {
            open.pop();
            let outer = open.last().map_or(NO_ROUTE, |(_, route)| *route);
            self.begin(last.0.checked_add(1).and_then(key), outer);
        }
    }

    fn begin(&mut self, start: Option<K>, route: u32) {
        let Some(start) = start else { return };
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.routes.pop();
        }
        self.starts.push(start);
        self.routes.push(route);
    }

    fn lookup(&self, at: K) -> Option<u32> {
        let interval = self.starts.partition_point(|start| *start <= at).checked_sub(1)?;
        self.routes.get(interval).copied().filter(|route| *route != NO_ROUTE)
    }
}

/// The forwarding table of a router.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// One for each prefix, in the order of prefixes.
    routes: Vec<Route>,
    v4: Ways<u32>,
    v6: Ways<u128>,
}

impl PartialEq for Fib {
    fn eq(&self, other: &Fib) -> bool {
        // All else follows from them.
        self.routes == other.routes
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
            fib.routes.push(route);
        }
        let of_family = |v4: bool| {
            let routes = (0u32..).zip(&fib.routes);
            routes.filter(move |(_, route)| route.prefix.first().is_v4() == v4)
        };
        let v4 = Ways::new(of_family(true), |at| Addr(at).is_v4().then_some(Addr(at).low32()));
        let v6 = Ways::new(of_family(false), Some);
        Fib { v4, v6, ..fib }
    }

    /// The most specific route to `dst`.
    #[must_use]
    pub fn lookup(&self, dst: Addr) -> Option<&Route> {
        let place = if dst.is_v4() { self.v4.lookup(dst.low32()) } else { self.v6.lookup(dst.0) };
        self.routes.get(place? as usize)
    }

    /// All routes, sorted by prefix.
    #[must_use]
    pub fn routes(&self) -> Vec<&Route> {
        self.routes.iter().collect()
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

    proptest::proptest! {
        /// The oracle asks every route.
        #[test]
        fn finds_what_asking_every_route_finds(
            routes in proptest::collection::vec((0u8..=3, 0u32..64, 0u8..=6, 0u8..=32), 0..40),
            asked in proptest::collection::vec((0u8..=3, 0u32..64), 1..60),
        ) {
            // Few addresses, at both ends of both families.
            let at = |place: u8, n: u32| match place {
                0 => Addr::v4(n),
                1 => Addr::v4(u32::MAX - n),
                2 => Addr(u128::from(n)),
                _ => Addr(u128::MAX - u128::from(n)),
            };
            let routes: Vec<Route> = routes
                .into_iter()
                .map(|(place, n, bits, wide)| {
                    let address = at(place, n);
                    let width: u8 = if address.is_v4() { 32 } else { 128 };
                    let len = if wide < 4 { wide } else { width - bits };
                    Route { prefix: Prefix::new(address, len), ..via("::/0", 1, "192.0.2.1") }
                })
                .collect();
            let fib = Fib::build(routes, 8);
            for (place, n) in asked {
                let dst = at(place, n);
                let all = fib.routes().into_iter().filter(|r| r.prefix.contains(dst));
                let expected = all.max_by_key(|r| r.prefix.prefix_len());
                proptest::prop_assert_eq!(fib.lookup(dst), expected);
            }
        }
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
