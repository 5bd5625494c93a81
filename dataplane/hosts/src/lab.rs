//! The simulated lab: a network, its hosts and a clock that stands still until it is moved.
//!
//! One thread, virtual time, frames handed over in the order they were sent: the same seed and input
//! give the same frames, to the byte. The live lab drives this same type with the wall clock and
//! carries frames of attached ports to and from real interfaces.

use crate::{Host, HostConfig, Output};
use engine::network::{Network, PortId};
use engine::{Received, Trace, Worker, WorkerConfig};
use packet::{Frame, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Frames that one moment may take to settle. A storm beyond that is cut off and counted.
pub const MAX_FRAMES_PER_MOMENT: usize = 1_000_000;

/// A host of the lab and the ports its interfaces are plugged into.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSpec {
    /// What the host is.
    pub config: HostConfig,
    /// The port of each interface, in order.
    pub ports: Vec<PortId>,
}

/// A frame that reached a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub time: Time,
    /// Where.
    pub port: PortId,
    /// What.
    pub frame: Frame,
}

/// A simulated lab.
#[derive(Debug)]
pub struct Lab {
    network: Arc<Network>,
    seed: u64,
    cache: bool,
    worker: Worker,
    specs: Vec<HostSpec>,
    /// Hosts come to life when the first frame or operation reaches them.
    hosts: BTreeMap<usize, Host>,
    by_port: BTreeMap<PortId, (usize, usize)>,
    /// Ports whose frames somebody else takes: TAPs, captures.
    attached: BTreeSet<PortId>,
    passive: BTreeSet<usize>,
    now: Time,
    /// Frames on their way into the network.
    inbound: VecDeque<(PortId, Frame)>,
    outbox: Vec<Delivery>,
    /// Every delivery, while somebody watches.
    watched: Option<Vec<Delivery>>,
    cut_off: u64,
    /// Room for what a batch sends.
    tx: Vec<(PortId, Frame)>,
}

impl Lab {
    /// A lab at time zero.
    #[must_use]
    pub fn new(network: Arc<Network>, specs: Vec<HostSpec>) -> Lab {
        Lab::with_cache(network, specs, true)
    }

    /// A lab whose worker caches flows or, for comparison, walks every packet.
    #[must_use]
    pub fn with_cache(network: Arc<Network>, specs: Vec<HostSpec>, cache: bool) -> Lab {
        let seed = network.seed;
        Lab {
            worker: Worker::new(WorkerConfig { seed, cache, ..WorkerConfig::default() }),
            network,
            seed,
            cache,
            by_port: by_port(&specs),
            specs,
            hosts: BTreeMap::new(),
            attached: BTreeSet::new(),
            passive: BTreeSet::new(),
            now: Time::ZERO,
            inbound: VecDeque::new(),
            outbox: Vec::new(),
            watched: None,
            cut_off: 0,
            tx: Vec::new(),
        }
    }

    /// Back to time zero with no state; attached and passive ports stay as they are.
    pub fn reset(&mut self) {
        self.worker = Worker::new(WorkerConfig {
            seed: self.seed,
            cache: self.cache,
            ..WorkerConfig::default()
        });
        self.hosts.clear();
        self.now = Time::ZERO;
        self.inbound.clear();
        self.outbox.clear();
        if let Some(watched) = &mut self.watched {
            watched.clear();
        }
    }

    /// Publishes the next snapshot, of a higher epoch, with the hosts that are plugged into it, and lets the
    /// moment settle: when this returns, nothing passes any more that the new snapshot does not allow.
    ///
    /// A host that is in both, by its name, lives on with its connections as long as its interfaces are the
    /// same ones; another one starts afresh. What was set of a host or port (attached, passive) stays with it.
    /// Frames that are on their way in from a port that has gone never enter.
    pub fn publish(&mut self, network: Arc<Network>, specs: Vec<HostSpec>) {
        let same_port = |port: &PortId| match (self.network.port(*port), network.port(*port)) {
            (Some(old), Some(new)) => old.name == new.name,
            _ => false,
        };
        self.attached.retain(same_port);
        self.inbound.retain(|(port, _)| same_port(port));
        let before: BTreeMap<&str, (usize, &HostSpec)> = (0..)
            .zip(&self.specs)
            .map(|(index, spec)| (spec.config.name.as_str(), (index, spec)))
            .collect();
        let mut alive = std::mem::take(&mut self.hosts);
        let mut passive = BTreeSet::new();
        for (index, spec) in specs.iter().enumerate() {
            let Some((old, old_spec)) = before.get(spec.config.name.as_str()) else { continue };
            if self.passive.contains(old) {
                passive.insert(index);
            }
            if old_spec.ports == spec.ports
                && old_spec.config.interfaces == spec.config.interfaces
                && let Some(mut host) = alive.remove(old)
            {
                host.reconfigure(spec.config.clone());
                self.hosts.insert(index, host);
            }
        }
        self.passive = passive;
        self.by_port = by_port(&specs);
        self.specs = specs;
        self.network = network;
        self.settle();
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The worker, for its counters and tables.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Frames that were thrown away because one moment took more than [`MAX_FRAMES_PER_MOMENT`].
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.cut_off
    }

    /// All hosts, as configured.
    #[must_use]
    pub fn specs(&self) -> &[HostSpec] {
        &self.specs
    }

    /// The host with this name.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<usize> {
        self.specs.iter().position(|s| s.config.name == name)
    }

    /// The host and interface at a port.
    #[must_use]
    pub fn host_at(&self, port: PortId) -> Option<(usize, usize)> {
        self.by_port.get(&port).copied()
    }

    /// Gives a port to somebody outside: its emulated host is unplugged and its frames go to
    /// [`Lab::take_outbox`].
    pub fn attach(&mut self, port: PortId) {
        self.attached.insert(port);
    }

    /// Makes a host answer address resolution and nothing else.
    pub fn set_passive(&mut self, host: usize) {
        self.passive.insert(host);
        if let Some(host) = self.hosts.get_mut(&host) {
            host.set_passive(true);
        }
    }

    /// Starts or stops recording every delivery.
    pub fn watch(&mut self, on: bool) {
        self.watched = on.then(Vec::new);
    }

    /// What has been delivered since the last call, while watching.
    pub fn take_watched(&mut self) -> Vec<Delivery> {
        self.watched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Frames for attached ports since the last call.
    pub fn take_outbox(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.outbox)
    }

    /// As [`Lab::take_outbox`], a frame at a time.
    pub fn drain_outbox(&mut self) -> impl Iterator<Item = Delivery> + '_ {
        self.outbox.drain(..)
    }

    /// A host to read from; `None` for an index out of range.
    pub fn host(&mut self, index: usize) -> Option<&mut Host> {
        let spec = self.specs.get(index)?;
        let passive = self.passive.contains(&index);
        let seed = self.seed;
        Some(self.hosts.entry(index).or_insert_with(|| {
            let mut host = Host::new(spec.config.clone(), seed);
            host.set_passive(passive);
            host
        }))
    }

    /// Lets a host do something; what it sends goes on its way.
    pub fn with_host<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Host, Time, &mut Output) -> T,
    ) -> Option<T> {
        let now = self.now;
        let mut out = Output::new();
        let result = act(self.host(index)?, now, &mut out);
        self.send_from(index, out);
        Some(result)
    }

    fn send_from(&mut self, host: usize, out: Output) {
        let Some(spec) = self.specs.get(host) else { return };
        for (interface, frame) in out {
            if let Some(port) = spec.ports.get(interface)
                && !self.attached.contains(port)
            {
                self.inbound.push_back((*port, frame));
            }
        }
    }

    /// Has a frame enter the network by a port, as if what is plugged in there had sent it.
    pub fn inject(&mut self, port: PortId, frame: Frame) {
        self.inbound.push_back((port, frame));
    }

    /// What the network would do with a frame now, without doing it.
    pub fn trace(&mut self, port: PortId, frame: &Frame) -> Trace {
        let network = Arc::clone(&self.network);
        self.worker.trace(&network, port, frame, self.now)
    }

    /// Handles everything that happens at this moment: timers that are due, frames on their way, and
    /// what comes of them.
    pub fn settle(&mut self) {
        let network = Arc::clone(&self.network);
        let mut tx: Vec<(PortId, Frame)> = Vec::new();
        let mut batch: Vec<Received> = Vec::new();
        self.worker.advance(&network, self.now, &mut tx);
        self.poll_hosts();
        let mut budget = MAX_FRAMES_PER_MOMENT;
        loop {
            for (port, frame) in tx.drain(..) {
                self.deliver(port, frame);
            }
            let Some((port, frame)) = self.inbound.pop_front() else { break };
            if budget == 0 {
                self.cut_off += 1 + self.inbound.len() as u64;
                self.inbound.clear();
                break;
            }
            budget -= 1;
            // One at a time: a host's answer to the first frame of a batch may precede the second.
            batch.push(Received { port, frame });
            self.worker.process(&network, &mut batch, self.now, &mut tx);
        }
    }

    fn poll_hosts(&mut self) {
        let due: Vec<usize> = self
            .hosts
            .iter()
            .filter(|(_, h)| h.next_timeout().is_some_and(|at| at <= self.now))
            .map(|(i, _)| *i)
            .collect();
        for index in due {
            self.with_host(index, |host, now, out| host.poll(now, out));
        }
    }

    fn deliver(&mut self, port: PortId, frame: Frame) {
        if let Some(watched) = &mut self.watched {
            watched.push(Delivery { time: self.now, port, frame: frame.clone() });
        }
        if self.attached.contains(&port) {
            self.outbox.push(Delivery { time: self.now, port, frame });
            return;
        }
        let Some((host, interface)) = self.host_at(port) else { return };
        // Asleep hosts would only find out that a group-addressed frame is not for them.
        self.with_host(host, |h, now, out| h.receive(interface, &frame, now, out));
    }

    /// When something next happens by itself.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.hosts
            .values()
            .filter_map(Host::next_timeout)
            .chain(self.worker.next_timeout(&self.network))
            .min()
    }

    /// Moves the clock to `until`, stopping at every timer on the way.
    pub fn run_until(&mut self, until: Time) {
        self.run_while(until, |_| true);
    }

    /// Moves the clock by `duration`.
    pub fn advance(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Moves the clock to the wall's, for a live lab: everything due is done, late or not. Then the frames of
    /// `batch` enter together, in their order, which leaves it empty; an emulated host that is sent one of them
    /// answers behind the last.
    pub fn catch_up(&mut self, now: Time, batch: &mut Vec<Received>) {
        self.now = self.now.max(now);
        let network = Arc::clone(&self.network);
        let mut tx = std::mem::take(&mut self.tx);
        self.worker.process(&network, batch, self.now, &mut tx);
        for (port, frame) in tx.drain(..) {
            self.deliver(port, frame);
        }
        self.tx = tx;
        self.inbound.extend(batch.drain(..).map(|Received { port, frame }| (port, frame)));
        let hosts_due = |(_, h): (_, &Host)| h.next_timeout().is_some_and(|at| at <= self.now);
        if !self.inbound.is_empty() || self.hosts.iter().any(hosts_due) {
            self.settle();
        }
    }

    /// Moves the clock until `until` or until `more` says no, asked after each moment. Returns
    /// whether `more` ended it.
    pub fn run_while(&mut self, until: Time, mut more: impl FnMut(&mut Lab) -> bool) -> bool {
        loop {
            self.settle();
            if !more(self) {
                return true;
            }
            match self.next_timeout() {
                Some(at) if at <= until => {
                    // A timer that stays due would hold the clock: it moves by at least 1 ns.
                    self.now = at.max(Time(self.now.0.saturating_add(1)));
                }
                _ => {
                    self.now = self.now.max(until);
                    return false;
                }
            }
        }
    }
}

/// The host and interface at each port.
fn by_port(specs: &[HostSpec]) -> BTreeMap<PortId, (usize, usize)> {
    let interfaces = |(host, spec): (usize, &HostSpec)| {
        let ports = spec.ports.iter().enumerate();
        ports.map(move |(interface, port)| (*port, (host, interface))).collect::<Vec<_>>()
    };
    specs.iter().enumerate().flat_map(interfaces).collect()
}
