//! Frames that have reached a port, until a step claims them.

use super::wanted::{Arrival, Resolution, Wanted};
use engine::network::PortId;
use hosts::Lab;
use std::collections::BTreeSet;

/// Arrivals of a running test, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    arrivals: Vec<Arrival>,
    /// What steps have claimed since the last [`Inbox::begin`].
    claimed: Vec<Arrival>,
    /// Ports of hosts that pass packets on: what arrives there has not ended there.
    transit: BTreeSet<PortId>,
    /// Ports at which a step of the test expects address resolution: only there is it anything that
    /// a test must account for.
    resolution_counts: BTreeSet<PortId>,
}

impl Inbox {
    /// An empty inbox.
    pub(super) fn new(transit: BTreeSet<PortId>, resolution_counts: BTreeSet<PortId>) -> Inbox {
        Inbox { transit, resolution_counts, ..Inbox::default() }
    }

    /// Takes over what the lab has delivered.
    pub(super) fn take(&mut self, lab: &mut Lab) {
        for delivery in lab.take_watched() {
            for frame in packet::segment(delivery.frame) {
                let headers = packet::parse(&frame.bytes);
                let resolves = headers.as_ref().is_ok_and(|h| Resolution::of(h) != Resolution::No);
                let port = delivery.port;
                let incidental = self.transit.contains(&port)
                    || (resolves && !self.resolution_counts.contains(&port));
                self.arrivals.push(Arrival {
                    time: delivery.time,
                    port,
                    frame,
                    headers,
                    incidental,
                });
            }
        }
    }

    /// Takes over what the lab has delivered while the test itself resolved an address: nobody need
    /// expect it. Returns what arrived at `port`.
    pub(super) fn take_resolution(&mut self, lab: &mut Lab, port: PortId) -> Vec<Arrival> {
        let before = self.arrivals.len();
        self.take(lab);
        let mut answers = Vec::new();
        for arrival in self.arrivals.iter_mut().skip(before) {
            arrival.incidental |= !arrival.is_for(Resolution::No);
            if arrival.port == port {
                answers.push(arrival.clone());
            }
        }
        answers
    }

    /// The hosts that pass packets on are others now.
    pub(super) fn changed(&mut self, transit: BTreeSet<PortId>) {
        self.transit = transit;
    }

    /// A step begins that accounts for nothing that came before it.
    pub(super) fn begin(&mut self) {
        self.arrivals.clear();
        self.claimed.clear();
    }

    /// Claims the earliest frame at `port` that is as wanted.
    pub(super) fn claim(
        &mut self,
        port: PortId,
        asked: Resolution,
        wanted: &Wanted,
    ) -> Option<Arrival> {
        let position = self.arrivals.iter().position(|arrival| {
            arrival.port == port && arrival.is_for(asked) && wanted.differences(arrival).is_empty()
        })?;
        let arrival = self.arrivals.remove(position);
        self.claimed.push(arrival.clone());
        Some(arrival)
    }

    /// Claims a frame by itself, where it is still unclaimed.
    pub(super) fn claim_this(&mut self, wanted: &Arrival) {
        let same =
            |a: &Arrival| a.port == wanted.port && a.time == wanted.time && a.frame == wanted.frame;
        if let Some(position) = self.arrivals.iter().position(same) {
            self.claimed.push(self.arrivals.remove(position));
        }
    }

    /// Unclaimed frames at `port` that a step which asks for `asked` looks at.
    pub(super) fn at(&self, port: PortId, asked: Resolution) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(move |a| a.port == port && a.is_for(asked))
    }

    /// Unclaimed frames that fail the test.
    pub(super) fn unexpected(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(|arrival| !arrival.incidental)
    }

    /// All frames since the last [`Inbox::begin`], claimed ones first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arrival> {
        self.claimed.iter().chain(&self.arrivals)
    }
}
