//! Tracing: a walk that is watched and not committed.

use super::{Worker, is_forged_error};
use crate::drops::{Drop, DropReason, Stage};
use crate::network::{Network, PortId};
use crate::plan::Verdict;
use crate::trace::{Recorder, Step};
use crate::walk::Walk;
use packet::{EmbeddedRewrite, Frame, Rewrite, Time, parse};

/// Where a traced frame ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEnd {
    /// It left by this port, as this frame.
    Delivered(PortId, Frame),
    /// It left by several ports.
    Flooded(Vec<PortId>),
    /// It was dropped.
    Dropped(Drop),
    /// It ended at a router or segment.
    Consumed(Stage),
    /// It waits for the address of its next hop.
    Held,
}

/// What a walk of a frame would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Every decision, in order.
    pub steps: Vec<Step>,
    /// Where it ended.
    pub end: TraceEnd,
    /// What is sent back out of the port it came from.
    pub answer: Option<Frame>,
}

impl Worker {
    /// Walks `frame` as if it came in at `port` now, and changes nothing that a flow could notice.
    pub fn trace(&mut self, net: &Network, port: PortId, frame: &Frame, now: Time) -> Trace {
        self.collect();
        let object = || net.port(port).map_or_else(|| "port".to_owned(), |p| p.name.clone());
        let refused = |stage, reason, parse| Trace {
            steps: Vec::new(),
            end: TraceEnd::Dropped(Drop { stage, reason, object: object(), rule: None, parse }),
            answer: None,
        };
        let headers = match parse(&frame.bytes) {
            Ok(headers) => headers,
            Err(error) => return refused(Stage::Port, DropReason::Malformed, Some(error)),
        };
        let Some(walked) = self.peek(port, headers) else {
            return refused(Stage::Port, DropReason::Fragment, None);
        };
        if is_forged_error(frame, &walked) {
            return refused(Stage::Port, DropReason::IcmpChecksum, None);
        }
        let mut recorder = Recorder::default();
        let view = self.view(net, now);
        let outcome = Walk::new(view, port, frame, walked, &mut recorder).run();
        let held = matches!(outcome.verdict, Verdict::Hold(_));
        let end = match outcome.verdict {
            Verdict::Deliver(out) => {
                let mut delivered = frame.clone();
                Rewrite::between(&walked, &outcome.headers).apply(&mut delivered, &headers);
                if let Some(quote) = EmbeddedRewrite::between(&walked, &outcome.headers) {
                    quote.apply(&mut delivered, &headers);
                }
                TraceEnd::Delivered(out, delivered)
            }
            Verdict::Flood { ports, .. } => TraceEnd::Flooded(ports),
            Verdict::Drop(drop) => TraceEnd::Dropped(drop),
            Verdict::Consume(stage) => TraceEnd::Consumed(stage),
            Verdict::Hold(_) => TraceEnd::Held,
        };
        let answer =
            outcome.answer.filter(|answer| !held && self.check_own(net, port, answer, now).is_ok());
        Trace { steps: recorder.steps, end, answer }
    }
}
