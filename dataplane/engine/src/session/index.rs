//! The index of tuples: which session remembers a tuple at a node.
//!
//! An entry is 6 octets: 16 bits of a hash and the session's slot. The tuple itself stands in the
//! session. A tuple and its reverse have the same hash, so a record that does not translate, as a
//! firewall's, has one entry for both directions; one that translates has two.
//!
//! The index consists of many small tables, so that growing one of them holds no packet up: a table
//! of a million sessions grows in steps of a few microseconds.

use crate::hash::{SeededState, seeded};
use crate::tuple::{Node, Tuple};
use hashbrown::HashTable;
use packet::Addr;
use std::hash::{BuildHasher, Hasher};

/// Bits of the hash that choose the table.
const TABLE_BITS: u32 = 12;

/// 16 bits of the hash, then the slot.
type Entry = [u16; 3];

fn slot_of(entry: &Entry) -> u32 {
    let [_, low, high] = *entry;
    u32::from(high) << 16 | u32::from(low)
}

/// A tuple at a node, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    table: usize,
    tag: u16,
}

/// Spreads a tag over a hash table's word: the table takes its position from the lower bits and seven
/// more from the upper ones.
fn spread(tag: u16) -> u64 {
    u64::from(tag) | u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xffff
}

/// The numbers of a node: its kind and which of the kind.
pub(super) fn numbers(node: Node) -> (u8, u32) {
    match node {
        Node::Balancer(port) => (0, port.0),
        Node::Firewall(port) => (1, port.0),
        Node::Gateway(router) => (2, router.0),
        Node::GatewayFirewall(router) => (3, router.0),
    }
}

/// The slots of sessions by node and tuple.
#[derive(Debug)]
pub(super) struct Index {
    state: SeededState,
    tables: Vec<HashTable<Entry>>,
    /// How many tuples stand here, by kind and number of the node: most nodes remember nothing.
    at: [Vec<u32>; 4],
}

impl Index {
    /// An empty one under the lab's seed.
    pub(super) fn new(seed: u64) -> Index {
        let tables = (0..1usize << TABLE_BITS).map(|_| HashTable::new()).collect();
        Index { state: seeded(seed, 1), tables, at: Default::default() }
    }

    /// Whether the node remembers anything at all.
    #[inline]
    pub(super) fn has_any(&self, node: Node) -> bool {
        let (kind, number) = numbers(node);
        let at = self.at.get(usize::from(kind)).and_then(|counts| counts.get(number as usize));
        at.is_some_and(|count| *count > 0)
    }

    /// Where a tuple and its reverse stand, if they do.
    pub(super) fn place(&self, node: Node, tuple: &Tuple) -> Place {
        let Tuple { src, dst, protocol, src_port, dst_port } = *tuple;
        let (kind, number) = numbers(node);
        let at = u64::from(number) << 32 | u64::from(kind) << 8 | u64::from(protocol);
        let mut hasher = self.state.build_hasher();
        if src.is_v4() && dst.is_v4() {
            let end = |addr: Addr, port: u16| u64::from(addr.low32()) << 16 | u64::from(port);
            let (a, b) = (end(src, src_port), end(dst, dst_port));
            hasher.write_u128(u128::from(a.min(b)) << 64 | u128::from(a.max(b)));
        } else {
            let (a, b) = ((src, src_port), (dst, dst_port));
            let ((low, low_port), (high, high_port)) = (a.min(b), a.max(b));
            hasher.write_u128(low.0);
            hasher.write_u128(high.0);
            hasher.write_u64(u64::from(low_port) << 16 | u64::from(high_port));
        }
        hasher.write_u64(at);
        let hash = hasher.finish();
        Place { table: (hash >> (64 - TABLE_BITS)) as usize, tag: hash as u16 }
    }

    /// The first slot at a place that `is_it`.
    #[inline]
    pub(super) fn find(&self, place: Place, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let same = |entry: &Entry| entry[0] == place.tag && is_it(slot_of(entry));
        self.tables.get(place.table)?.find(spread(place.tag), same).map(slot_of)
    }

    /// Enters a slot for a tuple at a node.
    pub(super) fn insert(&mut self, node: Node, place: Place, slot: u32) {
        if let Some(table) = self.tables.get_mut(place.table) {
            let entry = [place.tag, slot as u16, (slot >> 16) as u16];
            table.insert_unique(spread(place.tag), entry, |entry| spread(entry[0]));
            *self.count(node) += 1;
        }
    }

    /// Takes a slot's entry for a tuple at a node away.
    pub(super) fn remove(&mut self, node: Node, place: Place, slot: u32) {
        let Some(table) = self.tables.get_mut(place.table) else { return };
        let same = |entry: &Entry| entry[0] == place.tag && slot_of(entry) == slot;
        if let Ok(entry) = table.find_entry(spread(place.tag), same) {
            entry.remove();
            *self.count(node) -= 1;
        }
    }

    fn count(&mut self, node: Node) -> &mut u32 {
        let (kind, number) = numbers(node);
        let [balancers, firewalls, gateways, gateway_firewalls] = &mut self.at;
        let counts = match kind {
            0 => balancers,
            1 => firewalls,
            2 => gateways,
            _ => gateway_firewalls,
        };
        let number = number as usize;
        if counts.len() <= number {
            counts.resize(number + 1, 0);
        }
        &mut counts[number]
    }
}
