//! The engine and the model side by side, and what they have been through.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use definitions::model::ObjectName;
use definitions::{Definitions, Input, load};
use engine::network::{Network, PortId};
use engine::{Node, Received, Tuple, Worker, WorkerConfig};
use model::packet::{Flow, Framed, Mac, Seen, protocol};
use model::wire::{self, neighbors};
use model::{Atlas, Block, Model, Station};
use packet::{Frame, Time};
use realization::{Allocations, Logical, Names, Realized, realize};

use crate::counts::{Numbers, Ports};
use crate::lab::{Lab, OUTSIDE, UPLINKS};
use crate::random::Random;

/// Seeds from this one on name labs with more kinds of settings and rules, and steps of more kinds.
pub const WIDER: u64 = 1_000_000;
/// Stations outside are forgotten after 300 s: they speak more often.
const INTRODUCTION: Duration = Duration::from_secs(200);
/// Steps that a failure shows.
const SHOWN: usize = 60;
/// Delivered packets that may still be answered.
const ANSWERABLE: usize = 48;

/// Where a fragment came out, and of what: addresses and identification.
type Datagram = (u32, IpAddr, IpAddr, Option<u16>);

pub struct Bench {
    pub random: Random,
    pub lab: Lab,
    pub atlas: Atlas,
    pub model: Model,
    network: Network,
    allocations: Allocations,
    worker: Worker,
    pub now: Duration,
    introduced: Option<Duration>,
    /// What was sent lately, with the port it went in by.
    pub sent: VecDeque<(u32, Framed)>,
    /// What came out lately.
    pub delivered: VecDeque<(u32, Framed)>,
    /// Fragments that came out, by where and of what.
    pieces: BTreeMap<Datagram, Vec<Vec<u8>>>,
    /// The last identification of a datagram.
    pub identification: u16,
    /// Fragments that are still to be sent.
    pub unsent: VecDeque<(u32, Framed, Vec<u8>)>,
    numbers: Numbers,
    ports: Ports,
    history: VecDeque<String>,
    said: BTreeMap<String, usize>,
}

fn definitions(yaml: &str) -> Definitions {
    match load(&[Input::text("lab.yaml", yaml)]) {
        Ok(loaded) => loaded.definitions,
        Err(faults) => panic!("{faults:#?}\n{yaml}"),
    }
}

fn station(names: &Names, name: &str) -> Station {
    let (_, place) = names.port(name).unwrap();
    let addresses = place.addresses.iter().map(|a| a.to_ip()).collect();
    Station { port: place.port.0, mac: place.mac.0, addresses }
}

/// Who was given what.
fn atlas(lab: &Lab, names: &Names, logical: &Logical) -> Atlas {
    let mut atlas = Atlas { vms: vec![station(names, "vm/cp-1")], ..Atlas::default() };
    for (namespace, pod) in lab.pods() {
        let found = station(names, &format!("pod/{namespace}/{pod}"));
        atlas.pods.push((ObjectName::new(namespace, pod), found));
    }
    for (name, network, _) in OUTSIDE {
        atlas.outside.push((network.to_owned(), station(names, &format!("host/{name}"))));
    }
    for (namespace, name, outside) in lab.services() {
        let key = ObjectName::new(namespace, name);
        atlas.cluster_ips.push((key.clone(), names.cluster_ip(&key).unwrap().to_ip()));
        if outside {
            let vip = names.vip(&key).unwrap().to_ip();
            atlas.vips.push((key.clone(), vip));
        }
        // None without an SNAT pool, or where that had none.
        if let Ok(address) = names.service_snat(&key) {
            atlas.service_snat.push((key, address.to_ip()));
        }
    }
    for n in 0..lab.namespaces() {
        let name = format!("ns-{n}");
        // None where pods are routed, or the NAT table is written by hand.
        if let Ok(address) = names.snat(&name) {
            atlas.snat.push((name.clone(), address.to_ip()));
        }
    }
    for segment in logical.segments.iter().filter(|s| s.kind == "overlay") {
        let nets = segment.networks.iter().map(|net| net.parse().unwrap()).collect();
        atlas.blocks.push(Block { namespace: segment.namespace.clone(), nets });
    }
    atlas
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        let mut random = Random::new(seed);
        let lab = Lab::new(&mut random, seed >= WIDER);
        let definitions = definitions(&lab.yaml());
        let Realized { mut network, allocations, names, logical, .. } =
            realize(&definitions, &Allocations::default()).unwrap();
        (network.epoch, network.seed) = (1, seed);
        let mut atlas = atlas(&lab, &names, &logical);
        let mut worker = Worker::new(WorkerConfig { seed, ..WorkerConfig::default() });
        let (mut numbers, mut ports) = (Numbers::default(), Ports::default());
        numbers.learn(&network);
        // Who is asked for a MAC says it.
        let mut ask = |asker: &Station, target: IpAddr| -> Mac {
            let frame = Frame::new(neighbors::request(asker.mac, asker.addresses[0], target));
            let mut batch = vec![Received { port: PortId(asker.port), frame }];
            let tx = process(&mut worker, &network, &mut ports, &mut batch, Time::ZERO);
            let reply = tx.iter().find_map(|(_, f)| neighbors::answer(&f.bytes));
            reply.unwrap_or_else(|| panic!("{target} does not answer {asker:?}")).0
        };
        let pod = atlas.pods[0].1.clone();
        atlas.gateway_mac = ask(&pod, gateway_of(&atlas, pod.addresses[0]));
        for (link, addresses) in UPLINKS {
            let asker =
                atlas.outside.iter().find(|(network, _)| network == link).unwrap().1.clone();
            let mac = ask(&asker, addresses[0].parse().unwrap());
            atlas.uplink_macs.push((link.to_owned(), mac));
        }
        let model = Model::new(&definitions, &atlas).unwrap();
        Bench {
            random,
            lab,
            atlas,
            model,
            network,
            allocations,
            worker,
            now: Duration::ZERO,
            introduced: None,
            sent: VecDeque::new(),
            delivered: VecDeque::new(),
            pieces: BTreeMap::new(),
            identification: 0,
            unsent: VecDeque::new(),
            numbers,
            ports,
            history: VecDeque::new(),
            said: BTreeMap::new(),
        }
    }

    /// How often the model said what.
    pub fn said(&self) -> &BTreeMap<String, usize> {
        &self.said
    }

    /// The last steps.
    pub fn history(&self) -> String {
        self.history.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// The lab as it is now.
    pub fn manifest(&self) -> String {
        self.lab.yaml()
    }

    pub fn note(&mut self, line: String) {
        if self.history.len() == SHOWN {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>14?}  {line}", self.now));
    }

    fn time(&self) -> Time {
        Time(u64::try_from(self.now.as_nanos()).unwrap())
    }

    /// What left the engine, without address resolution.
    fn read(tx: &[(PortId, Frame)]) -> Result<Vec<(Seen, Framed)>, String> {
        let mut all = Vec::new();
        for (port, frame) in tx {
            if neighbors::is_resolution(&frame.bytes) {
                continue;
            }
            let framed = wire::read(&frame.bytes).map_err(|e| {
                format!("the engine sent {e} to port {}: {:02x?}", port.0, frame.bytes)
            })?;
            all.push((Seen { port: port.0, packet: framed.packet }, framed));
        }
        Ok(all)
    }

    /// Everybody outside tells the Tier-0 where it is.
    fn introduce(&mut self) {
        if self.introduced.is_some_and(|at| at + INTRODUCTION > self.now) {
            return;
        }
        self.introduced = Some(self.now);
        let mut batch = Vec::new();
        for (network, host) in &self.atlas.outside {
            let (_, tier0) = UPLINKS.iter().find(|(link, _)| link == network).unwrap();
            for (own, tier0) in host.addresses.iter().zip(tier0) {
                let frame = neighbors::request(host.mac, *own, tier0.parse().unwrap());
                batch.push(Received { port: PortId(host.port), frame: Frame::new(frame) });
            }
        }
        let now = self.time();
        process(&mut self.worker, &self.network, &mut self.ports, &mut batch, now);
    }

    /// Moves both clocks, the engine's stopping at each of its timers.
    pub fn advance(&mut self, by: Duration) -> Result<(), String> {
        let until = self.now + by;
        let mut tx = Vec::new();
        let mut said = Vec::new();
        while let Some(at) = self.worker.next_timeout(&self.network) {
            let at = Duration::from_nanos(at.0).max(self.now);
            if at > until {
                break;
            }
            self.now = at;
            let now = self.time();
            self.worker.advance(&self.network, now, &mut tx);
            said.extend(self.model.pass(self.now));
        }
        self.now = until;
        let now = self.time();
        self.worker.advance(&self.network, now, &mut tx);
        for (port, frame) in &tx {
            self.ports.received(*port, frame.bytes.len());
        }
        said.extend(self.model.pass(self.now));
        let sent = Bench::read(&tx)?;
        compare(sent.iter().map(|(seen, _)| *seen).collect(), said, "time passed")?;
        self.introduce();
        Ok(())
    }

    /// Sends a whole packet through both.
    pub fn send(&mut self, port: u32, framed: Framed) -> Result<(), String> {
        keep(&mut self.sent, (port, framed));
        self.send_octets(port, framed, wire::build(&framed))
    }

    /// Sends a frame through both.
    pub fn send_octets(
        &mut self,
        port: u32,
        framed: Framed,
        octets: Vec<u8>,
    ) -> Result<(), String> {
        let frame = Frame::new(octets);
        let now = self.time();
        self.model.pass(self.now);
        let before = self.worker.drops().clone();
        let mut batch = vec![Received { port: PortId(port), frame }];
        let tx = process(&mut self.worker, &self.network, &mut self.ports, &mut batch, now);
        let read = Bench::read(&tx)?;
        let frames: Vec<Vec<u8>> = tx
            .into_iter()
            .map(|(_, frame)| frame.bytes)
            .filter(|bytes| !neighbors::is_resolution(bytes))
            .collect();
        let sent: Vec<Seen> = read.iter().map(|(seen, _)| *seen).collect();
        let verdict = self.model.receive(port, &framed, &sent);
        let drops: Vec<String> = self
            .worker
            .drops()
            .iter()
            .filter(|(key, traffic)| before.get(*key) != Some(*traffic))
            .map(|(key, _)| format!("{} {} at {}", key.stage, key.reason, key.object))
            .collect();
        self.note(format!(
            "port {port}: {:?} -> {:?} ({}; engine {drops:?})",
            framed.packet, verdict.out, verdict.why
        ));
        *self.said.entry(general(&verdict.why)).or_default() += 1;
        let same = compare(sent, verdict.out, &verdict.why);
        same.map_err(|e| {
            format!("{e}\n  for {framed:02x?} at port {port}\n  the engine dropped: {drops:?}")
        })?;
        for ((seen, framed), frame) in read.into_iter().zip(frames) {
            self.addressed(seen.port, &framed)?;
            if framed.packet.piece.is_some() {
                self.joined(seen, frame)?;
            } else {
                keep(&mut self.delivered, (seen.port, framed));
            }
        }
        if self.random.chance(8) {
            self.audit()?;
        }
        Ok(())
    }

    /// Puts a changed lab in place. One that cannot be realized (an address that another pod holds) changes nothing.
    pub fn change(&mut self) -> Result<(), String> {
        let mut changed = self.lab.clone();
        let what = changed.change(&mut self.random, &self.atlas.blocks);
        let definitions = definitions(&changed.yaml());
        let Ok(Realized { mut network, allocations, names, logical, .. }) =
            realize(&definitions, &self.allocations)
        else {
            self.note(format!("refused: {what}"));
            return Ok(());
        };
        self.note(what);
        self.lab = changed;
        self.numbers.learn(&network);
        (network.epoch, network.seed) = (self.network.epoch + 1, self.network.seed);
        network.follow(&self.network);
        (self.network, self.allocations) = (network, allocations);
        self.atlas = Atlas {
            gateway_mac: self.atlas.gateway_mac,
            uplink_macs: self.atlas.uplink_macs.clone(),
            ..atlas(&self.lab, &names, &logical)
        };
        self.model.replace(&definitions, &self.atlas)
    }

    /// Every frame is accounted for, and both remember the same of the same conversations at the same places.
    pub fn audit(&mut self) -> Result<(), String> {
        let accounting = self.worker.accounting();
        if !accounting.balances() {
            return Err(format!("frames are missing: {accounting:?}"));
        }
        self.ports.compare(&mut self.worker)?;
        self.numbers.compare(&mut self.worker, self.model.counts())?;
        let (mut engine, mut model) = (Vec::new(), self.model.conversations());
        for session in self.worker.sessions() {
            for record in &session.records {
                let place = match record.node {
                    Node::Balancer(port) => format!("Balancer({})", port.0),
                    Node::Firewall(port) => format!("Firewall({})", port.0),
                    Node::Gateway(_) => "Tier1".to_owned(),
                    Node::GatewayFirewall(id) => {
                        format!("GatewayFirewall({:?})", self.network.router(id).unwrap().tier)
                    }
                };
                let (came, went) = (flow(record.before), flow(record.after));
                let state = session.progress.timer_state();
                engine.push(format!("{place}: {came:?} went on as {went:?}, {state:?}"));
            }
        }
        engine.sort();
        model.sort();
        if engine == model {
            return Ok(());
        }
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).cloned().collect()
        };
        Err(format!(
            "they do not remember the same\n  only the engine: {:#?}\n  only the model: {:#?}",
            only(&engine, &model),
            only(&model, &engine)
        ))
    }

    /// A fragment was delivered: who puts all of them together has a packet whose checksums are right.
    fn joined(&mut self, seen: Seen, frame: Vec<u8>) -> Result<(), String> {
        let Seen { port, packet } = seen;
        let key = (port, packet.src, packet.dst, packet.cut);
        if self.pieces.len() > ANSWERABLE {
            self.pieces.clear();
        }
        let pieces = self.pieces.entry(key).or_default();
        pieces.push(frame);
        let Some(whole) = wire::join(pieces) else { return Ok(()) };
        self.pieces.remove(&key);
        let framed = wire::read(&whole).map_err(|e| format!("joined, {packet:?} has {e}"))?;
        keep(&mut self.delivered, (port, framed));
        Ok(())
    }

    /// A frame is for the station at its port.
    fn addressed(&self, port: u32, framed: &Framed) -> Result<(), String> {
        let pods = self.atlas.pods.iter().map(|(_, s)| s);
        let outside = self.atlas.outside.iter().map(|(_, s)| s);
        let station = pods.chain(outside).chain(&self.atlas.vms).find(|s| s.port == port);
        match station {
            Some(station) if station.mac == framed.dst_mac => Ok(()),
            _ => Err(format!("port {port} got a frame for {:02x?}", framed.dst_mac)),
        }
    }
}

/// Hands frames to the worker; what goes in and comes out is counted.
fn process(
    worker: &mut Worker,
    network: &Network,
    ports: &mut Ports,
    batch: &mut Vec<Received>,
    now: Time,
) -> Vec<(PortId, Frame)> {
    for received in batch.iter() {
        ports.sent(received.port, received.frame.bytes.len());
    }
    let mut tx = Vec::new();
    worker.process(network, batch, now, &mut tx);
    for (port, frame) in &tx {
        ports.received(*port, frame.bytes.len());
    }
    tx
}

fn flow(tuple: Tuple) -> Flow {
    Flow {
        src: tuple.src.to_ip(),
        dst: tuple.dst.to_ip(),
        protocol: if tuple.is_icmp() { protocol::ICMP } else { tuple.protocol },
        src_port: tuple.src_port,
        dst_port: tuple.dst_port,
    }
}

/// The gateway on the segment of an address: F2, the first one.
pub fn gateway_of(atlas: &Atlas, address: IpAddr) -> IpAddr {
    let nets = atlas.blocks.iter().flat_map(|b| &b.nets);
    match nets.filter(|net| net.contains(&address)).map(ipnet::IpNet::network).next().unwrap() {
        IpAddr::V4(net) => IpAddr::V4((u32::from(net) + 1).into()),
        IpAddr::V6(net) => IpAddr::V6((u128::from(net) + 1).into()),
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == ANSWERABLE {
        list.pop_front();
    }
    list.push_back(item);
}

/// Without the addresses.
fn general(why: &str) -> String {
    why.split(['1', '2']).next().unwrap().trim().to_owned()
}

fn compare(mut engine: Vec<Seen>, mut model: Vec<Seen>, why: &str) -> Result<(), String> {
    engine.sort();
    model.sort();
    if engine == model {
        return Ok(());
    }
    Err(format!(
        "they differ\n  the model says {model:?}\n    because: {why}\n  the engine says {engine:?}"
    ))
}
