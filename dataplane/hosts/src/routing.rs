//! Policy routing as Linux does it (`ip rule`, `ip route`; `fib_rules_lookup`, `fib_table_lookup`).
//!
//! Rules are asked in order of priority, equal priorities in order of insertion. A rule that matches
//! names a table. A table without a usable route lets the lookup *fall through* to the next rule; an
//! `unreachable`, `prohibit` or `blackhole` route ends it with an error. A bound device
//! (`SO_BINDTODEVICE`, `ping -I eth0`) makes routes by any other device unusable but does not make
//! rules unusable, which is why `ping -I eth0` passes by a table that only knows eth1.
//!
//! There is one implementation: a packet and [`crate::Host::explain_route`] run the same lookup, the
//! latter with an observer that writes down each step.

use std::collections::BTreeMap;
use std::fmt;

use packet::Addr;

/// Number of table `local`: addresses of the host itself.
pub const TABLE_LOCAL: u32 = 255;
/// Number of table `main`.
pub const TABLE_MAIN: u32 = 254;
/// Number of table `default`.
pub const TABLE_DEFAULT: u32 = 253;

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Any address of the block.
    pub addr: Addr,
    /// Leading bits that count, in the address's own family: 0 to 32 or 0 to 128. More is taken as
    /// all of them.
    pub len: u8,
}

impl Prefix {
    /// The block of `addr` with `len` leading bits.
    #[must_use]
    pub const fn new(addr: Addr, len: u8) -> Prefix {
        Prefix { addr, len }
    }

    /// Whether `addr` is of the block's family and in the block.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        if self.addr.is_v4() != addr.is_v4() {
            return false;
        }
        let width = if addr.is_v4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.len).min(width);
        // A shift by the whole width is no shift at all in Rust: that is the default route.
        let difference = self.addr.0 ^ addr.0;
        difference.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// As iproute2 prints it: a single address has no length.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr.is_v4(), self.len) {
            (true, 32) | (false, 128) => write!(f, "{}", self.addr),
            _ => write!(f, "{}/{}", self.addr, self.len),
        }
    }
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it by a device.
    #[default]
    Unicast,
    /// Refuses it: ICMP host unreachable.
    Unreachable,
    /// Drops it in silence.
    Blackhole,
    /// Refuses it: ICMP communication administratively prohibited.
    Prohibit,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination block.
    pub to: Addr,
    /// Its prefix length, in the address's own family.
    pub prefix_len: u8,
    /// Gateway; `None` for a destination on the link.
    pub via: Option<Addr>,
    /// Index of the device; without meaning unless the route is unicast.
    pub dev: usize,
    /// Among routes to the same prefix the lowest wins, then the one inserted first.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
}

impl Route {
    /// A route to a block by a gateway.
    #[must_use]
    pub const fn via(to: Addr, prefix_len: u8, gateway: Addr, dev: usize) -> Route {
        Route { to, prefix_len, via: Some(gateway), dev, metric: 0, kind: RouteKind::Unicast }
    }

    /// A route to a block on the link.
    #[must_use]
    pub const fn on_link(to: Addr, prefix_len: u8, dev: usize) -> Route {
        Route { to, prefix_len, via: None, dev, metric: 0, kind: RouteKind::Unicast }
    }

    /// A route that refuses or drops.
    #[must_use]
    pub const fn refuse(to: Addr, prefix_len: u8, kind: RouteKind) -> Route {
        Route { to, prefix_len, via: None, dev: 0, metric: 0, kind }
    }

    /// Destination block.
    #[must_use]
    pub const fn prefix(&self) -> Prefix {
        Prefix::new(self.to, self.prefix_len)
    }
}

/// One rule. A selector that is `None` matches every packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Lower is asked first.
    pub priority: u32,
    /// Source block. A packet whose source is not yet chosen matches only `None`.
    pub from: Option<Prefix>,
    /// Destination block.
    pub to: Option<Prefix>,
    /// Device the sender is bound to; never matches a forwarded packet.
    pub oif: Option<usize>,
    /// Device a forwarded packet came in by; never matches the host's own packets.
    pub iif: Option<usize>,
    /// Table to ask.
    pub table: u32,
}

impl Rule {
    /// `from all lookup TABLE`.
    #[must_use]
    pub const fn all(priority: u32, table: u32) -> Rule {
        Rule { priority, from: None, to: None, oif: None, iif: None, table }
    }

    /// `from all to PREFIX lookup TABLE`.
    #[must_use]
    pub const fn to(priority: u32, to: Prefix, table: u32) -> Rule {
        Rule { priority, from: None, to: Some(to), oif: None, iif: None, table }
    }

    /// `from PREFIX lookup TABLE`.
    #[must_use]
    pub const fn from(priority: u32, from: Prefix, table: u32) -> Rule {
        Rule { priority, from: Some(from), to: None, oif: None, iif: None, table }
    }

    fn mismatch(&self, query: &Query) -> Option<Selector> {
        let from = self.from.is_some_and(|p| !query.src.is_some_and(|s| p.contains(s)));
        let to = self.to.is_some_and(|p| !p.contains(query.dst));
        let oif = self.oif.is_some() && self.oif != query.oif;
        let iif = self.iif.is_some() && self.iif != query.iif;
        [(from, Selector::From), (to, Selector::To), (oif, Selector::Oif), (iif, Selector::Iif)]
            .into_iter()
            .find_map(|(mismatch, selector)| mismatch.then_some(selector))
    }
}

/// As `ip rule show` prints it; devices by index, since a rule does not know their names.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: from ", self.priority)?;
        match self.from {
            Some(p) => write!(f, "{p}")?,
            None => f.write_str("all")?,
        }
        if let Some(p) = self.to {
            write!(f, " to {p}")?;
        }
        if let Some(i) = self.iif {
            write!(f, " iif #{i}")?;
        }
        if let Some(i) = self.oif {
            write!(f, " oif #{i}")?;
        }
        write!(f, " lookup {}", TableName(self.table))
    }
}

/// A table by the name that `/etc/iproute2/rt_tables` gives it.
struct TableName(u32);

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TABLE_LOCAL => f.write_str("local"),
            TABLE_MAIN => f.write_str("main"),
            TABLE_DEFAULT => f.write_str("default"),
            other => write!(f, "{other}"),
        }
    }
}

/// Rules and tables of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRouting {
    rules: Vec<Rule>,
    tables: BTreeMap<u32, Vec<Route>>,
}

/// The three rules that every kernel starts with: 0 local, 32766 main, 32767 default.
impl Default for PolicyRouting {
    fn default() -> PolicyRouting {
        PolicyRouting {
            rules: vec![
                Rule::all(0, TABLE_LOCAL),
                Rule::all(32766, TABLE_MAIN),
                Rule::all(32767, TABLE_DEFAULT),
            ],
            tables: BTreeMap::new(),
        }
    }
}

/// What is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Destination.
    pub dst: Addr,
    /// Source, where it is already chosen.
    pub src: Option<Addr>,
    /// Device the sender is bound to.
    pub oif: Option<usize>,
    /// Device a forwarded packet came in by; `None` for the host's own packets.
    pub iif: Option<usize>,
}

/// Why a lookup ended without a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RouteError {
    /// No rule led to a usable route (`ENETUNREACH`).
    #[error("Network is unreachable")]
    NetworkUnreachable,
    /// An `unreachable` route (`EHOSTUNREACH`).
    #[error("No route to host")]
    HostUnreachable,
    /// A `prohibit` route (`EACCES`).
    #[error("Permission denied")]
    Prohibited,
    /// A `blackhole` route (`EINVAL`).
    #[error("Invalid argument")]
    Blackhole,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOutcome {
    /// To the host itself.
    Local,
    /// Out of a device.
    Unicast {
        /// Index of the device.
        dev: usize,
        /// Whose link-layer address the frame gets: the gateway, or the destination itself.
        next_hop: Addr,
        /// The route that said so; `None` where no route matched and the destination was assumed
        /// to be on the link of the bound device, as Linux does for IPv4.
        route: Option<Route>,
    },
    /// Nowhere.
    Error(RouteError),
}

/// A selector of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Source block.
    From,
    /// Destination block.
    To,
    /// Bound device.
    Oif,
    /// Device of arrival.
    Iif,
}

/// What came of asking one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleResult {
    /// The rule is not about this packet: the first selector that differs.
    NotMatched(Selector),
    /// Its table has no route to the destination: on to the next rule.
    NoRoute,
    /// Its table has a route to the destination, but none by the bound device: on to the next rule.
    OtherDevice(Route),
    /// Its table says that the destination is the host itself.
    Local,
    /// A route was found; the lookup ends, be it with an error.
    Found(Route),
}

/// One step of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleStep {
    /// The rule that was asked.
    pub rule: Rule,
    /// What came of it.
    pub result: RuleResult,
}

/// A lookup with every step that led to its outcome: what `ip route get` shows, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteDecision {
    /// Destination looked up.
    pub dst: Addr,
    /// Source it was looked up with.
    pub src: Option<Addr>,
    /// Device the sender is bound to.
    pub oif: Option<usize>,
    /// Rules in the order asked, the deciding one last.
    pub steps: Vec<RuleStep>,
    /// Where the packet goes.
    pub outcome: RouteOutcome,
    /// Source address the packet gets: the one asked for, else the one the outcome implies.
    pub source: Option<Addr>,
    /// Names of the devices by index, for printing.
    pub devices: Vec<String>,
}

impl RouteDecision {
    fn device(&self, dev: usize) -> &str {
        self.devices.get(dev).map_or("?", String::as_str)
    }
}

/// The line of `ip route get`, then one line a rule that was asked.
impl fmt::Display for RouteDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(src) = self.src {
            write!(f, " from {src}")?;
        }
        match self.outcome {
            RouteOutcome::Local => f.write_str(" dev lo table local")?,
            RouteOutcome::Unicast { dev, next_hop, .. } => {
                if next_hop != self.dst {
                    write!(f, " via {next_hop}")?;
                }
                write!(f, " dev {}", self.device(dev))?;
                match self.steps.last() {
                    Some(RuleStep { rule, result: RuleResult::Found(_) }) => {
                        write!(f, " table {}", TableName(rule.table))?;
                    }
                    _ => f.write_str(" (no route: assumed on link)")?,
                }
                if let (None, Some(source)) = (self.src, self.source) {
                    write!(f, " src {source}")?;
                }
            }
            RouteOutcome::Error(e) => write!(f, " error: {e}")?,
        }
        for step in &self.steps {
            write!(f, "\n    {}: ", step.rule)?;
            match step.result {
                RuleResult::NotMatched(selector) => {
                    let what = match selector {
                        Selector::From if self.src.is_none() => "source not chosen yet",
                        Selector::From => "source differs",
                        Selector::To => "destination differs",
                        Selector::Oif => "not bound to that device",
                        Selector::Iif => "did not come in by that device",
                    };
                    write!(f, "no match, {what}")?;
                }
                RuleResult::NoRoute => f.write_str("no route in that table, next rule")?,
                RuleResult::OtherDevice(route) => {
                    let bound = self.oif.map_or("?", |i| self.device(i));
                    write!(
                        f,
                        "route {} is by {}, but the sender is bound to {bound}, next rule",
                        route.prefix(),
                        self.device(route.dev)
                    )?;
                }
                RuleResult::Local => f.write_str("an address of this host")?,
                RuleResult::Found(route) => write!(f, "route {}", route.prefix())?,
            }
        }
        Ok(())
    }
}

impl PolicyRouting {
    /// Adds a rule behind all of the same or lower priority value, as `ip rule add` does.
    pub fn add_rule(&mut self, rule: Rule) {
        let at = self.rules.partition_point(|r| r.priority <= rule.priority);
        self.rules.insert(at, rule);
    }

    /// Adds a route to a table. Table 255 (`local`) is answered from the interfaces' addresses; what
    /// is added to it here counts as a further route after those.
    pub fn add_route(&mut self, table: u32, route: Route) {
        let routes = self.tables.entry(table).or_default();
        // Kept in the order of the search: longest prefix, lowest metric, then insertion.
        let rank = |r: &Route| (u8::MAX - r.prefix_len, r.metric);
        let at = routes.partition_point(|r| rank(r) <= rank(&route));
        routes.insert(at, route);
    }

    /// Rules in the order asked.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Tables by number with their routes in the order searched.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &[Route])> {
        self.tables.iter().map(|(number, routes)| (*number, routes.as_slice()))
    }

    /// Removes the routes of a table for which `remove` says so; returns how many.
    pub fn remove_routes(&mut self, table: u32, remove: impl Fn(&Route) -> bool) -> usize {
        let Some(routes) = self.tables.get_mut(&table) else {
            return 0;
        };
        let before = routes.len();
        routes.retain(|r| !remove(r));
        before - routes.len()
    }

    /// Looks a packet up. `is_local` answers table local; `devices` is the number of interfaces
    /// (a route by another device is unusable); `observe` is told each step.
    pub fn lookup(
        &self,
        query: &Query,
        devices: usize,
        is_local: impl Fn(Addr) -> bool,
        mut observe: impl FnMut(RuleStep),
    ) -> RouteOutcome {
        for rule in &self.rules {
            let result = match rule.mismatch(query) {
                Some(selector) => RuleResult::NotMatched(selector),
                None if rule.table == TABLE_LOCAL && is_local(query.dst) => RuleResult::Local,
                None => self.search(rule.table, query, devices),
            };
            observe(RuleStep { rule: *rule, result });
            match result {
                RuleResult::Local => return RouteOutcome::Local,
                RuleResult::Found(route) => return Self::outcome(&route, query),
                RuleResult::NotMatched(_) | RuleResult::NoRoute | RuleResult::OtherDevice(_) => {}
            }
        }
        Self::without_route(query, RouteError::NetworkUnreachable)
    }

    fn search(&self, table: u32, query: &Query, devices: usize) -> RuleResult {
        let mut other = None;
        for route in self.tables.get(&table).map_or(&[][..], Vec::as_slice) {
            if !route.prefix().contains(query.dst) {
                continue;
            }
            // As in fib_table_lookup, a refusing route is not asked for its device.
            if route.kind != RouteKind::Unicast {
                return RuleResult::Found(*route);
            }
            if route.dev >= devices {
                continue;
            }
            if query.oif.is_some_and(|oif| oif != route.dev) {
                other.get_or_insert(*route);
                continue;
            }
            return RuleResult::Found(*route);
        }
        other.map_or(RuleResult::NoRoute, RuleResult::OtherDevice)
    }

    fn outcome(route: &Route, query: &Query) -> RouteOutcome {
        let error = match route.kind {
            RouteKind::Unicast => {
                return RouteOutcome::Unicast {
                    dev: route.dev,
                    next_hop: route.via.unwrap_or(query.dst),
                    route: Some(*route),
                };
            }
            RouteKind::Unreachable => RouteError::HostUnreachable,
            RouteKind::Prohibit => RouteError::Prohibited,
            RouteKind::Blackhole => RouteError::Blackhole,
        };
        Self::without_route(query, error)
    }

    /// `ip_route_output_key` with a bound device: "Apparently, routing tables are wrong. Assume that
    /// the destination is on link", whatever the lookup's error was. IPv6 does not.
    fn without_route(query: &Query, error: RouteError) -> RouteOutcome {
        match query.oif {
            Some(dev) if query.dst.is_v4() && query.iif.is_none() => {
                RouteOutcome::Unicast { dev, next_hop: query.dst, route: None }
            }
            _ => RouteOutcome::Error(error),
        }
    }
}
