//! Deadlines by key, earliest first.
//!
//! Every key has at most one deadline. Equal deadlines come in the order of their keys, so that a
//! replay does the same things in the same order.

use std::collections::{BTreeMap, BTreeSet};

use packet::Time;

/// The deadlines of one kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    queue: BTreeSet<(Time, K)>,
    armed: BTreeMap<K, Time>,
}

impl<K> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers { queue: BTreeSet::new(), armed: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Sets the deadline of `key`, replacing an earlier one.
    pub(crate) fn arm(&mut self, key: K, at: Time) {
        self.cancel(key);
        self.queue.insert((at, key));
        self.armed.insert(key, at);
    }

    /// Forgets the deadline of `key`.
    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(at) = self.armed.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// Takes the earliest key that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<K> {
        let (at, key) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.cancel(key);
        Some(key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }
}
