//! The neighbour cache: which station an address on the link is (ARP, RFC 826; neighbour
//! unreachability detection after RFC 4861, 7.3, for both families).
//!
//! Invariants: at most [`MAX_ENTRIES`] learned entries, the least recently used goes first; packets of
//! at most [`MAX_PENDING`] octets wait for one neighbour and of [`MAX_PENDING_ALL`] for all; a packet
//! that waits leaves within [`MAX_PROBES`] seconds, sent or failed. Static entries are never learned
//! over nor evicted. This module does not look into frames: it says whom to ask, the host asks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use packet::{Addr, Frame, Mac, Time};

use crate::timers::Timers;

/// Learned entries a host keeps.
pub const MAX_ENTRIES: usize = 1024;
/// Octets of the packets that wait for one neighbour, [`PACKET_OVERHEAD`] included (Linux
/// `unres_qlen_bytes`): enough for every fragment of the largest datagram. A further packet pushes
/// out the oldest.
pub const MAX_PENDING: usize = 212_992;
/// Octets of the packets that wait for any neighbour of a host; a further packet then only takes the
/// place of older ones for the same neighbour, or does not wait at all.
pub const MAX_PENDING_ALL: usize = 4 * 1024 * 1024;
/// Octets that a waiting packet counts beyond its own, so that small packets are bounded too (Linux
/// counts the buffer, not the packet).
pub const PACKET_OVERHEAD: usize = 512;
/// Requests that go unanswered before the neighbour counts as unreachable (Linux `mcast_solicit`).
pub const MAX_PROBES: u8 = 3;
/// Time between requests (Linux `retrans_time`).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// An entry not confirmed for so long is asked again when it is next used, and is used meanwhile.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// A neighbour: interface and address.
pub(crate) type Key = (usize, Addr);

/// A packet that waits for its next hop's station address.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The frame, complete but for its link-layer addresses.
    pub frame: Frame,
    /// The interface it came in by, if it is forwarded.
    pub ingress: Option<usize>,
}

impl Pending {
    /// Octets that it counts while it waits.
    fn cost(&self) -> usize {
        self.frame.bytes.len() + PACKET_OVERHEAD
    }
}

/// The packets that wait for one neighbour, oldest first.
#[derive(Clone, Debug, Default)]
struct Queue {
    packets: VecDeque<Pending>,
    /// What they cost together.
    cost: usize,
}

impl Queue {
    /// Adds a packet while `room` octets are left for it. Returns what had to go: older packets, or
    /// the packet itself.
    fn push(&mut self, packet: Pending, room: usize) -> Vec<Pending> {
        let mut gone = Vec::new();
        let limit = MAX_PENDING.min(self.cost + room);
        while self.cost + packet.cost() > limit {
            let Some(oldest) = self.packets.pop_front() else {
                gone.push(packet);
                return gone;
            };
            self.cost -= oldest.cost();
            gone.push(oldest);
        }
        self.cost += packet.cost();
        self.packets.push_back(packet);
        gone
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    mac: Option<Mac>,
    confirmed: Time,
    /// Requests sent since the last answer; 0 when nothing is being asked.
    probes: u8,
    pending: Queue,
    last_used: u64,
}

/// What to do with a packet for a neighbour.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// Send it to this station; `probe` asks whether it is still there.
    Send { frame: Frame, mac: Mac, probe: bool },
    /// It waits. `probe`: the neighbour has not been asked yet. `overflow`: the packets it pushed out,
    /// or itself if there is no room at all.
    Wait { probe: bool, overflow: Vec<Pending> },
}

/// What a due timer asks for.
#[derive(Debug)]
pub(crate) enum Due {
    /// Ask this neighbour again.
    Probe(Key),
    /// This neighbour does not answer; these packets cannot be delivered.
    Failed(Vec<Pending>),
}

/// All neighbours of a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct NeighborCache {
    fixed: BTreeMap<Key, Mac>,
    entries: BTreeMap<Key, Entry>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    /// What all waiting packets cost together.
    waiting: usize,
    timers: Timers<Key>,
}

impl NeighborCache {
    /// Adds a static entry.
    pub(crate) fn fix(&mut self, key: Key, mac: Mac) {
        self.fixed.insert(key, mac);
    }

    /// Learned and static entries in order, with the station address where it is known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Option<Mac>)> {
        let fixed = self.fixed.iter().map(|(k, mac)| (*k, Some(*mac)));
        fixed.chain(self.entries.iter().map(|(k, e)| (*k, e.mac)))
    }

    /// When [`NeighborCache::due`] has something to say.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Finds the station for a packet, or makes the packet wait for it. Evicted packets of other
    /// neighbours are pushed to `evicted`.
    pub(crate) fn resolve(
        &mut self,
        key: Key,
        packet: Pending,
        now: Time,
        evicted: &mut Vec<Pending>,
    ) -> Resolution {
        if let Some(mac) = self.fixed.get(&key) {
            return Resolution::Send { frame: packet.frame, mac: *mac, probe: false };
        }
        self.touch(key, evicted);
        let entry = self.entries.entry(key).or_default();
        let (resolution, probe) = match entry.mac {
            Some(mac) => {
                let probe = entry.probes == 0 && now.since(entry.confirmed) >= STALE_AFTER;
                (Resolution::Send { frame: packet.frame, mac, probe }, probe)
            }
            None => {
                let probe = entry.probes == 0;
                let others = self.waiting - entry.pending.cost;
                let room = MAX_PENDING_ALL.saturating_sub(self.waiting);
                let overflow = entry.pending.push(packet, room);
                self.waiting = others + entry.pending.cost;
                (Resolution::Wait { probe, overflow }, probe)
            }
        };
        if probe {
            entry.probes = 1;
            self.timers.arm(key, now + PROBE_INTERVAL);
        }
        resolution
    }

    /// Learns a station address. `create` allows a new entry; without it only a known neighbour is
    /// updated, so that an unsolicited reply cannot fill the cache. Returns the packets that waited.
    pub(crate) fn learn(
        &mut self,
        key: Key,
        mac: Mac,
        create: bool,
        now: Time,
        evicted: &mut Vec<Pending>,
    ) -> VecDeque<Pending> {
        if self.fixed.contains_key(&key) || !(create || self.entries.contains_key(&key)) {
            return VecDeque::new();
        }
        self.touch(key, evicted);
        let entry = self.entries.entry(key).or_default();
        entry.mac = Some(mac);
        entry.confirmed = now;
        entry.probes = 0;
        let ready = std::mem::take(&mut entry.pending);
        self.waiting -= ready.cost;
        self.timers.cancel(key);
        ready.packets
    }

    /// Takes what is due at `now`, one neighbour a call.
    pub(crate) fn due(&mut self, now: Time) -> Option<Due> {
        let key = self.timers.pop_due(now)?;
        let entry = self.entries.get_mut(&key)?;
        if entry.probes < MAX_PROBES {
            entry.probes += 1;
            self.timers.arm(key, now + PROBE_INTERVAL);
            return Some(Due::Probe(key));
        }
        Some(Due::Failed(self.remove(key).into()))
    }

    /// Marks `key` as most recently used and makes room if it is new.
    fn touch(&mut self, key: Key, evicted: &mut Vec<Pending>) {
        self.uses += 1;
        let last_used = match self.entries.get_mut(&key) {
            Some(entry) => std::mem::replace(&mut entry.last_used, self.uses),
            None => {
                if self.entries.len() >= MAX_ENTRIES
                    && let Some((_, oldest)) = self.by_use.first_key_value()
                {
                    let oldest = *oldest;
                    evicted.extend(self.remove(oldest));
                }
                self.entries.insert(key, Entry { last_used: self.uses, ..Entry::default() });
                0
            }
        };
        self.by_use.remove(&last_used);
        self.by_use.insert(self.uses, key);
    }

    fn remove(&mut self, key: Key) -> VecDeque<Pending> {
        self.timers.cancel(key);
        let Some(entry) = self.entries.remove(&key) else {
            return VecDeque::new();
        };
        self.by_use.remove(&entry.last_used);
        self.waiting -= entry.pending.cost;
        entry.pending.packets
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)] // tests

    use super::*;

    fn packet(octets: usize) -> Pending {
        Pending { frame: Frame::new(vec![0; octets]), ingress: None }
    }

    fn key(last: u32) -> Key {
        (0, Addr::v4(0x0a00_0000 + last))
    }

    /// Has a packet wait; how many packets had to go.
    fn wait(cache: &mut NeighborCache, last: u32, octets: usize) -> usize {
        match cache.resolve(key(last), packet(octets), Time::ZERO, &mut Vec::new()) {
            Resolution::Wait { overflow, .. } => overflow.len(),
            Resolution::Send { .. } => panic!("it is not known"),
        }
    }

    #[test]
    fn the_largest_datagram_waits_as_a_whole_and_no_more_than_that() {
        let mut cache = NeighborCache::default();
        // 45 fragments of at most 1514 octets.
        assert!((0..45).all(|_| wait(&mut cache, 1, 1514) == 0));
        // 212992 / (1514 + 512) = 105.1
        assert!((45..105).all(|_| wait(&mut cache, 1, 1514) == 0));
        assert_eq!(wait(&mut cache, 1, 1514), 1);
        // 262 octets are left: a small one counts more than that.
        assert_eq!(wait(&mut cache, 1, 60), 1);
        let ready = cache.learn(key(1), Mac([2; 6]), true, Time::ZERO, &mut Vec::new());
        assert_eq!((ready.len(), cache.waiting), (105, 0));
    }

    #[test]
    fn all_neighbours_together_are_bounded() {
        let mut cache = NeighborCache::default();
        // 4194304 / 2026 = 2070.2: 100 packets for each of 20 neighbours, 70 for one more.
        for n in 0..2070 {
            assert_eq!(wait(&mut cache, n / 100, 1514), 0, "{n}");
        }
        // Who has packets waiting loses the oldest, who has none must do without.
        assert_eq!(wait(&mut cache, 3, 1514), 1);
        assert_eq!(wait(&mut cache, 99, 1514), 1);
        assert!(cache.waiting <= MAX_PENDING_ALL);
        // Whom nobody answers for makes room.
        let evicted = std::iter::from_fn(|| cache.due(Time::from_secs(1)));
        assert!(evicted.take(100).all(|due| matches!(due, Due::Probe(_))));
        while let Some(due) =
            cache.due(Time::from_secs(2)).or_else(|| cache.due(Time::from_secs(3)))
        {
            if let Due::Failed(packets) = due {
                assert!(packets.len() <= 100);
            }
        }
        assert_eq!(cache.waiting, 0);
        assert_eq!(wait(&mut cache, 99, 1514), 0);
    }
}
