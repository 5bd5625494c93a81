//! Sends one packet and its answer, and says what was remembered of them.

use crate::flows::{Flow, Flows, Source};
use crate::frames::{self, ANSWER, ASK};
use crate::neighbors::Stations;
use engine::network::Network;
use engine::{Received, StageRecord, Tuple, Worker, WorkerConfig};
use packet::{Frame, Time, parse};

/// How often what came out is answered: neighbours of several hops are asked for one after the other.
const TURNS: usize = 8;

/// A worker that is only asked.
#[derive(Debug)]
pub struct Prober<'a> {
    net: &'a Network,
    stations: &'a Stations,
    worker: Worker,
    /// Probes sent: each is a flow of its own.
    sent: u32,
    /// The newest session.
    serial: u64,
}

impl<'a> Prober<'a> {
    /// A prober that has sent nothing.
    pub fn new(net: &'a Network, stations: &'a Stations) -> Prober<'a> {
        let config =
            WorkerConfig { seed: net.seed, cache_entries: 1_024, ..WorkerConfig::default() };
        Prober { net, stations, worker: Worker::new(config), sent: 0, serial: 0 }
    }

    /// Sends a first packet from `source` to the first destination and `port`, and the answer to what came of it. Returns the
    /// records of their session if both came through; none if they made no session.
    pub fn send(&mut self, flows: &Flows, source: &Source, port: u16) -> Option<Vec<StageRecord>> {
        self.sent += 1;
        let src_port = u16::try_from(20_000 + self.sent % 40_000).unwrap_or(u16::MAX);
        let tuple = Tuple {
            src: source.addresses.first,
            dst: flows.destinations.first,
            protocol: flows.protocol.number(),
            src_port,
            dst_port: port,
        };
        let flow = Flow { source: 0, tuple };
        let first = frames::first(source, &flow, self.sent, 60);
        let answered = self.exchange(
            flows.inside || flows.switched,
            Received { port: first.port, frame: Frame::new(first.bytes()) },
        );
        let session = self.worker.sessions_after(self.serial, usize::MAX).pop();
        self.serial = session.as_ref().map_or(self.serial, |s| s.id.serial);
        answered.then(|| {
            let own = session.filter(|s| s.initiating == tuple);
            own.map_or_else(Vec::new, |s| s.records.iter().copied().collect())
        })
    }

    /// Whether a first packet and its answer came through; `back` to the port that the packet came from.
    fn exchange(&mut self, back: bool, first: Received) -> bool {
        let from = first.port;
        let mut batch = vec![first];
        let mut tx = Vec::new();
        for _ in 0..TURNS {
            self.worker.process(self.net, &mut batch, Time::from_millis(1), &mut tx);
            batch.clear();
            for (port, mut frame) in tx.drain(..) {
                let Ok(headers) = parse(&frame.bytes) else { continue };
                if let Some(frame) = self.stations.answer(port, &headers) {
                    batch.push(Received { port, frame });
                } else if self.stations.is_for(port, &headers) {
                    let whose = frames::whose(&frame.bytes, &headers);
                    if whose == Some((self.sent, ANSWER)) && (port == from || !back) {
                        return true;
                    }
                    if whose == Some((self.sent, ASK))
                        && frames::turn(&mut frame, &headers).is_some()
                    {
                        batch.push(Received { port, frame });
                    }
                }
            }
            if batch.is_empty() {
                return false;
            }
        }
        false
    }
}
