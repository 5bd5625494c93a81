//! Runs packet tests (`kind: PacketTest`): frames sent, frames expected, virtual time.
//!
//! Invariants:
//! - every test begins at time zero with no state, whatever ran before it: tests are hermetic;
//! - an endpoint is *passive*: it answers address resolution and nothing else, so that every packet of
//!   a test is one that the test sends or that the network makes. Hosts with forwarding stay alive,
//!   because a test's packets go through them;
//! - a packet that reaches an endpoint and is claimed by no step fails the test, wherever it appears;
//! - an outcome depends on test, network and seed only, not on the number of jobs.
//!
//! [`run_all`] runs, [`report`] renders. `runner` takes the steps one by one, `send` makes
//! frames, `field` and `wanted` compare them, `stages` has the lab as each change leaves it, `drops` asks the
//! drop counters and `table` the lab's tables, `failure` words what went wrong.

mod drops;
mod failure;
mod field;
mod handshake;
mod inbox;
pub mod report;
mod resolver;
mod runner;
mod scope;
mod send;
mod stages;
mod table;
mod wanted;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use resolver::Resolver;

use crate::open::Opened;
use definitions::model::PacketTest;
use engine::network::Network;
use hosts::HostSpec;
use runner::Runner;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What tests run against.
#[derive(Clone)]
pub struct TestBed<'a> {
    /// The network; its seed is the lab's.
    pub network: Arc<Network>,
    /// The emulated hosts.
    pub hosts: Vec<HostSpec>,
    /// What the names in the tests stand for.
    pub resolver: &'a dyn Resolver,
    /// What it was made from; without, nothing can be applied to it.
    pub opened: Option<&'a Opened>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Everything expected came, and nothing else.
    Passed,
    /// Something expected did not come, or something else did.
    Failed,
    /// The test cannot be run against this lab: a step names what is not there.
    BadInput,
}

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestOutcome {
    /// The test's name.
    pub name: String,
    /// The file it is in, as the user gave it.
    pub file: String,
    /// Line at which the test begins, from 1.
    pub line: u32,
    /// How it ended.
    pub status: Status,
    /// Several lines for people; `None` if it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Steps done, the failing one included.
    pub steps: usize,
    /// Virtual time from the beginning to the end of the test.
    #[serde(rename = "virtualSeconds", serialize_with = "report::seconds")]
    pub virtual_time: Duration,
}

impl TestOutcome {
    /// Whether it passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.status == Status::Passed
    }
}

/// Runs all tests on up to `jobs` threads (at least one); the outcomes are sorted by name.
#[must_use]
pub fn run_all<'t>(
    tests: impl IntoIterator<Item = &'t PacketTest>,
    bed: &TestBed<'_>,
    jobs: usize,
) -> Vec<TestOutcome> {
    let tests: Vec<&PacketTest> = tests.into_iter().collect();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<TestOutcome>> = Mutex::new(Vec::with_capacity(tests.len()));
    let work = || {
        // One lab a thread, set back for every test: building one costs more than most tests.
        let mut runner = Runner::new(bed);
        while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = runner.run(test);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(tests.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|a, b| (&a.name, &a.file, a.line).cmp(&(&b.name, &b.file, b.line)));
    outcomes
}
