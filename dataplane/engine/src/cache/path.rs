//! Paths: what the cached actions of many flows have in common.
//!
//! All flows between two places come in by the same port from the same stations, leave by the same port with
//! the same MACs and the same TTL, and depend on the same parts of the network. That is kept once, so that
//! an entry of the flow cache has room in one cache line, and so that a change of the network is
//! checked once a path and not once a flow.

use super::state::State;
use crate::hash::{SeededState, seeded};
use crate::network::{Object, PortId, SegmentId};
use crate::session::StatelessRule;
use hashbrown::HashTable;
use packet::{Addr, LinkRewrite};

/// What the table of paths is hashed for; see [`seeded`].
const PURPOSE: u64 = 9;

/// What the flows of a path have in common and a hit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Destination station and protocol, as [`packet::Flow::link`]; part of their key.
    pub link: u64,
    /// Guard: the only source MAC, as [`packet::Plain::src_mac`].
    pub src_mac: u64,
    /// Where packets come in; part of their key.
    pub place: PortId,
    /// Where they leave.
    pub out: PortId,
    /// Guard: largest IP packet that may leave, octets.
    pub mtu: u32,
    /// Stations and TTL of what leaves.
    pub rewrite: LinkRewrite,
    /// The segment whose learned station the sender is.
    pub learned: Option<SegmentId>,
}

/// What else the flows of a path have in common.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Rules without state that count these packets.
    pub stateless: &'a [StatelessRule],
    /// What of the network the path depends on.
    pub objects: &'a [Object],
    /// Addresses that the flow's walk asked about. Flows of a path have as many of them, but others.
    pub asked: &'a [Addr],
}

/// Number of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathId(pub(super) u32);

/// A path in use.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) path: Path,
    /// State of network and learned tables that the path was last known to hold in.
    stamp: u64,
    /// Entries that go by it.
    users: u32,
    pub(super) stateless: Box<[StatelessRule]>,
    objects: Box<[Object]>,
    /// The lowest and the highest of what its flows have asked about, by the place in the walk.
    asked: Box<[(Addr, Addr)]>,
}

impl Known {
    /// Whether it holds in the state of now, as far as is known.
    #[inline]
    pub(super) fn holds(&self, state: &State) -> bool {
        self.stamp == state.stamp()
    }

    fn is(&self, path: &Path, terms: &Terms<'_>) -> bool {
        self.path == *path
            && *self.stateless == *terms.stateless
            && *self.objects == *terms.objects
            && self.asked.len() == terms.asked.len()
    }

    /// Finds out whether it holds although the state has changed.
    fn check(&mut self, state: &State) -> bool {
        if !self.holds(state) && state.keeps(self.stamp, &self.objects, &self.asked) {
            self.stamp = state.stamp();
        }
        self.holds(state)
    }
}

/// All paths of a cache, each as long as an entry goes by it.
#[derive(Debug)]
pub(super) struct Paths {
    known: Vec<Known>,
    free: Vec<PathId>,
    /// Paths that new entries may join.
    open: HashTable<PathId>,
    hasher: SeededState,
}

impl Paths {
    pub(super) fn new(seed: u64) -> Paths {
        Paths {
            known: Vec::new(),
            free: Vec::new(),
            open: HashTable::new(),
            hasher: seeded(seed, PURPOSE),
        }
    }

    #[inline]
    pub(super) fn get(&self, id: PathId) -> Option<&Known> {
        self.known.get(id.0 as usize)
    }

    /// Whether a path holds in the state of now.
    #[cold]
    pub(super) fn check(&mut self, id: PathId, state: &State) -> bool {
        self.known.get_mut(id.0 as usize).is_some_and(|known| known.check(state))
    }

    /// The number of a path that holds in the state of now, for one more entry.
    pub(super) fn join(&mut self, path: &Path, terms: &Terms<'_>, state: &State) -> PathId {
        let hash = hash(&self.hasher, path, terms.objects);
        let Paths { known, open, .. } = self;
        let is = |id: &PathId| known.get(id.0 as usize).is_some_and(|k| k.is(path, terms));
        if let Ok(found) = open.find_entry(hash, is) {
            let id = *found.get();
            if let Some(known) = known.get_mut(id.0 as usize)
                && known.check(state)
            {
                known.users += 1;
                for ((low, high), address) in known.asked.iter_mut().zip(terms.asked) {
                    (*low, *high) = ((*low).min(*address), (*high).max(*address));
                }
                return id;
            }
            found.remove();
        }
        let known = Known {
            path: *path,
            stamp: state.stamp(),
            users: 1,
            stateless: terms.stateless.into(),
            objects: terms.objects.into(),
            asked: terms.asked.iter().map(|address| (*address, *address)).collect(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.known.get_mut(id.0 as usize) {
                    *place = known;
                }
                id
            }
            None => {
                self.known.push(known);
                // No more than entries, of which there are at most 2^31.
                PathId((self.known.len() - 1) as u32)
            }
        };
        let Paths { known, open, hasher, .. } = self;
        open.insert_unique(hash, id, |id| {
            known.get(id.0 as usize).map_or(0, |k| self::hash(hasher, &k.path, &k.objects))
        });
        id
    }

    /// An entry goes by the path no longer.
    pub(super) fn leave(&mut self, id: PathId) {
        let Some(known) = self.known.get_mut(id.0 as usize) else { return };
        known.users -= 1;
        if known.users > 0 {
            return;
        }
        let hash = hash(&self.hasher, &known.path, &known.objects);
        if let Ok(found) = self.open.find_entry(hash, |open| *open == id) {
            found.remove();
        }
        self.free.push(id);
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.free.clear();
        self.open.clear();
    }
}

/// What a path is found by.
fn hash(hasher: &SeededState, path: &Path, objects: &[Object]) -> u64 {
    hasher.hash_one((path, objects))
}
