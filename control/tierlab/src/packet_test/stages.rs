//! The lab as each `apply` and `delete` of a test leaves it.
//!
//! All of a test's changes are realized before its first step, so that one that cannot be made stops the test
//! before anything has run.

use crate::change::{Changed, change};
use crate::open::{Opened, lines};
use definitions::model::PacketTest;
use realization::Realized;
use std::collections::BTreeMap;

/// What the changes of a test come to, by the index of their step.
#[derive(Debug, Default)]
pub(super) struct Stages {
    by_step: BTreeMap<usize, Changed>,
}

impl Stages {
    /// Makes all changes of a test, one on top of the other.
    ///
    /// # Errors
    /// The number of the step that cannot be done, from 1, and every fault.
    pub(super) fn of(lab: Option<&Opened>, test: &PacketTest) -> Result<Stages, (usize, String)> {
        let mut stages = Stages::default();
        for (index, made) in &test.spec.changes {
            let latest = stages.by_step.values().next_back().map(|changed| &changed.opened);
            let before = latest.or(lab);
            // Without a lab that can be changed, the step itself says so.
            let Some(before) = before else { break };
            let changed = change(before, made).map_err(|faults| (index + 1, lines(&faults)))?;
            stages.by_step.insert(*index, changed);
        }
        Ok(stages)
    }

    /// Whether the test changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.by_step.is_empty()
    }

    /// The lab that the change at a step makes.
    pub(super) fn at(&self, step: usize) -> Option<&Realized> {
        self.by_step.get(&step).map(|changed| &changed.opened.realized)
    }

    /// The names that a step finds, where an earlier one has changed the lab.
    pub(super) fn before(&self, step: usize) -> Option<&dyn super::Resolver> {
        let (_, changed) = self.by_step.range(..step).next_back()?;
        Some(&changed.opened.realized.names)
    }

    /// What the changes up to a step did, for people.
    pub(super) fn told(&self, step: usize) -> Vec<String> {
        let mut told = Vec::new();
        for (index, changed) in self.by_step.range(..step) {
            let number = index + 1;
            let effects = changed.effects.iter();
            told.extend(effects.map(|(object, e)| format!("step {number}: {object} {e}")));
            let notices = changed.notices.iter();
            told.extend(notices.map(|notice| format!("step {number}: notice: {notice}")));
        }
        told
    }
}
