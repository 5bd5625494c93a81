//! Fragments at a worker: which are walked, which wait, and what becomes of those that waited.

use super::Worker;
use crate::drops::{DropReason, Stage};
use crate::fragments::{AGE, Arrival, Datagram};
use crate::network::{Network, PortId};
use crate::workers::lock;
use packet::{Frame, Headers, Time, Transport, parse};

/// The headers that a frame has by itself: a later fragment has no transport header, whichever one
/// it was walked with.
pub(super) fn own_headers(walked: &Headers) -> Headers {
    let mut own = *walked;
    if let Some(ip) = own.ip_mut()
        && ip.fragment.is_some_and(|f| f.offset > 0)
    {
        ip.transport = Transport::LaterFragment;
    }
    own
}

fn datagram(port: PortId, headers: &Headers) -> Option<Datagram> {
    let ip = headers.ip()?;
    let id = ip.fragment?.id;
    Some(Datagram { port, src: ip.src, dst: ip.dst, protocol: ip.protocol, id })
}

impl Worker {
    /// The headers to walk a frame with; `None` if it waits or was dropped.
    pub(super) fn admit(
        &mut self,
        net: &Network,
        port: PortId,
        frame: &Frame,
        headers: Headers,
        now: Time,
    ) -> Option<Headers> {
        let Some(key) = datagram(port, &headers) else { return Some(headers) };
        let mut walked = headers;
        let ip = walked.ip_mut()?;
        let fragment = ip.fragment?;
        let network = u32::from(ip.l4).saturating_sub(u32::from(headers.l3));
        let len = ip.total_len.saturating_sub(network);
        let arrival = lock(&self.shared.fragments).arrive(key, fragment, len, frame, now);
        self.shared.fragments_due.lower(now + AGE);
        let reason = match arrival {
            Arrival::First => return Some(walked),
            Arrival::Later(transport) => {
                ip.transport = transport;
                return Some(walked);
            }
            Arrival::Held => return None,
            Arrival::Overlap(waited) => {
                self.drop_waited(net, port, waited, DropReason::FragmentOverlap, now);
                DropReason::FragmentOverlap
            }
            Arrival::Duplicate => DropReason::FragmentOverlap,
            Arrival::Condemned => DropReason::Fragment,
            Arrival::Limit => DropReason::FragmentLimit,
        };
        self.drop_at(net, port, reason, Stage::Port, frame.bytes.len() as u64, now);
        None
    }

    /// The headers that a trace walks a frame with.
    pub(super) fn peek(&self, port: PortId, headers: Headers) -> Option<Headers> {
        let mut walked = headers;
        let key = datagram(port, &headers);
        if let (Some(key), Some(ip)) = (key, walked.ip_mut())
            && ip.transport == Transport::LaterFragment
        {
            ip.transport = lock(&self.shared.fragments).transport(key)?;
        }
        Some(walked)
    }

    /// Lets the fragments that waited for this first one follow it, or fall with it.
    pub(super) fn settle_fragments(
        &mut self,
        net: &Network,
        port: PortId,
        walked: &Headers,
        passed: bool,
        now: Time,
        tx: &mut Vec<(PortId, Frame)>,
    ) {
        let Some(ip) = walked.ip().filter(|ip| ip.fragment.is_some_and(|f| f.offset == 0)) else {
            return;
        };
        let Some(key) = datagram(port, walked) else { return };
        if !passed {
            let waited = lock(&self.shared.fragments).condemn(key);
            self.drop_waited(net, port, waited, DropReason::Fragment, now);
            return;
        }
        let waited = lock(&self.shared.fragments).open(key, ip.transport);
        for frame in waited {
            let Ok(mut headers) = parse(&frame.bytes) else { continue };
            if let Some(later) = headers.ip_mut() {
                later.transport = ip.transport;
            }
            self.walk(net, port, frame, headers, now, tx);
        }
    }

    /// Drops fragments whose first one has not come in time.
    pub(super) fn expire_fragments(&mut self, net: &Network, now: Time) {
        if !self.shared.fragments_due.is_due(now) {
            return;
        }
        let over = {
            let mut fragments = lock(&self.shared.fragments);
            let over = fragments.expire(now);
            self.shared.fragments_due.set(fragments.next_timeout());
            over
        };
        for (port, frame) in over {
            self.drop_waited(net, port, vec![frame], DropReason::Fragment, now);
        }
    }

    fn drop_waited(
        &mut self,
        net: &Network,
        port: PortId,
        waited: Vec<Frame>,
        reason: DropReason,
        now: Time,
    ) {
        for frame in waited {
            self.drop_at(net, port, reason, Stage::Port, frame.bytes.len() as u64, now);
        }
    }
}
