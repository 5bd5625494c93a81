//! The neighbour cache: which station an address on the link is (ARP, RFC 826; neighbour
//! unreachability detection after RFC 4861, 7.3, for both families).
//!
//! Invariants: at most [`MAX_ENTRIES`] learned entries, the least recently used goes first; at most
//! [`MAX_PENDING`] packets wait for one neighbour; a packet that waits leaves within
//! [`MAX_PROBES`] seconds, sent or failed. Static entries are never learned over nor evicted.
//! This module knows no frames: it says whom to ask, the host asks.

use std::collections::BTreeMap;
use std::time::Duration;

use packet::{Addr, Frame, Mac, Time};

use crate::timers::Timers;

/// Learned entries a host keeps.
pub const MAX_ENTRIES: usize = 1024;
/// Packets that wait for one neighbour; a further one pushes out the oldest.
pub const MAX_PENDING: usize = 3;
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

#[derive(Clone, Debug, Default)]
struct Entry {
    mac: Option<Mac>,
    confirmed: Time,
    /// Requests sent since the last answer; 0 when nothing is being asked.
    probes: u8,
    pending: Vec<Pending>,
    last_used: u64,
}

/// What to do with a packet for a neighbour.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// Send it to this station; `probe` asks whether it is still there.
    Send { frame: Frame, mac: Mac, probe: bool },
    /// It waits. `probe`: the neighbour has not been asked yet. `overflow`: the packet it pushed out.
    Wait { probe: bool, overflow: Option<Pending> },
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
                let full = entry.pending.len() >= MAX_PENDING;
                let overflow = full.then(|| entry.pending.remove(0));
                entry.pending.push(packet);
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
    ) -> Vec<Pending> {
        if self.fixed.contains_key(&key) || !(create || self.entries.contains_key(&key)) {
            return Vec::new();
        }
        self.touch(key, evicted);
        let entry = self.entries.entry(key).or_default();
        entry.mac = Some(mac);
        entry.confirmed = now;
        entry.probes = 0;
        let ready = std::mem::take(&mut entry.pending);
        self.timers.cancel(key);
        ready
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
        Some(Due::Failed(self.remove(key)))
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

    fn remove(&mut self, key: Key) -> Vec<Pending> {
        self.timers.cancel(key);
        let Some(entry) = self.entries.remove(&key) else {
            return Vec::new();
        };
        self.by_use.remove(&entry.last_used);
        entry.pending
    }
}
