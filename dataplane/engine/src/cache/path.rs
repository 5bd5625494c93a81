//! Paths: what the cached actions of many flows have in common.
//!
//! All flows between two places come in by the same port from the same stations, leave by the same port with
//! the same MACs and the same TTL, and depend on the same parts of the network. That is kept once, so that
//! an entry of the flow cache has room in one cache line, and so that a change of the network is
//! checked once a path and not once a flow.

use crate::hash::{SeededState, seeded};
use crate::network::{PortId, SegmentId};
use hashbrown::HashMap;
use packet::LinkRewrite;
use smallvec::SmallVec;

/// What the table of paths is hashed for; see [`seeded`].
const PURPOSE: u64 = 9;

/// What the flows of a path have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Ethernet rules that count these packets.
    pub ethernet: SmallVec<[u32; 2]>,
}

/// Number of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathId(pub(super) u32);

/// A path in use.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) path: Path,
    /// State of network and learned tables that the path was last known to hold in.
    pub(super) stamp: u64,
    /// Entries that go by it.
    users: u32,
}

/// All paths of a cache, each as long as an entry goes by it.
#[derive(Debug)]
pub(super) struct Paths {
    known: Vec<Known>,
    free: Vec<PathId>,
    /// Paths that new entries may join.
    open: HashMap<Path, PathId, SeededState>,
}

impl Paths {
    pub(super) fn new(seed: u64) -> Paths {
        let open = HashMap::with_hasher(seeded(seed, PURPOSE));
        Paths { known: Vec::new(), free: Vec::new(), open }
    }

    #[inline]
    pub(super) fn get(&self, id: PathId) -> Option<&Known> {
        self.known.get(id.0 as usize)
    }

    /// The number of a path that holds in state `stamp`, for one more entry.
    pub(super) fn join(&mut self, path: Path, stamp: u64) -> PathId {
        if let Some(id) = self.open.get(&path).copied()
            && let Some(known) = self.known.get_mut(id.0 as usize)
            && known.stamp == stamp
        {
            known.users += 1;
            return id;
        }
        let known = Known { path: path.clone(), stamp, users: 1 };
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
        self.open.insert(path, id);
        id
    }

    /// An entry goes by the path no longer.
    pub(super) fn leave(&mut self, id: PathId) {
        let Some(known) = self.known.get_mut(id.0 as usize) else { return };
        known.users -= 1;
        if known.users > 0 {
            return;
        }
        if self.open.get(&known.path) == Some(&id) {
            self.open.remove(&known.path);
        }
        self.free.push(id);
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.free.clear();
        self.open.clear();
    }
}
