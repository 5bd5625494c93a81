//! Takes the steps of a test one by one.

use super::failure::{self, Failure, Sent, port_name};
use super::field::Field;
use super::inbox::Inbox;
use super::scope::Scope;
use super::stages::Stages;
use super::wanted::{Arrival, Resolution, Wanted};
use super::{Status, TestBed, TestOutcome, drops, table};
use crate::change::publish;
use definitions::model::{PacketTest, Source};
use definitions::own::{Expect, ExpectDrop, ExpectNothing, Step};
use engine::network::{Network, PortId};
use hosts::Lab;
use packet::{Addr, Frame, Mac, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Why a test ends before its last step has held.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// A step did not hold.
    Failed(Failure),
    /// A step cannot be done in this lab.
    BadInput(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::BadInput(message)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// A lab in which tests run one after the other, each from the beginning of time.
pub(super) struct Runner<'a> {
    bed: &'a TestBed<'a>,
    lab: Lab,
}

impl<'a> Runner<'a> {
    pub(super) fn new(bed: &'a TestBed<'a>) -> Runner<'a> {
        Runner { bed, lab: fresh(bed) }
    }

    /// Runs a test from the beginning of time.
    pub(super) fn run(&mut self, test: &PacketTest) -> TestOutcome {
        self.lab.reset();
        let (stages, fault) = match Stages::of(self.bed.opened, test) {
            Ok(stages) => (stages, None),
            Err((step, message)) => (Stages::default(), Some((step, message))),
        };
        let scope = Scope::new(self.bed.resolver);
        let counts = resolution_counts(test, &scope, &stages);
        let inbox = Inbox::new(transit(&self.lab), counts);
        let mut running = Running {
            cut_off: self.lab.cut_off(),
            network: Arc::clone(&self.bed.network),
            lab: &mut self.lab,
            scope,
            stages: &stages,
            inbox,
            ledger: drops::Ledger::default(),
            sent: None,
            neighbors: BTreeMap::new(),
            step: 0,
        };
        let result = match fault {
            None => running.steps(test),
            // Before anything has run.
            Some((step, message)) => {
                running.step = step;
                Err(Stop::BadInput(message))
            }
        };
        let (status, message) = match result {
            Ok(()) => (Status::Passed, None),
            Err(stop) => running.message(test, stop),
        };
        let steps = running.step;
        let virtual_time = self.lab.now().since(Time::ZERO);
        if !stages.is_empty() {
            // What the test has changed is none of the next one's business.
            self.lab = fresh(self.bed);
        }
        TestOutcome {
            name: test.meta.name.clone(),
            file: test.meta.source.file.to_string(),
            line: test.meta.source.line,
            status,
            message,
            steps,
            virtual_time,
        }
    }
}

/// A lab in which nothing has been sent. Endpoints are passive; hosts that pass packets on live.
fn fresh(bed: &TestBed<'_>) -> Lab {
    let mut lab = Lab::new(Arc::clone(&bed.network), bed.hosts.clone());
    quieten(&mut lab);
    lab.watch(true);
    lab
}

/// Makes endpoints passive.
fn quieten(lab: &mut Lab) {
    let endpoints = lab.specs().iter().enumerate().filter(|(_, host)| !host.config.forwarding);
    for index in endpoints.map(|(index, _)| index).collect::<Vec<_>>() {
        lab.set_passive(index);
    }
}

/// Ports of hosts that pass packets on.
fn transit(lab: &Lab) -> BTreeSet<PortId> {
    let forwarding = lab.specs().iter().filter(|host| host.config.forwarding);
    forwarding.flat_map(|host| &host.ports).copied().collect()
}

/// Ports at which the test expects frames that resolve addresses.
fn resolution_counts(test: &PacketTest, scope: &Scope<'_>, stages: &Stages) -> BTreeSet<PortId> {
    let at = |(index, step): (usize, &Step)| match step {
        // A port that does not exist is reported by its step.
        Step::Expect(expect) if Resolution::asked(expect) != Resolution::No => {
            match stages.before(index) {
                Some(stage) => stage.port(&expect.at).ok(),
                None => scope.port(&expect.at).ok(),
            }
        }
        _ => None,
    };
    test.spec.steps.iter().enumerate().filter_map(at).collect()
}

/// A test on its way.
pub(super) struct Running<'r> {
    pub(super) lab: &'r mut Lab,
    /// The snapshot that the lab runs.
    pub(super) network: Arc<Network>,
    /// The lab as each change of the test leaves it.
    stages: &'r Stages,
    pub(super) scope: Scope<'r>,
    pub(super) inbox: Inbox,
    pub(super) ledger: drops::Ledger,
    /// The last frame that the test sent.
    pub(super) sent: Option<Sent>,
    /// Next hops that senders have resolved, and when.
    pub(super) neighbors: BTreeMap<(PortId, Addr), (Mac, Time)>,
    /// Frames that the lab had cut off before.
    cut_off: u64,
    /// Number of the step, from 1.
    step: usize,
}

impl Running<'_> {
    fn steps(&mut self, test: &PacketTest) -> Result<(), Stop> {
        for step in &test.spec.steps {
            self.step += 1;
            match step {
                Step::Send(send) => {
                    self.begin()?;
                    let (port, frame) = self.frame(send)?;
                    self.transmit(port, frame)?;
                }
                Step::Expect(expect) => self.expect(expect)?,
                Step::ExpectDrop(expect) => self.expect_drop(expect)?,
                Step::ExpectNothing(expect) => self.expect_nothing(expect)?,
                Step::Handshake(handshake) => self.handshake(handshake)?,
                Step::Advance(span) => {
                    self.begin()?;
                    self.advance(**span)?;
                }
                Step::Apply(_) | Step::Delete(_) => self.change()?,
                Step::ExpectTable(expected) => {
                    table::check(expected, self.lab, &self.network, &self.scope)?;
                }
            }
        }
        self.nothing_unexpected()
    }

    /// The lab is changed, and what comes of that at once is looked at.
    fn change(&mut self) -> Result<(), Stop> {
        self.begin()?;
        let missing =
            || "this lab cannot be changed: nothing says what it was made from".to_owned();
        let stage = self.stages.at(self.step - 1).ok_or_else(missing)?;
        publish(self.lab, stage);
        quieten(self.lab);
        self.network = Arc::clone(self.lab.network());
        self.scope.changed(&stage.names);
        self.inbox.changed(transit(self.lab));
        // Who an address belongs to may have changed: senders ask again.
        self.neighbors.clear();
        self.settle()?;
        // Drops by a rule that has gone are counted under another key now; they are not new.
        self.ledger.settle(self.lab.worker());
        Ok(())
    }

    /// A step begins that needs everything before it to be accounted for.
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        self.nothing_unexpected()?;
        self.inbox.begin();
        Ok(())
    }

    fn nothing_unexpected(&self) -> Result<(), Stop> {
        let mut failure = match self.unclaimed(self.inbox.unexpected()) {
            None => return Ok(()),
            Some(failure) => failure,
        };
        if self.inbox.unexpected().any(|arrival| self.is_for_another_station(arrival)) {
            failure = failure.detail(
                "a frame with another station's address was flooded: \
                 the segment does not know the station",
            );
        }
        Err(failure.into())
    }

    /// The failure that frames are which no step expects; `None` if there is none.
    fn unclaimed<'f>(&self, mut frames: impl Iterator<Item = &'f Arrival>) -> Option<Failure> {
        let first = frames.next()?;
        let port = port_name(&self.network, first.port);
        let headline = format!("unexpected frame at {port}: {}", first.describe());
        Some(Failure::new(headline).frames("also unexpected", frames, &self.network))
    }

    /// Whether a unicast frame came to a host that does not have its destination address.
    fn is_for_another_station(&self, arrival: &Arrival) -> bool {
        let Ok(headers) = &arrival.headers else { return false };
        let own = self.interface(arrival.port).map(|interface| interface.mac);
        !headers.dst_mac.is_group() && own.is_some_and(|own| own != headers.dst_mac)
    }

    /// The interface of the host at a port.
    pub(super) fn interface(&self, port: PortId) -> Option<&hosts::InterfaceConfig> {
        let (host, interface) = self.lab.host_at(port)?;
        self.lab.specs().get(host)?.config.interfaces.get(interface)
    }

    /// Sends a frame and lets the moment settle. Its walk is recorded before, on the same state.
    pub(super) fn transmit(&mut self, port: PortId, frame: Frame) -> Result<(), Stop> {
        let trace = self.lab.trace(port, &frame);
        self.ledger.settle(self.lab.worker());
        let time = self.lab.now();
        self.sent = Some(Sent { step: self.step, time, port, frame: frame.clone(), trace });
        self.lab.inject(port, frame);
        self.settle()
    }

    pub(super) fn settle(&mut self) -> Result<(), Stop> {
        self.lab.settle();
        self.inbox.take(self.lab);
        self.no_storm()
    }

    /// A network that multiplies frames without end is never what a test wants.
    pub(super) fn no_storm(&self) -> Result<(), Stop> {
        if self.lab.cut_off() == self.cut_off {
            return Ok(());
        }
        let headline = format!(
            "a storm: one moment took more than {} frames; look for a loop",
            hosts::MAX_FRAMES_PER_MOMENT
        );
        Err(Failure::new(headline).into())
    }

    fn advance(&mut self, duration: Duration) -> Result<(), Stop> {
        self.lab.advance(duration);
        self.inbox.take(self.lab);
        self.no_storm()
    }

    fn expect(&mut self, expect: &Expect) -> Result<(), Stop> {
        let port = self.scope.port(&expect.at)?;
        let wanted = Wanted::of(expect, &self.scope)?;
        let asked = Resolution::asked(expect);
        let mut found = self.inbox.claim(port, asked, &wanted);
        if let (None, Some(within)) = (&found, &expect.within) {
            let until = self.lab.now() + **within;
            let inbox = &mut self.inbox;
            self.lab.run_while(until, |lab| {
                inbox.take(lab);
                found = inbox.claim(port, asked, &wanted);
                found.is_none()
            });
            self.no_storm()?;
        }
        let Some(arrival) = found else {
            return Err(self.missing(port, asked, &wanted).into());
        };
        for (name, field) in &expect.save {
            let field = Field::saved(*field);
            let value = arrival
                .headers
                .as_ref()
                .ok()
                .and_then(|headers| field.read(&arrival.frame.bytes, headers))
                .ok_or_else(|| {
                    format!("save: the frame has no {}: {}", field.name(), arrival.describe())
                })?;
            self.scope.save(name, value);
        }
        Ok(())
    }

    /// The frame that did not come: what came instead, and where the nearest differs.
    pub(super) fn missing(&self, port: PortId, asked: Resolution, wanted: &Wanted) -> Failure {
        let name = port_name(&self.network, port);
        let mut failure = Failure::new(format!("no frame at {name} is as expected"))
            .detail(format!("expected at {name}: {wanted}"));
        let nearest = self
            .inbox
            .at(port, asked)
            .map(|arrival| (wanted.differences(arrival), arrival))
            .min_by_key(|(differences, _)| differences.len());
        let Some((differences, nearest)) = nearest else {
            return failure.detail(format!("seen at {name}: nothing")).frames(
                "seen",
                self.inbox.unexpected(),
                &self.network,
            );
        };
        failure = failure.frames("seen", std::iter::once(nearest), &self.network);
        for difference in differences {
            failure = failure.detail(format!("  {difference}"));
        }
        let others = self.inbox.unexpected().filter(|other| !std::ptr::eq(*other, nearest));
        failure.frames("also seen", others, &self.network)
    }

    fn expect_drop(&mut self, expect: &ExpectDrop) -> Result<(), Stop> {
        drops::check(expect)?;
        let counted = self.ledger.counted(self.lab.worker());
        let found = counted.into_iter().find(|(key, _)| drops::admits(expect, key, &self.network));
        match found {
            Some((key, packets)) => {
                self.ledger.claim(key, packets);
                Ok(())
            }
            None => {
                let mut failure = Failure::new("no drop was counted that is as expected")
                    .detail(format!("expected: {}", drops::wanted(expect)));
                failure = failure.frames("arrived instead", self.inbox.unexpected(), &self.network);
                Err(failure.into())
            }
        }
    }

    fn expect_nothing(&self, expect: &ExpectNothing) -> Result<(), Stop> {
        let Some(at) = &expect.at else { return self.nothing_unexpected() };
        let port = self.scope.port(at)?;
        // Named by the test, a host that passes packets on counts as well.
        let resolution =
            self.inbox.unexpected().filter(|a| a.port == port && !a.is_for(Resolution::No));
        let frames = self.inbox.at(port, Resolution::No).chain(resolution);
        self.unclaimed(frames).map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Status and message of a test that has ended early.
    fn message(&mut self, test: &PacketTest, stop: Stop) -> (Status, Option<String>) {
        let kind = match test.spec.steps.get(self.step.saturating_sub(1)) {
            Some(Step::Send(_)) => "send",
            Some(Step::Expect(_)) => "expect",
            Some(Step::ExpectDrop(_)) => "expectDrop",
            Some(Step::ExpectNothing(_)) => "expectNothing",
            Some(Step::Handshake(_)) => "handshake",
            Some(Step::Advance(_)) => "advance",
            Some(Step::Apply(_)) => "apply",
            Some(Step::Delete(_)) => "delete",
            Some(Step::ExpectTable(_)) => "expectTable",
            None => "no step",
        };
        // A test that was not loaded from a file knows its own place only.
        let index = self.step.saturating_sub(1);
        let line = test.spec.lines.get(index).copied().unwrap_or(test.meta.source.line);
        let source = Source { line, ..test.meta.source.clone() };
        let place = format!("{source}: PacketTest {}, step {} ({kind})", test.meta.name, self.step);
        match stop {
            Stop::BadInput(message) => (Status::BadInput, Some(format!("{place}: {message}"))),
            Stop::Failed(failure) => {
                let dropped = self.ledger.counted(self.lab.worker());
                let context = failure::context(self.sent.as_ref(), &dropped, &self.network);
                let changes = self.stages.told(self.step);
                let lines = failure
                    .details
                    .iter()
                    .chain(&context)
                    .chain(&changes)
                    .map(|line| format!("  {line}"));
                let first = format!("{place}: {}", failure.headline);
                let text: Vec<String> = std::iter::once(first).chain(lines).collect();
                (Status::Failed, Some(text.join("\n")))
            }
        }
    }
}
