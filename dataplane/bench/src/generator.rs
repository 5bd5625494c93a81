//! Opens flows through a worker, repeats their packets, and reads them when asked to.

use crate::changes::Snapshots;
use crate::flows::{Flow, Flows, Size};
use crate::frames::{self, ANSWER, ASK, Link, TAG, TTL, Template, Way};
use crate::neighbors::Stations;
use crate::verify::{Fault, Seen, field, read};
use crate::{BATCH, BenchError};
use engine::network::{Network, PortId};
use engine::{Received, Tuple, Worker, WorkerConfig};
use packet::{Frame, Mac, Time, parse};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Flows that are opened between two looks at the clock.
const SLICE: u32 = 4_096;
/// How often a first packet is sent if nothing comes out: next hops are asked for meanwhile.
const ATTEMPTS: usize = 8;
/// Octets of room for a frame: one without tag, and more.
const SLOT: usize = 2_048;
/// Frames are copied out one behind the other, each to where a cache line begins.
const LINE: usize = 64;

/// What generators have in common.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The flows.
    pub flows: &'a Flows,
    /// Who answers when a gateway asks for a neighbour.
    pub stations: &'a Stations,
    /// How long frames are.
    pub size: Size,
    /// The network, as it changes.
    pub snapshots: &'a Snapshots,
}

/// How flows were opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// Flows a second of each stretch of the way, first packet and first answer forwarded.
    pub per_second: Vec<f64>,
    /// How long that took in all: the worker, and the answering; not the checks.
    pub took: Duration,
}

impl Opening {
    /// The median over the way; `None` if no flow was opened.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.per_second.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Flows of one worker and the frames that keep them going.
#[derive(Debug)]
pub struct Generator<'a> {
    setup: &'a Setup<'a>,
    net: Arc<Network>,
    worker: Worker,
    /// Numbers of its flows.
    flows: Range<u32>,
    /// Frames of both directions of every flow; shuffled once all flows are open, so that packets come in the
    /// order of strangers'.
    templates: Vec<Template>,
    /// Where the next batch begins.
    next: usize,
    now: Time,
    pool: Vec<Frame>,
    batch: Vec<Received>,
    tx: Vec<(PortId, Frame)>,
    /// Where frames are copied out to.
    out: Vec<u8>,
}

/// Generators for `count` flows, each with a worker of one team and an equal share of the flows.
///
/// # Errors
/// [`BenchError::TooManyFlows`].
pub fn generators<'a>(
    setup: &'a Setup<'a>,
    count: u32,
    workers: usize,
) -> Result<Vec<Generator<'a>>, BenchError> {
    setup.flows.admit(u64::from(count))?;
    let net = setup.snapshots.newest();
    // Both directions of every flow fit.
    let cache_entries =
        (count as usize).saturating_mul(2).max(WorkerConfig::default().cache_entries);
    let config = WorkerConfig { seed: net.seed, cache_entries, ..WorkerConfig::default() };
    let shares = u64::try_from(workers).unwrap_or(1).max(1);
    let bound = |i: u64| u32::try_from(u64::from(count) * i / shares).unwrap_or(count);
    let of = |(worker, i): (Worker, u64)| Generator::new(setup, worker, bound(i)..bound(i + 1));
    Ok(Worker::team(config, workers).into_iter().zip(0..).map(of).collect())
}

impl<'a> Generator<'a> {
    fn new(setup: &'a Setup<'a>, worker: Worker, flows: Range<u32>) -> Generator<'a> {
        Generator {
            setup,
            net: setup.snapshots.newest(),
            worker,
            templates: vec![Template::BLANK; flows.len() * 2],
            flows,
            next: 0,
            now: Time::from_millis(1),
            pool: (0..BATCH).map(|_| Frame::new(Vec::with_capacity(SLOT))).collect(),
            batch: Vec::with_capacity(BATCH),
            tx: Vec::with_capacity(BATCH),
            out: vec![0; BATCH * SLOT],
        }
    }

    /// The worker.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// Frames a round: two of every flow.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.templates.len() as u64
    }

    /// What the worker is told that time it is.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The frames of a round, and where they go in.
    pub fn received(&self) -> impl Iterator<Item = Received> {
        self.templates.iter().map(|t| Received { port: t.port, frame: Frame::new(t.bytes()) })
    }

    /// The time that the worker is told passes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Reports and waits: other workers need not wait for this one.
    pub fn park(&mut self) {
        self.worker.park();
    }

    /// Opens all flows: the first packet of each, the answer to what came out, and twice a packet in each
    /// direction. What came out is read, and has to be what the definitions say.
    ///
    /// # Errors
    /// [`BenchError::Blocked`] and [`BenchError::Wrong`].
    pub fn open(&mut self) -> Result<Opening, BenchError> {
        let mut opening = Opening::default();
        let mut from = self.flows.start;
        while from < self.flows.end {
            let to = from.saturating_add(SLICE).min(self.flows.end);
            let took = self.open_slice(from..to)?;
            opening.per_second.push(f64::from(to - from) / took.as_secs_f64().max(1e-9));
            opening.took += took;
            from = to;
        }
        // A connection is established by its third packet, and what is established is cached.
        for _ in 0..2 {
            self.send_all()?;
        }
        shuffle(&mut self.templates);
        Ok(opening)
    }

    /// Opens some flows; returns how long the worker and the answering took.
    fn open_slice(&mut self, flows: Range<u32>) -> Result<Duration, BenchError> {
        let setup = self.setup;
        let firsts: Vec<Template> = flows
            .clone()
            .filter_map(|number| {
                let flow = setup.flows.flow(number);
                let source = setup.flows.sources.get(flow.source)?;
                Some(frames::first(source, &flow, number, setup.size.octets(number * 2)))
            })
            .collect();
        // What came out, both ways.
        let mut out = [vec![None; firsts.len()], vec![None; firsts.len()]];
        let started = Instant::now();
        self.exchange(flows.start, &firsts, &mut out);
        let took = started.elapsed();
        if let Some(i) = out[usize::from(ANSWER)].iter().position(Option::is_none) {
            let number = flows.start + u32::try_from(i).unwrap_or(0);
            return Err(BenchError::Blocked { number, flow: setup.flows.flow(number) });
        }
        for (number, i) in flows.zip(0usize..) {
            let came = |way: Way| out.get(usize::from(way))?.get(i).copied().flatten();
            if let (Some(ask), Some(answer)) = (came(ASK), came(ANSWER)) {
                self.keep(number, &ask, &answer)?;
            }
        }
        Ok(took)
    }

    /// Sends first packets, the first of them with number `from`, and answers what comes out, until an answer to each has
    /// come out or there is no hope.
    // A function of its own also in a profile: instructions of opening are counted by its name.
    #[inline(never)]
    fn exchange(&mut self, from: u32, firsts: &[Template], out: &mut [Vec<Option<Template>>; 2]) {
        let mut missing: Vec<usize> = (0..firsts.len()).collect();
        for _ in 0..ATTEMPTS {
            for chunk in missing.chunks(BATCH) {
                for template in chunk.iter().filter_map(|i| firsts.get(*i)) {
                    self.insert(template);
                }
                // Answers, and what they bring about, until nothing comes any more.
                while !self.batch.is_empty() {
                    self.process();
                    self.respond(from, out);
                }
            }
            let answers = &out[usize::from(ANSWER)];
            missing.retain(|i| answers.get(*i).is_none_or(Option::is_none));
            if missing.is_empty() {
                return;
            }
        }
    }

    /// Takes what came out: a request for a neighbour is answered, so is a first packet; everything else is noted.
    fn respond(&mut self, from: u32, out: &mut [Vec<Option<Template>>; 2]) {
        for (port, mut frame) in self.tx.drain(..) {
            let Ok(headers) = parse(&frame.bytes) else { continue };
            if let Some(frame) = self.setup.stations.answer(port, &headers) {
                self.batch.push(Received { port, frame });
            } else if self.setup.stations.is_for(port, &headers)
                && let Some((flow, way)) = frames::whose(&frame.bytes, &headers)
                && let Some(seen) = flow
                    .checked_sub(from)
                    .and_then(|i| out.get_mut(usize::from(way))?.get_mut(i as usize))
            {
                *seen = Some(Template::of(port, flow, way, &frame.bytes));
                if way == ASK && frames::turn(&mut frame, &headers).is_some() {
                    self.batch.push(Received { port, frame });
                    continue;
                }
            }
            self.pool.push(frame);
        }
    }

    /// Checks what came out of a flow's first packets against the definitions, and makes the packets that follow.
    fn keep(&mut self, number: u32, ask: &Template, answer: &Template) -> Result<(), BenchError> {
        let setup = self.setup;
        let flow = setup.flows.flow(number);
        let wrong = |way, fault| wrong(number, way, fault);
        let Some(source) = setup.flows.sources.get(flow.source) else {
            return Err(BenchError::Blocked { number, flow });
        };
        let bytes = ask.bytes();
        let seen = read(&bytes).map_err(|fault| wrong(ASK, fault))?;
        let at_responder = tuple_of(&seen);
        translated(setup.flows, &flow, at_responder).map_err(|fault| wrong(ASK, fault))?;
        let inside = self.net.port(ask.port).is_some_and(|p| p.vnic.is_some());
        let ttl = TTL.saturating_sub(setup.flows.hops(inside));
        field("TTL", seen.ttl, ttl).map_err(|fault| wrong(ASK, fault))?;
        let responder = Link { port: ask.port, from: seen.to, to: seen.from };
        let bytes = answer.bytes();
        let seen = read(&bytes).map_err(|fault| wrong(ANSWER, fault))?;
        let check = || {
            field("tuple", tuple_of(&seen), flow.tuple.reversed())?;
            self.back(answer.port, seen.to, source.port, source.mac)?;
            field("TTL", seen.ttl, ttl)
        };
        check().map_err(|fault| wrong(ANSWER, fault))?;
        let octets = |way: Way| setup.size.octets(number * 2 + u32::from(way));
        let link = Link::of(source);
        let pair = [
            frames::data(link, flow.tuple, number, ASK, octets(ASK)),
            frames::data(responder, at_responder.reversed(), number, ANSWER, octets(ANSWER)),
        ];
        let at = (number - self.flows.start) as usize * 2;
        if let Some(place) = self.templates.get_mut(at..at + 2) {
            place.copy_from_slice(&pair);
        }
        Ok(())
    }

    fn insert(&mut self, template: &Template) {
        let mut frame = self.pool.pop().unwrap_or_default();
        template.copy_to(&mut frame.bytes);
        self.batch.push(Received { port: template.port, frame });
    }

    /// Has the worker take the batch, with the newest snapshot.
    #[inline]
    fn process(&mut self) {
        while !self.worker.process(&self.net, &mut self.batch, self.now, &mut self.tx) {
            self.net = self.setup.snapshots.newest();
            std::hint::spin_loop();
        }
    }

    /// Sends the next `count` frames, at most [`BATCH`] and not past the end of a round; returns how many.
    ///
    /// # Errors
    /// [`BenchError::Lost`] unless as many came out.
    #[inline]
    pub fn step(&mut self, count: usize) -> Result<usize, BenchError> {
        let end = (self.next + count.min(BATCH)).min(self.templates.len());
        let chunk = self.templates.get(self.next..end).unwrap_or(&[]);
        let sent = chunk.len();
        for template in chunk {
            let mut frame = self.pool.pop().unwrap_or_default();
            template.copy_to(&mut frame.bytes);
            self.batch.push(Received { port: template.port, frame });
        }
        self.next = if end == self.templates.len() { 0 } else { end };
        if self.setup.snapshots.epoch() != self.net.epoch {
            self.net = self.setup.snapshots.newest();
        }
        self.process();
        if self.tx.len() != sent {
            return Err(BenchError::Lost { sent: sent as u64, came: self.tx.len() as u64 });
        }
        let mut rest = self.out.as_mut_slice();
        for (_, frame) in self.tx.drain(..) {
            frames::copy_out(&frame.bytes, rest);
            rest = rest.get_mut(frame.bytes.len().next_multiple_of(LINE)..).unwrap_or_default();
            self.pool.push(frame);
        }
        Ok(sent)
    }

    /// Sends one packet a direction and flow; returns how many came out.
    ///
    /// # Errors
    /// [`BenchError::Lost`] unless all of them did.
    // A function of its own also in a profile: instructions of a round are counted by its name.
    #[inline(never)]
    pub fn round(&mut self) -> Result<u64, BenchError> {
        self.send_all()
    }

    fn send_all(&mut self) -> Result<u64, BenchError> {
        self.next = 0;
        let mut frames = 0;
        while frames < self.templates.len() {
            frames += self.step(BATCH)?;
        }
        Ok(frames as u64)
    }

    /// As [`Generator::round`], and reads every frame: the port it left by, MACs, addresses, ports, TTL,
    /// payload and checksums have to be those that the flow's other end expects.
    ///
    /// # Errors
    /// [`BenchError::Lost`] and [`BenchError::Wrong`].
    pub fn verify(&mut self) -> Result<u64, BenchError> {
        let mut places = vec![0u32; self.templates.len()];
        let start = self.flows.start;
        let place = move |t: &Template| (t.flow - start) as usize * 2 + usize::from(t.way);
        for (template, at) in self.templates.iter().zip(0u32..) {
            if let Some(entry) = places.get_mut(place(template)) {
                *entry = at;
            }
        }
        for from in (0..self.templates.len()).step_by(BATCH) {
            let to = (from + BATCH).min(self.templates.len());
            for i in from..to {
                if let Some(template) = self.templates.get(i).copied() {
                    self.insert(&template);
                }
            }
            self.process();
            let (sent, came) = ((to - from) as u64, self.tx.len() as u64);
            if sent != came {
                return Err(BenchError::Lost { sent, came });
            }
            let mut tx = std::mem::take(&mut self.tx);
            for ((port, frame), template) in tx.drain(..).zip(self.templates.iter().skip(from)) {
                // The other end's own frame says who it is and whom it talks to.
                let other = places.get(place(template) ^ 1).copied().unwrap_or(0);
                let other = self.templates.get(other as usize).unwrap_or(template);
                self.right(template, other, port, &frame)
                    .map_err(|fault| wrong(template.flow, template.way, fault))?;
                self.pool.push(frame);
            }
            self.tx = tx;
        }
        self.next = 0;
        Ok(self.templates.len() as u64)
    }

    /// Whether a reply went back to its initiator. To one outside any way is right that a Tier-0 has: it
    /// chooses by the reply.
    fn back(&self, port: PortId, to: Mac, initiator: PortId, mac: Mac) -> Result<(), Fault> {
        if self.setup.flows.inside || self.setup.flows.switched {
            field("port", port, initiator)?;
            return field("destination MAC", to, mac);
        }
        let outside = self.net.port(port).is_some_and(|p| p.vnic.is_none());
        field("reply leaves to the outside", outside, true)?;
        field("destination MAC", Some(to), self.setup.stations.at(port).map(|s| s.mac))
    }

    /// What is wrong with a frame that came out.
    fn right(
        &self,
        sent: &Template,
        other: &Template,
        port: PortId,
        frame: &Frame,
    ) -> Result<(), Fault> {
        field("length", frame.bytes.len(), sent.octets())?;
        let (other_port, other) = (other.port, other.bytes());
        let (seen, other) = (read(&frame.bytes)?, read(&other)?);
        if sent.way == ANSWER {
            self.back(port, seen.to, other_port, other.from)?;
        } else {
            field("port", port, other_port)?;
            field("destination MAC", seen.to, other.from)?;
            field("source MAC", seen.from, other.to)?;
        }
        field("tuple", tuple_of(&seen), tuple_of(&other).reversed())?;
        let inside = |port| self.net.port(port).is_some_and(|p| p.vnic.is_some());
        let responder = if sent.way == ASK { inside(port) } else { inside(sent.port) };
        field("TTL", seen.ttl, TTL.saturating_sub(self.setup.flows.hops(responder)))?;
        let tag = frames::tag(sent.flow, sent.way);
        field("tag", seen.payload.get(..TAG), Some(tag.as_slice()))?;
        let zeros = seen.payload.iter().skip(TAG).all(|octet| *octet == 0);
        field("payload is as it was sent", zeros, true)
    }
}

fn wrong(number: u32, way: Way, fault: Fault) -> BenchError {
    let direction = if way == ASK { "first packets" } else { "replies" };
    BenchError::Wrong { number, direction, fault }
}

fn tuple_of(seen: &Seen<'_>) -> Tuple {
    let Seen { src, dst, protocol, src_port, dst_port, .. } = *seen;
    Tuple { src, dst, protocol, src_port, dst_port }
}

/// Whether the responder may see a flow as it does, by the definitions.
fn translated(flows: &Flows, flow: &Flow, seen: Tuple) -> Result<(), Fault> {
    let sent = flow.tuple;
    match &flows.translated_sources {
        None => field("source", (seen.src, seen.src_port), (sent.src, sent.src_port))?,
        Some(ranges) => {
            let known = ranges.iter().any(|r| (r.first()..=r.last()).contains(&seen.src));
            if !known {
                let right: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                let found = seen.src.to_string();
                return Err(Fault::Field { field: "source", found, right: right.join(" or ") });
            }
        }
    }
    match &flows.translated_destinations {
        None => field("destination", (seen.dst, seen.dst_port), (sent.dst, sent.dst_port)),
        Some(members) if members.contains(&(seen.dst, seen.dst_port)) => Ok(()),
        Some(members) => Err(Fault::Field {
            field: "destination",
            found: format!("{}:{}", seen.dst, seen.dst_port),
            right: format!("one of {members:?}"),
        }),
    }
}

/// Fisher and Yates with a fixed multiplicative generator: the same order in every run.
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for i in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let j = usize::try_from((state >> 33) % (i as u64 + 1)).unwrap_or(0);
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests;
