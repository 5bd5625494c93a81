//! A packet's passage: repeated from the cache, or walked, committed and sent.
//!
//! [`Worker::begin`] and [`Worker::finish`] are its two halves. A walk changes nothing, so between the
//! two anything may happen at other workers; what the plan took for granted is checked when it is
//! committed, and if it no longer holds the packet is walked again.

use super::boundary::PutOff;
use super::commit::Committed;
use super::fragments::own_headers;
use super::{Recorded, Worker, is_forged_error};
use crate::cache::wire_packets;
use crate::drops::{Drop, DropReason, Stage};
use crate::network::{Network, PortId};
use crate::plan::{Outcome, Verdict};
use crate::session::{CommitError, Traffic};
use crate::trace::{Nobody, Recorder, Step};
use crate::walk::Walk;
use packet::{EmbeddedRewrite, Frame, Headers, Rewrite, Time, fragment_ipv4, parse};
use std::sync::Arc;

/// Attempts at a packet whose commit met a conflict.
const ATTEMPTS: u8 = 4;

/// A packet that has been walked and not yet committed.
#[derive(Debug)]
pub struct Pending {
    pub(super) port: PortId,
    pub(super) frame: Frame,
    /// The headers that it was walked with.
    pub(super) walked: Headers,
    pub(super) outcome: Outcome,
    /// The walk, where it was watched.
    steps: Vec<Step>,
    /// Epoch of the snapshot that was walked.
    pub(super) epoch: u64,
    /// How often tuples had been linked when the walk began.
    pub(super) links: u64,
    /// Other workers have told what they know of its session.
    told: bool,
}

impl Worker {
    /// The first half of a packet's passage, for who drives several workers step by step: what is
    /// cached is sent, everything else is walked and has to be [finished](Worker::finish). To be called
    /// between batch boundaries, which are where [`Worker::advance`] returned true.
    pub fn begin(
        &mut self,
        net: &Network,
        port: PortId,
        mut frame: Frame,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) -> Option<Pending> {
        if self.config.cache {
            let ahead = self.look_up(port, &frame);
            if let Some(out) = self.hit(ahead, port, &mut frame, now) {
                tx.push((out, frame));
                return None;
            }
        }
        let (frame, walked) = self.take(net, port, frame, now)?;
        self.look(net, port, frame, walked, now)
    }

    /// The second half: commits the plan and sends what came of the packet. `net` may be newer than
    /// what was walked; then, as after any other change of what the plan took for granted, the packet
    /// is walked again.
    pub fn finish(
        &mut self,
        net: &Network,
        mut pending: Pending,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let (port, bytes) = (pending.port, pending.frame.bytes.len() as u64);
        let shared = Arc::clone(&self.shared);
        let mut gate = pending.outcome.plan.enters_session().then(|| shared.gate());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || pending.epoch != net.epoch {
                // Nobody enters a session while this one tries again.
                gate.get_or_insert_with(|| shared.gate());
                self.look_again(net, &mut pending, now);
            }
            if self.is_behind(&pending.walked, &pending.outcome) {
                continue;
            }
            if !pending.told
                && let Some(session) = self.depends_on(&pending)
            {
                let Some(after) = self.ask_about(&session) else {
                    // Whoever had something to tell may have done so since the walk.
                    pending.told = true;
                    continue;
                };
                drop(gate);
                self.put_off(PutOff::told(pending, after));
                return;
            }
            match self.commit(net, &pending, now) {
                Ok(session) => {
                    drop(gate);
                    if let Some(recorded) = &mut self.recorded {
                        let (frame, steps) = (pending.frame.clone(), pending.steps);
                        recorded.push(Recorded { time: now, port, frame, steps });
                    }
                    let Pending { frame, walked, outcome, .. } = pending;
                    self.conclude(net, port, frame, walked, outcome, session, now, tx);
                    return;
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::Stale) => {
                    drop(gate);
                    self.outdated = true;
                    self.put_off(PutOff::outdated(pending));
                    return;
                }
                Err(CommitError::ShareUsed) => {
                    self.drop_at(net, port, DropReason::SessionShare, Stage::Session, bytes, now);
                    return;
                }
                Err(full @ (CommitError::Full | CommitError::TooManyRecords)) => {
                    let reason = match full {
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

    /// The whole passage of a frame that the cache does not know.
    pub(super) fn receive(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        if let Some((frame, walked)) = self.take(net, port, frame, now) {
            self.walk(net, port, frame, walked, now, tx);
        }
    }

    /// Walks a packet, commits the plan, and sends what came of it. `walked` are its headers, for a
    /// later fragment with the transport header of its first one.
    pub(super) fn walk(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        walked: Headers,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        if let Some(pending) = self.look(net, port, frame, walked, now) {
            self.finish(net, pending, now, tx);
        }
    }

    /// As [`Worker::walk`], for one that waited for a batch boundary.
    pub(super) fn walk_put_off(
        &mut self,
        net: &Network,
        waited: PutOff,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let PutOff { port, frame, walked, told, .. } = waited;
        if let Some(mut pending) = self.look(net, port, frame, walked, now) {
            pending.told = told;
            self.finish(net, pending, now, tx);
        }
    }

    /// What a frame that the cache does not know is to be walked with, unless it is dropped or waits.
    fn take(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        now: Time,
    ) -> Option<(Frame, Headers)> {
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
                self.counters.count_drop(&drop, frame.bytes.len() as u64, now);
                return None;
            }
        };
        self.count_received(port, wire_packets(&frame, &headers), frame.bytes.len() as u64);
        let walked = self.admit(net, port, &frame, headers, now)?;
        Some((frame, walked))
    }

    /// Walks a packet.
    fn look(
        &mut self,
        net: &Network,
        port: PortId,
        frame: Frame,
        walked: Headers,
        now: Time,
    ) -> Option<Pending> {
        if is_forged_error(&frame, &walked) {
            let bytes = frame.bytes.len() as u64;
            self.drop_at(net, port, DropReason::IcmpChecksum, Stage::Port, bytes, now);
            return None;
        }
        self.report_for(port, &walked);
        let links = self.shared.sessions.links();
        let (outcome, steps) = self.outcome(net, port, &frame, walked, now);
        Some(Pending { port, frame, walked, outcome, steps, epoch: net.epoch, links, told: false })
    }

    fn look_again(&mut self, net: &Network, pending: &mut Pending, now: Time) {
        pending.epoch = net.epoch;
        pending.links = self.shared.sessions.links();
        (pending.outcome, pending.steps) =
            self.outcome(net, pending.port, &pending.frame, pending.walked, now);
    }

    fn outcome(
        &self,
        net: &Network,
        port: PortId,
        frame: &Frame,
        walked: Headers,
        now: Time,
    ) -> (Outcome, Vec<Step>) {
        let view = self.view(net, now);
        if self.recorded.is_none() {
            return (Walk::new(view, port, frame, walked, &mut Nobody).run(), Vec::new());
        }
        let mut recorder = Recorder::default();
        let outcome = Walk::new(view, port, frame, walked, &mut recorder).run();
        (outcome, recorder.steps)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the end of one packet's way: all of it is needed"
    )]
    fn conclude(
        &mut self,
        net: &Network,
        port: PortId,
        mut frame: Frame,
        walked: Headers,
        mut outcome: Outcome,
        session: Option<Committed>,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let bytes = frame.bytes.len() as u64;
        let headers = own_headers(&walked);
        let held = matches!(outcome.verdict, Verdict::Hold(_));
        let passed = matches!(outcome.verdict, Verdict::Deliver(_) | Verdict::Flood { .. });
        if !held
            && let Some(answer) = outcome.answer.take()
            && (!outcome.answer_is_error || self.may_answer(port, now))
        {
            self.originate(net, port, answer, now, tx);
        }
        if !held {
            for (at, traffic) in &outcome.plan.metered {
                self.shared.tables.meter(*at, *traffic, now);
            }
        }
        if passed || matches!(outcome.verdict, Verdict::Consume(_)) {
            let traffic = Traffic { packets: wire_packets(&frame, &headers), bytes };
            for rule in &outcome.plan.stateless {
                self.counters.count_passed(*rule, traffic, now);
            }
        }
        match &outcome.verdict {
            Verdict::Deliver(out) => {
                let out = *out;
                let rewrite = Rewrite::between(&walked, &outcome.headers);
                if outcome.cacheable && self.config.cache {
                    self.store(port, &frame, &outcome, &rewrite, session, out);
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
                self.counters.accounting.copies += copies.saturating_sub(1);
                for drop in refused {
                    self.counters.count_drop(drop, bytes, now);
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
            Verdict::Drop(drop) => self.counters.count_drop(drop, bytes, now),
            Verdict::Consume(_) => self.counters.accounting.consumed += 1,
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

    pub(super) fn send(&mut self, out: PortId, frame: Frame, tx: &mut Vec<(PortId, Frame)>) {
        self.counters.accounting.delivered += 1;
        let packets = match frame.segmentation {
            None => 1,
            Some(_) => parse(&frame.bytes).map_or(1, |h| wire_packets(&frame, &h)),
        };
        self.counters.ports.entry(out).or_default().tx.add(packets, frame.bytes.len() as u64);
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
        self.counters.accounting.copies += (pieces.len() as u64).saturating_sub(1);
        for piece in pieces {
            self.send(out, piece, tx);
        }
    }

    pub(super) fn drop_at(
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
        self.counters.count_drop(&drop, bytes, now);
    }

    fn count_received(&mut self, port: PortId, packets: u64, bytes: u64) {
        self.counters.accounting.received += 1;
        self.counters.ports.entry(port).or_default().rx.add(packets, bytes);
    }
}
