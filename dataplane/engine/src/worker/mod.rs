//! A worker: batches of frames in, frames out.
//!
//! Three levels. A cached action whose guards hold is repeated in place. Everything else is walked,
//! committed and, where later packets of the flow would come out the same, cached. Timers run in
//! [`Worker::advance`], which [`Worker::process`] calls first, so that nothing that has expired by
//! `now` is ever used.

mod adopt;
mod caching;
mod commit;
mod fragments;
mod originate;
mod timers;
mod trace;

pub use trace::{Trace, TraceEnd};

use adopt::Known;
use fragments::own_headers;

use crate::cache::{FlowCache, Key4, Key6, wire_packets};
use crate::drops::{Drop, DropReason, Stage};
use crate::fragments::Fragments;
use crate::network::{Network, PortId};
use crate::plan::{Outcome, Verdict};
use crate::session::{CommitError, FlowClass, RuleKey, Session, Sessions, TimerSettings, Traffic};
use crate::tables::{Accounting, DropKey, Held, Hit, NeighborEntry, PortTraffic, Tables};
use crate::trace::{Nobody, Recorder, Step};
use crate::walk::{View, Walk};
use packet::{
    ChecksumState, EmbeddedRewrite, Frame, Headers, Rewrite, Time, fragment_ipv4, parse,
    verify_transport,
};
use std::collections::BTreeMap;

/// A frame and the port it came in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Ingress port.
    pub port: PortId,
    /// The frame.
    pub frame: Frame,
}

/// How a worker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Seed of the lab.
    pub seed: u64,
    /// Whether results are cached. Without, every packet is walked: the reference that the cache is
    /// tested against.
    pub cache: bool,
    /// Most cached actions of each family.
    pub cache_entries: usize,
}

impl Default for WorkerConfig {
    fn default() -> WorkerConfig {
        WorkerConfig { seed: 0, cache: true, cache_entries: 4_194_304 }
    }
}

/// Attempts at a packet whose commit met a conflict.
const ATTEMPTS: u8 = 4;
/// One worker and all state of its lab.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    sessions: Sessions,
    tables: Tables,
    /// Raised whenever something that walks look up in the learned tables has changed.
    generation: u64,
    cache4: FlowCache<Key4>,
    cache6: FlowCache<Key6>,
    fragments: Fragments,
    /// Workloads of the snapshot last seen.
    known: Known,
    /// Timers of the snapshot last seen.
    timers: TimerSettings,
    /// Packets whose next hop has answered, to be walked again.
    released: Vec<Held>,
    /// Walks that were watched, while somebody wants them.
    recorded: Option<Vec<Recorded>>,
}

/// A walk that was watched and committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub time: Time,
    /// Ingress port.
    pub port: PortId,
    /// The frame as it came in.
    pub frame: Frame,
    /// Every decision, in order.
    pub steps: Vec<Step>,
}

impl Worker {
    /// A worker that knows nothing yet.
    #[must_use]
    pub fn new(config: WorkerConfig) -> Worker {
        Worker {
            config,
            sessions: Sessions::new(config.seed),
            tables: Tables::default(),
            generation: 0,
            cache4: FlowCache::new(config.seed, config.cache_entries),
            cache6: FlowCache::new(config.seed, config.cache_entries),
            fragments: Fragments::default(),
            known: Known::default(),
            timers: TimerSettings::default(),
            released: Vec::new(),
            recorded: None,
        }
    }

    /// Takes a batch; what leaves is appended to `tx` in order. `now` must not go back.
    pub fn process(
        &mut self,
        net: &Network,
        batch: &mut Vec<Received>,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        self.advance(net, now, tx);
        for Received { port, frame } in batch.drain(..) {
            self.receive(net, port, frame, now, tx);
        }
    }

    fn receive(
        &mut self,
        net: &Network,
        port: PortId,
        mut frame: Frame,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let headers = match parse(&frame.bytes) {
            Ok(headers) => headers,
            Err(error) => {
                self.count_received(port, 1, frame.bytes.len() as u64);
                let object = net.port(port).map_or_else(|| "port".to_owned(), |p| p.name.clone());
                let drop = Drop {
                    stage: Stage::Port,
                    reason: DropReason::Malformed,
                    object,
                    rule: None,
                    parse: Some(error),
                };
                self.tables.count_drop(&drop, frame.bytes.len() as u64, now);
                return;
            }
        };
        if self.config.cache
            && let Some(out) = self.hit(net, port, &mut frame, &headers, now)
        {
            tx.push((out, frame));
            return;
        }
        self.count_received(port, wire_packets(&frame, &headers), frame.bytes.len() as u64);
        self.slow(net, port, frame, headers, now, tx);
    }

    /// What no cached action covers: fragments find their datagram, everything else is walked.
    fn slow(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        headers: Headers,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        if let Some(walked) = self.admit(net, port, &frame, headers, now) {
            self.walk(net, port, frame, walked, now, tx);
        }
    }

    /// Walks a packet, commits the plan, and sends what came of it. `walked` are its headers, for a
    /// later fragment with the transport header of its first one.
    fn walk(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        walked: Headers,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let bytes = frame.bytes.len() as u64;
        if is_forged_error(&frame, &walked) {
            self.drop_at(net, port, DropReason::IcmpChecksum, Stage::Port, bytes, now);
            return;
        }
        self.report_for(port, &walked);
        for _ in 0..ATTEMPTS {
            let view = self.view(net, now);
            let mut recorder = Recorder::default();
            let outcome = if self.recorded.is_some() {
                Walk::new(view, port, &frame, walked, &mut recorder).run()
            } else {
                Walk::new(view, port, &frame, walked, &mut Nobody).run()
            };
            if self.is_behind(&walked, &outcome) {
                continue;
            }
            match self.commit(net, port, &frame, &walked, &outcome, now) {
                Ok(session) => {
                    if let Some(recorded) = &mut self.recorded {
                        let steps = recorder.steps;
                        recorded.push(Recorded { time: now, port, frame: frame.clone(), steps });
                    }
                    self.finish(net, port, frame, walked, outcome, session, now, tx);
                    return;
                }
                Err(CommitError::Conflict) => {}
                Err(full) => {
                    let reason = match full {
                        CommitError::ShareUsed => DropReason::SessionShare,
                        CommitError::TooManyRecords => DropReason::SessionRecords,
                        _ => DropReason::SessionTableFull,
                    };
                    self.drop_at(net, port, reason, Stage::Session, bytes, now);
                    return;
                }
            }
        }
        self.drop_at(net, port, DropReason::SessionConflict, Stage::Session, bytes, now);
    }

    /// What a walk reads now. What its packet teaches may change it: an action is as old as its walk.
    fn view<'a>(&'a self, net: &'a Network, now: Time) -> View<'a> {
        let Worker { sessions, tables, generation, .. } = self;
        View { net, sessions, tables, generation: *generation, now }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the end of one packet's way: all of it is needed"
    )]
    fn finish(
        &mut self,
        net: &Network,
        port: PortId,
        mut frame: Frame,
        walked: Headers,
        mut outcome: Outcome,
        session: Option<commit::Committed>,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let bytes = frame.bytes.len() as u64;
        let headers = own_headers(&walked);
        let held = matches!(outcome.verdict, Verdict::Hold(_));
        let passed = matches!(outcome.verdict, Verdict::Deliver(_) | Verdict::Flood { .. });
        if !held
            && let Some(answer) = outcome.answer.take()
            && (!outcome.answer_is_error || self.tables.may_answer(port, now))
        {
            self.originate(net, port, answer, now, tx);
        }
        if !held {
            for (at, traffic) in &outcome.plan.metered {
                self.tables.meter(*at, *traffic, now);
            }
        }
        if passed || matches!(outcome.verdict, Verdict::Consume(_)) {
            let traffic = Traffic { packets: wire_packets(&frame, &headers), bytes };
            for rule in &outcome.plan.ethernet {
                self.tables.count_passed(*rule, traffic, now);
            }
        }
        match &outcome.verdict {
            Verdict::Deliver(out) => {
                let out = *out;
                let rewrite = Rewrite::between(&walked, &outcome.headers);
                if outcome.cacheable && self.config.cache {
                    self.store(net, port, &headers, &outcome, rewrite, session, out, now);
                }
                rewrite.apply(&mut frame, &headers);
                if let Some(quote) = EmbeddedRewrite::between(&walked, &outcome.headers) {
                    quote.apply(&mut frame, &headers);
                }
                match outcome.fragment_to {
                    None => self.send(out, frame, tx),
                    Some(mtu) => self.send_fragments(net, out, &frame, mtu, now, tx),
                }
            }
            Verdict::Flood { ports, refused } => {
                let copies = (ports.len() + refused.len()) as u64;
                self.tables.accounting.copies += copies.saturating_sub(1);
                for drop in refused {
                    self.tables.count_drop(drop, bytes, now);
                }
                Rewrite::between(&walked, &outcome.headers).apply(&mut frame, &headers);
                if let Some(quote) = EmbeddedRewrite::between(&walked, &outcome.headers) {
                    quote.apply(&mut frame, &headers);
                }
                for out in ports {
                    match outcome.fragment_to {
                        None => self.send(*out, frame.clone(), tx),
                        Some(mtu) => self.send_fragments(net, *out, &frame, mtu, now, tx),
                    }
                }
            }
            Verdict::Drop(drop) => self.tables.count_drop(drop, bytes, now),
            Verdict::Consume(_) => self.tables.accounting.consumed += 1,
            Verdict::Hold(key) => {
                let key = *key;
                self.hold(net, key, port, frame, walked, outcome, now, tx);
            }
        }
        if !held {
            self.settle_fragments(net, port, &walked, passed, now, tx);
        }
        self.release_resolved(net, now, tx);
    }

    fn send(&mut self, out: PortId, frame: Frame, tx: &mut Vec<(PortId, Frame)>) {
        self.tables.accounting.delivered += 1;
        let packets = parse(&frame.bytes).map_or(1, |h| wire_packets(&frame, &h));
        self.tables.ports.entry(out).or_default().tx.add(packets, frame.bytes.len() as u64);
        tx.push((out, frame));
    }

    fn send_fragments(
        &mut self,
        net: &Network,
        out: PortId,
        frame: &Frame,
        mtu: u32,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let pieces = parse(&frame.bytes).ok().and_then(|h| fragment_ipv4(frame, &h, mtu));
        let Some(pieces) = pieces else {
            let bytes = frame.bytes.len() as u64;
            self.drop_at(net, out, DropReason::FragmentationNeeded, Stage::Port, bytes, now);
            return;
        };
        self.tables.accounting.copies += (pieces.len() as u64).saturating_sub(1);
        for piece in pieces {
            self.send(out, piece, tx);
        }
    }

    fn drop_at(
        &mut self,
        net: &Network,
        port: PortId,
        reason: DropReason,
        stage: Stage,
        bytes: u64,
        now: Time,
    ) {
        let object = net.port(port).map_or_else(|| "port".to_owned(), |p| p.name.clone());
        let drop = Drop { stage, reason, object, rule: None, parse: None };
        self.tables.count_drop(&drop, bytes, now);
    }

    fn count_received(&mut self, port: PortId, packets: u64, bytes: u64) {
        self.tables.accounting.received += 1;
        self.tables.ports.entry(port).or_default().rx.add(packets, bytes);
    }

    /// All sessions, oldest first.
    pub fn sessions(&mut self) -> Vec<Session> {
        self.collect();
        self.sessions.list()
    }

    /// At most `limit` sessions with serial numbers above `after`, oldest first: the sessions of a large
    /// table in portions.
    pub fn sessions_after(&mut self, after: u64, limit: usize) -> Vec<Session> {
        self.collect();
        self.sessions.list_after(after, limit)
    }

    /// What is known of the neighbours of all routers, sorted.
    #[must_use]
    pub fn neighbors(&self) -> Vec<NeighborEntry> {
        self.tables.neighbors.iter().map(|(key, neighbor)| neighbor.entry(*key)).collect()
    }

    /// Where all frames have gone.
    pub fn accounting(&mut self) -> Accounting {
        self.collect();
        self.tables.accounting
    }

    /// Hits of every rule, NAT rule and virtual server.
    pub fn hits(&mut self) -> BTreeMap<RuleKey, Hit> {
        self.collect();
        self.tables.hits.clone()
    }

    /// How many flows of `class` the distributed firewall at a vNIC remembers: what flood protection
    /// limits.
    pub fn flows(&mut self, port: PortId, class: FlowClass) -> usize {
        self.collect();
        self.sessions.flows(port, class)
    }

    /// Traffic of every port.
    pub fn port_traffic(&mut self) -> BTreeMap<PortId, PortTraffic> {
        self.collect();
        self.tables.ports.clone()
    }

    /// Drops by cause.
    #[must_use]
    pub fn drops(&self) -> &BTreeMap<DropKey, Traffic> {
        &self.tables.drops
    }

    /// Starts or stops recording every walk. Repeats from the cache are no walks: a lab that is to
    /// record all packets runs without one.
    pub fn record(&mut self, on: bool) {
        self.recorded = on.then(Vec::new);
    }

    /// Walks recorded since the last call.
    pub fn take_recorded(&mut self) -> Vec<Recorded> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sessions that were ended early, to make room for new ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.tables.evicted
    }

    /// Cached actions, both families.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache4.len() + self.cache6.len()
    }
}

/// Whether the frame is an ICMP error whose checksum is wrong: it is dropped in silence (RFC 5508,
/// REQ-3), because translating it would make it right. One that the sender's kernel left to the port
/// to finish is not.
fn is_forged_error(frame: &Frame, headers: &Headers) -> bool {
    !matches!(frame.checksum, ChecksumState::Partial { .. })
        && headers.ip().is_some_and(|ip| ip.embedded().is_some())
        && !verify_transport(&frame.bytes, headers)
}
