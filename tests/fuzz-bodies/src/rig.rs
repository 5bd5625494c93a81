//! Two workers in the same network: one that walks every packet and one that caches. What they send must be the same to the octet,
//! and what they remember too; every frame is accounted for, and the oracles judge what leaves.

use std::collections::VecDeque;
use std::time::Duration;

use engine::network::{Network, PortId};
use engine::{Received, Session, Worker, WorkerConfig};
use packet::{Frame, Headers, IcmpMessage, Payload, Time, Transport, parse};

use crate::lab::{Lab, Station, lab};
use crate::oracles::{FAN_OUT, Memory};

/// Frames that later ones may refer to.
const REMEMBERED: usize = 32;
/// Batches between two comparisons of what the workers remember: asking makes the cache report, so most of the time nobody asks.
const UNASKED: u64 = 12;
/// More timers than any input can set.
const TIMERS: usize = 100_000;
/// Longer than any session lives.
const FOR_EVER: Duration = Duration::from_secs(200_000);

/// The network under test.
#[derive(Debug)]
pub struct Rig {
    pub lab: &'static Lab,
    pub configuration: usize,
    net: Network,
    walked: Worker,
    cached: Worker,
    pub now: Time,
    /// Hosts outside do not answer when they are asked for their MAC.
    pub mute: bool,
    /// Frames that went in, and that came out, newest last.
    pub sent: VecDeque<(PortId, Frame)>,
    pub left: VecDeque<(PortId, Frame)>,
    memory: Memory,
    /// Everything is told on standard error, for people who look into a failure (`TIERLAB_FUZZ_TRACE`).
    told: bool,
    received: u64,
    delivered: u64,
    solicitations: u64,
    batches: u64,
}

impl Rig {
    /// A fresh network whose neighbours are known.
    ///
    /// # Errors
    /// The lab cannot be made.
    pub fn new() -> Result<Rig, String> {
        let lab = lab()?;
        let net = lab.networks.first().ok_or("no configuration")?.clone();
        let config = |cache| WorkerConfig { seed: net.seed, cache, cache_entries: 64 };
        let (walked, cached) = (Worker::new(config(false)), Worker::new(config(true)));
        let mut rig = Rig {
            lab,
            configuration: 0,
            net: Network { epoch: 1, ..net },
            walked,
            cached,
            now: Time::from_secs(1),
            mute: false,
            sent: VecDeque::new(),
            left: VecDeque::new(),
            memory: Memory::default(),
            told: std::env::var_os("TIERLAB_FUZZ_TRACE").is_some(),
            received: 0,
            delivered: 0,
            solicitations: 0,
            batches: 0,
        };
        rig.introduce()?;
        Ok(rig)
    }

    /// Everybody outside tells the Tier-0 where it is.
    ///
    /// # Errors
    /// What must not be.
    pub fn introduce(&mut self) -> Result<(), String> {
        let [v4, v6] = self.lab.tier0;
        let mut batch = Vec::new();
        for station in self.lab.stations.iter().filter(|s| s.outside) {
            batch.push((station.port, packet::arp_request(station.mac, station.v4, v4)));
            batch.push((station.port, packet::neighbor_solicitation(station.mac, station.v6, v6)));
        }
        self.process(batch).map(|_| ())
    }

    /// Sends a batch; hosts outside answer when they are asked for their MAC. Returns what left.
    ///
    /// # Errors
    /// What must not be.
    pub fn send(&mut self, batch: Vec<(PortId, Frame)>) -> Result<Vec<(PortId, Frame)>, String> {
        let mut out = self.process(batch)?;
        let answers: Vec<_> =
            out.iter().filter_map(|(port, frame)| self.answer(*port, frame)).collect();
        if !answers.is_empty() {
            out.extend(self.process(answers)?);
        }
        Ok(out)
    }

    fn process(&mut self, batch: Vec<(PortId, Frame)>) -> Result<Vec<(PortId, Frame)>, String> {
        if self.told {
            eprintln!("{:?} sent{}", self.now, describe(&batch));
        }
        self.memory.sent(self.lab, &batch);
        self.received += batch.len() as u64;
        let frames = batch.len();
        let received = |batch: &[(PortId, Frame)]| -> Vec<Received> {
            batch
                .iter()
                .map(|(port, frame)| Received { port: *port, frame: frame.clone() })
                .collect()
        };
        let (mut walked, mut cached) = (Vec::new(), Vec::new());
        self.walked.process(&self.net, &mut received(&batch), self.now, &mut walked);
        self.cached.process(&self.net, &mut received(&batch), self.now, &mut cached);
        for (port, frame) in batch {
            keep(&mut self.sent, port, frame);
        }
        self.came_out(&walked, &cached, frames)?;
        self.batches += 1;
        if self.batches.is_multiple_of(UNASKED) {
            self.audit()?;
        }
        Ok(walked)
    }

    fn came_out(
        &mut self,
        walked: &[(PortId, Frame)],
        cached: &[(PortId, Frame)],
        frames: usize,
    ) -> Result<(), String> {
        if self.told && !walked.is_empty() {
            eprintln!("{:?} left{}", self.now, describe(walked));
        }
        if walked != cached {
            return Err(format!(
                "the cache changes what leaves\n  walked {}\n  cached {}",
                describe(walked),
                describe(cached)
            ));
        }
        // A batch's timers may release what waits as well.
        if walked.len() > FAN_OUT * (frames + 1) {
            return Err(format!("{} frames for {frames}", walked.len()));
        }
        self.delivered += walked.len() as u64;
        for (_, frame) in walked {
            self.solicitations +=
                u64::from(parse(&frame.bytes).ok().and_then(|h| asked(&h)).is_some());
        }
        self.memory.judge(self.lab, self.configuration, walked)?;
        for (port, frame) in walked {
            keep(&mut self.left, *port, frame.clone());
        }
        Ok(())
    }

    /// Every frame is accounted for, no more answers than questions, and both workers remember the same.
    fn audit(&mut self) -> Result<(), String> {
        let accounting = self.walked.accounting();
        if !accounting.balances() {
            return Err(format!("frames are missing: {accounting:?}"));
        }
        if (accounting.received, accounting.delivered) != (self.received, self.delivered) {
            return Err(format!(
                "{} in, {} out, and {accounting:?}",
                self.received, self.delivered
            ));
        }
        if accounting.originated > accounting.received + self.solicitations {
            return Err(format!(
                "more than one answer a frame: {accounting:?}, {} questions",
                self.solicitations
            ));
        }
        if accounting.held == 0 {
            self.memory.tainted = false;
        }
        same("accounting", &accounting, &self.cached.accounting())?;
        let sessions = |worker: &mut Worker| -> Vec<Session> {
            let mut list = worker.sessions();
            for session in &mut list {
                // Where a worker keeps its cache is its own business.
                session.cached = [None; 2];
                // So is the slot: of sessions that end at the same moment either may give its own back first. The serial
                // number is what a session is known by.
                session.id.index = 0;
            }
            list
        };
        same("sessions", &sessions(&mut self.walked), &sessions(&mut self.cached))?;
        same("hits", &self.walked.hits(), &self.cached.hits())?;
        same("port counters", &self.walked.port_traffic(), &self.cached.port_traffic())?;
        same("drops", &self.walked.drops(), &self.cached.drops())
    }

    /// Lets time pass, stopping at each timer.
    ///
    /// # Errors
    /// What must not be.
    pub fn pass(&mut self, by: Duration) -> Result<(), String> {
        let until = self.now + by;
        for _ in 0..TIMERS {
            let next = self.walked.next_timeout(&self.net);
            let at = next.filter(|at| *at <= until).unwrap_or(until).max(self.now);
            self.now = at;
            let (mut walked, mut cached) = (Vec::new(), Vec::new());
            self.walked.advance(&self.net, at, &mut walked);
            self.cached.advance(&self.net, at, &mut cached);
            self.memory.sent(self.lab, &[]);
            self.came_out(&walked, &cached, 0)?;
            let answers: Vec<_> =
                walked.iter().filter_map(|(port, frame)| self.answer(*port, frame)).collect();
            if !answers.is_empty() {
                self.process(answers)?;
            }
            if next.is_none_or(|at| at > until) {
                return Ok(());
            }
        }
        Err(format!("timers without end at {:?}", self.now))
    }

    /// Puts another configuration in place, or the same anew.
    pub fn configure(&mut self, configuration: usize) {
        if let Some(net) = self.lab.networks.get(configuration) {
            if self.told {
                eprintln!("{:?} configuration {configuration}", self.now);
            }
            self.configuration = configuration;
            let mut after = Network { epoch: self.net.epoch + 1, ..net.clone() };
            after.follow(&self.net);
            self.net = after;
        }
    }

    /// Ends: in the end both workers have forgotten everything.
    ///
    /// # Errors
    /// They remember different things, or something stays for ever.
    pub fn end(mut self) -> Result<u64, String> {
        self.audit()?;
        self.pass(FOR_EVER)?;
        self.audit()?;
        let (held, sessions) = (self.walked.accounting().held, self.walked.sessions());
        if held > 0 || !sessions.is_empty() {
            return Err(format!(
                "{held} frames and {} sessions stay for ever: {sessions:?}",
                sessions.len()
            ));
        }
        Ok(self.received)
    }

    /// Who is at a port.
    pub fn station(&self, port: PortId) -> Option<&'static Station> {
        self.lab.stations.iter().find(|s| s.port == port)
    }

    /// What a host outside says when it is asked for its MAC.
    fn answer(&self, port: PortId, frame: &Frame) -> Option<(PortId, Frame)> {
        let station = self.station(port).filter(|s| s.outside && !self.mute)?;
        let headers = parse(&frame.bytes).ok()?;
        let target = asked(&headers)?;
        if ![station.v4, station.v6].contains(&target) || headers.src_mac != self.lab.uplink {
            return None;
        }
        let answer = packet::arp_reply(&headers, station.mac)
            .or_else(|| packet::neighbor_advertisement(&headers, station.mac, false))?;
        Some((port, answer))
    }
}

/// Whose MAC a frame asks for.
fn asked(headers: &Headers) -> Option<packet::Addr> {
    match headers.payload {
        Payload::Arp(arp) if arp.operation == 1 => Some(arp.target),
        Payload::Ip(ip) => match ip.transport {
            Transport::Icmp(icmp) => match icmp.message {
                IcmpMessage::NeighborSolicitation { target, .. } => Some(target),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn keep(list: &mut VecDeque<(PortId, Frame)>, port: PortId, frame: Frame) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back((port, frame));
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, walked: &T, cached: &T) -> Result<(), String> {
    if walked == cached {
        return Ok(());
    }
    Err(format!("the cache changes {what}\n  walked {walked:#?}\n  cached {cached:#?}"))
}

fn describe(frames: &[(PortId, Frame)]) -> String {
    let lines = frames.iter().map(|(port, frame)| {
        let what = parse(&frame.bytes).map_or_else(|e| e.to_string(), |h| packet::describe(&h));
        format!("\n    {}: {what}  {:02x?}", port.0, frame.bytes)
    });
    lines.collect()
}
