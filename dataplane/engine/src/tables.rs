//! What the slow path learns and counts: stations, neighbours, balancer positions, hits, drops.
//!
//! Everything here is bounded, ordered (so that runs repeat to the byte), and touched only by the
//! slow path. [`Tables`] are shared by all workers of a lab: each lock is held for one look or one
//! change, never for a walk. [`Counters`] are a worker's own until they are folded.

use crate::drops::{Drop, DropReason, Stage};
use crate::network::{GroupTraffic, InterfaceId, PortId, RouterId, SegmentId};
use crate::session::{RuleKey, StatelessRule, Traffic};
use crate::workers::lock;
use packet::{Addr, Frame, Headers, Mac, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// Most learned stations of a segment.
pub const MAX_STATIONS: usize = 16_384;
/// Most resolved or pending neighbours of the lab.
pub const MAX_NEIGHBORS: usize = 16_384;
/// Most packets that wait for one neighbour.
pub const MAX_HELD: usize = 8;
/// Requests before a neighbour counts as absent.
pub const NEIGHBOR_REQUESTS: u8 = 3;
/// Time between requests.
pub const NEIGHBOR_INTERVAL: Duration = Duration::from_secs(1);
/// Most clients that a lab's virtual servers remember for affinity.
pub const MAX_AFFINITY: usize = 65_536;
/// Most ICMP errors and resets a second that one port's packets can cause.
pub const MAX_ANSWERS_PER_SECOND: u32 = 1_000;

/// A learned station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Where it was last seen.
    pub port: PortId,
    /// When.
    pub last_seen: Time,
}

/// A neighbour of a router interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighborKey {
    /// The router.
    pub router: RouterId,
    /// Its interface.
    pub interface: InterfaceId,
    /// The neighbour's address.
    pub address: Addr,
}

/// A packet that waits for its next hop's MAC.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where it came in.
    pub port: PortId,
    /// The packet as it came in: it is walked again.
    pub frame: Frame,
    /// The headers that it is walked with.
    pub walked: Headers,
    /// What its sender gets if nobody answers.
    pub failure: Option<Frame>,
    /// How it is accounted for then.
    pub drop: Drop,
}

/// What is known of a neighbour.
#[derive(Clone, Debug)]
pub enum Neighbor {
    /// It answered.
    Resolved {
        /// Its MAC.
        mac: Mac,
        /// When it is asked again.
        until: Time,
    },
    /// It is being asked.
    Pending {
        /// Requests sent.
        requests: u8,
        /// When the next is due, or the wait is over.
        next: Time,
        /// Packets that wait.
        held: VecDeque<Held>,
    },
}

/// What is known of a neighbour, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborEntry {
    /// The router.
    pub router: RouterId,
    /// Its interface.
    pub interface: InterfaceId,
    /// The neighbour's address.
    pub address: Addr,
    /// Its MAC, if it answered.
    pub mac: Option<Mac>,
    /// When it is asked again, or given up.
    pub due: Time,
    /// Packets that wait for its answer.
    pub waiting: usize,
}

impl Neighbor {
    /// This for people.
    #[must_use]
    pub fn entry(&self, key: NeighborKey) -> NeighborEntry {
        let NeighborKey { router, interface, address } = key;
        let (mac, waiting) = match self {
            Neighbor::Resolved { mac, .. } => (Some(*mac), 0),
            Neighbor::Pending { held, .. } => (None, held.len()),
        };
        NeighborEntry { router, interface, address, mac, due: self.due(), waiting }
    }

    /// When something is to be done about it.
    #[must_use]
    pub fn due(&self) -> Time {
        match self {
            Neighbor::Pending { next, .. } => *next,
            Neighbor::Resolved { until, .. } => *until,
        }
    }
}

/// What became of a packet whose next hop is unknown.
#[derive(Debug)]
pub enum Waiting {
    /// It waits with others.
    Joined,
    /// It waits, and the neighbour has to be asked.
    First,
    /// There is no room.
    Full,
    /// The neighbour has just answered another worker.
    Resolved(Box<Held>),
}

/// Identity of a virtual server's rotation: a gateway's, or a hypervisor's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BalancerScope {
    /// Server load balancer.
    Gateway(RouterId),
    /// Distributed load balancer on this hypervisor; hypervisors share nothing.
    Hypervisor(u32),
}

/// A virtual server within its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey {
    /// Whose state it is.
    pub scope: BalancerScope,
    /// Address.
    pub address: Addr,
    /// IP protocol.
    pub protocol: u8,
    /// Port.
    pub port: u16,
}

/// What a rule let through or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Packets and octets.
    pub traffic: Traffic,
    /// Sessions begun.
    pub sessions: u64,
    /// When it last matched.
    pub last: Option<Time>,
}

/// Where frames have gone. At every batch boundary
/// `received + originated + copies = delivered + consumed + dropped + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Frames that came in.
    pub received: u64,
    /// Frames that routers and segments made themselves.
    pub originated: u64,
    /// Further frames that one became: flooding and fragmentation.
    pub copies: u64,
    /// Frames that left by a port.
    pub delivered: u64,
    /// Frames that ended at a router or segment as they should.
    pub consumed: u64,
    /// Frames dropped, each with a reason.
    pub dropped: u64,
    /// Frames that wait.
    pub held: u64,
}

impl Accounting {
    /// Whether every frame is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.received + self.originated + self.copies
            == self.delivered + self.consumed + self.dropped + self.held
    }
}

/// Frames through a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortTraffic {
    /// From the port into the network.
    pub rx: Traffic,
    /// From the network to the port.
    pub tx: Traffic,
}

/// Key of the drop counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropKey {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub reason: DropReason,
    /// At which object.
    pub object: String,
    /// By which rule.
    pub rule: Option<RuleKey>,
    /// What was wrong with the bytes, in words.
    pub detail: Option<String>,
}

/// What has been counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Hits by rule.
    pub hits: BTreeMap<RuleKey, Hit>,
    /// Drops by cause.
    pub drops: BTreeMap<DropKey, Traffic>,
    /// Totals, but for what is held: that is looked up where it is.
    pub accounting: Accounting,
    /// Traffic a port.
    pub ports: BTreeMap<PortId, PortTraffic>,
    /// Sessions ended early for want of room.
    pub evicted: u64,
    /// Answers that the rate limit suppressed.
    pub answers_suppressed: u64,
}

impl Counters {
    /// Counts a drop.
    pub fn count_drop(&mut self, drop: &Drop, bytes: u64, now: Time) {
        self.accounting.dropped += 1;
        let key = DropKey {
            stage: drop.stage,
            reason: drop.reason,
            object: drop.object.clone(),
            rule: drop.rule,
            detail: drop.parse.map(|p| p.to_string()),
        };
        self.drops.entry(key).or_default().add(1, bytes);
        if let Some(rule) = drop.rule {
            self.count_hit(rule, 1, bytes, now);
        }
    }

    /// Counts packets on a rule.
    pub fn count_hit(&mut self, rule: RuleKey, packets: u64, bytes: u64, now: Time) {
        let hit = self.hits.entry(rule).or_default();
        hit.traffic.add(packets, bytes);
        hit.last = hit.last.max(Some(now));
    }

    /// Counts what a rule let pass outside of any session.
    pub fn count_passed(&mut self, rule: StatelessRule, traffic: Traffic, now: Time) {
        self.count_hit(rule.into(), traffic.packets, traffic.bytes, now);
    }

    /// Forgets what rules have counted that are no more; what they dropped stays counted, by no rule.
    pub fn forget_rules(&mut self, gone: &BTreeSet<RuleKey>) {
        self.hits.retain(|key, _| !gone.contains(key));
        let of_gone = |key: &DropKey| key.rule.is_some_and(|rule| gone.contains(&rule));
        let keys: Vec<DropKey> = self.drops.keys().filter(|key| of_gone(key)).cloned().collect();
        for key in keys {
            if let Some(traffic) = self.drops.remove(&key) {
                let by_none = self.drops.entry(DropKey { rule: None, ..key }).or_default();
                by_none.add(traffic.packets, traffic.bytes);
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub fn absorb(&mut self, other: &Counters) {
        for (key, more) in &other.hits {
            let hit = self.hits.entry(*key).or_default();
            hit.traffic.add(more.traffic.packets, more.traffic.bytes);
            hit.sessions += more.sessions;
            hit.last = hit.last.max(more.last);
        }
        for (key, more) in &other.drops {
            match self.drops.get_mut(key) {
                Some(traffic) => traffic.add(more.packets, more.bytes),
                None => {
                    self.drops.insert(key.clone(), *more);
                }
            }
        }
        for (port, more) in &other.ports {
            let traffic = self.ports.entry(*port).or_default();
            traffic.rx.add(more.rx.packets, more.rx.bytes);
            traffic.tx.add(more.tx.packets, more.tx.bytes);
        }
        let (all, more) = (&mut self.accounting, &other.accounting);
        all.received += more.received;
        all.originated += more.originated;
        all.copies += more.copies;
        all.delivered += more.delivered;
        all.consumed += more.consumed;
        all.dropped += more.dropped;
        self.evicted += other.evicted;
        self.answers_suppressed += other.answers_suppressed;
    }
}

/// A moment before which nothing is due, to be read without a lock.
#[derive(Debug)]
pub struct Bound(AtomicU64);

impl Default for Bound {
    fn default() -> Bound {
        Bound(AtomicU64::new(u64::MAX))
    }
}

impl Bound {
    /// The moment; `None` if nothing will ever be due.
    #[must_use]
    pub fn get(&self) -> Option<Time> {
        match self.0.load(Ordering::Acquire) {
            u64::MAX => None,
            at => Some(Time(at)),
        }
    }

    /// Whether something may be due by `now`.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.get().is_some_and(|at| at <= now)
    }

    /// Sets it; whoever does holds the lock of what it is about.
    pub fn set(&self, at: Option<Time>) {
        self.0.store(at.map_or(u64::MAX, |t| t.0), Ordering::Release);
    }

    /// Something may be due by `at`.
    pub fn lower(&self, at: Time) {
        self.0.fetch_min(at.0, Ordering::AcqRel);
    }
}

/// Stations and neighbours.
#[derive(Debug, Default)]
pub struct Learned {
    /// Learned stations.
    pub stations: BTreeMap<(SegmentId, Mac), Station>,
    /// No station was last seen before this. Kept as a bound, so that a batch need not look at all.
    oldest_station: Option<Time>,
    /// Neighbours of routers.
    pub neighbors: BTreeMap<NeighborKey, Neighbor>,
    /// No neighbour is due before this; a bound too.
    neighbors_due: Option<Time>,
    /// Epoch of the newest snapshot: what an older one's ports taught is not taken.
    pub epoch: u64,
}

impl Learned {
    /// Notes that `mac` sent from `port` of the snapshot `epoch`. Returns whether anything that was
    /// looked up may change: the station is new or has moved. A full table learns no more stations.
    pub fn learn(
        &mut self,
        epoch: u64,
        segment: SegmentId,
        mac: Mac,
        port: PortId,
        now: Time,
    ) -> bool {
        if epoch < self.epoch {
            return false;
        }
        if let Some(s) = self.stations.get_mut(&(segment, mac)) {
            let moved = s.port != port;
            *s = Station { port, last_seen: s.last_seen.max(now) };
            return moved;
        }
        let range = (segment, Mac::ZERO)..=(segment, Mac::BROADCAST);
        if self.stations.range(range).count() >= MAX_STATIONS {
            return false;
        }
        self.stations.insert((segment, mac), Station { port, last_seen: now });
        self.oldest_station = Some(self.oldest_station.map_or(now, |t| t.min(now)));
        true
    }

    /// Forgets stations not seen for `age`. Returns whether there were any.
    pub fn age_stations(&mut self, now: Time, age: Duration) -> bool {
        self.retain_stations(|s| s.last_seen + age > now)
    }

    /// Forgets the stations behind ports that have gone.
    pub fn leave_ports(&mut self, gone: &BTreeSet<PortId>) -> bool {
        self.retain_stations(|s| !gone.contains(&s.port))
    }

    fn retain_stations(&mut self, keep: impl Fn(&Station) -> bool) -> bool {
        let before = self.stations.len();
        self.stations.retain(|_, s| keep(s));
        self.oldest_station = self.stations.values().map(|s| s.last_seen).min();
        self.stations.len() != before
    }

    /// Stores what is known of a neighbour.
    pub fn set_neighbor(&mut self, key: NeighborKey, neighbor: Neighbor) {
        let due = neighbor.due();
        self.neighbors_due = Some(self.neighbors_due.map_or(due, |t| t.min(due)));
        self.neighbors.insert(key, neighbor);
    }

    /// The neighbours that are due by `now`.
    #[must_use]
    pub fn due_neighbors(&self, now: Time) -> Vec<NeighborKey> {
        if self.neighbors_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.neighbors.iter().filter(|(_, n)| n.due() <= now).map(|(k, _)| *k).collect()
    }

    /// Finds out anew when the first neighbour is due.
    pub fn rearm_neighbors(&mut self) {
        self.neighbors_due = self.neighbors.values().map(Neighbor::due).min();
    }

    /// The MAC of a neighbour that has answered and need not be asked again yet.
    #[must_use]
    pub fn neighbor(&self, key: NeighborKey, now: Time) -> Option<Mac> {
        match self.neighbors.get(&key) {
            Some(Neighbor::Resolved { mac, until }) if *until > now => Some(*mac),
            _ => None,
        }
    }

    /// Lets a packet wait for a neighbour, which is asked again at `next` if it is the first.
    pub fn hold(&mut self, key: NeighborKey, packet: Held, next: Time) -> Waiting {
        let full = self.neighbors.len() >= MAX_NEIGHBORS;
        match self.neighbors.get_mut(&key) {
            Some(Neighbor::Pending { held, .. }) if held.len() < MAX_HELD => {
                held.push_back(packet);
                Waiting::Joined
            }
            Some(Neighbor::Resolved { until, .. }) if *until + NEIGHBOR_INTERVAL > next => {
                Waiting::Resolved(Box::new(packet))
            }
            None | Some(Neighbor::Resolved { .. }) if !full => {
                let held = [packet].into();
                self.set_neighbor(key, Neighbor::Pending { requests: 1, next, held });
                Waiting::First
            }
            _ => Waiting::Full,
        }
    }

    /// Packets that wait for neighbours.
    #[must_use]
    pub fn held(&self) -> usize {
        let waiting = |n: &Neighbor| match n {
            Neighbor::Pending { held, .. } => held.len(),
            Neighbor::Resolved { .. } => 0,
        };
        self.neighbors.values().map(waiting).sum()
    }
}

/// What virtual servers remember between flows.
#[derive(Debug, Default)]
pub struct Balancing {
    positions: BTreeMap<ServerKey, usize>,
    affinity: BTreeMap<(ServerKey, Addr), ((Addr, u16), Time)>,
}

impl Balancing {
    /// The next member of a server.
    #[must_use]
    pub fn position(&self, server: &ServerKey) -> usize {
        self.positions.get(server).copied().unwrap_or(0)
    }

    /// The member that a client sticks to.
    #[must_use]
    pub fn sticky(&self, server: ServerKey, client: Addr, now: Time) -> Option<(Addr, u16)> {
        let (member, until) = self.affinity.get(&(server, client))?;
        (*until > now).then_some(*member)
    }

    /// Moves the rotation.
    pub fn rotate(&mut self, server: ServerKey, next: usize) {
        self.positions.insert(server, next);
    }

    /// Remembers a client's member; in a full table only if others have run out.
    pub fn stick(
        &mut self,
        server: ServerKey,
        client: Addr,
        member: (Addr, u16),
        until: Time,
        now: Time,
    ) {
        let affinity = &mut self.affinity;
        if affinity.len() >= MAX_AFFINITY && !affinity.contains_key(&(server, client)) {
            affinity.retain(|_, (_, until)| *until > now);
            if affinity.len() >= MAX_AFFINITY {
                return;
            }
        }
        affinity.insert((server, client), (member, until));
    }
}

/// What the slow path has learned; shared by all workers.
#[derive(Debug, Default)]
pub struct Tables {
    learned: RwLock<Learned>,
    oldest_station: Bound,
    neighbors_due: Bound,
    balancing: Mutex<Balancing>,
    /// ICMP errors and resets caused in the current second, a port.
    answers: Mutex<BTreeMap<PortId, (u64, u32)>>,
    /// Group-addressed frames in the current second, a vNIC.
    groups: Mutex<BTreeMap<(PortId, GroupTraffic), (u64, u32)>>,
}

impl Tables {
    fn read(&self) -> RwLockReadGuard<'_, Learned> {
        self.learned.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes stations or neighbours.
    pub fn change<T>(&self, change: impl FnOnce(&mut Learned) -> T) -> T {
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut learned);
        self.oldest_station.set(learned.oldest_station);
        self.neighbors_due.set(learned.neighbors_due);
        result
    }

    /// The port behind which `mac` is, if it has been seen lately.
    #[must_use]
    pub fn station(
        &self,
        segment: SegmentId,
        mac: Mac,
        now: Time,
        age: Duration,
    ) -> Option<PortId> {
        let learned = self.read();
        learned.stations.get(&(segment, mac)).filter(|s| s.last_seen + age > now).map(|s| s.port)
    }

    /// The MAC of a neighbour, as [`Learned::neighbor`].
    #[must_use]
    pub fn neighbor(&self, key: NeighborKey, now: Time) -> Option<Mac> {
        self.read().neighbor(key, now)
    }

    /// Packets that wait for neighbours.
    #[must_use]
    pub fn held(&self) -> usize {
        self.read().held()
    }

    /// Positions and affinity of virtual servers.
    pub fn balancing(&self) -> MutexGuard<'_, Balancing> {
        lock(&self.balancing)
    }

    /// Whether an ICMP error or reset may still be sent for a packet from `port` at `now`.
    pub fn may_answer(&self, port: PortId, now: Time) -> bool {
        let second = now.0 / 1_000_000_000;
        let mut answers = lock(&self.answers);
        let (at, count) = answers.entry(port).or_insert((second, 0));
        // Workers' moments differ by a batch: one that is behind counts as part of the second.
        if second > *at {
            (*at, *count) = (second, 0);
        }
        if *count >= MAX_ANSWERS_PER_SECOND {
            return false;
        }
        *count += 1;
        true
    }

    /// Group-addressed frames of a vNIC so far in the second of `now`.
    #[must_use]
    pub fn group_frames(&self, port: PortId, traffic: GroupTraffic, now: Time) -> u32 {
        let second = now.0 / 1_000_000_000;
        lock(&self.groups)
            .get(&(port, traffic))
            .filter(|(at, _)| *at >= second)
            .map_or(0, |(_, n)| *n)
    }

    /// Counts a group-addressed frame of a vNIC.
    pub fn meter(&self, port: PortId, traffic: GroupTraffic, now: Time) {
        let second = now.0 / 1_000_000_000;
        let mut groups = lock(&self.groups);
        let (at, count) = groups.entry((port, traffic)).or_insert((second, 0));
        // Workers' moments differ by a batch: one that is behind counts as part of the second.
        if second > *at {
            (*at, *count) = (second, 0);
        }
        *count = count.saturating_add(1);
    }

    /// What is known of all neighbours, sorted.
    #[must_use]
    pub fn neighbors(&self) -> Vec<NeighborEntry> {
        self.read().neighbors.iter().map(|(key, neighbor)| neighbor.entry(*key)).collect()
    }

    /// A moment before which no station ages.
    #[must_use]
    pub fn next_station(&self, age: Duration) -> Option<Time> {
        self.oldest_station.get().map(|t| t + age)
    }

    /// A moment before which no neighbour is due.
    #[must_use]
    pub fn next_neighbor(&self) -> Option<Time> {
        self.neighbors_due.get()
    }
}
