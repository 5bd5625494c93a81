//! What has been unlinked, but may still be in the hands of a worker.
//!
//! A session that has ended stays here until every worker has passed a batch boundary: until then one
//! may come with packets that its cache saw, and the session's rules count them.
//!
//! So does the reply tuple of a translation, in quarantine: a worker that has not heard yet may still
//! send packets of the old flow with the old address and port, and they must not mix with a new
//! flow's. Only the very flow that had the tuple may take it again at once, with the same
//! translation: what the old action does is then what the new one does. A tuple that nobody
//! translated needs no quarantine for the same reason.

use super::{RuleKey, SessionId, StageRecord};
use crate::tuple::{Node, Tuple};
use crate::workers::Era;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// A session, by its serial number.
    Session(u64),
    /// A reply tuple.
    Tuple(Node, Tuple),
}

/// Sessions and tuples that wait until every worker has passed an era.
#[derive(Debug, Default)]
pub struct Departed {
    /// By serial number, the rules that count a session's packets.
    sessions: BTreeMap<u64, SmallVec<[RuleKey; 4]>>,
    tuples: BTreeMap<(Node, Tuple), (Era, StageRecord)>,
    order: BTreeSet<(Era, Item)>,
}

impl Departed {
    /// Keeps a session until `era` has passed.
    pub fn keep(&mut self, id: SessionId, records: &[StageRecord], era: Era) {
        self.order.insert((era, Item::Session(id.serial)));
        let rules = records.iter().filter_map(StageRecord::rule_key).collect();
        self.sessions.insert(id.serial, rules);
    }

    /// Keeps a record's reply tuple until `era` has passed, if the record translates.
    pub fn quarantine(&mut self, record: &StageRecord, era: Era) {
        if record.before == record.after {
            return;
        }
        let key = (record.node, record.after.reversed());
        self.order.insert((era, Item::Tuple(key.0, key.1)));
        self.tuples.insert(key, (era, *record));
    }

    /// The rules that count the packets of a session that has ended lately.
    #[must_use]
    pub fn rules(&self, serial: u64) -> Option<&SmallVec<[RuleKey; 4]>> {
        self.sessions.get(&serial)
    }

    /// The identity of a session that has ended lately, by its place and the lower half of its serial
    /// number.
    #[must_use]
    pub fn identify(&self, index: u32, low: u32) -> Option<SessionId> {
        let latest = self.sessions.last_key_value()?.0 >> 32;
        let mut serials = (0..=latest).map(|high| high << 32 | u64::from(low));
        let serial = serials.find(|serial| self.sessions.contains_key(serial))?;
        Some(SessionId { index, serial })
    }

    /// How many sessions wait.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many sessions and tuples wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether the reply tuple of a flow that is translated from `before` to `after` was another's.
    #[must_use]
    pub fn was_anothers(&self, node: Node, before: Tuple, after: Tuple) -> bool {
        self.tuples
            .get(&(node, after.reversed()))
            .is_some_and(|(_, r)| (r.before, r.after) != (before, after))
    }

    /// Whether a tuple is in quarantine.
    #[must_use]
    pub fn has(&self, node: Node, tuple: Tuple) -> bool {
        self.tuples.contains_key(&(node, tuple))
    }

    /// Lets go of everything up to `passed`.
    pub fn release(&mut self, passed: Era) {
        while let Some((era, item)) = self.order.first().copied().filter(|(era, _)| *era <= passed)
        {
            self.order.pop_first();
            match item {
                Item::Session(serial) => {
                    self.sessions.remove(&serial);
                }
                Item::Tuple(node, tuple) => {
                    // It may have come back here since.
                    if self.tuples.get(&(node, tuple)).is_some_and(|(latest, _)| *latest == era) {
                        self.tuples.remove(&(node, tuple));
                    }
                }
            }
        }
    }
}
