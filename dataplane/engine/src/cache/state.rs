//! In which state of network and learned tables a cached action holds.

use crate::network::{Changes, Object};
use packet::Addr;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most changes that are remembered one by one. What has not been used for longer is made again.
const MAX_STEPS: usize = 256;

/// The state of now, and how it came about.
#[derive(Debug, Default)]
pub struct State {
    /// Raised with every change.
    stamp: u64,
    /// What held before this is not known to hold.
    oldest: u64,
    /// What each later change changed.
    steps: VecDeque<(u64, Arc<Changes>)>,
}

impl State {
    /// The number of the state of now.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Something has changed that everything may depend on.
    pub fn change(&mut self) {
        self.stamp += 1;
        self.oldest = self.stamp;
        self.steps.clear();
    }

    /// The network has changed in some parts.
    pub fn change_partly(&mut self, changes: Arc<Changes>) {
        self.stamp += 1;
        self.steps.push_back((self.stamp, changes));
        if self.steps.len() > MAX_STEPS
            && let Some((stamp, _)) = self.steps.pop_front()
        {
            self.oldest = stamp;
        }
    }

    /// Whether what held in the state `stamp`, and depends on `objects` and on what addresses between the
    /// pairs in `asked` mean, holds now.
    #[must_use]
    pub fn keeps(&self, stamp: u64, objects: &[Object], asked: &[(Addr, Addr)]) -> bool {
        stamp >= self.oldest
            && !self
                .steps
                .iter()
                .rev()
                .take_while(|(at, _)| *at > stamp)
                .any(|(_, changes)| changes.touch(objects, asked))
    }
}
