//! When sessions come due.
//!
//! A session stands in one slice of time, 67 ms long, and is armed for its beginning. What it does
//! meanwhile moves its expiry only to later, most often, and costs nothing: when the slice comes it is
//! put into its new one. A slice is 4 octets a session. Only the sessions of the slice that has come
//! are brought into order, by their exact times.

use super::TimerSettings;
use super::store::Store;
use packet::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Length of a slice: 2^26 ns.
const SLICE_BITS: u32 = 26;

/// Armed for no slice.
pub(super) const UNARMED: u32 = u32::MAX;

/// The slice of a moment. The last one never ends.
fn slice_of(at: Time) -> u32 {
    u32::try_from(at.0 >> SLICE_BITS).unwrap_or(UNARMED).min(UNARMED - 1)
}

/// Sessions that come due in one slice.
#[derive(Debug)]
struct Slice {
    /// None of them comes due before.
    first: Time,
    slots: Vec<u32>,
}

/// The order of expiry.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    later: BTreeMap<u32, Slice>,
    /// Of the slice that has come: soonest last.
    now: Vec<(Time, u32)>,
    /// What was armed for that one, or an earlier one, after it had come.
    late: BinaryHeap<Reverse<(Time, u32)>>,
    /// The first slice that has not come.
    next: u32,
    /// Places in `later`: as many as sessions that are armed there, and some that have left.
    places: usize,
    /// The slice that is tidied up next.
    tidy: u32,
}

impl Agenda {
    /// Sees to it that the session in `slot` is looked at when it comes due at `at`, or before. `armed` is the
    /// slice for which it stands here.
    pub(super) fn arm(&mut self, slot: u32, armed: &mut u32, at: Time) {
        let slice = slice_of(at);
        if slice < self.next {
            self.late.push(Reverse((at, slot)));
            *armed = slice;
        } else if slice < *armed {
            let first = Slice { first: at, slots: Vec::new() };
            let entry = self.later.entry(slice).or_insert(first);
            entry.first = entry.first.min(at);
            entry.slots.push(slot);
            self.places += 1;
            *armed = slice;
        } else if slice == *armed
            && let Some(entry) = self.later.get_mut(&slice)
        {
            entry.first = entry.first.min(at);
        }
    }

    /// No session comes due before this.
    pub(super) fn first(&self) -> Option<Time> {
        let now = self.now.last().map(|(at, _)| *at);
        let late = self.late.peek().map(|Reverse((at, _))| *at);
        let later = self.later.first_key_value().map(|(_, slice)| slice.first);
        [now, late, later].into_iter().flatten().min()
    }

    /// Whether a slice has come that has not been looked at, and everything before it has been seen to.
    fn has_come(&self, now: Time) -> bool {
        self.now.is_empty()
            && self.late.is_empty()
            && self.later.first_key_value().is_some_and(|(_, slice)| slice.first <= now)
    }

    /// A session that has come due by `now`, soonest first. It is armed no more.
    pub(super) fn take(
        &mut self,
        now: Time,
        store: &mut Store,
        timers: &TimerSettings,
    ) -> Option<u32> {
        loop {
            while self.has_come(now) {
                let Some((slice, Slice { slots, .. })) = self.later.pop_first() else { break };
                self.next = self.next.max(slice.saturating_add(1));
                self.places -= slots.len();
                for slot in slots {
                    if store.armed(slot) != Some(slice) {
                        continue;
                    }
                    let Some((at, armed)) = store.due(slot, timers) else { continue };
                    if slice_of(at) > slice {
                        *armed = UNARMED;
                        self.arm(slot, armed, at);
                    } else {
                        self.now.push((at, slot));
                    }
                }
                self.now.sort_unstable_by(|a, b| b.cmp(a));
            }
            let from_now = self.now.last().copied();
            let from_late = self.late.peek().map(|Reverse(entry)| *entry);
            let (at, slot) = from_now.into_iter().chain(from_late).min()?;
            if at > now {
                return None;
            }
            if from_now == Some((at, slot)) {
                self.now.pop();
            } else {
                self.late.pop();
            }
            let Some((really, armed)) = store.due(slot, timers) else { continue };
            if really <= at {
                *armed = UNARMED;
                return Some(slot);
            }
            if *armed == slice_of(at) {
                *armed = UNARMED;
                self.arm(slot, armed, really);
            }
        }
    }

    /// How many places there are in slices that have not come.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.later.clear();
        self.now.clear();
        self.late.clear();
        self.places = 0;
    }

    /// Gives back the places of sessions that have left their slices, one slice a call, if these are more than
    /// those that are armed. `armed` says for which slice a session is.
    pub(super) fn tidy(&mut self, sessions: usize, armed: impl Fn(u32) -> Option<u32>) {
        if self.places <= 2 * sessions + 1024 {
            return;
        }
        let mut slices = self.later.range_mut(self.tidy..);
        let Some((number, slice)) = slices.next() else {
            self.tidy = 0;
            return;
        };
        let number = *number;
        let before = slice.slots.len();
        slice.slots.retain(|slot| armed(*slot) == Some(number));
        slice.slots.shrink_to_fit();
        self.places -= before - slice.slots.len();
        self.tidy = number.saturating_add(1);
        if slice.slots.is_empty() {
            self.later.remove(&number);
        }
    }
}
