//! The table of cached actions.
//!
//! Entries live in slots that never move; an index of 64-bit words, found by open addressing, says which
//! slot a key has. A word holds the slot and 32 bits of the key's hash, so that growing and removing never
//! look at entries. What is looked up for a batch at once waits for memory at once: first all words of the index,
//! then all entries.

use super::entry::{Entry, NewEntry, Repeat, Seen};
use super::path::{Known, Paths};
use super::state::State;
use crate::hash::{SeededState, seeded};
use packet::{Flow, Frame, Plain, Time};

/// Entries of a piece of the slot table, which grows piece by piece: nothing is copied, and nobody waits.
const PIECE: usize = 1 << 12;
/// Words of the smallest index.
const SMALLEST: usize = 1 << 10;
/// Most entries that are known one by one to have something to report; beyond, all are looked at.
const MAX_TOUCHED: usize = 4_096;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

/// Where a packet's action probably is.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    hash: u32,
    /// A slot whose key has the same hash, perhaps another key's; or one that nobody has.
    slot: Slot,
}

/// A slot that is never in use.
const NO_SLOT: Slot = Slot(u32::MAX);

type Piece<const W: usize> = Box<[Entry<W>; PIECE]>;

/// A word of the index: none, or a hash and a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const NONE: Word = Word(0);

    const fn new(hash: u32, slot: Slot) -> Word {
        // Slots are counted from 1 here: there are fewer than 2^32 of them.
        Word((hash as u64) << 32 | (slot.0 as u64 + 1))
    }

    #[inline]
    const fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// [`NO_SLOT`] if there is none.
    #[inline]
    const fn slot(self) -> Slot {
        Slot((self.0 as u32).wrapping_sub(1))
    }
}

/// A bounded table of cached actions of one family.
#[derive(Debug)]
pub struct FlowCache<const W: usize> {
    /// A power of two of words, at most three quarters of them in use.
    index: Vec<Word>,
    pieces: Vec<Piece<W>>,
    /// Slots that have ever been in use.
    slots: u32,
    paths: Paths,
    free: Vec<Slot>,
    live: usize,
    /// The slot that is given up next when the table is full: round and round, so that it is about the oldest.
    hand: u32,
    limit: usize,
    hasher: SeededState,
    /// Slots of entries that have something to report; some may have gone or reported since.
    touched: Vec<Slot>,
    /// There were more than fit.
    touched_more: bool,
}

impl<const W: usize> FlowCache<W> {
    /// An empty cache of at most `limit` entries, from 1 to 2^31.
    #[must_use]
    pub fn new(seed: u64, limit: usize) -> FlowCache<W> {
        FlowCache {
            index: vec![Word::NONE; SMALLEST],
            pieces: Vec::new(),
            slots: 0,
            paths: Paths::new(seed),
            free: Vec::new(),
            live: 0,
            hand: 0,
            limit: limit.clamp(1, 1 << 31),
            hasher: seeded(seed, 2),
            touched: Vec::with_capacity(MAX_TOUCHED),
            touched_more: false,
        }
    }

    /// The 32 bits of a key's hash that the table goes by.
    #[inline]
    fn hash(&self, key: &Flow<W>) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    #[inline]
    fn mask(&self) -> usize {
        self.index.len() - 1
    }

    #[inline]
    fn word(&self, at: usize) -> Word {
        self.index.get(at & self.mask()).copied().unwrap_or(Word::NONE)
    }

    #[inline]
    fn entry(&self, slot: Slot) -> Option<&Entry<W>> {
        self.pieces.get(slot.0 as usize / PIECE)?.get(slot.0 as usize % PIECE)
    }

    /// An entry in use, and its path.
    #[inline]
    fn at<'a>(
        pieces: &'a mut [Piece<W>],
        paths: &'a Paths,
        slot: Slot,
    ) -> Option<(&'a mut Entry<W>, &'a Known)> {
        let entry = pieces.get_mut(slot.0 as usize / PIECE)?.get_mut(slot.0 as usize % PIECE)?;
        let known = paths.get(entry.path())?;
        Some((entry, known))
    }

    fn is_at(&self, slot: Slot, key: &Flow<W>) -> bool {
        let Some(entry) = self.entry(slot) else { return false };
        self.paths.get(entry.path()).is_some_and(|known| entry.is_for(key, &known.path))
    }

    /// The slot of a key.
    fn find(&self, key: &Flow<W>, hash: u32) -> Option<Slot> {
        let mut at = hash as usize;
        loop {
            let word = self.word(at);
            if word == Word::NONE {
                return None;
            }
            if word.hash() == hash && self.is_at(word.slot(), key) {
                return Some(word.slot());
            }
            at = at.wrapping_add(1);
        }
    }

    /// Begins to look a packet up: touches no memory of the table.
    #[inline]
    pub fn begin(&self, key: &Flow<W>) -> Looked {
        Looked { hash: self.hash(key), slot: NO_SLOT }
    }

    /// Goes on: touches the index and no entry.
    #[inline]
    pub fn look(&self, looked: &mut Looked) {
        let mut at = looked.hash as usize;
        loop {
            let word = self.word(at);
            looked.slot = word.slot();
            if word.hash() == looked.hash || looked.slot == NO_SLOT {
                return;
            }
            at = at.wrapping_add(1);
        }
    }

    /// Goes on: touches the entry. The number says nothing.
    #[inline]
    pub fn touch(&self, looked: Looked) -> u32 {
        self.entry(looked.slot).map_or(0, |entry| entry.path().0)
    }

    /// Repeats the action for a packet, if there is one that holds in the state of now.
    #[inline(always)]
    pub fn repeat(
        &mut self,
        looked: Looked,
        plain: &Plain<W>,
        state: &State,
        frame: &mut Frame,
        now: Time,
    ) -> Repeat {
        let FlowCache { pieces, paths, .. } = &mut *self;
        if let Some((entry, known)) = Self::at(pieces, paths, looked.slot)
            && known.holds(state)
            && entry.is_for(&plain.flow, &known.path)
        {
            let is_first = !entry.has_seen();
            let repeat = entry.repeat(&known.path, plain, frame, now);
            if is_first {
                self.note(looked.slot);
            }
            return repeat;
        }
        self.repeat_elsewhere(looked, plain, state, frame, now)
    }

    /// As [`FlowCache::repeat`], where another key has the same hash, the entry has come or moved since, or the
    /// state has changed.
    #[cold]
    #[inline(never)]
    fn repeat_elsewhere(
        &mut self,
        looked: Looked,
        plain: &Plain<W>,
        state: &State,
        frame: &mut Frame,
        now: Time,
    ) -> Repeat {
        let Some(slot) = self.find(&plain.flow, looked.hash) else { return Repeat::Refused };
        let path = self.entry(slot).map(Entry::path);
        if !path.is_some_and(|path| self.paths.check(path, state)) {
            return Repeat::Refused;
        }
        let Some((entry, known)) = Self::at(&mut self.pieces, &self.paths, slot) else {
            return Repeat::Refused;
        };
        let repeat = entry.repeat(&known.path, plain, frame, now);
        self.note(slot);
        repeat
    }

    /// Notes that an entry may have something to report. Allocates nothing.
    #[cold]
    fn note(&mut self, slot: Slot) {
        if self.touched.len() < MAX_TOUCHED {
            self.touched.push(slot);
        } else {
            self.touched_more = true;
        }
    }

    /// Stores an action under `key`. What it displaced has unreported observations.
    pub fn insert(&mut self, key: &Flow<W>, new: &NewEntry<'_, W>, state: &State) -> Option<Seen> {
        let mut displaced = self.remove(key);
        if displaced.is_none() && self.live >= self.limit {
            displaced = self.give_up_one();
        }
        if 4 * (self.live + 1) > 3 * self.index.len() {
            self.grow();
        }
        let hash = self.hash(key);
        let path = self.paths.join(&new.path, &new.terms, state);
        let slot = self.place(Entry::new(key, path, new));
        self.enter(Word::new(hash, slot));
        self.live += 1;
        displaced
    }

    /// Puts an entry into a free slot.
    fn place(&mut self, entry: Entry<W>) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            Slot(self.slots - 1)
        });
        if slot.0 as usize / PIECE == self.pieces.len() {
            let empty: Box<[Entry<W>]> = vec![Entry::EMPTY; PIECE].into_boxed_slice();
            // It has as many entries as it was made with.
            self.pieces.extend(empty.try_into().ok());
        }
        let piece = self.pieces.get_mut(slot.0 as usize / PIECE);
        if let Some(place) = piece.and_then(|piece| piece.get_mut(slot.0 as usize % PIECE)) {
            *place = entry;
        }
        slot
    }

    fn enter(&mut self, word: Word) {
        let mask = self.mask();
        let mut at = word.hash() as usize & mask;
        while self.word(at) != Word::NONE {
            at = (at + 1) & mask;
        }
        if let Some(place) = self.index.get_mut(at) {
            *place = word;
        }
    }

    fn grow(&mut self) {
        let larger = vec![Word::NONE; self.index.len() * 2];
        for word in std::mem::replace(&mut self.index, larger) {
            if word != Word::NONE {
                self.enter(word);
            }
        }
    }

    /// Forgets the entry that the hand comes to next.
    fn give_up_one(&mut self) -> Option<Seen> {
        for _ in 0..self.slots {
            let slot = Slot(self.hand % self.slots);
            self.hand = slot.0 + 1;
            let entry = self.entry(slot)?;
            if let Some(known) = self.paths.get(entry.path()) {
                let key = entry.key(&known.path);
                return self.remove(&key);
            }
        }
        None
    }

    /// Forgets the action under `key`; its observations must be reported.
    pub fn remove(&mut self, key: &Flow<W>) -> Option<Seen> {
        let mask = self.mask();
        let hash = self.hash(key);
        let slot = self.find(key, hash)?;
        let FlowCache { pieces, paths, .. } = &mut *self;
        let (entry, known) = Self::at(pieces, paths, slot)?;
        let (seen, path) = (entry.take_seen(known), entry.path());
        *entry = Entry::EMPTY;
        self.paths.leave(path);
        self.free.push(slot);
        self.live -= 1;
        let mut hole = hash as usize & mask;
        while self.word(hole).slot() != slot {
            hole = (hole + 1) & mask;
        }
        // What stands behind the hole and would no longer be found moves up (Knuth, 6.4, algorithm R).
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let word = self.word(at);
            if word == Word::NONE {
                break;
            }
            let home = word.hash() as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                if let Some(place) = self.index.get_mut(hole) {
                    *place = word;
                }
                hole = at;
            }
        }
        if let Some(place) = self.index.get_mut(hole) {
            *place = Word::NONE;
        }
        Some(seen)
    }

    fn take_seen_at(&mut self, slot: Slot) -> Option<Seen> {
        let (entry, known) = Self::at(&mut self.pieces, &self.paths, slot)?;
        Some(entry.take_seen(known))
    }

    /// What the action under `key` has seen since it was last asked.
    pub fn take_seen(&mut self, key: &Flow<W>) -> Option<Seen> {
        let slot = self.find(key, self.hash(key))?;
        self.take_seen_at(slot)
    }

    /// Everything that has not been reported, in the order of the slots. No more is looked at than has
    /// been touched, unless that was much.
    pub fn take_observations(&mut self) -> Vec<Seen> {
        let mut touched = std::mem::take(&mut self.touched);
        let seen = if std::mem::take(&mut self.touched_more) {
            (0..self.slots).filter_map(|slot| self.take_something_at(Slot(slot))).collect()
        } else {
            touched.sort_unstable();
            touched.iter().filter_map(|slot| self.take_something_at(*slot)).collect()
        };
        touched.clear();
        self.touched = touched;
        seen
    }

    fn take_something_at(&mut self, slot: Slot) -> Option<Seen> {
        if !self.entry(slot)?.has_seen() {
            return None;
        }
        self.take_seen_at(slot)
    }

    /// Forgets everything; what was seen must have been reported.
    pub fn clear(&mut self) {
        self.index = vec![Word::NONE; SMALLEST];
        self.pieces.clear();
        self.paths.clear();
        self.free.clear();
        self.touched.clear();
        self.touched_more = false;
        (self.slots, self.live, self.hand) = (0, 0, 0);
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cache::{Path, Terms};
    use crate::network::PortId;
    use packet::{FrameBuilder, Headers, LinkRewrite, PlainRewrite, Rewrite, parse, plain4};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn frame(port: u16) -> Frame {
        let frame = FrameBuilder::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        frame.udp(port, 2).build()
    }

    fn headers() -> Headers {
        parse(&frame(1).bytes).unwrap()
    }

    fn plain(port: u16) -> Plain<1> {
        plain4(1, &frame(port).bytes)
    }

    fn key(port: u16) -> Flow<1> {
        plain(port).flow
    }

    /// Some paths are shared.
    fn action(out: u32) -> NewEntry<'static, 1> {
        let (headers, plain) = (headers(), plain(1));
        let rewrite = Rewrite::between(&headers, &headers);
        NewEntry {
            path: Path {
                link: plain.flow.link(),
                src_mac: plain.src_mac,
                place: PortId(1),
                out: PortId(out),
                mtu: 1500,
                rewrite: LinkRewrite::new(&rewrite),
                learned: None,
            },
            terms: Terms { stateless: &[], objects: &[], asked: &[] },
            tcp: None,
            rewrite: PlainRewrite::new(&rewrite),
            session: None,
        }
    }

    fn insert(cache: &mut FlowCache<1>, port: u16, out: u32) -> Option<Seen> {
        cache.insert(&key(port), &action(out), &State::default())
    }

    fn out(cache: &mut FlowCache<1>, port: u16) -> Option<PortId> {
        cache.take_seen(&key(port)).map(|seen| seen.out)
    }

    fn repeat(cache: &mut FlowCache<1>, port: u16, state: &State) -> Repeat {
        let mut looked = cache.begin(&key(port));
        cache.look(&mut looked);
        cache.repeat(looked, &plain(port), state, &mut frame(port), Time::ZERO)
    }

    #[test]
    fn a_full_cache_gives_up_the_oldest() {
        let mut cache = FlowCache::new(1, 3);
        for port in 1..=3 {
            assert_eq!(insert(&mut cache, port, u32::from(port)), None);
        }
        for port in 4..=9u16 {
            let gone = insert(&mut cache, port, u32::from(port)).unwrap();
            assert_eq!(gone.out, PortId(u32::from(port) - 3));
            assert_eq!(cache.len(), 3);
        }
        assert_eq!(out(&mut cache, 6), None);
        assert_eq!(out(&mut cache, 7), Some(PortId(7)));
    }

    #[test]
    fn an_entry_holds_in_its_state_only() {
        let mut cache = FlowCache::new(1, 3);
        insert(&mut cache, 1, 9);
        let mut state = State::default();
        assert_eq!(repeat(&mut cache, 1, &state), Repeat::Sent(PortId(9)));
        assert_eq!(repeat(&mut cache, 2, &state), Repeat::Refused);
        state.change_partly(Arc::default());
        assert_eq!(repeat(&mut cache, 1, &state), Repeat::Sent(PortId(9)));
        state.change();
        assert_eq!(repeat(&mut cache, 1, &state), Repeat::Refused);
    }

    #[test]
    fn an_entry_that_can_count_no_more_says_so() {
        let mut cache = FlowCache::new(1, 3);
        insert(&mut cache, 1, 9);
        for _ in 0..u16::MAX {
            assert_eq!(repeat(&mut cache, 1, &State::default()), Repeat::Sent(PortId(9)));
        }
        assert_eq!(repeat(&mut cache, 1, &State::default()), Repeat::Full);
        assert_eq!(cache.take_seen(&key(1)).map(|s| s.frames), Some(u64::from(u16::MAX)));
        assert_eq!(repeat(&mut cache, 1, &State::default()), Repeat::Sent(PortId(9)));
    }

    #[test]
    fn what_was_touched_is_reported_once() {
        let mut cache = FlowCache::new(1, 3);
        for port in 1..=3 {
            insert(&mut cache, port, u32::from(port));
        }
        repeat(&mut cache, 3, &State::default());
        repeat(&mut cache, 1, &State::default());
        repeat(&mut cache, 1, &State::default());
        let seen: Vec<_> = cache.take_observations().iter().map(|s| (s.out.0, s.frames)).collect();
        assert_eq!(seen, [(1, 2), (3, 1)]);
        assert_eq!(cache.take_observations(), []);
    }

    proptest! {
        /// The table against a map, through growth and removal.
        #[test]
        fn like_a_map(steps in prop::collection::vec((any::<bool>(), 0..900u16), 0..3000)) {
            let mut cache = FlowCache::new(7, 1 << 20);
            let mut map = BTreeMap::new();
            for (i, (store, port)) in (0u32..).zip(steps) {
                let out = i / 3;
                if store {
                    let old = insert(&mut cache, port, out).map(|s| s.out.0);
                    prop_assert_eq!(old, map.insert(port, out));
                } else {
                    prop_assert_eq!(cache.remove(&key(port)).map(|s| s.out.0), map.remove(&port));
                }
                prop_assert_eq!(cache.len(), map.len());
            }
            for port in 0..900 {
                prop_assert_eq!(out(&mut cache, port).map(|p| p.0), map.get(&port).copied());
            }
        }
    }
}
