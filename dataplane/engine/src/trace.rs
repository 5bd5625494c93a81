//! Watching a walk.
//!
//! A trace is the walk itself with a recorder (promise 3): there is no second implementation that
//! could disagree.

use crate::drops::Stage;
use packet::Headers;

/// One decision on the way of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Stage that decided.
    pub stage: Stage,
    /// Object that stands there: `pod/NS/NAME`, a segment, a router.
    pub object: String,
    /// The decision in words, with the rule or route that made it.
    pub text: String,
    /// The packet as it left the stage.
    pub packet: String,
}

impl Step {
    /// Whether the packet left the network here.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.stage == Stage::Port && self.text == LEAVES
    }
}

/// The text of a packet's last step if it left the network.
pub(crate) const LEAVES: &str = "leaves the network";

/// Somebody who watches a walk.
pub trait Observer {
    /// Whether steps are wanted at all; where they are not, nothing is formatted.
    const WATCHES: bool;
    /// Takes a step.
    fn step(&mut self, step: Step);
}

/// Watches nothing, at no cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {
    const WATCHES: bool = false;
    fn step(&mut self, _: Step) {}
}

/// Records every step.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Observer for Recorder {
    const WATCHES: bool = true;
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }
}

/// The packet in one line, as [`Step::packet`] has it.
#[must_use]
pub fn packet_line(headers: &Headers) -> String {
    packet::describe(headers)
}
